"""The disk budget of the trace store: what goes first, and what comes back bit for bit."""

from __future__ import annotations

import os

import numpy as np
import pytest

from tests.support.trace_runs import a_chunk, make_arrays, make_record, save
from traces import Evicted, TraceStore


def test_budget_evicts_oldest_unpinned_first(store: TraceStore) -> None:
    records = [save(store) for _ in range(5)]
    for age, record in enumerate(records):
        moment = 1_700_000_000 + age
        os.utime(store.root / record.id / "tensors.zarr" / "activations" / "zarr.json", (moment, moment))
    store.rebuild()
    one = store.summary(records[0].id).tensor_bytes
    store.update(records[0].id, pinned=True)
    store.delete(records[3].id)
    store.set_budget(2 * one)
    states = [store.activation_state(record.id) for record in records]
    assert states == ["stored", "evicted", "evicted", "evicted", "stored"]
    assert store.usage().activation_bytes <= 2 * one
    for record in (records[1], records[2]):
        assert store.verify(record.id).ok
        assert store.load(record.id).answer == "Paris."
        with pytest.raises(Evicted):
            store.read(record.id, "activations")
        assert store.read(record.id, "logprob").shape == (7,)
    newest = save(store)
    assert store.activation_state(newest.id) == "stored"
    assert store.activation_state(records[4].id) == "evicted"
    assert TraceStore(store.root, examples=None).budget_bytes == 2 * one


def test_evicted_activations_come_back_bit_for_bit(store: TraceStore) -> None:
    record = make_record()
    arrays = make_arrays(record)
    saved = store.save(record, arrays)
    manifest = (store.root / saved.id / "manifest.json").read_bytes()
    assert store.evict(saved.id) > 0
    assert store.put_activations(saved.id, arrays["activations"]) is True
    assert store.verify(saved.id).ok
    assert store.activation_state(saved.id) == "stored"
    np.testing.assert_array_equal(store.read(saved.id, "activations"), arrays["activations"])
    store.evict(saved.id)
    other = arrays["activations"] + np.float16(0.5)
    assert store.put_activations(saved.id, other, reason="another machine") is False
    assert store.verify(saved.id).ok
    np.testing.assert_array_equal(store.read(saved.id, "activations"), other)
    a_chunk(store, saved.id).unlink()
    assert not store.verify(saved.id).ok
    assert (store.root / saved.id / "manifest.json").read_bytes() == manifest
