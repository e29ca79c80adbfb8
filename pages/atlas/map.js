// The map of an atlas: every neuron side a point. Texts reach the page through textContent and canvas text alone.
// One state a mounted map; it outlives new data, so that a search or a colour leaves the view where it is.

const MAPS = new WeakMap();
const VIEWS = new Map(); // where each map was left, for the way back from a neuron's page
const CLOSEST = 1200; // times the whole map's size
const REACH = 10; // pixels around the pointer in which a point is found

export default function ({ data, parentElement, setTriggerValue }) {
  let map = MAPS.get(parentElement);
  if (!map) MAPS.set(parentElement, (map = build(parentElement)));
  map.open = (name) => setTriggerValue("opened", name);
  map.resize.observe(map.canvas);
  update(map, data);
  return () => { map.resize.disconnect(); hideTip(map); };
}

function build(parentElement) {
  const root = element("div", "ns-map", parentElement);
  const legend = element("div", "legend", root);
  const frame = element("div", "frame", root);
  const canvas = element("canvas", "", frame);
  canvas.tabIndex = 0;
  canvas.setAttribute("role", "application");
  const zoom = element("div", "zoom", frame);
  const tip = element("div", "tip", frame);
  tip.hidden = true;
  const said = element("div", "said", frame);
  said.setAttribute("aria-live", "polite");
  const map = { parentElement, root, legend, frame, canvas, tip, said, data: null, points: null, view: { x: 0, y: 0, k: 0 }, shade: null,
    rgb: [], grey: [], lit: null, colours: {}, shown: [], pointers: new Map(), moved: 0, keyed: false, aimed: null, asked: false };
  for (const [text, title, act] of [["+", "Closer", () => zoomBy(map, 1.6)], ["−", "Further away", () => zoomBy(map, 1 / 1.6)], ["All", "The whole map", () => whole(map)]]) {
    const button = element("button", "", zoom, text);
    Object.assign(button, { type: "button", title, onclick: act });
    button.setAttribute("aria-label", title);
  }
  map.resize = new ResizeObserver(() => { if (map.points && !map.view.k) whole(map); redraw(map); });
  canvas.onpointerdown = (event) => pressed(map, event);
  canvas.onpointermove = (event) => moved(map, event);
  canvas.onpointerup = (event) => released(map, event);
  canvas.onpointercanceled = canvas.onpointercancel = (event) => { map.pointers.delete(event.pointerId); canvas.classList.remove("dragging"); };
  canvas.onpointerleave = () => hideTip(map);
  canvas.addEventListener("wheel", (event) => { event.preventDefault(); zoomBy(map, Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0016)), place(map, event)); }, { passive: false });
  canvas.ondblclick = (event) => zoomBy(map, 2.5, place(map, event));
  canvas.onkeydown = (event) => key(map, event);
  canvas.onfocus = () => { map.keyed = canvas.matches(":focus-visible"); aim(map); };
  canvas.onblur = () => { map.keyed = false; redraw(map); };
  return map;
}

function element(tag, name, parent, text = "") {
  const made = document.createElement(tag);
  if (name) made.className = name;
  if (text) made.textContent = text;
  parent.appendChild(made);
  return made;
}

async function update(map, data) {
  const before = map.data;
  map.data = data;
  map.frame.style.height = `${data.height}px`;
  map.canvas.setAttribute("aria-label", data.title);
  const style = getComputedStyle(map.root);
  const read = (name, other) => style.getPropertyValue(name).trim() || other;
  const palette = data.palette;
  for (const [name, value] of Object.entries(palette)) map.root.style.setProperty(`--ns-${name}`, value);
  map.colours = { ...palette, ground: read("--st-background-color", "#fff"), text: read("--st-text-color", "#222"), font: read("--st-font", "sans-serif") };
  if (before?.stamp !== data.stamp || !map.points) {
    const asked = (map.asked = data.stamp);
    const points = await unpack(data);
    if (map.asked !== asked) return;
    map.points = points;
    map.view = VIEWS.get(data.stamp) ?? { x: 0, y: 0, k: 0 };
  }
  shades(map);
  map.lit = map.data.lit === null ? null : new Set(map.data.lit);
  legend(map);
  if (!map.view.k) whole(map);
  if (map.data.nonce !== before?.nonce && map.lit?.size) toLit(map);
  aim(map);
  redraw(map);
}

