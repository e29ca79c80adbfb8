"""What the app draws: its navigation. Each page is a file beside this one with a function `page`."""

from __future__ import annotations

import gc
import sys
from importlib import import_module

import streamlit as st

from pages.serving.page_list import HOME, PAGES
from pages.shared import browser_history, composing, palette

# Streamlit lets what may be out of date fade over a second. Drawn by a processor, twenty elements and each frame anew, that takes a third
# of a core from the model that is being waited for, and half of the page turns pale at every click. One small step does as well.
# Around each page it leaves more room than is needed: one that fills the window would scroll, and in a narrow window tables and labels
# would be cut. Each text runs in its own direction, and captions and primary buttons, which are too pale as they come (3.6 and 2.3 to 1),
# reach 4.5 to 1.
STYLE = """<style>
[data-stale="true"] { opacity: 0.7 !important; transition: opacity 0s linear 0.5s !important; }
[data-testid="stMainBlockContainer"] { padding-top: 5rem; padding-bottom: 1rem; }
@media (max-width: 1200px) { [data-testid="stMainBlockContainer"] { padding-left: 1.5rem; padding-right: 1.5rem; } }
:is([data-testid="stMarkdownContainer"], [data-testid="stText"]) :is(p, li, div), [data-testid="stApp"] :is(input, textarea, pre, code) {
  unicode-bidi: plaintext;
}
[data-testid="stCaptionContainer"], [data-testid="stCaptionContainer"] *:not(a) {
  color: var(--ns-caption) !important; opacity: 1 !important;
}
:is([data-testid="stBaseButton-primary"], [data-testid="stBaseButton-primaryFormSubmit"]):not(:disabled) {
  color: var(--ns-on-primary) !important;
}
[data-testid="stMultiSelectTagsContainer"] [data-tag], [data-testid="stMultiSelectTagsContainer"] [data-tag] * {
  color: var(--ns-on-primary) !important;
}
:root { --ns-caption: CAPTION; --ns-on-primary: ON_PRIMARY; }
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


def _way_back() -> None:
    """A person who came from a tour finds back to it; nobody else loads its libraries."""
    if "tours.at" in st.session_state:
        from pages.tours import way_back

        way_back.draw()


def _page(name: str) -> st.Page:
    title, icon, script = PAGES[name]

    def show() -> None:
        if f"pages.{script}" not in sys.modules:  # torch and transformers take seconds the first time
            with st.spinner("Starting Neuronscope: loading its libraries"):
                _load_libraries(f"pages.{script}")
        from pages.shared import desk  # it needs the libraries

        desk.bring(name)
        browser_history.lost()
        if name != "tours":
            _way_back()
        try:
            import_module(f"pages.{script}").page()
        except BaseException:  # also where it goes on to another page
            desk.remember(name)
            raise
        desk.keep(name)
        desk.drawn(name)

    show.__name__ = name
    return st.Page(show, title=title, icon=icon, url_path=name, default=name == HOME)


st.set_page_config(
    page_title="Neuronscope",
    page_icon=palette.ICON,
    layout="wide",
    initial_sidebar_state="collapsed",
)
st.html(STYLE.replace("CAPTION", palette.colour("caption")).replace("ON_PRIMARY", palette.colour("on-primary")))
browser_history.watch()
composing.watch()
st.navigation([_page(name) for name in PAGES], position="top").run()
