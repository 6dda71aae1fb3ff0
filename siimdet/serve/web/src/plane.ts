/** Where images lie for Cornerstone3D: each alone in its own plane, as stored, with square pixels if none are told. */

import { metaData, type Types } from '@cornerstonejs/core';

const spacings = new Map<string, { rowPixelSpacing: number; columnPixelSpacing: number }>();
const ABOVE_LOADERS = 10_000;

export function registerPlanes(): void {
  metaData.addProvider(plane, ABOVE_LOADERS);
}

/** Real files tell a spacing of 0, or none, and the whole view would become NaN. */
export function layFlat(image: Types.IImage): void {
  const { rowPixelSpacing: row, columnPixelSpacing: column } = image;
  const told = row > 0 && column > 0 && Number.isFinite(row / column);
  image.rowPixelSpacing = told ? row / column : 1;
  image.columnPixelSpacing = 1;
  spacings.set(image.imageId, { rowPixelSpacing: image.rowPixelSpacing, columnPixelSpacing: 1 });
}

export function forgetPlanes(): void {
  spacings.clear();
}

function plane(type: string, imageId: unknown): object | undefined {
  const spacing = type === 'imagePlaneModule' ? spacings.get(String(imageId)) : undefined;
  return spacing && {
    ...spacing,
    rowCosines: [1, 0, 0], columnCosines: [0, 1, 0],
    imagePositionPatient: [0, 0, 0], imageOrientationPatient: [1, 0, 0, 0, 1, 0],
  };
}
