"""Builds bench/data/repair.json: wrong answers of the default model, found by asking it.

Run: python scripts/build_repair.py [--out FILE] [--per-kind 5]. Every fact of neurons/repair/data/facts.json is asked with its kind's first
wording; where the answer is wrong and definite (a word stands where the answer belongs), so are the other 23 wordings. A case keeps the
first thirteen that are answered wrong and definitely as well, at least ten of them besides the prompt. A wrong answer that only repeats a
word of the question is no unwanted text. Controls: questions of the same kind about other subjects that the model answers right (at most
eight), then everyday prompts; twenty in all.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from neurons.core.json_text import json_text
from neurons.core.types import Message
from neurons.models.chat import decode, encode_prompt
from neurons.models.load import load_model
from neurons.models.loaded import LoadedModel
from neurons.repair.batch import Batcher, Row
from neurons.repair.controls import builtin_controls
from neurons.repair.neighbours import Kind, kinds
from neurons.repair.spec import RepairSpec

DATA = Path(__file__).resolve().parent.parent / "bench" / "data"
NEW_TOKENS = RepairSpec.max_new_tokens
CONTROLS, NEAR_CONTROLS = 20, 8
MIN_PARAPHRASES, MAX_PARAPHRASES = 10, 13
_BEFORE = r"(?:\b(?:is|are|was|by|called|equals?|comes|follows|means|be)\b|=|:)\s+"
_FILLERS = (
    r"(?:called |the |a |an |likely |typically |often |usually |probably |simply |actually |written by |language |word |number |city of "
    r"|[A-Z]\w+(?:ish|ian|yan|can|ese|utch|ench|iss) )*"
)
_WORD = r"[\"'“‘*(]*(?P<answer>(?:[A-Z]\.)+ ?[A-Z][\w'’-]+|[A-Z0-9][\w'’-]*(?:\.\w+)*(?: [A-Z][\w'’-]+)*|[a-z][\w'’-]*)"
_DEFINITE = re.compile(_BEFORE + _FILLERS + _WORD)
_EVASIVE = frozenset(
    """
    also and another answer as author based because book book's both brilliant calculated capital characterized city classic common commonly
    considered country currency defined denoted derived determined either even famous first followed form formed found generally
    given he in indeed it its kind known landlocked language largest last local located made member more most name neither not noun
    novel number odd of official on one opposite or past plural popular predominantly present primarily question quite represented
    result second she sovereign special spoken story symbol tense term that their they this three to two type used verb very what when
    where who word written
    """.split()  # noqa: SIM905
)
"""Words that follow "is" without answering."""


@dataclass(frozen=True)
class Asked:
    """One question with the model's own greedy answer."""

    prompt: str
    answer: str


def ask(loaded: LoadedModel, batcher: Batcher, prompts: Sequence[str]) -> list[Asked]:
    """Greedy answers of the unsteered model."""
    head = len(batcher.prefix)
    encoded = [encode_prompt(loaded, [Message("user", p)]).ids[head:] for p in prompts]
    answers = batcher.generate([Row(ids, len(ids)) for ids in encoded], NEW_TOKENS)
    return [Asked(p, decode(loaded, a)) for p, a in zip(prompts, answers, strict=True)]


def contains(text: str, wanted: str) -> bool:
    """Whether `wanted` stands in `text` as a word of its own, whatever the case."""
    return re.search(rf"(?<!\w){re.escape(wanted)}(?!\w)", text, re.IGNORECASE) is not None


def wrong_answer(asked: Asked, wanted: str) -> str | None:
    """The definite wrong answer given, or None: the answer is right, evasive, or only repeats the question."""
    if contains(asked.answer, wanted):
        return None
    for match in _DEFINITE.finditer(asked.answer):
        word = match["answer"].rstrip(".'’-")
        if word and word.lower() not in _EVASIVE:
            return word
    return None


