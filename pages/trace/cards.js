// Cards of groups of neurons. Hovering or focusing one tints the tokens of the strip that shows the same trace (strip.js listens);
// clicking it chooses it; its buttons act on it. Every text reaches the page through textContent.

const VIEWS = new WeakMap();

export default function ({ data, parentElement, setStateValue }) {
  let view = VIEWS.get(parentElement);
  if (!view) {
    const root = element("div", "nc-cards", parentElement);
    view = { root, pinned: null, nonce: 0, session: Math.random().toString(36).slice(2) };
    VIEWS.set(parentElement, view);
  }
  view.data = data;
  view.send = (number, action) =>
    setStateValue("event", { trace_id: data.trace_id, key: data.key, number, action, nonce: `${view.session}${view.nonce++}` });
  draw(view);
  return () => tint(null);
}

function draw(view) {
  const { root, data } = view;
  const light = luminance(getComputedStyle(root).getPropertyValue("--st-background-color")) > 0.4;
  for (const [name, value] of Object.entries(data.palette[light ? "light" : "dark"])) root.style.setProperty(`--ns-${name}`, value);
  root.style.maxHeight = `${data.height}px`;
  const stays = view.shown === data.key ? root.scrollTop : 0;
  const focused = view.shown === data.key ? root.querySelector(".nc-card:has(.label:focus)")?.dataset.number : null;
  view.shown = data.key;
  root.replaceChildren(...data.cards.map((card) => cardOf(view, card)));
  root.scrollTop = stays;
  if (focused) root.querySelector(`[data-number="${focused}"] .label`)?.focus({ preventScroll: true });
}

function cardOf(view, card) {
  const { data } = view;
  const box = element("div", "nc-card");
  const chosen = data.chosen === card.number;
  box.dataset.number = card.number;
  box.setAttribute("role", "group");
  box.setAttribute("aria-label", card.spoken);
  box.classList.toggle("faint", card.faint);
  box.classList.toggle("chosen", chosen);
  const show = () => tint({ trace_id: data.trace_id, tint: card.tint, scale: data.scale });
  const hide = () => tint(null);
  Object.assign(box, { onpointerenter: show, onpointerleave: hide });
  box.onclick = (event) => { if (!event.target.closest("a, .row button")) view.send(card.number, "choose"); };
  const head = element("div", "head", box);
  const name = element("button", "label", head, card.label);
  Object.assign(name, { type: "button", onfocus: show, onblur: hide, ariaPressed: String(chosen) });
  element("span", "size", head, card.aside);
  if (card.bar !== null) {
    const track = element("div", "track", box);
    const bar = element("div", `bar ${data.scale === "diverging" ? (card.bar < 0 ? "neg" : "pos") : ""}`, track);
    bar.style.width = `${Math.max(1, 100 * Math.abs(card.bar))}%`;
  }
  const facts = element("div", "facts", box, card.facts);
  facts.title = card.hint;
  const list = element("ul", "", box);
  for (const [name, address, description, weight] of card.members) {
    const row = element("li", "", list);
    const link = element("a", "neuron", row, name);
    Object.assign(link, { href: address, target: "_blank", rel: "noopener", title: "Open this neuron's page in a new tab" });
    const what = element("span", "what", row, description || "not described");
    what.title = description;
    element("span", "weight", row, weight);
  }
  if (card.size > card.members.length) element("div", "more", box, `and ${card.size - card.members.length} more`);
  if (card.buttons.length) {
    const row = element("div", "row", box);
    for (const { action, label, help } of card.buttons) {
      const button = element("button", "", row, label);
      Object.assign(button, { type: "button", title: help, onclick: () => view.send(card.number, action) });
    }
  }
  return box;
}

function tint(detail) { document.dispatchEvent(new CustomEvent("neuronscope:tint", { detail })); }

function element(tag, name = "", parent = null, text = "") {
  const made = document.createElement(tag);
  if (name) made.className = name;
  if (text) made.textContent = text;
  parent?.appendChild(made);
  return made;
}

function luminance(colour) {
  const hex = /^#([0-9a-f]{6})/i.exec(colour.trim());
  const parts = hex ? [0, 2, 4].map((k) => parseInt(hex[1].slice(k, k + 2), 16)) : (colour.match(/[\d.]+/g) ?? [255, 255, 255]).map(Number);
  return (0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]) / 255;
}
