"""How often a steer that does nothing is called more than chance, by simulation: `python bench/no_effect.py [--rounds N]`.

Without an effect, steered and unsteered answers are drawn alike: a criterion from a rate of each prompt's own (uniform from 0 to 1), a
length from a log-normal distribution. Each round is one comparison, judged as `neuronscope stats` judges it. Goal: at most 5%, within twice
the standard error.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable

import numpy as np

from neurons.core.json_text import json_text
from neurons.statistics.paired import SIGNIFICANT, Difference, paired_means, paired_rates

SIZES = (4, 8, 20, 100)
SEEDS = (1, 3)


def criterion(rng: np.random.Generator, prompts: int, seeds: int) -> Difference:
    """One comparison of answers that do or do not meet a criterion."""
    of_prompt = np.repeat(np.arange(prompts), seeds)
    rates = rng.random(prompts)[of_prompt]
    plain, steered = (rng.random(len(of_prompt)) < rates for _ in range(2))
    return paired_rates(of_prompt.tolist(), plain.tolist(), steered.tolist())


def length(rng: np.random.Generator, prompts: int, seeds: int) -> Difference:
    """One comparison of the answers' lengths."""
    of_prompt = np.repeat(np.arange(prompts), seeds)
    middle = rng.normal(3, 0.7, prompts)[of_prompt]
    plain, steered = (rng.lognormal(middle, 0.5) for _ in range(2))
    return paired_means(of_prompt.tolist(), (steered - plain).tolist())


def measure(draw: Callable[[np.random.Generator, int, int], Difference], prompts: int, seeds: int, rounds: int) -> dict[str, object]:
    """The share of errors over `rounds` comparisons, with its standard error."""
    rng = np.random.default_rng((prompts, seeds))
    begun = time.process_time()
    wrong = sum(draw(rng, prompts, seeds).told for _ in range(rounds))
    share = wrong / rounds
    error = math.sqrt(max(share * (1 - share), 1 / rounds) / rounds)
    return {
        "figure": draw.__name__,
        "prompts": prompts,
        "seeds": seeds,
        "rounds": rounds,
        "share_of_errors": round(share, 4),
        "standard_error": round(error, 4),
        "ok": share - 2 * error <= SIGNIFICANT,
        "cpu_seconds": round(time.process_time() - begun, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=1000)
    options = parser.parse_args()
    for draw in (criterion, length):
        for prompts in SIZES:
            for seeds in SEEDS:
                print(json_text(measure(draw, prompts, seeds, options.rounds), indent=None), flush=True)


if __name__ == "__main__":
    main()
