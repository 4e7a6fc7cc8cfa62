"use strict";

// Read the data, take over decisions made before, and open the first tab.
(async () => {
  await PE.readData();
  await PE.store.load();
  PE.makeDecisions();
  PE.makeTabs();
  document.documentElement.dataset.ready = "true";
})().catch((error) => {
  document.getElementById("main").textContent = `This page cannot be shown: ${error.message}. A newer browser may help.`;
  throw error;
});
