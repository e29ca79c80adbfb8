"""Shares as people read them."""

from __future__ import annotations

import math


def percent(share: float, *, signed: bool = False, exact: bool = True) -> str:
    """A share (0 to 1, or a difference of two) in percent: 93%, 0.4%, 99.6%, over 99.9%, under 0.01%.

    What is not all never reads 100%, what is not nothing never 0%; `signed` puts a plus before what is more. `exact` off is for
    computed probabilities, of which none is quite 0 or 1.
    """
    if math.isnan(share):
        return "unknown"
    size = abs(share)
    sign = "-" if share < 0 else "+" if signed and share > 0 else ""
    if (exact and size in (0, 1)) or size > 1.005:
        return f"{sign}{100 * size:.0f}%"
    if size > 1 and exact:
        return f"{sign}{100 * size:.1f}%" if size > 1.0005 else f"over {sign}100%"
    if size >= 0.9995:
        return f"over {sign}99.9%"
    if size >= 0.0995:
        return f"{sign}{100 * size:.{1 if size >= 0.995 else 0}f}%"
    if size >= 0.0001:
        return f"{sign}{100 * size:.{1 if size >= 0.001 else 2}f}%"
    return f"under {sign}0.01%"


def becomes(before: float, after: float) -> str:
    """What becomes of a computed probability: "74% becomes 58%", with the digits it takes to tell them apart, or "99% stays 99%"."""
    told = percent(before, exact=False), percent(after, exact=False)
    if told[0] != told[1]:
        return f"{told[0]} becomes {told[1]}"
    for digits in (1, 2, 3):
        closer = tuple(f"{100 * share:.{digits}f}%" for share in (before, after))
        if closer[0] != closer[1] and max(before, after) < 1 - 0.5 * 10 ** -(digits + 2):
            return f"{closer[0]} becomes {closer[1]}"
    return f"{told[0]} stays {told[1]}"


def percentile(value: float) -> str:
    """A percentile (0 to 100) with two decimals, or as many as it takes: the strongest of 30,000 is at 99.997, never at 100."""
    told = (f"{value:.{digits}f}" for digits in range(2, 9))
    return next((text for text in told if value >= 100 or float(text) < 100), str(value))


def column_share(share: float | None) -> float | None:
    """A share for a column of numbers that rounds to two decimals of a percent: what is not all never reads 100%, nor nothing 0%."""
    if share is None or math.isnan(share) or share in (0, 1):
        return share
    size = min(max(abs(share), 0.0001), 0.9999) if abs(share) < 1 else abs(share)
    return math.copysign(size, share)
