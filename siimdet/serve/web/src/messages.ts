/** What the page tells the reader: how things go, and what was refused. Both are live regions. */

import { element } from './page';

export function say(text: string): void {
  if (element('status').textContent !== text) element('status').textContent = text;
}

export function refuse(text: string): void {
  element('refusal').textContent = text;
}

/** A reason as the server gives it, as a sentence. */
export function sentence(reason: string): string {
  const text = reason.charAt(0).toUpperCase() + reason.slice(1);
  return /[.!?]$/.test(text) ? text : `${text}.`;
}
