"""Do the measured causes name what a reader expects? `python bench/concept_causes.py [--model default] [--show]`

Twenty questions of bench/data/concept_causes.jsonl, each with the beginning of an answer, the token that follows and the concepts that a
reader would accept; written before any cause was measured. The concepts active at the question's and the answer's words are each taken out,
and those that do more than every matched random direction are the causes. Printed: how often an accepted one is among the first three.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from concept_view import activations, asked

from neurons.detectors.causes import Asked, measure_causes
from neurons.detectors.store import need_detectors
from neurons.models.chat import encode_text
from neurons.models.load import load_model

CASES = Path(__file__).parent / "data" / "concept_causes.jsonl"
FIRST = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="default")
    parser.add_argument("--show", action="store_true", help="print the first three of every answer")
    arguments = parser.parse_args()
    loaded = load_model(arguments.model)
    detectors = need_detectors(loaded.ref)
    hits, seconds = 0, []
    cases = [json.loads(line) for line in CASES.read_text(encoding="utf-8").splitlines()]
    for case in cases:
        prompt, own = asked(loaded, case["question"])
        ids = [*prompt, *encode_text(loaded, case["answer"], bos=False)]
        acts_LTI = activations(loaded, ids)
        begun = time.perf_counter()
        causes = measure_causes(
            loaded,
            detectors,
            Asked(
                ids,
                len(ids),
                acts_LTI,
                [*own, *range(len(prompt), len(ids))],
                token_id=encode_text(loaded, case["token"], bos=False)[0],
            ),
        )
        seconds.append(time.perf_counter() - begun)
        named = [one.concept for one in causes if one.is_cause and one.effect > 0][:FIRST]
        hit = any(one.key in case["concepts"] for one in named)
        hits += hit
        if arguments.show:
            print(f"{'+' if hit else '-'} {case['token']:12s} {', '.join(one.name for one in named)}")
    print(f"an accepted concept among the first {FIRST} causes: {hits} of {len(cases)}; {sorted(seconds)[len(seconds) // 2]:.1f} s each")


if __name__ == "__main__":
    main()
