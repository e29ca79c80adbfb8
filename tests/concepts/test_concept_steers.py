"""Concept steers: the derivative is the model's own, the unit is what it says, suppress caps, a strength is found, kept and cancelled."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from neurons.cli.main import app
from neurons.concepts import learned, readings, strength
from neurons.concepts.answer_scores import AnswerScore, fluency
from neurons.concepts.asked import asked_answers
from neurons.concepts.concept_steers import FADE, SCOPE, between, direction, strengthen, suppress, used_layers
from neurons.concepts.learned import GUIDE, MOST_GUIDED, NEURONS, Lesson, learn, learned_push
from neurons.concepts.readings import ASK, Readings, neutral_readings, read_answers
from neurons.concepts.steers import ConceptSteer, find_concept, lexicon_steer, steer_by_words
from neurons.concepts.strength import AS_LEARNED, find_strength, known_best
from neurons.core.errors import Cancelled, InvalidInput
from neurons.core.repetition import repetition
from neurons.core.steers import Steer, TokenScope
from neurons.core.types import Message, NeuronSide, Sampling
from neurons.detectors.lexicon import SHIPPED, load_lexicon
from neurons.models.chat import encode_prompt, encode_text
from neurons.models.loaded import LoadedModel
from neurons.runs.batched import SteeredPrompt, token_logprobs
from neurons.runs.generation import generate
from neurons.runs.hooks import run_forward
from neurons.runs.steering import compile_edits, load_steers, placed, resolve
from tests.support.tiny_models import tiny_model

TEXTS = ("the sea is blue", "ships sail on the sea at night", "a wave")


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    return tiny_model()


def logprob(loaded: LoadedModel, text: str, steers: list[Steer]) -> float:
    """Mean log-probability of a text's tokens after its first, as an answer, one pass alone."""
    prompt = encode_prompt(loaded, [Message("user", ASK)]).ids
    own = encode_text(loaded, text, bos=False)
    edits = compile_edits(loaded, steers, len(prompt))
    logits = run_forward(loaded, torch.tensor([[*prompt, *own]]), edits=edits).logits[0].double().log_softmax(-1)
    at = torch.arange(len(prompt), len(prompt) + len(own) - 1)
    return float(logits[at, torch.tensor(own[1:])].mean())


@pytest.mark.parametrize("arch", ["llama", "gpt2", "mixtral"])
def test_the_gradient_is_that_of_a_shift(arch: str) -> None:
    loaded = tiny_model(arch)
    found = read_answers(loaded, TEXTS)
    for layer, index in ((0, 3), (1, 7), (2, 11)):
        push = [Steer((NeuronSide(layer, index),), "add", step, TokenScope("answer"), values=(1.0,)) for step in (0.02, -0.02)]
        up, down = (np.mean([logprob(loaded, text, [one]) for text in TEXTS]) for one in push)
        assert found.gradient_LI[layer, index] == pytest.approx((up - down) / 0.04, rel=0.05, abs=2e-5)
    own = [len(encode_text(loaded, text, bos=False)) for text in TEXTS]
    alone = np.stack([read_answers(loaded, [text]).mean_LI for text in TEXTS])
    np.testing.assert_allclose(found.mean_LI, np.average(alone, axis=0, weights=own), atol=1e-5)


def test_a_push_becomes_a_steer(loaded: LoadedModel) -> None:
    push_LI = np.zeros((loaded.n_layers, loaded.n_neurons), np.float32)
    push_LI[1, 3], push_LI[2, 0] = -0.5, 1e-6
    steer = strengthen(loaded, push_LI, strength=0.7, name="sea")
    assert (steer.mode, steer.strength, steer.fade, steer.tokens) == ("add", 0.7, FADE, SCOPE)
    assert steer.neurons == (NeuronSide(1, 3, "-"), NeuronSide(2, 0, "+"))
    assert list(steer.values or ()) == pytest.approx([-0.5, 1e-6])
    with pytest.raises(InvalidInput, match="no neuron"):
        strengthen(loaded, push_LI * 0, strength=1, name="nothing")


