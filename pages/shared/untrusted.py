"""Untrusted text on a page: escaped where Streamlit would read Markdown, or drawn as coloured plain text by a tiny component.

Text of models, prompts, files and names goes through one of these two, through st.text, st.code or a table; never through
st.markdown and its relatives as it is.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal

import streamlit as st

from pages.shared.palette import PALETTE

Kind = Literal["", "token", "positive", "negative", "selection", "muted", "strong", "removed", "added"]
Part = tuple[str, Kind]

_PUNCTUATION = re.compile(r"([!-/:-@\[-`{-~])")

_CSS = """
.ns-plain {
  font-family: var(--st-font); color: var(--st-text-color); line-height: 1.55;
  white-space: pre-wrap; overflow-wrap: anywhere; unicode-bidi: plaintext;
}
.ns-plain .token {
  unicode-bidi: isolate;
  font-family: var(--st-code-font); font-size: 0.92em; border-radius: 0.25rem; padding: 0.05em 0.3em;
  background: var(--st-secondary-background-color);
}
.ns-plain .positive { color: var(--ns-positive); font-weight: 600; }
.ns-plain .negative { color: color-mix(in srgb, var(--ns-negative) 75%, var(--st-text-color)); font-weight: 600; } /* 4.5 to 1 */
.ns-plain .selection { color: var(--ns-selection); font-weight: 600; }
.ns-plain .muted { color: var(--ns-muted); }
.ns-plain .strong { font-weight: 600; }
.ns-plain .removed { background: color-mix(in srgb, var(--ns-negative) 25%, transparent); text-decoration: line-through; }
.ns-plain .added { background: color-mix(in srgb, var(--ns-positive) 25%, transparent); }
"""

_JS = """
export default function ({ data, parentElement }) {
  let root = parentElement.querySelector(".ns-plain");
  if (!root) { root = document.createElement("div"); root.className = "ns-plain"; parentElement.appendChild(root); }
  for (const [name, value] of Object.entries(data.palette)) root.style.setProperty(`--ns-${name}`, value);
  root.style.fontSize = data.size;
  root.replaceChildren(...data.parts.map(([text, kind]) => {
    const span = document.createElement("span");
    span.className = kind;
    span.textContent = text;
    return span;
  }));
}
"""

_mount = st.components.v2.component("neuronscope_plain", css=_CSS, js=_JS)


def sentence(text: str) -> str:
    """What a job says, with a capital letter."""
    return text[:1].upper() + text[1:]


def escape(text: str) -> str:
    """`text` for a place where Streamlit reads Markdown (labels, captions, errors): shown as it is, nothing interpreted."""
    lines = [_PUNCTUATION.sub(r"\\\1", line.strip()) for line in text.splitlines()]
    return "  \n".join(lines)


def draw(parts: Sequence[Part] | str, *, key: str, size: str = "1rem") -> None:
    """Draw plain text, each part in the style of its kind: line breaks kept, nothing interpreted."""
    shown: list[Any] = [[parts, ""]] if isinstance(parts, str) else [[text, kind] for text, kind in parts]
    palette = PALETTE["dark" if st.context.theme.type == "dark" else "light"]
    _mount(key=key, data={"parts": shown, "palette": palette, "size": size}, height="content")
