"""Cards of groups of neurons, for the Concepts and the Clusters tab.

They are drawn by cards.js, which tints the strip while one is hovered or has the focus.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import streamlit as st

from pages.shared.palette import PALETTE

Scale = Literal["amount", "diverging"]
_FOLDER = Path(__file__).parent

_mount = st.components.v2.component(
    "neuronscope_cards",
    css=(_FOLDER / "cards.css").read_text("utf-8"),
    js=(_FOLDER / "cards.js").read_text("utf-8"),
)


@dataclass(frozen=True)
class Button:
    """Something a card's neurons can be asked to do."""

    action: str
    label: str
    help: str


@dataclass(frozen=True, eq=False)
class Card:
    """One group of neurons, in words."""

    number: int
    """Names the card in what is clicked."""
    label: str
    aside: str
    """Beside the label, such as "12 neurons"."""
    spoken: str
    """What a screen reader says of it."""
    facts: str
    hint: str
    """The tooltip of `facts`."""
    tint: Sequence[float]
    """How strongly the group is active at each token of the trace, 0 to 1, or -1 to 1."""
    members: Sequence[tuple[str, str, str, str]]
    """Name, address, headline and weight of the strongest neurons."""
    size: int
    """How many neurons there are."""
    bar: float | None = None
    """-1 to 1; None draws no bar."""
    faint: bool = False
    """Drawn pale: not sure, or no group at all."""
    buttons: tuple[Button, ...] = ()


def draw(cards: Sequence[Card], *, key: str, trace_id: str, question: str, scale: Scale, chosen: int | None, height: int) -> None:
    """Draw the cards; `question` names what they answer, `chosen` the card that is marked. What is clicked is in the session at `key`."""
    data = {
        "trace_id": trace_id,
        "key": question,
        "chosen": chosen,
        "height": height,
        "scale": scale,
        "cards": [asdict(card) for card in cards],
        "palette": PALETTE,
    }
    _mount(key=key, data=data, on_event_change=_ignore)


def rounded(tint_T: np.ndarray[Any, Any]) -> list[float]:
    """A row of tints as the page needs them."""
    return [round(float(value), 2) for value in tint_T]


def _ignore() -> None:
    """A state value needs a callback to be part of the result."""
