"""How well each attribution method agrees with measured single-neuron effects, and what it costs.

For every prompt of bench/data/faithfulness_prompts.jsonl: the model's own next token is explained, against its runner-up. Every method
names its top 60 (neuron, token) entries; the effect of zeroing each entry of the union is measured, so that no method picks its own exam.
Reported for each metric: Spearman and Pearson of attribution with effect over the union, median over prompts; the cost as a multiple of
one forward pass of the same text, timed in turn in the same run; deletion and insertion curves (every few prompts): what the log-
probability loses when the most promoting entries are zeroed together, and how much of it comes back when, with the whole union zeroed,
they are put back.

    python bench/faithfulness.py [--limit N] [--out FILE]     results are appended prompt by prompt: run again to go on
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from neurons.attribution.ablation import Place, prepare
from neurons.attribution.attribute import METHODS, attribute, top_rows
from neurons.attribution.effect import ablated_metrics, agreement, measure_sets
from neurons.attribution.metrics import metric_value
from neurons.core.json_text import json_text
from neurons.core.types import Message, Metric, TargetSpec
from neurons.models.chat import encode_prompt, encode_text
from neurons.models.load import load_model
from neurons.models.loaded import LoadedModel
from neurons.runs.hooks import run_forward

PROMPTS = Path(__file__).parent / "data" / "faithfulness_prompts.jsonl"
RESULTS = Path(__file__).parent / "results" / "faithfulness.jsonl"
TOP = 60
STEPS = (1, 2, 5, 10, 20, 40)
BEST = "refined"
"""The method the goals are for."""
GOALS: dict[Metric, float] = {"prob": 0.92, "logprob": 0.95, "logit": 0.95, "contrast": 0.95}
METRICS: tuple[Metric, ...] = tuple(GOALS)


def prompt_ids(loaded: LoadedModel, prompt: dict[str, Any]) -> tuple[int, ...]:
    """Ids of a prompt with the beginning of its answer, or of a plain text."""
    if "text" in prompt:
        return encode_text(loaded, prompt["text"])
    system = [Message("system", prompt["system"])] if "system" in prompt else []
    return encode_prompt(loaded, [*system, Message("user", prompt["user"])]).ids + encode_text(loaded, prompt["answer"], bos=False)


def study(loaded: LoadedModel, prompt: dict[str, Any], methods: Sequence[str], *, curves: bool, repeats: int) -> dict[str, Any]:
    """Everything about one prompt."""
    ids = prompt_ids(loaded, prompt)
    batch = torch.tensor([ids])
    logits = run_forward(loaded, batch, logits_to_keep=1).logits
    assert logits is not None
    likeliest = logits[0, -1].topk(2).indices.tolist()
    targets = [TargetSpec(len(ids), metric, likeliest[0], likeliest[1] if metric == "contrast" else None) for metric in METRICS]
    found = {(target.metric, name): attribute(loaded, ids, target, method=name) for target in targets for name in methods}
    unions = {
        metric: {Place(r.layer, r.index, r.token) for name in methods for r in top_rows(found[metric, name], TOP).rows}
        for metric in METRICS
    }
    places = sorted(set().union(*unions.values()))
    cases = [(place,) for place in places]
    ablator = prepare(loaded, ids, (), lambda _place: 0.0, probe=cases)
    baseline = [float(metric_value(ablator.baseline.logits_V[None], target)[0]) for target in targets]
    effects = np.array(baseline) - ablated_metrics(ablator, targets, cases)
    scores: dict[str, Any] = {}
    for column, metric in enumerate(METRICS):
        rows = [n for n, place in enumerate(places) if place in unions[metric]]
        at = tuple(np.array([[places[n].layer, places[n].token, places[n].index] for n in rows]).T)
        for name in methods:
            fit = agreement(found[metric, name].attr_LTI[at], effects[rows, column])
            scores[f"{metric}/{name}"] = [fit.spearman, fit.pearson]
    result = {
        "id": prompt["id"],
        "tokens": len(ids),
        "prob": baseline[METRICS.index("prob")],
        "union": {metric: len(union) for metric, union in unions.items()},
        "fast": ablator.fast,
        "scores": scores,
        "refined": {metric: found[metric, BEST].refined for metric in METRICS if (metric, BEST) in found},
        "cost": costs(loaded, ids, targets[METRICS.index("logprob")], methods, repeats),
    }
    if curves:
        target = targets[METRICS.index("logprob")]
        result["curves"] = {name: curve(loaded, ids, target, found["logprob", name].attr_LTI, unions["logprob"]) for name in methods}
    return result


def costs(loaded: LoadedModel, ids: Sequence[int], target: TargetSpec, methods: Sequence[str], repeats: int) -> dict[str, float]:
    """Each method's time as a multiple of a forward pass over the same ids, the two timed in turn; the median of the ratios."""
    batch = torch.tensor([list(ids)])
    ratios: dict[str, list[float]] = {name: [] for name in methods}
    for _ in range(repeats):
        for name in methods:
            forward = timed(lambda: run_forward(loaded, batch, logits_to_keep=1))
            ratios[name].append(timed(partial(attribute, loaded, ids, target, method=name)) / forward)
    return {name: statistics.median(values) for name, values in ratios.items()}


