"use strict";

// Confusion: which classes are predicted as which. A pair, or a cell of the matrix, opens its images.
(() => {
  const MOST = 20; // classes of the matrix at first
  const N_PAIRS = 12; // worst pairs at first
  const STRONGEST = 62; // percent of colour in a cell, so that its text can be read on light and dark ground

  const STYLE = `
.matrix-box { overflow: auto; max-height: 78vh; width: fit-content; max-width: 100%; border: 1px solid var(--line);
  border-radius: 6px; scroll-padding: 13em 1em 1em 16em; }
.matrix { border-collapse: separate; border-spacing: 0; font-size: .8rem; line-height: 1.2; --names: 16em;
  table-layout: fixed; width: calc(var(--names) + var(--n) * 32px); }
.matrix th, .matrix td { padding: 0; border: 0; border-right: 1px solid var(--bg); border-bottom: 1px solid var(--bg); }
.matrix th { background: var(--bg); font-weight: normal; white-space: nowrap; }
.matrix thead th { position: sticky; top: 0; z-index: 2; vertical-align: bottom; border-bottom-color: var(--line); }
.matrix thead th span { writing-mode: vertical-rl; transform: rotate(180deg); max-height: 13em; overflow: hidden;
  text-overflow: ellipsis; padding: 4px 2px; margin: 0 auto; display: block; }
.matrix thead th:first-child { left: 0; z-index: 3; width: var(--names); padding: 6px; text-align: right; white-space: normal; border-right-color: var(--line);
  color: var(--soft); }
.matrix tbody th { position: sticky; left: 0; z-index: 1; text-align: right; padding: 0 6px;
  overflow: hidden; text-overflow: ellipsis; border-right-color: var(--line); vertical-align: middle; }
.matrix td { background: var(--panel); height: 25px; }
.matrix td.diagonal { background: var(--tile); }
.matrix td button { display: block; width: 100%; height: 25px; min-height: 0; padding: 0; border: 0;
  border-radius: 0; font-variant-numeric: tabular-nums; color: var(--fg);
  background: color-mix(in srgb, #d55e00 calc(var(--heat) * 1%), var(--panel)); }
.matrix td.diagonal button { background: color-mix(in srgb, #0077bb calc(var(--heat) * 1%), var(--panel)); }
.matrix td button:hover { outline: 2px solid var(--fg); outline-offset: -2px; }
.matrix td button:focus-visible { outline-offset: -3px; }
.bar > .bar { margin: 0; }
.bar > label { max-width: 100%; }
.pairs td button { min-height: 26px; min-width: 44px; padding: 1px 8px; }
.matrix-heading { scroll-margin-top: 56px; }
.when { white-space: nowrap; }
.key { display: inline-block; width: 1em; height: 1em; border-radius: 2px; vertical-align: -.12em; }
@media (max-width: 600px) {
  .matrix-box { scroll-padding: 9.5em 1em 1em 8em; }
  .matrix { --names: 10.5em; }
  .matrix thead th span { max-height: 9em; }
}`;

  // Return a long name without its middle: names of one group often differ at their ends.
  PE.shorten = (text, most) => {
    if (text.length <= most) return text;
    const end = Math.floor(0.4 * (most - 1));
    return `${text.slice(0, most - 1 - end)}…${text.slice(text.length - end)}`;
  };

  const percent = (x) => { // aligned in a column
    if (x === null) return "–";
    const text = (100 * x).toFixed(1);
    return `${x < 1 && text === "100.0" ? "99.9" : text} %`; // not all
  };

  PE.part({ id: "confusion", title: "Confusion", show: (section) => show(section, PE.data.parts.confusion) });

  const show = (section, part) => {
    document.head.append(PE.el("style", null, STYLE));
    const { labels, truth, predicted, rows } = part;
    const n = labels.length;
    const counts = new Int32Array(n * n);
    for (let i = 0; i < rows.length; i++) counts[truth[i] * n + predicted[i]] += 1;
    const support = part.per_class.support;
    const right = labels.reduce((sum, _, code) => sum + counts[code * n + code], 0);

    const rowsOf = (t, p) => Array.from(rows).filter((_, i) => truth[i] === t && predicted[i] === p);
    const describe = (t, p) =>
      `${labels[t]} predicted as ${labels[p]}: ${PE.plural(counts[t * n + p], "image")}`;
    const openCell = (t, p) => PE.openGrid(rowsOf(t, p), describe(t, p));

    // ---------------------------------------------------------------------------------------- what is scored

    const since = PE.el("p", { class: "bad confusion-since", role: "status" });
    const drawSince = () => {
      const changed = Array.from(rows).filter((row) => ["relabel", "delete"].includes((PE.store.of(row) || {}).action));
      since.hidden = !changed.length;
      since.textContent = `${PE.plural(changed.length, "scored image was", "scored images were")} relabelled or deleted `
        + `since then: pairs, matrix and scores are still those of ${part.when}. For new ones, apply the decisions and `
        + "make the page again.";
    };
    drawSince();
    PE.refresh("confusion", drawSince);
    section.append(
      PE.el("h2", null, "Confusion"),
      PE.el("p", null, `${right.toLocaleString("en")} of ${PE.plural(rows.length, "image")} right `
        + `(${PE.percent(right / rows.length)}). Rows: true class. Columns: predicted class.`),
      PE.el("p", { class: "soft" }, `Scored: ${part.of}. Labels and predictions of `,
        PE.el("span", { class: "when" }, part.when), part.of.includes(".csv") ? " (the date of the file)." : "."),
      since);

    // ---------------------------------------------------------------------------------------- worst pairs

    const pairs = [];
    for (let t = 0; t < n; t++) {
      for (let p = 0; p < n; p++) {
        const count = counts[t * n + p];
        if (count && t !== p) pairs.push({ t, p, truth: labels[t], predicted: labels[p], count, share: count / support[t] });
      }
    }
    pairs.sort((a, b) => b.count - a.count || b.share - a.share);
    const button = (_, { t, p, count }) =>
      PE.el("button", { "aria-label": describe(t, p), title: describe(t, p), onclick: () => openCell(t, p) },
        count.toLocaleString("en"));
    const worstPairs = PE.el("div", { class: "pairs" }, PE.el("h3", null, "Worst pairs"));
    if (pairs.length) {
      worstPairs.append(PE.table([
        { key: "truth", title: "true class", format: PE.breakable },
        { key: "predicted", title: "predicted class", format: PE.breakable },
        { key: "count", title: "images", format: button },
        { key: "share", title: "share", hint: "share of the images of the true class", format: percent },
      ], pairs, { limit: N_PAIRS, caption: "A button opens the images of the pair." }),
      PE.csvButton("confusion_pairs.csv", ["truth", "predicted", "count", "share"], pairs));
    } else worstPairs.append(PE.el("p", null, "No errors: every scored image is predicted as its true class."));

    // ---------------------------------------------------------------------------------------- scores of the classes

    const scores = labels.map((label, code) => {
      const { recall, precision, f1, predicted: n_predicted } = part.per_class;
      return { code, label, support: support[code], predicted: n_predicted[code], recall: recall[code],
        precision: precision[code], f1: f1[code] };
    });
    const keys = ["label", "support", "predicted", "recall", "precision", "f1"];
    const classScores = PE.el("div", null, PE.el("h3", null, "Scores of the classes"), PE.table([
      { key: "label", title: "class", format: PE.breakable },
      { key: "support", title: "images", hint: "scored images of this class" },
      { key: "predicted", title: "predicted", hint: "scored images predicted as this class" },
      { key: "recall", format: percent, title: "recall", hint: "share of the images of the class predicted as it" },
      { key: "precision", format: percent, title: "precision", hint: "share of the images predicted as it of this class" },
      { key: "f1", format: percent, title: "F1", hint: "harmonic mean of recall and precision" },
    ], scores, {
      limit: N_PAIRS, caption: "A class opens the matrix of the classes that it is confused with.",
      onclick: (row) => {
        picked = select.value = String(row.code);
        draw();
        heading.scrollIntoView({ block: "start" });
        select.focus({ preventScroll: true });
      },
    }), PE.csvButton("per_class.csv", keys, scores));
    section.append(PE.el("div", { class: "columns" }, worstPairs, classScores));

    // ---------------------------------------------------------------------------------------- matrix

    const worst = () => {
      const chosen = new Set();
      for (const { t, p } of pairs) {
        if (chosen.size + [t, p].filter((code) => !chosen.has(code)).length <= MOST) chosen.add(t).add(p);
      }
      return [...chosen].sort((a, b) => a - b);
    };
    const all = labels.map((_, code) => code);
    const around = (code) =>
      all.filter((other) => other === code || counts[code * n + other] || counts[other * n + code]);
    let shares = false;
    let picked = n > MOST && pairs.length ? "worst" : "all";
    const box = PE.el("div", { class: "matrix-box" });
    const caption = PE.el("p", { class: "soft" });
    const classesOf = () => (picked === "all" ? all : picked === "worst" ? worst() : around(Number(picked)));

    const text = (t, p) => {
      const count = counts[t * n + p];
      if (!shares) return count.toLocaleString("en");
      const share = (100 * count) / support[t];
      return share < 0.5 ? "<1" : String(Math.round(share));
    };

    const draw = () => {
      const chosen = classesOf();
      const [long, high] = window.innerWidth > 600 ? [25, 20] : [14, 13]; // characters of the names of rows and columns
      const head = PE.el("tr", null, PE.el("th", { scope: "col" }, "true ↓ predicted →"),
        chosen.map((p) => PE.el("th", { scope: "col", title: labels[p] }, PE.el("span", null, PE.shorten(labels[p], high)))));
      const body = chosen.map((t, y) => PE.el("tr", null,
        PE.el("th", { scope: "row", title: `${labels[t]}: ${PE.plural(support[t], "image")}` }, PE.shorten(labels[t], long)),
        chosen.map((p, x) => {
          const count = counts[t * n + p];
          return PE.el("td", { class: t === p ? "diagonal" : null }, count ? PE.el("button", {
            tabindex: "-1", "aria-label": describe(t, p), title: describe(t, p), dataset: { t, p, x, y },
            style: { "--heat": String(Math.round(STRONGEST * Math.sqrt(count / support[t]))) },
          }, text(t, p)) : null);
        })));
      const table = PE.el("table", {
        class: "matrix", "aria-label": "Confusion matrix: rows true, columns predicted",
        style: { "--n": String(chosen.length) },
      }, PE.el("thead", null, head), PE.el("tbody", null, body));
      PE.clear(box).append(table);
      const first = table.querySelector("button");
      if (first) first.tabIndex = 0;
      caption.textContent = `${shares ? "Percent of the row (of the images of the true class)" : "Images"}; `
        + `${chosen.length} of ${PE.plural(n, "class", "classes")} shown. A cell opens its images; arrow keys move `
        + "between cells. The colour is the share of the row.";
    };

    // One cell can be reached by Tab; arrow keys go to the next cell with images.
    const move = (cell, dx, dy) => {
      const x = Number(cell.dataset.x);
      const y = Number(cell.dataset.y);
      const cells = [...box.querySelectorAll("button")].filter((other) => {
        const [ox, oy] = [Number(other.dataset.x) - x, Number(other.dataset.y) - y];
        return dx ? oy === 0 && ox * dx > 0 : ox === 0 && oy * dy > 0;
      });
      const far = Math.abs(dx + dy) > 1; // Home and End
      const distance = (other) => Math.abs(other.dataset.x - x) + Math.abs(other.dataset.y - y);
      cells.sort((a, b) => distance(a) - distance(b));
      const next = far ? cells.at(-1) : cells[0];
      if (next) next.focus();
    };
    box.addEventListener("click", (event) => {
      const cell = event.target.closest("button");
      if (cell) openCell(Number(cell.dataset.t), Number(cell.dataset.p));
    });
    box.addEventListener("focusin", (event) => {
      for (const cell of box.querySelectorAll("button[tabindex='0']")) cell.tabIndex = -1;
      if (event.target.matches("button")) event.target.tabIndex = 0;
    });
    box.addEventListener("keydown", (event) => {
      const step = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1], Home: [-9, 0],
        End: [9, 0] }[event.key];
      if (!step || event.ctrlKey || event.altKey || event.metaKey || !event.target.matches("button")) return;
      event.preventDefault();
      move(event.target, ...step);
    });

    const buttons = ["Count", "Share of the row"].map((title, position) =>
      PE.el("button", { "aria-pressed": String(position === 0), onclick: () => {
        shares = position === 1;
        buttons.forEach((button, other) => button.setAttribute("aria-pressed", String(other === position)));
        draw();
      } }, title));
    const option = (value, title) => PE.el("option", { value }, title);
    const select = PE.el("select", { class: "confusion-classes", onchange: () => ((picked = select.value), draw()) },
      picked === "worst" ? option("worst", `the ${worst().length} of the worst pairs`) : null,
      option("all", n === 1 ? "the only one" : `all ${n}`),
      PE.el("optgroup", { label: "One, and what it is confused with" },
        labels.map((name, code) => option(String(code), name))));
    const heading = PE.el("h3", { class: "matrix-heading" }, "Matrix");
    section.append(heading,
      PE.el("div", { class: "bar" }, PE.el("span", { role: "group", "aria-label": "What cells show", class: "bar" }, buttons),
        PE.el("label", null, "Classes: ", select)),
      caption, box,
      PE.el("p", { class: "soft" },
        PE.el("span", { class: "key", style: { background: "#0077bb" } }), " right  ",
        PE.el("span", { class: "key", style: { background: "#d55e00" } }), " wrong"));
    draw();

  };
})();
