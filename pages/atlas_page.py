"""Atlas: what is known of the neurons of which model; building, describing and scoring it; the map; import and export."""

from __future__ import annotations

from typing import Annotated

import streamlit as st
from pydantic import AfterValidator

from neurons.atlas.store import Atlas
from pages.atlas import atlas_list, build_form, describe_form, exchange_form, map_view, overview
from pages.shared import address_state, server_wide

TABS = ("Overview", "Map", "Build", "Describe", "Import and export")


def _word(tab: str) -> str:
    """How the address names a tab."""
    return tab.lower().split()[0]


def _known(word: str) -> str:
    if word not in ("", *map(_word, TABS)):
        raise ValueError("there is no such tab")
    return word


class AtlasState(address_state.PageState):
    """The open tab; "" is the first."""

    tab: Annotated[str, AfterValidator(_known)] = ""


def page() -> None:
    """Draw the page."""
    server_wide.loading_notice()
    with server_wide.errors_shown():
        atlas = atlas_list.draw()
        _tabs(atlas)


def _tabs(atlas: Atlas | None) -> None:
    names = TABS if atlas is not None else TABS[2:]
    wanted = address_state.read(AtlasState).tab
    chosen = next((name for name in names if _word(name) == wanted), names[0])
    for name, tab in zip(names, st.tabs(names, key=f"atlas.tab.{len(names)}", default=chosen, on_change="rerun"), strict=True):
        if not tab.open:
            continue
        st.query_params["tab"] = _word(name)
        with tab, server_wide.errors_shown():
            if name == "Build":
                build_form.draw()
            elif name == "Describe":
                describe_form.draw()
            elif name == "Import and export":
                exchange_form.draw()
            elif name == "Map" and atlas is not None:
                map_view.draw(atlas)
            elif atlas is not None:
                overview.draw(atlas)
