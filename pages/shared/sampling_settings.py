"""Sampling settings and the system prompt of this browser: kept over page switches, each checked where it is entered."""

from __future__ import annotations

from dataclasses import replace

import streamlit as st

from neurons.core.errors import InvalidInput
from neurons.core.types import Sampling

_SAMPLING = "trace.sampling"
_SYSTEM = "trace.system"
_MAX_SEED = 2**53 - 1  # what a browser's number can hold exactly
_MAX_SYSTEM = 20_000


def sampling() -> Sampling:
    """The settings that the next answer is made with."""
    chosen = st.session_state.get(_SAMPLING)
    return chosen if isinstance(chosen, Sampling) else Sampling()


def system_prompt() -> str:
    """The system prompt of the next answer; "" leaves it to the model's own template."""
    return str(st.session_state.get(_SYSTEM, ""))


def take_over(settings: Sampling, system: str) -> None:
    """Show another trace's settings in the form."""
    st.session_state[_SAMPLING] = settings
    st.session_state[_SYSTEM] = system
    for name in ("temperature", "top_p", "top_k", "max_new_tokens", "seed", "system"):
        st.session_state.pop(f"sampling.{name}", None)


def label() -> str:
    """The settings in a few words, for the bar."""
    now = sampling()
    how = now.how
    return f"{how} · seed {now.seed} · up to {now.max_new_tokens} tokens"


def draw() -> None:
    """The form. A value that is out of range is named beside its field and the last good one is kept."""
    now = sampling()
    system = st.text_area(
        "System prompt",
        value=system_prompt(),
        key="sampling.system",
        max_chars=_MAX_SYSTEM,
        height=90,
        placeholder="Empty: the model's own",
        help="Goes before the conversation, from the next message on.",
    )
    st.session_state[_SYSTEM] = system.strip()
    left, right = st.columns(2)
    temperature = left.number_input(
        "Temperature", 0.0, 10.0, now.temperature, 0.1, key="sampling.temperature", format="%.2f",
        help="0 always takes the most probable token (greedy). 1 samples as the model's probabilities say; higher values are more random.",
    )  # fmt: skip
    seed = right.number_input(
        "Seed",
        0,
        _MAX_SEED,
        now.seed,
        1,
        key="sampling.seed",
        help="The same seed and settings give the same answer. Unused at temperature 0.",
    )
    greedy = Sampling(temperature=float(temperature)).greedy
    top_p = left.number_input(
        "Top-p",
        0.01,
        1.0,
        now.top_p,
        0.05,
        key="sampling.top_p",
        disabled=greedy,
        help="Samples from the fewest tokens whose probabilities sum to this. 1 keeps all.",
    )
    top_k = right.number_input(
        "Top-k",
        0,
        100_000,
        now.top_k,
        1,
        key="sampling.top_k",
        disabled=greedy,
        help="Samples from this many most probable tokens. 0 keeps all.",
    )
    longest = left.number_input(
        "Max new tokens",
        1,
        32_768,
        now.max_new_tokens,
        16,
        key="sampling.max_new_tokens",
        help="The answer is cut off after this many tokens.",
    )
    try:
        st.session_state[_SAMPLING] = replace(
            now, temperature=float(temperature), top_p=float(top_p), top_k=int(top_k), max_new_tokens=int(longest), seed=int(seed)
        ).check()
    except InvalidInput as error:
        st.error(str(error), icon=":material/error:")
