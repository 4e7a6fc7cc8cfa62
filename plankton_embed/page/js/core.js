"use strict";

// The core of the page: its data, elements, tabs, tables, colours, keys and downloads. All text of the data is set as
// text, never as HTML.
const PE = { parts: [], sections: {} };
window.PE = PE;

// ------------------------------------------------------------------------------------------------ data

const ARRAYS = {
  uint8: Uint8Array, int8: Int8Array, int16: Int16Array, int32: Int32Array, float32: Float32Array,
};

// Return bytes of base64 as they are.
PE.bytes = (base64) => {
  const text = atob(base64);
  const bytes = new Uint8Array(text.length);
  for (let at = 0; at < text.length; at += 1) bytes[at] = text.charCodeAt(at);
  return bytes;
};

// Return a value with its encoded arrays as typed arrays; whole numbers with a sign always have 32 bits.
PE.decode = (value) => {
  if (Array.isArray(value)) {
    if (value.length && typeof value[0] !== "object") return value; // a long list of text or numbers
    return value.map(PE.decode);
  }
  if (value === null || typeof value !== "object") return value;
  if (typeof value.base64 === "string" && ARRAYS[value.dtype]) {
    const array = new ARRAYS[value.dtype](PE.bytes(value.base64).buffer);
    return value.dtype === "int8" || value.dtype === "int16" ? Int32Array.from(array) : array;
  }
  const decoded = {};
  for (const name of Object.keys(value)) decoded[name] = PE.decode(value[name]);
  return decoded;
};

// Return the value of compressed JSON.
const decompress = async ({ gzip }) => {
  const stream = new Blob([PE.bytes(gzip)]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
};

PE.readData = async () => {
  const element = document.getElementById("data");
  PE.data = PE.decode(JSON.parse(element.textContent));
  element.remove();
  PE.images = PE.data.images;
  if (!Array.isArray(PE.images.id)) PE.images.id = await decompress(PE.images.id);
  PE.images.label = Int32Array.from(PE.images.label);
  PE.classes = PE.data.classes;
  PE.live = Boolean(PE.data.live);
};

// ------------------------------------------------------------------------------------------------ elements

const fill = (element, attributes, children) => {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "dataset") Object.assign(element.dataset, value);
    else if (name === "style" && typeof value === "object") {
      for (const [property, text] of Object.entries(value)) element.style.setProperty(property, text);
    } else if (name === "value" || name === "checked" || name === "disabled") element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  for (const child of children.flat(3)) {
    if (child !== null && child !== undefined && child !== false) element.append(child);
  }
  return element;
};

// Return an element; attributes: class, title, onclick, dataset, style…; children: text, elements, lists of them.
PE.el = (tag, attributes, ...children) => {
  const element = fill(document.createElement(tag), attributes, children);
  if (tag === "button" && !element.hasAttribute("type")) element.type = "button";
  return element;
};

// The same for a drawing.
PE.svg = (tag, attributes, ...children) =>
  fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);

PE.clear = (element) => {
  element.replaceChildren();
  return element;
};

PE.cssVariable = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

// ------------------------------------------------------------------------------------------------ text

PE.className = (index) => (index < 0 ? "" : PE.classes[index]);

PE.caption = (row) => {
  const label = PE.className(PE.images.label[row]) || "(no label)";
  const guess = PE.images.guess[row];
  return guess >= 0 && guess !== PE.images.label[row] ? `${label} → ${PE.className(guess)}` : label;
};

// Return text that may be broken after _, / and -.
PE.breakable = (text) => String(text).split(/(?<=[_/-])/).flatMap((piece, at) => (at ? [PE.el("wbr"), piece] : [piece]));

// The label of rejected images cannot be the name of a class.
PE.isUnknown = (name) => name.normalize("NFKC").trim().toLowerCase() === "unknown";
PE.UNKNOWN_FAULT = "\"unknown\" is the label of rejected images; choose another name, such as unidentified.";

