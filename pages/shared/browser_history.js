// Streamlit makes a history entry of every change to the address. Here only steps become one: a change of the parameters named for the
// page. Everything else replaces the present entry, so that Back leads to where a person was, with what was chosen there.
// A question that is half typed stays with the page that it was typed on.
const TYPED = "neuronscope.typed";
let last = null; // looked at with every change of the page, written only when it is another

// When a page is left, Streamlit writes the next one's address a moment before it changes the path: on the entry of the page that is left,
// where it takes away what that page shows. So what takes away and names nothing to show waits, and is dropped where another path comes.
const MOMENT = 250; // ms
let waiting = null;

function settle(keep) {
  if (!waiting) return;
  const { write, timer } = waiting;
  waiting = null;
  clearTimeout(timer);
  if (keep) write();
}

function install() {
  if (window.neuronscopeInstalled) return;
  window.neuronscopeInstalled = true;
  const push = window.history.pushState.bind(window.history);
  const replace = window.history.replaceState.bind(window.history);
  window.history.pushState = (state, title, address) => {
    const next = new URL(address ?? window.location.href, window.location.href);
    settle(window.location.pathname === next.pathname);
    const now = new URL(window.location.href);
    const here = next.pathname.split("/").pop();
    if (late(here, next.searchParams)) return;
    const names = window.neuronscopeSteps[here] ?? [];
    const begun = names.some((name) => now.searchParams.has(name)); // an empty conversation is no place to go back to
    const step = now.pathname !== next.pathname || (begun && names.some((name) => now.searchParams.get(name) !== next.searchParams.get(name)));
    const write = () => (step ? push : replace)(state, title, address);
    const taken = [...now.searchParams.keys()].some((name) => !next.searchParams.has(name));
    if (now.pathname === next.pathname && taken && !shows(here, next.searchParams)) waiting = { write, timer: setTimeout(() => settle(true), MOMENT) };
    else write();
  };
  // Streamlit's own, between a press of Back and the drawing of the page that it leads to: no page takes its conversation away then.
  window.history.replaceState = (state, title, address) => {
    const next = new URL(address ?? window.location.href, window.location.href);
    const here = next.pathname.split("/").pop();
    const emptied = shows(here, new URL(window.location.href).searchParams) && !shows(here, next.searchParams);
    if (emptied || late(here, next.searchParams)) return;
    replace(state, title, address);
  };
  window.addEventListener("popstate", () => settle(false), true);
  document.addEventListener("input", fill);
  new MutationObserver(fill).observe(document.body, { childList: true, subtree: true });
}

// Whether an address's parameters name something that the page shows.
const shows = (here, given) => (window.neuronscopeNames[here] ?? []).some((name) => given.has(name));

// What a page writes to the address after Back has left it would land on the other page's address and take its conversation away.
function late(here, given) {
  const own = window.neuronscopeNames[here] ?? [];
  const others = Object.values(window.neuronscopeNames).flat();
  return !shows(here, given) && others.some((name) => !own.includes(name) && given.has(name));
}

function fill() {
  const box = document.querySelector("[data-testid='stChatInput'] textarea");
  if (!box) return;
  if (box.neuronscopeFilled) {
    if (box.value !== last) sessionStorage.setItem(TYPED, last = box.value);
    return;
  }
  box.neuronscopeFilled = true;
  const typed = sessionStorage.getItem(TYPED);
  if (!typed || box.value) return;
  Object.getOwnPropertyDescriptor(HTMLTextAreaElement.prototype, "value").set.call(box, typed);
  box.dispatchEvent(new Event("input", { bubbles: true }));
}

export default function ({ data }) {
  window.neuronscopeSteps = data.steps;
  window.neuronscopeNames = data.names;
  install();
}
