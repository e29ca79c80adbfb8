"""Repair the whole way through, on a tiny random model."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from neurons.cli.main import app as cli
from neurons.core.errors import Cancelled, InvalidInput
from neurons.core.steers import Fade, Steer, TokenScope
from neurons.core.types import NeuronSide, Sampling
from neurons.models.chat import decode, encode_prompt
from neurons.models.loaded import LoadedModel
from neurons.repair.baselines import attribution_plans
from neurons.repair.batch import Action
from neurons.repair.evaluate import Evaluator, Point
from neurons.repair.experiments import experiments
from neurons.repair.export import python_script, report_html, steer_file
from neurons.repair.problem import Problem, prepare, shared_prefix
from neurons.repair.repair import _better, _Checked, _found_by_search, repair
from neurons.repair.result import RepairResult, pareto_front, result_to_json
from neurons.repair.search import SearchState, search
from neurons.repair.spec import RepairSpec, messages_of, spec_to_json
from neurons.repair.state import load_state, save_state, state_path
from neurons.repair.steers import plan_to_steers
from neurons.repair.verify import Share, Verdict, Verifier
from neurons.runs.generation import generate
from neurons.runs.steering import parse_steers_text, resolve
from neurons.tracing.record import resolved
from tests.support.repairs import GOOD, PLAN, wish
from tests.support.tiny_models import tiny_model


@pytest.fixture(scope="module")
def tiny() -> LoadedModel:
    return tiny_model("llama")


@pytest.fixture(scope="module")
def tiny_problem(tiny: LoadedModel) -> Problem:
    return prepare(tiny, wish(tiny))


@pytest.fixture(scope="module")
def tiny_result(tiny: LoadedModel, tmp_path_factory: pytest.TempPathFactory) -> RepairResult:
    return repair(tiny, wish(tiny), budget=3000, resume=False, keep=False)


def test_a_budget_stops_the_search(tiny: LoadedModel) -> None:
    result = repair(tiny, wish(tiny), budget=1, compare=False, resume=False, keep=False)
    assert not result.found
    assert result.stopped == "budget"
    assert "No fix found" in result.message


@pytest.mark.slow
@pytest.mark.parametrize("how", [Cancelled, KeyboardInterrupt])
def test_cancel_and_resume(tiny: LoadedModel, home: Path, how: type[BaseException]) -> None:
    spec = wish(tiny)
    rounds: list[int] = []

    def stop_after_first(state: SearchState) -> None:
        rounds.append(state.rounds)
        raise how

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
    save_state(path_, SearchState([Point(PLAN, True, 1, 1, 0.5, 0.0, 2, 2, True, 0.1)], PLAN))
    back = load_state(path_)
    assert back is not None
    assert back.best == Point(PLAN, True, 1, 1, 0.5, 0.0, 2, 2, True, 0.1)


def verdict_on(loaded: LoadedModel, spec: RepairSpec, steers: tuple[Steer, ...]) -> Verdict:
    """What steers do to a repair's questions and controls, found anew."""
    verifier = Verifier(prepare(loaded, spec))
    verifier.remember_controls()
    return verifier.of_steers(resolved(loaded, steers))


@pytest.mark.slow
def test_the_result_is_what_generate_says(tiny: LoadedModel, tiny_result: RepairResult) -> None:
    verdict = tiny_result.verdict
    assert verdict is not None
    assert len(verdict.answers) == 1 + 4 + 4
    again = verdict_on(tiny, tiny_result.spec, tiny_result.steers)
    assert again == verdict
    elsewhere = tuple(replace(steer, tokens=TokenScope("ranges", ((500, 501),))) for steer in tiny_result.steers)
    nothing = verdict_on(tiny, tiny_result.spec, elsewhere)
    assert nothing.kl == pytest.approx(0, abs=1e-6)
    assert all(answer.steered == answer.unsteered for answer in nothing.answers)
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


@pytest.mark.slow
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
    evil = "<script>alert(1)</script>"
    spec = replace(tiny_result.spec, prompt=evil)
    about = {str(replace(side, polarity="-")): f"{evil} known" for steer in tiny_result.steers for side in steer.neurons}
    page = report_html(replace(tiny_result, spec=spec, unsteered=evil, message=evil), about_neurons=about)
    assert "<script" not in page
    assert page.count("negative: &lt;script&gt;alert(1)&lt;/script&gt; known") == len(about) > 0
    assert "&lt;script&gt;" in page
    assert "http" not in page.split("</style>")[1].replace("http-equiv", "")


def test_wrong_wishes_are_refused_before_anything_runs(tiny: LoadedModel) -> None:
    problem = prepare(tiny, wish(tiny, max_new_tokens=1))
    control = problem.controls[0]
    right = next(q for q in (*problem.train, *problem.heldout, *problem.controls) if q.answer.strip().isprintable() and q.answer.strip())
    others = {"prompt": right.prompt, "paraphrases": ["x?", "y?"], "controls": ["z?"], "max_new_tokens": 1}
    with pytest.raises(InvalidInput, match="already answers this right"):
        prepare(tiny, wish(tiny, wanted={"token": right.answer.strip()[0]}, **others))
    wrong = [{"prompt": control.prompt, "expected": "certainly not this"}]
    with pytest.raises(InvalidInput, match="answered wrong without any steer"):
        prepare(tiny, wish(tiny, controls=wrong))