// Return a number as short text.
PE.number = (x) => {
  if (x === null || x === undefined || Number.isNaN(x)) return "–";
  if (Number.isInteger(x)) return x.toLocaleString("en");
  const size = Math.abs(x);
  if (size >= 1000) return Math.round(x).toLocaleString("en");
  return size >= 0.001 ? String(Number(x.toPrecision(3))) : x.toExponential(1);
};

// Return a share as text, with as many digits as it takes to tell nearly all from all.
PE.percent = (x) => {
  if (x === null || x === undefined || Number.isNaN(x)) return "–";
  let digits = 3;
  while (x < 1 && digits < 15 && Number((100 * x).toPrecision(digits)) === 100) digits += 1;
  return `${Number((100 * x).toPrecision(digits))} %`;
};

PE.plural = (n, one, many) => `${n.toLocaleString("en")} ${n === 1 ? one : many || `${one}s`}`;

// Report something that has just happened, also to screen readers.
PE.note = (text) => {
  const status = document.getElementById("status");
  status.textContent = text;
  clearTimeout(PE.note.timer);
  PE.note.timer = setTimeout(() => (status.textContent = ""), 8000);
};

// Show a warning at the top of the page until `PE.banner("")`.
PE.banner = (text) => {
  document.getElementById("banner").textContent = text;
};

// ------------------------------------------------------------------------------------------------ tabs

const refreshed = {}; // callbacks by tab
const stale = new Set(); // tabs that have changes to show
let opened = null;

// Declare a part of the page: {id, title, show(section)}.
PE.part = (part) => PE.parts.push(part);

// Have a callback called after decisions or guesses have changed: at once if the tab is open, else when it is opened.
PE.refresh = (id, callback) => (refreshed[id] = refreshed[id] || []).push(callback);

// Let all parts show that decisions or guesses have changed.
PE.changed = () => {
  for (const id of Object.keys(refreshed)) stale.add(id);
  if (opened) freshen(opened);
};

const freshen = (id) => {
  if (stale.delete(id)) for (const callback of refreshed[id]) callback();
};

PE.opened = () => opened;

// Open a tab; its part draws itself the first time.
PE.open = (id, { focus = false } = {}) => {
  const part = PE.parts.find((known) => known.id === id);
  if (!part || !PE.sections[id]) return;
  for (const [name, section] of Object.entries(PE.sections)) section.hidden = name !== id;
  for (const tab of document.querySelectorAll("#tabs [role=tab]")) {
    const chosen = tab.dataset.part === id;
    tab.setAttribute("aria-selected", String(chosen));
    tab.tabIndex = chosen ? 0 : -1;
    if (chosen) {
      if (focus) tab.focus();
      const bar = tab.parentElement;
      bar.scrollLeft = Math.max(0, tab.offsetLeft - (bar.clientWidth - tab.offsetWidth) / 2);
    }
  }
  opened = id;
  if (!part.shown) {
    part.shown = true;
    part.show(PE.sections[id]);
    stale.delete(id);
  }
  freshen(id);
  if (location.hash !== `#${id}`) history.replaceState(null, "", `#${id}`);
};

PE.makeTabs = () => {
  const bar = document.getElementById("tabs");
  const main = PE.clear(document.getElementById("main"));
  const parts = PE.parts.filter((part) => PE.data.parts[part.id]);
  for (const part of parts) {
    bar.append(
      PE.el("button", {
        role: "tab", id: `tab-${part.id}`, "aria-controls": `part-${part.id}`, dataset: { part: part.id },
        onclick: () => PE.open(part.id),
      }, part.title),
    );
    PE.sections[part.id] = PE.el("section", {
      id: `part-${part.id}`, role: "tabpanel", "aria-labelledby": `tab-${part.id}`, hidden: true,
    });
    main.append(PE.sections[part.id]);
  }
  bar.addEventListener("keydown", (event) => {
    const at = parts.findIndex((part) => part.id === opened);
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: parts.length - 1 }[event.key];
    if (to === undefined || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    PE.open(parts[(to + parts.length) % parts.length].id, { focus: true });
  });
  const wanted = location.hash.slice(1);
  const first = parts.some((part) => part.id === wanted) ? wanted : parts.length ? parts[0].id : null;
  if (first) PE.open(first);
  else main.append(PE.el("p", null, "This page has no parts."));
  window.addEventListener("hashchange", () => PE.open(location.hash.slice(1)));
};

