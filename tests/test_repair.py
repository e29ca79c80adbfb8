"""Repair on tiny random models: exact parts (batches, edits, decisions, the convex step) and the whole way through."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from endpoint_server import Reply, chat_reply, serving
from tiny_models import tiny_model
from typer.testing import CliRunner

from neurons.cli.main import app as cli
from neurons.criteria import Criterion, fixed, parse_criterion
from neurons.describe.endpoint import Endpoint
from neurons.errors import Cancelled, EndpointError, InvalidInput
from neurons.generation import generate
from neurons.hooks import run_forward
from neurons.models.loaded import LoadedModel
from neurons.repair.baselines import added_to_residual, random_match
from neurons.repair.batch import Action, Batcher, Row
from neurons.repair.controls import builtin_controls
from neurons.repair.evaluate import Evaluator, Point
from neurons.repair.experiments import experiments
from neurons.repair.export import python_script, report_html, steer_file
from neurons.repair.linear import LinearModel, Weights, path, solve
from neurons.repair.paraphrases import template_paraphrases
from neurons.repair.problem import Problem, decide, margins, prepare
from neurons.repair.regex_example import examples
from neurons.repair.repair import check_steers, repair
from neurons.repair.result import RepairResult, pareto_front, result_to_json
from neurons.repair.rewording import endpoint_paraphrases
from neurons.repair.search import SearchState, Slopes, search
from neurons.repair.spec import RepairSpec, load_spec, parse_spec, spec_to_json
from neurons.repair.state import load_state, save_state, state_path
from neurons.repair.steers import plan_to_steers, steers_to_plan
from neurons.repair.verify import Verifier
from neurons.steering import compile_edits, parse_steers_text, resolve
from neurons.types import Sampling

PROMPTS = ("ab", "xyz?", "what is it", "0 1 2")
PLAN = {(0, 3): Action(0.0), (1, 7): Action(3.0, 0.5), (2, 40): Action(1.0, -1.0)}


def _rows(loaded: LoadedModel, head: int = 3) -> tuple[Batcher, list[Row]]:
    generator = torch.Generator().manual_seed(0)
    prefix = tuple(torch.randint(0, 250, (head,), generator=generator).tolist())
    rows = [Row(tuple(torch.randint(0, 250, (n,), generator=generator).tolist()), max(1, n - 2)) for n in (4, 9, 6)]
    return Batcher(loaded, prefix), rows


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gemma2", "mixtral", "gpt_neox"])
def test_a_batch_gives_what_each_row_gives_alone(architecture: str) -> None:
    loaded = tiny_model(architecture)
    batcher, rows = _rows(loaded)
    plans = [{}, PLAN, {(2, 1): Action(-2.0)}]
    picks = [[3, 2 + len(row.ids)] for row in rows]
    together = batcher.logits(rows, picks, plans)
    for row, pick, plan, got in zip(rows, picks, plans, together, strict=True):
        ids = torch.tensor([[*batcher.prefix, *row.ids]])
        steers = resolve(loaded, plan_to_steers(plan, "3:512"))
        alone = run_forward(loaded, ids, edits=compile_edits(loaded, steers, 3 + row.asked)).logits[0, pick]
        torch.testing.assert_close(got, alone, atol=2e-5, rtol=1e-4)
    assert batcher.meter.passes == 1 + len(rows)  # the prefix once


def test_no_hook_is_left_behind() -> None:
    loaded = tiny_model("llama")
    batcher, rows = _rows(loaded)
    with pytest.raises(IndexError):
        batcher.logits(rows, [[999]] * 3, [PLAN])
    assert not loaded.model.get_output_embeddings()._forward_pre_hooks
    assert not any(site.module._forward_pre_hooks for site in loaded.sites)
    with pytest.raises(ZeroDivisionError), added_to_residual(loaded, 1, torch.zeros(32)):
        raise ZeroDivisionError
    assert not any(module._forward_hooks for module in loaded.model.modules())


def test_batched_greedy_answers_are_those_of_generate() -> None:
    loaded = tiny_model("llama")
    batcher, rows = _rows(loaded)
    asked = [Row(row.ids, len(row.ids)) for row in rows]
    steers = resolve(loaded, plan_to_steers(PLAN, "3:512"))
    for plan, used in (({}, ()), (PLAN, steers)):
        answers = batcher.generate(asked, 6, [plan])
        for row, answer in zip(asked, answers, strict=True):
            alone = generate(loaded, (*batcher.prefix, *row.ids), sampling=Sampling(max_new_tokens=6), steers=used, record=False)
            assert answer == alone.answer_ids


def test_answer_scope_leaves_the_first_answer_token_alone() -> None:
    loaded = tiny_model("llama")
    batcher, rows = _rows(loaded)
    limited = Batcher(loaded, batcher.prefix, "answer")
    before, after = [[2 + row.asked] for row in rows], [[2 + len(row.ids)] for row in rows]
    for plain, steered in zip(limited.logits(rows, before), limited.logits(rows, before, [PLAN]), strict=True):
        torch.testing.assert_close(plain, steered, atol=1e-6, rtol=0)
    for row, got in zip(rows, limited.logits(rows, after, [PLAN]), strict=True):
        steers = resolve(loaded, plan_to_steers(PLAN, "answer"))
        edits = compile_edits(loaded, steers, 3 + row.asked)
        alone = run_forward(loaded, torch.tensor([[*batcher.prefix, *row.ids]]), edits=edits).logits[0, -1:]
        torch.testing.assert_close(got, alone, atol=2e-5, rtol=1e-4)


def test_gradients_are_the_change_for_a_small_multiplier() -> None:
    loaded = tiny_model("qwen2")
    batcher, rows = _rows(loaded)
    picks = [[2 + len(row.ids)] for row in rows]

    def objectives(_n: int, logits_PV: torch.Tensor) -> torch.Tensor:
        return torch.stack([logits_PV[0, 5], logits_PV[0, 7] - logits_PV[0, 9]])

    slopes = batcher.gradients(rows, picks, objectives, PLAN)
    for neuron in ((0, 3), (1, 11), (2, 40)):
        step = 1e-2
        old = PLAN.get(neuron, Action())
        moved = {**PLAN, neuron: Action(old.mul + step, old.add)}
        after = torch.stack([objectives(n, part) for n, part in enumerate(batcher.logits(rows, picks, [moved]))])
        torch.testing.assert_close((after - slopes.value_RK) / step, slopes.mul_RKLI[:, :, *neuron], atol=3e-3, rtol=5e-2)


def test_margins() -> None:
    logits = torch.tensor([[1.0, 3.0, 2.0], [5.0, 0.0, 1.0]])
    assert margins(logits, [1, 2]).tolist() == [1.0, -4.0]


def test_the_convex_step_reaches_the_goal_with_the_neuron_that_moves_no_control() -> None:
    model = LinearModel(
        margin_Q=np.array([-1.0, -0.5]),
        slope_QN=np.array([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0]]),
        control_C=np.array([0.5]),
        control_slope_CN=np.array([[0.0, -3.0, 0.0]]),
        probe_PN=np.array([[0.0, 2.0, 0.0]]),
        at_N=np.zeros(3),
        range_N=np.full(3, 3.0),
    )
    x = solve(model, Weights(goal=1.0), 1e-3)
    assert 1.9 < x[0] <= 3  # the hinge is flat past the goal
    assert abs(x[1]) < 0.1 * x[0]
    assert x[2] == 0
    chosen = path(model, Weights(goal=1.0), (1, 2))
    assert np.flatnonzero(chosen[1]).tolist() == [0]


def test_the_convex_step_stays_within_its_bounds() -> None:
    model = LinearModel(
        np.array([-9.0]), np.ones((1, 1)), np.array([1.0]), np.zeros((1, 1)), np.zeros((1, 1)), np.zeros(1), np.array([0.5])
    )
    assert solve(model, Weights(), 0.0)[0] == pytest.approx(0.5)


def test_plans_and_steers_are_the_same_thing() -> None:
    steers = plan_to_steers(PLAN, "3:512")
    assert {s.mode for s in steers} == {"scale", "add"}
    assert steers_to_plan(steers) == PLAN
    assert all(str(s.tokens) == "3:512" for s in steers)


def test_random_match_keeps_number_layers_and_actions() -> None:
    loaded = tiny_model("llama")
    import random

    drawn = random_match(loaded, PLAN, random.Random(1))
    assert [layer for layer, _ in sorted(drawn)] == [layer for layer, _ in sorted(PLAN)]
    assert not set(drawn) & set(PLAN)


# -- criteria and specs ------------------------------------------------------------------------------------------------


def test_what_counts_as_fixed() -> None:
    ankara, istanbul = Criterion("Ankara"), Criterion("Istanbul")
    assert fixed("The capital is ankara.", ankara, istanbul)
    assert fixed("Ankara, not Istanbul.", ankara, istanbul)
    assert not fixed("Istanbul, not Ankara.", ankara, istanbul)
    assert not fixed("The capital is Ankaran.", ankara)
    assert not Criterion("9.1").met("9.11 is larger")
    assert not Criterion("9").met("9.9 is larger")
    assert Criterion("9.9").met("It is 9.9.")
    assert Criterion("$5", "token").met("costs $50")
    assert Criterion("yes", "equals").met(" Yes. ")


@pytest.mark.parametrize(
    ("value", "field"),
    [("", "wanted"), ({"regex": "("}, "wanted"), ({"regex": "a*"}, "wanted"), ({"nope": "x"}, "wanted"), (["x"], "wanted")],
)
def test_bad_criteria_name_their_field(value: object, field: str) -> None:
    with pytest.raises(InvalidInput) as error:
        parse_criterion(value, field)
    assert error.value.field == field


def test_examples_of_a_regular_expression() -> None:
    assert examples(r"(?i)\b(no|not)\b") == ("no", "not")
    assert examples(r"Ankara|Angora") == ("Ankara", "Angora")
    assert examples(r"\d{2}")[0].isdigit()


GOOD = {
    "prompt": "What is the capital of Turkey?",
    "wanted": "Ankara",
    "unwanted": "Istanbul",
    "paraphrases": ["a?", "b?", "c?"],
    "controls": ["d?"],
}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"unwanted": "ankara"}, "unwanted"),
        ({"wanted": ""}, "wanted"),
        ({"wanted": {"regex": "["}}, "wanted"),
        ({"paraphrases": ["a?", "  "]}, "paraphrases"),
        ({"paraphrases": ["a?", "A?"]}, "paraphrases"),
        ({"paraphrases": ["a?", "What is the capital of turkey?"]}, "paraphrases"),
        ({"paraphrases": ["a?"]}, "paraphrases"),
        ({"paraphrases": "a?"}, "paraphrases"),
        ({"controls": []}, "controls"),
        ({"controls": ["a?"]}, "controls"),
        ({"controls": ["d?", "d?"]}, "controls"),
        ({"prompt": ""}, "prompt"),
        ({"heldout": 2}, "heldout"),
        ({"max_neurons": 0}, "max_neurons"),
        ({"tokens": "some"}, "tokens"),
        ({"typo": 1}, "typo"),
    ],
)
def test_bad_specs_name_their_field(change: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidInput) as error:
        parse_spec({**GOOD, **change})
    assert error.value.field == field


def _wordings(request: dict[str, Any], _number: int) -> Reply:
    """What the test asks for by the model's name."""
    content = {"good": '1. Name it.\n- "Say it!"\n\nWhat is it?\nName it.', "empty": ""}.get(request["model"])
    return (500, "broken") if content is None else chat_reply(content)


