"""Short texts that a regular expression matches, so that the search knows which token the wanted answer begins with.

Alternatives, groups, classes and counted repeats are read; whatever else an expression has (look-arounds, anchors) is left out, and only
texts that the whole expression does match are given.
"""

from __future__ import annotations

from itertools import islice, product

import regex

from neurons.core.errors import InvalidInput
from neurons.core.patterns import OutsidePattern

_MOST = 8
_TRIED = 32
_CANDIDATES = "1aA _-.,Zz9é"
_ATOM = regex.compile(
    r"""(?P<nothing>\\[bBAZzGmM]|[\^$]|\(\?[aiLmsuxfwV01-]+\))
      | (?P<look>\(\?<?[=!])
      | (?P<open>\((?:\?(?::|>|\||P?<\w+>|[a-zA-Z-]+:))?)
      | (?P<class>\[\^?\]?(?:\\.|[^\]\\])*\]|\\[pP]\{\w+\}|\\[dDwWsShH]|\.)
      | \\(?P<escaped>.)
      | (?P<literal>[^\\()|\[])""",
    regex.VERBOSE | regex.DOTALL,
)
_REPEAT = regex.compile(r"(?:(?P<none>[*?])|(?P<once>\+)|\{(?P<least>\d*)(?:,\d*)?\})[?+]?")
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}


def examples(pattern: str) -> tuple[str, ...]:
    """Up to eight texts matched by `pattern`, one for each branch of its alternations; empty when none is found."""
    outside = OutsidePattern(pattern)
    try:
        texts, _ = _alternatives(pattern, 0)
        found = (text.strip() for text in texts)
        return tuple(dict.fromkeys(text for text in found if text and outside.search(text) is not None))[:_MOST]
    except (_Unread, InvalidInput, RecursionError):
        return ()


class _Unread(Exception):
    """Part of an expression that is not read here."""


def _alternatives(pattern: str, at: int) -> tuple[list[str], int]:
    """Texts of each branch from `at` up to the closing bracket or the end, in order, and where that is."""
    found: list[str] = []
    parts: list[list[str]] = []
    while at <= len(pattern):
        if at == len(pattern) or pattern[at] in "|)":
            found += ["".join(choice) for choice in islice(product(*parts), _TRIED)]
            parts = []
            if at == len(pattern) or pattern[at] == ")":
                break
            at += 1
            continue
        texts, at = _atom(pattern, at)
        if (repeat := _REPEAT.match(pattern, at)) is not None:
            texts, at = _repeated(texts, repeat), repeat.end()
        parts.append(texts)
    return found[:_TRIED], at


def _atom(pattern: str, at: int) -> tuple[list[str], int]:
    """Texts for one element, and where the next one begins."""
    match = _ATOM.match(pattern, at)
    if match is None:
        raise _Unread
    if match["look"] or match["open"]:
        texts, end = _alternatives(pattern, match.end())
        if pattern[end : end + 1] != ")":
            raise _Unread
        return ([""] if match["look"] else texts), end + 1
    if match["nothing"]:
        return [""], match.end()
    if match["class"]:
        fits = OutsidePattern(match["class"])
        return [next((c for c in _members(match["class"]) if fits.search(c) is not None), "a")], match.end()
    return [_ESCAPES.get(match["escaped"], match["escaped"]) if match["escaped"] else match["literal"]], match.end()


def _members(members: str) -> str:
    """Characters to try for a class: those that stand in it, then everyday ones."""
    return (members[1:-1].replace("\\", "") if members.startswith("[") else "") + _CANDIDATES


def _repeated(texts: list[str], repeat: regex.Match[str]) -> list[str]:
    least = 0 if repeat["none"] else 1 if repeat["once"] else int(repeat["least"] or 0)
    return [text * min(least, 200) for text in texts] if least else [""]
