/** Which boxes are shown: a switch for every detector of the result, and the least confidence. */

import { detectorName } from './answer';
import { element, inside } from './page';
import { change, current, listen } from './session';

export function startLayers(): void {
  const slider = inside<HTMLInputElement>(element('confidence'), 'input');
  slider.addEventListener('input', () => change({ least: Number(slider.value) }));
  listen((now, before) => {
    if (now.result !== before.result) fill();
    if (now.least !== before.least || now.result !== before.result) {
      slider.value = String(now.least);
      inside(element('confidence'), 'output').textContent = now.least.toFixed(2);
    }
    if (now.hidden !== before.hidden) {
      for (const box of element('layers').querySelectorAll('input')) box.checked = !now.hidden.has(box.value);
    }
  });
}

/** Shows every box, or none if all are shown already. */
export function toggleAll(): void {
  const { hidden } = current();
  change({ hidden: new Set(hidden.size ? [] : detectors()) });
}

function detectors(): string[] {
  const boxes = current().result?.images.flatMap((image) => image.boxes) ?? [];
  return [...new Set(boxes.map((box) => box.detector))].sort();
}

function fill(): void {
  element('layers').replaceChildren(...detectors().map((detector) => {
    const label = document.createElement('label'), input = document.createElement('input');
    label.dataset.detector = detector;
    Object.assign(input, { type: 'checkbox', value: detector, checked: true });
    input.addEventListener('change', () => {
      const hidden = new Set(current().hidden);
      if (input.checked) hidden.delete(detector);
      else hidden.add(detector);
      change({ hidden });
    });
    label.append(input, detectorName(detector));
    return label;
  }));
}
