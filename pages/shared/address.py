"""Links between pages, by the name of the page's file: `go("trace", trace="a1b2")`."""

from __future__ import annotations

from typing import Any, NoReturn
from urllib.parse import urlencode

import streamlit as st

HOME = "trace"


def target(name: str) -> Any:
    """The page called `name`, for st.page_link and st.switch_page. The navigation knows it by the same address."""

    def show() -> None:
        """Never run: the navigation's own page of this address is."""

    show.__name__ = name
    return st.Page(show, url_path=name, default=name == HOME)


def go(name: str, **query: str) -> NoReturn:
    """Show another page, with `query` in its address."""
    st.switch_page(target(name), query_params=query)


def go_to_cards(**query: str) -> NoReturn:
    """Show the Trace page with the Steer tab open, where new steers stand on cards."""
    st.session_state["trace.tab"] = "Steer"
    go("trace", **query)


def address(name: str, **query: str) -> str:
    """A page's address relative to this server, such as "/compare?a=1&b=2"."""
    return f"/{'' if name == HOME else name}{'?' + urlencode(query) if query else ''}"
