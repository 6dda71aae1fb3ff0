/** The view as a picture: the radiograph as it is drawn, what lies over it, and that it is not for diagnosis. */

import { element, inside } from './page';
import type { Radiograph } from './radiograph';

const NOTICE = 'siimdet · Not for diagnosis';

export async function drawView(radiograph: Radiograph): Promise<Blob> {
  const source = radiograph.canvas;
  const picture = new OffscreenCanvas(source.width, source.height);
  const context = picture.getContext('2d');
  if (!context) throw new Error('The picture cannot be drawn.');
  context.drawImage(source, 0, 0);
  context.scale(source.width / source.clientWidth, source.height / source.clientHeight);
  const overlay = inside<SVGSVGElement>(element('viewport'), '#overlay');
  await drawHeat(context, inside<SVGImageElement>(overlay, 'image'));
  for (const group of overlay.querySelectorAll('[data-detector]')) drawBox(context, group);
  context.font = '13px sans-serif';
  context.textAlign = 'start';
  write(context, NOTICE, 8, source.clientHeight - 10, '#fff');
  return picture.convertToBlob({ type: 'image/png' });
}

async function drawHeat(context: OffscreenCanvasRenderingContext2D, node: SVGImageElement): Promise<void> {
  const address = node.getAttribute('href');
  if (!address) return;
  const image = new Image();
  image.src = address;
  await image.decode();
  context.globalAlpha = Number(getComputedStyle(node).opacity);
  context.drawImage(image, ...rectangle(node));
  context.globalAlpha = 1;
}

function drawBox(context: OffscreenCanvasRenderingContext2D, group: Element): void {
  const outline = inside<SVGRectElement>(group, 'rect'), label = inside<SVGTextElement>(group, 'text');
  const { stroke, strokeWidth, strokeDasharray } = getComputedStyle(outline);
  context.strokeStyle = stroke;
  context.lineWidth = parseFloat(strokeWidth);
  context.setLineDash(strokeDasharray === 'none' ? [] : strokeDasharray.split(',').map(parseFloat));
  context.strokeRect(...rectangle(outline));
  context.setLineDash([]);
  const { fontSize, fontWeight, fill, textAnchor, visibility } = getComputedStyle(label);
  if (visibility === 'hidden') return;
  context.font = `${fontWeight} ${fontSize} sans-serif`;
  context.textAlign = textAnchor as 'start' | 'end';
  write(context, label.textContent ?? '', Number(label.getAttribute('x')), Number(label.getAttribute('y')), fill);
}

/** Text with a dark rim, legible on any radiograph. */
function write(context: OffscreenCanvasRenderingContext2D, text: string, x: number, y: number, colour: string): void {
  context.lineWidth = 3;
  context.lineJoin = 'round';
  context.strokeStyle = '#000';
  context.strokeText(text, x, y);
  context.fillStyle = colour;
  context.fillText(text, x, y);
}

function rectangle(node: SVGElement): [number, number, number, number] {
  return ['x', 'y', 'width', 'height'].map((key) => Number(node.getAttribute(key))) as [number, number, number, number];
}