def test_paraphrases_from_an_endpoint() -> None:
    with serving(_wordings) as server:
        assert endpoint_paraphrases(Endpoint(server.url, "good", attempts=1), "What is it?") == ("Name it.", "Say it!")
        for model in ("empty", "broken"):
            with pytest.raises(EndpointError):
                endpoint_paraphrases(Endpoint(server.url, model, attempts=1), "What is it?")
    with pytest.raises(EndpointError):
        endpoint_paraphrases(Endpoint(server.url, "good", attempts=1), "What is it?")


def test_specs_round_trip_and_propose() -> None:
    spec = parse_spec({**GOOD, "within": ["1:2", "0:3-"], "tokens": "answer", "controls": [{"prompt": "d?", "expected": {"regex": "D"}}]})
    assert parse_spec(json.loads(json.dumps(spec_to_json(spec)))) == spec
    proposed = parse_spec({"prompt": "What is the capital of Turkey?", "wanted": "Ankara"})
    assert proposed.paraphrases_proposed
    assert proposed.controls_proposed
    assert len(proposed.paraphrases) == 10
    assert len(proposed.controls) == 20
    assert len(set(builtin_controls())) == len(builtin_controls()) >= 60
    assert "Tell me the capital of Turkey." in template_paraphrases("What is the capital of Turkey?")


