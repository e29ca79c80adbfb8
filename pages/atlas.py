"""Atlas: what is known of the neurons of which model; building, describing and scoring it; the map; import and export."""

from __future__ import annotations

if __name__ == "__main__":
    from pages.widgets.links import enter

    enter()

import streamlit as st

from neurons.atlas.store import Atlas
from pages.widgets import atlas_build, atlas_describe, atlas_exchange, atlas_list, atlas_overview, engine, map_view

TABS = ("Overview", "Map", "Build", "Describe", "Import and export")


def page() -> None:
    """Draw the page."""
    engine.loading_notice()
    with engine.errors_shown():
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
        with tab, engine.errors_shown():
            if name == "Build":
                atlas_build.draw()
            elif name == "Describe":
                atlas_describe.draw()
            elif name == "Import and export":
                atlas_exchange.draw()
            elif name == "Map" and atlas is not None:
                map_view.draw(atlas)
            elif atlas is not None:
                atlas_overview.draw(atlas)
