"""Two traces beside each other."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from tests.support.trace_runs import make_arrays, make_record
from traces import TraceStore
from traces.compare import changed_share, compare_traces, kl_lower_bound, word_diff


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("", ""),
        ("a b c", "a x c"),
        ("The capital is Paris.", "The capital is Rome, I think."),
        ("東京は大きい", "京都は大きい"),
        ("a  b c", "a b c"),
        ("", "new"),
    ],
)
def test_word_diff_rebuilds_both_texts(a: str, b: str) -> None:
    words = word_diff(a, b)
    assert "".join(op.a for op in words) == a
    assert "".join(op.b for op in words) == b
    assert (changed_share(words) == 0) == (a.split() == b.split())


def test_kl_is_a_lower_bound() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        p, q = rng.dirichlet(np.full(40, 0.3)), rng.dirichlet(np.full(40, 0.3))
        top_p, top_q = np.argsort(-p)[:10], np.argsort(-q)[:10]
        bound = kl_lower_bound(top_p, p[top_p], top_q, q[top_q])
        assert bound is not None
        assert 0 <= bound <= float((p * np.log(p / q)).sum()) + 1e-6
    assert kl_lower_bound(top_p, p[top_p], top_p, p[top_p]) == pytest.approx(0, abs=1e-9)
    none = np.full(3, -1)
    assert kl_lower_bound(none, np.zeros(3), none, np.zeros(3)) is None


def test_the_bound_counts_tokens_that_only_one_list_has() -> None:
    ids, others = np.array([1, 2]), np.array([3, 4])
    bound = kl_lower_bound(ids, np.array([0.98, 0.01]), others, np.array([0.9, 0.05]))
    assert bound is not None
    assert bound == pytest.approx(0.98 * math.log(0.98 / 0.05) + 0.02 * math.log(0.02 / 0.95), abs=0.1)
    assert bound > 2.5


def test_a_pair_says_the_divergence_that_it_recorded(store: TraceStore) -> None:
    a = make_record(answer="It is Paris.", steers=())
    a = store.save(a, make_arrays(a))
    b = replace(make_record(answer="It is Rome."), baseline_id=a.id, answer_ids=(11, 50, 13))
    forth, back = np.array([-1, -1, -1, -1, 0.5, 3.6, -1], np.float32), np.array([-1, -1, -1, -1, 0.4, 2.5, -1], np.float32)
    b = store.save(b, {**make_arrays(b), "kl_from_baseline": forth, "kl_to_baseline": back})
    found, swapped = compare_traces(store, a.id, b.id), compare_traces(store, b.id, a.id)
    assert found.divergence is not None
    assert swapped.divergence is not None
    assert (found.divergence.kl, found.divergence.kl_exact) == (pytest.approx(3.6), True)
    assert (swapped.divergence.kl, swapped.divergence.kl_exact) == (pytest.approx(2.5), True)
    assert [pair.kl_exact for pair in found.tokens] == [False] * 4 + [True, True, False]
    other = store.save(replace(b, id="", baseline_id=None), {**make_arrays(b), "kl_from_baseline": forth})
    alone = compare_traces(store, a.id, other.id)
    assert alone.divergence is not None
    assert not alone.divergence.kl_exact


def test_comparison(store: TraceStore) -> None:
    a = make_record(answer="It is Paris.")
    arrays = make_arrays(a)
    a = store.save(a, arrays)
    b = make_record(answer="It is Rome.", n_answer=4)
    b = replace(b, answer_ids=(11, 50, 51, 13), pieces=(*b.pieces[:5], "Rome", "!", "."))
    changed = make_arrays(b)
    changed["activations"][:, :5] = arrays["activations"][:, :5]
    changed["activations"][2, 3, 6] += 4
    changed["activations"][1, 4, 1] -= 2
    for name in ("topk_ids", "topk_probs", "logprob"):
        changed[name][:6] = arrays[name][:6]
    b = store.save(b, changed)
    found = compare_traces(store, a.id, b.id, top=5, decode=lambda i: f"<{i}>")
    assert (found.same_model, found.same_prompt, found.same_ids, found.shared_tokens) == (True, True, False, 5)
    assert found.divergence is not None
    assert (found.divergence.position, found.divergence.a_id, found.divergence.b_id, found.divergence.b_text) == (5, 12, 50, "Rome")
    assert found.divergence.a_top[0].text.startswith("<")
    assert found.divergence.kl == pytest.approx(0, abs=1e-6)
    assert [(n.layer, n.index, n.token) for n in found.neurons] == [(2, 6, 3), (1, 1, 4)]
    assert found.neurons[0].max_abs == pytest.approx(4, abs=0.01)
    assert found.neurons[0].mean_abs == pytest.approx(4 / 5, abs=0.01)
    assert [pair.same for pair in found.tokens] == [True] * 5 + [False, False, True]
    assert found.tokens[0].a_prob is None
    assert found.tokens[1].a_prob == pytest.approx(math.exp(float(arrays["logprob"][1])))
    assert found.tokens[-1].kl is None
    assert [op.b for op in found.words if op.tag != "equal"] == ["Rome"]


def test_same_trace(store: TraceStore) -> None:
    a = make_record()
    a = store.save(a, make_arrays(a))
    found = compare_traces(store, a.id, a.id)
    assert found.same_ids
    assert found.divergence is None
    assert found.neurons == ()
    assert found.neurons_missing == f"every activation is the same at the {len(a.token_ids)} tokens that both begin with"
    assert found.changed_words == 0


def test_one_answer_is_the_start_of_the_other(store: TraceStore) -> None:
    a, b = make_record(n_answer=2), make_record(n_answer=3)
    a, b = store.save(a, make_arrays(a)), store.save(b, make_arrays(b))
    found = compare_traces(store, a.id, b.id)
    assert found.divergence is not None
    assert (found.divergence.a_id, found.divergence.b_id, found.divergence.a_top) == (None, 13, ())


def test_evicted_or_other_models(store: TraceStore) -> None:
    a, b = make_record(), make_record()
    b = replace(b, model=replace(b.model, n_layers=2, weights_hash="cd" * 32), steers=())
    a, b = store.save(a, make_arrays(a)), store.save(b, {})
    found = compare_traces(store, a.id, b.id)
    assert not found.same_model
    assert "shapes" in found.neurons_missing
    c = make_record()
    c = store.save(c, make_arrays(c))
    store.evict(c.id)
    assert "removed" in compare_traces(store, a.id, c.id).neurons_missing
