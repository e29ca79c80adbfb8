// The token strip: a conversation as bubbles of selectable tokens. Text reaches the page through textContent alone.
// One state a mounted strip; it outlives new data, so that a tint, a selection or one more token changes only what differs.

const STATES = new WeakMap();
const GROUPS = new Map();
const ROLES = { user: "You", assistant: "Model", system: "System prompt", plain: "Text" };

export default function ({ data, parentElement, setStateValue }) {
  let strip = STATES.get(parentElement);
  if (!strip) STATES.set(parentElement, (strip = build(parentElement)));
  strip.send = (name, value) => setStateValue(name, value);
  document.addEventListener("neuronscope:tint", strip.onTint);
  update(strip, data);
  return () => leave(strip);
}

function build(parentElement) {
  const root = element("div", "ns-strip", parentElement);
  const bar = element("div", "ns-bar", root);
  const legend = element("span", "legend", bar);
  const low = element("span", "", legend);
  const scale = element("span", "scale", legend);
  const high = element("span", "", legend);
  const status = element("span", "status", bar);
  const button = (text, title) => Object.assign(element("button", "", bar, text), { type: "button", title });
  const clear = button("Clear", "Clear the selection (Esc)");
  const template = button("Template", "Show the tokens that the chat template adds");
  const copy = button("Copy", "Copy the selected text, or all of it (Ctrl+C)");
  const list = element("div", "ns-list hide-template", root);
  list.tabIndex = 0;
  list.setAttribute("role", "listbox");
  list.setAttribute("aria-multiselectable", "true");
  status.setAttribute("aria-live", "polite");
  const tip = element("div", "ns-tip", root);
  tip.setAttribute("role", "tooltip");
  tip.popover = "manual";
  const strip = { parentElement, root, low, scale, high, status, clear, template, copy, list, tip,
    data: null, spans: [], owner: [], ranges: [], base: [], active: null, anchor: null, drag: null, nonce: null, timer: 0, group: "" };
  strip.onTint = (event) => preview(strip, event.detail);
  clear.onclick = () => { strip.active = null; select(strip, []); };
  template.onclick = () => showTemplate(strip, list.classList.contains("hide-template"));
  copy.onclick = () => copyText(strip);
  list.oncopy = (event) => { event.clipboardData.setData("text/plain", chosenText(strip)); event.preventDefault(); };
  list.onpointerdown = (event) => press(strip, event);
  list.onpointermove = (event) => move(strip, event);
  list.onpointerup = () => release(strip);
  list.onpointercancel = () => release(strip);
  list.onpointerleave = () => { if (!strip.drag) hideTip(strip); };
  list.onkeydown = (event) => key(strip, event);
  list.onblur = () => hideTip(strip);
  list.onscroll = () => { hideTip(strip); follow(strip); };
  list.onclick = (event) => {
    const who = event.target.closest(".ns-who");
    if (who) select(strip, [[Number(who.dataset.start), Number(who.dataset.stop)]]);
  };
  return strip;
}

function leave(strip) {
  hideTip(strip);
  document.removeEventListener("neuronscope:tint", strip.onTint);
  clearTimeout(strip.timer);
  GROUPS.get(strip.group)?.delete(strip);
}

