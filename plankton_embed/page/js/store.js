"use strict";

// Decisions: kept in the browser (a file), or sent to the server, which writes them into its journal (live).
PE.store = (() => {
  const list = [];
  const listeners = [];
  const held = new Map(); // row -> {action, label, cluster, n}: what now holds
  let base = null; // the labels before any decision
  let rowOf = null; // id -> row
  let waiting = Promise.resolve();
  let isKept = true;
  let nClasses = 0; // classes before any decision

  const findRow = (id) => {
    if (!rowOf) rowOf = new Map(PE.images.id.map((text, row) => [text, row]));
    return rowOf.get(id);
  };

  const codeOf = (name) => {
    const code = PE.classes.indexOf(name);
    return code >= 0 ? code : PE.classes.push(name) - 1;
  };

  const undone = () => new Set(list.filter((one) => one.action === "undo").map((one) => one.of));

  const last = () => {
    const gone = undone();
    return list.findLast((one) => one.action !== "undo" && !gone.has(one.n)) || null;
  };

  const apply = (decision) => {
    for (const id of decision.object_ids) {
      const row = findRow(id);
      if (row === undefined) continue;
      held.set(row, { action: decision.action, label: decision.label, cluster: decision.cluster, n: decision.n, at: decision.at });
      PE.images.label[row] = decision.action === "relabel" ? codeOf(decision.label) : base[row];
    }
  };

  const replay = () => {
    held.clear();
    PE.images.label.set(base);
    if (!PE.live) PE.classes.length = nClasses;
    const gone = undone();
    for (const one of list) if (one.action !== "undo" && !gone.has(one.n)) apply(one);
  };

  const changed = () => {
    for (const callback of listeners) callback();
    PE.changed();
  };

  const keep = () => {
    if (PE.live) return;
    try {
      localStorage.setItem(`plankton_embed:${PE.data.key}`, JSON.stringify(list));
    } catch {
      warn();
    }
  };

  const warn = () => {
    isKept = false;
    PE.banner("This browser cannot keep decisions: they are lost when the page is closed. Download corrections.csv first.");
  };

  // Take over what another tab with the same page has decided.
  const follow = ({ key, newValue }) => {
    if (key !== `plankton_embed:${PE.data.key}` || newValue === null) return;
    list.splice(0, list.length, ...JSON.parse(newValue));
    replay();
    changed();
  };

  // The same for what this tab has missed while it was not shown.
  const catchUp = () => {
    if (!isKept) return;
    const newValue = localStorage.getItem(`plankton_embed:${PE.data.key}`);
    if (newValue !== null && newValue !== JSON.stringify(list)) follow({ key: `plankton_embed:${PE.data.key}`, newValue });
  };

  // Take over what the server answers: new decisions, guesses, the queue.
  const take = (answer) => {
    const seen = list.length ? list.at(-1).n : 0;
    const added = answer.decisions.filter((one) => one.n > seen);
    for (const one of added) list.push(one);
    if (added.some((one) => one.action === "undo")) replay();
    else added.forEach(apply);
    if (answer.guesses) { // with the labels and classes that follow the decisions
      const { classes, ...arrays } = PE.decode(answer.guesses);
      PE.classes.splice(0, PE.classes.length, ...classes);
      for (const [name, values] of Object.entries(arrays)) PE.images[name] = values;
      PE.images.label = Int32Array.from(PE.images.label);
    }
    if (answer.queue) PE.data.parts.queue = Object.assign(PE.data.parts.queue || {}, PE.decode(answer.queue));
  };

  const ask = async (path, body) => {
    let response;
    const options = body === undefined ? {} : {
      method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body),
    };
    try {
      response = await fetch(path, { cache: "no-store", ...options });
    } catch {
      throw new NotSaved("The server cannot be reached, so it is not known whether this was saved. Start it again: the page then shows what was saved.");
    }
    if (!response.ok) {
      const text = (await response.text()).slice(0, 300);
      const error = new NotSaved(`Not saved: ${text}`);
      error.isStale = response.status === 409; // another tab has decided
      throw error;
    }
    PE.banner("");
    return response.json();
  };

  // Send one decision after the other. One that failed and is repeated keeps its id, so that it is never saved twice.
  let failed = null;
  const send = (path, body) => {
    const same = failed !== null && failed.text === JSON.stringify(body);
    const request = same ? failed.request : Array.from(crypto.getRandomValues(new Uint32Array(4))).join("-");
    const sent = waiting.then(() => ask(path, { ...body, request, seen: list.length })).then((answer) => {
      failed = null;
      take(answer);
      changed();
    });
    waiting = sent.catch(async (error) => {
      failed = error.isStale ? null : { text: JSON.stringify(body), request };
      if (error.isStale) await update().catch(() => undefined);
      PE.banner(error.message);
    });
    return sent;
  };

  // Take over what other tabs have decided.
  const update = async () => {
    const n = list.length;
    take(await ask("state"));
    if (list.length > n) changed();
  };

  class NotSaved extends Error {}
  window.addEventListener("unhandledrejection", (event) => {
    if (event.reason instanceof NotSaved) event.preventDefault(); // the banner shows it
  });

  const add = (decision) => {
    list.push({ n: list.length + 1, at: new Date().toISOString(), ...decision });
    return list.at(-1);
  };

  const describe = ({ action, label, object_ids: ids }) => {
    const what = ids.length === 1 ? ids[0] : `${ids.length} images`;
    return `${{ keep: "Kept", relabel: "Relabelled", delete: "Deleted" }[action]}: ${what}${label ? ` → ${label}` : ""}`;
  };

  return {
    list,

    // Read the decisions made before.
    async load() {
      base = PE.images.label.slice();
      nClasses = PE.classes.length;
      if (PE.live) {
        list.length = 0;
        document.addEventListener("visibilitychange", () => {
          if (!document.hidden) waiting = waiting.then(update).catch((error) => PE.banner(error.message));
        });
        try {
          take(await ask("state"));
        } catch (error) {
          PE.banner(error.message);
        }
        return;
      }
      try {
        const text = localStorage.getItem(`plankton_embed:${PE.data.key}`);
        window.addEventListener("storage", follow);
        localStorage.setItem("plankton_embed:test", "1");
        localStorage.removeItem("plankton_embed:test");
        if (text) list.push(...JSON.parse(text));
      } catch {
        warn();
      }
      replay();
    },

    // Make one decision about one or many images; the promise is fulfilled when it is saved.
    async decide(decision) {
      const { action, object_ids, label, cluster } = decision;
      if (!object_ids.length) return;
      const whole = { action, object_ids: [...object_ids] };
      if (action === "relabel") whole.label = label;
      if (cluster !== undefined && cluster !== null) whole.cluster = cluster;
      if (PE.live) {
        const { object_ids: all, ...rest } = whole;
        await send("decide", { ...rest, rows: all.map(findRow) });
      }
      else {
        catchUp();
        apply(add(whole));
        keep();
        changed();
      }
      PE.note(describe(whole));
    },

    // Undo the last decision that is not undone.
    async undo() {
      if (!PE.live) catchUp();
      const one = last();
      if (!one) return;
      if (PE.live) await send("undo", { of: one.n });
      else {
        add({ action: "undo", of: one.n });
        replay();
        keep();
        changed();
      }
      PE.note(`Undone: ${describe(one)}`);
    },

    last,

    // Return what now holds for an image: null or {action, label, cluster}.
    of: (row) => held.get(row) || null,

    // Return the class index of an image before any decision.
    before: (row) => (base ? base[row] : PE.images.label[row]),

    size: () => held.size,

    // Return the class names to offer, sorted: those of the page, and new ones that an image has now.
    names: () => {
      const used = new Set(PE.images.label);
      return PE.classes.filter((name, code) => code < nClasses || used.has(code)).sort((a, b) => a.localeCompare(b));
    },

    isKept: () => isKept,

    onChange: (callback) => listeners.push(callback),

    // Return what now holds, one row an image, for corrections.csv.
    corrections: () =>
      [...held.entries()].map(([row, { action, label, cluster, at }]) => {
        const before = PE.className(base[row]);
        const group = cluster === undefined ? "" : `group ${cluster}, `;
        return {
          object_id: PE.images.id[row], action, label: action === "relabel" ? label : before,
          reason: `${group}${before ? `labelled ${before}` : "without a label"}`, decided_at: at,
        };
      }),
  };
})();

PE.CORRECTIONS = ["object_id", "action", "label", "reason", "decided_at"];

// Draw how many decisions there are, and the buttons to undo and download them, at the top of the page.
PE.makeDecisions = () => {
  const count = PE.el("span", { class: "count" });
  const undo = PE.el("button", { onclick: () => PE.store.undo() }, "Undo");
  const download = PE.csvButton("corrections.csv", PE.CORRECTIONS, PE.store.corrections);
  const draw = () => {
    const n = PE.store.size();
    count.textContent = n ? `${PE.plural(n, "image")} decided` : "";
    undo.disabled = !PE.store.last();
    download.disabled = n === 0;
  };
  document.getElementById("decisions").append(count, undo, download);
  PE.store.onChange(draw);
  draw();
};
