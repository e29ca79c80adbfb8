"""Whether attribution, effects, lens and paths run on a model and agree with each other, and which method stands in where one does not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from neurons.attribution.attribute import DEFAULT, Attribution, attribute, top_rows
from neurons.attribution.effect import measure_effects
from neurons.attribution.outside import outside
from neurons.attribution.paths import upstream
from neurons.checking.loop import FAILS, failure, some_ids
from neurons.checking.plain import plain_logprobs
from neurons.core.errors import ModelError
from neurons.core.progress import Progress
from neurons.core.types import AttributionRow, TargetSpec
from neurons.models.findings import Finding, Running
from neurons.models.loaded import LoadedModel
from neurons.runs.lens import logit_lens

TOKENS = 12
STAND_INS = ("grad", "direct")
"""What is used, in this order, where the default method does not run."""
BROKEN = (*FAILS, ModelError)
AGREE = {"float32": 0.02, "bfloat16": 0.5, "float16": 0.2}
"""Nats by which a measured run may be off."""


def check_methods(loaded: LoadedModel, running: Running, progress: Progress) -> tuple[Running, list[Finding]]:
    """`running` with what stands in for methods that do not run, and a finding for each kind of question."""
    progress(0, None, "checking the model: attribution, effects, lens and paths")
    loaded = replace(loaded, running=running)
    ids = some_ids(loaded, TOKENS, seed=4)
    target = TargetSpec(token=TOKENS - 1, metric="logprob")
    found: Attribution | None = None
    wrong: dict[str, str] = {}
    for method in (DEFAULT, *STAND_INS):
        found, why = _run(partial(_attributed, loaded, ids, target, method))
        if found is not None:
            break
        wrong[method] = why
    if found is None:
        return running, [Finding("attribution", "refused", f"no attribution method runs on it ({wrong[DEFAULT]})")]
    findings = [_attribution(found, wrong)]
    if wrong:
        running = replace(running, stand_ins=tuple((method, found.method) for method in wrong))
    rows = top_rows(found, 3).rows
    if not rows:
        return running, [*findings, Finding("effects", "note", "no neuron had an attribution in the text of the check")]
    findings.append(_outside(loaded, ids, target))
    findings.append(_effects(loaded, ids, target, rows))
    findings.append(_lens(loaded, ids))
    findings.append(_paths(loaded, ids, rows))
    return running, findings


def _attribution(found: Attribution, wrong: dict[str, str]) -> Finding:
    if not wrong and not found.stands_in:
        return Finding("attribution", "right", f"the default method ({found.method}) runs")
    if not wrong:
        return Finding("attribution", "otherwise", found.stands_in)
    return Finding(
        "attribution", "otherwise", f"{found.method} stands in for {', '.join(wrong)}, which fails on this model ({wrong[DEFAULT]})"
    )


def _outside(loaded: LoadedModel, ids: tuple[int, ...], target: TargetSpec) -> Finding:
    """What writes to the layers' output besides attention and neurons."""
    found, why = _run(lambda: outside(loaded, ids, target))
    if found is None:
        return Finding("outside", "note", f"it is not known what writes besides its neurons ({why})")
    return Finding("outside", "note" if found.modules else "right", str(found), found.share)


def _effects(loaded: LoadedModel, ids: tuple[int, ...], target: TargetSpec, rows: tuple[AttributionRow, ...]) -> Finding:
    """Effects are measured, and the run that they start from is plain transformers'."""
    measured, why = _run(lambda: measure_effects(loaded, ids, target, rows))
    if measured is None:
        return Finding("effects", "note", f"effects cannot be measured on it ({why})")
    value = float(plain_logprobs(loaded, ids[:-1])[-1, ids[-1]])
    off = abs(measured.metric_value - value)
    if off > AGREE[loaded.ref.dtype]:
        return Finding("effects", "refused", f"the measured run is off by {off:.2g} nats from plain transformers", off)
    return Finding("effects", "right", "effects are measured, from the log-probability that plain transformers gives", off)


def _lens(loaded: LoadedModel, ids: tuple[int, ...]) -> Finding:
    lens, why = _run(lambda: logit_lens(loaded, ids, [TOKENS - 1]))
    if lens is None:
        return Finding("lens", "note", f"the lens does not run on it ({why})")
    said, plain = float(lens.target_prob_RN[-1, 0]), float(plain_logprobs(loaded, ids[:-1])[-1, ids[-1]].exp())
    if abs(said - plain) > 0.02:
        return Finding("lens", "note", f"the lens's last row is not what the model says ({said:.3f} for {plain:.3f}): do not rely on it")
    return Finding("lens", "right", "its last row is what the model says", abs(said - plain))


def _paths(loaded: LoadedModel, ids: tuple[int, ...], rows: tuple[AttributionRow, ...]) -> Finding:
    layers = [site.layer for site in loaded.sites if site.width]
    if len(layers) < 2:
        return Finding("paths", "note", "it has one layer of neurons: nothing drives them")
    above = next((row for row in rows if row.layer > layers[0]), None)
    layer, index, token = (above.layer, above.index, above.token) if above else (layers[-1], 0, TOKENS - 2)
    driven, why = _run(lambda: upstream(loaded, ids, layer, index, token, k=3))
    if driven is None:
        return Finding("paths", "note", f"what drives a neuron cannot be traced on it ({why})")
    return Finding("paths", "right", "what drives a neuron can be traced")


def _attributed(loaded: LoadedModel, ids: tuple[int, ...], target: TargetSpec, method: str) -> Attribution:
    found = attribute(loaded, ids, target, method=method)
    if not np.isfinite(found.attr_LTI).all():
        raise ModelError("its attributions are not finite")
    return found


def _run(work: Callable[[], Any]) -> tuple[Any, str]:
    """What `work` gives, or None and why not."""
    try:
        return work(), ""
    except BROKEN as error:
        return None, failure(error)
