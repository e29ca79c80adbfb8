"""Sampling settings and the system prompt of this browser: kept over page switches, each checked where it is entered."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import streamlit as st

from neurons.core.errors import InvalidInput
from neurons.core.types import Sampling
from neurons.runs.followed import ignored_by, offered_by
from pages.shared import server_wide, untrusted

_SAMPLING = "trace.sampling"
_SYSTEM = "trace.system"
_FOLLOWS = "trace.follows"
_MAX_SEED = 2**53 - 1  # what a browser's number can hold exactly
_MAX_SYSTEM = 20_000
_MAX_TOP_K = 100_000
_MAX_TOKENS = 32_768
_SHOWN = "trace.sampling.shown"
"""What the form showed when it was drawn last."""


def sampling() -> Sampling:
    """The settings that the next answer is made with."""
    chosen = st.session_state.get(_SAMPLING)
    found = chosen if isinstance(chosen, Sampling) else Sampling()
    loaded = server_wide.model()
    follows = loaded is not None and st.session_state.get(_FOLLOWS, False)
    return replace(found, follow=offered_by(loaded) if loaded is not None and follows else ())


def system_prompt() -> str:
    """The system prompt of the next answer; "" leaves it to the model's own template."""
    return str(st.session_state.get(_SYSTEM, ""))


def take_over(settings: Sampling, system: str) -> None:
    """Show other settings in the form, such as those of the trace that was just opened."""
    st.session_state[_SAMPLING] = settings
    st.session_state[_SYSTEM] = system
    st.session_state[_FOLLOWS] = bool(settings.follow)
    st.session_state.pop("sampling.follows", None)


def label() -> str:
    """The settings in a few words, for the bar."""
    now = sampling()
    how = now.how
    return f"{how} · seed {now.seed} · up to {now.max_new_tokens} tokens"


def draw() -> None:
    """The form. A value that is out of range is named beside its field and the last good one is kept."""
    now = sampling()
    given, back = _fill(now, system_prompt())
    st.text_area(
        "System prompt",
        key="sampling.system",
        **back("system"),
        max_chars=_MAX_SYSTEM,
        height=90,
        placeholder="Empty: the model's own",
        help="Goes before the conversation, from the next message on.",
    )
    values = _numbers(back)
    typed = {name: value for name, value in values.items() if value != given[name]}
    _penalties()
    try:
        st.session_state[_SAMPLING] = replace(now, **typed).check()
    except InvalidInput as error:
        st.error(str(error), icon=":material/error:")
    st.session_state[_SHOWN] = (sampling(), system_prompt())


def _numbers(back: Callable[[str], dict[str, Any]]) -> dict[str, Any]:
    """The fields of the settings, with what is typed in them by their names; `back` gives what each falls back to."""
    left, right = st.columns(2)
    values: dict[str, Any] = {}
    values["temperature"] = left.number_input(
        "Temperature", 0.0, 10.0, step=0.1, key="sampling.temperature", **back("temperature"), format="%.2f",
        help="0 always takes the most probable token (greedy). 1 samples as the model's probabilities say; higher values are more random.",
    )  # fmt: skip
    values["seed"] = right.number_input(
        "Seed",
        0,
        _MAX_SEED,
        step=1,
        key="sampling.seed",
        **back("seed"),
        help="The same seed and settings give the same answer. Unused at temperature 0.",
    )
    greedy = Sampling(temperature=float(values["temperature"])).greedy
    values["top_p"] = left.number_input(
        "Top-p",
        0.01,
        1.0,
        step=0.05,
        key="sampling.top_p",
        **back("top_p"),
        disabled=greedy,
        help="Samples from the fewest tokens whose probabilities sum to this. 1 keeps all.",
    )
    values["top_k"] = right.number_input(
        "Top-k",
        0,
        _MAX_TOP_K,
        step=1,
        key="sampling.top_k",
        **back("top_k"),
        disabled=greedy,
        help="Samples from this many most probable tokens. 0 keeps all.",
    )
    values["max_new_tokens"] = left.number_input(
        "Max new tokens",
        1,
        _MAX_TOKENS,
        step=16,
        key="sampling.max_new_tokens",
        **back("max_new_tokens"),
        help="The answer is cut off after this many tokens.",
    )
    return values


def _fill(now: Sampling, system: str) -> tuple[dict[str, Any], Callable[[str], dict[str, Any]]]:
    """What the fields hold before anything is typed (the settings, as far as a field can show them), and what each is drawn with.

    Fields whose settings were changed elsewhere since they were drawn, and fields that are new, are given theirs.
    """
    given = {
        "system": system[:_MAX_SYSTEM],
        "temperature": min(now.temperature, 10.0),
        "seed": min(now.seed, _MAX_SEED),
        "top_p": max(now.top_p, 0.01),
        "top_k": min(now.top_k, _MAX_TOP_K),
        "max_new_tokens": min(now.max_new_tokens, _MAX_TOKENS),
    }
    changed = st.session_state.get(_SHOWN) != (now, system)
    fresh = {name for name in given if changed or f"sampling.{name}" not in st.session_state}
    for name in fresh:
        st.session_state[f"sampling.{name}"] = given[name]
    told: dict[str, Any] = {"on_change": _take_in}
    return given, lambda name: {**told, "args": (name,), **({} if name in fresh else {"value": given[name]})}


def _take_in(name: str) -> None:
    """A field's callback: what was typed counts before anything is drawn, so that the label above the form says it at once."""
    typed = st.session_state[f"sampling.{name}"]
    if name == "system":
        st.session_state[_SYSTEM] = typed.strip()
    else:
        with suppress(InvalidInput):  # the form says what is wrong, beside the field
            st.session_state[_SAMPLING] = replace(sampling(), **{name: typed}).check()
    st.session_state[_SHOWN] = (sampling(), system_prompt())  # nobody else changed it: a field falls back to its last good value


def _penalties() -> None:
    """A switch for what the loaded model's files ask for, where they ask for something."""
    loaded = server_wide.model()
    if loaded is None or not ignored_by(loaded, Sampling()):
        return
    if offered := offered_by(loaded):
        names = ", ".join(name.replace("_", " ") for name, _ in offered)
        st.session_state[_FOLLOWS] = st.toggle(
            "The model's own penalties",
            value=bool(st.session_state.get(_FOLLOWS, False)),
            key="sampling.follows",
            help=f"Follows what the model's files ask for: {names}. Off: tokens are taken as they come.",
        )
    if ignored := ignored_by(loaded, sampling()):
        st.caption(untrusted.escape(f"{untrusted.sentence(ignored)}."))
