"""What a person has typed, chosen and put on cards: there again after a visit to another page, a reload, or by a copied link.

The session holds the desk while it lasts. A copy lies in the user's data under a name made of its contents, which is in the address as
`kept`: a reload, which ends the session, and another browser on this server find it by that. Nothing of it is run or drawn as markup.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from datetime import date
from fnmatch import fnmatchcase
from typing import Any

import streamlit as st

from neurons.core.errors import NeuronscopeError
from neurons.core.home import subfolder
from neurons.core.json_text import json_text
from neurons.core.types import Sampling
from neurons.runs.steering import parse_steers, steer_to_json
from neurons.storage.files import write_atomic
from pages.shared import browser_history, sampling_settings, steer_state
from pages.shared.address import DESK, PAGE, PARAMETER

FORMAT = "neuronscope-desk"
KEPT: Mapping[str, tuple[str, ...]] = {
    "trace": (
        "trace.tab", "trace.layout", "trace.metric", "trace.method", "trace.against.*", "trace.threshold", "trace.attr.layers",
        "trace.attr.sign", "trace.attr.words", "trace.attr.least", "trace.acts.layers", "trace.acts.sign", "trace.acts.words",
        "trace.clusters.top", "trace.clusters.method",
    ),
    "compare": ("compare.tint", "compare.tab"),
    "traces": ("traces.words", "traces.model", "traces.tag", "traces.set", "traces.dates", "traces.trash", "traces.picked"),
    "prompts": (
        "prompts.source", "prompts.text", "prompts.paired", "prompts.record", "prompts.saved",
        "prompts.shape.*", "prompts.header.*", "prompts.quotes.*", "prompts.map.*",
    ),
    "repair": (
        "repair.prompt", "repair.kind", "repair.wanted", "repair.unwanted", "repair.paraphrases", "repair.controls",
        "repair.controls.source", "repair.budget", "repair.neurons", "repair.tokens", "repair.control-tokens", "repair.scope",
        "repair.seed", "repair.concept", "repair.compare", "repair.run", "repair.tab", "repair.endpoint.url", "repair.endpoint.model",
    ),
    "experiments": (
        "stats.kind", "stats.text", "stats.token", "stats.seeds", "stats.random", "stats.source", "stats.prompts", "stats.steer",
        "stats.run", "stats.tab",
    ),
    "concepts": (
        "concepts.words", "concepts.examples", "concepts.counter", "concepts.named.words", "concepts.named.field",
    ),
    "atlas": ("atlas.map.words", "atlas.map.way", "atlas.map.by"),
    "*": ("tours.at",),
    "models": ("models.spec", "models.device", "models.dtype"),
}  # fmt: skip
"""For each page, and for all of them, the widgets whose values are kept, by key. No passwords, no keys, no buttons."""
_CARD_FIELDS = ("on", "name", "mode", "slider", "number", "scope", "polarity", "ranges", "neurons")
_VALUES = "desk.values"
_FIRST = "desk.first"
_DRAWN = "desk.drawn"
_BEGUN = "desk.begun"
_COPIES = 2000
_LONGEST = 400_000
_GIVEN = ("given",)
"""Stands for the first value of a field that was filled before it was drawn: what it holds is kept whatever it is."""


def bring(page: str) -> None:
    """Before a page is drawn: put back what was kept of it, on a person's way to it."""
    browser_history.say_where_back_led()
    if _VALUES not in st.session_state:
        st.session_state[_VALUES] = {}
        _from_link(st.query_params.get(PARAMETER, ""))
    _tell_again(page)
    if st.session_state.get(PAGE) == page:
        return
    st.session_state[PAGE] = page
    for key, value in st.session_state[_VALUES].items():
        if key not in st.session_state and _belongs(key, page):
            st.session_state[key] = _as_field(key, value)
    first = st.session_state.setdefault(_FIRST, {})
    for key in map(str, list(st.session_state)):
        if _belongs(key, page):
            first.setdefault(key, _GIVEN)


def _tell_again(page: str) -> None:
    """Where the run before this one broke off: set once more what it put into fields.

    Streamlit tells the browser of a value that was set in one run only, and throws away what it had not sent yet of a run that breaks off.
    The browser would show such a field empty and send that back with the next press: a card that is off and has no neurons.
    """
    if st.session_state.get(_BEGUN):
        drawn = st.session_state.get(_DRAWN, {})
        for key, value in _fields(page).items():
            if key not in drawn or drawn[key] != value:
                st.session_state[key] = value
    st.session_state[_BEGUN] = True


