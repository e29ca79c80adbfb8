"""How many wrong answers of the default model get a fix that holds: bench/data/repair.json, one repair a case.

    python bench/repair.py --minutes 30            run cases (kinds taken in turn), appending to bench/data/repair_results.jsonl
    python bench/repair.py --summary               the table of what that file holds

A case counts as held when a fix is found, turns at least 80% of the held-out paraphrases (never seen by the search) and leaves at least 95%
of the 20 controls unchanged, token by token, all by unbatched greedy generation. Goals: 60% held, at most 10 neurons (median), 5 minutes a
case on 2 cores. CPU seconds are recorded beside wall seconds, which a busy machine stretches.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from neurons.core.errors import NeuronscopeError
from neurons.core.json_text import json_text
from neurons.models.load import load_model
from neurons.repair.repair import BUDGET, repair
from neurons.repair.result import result_to_json
from neurons.repair.spec import parse_spec
from neurons.statistics.paired import Rate

DATA = Path(__file__).parent / "data" / "repair.json"
RESULTS = Path(__file__).parent / "data" / "repair_results.jsonl"
HELD_OUT = 5
"""Wordings of each case that the search does not see. The others, five to eight, and the prompt are what it trains on."""
HELD, KEPT, GOAL_SHARE, GOAL_NEURONS, GOAL_MINUTES = 0.8, 0.95, 0.6, 10, 5


def interleaved(cases: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Cases with their kinds in turn, so that a run cut short has seen all kinds."""
    by_kind: dict[str, list[dict[str, Any]]] = {}
    for case in cases:
        by_kind.setdefault(case["kind"], []).append(case)
    depth = max(len(group) for group in by_kind.values())
    return [group[n] for n in range(depth) for group in by_kind.values() if n < len(group)]


def run(options: argparse.Namespace) -> None:
    """Repair the cases that have no result yet, until the time is up."""
    document = json.loads(options.data.read_text(encoding="utf-8"))
    done = {row["id"] for row in rows_of(options.results)}
    shard, shards = (int(part) for part in options.shard.split("/"))
    if options.threads:
        torch.set_num_threads(options.threads)
    loaded = load_model("default", device="cpu")
    started = time.perf_counter()
    for number, case in enumerate(interleaved(document["cases"])):
        if case["id"] in done or (options.only and options.only not in case["id"]) or number % shards != shard:
            continue
        if time.perf_counter() - started > 60 * options.minutes:
            return
        spec = parse_spec(
            {
                "name": case["id"],
                "prompt": case["prompt"],
                "wanted": case["wanted"],
                "unwanted": case["unwanted"],
                "paraphrases": [p["prompt"] for p in case["paraphrases"]],
                "controls": [c["prompt"] for c in case["controls"]],
                "heldout": HELD_OUT / len(case["paraphrases"]),
            }
        )
        wall, cpu = time.perf_counter(), time.process_time()
        row: dict[str, Any] = {"id": case["id"], "kind": case["kind"]}
        compare = options.compare > 0 and number % options.compare == 0
        try:
            result = repair(loaded, spec, budget=options.budget, compare=compare, resume=False, keep=False)
            data = result_to_json(result)
            row |= {
                key: data[key] for key in ("found", "neurons", "unsteered", "train", "heldout", "controls", "forward_passes", "message")
            }
            row |= {"prompt_fixed": data["prompt_fixed"], "steers": data["steer"]["steers"]}
            if compare:
                row |= {"random": data["random"], "baselines": data["baselines"]}
        except NeuronscopeError as error:
            row["error"] = str(error)
        row |= {"seconds": round(time.perf_counter() - wall, 1), "cpu_seconds": round(time.process_time() - cpu, 1)}
        with options.results.open("a", encoding="utf-8") as stream:
            stream.write(json_text(row) + "\n")
        sys.stderr.write(
            f"{case['id']}: {row.get('message') or row.get('error')} ({row['seconds']:.0f} s, {row['cpu_seconds']:.0f} CPU s)\n"
        )