// ------------------------------------------------------------------------------------------------ keys

const typing = (element) =>
  element instanceof Element && element.closest("input:not([type=checkbox]):not([type=radio]), textarea, select, [contenteditable]");

// Have single keys do something while the tab of a section is open: {k: function, ArrowDown: function, …}.
PE.keys = (actions, section) => {
  document.addEventListener("keydown", (event) => {
    if (section.hidden || event.ctrlKey || event.altKey || event.metaKey || event.repeat) return;
    if (event.defaultPrevented || typing(event.target) || document.querySelector("dialog[open]")) return;
    const action = actions[event.key] || actions[event.key.toLowerCase()];
    if (!action) return;
    event.preventDefault();
    const body = section.querySelector('[tabindex="-1"]');
    if (body && event.target.matches('[role="tab"]')) body.focus({ preventScroll: true }); // arrows are for it from now on
    action(event);
  });
};

// ------------------------------------------------------------------------------------------------ dialogs

// Show a dialog above the page; Escape, a click beside it or its close button closes it, and the focus returns.
PE.dialog = (title, content, { kind = "", onclose } = {}) => {
  const before = document.activeElement;
  const close = () => dialog.close();
  const body = PE.el("div", { class: "dialog-body", tabindex: -1 }, content);
  const dialog = PE.el("dialog", { class: `dialog ${kind}`, "aria-label": title },
    PE.el("div", { class: "dialog-head" }, PE.el("h2", null, title),
      PE.el("button", { class: "close", "aria-label": "Close", title: "Close (Escape)", onclick: close }, "×")), body);
  let isOpen = true;
  const finish = () => {
    if (!isOpen) return;
    isOpen = false;
    dialog.remove();
    if (before && before.isConnected) before.focus();
    if (onclose) onclose();
  };
  dialog.addEventListener("mousedown", ({ target, clientX: x, clientY: y }) => {
    const box = dialog.getBoundingClientRect(); // its scroll bar is part of it
    if (target === dialog && (x < box.left || x > box.right || y < box.top || y > box.bottom)) close();
  });
  dialog.close = () => { // at once: the event would come after the next key
    HTMLDialogElement.prototype.close.call(dialog);
    finish();
  };
  dialog.addEventListener("close", finish);
  dialog.addEventListener("cancel", (event) => {
    event.preventDefault();
    close();
  });
  document.body.append(dialog);
  dialog.showModal();
  if (kind === "side") body.focus({ preventScroll: true }); // so that keys scroll it
  return dialog;
};

// Ask a question that is answered by yes or no; return a promise of true or false.
PE.confirm = (question, yes) =>
  new Promise((resolve) => {
    let answer = false;
    const reply = (value) => {
      answer = value;
      dialog.close();
    };
    const buttons = [
      PE.el("button", { class: "danger", onclick: () => reply(true) }, yes),
      PE.el("button", { autofocus: true, onclick: () => reply(false) }, "Cancel"),
    ];
    const dialog = PE.dialog(question, PE.el("div", { class: "bar" }, buttons), {
      kind: "small", onclose: () => resolve(answer),
    });
  });

// ------------------------------------------------------------------------------------------------ colours

