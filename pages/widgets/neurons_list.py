"""All neurons of the model's atlas: one row of filters, search by free text, sorting over all of them, and what can be done with rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from neurons.concepts import search
from neurons.concepts.embed import embedder
from neurons.concepts.search import Filters
from neurons.describe.kinds import KINDS
from neurons.errors import InvalidInput
from neurons.types import NeuronSide
from pages.widgets import neuron_table, neurons_jobs, plain
from pages.widgets.neuron_link import link_column, open_neuron
from pages.widgets.neurons_data import Known, frame
from pages.widgets.tables import SELECTABLE_ROWS, table_key

KEY = "neurons"
_WRITTEN = "neurons.written"
_EMBEDDER = ("embedder",)
SHOWN = (1_000, 10_000, SELECTABLE_ROWS)
"""How many rows a table holds, by choice."""

ORDERS: dict[str, tuple[tuple[str, bool], ...]] = {
    "fits the search": (("similarity", False),),
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

_number: Any = st.column_config.NumberColumn
_text: Any = st.column_config.TextColumn
COLUMNS: dict[str, Any] = {
    "address": link_column(),
    "layer": _number("Layer", width=50),
    "index": _number("Index", width=60),
    "polarity": _text("Side", width=40, help="+ what the neuron does when its activation is positive, - when it is negative"),
    "description": _text("Fires on", width=300, help="What it fires on, as far as words can tell; yours where you wrote one"),
    "second": _text("Also", width=230, help="What it promotes and suppresses, and where it stands"),
    "kind": _text("Type", width=85, help="What carries the description: a token, a class of words, what came before..."),
    "similarity": _number(
        "Similarity", width=70, format="%.3f",
        help="What a search ranks by: how its activation goes with the meaning of your words over the corpus, plus a quarter of the "
        "description's likeness to them",
    ),
    "score": _number(
        "Score", width=55, format="%.2f",
        help="Pearson correlation of what the description predicts with the true activation, on text it was not made from. 1 is perfect",
    ),
    "null": _number("Null", width=50, format="%.2f", help="The same for another neuron's description: what chance gives"),
    "ceiling": _number(
        "Ceiling", width=60, format="%.2f",
        help="How predictable the neuron is at all from the token and the one before it: a description can hardly do better",
    ),
    "yours": _text("Yours", width=90, help="Your vote, lock, note or own description"),
}  # fmt: skip


@dataclass(frozen=True)
class Wanted:
    """What the row of filters says."""

    text: str
    filters: Filters
    order: str


_DEFAULTS: dict[str, Any] = {"q": "", "word": "", "side": "both", "score": 0.0, "kind": [], "clear": False}


def draw(found: Known) -> None:
    """The whole list. `found.index` is there."""
    assert found.index is not None
    _from_address(found)
    wanted = _filters(found)
    _to_address(wanted, found)
    if (side := _named(wanted.text)) is not None and st.button(
        f"Open neuron {side}", icon=":material/open_in_new:", key=f"{KEY}.named", type="primary"
    ):
        open_neuron(side)
    rows = matching(found, wanted)
    if rows is None:
        return
    if rows.empty:
        st.info(
            "No neuron passes. Empty the keyword, widen the layers, lower the score or allow unclear ones.",
            icon=":material/filter_alt_off:",
        )
        return
    _table(rows, found, searching=bool(wanted.text.strip()))


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
            width=300,
            **keep,
            help="Free text, in any words: neurons whose activation goes with texts of that meaning. A name such as 17:803 opens that "
            "neuron",
        )
        keyword = st.text_input(
            "Keyword",
            key=f"{KEY}.word",
            placeholder="in the description",
            width=150,
            **keep,
            help="Keeps neurons whose description, second line or theme holds every word",
        )
        low, high = st.slider("Layers", 0, last, key=f"{KEY}.layers", width=150, **keep)
        side = st.selectbox("Side", ["both", "+", "-"], key=f"{KEY}.side", width=85, **keep, help="+ fires upwards, - downwards")
        least = st.number_input(
            "Least score", 0.0, 1.0, step=0.05, key=f"{KEY}.score", width=125, **keep, help="0 keeps those without a score too"
        )
        kinds = st.multiselect("Types", list(KINDS), key=f"{KEY}.kind", width=190, placeholder="any", **keep, help=_kinds_help())
        clear = st.toggle("Clear only", key=f"{KEY}.clear", **keep, help="Leaves out neurons that no short description predicts")
        orders = list(ORDERS) if text.strip() else [name for name in ORDERS if name != "fits the search"]
        if st.session_state.get(f"{KEY}.order") not in orders:
            st.session_state[f"{KEY}.order"] = orders[0]
        order = st.selectbox(
            "Order", orders, key=f"{KEY}.order", width=165, **keep, help="Sorts all neurons that pass, not only those shown"
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


def _kinds_help() -> str:
    return "\n".join(f"- **{name}**: {meaning}" for name, meaning in KINDS.items())


def _from_address(found: Known) -> None:
    """Take over the filters of an address that this page did not write itself; else keep the session's."""
    assert found.index is not None
    last = max(1, found.index.atlas.n_layers - 1)
    state, query = st.session_state, st.query_params
    given = {name: query[name] for name in (*_DEFAULTS, "layers", "order") if name in query}
    fresh = bool(given) and given != state.get(_WRITTEN)
    for name, default in _DEFAULTS.items():
        if fresh or f"{KEY}.{name}" not in state:
            state[f"{KEY}.{name}"] = _read(name, given[name]) if name in given else default
    if fresh or f"{KEY}.layers" not in state or state[f"{KEY}.layers"][1] > last:
        state[f"{KEY}.layers"] = _layers(given.get("layers", ""), last)
    if fresh and given.get("order") in ORDERS:
        state[f"{KEY}.order"] = given["order"]


