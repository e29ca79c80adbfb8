"""Made-up runs for tests of the trace store: no model is loaded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from neurons.core.clock import now
from neurons.core.steers import Steer
from neurons.core.types import Environment, Message, ModelRef, NeuronSide, Sampling, Segment
from traces.schema import TraceRecord
from traces.store import TraceStore

LAYERS, NEURONS, VOCAB = 3, 8, 100


def make_record(
    *, answer: str = "Paris.", prompt: str = "Capital of France?", n_prompt: int = 4, n_answer: int = 3, **changes: Any
) -> TraceRecord:
    model = ModelRef("default", "Tiny", "LlamaForCausalLM", "ab" * 32, "float32", "cpu", LAYERS, NEURONS, VOCAB, 64)
    environment = Environment("0.1.0", "2.13", "5.23", "3.11", "linux", 2, "float32", "cpu")
    record = TraceRecord(
        id="",
        created=now(),
        model=model,
        environment=environment,
        messages=(Message("system", "Be kind."), Message("user", prompt)),
        prompt_ids=tuple(1 + n % 90 for n in range(n_prompt)),
        answer_ids=tuple(range(11, 11 + n_answer)),
        segments=(Segment("user", 0, n_prompt), Segment("assistant", n_prompt, n_prompt + n_answer)),
        pieces=tuple(f"w{i} " for i in range(n_prompt + n_answer)),
        answer=answer,
        finish_reason="stop",
        sampling=Sampling(temperature=0.5, seed=7),
        steers=(Steer((NeuronSide(1, 2, "-"),), "set", 0.5, values=(-2.5,), name="x"),),
        seconds=1.25,
    )
    return replace(record, **changes)


def make_arrays(record: TraceRecord, *, seed: int = 0) -> dict[str, np.ndarray[Any, Any]]:
    rng = np.random.default_rng(seed)
    tokens = len(record.token_ids)
    probs = rng.random((tokens, 5)).astype(np.float32)
    return {
        "activations": rng.normal(size=(LAYERS, tokens, NEURONS)).astype(np.float16),
        "topk_ids": rng.integers(0, VOCAB, (tokens, 5)).astype(np.int32),
        "topk_probs": probs / probs.sum(1, keepdims=True),
        "rank": np.zeros(tokens, np.int32),
        "logprob": -rng.random(tokens).astype(np.float32),
        "entropy": rng.random(tokens).astype(np.float32),
    }


def save(store: TraceStore, **changes: object) -> TraceRecord:
    """One made-up trace in the store."""
    record = make_record(**changes)
    return store.save(record, make_arrays(record))


def a_chunk(store: TraceStore, trace_id: str) -> Path:
    """A file of its activations."""
    return store.root / trace_id / "tensors.zarr" / "activations" / "c" / "1" / "0" / "0"
