/** Drags, the wheel and two fingers on the radiograph. */

import { inside, element } from './page';
import type { Point, Radiograph } from './radiograph';

type Gesture = 'window' | 'pan' | 'zoom';

/** A drag downwards by so many pixels zooms in by e. */
const ZOOM_DRAG = 150;
const ZOOM_WHEEL = 600;
const MIDDLE = 1;
const RIGHT = 2;

/** The left button does what is chosen in the tool bar, the middle one pans, the right one and the wheel zoom. */
export function followGestures(place: HTMLElement, radiograph: Radiograph): void {
  const held = new Map<number, Point>();
  let gesture: Gesture = 'window';
  let start: Point = { x: 0, y: 0 };

  place.addEventListener('pointerdown', (event) => {
    if (held.size === 0) {
      gesture = gestureOf(event);
      start = within(place, event);
    }
    held.set(event.pointerId, within(place, event));
    place.focus({ preventScroll: true });
    if (event.button === MIDDLE) event.preventDefault();
  });
  place.addEventListener('pointermove', (event) => {
    const before = held.get(event.pointerId);
    if (!before) return;
    // Captured only now: a captured press would keep a plain click from the box under it.
    place.setPointerCapture(event.pointerId);
    const now = within(place, event);
    held.set(event.pointerId, now);
    if (held.size === 2) pinch(radiograph, before, now, otherThan(held, event.pointerId));
    else if (held.size === 1) drag(radiograph, gesture, { x: now.x - before.x, y: now.y - before.y }, start);
  });
  for (const type of ['pointerup', 'pointercancel'] as const) {
    place.addEventListener(type, (event) => held.delete(event.pointerId));
  }
  place.addEventListener('lostpointercapture', (event) => {
    // A finger is captured by what lies under it until the place captures it: that loss ends nothing.
    if (event.target === place) held.delete(event.pointerId);
  });
  place.addEventListener('contextmenu', (event) => event.preventDefault());
  place.addEventListener('wheel', (event) => {
    event.preventDefault();
    radiograph.zoomBy(Math.exp(-event.deltaY / ZOOM_WHEEL), within(place, event));
  }, { passive: false });
}

export function chooseGesture(gesture: Gesture): void {
  inside<HTMLInputElement>(element('gestures'), `[value=${gesture}]`).checked = true;
}

function gestureOf(event: PointerEvent): Gesture {
  if (event.button === MIDDLE) return 'pan';
  if (event.button === RIGHT) return 'zoom';
  return inside<HTMLInputElement>(element('gestures'), ':checked').value as Gesture;
}

function drag(radiograph: Radiograph, gesture: Gesture, by: Point, start: Point): void {
  if (gesture === 'pan') radiograph.panBy(by.x, by.y);
  else if (gesture === 'zoom') radiograph.zoomBy(Math.exp(by.y / ZOOM_DRAG), start);
  else radiograph.windowBy(by.x, by.y);
}

/** One finger of two moved: the image keeps its places under both. */
function pinch(radiograph: Radiograph, before: Point, now: Point, other: Point): void {
  const spread = (point: Point) => Math.max(Math.hypot(point.x - other.x, point.y - other.y), 1);
  radiograph.panBy((now.x - before.x) / 2, (now.y - before.y) / 2);
  radiograph.zoomBy(spread(now) / spread(before), { x: (now.x + other.x) / 2, y: (now.y + other.y) / 2 });
}

function otherThan(held: Map<number, Point>, pointerId: number): Point {
  return [...held].find(([id]) => id !== pointerId)![1];
}

function within(place: HTMLElement, event: MouseEvent): Point {
  const { left, top } = place.getBoundingClientRect();
  return { x: event.clientX - left - place.clientLeft, y: event.clientY - top - place.clientTop };
}
