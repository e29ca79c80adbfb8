"""Atlas: what is known of the neurons of which model; building, describing and scoring it; the map; import and export."""

from __future__ import annotations

import streamlit as st

from neurons.atlas.store import Atlas
from pages.atlas import atlas_list, build_form, describe_form, exchange_form, map_view, overview
from pages.shared import server_wide

TABS = ("Overview", "Map", "Build", "Describe", "Import and export")


def page() -> None:
    """Draw the page."""
    server_wide.loading_notice()
    with server_wide.errors_shown():
        atlas = atlas_list.draw()
        _tabs(atlas)


def _tabs(atlas: Atlas | None) -> None:
    names = TABS if atlas is not None else TABS[2:]
    wanted = st.query_params.get("tab", names[0])
    chosen = next((name for name in names if name.lower().split()[0] == wanted), names[0])
    for name, tab in zip(names, st.tabs(names, key=f"atlas.tab.{len(names)}", default=chosen, on_change="rerun"), strict=True):
        if not tab.open:
            continue
        st.query_params["tab"] = name.lower().split()[0]
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
