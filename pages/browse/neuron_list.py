"""All neurons of the model's atlas as a table: searched by free text, sorted over all of them, and what can be done with rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from neurons.concepts.embed import embed_query, embedder
from neurons.concepts.search import match_note
from pages.browse import background, filters
from pages.browse.filters import KEY, ORDERS, Wanted
from pages.shared import neuron_table, progress_row, untrusted
from pages.shared.neuron_facts import Known, frame
from pages.shared.neuron_link import MEANING, link_column, open_neuron
from pages.shared.tables import SELECTABLE_ROWS, table_key

_EMBEDDER = ("embedder",)
SHOWN = (1_000, 10_000, SELECTABLE_ROWS)
"""How many rows a table holds, by choice."""

_number: Any = st.column_config.NumberColumn
_text: Any = st.column_config.TextColumn
COLUMNS: dict[str, Any] = {
    "address": link_column(),
    "headline": MEANING,
    "layer": _number("Layer", width=50),
    "index": _number("Index", width=60),
    "polarity": _text("Side", width=40, help="+ what the neuron does when its activation is positive, - when it is negative"),
    "writes": _text("Writes", width=230, help="What it makes more or less likely to come next"),
    "description": _text("Detail", width=300, help="The scored line behind the headline; your own text where you wrote one"),
    "kind": _text("Type", width=85, help="What carries the description: a token, a class of words, what came before..."),
    "similarity": _number(
        "Similarity", width=70, format="%.3f",
        help="What a search ranks by: how closely its activation follows the meaning of your words over the corpus, plus a quarter "
        "of how alike its description and your words are",
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


def draw(found: Known) -> None:
    """The whole list. `found.index` is there."""
    assert found.index is not None
    wanted = filters.draw(found)
    if (side := wanted.named) is not None and st.button(
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


def matching(found: Known, wanted: Wanted) -> pd.DataFrame | None:
    """The rows that pass, in the wanted order; None while the search is still being made ready."""
    assert found.index is not None
    table = frame(found)
    kept = np.flatnonzero(found.index.keep(wanted.filters))
    if wanted.text.strip() and wanted.named is None:
        if not _ready():
            return None
        similarity, reading = found.index.similarity(embed_query(wanted.text))
        kept = kept[reading[kept] > 0]
        poor = match_note(wanted.text.strip(), float(reading.max())) if found.index.space.has_readings else ""
        if poor:
            untrusted.draw([(f"{poor[:1].upper()}{poor[1:]}.", "muted")], key=f"{KEY}.poor")
        rows = table.iloc[kept].assign(similarity=similarity[kept])
    else:
        rows = table.iloc[kept]
        if "similarity" in [name for name, _ in ORDERS[wanted.order]]:
            return rows
    columns, ascending = zip(*ORDERS[wanted.order], strict=True)
    return rows.sort_values(list(columns), ascending=list(ascending), kind="stable", na_position="last")


def warm() -> None:
    """Begin to load what a search needs, so that the first one does not wait."""
    background.ensure(_EMBEDDER, "preparing the search", _load)


def _ready() -> bool:
    """Whether queries can be embedded; else why not, or how far it is."""
    task = background.ensure(_EMBEDDER, "preparing the search", _load)
    return progress_row.watch(task, key=f"{KEY}.embedder") and background.ended(
        task, key=f"{KEY}.embedder", retry=lambda: background.ensure(_EMBEDDER, "preparing the search", _load, again=True)
    )


def _load(_task: Any) -> None:
    embedder()


def _table(rows: pd.DataFrame, found: Known, *, searching: bool) -> None:
    """The first rows, their ticks, and what can be done with them."""
    assert found.index is not None
    total = len(found.index.table)
    left, right = st.columns([6, 1], vertical_alignment="center")
    most = right.selectbox(
        "Rows shown",
        SHOWN,
        key=f"{KEY}.shown",
        persist_state="session",
        label_visibility="collapsed",
        format_func=lambda n: "all rows" if n == SELECTABLE_ROWS else f"{n:,} rows",
        help="All neurons that pass are sorted and exported, however many are shown. Showing all makes the page slower",
    )
    shown = rows.iloc[:most]
    some = f"the first {len(shown):,} are shown; a click on a column's head sorts those" if len(shown) < len(rows) else "all are shown"
    info = found.index.atlas.info
    note = f" Note: {untrusted.escape(info.note)}." if info.note else ""
    left.caption(
        f"{len(rows):,} of {total:,} neuron sides pass, {some}. Click a row to open its neuron; tick boxes to steer or keep "
        f"several. Figures from {info.tokens:,} tokens.{note}"
    )
    names = [name for name in COLUMNS if (name != "similarity" or "similarity" in shown) and (name != "yours" or shown["yours"].any())]
    key = table_key(f"{KEY}.table", shown.index)
    event = st.dataframe(
        shown,
        key=key,
        width="stretch",
        height=min(36 * (len(shown) + 1) + 2, 470),
        hide_index=True,
        column_order=names,
        column_config=COLUMNS,
        on_select="rerun",
        selection_mode=["multi-row", "single-cell"],
        placeholder="–",
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
