"use strict";

// Tree: Ward's tree of class means (or of images). A branch opens the counts of its classes and its central images.
(() => {
  const TALL = 30; // px from leaf to leaf, with pictures
  const LOW = 20; // without
  const MOST_TALL = 40; // leaves with pictures
  const NARROW = 700; // px of the section, below which the details are under the tree

  const STYLE = `
.tree-parts { display: grid; gap: 20px; grid-template-columns: minmax(0, 3fr) minmax(0, 2fr); align-items: start; }
.tree-box { overflow: auto; max-height: 78vh; border: 1px solid var(--line); border-radius: 6px; padding: 4px;
  display: flex; scroll-padding: 40px; }
.tree-detail { position: sticky; top: 56px; max-height: calc(100vh - 70px); overflow: auto; }
.tree-detail > h3 { margin-top: 0; }
.tree-back { display: none; }
.tree-box svg { flex: none; display: block; }
.tree-leaves { flex: 1 1 auto; min-width: 0; }
.tree-leaves button { display: flex; gap: 6px; align-items: center; width: 100%; min-height: 0; padding: 0 4px; border: 0;
  background: none; text-align: left; white-space: nowrap; border-radius: 3px; font-size: .85rem; }
.tree-leaves button:hover { background: var(--panel); }
.tree-leaves .leaf-name { overflow: hidden; text-overflow: ellipsis; min-width: 2em; }
.tree-leaves .count { flex: none; font-size: .8rem; }
.tree-leaves button.inside { background: var(--panel); font-weight: 600; }
.tree-leaves button[aria-pressed="true"]:not(.tile-button) { background: var(--accent); color: var(--on-accent); }
.tree-leaves button[aria-pressed="true"] .count { color: inherit; }
.tree-leaves button:focus-visible { outline-offset: -3px; }
.node { cursor: pointer; }
.node path { fill: none; stroke-width: 1.5; }
.node .hit { stroke: transparent; stroke-width: 12; }
.node circle { fill: var(--bg); stroke-width: 1.5; }
.node.inside .line { stroke-width: 3.5; }
.node:hover circle { fill: var(--tile); }
.node[aria-pressed="true"] circle { fill: var(--accent); stroke: var(--fg); stroke-width: 2; }
.node:focus { outline: none; }
.node:focus-visible circle { stroke: var(--fg); stroke-width: 4; }
@media (max-width: ${NARROW}px) {
  .tree-parts { grid-template-columns: minmax(0, 1fr); }
  .tree-box { max-height: 60vh; }
  .tree-back { display: block; }
  .tree-detail { scroll-margin-top: 56px; position: static; max-height: none; overflow: visible; }
}`;

  PE.part({ id: "tree", title: "Tree", show: (section) => show(section, PE.data.parts.tree) });

  const show = (section, part) => {
    document.head.append(PE.el("style", null, STYLE));
    const { nodes, leaves } = part;
    const ofClasses = part.of === "classes";
    const nLeaves = leaves.n.length;
    const nNodes = nodes.parent.length;
    const root = nodes.parent.indexOf(-1);
    const children = nodes.parent.map(() => []);
    nodes.parent.forEach((parent, node) => parent >= 0 && children[parent].push(node));
    for (const pair of children) pair.sort((a, b) => nodes.first[a] - nodes.first[b]);
    const starts = [0];
    for (const n of leaves.n) starts.push(starts.at(-1) + n);
    const isLeaf = (node) => node < nLeaves;
    const isInside = (node, branch) =>
      nodes.first[node] >= nodes.first[branch] && nodes.last[node] <= nodes.last[branch];
    const nImages = (node) => starts[nodes.last[node] + 1] - starts[nodes.first[node]];
    const leafName = (leaf) => (ofClasses ? PE.className(leaves.class[leaf]) : `leaf ${leaf + 1}`);
    const nameOf = (node) => {
      if (isLeaf(node)) return leafName(node);
      const n = nodes.last[node] - nodes.first[node] + 1;
      return ofClasses ? `Branch of ${n} classes` : `Branch of ${n} leaves`;
    };
    let chosen = root;

    // ---------------------------------------------------------------------------------------- the images of a branch

    const isDeleted = (row) => (PE.store.of(row) || {}).action === "delete";
    const rowsOf = (node) => {
      const [low, high] = [nodes.first[node], nodes.last[node]];
      if (!ofClasses) return Array.from(part.members.slice(starts[low], starts[high + 1])).filter((row) => !isDeleted(row));
      const codes = new Set(leaves.class.slice(low, high + 1));
      const rows = [];
      PE.images.label.forEach((code, row) => codes.has(code) && !isDeleted(row) && rows.push(row));
      return rows;
    };

    const detail = PE.el("aside", { class: "tree-detail", "aria-label": "The chosen branch", "aria-live": "polite" });
    const drawDetail = () => {
      const rows = rowsOf(chosen);
      const byClass = new Map();
      for (const row of rows) {
        const code = PE.images.label[row];
        if (!byClass.has(code)) byClass.set(code, []);
        byClass.get(code).push(row);
      }
      const labelled = rows.filter((row) => PE.images.label[row] >= 0);
      const table = [...byClass.entries()].filter(([code]) => code >= 0)
        .map(([code, own]) => ({ label: PE.className(code), count: own.length, share: own.length / labelled.length, own }))
        .sort((a, b) => b.count - a.count);
      const facts = PE.el("dl", { class: "facts" });
      const fact = (name, value) => facts.append(PE.el("dt", null, name), PE.el("dd", null, value));
      fact("images", rows.length.toLocaleString("en"));
      if (labelled.length < rows.length) fact("with a label", labelled.length.toLocaleString("en"));
      if (labelled.length) fact("purity", `${PE.percent(table[0].share)} are ${table[0].label}`);
      if (ofClasses && labelled.length && chosen !== root) {
        const codes = new Set(leaves.class.slice(nodes.first[chosen], nodes.last[chosen] + 1));
        const kept = labelled.filter((row) => codes.has(PE.images.guess[row])).length;
        fact("predicted inside", `${PE.percent(kept / labelled.length)} have a guess in this branch`);
      }
      if (!isLeaf(chosen)) fact("height", PE.number(nodes.height[chosen]));
      PE.clear(detail).append(...[
        PE.el("h3", null, nameOf(chosen)), facts,
        PE.el("div", { class: "bar" }, PE.el("button", { disabled: !rows.length, onclick: () =>
          PE.openGrid(rowsOf(chosen), `${nameOf(chosen)}: ${PE.plural(rowsOf(chosen).length, "image")}`) }, "Show all images"),
        PE.el("button", { class: "tree-back", onclick: () => elements[chosen].focus() }, "Back to the tree")),
        table.length ? PE.table([
          { key: "label", title: "class", format: PE.breakable }, { key: "count", title: "images" },
          { key: "share", title: "share", format: PE.percent },
        ], table, { limit: 10, onclick: ({ label, own }) =>
          PE.openGrid(own, `${label} in this branch: ${PE.plural(own.length, "image")}`) }) : null,
        PE.grid(nodes.central[chosen], { title: "Central images", limit: 12 }),
      ].filter(Boolean));
    };

    // ---------------------------------------------------------------------------------------- the drawing

    const pitch = nLeaves <= MOST_TALL ? TALL : LOW;
    const height = nLeaves * pitch;
    const top = Math.sqrt(Math.max(...nodes.height)) || 1;
    const y = [];
    const yOf = (node) => {
      y[node] ??= isLeaf(node) ? (node + 0.5) * pitch : (yOf(children[node][0]) + yOf(children[node][1])) / 2;
      return y[node];
    };
    const elements = new Array(nNodes);
    const svg = PE.svg("svg", { role: "group", "aria-label": "Branches", height });
    const box = PE.el("div", { class: "tree-box" }, svg);

    const drawBranches = (width) => {
      const x = (node) => 12 + (width - 16) * (1 - Math.sqrt(nodes.height[node]) / top);
      svg.setAttribute("width", width);
      svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
      svg.replaceChildren();
      for (let node = 0; node < nNodes; node++) { // leaves first, then the nodes that join them
        const parent = nodes.parent[node];
        const left = parent < 0 ? 0 : x(parent);
        const across = `M${left.toFixed(1)} ${yOf(node).toFixed(1)}H${x(node).toFixed(1)}`;
        const down = isLeaf(node) ? "" : `M${x(node).toFixed(1)} ${yOf(children[node][0]).toFixed(1)}`
          + `V${yOf(children[node][1]).toFixed(1)}`;
        const branch = nodes.branch[node]; // mixed with the colour of text, so that it is visible on light and dark ground
        const stroke = branch > 0 ? `color-mix(in srgb, ${PE.color(branch - 1)} 75%, var(--fg))` : "var(--soft)";
        const lines = [PE.svg("path", { class: "hit", d: across + down }),
          PE.svg("path", { class: "line", d: across + down, style: { stroke } })];
        if (isLeaf(node)) {
          svg.append(PE.svg("g", { class: "node", dataset: { node } }, lines));
          continue;
        }
        const label = `${nameOf(node)}, ${PE.plural(nImages(node), "image")}`;
        const element = PE.svg("g", { class: "node", role: "button", tabindex: "-1", "aria-label": label, dataset: { node } },
          PE.svg("title", null, label), lines,
          PE.svg("circle", { cx: x(node).toFixed(1), cy: yOf(node).toFixed(1), r: 5, style: { stroke } }));
        elements[node] = element;
        svg.append(element);
      }
      mark();
    };

    const leafButtons = leaves.n.map((n, leaf) => {
      const shown = pitch === TALL ? nodes.central[leaf].slice(0, ofClasses ? 1 : 3) : [];
      return (elements[leaf] = PE.el("button", {
        tabindex: "-1", title: leafName(leaf), "aria-label": `${leafName(leaf)}, ${PE.plural(n, "image")}`,
        dataset: { node: leaf }, style: { height: `${pitch}px` },
      }, shown.map((row) => PE.thumb(row, TALL - 4)), PE.el("span", { class: "leaf-name" }),
      PE.el("span", { class: "count" }, n.toLocaleString("en"))));
    });
    box.append(PE.el("div", { class: "tree-leaves" }, leafButtons));

    const mark = () => {
      for (const element of box.querySelectorAll("[data-node]")) {
        const node = Number(element.dataset.node);
        element.classList.toggle("inside", chosen !== root && isInside(node, chosen));
        if (element === elements[node]) {
          element.setAttribute("aria-pressed", String(node === chosen));
          element.setAttribute("tabindex", node === chosen ? "0" : "-1");
        }
      }
    };

    const choose = (node) => {
      chosen = node;
      mark();
      drawDetail();
    };

    // ---------------------------------------------------------------------------------------- mouse and keys

    const inOrder = [...Array(nNodes).keys()].sort((a, b) => yOf(a) - yOf(b) || nodes.height[b] - nodes.height[a]);
    const nodeAt = (target) => {
      const element = target.closest("[data-node]");
      return element ? Number(element.dataset.node) : null;
    };
    const narrow = () => section.clientWidth < NARROW;
    box.addEventListener("click", (event) => {
      const node = nodeAt(event.target);
      if (node === null) return;
      choose(node);
      if (narrow()) detail.scrollIntoView({ block: "start" });
    });
    box.addEventListener("keydown", (event) => {
      const node = nodeAt(event.target);
      if (node === null || event.ctrlKey || event.altKey || event.metaKey) return;
      if (event.key === "Enter" || event.key === " ") {
        event.preventDefault();
        choose(node);
        return;
      }
      const at = inOrder.indexOf(node);
      const next = { ArrowLeft: nodes.parent[node], ArrowRight: children[node][0], ArrowUp: inOrder[at - 1],
        ArrowDown: inOrder[at + 1], Home: root }[event.key];
      if (!["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", "Home"].includes(event.key)) return;
      event.preventDefault();
      if (next === undefined || next < 0) return;
      elements[next].focus();
    });

    const by = part.correlation === null ? ""
      : ` Its heights and the distances have a correlation of ${PE.number(part.correlation)}.`;
    section.append(
      PE.el("h2", null, "Tree"),
      PE.el("p", null, `Ward's tree of ${part.what}: the further left two branches join, the more different they are `
        + `(the square root of the height is drawn).${by}`),
      PE.el("p", { class: "soft" }, "A branch or a leaf opens its classes and its central images. Arrow keys move between "
        + "branches, Enter opens one. The tree is that of when the page was made; the counts follow your decisions."),
      PE.el("div", { class: "tree-parts" }, box, detail));

    let width = 0;
    const fit = () => {
      const wanted = Math.max(110, Math.round(box.clientWidth * (narrow() ? 0.42 : 0.54)));
      if (!box.clientWidth || wanted === width) return;
      width = wanted;
      drawBranches(width);
      const most = Math.floor((box.clientWidth - width - (pitch === TALL ? (ofClasses ? 85 : 145) : 55)) / 8); // characters
      leafButtons.forEach((button, leaf) => {
        button.querySelector(".leaf-name").textContent = PE.shorten(leafName(leaf), most);
      });
    };
    fit();
    new ResizeObserver(fit).observe(box);
    drawDetail();
    PE.refresh("tree", drawDetail);
  };
})();
