"""Text that goes round in circles, by its token ids."""

from __future__ import annotations

from collections.abc import Sequence


def repetition(ids: Sequence[int], *, width: int = 3) -> float:
    """Share of an answer's runs of `width` tokens that stood in it before, 0 to 1: near 1 is text that goes round in circles."""
    runs = [tuple(ids[i : i + width]) for i in range(len(ids) - width + 1)]
    return 1 - len(set(runs)) / len(runs) if runs else 0.0