def repeats_question(prompt: str, fact: Sequence[str], wrong: str) -> bool:
    """Whether a wrong answer is a word of the question, which a right one may well say again, and not one of the choices it gives."""
    return contains(prompt, wrong) and wrong not in fact[1:-1]


def cases_of(loaded: LoadedModel, batcher: Batcher, kind: Kind, limit: int) -> list[dict[str, object]]:
    """Up to `limit` cases of one kind."""
    facts = kind.facts
    first = ask(loaded, batcher, [kind.templates[0].format(*fact) for fact in facts])
    right = [a for fact, a in zip(facts, first, strict=True) if contains(a.answer, fact[-1])]
    cases: list[dict[str, object]] = []
    everyday = list(builtin_controls())
    for number, (fact, asked) in enumerate(zip(facts, first, strict=True)):
        unwanted = wrong_answer(asked, fact[-1])
        if unwanted is None or len(cases) == limit:
            continue
        others = ask(loaded, batcher, [t.format(*fact) for t in kind.templates[1:]])
        wrong = [a for a in others if wrong_answer(a, fact[-1])][:MAX_PARAPHRASES]
        if len(wrong) < MIN_PARAPHRASES:
            continue
        shift = (7 * number) % len(everyday)
        near = [a.prompt for a in right if fact[0] not in a.prompt and not contains(a.answer, fact[-1])][:NEAR_CONTROLS]
        fill = [c for c in everyday[shift:] + everyday[:shift] if c not in near]
        chosen = ask(loaded, batcher, near + fill[: CONTROLS - len(near)])
        cases.append(
            {
                "id": f"{kind.name.replace(' ', '-')}/{fact[0]}",
                "kind": kind.name,
                "prompt": asked.prompt,
                "wanted": fact[-1],
                "unwanted": "" if repeats_question(asked.prompt, fact, unwanted) else unwanted,
                "answer": asked.answer,
                "paraphrases": [{"prompt": a.prompt, "answer": a.answer} for a in wrong],
                "controls": [{"prompt": a.prompt, "answer": a.answer} for a in chosen],
            }
        )
    return cases


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=DATA / "repair.json")
    parser.add_argument("--per-kind", type=int, default=5)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--fresh", action="store_true", help="begin anew; else kinds that are in the file are kept")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    loaded = load_model("default", device="cpu")
    probe = [encode_prompt(loaded, [Message("user", text)]).ids for text in ("A", "7", '"')]
    head = next(i for i in range(len(probe[0])) if len({p[i] for p in probe}) > 1)
    batcher = Batcher(loaded, probe[0][:head])
    started = time.perf_counter()
    kept = {} if options.fresh or not options.out.exists() else json.loads(options.out.read_text(encoding="utf-8"))
    same = kept.get("model", {}).get("weights_hash") == loaded.ref.weights_hash
    cases: list[dict[str, object]] = kept["cases"] if same else []
    done = list(kept.get("kinds", [])) if same else []
    for kind in kinds():
        if kind.name in done:
            continue
        found = cases_of(loaded, batcher, kind, options.per_kind)
        cases += found
        done.append(kind.name)
        write(options.out, loaded, cases, done)
        sys.stderr.write(f"{kind.name}: {len(found)} cases of {len(kind.facts)} facts, {time.perf_counter() - started:.0f} s\n")


def write(path: Path, loaded: LoadedModel, cases: Sequence[dict[str, object]], kinds: Sequence[str]) -> None:
    """Write what there is, so that a run that is cut short goes on with the next kind."""
    document = {
        "format": "neuronscope-repair-bench",
        "version": 1,
        "model": {"id": loaded.ref.id, "name": loaded.ref.name, "weights_hash": loaded.ref.weights_hash},
        "new_tokens": NEW_TOKENS,
        "kinds": list(kinds),
        "cases": list(cases),
    }
    partial = path.with_suffix(".partial")
    partial.write_text(json_text(document, indent=1) + "\n", encoding="utf-8")
    partial.replace(path)


if __name__ == "__main__":
    main()
