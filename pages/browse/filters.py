"""The one row of filters above the table of all neurons, kept in the session and in the address."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import streamlit as st
from pydantic import BeforeValidator, Field

from neurons.concepts.search import Filters
from neurons.core.errors import InvalidInput
from neurons.core.types import NeuronSide
from neurons.descriptions.kinds import KINDS
from pages.shared import address_state
from pages.shared.neuron_facts import Known

KEY = "neurons"
_WRITTEN = "neurons.written"
_SEARCHING = "neurons.searching"

FITS = "fits the search"
ORDERS: dict[str, tuple[tuple[str, bool], ...]] = {
    FITS: (("similarity", False),),
    "best described": (("score", False),),
    "over its null": (("excess", False),),
    "worst described": (("score", True),),
    "most predictable": (("ceiling", False),),
    "layer and index": (("layer", True), ("index", True), ("polarity", True)),
    "description, A to Z": (("description", True),),
    "type": (("kind", True), ("score", False)),
    "yours first": (("yours", False), ("score", False)),
}
"""Each order's columns, and whether they ascend."""


@dataclass(frozen=True)
class Wanted:
    """What the row of filters says."""

    text: str
    filters: Filters
    order: str

    @property
    def named(self) -> NeuronSide | None:
        """The neuron that the search text names, if it does."""
        try:
            return NeuronSide.parse(self.text)
        except InvalidInput:
            return None


def _kinds(text: Any) -> Any:
    """Types by name; those of another version are left out."""
    return tuple(name for name in text.split(",") if name in KINDS) if isinstance(text, str) else text


def _span(text: Any) -> Any:
    """ "2:5" is (2, 5)."""
    if not isinstance(text, str):
        return text
    low, _, high = text.partition(":")
    if not (low.isdecimal() and high.isdecimal() and int(low) <= int(high)):
        raise ValueError("write two layers, such as 2:5")
    return int(low), int(high)


def _order(name: str) -> str:
    if name and name not in ORDERS:
        raise ValueError("there is no such order")
    return name


class FilterState(address_state.PageState):
    """The filters as the address has them."""

    q: str = ""
    word: str = ""
    side: Annotated[Literal["both", "+", "-"], BeforeValidator(lambda text: "+" if text == " " else text)] = "both"
    score: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 0.0
    kind: Annotated[tuple[str, ...], BeforeValidator(_kinds)] = ()
    clear: bool = False
    layers: Annotated[tuple[int, int] | None, BeforeValidator(_span)] = None
    order: Annotated[str, BeforeValidator(_order)] = ""


_PLAIN = ("q", "word", "side", "score", "clear")
"""Fields that widgets take as they are."""


def draw(found: Known) -> Wanted:
    """Draw the filters; `found.index` is there."""
    _from_address(found)
    wanted = _filters(found)
    _to_address(wanted)
    return wanted


def _filters(found: Known) -> Wanted:
    assert found.index is not None
    last = max(1, found.index.atlas.n_layers - 1)
    keep: dict[str, Any] = {"persist_state": "session"}
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        text = st.text_input(
            "Search",
            key=f"{KEY}.q",
            placeholder="what they fire on: court and law",
            icon=":material/search:",
            width=250,
            **keep,
            help="In your own words: finds the neurons that fire on texts of that meaning. A name such as 17:803 opens that neuron",
        )
        keyword = st.text_input(
            "Keyword",
            key=f"{KEY}.word",
            placeholder="in descriptions",
            width=135,
            **keep,
            help="Keeps neurons whose description, second line or theme holds every word",
        )
        low, high = st.slider("Layers", 0, last, key=f"{KEY}.layers", width=120, **keep)
        side = st.selectbox("Side", ["both", "+", "-"], key=f"{KEY}.side", width=82, **keep, help="+ is the positive side, - the negative")
        least = st.number_input(
            "Least score", 0.0, 1.0, step=0.05, key=f"{KEY}.score", width=110, **keep, help="0 keeps those without a score too"
        )
        kinds = st.multiselect("Types", list(KINDS), key=f"{KEY}.kind", width=140, placeholder="any", **keep, help=_kinds_help())
        clear = st.toggle("Clear only", key=f"{KEY}.clear", **keep, help="Leaves out neurons that no short description predicts")
        orders = _orders(searching=bool(text.strip()))
        order = st.selectbox(
            "Order", orders, key=f"{KEY}.order", width=155, **keep, help="Sorts all neurons that pass, not only those shown"
        )
    layers = None if (low, high) == (0, last) else (low, min(high, found.index.atlas.n_layers - 1))
    filters = Filters(
        keyword=keyword,
        layers=layers,
        polarity=None if side == "both" else side,
        least_score=least or None,
        kinds=tuple(kinds),
        clear_only=clear,
    )
    return Wanted(text, filters, order)


def _orders(*, searching: bool) -> list[str]:
    """The orders there are; beginning or ending a search chooses the first of them."""
    orders = list(ORDERS) if searching else [name for name in ORDERS if name != FITS]
    state = st.session_state
    if state.get(f"{KEY}.order") not in orders or state.get(_SEARCHING, searching) != searching:
        state[f"{KEY}.order"] = orders[0]
    state[_SEARCHING] = searching
    return orders


def _kinds_help() -> str:
    return "\n".join(f"- **{name}**: {meaning}" for name, meaning in KINDS.items())


def _from_address(found: Known) -> None:
    """Take over the filters of an address that this page did not write itself; else keep the session's."""
    assert found.index is not None
    last = max(1, found.index.atlas.n_layers - 1)
    session, asked = st.session_state, address_state.read(FilterState)
    given = {name: st.query_params[name] for name in FilterState.model_fields if name in st.query_params}
    fresh = bool(given) and given != session.get(_WRITTEN)
    values = {**{name: getattr(asked, name) for name in _PLAIN}, "kind": list(asked.kind)}
    for name, value in values.items():
        if fresh or f"{KEY}.{name}" not in session:
            session[f"{KEY}.{name}"] = value
    if fresh or f"{KEY}.layers" not in session or session[f"{KEY}.layers"][1] > last:
        session[f"{KEY}.layers"] = asked.layers if asked.layers is not None and asked.layers[1] <= last else (0, last)
    if fresh:
        session[f"{KEY}.order"] = asked.order or next(iter(ORDERS))
        session[_SEARCHING] = bool(session[f"{KEY}.q"].strip())


def _first(text: str) -> str:
    """The order that is chosen by itself."""
    return FITS if text.strip() else next(name for name in ORDERS if name != FITS)


def _to_address(wanted: Wanted) -> None:
    filters = wanted.filters
    told = {
        "q": wanted.text.strip(),
        "word": filters.keyword.strip(),
        "layers": "" if filters.layers is None else f"{filters.layers[0]}:{filters.layers[1]}",
        "side": filters.polarity or "",
        "score": f"{filters.least_score:g}" if filters.least_score else "",
        "kind": ",".join(filters.kinds),
        "clear": "1" if filters.clear_only else "",
        "order": "" if wanted.order == _first(wanted.text) else wanted.order,
    }
    told = {name: value for name, value in told.items() if value}
    st.session_state[_WRITTEN] = told
    for name in FilterState.model_fields:
        if name in told and st.query_params.get(name) != told[name]:
            st.query_params[name] = told[name]
        elif name not in told and name in st.query_params:
            del st.query_params[name]
