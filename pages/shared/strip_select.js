// Selecting in the strip with the pointer and the keyboard. Read together with strip.js, as one module.

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
