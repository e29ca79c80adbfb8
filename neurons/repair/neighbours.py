"""Questions near the one that is to change: the same is asked of something else. A fix that turns their answers is too broad.

They come from the built-in facts (data/facts.json): kinds of question in many wordings, and what each is right for.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from neurons.repair.controls import words_of
from neurons.statistics.criteria import Criterion

_ALIKE = 0.75
"""Share of a wording's words that a question has to have to count as one of its kind."""
_FEWEST = 3


@dataclass(frozen=True)
class Kind:
    """One kind of question, such as capitals."""

    name: str
    templates: tuple[str, ...]
    """Ways to ask; `{}` is the subject (or `{0}`, `{1}` of a pair)."""
    facts: tuple[tuple[str, ...], ...]
    """(subject, right answer) or, for pairs, (first, second, right answer)."""


@dataclass(frozen=True)
class Neighbour:
    """A question and what its answer holds when it is right."""

    prompt: str
    expected: Criterion


@cache
def kinds() -> tuple[Kind, ...]:
    """The built-in kinds of question, in the file's order."""
    entries = json.loads((files("neurons.repair") / "data" / "facts.json").read_text(encoding="utf-8"))
    return tuple(Kind(e["name"], tuple(e["templates"]), tuple(tuple(fact) for fact in e["facts"])) for e in entries)


def neighbours(asked: Sequence[str], *, seed: int = 0, most: int = 24) -> tuple[Neighbour, ...]:
    """Questions of the kind of the first of `asked`, of other subjects than any of them names, in an order drawn by `seed`.

    Empty where no built-in kind asks so.
    """
    found = _kind_of(asked[0])
    if found is None:
        return ()
    kind, template = found
    named = " ".join(asked).casefold()
    others = [fact for fact in kind.facts if not all(re.search(rf"\b{re.escape(part.casefold())}\b", named) for part in fact[:-1])]
    random.Random(f"{seed}/{kind.name}").shuffle(others)
    return tuple(Neighbour(template.format(*fact[:-1]), Criterion(fact[-1])) for fact in others[:most])


def _kind_of(prompt: str) -> tuple[Kind, str] | None:
    """The kind and the wording that a question is most like."""
    spoken = words_of(prompt)
    best: tuple[float, Kind, str] | None = None
    for kind in kinds():
        for template in kind.templates:
            own = words_of(re.sub(r"\{\d?\}", " ", template))
            score = len(own & spoken) / max(1, len(own | spoken)) if len(own) >= _FEWEST and len(own & spoken) >= _ALIKE * len(own) else 0.0
            if score and (best is None or score > best[0]):
                best = (score, kind, template)
    return None if best is None else best[1:]
