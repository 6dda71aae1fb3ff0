/** The detectors that the server has, as a choice; and the confidence from which each is worth a look. */

import { detectorName, ENSEMBLE } from './answer';
import { refuse } from './messages';
import { element } from './page';
import { fetchModels, type Models } from './requests';

let models: Models = { choices: [], thresholds: {}, heatmaps: false };

export async function startModels(): Promise<void> {
  try {
    models = await fetchModels();
  } catch (error) {
    refuse((error as Error).message);
    return;
  }
  element('detectors').append(...models.choices.map((detector) => {
    const label = document.createElement('label'), input = document.createElement('input');
    const name = document.createElement('span');
    Object.assign(input, { type: 'radio', name: 'detector', value: detector, checked: detector === ENSEMBLE });
    name.textContent = detectorName(detector);
    label.append(input, name);
    return label;
  }));
}

/** Null before the server has told its detectors. */
export function chosenDetector(): string | null {
  return element('detectors').querySelector<HTMLInputElement>(':checked')?.value ?? null;
}

export function hasHeatMaps(): boolean {
  return models.heatmaps;
}

export function threshold(detector: string): number {
  return models.thresholds[detector] ?? 0;
}
