"""Texts folded for looking in: case, Unicode forms and widths alike, each folded character knowing where it stands in the original."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

import regex

_LETTER_FORMS = ("<wide>", "<narrow>", "<font>", "<compat>", "<initial>", "<medial>", "<final>", "<isolated>", "<noBreak>")
"""Forms of a character that mean the same. Others do not: the 2 of 9\u00b2 is no 2."""
_UNSEEN = frozenset("\u00ad\u200b\u2060\ufeff")
_GRAPHEME = regex.compile(r"\X")
_I = str.maketrans({"\u0131": "i"})  # the dotless i: with it, Turkish capitals fold to their own small letters


@dataclass(frozen=True)
class Folded:
    """A folded text and its places in the original."""

    text: str
    starts: tuple[int, ...]
    """Of every folded character, where its grapheme begins in the original."""
    ends: tuple[int, ...]
    """And where it ends."""

    def span(self, start: int, end: int) -> tuple[int, int] | None:
        """The original's characters of folded [start, end), or None where these would cut a grapheme in two."""
        whole = start == 0 or self.starts[start - 1] != self.starts[start]
        if start >= end or not whole or (end < len(self.text) and self.starts[end] == self.starts[end - 1]):
            return None
        return self.starts[start], self.ends[end - 1]


def folded(text: str) -> Folded:
    """Fold a text, grapheme by grapheme."""
    parts: list[str] = []
    starts: list[int] = []
    ends: list[int] = []
    for found in _GRAPHEME.finditer(text):
        part = fold(found[0])
        parts.append(part)
        starts += [found.start()] * len(part)
        ends += [found.end()] * len(part)
    return Folded("".join(parts), tuple(starts), tuple(ends))


def fold(text: str) -> str:
    """The text in one case, composed, in one width, without what has no ink."""
    alike = "".join(_alike(char) for char in unicodedata.normalize("NFC", text) if char not in _UNSEEN)
    small = unicodedata.normalize("NFC", alike).casefold()
    return unicodedata.normalize("NFC", small.replace("i\u0307", "i").translate(_I))


def _alike(char: str) -> str:
    return unicodedata.normalize("NFKC", char) if unicodedata.decomposition(char).startswith(_LETTER_FORMS) else char
