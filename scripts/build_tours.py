"""Measures the facts of the guided tours on the default model: writes neurons/tours/data/tours.json.

    python scripts/build_tours.py [--only capital]

Each tour's cases were found by trying. The prose is in neurons/tours/tours.py and holds no number of its own.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from neurons.attribution.attribute import attribute, top_rows
from neurons.concepts.direction import steer_from_examples
from neurons.core.json_text import json_text, plain
from neurons.core.repetition import repetition
from neurons.core.steers import Steer, TokenScope
from neurons.core.types import Message, NeuronSide, Sampling, TargetSpec
from neurons.models.chat import decode, encode_prompt, encode_text, token_text
from neurons.models.load import load_model
from neurons.models.loaded import LoadedModel
from neurons.repair.repair import repair
from neurons.repair.result import result_to_json
from neurons.repair.spec import parse_spec
from neurons.runs.generation import generate
from neurons.runs.hooks import run_forward
from neurons.runs.lens import logit_lens
from neurons.runs.steering import steer_to_json
from neurons.statistics.comparison import ComparisonSpec, Conversation, expected_criterion, measure
from neurons.statistics.criteria import Criterion
from neurons.statistics.rows import read_rows
from neurons.statistics.summary import summarise
from neurons.tours.answers import given

OUT = Path(__file__).parent.parent / "neurons" / "tours" / "data" / "tours.json"
BIGGER = "The bigger of the two numbers {} and {} is"
PAIRS = (
    ("9.9", "9.11"),
    ("9.8", "9.12"),
    ("7.5", "7.35"),
    ("2.9", "2.13"),
    ("4.4", "4.13"),
    ("6.7", "6.25"),
    ("3.8", "3.21"),
    ("5.6", "5.15"),
)
SIBLINGS = (
    "{name} has {n} sisters and 1 brother, {bro}. Fill in the blank: The number of {bro}'s sisters is",
    "{name} has {n} sisters and 1 brother, {bro}. Complete the sentence: The number of {bro}'s sisters is",
    "{name} has {n} sisters and 1 brother, {bro}. The number of {bro}'s sisters is",
    "{name} has {n} sisters and one brother called {bro}. Fill in the blank: The number of {bro}'s sisters is",
    "Fill in the blank. {name} has {n} sisters and 1 brother, {bro}. The number of {bro}'s sisters is",
    "{name} has {n} sisters and a brother, {bro}. Fill in the blank: The number of {bro}'s sisters is",
    "{name} has 1 brother, {bro}, and {n} sisters. Fill in the blank: The number of {bro}'s sisters is",
    "{name} is a girl. She has {n} sisters and 1 brother, {bro}. Fill in the blank: The number of {bro}'s sisters is",
    "{name} has {n} sisters and 1 brother, {bro}. Fill in the missing number: The number of {bro}'s sisters is",
)
SEA = (
    "The ship sailed across the stormy sea while waves crashed over the deck.",
    "Fishermen pulled their nets from the ocean as gulls cried above the harbour.",
    "The tide washed shells onto the sandy beach.",
    "A whale rose beside the boat and the captain shouted.",
    "They swam in the warm blue water near the coast of the island.",
    "The lighthouse guided sailors past the rocks at night.",
    "He loved the smell of salt and the sound of the waves.",
    "The anchor dropped into the deep water of the bay.",
)
SEA_WORDS = re.compile(
    r"\b(sea|seas|ocean|oceans|wave|waves|ship|ships|boat|boats|sail\w*|beach\w*|shore\w*|tide\w*|harbou?r|fish\w*|whale\w*|water|waters|coast\w*|island\w*|captain|surf)\b",
    re.IGNORECASE,
)
TOKENS = 24
"""Tokens of an answer that gives a number: the model likes to repeat the question first."""
STORY = "Tell a short story about a boy and his dog."
STORY_TOKENS, STORY_NEURONS = 60, 100
STRENGTHS = (0.0, 1.0, 2.0, 4.0, 8.0)
UNBROKEN = 0.2


def ids_of(loaded: LoadedModel, prompt: str) -> tuple[int, ...]:
    return encode_prompt(loaded, [Message("user", prompt)]).ids


def said(loaded: LoadedModel, prompt: str, *, tokens: int = 16, steers: Sequence[Steer] = ()) -> str:
    """The greedy answer."""
    result = generate(loaded, ids_of(loaded, prompt), sampling=Sampling(max_new_tokens=tokens), steers=steers, record=False)
    return decode(loaded, result.answer_ids)


def decision(loaded: LoadedModel, prompt: str, before: str, right: str, wrong: str) -> dict[str, Any]:
    """Probability and rank of two words after `before`, the answer up to there forced, and what speaks for and against."""
    ids = (*ids_of(loaded, prompt), *encode_text(loaded, before, bos=False))
    first, other = (encode_text(loaded, f" {word}", bos=False)[0] for word in (right, wrong))
    output = run_forward(loaded, torch.tensor([ids]), logits_to_keep=1)
    assert output.logits is not None
    prob_V = output.logits[0, -1].float().softmax(-1)
    rank = {name: int((prob_V > prob_V[token]).sum()) for name, token in (("right", first), ("wrong", other))}
    found = attribute(loaded, ids, TargetSpec(len(ids), "contrast", first, other))
    rows = top_rows(found, 8).rows
    lens = logit_lens(loaded, ids, [len(ids)], k=1)
    layers = [
        {"row": name, "top": token_text(loaded, int(top)), "probability": round(float(p), 4)}
        for name, top, p in zip(lens.names, lens.top_ids_RNK[:, 0, 0], lens.top_probs_RNK[:, 0, 0], strict=True)
    ]
    return {
        "before": before,
        "right_token": token_text(loaded, first),
        "wrong_token": token_text(loaded, other),
        "p_right": float(prob_V[first]),
        "p_wrong": float(prob_V[other]),
        "rank_right": rank["right"],
        "rank_wrong": rank["wrong"],
        "neurons": [
            {"neuron": f"{r.layer}:{r.index}", "token": token_text(loaded, ids[r.token]), "attribution": round(r.attribution, 4)}
            for r in rows
        ],
        "lens": layers,
    }


def fixed(loaded: LoadedModel, **spec: Any) -> tuple[dict[str, Any], tuple[Steer, ...]]:
    """A repair with its comparison, as JSON and as steers."""
    result = repair(loaded, parse_spec(spec), resume=False, keep=False)
    data = result_to_json(result)
    data.pop("pareto")
    sys.stderr.write(f"  {data['message']}\n")
    return data, result.steers


def compare(loaded: LoadedModel, prompts: Sequence[tuple[str, str]], steers: Sequence[Steer]) -> dict[str, Any]:
    """A steer over prompts, each with its own right answer."""
    rows: list[dict[str, Any]] = []
    wanted = [expected_criterion(given(answer)) for _, answer in prompts]
    conversations = tuple(Conversation(str(n), (Message("user", text),), wanted[n]) for n, (text, _) in enumerate(prompts))
    spec = ComparisonSpec(conversations, tuple(steers), Criterion("-"), random_sets=2, sampling=Sampling(max_new_tokens=TOKENS))
    measure(loaded, spec, on_row=rows.append)
    table = [
        {
            "prompt": text,
            "right": answer,
            "unsteered": r["plain"]["answer"],
            "steered": r["steered"]["answer"],
            "met": [r["plain"]["met"], r["steered"]["met"]],
        }
        for (text, answer), r in zip(prompts, rows, strict=True)
    ]
    summary = plain(summarise(read_rows(rows)))
    return {"rows": table, "figure": summary["figures"][0], "random": summary["random"], "kl": summary["kl"]}


def capital(loaded: LoadedModel) -> dict[str, Any]:
    """Turkey's capital, and what a careless fix does to Canada's."""
    question = "What is the capital of Turkey?"
    near = [f"What is the capital of {c}?" for c in ("Canada", "Japan", "France", "Egypt", "Norway", "Kenya", "Peru", "Sweden")]
    everyday = parse_spec({"prompt": "-", "wanted": "-"}).controls
    data, steers = fixed(
        loaded,
        prompt=question,
        wanted="Ankara",
        unwanted="Istanbul",
        controls=[*near, *(c.prompt for c in everyday if c.prompt not in near)][:20],
    )
    worst = _worst_neurons(loaded, question, "The capital of Turkey is", "Ankara", "Istanbul", 20)
    careless = [Steer(worst[:n], "set", 0.0) for n in (5, 20)]
    canada = "What is the capital of Canada?"
    return {
        "prompt": question,
        "unsteered": said(loaded, question),
        "decision": decision(loaded, question, "The capital of Turkey is", "Ankara", "Istanbul"),
        "careless": [
            {"neurons": len(s.neurons), "turkey": said(loaded, question, steers=[s]), "canada": said(loaded, canada, steers=[s])}
            for s in careless
        ],
        "canada": said(loaded, canada),
        "canada_fixed": said(loaded, canada, steers=steers),
        "repair": data,
    }


def _worst_neurons(loaded: LoadedModel, prompt: str, before: str, right: str, wrong: str, count: int) -> tuple[NeuronSide, ...]:
    """The neurons that speak most for the wrong word, summed over tokens."""
    ids = (*ids_of(loaded, prompt), *encode_text(loaded, before, bos=False))
    first, other = (encode_text(loaded, f" {word}", bos=False)[0] for word in (right, wrong))
    attr_LI = attribute(loaded, ids, TargetSpec(len(ids), "contrast", first, other)).attr_LTI.sum(1)
    order = np.argsort(attr_LI, axis=None)[:count]
    return tuple(NeuronSide(int(n) // attr_LI.shape[1], int(n) % attr_LI.shape[1]) for n in order)


def siblings(loaded: LoadedModel) -> dict[str, Any]:
    """A fix that says 3 whatever is asked."""
    wordings = [form.format(name="Alice", bro="Bob", n=2) for form in SIBLINGS]
    data, steers = fixed(loaded, prompt=wordings[0], wanted="3", unwanted="2", paraphrases=wordings[1:])
    names = (
        ("Anna", "Tom"),
        ("Mary", "Jack"),
        ("Julia", "Paul"),
        ("Emma", "Leo"),
        ("Sara", "Max"),
        ("Ruth", "Sam"),
        ("Nina", "Ben"),
        ("Kate", "Dan"),
    )
    variants = [
        (SIBLINGS[0].format(name=girl, bro=boy, n=n), str(n + 1)) for (girl, boy), n in zip(names, (3, 4, 5, 6, 7, 8, 4, 6), strict=True)
    ]
    return {"prompt": wordings[0], "unsteered": said(loaded, wordings[0]), "repair": data, "variants": compare(loaded, variants, steers)}


def numbers(loaded: LoadedModel) -> dict[str, Any]:
    """9.9 and 9.11: the model names the number that came last."""
    both = [(BIGGER.format(*pair), pair[0]) for pair in PAIRS] + [(BIGGER.format(b, a), a) for a, b in PAIRS]
    answers = [{"prompt": text, "right": right, "answer": said(loaded, text, tokens=TOKENS)} for text, right in both]
    question = BIGGER.format("9.9", "9.11")
    others = [
        "Answer with one number. The bigger of the two numbers 9.9 and 9.11 is",
        "Fill in the blank: The bigger of the two numbers 9.9 and 9.11 is",
        "Think about it: the bigger of the two numbers 9.9 and 9.11 is",
        "Complete: The bigger of the two numbers 9.9 and 9.11 is",
        "The bigger of the numbers 9.9 and 9.11 is",
        "The bigger one of the two numbers 9.9 and 9.11 is",
    ]
    wanted = {"regex": given("9.9").texts[0]}
    data, steers = fixed(loaded, prompt=question, wanted=wanted, paraphrases=others)
    rest = [(text, right) for text, right in both if text != question]
    return {"prompt": question, "answers": answers, "repair": data, "variants": compare(loaded, rest, steers)}


def story(loaded: LoadedModel) -> dict[str, Any]:
    """A story that drifts to the sea: a steer from example sentences, at the answer's tokens or at the prompt's alone."""
    pushed = steer_from_examples(loaded, SEA, neurons=STORY_NEURONS, name="the sea")
    ids = ids_of(loaded, STORY)
    runs: list[dict[str, Any]] = []
    for scope, strengths in (("answer", STRENGTHS), ("prompt", STRENGTHS[2:3])):
        for strength in strengths:
            steer = replace(pushed, strength=strength, tokens=TokenScope.parse(scope))
            result = generate(loaded, ids, sampling=Sampling(max_new_tokens=STORY_TOKENS), steers=[steer] if strength else [], record=False)
            text = decode(loaded, result.answer_ids)
            words, repeated = len(SEA_WORDS.findall(text)), round(repetition(result.answer_ids), 3)
            runs.append({"tokens": scope, "strength": strength, "words": words, "repetition": repeated, "text": text})
            sys.stderr.write(f"  {scope} {strength}: {words} words, repetition {repeated}\n")
    unbroken = [run for run in runs if run["tokens"] == "answer" and run["repetition"] < UNBROKEN]
    best = max(unbroken, key=lambda run: (run["words"], -run["strength"]))
    return {
        "prompt": STORY,
        "examples": list(SEA),
        "neurons": len(pushed.neurons),
        "strongest": [str(side) for side in pushed.neurons[:12]],
        "steer": steer_to_json(replace(pushed, strength=best["strength"])),
        "best": best,
        "runs": runs,
    }


def knew(loaded: LoadedModel) -> dict[str, Any]:
    """Brazil: said when asked one way, kept back when asked another."""
    asked, other = "What is the capital of Brazil?", "Which city is the capital of Brazil?"
    data, _ = fixed(loaded, prompt=asked, wanted="Brasilia", unwanted="Sao Paulo")
    return {
        "prompt": asked,
        "other": other,
        "unsteered": said(loaded, asked),
        "other_answer": said(loaded, other),
        "decision": decision(loaded, asked, "The capital of Brazil is", "Brasilia", "Sao"),
        "other_decision": decision(loaded, other, "The capital of Brazil is", "Brasilia", "Sao"),
        "repair": data,
    }


TOURS = {"capital": capital, "siblings": siblings, "numbers": numbers, "story": story, "knew": knew}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=list(TOURS), default=None)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--fresh", action="store_true", help="measure every tour anew; else those in the file are kept")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    loaded = load_model("default", device="cpu")
    document = json.loads(OUT.read_text(encoding="utf-8")) if OUT.exists() else {}
    document |= {
        "format": "neuronscope-tours",
        "version": 1,
        "model": {"id": loaded.ref.id, "name": loaded.ref.name, "weights_hash": loaded.ref.weights_hash},
    }
    for name, measure_tour in TOURS.items():
        if options.only == name or (options.only is None and (options.fresh or name not in document)):
            sys.stderr.write(f"{name}\n")
            document[name] = measure_tour(loaded)
            OUT.write_text(json_text(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
