"""Texts that a spreadsheet would take for a formula: an apostrophe in front of them as they go out, taken away as they come in."""

from __future__ import annotations

import re

_FORMULA = re.compile(r"'*[=+\-@\t\r]")
_SIDES = ("+", "-")  # a neuron's polarity is no formula


def guarded(text: str) -> str:
    """`text` with an apostrophe in front where a spreadsheet would take it for a formula, or `unguarded` for guarded."""
    return f"'{text}" if text not in _SIDES and _FORMULA.match(text) else text


def unguarded(text: str) -> str:
    """What `guarded` was given."""
    return text[1:] if text[:1] == "'" and _FORMULA.match(text) else text