async function unpack(data) {
  const bytes = async (text) => {
    const raw = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
    return new Uint8Array(await new Response(new Blob([raw]).stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer());
  };
  const [places, kinds, layers, lines] = await Promise.all([data.places, data.kinds, data.layers, data.lines].map(bytes));
  const whole16 = new Uint16Array(places.buffer);
  const xy = Float32Array.from(whole16, (value) => (value / 65535) * 2 - 1);
  return { xy, count: xy.length / 2, kinds, layers, lines: new TextDecoder().decode(lines).split("\n"), grid: grid(xy) };
}

// Which points lie in which of 256 x 256 cells: the pointer asks a few cells instead of all points.
function grid(xy) {
  const n = xy.length / 2;
  const cell = (v) => Math.max(0, Math.min(255, Math.floor(((v + 1) / 2) * 256)));
  const start = new Uint32Array(65537);
  const of = new Uint16Array(n);
  for (let i = 0; i < n; i++) start[(of[i] = cell(xy[2 * i + 1]) * 256 + cell(xy[2 * i])) + 1]++;
  for (let c = 0; c < 65536; c++) start[c + 1] += start[c];
  const next = start.slice();
  const items = new Uint32Array(n);
  for (let i = 0; i < n; i++) items[next[of[i]]++] = i;
  return { start, items, cell };
}

function shades(map) {
  const { points, data } = map;
  map.shade = data.by === "layer" ? points.layers : points.kinds;
  map.rgb = data.shades.map((hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16)));
  map.grey = data.shades.map((hex) => data.by !== "layer" && hex === data.palette.muted);
}

function legend(map) {
  map.legend.replaceChildren();
  for (const [name, colour] of map.data.legend) {
    const entry = element("span", "", map.legend);
    element("i", "", entry).style.background = colour;
    entry.append(name);
  }
}

// The map is 2 wide and 2 high; a wide window stretches it, so that its names have room.
const stretch = (map) => Math.max(1, Math.min(1.8, map.canvas.clientWidth / map.canvas.clientHeight));
const fitting = (map) => Math.min(map.canvas.clientWidth / stretch(map), map.canvas.clientHeight) / 2.12;
const across = (map) => map.view.k * stretch(map); // pixels a unit sideways; view.k is that upwards

function whole(map) {
  Object.assign(map.view, { x: 0, y: 0, k: fitting(map) });
  aim(map);
  redraw(map);
}

// The view of all that a search found, when it did not fill the map anyway.
function toLit(map) {
  const { xy } = map.points;
  const lit = [...map.lit];
  const middle = (values) => values.sort((a, b) => a - b)[values.length >> 1];
  const [x, y] = [middle(lit.map((i) => xy[2 * i])), middle(lit.map((i) => xy[2 * i + 1]))];
  if (!Number.isFinite(x)) return;
  if (map.view.k > 1.5 * fitting(map)) Object.assign(map.view, { x, y });
}

function zoomBy(map, factor, at = null) {
  const { view, canvas } = map;
  const k = Math.max(fitting(map) * 0.8, Math.min(fitting(map) * CLOSEST, view.k * factor));
  const [dx, dy] = at ? [at.x - canvas.clientWidth / 2, at.y - canvas.clientHeight / 2] : [0, 0];
  view.x += (dx / view.k - dx / k) / stretch(map);
  view.y -= dy / view.k - dy / k;
  view.k = k;
  keepIn(view);
  hideTip(map);
  aim(map);
  redraw(map);
}

function keepIn(view) {
  view.x = Math.max(-1.1, Math.min(1.1, view.x));
  view.y = Math.max(-1.1, Math.min(1.1, view.y));
}

function redraw(map) {
  if (map.data) VIEWS.set(map.data.stamp, map.view);
  if (map.due) return;
  map.due = true;
  requestAnimationFrame(() => { map.due = false; paint(map); });
}

function told(map, i) {
  const [name, headline, kind] = map.points.lines[i].split("\t");
  return { name, headline, kind };
}

// The point nearest to a place of the canvas, within `reach` pixels, or null. What a search found goes first.
function nearest(map, at, reach) {
  const { canvas, view, points } = map;
  if (!points) return null;
  const x = (at.x - canvas.clientWidth / 2) / across(map) + view.x;
  const y = view.y - (at.y - canvas.clientHeight / 2) / view.k;
  const { start, items, cell } = points.grid;
  const [rx, ry] = [reach / across(map), reach / view.k];
  let best = null;
  let least = reach;
  for (let row = cell(y - ry); row <= cell(y + ry); row++)
    for (let n = start[row * 256 + cell(x - rx)]; n < start[row * 256 + cell(x + rx) + 1]; n++) {
      const i = items[n];
      const away = Math.hypot(screenX(map, i) - at.x, screenY(map, i) - at.y);
      const rank = map.lit?.has(i) ? away / 3 : away;
      if (away <= reach && rank <= least) { best = i; least = rank; }
    }
  return best;
}

