"""Name groups by what their members share: class-based tf-idf over the words of their descriptions."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np

from neurons.descriptions.render import CLASS_TEXT

_TERM = re.compile(r'"(?:[^"\\]|\\.)*"|[^\s",;/]+')
_SKIPPED = frozenset(("strongly", "weakly", "less", "on", "not", "after", "before", "in", "of", "the", "and", "words", "unclear", "for"))
_CLASS_PHRASES = sorted((text for text in CLASS_TEXT.values() if " " in text), key=len, reverse=True)


def terms(description: str, theme: str = "") -> list[str]:
    """The terms of one neuron: quoted tokens, class names (several words make one term) and theme words. What counts against it is left
    out.
    """
    kept = "; ".join(group for group in description.split("; ") if not group.startswith(("less on ", "not ")))
    found = []
    for phrase in _CLASS_PHRASES:
        if phrase in kept:
            kept = kept.replace(phrase, " ")
            found.append(phrase)
    found += [term.strip('"') for term in _TERM.findall(kept) if term not in _SKIPPED]
    found += [word.strip() for word in theme.split(",")]
    return [term for term in dict.fromkeys(found) if any(c.isalnum() for c in term)]


def label_groups(members: Sequence[Sequence[Sequence[str]]], *, most: int = 4) -> list[str]:
    """One label per group. `members[g]` holds the terms of each member of group g.

    Class-based tf-idf (Grootendorst 2022): tf in the group * log(1 + mean group size in terms / tf over all groups). A term must belong to
    at least two members (or a sixth of them). "" where nothing is shared.
    """
    counts = [Counter(term for member in group for term in set(member)) for group in members]
    everywhere = Counter[str]()
    for group in counts:
        everywhere.update(group)
    mean_size = float(np.mean([sum(group.values()) for group in counts])) if counts else 0.0
    labels = []
    for group, group_members in zip(counts, members, strict=True):
        least = max(2, len(group_members) // 6) if len(group_members) > 1 else 1
        scored = {term: count * np.log(1 + mean_size / everywhere[term]) for term, count in group.items() if count >= least}
        labels.append(", ".join(sorted(scored, key=lambda term: (-scored[term], term))[:most]))
    return labels