def test_unreadable_spec_files(tmp_path: Path) -> None:
    for content in (b"", b"{", b"\xff\xfe", b"[1]", b'{"prompt": NaN}'):
        file = tmp_path / "spec.json"
        file.write_bytes(content)
        with pytest.raises(InvalidInput):
            load_spec(file)


# -- the whole way, on a random model ----------------------------------------------------------------------------------


def _spec(loaded: LoadedModel, **more: object) -> RepairSpec:
    """A wish that a random model can be brought to: its second choice instead of its first."""
    from neurons.models.chat import encode_prompt
    from neurons.types import Message

    ids = encode_prompt(loaded, [Message("user", "What is it?")]).ids
    order = run_forward(loaded, torch.tensor([ids])).logits[0, -1].argsort(descending=True).tolist()
    wanted = next(chr(i) for i in _printable(loaded) if i in order[1:60])
    return parse_spec(
        {
            "prompt": "What is it?",
            "wanted": {"token": wanted},
            "paraphrases": ["Tell me what it is.", "Is it?", "It is what?", "Say it."],
            "controls": ["Hello", "one two", "abc def", "12345"],
            "max_new_tokens": 2,
            **more,
        }
    )


def _printable(loaded: LoadedModel) -> list[int]:
    """Byte values of letters."""
    return [i for i in range(97, 123) if loaded.tokenizer.convert_tokens_to_ids(chr(i)) is not None]


