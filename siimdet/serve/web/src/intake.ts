/** The files of a study: chosen or dropped, and which of them is in view. */

import { refuse, say } from './messages';
import { element, inside, isRadio } from './page';
import { change, current, listen } from './session';

export function startIntake(): void {
  const input = inside<HTMLInputElement>(element('files'), 'input');
  input.addEventListener('change', () => take(input.files));
  document.addEventListener('dragover', (event) => {
    event.preventDefault();
    document.body.classList.add('dropping');
  });
  document.addEventListener('dragleave', (event) => {
    if (!event.relatedTarget) document.body.classList.remove('dropping');
  });
  document.addEventListener('drop', (event) => {
    event.preventDefault();
    document.body.classList.remove('dropping');
    take(event.dataTransfer?.files ?? null);
  });
  element('images').addEventListener('change', (event) => {
    if (isRadio(event.target)) show(Number(event.target.value));
  });
  listen((now, before) => {
    if (now.files !== before.files) list(now.files);
  });
}

export function chooseFiles(): void {
  inside<HTMLInputElement>(element('files'), 'input').click();
}

/** Shows the next image of the study (1) or the one before (-1). */
export function step(by: number): void {
  const to = current().shown + by;
  if (to < 0 || to >= current().files.length) return;
  inside<HTMLInputElement>(element('images'), `[value="${to}"]`).checked = true;
  show(to);
}

function show(shown: number): void {
  change({ shown, chosen: null, pointed: null });
}

function take(files: FileList | null): void {
  if (!files?.length) return;
  refuse('');
  change({ files: [...files], shown: 0, run: null, result: null, chosen: null, pointed: null });
  say(`${files.length === 1 ? '1 file' : `${files.length} files`} chosen. Nothing has been sent yet.`);
}

function list(files: readonly File[]): void {
  const images = element('images');
  images.hidden = files.length < 2;
  images.replaceChildren(...files.map((file, index) => {
    const label = document.createElement('label'), input = document.createElement('input');
    const name = document.createElement('span');
    Object.assign(input, { type: 'radio', name: 'image', value: String(index), checked: index === 0 });
    name.textContent = file.name;
    label.append(input, name);
    return label;
  }));
}
