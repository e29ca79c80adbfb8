"""The neurons this browser has picked, in tables, charts and attributions: what a steer or a concept is made from."""

from __future__ import annotations

from collections.abc import Iterable

import streamlit as st

from neurons.types import NeuronSide

_PICKED = "basket.neurons"


def picked() -> tuple[NeuronSide, ...]:
    """What was picked, each neuron side once, in the order of picking."""
    return tuple(st.session_state.get(_PICKED, ()))


def pick(sides: Iterable[NeuronSide]) -> None:
    """Put neurons in the basket, behind those that are there."""
    st.session_state[_PICKED] = tuple(dict.fromkeys((*picked(), *sides)))


def drop(sides: Iterable[NeuronSide]) -> None:
    """Take neurons out again."""
    gone = set(sides)
    st.session_state[_PICKED] = tuple(side for side in picked() if side not in gone)


def clear() -> None:
    """Empty the basket."""
    st.session_state[_PICKED] = ()
