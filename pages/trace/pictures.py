"""The Pictures tab: layers x tokens, the strongest neurons over the tokens, and what each layer would say.

Charts show a window of tokens around the selection: a browser is slow to draw more than some thousand marks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt
import numpy as np
import pandas as pd
import streamlit as st

from neurons.core.errors import NeuronscopeError
from neurons.tracing.sentence import visible
from pages.shared import figures, palette, server_wide, strip, strip_views
from pages.shared.trace_context import STRIP_KEY, TraceContext
from pages.trace import activation_view, attribution_view, lens_table
from traces.attributions import StoredAttribution

_MARKS = 6_000
_NEURONS = 14


def draw(context: TraceContext, attribution: StoredAttribution | None) -> None:
    """All pictures of the present view."""
    _layers(context, attribution)
    _neurons(context, attribution)
    lens_table.draw(context)


def window(context: TraceContext, rows: int, stop: int) -> list[int]:
    """The token positions to draw, of [0, stop): all if they fit, else those around the token that is looked at."""
    room = max(20, _MARKS // max(1, rows))
    if stop <= room:
        return list(range(stop))
    start = max(0, min(context.token - room // 2, stop - room))
    return list(range(start, start + room))


def _layers(context: TraceContext, attribution: StoredAttribution | None) -> None:
    if context.view == "attribution":
        if attribution is None:
            st.markdown("**Where the attribution comes from**")
            attribution_view.missing(context)
            return
        mass_LT = attribution.mass_LT
        title, unit = "Where the attribution comes from", "absolute attribution"
        missing = "This attribution was stored without its sums over layers and tokens."
    else:
        mass_LT = strip_views.activation_mass(context)
        title, unit = "Which layers are active where", "activation, times the layer's mean"
        missing = "This trace has no stored activations. Recompute them in the Neurons tab."
    st.markdown(f"**{title}**")
    if mass_LT is None:
        st.info(missing, icon=":material/info:")
        return
    shown = window(context, mass_LT.shape[0], mass_LT.shape[1])
    frame = _grid(mass_LT[:, shown], [str(layer) for layer in range(mass_LT.shape[0])], shown, context)
    frame["row"] = frame["row"].astype(int)
    top = float(np.quantile(frame["value"], 0.995)) or 1.0
    chart = _heat(frame, "Layer", alt.Scale(range=palette.sequential(), domain=[0, top], clamp=True, interpolate="rgb"), unit, context)
    _link(context, chart, key="trace.picture.layers", height=300)
    if len(shown) < mass_LT.shape[1]:
        st.caption(f"Tokens {shown[0]} to {shown[-1]} of {mass_LT.shape[1]}: the part around the selection.")
    st.caption(f"Colour: {unit}; full colour at {top:.3g}. Click a cell to select its token.")


def _neurons(context: TraceContext, attribution: StoredAttribution | None) -> None:
    st.markdown("**The strongest neurons over the tokens**")
    if context.view == "attribution":
        if attribution is None:
            st.caption("Drawn once the attribution is there.")
            return
        names, value_NT, unit = _strongest_attributed(attribution)
        shown = window(context, len(names), value_NT.shape[1])
    else:
        try:
            names, value_NT = activation_view.strongest(context, _NEURONS)
        except NeuronscopeError as error:
            server_wide.show_error(error)
            return
        if not names:
            st.info("No neuron passes the threshold of the Neurons tab: lower it there.", icon=":material/filter_alt_off:")
            return
        unit = "activation, as a share of the neuron's largest in this trace"
        shown = window(context, len(names), value_NT.shape[1])
    frame = _grid(value_NT[:, shown], names, shown, context)
    top = float(np.abs(frame["value"]).max()) or 1.0
    top = min(top, 1.0) if context.view != "attribution" else top
    scale = alt.Scale(range=palette.diverging(), domain=[-top, 0, top], clamp=True, interpolate="rgb")
    _link(context, _heat(frame, "Neuron", scale, unit, context, names), key="trace.picture.neurons", height=40 + 18 * len(names))
    st.caption(f"Colour: {unit}; blue is positive, orange negative, full colour at {top:.3g}.")


def _strongest_attributed(attribution: StoredAttribution) -> tuple[list[str], np.ndarray[Any, Any], str]:
    """The neurons with the largest summed absolute attribution, and their attribution at each source token."""
    frame = pd.DataFrame(
        {"layer": attribution.layer_N, "index": attribution.index_N, "token": attribution.token_N, "value": attribution.attribution_N}
    )
    size = frame["value"].abs().groupby([frame["layer"], frame["index"]]).sum().nlargest(_NEURONS)
    value_NT = np.zeros((len(size), attribution.info.target.token), np.float32)
    for row, (layer, index) in enumerate(size.index):
        mine = frame[(frame["layer"] == layer) & (frame["index"] == index)]
        value_NT[row, mine["token"]] = mine["value"]
    return [f"{layer}:{index}" for layer, index in size.index], value_NT, "attribution"


def _grid(value_NT: np.ndarray[Any, Any], names: Sequence[str], shown: Sequence[int], context: TraceContext) -> pd.DataFrame:
    rows, columns = value_NT.shape
    words = [visible(context.word(i)) for i in shown]
    return pd.DataFrame(
        {
            "row": np.repeat(np.array(names, dtype=object), columns),
            "token": np.tile(np.array(shown), rows),
            "text": np.tile(np.array(words, dtype=object), rows),
            "value": np.asarray(value_NT, dtype=np.float64).ravel(),
        }
    )


def _heat(
    frame: pd.DataFrame, rows: str, scale: alt.Scale, unit: str, context: TraceContext, order: Sequence[str] | None = None
) -> alt.Chart:
    cell = alt.selection_point(name="cell", fields=["token"], on="click", empty=False)
    low, high = int(frame["token"].min()), int(frame["token"].max())
    many = 1 + (high - low) // 40
    ticks = [i for i in range(low, high + 1) if i % many == 0]
    chart: alt.Chart = (
        alt.Chart(frame)
        .mark_rect()
        .encode(
            x=alt.X("token:O", title="Token position", axis=alt.Axis(values=ticks, labelAngle=0, labelOverlap=True)),
            y=alt.Y("row:O", title=rows, sort=list(order) if order is not None else "descending", axis=alt.Axis(labelOverlap=True)),
            color=alt.Color("value:Q", scale=scale, legend=None),
            stroke=alt.condition(
                alt.FieldOneOfPredicate("token", list(context.positions) if context.ranges else []),
                alt.value(palette.colour("selection")),
                alt.value(None),
            ),
            tooltip=[
                alt.Tooltip("row:O", title=rows),
                alt.Tooltip("token:O", title="Position"),
                alt.Tooltip("text:N", title="Token"),
                alt.Tooltip("value:Q", title=unit, format=".4g"),
            ],
        )
        .add_params(cell)
        .properties(padding={"left": 5, "right": 5, "top": 5, "bottom": 5})
    )
    return chart


def _link(context: TraceContext, chart: alt.Chart, *, key: str, height: int) -> None:
    """Draw a chart whose cells select tokens in the strip."""
    event: Any = st.altair_chart(
        chart.properties(height=height), key=f"{key}.{context.id}", on_select="rerun", selection_mode="cell", width="stretch"
    )
    figures.offer_chart(chart.properties(height=height), key=key, stem=f"{key.rpartition('.')[2]}-{context.id}")
    cells = event.selection.get("cell") or []
    token = cells[0].get("token") if cells else None
    heard = f"{key}.heard"
    if token is not None and st.session_state.get(heard) != (context.id, token):
        st.session_state[heard] = (context.id, token)
        strip.select(STRIP_KEY, context.id, ((int(token), int(token) + 1),))
        st.rerun()
