/** PNG and JPEG files as images that Cornerstone3D draws, grey as the server reads them. */

import { imageLoader, metaData, utilities, Enums, type Types } from '@cornerstonejs/core';

const SCHEME = 'picture';
const files = new Map<string, File>();
let count = 0;
const EXIF = 0xe1;
const SCAN = 0xda;

const METADATA: Record<string, object> = {
  imagePixelModule: {
    bitsAllocated: 8, bitsStored: 8, highBit: 7, samplesPerPixel: 1, pixelRepresentation: 0,
    photometricInterpretation: 'MONOCHROME2',
  },
  generalSeriesModule: { modality: 'OT' },
};

export function registerPictures(): void {
  imageLoader.registerImageLoader(SCHEME, (imageId) => {
    const file = files.get(imageId);
    if (!file) throw new Error(`no picture ${imageId}`);
    return { promise: readPicture(imageId, file) as Promise<Types.IImage & Record<string, unknown>> };
  });
  metaData.addProvider((type: string, imageId: unknown) => (files.has(String(imageId)) ? METADATA[type] : undefined));
}

/** The image id of a file; none is given twice. */
export function addPicture(file: File): string {
  const imageId = `${SCHEME}:${count++}`;
  files.set(imageId, file);
  return imageId;
}

export function forgetPictures(): void {
  files.clear();
}

async function readPicture(imageId: string, file: File): Promise<Types.IImage> {
  const { grey, width, height } = await readGrey(file);
  return {
    imageId, width, height, columns: width, rows: height,
    minPixelValue: 0, maxPixelValue: 255, slope: 1, intercept: 0,
    windowCenter: 128, windowWidth: 256, voiLUTFunction: Enums.VOILUTFunctionType.LINEAR,
    color: false, rgba: false, invert: false, numberOfComponents: 1,
    columnPixelSpacing: 1, rowPixelSpacing: 1,
    dataType: 'Uint8Array', sizeInBytes: grey.byteLength,
    getPixelData: () => grey,
    getCanvas: () => { throw new Error('a grey image has no canvas'); },
    voxelManager: utilities.VoxelManager.createImageVoxelManager({
      scalarData: grey, width, height, numberOfComponents: 1,
    }) as Types.IVoxelManager<number>,
  };
}

async function readGrey(file: File): Promise<{ grey: Uint8Array; width: number; height: number }> {
  const bytes = withoutExif(new Uint8Array(await file.arrayBuffer()));
  const bitmap = await createImageBitmap(new Blob([bytes]), { colorSpaceConversion: 'none' });
  const { width, height } = bitmap;
  const context = new OffscreenCanvas(width, height).getContext('2d');
  if (!context) throw new Error('no canvas of this size');
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  return { grey: luma(context.getImageData(0, 0, width, height).data), width, height };
}

/** The luma (ITU-R BT.601) of RGBA pixels. */
function luma(rgba: Uint8ClampedArray): Uint8Array {
  const grey = new Uint8Array(rgba.length / 4);
  for (let i = 0; i < grey.length; i++) {
    grey[i] = (rgba[4 * i]! * 299 + rgba[4 * i + 1]! * 587 + rgba[4 * i + 2]! * 114 + 500) / 1000;
  }
  return grey;
}

/** A JPEG without its EXIF segments: a browser would turn the image by them, away from its boxes. */
function withoutExif(bytes: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  if (bytes[0] !== 0xff || bytes[1] !== 0xd8) return bytes;
  const kept: Uint8Array<ArrayBuffer>[] = [bytes.subarray(0, 2)];
  let at = 2;
  while (at + 4 <= bytes.length && bytes[at] === 0xff && bytes[at + 1] !== SCAN) {
    const end = at + 2 + bytes[at + 2]! * 256 + bytes[at + 3]!;
    if (bytes[at + 1] !== EXIF) kept.push(bytes.subarray(at, end));
    at = end;
  }
  kept.push(bytes.subarray(at));
  const joined = new Uint8Array(kept.reduce((length, part) => length + part.length, 0));
  let to = 0;
  for (const part of kept) {
    joined.set(part, to);
    to += part.length;
  }
  return joined;
}
