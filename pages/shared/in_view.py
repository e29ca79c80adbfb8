"""Bringing what a press began into view: its progress, its result, its error, wherever on the page they are drawn."""

from __future__ import annotations

import streamlit as st

_JS = """
export default function ({ data, parentElement }) {
  const host = parentElement.host ?? parentElement;
  if (!data.mark || window.neuronscopeSeen?.[data.place] === data.mark) return;
  window.neuronscopeSeen = { ...window.neuronscopeSeen, [data.place]: data.mark };
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const behavior = calm ? "auto" : "smooth";
  setTimeout(() => {
    const box = scrolling(host);
    if (!box) return host.scrollIntoView({ block: "start", behavior });
    box.scrollBy({ top: host.getBoundingClientRect().top - box.getBoundingClientRect().top, behavior });
    box.scrollIntoView({ block: "nearest", behavior });
  }, 60);
}

/* The box of the page that scrolls by itself and holds the place: the page around it stays where it is. */
function scrolling(host) {
  for (let box = host.parentElement; box && box.dataset.testid !== "stMain"; box = box.parentElement) {
    if (/auto|scroll/.test(getComputedStyle(box).overflowY) && box.clientHeight > 200) return box;
  }
  return null;
}
"""
_mount = st.components.v2.component("neuronscope_in_view", css=":host { scroll-margin-top: 5rem; }", js=_JS)


def bring(mark: str, *, key: str) -> None:
    """Scroll to this place once for each `mark`, such as a task's id; "" scrolls nowhere. Drawn just above what is to be seen."""
    _mount(key=key, data={"place": key, "mark": mark}, height="content")
