/** Boxes and the heat map over the radiograph, placed anew whenever it is drawn. The table says the same in words. */

import { detectorName, ENSEMBLE, type Box } from './answer';
import type { Point, Radiograph } from './radiograph';
import { boxesChanged, change, current, listen, shownBoxes } from './session';

const SVG = 'http://www.w3.org/2000/svg';
/** A detector has its own corner for the score, for the boxes of all often lie on one another. */
const ABOVE = 5;
const BELOW = 15;

export class Overlay {
  readonly #svg = create('svg', { id: 'overlay', 'aria-hidden': 'true' });
  readonly #heat = create('image', { preserveAspectRatio: 'none' });
  readonly #boxes = create('g', {});
  readonly #radiograph: Radiograph;
  #marks: { box: Box; group: SVGElement; outline: SVGElement; label: SVGElement }[] = [];

  constructor(place: HTMLElement, radiograph: Radiograph) {
    this.#radiograph = radiograph;
    this.#svg.append(this.#heat, this.#boxes);
    place.append(this.#svg);
    listen((now, before) => {
      if (boxesChanged(now, before)) this.#fill();
      else if (now.chosen !== before.chosen || now.pointed !== before.pointed) {
        this.#mark();
        this.#clear();
      }
    });
  }

  /** The heat map that is drawn over the image, or none. */
  heat(url: string | null): void {
    if (url) this.#heat.setAttribute('href', url);
    else this.#heat.removeAttribute('href');
    this.place();
  }

  place(): void {
    const reading = this.#radiograph.reading;
    this.#svg.toggleAttribute('hidden', !reading);
    if (!reading) return;
    setRectangle(this.#heat, this.#radiograph.toView(0, 0), this.#radiograph.toView(reading.width, reading.height));
    for (const { box, outline, label } of this.#marks) {
      const from = this.#radiograph.toView(box.x1, box.y1), to = this.#radiograph.toView(box.x2, box.y2);
      setRectangle(outline, from, to);
      label.setAttribute('x', String(box.detector === 'fasterrcnn' ? to.x : from.x));
      label.setAttribute('y', String(box.detector === 'yolo' ? to.y + BELOW : from.y - ABOVE));
    }
    this.#clear();
  }

  /** A score that would lie on another is left out: never a marked box's, the ensemble's last of the others. */
  #clear(): void {
    const kept: DOMRect[] = [];
    const order = [...this.#marks].sort((a, b) => rank(b.box) - rank(a.box) || b.box.score - a.box.score);
    // All sizes are read before anything is written: else every label would be laid out anew.
    const rooms = order.map(({ label }) => (label as SVGTextElement).getBBox());
    order.forEach(({ box, label }, index) => {
      const room = rooms[index]!, free = isMarked(box) || !kept.some((other) => overlap(room, other));
      label.classList.toggle('left-out', !free);
      if (free) kept.push(room);
    });
  }

  #fill(): void {
    // A smaller box lies above a larger one, so that each can be pointed at.
    const boxes = shownBoxes(current()).sort((a, b) => area(b) - area(a));
    this.#marks = boxes.map((box) => {
      const group = create('g', { 'data-detector': box.detector });
      const outline = create('rect', {}), label = create('text', {});
      group.append(outline, label);
      group.addEventListener('pointerenter', () => change({ pointed: box }));
      group.addEventListener('pointerleave', () => change({ pointed: null }));
      group.addEventListener('click', () => change({ chosen: box }));
      return { box, group, outline, label };
    });
    this.#boxes.replaceChildren(...this.#marks.map(({ group }) => group));
    this.#mark();
    this.place();
  }

  #mark(): void {
    for (const { box, group, label } of this.#marks) {
      const marked = isMarked(box);
      group.classList.toggle('marked', marked);
      label.textContent = `${marked ? `${detectorName(box.detector)} ` : ''}${box.score.toFixed(2)}`;
    }
  }
}

function isMarked(box: Box): boolean {
  const { chosen, pointed } = current();
  return box === chosen || box === pointed;
}

function rank(box: Box): number {
  if (isMarked(box)) return 2;
  return box.detector === ENSEMBLE ? 1 : 0;
}

function overlap(a: DOMRect, b: DOMRect): boolean {
  return a.x < b.x + b.width && b.x < a.x + a.width && a.y < b.y + b.height && b.y < a.y + a.height;
}

function area(box: Box): number {
  return (box.x2 - box.x1) * (box.y2 - box.y1);
}

function create(name: string, attributes: Record<string, string>): SVGElement {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  return node;
}

function setRectangle(node: SVGElement, from: Point, to: Point): void {
  node.setAttribute('x', String(from.x));
  node.setAttribute('y', String(from.y));
  node.setAttribute('width', String(to.x - from.x));
  node.setAttribute('height', String(to.y - from.y));
}
