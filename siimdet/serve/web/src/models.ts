/** The detectors that the server has, as a choice; and the confidence from which each is worth a look. */

import { detectorName } from './answer';
import { refuse } from './messages';
import { element } from './page';
import { fetchModels, type Models } from './requests';

const ENSEMBLE = 'ensemble';
/** Where a run tells no operating point; the server's reports begin at the same. */
const USUAL_THRESHOLD = 0.15;

let models: Models = { choices: [], models: [] };

export async function startModels(): Promise<void> {
  try {
    models = await fetchModels();
  } catch (error) {
    refuse((error as Error).message);
    return;
  }
  element('detectors').append(...models.choices.map((detector) => {
    const label = document.createElement('label'), input = document.createElement('input');
    const name = document.createElement('span');
    Object.assign(input, { type: 'radio', name: 'detector', value: detector, checked: detector === ENSEMBLE });
    name.textContent = detectorName(detector);
    label.append(input, name);
    return label;
  }));
}

/** Null before the server has told its detectors. */
export function chosenDetector(): string | null {
  return element('detectors').querySelector<HTMLInputElement>(':checked')?.value ?? null;
}

export function threshold(detector: string): number {
  return models.models.find(({ name }) => name === detector)?.threshold ?? USUAL_THRESHOLD;
}