@pytest.fixture(scope="module")
def tiny() -> LoadedModel:
    return tiny_model("llama")


@pytest.fixture(scope="module")
def tiny_problem(tiny: LoadedModel) -> Problem:
    return prepare(tiny, _spec(tiny))


@pytest.fixture(scope="module")
def tiny_result(tiny: LoadedModel, tmp_path_factory: pytest.TempPathFactory) -> RepairResult:
    return repair(tiny, _spec(tiny), budget=3000, resume=False, keep=False)


def test_held_out_questions_are_no_part_of_the_search(tiny_problem: Problem) -> None:
    seen = {q.prompt for q in tiny_problem.train}
    held = {q.prompt for q in tiny_problem.heldout}
    assert tiny_problem.spec.prompt in seen
    assert len(held) == 2
    assert not seen & held
    evaluator = Evaluator(tiny_problem)
    assert len(evaluator.decisions) == len(seen)


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


def test_a_small_step_delivers_what_the_slopes_promise(tiny_problem: Problem) -> None:
    evaluator = Evaluator(tiny_problem)
    slopes = Slopes({}, evaluator.question_gradients({}), evaluator.control_gradients({}, 1))
    start = evaluator.questions([{}])[0].lack
    assert slopes.promised_lack({}) == pytest.approx(start, abs=1e-3)
    mean_LI = slopes.questions.mul_RKLI[:, 0].mean(0)
    layer, index = divmod(int(mean_LI.abs().argmax()), mean_LI.shape[1])
    plan = {(layer, index): Action(1.01 if mean_LI[layer, index] > 0 else 0.99)}
    promised, delivered = start - slopes.promised_lack(plan), start - evaluator.questions([plan])[0].lack
    assert promised > 0
    assert delivered == pytest.approx(promised, rel=0.1)


