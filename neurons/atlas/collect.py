"""One pass of a model over a corpus: every layer, both sides of every neuron, in blocks that can be stopped, resumed and shared out.

A folder holds the plan (corpus, settings) and one subfolder a shard. Shard i of n does the blocks whose number leaves i when divided by n.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from numpy.typing import NDArray
from torch import Tensor

from neurons.atlas.accumulate import Batch
from neurons.atlas.corpus import SKIP, Corpus
from neurons.atlas.plan import CollectSettings, Plan, make_plan
from neurons.atlas.state import CollectState, open_body
from neurons.core.errors import Cancelled, InvalidInput, NotFound, StoreError
from neurons.core.progress import Progress, no_progress
from neurons.core.types import ModelRef
from neurons.models.loaded import LoadedModel
from neurons.runs.hooks import run_forward
from neurons.storage.files import atomic_file, disk_errors, write_json

TABLE_BYTES = 600_000_000
"""Memory for the two token tables: what keeps the embedded model under 3 GB in all."""
CHECKPOINT_SECONDS = 300.0
_CALIBRATION_WINDOWS = 8


def prepare(
    loaded: LoadedModel, corpus: Corpus, folder: Path, *, settings: CollectSettings | None = None, table_bytes: int = TABLE_BYTES
) -> Plan:
    """Write the plan into `folder` (or check the one there is the same) and return it. Raises `InvalidInput`, `StoreError`."""
    settings = (settings or CollectSettings()).fitting(loaded.ref, table_bytes)
    plan = make_plan(corpus, loaded.ref, settings)
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "plan.lock"):
        path = folder / "plan.json"
        if path.exists():
            there = json.loads(path.read_text(encoding="utf-8"))
            if there["fingerprint"] != plan.fingerprint:
                raise StoreError(f"{folder} holds a collection of another corpus, model or settings; choose another folder or remove it")
            return plan
        corpus.save(folder / "corpus.zarr.zip")
        with disk_errors(folder), atomic_file(folder / "exponents.npy") as stream:
            np.save(stream, _calibrate(loaded, plan))
        text = {
            "fingerprint": plan.fingerprint,
            "model": asdict(loaded.ref),
            "settings": asdict(settings),
            "widths": [s.width for s in loaded.sites],
        }
        write_json(path, text)
    return plan


def open_plan(folder: Path) -> tuple[Plan, tuple[int, ...], NDArray[np.int16]]:
    """The plan in `folder`, the layers' widths and the grids. Raises `NotFound` when there is none."""
    path = folder / "plan.json"
    if not path.exists():
        raise NotFound(f"{folder} holds no collection; start one with `neuronscope atlas collect`")
    given = json.loads(path.read_text(encoding="utf-8"))
    plan = make_plan(Corpus.load(folder / "corpus.zarr.zip"), ModelRef(**given["model"]), CollectSettings(**given["settings"]))
    if plan.fingerprint != given["fingerprint"]:
        raise StoreError(f"the plan in {folder} does not match its corpus; remove the folder and collect again")
    return plan, tuple(given["widths"]), np.load(folder / "exponents.npy")


def shard_folder(folder: Path, shard: int, shards: int) -> Path:
    """Where one shard of a collection is kept."""
    return folder / f"shard-{shard}-of-{shards}"


