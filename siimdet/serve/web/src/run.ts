/** A run from the button to its result: upload, progress, cancel. */

import { detectorName } from './answer';
import { refuse, say, sentence } from './messages';
import { chosenDetector, threshold } from './models';
import { element } from './page';
import { cancelRun, followRun, startRun, type RunState } from './requests';
import { change, current, listen } from './session';

let running: { abort: AbortController; run: string | null } | null = null;

export function startRuns(): void {
  element('study').addEventListener('submit', (event) => {
    event.preventDefault();
    void run();
  });
  element('cancel').addEventListener('click', () => void cancel());
  listen((now, before) => {
    if (now.files !== before.files) void cancel();
    allowRun();
  });
}

/** The button works where there are files and detectors, and nothing runs. */
export function allowRun(): void {
  element<HTMLButtonElement>('run').disabled = running !== null || !current().files.length || !chosenDetector();
}

export async function run(): Promise<void> {
  const { files } = current(), detector = chosenDetector();
  if (running || !files.length || !detector) return;
  const mine = { abort: new AbortController(), run: null as string | null };
  const { signal } = mine.abort;
  running = mine;
  refuse('');
  show(true);
  tell({ state: 'queued' });
  try {
    mine.run = await startRun(files, detector, signal);
    const last = await followRun(mine.run, (state) => { if (running === mine) tell(state); }, signal);
    if (running === mine) finish(mine.run, last, detector);
  } catch (error) {
    if (running === mine && !signal.aborted) {
      say('');
      refuse(withNames((error as Error).message, files));
    }
  } finally {
    if (running === mine) end();
  }
}

/** Stops the run that goes on, here and on the server. */
export async function cancel(): Promise<void> {
  const stopped = running;
  if (!stopped) return;
  end();
  stopped.abort.abort();
  say('Cancelled.');
  try {
    if (stopped.run) await cancelRun(stopped.run);
  } catch (error) {
    refuse((error as Error).message);
  }
}

/** The server counts files, for it keeps no names; the reader knows them by their names. */
function withNames(reason: string, files: readonly File[]): string {
  return reason.replace(/\bfile (\d+)/gi, (told, number) => {
    const name = files[Number(number) - 1]?.name;
    return name ? `${told} (${name})` : told;
  });
}

function end(): void {
  running = null;
  show(false);
}

function show(busy: boolean): void {
  allowRun();
  element('cancel').hidden = !busy;
  element('progress').hidden = !busy;
}

function tell({ state, progress, position }: RunState): void {
  const bar = element<HTMLProgressElement>('progress');
  if (state === 'running' && progress !== undefined) bar.value = progress;
  else bar.removeAttribute('value');
  const waits = state === 'queued' && position ? ` ${position} before it.` : '';
  say(state === 'running' ? 'Running.' : `Waiting.${waits}`);
}

function finish(run: string, { state, images, study, detail }: RunState, detector: string): void {
  say('');
  if (images && study) {
    const least = threshold(detector), start = least.toFixed(2);
    change({ run, result: { images, study }, hidden: new Set(), least, chosen: null, pointed: null });
    element('start').textContent = `Begins at ${start}, as the DICOM SR does.`;
    element('saved').textContent = 'PNG holds this view, JSON every box, CSV the boxes of a submission, DICOM SR those of '
      + `${detectorName(detector)} from ${start} on.`;
    say('Done.');
  } else refuse(sentence(detail ?? `the run is ${state}`));
}
