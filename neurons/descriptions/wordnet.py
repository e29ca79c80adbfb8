"""Supersenses of English words ("dog" -> "noun.animal"), from a table built once from WordNet 3.0 (licence beside it)."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from types import MappingProxyType

TABLE = Path(__file__).parent / "data" / "supersenses.txt"

_ENDINGS = (("ies", "y"), ("es", ""), ("s", ""), ("ied", "y"), ("ed", ""), ("ed", "e"), ("ing", ""), ("ing", "e"), ("er", ""), ("est", ""))


@lru_cache(maxsize=1)
def _table() -> tuple[MappingProxyType[str, str], MappingProxyType[str, str]]:
    """Read (lemma -> supersense, irregular form -> lemma); about 0.1 s, once per process."""
    senses: dict[str, str] = {}
    forms: dict[str, str] = {}
    heading = ""
    for line in TABLE.read_text(encoding="ascii").splitlines():
        if line.startswith("# "):
            heading = line[2:]
        elif heading == "forms":
            for pair in line.split():
                form, base = pair.split("=")
                forms[form] = base
        else:
            senses.update(dict.fromkeys(line.split(), heading))
    return MappingProxyType(senses), MappingProxyType(forms)


def lemma(word: str) -> str | None:
    """The dictionary form of a lower-case word ("went" -> "go", "dogs" -> "dog"); None where WordNet has none."""
    senses, forms = _table()
    if word in forms:
        return forms[word]
    if word in senses:
        return word
    for ending, put in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= 2:
            stem = word[: len(word) - len(ending)]
            for candidate in (stem + put, stem[:-1] if ending in ("ed", "ing") and len(stem) > 3 and stem[-1] == stem[-2] else ""):
                if candidate in senses:
                    return candidate
    return None


def supersense(word: str) -> str | None:
    """WordNet's lexicographer file of the word's most frequent sense, such as "noun.food"; None for words it lacks."""
    base = lemma(word.lower())
    return None if base is None else _table()[0][base]
