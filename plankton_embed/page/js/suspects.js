"use strict";

// What the queues of images share: one decision at a time, ticks, keys; and the queue of suspect labels.
(() => {
  const STYLE = `
.judge { display: grid; grid-template-columns: minmax(0, 380px) minmax(0, 1fr); gap: 12px 28px; align-items: start; }
.judge:focus, .next-body:focus, .groups-body:focus { outline: none; }
.judge-picture { padding: 6px; display: flex; justify-content: center; width: 100%; background: var(--panel); }
.judge .facts { margin-top: 8px; }
.judge-label, .judge-guess { font-weight: 600; font-size: 1.1rem; }
.judge .facts .judge-guess { color: var(--bad); }
.judge-place { margin-top: 0; }
.judge-beside { grid-column: 1 / -1; }
.judge-beside h3 { margin-top: 0; }
.progress { display: flex; flex-wrap: wrap; gap: 4px 14px; align-items: center; margin-bottom: 12px; }
.progress progress { width: min(260px, 100%); accent-color: var(--accent); }
.decided-as { font-weight: 600; }
.hints { color: var(--soft); font-size: .9rem; max-width: none; }
.hints span { white-space: nowrap; margin-right: 12px; }
.finished { background: var(--panel); border: 1px solid var(--line); border-radius: 8px; padding: 16px 20px; }
.judge-buttons button kbd { margin-left: 4px; background: none; color: inherit; border-color: currentColor; opacity: .75; }
@media (max-width: 700px) {
  .judge { grid-template-columns: minmax(0, 1fr); }
  .hints { display: none; }
}`;
  document.head.append(PE.el("style", null, STYLE));

  // Return a function that runs an action unless one is still running; a held key or a second click does nothing.
  PE.oneAtATime = () => {
    const run = async (action) => {
      if (run.isBusy) return;
      run.isBusy = true;
      try {
        await action();
      } finally {
        run.isBusy = false;
      }
    };
    run.isBusy = false;
    return run;
  };

  // Let no held Enter or space press a button of a section again and again.
  PE.ignoreHeld = (section) => section.addEventListener("keydown", (event) => {
    if (event.repeat && (event.key === "Enter" || event.key === " ")) event.preventDefault();
  }, true);

  // After a click on a tab, keys are for its section; a tab that was reached by keys keeps the focus.
  PE.focusAfterTab = (id, element) => {
    const tab = document.getElementById(`tab-${id}`);
    tab.addEventListener("click", (event) => event.detail > 0 && element.focus({ preventScroll: true }));
    if (document.activeElement === tab && !tab.matches(":focus-visible")) element.focus({ preventScroll: true });
  };

  // Return a button that shows its key.
  PE.keyButton = (text, key, onclick, attributes = {}) =>
    PE.el("button", { ...attributes, onclick, "aria-keyshortcuts": key }, text, PE.el("kbd", { "aria-hidden": "true" }, key));

  PE.hints = (pairs) => PE.el("p", { class: "hints" }, "Keys: ",
    pairs.map(([key, text]) => PE.el("span", null, PE.el("kbd", null, key), ` ${text}`)));

  PE.DECIDED = { keep: "kept", relabel: "relabelled", delete: "deleted" };

  // The side of a large picture in a section.
  PE.largeSide = (section) =>
    Math.max(120, Math.min(section.clientWidth - 20, window.innerWidth <= 700 ? 240 : 360, 0.5 * window.innerHeight));

  PE.undo = async () => {
    if (PE.store.last()) await PE.store.undo();
    else PE.note("There is no decision to undo.");
  };

  // Return a function that returns the rows of a decision that was just undone, each time once; else null.
  PE.watchUndo = () => {
    let seen = PE.store.list.length;
    return () => {
      const isNew = PE.store.list.length !== seen;
      seen = PE.store.list.length;
      const last = PE.store.list.at(-1);
      if (!isNew || !last || last.action !== "undo") return null;
      const place = new Map(PE.store.list.find((one) => one.n === last.of).object_ids.map((id, number) => [id, number]));
      const rows = [];
      PE.images.id.forEach((id, row) => place.has(id) && (rows[place.get(id)] = row));
      return rows.filter((row) => row !== undefined);
    };
  };

  // ---------------------------------------------------------------------------------------- suspects

  PE.part({ id: "suspects", title: "Suspects", show: (section) => show(section, PE.data.parts.suspects) });

  const show = (section, part) => {
    const rows = Array.from(part.rows);
    const isDecided = (row) => PE.store.of(row) !== null;
    const run = PE.oneAtATime();
    let at = rows.findIndex((row) => !isDecided(row)); // rows.length: the end
    if (at < 0) at = rows.length;

    const count = PE.el("span", { class: "count", role: "status" });
    const bar = PE.el("progress", { max: rows.length, "aria-label": "Decided" });
    const card = PE.el("div", { class: "judge", tabindex: -1 });

    const suggestion = () => PE.className(part.guess[at]);
    const before = () => PE.className(PE.store.before(rows[at]));

    const advance = () => {
      const next = rows.findIndex((row, position) => position > at && !isDecided(row));
      const first = rows.findIndex((row) => !isDecided(row));
      at = next >= 0 ? next : first >= 0 ? first : rows.length;
      draw();
    };
    const save = async (decision) => {
      await PE.store.decide({ ...decision, object_ids: [PE.images.id[rows[at]]] });
      advance();
    };
    const decide = (decision) => run(async () => at < rows.length && save(decision));
    const correct = (label) => (label === before() ? { action: "keep" } : { action: "relabel", label });
    const actions = {
      k: () => decide({ action: "keep" }),
      d: () => decide({ action: "delete" }),
      g: () => at < rows.length && decide(correct(suggestion())),
      r: () => run(async () => {
        if (at >= rows.length) return;
        const label = await PE.pickClass({ title: `New label of ${PE.images.id[rows[at]]}`, first: [suggestion(), before()] });
        if (label !== null) await save(correct(label));
      }),
      u: () => run(PE.undo).then(follow),
      ArrowLeft: () => move(-1),
      ArrowRight: () => move(1),
    };
    const move = (step) => {
      at = Math.max(0, Math.min(rows.length, at + step));
      draw();
    };

    const undone = PE.watchUndo();
    const follow = () => {
      const again = undone() || [];
      const position = rows.findIndex((row) => again.includes(row));
      if (position >= 0) at = position; // show the image that was undone
      draw();
    };

    const buttons = () => PE.el("div", { class: "bar judge-buttons" },
      PE.keyButton("Keep", "K", actions.k), PE.keyButton("Relabel …", "R", actions.r),
      PE.keyButton(`Relabel: ${suggestion()}`, "G", actions.g, { class: "take-guess" }),
      PE.keyButton("Delete", "D", actions.d, { class: "danger" }));
    const steps = () => PE.el("div", { class: "bar judge-buttons" },
      PE.keyButton("Previous", "←", actions.ArrowLeft, { disabled: at === 0 }),
      PE.keyButton("Next", "→", actions.ArrowRight, { disabled: at >= rows.length }),
      PE.keyButton("Undo", "U", actions.u, { disabled: !PE.store.last() }));

    const drawImage = () => {
      const row = rows[at];
      const held = PE.store.of(row);
      const score = part.score[at];
      const list = (pairs) => PE.el("dl", { class: "facts" }, pairs.filter(([, text]) => text)
        .map(([name, text, kind]) => [PE.el("dt", null, name), PE.el("dd", { class: kind }, text)]));
      const labels = [["Present label", before(), "judge-label"], ["Suggested label", suggestion(), "judge-guess"]];
      const facts = [
        ["Reason", part.reason[at]],
        ["Score", score === null || Number.isNaN(score) ? "" : `${PE.number(score)} (0 to 1, higher is more suspect)`],
        ["Image", PE.images.id[row]],
        ["Split", PE.data.splits[PE.images.split[row]]],
        ["Decision", held ? `${PE.DECIDED[held.action]}${held.label ? `: ${held.label}` : ""}` : "", "decided-as"],
      ];
      const near = Array.from(part.neighbors.slice(at * part.n_neighbors, (at + 1) * part.n_neighbors));
      const note = (other) => {
        const label = PE.images.label[other];
        return label === part.guess[at] ? "the suggested label" : label === PE.store.before(row) ? "the present label" : "";
      };
      PE.clear(card).append(
        PE.el("button", { class: "judge-picture", title: "Show this image with all that is known of it",
          "aria-label": `Show ${PE.images.id[row]}`, onclick: () => PE.detail(row) }, PE.thumb(row, PE.largeSide(section))),
        PE.el("div", null,
          PE.el("h3", { class: "judge-place" }, `${at + 1} of ${rows.length}`), list(labels), buttons(), steps(), list(facts)),
        PE.el("div", { class: "judge-beside" }, PE.grid(near, { title: "Most similar labelled images", note })));
    };
    const drawEnd = () => {
      const held = rows.map((row) => PE.store.of(row)).filter((one) => one);
      const left = rows.length - held.length;
      const counts = Object.entries(PE.DECIDED)
        .map(([action, word]) => `${held.filter((one) => one.action === action).length} ${word}`).join(", ");
      PE.clear(card).append(PE.el("div", { class: "judge-beside finished" },
        PE.el("h3", null, left ? "The end of the list" : `All ${rows.length} images are decided`),
        PE.el("p", null, `${counts}${left ? `; ${PE.plural(left, "image is", "images are")} not decided yet` : ""}.`),
        PE.live ? PE.el("p", null, "The journal contains all decisions.") : PE.el("p", null,
          "Download corrections.csv; then: plankton-embed apply-corrections CATALOG corrections.csv -o CATALOG2"),
        PE.el("div", { class: "bar judge-buttons" },
          left ? PE.el("button", { class: "primary", onclick: advance }, "To the first that is not decided") : null,
          PE.csvButton("corrections.csv", PE.CORRECTIONS, PE.store.corrections),
          PE.el("button", { onclick: () => ((at = 0), draw()) }, "To the first image")),
        steps()));
    };
    const draw = () => {
      const n = rows.filter(isDecided).length;
      count.textContent = `${n} of ${rows.length} decided`;
      bar.value = n;
      const isInside = card.contains(document.activeElement);
      if (at < rows.length) drawImage();
      else drawEnd();
      if (isInside) card.focus({ preventScroll: true }); // its buttons are new
    };

    section.append(
      PE.el("h2", null, "Suspect labels"),
      PE.el("p", null, "Labels that may be wrong, copies with two labels first. Nothing changes in the files of images: "
        + "the decisions are kept, and apply-corrections writes a new catalog."),
      PE.el("div", { class: "progress" }, bar, count), card,
      PE.hints([["K", "keep"], ["R", "relabel (then Enter takes the suggestion)"], ["G", "take the suggestion at once"],
        ["D", "delete"], ["U", "undo"], ["←", ""], ["→", "move without deciding"]]));
    PE.ignoreHeld(section);
    PE.keys(actions, section);
    PE.refresh("suspects", () => run.isBusy || follow());
    draw();
    PE.focusAfterTab("suspects", card);
  };
})();
