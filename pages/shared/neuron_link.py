"""The address of a neuron, for tables and lists anywhere in the app, and the way to it."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any, NoReturn
from urllib.parse import quote

import streamlit as st

from neurons.core.types import NeuronSide
from pages.shared import address

PARAMETER = "neuron"


def neuron_address(side: NeuronSide | str) -> str:
    """The neuron's page, relative to this server: "/neurons?neuron=17:803%2B" (a bare plus means a space in an address; it works too)."""
    return f"{address.address('neurons')}?{PARAMETER}={str(side).replace('+', '%2B')}"


def links(names: Iterable[str]) -> list[str]:
    """The addresses of neurons named "17:803+"."""
    return [neuron_address(name) for name in names]


def open_neuron(side: NeuronSide | str) -> NoReturn:
    """Show a neuron's page, in this session."""
    address.go("neurons", **{PARAMETER: str(side)})


def show_here(side: NeuronSide) -> NoReturn:
    """On the Neurons page: show another neuron in this one's place."""
    st.query_params[PARAMETER] = str(side)
    st.rerun()


def opposite(side: NeuronSide) -> NeuronSide:
    """The other polarity of the same neuron."""
    return NeuronSide(side.layer, side.index, "-" if side.polarity == "+" else "+")


MEANING: Any = st.column_config.LinkColumn(
    "What it means", width=330, display_text=r"#(.*)$", alignment="left",
    help="What the neuron fires on, in at most eight words, from the model's atlas; opens what is known of it in a new tab",
)  # fmt: skip
"""The column beside `link_column`, of what `meanings` makes."""


def meanings(names: Iterable[str], said: Iterable[str]) -> list[str | None]:
    """Links to neurons named "17:803+" that show what is said of them; None where nothing is.

    The words stand behind the address, as a mark within the page: the table shows them, and nothing reads them there.
    """
    return [f"{neuron_address(name)}#{_quoted(text)}" if text else None for name, text in zip(names, said, strict=True)]


@lru_cache(maxsize=200_000)
def _quoted(text: str) -> str:
    return quote(text, safe="")


def link_column(**options: Any) -> Any:
    """A column of `neuron_address`es (`links` makes them) that shows the neurons' names. It opens a new tab."""
    return st.column_config.LinkColumn(
        "Neuron",
        **{"display_text": rf"{PARAMETER}=(.*)$", "width": 80, "help": "Opens what is known of the neuron in a new tab", **options},
    )