def test_pareto_front_leaves_out_what_is_beaten() -> None:
    def point(neurons: int, turned: int, unchanged: int) -> Point:
        return Point({(0, n): Action(0.0) for n in range(neurons)}, turned > 0, turned, 4, 0.1, 0.0, unchanged, 10, True, 0.0)

    points = [point(1, 2, 10), point(2, 2, 9), point(3, 4, 10), point(5, 4, 10)]
    front = pareto_front(points, points[2], "all")
    assert [(p.neurons, p.turned) for p in front] == [(1, 2), (3, 4)]
    assert [p.chosen for p in front] == [False, True]


def test_verdicts_agree_between_batched_and_unbatched(tiny_problem: Problem) -> None:
    verifier = Verifier(tiny_problem)
    verifier.remember_controls()
    quick, full = verifier.quick(PLAN), verifier.full(PLAN)
    assert (quick.train, quick.heldout, quick.controls) == (full.train, full.heldout, full.controls)
    assert quick.kl == pytest.approx(full.kl, rel=1e-4)
    assert verifier.quick({}).kl == pytest.approx(0, abs=1e-6)
    assert verifier.quick({}).controls.share == 1


@pytest.mark.slow
def test_the_command(tiny: LoadedModel, tmp_path: Path, home: Path) -> None:
    folder = tmp_path / "model"
    tiny.model.save_pretrained(folder)
    tiny.tokenizer.save_pretrained(folder)
    spec = tmp_path / "spec.json"
    spec.write_text(json.dumps(spec_to_json(wish(tiny))), encoding="utf-8")
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


@pytest.mark.slow
def test_a_repair_acts_from_the_questions_start_under_any_system_prompt(tiny: LoadedModel, tmp_path: Path) -> None:
    """Prompts that share more than the template: the plan still acts on the whole question, and the script does the same."""
    shared = {"prompt": "What is it?", "paraphrases": ["What is this?", "What was it?"], "controls": ["What a day", "What now"]}
    for system in (None, "Be concise."):
        spec = wish(tiny, system=system, **shared)
        problem = prepare(tiny, spec)
        encoded = encode_prompt(tiny, messages_of(spec, "What is it?"))
        assert encoded.question is not None
        assert problem.head == encoded.question[0] < shared_prefix([[*problem.batcher.prefix, *q.ids] for q in problem.train])
        steers = plan_to_steers(PLAN, problem.scope)
        assert {str(steer.tokens) for steer in steers} == {"from question"}
        verifier = Verifier(problem)
        verifier.remember_controls()
        full, quick = verifier.full(PLAN), verifier.quick(PLAN)
        assert (quick.train, quick.heldout, quick.controls) == (full.train, full.heldout, full.controls)
        tiny.model.save_pretrained(tmp_path / "model")
        tiny.tokenizer.save_pretrained(tmp_path / "model")
        both = Steer((NeuronSide(1, 20), NeuronSide(1, 20, "-")), "add", 1.0, TokenScope.parse("question,answer"), values=(4.0, -9.0))
        fading = Steer((NeuronSide(2, 4),), "add", 1.0, values=(5.0,), fade=Fade(2, 0.5))
        capping = Steer((NeuronSide(2, 7), NeuronSide(2, 9, "-")), "cap", 1.0, values=(-0.1, 0.1))
        steers = (*steers, both, fading, capping)
        script = tmp_path / "fix.py"
        script.write_text(python_script(tiny, spec, steers), encoding="utf-8")
        ran = subprocess.run(
            [sys.executable, str(script), str(tmp_path / "model")], capture_output=True, text=True, timeout=120, check=True
        )
        resolved = resolve(tiny, steers, prompt=encoded)
        sampling = Sampling(max_new_tokens=spec.max_new_tokens)
        said = decode(tiny, generate(tiny, encoded.ids, sampling=sampling, steers=resolved, record=False).answer_ids)
        assert f"  steered:   {said!r}\n" in ran.stdout.split("question: ")[1] + "\n"


def test_the_better_of_search_and_simple_is_the_result_blind_to_what_was_held_out(tiny: LoadedModel) -> None:
    result = repair(tiny, wish(tiny), budget=400, resume=False, keep=False)
    assert result.verdict is not None
    names = [baseline.name for baseline in result.baselines]
    assert "top 2 by attribution" in names
    assert ("found by the search" in names) == ("switched off" in result.message)


def test_the_rank_of_a_fix_knows_nothing_of_what_was_held_out() -> None:
    def checked(neurons: int, held: int, kl: float) -> _Checked:
        verdict = Verdict(Share.of(6, 6), Share.of(held, 5), Share.of(20, 20), kl, True)
        return _Checked(Point({(0, n): Action(0.0) for n in range(neurons)}, True, 6, 6, 0.1, 0.0), verdict)

    simple, searched = checked(2, 3, 0.0003), checked(7, 5, 0.0017)
    assert max([searched, simple], key=_Checked.rank) is simple
    said = _better(simple.verdict, (_found_by_search(searched),))
    assert "found by the search, 5 of 5 held-out questions" in said
    assert _better(searched.verdict, (_found_by_search(simple),)) == ""


def test_the_search_starts_from_the_strongest_by_attribution(tiny_problem: Problem) -> None:
    evaluator = Evaluator(tiny_problem)
    plans = attribution_plans(evaluator, (1, 2, 3))
    assert [len(plan) for plan in plans.values()] == [1, 2, 3]
    state = search(evaluator, budget=1, starts=tuple(plans.values()))
    assert [point.plan for point in state.points[:3]] == list(plans.values())
    assert all(point.unchanged is not None for point in state.points[:3])
    inside = replace(tiny_problem, spec=replace(tiny_problem.spec, within=tuple(NeuronSide(2, n) for n in range(40))))
    kept = attribution_plans(Evaluator(inside), (2,))
    assert {neuron[0] for plan in kept.values() for neuron in plan} <= {2}
