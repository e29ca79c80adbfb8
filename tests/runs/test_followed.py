"""Penalties and suppressed tokens of a generation config: off unless asked for, as `generate` applies them when followed, and replayed."""

from __future__ import annotations

import pytest
import torch

from neurons.core.errors import InvalidInput
from neurons.core.types import Sampling
from neurons.models.loaded import LoadedModel
from neurons.runs.followed import ignored_by, offered_by
from neurons.runs.generation import generate
from tests.support.tiny_models import tiny_model
from tests.support.trace_runs import make_record
from traces.schema import from_json_text, to_json

PROMPT = tuple(b"the cat sat on the mat and the cat sat")


@pytest.fixture
def asking() -> LoadedModel:
    loaded = tiny_model()
    config = loaded.model.generation_config
    config.repetition_penalty, config.no_repeat_ngram_size = 1.7, 3
    plain = generate(loaded, PROMPT, sampling=Sampling(max_new_tokens=1), record=False)
    config.suppress_tokens, config.begin_suppress_tokens = [5, 9], [plain.answer_ids[0]]
    config.bad_words_ids = [[7]]
    return loaded


def by_transformers(loaded: LoadedModel, tokens: int) -> tuple[int, ...]:
    loaded.model.generation_config.bad_words_ids = None
    ids = torch.tensor([PROMPT])
    with torch.no_grad():
        out = loaded.model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=tokens, do_sample=False)
    return tuple(out[0, len(PROMPT) :].tolist())


def test_followed_it_is_what_generate_says(asking: LoadedModel) -> None:
    follow = offered_by(asking)
    assert [name for name, _ in follow] == ["repetition_penalty", "no_repeat_ngram_size", "suppress_tokens", "begin_suppress_tokens"]
    found = generate(asking, PROMPT, sampling=Sampling(max_new_tokens=12, follow=follow), record=False)
    plain = generate(asking, PROMPT, sampling=Sampling(max_new_tokens=12), record=False)
    assert found.answer_ids == by_transformers(asking, 12)
    assert found.answer_ids != plain.answer_ids, "not followed unless asked for"


def test_what_is_ignored_is_said(asking: LoadedModel) -> None:
    assert "repetition_penalty 1.7" in ignored_by(asking, Sampling())
    followed = Sampling(follow=offered_by(asking))
    assert "bad_words_ids" in ignored_by(asking, followed)
    assert "repetition" not in ignored_by(asking, followed)
    assert ignored_by(tiny_model(), Sampling()) == ""
    assert "repetition penalty" in followed.how


def test_it_is_part_of_a_trace_and_of_a_job(asking: LoadedModel) -> None:
    sampling = Sampling(follow=offered_by(asking))
    record = make_record(sampling=sampling)
    assert from_json_text(to_json(record)).sampling == sampling
    assert Sampling(**sampling.to_json()) == sampling
    assert "follow" not in Sampling().to_json(), "jobs of older versions go on"


@pytest.mark.parametrize(
    "pair",
    [
        ("repetition_penalty", 0),
        ("repetition_penalty", float("nan")),
        ("no_repeat_ngram_size", -1),
        ("suppress_tokens", (-5,)),
        ("evil", 1),
    ],
)
def test_what_cannot_be_followed_is_refused(pair: tuple[str, float]) -> None:
    with pytest.raises(InvalidInput, match="cannot be followed"):
        Sampling(follow=(pair,)).check()
