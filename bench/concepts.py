"""Is what concept search returns true of the model? For each concept: do the top 20 neurons found fire on sentences about it?

Run: python bench/concepts.py [--split test|dev] [--top 20] [--json FILE]

For each concept of bench/data/concepts.json the search gets its name only. The model then runs the concept's sentences and the controls
(24 neutral sentences, and one sentence of each other concept of the split); a neuron's activation on a sentence is its strongest at any
token. AUROC: the chance that a sentence about the concept excites the neuron more than a control. Beside it: as many random neurons, and
the neurons that example-contrast search picks from half the sentences, measured on the other half (both ways).
Goal: median over the test concepts 0.85. "dev" concepts may be looked at while the search is worked on; "test" ones only here.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np

from neurons.atlas.store import open_atlas, open_folder
from neurons.concepts.contrast import auroc, effect_size, text_strengths
from neurons.concepts.embed import embed_query
from neurons.concepts.search import SearchIndex
from neurons.core.json_text import json_text
from neurons.models.load import load_model

DATA = Path(__file__).parent / "data" / "concepts.json"


def main() -> None:
    """Print a row a concept and the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="default")
    parser.add_argument("--atlas", type=Path, help="an atlas's folder; default: the model's atlas")
    parser.add_argument("--split", choices=("dev", "test"), default="test")
    parser.add_argument("--top", type=int, default=20)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    data = json.loads(DATA.read_text(encoding="utf-8"))
    concepts = [concept for concept in data["concepts"] if concept["split"] == given.split]
    loaded = load_model(given.model)
    atlas = open_folder(given.atlas, ref=loaded.ref) if given.atlas else open_atlas(loaded.ref)
    if atlas is None:
        raise SystemExit("the model has no atlas")
    index = SearchIndex(atlas)
    sentences = [sentence for concept in concepts for sentence in concept["sentences"]]
    strengths = text_strengths(loaded, [*sentences, *data["controls"]])
    first = np.cumsum([0, *(len(concept["sentences"]) for concept in concepts)])
    size = loaded.n_layers * loaded.n_neurons
    alive = np.flatnonzero(strengths.max(axis=0) > 0)
    rng = np.random.default_rng(0)
    rows, seconds = [], []
    for n, concept in enumerate(concepts):
        embed_query(concept["concept"])
        started = time.perf_counter()
        hits = index.search(concept["concept"], top=given.top)
        seconds.append(time.perf_counter() - started)
        found = np.array([(hit.polarity == "-") * size + hit.layer * loaded.n_neurons + hit.index for hit in hits])
        mine = strengths[first[n] : first[n + 1]]
        others = [first[m] + n % len(concepts[m]["sentences"]) for m in range(len(concepts)) if m != n]
        controls = np.concatenate([strengths[first[-1] :], strengths[others]])
        halves = [(mine[a::2], controls[a::2], mine[1 - a :: 2], controls[1 - a :: 2]) for a in (0, 1)]
        contrasted = []
        for fit_on, against, tested, tested_against in halves:
            best = np.argsort(-effect_size(np.log1p(fit_on), np.log1p(against)), kind="stable")[: given.top]
            contrasted.append(float(np.median(auroc(tested[:, best], tested_against[:, best]))))
        rows.append(
            {
                "concept": concept["concept"],
                "search": float(np.median(auroc(mine[:, found], controls[:, found]))),
                "random": float(np.median(auroc(mine[:, (some := rng.choice(alive, given.top))], controls[:, some]))),
                "contrast": float(np.mean(contrasted)),
            }
        )
        print(
            f"{concept['concept']:42} search {rows[-1]['search']:.2f}  random {rows[-1]['random']:.2f}  contrast {rows[-1]['contrast']:.2f}"
        )
    medians = {name: float(np.median([row[name] for row in rows])) for name in ("search", "random", "contrast")}
    shown = "  ".join(f"{name} {value:.3f}" for name, value in medians.items())
    print(f"median of {len(rows)} {given.split} concepts, top {given.top}: {shown}")
    print(
        f"at least 0.85: {sum(row['search'] >= 0.85 for row in rows)} of {len(rows)}; "
        f"a search over {len(index.table):,} rows: {np.median(seconds):.3f} s"
    )
    if given.json:
        given.json.write_text(
            json_text({"model": loaded.ref.name, "atlas_tokens": atlas.tokens, "medians": medians, "rows": rows}, indent=1)
        )


if __name__ == "__main__":
    main()
