/** Keys of the page, and of the radiograph while it has the focus. */

import { chooseGesture } from './gestures';
import { chooseFiles, step } from './intake';
import { toggleAll } from './layers';
import { element, inside } from './page';
import type { Radiograph } from './radiograph';
import { cancel, run } from './run';

type Get = () => Radiograph | null;
interface Key { key: string; does: string; act: (radiograph: Radiograph | null) => void }

export const ZOOM_STEP = 1.25;
const PAN_STEP = 40;
const WINDOW_STEP = 20;

const KEYS: readonly Key[] = [
  { key: 'o', does: 'choose files', act: chooseFiles },
  { key: 'r', does: 'run', act: () => void run() },
  { key: 'Escape', does: 'cancel the run', act: () => void cancel() },
  { key: 'w', does: 'a drag changes window and level', act: () => chooseGesture('window') },
  { key: 'p', does: 'a drag pans', act: () => chooseGesture('pan') },
  { key: 'z', does: 'a drag zooms', act: () => chooseGesture('zoom') },
  { key: '+', does: 'zoom in', act: (radiograph) => radiograph?.zoomBy(ZOOM_STEP) },
  { key: '-', does: 'zoom out', act: (radiograph) => radiograph?.zoomBy(1 / ZOOM_STEP) },
  { key: 'i', does: 'invert', act: (radiograph) => radiograph?.invert() },
  { key: '0', does: 'reset the view', act: (radiograph) => radiograph?.reset() },
  { key: 'b', does: 'show or hide all boxes', act: toggleAll },
  { key: 'h', does: 'show or hide the heat map', act: toggleHeat },
  { key: '[', does: 'previous image', act: () => step(-1) },
  { key: ']', does: 'next image', act: () => step(1) },
];
const ARROWS: Record<string, readonly [number, number]> = {
  ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1],
};

export function startKeys(radiograph: Get): void {
  inside(element('keys'), 'dl').replaceChildren(...KEYS.flatMap(({ key, does }) => {
    const term = document.createElement('dt'), text = document.createElement('dd'), cap = document.createElement('kbd');
    cap.textContent = key === 'Escape' ? 'Esc' : key.toUpperCase();
    term.append(cap);
    text.textContent = does;
    return [term, text];
  }));
  document.addEventListener('keydown', (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || typing(event.target)) return;
    if (!element<HTMLInputElement>('keys-on').checked) return;
    const found = KEYS.find(({ key }) => key === (event.key.length === 1 ? event.key.toLowerCase() : event.key));
    if (!found) return;
    event.preventDefault();
    found.act(radiograph());
  });
  element('viewport').addEventListener('keydown', (event) => {
    const way = ARROWS[event.key], view = radiograph();
    if (!way || !view) return;
    event.preventDefault();
    if (event.shiftKey) view.windowBy(way[0] * WINDOW_STEP, way[1] * WINDOW_STEP);
    else view.panBy(-way[0] * PAN_STEP, -way[1] * PAN_STEP);
  });
}

function toggleHeat(): void {
  if (!element('results').hidden && !element('heat').hidden) element('heat-on').click();
}

function typing(target: EventTarget | null): boolean {
  return target instanceof HTMLSelectElement || target instanceof HTMLTextAreaElement;
}
