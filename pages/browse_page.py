"""All neurons of the model: browse and search them, and open one to see all that is known of it."""

from __future__ import annotations

import streamlit as st

from neurons.core.errors import InvalidInput, NotFound
from neurons.core.types import NeuronSide
from pages.browse import about, neuron_list, one_neuron
from pages.shared import neuron_facts, server_wide, steer_state
from pages.shared.neuron_facts import Known
from pages.shared.neuron_link import open_neuron


def page() -> None:
    """Draw the page."""
    server_wide.loading_notice()
    loaded = server_wide.model()
    if loaded is None:
        return
    with server_wide.errors_shown():
        found = neuron_facts.known(loaded)
        side: NeuronSide | None = None
        try:
            side = one_neuron.asked(loaded)
        except (InvalidInput, NotFound) as error:
            server_wide.show_error(error)
        if side is not None:
            one_neuron.draw(found, side)
        elif found.index is not None:
            neuron_list.warm()
            neuron_list.draw(found)
        else:
            _nothing_to_browse(found)


def _nothing_to_browse(found: Known) -> None:
    """No atlas, or no descriptions: what to do, and a way to any neuron by its name."""
    about.what_an_atlas_is(described=found.atlas is not None)
    ref = found.loaded.ref
    with st.form("neurons.open", border=False):
        with st.container(horizontal=True, vertical_alignment="bottom"):
            name = st.text_input(
                "Neuron", key="neurons.open.name", placeholder=f"{ref.n_layers // 2}:{ref.n_neurons // 2}+", width=220,
                help=f"layer:index and side. Layers 0 to {ref.n_layers - 1}, neurons 0 to {ref.n_neurons - 1}; a minus is the negative "
                f"side",
            )  # fmt: skip
            sent = st.form_submit_button("Open", icon=":material/open_in_new:", type="primary")
    if sent:
        sides = steer_state.read_neurons(name, found.loaded)
        open_neuron(sides[0])
