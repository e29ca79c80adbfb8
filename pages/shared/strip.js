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
  if (!grows) strip.fresh = !data.live && strip.active === null;
  measure(strip);
  if (!strip.sized) {
    strip.sized = setTimeout(() => measure(strip), 600);
    document.fonts?.ready.then(() => measure(strip)); // what stands above takes another height in its own font
    setTimeout(() => measure(strip), 2500);
  }
  if (data.group !== strip.group) {
    GROUPS.get(strip.group)?.delete(strip);
    strip.group = data.group;
    if (!GROUPS.has(data.group)) GROUPS.set(data.group, new Set());
  }
  if (data.group) GROUPS.get(data.group).add(strip);
}

// A prompt longer than the strip must not hide what the model said: the last turn begins at the top, or ends at the bottom.
function showAnswer(list) {
  const last = list.lastElementChild;
  if (last) list.scrollTop += last.getBoundingClientRect().top - list.getBoundingClientRect().top - 4;
}

const NARROW = 440; // pixels: below it the controls under the strip take two lines more
const TWO_LINES = 96;

// Fills the window but for `data.height` pixels below, and tells Python where it stands, so that its neighbour can be as high.
function measure(strip) {
  const { data, root, list } = strip;
  if (typeof data.height !== "number" || !root.isConnected) return;
  const scrolled = scrolledAbove(root);
  const below = data.height + (root.clientWidth < NARROW ? TWO_LINES : 0);
  list.style.height = `${Math.max(180, innerHeight - Math.max(60, list.getBoundingClientRect().top + scrolled) - below)}px`;
  if (strip.fresh && list.clientHeight && list.scrollHeight > list.clientHeight) {
    strip.fresh = false;
    showAnswer(list);
  }
  const now = [innerHeight, Math.round(Math.max(60, root.getBoundingClientRect().top + scrolled))];
  const known = strip.place ?? data.place;
  if (now.every((value, k) => Math.abs(value - known[k]) < 12)) return;
  strip.place = now;
  strip.send("window", now);
}

// How far the page is scrolled: where the strip stands must not depend on it.
function scrolledAbove(node) {
  let sum = 0;
  for (let up = node.parentElement ?? node.getRootNode().host; up; up = up.parentElement ?? up.getRootNode().host) sum += up.scrollTop;
  return sum;
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
  const who = element("span", "ns-who", box, ROLES[role] ?? role); // no button: a list holds options alone, and arrows with Shift do the same
  Object.assign(who, { title: "Select this whole turn", ariaHidden: "true" });
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
  let before = "";
  for (const character of text) {
    if (character === "\n") { faint("↵"); if (!template) plain += "\n"; }
    else if (character === "\t") { faint("⇥"); plain += "\t"; }
    else if (character === " " && blank) faint("·");
    else if (hidden(character, before)) faint(`⟨U+${character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`);
    else plain += character;
    before = character;
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
