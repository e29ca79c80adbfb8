"""Statistics of pairs: each prompt answered without and with a steer. Pure numbers; knows no model.

Several seeds of one prompt are not independent, so intervals resample prompts, not pairs (cluster bootstrap). Where a bootstrap is
blind, all prompts having the same difference, Newcombe's interval for paired proportions (method 10 of Statist. Med. 17, 2635, 1998)
takes its place.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import binomtest, bootstrap
from statsmodels.stats.proportion import proportion_confint

_RESAMPLES = 4000
_LEVEL = 0.95


@dataclass(frozen=True)
class Rate:
    """A share with its 95% interval (Wilson)."""

    count: int
    total: int
    low: float
    high: float

    @classmethod
    def of(cls, met: Sequence[bool]) -> Rate:
        """The share of true ones; (0, 1) is the interval of nothing at all."""
        count, total = sum(map(bool, met)), len(met)
        if not total:
            return cls(0, 0, 0.0, 1.0)
        low, high = proportion_confint(count, total, alpha=1 - _LEVEL, method="wilson")
        return cls(count, total, float(low), float(high))

    @property
    def share(self) -> float:
        return self.count / self.total if self.total else 0.0


@dataclass(frozen=True)
class Difference:
    """Steered minus unsteered, paired."""

    value: float
    low: float | None
    """95% interval; None where one prompt is all there is."""
    high: float | None
    method: str
    """How the interval was made: "paired bootstrap over prompts" or "Newcombe, paired"."""
    p_value: float | None = None
    """McNemar's exact test of a rate (two-sided binomial on the pairs that differ). None with several seeds a prompt, and for means."""
    gained: int = 0
    """Pairs where only the steered answer meets the criterion."""
    lost: int = 0
    """Pairs where only the unsteered one does."""


def paired_rates(prompts: Sequence[Any], plain: Sequence[bool], steered: Sequence[bool], *, seed: int = 0) -> Difference:
    """Difference of two rates over pairs; `prompts` says which prompt a pair belongs to."""
    gained = sum(1 for a, b in zip(plain, steered, strict=True) if b and not a)
    lost = sum(1 for a, b in zip(plain, steered, strict=True) if a and not b)
    change = [float(b) - float(a) for a, b in zip(plain, steered, strict=True)]
    result = paired_means(prompts, change, seed=seed)
    single = len(set(prompts)) == len(prompts)
    p_value = float(binomtest(gained, gained + lost).pvalue) if single and gained + lost else (1.0 if single and prompts else None)
    low, high, method = result.low, result.high, result.method
    if len(prompts) > 1 and (low is None or low == high):
        low, high = newcombe(plain, steered)
        method = "Newcombe, paired"
    return Difference(result.value, low, high, method, p_value, gained, lost)


def paired_means(prompts: Sequence[Any], change: Sequence[float], *, seed: int = 0) -> Difference:
    """Mean of paired changes with a bootstrap interval over prompts."""
    by_prompt: dict[Any, list[float]] = {}
    for prompt, value in zip(prompts, change, strict=True):
        by_prompt.setdefault(prompt, []).append(value)
    if not by_prompt:
        return Difference(0.0, None, None, "no pairs")
    means_P = np.array([np.mean(values) for values in by_prompt.values()])
    weights_P = np.array([len(values) for values in by_prompt.values()], dtype=float)
    value = float(np.average(means_P, weights=weights_P))
    if len(means_P) < 2:
        return Difference(value, None, None, "one prompt: no interval")
    if np.ptp(means_P) < 1e-12:
        return Difference(value, value, value, "paired bootstrap over prompts")

    def mean(m: Any, w: Any, axis: int = -1) -> Any:
        return (m * w).sum(axis) / w.sum(axis)

    found = bootstrap(
        (means_P, weights_P),
        mean,
        paired=True,
        vectorized=True,
        n_resamples=_RESAMPLES,
        confidence_level=_LEVEL,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    interval = found.confidence_interval
    return Difference(value, float(interval.low), float(interval.high), "paired bootstrap over prompts")


def newcombe(plain: Sequence[bool], steered: Sequence[bool]) -> tuple[float, float]:
    """95% interval of P(steered) - P(plain) for paired proportions."""
    both = sum(1 for a, b in zip(plain, steered, strict=True) if a and b)
    lost = sum(1 for a, b in zip(plain, steered, strict=True) if a and not b)
    gained = sum(1 for a, b in zip(plain, steered, strict=True) if b and not a)
    neither = len(plain) - both - lost - gained
    one, two = Rate.of(list(steered)), Rate.of(list(plain))
    product = (both + gained) * (lost + neither) * (both + lost) * (gained + neither)
    phi = 0.0 if product == 0 else (both * neither - gained * lost) / math.sqrt(product)
    p1, p2 = one.share, two.share
    down = math.sqrt(max(0.0, (p1 - one.low) ** 2 - 2 * phi * (p1 - one.low) * (two.high - p2) + (two.high - p2) ** 2))
    up = math.sqrt(max(0.0, (one.high - p1) ** 2 - 2 * phi * (one.high - p1) * (p2 - two.low) + (p2 - two.low) ** 2))
    return max(-1.0, p1 - p2 - down), min(1.0, p1 - p2 + up)


def repetition(ids: Sequence[int], *, width: int = 3) -> float:
    """Share of an answer's runs of `width` tokens that stood in it before, 0 to 1: near 1 is text that goes round in circles."""
    runs = [tuple(ids[i : i + width]) for i in range(len(ids) - width + 1)]
    return 1 - len(set(runs)) / len(runs) if runs else 0.0