def rows_of(path: Path) -> list[dict[str, Any]]:
    """The results kept so far."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def held(row: dict[str, Any]) -> bool:
    """Whether a case got a fix that holds, by the goal's definition."""
    if not row.get("found") or not row.get("heldout"):
        return False
    share = row["heldout"]["fixed"] / row["heldout"]["total"]
    kept = row["controls"]["unchanged"] / row["controls"]["total"]
    return bool(row["prompt_fixed"] and share >= HELD and kept >= KEPT)


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The figures of the goal, and by kind."""
    good = [row for row in rows if held(row)]
    rate = Rate.of([held(row) for row in rows])
    kinds: dict[str, Any] = {}
    for row in rows:
        kind = kinds.setdefault(row["kind"], {"cases": 0, "held": 0, "found": 0})
        kind["cases"] += 1
        kind["held"] += held(row)
        kind["found"] += bool(row.get("found"))
    measured = [row for row in rows if row.get("heldout")]
    compared = [row for row in measured if row.get("random", {}).get("draws")]
    return {
        "cases": len(rows),
        "held": len(good),
        "share": round(rate.share, 3),
        "interval": [round(rate.low, 3), round(rate.high, 3)],
        "goal_share": GOAL_SHARE,
        "found": sum(bool(row.get("found")) for row in rows),
        "heldout_questions": [sum(r["heldout"]["fixed"] for r in measured), sum(r["heldout"]["total"] for r in measured)],
        "controls_unchanged": [sum(r["controls"]["unchanged"] for r in measured), sum(r["controls"]["total"] for r in measured)],
        "median_neurons_of_held": statistics.median(r["neurons"] for r in good) if good else None,
        "goal_neurons": GOAL_NEURONS,
        "median_forward_passes": statistics.median(r["forward_passes"] for r in measured) if measured else None,
        "median_cpu_seconds": statistics.median(r["cpu_seconds"] for r in measured) if measured else None,
        "most_cpu_seconds": max((r["cpu_seconds"] for r in measured), default=None),
        "median_wall_seconds": statistics.median(r["seconds"] for r in measured) if measured else None,
        "goal_seconds": 60 * GOAL_MINUTES,
        "kinds": kinds,
        "compared": {
            "cases": len(compared),
            "search_heldout": _sum(compared, lambda r: r["heldout"]),
            "random_heldout": _sum(compared, lambda r: r["random"]["heldout"]),
            "baselines": {
                name: {
                    "heldout": _sum(compared, lambda r, n=name: _named(r, n)["heldout"]),
                    "controls": [
                        sum(_named(r, name)["controls"]["unchanged"] for r in compared),
                        sum(_named(r, name)["controls"]["total"] for r in compared),
                    ],
                }
                for name in ("same number by attribution", "top 20 by attribution", "mean-difference vector")
                if compared
            },
        },
    }


def _named(row: dict[str, Any], name: str) -> dict[str, Any]:
    wanted = f"top {row['neurons']} by attribution" if name == "same number by attribution" else name
    found: dict[str, Any] = row["baselines"][wanted]
    return found


def _sum(rows: Sequence[dict[str, Any]], part: Any) -> list[int]:
    return [sum(part(row)["fixed"] for row in rows), sum(part(row)["total"] for row in rows)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--budget", type=int, default=BUDGET)
    parser.add_argument("--compare", type=int, default=4, help="compare every n-th case with random sets and baselines; 0: none")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--only", default="")
    parser.add_argument("--shard", default="0/1", help="the i-th of n parts of the cases, counted from 0: one process a core")
    parser.add_argument("--summary", action="store_true")
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    if not options.summary:
        run(options)
    sys.stdout.write(json_text(summary(rows_of(options.results)), indent=2) + "\n")


if __name__ == "__main__":
    main()
