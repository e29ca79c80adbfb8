"""Passages whose tokens are tinted by one neuron's activation, each value told on hover. The drawing is token_lines.js.

Token texts go to the browser as JSON and onto the page as plain text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import streamlit as st

from neurons.models.chat import token_pieces
from neurons.models.loaded import LoadedModel
from pages.shared.palette import PALETTE, theme

_FOLDER = Path(__file__).parent

_mount = st.components.v2.component(
    "neuronscope_passages",
    css=(_FOLDER / "token_lines.css").read_text("utf-8"),
    js=(_FOLDER / "token_lines.js").read_text("utf-8"),
)


@dataclass(frozen=True)
class Passage:
    """A stretch of text, token by token."""

    text: tuple[str, ...]
    """One entry a whole character: tokens that share one are joined."""
    acts: tuple[float | None, ...]
    """The activation at each; None where it is not known yet."""
    peak: int = -1
    """The entry that the passage is shown for; -1: none."""
    value: str = ""
    """What stands before it; "" leaves that column out."""
    under: str = ""
    source: str = ""
    pending: str = ""


def passage(loaded: LoadedModel, ids: Sequence[int], acts: Sequence[float | None] | None, *, peak: int = -1, **labels: str) -> Passage:
    """Tokens as a passage. A character that is split over tokens is one entry with the strongest of their activations."""
    text: list[str] = []
    values: list[float | None] = []
    place = -1
    for i, piece in enumerate(token_pieces(loaded, ids)):
        act = None if acts is None else acts[i]
        if piece or not text:
            text.append(piece)
            values.append(act)
        elif act is not None and abs(act) > abs(values[-1] or 0.0):
            values[-1] = act
        if i == peak:
            place = len(text) - 1
    return Passage(tuple(text), tuple(values), place, **labels)


def payload(passages: Sequence[Passage], *, scale: float, identity: str, title: str, unit: str) -> dict[str, Any]:
    """JSON-able data for token_lines.js. `scale` is the activation at which the tint is full."""
    full = abs(scale) or 1.0
    return {
        "identity": identity,
        "title": title,
        "unit": unit,
        "palette": PALETTE[theme()],
        "passages": [
            {
                "text": list(one.text),
                "acts": [None if act is None else float(f"{act:.4g}") for act in one.acts],
                "tint": [None if act is None else float(f"{act / full:.3g}") for act in one.acts],
                "peak": one.peak,
                "value": one.value,
                "under": one.under,
                "source": one.source,
                "pending": one.pending,
            }
            for one in passages
        ],
    }


def draw(passages: Sequence[Passage], *, key: str, scale: float, identity: str, title: str, unit: str) -> None:
    """Draw passages. `identity` names what they belong to; `unit` says what a share of `scale` means, with {} for the number."""
    _mount(key=key, data=payload(passages, scale=scale, identity=identity, title=title, unit=unit), height="content")
