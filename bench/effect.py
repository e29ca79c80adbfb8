"""How fast single-neuron effects are measured: 200 rows of a 60-token text, against whole passes for a sample of the same rows.

python bench/effect.py [--rows 200] [--tokens 60] [--sample 24]
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch

from neurons.attribution.ablation import Place, prepare
from neurons.attribution.attribute import attribute, top_rows
from neurons.attribution.effect import measure_effects
from neurons.attribution.metrics import metric_value
from neurons.core.types import Message, TargetSpec
from neurons.models.chat import encode_prompt
from neurons.models.load import load_model

QUESTION = (
    "What is the capital of Turkey, and which river, sea or mountain is it close to? "
    "Please answer in one or two complete sentences, and say how many people live in the city today."
)
GOAL_SECONDS = 10.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="default")
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--tokens", type=int, default=60)
    parser.add_argument("--sample", type=int, default=24, help="rows measured by whole passes too")
    options = parser.parse_args()
    loaded = load_model(options.model)
    ids = encode_prompt(loaded, [Message("user", QUESTION * 4)]).ids[: options.tokens]
    target = TargetSpec(len(ids), "logprob", token_id=int(ids[-1]))
    rows = top_rows(attribute(loaded, ids, target), options.rows).rows
    fast = measure_effects(loaded, ids, target, rows)
    cases = [(Place(row.layer, row.index, row.token),) for row in rows]
    sample = np.linspace(0, len(cases) - 1, options.sample).astype(int)
    plain = prepare(loaded, ids, (), lambda _place: 0.0, fast=False)
    start = time.perf_counter()
    whole = np.zeros(len(sample))
    for numbers, logits_BV in plain.batches([cases[n] for n in sample], batch=24):
        whole[numbers] = fast.metric_value - metric_value(logits_BV, fast.target).numpy()
    seconds = (time.perf_counter() - start) * len(cases) / len(sample)
    error = float(np.abs(whole - [fast.rows[n].effect for n in sample]).max())
    print(f"{len(rows)} rows, {len(ids)} tokens, {torch.get_num_threads()} threads, shortened passes: {fast.fast}")
    print(f"shortened {fast.seconds:.1f} s (goal {GOAL_SECONDS:.0f} s: {'reached' if fast.seconds <= GOAL_SECONDS else 'not reached'})")
    print(
        f"whole passes {seconds:.1f} s (from {len(sample)} rows): {seconds / fast.seconds:.1f} times as long; "
        f"largest difference {error:.1e}"
    )


if __name__ == "__main__":
    main()
