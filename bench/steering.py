"""Does steering by a concept's name work? As AxBench measures: concept, fluency and following the question, 0 to 2 each, harmonic mean.

    python bench/steering.py [--model default] [--device cpu] [--dtype bfloat16] [--concepts 40] [--output FILE]

Concepts are drawn from the lexicon by a seed, those that a topic classifier cannot judge (grammar, speech acts, styles, languages) left
out, and four that an earlier default was found with. Rows: this way at strength 1, as learned; a mean-difference vector added to the
residual stream in the middle layer; the old way (few neurons held at a share of their extremes); asking for it in the prompt; nothing.
What the scores are stands in neurons/concepts/answer_scores.py. A concept shows where the median of its answers scores 1 or more.
Suppress: a concept is asked for by its definition, never by name; how often its words stand in the answers, without and with the cap.
"""

from __future__ import annotations

import argparse
import math
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from neurons.atlas.quantiles import quantiles_for
from neurons.checking.load import load_model
from neurons.concepts.answer_scores import VISIBLE, AnswerScore, ConceptJudge, Following, fluency, own_texts
from neurons.concepts.concept_steers import Direction, direction, strengthen, suppress
from neurons.concepts.embed import embedder
from neurons.concepts.learned import learned_push
from neurons.concepts.readings import ASK, neutral_texts
from neurons.concepts.steers import STRENGTHS, default_size
from neurons.concepts.strength import AS_LEARNED
from neurons.core.json_text import json_text
from neurons.core.repetition import repetition
from neurons.core.steers import Steer
from neurons.core.types import Message, NeuronSide
from neurons.detectors.lexicon import SHIPPED, Lexicon, LexiconConcept, load_lexicon
from neurons.models.chat import decode, encode_prompt, encode_text
from neurons.models.layers import decoder_layers
from neurons.models.loaded import LoadedModel
from neurons.runs.batched import SteeredPrompt, answers, logprobs
from neurons.runs.layer_outputs import hidden_of, kept_outputs
from neurons.runs.steering import placed, resolve

PROMPTS = (
    "Tell me about something that happened last week.",
    "Write the opening of a novel.",
    "What should I think about before I move to a new city?",
    "Explain how to make a good first impression.",
    "Write a letter to an old friend.",
)
UNJUDGED = {"Grammar and form", "Speech acts", "Styles", "Languages"}
TOKENS = 60
_USED = 4
RESIDUAL = 0.25
"""Length of the residual vector as a share of the stream's (of .15, .25, .4 and .55 the best on eight other concepts)."""


