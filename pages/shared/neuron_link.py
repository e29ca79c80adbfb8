"""The address of a neuron, for tables and lists anywhere in the app, and the way to it."""

from __future__ import annotations

from typing import Any, NoReturn

import streamlit as st

from neurons.core.types import NeuronSide
from pages.shared import address

PARAMETER = "neuron"


def neuron_address(side: NeuronSide | str) -> str:
    """The neuron's page, relative to this server: "/neurons?neuron=17:803%2B" (a bare plus means a space in an address; it works too)."""
    return f"/neurons?{PARAMETER}={str(side).replace('+', '%2B')}"


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


def link_column(**options: Any) -> Any:
    """A column of `neuron_address`es that shows the neurons' names. It opens a new tab."""
    return st.column_config.LinkColumn(
        "Neuron",
        **{"display_text": rf"{PARAMETER}=(.*)$", "width": 80, "help": "Opens what is known of the neuron in a new tab", **options},
    )
