/** The Grad-CAM of the image in view, for one class of the study. */

import { CLASSES, className, topClass } from './answer';
import { refuse } from './messages';
import { hasHeatMaps } from './models';
import type { Overlay } from './overlay';
import { element } from './page';
import { fetchBlob, RUNS } from './requests';
import { current, listen } from './session';

export function startHeatMap(overlay: Overlay): void {
  const on = element<HTMLInputElement>('heat-on'), chosen = element<HTMLSelectElement>('heat-class');
  chosen.replaceChildren(...CLASSES.map((name) => new Option(className(name), name)));
  let url: string | null = null;
  let last = 0;

  async function draw(): Promise<void> {
    const { run, shown } = current(), mine = ++last;
    overlay.heat(null);
    if (url) URL.revokeObjectURL(url);
    url = null;
    if (!on.checked || !run) return;
    try {
      const blob = await fetchBlob(`${RUNS}/${run}/images/${shown}/heatmap?class=${chosen.value}`);
      if (mine !== last) return;
      url = URL.createObjectURL(blob);
      overlay.heat(url);
    } catch (error) {
      if (mine !== last) return;
      on.checked = false;
      refuse((error as Error).message);
    }
  }

  on.addEventListener('change', () => void draw());
  chosen.addEventListener('change', () => void draw());
  listen((now, before) => {
    if (now.result && now.result !== before.result) {
      element('heat').hidden = !hasHeatMaps();
      chosen.value = topClass(now.result.study);
    }
    if (now.result !== before.result || now.shown !== before.shown) void draw();
  });
}
