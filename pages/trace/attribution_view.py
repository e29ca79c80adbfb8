"""The attribution view: which neurons, at which earlier tokens, promoted or suppressed one token.

A click on one token makes it the target; a selection of several restricts the sources. What is computed is stored in the trace.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from neurons.attribution.attribute import DEFAULT
from neurons.attribution.metrics import SATURATED
from neurons.core.errors import InvalidInput, NeuronscopeError
from neurons.core.percent import percent
from neurons.core.steers import parse_ranges
from neurons.core.types import Metric, TargetSpec
from neurons.models.chat import contrast_token
from neurons.tracing.saved_attributions import CONVERGENCE, STANDS_IN, storable
from neurons.tracing.sentence import visible
from pages.shared import neuron_table, server_wide, strip, untrusted
from pages.shared.descriptions import headlines_of
from pages.shared.neuron_link import MEANING, link_column, links, meanings
from pages.shared.trace_context import STRIP_KEY, TraceContext
from pages.trace import attribution_job, cluster_choice, effects
from traces.attributions import AttributionInfo, StoredAttribution

_FOCUS = "trace.focus"
_METRIC = "trace.metric"
_METRICS: dict[Metric, str] = {
    "prob": "Probability",
    "logprob": "Log-probability",
    "logit": "Logit",
    "contrast": "Contrast with a token",
    "logodds": "Log odds",
}
_METRIC_HELP = (
    "What the neurons' share is measured in. Probability: the token's own, as published. Log-probability: the same in nats. "
    "Logit: the raw score. Contrast: the token's logit less another token's, which shows why this one and not that one. "
    "Log odds: log p/(1 - p), which moves also where the probability is nearly 1; it is taken instead of the probability there."
)
_METHOD = "trace.method"
_METHODS = {
    "refined": "Refined (the default)",
    "grad": "Activation × gradient",
    "logodds": "Gradient of log odds",
    "ig": "Integrated gradients",
    "direct": "Direct to the output",
    "frozen": "Attention, norms frozen",
    "relp": "RelP",
}
_METHOD_HELP = (
    "How the neurons' share is estimated. Refined agrees best with what really happens without a neuron. Activation × gradient is the "
    "published estimate. Integrated gradients adds up to what all neurons do together, takes many times as long, and says how much its sum "
    "misses. Direct counts only what a neuron writes straight to the output. The last two follow changed backward rules."
)
COLUMNS: dict[str, Any] = {
    "link": link_column(help="layer:index and side, + when its activation is positive; opens what is known of it in a new tab"),
    "meaning": MEANING,
    "attribution": st.column_config.NumberColumn(
        "Attribution",
        format="%+.4f",
        width=85,
        help="Estimate of what the metric would lose without the neuron there: above 0 it promoted the token, below 0 it suppressed it",
    ),
    "effect": effects.COLUMN,
    "token": st.column_config.NumberColumn("At", width=45, help="Position of the source token"),
    "text": st.column_config.TextColumn("Token", width=90, help="The source token, where the neuron fired"),
    "activation": st.column_config.NumberColumn("Activation", format="%.2f", width=75, help="The neuron's activation there"),
}


@dataclass(frozen=True)
class Question:
    """What is to be attributed."""

    target: TargetSpec
    """With its token ids filled in."""
    method: str = DEFAULT
    """How it is estimated."""
    sources: strip.Ranges = ()
    """Source tokens it is restricted to; () is all before the target."""

    @property
    def source_text(self) -> str:
        return ",".join(f"{start}:{stop}" for start, stop in self.sources)

    def is_answered_by(self, info: AttributionInfo) -> bool:
        """Whether a stored attribution is this one, by the method asked for or by what stands in for it on this model."""
        by_method = info.method == self.method or f"stands in for {self.method}" in str(info.extra.get(STANDS_IN, ""))
        return by_method and info.target == self.target and info.sources == self.source_text


def focus(context: TraceContext) -> tuple[int, strip.Ranges]:
    """The token that is explained and the sources it is restricted to: the clicks before, as `current` noted them, and the newest."""
    noted = _clicked(context)
    token = noted["token"] if noted["token"] is not None else min(len(context.record.prompt_ids), len(context.record.token_ids) - 1)
    return token, tuple(noted["sources"])


def _clicked(context: TraceContext) -> dict[str, Any]:
    """What was clicked so far in this trace: one token is to be explained, several are its sources."""
    before = st.session_state.get(_FOCUS, {})
    noted = dict(before) if before.get("trace") == context.id else {"trace": context.id, "token": None, "sources": ()}
    if len(context.ranges) == 1 and _one_token(context, context.ranges[0]):
        return {**noted, "token": context.ranges[0][0], "sources": ()}
    return {**noted, "sources": context.ranges} if context.ranges else noted


def _one_token(context: TraceContext, span: tuple[int, int]) -> bool:
    """Whether a range is a single visible token (a character split over tokens counts as one)."""
    return all(context.record.pieces[i] == "" for i in range(span[0] + 1, span[1]))


def current(context: TraceContext) -> StoredAttribution | None:
    """The attribution that answers the present clicks and settings, computed when it is not stored. None when there is none.

    Notes the clicks, so that the next ones can add to them.
    """
    st.session_state[_FOCUS] = _clicked(context)
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
    if metric == "prob" and saturated(context, token):
        metric = "logodds"
    token_id = context.record.token_ids[token]
    against = _against(context, token) if metric == "contrast" else None
    if metric == "contrast" and against is None:
        return None
    limited = tuple((start, min(stop, token)) for start, stop in sources if start < token)
    return Question(TargetSpec(token, metric, token_id, against), chosen_method(), limited)


def chosen_method() -> str:
    """By which method neurons are attributed in this session."""
    return str(st.session_state.get(_METHOD) or DEFAULT)


def saturated(context: TraceContext, token: int) -> bool:
    """Whether the model was so sure of a token that its probability hardly moves: its log odds are asked for then."""
    logprob_T = context.facts.get("logprob")
    return logprob_T is not None and float(np.exp(logprob_T[token])) > SATURATED


def _candidates(context: TraceContext, token: int) -> dict[str, int]:
    """The other tokens that the model considered there, by the label they are offered under."""
    if "topk_ids" not in context.facts:
        return {}
    ids = [int(i) for i in context.facts["topk_ids"][token] if i >= 0 and i != context.record.token_ids[token]]
    return {f"{visible(word)}  (id {i})": i for i, word in zip(ids, context.words(ids), strict=True)}


def _against(context: TraceContext, token: int) -> int | None:
    """The id of the token that the target is contrasted with: the first of a typed text. Raises `InvalidInput` where there is none."""
    chosen, offered = _chosen_against(context, token)
    if offered is not None or not chosen:
        return offered
    if context.loaded is None:
        raise InvalidInput("a typed token needs the trace's model; load it on the Models page", field="token")
    return contrast_token(context.loaded, chosen, beside=context.record.token_ids[token])[0]


def _chosen_against(context: TraceContext, token: int) -> tuple[str, int | None]:
    """(what is chosen or typed, its id where it is one of those offered)."""
    words = _candidates(context, token)
    chosen = st.session_state.get(f"trace.against.{context.id}.{token}", next(iter(words), None))
    return str(chosen or ""), words.get(chosen) if chosen else None


def _typed_note(context: TraceContext, token: int) -> str:
    """What a typed text was taken for, "" where it is one token as it stands."""
    chosen, offered = _chosen_against(context, token)
    if offered is not None or not chosen or context.loaded is None:
        return ""
    return contrast_token(context.loaded, chosen, beside=context.record.token_ids[token])[1]


def _controls(context: TraceContext, attribution: StoredAttribution | None) -> None:
    """The settings above the table, and beside them what is shown."""
    token, sources = focus(context)
    left, how, middle, right = st.columns([1.1, 1.25, 1.1, 0.65], vertical_alignment="center")
    metric = left.selectbox(
        "Measured in",
        list(_METRICS),
        format_func=_METRICS.__getitem__,
        key=_METRIC,
        help=_METRIC_HELP,
        persist_state="session",
        label_visibility="collapsed",
    )
    how.selectbox(
        "Estimated by",
        list(_METHODS),
        format_func=_METHODS.__getitem__,
        key=_METHOD,
        help=_METHOD_HELP,
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
    help_text = "Consider all earlier tokens again"
    if sources and right.button("All", key="trace.sources.all", icon=":material/select_all:", help=help_text, width="stretch"):
        st.session_state[_FOCUS]["sources"] = ()
        strip.select(STRIP_KEY, context.id, ((token, token + 1),))
        st.rerun()
    if attribution is not None:
        _about(context, attribution, note=_typed_note(context, token) if metric == "contrast" else "")


def _about(context: TraceContext, attribution: StoredAttribution, *, note: str = "") -> None:
    """What the table holds, in small print."""
    info = attribution.info
    against = "" if info.target.against_id is None else f" over {visible(context.words([info.target.against_id])[0])}"
    where = f"tokens {strip.spoken(parse_ranges(info.sources))}" if info.sources else f"all {info.target.token} tokens before it"
    flat = info.target.metric == "logodds" and st.session_state.get(_METRIC, "prob") == "prob"
    untrusted.draw(
        ("The probability is so near 1 that no neuron moves it: log odds instead. " if flat else "")
        + f"{_METRICS[info.target.metric]} of {visible(context.word(info.target.token))}{against}: {info.metric_value:.4g}. "
        f"Sources: {where}. The {info.kept:,} strongest of {info.total:,} entries hold {percent(info.share)} of the absolute attribution."
        f"{_how(info)}" + (f" {note}." if note else ""),
        key="trace.attr.about",
        size="0.82rem",
    )


def _how(info: AttributionInfo) -> str:
    """Which method stands in on this model, and how far integrated gradients converged; "" where there is nothing to say."""
    said = [str(info.extra[name]) for name in (STANDS_IN, CONVERGENCE) if info.extra.get(name)]
    return "".join(f" {untrusted.sentence(text).rstrip('.')}." for text in said)


def _answer(context: TraceContext, question: Question) -> StoredAttribution | None:
    """The attribution asked for: from the trace where it is stored, else computed and stored; None while it is computed."""
    store = server_wide.store()
    stored = next((info for info in store.attributions(context.id) if question.is_answered_by(info)), None)
    if stored is not None:
        return store.attribution(context.id, stored.key)
    full = attribution_job.whole(context, question.target, question.method)
    if full is None:
        return None
    result = storable(full, sources=question.source_text)
    store.save_attribution(context.id, result)
    return result


def draw(context: TraceContext, attribution: StoredAttribution | None) -> None:
    """The settings, and the table of the attribution that `current` has returned."""
    _controls(context, attribution)
    if attribution is None:
        missing(context)
        return
    info = attribution.info
    frame = table(context, attribution)
    measured = effects.of(context, info)
    if measured:
        frame["effect"] = [measured.get(str(name)) for name in frame.index]
    columns = {name: column for name, column in COLUMNS.items() if name != "effect" or measured}
    whole = frame
    frame = cluster_choice.narrowed(context, frame, key="trace.attr")
    stem = f"attribution-{context.id}-t{attribution.info.target.token}"
    signs = ("promoting", "suppressing")
    neuron_table.draw(
        frame,
        columns,
        key="trace.attr",
        ref=context.record.model,
        stem=stem,
        signs=signs,
        around=430 + cluster_choice.line_height(context) + (effects.ROOM if effects.shown(context, info) else 0),
        more=lambda rows: effects.buttons(context, info, rows),
    )
    effects.draw(context, info, whole)


def missing(context: TraceContext) -> None:
    """Where there is no attribution yet: how far it is, or what it waits for."""
    with server_wide.errors_shown():
        question = _question(context)
        if question is not None and attribution_job.draw(context, question.target, question.method):
            return
        if question is None:
            st.info("Choose or type the token that this one is contrasted with.", icon=":material/compare_arrows:")
        elif context.loaded is None:
            said = "This is not computed yet, and the trace's model is not loaded: load it on the Models page."
            st.info(said, icon=":material/deployed_code:")


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
    frame["description"] = headlines_of(context.record.model, frame["neuron"])
    frame["link"] = links(frame["neuron"])
    frame["meaning"] = meanings(frame["neuron"], frame["description"])
    frame["signed"] = frame["attribution"]
    frame["strength"] = frame["attribution"].abs()
    return frame.set_index(pd.Index((frame["neuron"] + "@" + frame["token"].astype(str)).to_numpy(object)))