function update(strip, data) {
  const before = strip.data;
  strip.data = data;
  const { list } = strip;
  const light = luminance(getComputedStyle(strip.root).getPropertyValue("--st-background-color")) > 0.4;
  for (const [name, value] of Object.entries(data.palette[light ? "light" : "dark"])) strip.root.style.setProperty(`--ns-${name}`, value);
  if (typeof data.height === "string") list.style.height = data.height;
  list.setAttribute("aria-label", `${data.title}: ${data.text.length} tokens. Arrow keys move, Enter selects, Shift with arrows selects a range, Escape clears.`);
  strip.scale.className = `scale ${data.scale}`;
  strip.scale.title = data.hint;
  strip.low.textContent = data.low;
  strip.high.textContent = data.high;
  strip.scale.hidden = !data.low && !data.high;
  const same = before && before.trace_id === data.trace_id;
  const grows = same && before.text.length <= data.text.length && before.text.every((text, i) => text === data.text[i]) &&
    JSON.stringify(before.segments.slice(0, -1)) === JSON.stringify(data.segments.slice(0, before.segments.length - 1));
  if (!grows) {
    list.replaceChildren();
    Object.assign(strip, { spans: [], owner: [], ranges: [], active: null, anchor: null, drag: null, nonce: null });
    list.scrollTop = 0;
  }
  grow(strip);
  strip.template.hidden = !data.segments.some((segment) => segment[3]);
  paint(strip);
  if (strip.nonce !== data.nonce) {
    strip.nonce = data.nonce;
    strip.ranges = data.selection.map((range) => [...range]);
    strip.active = strip.anchor = strip.ranges.length ? owner(strip, strip.ranges[0][0]) : null;
    if (strip.active !== null && strip.spans[strip.active]?.classList.contains("template")) showTemplate(strip, true);
    if (strip.active !== null) reveal(strip, strip.active);
  }
  showSelection(strip);
  if (data.live) list.scrollTop = list.scrollHeight;
  window.onresize = () => { clearTimeout(strip.sized); strip.sized = setTimeout(() => measure(strip), 300); };
  measure(strip);
  strip.sized ??= setTimeout(() => measure(strip), 600);
  if (data.group !== strip.group) {
    GROUPS.get(strip.group)?.delete(strip);
    strip.group = data.group;
    if (!GROUPS.has(data.group)) GROUPS.set(data.group, new Set());
  }
  if (data.group) GROUPS.get(data.group).add(strip);
}

// Fills the window but for `data.height` pixels below, and tells Python where it stands, so that its neighbour can be as high.
function measure(strip) {
  const { data, root, list } = strip;
  if (typeof data.height !== "number" || !root.isConnected) return;
  list.style.height = `${Math.max(200, innerHeight - Math.max(60, list.getBoundingClientRect().top) - data.height)}px`;
  const now = [innerHeight, Math.round(Math.max(60, root.getBoundingClientRect().top))];
  const known = strip.place ?? data.place;
  if (now.every((value, k) => Math.abs(value - known[k]) < 12)) return;
  strip.place = now;
  strip.send("window", now);
}

// Draws the tokens that are not drawn yet. A character split over several tokens is one span of all of them.
function grow(strip) {
  const { data, list } = strip;
  list.querySelector(".ns-cursor")?.remove();
  for (const [role, start, stop, template] of data.segments) {
    for (let i = Math.max(start, strip.owner.length); i < stop; i++) {
      if (i > 0 && data.text[i] === "" && i > start) {
        const head = owner(strip, i - 1);
        strip.owner.push(head);
        strip.spans[head].dataset.stop = i + 1;
        continue;
      }
      const body = bubble(strip, role, start);
      const span = element("span", "tok");
      span.id = `t${i}`;
      span.dataset.i = i;
      span.dataset.stop = i + 1;
      span.setAttribute("role", "option");
      if (template) span.classList.add("template");
      fill(span, data.text[i], template);
      strip.spans[i] = span;
      strip.owner.push(i);
      body.appendChild(span);
    }
    const last = list.lastElementChild;
    if (last) last.querySelector(".ns-who").dataset.stop = Math.min(stop, data.text.length);
  }
  for (const box of list.children) box.classList.toggle("only-template", !box.querySelector(".tok:not(.template)") && !(data.live && box === list.lastElementChild));
  if (data.live) element("span", "ns-cursor", list.lastElementChild?.querySelector(".ns-body") ?? list);
}

