/** DICOM files as images that Cornerstone3D draws. */

import dicomImageLoader from '@cornerstonejs/dicom-image-loader';
import { log } from 'dcmjs';

const { wadouri } = dicomImageLoader;
let added: number[] = [];

export function registerDicom(): void {
  dicomImageLoader.init({ maxWebWorkers: 1 });
  // A header with a value of the wrong length is common; dcmjs writes each as an error to the console.
  log.setLevel('silent', false);
  log.getLogger('validation.dcmjs').setLevel('silent', false);
  // The loader logs by it, too: of files without pixels, which the page names itself.
  log.getLogger('cs3d.dicomImageLoader.wadouri').setLevel('silent', false);
}

/** The image id of a file. */
export function addDicom(file: File): string {
  const imageId = wadouri.fileManager.add(file);
  added.push(Number(imageId.split(':')[1]));
  return imageId;
}

export function forgetDicom(): void {
  wadouri.dataSetCacheManager.purge();
  // Not purge(): it counts from 0 again, and a new file would be drawn as the old one of its number.
  for (const index of added) wadouri.fileManager.remove(index);
  added = [];
}