// Safe for the colour-blind (after Okabe and Ito), and visible on light and dark ground.
const COLORS = ["#0077bb", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#a8a000", "#808080"];
const MARKERS = [
  "circle", "square", "triangle", "diamond", "inverted_triangle", "star", "hex", "plus", "cross", "asterisk", "x", "y",
  "circle_x", "square_x", "diamond_cross", "circle_dot",
];
PE.colors = COLORS;
PE.color = (index) => (index < 0 ? PE.cssVariable("--soft") : COLORS[index % COLORS.length]);
PE.marker = (index) => (index < 0 ? "circle" : MARKERS[Math.floor(index / COLORS.length) % MARKERS.length]);

// ------------------------------------------------------------------------------------------------ tables, downloads

const described = (columns) =>
  columns.map((column) => (typeof column === "string" ? { key: column, title: column.replaceAll("_", " ") } : column));

const shownValue = (column, row) => {
  const value = row[column.key];
  if (column.format) return column.format(value, row);
  return typeof value === "number" ? PE.number(value) : value === null || value === undefined ? "–" : PE.breakable(value);
};

// Return a table whose columns sort by a click; columns: names or {key, title, format?, hint?}; rows: objects.
PE.table = (columns, rows, { onclick = null, limit = 200, caption = null } = {}) => {
  const heads = described(columns);
  let shown = limit;
  let order = { key: null, down: false };
  let sorted = [...rows];
  const isNumber = (key) => rows.some((row) => typeof row[key] === "number");
  const body = PE.el("tbody");
  const more = PE.el("button", { class: "more", onclick: () => ((shown += limit), draw()) }, "Show more");
  const head = PE.el("tr", null, heads.map((column) =>
    PE.el("th", { scope: "col", class: isNumber(column.key) ? "number" : "", dataset: { key: column.key } },
      PE.el("button", { class: "sort", title: column.hint, onclick: () => sort(column.key) }, column.title))));
  const sort = (key) => {
    order = { key, down: order.key === key ? !order.down : isNumber(key) };
    const sign = order.down ? -1 : 1;
    const missing = (value) => value === null || value === undefined || Number.isNaN(value);
    sorted = [...rows].sort((a, b) => {
      const [x, y] = [a[key], b[key]];
      if (missing(x) || missing(y)) return missing(x) - missing(y); // always at the end
      return sign * (typeof x === "number" && typeof y === "number" ? x - y : String(x).localeCompare(String(y)));
    });
    draw();
  };
  const draw = () => {
    for (const cell of head.children) {
      const here = cell.dataset.key === order.key;
      cell.setAttribute("aria-sort", here ? (order.down ? "descending" : "ascending") : "none");
    }
    PE.clear(body).append(...sorted.slice(0, shown).map((row) =>
      PE.el("tr", { class: onclick ? "opens" : "", onclick: onclick ? () => onclick(row) : null },
        heads.map((column, position) => {
          const value = shownValue(column, row);
          const opens = onclick && position === 0;
          return PE.el("td", { class: typeof row[column.key] === "number" ? "number" : "" },
            opens ? PE.el("button", { class: "link" }, value) : value);
        }))));
    more.hidden = sorted.length <= shown;
    more.textContent = `Show more (${(sorted.length - shown).toLocaleString("en")} not shown)`;
  };
  draw();
  return PE.el("div", { class: "table" },
    PE.el("table", null, caption ? PE.el("caption", null, PE.el("span", null, caption)) : null, PE.el("thead", null, head), body), more);
};

const quoted = (value) => {
  const text = value === null || value === undefined || Number.isNaN(value) ? "" : String(value);
  return /[",\n\r]|^\s|\s$|^[-+]?\d+\.0*$/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
};

// Return rows (objects) as CSV; ids and labels are written as they are.
PE.csv = (rows, columns) =>
  [columns.map(quoted).join(","), ...rows.map((row) => columns.map((name) => quoted(row[name])).join(","))]
    .map((line) => `${line}\n`).join("");

// Have the browser save a text as a file; a CSV begins with the mark by which Excel recognizes UTF-8.
PE.download = (name, text) => {
  const content = name.endsWith(".csv") ? `\ufeff${text}` : text;
  const address = URL.createObjectURL(new Blob([content], { type: "text/plain;charset=utf-8" }));
  const link = PE.el("a", { href: address, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(address), 10000);
};

// Return a button that downloads rows as CSV; rows: objects, or a function that returns them.
PE.csvButton = (name, columns, rows) =>
  PE.el("button", {
    class: "download",
    onclick: () => {
      const keys = described(columns).map((column) => column.key);
      PE.download(name, PE.csv(typeof rows === "function" ? rows() : rows, keys));
    },
  }, `Download ${name}`);