def timed(work: Callable[[], Any]) -> float:
    """Seconds of wall time."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def curve(loaded: LoadedModel, ids: Sequence[int], target: TargetSpec, attr_LTI: Any, union: set[Place]) -> dict[str, list[float]]:
    """Effect of zeroing the k most promoting entries of the union, and what putting them back into an all-zeroed union recovers."""
    order = sorted(union, key=lambda place: -attr_LTI[place.layer, place.token, place.index])
    sets = [order[:k] for k in STEPS] + [order[k:] for k in STEPS] + [order]
    effects = measure_sets(loaded, ids, target, sets)
    n = len(STEPS)
    return {"deletion": effects[:n].tolist(), "insertion": (effects[-1] - effects[n : 2 * n]).tolist()}


def summary(results: Sequence[dict[str, Any]], methods: Sequence[str]) -> str:
    """The tables of docs/attribution.md."""
    lines = [f"{len(results)} prompts, union of every method's top {TOP}; median Spearman / Pearson (lower quartile of Spearman)", ""]
    lines += ["| method | " + " | ".join(METRICS) + " | cost, forwards |", "|---" * (len(METRICS) + 2) + "|"]
    for name in methods:
        cells = []
        for metric in METRICS:
            values = np.array([r["scores"][f"{metric}/{name}"] for r in results], dtype=float)
            cells.append(f"{np.nanmedian(values[:, 0]):.3f} / {np.nanmedian(values[:, 1]):.3f} ({np.nanquantile(values[:, 0], 0.25):.2f})")
        cost = statistics.median(r["cost"][name] for r in results)
        lines.append(f"| {name} | " + " | ".join(cells) + f" | {cost:.2f} |")
    with_curves = [r["curves"] for r in results if "curves" in r]
    if with_curves:
        lines += ["", f"Log-probability lost / recovered (nats), mean over {len(with_curves)} prompts, entries 1, 2, 5, 10, 20, 40", ""]
        lines += ["| method | zeroing the k most promoting | putting them back |", "|---|---|---|"]
        for name in methods:
            means = [np.mean([c[name][kind] for c in with_curves], axis=0) for kind in ("deletion", "insertion")]
            lines.append(f"| {name} | " + " | ".join(" ".join(f"{v:.2f}" for v in mean) for mean in means) + " |")
    lines += ["", f"Goals for {BEST}:"]
    for wanted, goal in GOALS.items():
        value = float(np.nanmedian([r["scores"][f"{wanted}/{BEST}"][0] for r in results]))
        lines.append(f"- {wanted}: {value:.3f} (goal {goal}): {'reached' if value >= goal else 'not reached'}")
    for name, limit in ((BEST, 4.0), ("grad", 2.6)):
        value = statistics.median(r["cost"][name] for r in results)
        lines.append(f"- cost of {name}: {value:.2f} forwards (goal {limit}): {'reached' if value <= limit else 'not reached'}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="default")
    parser.add_argument("--limit", type=int, default=0, help="use the first N prompts only")
    parser.add_argument("--curves-every", type=int, default=5, help="curves for every n-th prompt; 0 for none")
    parser.add_argument("--repeats", type=int, default=2, help="timings a method and prompt")
    parser.add_argument("--threads", type=int, default=0, help="torch threads; 0 for torch's own choice")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--fresh", action="store_true", help="forget earlier results")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    prompts = [json.loads(line) for line in PROMPTS.read_text(encoding="utf-8").splitlines()]
    prompts = prompts[: options.limit or None]
    options.out.parent.mkdir(parents=True, exist_ok=True)
    if options.fresh:
        options.out.unlink(missing_ok=True)
    results = [json.loads(line) for line in options.out.read_text(encoding="utf-8").splitlines()] if options.out.exists() else []
    known = {result["id"] for result in results}
    loaded = load_model(options.model)
    methods = list(METHODS)
    for number, prompt in enumerate(prompts):
        if prompt["id"] in known:
            continue
        start = time.perf_counter()
        curves = bool(options.curves_every) and number % options.curves_every == 0
        result = study(loaded, prompt, methods, curves=curves, repeats=options.repeats)
        results.append(result)
        with options.out.open("a", encoding="utf-8") as file:
            file.write(json_text(result) + "\n")
        default = " ".join(f"{metric} {result['scores'][f'{metric}/{BEST}'][0]:.3f}" for metric in METRICS)
        print(f"{number + 1}/{len(prompts)} {prompt['id']}: {default}, {time.perf_counter() - start:.0f} s", flush=True)
    print(summary(results, methods))


if __name__ == "__main__":
    main()