// The bubble that a new token of `role` belongs to: the last one, unless the role changes.
function bubble(strip, role, start) {
  const last = strip.list.lastElementChild;
  if (last && last.dataset.role === role && last.dataset.turn === turnOf(strip, start)) return last.querySelector(".ns-body");
  const box = element("div", `ns-bubble ${role in ROLES ? role : "plain"}`, strip.list);
  box.dataset.role = role;
  box.dataset.turn = turnOf(strip, start);
  box.setAttribute("role", "group");
  box.setAttribute("aria-label", ROLES[role] ?? role);
  const who = element("button", "ns-who", box, ROLES[role] ?? role);
  Object.assign(who, { type: "button", tabIndex: -1, title: "Select this whole turn" });
  who.dataset.start = start;
  who.dataset.stop = start;
  return element("div", "ns-body", box);
}

// Segments of one role that follow each other are one turn; its name is the first one's start.
function turnOf(strip, start) {
  const { segments } = strip.data;
  let k = segments.findIndex((segment) => segment[1] === start);
  while (k > 0 && segments[k - 1][0] === segments[k][0]) k--;
  return String(segments[k][1]);
}

// White space is visible but faint; control and direction characters are named, so that no text can turn the page round.
function fill(span, text, template) {
  let plain = "";
  const flush = () => { if (plain) span.appendChild(document.createTextNode(plain)); plain = ""; };
  const faint = (mark) => { flush(); element("span", "ws", span, mark); };
  const blank = /^ +$/.test(text);
  for (const character of text) {
    if (character === "\n") { faint("↵"); if (!template) plain += "\n"; }
    else if (character === "\t") { faint("⇥"); plain += "\t"; }
    else if (character === " " && blank) faint("·");
    else if (HIDDEN.test(character)) faint(`⟨U+${character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`);
    else plain += character;
  }
  flush();
  if (!text) element("span", "ws", span, "∅");
}

// Another tint for as long as something elsewhere on the page (a cluster's card) is looked at; null brings the own one back.
function preview(strip, detail) {
  const now = detail && strip.data && detail.trace_id === strip.data.trace_id && Array.isArray(detail.tint) ? detail : null;
  if (now === (strip.preview ?? null)) return;
  strip.preview = now;
  strip.root.classList.toggle("previewing", now !== null);
  paint(strip);
}

function paint(strip) {
  const { data } = strip;
  const shown = strip.preview ?? data;
  for (const [index, span] of strip.spans.entries()) {
    if (!span) continue;
    const stop = Number(span.dataset.stop);
    let tint = 0;
    for (let i = index; i < stop; i++) if (Math.abs(shown.tint[i] ?? 0) > Math.abs(tint)) tint = shown.tint[i];
    if (span.tint !== tint) { span.style.setProperty("--t", Math.abs(tint)); span.tint = tint; }
    span.classList.toggle("pos", shown.scale === "diverging" && tint > 0);
    span.classList.toggle("neg", shown.scale === "diverging" && tint < 0);
    span.classList.toggle("steered", Boolean(data.steered[index]));
    span.classList.toggle("marked", Boolean(data.marked[index]));
    span.classList.toggle("target", data.target !== null && index <= data.target && data.target < stop);
  }
}

const owner = (strip, i) => strip.owner[Math.max(0, Math.min(i, strip.owner.length - 1))] ?? null;
const stopOf = (strip, i) => Number(strip.spans[i].dataset.stop);

function tokenAt(strip, event) {
  const node = strip.drag ? strip.parentElement.elementFromPoint(event.clientX, event.clientY) : event.target;
  const span = node?.closest?.(".tok");
  return span && strip.list.contains(span) ? Number(span.dataset.i) : null;
}

function press(strip, event) {
  if (event.button !== 0) return;
  const i = tokenAt(strip, event);
  if (i === null) return;
  strip.list.focus({ preventScroll: true });
  const adds = event.ctrlKey || event.metaKey;
  strip.base = adds ? strip.ranges : [];
  if (adds && covered(strip, i)) {
    strip.active = i;
    select(strip, without(strip.ranges, i, stopOf(strip, i)));
    return;
  }
  if (!event.shiftKey || strip.anchor === null) strip.anchor = i;
  strip.active = i;
  strip.drag = { pointer: event.pointerId };
  if (event.pointerType === "mouse") strip.list.setPointerCapture(event.pointerId);
  stretch(strip, i, false);
}

