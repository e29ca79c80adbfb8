"""How each view of the Trace page tints the tokens of the strip."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from neurons.core.errors import NeuronscopeError
from pages.shared import server_wide
from pages.shared.kept import kept
from pages.shared.strip import Strip
from pages.shared.trace_context import TraceContext
from traces.attributions import StoredAttribution
from traces.tensors import ACTIVATIONS

_BITS = 1 / np.log(2)
_FULL_SURPRISAL = 10.0  # bits at which the tint is full
_FULL_ENTROPY = 8.0

FloatArray = np.ndarray[Any, np.dtype[np.floating[Any]]]


def strip_of(context: TraceContext, attribution: StoredAttribution | None = None) -> Strip:
    """The trace as a strip, tinted by the context's view."""
    record, facts = context.record, context.facts
    plain = Strip(
        trace_id=record.id,
        pieces=record.pieces,
        ids=record.token_ids,
        segments=record.segments,
        logprob_T=facts.get("logprob"),
        rank_T=facts.get("rank"),
        topk_ids_TK=facts.get("topk_ids"),
        topk_probs_TK=facts.get("topk_probs"),
        words=context.words,
        steered=_steered(context),
        notes=[f"entropy {bits:.2f} bits before it" for bits in facts["entropy"] * _BITS] if "entropy" in facts else (),
    )
    if context.view == "surprisal" and "logprob" in facts:
        bits_T = -facts["logprob"] * _BITS
        hint = f"How surprised the model was by the token: -log2 of its probability. Full colour at {_FULL_SURPRISAL:g} bits (1 in 1,024)."
        return replace(plain, tint_T=bits_T / _FULL_SURPRISAL, low="expected", high="surprising", hint=hint)
    if context.view == "entropy" and "entropy" in facts:
        bits_T = facts["entropy"] * _BITS
        hint = f"How unsure the model was before the token, in bits. Full colour at {_FULL_ENTROPY:g} bits: as unsure as among 256 tokens."
        return replace(plain, tint_T=bits_T / _FULL_ENTROPY, low="sure", high="unsure", hint=hint)
    if context.view == "attribution":
        if attribution is None:
            return replace(plain, low="suppressing", high="promoting", scale="diverging", hint="Click a token to see what caused it.")
        target = attribution.info.target.token
        hint = f"Sum of the attributions of all listed neurons at each token, for token {target}: blue promoted it, orange suppressed it."
        return replace(
            plain,
            tint_T=signed_mass(attribution, len(record.token_ids)),
            scale="diverging",
            low="suppressing",
            high="promoting",
            hint=hint,
            target=target,
        )
    if context.view == "activation":
        strength_T = _activation_strength(context)
        if strength_T is not None:
            hint = (
                "Size of all activations at the token, each layer against its own mean. The first token, always extreme, is off the scale."
            )
            return replace(plain, tint_T=strength_T, low="weak", high="strong activation", hint=hint)
    return plain


def signed_mass(attribution: StoredAttribution, n_tokens: int) -> FloatArray:
    """Sum of the kept attributions at each source token, scaled so that the largest is 1 or -1."""
    sum_T = np.bincount(attribution.token_N, weights=attribution.attribution_N, minlength=n_tokens)[:n_tokens]
    largest = float(np.abs(sum_T).max(initial=0.0))
    return np.asarray(sum_T / largest if largest else sum_T, dtype=np.float64)


def activation_mass(context: TraceContext) -> FloatArray | None:
    """Mean absolute activation of each layer at each token (L, T), each layer against its own mean over the tokens after the first.

    None when no activations are stored.
    """
    return _activation_mass(server_wide.server().store.root.as_posix(), context.id)


@kept("Reading the activations")
def _activation_mass(root: str, trace_id: str) -> FloatArray | None:
    try:
        dataset = server_wide.store().arrays(trace_id)
    except NeuronscopeError:
        return None
    if ACTIVATIONS not in dataset:
        return None
    mass_LT = np.zeros((dataset.sizes["layer"], dataset.sizes["token"]), np.float32)
    for layer in range(len(mass_LT)):
        mass_LT[layer] = np.abs(np.asarray(dataset[ACTIVATIONS][layer].values, dtype=np.float32)).mean(axis=1)
    rest_LT = mass_LT[:, 1:] if mass_LT.shape[1] > 1 else mass_LT
    relative_LT: FloatArray = mass_LT / np.maximum(rest_LT.mean(axis=1, keepdims=True), 1e-12)
    return relative_LT


def _activation_strength(context: TraceContext) -> FloatArray | None:
    """0 to 1 for each token, from the weakest to the strongest but for the first."""
    mass_LT = activation_mass(context)
    if mass_LT is None:
        return None
    total_T = mass_LT.mean(axis=0)
    rest_T = total_T[1:] if len(total_T) > 1 else total_T
    low, high = float(rest_T.min()), float(rest_T.max())
    share_T: FloatArray = np.clip((total_T - low) / max(high - low, 1e-12), 0, 1)
    return share_T


def _steered(context: TraceContext) -> list[bool]:
    """Which tokens a steer acted on."""
    record = context.record
    active = [steer for steer in record.steers if not steer.is_noop]
    if not active:
        return []
    return [any(steer.tokens.covers(i, len(record.prompt_ids)) for steer in active) for i in range(len(record.token_ids))]
