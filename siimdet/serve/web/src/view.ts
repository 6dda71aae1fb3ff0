/** The radiograph's place on the page: its tools, its reading, and the file that is in view. */

import { followGestures } from './gestures';
import { startHeatMap } from './heat_map';
import { ZOOM_STEP } from './keys';
import { Overlay } from './overlay';
import { refuse } from './messages';
import { element, inside } from './page';
import type { Radiograph } from './radiograph';
import { current, listen, type Session } from './session';

let radiograph: Radiograph | null = null;

/** Null until Cornerstone3D is there. */
export function theRadiograph(): Radiograph | null {
  return radiograph;
}

const ACTIONS: Record<string, (view: Radiograph) => void> = {
  'zoom-in': (view) => view.zoomBy(ZOOM_STEP),
  'zoom-out': (view) => view.zoomBy(1 / ZOOM_STEP),
  invert: (view) => view.invert(),
  reset: (view) => view.reset(),
};

export function startView(): void {
  element('tools').addEventListener('click', (event) => {
    const action = ACTIONS[(event.target as HTMLElement).dataset.action ?? ''];
    if (action && radiograph) action(radiograph);
  });
  const opened = open();
  listen((now, before) => {
    if (now.files === before.files && now.shown === before.shown) return;
    element('empty').hidden = true;
    element('viewport').dataset.state = 'loading';
    void opened.then((view) => show(view, now, before));
  });
}

async function open(): Promise<Radiograph> {
  await painted();
  const { Radiograph } = await import('./radiograph');
  const place = element<HTMLDivElement>('viewport');
  const view: Radiograph = new Radiograph(place, () => {
    overlay.place();
    read(view);
  });
  const overlay = new Overlay(place, view);
  startHeatMap(overlay);
  followGestures(place, view);
  radiograph = view;
  return view;
}

/** After the page's first paint, which so large a script would hold up. */
function painted(): Promise<void> {
  return new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)));
}

async function show(view: Radiograph, { files, shown }: Session, before: Session): Promise<void> {
  const file = files[shown];
  if (!file) return;
  const place = element('viewport');
  if (files !== before.files) view.forget();
  try {
    await view.show(file);
    if (current().files === files && current().shown === shown) place.dataset.state = 'shown';
  } catch (error) {
    if (current().files !== files || current().shown !== shown) return;
    place.dataset.state = 'failed';
    refuse(`${file.name} ${(error as Error).message}`);
  }
}

function read(view: Radiograph): void {
  const reading = view.reading;
  if (!reading) return;
  const { width, height, window, level, zoom, inverted } = reading;
  element('reading').textContent =
    `${width} x ${height} px · window ${window.toFixed(0)} · level ${level.toFixed(0)} · zoom ${zoom.toFixed(2)}x`;
  inside(element('tools'), '[data-action=invert]').setAttribute('aria-pressed', String(inverted));
}
