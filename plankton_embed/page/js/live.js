"use strict";

// Parts of a live page that take seconds to compute: their tabs are there at once, their content as soon as it is ready.
(() => {
  const makeTabs = PE.makeTabs;

  const fetchPart = async (id) => {
    const response = await fetch(`part/${id}`, { cache: "no-store" });
    if (!response.ok) throw new Error(await response.text());
    const data = PE.decode(await response.json());
    if (data === null) delete PE.data.parts[id];
    else PE.data.parts[id] = data;
    PE.changed();
    return data;
  };

  // Have a part draw itself when its data has arrived.
  const wait = (part) => {
    const { show } = part;
    const arrived = fetchPart(part.id);
    arrived.catch(() => undefined); // shown when the tab is opened
    part.show = async (section) => {
      section.append(PE.el("p", { class: "soft", role: "status" }, "Computing …"));
      try {
        const data = await arrived;
        PE.clear(section);
        if (data === null) section.append(PE.el("p", { class: "soft" }, "There is nothing to show."));
        else show(section);
      } catch (error) {
        PE.clear(section).append(PE.el("p", { role: "alert" }, `This part could not be computed: ${error.message}`));
      }
    };
  };

  PE.makeTabs = () => {
    const ids = (PE.data.live && PE.data.live.pending) || [];
    const parts = PE.parts.filter((part) => ids.includes(part.id));
    parts.forEach(wait);
    makeTabs();
    for (const { id } of parts) if (PE.data.parts[id].pending) delete PE.data.parts[id]; // for those who look for it
  };
})();
