"use strict";

// Relations: x1 is to y1 as x2 is to y2, as pictures, and how often each pair of relations between classes is found.
(() => {
  const AT_ONCE = 20; // relations
  const ENDS = ["x1", "y1", "x2", "y2"];

  const STYLE = `
.relations { list-style: none; margin: 0; padding: 0; display: grid; gap: 12px 24px;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 540px), 1fr)); }
.relation { border: 1px solid var(--line); border-radius: 6px; padding: 8px; min-width: 0; }
.relation-pictures { display: grid; align-items: start; gap: 4px;
  grid-template-columns: minmax(0, 1fr) auto minmax(0, 1fr) auto minmax(0, 1fr) auto minmax(0, 1fr); }
.relation-pictures .to { padding-top: 38px; color: var(--soft); text-align: center; }
.relation p { margin: 4px 0 0; font-size: .85rem; }
@media (max-width: 600px) {
  .relation-pictures { grid-template-columns: minmax(0, 1fr) auto minmax(0, 1fr); }
  .relation-pictures .as { grid-column: 1 / -1; padding: 0; }
}`;

  PE.part({ id: "relations", title: "Relations", show: (section) => show(section, PE.data.parts.relations) });

  const show = (section, part) => {
    document.head.append(PE.el("style", null, STYLE));
    const { relations, analogies } = part;
    const all = Array.from(relations.x1, (_, position) => position);
    const rowsOf = (position) => ENDS.map((end) => relations[end][position]);
    const labelsOf = (position) => rowsOf(position).map((row) => PE.className(PE.images.label[row]) || "(no label)");
    const analogyRows = analogies.x1.map((_, position) =>
      Object.fromEntries(Object.keys(analogies).map((key) => [key, analogies[key][position]])));
    let name = ""; // of the class that is chosen; "": all
    let shown = AT_ONCE;

    const list = PE.el("ol", { class: "relations" });
    const count = PE.el("p", { class: "soft", role: "status" });
    const more = PE.el("button", { class: "more", onclick: () => ((shown += AT_ONCE), drawList()) });
    const table = PE.el("div", { class: "analogies" });

    const makeRelation = (position) => {
      const [x1, y1, x2, y2] = rowsOf(position).map((row) => PE.tile(row));
      const sign = (kind, text) => PE.el("span", { class: kind === "as" ? "to as" : "to", "aria-hidden": "true" }, text);
      return PE.el("li", { class: "relation" },
        PE.el("div", { class: "relation-pictures" }, x1, sign("to", "→"), y1, sign("as", "as"), x2, sign("to", "→"), y2),
        PE.el("p", { class: "soft" }, `The two steps differ by ${PE.number(relations.distance[position])}; `
          + `their mean length is ${PE.number(relations.length[position])}.`));
    };
    const drawList = () => {
      const found = name ? all.filter((position) => labelsOf(position).includes(name)) : all.slice(0, part.n_best);
      PE.clear(list).append(...found.slice(0, shown).map(makeRelation));
      more.hidden = found.length <= shown;
      more.textContent = `Show more (${(found.length - shown).toLocaleString("en")} not shown)`;
      count.textContent = name
        ? `${PE.plural(found.length, "relation")} with an image of ${name}, the most similar first.`
        : `The best ${found.length.toLocaleString("en")} of ${part.n_found.toLocaleString("en")}, the most similar first.`;
    };
    const drawTable = () => {
      const rows = name ? analogyRows.filter((row) => ENDS.some((end) => row[end] === name)) : analogyRows;
      const limited = part.n_analogies > analogyRows.length
        ? `the first ${analogyRows.length.toLocaleString("en")} of ${part.n_analogies.toLocaleString("en")}; ` : "";
      PE.clear(table).append(rows.length ? PE.table([
        ...ENDS.map((key) => ({ key, title: key, format: PE.breakable })),
        { key: "n_classes", title: "classes", hint: "number of different classes" },
        { key: "support", title: "support", hint: "relations between images of these classes" },
        { key: "expected", title: "expected", hint: "mean support after shuffling the labels" },
        { key: "p_value", title: "p", hint: "share of shuffles with a support as high" },
        { key: "p_any", title: "p of any", hint: "the same for the highest support of all analogies" },
      ], rows, { limit: 20, caption: `${limited}support: relations between images of these classes; expected: the same `
        + "with shuffled labels; p: share of shuffles with a support as high." })
        : PE.el("p", { class: "soft" }, "None."));
    };

    const select = PE.el("select", { onchange: () => {
      name = select.value;
      shown = AT_ONCE;
      drawList();
      drawTable();
    } });
    const drawOptions = () => {
      const names = new Set([...all.flatMap(labelsOf), ...analogyRows.flatMap((row) => ENDS.map((end) => row[end]))]);
      if (!names.has(name)) name = "";
      PE.clear(select).append(PE.el("option", { value: "" }, "all classes"),
        ...[...names].sort((a, b) => a.localeCompare(b)).map((text) => PE.el("option", { value: text }, text)));
      select.value = name;
    };
    drawOptions();
    drawList();
    drawTable();
    PE.refresh("relations", () => {
      drawOptions();
      drawList();
    });
    section.append(
      PE.el("h2", null, "Relations"),
      PE.el("p", null, "Picture quadruples: x1 is to y1 as x2 is to y2. The step from x1 to y1 in the space of the vectors "
        + "is nearly the same as the step from x2 to y2."),
      PE.el("div", { class: "bar" }, PE.el("label", null, "Class: ", select)),
      count, list, more,
      PE.el("h3", null, "Analogies between classes"), table,
      ...(analogyRows.length ? [PE.csvButton("analogies.csv", Object.keys(analogies), analogyRows)] : []));
  };
})();