def drawn(page: str) -> None:
    """After all of a page was drawn: the browser has been told of these fields."""
    st.session_state[_DRAWN] = _fields(page)
    st.session_state[_BEGUN] = False


def _fields(page: str) -> dict[str, Any]:
    """The fields that this program fills, by key: what is kept of the page, and what stands on cards."""
    cards = {f"steer.{card.uid}.{name}" for card in steer_state.cards() for name in _CARD_FIELDS}
    return {key: st.session_state[key] for key in map(str, list(st.session_state)) if key in cards or _belongs(key, page)}


def remember(page: str) -> None:
    """After a page was drawn, or broke off to show another: take note of its fields."""
    values: dict[str, Any] = st.session_state.setdefault(_VALUES, {})
    first: dict[str, Any] = st.session_state.setdefault(_FIRST, {})
    for key in map(str, list(st.session_state)):
        if _belongs(key, page) and _plain(value := _as_json(st.session_state[key])):
            if first.setdefault(key, _GIVEN if key in KEPT["*"] else value) != value:
                values[key] = value
            else:
                values.pop(key, None)


def keep(page: str) -> None:
    """After a page was drawn: take note of its fields, and name the copy of the desk in the address."""
    remember(page)
    name = _saved(_content(st.session_state[_VALUES]))
    st.session_state[DESK] = name
    if name and st.query_params.get(PARAMETER) != name:
        st.query_params[PARAMETER] = name
    elif not name:
        st.query_params.pop(PARAMETER, None)


def _as_json(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_as_json(item) for item in value]
    return value.isoformat() if isinstance(value, date) else value


def _as_field(key: str, value: Any) -> Any:
    if key.endswith(".dates"):
        return [date.fromisoformat(item) for item in value]
    return tuple(value) if key.endswith(".layers") else value


def still_offered(key: str, options: Any) -> None:
    """Forget a kept choice that is no longer among the options; call it before the field is drawn."""
    if key in st.session_state and st.session_state[key] not in options:
        del st.session_state[key]


def _belongs(key: str, page: str) -> bool:
    return any(fnmatchcase(key, pattern) for pattern in (*KEPT.get(page, ()), *KEPT["*"]))


def _plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(_plain(item) for item in value)
    return value is None or isinstance(value, str | bool | int | float)


def _content(values: Mapping[str, Any]) -> dict[str, Any]:
    """What is kept; {} where a person has changed nothing."""
    settings = sampling_settings.sampling()
    content = {
        "values": dict(sorted(values.items())),
        "cards": [steer_to_json(card.steer) for card in steer_state.cards()],
        "sampling": None if settings == Sampling() else asdict(settings),
        "system": sampling_settings.system_prompt(),
    }
    return content if any(content.values()) else {}


def _saved(content: Mapping[str, Any]) -> str:
    """The name of the copy of this desk, written where it is new; "" where there is nothing to keep, or nowhere to keep it."""
    if not content:
        return ""
    data = json_text({"format": FORMAT, "version": 1, **content}, sort_keys=True).encode("utf-8")
    name = hashlib.sha256(data).hexdigest()[:16]
    if name == st.session_state.get(DESK):
        return name
    if len(data) > _LONGEST:
        return ""
    try:
        folder = subfolder("desks")
        write_atomic(folder / f"{name}.json", data)
        for old in sorted(folder.glob("*.json"), key=lambda path: path.stat().st_mtime)[:-_COPIES]:
            old.unlink(missing_ok=True)
    except (OSError, NeuronscopeError):
        return ""  # a full or read-only disk: the session still has it
    return name


def _from_link(name: str) -> None:
    """Lay out the desk that a link names."""
    if not name:
        return
    try:
        if len(name) != 16 or not set(name) <= set("0123456789abcdef"):
            raise ValueError("no name of a desk")
        content = json.loads((subfolder("desks") / f"{name}.json").read_text(encoding="utf-8"))
        cards = parse_steers(content["cards"])
        sampling = Sampling(**content["sampling"]).check() if content["sampling"] else Sampling()
        values = {str(key): value for key, value in content["values"].items() if _plain(value)}
        for key, value in values.items():
            _as_field(key, value)
        system = str(content["system"])
    except (OSError, ValueError, TypeError, KeyError, AttributeError, NeuronscopeError):
        st.query_params.pop(PARAMETER, None)
        st.toast("What this link had kept of typed texts and steer cards is not on this machine.", icon=":material/link_off:")
        return
    st.session_state[_VALUES] = values
    st.session_state[DESK] = name
    steer_state.add_all(cards)
    sampling_settings.take_over(sampling, system)
