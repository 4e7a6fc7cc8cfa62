"use strict";

// The map: each image is a point (Bokeh, WebGL). The legend isolates classes; a picture is shown beside the pointer; box
// and lasso open images as a grid; search; arrow keys go from point to point.
(() => {
  const MISSING = -32768; // the image is not on this axis
  const REACH = 12; // px between the pointer and a point that it shows
  const MANY = 20; // entries of the legend above which it has a search
  const MOST_LISTED = 300; // entries of the legend at a time
  const SCORE_COLORS = ["#4477cc", "#8a7fc0", "#b07f9a", "#d0794f", "#e06000", "#aa0044"]; // low to high, contradiction
  const SCORE_MARKERS = ["circle", "square", "triangle", "diamond", "star", "asterisk"];
  const N_SCORES = 5;
  const KEYS = "Arrow keys go from point to point, Enter opens the image, + and − zoom, 0 shows all, Escape clears.";

  const STYLE = `
    .map-body { display: grid; grid-template-columns: minmax(0, 1fr) 270px; gap: 16px; align-items: start; }
    .map-plot { height: clamp(340px, calc(100dvh - 250px), 1000px); border: 1px solid var(--line); border-radius: 6px; overflow: hidden; }
    .map-canvas { width: calc(100% + 1px); height: calc(100% + 1px); margin: -1px 0 0 -1px; } /* Bokeh never clears its first pixels */
    .map-side { display: flex; flex-direction: column; gap: 6px; max-height: clamp(340px, calc(100dvh - 250px), 1000px); }
    .map-side input { width: 100%; }
    .map-legend { list-style: none; margin: 0; padding: 3px; overflow: auto; scrollbar-width: thin; }
    .map-legend button { display: grid; grid-template-columns: 18px minmax(0, 1fr) auto; gap: 7px; align-items: center; width: 100%; min-height: 28px; padding: 2px 7px; text-align: left; background: none; border-color: transparent; line-height: 1.2; overflow-wrap: anywhere; }
    .map-legend button[aria-pressed="true"] { background: var(--mark) !important; color: var(--fg) !important; border-color: var(--accent) !important; }
    .map-legend.some button[aria-pressed="false"] { opacity: .6; }
    .map-legend svg { width: 16px; height: 16px; }
    .map-tip { position: fixed; z-index: 7; max-width: 290px; display: flex; gap: 10px; padding: 8px; background: var(--bg); border: 1px solid var(--line); border-radius: 6px; box-shadow: 0 2px 10px var(--shade); pointer-events: none; font-size: .88rem; line-height: 1.3; overflow-wrap: anywhere; }
    .map-tip .facts { display: block; margin: 0; min-width: 0; }
    .map-tip strong { display: block; }
    .map-controls label { display: inline-flex; gap: 6px; align-items: center; }
    .map-controls .group { display: inline-flex; gap: 4px; }
    .map-found { display: flex; flex-wrap: wrap; gap: 4px 10px; align-items: baseline; margin: 0 0 8px; }
    .map-hidden { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
    @media (max-width: 760px) {
      .map-body { grid-template-columns: minmax(0, 1fr); }
      .map-plot { height: 58dvh; }
      .map-side { max-height: none; }
      .map-legend { max-height: 46dvh; border: 1px solid var(--line); border-radius: 6px; }
    }`;

  // ---------------------------------------------------------------------------------------------- what points show

  // Return suspects by score, in five steps; the last category has those whose label contradicts that of a copy.
  const readScores = ({ rows, score }) => {
    const scores = Array.from(score, (value) => (value === null ? NaN : value));
    const real = scores.filter((value) => !Number.isNaN(value));
    const low = Math.min(...real);
    const width = (Math.max(...real) - low) / N_SCORES || 1;
    const of = new Int32Array(PE.images.n).fill(-1);
    rows.forEach((row, place) => {
      const bin = Math.min(Math.floor((scores[place] - low) / width), N_SCORES - 1);
      of[row] = Number.isNaN(scores[place]) ? N_SCORES : bin;
    });
    const edge = (bin) => PE.number(low + bin * width);
    const names = Array.from({ length: N_SCORES }, (_, bin) => `${edge(bin)} to ${edge(bin + 1)}`);
    return { names: [...names, "contradiction"], of };
  };

  const readGroups = ({ cluster, name, start, rows }) => {
    const of = new Int32Array(PE.images.n).fill(-1);
    for (let group = 0; group < cluster.length; group++) {
      for (const row of rows.slice(start[group], start[group + 1])) of[row] = group;
    }
    return { names: Array.from(cluster, (number, group) => `group ${number}${name[group] ? `: ${name[group]}` : ""}`), of };
  };

  // Return what points can be coloured by: {id, name, none, read(): {names, of}}; `of` is the category of each image.
  const listColorings = () => {
    const { images, data } = PE;
    const { suspects, groups } = data.parts;
    const any = (values) => values.some((value) => value >= 0);
    const list = [];
    if (any(images.label) || !any(images.guess)) {
      list.push({ id: "label", name: "label", none: "no label", read: () => ({ names: PE.classes, of: images.label }) });
    }
    if (any(images.guess)) {
      list.push({ id: "guess", name: "guess", none: "no guess", read: () => ({ names: PE.classes, of: images.guess }) });
    }
    if (suspects) {
      list.push({
        id: "suspects", name: "suspect score", none: "not a suspect", read: () => readScores(data.parts.suspects),
        color: (bin) => SCORE_COLORS[bin], marker: (bin) => SCORE_MARKERS[bin],
      });
    }
    if (groups) {
      list.push({ id: "group", name: "group", none: "in no group", read: () => readGroups(data.parts.groups) });
    }
    if (data.samples.length) {
      list.push({ id: "sample", name: "sample", none: "no sample", read: () => ({ names: data.samples, of: images.sample }) });
    }
    if (data.splits.length > 1) {
      list.push({ id: "split", name: "split", none: "", read: () => ({ names: data.splits, of: images.split }) });
    }
    return list;
  };

  const byClass = ({ id }) => id === "label" || id === "guess";

  // ---------------------------------------------------------------------------------------------- the part

  const show = async (section) => {
    const part = PE.data.parts.map;
    const n = PE.images.n;
    let colorings = listColorings();
    let pair = part.axes[0];
    let coloring = colorings[0];
    let names = [];
    let of = null; // the category of each image, -1: none
    let x = null; // coordinates of each image, nan where it is not on the map
    let y = null;
    let visible = []; // rows in the isolated categories
    let focused = -1;
    let hovered = -1;
    let chosen = null; // rows in the box or lasso
    const isolated = new Set(); // categories; empty: all

    // elements
    const choice = (title, options, onchange) => {
      const select = PE.el("select", { onchange: () => onchange(options[select.selectedIndex]) },
        options.map((option) => PE.el("option", null, option.name)));
      return [PE.el("label", null, title, select), select];
    };
    const [axesLabel] = choice("Axes", part.axes, (option) => setAxes(option));
    const [colorLabel, colorSelect] = choice("Colour by", colorings, () => setColoring(colorings[colorSelect.selectedIndex]));
    const toolButtons = [["pan", "Move"], ["box", "Box"], ["lasso", "Lasso"]].map(([id, title]) =>
      PE.el("button", { dataset: { tool: id }, "aria-pressed": String(id === "pan"), onclick: () => setTool(id) }, title));
    const zoomButtons = [["−", "Zoom out", () => zoom(1.5)], ["+", "Zoom in", () => zoom(1 / 1.5)], ["Reset", "Reset the view", () => reset()]]
      .map(([text, title, onclick]) => PE.el("button", { title, "aria-label": title, onclick }, text));
    const classList = PE.el("datalist", { id: "map-classes" });
    const search = PE.el("input", {
      type: "search", list: "map-classes", "aria-label": "Search for a class or an id", placeholder: "Class or id", size: 18,
      autocomplete: "off", spellcheck: "false",
    });
    const searchForm = PE.el("form", { class: "group", role: "search", onsubmit: (event) => {
      event.preventDefault();
      find(search.value.trim());
    } }, search, classList, PE.el("button", { type: "submit" }, "Find"));
    const found = PE.el("div", { class: "map-found", role: "status" });
    const selection = PE.el("div", { class: "map-found" });
    const canvas = PE.el("div", { class: "map-canvas" });
    const plotElement = PE.el("div", {
      class: "map-plot", tabindex: 0, role: "application", "aria-label": `Map of ${n} images. ${KEYS}`,
      onkeydown: (event) => pressKey(event), onblur: () => hideTip(),
      onfocusin: () => plotElement.focus({ preventScroll: true }), // not the drawing inside
    }, canvas);
    const spoken = PE.el("span", { class: "map-hidden", "aria-live": "polite" });
    const filter = PE.el("input", { type: "search", "aria-label": "Search the legend", placeholder: "Search the legend", oninput: () => drawLegend(listed.counts, listed.looks) });
    const all = PE.el("button", { onclick: () => isolate(null) }, "Show all");
    const legend = PE.el("ul", { class: "map-legend" });
    const missing = PE.el("p", { class: "soft" });
    const tip = PE.el("div", { class: "map-tip", hidden: true });
    section.append(
      PE.el("style", null, STYLE),
      PE.el("div", { class: "bar map-controls" }, axesLabel, colorLabel, PE.el("span", { class: "group" }, toolButtons),
        PE.el("span", { class: "group" }, zoomButtons), searchForm),
      found, selection,
      PE.el("div", { class: "map-body" },
        PE.el("div", null, plotElement, PE.el("p", { class: "soft" }, "Click a point to open its image. ", KEYS), missing),
        PE.el("div", { class: "map-side" }, all, filter, legend,
          PE.el("p", { class: "soft" }, "A click shows one entry alone, Shift and a click one more."))),
      tip, spoken,
    );

    const { plot, ranges, axes, tools, rest, rings, layers, layerOf, paint, embed } = MapPlot.makePlot();
    let view = null; // the plot in the page

    // ------------------------------------------------------------------------------------------ draw

    const readColumn = (column) => {
      const { values, middle, step } = part.columns[column];
      return Float64Array.from(values, (value) => (value === MISSING ? NaN : middle + step * value));
    };

    const setAxes = (option) => {
      pair = option;
      [x, y] = [readColumn(pair.x), readColumn(pair.y)];
      [pair.x, pair.y].forEach((column, axis) => (axes[axis].axis_label = part.columns[column].title));
      const n_missing = x.reduce((count, value, row) => count + (Number.isNaN(value) || Number.isNaN(y[row])), 0);
      missing.textContent = n_missing ? `${PE.plural(n_missing, "image")} of ${PE.number(n)} not on this map.` : "";
      chosen = null;
      reset();
      draw();
    };

    const setColoring = (option) => {
      coloring = option;
      colorSelect.selectedIndex = colorings.indexOf(option);
      isolated.clear();
      filter.value = "";
      draw();
    };

    // Offer what has come since: the first labels and guesses, parts that were computed later.
    const offer = () => {
      colorings = listColorings();
      PE.clear(colorSelect).append(...colorings.map((option) => PE.el("option", null, option.name)));
      const same = colorings.find(({ id }) => id === coloring.id);
      if (!same) return setColoring(colorings[0]);
      coloring = same;
      colorSelect.selectedIndex = colorings.indexOf(same);
      draw();
    };

    // Draw all points and the legend as labels, guesses, isolated categories and chosen images now are.
    const draw = () => {
      ({ names, of } = coloring.read());
      const counts = new Map();
      const color = coloring.color || PE.color;
      const marker = coloring.marker || PE.marker;
      const isFaint = !chosen && !byClass(coloring) && !isolated.has(-1); // images without a category are most of them, and not the subject
      const looks = new Map([[-1, { color: PE.color(-1), marker: isFaint ? "faint" : "ring" }]]);
      for (let i = 0; i < names.length; i++) looks.set(i, { color: color(i), marker: marker(i) });
      const points = {};
      const grey = { x: [], y: [] };
      visible = [];
      for (let row = 0; row < n; row++) {
        if (Number.isNaN(x[row]) || Number.isNaN(y[row])) continue;
        const held = PE.store.of(row);
        const category = of[row];
        const deleted = held !== null && held.action === "delete";
        if (!deleted) counts.set(category, (counts.get(category) || 0) + 1);
        const isVisible = !deleted && (isolated.size === 0 || isolated.has(category));
        if (isVisible) visible.push(row);
        if (!isVisible || (chosen && !chosen.has(row)) || (isFaint && category < 0)) {
          grey.x.push(x[row]);
          grey.y.push(y[row]);
          continue;
        }
        const look = looks.get(category);
        const to = (points[look.marker] = points[look.marker] || { x: [], y: [], color: [] });
        to.x.push(x[row]);
        to.y.push(y[row]);
        to.color.push(look.color);
      }
      const size = MapPlot.pointSize(Object.values(points).reduce((sum, { color: colors }) => sum + colors.length, 0));
      for (const name of new Set([...Object.keys(points), ...Object.keys(layers)])) {
        const layer = layerOf(name);
        if (layer.glyph.size.value !== size) layer.glyph.size = { value: size };
        if (points[name] || layer.source.data.x.length) layer.source.data = points[name] || { x: [], y: [], color: [] };
      }
      rest.glyph.setv({ size: { value: Math.max(3, MapPlot.pointSize(grey.x.length) - 1) }, fill_color: { value: PE.color(-1) } });
      if (grey.x.length || rest.source.data.x.length) rest.source.data = grey;
      drawRings();
      drawLegend(counts, looks);
      drawSelection();
    };

    // Mark the focused point and its ten nearest images.
    const drawRings = () => {
      const rows = focused < 0 ? [] : [focused, ...neighborsOf(focused)].filter((row) => !Number.isNaN(x[row]) && !Number.isNaN(y[row]));
      rings.source.data = {
        x: rows.map((row) => x[row]), y: rows.map((row) => y[row]),
        size: rows.map((row) => (row === focused ? 20 : 12)),
        color: rows.map((row) => PE.cssVariable(row === focused ? "--fg" : "--accent")),
      };
    };

    const neighborsOf = (row) => {
      const k = part.n_neighbors;
      return k ? Array.from(part.neighbors.slice(row * k, (row + 1) * k)) : [];
    };

    let listed = null; // the legend as it is drawn
    const textOf = (category) => (category < 0 ? coloring.none : names[category]);
    const drawLegend = (counts, looks) => {
      listed = { counts, looks };
      const every = [...counts.keys()].sort((a, b) => (a < 0) - (b < 0) || a - b);
      legend.classList.toggle("some", isolated.size > 0);
      all.disabled = isolated.size === 0;
      filter.hidden = every.length <= MANY;
      const text = filter.hidden ? "" : filter.value.trim().toLowerCase();
      const matching = every.filter((category) => textOf(category).toLowerCase().includes(text));
      const categories = matching.slice(0, MOST_LISTED);
      const focusedCategory = legend.contains(document.activeElement) ? document.activeElement.dataset.category : null;
      const scrolled = legend.scrollTop;
      PE.clear(legend).append(...categories.map((category) => {
        const { marker, color } = looks.get(category);
        return PE.el("li", null, PE.el("button", {
          dataset: { category }, "aria-pressed": String(isolated.has(category)),
          onclick: (event) => isolate(category, event.shiftKey),
        }, MapPlot.drawSwatch(marker, color), PE.el("span", null, PE.breakable(textOf(category))),
        PE.el("span", { class: "count" }, PE.number(counts.get(category)))));
      }), matching.length > MOST_LISTED
        ? PE.el("li", { class: "soft" }, `and ${PE.number(matching.length - MOST_LISTED)} more: search the legend`) : "");
      legend.scrollTop = scrolled;
      if (focusedCategory !== null) legend.querySelector(`[data-category="${focusedCategory}"]`)?.focus();
      const offered = PE.store.names();
      if (classList.children.length !== offered.length) {
        PE.clear(classList).append(...offered.map((name) => PE.el("option", { value: name })));
      }
    };

    // Show one category alone, or with `more` one more or fewer; the same again, or null: all.
    const isolate = (category, more = false) => {
      const only = isolated.size === 1 && isolated.has(category);
      if (more) {
        if (!isolated.delete(category)) isolated.add(category);
      } else {
        isolated.clear();
        if (category !== null && !only) isolated.add(category);
      }
      chosen = null;
      if (focused >= 0 && isolated.size && !isolated.has(of[focused])) focused = -1;
      draw();
    };

    // ------------------------------------------------------------------------------------------ ranges

    const setRange = (axis, values) => {
      const real = values.filter((value) => !Number.isNaN(value));
      let [low, high] = [Infinity, -Infinity];
      for (const value of real) {
        low = Math.min(low, value);
        high = Math.max(high, value);
      }
      const margin = (high - low || 1) * 0.04;
      ranges[axis].setv({ start: low - margin, end: high + margin });
    };

    const reset = () => {
      setRange(0, x);
      setRange(1, y);
    };

    // Make what is in view larger by a factor, around the focused point or the middle.
    const zoom = (factor) => {
      [x, y].forEach((values, axis) => {
        const { start, end } = ranges[axis];
        const centre = focused >= 0 && isInView(focused) ? values[focused] : (start + end) / 2;
        ranges[axis].setv({ start: centre + (start - centre) * factor, end: centre + (end - centre) * factor });
      });
      hideTip();
    };

    const isInView = (row) => [x[row], y[row]].every((value, axis) => value > ranges[axis].start && value < ranges[axis].end);

    const centre = (row) => {
      [x[row], y[row]].forEach((value, axis) => {
        const half = (ranges[axis].end - ranges[axis].start) / 2;
        ranges[axis].setv({ start: value - half, end: value + half });
      });
    };

    const setTool = (id) => {
      plot.toolbar.active_drag = tools[id];
      for (const button of toolButtons) button.setAttribute("aria-pressed", String(button.dataset.tool === id));
    };

    // ------------------------------------------------------------------------------------------ find points

    const scales = () => ranges.map((range, axis) => (axis ? plot.inner_height : plot.inner_width) / (range.end - range.start));

    // Return the visible row nearest to a place on the map, -1 if there is none within so many px.
    const nearest = (placeX, placeY, reach) => {
      const [sx, sy] = scales();
      let [best, least] = [-1, reach * reach];
      for (const row of visible) {
        const [dx, dy] = [(x[row] - placeX) * sx, (y[row] - placeY) * sy];
        const square = dx * dx + dy * dy;
        if (square <= least && (!chosen || chosen.has(row))) [best, least] = [row, square];
      }
      return best;
    };

    const isAt = (row) => (other) => other !== row && x[other] === x[row] && y[other] === y[row];

    // Return the visible row next to another in a direction (px to the right, px up), -1 if there is none. Of rows at
    // the same place, those after it are to the right, and above.
    const next = (from, [right, up]) => {
      const beneath = right + up > 0 ? visible.find((row) => row > from && isAt(from)(row)) : undefined;
      if (beneath !== undefined) return beneath;
      const [sx, sy] = scales();
      let [best, least] = [-1, Infinity];
      for (const row of visible) {
        const [dx, dy] = [(x[row] - x[from]) * sx, (y[row] - y[from]) * sy];
        const along = dx * right + dy * up;
        const across = Math.abs(dx * up - dy * right);
        if (row !== from && along > 0 && across <= 1.2 * along && along + across < least) [best, least] = [row, along + across];
      }
      return best;
    };

    // Return where a point is in the window, px.
    const position = (row) => {
      const box = view.canvas_view.el.getBoundingClientRect();
      const { x_scale, y_scale } = view.frame;
      return { x: box.left + x_scale.compute(x[row]), y: box.top + y_scale.compute(y[row]) };
    };

    // ------------------------------------------------------------------------------------------ the picture at a point

    const hideTip = () => {
      tip.hidden = true;
      hovered = -1;
    };

    // Show an image beside a place in the window, always inside the window.
    const showTip = (row, place) => {
      const { images } = PE;
      if (row !== hovered) {
        hovered = row;
        const guess = images.guess[row];
        const n_more = visible.filter(isAt(row)).length;
        PE.clear(tip).append(PE.thumb(row, 96), PE.el("div", { class: "facts" },
          PE.el("strong", null, images.id[row]), PE.el("div", null, PE.className(images.label[row]) || "(no label)"),
          guess < 0 ? null : PE.el("div", { class: guess === images.label[row] ? "soft" : "bad" }, `guess: ${PE.className(guess)}`),
          guess < 0 ? null : PE.el("div", { class: "soft" }, `distance: ${PE.number(images.distance[row])}`),
          n_more ? PE.el("div", { class: "soft" }, `${PE.plural(n_more, "image")} more at this place (a box opens all)`) : null));
      }
      tip.hidden = false;
      const gap = 14;
      const fit = (at, size, most) => Math.max(4, Math.min(at + gap + size < most ? at + gap : at - gap - size, most - size - 4));
      tip.style.left = `${fit(place.x, tip.offsetWidth, document.documentElement.clientWidth)}px`;
      tip.style.top = `${fit(place.y, tip.offsetHeight, window.innerHeight)}px`;
    };

    // Make a point the focused one, and show it.
    const focus = (row, { toCentre = false } = {}) => {
      focused = row;
      if (toCentre || !isInView(row)) centre(row);
      drawRings();
    };

    const pressKey = (event) => {
      if (event.ctrlKey || event.altKey || event.metaKey) return;
      const direction = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
      const act = { "+": () => zoom(1 / 1.5), "=": () => zoom(1 / 1.5), "-": () => zoom(1.5), 0: reset, Escape: clear }[event.key];
      if (direction) {
        const middle = ranges.map((range) => (range.start + range.end) / 2);
        const row = focused < 0 || !visible.includes(focused) ? nearest(...middle, Infinity) : next(focused, direction);
        if (row >= 0) {
          focus(row);
          showTip(row, position(row));
          spoken.textContent = `${PE.images.id[row]}, ${PE.caption(row)}`;
        }
      } else if (event.key === "Enter" && focused >= 0) PE.detail(focused);
      else if (act) act();
      else return;
      event.preventDefault();
    };

    const clear = () => {
      focused = -1;
      chosen = null;
      hideTip();
      draw();
    };

    // ------------------------------------------------------------------------------------------ the pointer

    let moved = null; // the last place of the pointer that is not shown yet
    let isDragging = false;
    plot.on_event("mousemove", (event) => {
      if (isDragging) return;
      if (!moved) requestAnimationFrame(() => {
        const at = moved;
        moved = null;
        const row = at ? nearest(at.x, at.y, REACH) : -1;
        if (row < 0) return hideTip();
        const box = view.canvas_view.el.getBoundingClientRect();
        showTip(row, { x: box.left + at.sx, y: box.top + at.sy });
      });
      moved = event;
    });
    for (const name of ["mouseleave", "panstart", "wheel", "pinchstart"]) {
      plot.on_event(name, () => {
        moved = null;
        isDragging = name === "panstart";
        hideTip();
      });
    }
    plot.on_event("panend", () => (isDragging = false));
    let tapped = -1; // its image opens at the click that follows, which would else be a click on what has opened
    plot.on_event("tap", (event) => (tapped = nearest(event.x, event.y, REACH)));
    plotElement.addEventListener("click", () => {
      const row = tapped;
      tapped = -1;
      if (row < 0) return;
      focus(row);
      hideTip();
      PE.detail(row);
    });
    plot.on_event("selectiongeometry", ({ geometry, final }) => {
      if (final && (geometry.type === "rect" || geometry.type === "poly")) choose(geometry);
    });

    const choose = (geometry) => {
      const { type, x: xs, y: ys, x0, x1, y0, y1 } = geometry;
      const inside = type === "poly" ? (row) => MapPlot.isInside(x[row], y[row], xs, ys)
        : (row) => x[row] >= Math.min(x0, x1) && x[row] <= Math.max(x0, x1) && y[row] >= Math.min(y0, y1) && y[row] <= Math.max(y0, y1);
      const rows = visible.filter(inside);
      chosen = rows.length ? new Set(rows) : null;
      focused = -1;
      hideTip();
      draw();
      if (rows.length) openChosen();
      else PE.note("No images there.");
    };

    const openChosen = () => PE.openGrid([...chosen], PE.plural(chosen.size, "chosen image"));

    const drawSelection = () => {
      PE.clear(selection).append(...(!chosen ? [] : [
        PE.el("span", null, `${PE.plural(chosen.size, "image")} chosen`),
        PE.el("button", { class: "link", onclick: openChosen }, "Open them"),
        PE.el("button", { class: "link", onclick: clear }, "Clear"),
      ]));
      selection.hidden = !chosen;
    };

    // ------------------------------------------------------------------------------------------ search

    const findClass = (text) => {
      const exact = PE.classes.indexOf(text.normalize("NFC")); // as all class names
      const lower = text.toLowerCase();
      return exact >= 0 ? exact : PE.classes.findIndex((name) => name.toLowerCase() === lower);
    };

    const link = (text, onclick) => PE.el("button", { class: "link", onclick }, text);

    const showClass = (category) => {
      if (!byClass(coloring)) setColoring(colorings.find(byClass));
      isolated.clear();
      isolated.add(category);
      chosen = null;
      draw();
      const count = visible.length;
      PE.clear(found).append(PE.el("span", null, `${PE.plural(count, "image")} with the ${coloring.name} ${names[category]}`), link("Show all", () => {
        PE.clear(found);
        isolate(null);
      }));
      legend.querySelector(`[data-category="${category}"]`)?.scrollIntoView({ block: "nearest" });
    };

    const showImage = (row) => {
      PE.clear(found);
      if (Number.isNaN(x[row]) || Number.isNaN(y[row])) found.append(`${PE.images.id[row]} is not on this map.`);
      else {
        if (isolated.size && !isolated.has(of[row])) isolate(null);
        focus(row, { toCentre: true });
      }
      PE.detail(row);
    };

    // Show the class, or the image, of exactly this name; else offer those whose names contain it.
    const find = (text) => {
      PE.clear(found);
      if (!text) return;
      const category = findClass(text);
      const plain = (name) => name.normalize("NFC"); // an accent may be a character of its own, as in file names of macOS
      const exact = PE.images.id.indexOf(text);
      const row = exact >= 0 ? exact : PE.images.id.findIndex((id) => plain(id) === plain(text));
      if (category >= 0) {
        showClass(category);
        if (row >= 0) found.append(link(`Show the image ${text}`, () => showImage(row)));
      } else if (row >= 0) showImage(row);
      else {
        const lower = plain(text).toLowerCase();
        const classes = PE.classes.map((name, code) => code).filter((code) => PE.classes[code].toLowerCase().includes(lower)).slice(0, 8);
        const rows = [];
        for (let at = 0; at < n && rows.length < 8; at++) if (plain(PE.images.id[at]).toLowerCase().includes(lower)) rows.push(at);
        found.append(PE.el("span", null, `No class or image is called ${text}.`));
        if (classes.length + rows.length) found.append("Do you mean:");
        found.append(...classes.map((code) => link(PE.classes[code], () => showClass(code))));
        found.append(...rows.map((at) => link(PE.images.id[at], () => showImage(at))));
      }
    };

    // ------------------------------------------------------------------------------------------ start

    PE.map = { position };
    paint();
    setAxes(pair);
    PE.refresh("map", offer);
    view = await embed(canvas); // with its points, for each change would be drawn
    window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
      paint();
      draw();
    });
    section.dataset.ready = "true";
  };

  PE.part({ id: "map", title: "Map", show });
})();
