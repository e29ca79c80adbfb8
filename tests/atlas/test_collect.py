"""The collector against brute force, and its promises: exact merges, resume bit for bit, partials that refuse what does not fit."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

from neurons.atlas.collect import collect, open_plan, prepare, shard_folder
from neurons.atlas.collection import Collection, merge
from neurons.atlas.plan import CollectSettings, make_plan
from neurons.core.errors import Cancelled, InvalidInput, StoreError
from neurons.runs.hooks import run_forward
from tests.support.atlases import SETTINGS, assert_same_state, collected, load_state, tiny_corpus
from tests.support.tiny_models import tiny_model


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Sums depend on the number of threads in the last bit; a subprocess of these tests must use the same."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def every_activation(loaded, corpus):  # type: ignore[no-untyped-def]
    """acts (L, N, I) at every counted describing position, with its window, position, token and previous token."""
    acts = [[] for _ in range(loaded.n_layers)]
    rows = []
    for window in range(corpus.n_describe):
        ids, start = corpus.sequence(window), max(4, int(corpus.start_S[window]))
        run_forward(loaded, torch.from_numpy(ids)[None], record=lambda n, a, start=start: acts[n].append(a[0, start:].clone()))
        rows += [(window, at, ids[at], ids[at - 1]) for at in range(start, len(ids))]
    return torch.stack([torch.cat(layer) for layer in acts]).numpy(), np.array(rows)


@pytest.mark.parametrize("arch", ["llama", "gpt2"])
def test_everything_equals_brute_force(arch: str, tmp_path: Path) -> None:
    loaded, corpus = tiny_model(arch), tiny_corpus(24)
    collected(loaded, corpus, tmp_path)
    merge(tmp_path)
    collection = Collection(tmp_path)
    acts_LNI, rows = every_activation(loaded, corpus)
    windows, positions, tokens, previous = rows.T
    place_of = {(int(window), int(at)): row for row, (window, at) in enumerate(zip(windows, positions, strict=True))}
    assert collection.tokens == len(rows) == corpus.counted_tokens
    assert np.allclose(collection.mean_LI(), acts_LNI.mean(1), atol=1e-4)
    for layer in range(loaded.n_layers):
        values = collection.values_2IK(layer)
        sorted_NI = np.sort(acts_LNI[layer], axis=0)
        assert np.allclose(values[0], sorted_NI[::-1][:32].T, rtol=1e-4, atol=1e-6)
        assert np.allclose(values[1], sorted_NI[:32].T, rtol=1e-4, atol=1e-6)
        _, sequence, position = collection.exemplars_2IK(layer)
        for index in range(0, loaded.n_neurons, 7):
            for side, sign in ((0, 1), (1, -1)):
                wanted = brute_exemplars(acts_LNI[layer, :, index] * sign, windows, positions, corpus.document_S)
                found = list(zip(sequence[side, index].tolist(), position[side, index].tolist(), strict=True))
                # A batch rounds otherwise than one window alone: equals may change places, so their activations must be the same.
                acts_N = acts_LNI[layer, :, index]
                assert np.allclose([acts_N[place_of[at]] for at in found], [acts_N[place_of[at]] for at in wanted], rtol=1e-5, atol=1e-7)
                assert len(set(found)) == len(found)
        for (ids_U, counts_U, mean_UI), key in ((collection.token_means(layer), tokens), (collection.previous_means(layer), previous)):
            for row in (0, 5, len(ids_U) - 1):
                where = np.flatnonzero(key == ids_U[row])[: SETTINGS.occurrences]
                assert counts_U[row] == len(where)
                assert np.allclose(mean_UI[row], acts_LNI[layer, where].mean(0), atol=2e-3 * np.abs(acts_LNI[layer]).max())
        at, sample = collection.body(layer)
        where = {(w, p): n for n, (w, p) in enumerate(zip(windows.tolist(), positions.tolist(), strict=True))}
        window_T = np.searchsorted(corpus.offset_S1, at, side="right") - 1
        picked = [where[int(w), int(a - corpus.offset_S1[w])] for w, a in zip(window_T, at, strict=True)]
        assert np.allclose(sample, acts_LNI[layer, picked], rtol=2e-3, atol=1e-4)


def brute_exemplars(values, windows, positions, document_S):  # type: ignore[no-untyped-def]
    found, used, seen = [], {}, set()
    for row in np.lexsort((windows, -values)):
        window, document = int(windows[row]), int(document_S[windows[row]])
        if window not in seen and used.get(document, 0) < SETTINGS.per_document:
            seen.add(window)
            used[document] = used.get(document, 0) + 1
            found.append((window, int(positions[row])))
        if len(found) == SETTINGS.exemplars:
            break
    return found


def test_shards_in_any_order_equal_one_process(tmp_path: Path) -> None:
    loaded, corpus = tiny_model(), tiny_corpus()
    collected(loaded, corpus, tmp_path / "one")
    prepare(loaded, corpus, tmp_path / "many", settings=SETTINGS)
    for shard in (2, 0, 1):
        collect(loaded, tmp_path / "many", shard=shard, shards=3)
    whole = load_state(tmp_path / "one")
    forward = load_state(tmp_path / "many", 0, 3)
    forward.add(load_state(tmp_path / "many", 1, 3))
    forward.add(load_state(tmp_path / "many", 2, 3))
    backward = load_state(tmp_path / "many", 2, 3)
    other = load_state(tmp_path / "many", 1, 3)
    other.add(load_state(tmp_path / "many", 0, 3))
    backward.add(other)
    assert_same_state(whole, forward)
    assert_same_state(whole, backward)
    with pytest.raises(StoreError, match="same blocks"):
        forward.add(load_state(tmp_path / "many", 0, 3))


@pytest.mark.slow
def test_cancelled_and_resumed_is_bit_identical(tmp_path: Path) -> None:
    loaded, corpus = tiny_model(), tiny_corpus()
    collected(loaded, corpus, tmp_path / "one")
    prepare(loaded, corpus, tmp_path / "two", settings=SETTINGS)

    def stop(done: int, total: int | None, message: str) -> None:
        assert total
        assert 0 < done <= total
        assert "left" in message
        raise Cancelled("enough")

    for _ in range(3):
        with pytest.raises(Cancelled):
            collect(loaded, tmp_path / "two", progress=stop)
    collect(loaded, tmp_path / "two")
    assert_same_state(load_state(tmp_path / "one"), load_state(tmp_path / "two"))


KILLED = """
import sys, torch
from pathlib import Path
torch.set_num_threads(1)
from neurons.atlas.collect import collect, prepare
from tests.support.atlases import SETTINGS, tiny_corpus
from tests.support.tiny_models import tiny_model
loaded, folder = tiny_model(), Path(sys.argv[1])
prepare(loaded, tiny_corpus(120), folder, settings=SETTINGS)
collect(loaded, folder, checkpoint_seconds=0.0, progress=lambda done, total, text: print(done, flush=True))
"""


@pytest.mark.slow
def test_killed_without_warning_and_resumed_is_bit_identical(tmp_path: Path) -> None:
    loaded, corpus = tiny_model(), tiny_corpus(120)
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path / "two")], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for _ in range(3):
        assert process.stdout.readline(), "the collection ended before it could be killed"
    time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    begun = load_state(tmp_path / "two")
    assert 0 < begun.done_blocks.sum() < len(begun.done_blocks)
    collect(loaded, tmp_path / "two")
    collected(loaded, corpus, tmp_path / "one")
    assert_same_state(load_state(tmp_path / "one"), load_state(tmp_path / "two"))


def test_an_unfinished_collection_counts_its_own_tokens(tmp_path: Path) -> None:
    loaded, corpus = tiny_model(), tiny_corpus()
    plan = prepare(loaded, corpus, tmp_path, settings=SETTINGS)
    collect(loaded, tmp_path, stop_after_blocks=2)
    merge(tmp_path)
    collection = Collection(tmp_path)
    assert collection.tokens == plan.block_tokens(0) + plan.block_tokens(1)
    assert collection.token_counts_V().sum() == collection.tokens
    assert 0 < len(collection.body(0)[0]) < 100


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    loaded, corpus = tiny_model(), tiny_corpus(24)
    collected(loaded, corpus, tmp_path)
    with pytest.raises(InvalidInput, match="same model"):
        collect(tiny_model(seed=1), tmp_path)
    with pytest.raises(StoreError, match="another corpus"):
        prepare(loaded, tiny_corpus(25), tmp_path, settings=SETTINGS)
    with pytest.raises(InvalidInput, match="number the 2 shards"):
        collect(loaded, tmp_path, shard=2, shards=2)
    with pytest.raises(InvalidInput, match="give more text"):
        make_plan(tiny_corpus(1), loaded.ref, CollectSettings(extremes=5000))
    with pytest.raises(InvalidInput, match="token ids"):
        make_plan(corpus, tiny_model(vocab_size=300).ref, SETTINGS)


def test_a_mixture_of_experts_is_collected_too(tmp_path: Path) -> None:
    loaded = tiny_model("mixtral")
    collected(loaded, tiny_corpus(12), tmp_path)
    state = load_state(tmp_path)
    assert state.layers[0].values[0].shape == (loaded.sites[0].width, 32)
    assert np.isfinite(state.layers[0].values[0]).all()


@contextmanager
def changed_byte(path: Path) -> Iterator[None]:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    yield


def test_a_plan_whose_corpus_was_changed_is_refused(tmp_path: Path) -> None:
    loaded = tiny_model()
    prepare(loaded, tiny_corpus(12), tmp_path, settings=SETTINGS)
    tiny_corpus(13).save(tmp_path / "corpus.zarr.zip")
    with pytest.raises(StoreError, match="does not match"):
        collect(loaded, tmp_path)
    assert shard_folder(tmp_path, 0, 1).name == "shard-0-of-1"
    with pytest.raises(StoreError), changed_byte(tmp_path / "corpus.zarr.zip"):
        open_plan(tmp_path)
