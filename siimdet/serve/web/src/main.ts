/** Starts the parts of the page; they meet in the session alone. */

import { startTable } from './boxes_table';
import { startClasses } from './classes';
import { startIntake } from './intake';
import { startKeys } from './keys';
import { startLayers } from './layers';
import { element } from './page';
import { startModels } from './models';
import { allowRun, startRuns } from './run';
import { startSave } from './save';
import { listen } from './session';
import { startView, theRadiograph } from './view';

startView();
startTable();
startClasses();
startLayers();
startRuns();
void startModels().then(allowRun);
startIntake();
startSave(theRadiograph);
startKeys(theRadiograph);
listen(({ result }) => {
  element('results').hidden = !result;
});
