"""A trace as one HTML page for somebody without the app: its text, its tokens tinted, causes, active neurons, a picture, a comparison.

The page holds no script and loads nothing; all text is escaped. What does not fit is left out and said, so that it stays under 2 MB.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurons.core.errors import NeuronscopeError
from neurons.core.percent import percent
from neurons.core.quantile_table import QuantileTable
from neurons.core.types import Metric
from neurons.core.version import __version__
from neurons.storage.templates import render
from neurons.tracing.ranking import rank_activations
from neurons.tracing.sentence import visible
from traces.attributions import StoredAttribution
from traces.compare import DiffOp, compare_traces
from traces.schema import TraceRecord
from traces.store import TraceStore
from traces.tensors import ACTIVATIONS

MOST_BYTES = 2_000_000
_TOKENS = 1200
_CAUSES = 6
_ROWS = 25
_DIFFERENCES = 25
_CELLS = 5000
_SURPRISING = 5.0
"""Nats at which a token is drawn in full colour: a probability of 1 in 150."""
_METRICS: dict[Metric, str] = {
    "prob": "Probability",
    "logprob": "Log-probability",
    "logit": "Logit",
    "contrast": "Logit difference",
    "logodds": "Log odds",
}


@dataclass(frozen=True)
class _Token:
    text: str
    colour: str
    tip: str
    target: bool
    """Whether it is the token that is explained."""


@dataclass(frozen=True)
class _Strip:
    bubbles: Sequence[tuple[str, Sequence[_Token]]]
    """(role, tokens) in the order of the conversation."""
    left_out: int
    """How many tokens at the beginning are not shown."""


@dataclass(frozen=True)
class _Neuron:
    """A row of the table of active neurons, or of the neurons behind one token."""

    name: str
    about: str
    at: str
    activation: float
    normalised: float | None = None
    attribution: float | None = None


@dataclass(frozen=True)
class _Cause:
    """One stored attribution."""

    word: str
    position: int
    metric: str
    against: str
    value: float
    kept: str
    total: str
    share: str
    strip: _Strip
    rows: Sequence[_Neuron]


@dataclass(frozen=True)
class _Picture:
    """Layers by tokens."""

    cells: Sequence[tuple[float, float, float]]
    """x, y in pixels, and the opacity."""
    w: float
    h: float
    width: float
    height: float
    first: int
    last: int
    layers: int
    top: float


@dataclass(frozen=True)
class _Pair:
    """One position of two runs."""

    position: int | None
    a: str
    a_prob: str
    b: str
    b_prob: str


@dataclass(frozen=True)
class _Other:
    """Another run beside this one."""

    what: str
    how: str
    answer: str
    words: Sequence[DiffOp]
    share: str
    rows: Sequence[_Pair]


def report_html(
    store: TraceStore,
    trace_id: str,
    *,
    against: str | None = None,
    about_neurons: Mapping[str, str] | None = None,
    quantiles: QuantileTable | None = None,
) -> str:
    """The page of a trace, beside the trace `against` where one is named, else beside its unsteered run where it has one.

    `about_neurons` maps a side, such as "17:803+", to what it means. Raises `NotFound` for an unknown trace.
    """
    record = store.load(trace_id)
    about = about_neurons or {}
    other = against or (record.baseline_id if record.steers else None)
    infos = [info for info in store.attributions(trace_id) if info.target.token < len(record.token_ids)]
    causes = [_cause(record, store.attribution(trace_id, info.key), about) for info in infos[-_CAUSES:]]
    neurons, normaliser, picture, missing = _active(store, record, about, quantiles)
    how = record.sampling.how if record.sampling.greedy else f"{record.sampling.how}, seed {record.sampling.seed}"
    return render(
        "neurons.tracing",
        "report.html.j2",
        autoescape=True,
        r=record,
        title=record.name or " ".join(record.prompt.split())[:200] or record.id,
        model=f"{record.model.name} ({record.model.dtype})",
        how=how,
        version=__version__,
        steers=[steer for steer in record.steers if not steer.is_noop],
        surprisal=_surprisal(store, record),
        causes=causes,
        causes_left_out=max(0, len(infos) - _CAUSES),
        neurons=neurons,
        normaliser=normaliser,
        picture=picture,
        no_activations=missing,
        other=None if other is None else _other(store, record, other),
    )


def _surprisal(store: TraceStore, record: TraceRecord) -> _Strip:
    """The strip, green by how unlikely each token was."""
    dataset = store.arrays(record.id)
    if "logprob" not in dataset:
        return _strip(record, np.zeros(len(record.token_ids)), ["not recorded"] * len(record.token_ids))
    logprob_T = np.asarray(dataset["logprob"].values, dtype=np.float64)
    tint_T = np.clip(np.nan_to_num(-logprob_T) / _SURPRISING, 0, 1)
    tips = ["the first token" if i == 0 else f"probability {percent(float(np.exp(p)))}" for i, p in enumerate(logprob_T)]
    tint_T[0] = 0
    return _strip(record, tint_T, tips, amount=True)


def _strip(record: TraceRecord, tint_T: NDArray[np.float64], tips: list[str], *, amount: bool = False, target: int | None = None) -> _Strip:
    """The tokens by who speaks. `tint_T` is -1 to 1, or 0 to 1 where it is an `amount`."""
    n_tokens = len(record.token_ids)
    first = max(0, n_tokens - _TOKENS)
    bubbles: list[tuple[str, list[_Token]]] = []
    shown = [segment for segment in record.segments if not segment.template and segment.stop > first]
    for segment in shown:
        tokens = [
            _Token(
                text=record.pieces[i],
                colour=_colour(float(tint_T[i]) if i < len(tint_T) else 0.0, amount=amount),
                tip=f"{i}: {tips[i] if i < len(tips) else 'after it'}",
                target=i == target,
            )
            for i in range(max(first, segment.start), min(segment.stop, n_tokens))
        ]
        if bubbles and bubbles[-1][0] == segment.role:
            bubbles[-1][1].extend(tokens)
        else:
            bubbles.append((segment.role, tokens))
    return _Strip(bubbles, first)


def _colour(tint: float, *, amount: bool) -> str:
    ends = (0, 158, 115) if amount else (0, 114, 178) if tint > 0 else (213, 94, 0)
    return f"rgba({ends[0]},{ends[1]},{ends[2]},{0.6 * min(1.0, abs(tint)):.2f})"


def _word(record: TraceRecord, position: int) -> str:
    while position > 0 and record.pieces[position] == "":
        position -= 1
    return visible(record.pieces[position])


def _cause(record: TraceRecord, found: StoredAttribution, about: Mapping[str, str]) -> _Cause:
    """One stored attribution: its words, its strip and its strongest rows."""
    info = found.info
    target, n_tokens = info.target.token, len(record.token_ids)
    sum_T = np.bincount(found.token_N, weights=found.attribution_N, minlength=n_tokens)[:n_tokens]
    largest = float(np.abs(sum_T).max(initial=0.0)) or 1.0
    tips = [
        f"attribution {value:+.4g}" if i < target else "the token itself" if i == target else "after it" for i, value in enumerate(sum_T)
    ]
    return _Cause(
        word=_word(record, target),
        position=target,
        metric=_METRICS[info.target.metric],
        against="" if info.target.against_id is None else f"token id {info.target.against_id}",
        value=info.metric_value,
        kept=f"{info.kept:,}",
        total=f"{info.total:,}",
        share=percent(info.share),
        strip=_strip(record, sum_T / largest, tips, target=target),
        rows=[
            _Neuron(
                name=f"{row.layer}:{row.index}{row.polarity}",
                about=about.get(f"{row.layer}:{row.index}{row.polarity}", ""),
                at=f"{_word(record, row.token)} ({row.token})",
                activation=row.activation,
                attribution=row.attribution,
            )
            for row in found.rows(_ROWS)
        ],
    )


def _active(
    store: TraceStore, record: TraceRecord, about: Mapping[str, str], quantiles: QuantileTable | None
) -> tuple[list[_Neuron], str, _Picture | None, str]:
    """The strongest neurons, what they are measured against, the picture of layers and tokens; or why there is none of it."""
    try:
        acts_LTI = store.read(record.id, ACTIVATIONS)
    except NeuronscopeError as error:
        return [], "", None, f"Activations are not shown: {error}."
    found = rank_activations(acts_LTI, quantiles=quantiles, threshold=0.0, top=_ROWS)
    rows: list[_Neuron] = []
    for one in found.table.to_dict("records"):
        name, peak = f"{one['layer']}:{one['index']}{one['polarity']}", int(one["peak"])
        at = f"{_word(record, peak)} ({peak})"
        rows.append(_Neuron(name, about.get(name, ""), at, float(one["activation"]), normalised=float(one["normalised"])))
    return rows, found.normaliser, _picture(acts_LTI), ""


def _picture(acts_LTI: NDArray[Any]) -> _Picture:
    """Layers by tokens, the last tokens where not all fit; each layer against its own mean over the tokens after the first."""
    mass_LT = np.stack([np.abs(np.asarray(acts_TI, dtype=np.float32)).mean(axis=1) for acts_TI in acts_LTI])
    rest_LT = mass_LT[:, 1:] if mass_LT.shape[1] > 1 else mass_LT
    relative_LT = mass_LT / np.maximum(rest_LT.mean(axis=1, keepdims=True), 1e-12)
    layers, n_tokens = relative_LT.shape
    first = max(0, n_tokens - max(1, _CELLS // layers))
    top = float(np.quantile(relative_LT[:, first:], 0.995)) or 1.0
    width, height = 900 / (n_tokens - first), max(3.0, 240 / layers)
    cells = [
        (
            round((token - first) * width, 1),
            round((layers - 1 - layer) * height, 1),
            round(min(1.0, float(relative_LT[layer, token]) / top), 2),
        )
        for layer in range(layers)
        for token in range(first, n_tokens)
    ]
    return _Picture(
        cells=cells,
        w=round(width, 2),
        h=round(height, 2),
        width=900,
        height=round(layers * height, 1),
        first=first,
        last=n_tokens - 1,
        layers=layers,
        top=top,
    )


def _other(store: TraceStore, record: TraceRecord, other_id: str) -> _Other:
    """The other run beside this one: its answer, the words that differ, the probabilities that differ most."""
    other = store.load(other_id)
    found = compare_traces(store, other.id, record.id, top=0)
    pairs = [pair for pair in found.tokens if pair.a_prob is not None and pair.b_prob is not None]
    moved = sorted(pairs, key=lambda pair: -abs((pair.a_prob or 0.0) - (pair.b_prob or 0.0)))[:_DIFFERENCES]
    moved = sorted(moved, key=lambda pair: pair.b_position or 0)
    return _Other(
        what="its unsteered run" if other.id == record.baseline_id else other.name or " ".join(other.prompt.split())[:120] or other.id,
        how=f"{other.model.name}, {len([s for s in other.steers if not s.is_noop])} steers, trace {other.id}",
        answer=other.answer,
        words=found.words,
        share=percent(found.changed_words),
        rows=[
            _Pair(pair.b_position, visible(pair.a_text), percent(pair.a_prob or 0.0), visible(pair.b_text), percent(pair.b_prob or 0.0))
            for pair in moved
        ],
    )