def test_a_round_that_did_not_move_needs_no_new_slopes(tiny_problem: Problem, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluator = Evaluator(tiny_problem)
    asked: list[object] = []
    gradients = evaluator.question_gradients
    monkeypatch.setattr(evaluator, "question_gradients", lambda plan: asked.append(dict(plan)) or gradients(plan))
    places: list[object] = [{}]
    state = search(evaluator, budget=2500, on_state=lambda s: None if s.at == places[-1] else places.append(dict(s.at)))
    assert asked == places[: len(asked)]
    assert state.rounds > len(asked)


def test_a_budget_stops_the_search(tiny: LoadedModel) -> None:
    result = repair(tiny, _spec(tiny), budget=1, compare=False, resume=False, keep=False)
    assert not result.found
    assert result.stopped == "budget"
    assert "No fix found" in result.message


def test_cancel_and_resume(tiny: LoadedModel, home: Path) -> None:
    spec = _spec(tiny)
    rounds: list[int] = []

    def stop_after_first(state: SearchState) -> None:
        rounds.append(state.rounds)
        raise Cancelled

    stopped = repair(tiny, spec, budget=3000, compare=False, on_best=stop_after_first)
    assert stopped.stopped == "cancelled"
    assert rounds == [1]
    kept = load_state(state_path(spec, tiny.ref))
    assert kept is not None
    assert kept.rounds == 1
    again = repair(tiny, spec, budget=3000, compare=False)
    assert again.forward_passes > stopped.forward_passes
    path_ = state_path(spec, tiny.ref)
    path_.write_text("{", encoding="utf-8")
    assert load_state(path_) is None
    save_state(path_, SearchState([Point(PLAN, True, 1, 1, 0.5, 0.0, 2, 2, 0.1)], PLAN))
    back = load_state(path_)
    assert back is not None
    assert back.best == Point(PLAN, True, 1, 1, 0.5, 0.0, 2, 2, 0.1)


def test_the_result_is_what_generate_says(tiny: LoadedModel, tiny_result: RepairResult) -> None:
    verdict = tiny_result.verdict
    assert verdict is not None
    assert len(verdict.answers) == 1 + 4 + 4
    again = check_steers(tiny, tiny_result.spec, tiny_result.steers)
    assert again == verdict
    assert verdict.kl >= 0
    assert tiny_result.found == (verdict.prompt_fixed and verdict.train.share >= 0.8 and verdict.controls.share >= 0.95)
    assert len(tiny_result.random) == 5
    assert {b.name for b in tiny_result.baselines} >= {"mean-difference vector", "top 20 by attribution"}
    assert any(p.chosen for p in tiny_result.pareto)


def test_json_has_what_is_promised(tiny_result: RepairResult) -> None:
    data = json.loads(json.dumps(result_to_json(tiny_result), allow_nan=False))
    assert {"found", "steer", "neurons", "heldout", "controls", "random", "baselines", "forward_passes", "seconds"} <= set(data)
    assert {"fixed", "total", "interval"} <= set(data["heldout"])
    assert {"unchanged", "total", "kl"} <= set(data["controls"])
    assert data["heldout"]["seen_by_search"] is False


def test_exports(tiny: LoadedModel, tiny_result: RepairResult, tmp_path: Path) -> None:
    assert parse_steers_text(steer_file(tiny_result.steers, tiny_result.model), ref=tiny.ref) == tiny_result.steers
    other = tiny_model("gpt2").ref
    with pytest.raises(InvalidInput, match="saved for"):
        parse_steers_text(steer_file(tiny_result.steers, tiny_result.model), ref=other)
    tiny.model.save_pretrained(tmp_path / "model")
    tiny.tokenizer.save_pretrained(tmp_path / "model")
    script = tmp_path / "fix.py"
    script.write_text(python_script(tiny, tiny_result.spec, tiny_result.steers), encoding="utf-8")
    ran = subprocess.run([sys.executable, str(script), str(tmp_path / "model")], capture_output=True, text=True, timeout=120, check=True)
    assert tiny_result.verdict is not None
    assert ran.stdout.count("question: ") == 1 + len(tiny_result.spec.paraphrases)
    first = tiny_result.verdict.answers[0]
    assert f"question: {first.prompt!r}\n  unsteered: {first.unsteered!r}\n  steered:   {first.steered!r}\n" in ran.stdout


def test_the_report_escapes_everything(tiny_result: RepairResult) -> None:
    from dataclasses import replace

    evil = "<script>alert(1)</script>"
    spec = replace(tiny_result.spec, prompt=evil)
    page = report_html(replace(tiny_result, spec=spec, unsteered=evil, message=evil), about_neurons={"0:0+": evil})
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "http" not in page.split("</style>")[1].replace("http-equiv", "")


def test_wrong_wishes_are_refused_before_anything_runs(tiny: LoadedModel) -> None:
    said = prepare(tiny, _spec(tiny)).train[0].answer
    control = prepare(tiny, _spec(tiny)).controls[0]
    if said.strip():
        with pytest.raises(InvalidInput, match="already answers this right"):
            prepare(tiny, _spec(tiny, wanted={"token": said.strip()[0]}))
    wrong = [{"prompt": control.prompt, "expected": "certainly not this"}]
    with pytest.raises(InvalidInput, match="answered wrong without any steer"):
        prepare(tiny, _spec(tiny, controls=wrong))


def test_pareto_front_leaves_out_what_is_beaten() -> None:
    def point(neurons: int, turned: int, unchanged: int) -> Point:
        return Point({(0, n): Action(0.0) for n in range(neurons)}, turned > 0, turned, 4, 0.1, 0.0, unchanged, 10, 0.0)

    points = [point(1, 2, 10), point(2, 2, 9), point(3, 4, 10), point(5, 4, 10)]
    front = pareto_front(points, points[2], "all")
    assert [(p.neurons, p.turned) for p in front] == [(1, 2), (3, 4)]
    assert [p.chosen for p in front] == [False, True]


def test_decisions_keep_the_answer_before_the_unwanted_text(tiny_problem: Problem) -> None:
    question = tiny_problem.train[0]
    decision = decide(tiny_problem, question, question.answer_ids, {})
    assert decision.row.ids[: len(question.ids)] == question.ids
    assert len(decision.picks) == len(decision.chosen)
    assert decision.chosen[: decision.kept] == question.answer_ids[: decision.kept]


def test_verdicts_agree_between_batched_and_unbatched(tiny_problem: Problem) -> None:
    verifier = Verifier(tiny_problem)
    verifier.remember_controls()
    quick, full = verifier.quick(PLAN), verifier.full(PLAN)
    assert (quick.train, quick.heldout, quick.controls) == (full.train, full.heldout, full.controls)
    assert quick.kl == pytest.approx(full.kl)
    assert verifier.quick({}).kl == pytest.approx(0, abs=1e-6)
    assert verifier.quick({}).controls.share == 1


def test_the_command(tiny: LoadedModel, tmp_path: Path, home: Path) -> None:
    folder = tmp_path / "model"
    tiny.model.save_pretrained(folder)
    tiny.tokenizer.save_pretrained(folder)
    spec = tmp_path / "spec.json"
    spec.write_text(json.dumps(spec_to_json(_spec(tiny))), encoding="utf-8")
    outputs = {name: tmp_path / f"out.{name}" for name in ("steer-out", "report", "script")}
    files = [part for name, path_ in outputs.items() for part in (f"--{name}", str(path_))]
    arguments = ["repair", str(spec), "--budget", "300", "--no-compare", "-m", str(folder), "--save", "kept", *files]
    ran = CliRunner().invoke(cli, [*arguments, "--json"])
    data = json.loads(ran.stdout)
    assert ran.exit_code == (0 if data["found"] else 1)
    assert {"heldout", "controls", "random", "baselines", "forward_passes", "seconds"} <= set(data)
    assert experiments().load("kept")["neurons"] == data["neurons"]
    assert all(path_.stat().st_size > 100 for path_ in outputs.values())
    told = CliRunner().invoke(cli, arguments)
    assert told.exit_code == ran.exit_code
    assert "held-out" in told.stdout
    spec.write_text(json.dumps({**GOOD, "unwanted": "Ankara"}), encoding="utf-8")
    assert CliRunner().invoke(cli, arguments).exit_code == 2
    assert CliRunner().invoke(cli, ["repair", str(tmp_path / "none.json")]).exit_code == 2
