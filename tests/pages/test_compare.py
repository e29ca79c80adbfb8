"""The Compare page: both runs of two prompts, and what a steered pair recorded."""

from __future__ import annotations

from dataclasses import replace

import pytest

from neurons.core.steers import Steer
from neurons.core.types import NeuronSide
from neurons.tracing.record import run_pair
from pages.compare.charts import token_frame
from pages.shared import server_wide
from tests.support.app_pages import SHORT, loaded, open_page, plain, saved
from traces.compare import compare_traces

pytestmark = pytest.mark.usefixtures("app_home")


def test_two_prompts_are_both_drawn_from_the_start_of_their_answers_with_their_probabilities() -> None:
    a, b = saved("hi", "something rather longer than that")
    found = compare_traces(server_wide.store(), a.id, b.id)
    frame = token_frame(found, ("First", "Second"), (len(a.prompt_ids), len(b.prompt_ids)))
    for name, record in (("First", a), ("Second", b)):
        mine = frame[frame["run"] == name]
        assert mine["position"].tolist() == list(range(len(record.answer_ids)))
        assert mine["probability"].notna().all()
    assert found.a_first
    assert found.b_first
    app = open_page("compare", a=a.id, b=b.id)
    assert not app.exception
    shown = plain(app)
    assert "the first token of each answer" in shown
    assert "were not recorded" not in shown


def test_other_models_candidates_are_named_by_their_own_tokenizer() -> None:
    (a,) = saved("hi")
    store = server_wide.store()
    arrays = {name: store.read(a.id, name) for name in ("topk_ids", "topk_probs", "logprob")}
    b = store.save(replace(a, id="", model=replace(a.model, weights_hash="cd" * 32)), arrays)
    found = compare_traces(store, a.id, b.id, decode=lambda i: f"a{i}", decode_b=lambda i: f"b{i}")
    assert {candidate.text[0] for candidate in found.a_first} == {"a"}
    assert {candidate.text[0] for candidate in found.b_first} == {"b"}
    assert compare_traces(store, a.id, b.id, decode=lambda i: f"a{i}").b_first[0].text == ""


def test_a_pair_s_headline_says_the_divergence_itself() -> None:
    steer = Steer(tuple(NeuronSide(2, n) for n in range(48)), "scale", 4.0)
    pair = run_pair(loaded(), "hello", [steer], sampling=SHORT, store=server_wide.store())
    assert not pair.same
    shown = plain(open_page("compare", a=pair.baseline.id, b=pair.steered.id))
    assert "KL divergence there " in shown
    assert "at least" not in shown
    assert "Over the whole vocabulary." in shown
