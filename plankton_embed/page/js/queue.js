"use strict";

// Next to label: the images that teach most, in groups of one kind: tick off the odd ones, one key labels the rest.
(() => {
  const STYLE = `
.next-one { display: grid; grid-template-columns: minmax(0, 380px) minmax(0, 1fr); gap: 12px 28px; align-items: start; }
.next-why { font-weight: 600; }
.next-body .grid { margin-bottom: 14px; }
.next-one h3 { margin-top: 0; }
@media (max-width: 700px) { .next-one { grid-template-columns: minmax(0, 1fr); } }`;

  const NEW = "new kind";

  PE.part({ id: "queue", title: "Next to label", show: (section) => show(section) });

  const show = (section) => {
    document.head.append(PE.el("style", null, STYLE));
    const part = () => PE.data.parts.queue; // the server's answers replace it
    const run = PE.oneAtATime();
    const passed = new Set(); // images that were moved over
    const odd = new Set(); // ticked off in the group that is shown
    let first = []; // groups of rows that come before the queue: odd ones, or what was undone
    let recent = []; // names given last
    let isSingle = false; // one image at a time
    let entries = []; // {rows, why, guess, second}
    let at = 0;

    const isOpen = (row) => {
      const held = PE.store.of(row);
      return PE.images.label[row] < 0 && (held === null || (held.action === "keep" && held.cluster !== undefined)); // pulled out
    };
    const why = (reason, guess, second) => [NEW, `unsure between ${PE.className(guess)} and ${PE.className(second)}`,
      `far from labelled ${PE.className(guess)}`, `few labels of ${PE.className(guess)}`][reason];

    // Read the queue again: what was undone or odd first, images that were moved over last.
    const rebuild = () => {
      const { rows, group, reason, guess, second } = part();
      const found = [];
      for (let i = 0; i < rows.length; i += 1) {
        const isNew = i === 0 || group[i] !== group[i - 1];
        if (isNew) found.push({ rows: [], why: why(reason[i], guess[i], second[i]), guess: guess[i], second: second[i] });
        found.at(-1).rows.push(rows[i]);
      }
      const before = new Set(first.flat());
      for (const entry of found) entry.rows = entry.rows.filter((row) => isOpen(row) && !before.has(row));
      first = first.map((list) => list.filter(isOpen)).filter((list) => list.length);
      const own = (list) => ({ rows: list, why: "", guess: PE.images.guess[list[0]], second: PE.images.second[list[0]] });
      let all = [...first.map(own), ...found.filter((entry) => entry.rows.length)];
      if (isSingle) {
        const single = (entry, row) => ({ ...entry, rows: [row] });
        all = [...all.map((entry) => single(entry, entry.rows[0])),
          ...all.flatMap((entry) => entry.rows.slice(1).map((row) => single(entry, row)))];
      }
      const isPassed = (entry) => entry.rows.every((row) => passed.has(row));
      entries = [...all.filter((entry) => !isPassed(entry)), ...all.filter(isPassed)];
      at = 0;
      odd.clear();
    };

    // ---------------------------------------------------------------------------------------- decisions

    const chosen = () => (at < entries.length ? entries[at].rows.filter((row) => !odd.has(row)) : []);
    const decide = async (decision) => {
      const rows = chosen();
      if (!rows.length) {
        PE.note("Every image is ticked off.");
        return;
      }
      const singly = entries[at].rows.filter((row) => odd.has(row)).map((row) => [row]);
      await PE.store.decide({ ...decision, object_ids: rows.map((row) => PE.images.id[row]) });
      if (decision.label) recent = [decision.label, ...recent.filter((name) => name !== decision.label)].slice(0, 5);
      first = [...singly, ...first];
      rebuild();
      draw();
    };
    const take = (index) => run(async () => {
      if (at < entries.length && index >= 0) await decide({ action: "relabel", label: PE.className(index) });
    });
    const guessOf = () => (at < entries.length ? entries[at].guess : -1);
    const secondOf = () => (at < entries.length ? entries[at].second : -1);
    const move = (step) => {
      if (step > 0 && at < entries.length) entries[at].rows.forEach((row) => passed.add(row));
      at = Math.max(0, Math.min(entries.length, at + step));
      odd.clear();
      draw();
    };
    const what = () => (chosen().length === 1 ? PE.images.id[chosen()[0]] : PE.plural(chosen().length, "image"));
    const actions = {
      g: () => take(guessOf()),
      h: () => take(secondOf()),
      r: () => run(async () => {
        if (!chosen().length) return;
        const likely = [guessOf(), secondOf()].map(PE.className);
        const label = await PE.pickClass({ title: `Label of ${what()}`, first: [...likely, ...recent] });
        if (label !== null) await decide({ action: "relabel", label });
      }),
      k: () => run(() => decide({ action: "keep" })),
      d: () => run(async () => {
        const sure = chosen().length < 2 || await PE.confirm(`Leave out ${what()}? The image files are not changed.`, "Delete");
        if (sure) await decide({ action: "delete" });
      }),
      u: () => run(PE.undo).then(follow),
      o: () => {
        isSingle = !isSingle;
        rebuild();
        draw();
      },
      ArrowLeft: () => move(-1),
      ArrowRight: () => move(1),
    };
    const undone = PE.watchUndo();
    const follow = () => {
      const again = (undone() || []).filter(isOpen); // shown first
      again.forEach((row) => passed.delete(row));
      if (again.length) first = [again, ...first];
      if (again.length || at >= entries.length || !entries[at].rows.every(isOpen)) rebuild();
      draw();
    };
    const toggle = (row) => {
      if (!odd.delete(row)) odd.add(row);
      draw();
    };

    // ---------------------------------------------------------------------------------------- drawing

    const count = PE.el("span", { class: "count", role: "status" });
    const bar = PE.el("progress", { "aria-label": "Labelled" });
    const body = PE.el("div", { tabindex: -1, class: "next-body" });
    const mode = PE.keyButton("One image at a time", "O", actions.o);

    const buttons = () => {
      const names = [[guessOf(), "G", actions.g], [secondOf(), "H", actions.h]].filter(([index]) => index >= 0);
      const all = chosen().length > 1 ? ` (${chosen().length} images)` : "";
      return PE.el("div", { class: "bar judge-buttons" },
        names.map(([index, key, action], position) => PE.keyButton(PE.className(index) + (position ? "" : all), key, action,
          { class: position ? "take-second" : "primary take-guess" })),
        PE.keyButton("Other label …", "R", actions.r), PE.keyButton("No label", "K", actions.k,
          { title: "Leave it without a label; it is not shown again" }),
        PE.keyButton("Delete", "D", actions.d, { class: "danger" }));
    };
    const steps = () => PE.el("div", { class: "bar judge-buttons" },
      PE.keyButton("Previous", "←", actions.ArrowLeft, { disabled: at === 0 }),
      PE.keyButton("Next", "→", actions.ArrowRight, { disabled: at >= entries.length }),
      PE.keyButton("Undo", "U", actions.u, { disabled: !PE.store.last() }), mode);

    const drawEntry = ({ rows, why: reason, guess }) => {
      const nearest = guess >= 0 ? `nearest class: ${PE.className(guess)}` : "no class has labels yet";
      const isEnough = reason && reason !== NEW; // it contains the class
      const line = PE.el("p", { class: "next-why" }, isEnough ? reason : [reason, nearest].filter((text) => text).join("; "));
      if (rows.length === 1) {
        PE.clear(body).append(PE.el("div", { class: "next-one" },
          PE.el("button", { class: "judge-picture", title: "Show this image with all that is known of it",
            "aria-label": `Show ${PE.images.id[rows[0]]}`, onclick: () => PE.detail(rows[0]) }, PE.thumb(rows[0], PE.largeSide(section))),
          PE.el("div", null, PE.el("h3", null, PE.images.id[rows[0]]), line, buttons(), steps())));
        return;
      }
      const makeTile = (row) => PE.tickTile(row, { isTicked: (one) => odd.has(one), toggle, what: "Tick off", size: 112 });
      PE.clear(body).append(
        PE.el("h3", null, `${PE.plural(rows.length, "image")}, probably of one kind`), line, buttons(), steps(),
        PE.el("p", { class: "soft" }, "A click ticks off an odd image; it is shown alone afterwards. ⤢ shows an image."),
        PE.grid(rows, { makeTile }));
    };
    const drawEnd = () => PE.clear(body).append(PE.el("div", { class: "finished" },
      PE.el("h3", null, entries.length ? "The end of the queue" : "Every image of the queue is decided"),
      PE.el("p", null, entries.length ? `${PE.plural(entries.length, "group or image", "groups or images")} before this.`
        : PE.live ? "No image without a label is left."
          : "Download corrections.csv and apply it, then make the page again: it shows the images that teach most then. "
            + "With plankton-embed review, the queue follows every label at once."),
      PE.el("div", { class: "bar" }, PE.csvButton("corrections.csv", PE.CORRECTIONS, PE.store.corrections)), steps()));
    const draw = () => {
      const labels = PE.images.label;
      let without = 0;
      let given = 0;
      for (let row = 0; row < labels.length; row += 1) {
        if (isOpen(row)) without += 1;
        else if (PE.store.before(row) < 0) given += 1;
      }
      count.textContent = `${given.toLocaleString("en")} decided, ${PE.plural(without, "image")} without a label`;
      bar.max = Math.max(1, given + without);
      bar.value = given;
      mode.setAttribute("aria-pressed", String(isSingle));
      const isInside = body.contains(document.activeElement);
      const pressed = isInside ? document.activeElement.closest(".tile") : null;
      if (at < entries.length) drawEntry(entries[at]);
      else drawEnd();
      const again = pressed && body.querySelector(`.tile[data-row="${pressed.dataset.row}"] .tile-button`);
      if (isInside) (again || body).focus({ preventScroll: true });
    };
    const intro = PE.live ? "The queue follows every label at once."
      : "This page is a file: the order does not follow the labels (with plankton-embed review it does).";
    section.append(
      PE.el("h2", null, "Next to label"),
      PE.el("p", null, `The images whose labels teach most: kinds without labels first, then unsure ones. ${intro}`),
      PE.el("div", { class: "progress" }, bar, count), body,
      PE.hints([["G", "take the nearest class"], ["H", "the second"], ["R", "other label"], ["K", "leave without label"],
        ["D", "delete"], ["U", "undo"], ["←", ""], ["→", "move without deciding"], ["O", "one at a time"]]));
    PE.ignoreHeld(section);
    PE.keys(actions, section);
    PE.refresh("queue", () => run.isBusy || follow());
    rebuild();
    draw();
    PE.focusAfterTab("queue", body);
  };
})();
