"""Texts folded for looking in: case, Unicode forms, widths, digits and typographic marks alike.

Each folded character knows where it stands in the original.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

import regex

_LETTER_FORMS = ("<wide>", "<narrow>", "<font>", "<compat>", "<initial>", "<medial>", "<final>", "<isolated>", "<noBreak>")
"""Forms of a character that mean the same. Others do not: the 2 of 9\u00b2 is no 2."""
_UNSEEN = regex.compile(r"\p{Default_Ignorable_Code_Point}")
"""What has no ink: soft hyphens, joiners, direction marks, variation selectors."""
_POINTS = regex.compile(r"[\u0640\u064b-\u0652\u0670\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7]")
"""Vowel points of Arabic and Hebrew, and the stroke that only makes an Arabic word longer: written or left out at will."""
_TYPOGRAPHIC = str.maketrans(
    {
        **dict.fromkeys("\u2018\u2019\u201b\u02bc", "'"),
        **dict.fromkeys("\u201c\u201d\u201e\u201f", '"'),
        **dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2212", "-"),
    }
)
"""Quotation marks, apostrophes, dashes and the minus sign as a keyboard has them."""
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
    """The text in one case, composed, in one width, with plain digits and marks, without what has no ink."""
    seen = _POINTS.sub("", _UNSEEN.sub("", unicodedata.normalize("NFC", text)))
    alike = "".join(_alike(char) for char in seen).translate(_TYPOGRAPHIC)
    small = unicodedata.normalize("NFC", alike).casefold()
    return unicodedata.normalize("NFC", small.replace("i\u0307", "i").translate(_I))


def _alike(char: str) -> str:
    if unicodedata.category(char) == "Nd":
        return str(unicodedata.decimal(char))
    return unicodedata.normalize("NFKC", char) if unicodedata.decomposition(char).startswith(_LETTER_FORMS) else char
