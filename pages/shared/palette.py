"""The one palette: the same colour means the same thing in strip, table, chart and card, on light and dark ground.

Blue and orange are the two ends of one diverging scale (positive or promoting, negative or suppressing); green is an amount
that has no sign (total activation, surprisal, entropy); purple is what is selected. The hues are Okabe and Ito's, which
stay apart for every common kind of colour blindness.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import streamlit as st

Theme = Literal["light", "dark"]
ICON = str(Path(__file__).with_name("icon.svg"))
"""The app's icon, in the palette's colours."""

PALETTE: dict[Theme, dict[str, str]] = {
    "light": {
        "positive": "#0072B2",
        "negative": "#D55E00",
        "amount": "#009E73",
        "selection": "#A23B92",
        "neutral": "#F2F2F2",
        "muted": "#5F6672",
        "caption": "#5B5D66",
        "on-primary": "#FFFFFF",
        "most-tint": "60%",
    },
    "dark": {
        "positive": "#56B4E9",
        "negative": "#F2994A",
        "amount": "#3ECF9E",
        "selection": "#E58FD8",
        "neutral": "#2B2F36",
        "muted": "#9AA3AF",
        "caption": "#A9ADB8",
        "on-primary": "#2B0F26",
        "most-tint": "44%",
    },
}
"""Colour of each meaning, by theme: hex RGB. `most-tint` is how much of it a token's ground takes at most: its letters keep 4.5 to 1."""


def theme() -> Theme:
    """The theme this browser shows."""
    return "dark" if st.context.theme.type == "dark" else "light"


def colour(meaning: str) -> str:
    """The hex colour of "positive", "negative", "amount", "selection", "neutral", "muted" and so on, in this browser's theme."""
    return PALETTE[theme()][meaning]


def diverging() -> list[str]:
    """Negative, zero, positive: the range of a diverging Altair scale."""
    return [colour("negative"), colour("neutral"), colour("positive")]


def sequential() -> list[str]:
    """Nothing to much: the range of a sequential Altair scale."""
    return [colour("neutral"), colour("amount")]