const place = (map, event) => {
  const box = map.canvas.getBoundingClientRect();
  return { x: event.clientX - box.left, y: event.clientY - box.top };
};

function pressed(map, event) {
  map.canvas.setPointerCapture(event.pointerId);
  map.pointers.set(event.pointerId, place(map, event));
  map.moved = map.pointers.size > 1 ? 100 : 0;
  map.keyed = false;
  redraw(map);
}

function moved(map, event) {
  const at = place(map, event);
  const was = map.pointers.get(event.pointerId);
  if (!was) return showTip(map, at);
  if (map.pointers.size === 2) {
    const other = [...map.pointers.entries()].find(([id]) => id !== event.pointerId)[1];
    zoomBy(map, Math.hypot(at.x - other.x, at.y - other.y) / Math.max(1, Math.hypot(was.x - other.x, was.y - other.y)),
      { x: (at.x + other.x) / 2, y: (at.y + other.y) / 2 });
  } else {
    map.view.x -= (at.x - was.x) / across(map);
    map.view.y += (at.y - was.y) / map.view.k;
    keepIn(map.view);
    map.moved += Math.abs(at.x - was.x) + Math.abs(at.y - was.y);
    if (map.moved > 4) { map.canvas.classList.add("dragging"); hideTip(map); }
    redraw(map);
  }
  map.pointers.set(event.pointerId, at);
}

function released(map, event) {
  map.pointers.delete(event.pointerId);
  map.canvas.classList.remove("dragging");
  if (map.moved > 4 || event.button !== 0) return;
  const i = nearest(map, place(map, event), REACH);
  if (i !== null) map.open(told(map, i).name);
}

function showTip(map, at) {
  const i = nearest(map, at, REACH);
  map.canvas.classList.toggle("over", i !== null);
  if (i === null) return hideTip(map);
  fillTip(map, i);
  const right = at.x > map.canvas.clientWidth * 0.6;
  Object.assign(map.tip.style, { left: right ? "" : `${at.x + 14}px`, right: right ? `${map.canvas.clientWidth - at.x + 14}px` : "" });
  const low = at.y > map.canvas.clientHeight * 0.7;
  Object.assign(map.tip.style, { top: low ? "" : `${at.y + 10}px`, bottom: low ? `${map.canvas.clientHeight - at.y + 10}px` : "" });
}

function fillTip(map, i) {
  const { name, headline, kind } = told(map, i);
  map.tip.replaceChildren();
  element("div", "name", map.tip, name);
  element("div", "", map.tip, headline || "no short description predicts it").dir = "auto";
  element("div", "small", map.tip, `layer ${map.points.layers[i]}, ${kind}. Click to open it.`);
  map.tip.hidden = false;
}

function hideTip(map) {
  map.tip.hidden = true;
}

function key(map, event) {
  const step = 0.15 * map.canvas.clientHeight / map.view.k;
  const moves = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, step], ArrowDown: [0, -step] };
  if (moves[event.key]) {
    map.view.x += moves[event.key][0] / stretch(map);
    map.view.y += moves[event.key][1];
    keepIn(map.view);
  } else if (event.key === "+" || event.key === "=") zoomBy(map, 1.6);
  else if (event.key === "-") zoomBy(map, 1 / 1.6);
  else if (event.key === "0") whole(map);
  else if (event.key === "Enter" && map.aimed !== null) map.open(told(map, map.aimed).name);
  else return;
  event.preventDefault();
  map.keyed = true;
  aim(map);
  redraw(map);
}

// The side nearest to the middle, for the keyboard and for whoever hears the page.
function aim(map) {
  if (!map.points || !map.keyed) return redraw(map);
  const [x, y] = [map.canvas.clientWidth / 2, map.canvas.clientHeight / 2];
  map.aimed = nearest(map, { x, y }, 160);
  if (map.aimed === null) {
    map.said.textContent = "No neuron is near the middle.";
    hideTip(map);
  } else {
    const { name, headline } = told(map, map.aimed);
    map.said.textContent = `${name}, ${headline}. Enter opens it.`;
    fillTip(map, map.aimed);
    Object.assign(map.tip.style, { left: `${x + 16}px`, right: "", top: `${y + 14}px`, bottom: "" });
  }
  redraw(map);
}
