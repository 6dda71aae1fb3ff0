/** One radiograph in view: the page's only door to Cornerstone3D. It is loaded after the page's first paint. */

import {
  cache, Enums, getShouldUseCPURendering, imageLoader, init, RenderingEngine, type Types,
} from '@cornerstonejs/core';

import { addDicom, forgetDicom, registerDicom } from './dicom';
import { addPicture, forgetPictures, registerPictures } from './picture';
import { forgetPlanes, layFlat, registerPlanes } from './plane';

export interface Point { x: number; y: number }

export interface Reading {
  /** Original pixels. */
  width: number;
  height: number;
  window: number;
  level: number;
  /** 1 where the image is whole. */
  zoom: number;
  /** Whether the reader has turned the greys round. */
  inverted: boolean;
}

const ENGINE = 'siimdet';
const VIEWPORT = 'radiograph';
const LEAST_ZOOM = 0.5;
const MOST_ZOOM = 40;
/** A drag of so many pixels changes window or level by the image's whole range. */
const WINDOW_DRAG = 512;

export class Radiograph {
  readonly #engine: RenderingEngine;
  readonly #viewport: Types.IStackViewport;
  #image: Types.IImage | null = null;
  #voi = { lower: 0, upper: 1 };
  #range = 1;
  #inverted = false;
  /** Whether the reader has zoomed or panned since the image was shown whole. */
  #moved = false;
  #wholeZoom = 1;

