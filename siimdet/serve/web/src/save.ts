/** Saving a result: the view with its boxes as PNG; JSON, CSV and DICOM SR as the server writes them. */

import { refuse } from './messages';
import { element } from './page';
import type { Radiograph } from './radiograph';
import { fetchBlob, RUNS } from './requests';
import { current } from './session';
import { drawView } from './view_image';

export function startSave(radiograph: () => Radiograph | null): void {
  element('save').addEventListener('click', (event) => {
    const format = (event.target as HTMLElement).dataset.save;
    if (format) void save(format, radiograph());
  });
}

async function save(format: string, radiograph: Radiograph | null): Promise<void> {
  const { run, result, shown } = current();
  if (!run || !result) return;
  refuse('');
  // By the server's id: it names no patient, and tells the results of two studies apart.
  const name = `${result.images[format === 'png' ? shown : 0]?.id ?? 'study'}.${format}`;
  try {
    if (format !== 'png') download(await fetchBlob(`${RUNS}/${run}/report.${format}`), name);
    else if (radiograph?.reading) download(await drawView(radiograph), name);
    else refuse('There is no image in view.');
  } catch (error) {
    refuse((error as Error).message);
  }
}

function download(blob: Blob, name: string): void {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
