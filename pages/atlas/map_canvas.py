"""The map as a canvas of the browser: all neuron sides as points, with names over them. map.js and map_paint.js draw it.

The points travel once a search or colour changes, packed to about 20 bytes for each; texts reach the page as text alone.
"""

from __future__ import annotations

import base64
import gzip
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import streamlit as st
from numpy.typing import NDArray

from neurons.concepts.map_labels import MapLabel
from pages.shared import palette

HEIGHT = 540
"""Pixels."""
BEST = 12
"""Of what a search found, how many have their names written beside them from afar."""
_FOLDER = Path(__file__).parent
_mount = st.components.v2.component(
    "neuronscope_map",
    css=(_FOLDER / "map.css").read_text("utf-8"),
    js="".join((_FOLDER / name).read_text("utf-8") for name in ("map_paint.js", "map.js")),
)


@dataclass(frozen=True, eq=False)
class Points:
    """What is known of every side on the map, packed for the browser."""

    frame: pd.DataFrame
    """One row for each side: x, y (-1 to 1), neuron, layer, kind, headline."""
    kinds: tuple[str, ...]
    """The kinds that there are, the commonest first."""
    labels: tuple[MapLabel, ...]
    packed: dict[str, str]

    @classmethod
    def of(cls, frame: pd.DataFrame, labels: Sequence[MapLabel]) -> Points:
        """Pack the columns of `frame`."""
        kinds = tuple(str(kind) for kind in frame["kind"].value_counts().index)
        number = {kind: n for n, kind in enumerate(kinds)}
        place_N2 = np.clip((frame[["x", "y"]].to_numpy(np.float64) + 1) / 2, 0, 1)
        lines = frame["neuron"] + "\t" + frame["headline"].map(_one_line) + "\t" + frame["kind"].map(_one_line)
        packed = {
            "places": _packed(np.rint(place_N2 * 65535).astype("<u2").tobytes()),
            "kinds": _packed(frame["kind"].map(number).to_numpy(np.uint8).tobytes()),
            "layers": _packed(np.minimum(frame["layer"].to_numpy(), 255).astype(np.uint8).tobytes()),
            "lines": _packed("\n".join(lines).encode("utf-8", "replace")),
        }
        return cls(frame, kinds, tuple(labels), packed)


def draw(points: Points, *, stamp: str, by: str, kinds: Sequence[str], lit: NDArray[np.int64] | None, search: str) -> str | None:
    """Draw the map, and return the name of the neuron that was clicked in this run.

    `by`: "kind" or "layer" colours the points; of the kinds, those in `kinds` are in colour. `lit` are the rows that a search found,
    the best first; None where nothing is searched for, which `search` names.
    """
    shades, legend = _colours(points, by, kinds)
    data = {
        "stamp": stamp,
        **points.packed,
        "by": by,
        "shades": shades,
        "legend": legend,
        "labels": [{"text": label.text, "kind": label.kind, "x": label.x, "y": label.y} for label in points.labels],
        "lit": None if lit is None else lit.tolist(),
        "best": [] if lit is None else lit[:BEST].tolist(),
        "nonce": search,
        "palette": palette.PALETTE[palette.theme()],
        "height": HEIGHT,
        "title": f"Map of {len(points.frame):,} neuron sides. Arrow keys move, plus and minus zoom, 0 shows all, Enter opens the neuron "
        "nearest to the middle.",
    }
    result = _mount(key="atlas.map", data=data, height="content", on_opened_change=_ignore)
    name = result.opened
    return name if isinstance(name, str) else None


def _colours(points: Points, by: str, kinds: Sequence[str]) -> tuple[list[str], list[tuple[str, str]]]:
    """(the colour of each layer or kind, what stands beside each colour in the legend)."""
    if by == "layer":
        last = max(1, min(255, int(points.frame["layer"].max())))
        low, high = palette.sequential()
        shades = [_between(low, high, (layer + last / 8) / (last + last / 8)) for layer in range(last + 1)]
        return shades, [("layer 0", shades[0]), (f"layer {last // 2}", shades[last // 2]), (f"layer {last}", shades[last])]
    hues = dict(zip(kinds, (palette.colour(hue) for hue in HUES), strict=False))
    muted = palette.colour("muted")
    return [hues.get(kind, muted) for kind in points.kinds], [*hues.items(), ("other", muted)]


HUES = ("positive", "negative", "amount")
"""The colours of kinds; the selection's is kept for what a search found."""


def _between(low: str, high: str, share: float) -> str:
    parts = [(int(low[at : at + 2], 16), int(high[at : at + 2], 16)) for at in (1, 3, 5)]
    return "#" + "".join(f"{round(a + (b - a) * share):02x}" for a, b in parts)


def _one_line(text: object) -> str:
    return " ".join(str(text).split())


def _packed(data: bytes) -> str:
    return base64.b64encode(gzip.compress(data, compresslevel=6, mtime=0)).decode("ascii")


def _ignore() -> None:
    """A trigger needs a callback to be part of the result."""
