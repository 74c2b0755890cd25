// What a page shows, as rows for `tree.py`. Runs at the start of every document, before the scripts of the page.
//
// A row is [depth, id, role, name, states, bottom]. Controls, headings, images, dialogs, drawn shapes and whatever
// listens to the mouse have a row each. Any other element has one for text of its own only, with the role "text";
// words in bold and the like are part of the text around them. A container with a single text takes it for its name, and a table's
// row without controls is one row, with bars between the cells. Ids count up in the order of first being shown, and stay.
(() => {
  const words = (text) => new Set(text.split(" "));
  const LISTENS = words("click dblclick mousedown mouseup pointerdown mouseenter mouseover");
  const INLINE = words("abbr b bdi bdo big br cite code del dfn em font i ins kbd label mark q s samp small span strong sub sup time tt u var wbr");
  const SKIPPED = words("head script style noscript template defs title desc source");
  const SHAPES = words("circle ellipse rect polygon polyline line path svgtext image use");
  const PLAIN_ROLES = words("presentation none application list listitem main region banner contentinfo paragraph table rowgroup cell gridcell columnheader rowheader generic");
  const LEAVES = words("button link checkbox radio switch tab menuitem menuitemcheckbox menuitemradio option treeitem img textbox searchbox slider spinbutton file canvas iframe");
  const FIELDS = words("textbox searchbox slider spinbutton combobox");
  const ROLES = { a: "link", button: "button", summary: "button", textarea: "textbox", img: "img", canvas: "canvas", dialog: "dialog", iframe: "iframe", tr: "row" };
  const INPUTS = { checkbox: "checkbox", radio: "radio", range: "slider", number: "spinbutton", button: "button", submit: "button", reset: "button", image: "button", file: "file" };
  const MAX_ROWS = 2000, MAX_TEXT = 1000, MAX_HINT = 40;

  const listening = new WeakSet(), ids = new WeakMap(), known = [];
  const listen = EventTarget.prototype.addEventListener;
  EventTarget.prototype.addEventListener = function (type, ...rest) {
    if (LISTENS.has(type) && this instanceof Element) listening.add(this);
    return listen.call(this, type, ...rest);
  };
  for (const name of ["WebSocket", "WebTransport", "RTCPeerConnection", "webkitRTCPeerConnection"]) delete globalThis[name];

  // Once what was done has been drawn: scrolling and hovering have their events with the next frame.
  const nextFrame = requestAnimationFrame.bind(globalThis), later = setTimeout.bind(globalThis);
  const frame = () => new Promise((done) => { nextFrame(() => later(done)); later(done, 2000); });
  // Once the mouse has met what was moved below it: that is drawn in a first frame, and noticed in the next.
  const settled = async () => { await frame(); await frame(); };

  const idOf = (el) => ids.get(el) ?? (ids.set(el, known.push(new WeakRef(el))), known.length);
  const find = (id) => { const el = known[id - 1]?.deref(); return el?.isConnected ? el : null; };
  const cut = (text) => text.replace(/\s+/g, " ").trim().slice(0, MAX_TEXT);
  const aria = (el, name) => el.getAttribute("aria-" + name);
  const isDrawn = (el) => el.checkVisibility({ visibilityProperty: true });
  const isRoot = (el) => el === document.body || el === document.documentElement;
  const isListening = (el) => !isRoot(el) && (listening.has(el) || typeof el.onclick === "function" || (el.hasAttribute("tabindex") && el.tabIndex >= 0));

  const roleOf = (el) => {
    const given = (el.getAttribute("role") ?? "").split(" ")[0], tag = el.localName;
    if (given && !PLAIN_ROLES.has(given)) return given;
    if (tag === "input") return INPUTS[el.type] ?? "textbox";
    if (tag === "select") return el.multiple || el.size > 1 ? "listbox" : "combobox";
    if (tag === "a") return el.hasAttribute("href") ? "link" : "";
    if (el.isContentEditable && !el.parentElement?.isContentEditable) return "textbox";
    const drawn = tag === "text" ? "svgtext" : tag;
    if (SHAPES.has(drawn) && el.ownerSVGElement) return drawn;
    return /^h[1-6]$/.test(tag) ? "heading" : ROLES[tag] ?? "";
  };
  const isPlain = (el) => INLINE.has(el.localName) && !roleOf(el) && !isListening(el) && [...el.children].every(isPlain);
  const isLeaf = (el, role) => SHAPES.has(role) || (LEAVES.has(role) && !el.querySelector("button, input, select, textarea"));
  const isSpoken = (label) => label.control && isDrawn(label.control) && label.control.getClientRects().length > 0;

  // The text that is drawn in a node, blocks apart.
  const textOf = (node) => {
    if (node.nodeType === Node.TEXT_NODE) return node.data;
    if (node.nodeType !== Node.ELEMENT_NODE || SKIPPED.has(node.localName) || !isDrawn(node)) return "";
    const apart = INLINE.has(node.localName) && node.localName !== "br" ? "" : " ";
    return apart + (node.getAttribute("alt") ?? "") + [...node.childNodes].map(textOf).join("") + apart;
  };
  const hintOf = (el) => {
    const classes = (el.getAttribute("class") ?? "").split(/\s+/).filter((word) => word && !word.startsWith("ui-"));
    return (el.id || classes.join(" ")).slice(0, MAX_HINT);
  };
  const nameOf = (el, role) => {
    const isField = ["input", "select", "textarea"].includes(el.localName);
    const spoken = (aria(el, "labelledby") ?? "").split(/\s+/).map((id) => (id && document.getElementById(id)?.textContent) || "").join(" ");
    const labels = [...(el.labels ?? [])].map((label) => [...label.childNodes].filter((node) => node !== el).map(textOf).join("")).join(" ");
    const own = isField ? (role === "button" ? el.value : "") : isLeaf(el, role) && !FIELDS.has(role) ? textOf(el) : "";
    return [aria(el, "label") ?? "", spoken, labels, own, el.getAttribute("alt"), el.getAttribute("placeholder"), el.getAttribute("title")]
      .map((name) => cut(name ?? "")).find(Boolean) ?? "";
  };
  const boxOf = (el) => {
    const { x, y, width, height } = el.getBoundingClientRect();
    return `at=${[x, y].map(Math.round)},${[width, height].map(Math.round).join("x")}`;
  };
  const paintOf = (el) => {
    const style = getComputedStyle(el), paint = (name) => el.getAttribute(name) || el.style[name] || style[name];
    return paint("fill") === "none" ? paint("stroke") : paint("fill");
  };
  const statesOf = (el, role) => {
    const states = [], say = (holds, state) => { if (holds) states.push(state); };
    if (FIELDS.has(role) && el.localName !== "select") {
      const value = String(el.value ?? (el.isContentEditable ? el.innerText : aria(el, "valuenow")) ?? "").slice(0, MAX_TEXT);
      say(value, "value=" + JSON.stringify(value));
    }
    say(el.checked || aria(el, "checked") === "true", "checked");
    say((role === "option" && el.selected) || aria(el, "selected") === "true", "selected");
    say(aria(el, "expanded"), aria(el, "expanded") === "true" ? "expanded" : "collapsed");
    say(aria(el, "pressed") === "true", "pressed");
    say(el.disabled || aria(el, "disabled") === "true", "disabled");
    say(el.readOnly, "readonly");
    say(el.localName === "textarea", "multiline");
    say(el === document.activeElement && !isRoot(el), "focused");
    if (SHAPES.has(role)) states.push("color=" + paintOf(el).replace(/\s/g, ""));
    return states;
  };

  const read = ({ hide, boxes }) => {
    const rows = [], hidden = new Set(hide ? document.querySelectorAll(hide) : []);
    const add = (depth, el, role, name, states = []) => rows.push({ depth, el, role, name, states });
    const inside = (el, depth) => {
      let text = "";
      const drawn = isDrawn(el);  // what visibility hides may have parts that are not hidden
      const flush = () => { if (cut(text)) add(depth, el, "text", cut(text)); text = ""; };
      for (const node of (el.shadowRoot ?? el).childNodes) {
        if (node.nodeType === Node.TEXT_NODE && drawn) text += node.data;
        if (node.nodeType !== Node.ELEMENT_NODE || SKIPPED.has(node.localName) || hidden.has(node) || rows.length > MAX_ROWS) continue;
        if (!isPlain(node)) { flush(); walk(node, depth); }
        else if (node.localName !== "label" || !isSpoken(node)) text += textOf(node);
      }
      flush();
    };
    const container = (el, role, depth) => {
      const place = rows.length, name = nameOf(el, role);
      add(depth, el, role || "clickable", name, statesOf(el, role));
      inside(el, depth + 1);
      const row = rows[place], children = rows.slice(place + 1);
      if (!name && children.every((child) => child.role === "text") && (role === "row" || children.length <= 1)) {
        rows.length = place + 1;
        row.name = children.map((child) => child.name).join(" | ");
      }
      if (rows.length > place + 1 || row.name) return;
      if (!isListening(el)) { rows.pop(); return; }
      row.name = hintOf(el);
      const color = getComputedStyle(el).backgroundColor;
      if (color !== "rgba(0, 0, 0, 0)") row.states.push("color=" + (el.style.backgroundColor || color).replace(/\s/g, ""));
    };
    const walk = (el, depth) => {
      const role = roleOf(el), box = el.getBoundingClientRect();
      if (!el.checkVisibility() || el.type === "hidden") return;
      if (el.localName === "label" && isSpoken(el)) {
        for (const control of el.querySelectorAll("*")) if (roleOf(control) || isListening(control)) walk(control, depth);
      } else if (el.localName === "select") {
        add(depth, el, role, nameOf(el, role), statesOf(el, role));
        for (const option of el.options) add(depth + 1, option, "option", cut(option.label), statesOf(option, "option"));
      } else if (isLeaf(el, role)) {
        if (isDrawn(el) && (box.width || box.height)) add(depth, el, role, nameOf(el, role) || (SHAPES.has(role) ? "" : hintOf(el)), statesOf(el, role));
      } else if ((role || isListening(el)) && isDrawn(el)) container(el, role, depth);
      else inside(el, depth);
    };
    if (document.body) walk(document.body, 0);
    return rows.slice(0, MAX_ROWS).map(({ depth, el, role, name, states }) => {
      const isDrawing = SHAPES.has(role) || role === "canvas" || role === "img";
      return [depth, idOf(el), role, name, boxes || isDrawing ? [...states, boxOf(el)] : states, el.getBoundingClientRect().bottom];
    });
  };
  // The point of the window where the mouse meets an element, or why it cannot; `kind` is "mouse", "text" or "list".
  const aim = async (id, kind) => {
    const el = find(id);
    if (!el) return "it is not on the page";
    if (el.localName === "option") return "choose it with select_option in its list";
    if (el.disabled || aria(el, "disabled") === "true") return "it is disabled";
    const isText = el.isContentEditable || el.localName === "textarea" || (el.localName === "input" && roleOf(el) in { textbox: 1, searchbox: 1, spinbutton: 1, slider: 1, combobox: 1 });
    if (kind === "text" && !isText) return "it takes no text";
    if (kind === "text" && el.readOnly) return "it is read-only";
    if (kind === "list" && el.localName !== "select") return "it is no list of options";
    if (!isDrawn(el)) return "it is not visible";
    const { x, y } = el.getBoundingClientRect();
    el.scrollIntoViewIfNeeded();
    const found = el.getBoundingClientRect();
    if (found.x !== x || found.y !== y) await settled();
    const points = [...el.getClientRects()].filter((box) => box.width || box.height).map((box) => [box.x + box.width / 2, box.y + box.height / 2]);
    if (kind !== "mouse") return points[0] ?? [0, 0];
    const meets = ([x, y]) => {
      let hit = document.elementFromPoint(x, y);
      while (hit?.shadowRoot?.elementFromPoint(x, y) && hit.shadowRoot.elementFromPoint(x, y) !== hit) hit = hit.shadowRoot.elementFromPoint(x, y);
      return hit && (el.contains(hit) || hit.closest("label")?.control === el || el.control?.contains(hit));
    };
    return points.find(meets) ?? (points.length ? "something else covers it" : "it is not visible");
  };

  Object.defineProperty(globalThis, "__turnwise", { value: Object.freeze({ read, find, aim, frame, settled, idOf }) });
})();