@pytest.mark.parametrize("arch", ["llama", "gpt2", "mixtral"])
def test_what_is_learned_from_is_what_the_steer_does(arch: str, home: Path) -> None:
    """What is brought closer to the asking is the model under the steer itself, token by token; the aim is the asking, led on."""
    loaded = tiny_model(arch)
    asked = asked_answers(loaded, "the sea", requests=("Tell me a story.", "Why?", "What is it?"), tokens=12)
    lesson = Lesson(loaded, asked)
    push_LI = np.zeros((loaded.n_layers, loaded.n_neurons), np.float32)
    push_LI[1, [3, 7]], push_LI[2, 0] = (0.4, -0.3), 0.2
    steer = strengthen(loaded, push_LI, strength=1.0, name="sea")
    answered = torch.tensor([token for one in asked for token in one.ids])
    for given, steers in ((push_LI, (steer,)), (push_LI * 0, ())):
        rows = [SteeredPrompt(one.prompt.ids, placed(steers, one.prompt.question)) for one in asked]
        expected = torch.cat(token_logprobs(loaded, rows, [one.ids for one in asked]))
        own = lesson.log_probabilities(torch.from_numpy(given)).gather(1, answered[:, None])[:, 0]
        assert torch.allclose(own, expected, atol=2e-5)
    with_it, without = (
        torch.cat([run_forward(loaded, torch.tensor([[*ids, *one.ids]])).logits[0, len(ids) - 1 : -1] for ids, one in pairs]).log_softmax(
            -1
        )
        for pairs in ([(one.asking.ids, one) for one in asked], [(one.prompt.ids, one) for one in asked])
    )
    aim = (with_it + GUIDE * (with_it - without).clamp(-MOST_GUIDED, MOST_GUIDED)).log_softmax(-1)
    expected_kl = float((aim.exp() * (aim - without)).sum(-1).mean())
    assert float(lesson.divergence(torch.from_numpy(push_LI * 0))) == pytest.approx(expected_kl, rel=0.02, abs=1e-4)
    learned_LI = learn(loaded, asked, steps=12, neurons=20)
    assert 1 <= (learned_LI != 0).sum() <= 20
    assert float(lesson.divergence(torch.from_numpy(learned_LI))) < 0.9 * expected_kl
    assert set(np.flatnonzero(learned_LI.any(axis=1))) <= set(used_layers(loaded.n_layers))


def test_a_strengthened_concept_leaves_the_answers_tokens_alone(loaded: LoadedModel) -> None:
    push_LI = np.zeros((loaded.n_layers, loaded.n_neurons), np.float32)
    push_LI[1, 3] = 50.0
    prompt = encode_prompt(loaded, [Message("user", "Tell me of the sea")])
    steers = placed((strengthen(loaded, push_LI, strength=1.0, name="sea"),), prompt.question)
    run, bare = (generate(loaded, prompt.ids, sampling=Sampling(max_new_tokens=4), steers=given) for given in (steers, ()))
    assert run.acts_LTI is not None
    assert bare.acts_LTI is not None
    pushed = run.acts_LTI[1, :, 3].astype(np.float32) > 40
    assert pushed.tolist() == [prompt.question[0] <= place < len(prompt.ids) for place in range(len(pushed))]
    assert not (bare.acts_LTI[1, :, 3].astype(np.float32) > 40).any()


