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
        return f"{sign}{100 * size:.1f}%"
    if size > 0.9995:
        return f"over {sign}99.9%"
    if size >= 0.0995:
        return f"{sign}{100 * size:.{1 if size >= 0.995 else 0}f}%"
    if size >= 0.0001:
        return f"{sign}{100 * size:.{1 if size >= 0.001 else 2}f}%"
    return f"under {sign}0.01%"
