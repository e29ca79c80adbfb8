"""The texts of tokens by a tokenizer alone: each in the place where it stands, characters that are split over tokens joined."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

REPLACEMENT = "\ufffd"
_LONGEST = 8  # tokens that one character is split over, at most
_KEPT = 1 << 18

Pieces = Callable[[Sequence[int]], tuple[str, ...]]


def decode_raw(tokenizer: Any, ids: Sequence[int]) -> str:
    """Special tokens kept; bytes that are no character show as U+FFFD."""
    return str(tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False))


def pieces_of(tokenizer: Any, ids: Sequence[int]) -> tuple[str, ...]:
    """Text of each token, a character that is split over tokens joined: it stands at its first token, "" at the rest."""
    return kept_pieces(tokenizer)(ids)


def kept_pieces(tokenizer: Any) -> Pieces:
    """`pieces_of` for many texts: what was decoded is remembered."""

    @lru_cache(_KEPT)
    def after(before: int | None, ids: tuple[int, ...]) -> str:
        """Decoded in their place: some tokenizers drop the space before a text's first token."""
        if before is None:
            return decode_raw(tokenizer, ids)
        first = decode_raw(tokenizer, [before])
        both = decode_raw(tokenizer, [before, *ids])
        return both[len(first) :] if both.startswith(first) and REPLACEMENT not in first else decode_raw(tokenizer, ids)

    def whole(ids: Sequence[int], start: int) -> tuple[int, str]:
        """The smallest run of tokens from `start` that decodes to whole characters, and its text."""
        before = int(ids[start - 1]) if start else None
        for stop in range(start + 1, min(start + _LONGEST, len(ids)) + 1):
            text = after(before, tuple(map(int, ids[start:stop])))
            if REPLACEMENT not in text:
                return stop, text
        return start + 1, after(before, (int(ids[start]),))

    def pieces(ids: Sequence[int]) -> tuple[str, ...]:
        found: list[str] = []
        start = 0
        while start < len(ids):
            stop, text = whole(ids, start)
            found.extend([text] + [""] * (stop - start - 1))
            start = stop
        return tuple(found)

    return pieces