function move(strip, event) {
  const i = tokenAt(strip, event);
  if (strip.drag && i !== null && i !== strip.active) { strip.active = i; stretch(strip, i, false); }
  if (i === null) { if (!strip.drag) hideTip(strip); } else showTip(strip, i);
}

function release(strip) {
  if (!strip.drag) return;
  if (strip.list.hasPointerCapture(strip.drag.pointer)) strip.list.releasePointerCapture(strip.drag.pointer);
  strip.drag = null;
  report(strip, 0);
}

// Selects from the anchor to token i, beside the ranges that ctrl keeps.
function stretch(strip, i, tell) {
  const [low, high] = [Math.min(strip.anchor, i), Math.max(strip.anchor, i)];
  strip.ranges = merge([...strip.base, [low, stopOf(strip, high)]]);
  showSelection(strip);
  if (tell) report(strip, 180);
}

function select(strip, ranges) {
  strip.ranges = merge(ranges);
  strip.base = [];
  showSelection(strip);
  report(strip, 0);
}

function merge(ranges) {
  const out = [];
  for (const [start, stop] of [...ranges].sort((a, b) => a[0] - b[0])) {
    if (out.length && start <= out[out.length - 1][1]) out[out.length - 1][1] = Math.max(stop, out[out.length - 1][1]);
    else out.push([start, stop]);
  }
  return out;
}

const covered = (strip, i) => strip.ranges.some(([start, stop]) => start <= i && i < stop);
const without = (ranges, low, high) => ranges.flatMap(([start, stop]) =>
  [[start, Math.min(stop, low)], [Math.max(start, high), stop]].filter(([a, b]) => a < b));

function showSelection(strip) {
  for (const [i, span] of strip.spans.entries()) {
    if (!span) continue;
    const on = covered(strip, i);
    if (on !== span.classList.contains("selected")) { span.classList.toggle("selected", on); span.setAttribute("aria-selected", String(on)); }
    span.classList.toggle("active", i === strip.active);
  }
  if (strip.active !== null) strip.list.setAttribute("aria-activedescendant", `t${strip.active}`);
  const count = strip.ranges.reduce((sum, [start, stop]) => sum + stop - start, 0);
  const names = strip.ranges.slice(0, 3).map(([start, stop]) => (stop - start === 1 ? `${start}` : `${start}–${stop - 1}`));
  strip.status.textContent = count ? `token${count > 1 ? "s" : ""} ${names.join(", ")}${strip.ranges.length > 3 ? "…" : ""} selected` : "";
  strip.clear.hidden = !count;
}

function report(strip, delay) {
  clearTimeout(strip.timer);
  const value = { trace_id: strip.data.trace_id, ranges: strip.ranges };
  strip.timer = setTimeout(() => strip.send("selection", value), delay);
}