def test_a_push_is_learned_once(loaded: LoadedModel, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    concept = load_lexicon((SHIPPED,)).concepts[0]
    first = learned_push(loaded, concept)
    monkeypatch.setattr(learned, "learn", lambda *_a, **_k: pytest.fail("learned again"))
    assert np.array_equal(learned_push(loaded, concept), first)
    assert 1 <= (first != 0).sum() <= NEURONS


def test_a_steer_that_hardly_shows_says_so() -> None:
    steer = Steer((NeuronSide(1, 3),), "add", 0.5, SCOPE, values=(1.0,), fade=FADE)
    made = ConceptSteer("strengthen", "sea", steer, "lexicon", 1, 0.3)
    assert "hardly shows (0.3 of 2)" in made.line()
    assert "hardly" not in replace(made, shown=1.2).line()


def test_suppress_caps_at_the_neutral_mean(loaded: LoadedModel, home: Path) -> None:
    found = direction(loaded, TEXTS)
    steer = suppress(found, name="no sea", neurons=15)
    neutral = neutral_readings(loaded)
    prompt = encode_prompt(loaded, [Message("user", "Tell me of the sea")])
    run = generate(loaded, prompt.ids, sampling=Sampling(max_new_tokens=4), steers=resolve(loaded, [steer], prompt=prompt))
    assert run.acts_LTI is not None
    acts = run.acts_LTI.astype(np.float32)[:, prompt.question[0] :]
    for side in steer.neurons:
        limit, over = neutral.mean_LI[side.layer, side.index], 1 if side.polarity == "+" else -1
        assert (over * (acts[side.layer, :, side.index] - limit) < 2e-3).all()
        assert over * found.difference_LI[side.layer, side.index] >= 0


def test_the_edges_of_a_model_are_left_out_and_nothing_found_is_said(loaded: LoadedModel) -> None:
    rng = np.random.default_rng(0)
    shape = (30, 8)
    about, neutral = (Readings(*(rng.normal(size=shape).astype(np.float32) for _ in range(2)), np.ones(30, np.float32)) for _ in range(2))
    layers = {layer for layer, _ in between(about, neutral).best(300)}
    assert (min(layers), max(layers)) == (4, 26)
    with pytest.raises(InvalidInput, match="no neuron of this model"):
        suppress(between(about, about), name="nothing")
    with pytest.raises(InvalidInput, match="2 texts"):
        direction(loaded, ["alone here"])
    with pytest.raises(InvalidInput, match="two tokens"):
        read_answers(loaded, ["a", "a"])


def test_neutral_readings_are_kept(loaded: LoadedModel, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = neutral_readings(loaded)
    monkeypatch.setattr(readings, "read_answers", lambda *_a, **_k: pytest.fail("read again"))
    assert np.array_equal(neutral_readings(loaded).mean_LI, first.mean_LI)


def test_scores() -> None:
    assert fluency(1.0, 0.0) == 2
    assert fluency(4.0, 0.0) == 0
    assert fluency(1.0, 0.5) == 0
    assert fluency(2.0, 0.2) == pytest.approx(2 * (1 - np.log(1.6) / np.log(3.2)) * 0.75)
    assert repetition([1, 2, 3, 1, 2, 3]) == 0.25
    assert AnswerScore(2, 1, 0.5, 1, 0).total == pytest.approx(3 / (0.5 + 1 + 2))
    assert AnswerScore(2, 0, 2, 9, 0).total == 0


def test_a_concept_is_found_by_name_key_or_its_own_word() -> None:
    lexicon = load_lexicon((SHIPPED,))
    concept = lexicon.concepts[7]
    for text in (concept.name.upper(), concept.key, f" {concept.name} "):
        assert find_concept(text, lexicon) == concept
    assert find_concept("no such thing at all", lexicon) is None


@pytest.mark.slow
def test_a_strength_is_found_kept_and_can_be_stopped(loaded: LoadedModel, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lexicon = load_lexicon((SHIPPED,))
    curve = find_strength(loaded, lexicon.concepts[0], lexicon=lexicon, strengths=(2.0, 0.5), tokens=6)
    assert [point.strength for point in curve.points] == [0.5, 2.0]
    assert curve.steer.strength == curve.chosen
    best = max(point.total for point in curve.points)
    assert next(point.total for point in curve.points if point.strength == curve.chosen) == best
    with pytest.raises(InvalidInput, match="above 0"):
        find_strength(loaded, lexicon.concepts[0], strengths=(0.0,))

    def stop(done: int, total: int | None, message: str) -> None:
        if message == "answering":
            raise Cancelled

    with pytest.raises(Cancelled):
        find_strength(loaded, lexicon.concepts[0], lexicon=lexicon, progress=stop)
    monkeypatch.setattr(strength, "score_answers", lambda *_a, **_k: pytest.fail("answered again"))
    again = find_strength(loaded, lexicon.concepts[0], lexicon=lexicon, strengths=(2.0, 0.5), tokens=6)
    assert again == curve
    alone = find_strength(loaded, lexicon.concepts[0], lexicon=lexicon, strengths=(0.5,), tokens=6)
    assert alone.points == curve.points[:1], "one of those that were tried"
    # the push is known whatever its strength and name are now; another push is not
    assert known_best(loaded.ref, replace(curve.steer, strength=7.0, name="mine")) == curve.best
    assert known_best(loaded.ref, replace(curve.steer, values=tuple(-one for one in curve.steer.values or ()))) is None
    with pytest.raises(pytest.fail.Exception, match="answered again"):
        find_strength(loaded, lexicon.concepts[0], lexicon=lexicon, strengths=(2.0, 0.5), tokens=7)
    (kept,) = (home / "steering").glob("strengths-*.json")
    kept.write_text(kept.read_text()[:50])
    assert known_best(loaded.ref, curve.steer) is None, "a file that was cut off"


@pytest.mark.slow
def test_a_concept_by_name_comes_as_it_was_learned_and_is_tried(loaded: LoadedModel, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lexicon = load_lexicon((SHIPPED,))
    monkeypatch.setattr(find_strength, "__kwdefaults__", {**find_strength.__kwdefaults__, "tokens": 4})
    made = steer_by_words(loaded, lexicon.concepts[0].name, "strengthen")
    best = known_best(loaded.ref, made.steer)
    assert best is not None
    assert (made.origin, made.steer.mode, made.steer.strength, made.shown) == ("lexicon", "add", AS_LEARNED, best.shown)
    assert steer_by_words(loaded, lexicon.concepts[0].name, "strengthen", strength=0.4).steer.strength == 0.4
    assert steer_by_words(loaded, lexicon.concepts[0].key, "suppress").steer.mode == "cap"


@pytest.mark.slow
def test_the_default_model_says_the_word(default_model: LoadedModel, home: Path) -> None:
    """The neurons that are found, pushed, make the default model write of dogs where nobody asked for them."""
    lexicon = load_lexicon((SHIPPED,))
    dogs = find_concept("dogs", lexicon)
    assert dogs is not None
    steer = lexicon_steer(default_model, dogs, "strengthen").steer
    prompt = encode_prompt(default_model, [Message("user", "Write a short story about a day in a small town.")])
    said = []
    for steers in ((), placed((steer,), prompt.question)):
        run = generate(default_model, prompt.ids, sampling=Sampling(max_new_tokens=50), steers=steers, record=False)
        said.append(default_model.tokenizer.decode(run.answer_ids).lower())
    words = {"dog", *(word.lower() for word in dogs.entry.words if len(word) > 3)}
    assert not any(word in said[0] for word in words)
    assert any(word in said[1] for word in words)


@pytest.mark.slow
def test_command(loaded: LoadedModel, home: Path, tmp_path: Path) -> None:
    loaded.model.save_pretrained(tmp_path / "model")
    loaded.tokenizer.save_pretrained(tmp_path / "model")
    file = tmp_path / "steer.json"
    arguments = ["concept", "strength", "dogs", "--strengths", "0.5", "--model", str(tmp_path / "model"), "-o", str(file)]
    told = CliRunner().invoke(app, arguments)
    assert told.exit_code == 0, told.output
    assert "strength 0.5 shows dogs best" in told.output
    (steer,) = load_steers(file)
    assert (steer.mode, steer.strength, steer.name) == ("add", 0.5, "Strengthen dogs")
    assert CliRunner().invoke(app, ["concept", "strength", "nothing such"]).exit_code == 1
