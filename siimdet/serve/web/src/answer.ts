/** What the server answers (POST and GET /api/predict), and the words that the page has for it. */

export interface Box {
  /** Original pixels; x1 < x2, y1 < y2; 0 is the left or upper edge of the first pixel. */
  x1: number;
  y1: number;
  x2: number;
  y2: number;
  /** In [0, 1]. */
  score: number;
  detector: string;
}

export interface ImageResult {
  id: string;
  width: number;
  height: number;
  boxes: Box[];
}

export type StudyClass = 'negative' | 'typical' | 'indeterminate' | 'atypical';

export interface StudyResult {
  images: ImageResult[];
  study: Record<StudyClass, number>;
}

export const CLASSES: readonly StudyClass[] = ['negative', 'typical', 'indeterminate', 'atypical'];

/** All detectors fused. */
export const ENSEMBLE = 'ensemble';

const DETECTORS: Record<string, string> = {
  fasterrcnn: 'Faster R-CNN', retinanet: 'RetinaNet', fcos: 'FCOS', yolo: 'YOLO', [ENSEMBLE]: 'Ensemble',
};

export function detectorName(detector: string): string {
  return DETECTORS[detector] ?? detector;
}

export function className(name: string): string {
  return name.charAt(0).toUpperCase() + name.slice(1);
}

export function topClass(study: Record<StudyClass, number>): StudyClass {
  return CLASSES.reduce((top, name) => (study[name] > study[top] ? name : top));
}
