"""The tokens around a neuron side: what it promotes and suppresses, at which tokens it is strongest, after which, and alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pandas as pd
import streamlit as st

from neurons.atlas.project import project_side
from neurons.atlas.records import TokenStats
from neurons.core.types import NeuronSide
from neurons.models.chat import token_text
from neurons.models.loaded import LoadedModel
from neurons.tracing.sentence import visible
from pages.shared.neuron_facts import Known

_HEIGHT = 318


def draw(found: Known, side: NeuronSide) -> None:
    """Two tables of what it writes, then up to three of what it reads."""
    loaded, atlas = found.loaded, found.figures
    at = (side.layer, side.index, side.polarity)
    if atlas is not None:
        promoted, suppressed = atlas.promoted(*at), atlas.suppressed(*at)
    else:
        promoted, suppressed = _projected(loaded.ref.weights_hash, side, loaded)
    left, right = st.columns(2, gap="small")
    told = (
        "What the neuron's output row adds to each token's logit when it fires, through the final norm's scale and the unembedding, as "
        "a z-score over the vocabulary. Only a hint, best for the last layers: the layers that follow change it"
    )
    with left:
        _table("Promotes", _when_firing(promoted, side), loaded, value="z-score", help=told, key="promoted")
    with right:
        _table("Suppresses", _when_firing(suppressed, side), loaded, value="z-score", help=told, key="suppressed")
    if atlas is None:
        st.caption("At which tokens it fires is known once this model has an atlas.")
        return
    token, previous, probe = st.columns(3, gap="small")
    with token:
        _table(
            "Strongest at", atlas.token_stats(*at), loaded, value="mean", key="token",
            help="Tokens at which its activation is highest on average over the corpus",
        )  # fmt: skip
    with previous:
        _table(
            "Strongest after", atlas.previous_stats(*at), loaded, value="mean", key="previous",
            help="Tokens after which its activation is highest on average",
        )  # fmt: skip
    with probe:
        _table(
            "Strongest alone", atlas.probe_stats(*at), loaded, value="activation", key="probe",
            help="Where it fires most when each token of the vocabulary stands alone after the start token",
        )  # fmt: skip


@st.cache_resource(show_spinner=False, max_entries=100)
def _projected(weights_hash: str, side: NeuronSide, _loaded: LoadedModel) -> tuple[TokenStats, TokenStats]:
    return project_side(_loaded, side)


def _when_firing(stats: TokenStats, side: NeuronSide) -> TokenStats:
    """The effect when this side fires: on the negative side the activation's sign turns that of the output row's."""
    return stats if side.polarity == "+" else replace(stats, values=tuple(-value for value in stats.values))


def table(stats: TokenStats, loaded: LoadedModel) -> pd.DataFrame:
    """Tokens with what has no ink shown."""
    return pd.DataFrame(
        {"token": [visible(token_text(loaded, token)) for token in stats.ids], "value": stats.values, "count": stats.counts}
    )


def _table(title: str, stats: TokenStats, loaded: LoadedModel, *, value: str, help: str, key: str) -> None:
    st.markdown(f"**{title}**", help=help)
    if not stats.ids:
        st.caption("Not in this atlas." if key == "probe" else "None.")
        return
    columns: dict[str, Any] = {
        "token": st.column_config.TextColumn("Token", help="A middle dot is a space"),
        "value": st.column_config.NumberColumn(value, format="%.2f", width=70),
    }
    if any(stats.counts):
        columns["count"] = st.column_config.NumberColumn("Seen", width=55, help="How often the token occurred: the mean is over these")
    st.dataframe(
        table(stats, loaded), column_order=list(columns), column_config=columns, hide_index=True, key=f"neurons.words.{key}",
        height=min(_HEIGHT, 36 * (len(stats.ids) + 1) + 2),
    )  # fmt: skip