function key(strip, event) {
  const { spans } = strip;
  if (!strip.owner.length || event.target !== strip.list) return;
  const adds = event.ctrlKey || event.metaKey;
  const visible = (i) => spans[i].getClientRects().length > 0;
  const shown = () => Object.keys(spans).map(Number).filter(visible);
  const step = (from, by) => {
    for (let i = from + by; i >= 0 && i < spans.length; i += by) if (spans[i] && visible(i)) return i;
    return from;
  };
  const from = strip.active ?? -1;
  let to = null;
  if (event.key === "ArrowRight") to = step(from, 1);
  else if (event.key === "ArrowLeft") to = from < 0 ? step(-1, 1) : step(from, -1);
  else if (event.key === "ArrowDown" || event.key === "ArrowUp") to = from < 0 ? step(-1, 1) : vertical(strip, shown(), from, event.key === "ArrowDown");
  else if (event.key === "Home") to = step(-1, 1);
  else if (event.key === "End") to = shown().at(-1);
  else if (event.key === "Escape") { hideTip(strip); select(strip, []); }
  else if (adds && event.key.toLowerCase() === "a") select(strip, [[0, strip.owner.length]]);
  else if (adds && event.key.toLowerCase() === "c") return copyText(strip);
  else if (event.key === "Enter" || event.key === " ") {
    if (from < 0) return;
    const range = [from, stopOf(strip, from)];
    strip.anchor = from;
    if (!adds) select(strip, [range]);
    else select(strip, covered(strip, from) ? without(strip.ranges, ...range) : [...strip.ranges, range]);
  } else return;
  event.preventDefault();
  event.stopPropagation();
  if (to === null || to === undefined) return;
  if (event.shiftKey) {
    if (!strip.stretching) { strip.anchor = from < 0 ? to : from; strip.base = adds ? strip.ranges : []; }
    strip.stretching = true;
    strip.active = to;
    stretch(strip, to, true);
  } else {
    strip.stretching = false;
    strip.active = to;
    showSelection(strip);
  }
  reveal(strip, to);
  showTip(strip, to);
}

// Scrolls the strip, and nothing else, until token i is in it.
function reveal(strip, i) {
  const box = strip.spans[i]?.getBoundingClientRect();
  const frame = strip.list.getBoundingClientRect();
  if (!box) return;
  if (box.top < frame.top + 4) strip.list.scrollTop -= frame.top + 4 - box.top;
  else if (box.bottom > frame.bottom - 4) strip.list.scrollTop += box.bottom - frame.bottom + 4;
}

// The token on the next line (down or up) that is nearest to where this one stands.
function vertical(strip, shown, from, down) {
  const here = strip.spans[from].getBoundingClientRect();
  let best = from;
  let least = Infinity;
  for (const i of shown) {
    const there = strip.spans[i].getBoundingClientRect();
    const gap = down ? there.top - here.top : here.top - there.top;
    if (gap < here.height / 2) continue;
    const cost = gap * 50 + Math.abs(there.left - here.left);
    if (cost < least) [least, best] = [cost, i];
  }
  return best;
}

function chosenText(strip) {
  const { text } = strip.data;
  const ranges = strip.ranges.length ? strip.ranges : [[0, text.length]];
  const hidden = strip.list.classList.contains("hide-template");
  const kept = (i) => strip.ranges.length || !hidden || !strip.spans[owner(strip, i)].classList.contains("template");
  return ranges.map(([start, stop]) => text.slice(start, stop).filter((_, k) => kept(start + k)).join("")).join("\n");
}

async function copyText(strip) {
  const say = (text) => { strip.copy.textContent = text; setTimeout(() => (strip.copy.textContent = "Copy"), 1200); };
  try {
    if (navigator.clipboard) await navigator.clipboard.writeText(chosenText(strip));
    else { strip.list.focus(); document.execCommand("copy"); }
    say("Copied");
  } catch {
    say("Not allowed");
  }
}

function showTemplate(strip, on) {
  strip.list.classList.toggle("hide-template", !on);
  strip.template.setAttribute("aria-pressed", String(on));
}

function follow(strip) {
  if (!strip.group || strip.followed) { strip.followed = false; return; }
  for (const other of GROUPS.get(strip.group) ?? []) {
    if (other === strip || other.list.scrollTop === strip.list.scrollTop) continue;
    other.followed = true;
    other.list.scrollTop = strip.list.scrollTop;
  }
}

function luminance(colour) {
  const hex = /^#([0-9a-f]{6})/i.exec(colour.trim());
  const parts = hex ? [0, 2, 4].map((k) => parseInt(hex[1].slice(k, k + 2), 16)) : (colour.match(/[\d.]+/g) ?? [255, 255, 255]).map(Number);
  return (0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]) / 255;
}
