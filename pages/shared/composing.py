"""Input methods: the Enter that ends a composition belongs to the method, in every field of the app."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

_mount = st.components.v2.component("neuronscope_composing", js=Path(__file__).with_suffix(".js").read_text("utf-8"))


def watch() -> None:
    """Keep such an Enter from the fields."""
    with st.container(key="composing"):
        _mount(key="composing.watch")