  constructor(place: HTMLDivElement, onDrawn: () => void) {
    init();
    registerDicom();
    registerPictures();
    registerPlanes();
    this.#engine = new RenderingEngine(ENGINE);
    this.#engine.enableElement({ viewportId: VIEWPORT, element: place, type: Enums.ViewportType.STACK });
    this.#viewport = this.#engine.getViewport(VIEWPORT) as Types.IStackViewport;
    place.tabIndex = 0; // the engine has taken it out of the order of Tab
    place.addEventListener(Enums.Events.IMAGE_RENDERED, onDrawn);
    new ResizeObserver(() => this.#fit()).observe(place);
  }

  /** Draws a file's image, whole and in its own window. Rejects with what is wrong, to be read after its name. */
  async show(file: File): Promise<void> {
    const imageId = (await kindOf(file)) === 'picture' ? addPicture(file) : addDicom(file);
    const image = await load(imageId).catch((error: unknown) => {
      throw new Error('cannot be drawn here; the server may read it all the same.', { cause: error });
    });
    layFlat(image);
    image.voiLUT = undefined; // the CPU path would draw by this table alone, and no drag would change it
    this.#range = Math.max(image.maxPixelValue - image.minPixelValue, 1);
    this.#engine.resize(true, false); // an empty place may have another size than one with an image
    await this.#viewport.setStack([imageId]);
    this.#image = image;
    this.reset();
  }

  /** Frees the files shown so far. */
  forget(): void {
    this.#image = null;
    cache.purgeCache();
    forgetDicom();
    forgetPictures();
    forgetPlanes();
  }

  reset(): void {
    if (!this.#image) return;
    const { windowCenter, windowWidth, minPixelValue, maxPixelValue, invert } = this.#image;
    const center = first(windowCenter), width = first(windowWidth);
    this.#voi = width > 1
      ? { lower: center - width / 2, upper: center + width / 2 }
      : { lower: minPixelValue, upper: Math.max(maxPixelValue, minPixelValue + 1) };
    this.#inverted = invert;
    this.#showWhole();
    this.#draw();
  }

  invert(): void {
    this.#inverted = !this.#inverted;
    this.#draw();
  }

  /** A drag: to the right widens the window, downwards raises its level. */
  windowBy(dx: number, dy: number): void {
    if (!this.#image) return;
    const step = this.#range / WINDOW_DRAG;
    const width = Math.max(this.#voi.upper - this.#voi.lower + dx * step, 1);
    const center = (this.#voi.upper + this.#voi.lower) / 2 + dy * step;
    this.#voi = { lower: center - width / 2, upper: center + width / 2 };
    this.#draw();
  }

  panBy(dx: number, dy: number): void {
    if (!this.#image) return;
    const { focalPoint, position } = this.#viewport.getCamera();
    const from = this.#viewport.canvasToWorld([0, 0]), to = this.#viewport.canvasToWorld([dx, dy]);
    const moved = (point: Types.Point3 | undefined) =>
      point?.map((value, axis) => value - (to[axis]! - from[axis]!)) as Types.Point3;
    this.#moved = true;
    this.#viewport.setCamera({ focalPoint: moved(focalPoint), position: moved(position) });
    this.#viewport.render();
  }

  /** Zooms by a factor; what lies at a place of the view stays there. */
  zoomBy(factor: number, at: Point = this.#middle()): void {
    if (!this.#image) return;
    const wanted = (this.#viewport.getZoom() / this.#wholeZoom) * factor;
    const kept = this.#viewport.canvasToWorld([at.x, at.y]);
    this.#viewport.setZoom(this.#wholeZoom * Math.min(Math.max(wanted, LEAST_ZOOM), MOST_ZOOM));
    const [x, y] = this.#viewport.worldToCanvas(kept);
    this.panBy(at.x - x, at.y - y);
  }

  /** Where a place of the image, in original pixels, lies in the view, in CSS pixels. */
  toView(x: number, y: number): Point {
    const { imageData } = this.#viewport.getImageData() as Types.IImageData;
    // Rendered by WebGL, index 0 is the middle of the first pixel; by the CPU it is its edge.
    const half = getShouldUseCPURendering() ? 0 : 0.5;
    const world = imageData.indexToWorld([x - half, y - half, 0]) as Types.Point3;
    const [left, top] = this.#viewport.worldToCanvas(world);
    return { x: left, y: top };
  }

  /** Null before an image is in view. */
  get reading(): Reading | null {
    if (!this.#image) return null;
    const { lower, upper } = this.#voi;
    return {
      width: this.#image.columns, height: this.#image.rows,
      window: upper - lower, level: (upper + lower) / 2,
      zoom: this.#viewport.getZoom() / this.#wholeZoom,
      inverted: this.#inverted !== this.#image.invert,
    };
  }

  get canvas(): HTMLCanvasElement {
    return this.#viewport.getCanvas();
  }

  /** The place on the page has another size: what was whole is whole again, what was chosen stays. */
  #fit(): void {
    if (!this.#image) return;
    this.#engine.resize(true, true);
    if (!this.#moved) this.#showWhole();
    this.#viewport.render();
  }

  #showWhole(): void {
    this.#viewport.resetCamera();
    this.#wholeZoom = this.#viewport.getZoom();
    this.#moved = false;
  }

  #middle(): Point {
    const { clientWidth, clientHeight } = this.#viewport.element;
    return { x: clientWidth / 2, y: clientHeight / 2 };
  }

  #draw(): void {
    if (!this.#image) return;
    this.#viewport.setProperties({ voiRange: this.#voi, invert: this.#inverted });
    this.#viewport.render();
  }
}

/** Not loadAndCacheImage(), which leaves the cache's promise to nobody: a broken file would be an error of the page. */
async function load(imageId: string): Promise<Types.IImage> {
  const promise = imageLoader.loadImage(imageId, loading());
  await cache.putImageLoadObject(imageId, { promise });
  return promise;
}

/** Colour as the renderer in use draws it; the type of the options leaves this one out. */
function loading(): Parameters<typeof imageLoader.loadImage>[1] {
  return { useRGBA: getShouldUseCPURendering() } as object as ReturnType<typeof loading>;
}

function first(values: number | number[]): number {
  return Array.isArray(values) ? values[0]! : values;
}

/** By its first bytes, as the server tells them too. */
async function kindOf(file: File): Promise<'picture' | 'dicom'> {
  const start = new Uint8Array(await file.slice(0, 132).arrayBuffer());
  const has = (at: number, ...bytes: number[]) => bytes.every((byte, index) => start[at + index] === byte);
  if (has(0, 0x89, 0x50, 0x4e, 0x47) || has(0, 0xff, 0xd8, 0xff)) return 'picture';
  if (has(128, 0x44, 0x49, 0x43, 0x4d)) return 'dicom';
  throw new Error('is no DICOM, PNG or JPEG file.');
}
