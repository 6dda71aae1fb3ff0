/** The study's probabilities as bars, the most probable class marked. */

import { CLASSES, className, topClass } from './answer';
import { element } from './page';
import { listen } from './session';

export function startClasses(): void {
  listen(({ result }, before) => {
    if (!result || result === before.result) return;
    const top = topClass(result.study);
    element('classes').replaceChildren(...CLASSES.map((name) => row(name, result.study[name], name === top)));
  });
}

function row(name: string, probability: number, top: boolean): HTMLElement {
  const line = document.createElement('li');
  const [label, bar, value] = ['span', 'span', 'span'].map((tag) => document.createElement(tag)) as [
    HTMLElement, HTMLElement, HTMLElement,
  ];
  label.textContent = className(name) + (top ? ' (most probable)' : '');
  bar.className = 'bar';
  bar.style.setProperty('--share', String(probability));
  value.textContent = probability.toFixed(3);
  line.classList.toggle('top', top);
  line.append(label, value, bar);
  return line;
}
