"""The activation view: the neurons that fire most over the selected tokens."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from neurons.atlas.quantiles import quantiles_for
from neurons.atlas.store import open_atlas
from neurons.core.errors import NeuronscopeError
from neurons.tracing.ranking import Ranking, rank_activations
from neurons.tracing.replay import recompute
from neurons.tracing.sentence import visible
from pages.shared import neuron_table, server_wide, strip, trace_context
from pages.shared.descriptions import headlines_of
from pages.shared.kept import kept
from pages.shared.neuron_link import MEANING, link_column, links, meanings
from pages.shared.trace_context import TraceContext
from pages.trace import cluster_choice
from traces.schema import TraceRecord
from traces.store import Evicted

_THRESHOLD = "trace.threshold"
DEFAULT_THRESHOLD = 0.5
_WORDS_SHOWN = 6
COLUMNS: dict[str, Any] = {
    "link": link_column(help="layer:index and side, + when its activation is positive; opens what is known of it in a new tab"),
    "meaning": MEANING,
    "normalised": st.column_config.NumberColumn(
        "Strength", format="%.2f", width=70, help="Its peak over the tokens, normalised: the line above the table says what 1.0 is"
    ),
    "activation": st.column_config.NumberColumn(
        "Activation", format="%.2f", width=80, help="The peak over the tokens, in the model's own units"
    ),
    "percentile": st.column_config.NumberColumn(
        "Percentile", format="%.5f", width=80, help="Share of this layer's activations on this side, in this trace, that are weaker"
    ),
    "tokens": st.column_config.NumberColumn("Tokens", width=60, help="At how many of the selected tokens it passes the threshold"),
    "text": st.column_config.TextColumn("Fires on", width=200, help="Those tokens, in order"),
}


def draw(context: TraceContext) -> None:
    """Filters, table and actions."""
    try:
        found, frame = _ranked(context)
    except Evicted:
        _recompute(context)
        return
    except NeuronscopeError as error:
        server_wide.show_error(error)
        return
    where = f"at token {strip.spoken(context.ranges)}" if context.ranges else "at any token but the first"
    st.caption(f"{found.passed:,} neuron sides pass the threshold {where}. Strength is measured against {found.normaliser}.")
    frame = cluster_choice.narrowed(context, frame, key="trace.acts")
    neuron_table.draw(
        frame, COLUMNS, key="trace.acts", ref=context.record.model, stem=f"activations-{context.id}",
        signs=("positive", "negative"), floor=_threshold, around=370 + cluster_choice.line_height(context),
    )  # fmt: skip


def _threshold(place: DeltaGenerator) -> None:
    place.number_input(
        "Threshold", 0.0, 100.0, DEFAULT_THRESHOLD, 0.1, key=_THRESHOLD, persist_state="session",
        help="Keeps neurons whose strength reaches this at one of the tokens. 0 keeps every neuron that fires at all.",
    )  # fmt: skip


def ranking(context: TraceContext) -> Ranking:
    """The neurons that pass the threshold over the selected tokens. Raises `Evicted`, `NotFound`, `InvalidInput`."""
    return _ranked(context)[0]


def _ranked(context: TraceContext) -> tuple[Ranking, pd.DataFrame]:
    positions = tuple(strip.positions(context.ranges))
    threshold = float(st.session_state.get(_THRESHOLD, DEFAULT_THRESHOLD))
    atlas = None if context.loaded is None else open_atlas(context.loaded.ref)
    known = "" if atlas is None else f"{atlas.folder}/{(atlas.manifest.get('descriptions') or {}).get('table')}"
    return _ranking(server_wide.store().root.as_posix(), context.id, positions, threshold, known)


@kept("Ranking the neurons")
def _ranking(root: str, trace_id: str, positions: tuple[int, ...], threshold: float, atlas: str) -> tuple[Ranking, pd.DataFrame]:
    """The ranking and its table, shared: not to be written to. `atlas` says which atlas and descriptions it rests on, "" for none."""
    loaded = server_wide.model_with(server_wide.store().load(trace_id).model.weights_hash)
    quantiles = quantiles_for(loaded) if atlas and loaded is not None else None
    found = rank_activations(trace_context.activations_of(trace_id), tokens=positions or None, quantiles=quantiles, threshold=threshold)
    return found, table(found, server_wide.store().load(trace_id))


def table(found: Ranking, record: TraceRecord) -> pd.DataFrame:
    """The ranking as the frame that `neuron_table` shows."""
    frame = found.table.copy()
    frame["neuron"] = frame["layer"].astype(str) + ":" + frame["index"].astype(str) + frame["polarity"].astype(str)
    words = [visible(trace_context.word_at(record, i)) for i in range(len(record.token_ids))]
    frame["text"] = [
        " ".join(words[i] for i in places[:_WORDS_SHOWN]) + (" …" if len(places) > _WORDS_SHOWN else "")
        for places in frame.pop("positions")
    ]
    frame["description"] = headlines_of(record.model, frame["neuron"])
    frame["link"] = links(frame["neuron"])
    frame["meaning"] = meanings(frame["neuron"], frame["description"])
    frame["signed"] = frame["activation"]
    frame["strength"] = frame["normalised"]
    return frame.set_index(pd.Index(frame["neuron"].to_numpy(object)))


def strongest(context: TraceContext, count: int) -> tuple[list[str], np.ndarray[Any, Any]]:
    """The strongest neurons of the ranking: names, and activation over all tokens (N, T) as a share of each one's largest."""
    rows = ranking(context).table[["layer", "index"]].drop_duplicates().head(count)
    acts_LTI = context.activations()
    value_NT = np.array([acts_LTI[layer, :, index] for layer, index in rows.itertuples(index=False)], dtype=np.float32).reshape(
        len(rows), -1
    )
    largest_N1 = np.abs(value_NT[:, 1:]).max(axis=1, keepdims=True, initial=1e-12)
    return [f"{layer}:{index}" for layer, index in rows.itertuples(index=False)], value_NT / largest_N1


def _recompute(context: TraceContext) -> None:
    """The activations are gone from the disk: offer to run the trace again along its own tokens."""
    st.info("The activations of this trace were removed to keep the disk budget. Everything else is here.", icon=":material/inventory_2:")
    loaded = context.loaded
    if loaded is None:
        st.caption("To compute them again, load this trace's model on the Models page.")
        return
    if st.button("Compute them again", icon=":material/replay:", key="trace.recompute", type="primary"):
        with st.spinner(f"Running the trace's {len(context.record.token_ids)} tokens again"), server_wide.errors_shown():
            recompute(loaded, context.record, store=server_wide.store())
            trace_context.forget(context.id)
            st.rerun()
