"""The built-in everyday prompts that a fix should leave alone."""

from __future__ import annotations

from functools import cache
from importlib.resources import files


@cache
def builtin_controls() -> tuple[str, ...]:
    """Sixty-odd short everyday prompts, one a line in data/controls.txt."""
    text = (files("neurons.repair") / "data" / "controls.txt").read_text(encoding="utf-8")
    return tuple(line.strip() for line in text.splitlines() if line.strip())
