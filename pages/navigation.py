"""What the app draws: its navigation. Each page is a file beside this one with a function `page`."""

from __future__ import annotations

import gc
import sys
from importlib import import_module

import streamlit as st

from pages.shared.palette import ICON

# What an address shows: title, icon, and the file in pages/ that draws it.
PAGES = {
    "trace": ("Trace", ":material/forum:", "trace_page"),
    "compare": ("Compare", ":material/compare:", "compare_page"),
    "traces": ("Traces", ":material/history:", "saved_page"),
    "neurons": ("Neurons", ":material/blur_on:", "browse_page"),
    "concepts": ("Concepts", ":material/category:", "concepts_page"),
    "prompts": ("Prompts", ":material/playlist_play:", "prompts_page"),
    "atlas": ("Atlas", ":material/map:", "atlas_page"),
    "repair": ("Repair", ":material/build:", "repair_page"),
    "experiments": ("Statistics", ":material/query_stats:", "statistics_page"),
    "tours": ("Tours", ":material/tour:", "tours_page"),
    "models": ("Models", ":material/deployed_code:", "models_page"),
}


# Streamlit lets what may be out of date fade over a second. Drawn by a processor, twenty elements and each frame anew, that takes a third
# of a core from the model that is being waited for, and half of the page turns pale at every click. One small step does as well.
# Above each page it leaves twice the room that its bar of pages needs.
STYLE = """<style>
[data-stale="true"] { opacity: 0.7 !important; transition: opacity 0s linear 0.5s !important; }
[data-testid="stMainBlockContainer"] { padding-top: 5rem; }
</style>"""


def _load_libraries(page: str) -> None:
    """Import a page for the first time, the garbage collector out of the way: it would look through half a million objects again and again.

    Measured: 5.0 instead of 6.1 s for all libraries and the model. What is there then stays, so the collector need not see it later either.
    """
    gc.disable()
    try:
        import_module(page)
    finally:
        gc.enable()
    gc.freeze()


def _page(name: str) -> st.Page:
    title, icon, script = PAGES[name]

    def show() -> None:
        if f"pages.{script}" not in sys.modules:  # torch and transformers take seconds the first time
            with st.spinner("Starting Neuronscope: loading its libraries"):
                _load_libraries(f"pages.{script}")
        import_module(f"pages.{script}").page()

    show.__name__ = name
    return st.Page(show, title=title, icon=icon, url_path=name, default=name == "trace")


st.set_page_config(
    page_title="Neuronscope",
    page_icon=ICON,
    layout="wide",
    initial_sidebar_state="collapsed",
)
st.html(STYLE)
st.navigation([_page(name) for name in PAGES], position="top").run()