def _read(name: str, text: str) -> Any:
    """A filter's value from the address; what is not usable counts as not given."""
    if name == "score":
        try:
            return min(1.0, max(0.0, float(text)))
        except ValueError:
            return 0.0
    if name == "kind":
        return [kind for kind in text.split(",") if kind in KINDS]
    if name == "side":
        return "+" if text in ("+", " ") else "-" if text == "-" else "both"
    return text == "1" if name == "clear" else text


def _layers(text: str, last: int) -> tuple[int, int]:
    low, _, high = text.partition(":")
    if low.isdigit() and high.isdigit() and int(low) <= int(high) <= last:
        return int(low), int(high)
    return 0, last


def _to_address(wanted: Wanted, found: Known) -> None:
    filters = wanted.filters
    told = {
        "q": wanted.text.strip(),
        "word": filters.keyword.strip(),
        "layers": "" if filters.layers is None else f"{filters.layers[0]}:{filters.layers[1]}",
        "side": filters.polarity or "",
        "score": f"{filters.least_score:g}" if filters.least_score else "",
        "kind": ",".join(filters.kinds),
        "clear": "1" if filters.clear_only else "",
        "order": "" if wanted.order in ("fits the search", "best described") else wanted.order,
    }
    told = {name: value for name, value in told.items() if value}
    st.session_state[_WRITTEN] = told
    for name in (*_DEFAULTS, "layers", "order"):
        if name in told and st.query_params.get(name) != told[name]:
            st.query_params[name] = told[name]
        elif name not in told and name in st.query_params:
            del st.query_params[name]


def _named(text: str) -> NeuronSide | None:
    """The neuron that a search text names, if it does."""
    try:
        return NeuronSide.parse(text)
    except InvalidInput:
        return None


def matching(found: Known, wanted: Wanted) -> pd.DataFrame | None:
    """The rows that pass, in the wanted order; None while the search is still being made ready."""
    assert found.index is not None
    table = frame(found)
    kept = np.flatnonzero(found.index.keep(wanted.filters))
    if wanted.text.strip() and _named(wanted.text) is None:
        if not _ready():
            return None
        similarity, reading = found.index.similarity(search.embed_query(wanted.text))
        kept = kept[reading[kept] > 0]
        rows = table.iloc[kept].assign(similarity=similarity[kept])
    else:
        rows = table.iloc[kept]
        if "similarity" in [name for name, _ in ORDERS[wanted.order]]:
            return rows
    columns, ascending = zip(*ORDERS[wanted.order], strict=True)
    return rows.sort_values(list(columns), ascending=list(ascending), kind="stable", na_position="last")


def warm() -> None:
    """Begin to load what a search needs, so that the first one does not wait."""
    neurons_jobs.ensure(_EMBEDDER, "getting the search ready", _load)


def _ready() -> bool:
    """Whether queries can be embedded; else why not, or how far it is."""
    job = neurons_jobs.ensure(_EMBEDDER, "getting the search ready", _load)
    return neurons_jobs.watch(job, key=f"{KEY}.embedder") and neurons_jobs.ended(
        job, key=f"{KEY}.embedder", retry=lambda: neurons_jobs.ensure(_EMBEDDER, "getting the search ready", _load, again=True)
    )


def _load(_job: Any) -> None:
    embedder()


def _table(rows: pd.DataFrame, found: Known, *, searching: bool) -> None:
    """The first rows, their ticks, and what can be done with them."""
    assert found.index is not None
    total = len(found.index.table)
    left, right = st.columns([6, 1], vertical_alignment="bottom")
    most = right.selectbox(
        "Rows shown", SHOWN, key=f"{KEY}.shown", persist_state="session", format_func=lambda n: "all" if n == SELECTABLE_ROWS else f"{n:,}",
        help=f"All neurons that pass are sorted and exported; a table of all is heavier on the browser. Above {SELECTABLE_ROWS:,} rows no "
        f"row can be ticked",
    )  # fmt: skip
    shown = rows.iloc[:most]
    some = f"the first {len(shown):,} are shown; a click on a column's head sorts those" if len(shown) < len(rows) else "all are shown"
    info = found.index.atlas.info
    left.caption(
        f"{len(rows):,} of {total:,} neuron sides pass, {some}. Click a neuron's description to open it, tick boxes to steer or keep "
        f"several. Figures from {info.tokens:,} tokens."
    )
    if info.note:
        left.caption(f"{plain.escape(info.note)}.")
    names = [name for name in COLUMNS if (name != "similarity" or "similarity" in shown) and (name != "yours" or shown["yours"].any())]
    key = table_key(f"{KEY}.table", shown.index)
    event = st.dataframe(
        shown,
        key=key,
        width="stretch",
        height=min(36 * (len(shown) + 1) + 2, 540),
        hide_index=True,
        column_order=names,
        column_config=COLUMNS,
        on_select="rerun",
        selection_mode=["multi-row", "single-cell"],
    )
    for row, column in event.selection.cells:
        if column != "address" and row < len(shown):
            open_neuron(shown["neuron"].iloc[row])
    picked = [row for row in event.selection.rows if row < len(shown)]
    words = " matching a search" if searching else ""
    neuron_table.actions(
        shown, picked, key=KEY, ref=found.loaded.ref, stem="neurons", whole=rows.drop(columns=["address"]),
        said=f"All {len(rows):,} neurons that pass{words}, in this order.",
    )  # fmt: skip
