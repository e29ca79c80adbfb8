"""Do the detectors of named concepts know what a sentence is about? Held-out sentences of the whole lexicon, read from neurons alone.

Run: python bench/detectors.py [--model default] [--json FILE]

Every third sentence and near miss of each concept was kept back when the detectors were fitted. Each is run as a user's message, the
detectors (at most 100 neurons each) score it, and the right concept's place among all is noted. Beside it, on the same texts: MiniLM
itself (a sentence embedder of the same size as the default model, the same discriminant on its embeddings, all 384 dimensions), plain word
search (how many of a concept's words stand in the text), and detectors fitted after the labels were shuffled (from the build).
Goals: 90% of the concepts found; median AUROC .99, against near misses .93; right concept in the first five 88%, in the first twenty 97%,
its field first 80%.
"""

from __future__ import annotations

import argparse
import re
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from neurons.concepts.embed import embedder
from neurons.core.json_text import json_text
from neurons.detectors.collect import Texts
from neurons.detectors.evaluate import field_first, held_out, rank_of_right
from neurons.detectors.features import Prefixes, encode_texts, text_means
from neurons.detectors.lexicon import Lexicon, load_lexicon
from neurons.detectors.store import Detectors, need_detectors
from neurons.models.load import load_model
from neurons.models.loaded import LoadedModel

CHUNK = 256
SHRINK = 0.5


@dataclass(frozen=True)
class Figures:
    """Of one way to score the held-out texts."""

    auroc: float
    auroc_worst_tenth: float
    auroc_near: float
    first: float
    first_five: float
    first_twenty: float
    field_first: float


def main() -> None:
    """Print the figures of each way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="default")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    lexicon = load_lexicon()
    loaded = load_model(given.model)
    detectors = need_detectors(loaded.ref)
    if detectors.lexicon != lexicon.fingerprint:
        raise SystemExit("the detectors were fitted to another lexicon: run `neuronscope atlas concepts` first")
    texts = Texts.of(lexicon)
    begun = time.perf_counter()
    ways = {"neurons": neuron_scores(loaded, detectors, texts)}
    seconds = time.perf_counter() - begun
    ways["MiniLM"] = minilm_scores(texts, len(lexicon.concepts))
    ways["word search"] = word_scores(texts, lexicon)
    held = texts.held_N
    found = {name: figures(score_HC, texts.class_N[held], texts.near_N[held], lexicon) for name, score_HC in ways.items()}
    print(f"{loaded.ref.name}: {int(detectors.found.sum())} of {len(detectors)} concepts found ({detectors.found.mean():.1%})")
    for name, one in found.items():
        print(f"{name:12} " + "  ".join(f"{key} {value:.3f}" for key, value in asdict(one).items()))
    shuffled = float(np.nanmedian(detectors.arrays.auroc_shuffled_C))
    print(f"labels shuffled: median AUROC {shuffled:.3f}")
    count = int((~texts.near_N[held]).sum())
    print(f"{count:,} held-out sentences and {int(held.sum()) - count:,} near misses run in {seconds:.0f} s")
    if given.json:
        answer = {"model": loaded.ref.name, "found": float(detectors.found.mean()), "auroc_shuffled": shuffled}
        given.json.write_text(json_text({**answer, "ways": {name: asdict(one) for name, one in found.items()}}, indent=1))


def neuron_scores(loaded: LoadedModel, detectors: Detectors, texts: Texts) -> NDArray[np.float32]:
    """(held-out texts, C) by the detectors."""
    rows = np.flatnonzero(texts.held_N)
    encoded = encode_texts(loaded, [texts.texts[row] for row in rows])
    scores = []
    prefixes: Prefixes = {}
    for at in range(0, len(rows), CHUNK):
        means_NLI = text_means(loaded, encoded[at : at + CHUNK], prefixes)
        scores.append(detectors.score(means_NLI.transpose(0, 1).numpy()))
    return np.concatenate(scores)


def minilm_scores(texts: Texts, concepts: int) -> NDArray[np.float32]:
    """(held-out texts, C) by the same discriminant on MiniLM's embeddings."""
    vectors = embedder().encode(texts.texts)
    fit = ~texts.held_N & ~texts.near_N
    class_N = texts.class_N[fit]
    mean_CE = np.stack([vectors[fit][class_N == c].mean(0) for c in range(concepts)])
    within = np.cov((vectors[fit] - mean_CE[class_N]).T)
    size = len(within)
    within = (1 - SHRINK) * within + SHRINK * np.trace(within) / size * np.eye(size)
    centre = vectors[fit].mean(0)
    weight_EC = np.linalg.solve(within, (mean_CE - centre).T)
    bias_C = -0.5 * np.einsum("ce,ec->c", mean_CE + centre, weight_EC)
    return np.asarray(vectors[texts.held_N] @ weight_EC + bias_C, dtype=np.float32)


def word_scores(texts: Texts, lexicon: Lexicon) -> NDArray[np.float32]:
    """(held-out texts, C): how many of a concept's words (and its name's) stand in the text, rare words counting more."""
    stems = [{stem(word) for phrase in (*c.entry.words, c.name) for word in split(phrase)} for c in lexicon.concepts]
    rarity = {word: 1 / sum(word in own for own in stems) for own in stems for word in own}
    held = [texts.texts[row] for row in np.flatnonzero(texts.held_N)]
    out = np.zeros((len(held), len(stems)), dtype=np.float32)
    for row, text in enumerate(held):
        there = {stem(word) for word in split(text)}
        out[row] = [sum(rarity[word] for word in own & there) for own in stems]
    return out + np.random.default_rng(0).random(out.shape, dtype=np.float32) * 1e-4  # ties fall by chance


def split(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())


def stem(word: str) -> str:
    """Endings cut, roughly."""
    return re.sub(r"(ings?|ed|es|s|er|ly)$", "", word) if len(word) > 4 else word


def figures(score_HC: NDArray[np.float32], class_H: NDArray[np.int64], near_H: NDArray[np.bool_], lexicon: Lexicon) -> Figures:
    """Areas over all held-out texts, places over the sentences."""
    areas = held_out(score_HC, class_H, near_H)
    own = ~near_H
    rank = rank_of_right(score_HC[own], class_H[own])
    number = {name: n for n, name in enumerate(lexicon.fields)}
    field_C = np.asarray([number[c.field] for c in lexicon.concepts])
    return Figures(
        float(np.nanmedian(areas.auroc_C)),
        float(np.nanpercentile(areas.auroc_C, 10)),
        float(np.nanmedian(areas.auroc_near_C)),
        float((rank < 1).mean()),
        float((rank < 5).mean()),
        float((rank < 20).mean()),
        field_first(score_HC[own], class_H[own], field_C),
    )


if __name__ == "__main__":
    main()
