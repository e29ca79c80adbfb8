"""What is known of whether a model comes out right here, and how it has to be run so that it does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Status = Literal["right", "otherwise", "note", "refused"]
"""right: as it should be. otherwise: right, but run another way than usual. note: to be known. refused: not usable here."""
PIECE = 512
"""Tokens of a prompt that pass through a model at a time: bounds the memory of attention and of the logits of a long prompt."""


@dataclass(frozen=True)
class Finding:
    """One line of a model's check."""

    what: str
    """The question, in a few words: "weights", "neurons", "second turn"..."""
    status: Status
    said: str
    """One sentence."""
    figure: float | None = None
    """The number it rests on, in the unit that the sentence names."""


@dataclass(frozen=True)
class Running:
    """How a model is run, so that it gives what one pass of transformers without a cache gives."""

    piece: int | None = PIECE
    """Tokens of a prompt a pass; None: the whole prompt at once."""
    positions: bool = False
    """Whether each pass is told the positions of its tokens."""
    cached: int | None = None
    """Texts up to this many tokens are run with a cache, longer ones anew for every token; None: all with a cache, 0: none."""
    stand_ins: tuple[tuple[str, str], ...] = ()
    """Attribution methods that do not run on this model, each with the method that stands in for it."""

    def method(self, name: str) -> str:
        """The attribution method to use where `name` is asked for."""
        return dict(self.stand_ins).get(name, name)

    def batches(self, tokens: int) -> bool:
        """Whether many prompts of up to `tokens` tokens at once, the shorter ones padded, may share a cache."""
        return self.piece is not None and self.uses_cache(tokens)

    def uses_cache(self, tokens: int) -> bool:
        """Whether a text of `tokens` tokens may be run with what is kept of its earlier tokens."""
        return self.cached is None or tokens <= self.cached


USUAL = Running()
"""In pieces and with a cache."""
