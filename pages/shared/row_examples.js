// Over a row of a table of neurons, or on the row that a key ticked: the two places where the neuron fires most. The table is Streamlit's,
// a canvas; what it tells screen readers of the rows in sight says which neuron a row is of.
const HEAD = 36; // pixels, as the table draws its head and its rows
const ROW = 35;
const REST = 300; // milliseconds that the pointer rests before anything shows
const FRAME = "[data-testid='stDataFrame']";
const NAME = /(\d+:(?:e\d+\/)?\d+)(\+|%2B|-)/;

export default function ({ data, parentElement }) {
  const host = parentElement.getRootNode().host ?? parentElement;
  let tip = parentElement.querySelector(".ns-row-tip");
  if (!tip) {
    tip = parentElement.appendChild(document.createElement("div"));
    tip.className = "ns-row-tip";
    tip.popover = "manual";
    tip.setAttribute("role", "tooltip");
  }
  for (const [name, value] of Object.entries(data.palette)) tip.style.setProperty(`--ns-${name}`, value);
  let timer = 0;
  let over = -1;

  const hide = () => {
    clearTimeout(timer);
    over = -1;
    if (tip.matches(":popover-open")) tip.hidePopover();
  };
  const show = (name, left, top) => {
    if (!data.places[name]) return hide();
    fill(tip, name, data.places[name]);
    if (!tip.matches(":popover-open")) tip.showPopover();
    const size = tip.getBoundingClientRect();
    tip.style.left = `${Math.max(6, Math.min(left, innerWidth - size.width - 6))}px`;
    tip.style.top = `${top + size.height > innerHeight ? Math.max(6, top - size.height - ROW - 8) : top}px`;
  };

  const moved = (event) => {
    const frame = event.target.closest?.(FRAME);
    const number = frame && frame === frameOf(host) ? numberAt(frame, event.clientY) : -1;
    if (number === over) return;
    hide();
    over = number;
    if (number < 0) return;
    timer = setTimeout(() => show(nameOf(frame, number), event.clientX + 12, endOf(frame, number) + 6), REST);
  };
  const keyed = (event) => {
    const frame = frameOf(host);
    if (!frame || !frame.contains(event.target)) return;
    if (event.key === "Escape") return hide();
    clearTimeout(timer);
    timer = setTimeout(() => {
      const chosen = frame.querySelectorAll("tbody [aria-selected='true']");
      const number = Number(chosen[chosen.length - 1]?.closest("tr").getAttribute("aria-rowindex") ?? 1) - 2;
      show(nameOf(frame, number), tableOf(frame).left + 40, endOf(frame, number) + 6);
    }, REST); // what is told to screen readers lags behind the keys
  };
  const left = (event) => {
    const frame = frameOf(host);
    if (frame?.contains(event.target) && !frame.contains(event.relatedTarget)) hide();
  };

  tip.stop?.(); // drawn again: what listened for the table before it
  const stopped = new AbortController();
  tip.stop = () => stopped.abort();
  const options = { signal: stopped.signal, passive: true };
  document.addEventListener("pointermove", moved, options);
  document.addEventListener("pointerdown", hide, options);
  document.addEventListener("wheel", hide, options);
  document.addEventListener("keyup", keyed, options);
  document.addEventListener("focusout", left, options);
  return tip.stop;
}

/* The table that was drawn last before this place. */
function frameOf(host) {
  const before = (frame) => frame.compareDocumentPosition(host) & Node.DOCUMENT_POSITION_FOLLOWING;
  return [...document.querySelectorAll(FRAME)].filter(before).at(-1) ?? null;
}

const tableOf = (frame) => frame.querySelector("canvas[data-testid='data-grid-canvas']").getBoundingClientRect();

/* Where a row ends on the screen. */
const endOf = (frame, number) => tableOf(frame).top + HEAD + (number + 1) * ROW - (frame.querySelector(".dvn-scroller")?.scrollTop ?? 0);

/* The number of the row at a height on the screen, from 0; -1 on the head. */
const numberAt = (frame, y) => (y < endOf(frame, -1) ? -1 : Math.floor((y - endOf(frame, -1)) / ROW));

/* Which neuron a row in sight is of, as it is told to screen readers; "" where that is not known. */
function nameOf(frame, number) {
  const cells = frame.querySelector(`tbody tr[aria-rowindex='${number + 2}']`)?.cells ?? [];
  const found = [...cells].map((cell) => NAME.exec(cell.textContent)).find(Boolean);
  return found ? found[1] + (found[2] === "-" ? "-" : "+") : "";
}

function fill(tip, name, places) {
  const head = document.createElement("div");
  head.className = "name";
  head.textContent = `${name} fires most at`;
  tip.replaceChildren(head, ...places.map(([before, word, after]) => {
    const line = document.createElement("div");
    line.className = "place";
    const peak = document.createElement("b");
    peak.textContent = visible(word);
    line.append(flat(before), peak, flat(after));
    return line;
  }));
}

const flat = (text) => text.replace(/\s+/g, " ");
const visible = (text) => (text.trim() ? flat(text) : text.replace(/\n/g, "↵").replace(/\t/g, "⇥").replace(/ /g, "·"));
