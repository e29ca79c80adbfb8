"""Lists of links, such as a neuron's neighbours: real links (they open in a new tab too) that stay in this session when clicked.

What is said of each is untrusted text and goes onto the page as textContent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import streamlit as st

from pages.shared.palette import PALETTE, theme

_CSS = """
.ns-links { font-family: var(--st-font); color: var(--st-text-color); font-size: 0.88rem; margin: 0; padding: 0; list-style: none; }
.ns-links li {
  display: grid; grid-template-columns: minmax(5.6rem, max-content) 3.4rem 1fr; gap: 0.6rem; padding: 0.16rem 0; align-items: baseline;
}
.ns-links a {
  color: var(--st-link-color, var(--st-primary-color)); font-variant-numeric: tabular-nums; text-decoration: none; overflow-wrap: anywhere;
}
.ns-links a:hover, .ns-links a:focus-visible { text-decoration: underline; }
.ns-links a:focus-visible { outline: 2px solid var(--ns-selection); outline-offset: 2px; border-radius: 0.2rem; }
.ns-links .figure { color: var(--ns-muted); font-variant-numeric: tabular-nums; text-align: right; }
.ns-links .words { overflow-wrap: anywhere; unicode-bidi: plaintext; }
"""

_JS = """
export default function ({ data, parentElement, setTriggerValue }) {
  let list = parentElement.querySelector(".ns-links");
  if (!list) { list = document.createElement("ul"); list.className = "ns-links"; parentElement.appendChild(list); }
  for (const [name, value] of Object.entries(data.palette)) list.style.setProperty(`--ns-${name}`, value);
  list.setAttribute("aria-label", data.title);
  list.replaceChildren(...data.rows.map(([name, href, figure, words]) => {
    const row = document.createElement("li");
    const link = document.createElement("a");
    link.textContent = name;
    link.href = href;
    link.onclick = (event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
      event.preventDefault();
      setTriggerValue("open", name);
    };
    const shown = document.createElement("span");
    shown.className = "figure";
    shown.textContent = figure;
    const text = document.createElement("span");
    text.className = "words";
    text.textContent = words;
    row.append(link, shown, text);
    return row;
  }));
}
"""

_mount = st.components.v2.component("neuronscope_links", css=_CSS, js=_JS)


@dataclass(frozen=True)
class Link:
    """One line: a link, a figure, some words."""

    name: str
    href: str
    figure: str = ""
    words: str = ""


def draw(rows: Sequence[Link], *, key: str, title: str) -> str | None:
    """Draw links; return the name of the one that was clicked in this run."""
    data = {
        "title": title,
        "palette": PALETTE[theme()],
        "rows": [[row.name, row.href, row.figure, row.words] for row in rows],
    }
    clicked = _mount(key=key, data=data, height="content", on_open_change=_ignore).open
    return clicked if any(row.name == clicked for row in rows) else None


def _ignore() -> None:
    """A trigger value needs a callback to be part of the result."""
