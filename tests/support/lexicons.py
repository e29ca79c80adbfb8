"""A small lexicon that a tiny random model can tell apart: each concept's sentences are runs of letters of its own."""

from __future__ import annotations

import numpy as np

from neurons.detectors.lexicon import ConceptEntry, Lexicon, LexiconConcept


def letter_lexicon(*, planted: int = 6, unplanted: int = 2, sentences: int = 18, seed: int = 0) -> Lexicon:
    """`planted` concepts with letters of their own, and `unplanted` ones each of whose sentences looks like some planted one's."""
    rng = np.random.default_rng(seed)
    everything = list("abcdefghijklmnopqrstuvwxyz")

    def text(letters: list[str]) -> str:
        return "".join(rng.choice(letters, 14).tolist())

    def _own(number: int, letters: list[str]) -> list[str]:
        return letters[4 * number : 4 * number + 4] or letters[-2:]

    concepts = []
    for number in range(planted + unplanted):
        own = _own(number, everything)
        entry = ConceptEntry(
            key=f"letters-{number}",
            name=f"letters {number}",
            definition=f"Texts of {''.join(own)}.",
            words=(own[0],),
            sentences=tuple(text(own if number < planted else _own(n % planted, everything)) for n in range(sentences)),
            near=tuple(text(everything) for _ in range(12)),
        )
        concepts.append(LexiconConcept("early" if number < planted / 2 else "late", entry))
    return Lexicon(tuple(concepts))
