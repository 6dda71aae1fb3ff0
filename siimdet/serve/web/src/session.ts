/** What the page knows, in one value; whoever draws a part of it listens to its changes. */

import type { Box, StudyResult } from './answer';

export interface Session {
  files: readonly File[];
  /** Index of the image in view. */
  shown: number;
  /** The run that the result is of, by the server's id. */
  run: string | null;
  result: StudyResult | null;
  /** Detectors whose boxes are switched off. */
  hidden: ReadonlySet<string>;
  /** The least score of a box that is shown. */
  least: number;
  /** The box that is chosen or pointed at. */
  chosen: Box | null;
  pointed: Box | null;
}

type Listener = (now: Session, before: Session) => void;

let session: Session = {
  files: [], shown: 0, run: null, result: null, hidden: new Set(), least: 0, chosen: null, pointed: null,
};
const listeners: Listener[] = [];

export function current(): Session {
  return session;
}

export function change(part: Partial<Session>): void {
  const before = session;
  session = { ...session, ...part };
  for (const listener of listeners) listener(session, before);
}

export function listen(listener: Listener): void {
  listeners.push(listener);
}

/** The boxes of the image in view that the switches and the confidence let through, the best first. */
export function shownBoxes({ result, shown, hidden, least }: Session): Box[] {
  const boxes = result?.images[shown]?.boxes ?? [];
  return boxes
    .filter((box) => box.score >= least && !hidden.has(box.detector))
    .sort((a, b) => b.score - a.score);
}

/** Whether a change between two sessions touches which boxes are shown. */
export function boxesChanged(now: Session, before: Session): boolean {
  return (['result', 'shown', 'hidden', 'least'] as const).some((key) => now[key] !== before[key]);
}
