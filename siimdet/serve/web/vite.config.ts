import { defineConfig } from 'vite';

export default defineConfig({
  base: './', // the page works under a prefix of a reverse proxy too
  // Without it Vite puts an empty stub in place of Node's `events`, and the viewer fails when it starts.
  resolve: { alias: { events: 'events/' } },
  worker: { format: 'es' },
  build: {
    outDir: '../static',
    emptyOutDir: true,
    target: 'es2022',
    assetsInlineLimit: 0, // the policy of the page allows no data: scripts
    license: { fileName: 'licenses.md' },
    chunkSizeWarningLimit: 4000,
  },
});
