"""What the store answers when it is asked how it is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class VerifyReport:
    """The result of checking every byte of a trace."""

    id: str
    ok: bool
    problems: tuple[str, ...]
    files: int
    bytes: int
    activations: str
    """stored, evicted or none."""


@dataclass(frozen=True)
class Usage:
    """Disk use of the user's traces (examples not counted)."""

    traces: int
    bytes: int
    activation_bytes: int
    budget_bytes: int
