"""Back and Forward: which changes of the address are steps that Back undoes, and what is said where a link leads to nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from pages.serving.base_path import base_path
from pages.serving.lost import LOST
from pages.serving.page_list import HOME
from pages.shared.untrusted import escape

STEPS = {
    HOME: ("trace",),
    "compare": ("a", "b"),
    "neurons": ("neuron",),
    "prompts": ("run",),
    "repair": ("job",),
    "experiments": ("job",),
    "tours": ("tour", "step"),
}
"""For each page, the parameters whose change is a step. All others (tokens, views, filters) change the entry that is there."""
_NAMES = STEPS | {HOME: (*STEPS[HOME], "run")}
"""For each page, the parameters that say what it shows: an address with another page's and none of its own was meant for that one."""

_mount = st.components.v2.component("neuronscope_history", js=Path(__file__).with_suffix(".js").read_text("utf-8"))


def watch() -> None:
    """Make the browser keep to `STEPS`. Drawn before anything that writes to the address."""
    with st.container(key="history"):
        _mount(key="history.steps", data={"steps": _by_path(STEPS), "names": _by_path(_NAMES)})


def say_where_back_led() -> None:
    """Where Back or Forward led to this page: tell the browser once more for which address it is drawn.

    Meanwhile the browser may have taken in what the page that was left wrote to its own address. It lay on this page's, and the next press
    or a reload showed another trace.
    """
    run = get_script_run_ctx()
    if run is not None and run.is_history_navigation:
        st.query_params.from_dict(st.query_params.to_dict())


def _by_path(names: Mapping[str, tuple[str, ...]]) -> dict[str, list[str]]:
    """By the last part of each page's path; the home page's may end in a slash or not."""
    own = list(names[HOME])
    return {name: list(given) for name, given in names.items() if name != HOME} | {"": own, base_path().rpartition("/")[2]: own}


def lost() -> None:
    """Where a wrong path led here: that there is no such page."""
    path = st.query_params.get(LOST)
    if path is None:
        return
    left, right = st.columns([8, 1], vertical_alignment="center")
    left.warning(f"There is no page “{escape(path[:200])}” here. All pages are in the bar above.", icon=":material/wrong_location:")
    if right.button("Close", key="history.lost", width="stretch"):
        del st.query_params[LOST]
        st.rerun()


def unknown(what: str, name: str, instead: str = "") -> None:
    """Say that a link names something that is not here, and what is shown instead."""
    st.warning(f"The link names {what} “{escape(name[:200])}”, which is not on this machine. {instead}".strip(), icon=":material/link_off:")
