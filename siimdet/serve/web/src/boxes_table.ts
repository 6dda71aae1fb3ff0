/** The table of the boxes that are shown: a row for each, in step with its outline on the radiograph. */

import { detectorName, type Box } from './answer';
import { element, inside } from './page';
import { boxesChanged, change, current, listen, shownBoxes } from './session';

const STEPS: Record<string, (at: number, last: number) => number> = {
  ArrowDown: (at, last) => Math.min(at + 1, last),
  ArrowUp: (at) => Math.max(at - 1, 0),
  Home: () => 0,
  End: (_, last) => last,
};

let boxes: Box[] = [];

export function startTable(): void {
  const body = inside(element('table'), 'tbody');
  body.addEventListener('keydown', (event) => {
    const step = STEPS[event.key];
    const at = rows(body).indexOf(event.target as HTMLTableRowElement);
    if (!step || at < 0) return;
    event.preventDefault();
    rows(body)[step(at, boxes.length - 1)]?.focus();
  });
  listen((now, before) => {
    if (boxesChanged(now, before)) fill(body);
    if (boxesChanged(now, before) || now.chosen !== before.chosen || now.pointed !== before.pointed) mark(body);
    if (now.chosen && now.chosen !== before.chosen) {
      rows(body)[boxes.indexOf(now.chosen)]?.scrollIntoView({ block: 'nearest' });
    }
  });
}

function rows(body: Element): HTMLTableRowElement[] {
  return [...body.querySelectorAll('tr')];
}

function fill(body: Element): void {
  boxes = shownBoxes(current());
  body.replaceChildren(...boxes.map(row));
  const all = current().result?.images[current().shown]?.boxes.length ?? 0;
  element('count').textContent = all ? `${boxes.length} of ${all} boxes are shown.` : 'No box was found.';
}

function row(box: Box): HTMLTableRowElement {
  const line = document.createElement('tr');
  line.dataset.detector = box.detector;
  const coordinates = [box.x1, box.y1, box.x2, box.y2].map((value) => value.toFixed(0));
  for (const text of [detectorName(box.detector), box.score.toFixed(3), ...coordinates]) {
    line.insertCell().textContent = text;
  }
  line.addEventListener('focus', () => change({ chosen: box }));
  line.addEventListener('click', () => line.focus());
  line.addEventListener('pointerenter', () => change({ pointed: box }));
  line.addEventListener('pointerleave', () => change({ pointed: null }));
  return line;
}

/** Marks the chosen row and the one pointed at; Tab stops at the chosen one, or at the first. */
function mark(body: Element): void {
  const { chosen, pointed } = current();
  const stop = Math.max(chosen ? boxes.indexOf(chosen) : 0, 0);
  rows(body).forEach((line, index) => {
    line.tabIndex = index === stop ? 0 : -1;
    line.setAttribute('aria-selected', String(boxes[index] === chosen));
    line.classList.toggle('marked', boxes[index] === chosen || boxes[index] === pointed);
  });
}
