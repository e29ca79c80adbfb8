"""Do the clusters of a trace cover it? `python bench/cluster_cover.py [--show]`

Twenty everyday prompts and ten odd ones (code, other languages, one word, emoji), each answered with up to 40 tokens. The 1,000 sides of
highest normalised activation, and of largest attribution to the first telling word of the answer, are clustered, fine and broad.
Printed: the share of activation and of attribution that lies in no cluster (goal: at most 40%), in how many prompts any named cluster came
out, and how well a cluster's name tells its members from the other sides (by concept: AUROC of t; goal .8).
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from neurons.atlas.quantiles import quantiles_for
from neurons.attribution.attribute import attribute, top_rows
from neurons.concepts.active import Active, active_sides, attributed_sides
from neurons.concepts.clusters import Cluster, cluster_sides
from neurons.concepts.density import BREADTHS, ClusterSettings
from neurons.concepts.search import SearchIndex, open_search
from neurons.core.types import Sampling, TargetSpec
from neurons.detectors.evaluate import auroc
from neurons.detectors.store import Detectors, need_detectors
from neurons.models.load import load_model
from neurons.models.loaded import LoadedModel
from neurons.tracing.record import run_trace
from neurons.tracing.words import word_positions

EVERYDAY = (
    "My tomato plants have yellow leaves. What should I do?",
    "How do I ask my landlord to fix the heating?",
    "Which river runs through Vienna?",
    "Write two sentences about a lighthouse in a storm.",
    "What is the difference between a virus and a bacterium?",
    "I have three apples and buy four more. I eat two. How many are left?",
    "Who painted the ceiling of the Sistine Chapel?",
    "Give me a recipe for pancakes without eggs.",
    "My best friend is moving away and I feel sad.",
    "Explain compound interest to a child.",
    "What should I pack for a week in Iceland in March?",
    "Translate 'good morning, my friend' into French.",
    "Why did the Roman Empire fall?",
    "How can I teach my dog to sit?",
    "What is the capital of Australia?",
    "Suggest a name for a band that plays jazz.",
    "How does a bill become a law?",
    "My knee hurts after running. Should I rest?",
    "Is a whale a fish?",
    "Tell me how a bicycle stays upright.",
)
ODD = (
    "def f(n):\n    return n if n < 2 else f(n - 1) + f(n - 2)\nWhat does f(10) return?",
    "SELECT name, COUNT(*) FROM orders GROUP BY name HAVING COUNT(*) > 3;",
    "今天天气怎么样？",
    "Привет, как дела?",
    "Hello",
    "?",
    "\U0001f600\U0001f600\U0001f44d",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "1 2 3 4 5 6 7 8 9",
    "\\int_0^1 x^2 \\, dx =",
)
TOP = 1_000
NEW_TOKENS = 40


@dataclass
class Tally:
    """What came out for one kind of weight and breadth."""

    noise: list[float] = field(default_factory=list)
    named: list[int] = field(default_factory=list)
    unnamed: list[int] = field(default_factory=list)
    tells: list[float] = field(default_factory=list)


def sides_of(loaded: LoadedModel, prompt: str, detectors: Detectors) -> tuple[dict[str, Active], tuple[int, ...]]:
    """The sides that one answered prompt is about, by what they are weighed, and the languages that it is in."""
    record, run = run_trace(loaded, prompt, sampling=Sampling(max_new_tokens=NEW_TOKENS))
    first = len(record.prompt_ids)
    words = word_positions(record)
    target = next((n for n in words if n >= first and record.pieces[n].strip().isalnum()), first)
    result = attribute(loaded, record.token_ids, TargetSpec(target), prompt_tokens=first)
    acts_LTI = np.asarray(run.acts_LTI, dtype=np.float32)
    found = {
        "activation": active_sides(acts_LTI, quantiles_for(loaded).norm_2LI, tokens=words, top=TOP),
        "attribution": attributed_sides(top_rows(result, 4 * TOP).rows, top=TOP),
    }
    return found, detectors.spoken(acts_LTI, words)


def tells(cluster: Cluster, others: Sequence[Any], detectors: Detectors) -> float | None:
    """AUROC of the members against the other sides, by how surely each side's strongest concept is the one (or the field) that is named."""
    known = {name: [n] for n, name in enumerate(detectors.names)}
    by_field: dict[str, list[int]] = defaultdict(list)
    for n, name in enumerate(detectors.fields):
        by_field[name].append(n)
    label = cluster.label.removesuffix(": other concepts").removesuffix(", by likeness")
    meant = set(known.get(label, ())) | (set(by_field[label]) if label in by_field else set())
    if not meant:
        return None

    def strength(side: Any) -> float:
        known = (detectors.strongest_concept(side), detectors.strongest_topic(side))
        return max((one[1] for one in known if one is not None and one[0] in meant), default=0.0)

    member, other = ([strength(side) for side in some] for some in (cluster.sides, others))
    return float(auroc(np.array(member, dtype=np.float32), np.array(other, dtype=np.float32))[0]) if other else None


def count(tally: Tally, index: SearchIndex, active: Active, breadth: str, detectors: Detectors, spoken: tuple[int, ...], show: str) -> None:
    """Cluster one prompt's sides and add what came out."""
    found = cluster_sides(
        index,
        active.sides,
        weights=active.weights,
        settings=ClusterSettings(breadth=breadth),
        detectors=detectors,
        spoken=spoken,
    ).clusters
    groups = [one for one in found if one.kind != "noise"]
    tally.noise.append(sum(one.share for one in found if one.kind == "noise"))
    tally.named.append(sum(not one.label.startswith("unnamed") for one in groups))
    tally.unnamed.append(sum(one.label.startswith("unnamed") for one in groups))
    for one in groups:
        inside = set(one.sides)
        value = tells(one, [side for side in active.sides if side not in inside], detectors)
        if value is not None:
            tally.tells.append(value)
    if show:
        print(f"{show}: noise {tally.noise[-1]:.0%}; " + ", ".join(f"{one.label} {one.share:.1%}" for one in groups[:8]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="default")
    parser.add_argument("--show", action="store_true", help="print each prompt's largest clusters")
    arguments = parser.parse_args()
    loaded = load_model(arguments.model)
    index, detectors = open_search(loaded.ref), need_detectors(loaded.ref)
    for kind, prompts in (("everyday", EVERYDAY), ("odd", ODD)):
        tallies: dict[tuple[str, str], Tally] = defaultdict(Tally)
        for prompt in prompts:
            found, spoken = sides_of(loaded, prompt, detectors)
            for by, active in found.items():
                for breadth in BREADTHS:
                    show = f"{prompt[:24]!r} {by} {breadth}" if arguments.show else ""
                    count(tallies[by, breadth], index, active, breadth, detectors, spoken, show)
        for (by, breadth), tally in tallies.items():
            noise = np.array(tally.noise)
            print(
                f"{kind}, by {by}, {breadth}: in no cluster, median {np.median(noise):.0%}, worst {noise.max():.0%}, "
                f"at most 40% in {(noise <= 0.4).sum()} of {len(noise)}; named clusters {min(tally.named)} to {max(tally.named)}, "
                f"unnamed {min(tally.unnamed)} to {max(tally.unnamed)}; names by concept or field tell with an AUROC of at least .8 in "
                f"{np.mean(np.array(tally.tells) >= 0.8):.0%} of {len(tally.tells)}"
            )


if __name__ == "__main__":
    main()
