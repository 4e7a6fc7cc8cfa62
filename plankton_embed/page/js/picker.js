"use strict";

// Have a class name chosen from a list that is searched while typing; a new name can be typed.
// first: a name, or names, to offer first. Return a promise of the name, or null.
PE.pickClass = ({ title = "Choose a class", first = [] } = {}) =>
  new Promise((resolve) => {
    const top = [first].flat().filter((name) => name);
    const names = [...new Set([...top, ...PE.store.names()])];
    let chosen = null;
    let active = 0;
    let options = [];
    const list = PE.el("ul", { class: "options", role: "listbox", id: "class-options", "aria-label": "Classes" });
    const input = PE.el("input", {
      type: "text", role: "combobox", "aria-expanded": "true", "aria-controls": "class-options", autocomplete: "off",
      spellcheck: "false", "aria-label": "Class name", placeholder: "Search, or type a new name", oninput: () => search(),
    });
    const fault = PE.el("p", { class: "fault", role: "alert" });

    const take = (name) => {
      if (PE.isUnknown(name)) {
        fault.textContent = PE.UNKNOWN_FAULT;
        return;
      }
      chosen = name;
      dialog.close();
    };
    const search = () => {
      const text = input.value.normalize("NFC").trim();
      const sought = text.toLowerCase();
      const found = names.filter((name) => name.toLowerCase().includes(sought));
      const rank = (name) => (name.toLowerCase() === sought ? 0 : name.toLowerCase().startsWith(sought) ? 1 : 2);
      if (sought) found.sort((a, b) => rank(a) - rank(b)); // equal ranks keep their order
      options = found.map((name) => ({ name, isNew: false }));
      if (text && !names.includes(text)) options.push({ name: text, isNew: true });
      active = 0;
      fault.textContent = "";
      draw();
    };
    const draw = () => {
      PE.clear(list).append(...options.map(({ name, isNew }, position) =>
        PE.el("li", {
          role: "option", id: `class-option-${position}`, "aria-selected": String(position === active),
          class: isNew ? "new" : "", onclick: () => take(name),
        }, isNew ? `New class: ${name}` : name)));
      mark();
    };
    const mark = () => {
      [...list.children].forEach((item, position) => item.setAttribute("aria-selected", String(position === active)));
      if (options.length) {
        input.setAttribute("aria-activedescendant", `class-option-${active}`);
        list.children[active].scrollIntoView({ block: "nearest" });
      } else input.removeAttribute("aria-activedescendant");
    };
    input.addEventListener("keydown", (event) => {
      if (event.isComposing) return;
      const to = { ArrowDown: active + 1, ArrowUp: active - 1, PageDown: Math.min(active + 10, options.length - 1),
        PageUp: Math.max(active - 10, 0) }[event.key];
      if (to !== undefined && options.length) {
        event.preventDefault();
        active = (to + options.length) % options.length;
        mark();
      } else if (event.key === "Enter" && options.length) {
        event.preventDefault();
        take(options[active].name);
      }
    });
    const dialog = PE.dialog(title, [input, fault, list], { kind: "picker", onclose: () => resolve(chosen) });
    search();
    input.focus();
  });
