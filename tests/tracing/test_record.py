"""Runs that are saved, paired and replayed, on the real default model."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from neurons.core.errors import Cancelled, InvalidInput, ModelError
from neurons.core.steers import Steer
from neurons.core.types import Message, NeuronSide, Sampling
from neurons.models.loaded import LoadedModel
from neurons.tracing.record import RunOptions, run_pair, run_trace
from neurons.tracing.replay import activations_of, recompute, replay
from neurons.tracing.sweeps import forced_divergence
from traces import Evicted, TraceStore
from traces.compare import compare_traces

GREEDY = Sampling(max_new_tokens=6)
SAMPLED = Sampling(temperature=0.9, top_p=0.95, top_k=50, max_new_tokens=6, seed=11)
STEER = Steer(tuple(NeuronSide(29, i) for i in range(0, 300, 3)), "set", 1.0, values=(4.0,) * 100)
CAPITAL = "What is the capital of France?"


def test_run_is_saved_whole(default_model: LoadedModel, store: TraceStore) -> None:
    seen: list[int] = []
    record, run = run_trace(
        default_model, CAPITAL, sampling=GREEDY, store=store, options=RunOptions("capital", ("geo",)), on_token=seen.append
    )
    assert store.load(record.id) == record
    assert tuple(seen) == record.answer_ids == run.answer_ids
    assert "Paris" in record.answer
    assert record.name == "capital"
    assert record.finish_reason in ("stop", "length")
    assert "".join(record.pieces).count("capital of France") >= 1
    assert [s.role for s in record.segments][-1] == "assistant"
    np.testing.assert_array_equal(store.read(record.id, "activations"), run.acts_LTI)
    np.testing.assert_array_equal(store.read(record.id, "topk_ids"), run.topk_ids_TK)
    assert store.verify(record.id).ok


@pytest.mark.parametrize(("sampling", "steers"), [(GREEDY, ()), (SAMPLED, ()), (GREEDY, (STEER,))], ids=["greedy", "sampled", "steered"])
def test_replay_is_the_same_bits_while_another_thread_generates(
    default_model: LoadedModel, store: TraceStore, sampling: Sampling, steers: tuple[Steer, ...]
) -> None:
    record, _ = run_trace(default_model, CAPITAL, sampling=sampling, steers=steers, store=store)
    record = store.load(record.id)
    stop = threading.Event()

    def noise() -> None:
        while not stop.is_set():
            run_trace(default_model, "Say something else.", sampling=replace(SAMPLED, max_new_tokens=3), steers=(STEER,))

    other = threading.Thread(target=noise)
    other.start()
    try:
        report = replay(default_model, record, store=store)
    finally:
        stop.set()
        other.join()
    assert report.same, report
    assert (report.activations, report.probabilities, report.first_difference, report.reason) == ("same", "same", None, "")


def test_evicted_activations_are_recomputed_bit_for_bit(default_model: LoadedModel, store: TraceStore) -> None:
    record, run = run_trace(default_model, CAPITAL, sampling=SAMPLED, store=store)
    store.evict(record.id)
    with pytest.raises(Evicted):
        activations_of(None, record, store)
    np.testing.assert_array_equal(activations_of(default_model, record, store), run.acts_LTI)
    assert store.activation_state(record.id) == "stored"
    assert not (store.root / record.id / "activations.json").exists()
    np.testing.assert_array_equal(recompute(default_model, record), run.acts_LTI)


def test_a_run_without_recording_can_be_recorded_later(tiny: LoadedModel, store: TraceStore) -> None:
    record, run = run_trace(tiny, CAPITAL, sampling=replace(GREEDY, max_new_tokens=2), store=store, options=RunOptions(record=False))
    assert run.acts_LTI is None
    assert store.activation_state(record.id) == "none"
    assert activations_of(tiny, record, store).shape[1] == len(record.token_ids)
    assert store.verify(record.id).ok


def test_a_replay_that_differs_says_where_and_why(tiny: LoadedModel, store: TraceStore) -> None:
    record, _ = run_trace(tiny, CAPITAL, sampling=GREEDY, store=store)
    place = len(record.prompt_ids) + 2
    elsewhere = replace(record.environment, torch="0.1")
    forged = replace(record, answer_ids=(*record.answer_ids[:2], 5, *record.answer_ids[3:]), environment=elsewhere)
    report = replay(tiny, forged, store=store)
    assert not report.same
    assert not report.ids_same
    assert (report.first_difference, report.expected) == (place, "token id 5")
    assert "torch" in report.reason
    assert "0.1" in report.reason
    acts = store.read(record.id, "activations").copy()
    acts[2, 7, 40] += 1
    store.evict(record.id)
    store.put_activations(record.id, acts)
    report = replay(tiny, record, store=store)
    assert (report.ids_same, report.same, report.activations, report.first_difference) == (True, False, "differ", 7)
    assert "nothing that the trace records" in report.reason
    with pytest.raises(InvalidInput, match="load"):
        replay(tiny, replace(record, model=replace(record.model, n_layers=12)))


def test_cancelled_answers_are_saved_marked_and_replay(tiny: LoadedModel, store: TraceStore) -> None:
    seen: list[int] = []

    def stop_after_two(token: int) -> None:
        seen.append(token)
        if len(seen) == 2:
            raise Cancelled

    record, _ = run_trace(tiny, CAPITAL, sampling=SAMPLED, store=store, on_token=stop_after_two)
    assert (record.finish_reason, record.answer_ids, record.partial) == ("cancelled", tuple(seen), True)
    assert replay(tiny, store.load(record.id), store=store).same
    assert store.list()[0].finish_reason == "cancelled"


def test_keyboard_interrupt_keeps_what_there_is(tiny: LoadedModel, store: TraceStore) -> None:
    def interrupt(token: int) -> None:
        raise KeyboardInterrupt

    record, _ = run_trace(tiny, CAPITAL, sampling=GREEDY, store=store, on_token=interrupt)
    assert (record.finish_reason, len(record.answer_ids)) == ("cancelled", 1)


def test_a_failing_model_leaves_a_marked_trace(tiny: LoadedModel, store: TraceStore) -> None:
    def poison(token: int) -> None:
        tiny.sites[1].module.weight.fill_(torch.inf)

    with pytest.raises(ModelError) as caught:
        run_trace(tiny, CAPITAL, sampling=SAMPLED, store=store, on_token=poison)
    (row,) = store.list()
    assert row.id in str(caught.value)
    assert (row.finish_reason, row.answer_tokens) == ("error", 1)
    assert "finite" in store.load(row.id).error
    assert store.verify(row.id).ok


def _run_out_of_memory() -> None:
    torch.empty(1 << 58)


def _run_out_of_python_memory() -> None:
    raise MemoryError


def _stumble() -> None:
    raise ZeroDivisionError("oops")


@pytest.mark.parametrize(
    ("breaks", "said"),
    [(_run_out_of_memory, "out of memory"), (_run_out_of_python_memory, "out of memory"), (_stumble, "ZeroDivisionError: oops")],
)
def test_whatever_breaks_an_answer_the_answer_so_far_is_saved(
    tiny: LoadedModel, store: TraceStore, breaks: Callable[[], None], said: str
) -> None:
    def on_token(*heard: object) -> None:
        seen.append(heard[-1])
        if len(seen) == 3:
            breaks()

    seen: list[object] = []
    with pytest.raises(ModelError, match=said) as caught:
        run_trace(tiny, CAPITAL, sampling=SAMPLED, store=store, on_token=on_token)
    (row,) = store.list()
    record = store.load(row.id)
    assert (record.finish_reason, record.answer_ids, record.partial) == ("error", tuple(seen), True)
    assert said in record.error
    assert row.id in str(caught.value)
    seen.clear()
    with pytest.raises(ModelError, match=said):
        run_pair(tiny, CAPITAL, (), sampling=SAMPLED, store=store, on_token=on_token)
    steered, baseline = store.list()[:2]
    assert {steered.finish_reason, baseline.finish_reason} == {"error"}
    assert steered.answer_tokens + baseline.answer_tokens == 3


def test_a_temperature_below_what_the_arithmetic_holds_is_greedy(tiny: LoadedModel, store: TraceStore) -> None:
    greedy, _ = run_trace(tiny, CAPITAL, sampling=replace(SAMPLED, temperature=0.0), store=store)
    tiny_one, _ = run_trace(tiny, CAPITAL, sampling=replace(SAMPLED, temperature=1e-42), store=store)
    assert tiny_one.answer_ids == greedy.answer_ids


def test_a_broken_answer_that_cannot_be_saved_names_both_reasons(tiny: LoadedModel, store: TraceStore) -> None:
    def on_token(token: int) -> None:
        shutil.rmtree(store.root)
        store.root.write_text("in the way")
        raise ZeroDivisionError("oops")

    with pytest.raises(ModelError, match=r"oops\. What there was could not be saved: .+"):
        run_trace(tiny, CAPITAL, sampling=SAMPLED, store=store, on_token=on_token)


def test_a_failing_side_of_a_pair_leaves_both_traces(tiny: LoadedModel, store: TraceStore) -> None:
    huge = Steer(tuple(NeuronSide(2, i) for i in range(48)), "add", 1000.0, values=(9e5,) * 48)
    tiny.sites[2].module.weight.mul_(1e30)
    with pytest.raises(ModelError):
        run_pair(tiny, CAPITAL, (huge,), sampling=SAMPLED, store=store)
    assert len(store.list()) == 2


def test_pair_shares_settings_and_the_baseline_is_untouched(default_model: LoadedModel, store: TraceStore) -> None:
    order: list[str] = []
    pair = run_pair(default_model, CAPITAL, (STEER,), sampling=GREEDY, store=store, on_token=lambda side, token: order.append(side))
    alone, _ = run_trace(default_model, CAPITAL, sampling=GREEDY)
    assert pair.baseline.answer_ids == alone.answer_ids
    assert pair.steered.baseline_id == pair.baseline.id
    assert pair.steered.sampling == pair.baseline.sampling
    assert pair.steered.steers == (STEER,)
    assert order[:4] == ["baseline", "steered", "baseline", "steered"]
    assert pair.steered_run.acts_LTI is not None
    assert (pair.steered_run.acts_LTI[29, :, 0:300:3] == 4.0).all()
    found = compare_traces(store, pair.baseline.id, pair.steered.id, top=200)
    assert {(n.layer, n.index) for n in found.neurons} <= {(29, i) for i in range(1536)}


def test_a_pair_records_how_far_it_is_apart_over_the_whole_vocabulary(tiny: LoadedModel, store: TraceStore) -> None:
    steer = Steer(tuple(NeuronSide(2, i) for i in range(48)), "scale", 3.0)
    pair = run_pair(tiny, CAPITAL, (steer,), sampling=GREEDY, store=store)
    found = compare_traces(store, pair.baseline.id, pair.steered.id)
    shared = found.shared_tokens
    ids = pair.baseline.token_ids[: shared + 1]
    asked = len(pair.baseline.prompt_ids)
    whole = forced_divergence(tiny, ids, pair.steered.steers, prompt_tokens=asked)
    said = found.exact_kl
    assert sorted(said) == list(range(asked, min(shared + 1, len(pair.baseline.token_ids))))
    for position, kl in said.items():
        assert kl == pytest.approx(float(whole.kl_T[position]), rel=1e-3, abs=1e-5)
    assert max(said.values()) > 0
    kept = store.read(pair.steered.id, "kl_from_baseline")
    assert (kept[:asked] == -1).all()
    assert "kl_from_baseline" not in store.arrays(pair.baseline.id)


def test_noop_steer_gives_the_same_answer(tiny: LoadedModel, store: TraceStore) -> None:
    noop = Steer((NeuronSide(1, 4),), "scale", 1.0)
    pair = run_pair(tiny, CAPITAL, (noop,), sampling=SAMPLED, store=store)
    assert pair.same
    np.testing.assert_array_equal(pair.baseline_run.acts_LTI, pair.steered_run.acts_LTI)


def test_turns_keep_their_ids(tiny: LoadedModel) -> None:
    first, run = run_trace(tiny, CAPITAL, sampling=GREEDY)
    talk = (Message("user", CAPITAL), Message("assistant", first.answer, run.answer_ids), Message("user", "And of Spain?"))
    second, _ = run_trace(tiny, talk, sampling=replace(GREEDY, max_new_tokens=2))
    start = len(first.prompt_ids)
    body = tuple(i for i in run.answer_ids if i not in tiny.eos_ids)
    assert second.prompt_ids[: start + len(body)] == first.prompt_ids + body