def drawn(lexicon: Lexicon, count: int, seed: int) -> list[LexiconConcept]:
    """Concepts to measure on, in the order drawn."""
    step = len(lexicon.concepts) // _USED
    used = {concept.key for concept in lexicon.concepts[step // 2 :: step][:_USED]}
    judged = [concept for concept in lexicon.concepts if concept.field not in UNJUDGED and concept.key not in used]
    return [judged[n] for n in np.random.default_rng(seed).permutation(len(judged))[:count]]


class Bench:
    """The model, the concepts and what is known of them."""

    def __init__(self, loaded: LoadedModel, lexicon: Lexicon, concepts: Sequence[LexiconConcept]) -> None:
        self.loaded, self.lexicon, self.concepts = loaded, lexicon, concepts
        self.prompts = [encode_prompt(loaded, [Message("user", text)]) for text in PROMPTS]
        bare = [SteeredPrompt(prompt.ids) for prompt in self.prompts]
        plain = answers(loaded, bare, new_tokens=TOKENS)
        self.plain_logp = logprobs(loaded, bare, plain)
        self.plain_texts = [decode(loaded, ids) for ids in plain]
        self.following = Following(PROMPTS, self.plain_texts)
        others = [text for concept in lexicon.concepts for text in concept.entry.held]
        self._others = list(zip([c.key for c in lexicon.concepts for _ in c.entry.held], embedder().encode(others), strict=True))
        self.judges = {concept.key: self._judge(concept) for concept in concepts}

    def _judge(self, concept: LexiconConcept) -> ConceptJudge:
        return ConceptJudge(own_texts(concept), np.stack([vector for key, vector in self._others if key != concept.key]))

    def rows(self, steers: Callable[[LexiconConcept], tuple[Steer, ...]]) -> list[tuple[LexiconConcept, int, SteeredPrompt]]:
        """One row for every concept and prompt."""
        made = [(concept, steers(concept)) for concept in self.concepts]
        return [
            (concept, n, SteeredPrompt(prompt.ids, placed(steer, prompt.question)))
            for concept, steer in made
            for n, prompt in enumerate(self.prompts)
        ]

    def scored(self, given: Sequence[tuple[LexiconConcept, int, tuple[int, ...]]]) -> dict[str, list[AnswerScore]]:
        """The scores by concept of answers to the prompts."""
        logp = logprobs(self.loaded, [SteeredPrompt(self.prompts[n].ids) for _, n, _ in given], [ids for *_, ids in given])
        texts = [decode(self.loaded, ids) for *_, ids in given]
        embedded = embedder().encode([text or "." for text in texts])
        found: dict[str, list[AnswerScore]] = {}
        for (concept, n, ids), one, text, vector in zip(given, logp, texts, embedded, strict=True):
            ratio, repeated = math.exp(self.plain_logp[n] - one), repetition(ids)
            score = AnswerScore(
                self.judges[concept.key].score(text), fluency(ratio, repeated), self.following.score(n, vector), ratio, repeated
            )
            found.setdefault(concept.key, []).append(score)
        return found

    def run(self, rows: Sequence[tuple[LexiconConcept, int, SteeredPrompt]]) -> list[tuple[LexiconConcept, int, tuple[int, ...]]]:
        """Greedy answers, all rows together."""
        given = answers(self.loaded, [row for *_, row in rows], new_tokens=TOKENS)
        return [(concept, n, ids) for (concept, n, _), ids in zip(rows, given, strict=True)]


def summary(name: str, scores: dict[str, list[AnswerScore]]) -> dict[str, Any]:
    """The row of a way of steering."""
    every = [score for some in scores.values() for score in some]
    shows, ratio, repeated = [], [], []
    for some in scores.values():
        shows.append(float(np.median([score.concept for score in some])) >= VISIBLE)
        ratio.append(math.exp(float(np.mean([math.log(score.ratio) for score in some]))))
        repeated.append(float(np.mean([score.repetition for score in some])))
    reads = np.asarray(shows) & (np.asarray(repeated) < 0.2)
    return {
        "way": name,
        "total": round(float(np.mean([score.total for score in every])), 3),
        "concept": round(float(np.mean([score.concept for score in every])), 3),
        "fluency": round(float(np.mean([score.fluency for score in every])), 3),
        "following": round(float(np.mean([score.following for score in every])), 3),
        "ratio": round(math.exp(float(np.mean(np.log(ratio)))), 3),
        "repetition": round(float(np.mean(repeated)), 3),
        "shows": round(float(np.mean(shows)), 3),
        "shows and reads, ratio < 2": round(float(np.mean(reads & (np.asarray(ratio) < 2))), 3),
        "shows and reads, ratio < 1.6": round(float(np.mean(reads & (np.asarray(ratio) < 1.6))), 3),
    }


def old_way(loaded: LoadedModel, concept: LexiconConcept, found: Direction) -> tuple[Steer, ...]:
    """The neurons that differ most in units of their extremes, few of them, held at a share of these extremes."""
    quantiles = quantiles_for(loaded)
    extreme_LI = np.where(found.difference_LI >= 0, quantiles.extreme_2LI[0], -quantiles.extreme_2LI[1]) + 1e-3
    order = np.argsort(-np.abs(found.difference_LI) / extreme_LI, axis=None)[: default_size("strengthen", loaded.ref)]
    places = [divmod(int(place), loaded.n_neurons) for place in order]
    sides = tuple(NeuronSide(place[0], place[1], "+" if found.difference_LI[place] >= 0 else "-") for place in places)
    return resolve(loaded, [Steer(sides, "set", STRENGTHS["strengthen"], name=concept.name)], quantiles=quantiles)


def residual_vector(loaded: LoadedModel, texts: Sequence[str], layer: int) -> torch.Tensor:
    """Mean output of a layer over the texts' tokens as answers, (D,)."""
    prefix = encode_prompt(loaded, [Message("user", ASK)]).ids
    total, count = torch.zeros(loaded.sites[0].hidden, device=loaded.device), 0
    for text in texts:
        own = encode_text(loaded, text, bos=False)[:64]
        with kept_outputs(loaded) as outputs, torch.no_grad():
            loaded.model.base_model(input_ids=torch.tensor([[*prefix, *own]], device=loaded.device), use_cache=False)
        total += hidden_of(outputs[layer])[0, len(prefix) :].float().sum(0)
        count += len(own)
    return total / count


def residual_way(bench: Bench, directions: dict[str, Direction]) -> list[tuple[LexiconConcept, int, tuple[int, ...]]]:
    """A mean-difference vector in the middle layer at every token, concept by concept."""
    loaded, layer = bench.loaded, bench.loaded.n_layers // 2
    neutral = residual_vector(loaded, neutral_texts(), layer)
    given = []
    for concept in bench.concepts:
        vector = residual_vector(loaded, concept.entry.train, layer) - neutral
        vector = (vector / vector.norm() * float(directions[concept.key].residual_L[layer]) * RESIDUAL).to(loaded.dtype)

        def push(_module: Any, _args: Any, output: Any, vector: torch.Tensor = vector) -> Any:
            return (output[0] + vector, *output[1:]) if isinstance(output, tuple) else output + vector

        handle = decoder_layers(loaded)[layer].register_forward_hook(push)
        rows = [(concept, n, SteeredPrompt(prompt.ids)) for n, prompt in enumerate(bench.prompts)]
        given += bench.run(rows)
        handle.remove()
    return given


def prompted_way(bench: Bench) -> list[tuple[LexiconConcept, int, tuple[int, ...]]]:
    """What asking for it gives."""
    rows = [
        (concept, n, SteeredPrompt(encode_prompt(bench.loaded, [Message("user", f"{text} It should be about {concept.name}.")]).ids))
        for concept in bench.concepts
        for n, text in enumerate(PROMPTS)
    ]
    return bench.run(rows)


def suppressed(bench: Bench, directions: dict[str, Direction]) -> dict[str, Any]:
    """How often a concept's words stand in answers about its definition, without and with the cap; where they stood at all without it."""
    loaded = bench.loaded
    named = [(c, encode_prompt(loaded, [Message("user", f"Tell me more about this: {c.entry.definition}")])) for c in bench.concepts]
    bare = [SteeredPrompt(prompt.ids) for _, prompt in named]
    capped = [SteeredPrompt(prompt.ids, placed((suppress(directions[c.key], name=c.name),), prompt.question)) for c, prompt in named]
    without, with_cap = (answers(loaded, rows, new_tokens=TOKENS) for rows in (bare, capped))
    base, steered = (logprobs(loaded, bare, given) for given in (without, with_cap))
    halved, before, after, ratios = 0, 0, 0, []
    for (concept, _), plain, cap, one, two in zip(named, without, with_cap, base, steered, strict=True):
        counts = [words_in(decode(loaded, ids), concept.entry.words) for ids in (plain, cap)]
        if counts[0]:
            before, after = before + counts[0], after + counts[1]
            halved += counts[1] <= counts[0] / 2
            ratios.append(math.exp(one - two))
    return {
        "prompts with its words": len(ratios),
        "halved": round(halved / max(1, len(ratios)), 3),
        "words before": before,
        "words after": after,
        "ratio": round(math.exp(float(np.mean(np.log(ratios)))), 3) if ratios else None,
    }


def words_in(text: str, words: Sequence[str]) -> int:
    """How often any of the words stands in a text, endings aside."""
    return sum(len(re.findall(rf"\b{re.escape(word.casefold().removesuffix('s'))}", text.casefold())) for word in words)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--model", default="default")
    options.add_argument("--device")
    options.add_argument("--dtype", help="bfloat16 is several times faster where the processor has matrix units for it")
    options.add_argument("--concepts", type=int, default=40)
    options.add_argument("--seed", type=int, default=2026)
    options.add_argument("--output", type=Path)
    given = options.parse_args()
    loaded = load_model(given.model, device=given.device, dtype=given.dtype)
    lexicon = load_lexicon((SHIPPED,))
    strength = AS_LEARNED
    concepts = drawn(lexicon, given.concepts, given.seed)
    print(f"{loaded.ref.name}, strength {strength:g}, {len(concepts)} concepts x {len(PROMPTS)} prompts", flush=True)
    begun = time.monotonic()
    bench = Bench(loaded, lexicon, concepts)
    directions = {concept.key: direction(loaded, concept.entry.train) for concept in concepts}
    print(f"read in {time.monotonic() - begun:.0f} s", flush=True)
    learning = time.monotonic()
    pushes = {}
    for done, concept in enumerate(concepts):
        pushes[concept.key] = learned_push(loaded, concept)
        each = (time.monotonic() - learning) / (done + 1)
        print(f"{concept.name} learned, {each * (len(concepts) - done - 1):.0f} s to go", flush=True)
    ways: dict[str, Callable[[], list[tuple[LexiconConcept, int, tuple[int, ...]]]]] = {
        "this way": lambda: bench.run(bench.rows(lambda c: (strengthen(loaded, pushes[c.key], strength=strength, name=c.name),))),
        "residual vector": lambda: residual_way(bench, directions),
        "old way": lambda: bench.run(bench.rows(lambda c: old_way(loaded, c, directions[c.key]))),
        "prompting": lambda: prompted_way(bench),
        "none": lambda: [(c, n, ids) for c in concepts for n, ids in enumerate(plain_ids(bench))],
    }
    found: list[dict[str, Any]] = []
    for name, way in ways.items():
        at = time.monotonic()
        scored = bench.scored(way())
        print(f"{name}: {time.monotonic() - at:.0f} s", flush=True)
        row = summary(name, scored)
        found.append({**row, "by concept": {key: round(float(np.mean([s.total for s in some])), 2) for key, some in scored.items()}})
        print(json_text(row), flush=True)
    cap = suppressed(bench, directions)
    print("suppress", json_text(cap), flush=True)
    best = max(row["total"] for row in found if row["way"] in ("residual vector", "old way"))
    print(
        f"this way is {found[0]['total'] / max(best, 1e-9):.2f} x the better of residual vector and old way; prompting {found[3]['total']}"
    )
    if given.output:
        given.output.write_text(
            json_text(
                {"model": loaded.ref.name, "dtype": str(loaded.dtype), "strength": strength, "rows": found, "suppress": cap}, indent=1
            )
        )


def plain_ids(bench: Bench) -> list[tuple[int, ...]]:
    """The unsteered answers."""
    return answers(bench.loaded, [SteeredPrompt(prompt.ids) for prompt in bench.prompts], new_tokens=TOKENS)


if __name__ == "__main__":
    main()
