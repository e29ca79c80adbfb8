"""Any two traces side by side; the address says which: /compare?a=...&b=..."""

from __future__ import annotations

import streamlit as st

from pages.compare import side_by_side
from pages.shared import address, address_state, server_wide
from traces.summary import TraceSummary

_OFFERED = 500
_SIDES = ("a", "b")


class CompareState(address_state.PageState):
    """The two traces."""

    a: address_state.Named = None
    b: address_state.Named = None


def page() -> None:
    """Draw the page."""
    with server_wide.errors_shown():
        rows = {row.id: row for row in server_wide.store().list("", limit=_OFFERED)}
        if len(rows) < 2:
            st.markdown("**There are not two traces to compare yet.** Ask the model something, or run it steered, and come back.")
            address.link("trace", "Ask the model something", icon=":material/forum:")
            return
        if address_state.read(CompareState) == CompareState():
            _suggest(rows)
        asked = address_state.read(CompareState)
        left, middle, right = st.columns([4, 1.2, 4], vertical_alignment="bottom")
        with left:
            a = _choose("a", asked.a, "First trace", rows)
        if middle.button("Swap", icon=":material/swap_horiz:", key="compare.swap", help="Swap the two", width="stretch", disabled=not a):
            _show(asked.b or "", str(a))
        with right:
            b = _choose("b", asked.b, "Second trace", rows)
        if a is None or b is None:
            st.info("Choose two traces. On the Traces page, select two rows and press Compare.", icon=":material/compare:")
            return
        if a == b:
            st.info("This is the same trace twice; choose another one.", icon=":material/compare:")
            return
        side_by_side.draw(a, b, key="compare", wide=True)


def _suggest(rows: dict[str, TraceSummary]) -> None:
    """Begin with the newest steered run and its unsteered one."""
    pair = next((row for row in rows.values() if row.baseline_id in rows and row.steers), None)
    if pair is not None and pair.baseline_id and not any(st.session_state.get(f"compare.{side}") for side in _SIDES):
        st.query_params["a"], st.query_params["b"] = pair.baseline_id, pair.id


def _choose(side: str, asked: str | None, label: str, rows: dict[str, TraceSummary]) -> str | None:
    """A picker that follows the address, and the address it."""
    options = list(rows)
    if asked and asked not in rows:
        options = [asked, *options]
    key = f"compare.{side}"
    if asked and (key not in st.session_state or st.session_state.get(f"{key}.seen") != asked):  # another page's visit empties the field
        st.session_state[key] = asked
        st.session_state[f"{key}.seen"] = asked
    chosen: str | None = st.selectbox(
        label, options, index=None, key=key, format_func=lambda i: _name(i, rows.get(i)), placeholder="choose a trace"
    )
    if chosen and chosen != asked:
        st.query_params[side] = chosen
        st.session_state[f"{key}.seen"] = chosen
    return chosen


def _name(trace_id: str, row: TraceSummary | None) -> str:
    if row is None:
        return trace_id
    steered = " · steered" if row.steers else ""
    return f"{row.title}{steered} · {row.created[:16].replace('T', ' ')} · {trace_id}"


def _show(a: str, b: str) -> None:
    st.query_params["a"] = a
    st.query_params["b"] = b
    st.rerun()
