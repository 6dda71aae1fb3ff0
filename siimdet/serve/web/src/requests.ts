/** What the page asks of the server. Every refusal becomes an Error whose message is for the reader. */

import type { StudyResult } from './answer';
import { sentence } from './messages';

export interface RunState extends Partial<StudyResult> {
  state: 'queued' | 'running' | 'done' | 'failed' | 'cancelled';
  /** In [0, 1]. */
  progress?: number;
  /** How many runs are before this one in the queue. */
  position?: number;
  /** Why it failed. */
  detail?: string;
}

export interface Models {
  /** What a run may ask for. */
  choices: string[];
  /** For each choice the least score of its boxes that are worth a look; the report begins there. */
  thresholds: Record<string, number>;
  /** Whether heat maps are to be had. */
  heatmaps: boolean;
}

export const RUNS = 'api/predict';

const POLL_MS = 250;

export async function fetchModels(): Promise<Models> {
  return (await (await ask('api/models')).json()) as Models;
}

export async function startRun(files: readonly File[], detector: string, signal: AbortSignal): Promise<string> {
  const body = new FormData();
  body.append('detector', detector);
  for (const file of files) body.append('files', file);
  const response = await ask(RUNS, { method: 'POST', body, signal });
  return ((await response.json()) as { id: string }).id;
}

/** Tells of a run until it has ended, and returns its last state. */
export async function followRun(run: string, tell: (state: RunState) => void, signal: AbortSignal): Promise<RunState> {
  for (;;) {
    const state = (await (await ask(`${RUNS}/${run}`, { signal })).json()) as RunState;
    tell(state);
    if (state.state !== 'queued' && state.state !== 'running') return state;
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}

export async function cancelRun(run: string): Promise<void> {
  await ask(`${RUNS}/${run}`, { method: 'DELETE' });
}

export async function fetchBlob(address: string): Promise<Blob> {
  return (await ask(address)).blob();
}

async function ask(address: string, options: RequestInit = {}): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(address, options);
  } catch (error) {
    if (options.signal?.aborted) throw error;
    throw new Error('The server does not answer.', { cause: error });
  }
  if (!response.ok) throw new Error(await reason(response));
  return response;
}

async function reason(response: Response): Promise<string> {
  const answer = (await response.json().catch(() => null)) as { detail?: unknown } | null;
  const told = sentence(typeof answer?.detail === 'string' ? answer.detail : `the server refused: ${response.status}`);
  const wait = response.headers.get('Retry-After');
  return wait ? `${told} Try again in ${wait} s.` : told;
}
