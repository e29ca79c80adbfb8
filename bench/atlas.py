"""Collecting an atlas against a bare body forward of the same windows, in the same run: `python bench/atlas.py [--blocks N] [--threads N]`.

The bare pass runs the model's body on the same padded batches and keeps nothing (no unembedding, no hooks). Rounds alternate, so that other
load on the machine hits both alike. Also printed: the process's peak memory and the time to open the shipped atlas. Goals: 0.85, 3 GB, 2 s.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import tempfile
import time
from pathlib import Path

import torch

from neurons.atlas.accumulate import Batch
from neurons.atlas.collect import open_plan, prepare, recorder
from neurons.atlas.corpus import Corpus
from neurons.atlas.state import CollectState, open_body
from neurons.atlas.store import SHIPPED, open_folder
from neurons.core.json_text import json_text
from neurons.models.load import load_model
from neurons.models.loaded import LoadedModel
from neurons.runs.hooks import run_forward


def bare(loaded: LoadedModel, batch: Batch) -> float:
    """Processor seconds of the body alone."""
    begun = time.process_time()
    with torch.no_grad():
        loaded.model.base_model(input_ids=batch.ids_BT.to(loaded.device), use_cache=False)
    return time.process_time() - begun


def collecting(loaded: LoadedModel, state: CollectState, batch: Batch, body: object) -> float:
    """Processor seconds of the body with everything the collector does."""
    begun = time.process_time()
    run_forward(loaded, batch.ids_BT, record=recorder(state, batch, body), logits_to_keep=1)  # type: ignore[arg-type]
    return time.process_time() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--blocks", type=int, default=3, help="blocks of 64 windows (about 16,000 tokens) after the first, which warms up")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--corpus", type=Path, default=SHIPPED / "corpus.zarr.zip")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    loaded = load_model("default", device="cpu")
    with tempfile.TemporaryDirectory() as folder:
        prepare(loaded, Corpus.load(options.corpus), Path(folder))
        plan, widths, exponents = open_plan(Path(folder))
        state = CollectState(plan, widths, exponents, loaded.device)
        for layer in state.layers:  # pages that a whole run comes to touch, so that the peak is that of a whole run
            layer.token_UI.zero_()
            layer.previous_UI.zero_()
        body = open_body(Path(folder) / "shard", int(plan.body_row_R.max()) + 1, loaded.n_layers, loaded.n_neurons)
        rows = []
        plain: list[float]
        full: list[float]
        for block in range(options.blocks + 1):
            tokens, plain, full = plan.block_tokens(block), [], []
            for number, windows in enumerate(plan.block_batches(block)):
                batch = Batch.of(plan, windows, pad=0, device=loaded.device)
                order = (bare, collecting) if number % 2 else (collecting, bare)
                for which in order:
                    seconds = bare(loaded, batch) if which is bare else collecting(loaded, state, batch, body)
                    (plain if which is bare else full).append(seconds)
            state.merge_pending()
            rows.append((tokens / sum(plain), tokens / sum(full), sum(plain) / sum(full)))
            print(
                f"block {block}: bare {rows[-1][0]:.0f} tokens/s of processor time, collecting {rows[-1][1]:.0f}, ratio {rows[-1][2]:.3f}",
                flush=True,
            )
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    begun = time.perf_counter()
    atlas = open_folder(SHIPPED) if (SHIPPED / "manifest.json").exists() else None
    if atlas is not None:
        atlas.quantile(1e-5)
        atlas.exemplars(10, 0, "+")
    result = {
        "ratio_first_block": round(rows[0][2], 3),
        "ratio": round(statistics.median(row[2] for row in rows[1:]), 3),
        "goal_ratio": 0.85,
        "peak_memory_gb": round(memory, 2),
        "goal_memory_gb": 3.0,
        "open_seconds": round(time.perf_counter() - begun, 2) if atlas else None,
        "goal_open_seconds": 2.0,
    }
    print(json_text(result, indent=1))


if __name__ == "__main__":
    main()
