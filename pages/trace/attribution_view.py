"""The attribution view: which neurons, at which earlier tokens, promoted or suppressed one token.

A click on one token makes it the target; a selection of several restricts the sources. What is computed is stored in the trace.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from neurons.attribution.attribute import DEFAULT
from neurons.core.errors import InvalidInput, NeuronscopeError
from neurons.core.percent import percent
from neurons.core.types import Metric, ModelRef, TargetSpec, parse_ranges
from neurons.models.chat import single_token
from neurons.tracing.saved_attributions import storable
from neurons.tracing.sentence import visible
from pages.shared import neuron_table, server_wide, strip, untrusted
from pages.shared.descriptions import descriptions_for
from pages.shared.trace_context import STRIP_KEY, TraceContext
from pages.trace import attribution_job, cluster_choice
from traces.attributions import StoredAttribution, attribution_key

_FOCUS = "trace.focus"
_METRIC = "trace.metric"
_METRICS: dict[Metric, str] = {
    "prob": "Probability",
    "logprob": "Log-probability",
    "logit": "Logit",
    "contrast": "Contrast with a token",
}
_METRIC_HELP = (
    "What the neurons' share is measured in. Probability: the token's own, as published. Log-probability: the same in nats. "
    "Logit: the raw score. Contrast: the token's logit less another token's, which shows why this one and not that one."
)
COLUMNS: dict[str, Any] = {
    "neuron": st.column_config.TextColumn(
        "Neuron", width=80, help="layer:index and side: + when its activation is positive, - when negative"
    ),
    "attribution": st.column_config.NumberColumn(
        "Attribution",
        format="%+.4f",
        width=85,
        help="Estimate of what the metric would lose without the neuron there: above 0 it promoted the token, below 0 it suppressed it",
    ),
    "token": st.column_config.NumberColumn("At", width=45, help="Position of the source token"),
    "text": st.column_config.TextColumn("Token", width=90, help="The source token, where the neuron fired"),
    "activation": st.column_config.NumberColumn("Activation", format="%.2f", width=75, help="The neuron's activation there"),
    "description": st.column_config.TextColumn("Description", width=220, help="What the neuron responds to, from the model's atlas"),
}


@dataclass(frozen=True)
class Question:
    """What is to be attributed."""

    target: TargetSpec
    """With its token ids filled in."""
    sources: strip.Ranges = ()
    """Source tokens it is restricted to; () is all before the target."""

    @property
    def source_text(self) -> str:
        return ",".join(f"{start}:{stop}" for start, stop in self.sources)

    @property
    def key(self) -> str:
        return attribution_key(self.target, DEFAULT, sources=self.source_text)


def focus(context: TraceContext) -> tuple[int, strip.Ranges]:
    """The token that is explained and the sources it is restricted to, from the clicks so far."""
    kept: dict[str, Any] = st.session_state.setdefault(_FOCUS, {})
    if kept.get("trace") != context.id:
        kept.clear()
        kept.update(trace=context.id, token=None, sources=())
    if len(context.ranges) == 1 and _one_token(context, context.ranges[0]):
        kept.update(token=context.ranges[0][0], sources=())
    elif context.ranges:
        kept.update(sources=context.ranges)
    token = kept["token"] if kept["token"] is not None else min(len(context.record.prompt_ids), len(context.record.token_ids) - 1)
    return token, tuple(kept["sources"])


def _one_token(context: TraceContext, span: tuple[int, int]) -> bool:
    """Whether a range is a single visible token (a character split over tokens counts as one)."""
    return all(context.record.pieces[i] == "" for i in range(span[0] + 1, span[1]))


def current(context: TraceContext) -> StoredAttribution | None:
    """The attribution that answers the present clicks and settings, computed when it is not stored. None when there is none."""
    try:
        question = _question(context)
        return None if question is None else _answer(context, question)
    except NeuronscopeError:
        return None  # `draw` meets it again where the settings are, and shows it there


def _question(context: TraceContext) -> Question | None:
    """What is asked; None while the contrast has no second token. Raises `InvalidInput` for a typed token that is not one."""
    token, sources = focus(context)
    if token == 0:
        raise InvalidInput("the first token has nothing before it, so nothing caused it; click a later token", field="token")
    metric: Metric = st.session_state.get(_METRIC, "prob")
    token_id = context.record.token_ids[token]
    against = _against(context, token) if metric == "contrast" else None
    if metric == "contrast" and against is None:
        return None
    limited = tuple((start, min(stop, token)) for start, stop in sources if start < token)
    return Question(TargetSpec(token, metric, token_id, against), limited)


def _candidates(context: TraceContext, token: int) -> dict[str, int]:
    """The other tokens that the model considered there, by the label they are offered under."""
    if "topk_ids" not in context.facts:
        return {}
    ids = [int(i) for i in context.facts["topk_ids"][token] if i >= 0 and i != context.record.token_ids[token]]
    return {f"{visible(word)}  (id {i})": i for i, word in zip(ids, context.words(ids), strict=True)}


def _against(context: TraceContext, token: int) -> int | None:
    """The id of the token that the target is contrasted with. Raises `InvalidInput` for a text that is not one token."""
    words = _candidates(context, token)
    chosen = st.session_state.get(f"trace.against.{context.id}.{token}", next(iter(words), None))
    if not chosen or chosen in words:
        return words[chosen] if chosen else None
    if context.loaded is None:
        raise InvalidInput("a typed token needs the trace's model; load it on the Models page", field="token")
    return single_token(context.loaded, str(chosen))


def _controls(context: TraceContext, attribution: StoredAttribution | None) -> None:
    """The settings above the table, and beside them what is shown."""
    token, sources = focus(context)
    left, middle, right = st.columns([1.15, 2.2, 0.75], vertical_alignment="center")
    metric = left.selectbox(
        "Measured in",
        list(_METRICS),
        format_func=_METRICS.__getitem__,
        key=_METRIC,
        help=_METRIC_HELP,
        persist_state="session",
        label_visibility="collapsed",
    )
    if metric == "contrast":
        words = list(_candidates(context, token))
        middle.selectbox(
            "Against",
            words,
            index=0 if words else None,
            key=f"trace.against.{context.id}.{token}",
            accept_new_options=True,
            placeholder="type a token: its text (with its leading space) or id",
            persist_state="page",
            label_visibility="collapsed",
        )
    elif attribution is not None:
        with middle:
            _about(context, attribution)
    help_text = "Consider all earlier tokens again"
    if sources and right.button("All", key="trace.sources.all", icon=":material/select_all:", help=help_text, width="stretch"):
        st.session_state[_FOCUS]["sources"] = ()
        strip.select(STRIP_KEY, context.id, ((token, token + 1),))
        st.rerun()
    if metric == "contrast" and attribution is not None:
        _about(context, attribution)


def _about(context: TraceContext, attribution: StoredAttribution) -> None:
    """What the table holds, in small print."""
    info = attribution.info
    against = "" if info.target.against_id is None else f" over {visible(context.words([info.target.against_id])[0])}"
    where = f"tokens {strip.spoken(parse_ranges(info.sources))}" if info.sources else f"all {info.target.token} tokens before it"
    untrusted.draw(
        f"{_METRICS[info.target.metric]} of {visible(context.word(info.target.token))}{against}: {info.metric_value:.4g}. "
        f"Sources: {where}. The {info.kept:,} strongest of {info.total:,} entries hold {percent(info.share)} of the absolute attribution.",
        key="trace.attr.about",
        size="0.82rem",
    )


def _answer(context: TraceContext, question: Question) -> StoredAttribution | None:
    """The attribution asked for: from the trace where it is stored, else computed and stored; None while it is computed."""
    store = server_wide.store()
    if question.key in {info.key for info in store.attributions(context.id)}:
        return store.attribution(context.id, question.key)
    full = attribution_job.whole(context, question.target)
    if full is None:
        return None
    result = storable(full, sources=question.source_text)
    store.save_attribution(context.id, result)
    return result


def draw(context: TraceContext, attribution: StoredAttribution | None) -> None:
    """The settings, and the table of the attribution that `current` has returned."""
    _controls(context, attribution)
    if attribution is None:
        with server_wide.errors_shown():
            question = _question(context)
            if question is not None and attribution_job.draw(context, question.target):
                return
            if question is None:
                st.info("Choose or type the token that this one is contrasted with.", icon=":material/compare_arrows:")
            elif context.loaded is None:
                missing = "This is not computed yet, and the trace's model is not loaded: load it on the Models page."
                st.info(missing, icon=":material/deployed_code:")
        return
    frame = cluster_choice.narrowed(context, table(context, attribution), key="trace.attr")
    stem = f"attribution-{context.id}-t{attribution.info.target.token}"
    signs = ("promoting", "suppressing")
    neuron_table.draw(
        frame,
        COLUMNS,
        key="trace.attr",
        ref=context.record.model,
        stem=stem,
        signs=signs,
        around=430 + cluster_choice.line_height(context),
    )


def table(context: TraceContext, attribution: StoredAttribution) -> pd.DataFrame:
    """The kept rows as a frame, strongest first."""
    frame = pd.DataFrame(
        {
            "layer": attribution.layer_N,
            "index": attribution.index_N,
            "token": attribution.token_N,
            "activation": attribution.activation_N,
            "attribution": attribution.attribution_N,
        }
    )
    frame["polarity"] = np.where(frame["activation"] < 0, "-", "+")
    frame["neuron"] = frame["layer"].astype(str) + ":" + frame["index"].astype(str) + frame["polarity"]
    words = {int(t): visible(context.word(int(t))) for t in np.unique(attribution.token_N)}
    frame["text"] = frame["token"].map(words)
    frame["description"] = describe(context.record.model, frame["neuron"])
    frame["signed"] = frame["attribution"]
    frame["strength"] = frame["attribution"].abs()
    return frame.set_index(pd.Index((frame["neuron"] + "@" + frame["token"].astype(str)).to_numpy(object)))


def describe(ref: ModelRef, names: Sequence[str] | pd.Series) -> list[str]:
    """The description of each neuron named "17:803+", "" where there is none."""
    known = descriptions_for(ref)
    return [known.get(name, "") for name in names] if known else [""] * len(names)
