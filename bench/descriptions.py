"""How well do descriptions predict held-out activations, beside a five-token list, a shuffled null and the ceiling?

Run: python bench/descriptions.py [--model default] [--tokens 49152] [--layers 0,10,20 | all] [--secondary] [--work FOLDER] [--json FILE]

Medians a layer, over sides not called unclear. Every method is scored on the same uniform windows of documents that no description saw.
- ours: the phrase, parsed from its text; nothing but its words is known to the predictor
- five: the five commonest peak tokens of the side's 24 strongest places, all alike (what token lists show)
- null: the description of another neuron of the layer; excess is the score less its null
- ceiling: a hidden table of the means at each token and after each previous token, fitted on the describing text
Goal: ours' excess at least twice five's and half the ceiling's; at most a third unclear.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from neurons.atlas.store import open_atlas, open_folder
from neurons.core.errors import InvalidInput
from neurons.core.home import subfolder
from neurons.core.json_text import json_text
from neurons.describing.evidence import places
from neurons.describing.recording import record_windows
from neurons.describing.score import Scores, five_token_patterns, score_layer
from neurons.describing.survey import heldout_rows, piece_table, read_windows
from neurons.descriptions.features import Part
from neurons.descriptions.patterns import Pattern, predict
from neurons.descriptions.render import parse
from neurons.descriptions.word_classes import key
from neurons.models.load import load_model

BLOCK = 384


def five_tokens(keys: list[list[str]]) -> list[Pattern | None]:
    """Five-token lists as patterns of one level."""
    lists = [[name for name in names if name.strip()] for names in five_token_patterns(keys)]
    return [Pattern(tuple((Part("at", "word", name), 3) for name in names)) if names else None for names in lists]


def parsed(text: str) -> Pattern | None:
    """The pattern of a description, None for unclear ones and free text."""
    try:
        return parse(text)
    except InvalidInput:
        return None


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="default")
    parser.add_argument("--atlas", type=Path, help="an atlas's folder; default: the model's atlas")
    parser.add_argument("--tokens", type=int, default=49_152)
    parser.add_argument("--layers", default="all")
    parser.add_argument("--secondary", action="store_true")
    parser.add_argument("--work", type=Path)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    loaded = load_model(given.model)
    atlas = open_folder(given.atlas, ref=loaded.ref) if given.atlas else open_atlas(loaded.ref)
    table = atlas.descriptions() if atlas is not None else None
    if atlas is None or table is None:
        raise SystemExit("the model has no described atlas")
    pieces = piece_table(loaded)
    keys_V = [key(piece) for piece in pieces]
    held = read_windows(atlas.corpus, heldout_rows(atlas.corpus, given.tokens), pieces)
    corpus_key = f"{atlas.corpus.fingerprint}:{loaded.ref.weights_hash}:{loaded.ref.dtype}:held:{len(held.ids)}"
    folder = given.work or subfolder("work") / "bench-descriptions"
    started = time.monotonic()
    recording = record_windows(
        loaded,
        held,
        folder,
        key=corpus_key,
        progress=lambda d, n, m: print(f"\r{d}/{n} {m}", end="", flush=True) if d % 4096 < 2048 else None,
    )
    print(f"\n{held.tokens} held-out tokens of {len(set(held.documents))} documents, {time.monotonic() - started:.0f} s")
    names = ["ours", "null", "five", "five null", "ceiling", "ceil null"]
    print("layer  unclear " + " ".join(f"{n:>9}" for n in names) + "  excess: ours  five  ceil | x five  of ceil | AUPRC ours null five")
    rows = []
    layers = range(loaded.n_layers) if given.layers == "all" else [int(n) for n in given.layers.split(",")]
    gathered: list[dict[str, np.ndarray]] = []
    for layer in layers:
        mine = table[table["layer"] == layer]
        order = {(int(i), str(p)): n for n, (i, p) in enumerate(zip(mine["index"], mine["polarity"], strict=True))}
        found = places(atlas.corpus, atlas.exemplar_arrays(layer))
        columns: dict[str, list[np.ndarray]] = {}
        for at in range(0, loaded.n_neurons, BLOCK):
            some = range(at, min(at + BLOCK, loaded.n_neurons))
            at_rows = np.array([order[(i, sign)] for sign in "+-" for i in some])
            stacked = np.array([i + side * loaded.n_neurons for side in (0, 1) for i in some])
            truth = recording.sides(layer, slice(some.start, some.stop))
            ours = [parsed(text) for text in mine["description"].iloc[at_rows]]
            five = five_tokens([[keys_V[token] for token in row if token >= 0] for row in found.token_NK[stacked]])
            parts: dict[Part, int] = {}
            for pattern in (*ours, *five):
                for part, _ in pattern.parts if pattern else ():
                    parts.setdefault(part, len(parts))
            features = held.features(parts, range(len(held.ids)))
            clear = np.array([pattern is not None for pattern in ours])
            window_T = held.chunk_T() if given.secondary else None
            scored: list[Scores] = [
                score_layer(predict(patterns, features, parts), truth, usable=usable, window_T=window_T, seed=layer)
                for patterns, usable in ((ours, clear), (five, np.array([pattern is not None for pattern in five])))
            ]
            values = {
                "clear": clear,
                "ours": scored[0].pearson,
                "null": scored[0].pearson_null,
                "five": np.nan_to_num(scored[1].pearson),
                "five null": np.nan_to_num(scored[1].pearson_null),
                "ceiling": mine["ceiling"].to_numpy()[at_rows],
                "ceil null": mine["ceiling_null"].to_numpy()[at_rows],
                "auprc": scored[0].auprc,
                "auprc null": scored[0].auprc_null,
                "auprc five": np.nan_to_num(scored[1].auprc),
                "top": scored[0].top_random,
                "top null": scored[0].top_random_null,
                "top five": scored[1].top_random,
            }
            for name, column in values.items():
                columns.setdefault(name, []).append(column)
        layer_values = {name: np.concatenate(column) for name, column in columns.items()}
        gathered.append(layer_values)
        rows.append(report(str(layer), layer_values, secondary=given.secondary))
    if len(gathered) > 1:
        both = {name: np.concatenate([values[name] for values in gathered]) for name in gathered[0]}
        rows.append(report("all", both, secondary=given.secondary))
    if given.json:
        given.json.write_text(
            json_text({"model": loaded.ref.name, "tokens": held.tokens, "atlas_tokens": atlas.tokens, "rows": rows}, indent=1)
        )


def report(layer: str, values: dict[str, np.ndarray], *, secondary: bool) -> dict[str, float | str]:
    """Print and return one row of medians."""
    clear = values["clear"]

    def median(name: str) -> float:
        return float(np.nanmedian(values[name][clear]))

    def excess(name: str, null: str) -> float:
        return float(np.nanmedian(values[name][clear] - values[null][clear]))

    row: dict[str, float | str] = {"layer": layer, "unclear": 1 - float(clear.mean())}
    row |= {name: median(name) for name in values if name != "clear" and (secondary or not name.startswith("top"))}
    ours, five, ceiling = excess("ours", "null"), excess("five", "five null"), excess("ceiling", "ceil null")
    row |= {
        "excess ours": ours,
        "excess five": five,
        "excess ceiling": ceiling,
        "times five": ours / max(five, 1e-9),
        "of ceiling": ours / ceiling,
    }
    shown = [median(name) for name in ("ours", "null", "five", "five null", "ceiling", "ceil null")]
    areas = [median(name) for name in ("auprc", "auprc null", "auprc five")]
    print(
        f"{layer:>5}  {row['unclear']:7.1%} "
        + " ".join(f"{value:9.3f}" for value in shown)
        + f"         {ours:5.3f} {five:5.3f} {ceiling:5.3f} | {ours / max(five, 1e-9):6.1f} {ours / ceiling:8.0%} | "
        + " ".join(f"{value:.4f}" for value in areas)
        + (f" | top+random: {median('top'):.3f} null {median('top null'):.3f} five {median('top five'):.3f}" if secondary else ""),
        flush=True,
    )
    return row


if __name__ == "__main__":
    main()
