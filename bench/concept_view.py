"""Does the Concepts view name what a question is about? `python bench/concept_view.py [--model default]`

Sixty questions of bench/data/concept_questions.jsonl, most of which never name their topic, each with what a reader would accept.
They were written before any detector was looked at and served for nothing else. Printed: how often an accepted concept is among the first
one, five and ten cards, and the same with the questions' answers exchanged (chance).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from neurons.core.types import Message
from neurons.detectors.store import need_detectors
from neurons.models.chat import encode_prompt
from neurons.models.load import load_model
from neurons.models.loaded import LoadedModel
from neurons.runs.hooks import run_forward

QUESTIONS = Path(__file__).parent / "data" / "concept_questions.jsonl"
FIRST = (1, 5, 10)


def asked(loaded: LoadedModel, question: str) -> tuple[tuple[int, ...], list[int]]:
    """A question's ids in the chat template, and the places of its own tokens."""
    prompt = encode_prompt(loaded, [Message("user", question)])
    return prompt.ids, [n for s in prompt.segments if s.role == "user" and not s.template for n in range(s.start, s.stop)]


def activations(loaded: LoadedModel, ids: Sequence[int]) -> NDArray[np.float32]:
    """(layers, tokens, neurons) of one plain pass."""
    acts: list[torch.Tensor] = []
    run_forward(loaded, torch.tensor([ids]), record=lambda _layer, acts_BTI: acts.append(acts_BTI[0].float().clone()), logits_to_keep=1)
    return np.asarray(torch.stack(acts).numpy())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="default")
    parser.add_argument("--show", action="store_true", help="print the first five of every question")
    arguments = parser.parse_args()
    loaded = load_model(arguments.model)
    detectors = need_detectors(loaded.ref)
    cases = [json.loads(line) for line in QUESTIONS.read_text(encoding="utf-8").splitlines()]
    named = []
    for case in cases:
        ids, own = asked(loaded, case["question"])
        rows = detectors.active(activations(loaded, ids), own, max(FIRST))
        named.append([row.key for row in rows])
        if arguments.show:
            print(f"{case['question'][:70]:70s} {', '.join(row.name for row in rows[:5])}")
    wanted = [set(case["concepts"]) for case in cases]
    order = np.random.default_rng(0)
    for first in FIRST:
        hits = np.mean([bool(set(keys[:first]) & right) for keys, right in zip(named, wanted, strict=True)])
        chance = np.mean(
            [
                np.mean([bool(set(named[n][:first]) & wanted[m]) for n, m in enumerate(order.permutation(len(cases))) if n != m])
                for _ in range(200)
            ]
        )
        print(f"among the first {first:2d}: {hits:.0%} of {len(cases)} questions; answers exchanged {chance:.1%}")


if __name__ == "__main__":
    main()
