"use strict";

// Groups of similar images without label: pull out the odd ones, one word names the rest.
(() => {
  const FIRST_CARDS = 60;
  const N_CENTRAL = 8;
  const STYLE = `
.group-cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 230px), 1fr)); gap: 10px; }
.groups-body { scroll-margin-top: 56px; }
.group-card { text-align: left; padding: 8px 10px; display: flex; flex-direction: column; align-items: flex-start; width: 100%;
  overflow-wrap: anywhere; }
.group-card.named { border-color: var(--good); }
.group-card .pictures { display: flex; gap: 4px; margin: 4px 0; overflow: hidden; }
.group-card .given { color: var(--good); font-weight: 600; }
.group-name { display: flex; flex-wrap: wrap; gap: 8px; align-items: center; margin: 0 0 6px; }
.group-name input { flex: 0 1 280px; min-width: 0; }
.central { display: flex; flex-wrap: wrap; gap: 4px; }
.tile.pulled .thumb { opacity: .35; }
.tile.pulled .tile-button { outline: 3px dashed var(--bad); outline-offset: -3px; }
.tile.pulled .tile-button::after { content: "✕"; content: "✕" / ""; position: absolute; left: 4px; top: 4px; background: var(--bad);
  color: var(--bg); border-radius: 3px; width: 20px; line-height: 20px; text-align: center; }`;

  PE.part({ id: "groups", title: "Groups", show: (section) => show(section, PE.data.parts.groups) });

  // Return a tile whose click ticks it; `isTicked(row)`, `toggle(row)`; a small button shows the image.
  PE.tickTile = (row, { isTicked, toggle, kind = "pulled", what = "Pull out", size = 96 }) => {
    const tile = PE.tile(row, { size, onclick: () => toggle(row) });
    const freshen = () => {
      tile.classList.toggle(kind, isTicked(row));
      const button = tile.querySelector(".tile-button");
      button.setAttribute("aria-pressed", String(isTicked(row)));
      button.title = `${what}: ${PE.images.id[row]}`;
    };
    tile.freshen = freshen;
    tile.append(PE.el("button", { class: "tile-detail", title: "Show this image",
      "aria-label": `Show ${PE.images.id[row]}`, onclick: () => PE.detail(row) }, "⤢"));
    freshen();
    return tile;
  };

  const show = (section, part) => {
    document.head.append(PE.el("style", null, STYLE));
    const n = part.cluster.length;
    const members = (at) => Array.from(part.rows.slice(part.start[at], part.start[at + 1])); // central first
    const groupOf = new Map(); // row -> position of its group
    for (let at = 0; at < n; at += 1) for (const row of members(at)) groupOf.set(row, at);
    const ticked = new Set(); // pulled out, in groups without a name
    const run = PE.oneAtATime();
    let open = null; // position of the group that is shown; null: all
    let shown = FIRST_CARDS;

    // ---------------------------------------------------------------------------------------- what holds

    const isOfGroup = (row, at) => {
      const held = PE.store.of(row);
      return held !== null && held.action === "relabel" && held.cluster === part.cluster[at];
    };
    const known = []; // names of groups, until the next decision
    const nameOf = (at) => {
      if (known[at] === undefined) {
        const row = members(at).find((one) => isOfGroup(one, at));
        known[at] = row === undefined ? "" : PE.store.of(row).label;
      }
      return known[at];
    };
    PE.store.onChange(() => (known.length = 0));
    // Images that do not get the name of their group: pulled out, or with another decision of their own.
    const isPulled = (row) => {
      const at = groupOf.get(row);
      const held = PE.store.of(row);
      const name = nameOf(at);
      if (!name) return ticked.has(row) || held !== null;
      return !isOfGroup(row, at) && !(held !== null && held.action === "relabel" && held.label === name);
    };
    const names = () => Array.from({ length: n }, (_, at) => {
      const name = nameOf(at);
      const pulled = members(at).filter(isPulled).map((row) => PE.images.id[row]);
      return { cluster: part.cluster[at], n_images: part.n_images[at], name, pulled_out: JSON.stringify(pulled) };
    });

    // ---------------------------------------------------------------------------------------- decisions

    const nameGroup = (at, name, isTyped) => run(async () => {
      const cluster = part.cluster[at];
      const free = members(at).filter((row) => isOfGroup(row, at) || (PE.store.of(row) === null && !ticked.has(row)));
      if (!free.length) {
        PE.note("Every image of this group is pulled out or decided.");
        return;
      }
      const wasNamed = nameOf(at) !== "";
      await PE.store.decide({ action: "relabel", label: name, cluster, object_ids: free.map((row) => PE.images.id[row]) });
      const next = wasNamed ? null : nextUnnamed(at);
      enter(next === null ? at : next);
      if (isTyped && next !== null) section.querySelector(".group-name input").focus({ preventScroll: true });
    });
    const nextUnnamed = (from) => {
      for (let step = 1; step < n; step += 1) if (!nameOf((from + step) % n)) return (from + step) % n;
      return null;
    };
    const toggle = (row) => run(async () => {
      const at = groupOf.get(row);
      const name = nameOf(at);
      const held = PE.store.of(row);
      const ids = [PE.images.id[row]];
      if (!name && held === null) {
        if (!ticked.delete(row)) ticked.add(row);
      } else if (isOfGroup(row, at)) {
        ticked.add(row);
        await PE.store.decide({ action: "keep", cluster: part.cluster[at], object_ids: ids }); // as it was, without the name
      } else if (name && (held === null || held.action === "keep")) {
        ticked.delete(row);
        await PE.store.decide({ action: "relabel", label: name, cluster: part.cluster[at], object_ids: ids });
      } else PE.note("This image has a decision of its own, which stays.");
      freshen();
    });
    const undone = PE.watchUndo();
    const follow = () => {
      const row = (undone() || []).find((one) => groupOf.has(one));
      if (row !== undefined && open !== null) open = groupOf.get(row); // show the group that was undone
      draw();
    };
    const undo = () => run(PE.undo).then(follow);

    // ---------------------------------------------------------------------------------------- drawing

    const body = PE.el("div", { tabindex: -1, class: "groups-body" });
    const count = PE.el("span", { class: "count", role: "status" });
    const bar = PE.el("progress", { max: n, "aria-label": "Named" });
    const title = (at) => `Group ${part.cluster[at]}: ${PE.plural(members(at).length, "image")}`;

    const card = (at) => {
      const name = nameOf(at);
      const nearest = part.nearest[at];
      return PE.el("button", { class: `group-card${name ? " named" : ""}`, dataset: { group: part.cluster[at] },
        onclick: () => enter(at) },
      PE.el("strong", null, title(at)),
      PE.el("span", { class: "pictures", "aria-hidden": "true" }, members(at).slice(0, 4).map((row) => PE.thumb(row, 48))),
      name ? PE.el("span", { class: "given" }, name)
        : PE.el("span", { class: "soft" }, part.name[at] ? `named ${part.name[at]} in cluster_names.csv`
          : nearest ? `nearest class: ${nearest}` : "no name yet"));
    };
    const drawAll = () => {
      const more = PE.el("button", { class: "more", onclick: () => ((shown += FIRST_CARDS), drawAll()) },
        `Show more (${n - shown} not shown)`);
      PE.clear(body).append(PE.el("div", { class: "group-cards" },
        Array.from({ length: Math.min(shown, n) }, (_, at) => card(at))), shown < n ? more : "");
    };

    const makeName = (at) => {
      const name = nameOf(at);
      const suggestions = [...new Set([part.name[at], part.nearest[at]].filter((text) => text && text !== name))];
      const fault = PE.el("p", { class: "fault", role: "alert" });
      const input = PE.el("input", { type: "text", list: "group-classes", autocomplete: "off", spellcheck: "false",
        "aria-label": `Name of group ${part.cluster[at]}`, placeholder: "Type a name, then Enter", value: name });
      const submit = () => {
        const text = input.value.normalize("NFC").replace(/\s+/g, " ").trim();
        if (!text) fault.textContent = "Type a name first.";
        else if (PE.isUnknown(text)) fault.textContent = PE.UNKNOWN_FAULT;
        else if (text !== name) nameGroup(at, text, true);
      };
      input.addEventListener("keydown", (event) => {
        if (event.isComposing || event.repeat) return;
        if (event.key === "Enter") submit();
        else if (event.key === "Escape") body.focus({ preventScroll: true });
      });
      return PE.el("div", null, PE.el("div", { class: "group-name judge-buttons" },
        input, PE.el("datalist", { id: "group-classes" }, PE.store.names()
          .map((text) => PE.el("option", { value: text }))),
        PE.el("button", { class: "primary", onclick: submit }, name ? "Rename" : "Name the group"),
        suggestions.map((text, position) => (position ? PE.el("button", { onclick: () => nameGroup(at, text) }, text)
          : PE.keyButton(text, "G", () => nameGroup(at, text), { class: "take-guess", title: "Name the group so" })))),
      fault);
    };
    const drawGroup = (at) => {
      const rows = members(at);
      const makeTile = (row) => PE.tickTile(row, { isTicked: isPulled, toggle });
      const status = PE.el("p", { class: "group-status", role: "status" });
      const step = (by) => enter((at + by + n) % n);
      PE.clear(body).append(
        PE.el("div", { class: "bar judge-buttons" },
          PE.el("button", { onclick: () => enter(null) }, "All groups"),
          PE.keyButton("Previous", "←", () => step(-1), { disabled: n < 2 }),
          PE.keyButton("Next", "→", () => step(1), { disabled: n < 2 }),
          PE.keyButton("Undo", "U", undo, { disabled: !PE.store.last() })),
        PE.el("h3", null, title(at)), status, makeName(at),
        PE.el("h3", null, "Most typical"),
        PE.el("div", { class: "central" }, rows.slice(0, N_CENTRAL).map((row) => PE.thumb(row, 64))),
        PE.el("h3", null, "All images, odd ones first"),
        PE.el("p", { class: "soft" }, "A click pulls an image out: it does not get the name of the group. ⤢ shows it."),
        PE.grid([...rows].reverse(), { makeTile, limit: 120 }));
      freshen();
    };
    const freshen = () => {
      const done = Array.from({ length: n }, (_, at) => nameOf(at)).filter((name) => name).length;
      count.textContent = `${done} of ${PE.plural(n, "group")} named`;
      bar.value = done;
      if (open === null) return;
      const rows = members(open);
      const name = nameOf(open);
      const pulled = rows.filter(isPulled).length;
      body.querySelector(".group-status").textContent = name
        ? `Named ${name}: ${PE.plural(rows.length - pulled, "image")}; ${pulled} not (pulled out, or decided singly).`
        : `No name yet. ${pulled ? `${pulled} pulled out or decided singly. ` : ""}`
          + `${part.nearest[open] ? `Nearest class: ${part.nearest[open]}.` : ""}`;
      for (const tile of body.querySelectorAll(".tile")) if (tile.freshen) tile.freshen();
    };
    const draw = () => {
      const isInside = body.contains(document.activeElement);
      if (open === null) drawAll();
      else drawGroup(open);
      freshen();
      if (isInside) body.focus({ preventScroll: true });
    };
    const enter = (at) => {
      const before = open;
      open = at;
      draw();
      body.focus({ preventScroll: true });
      if (at === null && before !== null) {
        const own = body.querySelector(`[data-group="${part.cluster[before]}"]`);
        if (own) own.focus();
      } else body.scrollIntoView({ block: "start" });
    };

    section.append(
      PE.el("h2", null, "Groups of images without label"),
      PE.el("p", null, "Similar images are in one group. Open a group, pull out the odd images, and name the rest by one "
        + "word. An image with a decision of its own keeps it. Undo takes a name away."),
      PE.el("div", { class: "progress" }, bar, count,
        part.folder ? PE.csvButton("cluster_names.csv", ["cluster", "n_images", "name", "pulled_out"], names) : ""), body,
      PE.hints([["N", "name"], ["G", "take the nearest class"], ["U", "undo"], ["←", ""], ["→", "other groups"],
        ["A", "all groups"]]));
    PE.ignoreHeld(section);
    PE.keys({
      ArrowLeft: () => open !== null && enter((open - 1 + n) % n),
      ArrowRight: () => enter(open === null ? 0 : (open + 1) % n),
      n: () => open !== null && section.querySelector(".group-name input").focus(),
      g: () => open !== null && section.querySelector(".group-name .take-guess")?.click(),
      u: undo,
      a: () => enter(null),
    }, section);
    PE.refresh("groups", () => run.isBusy || follow());
    draw();
    PE.focusAfterTab("groups", body);
  };
})();
