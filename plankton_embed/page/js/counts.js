"use strict";

// Counts: unknown images, how many of each class are in each sample, and which samples differ; as far as there are any.
(() => {
  const N_UNKNOWNS = 500; // images by distance
  const N_BARS = 25; // rows at first

  const STYLE = `
.counts > section + section { margin-top: 2.2em; }
.counts > section, .shift-classes h3 { scroll-margin-top: 56px; }
.amounts td, .shift-table td { white-space: nowrap; }
.amounts td:first-child, .shift-classes td:first-child { white-space: normal; }
.amount-bar { width: min(25vw, 340px); min-width: 80px; height: 20px; display: block; }
.amount-bar rect { fill: #0077bb; }
.amount-bar line { stroke: var(--fg); stroke-width: 2; }
.shift-table td:first-child, .shift-table th:first-child { position: sticky; left: 0; background: var(--bg); }
.verdict { white-space: nowrap; }
.verdict .sign { display: inline-block; width: 1.3em; text-align: center; }
.facts.verdicts { grid-template-columns: max-content minmax(0, 70ch); }`;

  PE.part({ id: "counts", title: "Counts", show: (section) => {
    document.head.append(PE.el("style", null, STYLE));
    const parts = PE.data.parts.counts;
    const drawn = [["unknowns", "Unknowns", showUnknowns], ["abundance", "Abundance", showAbundance],
      ["shift", "Shift", showShift]].filter(([name]) => parts[name]);
    const blocks = drawn.map(([name, title, show]) => {
      const block = PE.el("section", { class: `counts-${name}` }, PE.el("h2", { tabindex: "-1" }, title));
      show(block, parts[name]);
      return block;
    });
    const go = (position) => {
      blocks[position].scrollIntoView({ block: "start" });
      blocks[position].querySelector("h2").focus({ preventScroll: true });
    };
    if (drawn.length > 1) {
      section.append(PE.el("div", { class: "bar", role: "group", "aria-label": "Go to" },
        drawn.map(([, title], position) => PE.el("button", { onclick: () => go(position) }, title))));
    }
    section.append(PE.el("div", { class: "counts" }, blocks));
  } });

  const exact = (x) => (Number.isInteger(x) ? x : Number(x.toPrecision(7))); // a 32-bit float as it was before

  // ------------------------------------------------------------------------------------------ unknowns

  const showUnknowns = (block, part) => {
    if (part.kind === "rejected") {
      const notes = new Map(Array.from(part.rows, (row, position) => [row, [
        part.best[position] ? `best: ${part.best[position]}` : "",
        part.score[position] === null ? "" : `${part.measure} ${PE.number(part.score[position])}`,
      ].filter(Boolean).join(", ")]));
      block.append(
        PE.el("p", null, `${PE.plural(part.rows.length, "image")} rejected as unknown`
          + `${part.measure ? `, the highest ${part.measure} first` : ""}.`),
        PE.el("div", { class: "bar" }, PE.el("button", { onclick: () => PE.openGrid(part.rows, "Rejected as unknown") },
          "Decide about several")),
        PE.grid(Array.from(part.rows), { note: (row) => notes.get(row), limit: 60 }));
      return;
    }
    const text = PE.el("p");
    const grid = PE.el("div");
    let rows = [];
    const draw = () => {
      const { distance, known, n } = PE.images;
      const all = Array.from({ length: n }, (_, row) => row).filter((row) => Number.isFinite(distance[row])
        && !(part.of === "new" && (known[row] || PE.store.of(row))));
      rows = all.sort((a, b) => distance[b] - distance[a]).slice(0, N_UNKNOWNS);
      text.textContent = `No predictions with rejected images are in this page. Shown: ${PE.plural(rows.length, "image")}`
        + `${part.of === "new" ? " outside the reference" : ""} with the largest distance to the nearest class mean, the `
        + "farthest first. Unknown classes are probably among them.";
      PE.clear(grid).append(PE.grid(rows, { note: (row) => `distance ${PE.number(distance[row])}`, limit: 60 }));
    };
    draw();
    PE.refresh("counts", draw);
    block.append(text, PE.el("div", { class: "bar" },
      PE.el("button", { onclick: () => PE.openGrid(rows, "Farthest from every class mean") }, "Decide about several")), grid);
  };

  // ------------------------------------------------------------------------------------------ abundance

  const TITLES = { count: "predicted", corrected: "corrected", individuals: "individuals", concentration: "concentration",
    biovolume: "biovolume", biovolume_concentration: "biovolume concentration" };

  const ABOUT = { n_refused: "rejected", n_images: "images" }; // columns of the samples

  const showAbundance = (block, part) => {
    const { amounts, labels, samples, table, totals, about } = part;
    const n = table.sample.length;
    const columns = Object.keys(table).filter((name) => name !== "sample" && name !== "label");
    const interval = part.level === null ? "interval" : `${Number((100 * part.level).toPrecision(3))}\u00a0% interval`;
    const usual = ["concentration", "individuals", "corrected", "count"].find((name) => amounts.some((one) => one.name === name));
    const option = (value, text) => PE.el("option", { value }, text);
    const ofSample = PE.el("select", { onchange: () => draw() }, option("", "all samples together"),
      samples.map((name, code) => option(String(code), name)), option("each", "every sample"));
    const ofClass = PE.el("select", { onchange: () => draw() }, option("", "all classes"),
      labels.map((name, code) => option(String(code), name)));
    const ofAmount = PE.el("select", { onchange: () => draw() },
      amounts.map(({ name, unit }) => option(name, unit ? `${TITLES[name]} (${unit})` : TITLES[name])));
    ofAmount.value = usual;
    const note = PE.el("p", { class: "soft", role: "status" });
    const rows = PE.el("div", { class: "amounts" });

    const valuesAt = (name, position) =>
      [name, `${name}_low`, `${name}_high`].map((key) => {
        const value = table[key] ? exact(table[key][position]) : null;
        return Number.isNaN(value) ? null : value;
      });
    const choose = (name) => {
      const found = [];
      const add = (title, [value, low, high]) => found.push({ title, value, low, high });
      const [sample, label] = [ofSample.value, ofClass.value];
      if (sample === "") { // totals
        totals.label.forEach((title, code) => {
          if (label !== "" && Number(label) !== code) return;
          add(title, [name, `${name}_low`, `${name}_high`].map((key) => (totals[key] ? totals[key][code] : null)));
        });
        return found;
      }
      for (let position = 0; position < n; position++) {
        const [s, l] = [table.sample[position], table.label[position]];
        if ((sample !== "each" && Number(sample) !== s) || (label !== "" && Number(label) !== l)) continue;
        const title = sample !== "each" ? labels[l] : label !== "" ? samples[s] : `${samples[s]}: ${labels[l]}`;
        add(title, valuesAt(name, position));
      }
      return found;
    };

    const drawBar = (row, top) => {
      const at = (value) => `${Math.min(100, (97 * value) / top)}%`;
      const hasInterval = row.low !== null && row.high !== null;
      return PE.svg("svg", { class: "amount-bar", role: "img", "aria-label": `${row.title}: ${PE.number(row.value)}`
        + `${hasInterval ? `, ${PE.number(row.low)} to ${PE.number(row.high)}` : ""}` },
      PE.svg("rect", { x: 0, y: 4, height: 12, width: at(row.value || 0) }),
      ...(hasInterval ? [PE.svg("line", { x1: at(row.low), x2: at(row.high), y1: 10, y2: 10 }),
        ...[row.low, row.high].map((end) => PE.svg("line", { x1: at(end), x2: at(end), y1: 5, y2: 15 }))] : []));
    };

    const reasons = samples.map((_, code) => // null: the sample is corrected
      (about.correction && about.correction[code] === "none" ? (about.why_uncorrected || [])[code] || "" : null));
    const nBare = reasons.filter((reason) => reason !== null).length;
    const describeBare = (chosen) => {
      if (!nBare) return "";
      if (chosen === "" || chosen === "each") {
        return ` ${nBare} of ${PE.plural(samples.length, "sample")} are not corrected and have no intervals.`;
      }
      const reason = reasons[Number(chosen)];
      return reason === null ? "" : ` The counts of this sample are not corrected${reason ? `: ${reason}` : ""}.`;
    };

    const draw = () => {
      const name = ofAmount.value;
      const { unit, has_interval: hasInterval } = amounts.find((one) => one.name === name);
      const kept = choose(name).filter((row) => row.value || row.high).sort((a, b) => b.value - a.value);
      const top = kept.reduce((most, { value, high }) => Math.max(most, value || 0, high || 0), 1e-300);
      const chosen = ofSample.value;
      note.textContent = `${TITLES[name]}${unit ? ` (${unit})` : ""}; ${PE.plural(kept.length, "row")}, without those of `
        + `zero.${hasInterval ? ` The line of a bar is its ${interval}.` : ""}${describeBare(chosen)}`;
      PE.clear(rows).append(kept.length ? PE.table([
        { key: "title", title: chosen === "each" ? "sample" : "class", format: PE.breakable },
        { key: "bar", title: hasInterval ? interval : "bar", format: (_, row) => drawBar(row, top) },
        { key: "value", title: TITLES[name] }, ...(hasInterval ? ["low", "high"] : []),
      ], kept, { limit: N_BARS }) : PE.el("p", { class: "soft" }, name.startsWith("biovolume") && chosen === ""
        ? "There are no totals of biovolume; choose a sample." : "Nothing was counted."));
    };

    const flat = () => Array.from({ length: n }, (_, position) => ({
      sample: samples[table.sample[position]], label: labels[table.label[position]],
      ...Object.fromEntries(columns.map((key) => [key, exact(table[key][position])])),
    }));
    const listed = (values) => {
      const keys = Object.keys(values);
      return values[keys[0]].map((_, position) => Object.fromEntries(keys.map((key) => [key, values[key][position]])));
    };
    const aboutKeys = Object.keys(about);
    block.append(
      PE.el("p", null, `Images and what they stand for in ${PE.plural(samples.length, "sample")}, by class. Counts are `
        + "corrected for the errors of the predictions where it is possible."),
      PE.el("div", { class: "bar" }, PE.el("label", null, "Sample: ", ofSample), PE.el("label", null, "Class: ", ofClass),
        PE.el("label", null, "Amount: ", ofAmount)),
      note, rows,
      PE.el("div", { class: "bar" }, PE.csvButton("abundance.csv", ["sample", "label", ...columns], flat),
        PE.csvButton("totals.csv", Object.keys(totals), () => listed(totals)),
        PE.csvButton("samples.csv", aboutKeys, () => listed(about))),
      PE.el("h3", null, "Samples"),
      PE.table(aboutKeys.map((key) => ({ key, title: ABOUT[key] || key.replaceAll("_", " ") })),
        listed(about), { limit: 50 }));
    draw();
  };

  // ------------------------------------------------------------------------------------------ shift

  const VERDICTS = { // sign, meaning
    appearance: ["◆", "the images look different from the calibration images of the same predicted class"],
    unlike: ["▲", "the vectors or the classes differ, and it is not clear whether the appearance does"],
    "class mix": ["■", "the prevalences of the classes differ, the appearance does not"],
    alike: ["●", "no difference from the calibration images was found"],
    "too few images": ["×", "fewer than 10 images, which are not compared"],
  };
  const NUMBERS = {
    n_images: "images", vectors: "differences", mix: "class mix", appearance: "appearance", refused: "rejected",
    expected_accuracy: "expected accuracy", label: "class", share: "share", calibration_share: "share in calibration",
    n_refused: "rejected images", novelty_score: "novelty score", calibration_novelty: "novelty in calibration",
  };
  const HINTS = { effect: "effect: 0 no difference, 1 a complete one", draws: "largest effect of the null draws",
    p: "p-value of the permutation test", flagged: "whether the comparison is flagged" };
  const four = (value) => {
    if (value === "True" || value === "False") return value === "True" ? "yes" : "no";
    if (typeof value !== "number" || Number.isInteger(value)) return value === null ? "–" : String(value);
    return String(Number(value.toPrecision(4)));
  };
  const describeColumn = (key) => {
    const [, name, kind] = /^(vectors|mix|appearance)_(effect|draws|p|flagged)$/.exec(key) || [];
    if (!kind) return { key, title: NUMBERS[key] || key.replaceAll("_", " "), format: four };
    return { key, title: `${NUMBERS[name]}: ${kind}`, hint: HINTS[kind], format: four };
  };

  const showShift = (block, part) => {
    const listed = (values) => {
      const keys = Object.keys(values);
      if (!keys.length) return [];
      return values[keys[0]].map((_, position) => Object.fromEntries(keys.map((key) => [key, values[key][position]])));
    };
    const nameOf = (id) => (id === null ? "all images together" : String(id));
    const samples = listed(part.samples).map((row) => ({ ...row, name: nameOf(row.sample_id) }));
    const classes = listed(part.classes).map((row) => ({ ...row, name: nameOf(row.sample_id) }));
    const keysOf = (values, left) => Object.keys(values).filter((key) => !left.includes(key));
    const sampleKeys = keysOf(part.samples, ["sample_id", "verdict"]);
    const classKeys = keysOf(part.classes, ["sample_id"]);
    const verdict = (value) => {
      const [sign, meaning] = VERDICTS[value] || ["", ""];
      return PE.el("span", { class: "verdict", title: meaning }, PE.el("span", { class: "sign", "aria-hidden": "true" }, sign),
        value);
    };
    const seen = Object.keys(VERDICTS).filter((name) => samples.some((row) => row.verdict === name));
    const detail = PE.el("div", { class: "shift-classes", role: "status" });
    const open = (name, focus) => {
      const own = classes.filter((row) => row.name === name);
      const title = PE.el("h3", { tabindex: "-1" }, `Predicted classes of ${name}`);
      PE.clear(detail).append(title, own.length ? PE.table(classKeys.map(describeColumn), own, { limit: 30 })
        : PE.el("p", { class: "soft" }, "No classes are listed for this sample."));
      if (focus) {
        title.scrollIntoView({ block: "nearest" });
        title.focus({ preventScroll: true });
      }
    };
    block.append(
      PE.el("p", null, "Are the images like those that the model was validated on? Every sample is compared with the "
        + "calibration images; the most different is first."),
      PE.el("dl", { class: "facts verdicts" }, seen.map((name) => [
        PE.el("dt", null, verdict(name)), PE.el("dd", null, VERDICTS[name][1]),
      ])),
      PE.el("div", { class: "shift-table" }, PE.table([
        { key: "name", title: "sample" }, { key: "verdict", title: "verdict", format: verdict },
        ...sampleKeys.map(describeColumn),
      ], samples, { limit: 50, onclick: (row) => open(row.name, true), caption: "A sample opens its predicted classes." })),
      PE.el("div", { class: "bar" },
        PE.csvButton("shift_samples.csv", ["sample_id", "verdict", ...sampleKeys], samples),
        PE.csvButton("shift_classes.csv", ["sample_id", ...classKeys], classes)),
      detail);
    open(samples[0].name, false);
  };
})();
