"""The token strip: a conversation drawn as bubbles of tokens that can be hovered, selected and tinted.

`Strip` says what is shown, `draw` mounts it and returns what the person has selected. The drawing itself is strip.js;
this file only shapes the data for it. Token text goes there as JSON and onto the page as plain text.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import streamlit as st

from neurons.core.types import Segment
from pages.shared.palette import PALETTE

Ranges = tuple[tuple[int, int], ...]
"""Half-open token ranges, disjoint and in order."""

_FOLDER = Path(__file__).parent
_SCRIPTS = ("strip_tip.js", "strip_select.js", "strip.js")
_MANY_TOKENS = 600  # above this, fewer candidates per token are sent
_WINDOW = "strip.window"
_PLACE = (900, 184)


@dataclass(frozen=True, eq=False)
class Strip:
    """What one strip shows. Arrays have one entry per token."""

    trace_id: str
    pieces: Sequence[str]
    """Text of each token; "" where it is part of a character that began at an earlier token."""
    ids: Sequence[int]
    segments: Sequence[Segment]
    tint_T: Any = None
    """Float array: -1 to 1 with the diverging scale, 0 to 1 with the amount scale. None tints nothing."""
    scale: Literal["diverging", "amount"] = "amount"
    low: str = ""
    high: str = ""
    """What the two ends of the scale mean; "" hides the legend."""
    hint: str = ""
    """The legend's tooltip."""
    logprob_T: Any = None
    """Natural log-probability of each token; None where nothing was recorded."""
    rank_T: Any = None
    """Rank of each token, 0 is the most probable."""
    topk_ids_TK: Any = None
    topk_probs_TK: Any = None
    words: Callable[[Sequence[int]], Sequence[str]] | None = None
    """Text of token ids, for the candidates; None shows no candidates."""
    notes: Sequence[str] = ()
    """One more line for each token's tooltip."""
    steered: Sequence[bool] = ()
    """Tokens that a steer acted on: underlined."""
    marked: Sequence[bool] = ()
    """Tokens that differ from another run: wavy underline."""
    target: int | None = None
    """The token that is being explained."""
    live: bool = False
    """Still being written: keeps the end in view."""
    title: str = "Tokens of the conversation"


_mount = st.components.v2.component(
    "neuronscope_strip",
    css=(_FOLDER / "strip.css").read_text("utf-8"),
    js="".join((_FOLDER / name).read_text("utf-8") for name in _SCRIPTS),
)


def draw(strip: Strip, *, key: str, height: str | int = "24rem", group: str = "") -> Ranges:
    """Draw a strip and return the selected token ranges.

    `key` names this strip in the session; its selection is kept there across page switches, and is dropped when another
    trace is shown. Strips with the same `group` scroll together. `height` is a CSS length, or how many pixels of the
    window to leave free below: such a strip also makes `window_place` known.
    """
    memory = _memory(key, strip.trace_id)
    mounted = st.session_state.get(f"{key}.strip")
    value = (mounted or {}).get("selection")
    if value is None and memory["ranges"] and memory["shown"]:  # it was unmounted, by a page switch: show the selection again
        memory["nonce"] += 1
        memory["pushed"] = memory["ranges"]
    memory["shown"] = True
    data = payload(strip) | {
        "height": height,
        "group": group,
        "place": list(window_place()),
        "selection": [list(r) for r in memory["pushed"]],
        "nonce": f"{strip.trace_id}/{memory['nonce']}",
    }
    result = _mount(key=f"{key}.strip", data=data, height="content", on_selection_change=_ignore, on_window_change=_ignore)
    if isinstance(height, int):
        _note_place(result.window)
    value = result.selection
    if value and value.get("trace_id") == strip.trace_id and value != memory["heard"]:
        memory["heard"] = value
        memory["ranges"] = _checked(value.get("ranges"), len(strip.pieces))
    return tuple(memory["ranges"])


def window_place() -> tuple[int, int]:
    """Pixels: how high this browser's window is, and where in it the strip begins; a guess until a strip has told it."""
    place: tuple[int, int] = st.session_state.get(_WINDOW, _PLACE)
    return place


def _note_place(told: Any) -> None:
    if isinstance(told, list) and len(told) == 2 and all(isinstance(value, int) and 0 <= value <= 20_000 for value in told):
        st.session_state[_WINDOW] = (told[0], min(told[1], 600))


def room_beside() -> int:
    """How many pixels high something beside the strip may be, to end with the window."""
    height, top = window_place()
    return max(400, height - top - 16)


