"""Does the Concepts view name what a question is about? `python bench/concept_view.py [--model default]`

Sixty questions of bench/data/concept_questions.jsonl, most of which never name their topic, each with what a reader would accept.
They were written before any detector was looked at and served for nothing else. Printed: how often an accepted concept is among the first
one, five and ten cards, and the same with the questions' answers exchanged (chance).
"""

from __future__ import annotations

import argparse
import json
import sys
from functools import partial
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from neurons.core.types import Message
from neurons.detectors.store import need_detectors
from neurons.models.chat import encode_prompt
from neurons.models.load import load_model
from neurons.runs.hooks import run_forward

QUESTIONS = Path(__file__).parent / "data" / "concept_questions.jsonl"
FIRST = (1, 5, 10)


def _keep(acts: list[torch.Tensor], _layer: int, acts_BTI: torch.Tensor) -> None:
    acts.append(acts_BTI[0].clone())


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
        prompt = encode_prompt(loaded, [Message("user", case["question"])])
        own = [n for s in prompt.segments if s.role == "user" and not s.template for n in range(s.start, s.stop)]
        acts: list[torch.Tensor] = []
        run_forward(
            loaded,
            torch.tensor([prompt.ids]),
            record=partial(_keep, acts),
            logits_to_keep=1,
        )
        rows = detectors.active(torch.stack(acts).float().numpy(), own, max(FIRST))
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