def collect(
    loaded: LoadedModel,
    folder: Path,
    *,
    shard: int = 0,
    shards: int = 1,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    stop_after_blocks: int | None = None,
    progress: Progress = no_progress,
) -> Path:
    """Do (or go on with) one shard of the plan in `folder`. Returns the shard's folder.

    Cancelling through `progress` or a kill loses at most `checkpoint_seconds` of work; what follows is bit for bit what it would have been.
    """
    if not 0 <= shard < shards:
        raise InvalidInput(f"shard {shard}/{shards} does not exist; number the {shards} shards from 0 to {shards - 1}", field="shard")
    plan, widths, exponent_LI = open_plan(folder)
    if loaded.ref.weights_hash != plan.model.weights_hash or loaded.ref.dtype != plan.model.dtype:
        raise InvalidInput(f"this collection was begun with {plan.model.name} ({plan.model.dtype}); load the same model", field="model")
    target = shard_folder(folder, shard, shards)
    state = CollectState(plan, widths, exponent_LI, loaded.device)
    state.load(target)
    body = open_body(target, int(plan.body_row_R.max()) + 1, loaded.n_layers, loaded.n_neurons)
    blocks = [block for block in range(shard, plan.n_blocks, shards) if not state.done_blocks[block]]
    total = sum(plan.block_tokens(block) for block in range(shard, plan.n_blocks, shards))
    done = state.tokens
    saved, started, first = time.monotonic(), time.monotonic(), done
    try:
        for number, block in enumerate(blocks):
            if stop_after_blocks is not None and number >= stop_after_blocks:
                break
            _collect_block(loaded, state, block, body)
            state.done_blocks[block] = True
            done += plan.block_tokens(block)
            seconds = time.monotonic() - started
            if time.monotonic() - saved > checkpoint_seconds:
                body.flush()  # type: ignore[attr-defined]
                state.save(target)
                saved = time.monotonic()
            progress(done, total, f"tokens, {(done - first) / max(seconds, 1e-9):.0f}/s, {_left(total - done, done - first, seconds)}")
    except Cancelled:
        body.flush()  # type: ignore[attr-defined]
        state.save(target)
        raise
    body.flush()  # type: ignore[attr-defined]
    state.save(target)
    return target


def _collect_block(loaded: LoadedModel, state: CollectState, block: int, body: NDArray[np.float16]) -> None:
    pad = min(loaded.eos_ids, default=0)
    for windows in state.plan.block_batches(block):
        batch = Batch.of(state.plan, windows, pad=pad, device=loaded.device)
        run_forward(loaded, batch.ids_BT, record=recorder(state, batch, body), logits_to_keep=1)


def recorder(state: CollectState, batch: Batch, body: NDArray[np.float16]) -> Callable[[int, Tensor], None]:
    """What `run_forward` calls with each layer's activations."""

    def record(layer: int, acts_BTI: Tensor) -> None:
        state.layers[layer].add(batch, acts_BTI, body[:, layer, : state.widths[layer]])

    return record


def _calibrate(loaded: LoadedModel, plan: Plan) -> NDArray[np.int16]:
    """For each neuron (L, I) the power of two that its activations are multiplied with before they are added as whole numbers.

    The largest activation of a few windows lands near 2^12, eight times below where values are clamped.
    """
    largest_LI = np.zeros((loaded.n_layers, loaded.n_neurons), dtype=np.float32)

    def record(layer: int, acts_BTI: Tensor) -> None:
        top_I = acts_BTI[:, SKIP:].float().abs().amax((0, 1)).cpu().numpy()
        largest_LI[layer, : len(top_I)] = np.maximum(largest_LI[layer, : len(top_I)], top_I)

    for window in range(min(_CALIBRATION_WINDOWS, plan.corpus.n_describe)):
        run_forward(loaded, torch.from_numpy(plan.corpus.sequence(window))[None], record=record, logits_to_keep=1)
    return np.asarray(np.floor(np.log2(4096 / np.maximum(largest_LI, 1e-6))), dtype=np.int16)


def _left(tokens: int, done: int, seconds: float) -> str:
    if done <= 0:
        return "time left unknown"
    minutes = tokens / done * seconds / 60
    return f"{minutes:.0f} min left" if minutes >= 1 else "under a minute left"


def collection_info(folder: Path) -> dict[str, Any]:
    """What the folder's plan is and how far each shard has come."""
    plan, _, _ = open_plan(folder)
    shards = {}
    for path in sorted(folder.glob("shard-*-of-*/current.json")):
        pointer = json.loads(path.read_text(encoding="utf-8"))
        shards[path.parent.name] = {"blocks": len(pointer["blocks"]), "tokens": pointer["tokens"]}
    return {
        "model": plan.model.name,
        "tokens": plan.corpus.counted_tokens,
        "blocks": plan.n_blocks,
        "shards": shards,
        "sources": plan.corpus.shares(),
    }