def select(key: str, trace_id: str, ranges: Ranges) -> None:
    """Set a strip's selection from Python: it shows when the strip is next drawn."""
    memory = _memory(key, trace_id)
    memory.update(ranges=ranges, pushed=ranges, nonce=memory["nonce"] + 1)


def selection(key: str, trace_id: str) -> Ranges:
    """What is selected in a strip that this run has not drawn yet."""
    memory = _memory(key, trace_id)
    value = (st.session_state.get(f"{key}.strip") or {}).get("selection")
    if value and value.get("trace_id") == trace_id and value != memory["heard"]:
        return _checked(value.get("ranges"), 1_000_000)
    return tuple(memory["ranges"])


def positions(ranges: Ranges) -> list[int]:
    """The token positions that the ranges cover, in order."""
    return [i for start, stop in ranges for i in range(start, stop)]


def text(ranges: Ranges) -> str:
    """The ranges as `steers.parse_ranges` reads them: "3:9,12"."""
    return ",".join(f"{start}:{stop}" if stop - start > 1 else f"{start}" for start, stop in ranges)


def spoken(ranges: Ranges) -> str:
    """The ranges as a person reads them, last token included: "3 to 8, 12"."""
    return ", ".join(f"{start} to {stop - 1}" if stop - start > 1 else f"{start}" for start, stop in ranges)


def payload(strip: Strip) -> dict[str, Any]:
    """The strip as JSON-able data for strip.js. Probabilities are rounded to 4 figures, tints to 2 decimals."""
    n_tokens = len(strip.pieces)
    words, top = _candidates(strip)
    prob: list[float | None] = []
    if strip.logprob_T is not None:
        prob = [float(f"{value:.4g}") for value in np.exp(np.asarray(strip.logprob_T[:n_tokens], dtype=np.float64))]
        prob[:1] = [None]
    return {
        "trace_id": strip.trace_id,
        "title": strip.title,
        "text": list(strip.pieces),
        "ids": [int(i) for i in strip.ids],
        "segments": [[s.role, s.start, min(s.stop, n_tokens), s.template] for s in strip.segments] or [["plain", 0, n_tokens, False]],
        "tint": [] if strip.tint_T is None else [round(float(v), 2) for v in np.clip(np.nan_to_num(strip.tint_T), -1, 1)],
        "scale": strip.scale,
        "low": strip.low,
        "high": strip.high,
        "hint": strip.hint,
        "prob": prob,
        "rank": [] if strip.rank_T is None else [int(rank) + 1 for rank in strip.rank_T],
        "words": words,
        "top": top,
        "note": list(strip.notes),
        "steered": [int(bool(v)) for v in strip.steered],
        "marked": [int(bool(v)) for v in strip.marked],
        "target": strip.target,
        "live": strip.live,
        "palette": PALETTE,
    }


def _candidates(strip: Strip) -> tuple[list[str], list[list[float]]]:
    """The words that occur as candidates, and for each token a flat list of (word's place, probability)."""
    if strip.topk_ids_TK is None or strip.topk_probs_TK is None or strip.words is None:
        return [], []
    keep = 5 if len(strip.pieces) > _MANY_TOKENS else 8
    ids_TK = np.asarray(strip.topk_ids_TK)[:, :keep]
    probs_TK = np.asarray(strip.topk_probs_TK)[:, :keep]
    distinct = np.unique(ids_TK[ids_TK >= 0])
    place = {int(token): k for k, token in enumerate(distinct)}
    top = [
        [part for token, p in zip(ids_K, probs_K, strict=True) if token >= 0 for part in (place[int(token)], float(f"{p:.4g}"))]
        for ids_K, probs_K in zip(ids_TK, probs_TK, strict=True)
    ]
    return list(strip.words([int(token) for token in distinct])), top


def _memory(key: str, trace_id: str) -> dict[str, Any]:
    """This strip's selection in the session, emptied when it shows another trace."""
    name = f"{key}.selection"
    memory: dict[str, Any] = st.session_state.setdefault(name, {})
    if memory.get("trace_id") != trace_id:
        memory.clear()
        memory.update(trace_id=trace_id, ranges=(), pushed=(), nonce=0, heard=None, shown=False)
    return memory


def _checked(ranges: Any, n_tokens: int) -> Ranges:
    """The ranges that a browser sent, cut to the tokens there are."""
    kept = []
    for item in ranges if isinstance(ranges, list) else []:
        if isinstance(item, list | tuple) and len(item) == 2 and all(isinstance(v, int) for v in item):
            start, stop = max(0, item[0]), min(item[1], n_tokens)
            if start < stop:
                kept.append((start, stop))
    return tuple(sorted(kept))


def _ignore() -> None:
    """A state value needs a callback to be part of the result."""
