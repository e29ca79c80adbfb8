"""Links between pages, by the name of the page's file: `go("trace", trace="a1b2")`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn
from urllib.parse import urlencode

import streamlit as st

from pages.serving.base_path import base_path
from pages.serving.page_list import HOME

PAGE = "desk.page"
"""The session's key for the page that is shown."""
PARAMETER = "kept"
"""The parameter that names what is kept of typed texts and cards (`desk`)."""
DESK = "desk.name"
"""The session's key for that name."""


def target(name: str) -> Any:
    """The page called `name`, for st.page_link and st.switch_page. The navigation knows it by the same address."""

    def show() -> None:
        """Never run: the navigation's own page of this address is."""

    show.__name__ = name
    return st.Page(show, url_path=name, default=name == HOME)


def go(name: str, **query: str) -> NoReturn:
    """Show another page, with `query` in its address."""
    st.switch_page(target(name), query_params=_with_desk(query))


def link(name: str, label: str, *, icon: str, **query: str) -> None:
    """A link to another page, with `query` in its address."""
    st.page_link(target(name), label=label, icon=icon, query_params=_with_desk(query))


def _with_desk(query: Mapping[str, str]) -> dict[str, str]:
    """The desk is named from the start: who reloads a page before it is drawn, and names its own, finds cards and texts all the same."""
    name = st.session_state.get(DESK)
    return {**query, PARAMETER: name} if name else dict(query)


def let_go(name: str) -> None:
    """A field's callback: what the address named of it holds no more."""
    st.query_params.pop(name, None)


def go_to_cards() -> NoReturn:
    """Show the Trace page with the Steer tab open, where new steers stand on cards."""
    open_cards()
    go(HOME)


def open_cards() -> None:
    """A button's callback: the Steer tab is open when the Trace page is drawn next."""
    st.session_state["trace.tab"] = "Steer"


def go_to_cards_elsewhere() -> None:
    """After such a button: go to the Trace page, where it is not the one that is shown."""
    if st.session_state.get(PAGE, HOME) != HOME:
        go(HOME)


def address(name: str, **query: str) -> str:
    """A page's address relative to this server, such as "/compare?a=1&b=2"; with the base path, where there is one."""
    return f"{base_path()}/{'' if name == HOME else name}{'?' + urlencode(query) if query else ''}"
