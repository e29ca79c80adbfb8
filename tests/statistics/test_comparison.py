"""Statistics of a steer: intervals against known values and by simulation, rows from a tiny model, resuming, the command line."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from statsmodels.stats.contingency_tables import mcnemar
from typer.testing import CliRunner

from neurons.atlas.quantiles import quantiles_for
from neurons.cli.main import app as cli
from neurons.cli.stats import rows_csv
from neurons.core.errors import Cancelled, InvalidInput
from neurons.core.repetition import repetition
from neurons.core.steers import Steer
from neurons.core.types import Message, NeuronSide, Sampling
from neurons.models.chat import decode, encode_prompt
from neurons.models.loaded import LoadedModel
from neurons.prompts.files import load_file, pasted
from neurons.runs.generation import generate
from neurons.runs.steering import dump_steers
from neurons.statistics.comparison import (
    ComparisonSpec,
    Conversation,
    from_prompt_set,
    measure,
)
from neurons.statistics.criteria import Criterion
from neurons.statistics.job import JOB_KIND, differing, job_worker, spec_from_json, spec_to_json
from neurons.statistics.paired import Rate, newcombe, paired_means, paired_rates
from neurons.statistics.rows import read_rows
from neurons.statistics.summary import Summary, summarise, verdict
from neurons.storage.jobs import JobRunner
from tests.support.tiny_models import tiny_model, tiny_tokenizer, tiny_torch_model

STEER = Steer((NeuronSide(1, 3), NeuronSide(2, 40)), "scale", -6.0)


def spec(**more: object) -> ComparisonSpec:
    prompts = tuple(Conversation(str(n), (Message("user", text),)) for n, text in enumerate(("one", "two?", "three, four")))
    values = {"criterion": Criterion("[aeiou]", "regex"), "sampling": Sampling(max_new_tokens=5), "random_sets": 2, **more}
    return ComparisonSpec(prompts, (STEER,), **values)  # type: ignore[arg-type]


def test_wilson_and_mcnemar_are_the_libraries_own() -> None:
    rate = Rate.of([True] * 8 + [False] * 2)
    assert (rate.low, rate.high) == (pytest.approx(0.4902, abs=1e-3), pytest.approx(0.9433, abs=1e-3))
    plain = [True] * 3 + [False] * 12 + [True] * 5
    steered = [False] * 3 + [True] * 12 + [True] * 5
    found = paired_rates(range(20), plain, steered)
    assert (found.gained, found.lost) == (12, 3)
    assert found.p_value == pytest.approx(mcnemar([[5, 3], [12, 0]], exact=True).pvalue)
    assert found.value == pytest.approx(9 / 20)
    assert found.low is not None
    assert found.high is not None
    assert found.low < found.value < found.high


def test_no_change_is_not_called_certain() -> None:
    found = paired_rates(range(10), [True] * 10, [True] * 10)
    assert found.value == 0
    assert found.low is not None
    assert found.high is not None
    assert found.low < -0.1
    assert found.high > 0.1
    assert found.p_value == 1
    assert found.method == "Newcombe, paired"


def test_the_unit_is_the_prompt() -> None:
    assert paired_rates([0], [False], [True]).low is None
    several = paired_rates([0, 0, 1, 1], [False] * 4, [True, False, True, True])
    assert several.value == pytest.approx(0.75)
    assert several.p_value == pytest.approx(0.5)
    assert paired_means([], []).low is None
    twelve = paired_rates([0] * 12, [False] * 12, [True] * 9 + [False] * 3)
    assert (twelve.low, twelve.p_value, twelve.told, twelve.prompts) == (None, 1.0, False, 1)
    once = paired_rates(range(6), [False] * 6, [True] * 4 + [False] * 2)
    copied = paired_rates([*range(6)] * 5, [False] * 30, ([True] * 4 + [False] * 2) * 5)
    assert (copied.low, copied.high) == (pytest.approx(once.low), pytest.approx(once.high))
    assert copied.p_value == pytest.approx(once.p_value)
    assert Rate.of([True] * 5 + [False], [0] * 5 + [1]) == Rate.of([True, False])


def summarise_rows(rows: Sequence[dict[str, Any]]) -> Summary:
    return summarise(read_rows(rows))


def row(prompt: str, seed: int, plain: bool, steered: bool, **more: Any) -> dict[str, Any]:
    facts = {"token_probability": None, "kl": 0.0, "length": 3, "repetition": 0.0, "answer": "x"}
    sides = {"plain": {**facts, "met": plain}, "steered": {**facts, "met": steered}}
    return {"row": f"{prompt}/{seed}", "prompt_id": prompt, "prompt": prompt, "seed": seed, **sides, **more}


@pytest.mark.parametrize("prompts", [4, 8, 20, pytest.param(100, marks=pytest.mark.slow)])
@pytest.mark.parametrize("seeds", [1, 3])
def test_without_an_effect_it_errs_in_at_most_five_of_a_hundred(prompts: int, seeds: int) -> None:
    rng = np.random.default_rng(prompts + seeds)
    rounds = 250
    wrong = 0
    for _ in range(rounds):
        rates = rng.random(prompts)
        rows = [row(str(n), s, *(rng.random(2) < rates[n]).tolist()) for n in range(prompts) for s in range(seeds)]
        criterion = [r for r in rows if r["plain"]["met"] != r["steered"]["met"]]
        wrong += bool(criterion) and "more than chance" in verdict(
            paired_rates([r["prompt_id"] for r in rows], [r["plain"]["met"] for r in rows], [r["steered"]["met"] for r in rows])
        )
    assert wrong / rounds <= 0.05


def test_few_prompts_are_said_to_be_too_few() -> None:
    copies = [row("the same", seed, False, seed < 9) for seed in range(12)]
    assert "1 prompt is too few to tell" in summarise_rows(copies).message
    assert summarise_rows(copies).prompts == 1
    four = [row(str(n), 0, False, True) for n in range(4)]
    assert "4 prompts are too few to tell (exact test, 4 prompts: p = 0.12)" in summarise_rows(four).message
    eight = [row(str(n), 0, False, True) for n in range(8)]
    assert "more than chance (exact test, 8 prompts: p = 0.0078)" in summarise_rows(eight).message
    many = [row(str(n), 0, n % 2 == 0, n % 2 == 1) for n in range(40)]
    assert "No difference can be told" in summarise_rows(many).message


def test_equal_prompts_under_other_names_are_one() -> None:
    prompts = pasted("the same\nthe same\nanother")
    units = [conversation.unit for conversation in from_prompt_set(prompts)]
    assert units[0] == units[1] != units[2]
    rows = [{**row(str(n), 0, False, True), "unit": unit} for n, unit in enumerate(units)]
    assert (summarise_rows(rows).pairs, summarise_rows(rows).prompts) == (3, 2)


def test_what_a_prompt_expects_counts_where_nothing_else_is_asked(tiny: LoadedModel) -> None:
    found = load_file(b"prompt,expected\nCapital of Peru?,Lima.\nCapital of Chile?,\n", name="x.csv").prompts
    conversations = from_prompt_set(found)
    assert [c.expected for c in conversations] == [Criterion("Lima"), None]
    assert from_prompt_set(found, Criterion("x"))[0].expected is None
    rows: list[dict[str, Any]] = []
    measure(tiny, ComparisonSpec(conversations, (STEER,), random_sets=0, sampling=Sampling(max_new_tokens=3)), on_row=rows.append)
    assert [r["plain"]["met"] for r in rows] == [False, None]
    assert summarise_rows(rows).judged == 1
    assert "Only 1 of the 2 prompts say what is expected" in summarise_rows(rows).message


def test_random_neurons_are_as_strong_for_themselves_however_the_steer_was_saved(tiny: LoadedModel, home: Path) -> None:
    plain = Steer((NeuronSide(1, 3), NeuronSide(2, 40, "-")), "set", 0.75)
    quantiles = quantiles_for(tiny)
    saved = plain.with_values(quantiles.values(plain.neurons))
    kl = []
    for steer in (plain, saved):
        rows: list[dict[str, Any]] = []
        measure(tiny, ComparisonSpec(spec().prompts, (steer,), random_sets=2, sampling=Sampling(max_new_tokens=3)), on_row=rows.append)
        kl.append([r["random 1"]["kl"] for r in rows])
    assert kl[0] == pytest.approx(kl[1], rel=1e-4)
    assert max(kl[0]) > 0


def test_a_job_is_not_resumed_under_other_parameters() -> None:
    old = json.loads(json.dumps(spec_to_json(spec())))
    assert differing(old, spec_to_json(spec())) == ()
    assert differing(old, spec_to_json(spec(seeds=2, token="a"))) == ("token", "seeds")
    assert differing({**old, "model": "a"}, {**old, "model": "b"}) == ("model",)
    assert differing({**old, "precision": "float32"}, {**old, "precision": "bfloat16"}) == ("precision",)
    assert differing(old, {**old, "precision": "bfloat16"}) == (), "a job of an older version does not say"


def test_intervals_cover_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    truth, hits, hits_newcombe, rounds = 0.2, 0, 0, 120
    for round_ in range(rounds):
        plain = rng.random(60) < 0.4
        steered = np.where(plain, rng.random(60) < 0.85, rng.random(60) < 0.4333)
        found = paired_rates(range(60), plain.tolist(), steered.tolist(), seed=round_)
        assert found.low is not None
        assert found.high is not None
        hits += found.low <= truth <= found.high
        low, high = newcombe(plain.tolist(), steered.tolist())
        hits_newcombe += low <= truth <= high
    assert hits / rounds > 0.88
    assert hits_newcombe / rounds > 0.88


def test_seeds_of_one_prompt_do_not_narrow_the_interval() -> None:
    rng = np.random.default_rng(1)
    change = rng.random(12).tolist()
    once = paired_means(range(12), change)
    thrice = paired_means([n for n in range(12) for _ in range(10)], [c for c in change for _ in range(10)])
    assert thrice.low == pytest.approx(once.low, abs=0.03)
    assert thrice.high == pytest.approx(once.high, abs=0.03)


def test_repetition() -> None:
    assert repetition([1, 2, 3, 4, 5]) == 0
    assert repetition([1, 2, 3] * 20) > 0.9
    assert repetition([1]) == 0


def test_rows_are_what_generate_says(tiny: LoadedModel) -> None:
    rows: list[dict[str, object]] = []
    measure(tiny, spec(token="a"), on_row=rows.append)
    assert len(rows) == 3
    ids = encode_prompt(tiny, [Message("user", "one")]).ids
    plain = generate(tiny, ids, sampling=Sampling(max_new_tokens=5), record=False)
    steered = generate(tiny, ids, sampling=Sampling(max_new_tokens=5), steers=[STEER], record=False)
    first: dict[str, dict[str, float]] = rows[0]  # type: ignore[assignment]
    assert first["plain"]["answer"] == decode(tiny, plain.answer_ids)
    assert first["steered"]["answer"] == decode(tiny, steered.answer_ids)
    assert first["plain"]["kl"] == 0
    assert first["steered"]["kl"] > 0
    assert 0 <= first["plain"]["token_probability"] <= 1
    assert {"random 1", "random 2"} <= set(first)
    summary = summarise_rows(rows)
    assert summary.pairs == 3
    assert [f.name for f in summary.figures] == ["criterion", "token probability", "length", "repetition"]
    assert summary.kl > 0
    assert summary.random_kl is not None
    assert len(rows_csv(read_rows(rows)).splitlines()) >= 4


def test_sampled_seeds_are_pairs_of_their_own(tiny: LoadedModel) -> None:
    rows: list[dict[str, object]] = []
    sampled = spec(seeds=2, random_sets=0, sampling=Sampling(temperature=1.0, max_new_tokens=5))
    measure(tiny, sampled, on_row=rows.append)
    assert [row["row"] for row in rows] == ["0/0", "0/1", "1/0", "1/1", "2/0", "2/1"]
    again: list[dict[str, object]] = []
    measure(tiny, sampled, done=rows[:4], on_row=again.append)
    assert again == rows[4:]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"seeds": 3}, "seeds"),
        ({"seeds": 0}, "seeds"),
        ({"random_sets": -1}, "random_sets"),
        ({"criterion": Criterion("(", "regex")}, "criterion"),
        ({"sampling": Sampling(temperature=-1.0)}, "temperature"),
    ],
)
def test_bad_comparisons_name_their_field(change: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidInput) as error:
        spec(**change).check()
    assert error.value.field == field


def test_a_steer_that_does_nothing_is_refused() -> None:
    with pytest.raises(InvalidInput, match="change nothing"):
        ComparisonSpec(spec().prompts, (Steer((), "set"),)).check()


def test_a_prompt_that_cannot_be_run_is_a_failed_row(tiny: LoadedModel) -> None:
    rows: list[dict[str, object]] = []
    long = Conversation("long", (Message("user", "x" * 600),))
    measure(
        tiny,
        ComparisonSpec((*spec().prompts, long), (STEER,), Criterion("a"), random_sets=0, sampling=Sampling(max_new_tokens=3)),
        on_row=rows.append,
    )
    assert "positions" in str(rows[-1]["error"])
    assert summarise_rows(rows).failed == 1


def test_a_job_can_be_stopped_and_goes_on(tiny: LoadedModel, home: Path) -> None:
    asked = spec(random_sets=0)
    assert spec_from_json(json.loads(json.dumps(spec_to_json(asked)))) == asked
    seen: list[str] = []

    def stop(done: int, total: int | None, message: str) -> None:
        seen.append(message)
        if done == 1:
            raise Cancelled

    rows: list[dict[str, object]] = []
    with pytest.raises(Cancelled):
        measure(tiny, asked, on_row=rows.append, progress=stop)
    assert len(rows) == 1
    runner = JobRunner()
    try:
        runner.register(JOB_KIND, job_worker(lambda _params, _progress: tiny))
        job = runner.start(JOB_KIND, spec_to_json(asked), title="three")
        assert runner.wait(job.id, timeout=60).state == "done"
        assert len(runner.rows(job.id)) == 3
    finally:
        runner.close()


def test_the_command(tmp_path: Path, home: Path) -> None:
    folder = tmp_path / "model"
    tiny_torch_model("llama").save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    (tmp_path / "prompts.txt").write_text("one\ntwo\n", encoding="utf-8")
    (tmp_path / "steer.json").write_text(json.dumps(dump_steers([STEER], tiny_model("llama").ref)), encoding="utf-8")
    arguments = ["stats", "--prompts", str(tmp_path / "prompts.txt"), "--steer", str(tmp_path / "steer.json"), "-m", str(folder)]
    more = ["--regex", "[aeiou]", "--max-new-tokens", "4", "--random-sets", "1", "--csv", str(tmp_path / "out.csv"), "--save", "kept"]
    ran = CliRunner().invoke(cli, [*arguments, *more, "--json"])
    assert ran.exit_code == 0, ran.output
    data = json.loads(ran.stdout)
    assert data["pairs"] == 2
    assert len((tmp_path / "out.csv").read_text(encoding="utf-8").splitlines()) >= 3
    assert data["counted"] == "2 rows read, 2 asked, 0 left out"
    assert CliRunner().invoke(cli, [*arguments, "--contains", "a", "--regex", "b"]).exit_code == 2
    other = CliRunner().invoke(cli, [*arguments, *more, "--token", "a", "--job", data["job"], "--json"])
    assert other.exit_code == 2
    assert "started with other token" in other.stderr
    (tmp_path / "prompts.txt").write_text("one\nthree\n", encoding="utf-8")
    assert "started with other prompts" in CliRunner().invoke(cli, [*arguments, *more, "--job", data["job"]]).stderr
    gpt2 = json.dumps(dump_steers([STEER], tiny_model("gpt2").ref))
    (tmp_path / "steer.json").write_text(gpt2, encoding="utf-8")
    refused = CliRunner().invoke(cli, [*arguments, "--contains", "a", "--json"])
    assert refused.exit_code == 2


def test_the_command_follows_the_penalties_of_the_models_files_when_asked(tmp_path: Path, home: Path) -> None:
    folder = tmp_path / "model"
    model = tiny_torch_model("llama")
    model.generation_config.repetition_penalty = 5.0
    model.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    (tmp_path / "prompts.txt").write_text("one\ntwo\n", encoding="utf-8")
    (tmp_path / "steer.json").write_text(json.dumps(dump_steers([STEER], tiny_model("llama").ref)), encoding="utf-8")
    arguments = ["stats", "--prompts", str(tmp_path / "prompts.txt"), "--steer", str(tmp_path / "steer.json"), "-m", str(folder)]
    more = ["--regex", "[aeiou]", "--max-new-tokens", "8", "--random-sets", "0"]
    plain = CliRunner().invoke(cli, [*arguments, *more, "--csv", str(tmp_path / "plain.csv")])
    followed = CliRunner().invoke(cli, [*arguments, *more, "--penalties", "--csv", str(tmp_path / "followed.csv")])
    assert (plain.exit_code, followed.exit_code) == (0, 0), plain.output + followed.output
    assert "--penalties follows it" in plain.stderr
    assert "--penalties follows it" not in followed.stderr
    answers = [pd.read_csv(tmp_path / f"{name}.csv", keep_default_na=False) for name in ("plain", "followed")]
    assert not answers[0].equals(answers[1])
    job = next(line.split()[1] for line in followed.stderr.splitlines() if line.startswith("job "))
    refused = CliRunner().invoke(cli, [*arguments, *more, "--job", job])
    assert "started with other sampling" in refused.stderr
