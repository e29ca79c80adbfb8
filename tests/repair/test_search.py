"""The search on a tiny random model: the linear step, slopes that deliver, decisions that follow the answers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from neurons.core.types import NeuronSide
from neurons.models.chat import decode
from neurons.repair.batch import Action
from neurons.repair.candidates import WEIGHTS, candidates
from neurons.repair.evaluate import Evaluator, Point
from neurons.repair.linear import LinearModel, Weights, path, solve
from neurons.repair.problem import Problem, decide, margins, prepare, settled
from neurons.repair.search import SearchState, search
from neurons.repair.slopes import slopes_at
from neurons.repair.spec import is_fixed
from tests.support.repairs import PLAN, wish
from tests.support.tiny_models import tiny_model


@pytest.fixture(scope="module")
def tiny_problem() -> Problem:
    loaded = tiny_model("llama")
    return prepare(loaded, wish(loaded))


def test_margins() -> None:
    logits = torch.tensor([[1.0, 3.0, 2.0], [5.0, 0.0, 1.0]])
    assert margins(logits, [1, 2]).tolist() == [1.0, -4.0]


def test_the_step_reaches_the_goal_with_the_neuron_that_moves_no_control() -> None:
    model = LinearModel(
        margin_P=np.array([-1.0, -0.5]),
        slope_PN=np.array([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0]]),
        question_P=np.array([0, 1]),
        control_C=np.array([0.5]),
        control_slope_CN=np.array([[0.0, -3.0, 0.0]]),
        at_N=np.zeros(3),
        range_N=np.full(3, 3.0),
    )
    x = solve(model, Weights(goal=1.0), 1e-3)
    assert x.tolist() == pytest.approx([2.0, 0.0, 0.0])
    chosen = path(model, Weights(goal=1.0), (1, 2))
    assert np.flatnonzero(chosen[1]).tolist() == [0]


def test_every_rival_of_a_question_has_to_be_beaten() -> None:
    """The strongest rival falls with neuron 0 while the next one rises: neuron 1 alone beats both."""
    model = LinearModel(
        margin_P=np.array([-1.0, -0.9]),
        slope_PN=np.array([[1.0, 0.6], [-1.0, 0.6]]),
        question_P=np.array([0, 0]),
        control_C=np.array([1.0]),
        control_slope_CN=np.zeros((1, 2)),
        at_N=np.zeros(2),
        range_N=np.full(2, 5.0),
    )
    x = solve(model, Weights(goal=0.5), 1e-3)
    assert (model.margin_P + model.slope_PN @ x).min() >= 0.5 - 1e-6


def test_a_control_is_kept_though_a_question_would_gain() -> None:
    model = LinearModel(
        margin_P=np.array([-4.0]),
        slope_PN=np.array([[1.0]]),
        question_P=np.array([0]),
        control_C=np.array([0.6]),
        control_slope_CN=np.array([[-0.5]]),
        at_N=np.zeros(1),
        range_N=np.full(1, 4.0),
    )
    assert solve(model, Weights(guard=0.1), 0.0)[0] == pytest.approx(1.0)


def test_one_weighing_puts_margins_first_and_one_the_controls() -> None:
    """Nine questions gain by what costs one control twice as much a step."""
    model = LinearModel(
        margin_P=np.full(9, -1.0),
        slope_PN=np.ones((9, 1)),
        question_P=np.arange(9),
        control_C=np.array([0.5]),
        control_slope_CN=np.array([[-2.0]]),
        at_N=np.zeros(1),
        range_N=np.full(1, 4.0),
    )
    margins_first, controls_first = (float(solve(model, weights, 0.0)[0]) for weights in WEIGHTS)
    assert margins_first == pytest.approx(3.0)
    assert controls_first == pytest.approx(0.2)


def test_the_step_stays_within_its_bounds() -> None:
    model = LinearModel(np.array([-9.0]), np.ones((1, 1)), np.array([0]), np.array([1.0]), np.zeros((1, 1)), np.zeros(1), np.array([0.5]))
    assert solve(model, Weights(), 0.0)[0] == pytest.approx(0.5)


def test_held_out_questions_are_no_part_of_the_search(tiny_problem: Problem) -> None:
    seen = {q.prompt for q in tiny_problem.train}
    held = {q.prompt for q in tiny_problem.heldout}
    assert tiny_problem.spec.prompt in seen
    assert len(held) == 2
    assert not seen & held
    evaluator = Evaluator(tiny_problem)
    assert len(evaluator.decisions) == len(seen)


def test_questions_and_controls_have_answers_of_their_own_length() -> None:
    loaded = tiny_model("llama")
    problem = prepare(loaded, wish(loaded, max_new_tokens=2, control_tokens=5))
    assert {len(q.answer_ids) for q in (*problem.train, *problem.heldout)} == {2}
    assert max(len(c.answer_ids) for c in problem.controls) == 5


@pytest.mark.slow
def test_the_search_gets_closer_and_counts_its_passes(tiny_problem: Problem) -> None:
    evaluator = Evaluator(tiny_problem)
    start = evaluator.questions([{}])[0]
    states: list[int] = []
    state = search(evaluator, budget=1500, on_state=lambda s: states.append(s.passes))
    assert state.best is not None
    assert state.best.lack < start.lack
    assert states == sorted(states)
    assert state.passes == tiny_problem.batcher.meter.passes
    assert all(p.neurons <= tiny_problem.spec.max_neurons for p in state.points)


@pytest.mark.parametrize("kind", ["multiplied", "added to"])
def test_a_small_step_delivers_what_the_slopes_promise(tiny_problem: Problem, kind: str) -> None:
    evaluator = Evaluator(tiny_problem)
    slopes = slopes_at(evaluator, {}, None)
    start = slopes.here.lack
    assert slopes.promised_lack({}) == pytest.approx(start, abs=1e-3)
    assert slopes.promised_unchanged({}) == slopes.here.unchanged == len(tiny_problem.controls)
    rows = slopes.questions
    mean_LI = (rows.mul_RKLI if kind == "multiplied" else rows.add_RKLI)[:, 0].mean(0)
    layer, index = divmod(int(mean_LI.abs().argmax()), mean_LI.shape[1])
    step = 0.01 if mean_LI[layer, index] > 0 else -0.01
    plan = {(layer, index): Action(1 + step) if kind == "multiplied" else Action(1.0, 0.1 * step)}
    promised, delivered = start - slopes.promised_lack(plan), start - evaluator.questions([plan])[0].lack
    assert promised > 0
    assert delivered == pytest.approx(promised, rel=0.1, abs=1e-4)


def test_controls_slopes_serve_again_while_they_tell_what_happens(tiny_problem: Problem) -> None:
    evaluator = Evaluator(tiny_problem)
    first = slopes_at(evaluator, {}, None)
    near, far = {(1, 3): Action(1.01)}, {(1, n): Action(4.0) for n in range(3)}
    assert slopes_at(evaluator, near, first).controls is first.controls
    assert slopes_at(evaluator, far, first).controls is not first.controls


def test_candidates_use_the_given_neurons_alone(tiny_problem: Problem) -> None:
    slopes = slopes_at(Evaluator(tiny_problem), {}, None)
    plans = candidates(slopes, 1.0, (1, 2, 3))
    assert {len(plan) for plan in plans} <= {1, 2, 3}
    assert all(action != Action() for plan in plans for action in plan.values())
    within = tuple(NeuronSide(2, n) for n in range(5))
    assert {neuron for plan in candidates(slopes, 1.0, (1, 2, 3), within=within) for neuron in plan} <= {(2, n) for n in range(5)}


def test_decisions_follow_the_answers_under_a_plan(tiny_problem: Problem) -> None:
    """A question that is answered right keeps its answer; one that is not is looked at where it now goes wrong."""
    evaluator = Evaluator(tiny_problem)
    plan = {(2, n): Action(-3.0) for n in range(48)}
    point = evaluator.follow(plan)
    assert point.confirmed
    for question, decision, ids in zip(tiny_problem.train, evaluator.decisions, evaluator.answers(tiny_problem.train, plan), strict=True):
        text = decode(tiny_problem.batcher.loaded, ids)
        right = is_fixed(tiny_problem.spec, text)
        assert (settled(tiny_problem, question, ids) is not None) == right
        if right:
            assert decision.chosen == ids[: len(decision.chosen)]
    assert point.turned == sum(
        is_fixed(tiny_problem.spec, decode(tiny_problem.batcher.loaded, ids)) for ids in evaluator.answers(tiny_problem.train, plan)
    )


def test_an_unconfirmed_point_is_no_fix() -> None:
    point = Point(PLAN, True, 1, 1, 0.5, 0.0, 2, 2)
    assert point.promises
    assert not point.holds
    assert SearchState([point]).best is None
    assert SearchState([replace(point, confirmed=True)]).found


@pytest.mark.slow
def test_a_round_that_did_not_move_needs_no_new_slopes(tiny_problem: Problem, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluator = Evaluator(tiny_problem)
    asked: list[object] = []
    gradients = evaluator.question_gradients
    monkeypatch.setattr(evaluator, "question_gradients", lambda plan: asked.append(dict(plan)) or gradients(plan))
    places: list[object] = [{}]
    state = search(evaluator, budget=2500, on_state=lambda s: None if s.at == places[-1] else places.append(dict(s.at)))
    assert asked == places[: len(asked)]
    assert state.rounds > len(asked)


def test_decisions_keep_the_answer_before_the_unwanted_text(tiny_problem: Problem) -> None:
    question = tiny_problem.train[0]
    decision = decide(tiny_problem, question, question.answer_ids, {})
    assert decision.row.ids[: len(question.ids)] == question.ids
    assert len(decision.picks) == len(decision.chosen)
    assert decision.chosen[: decision.turn] == question.answer_ids[: decision.turn]
