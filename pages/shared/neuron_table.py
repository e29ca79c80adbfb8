"""A table of neurons with one row of filters above it and what can be done with the chosen rows below it.

Every table of the Trace page is a frame with the columns neuron ("17:803+"), layer, index, polarity, strength and
description, whatever else it has. The filters work on those.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from neurons.concepts.sets import Concept, SavedConcepts
from neurons.core.errors import NeuronscopeError
from neurons.core.steers import Steer
from neurons.core.types import ModelRef, NeuronSide
from pages.shared import address, desk, drawing, examples, figures, server_wide, steer_state
from pages.shared.neuron_link import open_neuron
from pages.shared.strip import room_beside
from pages.shared.tables import SELECTABLE_ROWS, choose_rows, downloads, matching

STRENGTHEN = 0.75
"""Strength of a steer that strengthens: this share of the neuron's extreme."""
_MANY = 500  # neurons in one steer


def draw(
    frame: pd.DataFrame,
    columns: Mapping[str, Any],
    *,
    key: str,
    ref: ModelRef,
    stem: str,
    signs: tuple[str, str],
    floor: Callable[[DeltaGenerator], None] | None = None,
    around: int = 370,
    more: Callable[[pd.DataFrame], None] | None = None,
) -> None:
    """Filters, table, actions. The frame's index names each row, so that a tick stays with its row or goes.

    `signs` names the two kinds of rows that the sign filter tells apart: rows whose `signed` column is above or below zero.
    `floor` draws a control of the caller's own in the place of the smallest-size filter. `around` is how many pixels
    beside the strip are not the table. `more` draws further actions with the ticked rows.
    """
    shown = _filtered(frame, key=key, ref=ref, signs=signs, floor=floor)
    if shown.empty:
        st.info("No neuron passes. Lower the threshold, widen the layers or select other tokens.", icon=":material/filter_alt_off:")
        return
    if len(shown) > SELECTABLE_ROWS:
        st.caption(f"Showing the first {SELECTABLE_ROWS:,} of {len(shown):,} rows.")
        shown = shown.iloc[:SELECTABLE_ROWS]
    height = max(180, min(36 * (len(shown) + 1) + 2, room_beside() - around))
    columns = {name: column for name, column in columns.items() if name != "meaning" or shown["meaning"].notna().any()}
    picked = choose_rows(shown, key=f"{key}.table", columns=columns, many=True, height=height)
    actions(shown, picked, key=key, ref=ref, stem=stem, more=more)


def _filtered(
    frame: pd.DataFrame, *, key: str, ref: ModelRef, signs: tuple[str, str], floor: Callable[[DeltaGenerator], None] | None
) -> pd.DataFrame:
    layers, sign, words, least = st.columns([1.5, 1.2, 1.6, 1.2], vertical_alignment="bottom")
    last = max(1, ref.n_layers - 1)
    if not _within(st.session_state.get(f"{key}.layers"), last):
        st.session_state.pop(f"{key}.layers", None)
    low, high = layers.slider("Layers", 0, last, (0, last), key=f"{key}.layers")
    desk.still_offered(f"{key}.sign", ["both", *signs])
    side = sign.selectbox("Sign", ["both", *signs], key=f"{key}.sign")
    text = words.text_input("Words", key=f"{key}.words", placeholder="token, description", help="Keeps rows that hold every word.")
    kept = frame[(frame["layer"] >= low) & (frame["layer"] <= high)]
    if floor is not None:
        floor(least)
    else:
        smallest = least.number_input(
            "At least", 0.0, None, 0.0, key=f"{key}.least", format="%.4f", help="Keeps rows at least this large, whatever the sign."
        )
        kept = kept[kept["strength"] >= smallest]
    if side != "both":
        kept = kept[kept["signed"] > 0] if side == signs[0] else kept[kept["signed"] < 0]
    if text.strip():
        kept = matching(kept, text, [name for name in ("neuron", "text", "description") if name in kept.columns])
    return kept


def _known(chosen: Sequence[NeuronSide], ref: ModelRef) -> str:
    """The tooltip of the way to a neuron's page: where the ticked one fires most."""
    lines = examples.tip(chosen[0], ref) if len(chosen) == 1 else ""
    return f"{chosen[0]} fires most at:  \n{lines}" if lines else "All that is known of the ticked neuron: tick one"


def _headings(rows: pd.DataFrame) -> dict[str, str]:
    """The columns of a table's figure, with the neuron and its meaning first."""
    first = [name for name in ("neuron", "description") if name in rows]
    rest = [str(name) for name in rows if name not in (*first, "layer", "index", "polarity")]
    return {name: name.capitalize() for name in (*first, *rest)}


