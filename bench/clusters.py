"""How long clustering takes: `python bench/clusters.py [--sides 5000] [--rounds 5]`. Goal: 2 s for 5,000 neuron sides.

The sides are spread evenly over the shipped atlas; each round clusters and names them whole. Importing scikit-learn (once per process) is
timed apart.
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np

from neurons.atlas.store import SHIPPED, open_folder
from neurons.concepts.clusters import cluster_sides
from neurons.concepts.density import BREADTHS, ClusterSettings
from neurons.concepts.search import SearchIndex
from neurons.core.types import NeuronSide
from neurons.detectors.store import need_detectors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sides", type=int, default=5_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    index = SearchIndex(open_folder(SHIPPED))
    detectors = need_detectors(index.atlas.ref)
    rows = np.linspace(0, len(index.table) - 1, options.sides).astype(int)
    columns = (index.table[name].to_numpy()[rows] for name in ("layer", "index", "polarity"))
    sides = [NeuronSide(int(layer), int(number), polarity) for layer, number, polarity in zip(*columns, strict=True)]
    begun = time.perf_counter()
    import sklearn.cluster
    import sklearn.decomposition  # noqa: F401

    print(f"importing: {time.perf_counter() - begun:.2f} s, once")
    for breadth in BREADTHS:
        waits = []
        for _ in range(options.rounds):
            begun = time.perf_counter()
            found = cluster_sides(index, sides, settings=ClusterSettings(breadth=breadth), detectors=detectors)
            waits.append(time.perf_counter() - begun)
        print(
            f"{breadth}: median {statistics.median(waits):.2f} s of {len(waits)}, from {min(waits):.2f} to {max(waits):.2f} (goal 2 s); "
            f"{len(found.clusters) - 1} clusters, {found.noise:,} of {options.sides:,} sides in none"
        )


if __name__ == "__main__":
    main()
