"use strict";

// Overview: data, model, settings, scores, training curves, and what a reader should not trust.
(() => {
  const facts = (pairs) => PE.el("dl", { class: "facts" }, pairs.map(([name, value]) => [PE.el("dt", null, name), PE.el("dd", null, value)]));

  const METHODS = { knn: "kNN", mlp: "MLP" };
  const METRICS = { accuracy: "accuracy", balanced_accuracy: "balanced accuracy", f1_macro: "macro F1" };

  const withInterval = (name) => (value, row) => {
    if (value === null) return "–";
    const [low, high] = [row[`${name}_low`], row[`${name}_high`]];
    return low === null ? value.toFixed(3)
      : [value.toFixed(3), " ", PE.el("span", { class: "interval" }, `(${low.toFixed(3)}–${high.toFixed(3)})`)];
  };

  const drawScores = (scores) => {
    const columns = [{ key: "method", title: "method", format: (name) => METHODS[name] || name },
      ...Object.entries(METRICS).map(([key, title]) => ({ key, title, format: withInterval(key) }))];
    if (scores.methods.some((row) => row.ece !== null)) columns.push({
      key: "ece", title: "ECE", hint: "Expected calibration error of the probabilities", format: (x) => (x === null ? "–" : x.toFixed(3)),
    });
    const retrieval = Object.entries(scores.retrieval).map(([name, value]) => {
      const title = name === "map_at_r" ? "MAP@R" : name.replaceAll("_", " ").replace("recall at ", "recall@");
      return `${title} ${value.toFixed(3)}`;
    });
    return [
      PE.el("h2", null, "Scores"),
      PE.el("p", { class: "soft" }, `${scores.of}. In brackets: 95 % intervals.`),
      PE.table(columns, scores.methods),
      scores.notes.map((note) => PE.el("p", { class: "soft" }, note)),
      retrieval.length ? PE.el("p", null, `Retrieval: ${retrieval.join(", ")}`) : null,
    ];
  };

  const drawDoubts = (doubts) => [
    PE.el("h2", null, "What a reader should not trust"),
    doubts.length ? PE.el("ul", { class: "doubts" }, doubts.map(({ text, rows }) =>
      PE.el("li", null, `${text} `, rows.length
        ? PE.el("button", { class: "link", onclick: () => PE.openGrid(rows, text) }, `Show ${PE.plural(rows.length, "image")}`)
        : null)))
      : PE.el("p", null, "Nothing was found in the files of this run. It is still only one set of images."),
  ];

  const SIZE = { width: 320, height: 150, left: 44, right: 8, top: 8, bottom: 26 };

  const line = (xs, ys, x, y) => {
    let path = "";
    let pen = false;
    ys.forEach((value, at) => {
      if (value === null) pen = false;
      else {
        path += `${pen ? "L" : "M"}${x(xs[at]).toFixed(1)} ${y(value).toFixed(1)}`;
        pen = true;
      }
    });
    return path;
  };

  const drawCurve = (epochs, { name, values }) => {
    const known = values.filter((value) => value !== null);
    let [low, high] = [Math.min(...known), Math.max(...known)];
    if (low === high) [low, high] = [low - Math.abs(low || 1) / 2, high + Math.abs(high || 1) / 2];
    const [first, last] = [epochs[0], epochs.at(-1)];
    const width = SIZE.width - SIZE.left - SIZE.right;
    const height = SIZE.height - SIZE.top - SIZE.bottom;
    const x = (epoch) => SIZE.left + (last === first ? width / 2 : (width * (epoch - first)) / (last - first));
    const y = (value) => SIZE.top + (height * (high - value)) / (high - low);
    const text = (at, up, content, anchor) => PE.svg("text", { x: at, y: up, "text-anchor": anchor }, content);
    const best = known.at(-1);
    return PE.el("figure", { class: "curve" },
      PE.el("figcaption", null, name),
      PE.svg("svg", { viewBox: `0 0 ${SIZE.width} ${SIZE.height}`, role: "img",
        "aria-label": `${name}: from ${PE.number(known[0])} to ${PE.number(best)} in ${PE.plural(epochs.length, "epoch")}` },
        [low, high].map((value) => [
          PE.svg("line", { class: "axis", x1: SIZE.left, x2: SIZE.width - SIZE.right, y1: y(value), y2: y(value) }),
          text(SIZE.left - 5, y(value) + 4, PE.number(value), "end")]),
        text(x(first), SIZE.height - 8, first, last === first ? "middle" : "start"),
        last === first ? null : text(x(last), SIZE.height - 8, `epoch ${last}`, "end"),
        PE.svg("path", { d: line(epochs, values, x, y) }),
        epochs.length < 40 ? values.map((value, at) =>
          (value === null ? null : PE.svg("circle", { cx: x(epochs[at]), cy: y(value), r: 2.5 }))) : null));
  };

  const drawClasses = (classes) => {
    const columns = Object.keys(classes[0]).map((key) => ({ key, title: key === "n" ? "images" : key }));
    const open = ({ label }) => {
      const code = PE.classes.indexOf(label);
      const rows = Array.from(PE.images.label.keys()).filter((row) => PE.images.label[row] === code);
      PE.openGrid(rows, `${label}: ${PE.plural(rows.length, "image")}`);
    };
    return [PE.el("h2", null, "Classes"),
      PE.el("p", { class: "soft" }, "Counts of when the page was made; a click opens the images that have the class now."),
      PE.table(columns, classes, { onclick: open, limit: 25 })];
  };

  PE.part({
    id: "overview",
    title: "Overview",
    show(section) {
      const { data, model, settings, scores, history, by_rank: ranks, doubts } = PE.data.parts.overview;
      section.append(PE.el("div", { class: "columns overview" },
        PE.el("div", null, scores ? drawScores(scores) : null, drawDoubts(doubts),
          history ? [PE.el("h2", null, "Training"),
            PE.el("div", { class: "curves" }, history.curves.map((curve) => drawCurve(history.epoch, curve)))] : null,
          ranks && ranks.length ? [PE.el("h2", null, "Accuracy at each rank of the taxonomy"),
            PE.table(Object.keys(ranks[0]), ranks)] : null),
        PE.el("div", null,
          PE.el("h2", null, "Data"), facts(data.facts),
          PE.el("h2", null, "Model"), facts(model),
          settings.length ? PE.el("details", null, PE.el("summary", null, "All settings"), facts(settings)) : null,
          data.classes.length ? drawClasses(data.classes) : null)));
      section.append(PE.el("p", { class: "soft" }, `plankton_embed ${PE.data.version}`));
    },
  });
})();