def _within(span: Any, last: int) -> bool:
    """Whether kept layers are those of a model with so many."""
    return isinstance(span, tuple | list) and len(span) == 2 and all(isinstance(n, int) for n in span) and 0 <= span[0] <= span[1] <= last


def actions(
    shown: pd.DataFrame,
    picked: Sequence[int],
    *,
    key: str,
    ref: ModelRef,
    stem: str,
    whole: pd.DataFrame | None = None,
    said: str = "",
    more: Callable[[pd.DataFrame], None] | None = None,
) -> None:
    """What can be done with the ticked rows, and the export of all rows (`whole` where that is more than what is shown)."""
    chosen = sides(shown.iloc[list(picked)]) if picked else ()
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        if st.button(
            "Open neuron", icon=":material/open_in_new:", disabled=len(chosen) != 1, key=f"{key}.open",
            help=_known(chosen, ref),
        ):  # fmt: skip
            open_neuron(chosen[0])
        buttons(chosen, key=key, ref=ref)
        if more is not None:
            more(shown.iloc[list(picked)])
        with st.popover("Export", icon=":material/download:", key=f"{key}.export"):
            rows = shown.drop(columns=["signed", "strength", "link", "meaning"], errors="ignore") if whole is None else whole
            st.caption(said or f"All {len(rows):,} rows that pass the filters.")
            downloads(rows, stem, key=f"{key}.file")
            figures.offer(lambda: [drawing.of_table(rows, _headings(rows))], key=f"{key}.rows", stem=stem, inline=True)
        st.caption(f"{len(chosen):,} ticked" if chosen else f"{len(shown):,} rows: tick some")
        examples.on_rows(shown["neuron"].iloc[: examples.ROWS], ref, key=f"{key}.examples")


def buttons(chosen: Sequence[NeuronSide], *, key: str, ref: ModelRef) -> None:
    """Keep, suppress, strengthen some neurons; off when there are none."""
    none = not chosen
    with st.popover("Keep", icon=":material/bookmark_add:", disabled=none, key=f"{key}.keep", help="Save the neurons as a concept"):
        _keep(chosen, key=key, ref=ref)
    if st.button(
        "Suppress", icon=":material/volume_off:", key=f"{key}.suppress", disabled=none,
        help="Adds a steer that holds the neurons at 0 to the Steer tab of the Trace page",
    ):  # fmt: skip
        _steer(chosen, 0.0, "Suppress")
    if st.button(
        "Strengthen", icon=":material/volume_up:", key=f"{key}.strengthen", disabled=none,
        help=f"Adds a steer that holds the neurons at {STRENGTHEN:g} of their strongest activation to the Steer tab of the Trace page",
    ):  # fmt: skip
        _steer(chosen, STRENGTHEN, "Strengthen")
    count = len(steer_state.cards())
    if count and st.button(
        f"{count} card{'s' if count > 1 else ''}",
        icon=":material/tune:",
        key=f"{key}.cards",
        on_click=address.open_cards,
        help="Leads to the Steer tab of the Trace page, where the steers stand on cards",
    ):
        address.go_to_cards_elsewhere()


def sides(frame: pd.DataFrame) -> tuple[NeuronSide, ...]:
    """The neuron sides of a table's rows, each once, in order."""
    return tuple(dict.fromkeys(NeuronSide.parse(name) for name in frame["neuron"]))


def _steer(chosen: Sequence[NeuronSide], strength: float, word: str) -> None:
    kept = tuple(chosen[:_MANY])
    more = f" and {len(kept) - 1} more" if len(kept) > 1 else ""
    steer_state.add(Steer(kept, "set", strength, name=f"{word} {kept[0]}{more}"))
    st.toast(f"{word}: {len(kept)} neurons are on a new card in the Steer tab.", icon=":material/tune:")


def _keep(chosen: Sequence[NeuronSide], *, key: str, ref: ModelRef) -> None:
    name = st.text_input("Name", key=f"{key}.concept", placeholder="such as capitals of Europe")
    if st.button("Keep", key=f"{key}.concept.save", type="primary", disabled=not name.strip()):
        try:
            keep_concept(name, chosen, ref)
        except NeuronscopeError as error:
            server_wide.show_error(error)
        else:
            st.toast(f"Saved {len(chosen)} neurons as a concept.", icon=":material/bookmark_added:")


def keep_concept(name: str, chosen: Sequence[NeuronSide], ref: ModelRef) -> None:
    """Save neurons as a concept of this model. Raises `InvalidInput` for a name that is taken or not usable."""
    SavedConcepts().save(name, Concept.of(chosen, ref=ref, origin="hand-picked"))
