"use strict";

// Pictures: thumbnails, tiles, grids, and the panel of one image.
(() => {
  const addresses = []; // of the sheets

  const sheetAddress = (number) => {
    if (!addresses[number]) {
      const [head, base64] = PE.data.thumbs.sheets[number].split(",");
      const type = head.slice(5).split(";")[0];
      addresses[number] = URL.createObjectURL(new Blob([PE.bytes(base64)], { type }));
      PE.data.thumbs.sheets[number] = null; // the text is not needed any more
    }
    return addresses[number];
  };

  // Return the picture of an image, or a grey square.
  PE.thumb = (row, size = 64) => {
    const id = PE.images.id[row];
    const style = { width: `${size}px`, height: `${size}px` };
    if (PE.live) {
      const source = size > 128 ? `image/${row}` : `thumb/${row}`;
      return PE.el("img", { class: "thumb", loading: "lazy", src: source, alt: id, width: size, height: size });
    }
    const thumbs = PE.data.thumbs;
    const at = thumbs ? thumbs.rows[row] : -1;
    if (at >= 0) {
      const within = at % thumbs.per_sheet;
      const x = within % thumbs.per_row;
      const y = Math.floor(within / thumbs.per_row);
      style["background-image"] = `url("${sheetAddress(Math.floor(at / thumbs.per_sheet))}")`;
      style["background-size"] = `${thumbs.per_row * size}px auto`;
      style["background-position"] = `${-x * size}px ${-y * size}px`;
    }
    return PE.el("span", { class: at >= 0 ? "thumb" : "thumb none", role: "img", "aria-label": id, style });
  };

  const ACTIONS = { keep: "kept", relabel: "relabelled", delete: "deleted" };

  // Show label, guess and decision of a tile as they now are.
  const freshen = (tile) => {
    const row = Number(tile.dataset.row);
    const held = PE.store.of(row);
    for (const word of Object.values(ACTIONS)) tile.classList.toggle(word, Boolean(held) && ACTIONS[held.action] === word);
    tile.querySelector(".tile-decision").textContent = held ? ACTIONS[held.action] : "";
    tile.querySelector(".tile-label").replaceChildren(...PE.breakable(PE.className(PE.images.label[row]) || "(no label)"));
    const guess = PE.images.guess[row];
    const differs = guess >= 0 && guess !== PE.images.label[row];
    tile.querySelector(".tile-guess").replaceChildren(...(differs ? PE.breakable(`→ ${PE.className(guess)}`) : []));
    tile.querySelector("button").setAttribute("aria-label", `${PE.images.id[row]}: ${PE.caption(row)}`);
  };
  PE.store.onChange(() => document.querySelectorAll(".tile[data-row]").forEach(freshen));

  // Return a figure of one image: a button with its picture, label, guess where it differs, note and decision.
  PE.tile = (row, { note = null, onclick = PE.detail, size = 96 } = {}) => {
    const tile = PE.el("figure", { class: "tile", dataset: { row } },
      PE.el("button", { class: "tile-button", title: PE.images.id[row], onclick: () => onclick(row, tile) },
        PE.thumb(row, size), PE.el("span", { class: "tile-decision" })),
      PE.el("figcaption", null, PE.el("span", { class: "tile-label" }), PE.el("span", { class: "tile-guess" }),
        note === null ? null : PE.el("span", { class: "tile-note" }, note)));
    freshen(tile);
    return tile;
  };

  // Return tiles of many images, some at first and more on a click; `title` may be null.
  PE.grid = (rows, { title = null, note = null, limit = 200, makeTile = PE.tile } = {}) => {
    const tiles = PE.el("div", { class: "tiles" });
    const more = PE.el("button", { class: "more", onclick: () => show() });
    let shown = 0;
    const show = () => {
      const next = Array.from(rows.slice(shown, shown + limit));
      tiles.append(...next.map((row) => makeTile(row, { note: note ? note(row) : null })));
      shown += next.length;
      more.hidden = shown >= rows.length;
      more.textContent = `Show more (${(rows.length - shown).toLocaleString("en")} not shown)`;
    };
    show();
    return PE.el("div", { class: "grid" }, title === null ? null : PE.el("h3", null, title),
      rows.length ? null : PE.el("p", { class: "soft" }, "No images."), tiles, more);
  };

  // Return the buttons that decide about rows; `rows()` is read at the click, `first(row)` is offered first as a name.
  PE.decisionButtons = (rows, { all = false, done = null } = {}) => {
    const ids = () => rows().map((row) => PE.images.id[row]);
    const decide = async (decision) => {
      await PE.store.decide({ ...decision, object_ids: ids() });
      if (done) done();
    };
    const once = (event) => event.detail < 2; // the second click of a double click decides nothing
    const word = (text) => (all ? `${text} all` : text);
    const what = () => (rows().length === 1 ? PE.images.id[rows()[0]] : `${rows().length} images`);
    return [
      PE.el("button", { onclick: async () => {
        const label = await PE.pickClass({ title: `New label of ${what()}`, first: PE.className(PE.images.guess[rows()[0]]) });
        if (label !== null) await decide({ action: "relabel", label });
      } }, word("Relabel")),
      PE.el("button", { onclick: (event) => once(event) && decide({ action: "keep" }) }, word("Keep")),
      PE.el("button", { class: "danger", onclick: async (event) => {
        const sure = once(event) && (!all || (await PE.confirm(`Leave out ${what()}? The image files are not changed.`, "Delete")));
        if (sure) await decide({ action: "delete" });
      } }, word("Delete")),
    ];
  };

  // Show many images in the side panel; a click ticks an image, and buttons decide about those that are ticked.
  PE.openGrid = (rows, title) => {
    const list = Array.from(rows);
    const ticked = new Set();
    const count = PE.el("span", { class: "count", "aria-live": "polite" });
    const buttons = PE.decisionButtons(() => [...ticked], { all: true, done: () => tick([], true) });
    const tick = (changed, only = false) => {
      if (only) ticked.clear();
      for (const row of changed) if (!ticked.delete(row)) ticked.add(row);
      draw();
    };
    const draw = () => {
      count.textContent = `${ticked.size.toLocaleString("en")} of ${PE.plural(list.length, "image")} ticked`;
      for (const button of buttons) button.disabled = ticked.size === 0;
      for (const tile of grid.querySelectorAll(".tile")) {
        const is = ticked.has(Number(tile.dataset.row));
        tile.classList.toggle("ticked", is);
        tile.querySelector(".tile-button").setAttribute("aria-pressed", String(is));
      }
    };
    const makeTile = (row, options) => {
      const tile = PE.tile(row, { ...options, onclick: () => tick([row]) });
      tile.append(PE.el("button", { class: "tile-detail", title: "Show this image",
        "aria-label": `Show ${PE.images.id[row]}`, onclick: () => PE.detail(row) }, "⤢"));
      return tile;
    };
    const grid = PE.grid(list, { makeTile });
    const panel = PE.dialog(title, [
      PE.el("div", { class: "bar sticky" },
        PE.el("button", { onclick: () => tick(list, true) }, "Tick all"),
        PE.el("button", { onclick: () => tick([], true) }, "Tick none"), count, buttons),
      PE.el("p", { class: "soft" }, "A click ticks an image. ⤢ shows it with its most similar images."), grid,
    ], { kind: "side" });
    grid.addEventListener("click", draw); // tiles that "Show more" added
    draw();
    return panel;
  };

  const neighborsOf = (row) => {
    const map = PE.data.parts.map;
    if (!map || !map.neighbors || !map.neighbors.length) return [];
    const k = map.neighbors.length / PE.images.n;
    return Array.from(map.neighbors.slice(row * k, (row + 1) * k));
  };

  // Show one image in the side panel, with what is known of it and its most similar images.
  PE.detail = (row) => {
    const facts = PE.el("dl", { class: "facts" });
    const fact = (name, value) => {
      if (value !== "" && value !== null && value !== undefined) facts.append(PE.el("dt", null, name), PE.el("dd", null, value));
    };
    const draw = () => {
      const held = PE.store.of(row);
      PE.clear(facts);
      fact("id", PE.images.id[row]);
      fact("label", PE.className(PE.images.label[row]) || "(no label)");
      fact("guess", PE.className(PE.images.guess[row]));
      if (PE.images.guess[row] >= 0) fact("distance", PE.number(PE.images.distance[row]));
      fact("second guess", PE.className(PE.images.second[row]));
      fact("split", PE.data.splits[PE.images.split[row]]);
      fact("sample", PE.images.sample[row] < 0 ? "" : PE.data.samples[PE.images.sample[row]]);
      fact("decision", held ? `${ACTIONS[held.action]}${held.label ? ` → ${held.label}` : ""}` : "");
    };
    draw();
    const others = neighborsOf(row).slice(0, 10);
    const panel = PE.dialog(PE.images.id[row], [
      PE.el("div", { class: "detail" }, PE.thumb(row, 256), facts),
      PE.el("div", { class: "bar" }, PE.decisionButtons(() => [row], { done: () => panel.isConnected && draw() })),
      others.length ? PE.grid(others, { title: "Most similar images" }) : null,
    ], { kind: "side" });
    return panel;
  };
})();
