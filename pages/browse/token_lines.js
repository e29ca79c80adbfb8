// Passages of tokens tinted by one neuron's activation, its value beside the pointer or the arrow keys. textContent alone.

const VIEWS = new WeakMap();
const UNSEEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]/g;

export default function ({ data, parentElement }) {
  let view = VIEWS.get(parentElement);
  if (!view) VIEWS.set(parentElement, (view = build(parentElement)));
  update(view, data);
  return () => hide(view);
}

function make(tag, className, parent, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  if (parent) parent.appendChild(node);
  return node;
}

function build(parentElement) {
  const root = make("div", "ns-passages", parentElement);
  root.tabIndex = 0;
  root.setAttribute("role", "group");
  const tip = make("div", "ns-value", parentElement);
  tip.setAttribute("role", "tooltip");
  tip.setAttribute("aria-live", "polite");
  tip.popover = "manual";
  const view = { root, tip, data: null, drawn: [], spans: [], active: null };
  root.onpointermove = (event) => {
    const span = event.target.closest(".tok");
    if (span) show(view, span); else hide(view);
  };
  root.onpointerleave = () => hide(view);
  root.onblur = () => hide(view);
  root.onkeydown = (event) => key(view, event);
  return view;
}

function update(view, data) {
  const { root, tip } = view;
  for (const node of [root, tip]) for (const [name, value] of Object.entries(data.palette)) node.style.setProperty(`--ns-${name}`, value);
  root.setAttribute("aria-label", `${data.title}: ${data.passages.length} passages. Arrow keys move over the tokens and tell their activation.`);
  const texts = data.passages.map((passage) => JSON.stringify(passage));
  if (view.data && view.data.identity !== data.identity) { root.replaceChildren(); view.drawn = []; view.active = null; hide(view); }
  view.data = data;
  data.passages.forEach((passage, n) => {
    if (view.drawn[n] === texts[n]) return;
    const node = draw(passage, n);
    if (root.children[n]) root.children[n].replaceWith(node); else root.appendChild(node);
  });
  while (root.children.length > data.passages.length) root.lastChild.remove();
  view.drawn = texts;
  view.spans = [...root.querySelectorAll(".tok")];
  view.active = null;
}

function draw(passage, n) {
  const row = make("div", passage.value === "" ? "ns-passage bare" : "ns-passage");
  if (passage.value !== "") {
    const fact = make("div", "fact", row, passage.value);
    make("span", "under", fact, passage.under);
  }
  const words = make("div", "words", row);
  passage.text.forEach((text, i) => {
    const act = passage.acts[i];
    const known = act !== null && act !== undefined;
    const span = make("span", "tok", words);
    span.dataset.n = n;
    span.dataset.i = i;
    span.classList.add(known && act < 0 ? "neg" : "pos");
    if (i === passage.peak) span.classList.add("peak");
    span.style.setProperty("--t", known ? Math.min(1, Math.abs(passage.tint[i] ?? 0)).toFixed(3) : "0");
    for (const part of text.split(/(\n|\t)/)) {
      if (part === "\n" || part === "\t") {
        make("span", "ws", span, part === "\n" ? "↵" : "⇥");
        if (part === "\n" && passage.value === "") words.append("\n");
      }
      else if (part) span.append(part.replace(UNSEEN, "\ufffd"));
    }
  });
  if (passage.pending) make("span", "pending", words, `  ${passage.pending}`);
  if (passage.source) make("span", "source", words, passage.source);
  return row;
}

function show(view, span) {
  const passage = view.data.passages[Number(span.dataset.n)];
  const i = Number(span.dataset.i);
  const act = passage.acts[i];
  view.root.querySelector(".tok.active")?.classList.remove("active");
  span.classList.add("active");
  view.tip.replaceChildren();
  make("div", "what", view.tip, seen(passage.text[i]));
  if (act === null || act === undefined) make("div", "how", view.tip, "Its activation is still being computed.");
  else {
    make("div", "", view.tip, `activation ${figure(act)}`);
    make("div", "how", view.tip, view.data.unit.replace("{}", figure(Math.abs(passage.tint[i]))));
  }
  if (!view.tip.matches(":popover-open")) view.tip.showPopover();
  const box = span.getClientRects()[0];
  if (!box) return;
  const size = view.tip.getBoundingClientRect();
  const below = box.bottom + 6 + size.height <= innerHeight;
  view.tip.style.left = `${Math.max(6, Math.min(box.left, innerWidth - size.width - 6))}px`;
  view.tip.style.top = `${below ? box.bottom + 6 : Math.max(6, box.top - size.height - 6)}px`;
}

function hide(view) {
  view.root.querySelector(".tok.active")?.classList.remove("active");
  if (view.tip.matches(":popover-open")) view.tip.hidePopover();
}

function key(view, event) {
  const { spans } = view;
  if (!spans.length) return;
  const row = (i) => Number(spans[i].dataset.n);
  const at = view.active ?? -1;
  let to = null;
  if (event.key === "ArrowRight") to = Math.min(at + 1, spans.length - 1);
  else if (event.key === "ArrowLeft") to = Math.max(at - 1, 0);
  else if (event.key === "ArrowDown") to = at < 0 ? 0 : spans.findIndex((_, i) => row(i) === row(at) + 1);
  else if (event.key === "ArrowUp") to = at < 0 ? 0 : spans.findIndex((_, i) => row(i) === row(at) - 1);
  else if (event.key === "Escape") return hide(view);
  else return;
  event.preventDefault();
  if (to === null || to < 0) return;
  view.active = to;
  spans[to].scrollIntoView({ block: "nearest" });
  show(view, spans[to]);
}

const figure = (value) => (Math.abs(value) >= 100 ? value.toFixed(0) : Math.abs(value) >= 0.01 || value === 0 ? value.toFixed(2) : value.toExponential(1));
const seen = (text) => [...text].map((c) => (c === "\n" ? "↵" : c === "\t" ? "⇥" : c === " " ? "·" : c)).join("").replace(UNSEEN, "\ufffd") || "∅";
