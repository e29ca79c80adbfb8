"""The commands about traces and prompts, in process on a tiny model in a folder; once as a real process on the default model."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from neurons.cli.main import build
from neurons.concepts.sets import Concept, SavedConcepts
from neurons.core.types import NeuronSide
from tests.support.tiny_models import tiny_tokenizer, tiny_torch_model
from traces import TraceStore

APP = build()
STEER = {"neurons": [f"2:{i}" for i in range(48)], "mode": "set", "strength": 1.0, "values": [3.0] * 48, "name": "push"}
SETTINGS = ["--max-new-tokens", "4", "--temperature", "0.7", "--seed", "3"]


@pytest.fixture
def steer(tmp_path: Path) -> str:
    path = tmp_path / "steer.json"
    path.write_text(json.dumps(STEER))
    return str(path)


def cli(*arguments: str, status: int = 0, stdin: str | None = None) -> Any:
    """Run a command with --json and return what it printed."""
    result = CliRunner().invoke(APP, [*arguments, "--json"], input=stdin)
    assert result.exit_code == status, (result.stdout, result.stderr, result.exception)
    return json.loads(result.stdout) if result.stdout else json.loads(result.stderr.strip().splitlines()[-1])


def text(*arguments: str, status: int = 0) -> str:
    result = CliRunner().invoke(APP, list(arguments))
    assert result.exit_code == status, (result.stdout, result.stderr, result.exception)
    return result.stdout


@pytest.fixture
def traced(home: Path, model: str) -> dict[str, Any]:
    return cli("trace", "Hello?", "--model", model, *SETTINGS, "--name", "greeting", "--tag", "a")


def test_trace(traced: dict[str, Any], model: str) -> None:
    assert set(traced) >= {"trace_id", "prompt_token_ids", "answer_token_ids", "answer", "seconds"}
    assert len(traced["answer_token_ids"]) <= 4
    again = cli("trace", "-", "--model", model, *SETTINGS, stdin="Hello?\n")
    assert again["prompt_token_ids"] == traced["prompt_token_ids"]
    assert again["answer_token_ids"] == traced["answer_token_ids"]
    assert again["trace_id"] != traced["trace_id"]
    assert "trace " in text("trace", "Hello?", "--model", model, *SETTINGS)


def test_steered_trace_and_compare(home: Path, model: str, steer: str) -> None:
    steered = cli("trace", "Hello?", "--model", model, *SETTINGS, "--steer", steer)
    both = cli("compare", "Hello?", "--model", model, *SETTINGS, "--steer", steer)
    assert both["steered"]["answer_token_ids"] == steered["answer_token_ids"]
    assert both["baseline"]["answer_token_ids"] != steered["answer_token_ids"]
    assert both["same"] is False
    assert both["divergence"]["position"] >= len(steered["prompt_token_ids"])
    store = TraceStore()
    assert store.load(both["steered"]["trace_id"]).baseline_id == both["baseline"]["trace_id"]
    assert "of the words changed" in text("compare", "Hello?", "--model", model, *SETTINGS, "--steer", steer)


def test_bad_input_comes_before_the_model_is_loaded(home: Path, tmp_path: Path, steer: str) -> None:
    nowhere = ["--model", str(tmp_path / "no-such-model")]
    assert cli("trace", "x", *nowhere, "--temperature", "-1", status=2)["field"] == "temperature"
    assert cli("trace", "x", *nowhere, "--steer", str(tmp_path / "none.json"), status=2)["field"] == "steer"
    assert "steer" in cli("compare", "x", *nowhere, status=2)["error"]
    assert cli("sweep", "x", *nowhere, "--steer", steer, "--strengths", "2:1:1", status=2)["field"] == "strengths"
    assert cli("trace", "x", *nowhere, status=1)["error"]
    wrong = tmp_path / "wrong.json"
    wrong.write_text('{"neurons": ["2:1"], "strength": NaN}')
    assert cli("trace", "x", *nowhere, "--steer", str(wrong), status=2)["error"]


def test_a_steer_for_neurons_that_are_not_there(home: Path, model: str, tmp_path: Path) -> None:
    path = tmp_path / "s.json"
    path.write_text('{"neurons": ["99:1"], "strength": 0}')
    assert "layers 0 to 2" in cli("trace", "Hello?", "--model", model, "--steer", str(path), status=2)["error"]
    assert cli("trace", "   ", "--model", model, status=2)["field"] == "prompt"


def test_activations(traced: dict[str, Any]) -> None:
    found = cli("activations", traced["trace_id"][:8], "--tokens", "3:9", "--top", "7")
    assert len(found["rows"]) == 7
    assert {"layer", "index", "polarity", "activation", "normalised", "token", "text"} <= set(found["rows"][0])
    assert all(3 <= row["token"] < 9 for row in found["rows"])
    assert "own statistics" in found["normaliser"]
    only = cli("activations", "last", "--layers", "1:2", "--polarity", "-", "--top", "5")["rows"]
    assert {(row["layer"], row["polarity"]) for row in only} == {(1, "-")}
    cli("traces", "evict", traced["trace_id"])
    assert cli("activations", traced["trace_id"], "--tokens", "3:9", "--top", "7")["rows"] == found["rows"]
    assert cli("activations", traced["trace_id"], "--tokens", "9999", status=2)["field"] == "tokens"
    assert cli("activations", traced["trace_id"], "--polarity", "x", status=2)["field"] == "polarity"
    assert cli("activations", "ffffffffffff", status=1)["error"]
    assert "normalised by" in text("activations", "last")


def test_sweep(home: Path, model: str, steer: str) -> None:
    found = cli("sweep", "Hello?", "--model", model, *SETTINGS, "--steer", steer, "--strengths", "0:1:0.5", "--token", "A")
    assert [point["strength"] for point in found["points"]] == [0.0, 0.5, 1.0]
    assert found["token"] == "A"
    assert "strength" in text("sweep", "Hello?", "--model", model, *SETTINGS, "--steer", steer, "--strengths", "0,1", "--no-answers")


def test_tidying(traced: dict[str, Any], tmp_path: Path) -> None:
    trace_id = traced["trace_id"]
    assert cli("traces", "rename", trace_id, "new name")["name"] == "new name"
    assert cli("traces", "tag", trace_id, "b", "--remove", "a")["tags"] == ["b"]
    assert cli("traces", "note", trace_id, "a note")["note"] == "a note"
    assert cli("traces", "pin", trace_id)["pinned"] is True
    assert [row["id"] for row in cli("traces", "list", "new", "--pinned", "--tag", "b")["traces"]] == [trace_id]
    assert cli("traces", "unpin", trace_id)["pinned"] is False
    shown = cli("traces", "show", trace_id)
    assert shown["record"]["note"] == "a note"
    assert shown["activations"] == "stored"
    assert "a note" in text("traces", "show", trace_id)
    assert cli("traces", "delete", trace_id)["deleted"] == [trace_id]
    assert trace_id not in [row["id"] for row in cli("traces", "list")["traces"]]
    assert [row["id"] for row in cli("traces", "list", "--trash")["traces"]] == [trace_id]
    assert cli("traces", "restore", trace_id[:8])["restored"] == [trace_id]
    cli("traces", "delete", trace_id)
    assert cli("traces", "purge", status=2)["field"] == "yes"
    assert cli("traces", "purge", "--yes")["purged"] == 1
    assert cli("traces", "usage", "--budget", "1.5")["budget_bytes"] == 1_500_000_000
    assert cli("traces", "list", "--sort", "x", status=2)["field"] == "sort"
    assert cli("traces", "list", "--rebuild")["traces"]


def test_verify_and_share(traced: dict[str, Any], tmp_path: Path) -> None:
    trace_id = traced["trace_id"]
    out = tmp_path / "out.zip"
    assert cli("traces", "export", trace_id, "-o", str(out))["traces"] == [trace_id]
    assert cli("traces", "export", trace_id, "-o", str(out), status=2)["field"] == "output"
    (imported,) = cli("traces", "import", str(out))["traces"]
    assert imported["original_id"] == trace_id != imported["id"]
    same = cli("traces", "compare", trace_id, imported["id"])
    assert same["same_ids"] is True
    assert "the same" in text("traces", "compare", trace_id, imported["id"])
    assert cli("traces", "verify")["ok"] is True
    chunk = TraceStore().root / trace_id / "tensors.zarr" / "activations" / "c" / "0" / "0" / "0"
    chunk.write_bytes(b"x" + chunk.read_bytes()[1:])
    report = cli("traces", "verify", trace_id, status=1)
    assert report["ok"] is False
    assert "c/0/0/0" in report["traces"][0]["problems"][0]
    out.write_bytes(out.read_bytes()[:500])
    assert cli("traces", "import", str(out), status=2)["error"]
    assert cli("traces", "import", str(tmp_path / "none.zip"), status=2)["field"] == "file"


def test_replay(traced: dict[str, Any], model: str, tmp_path: Path) -> None:
    report = cli("traces", "replay", traced["trace_id"], "--times", "3")
    assert (report["same"], report["times"], report["same_times"]) == (True, 3, 3)
    cli("traces", "evict", traced["trace_id"])
    assert cli("traces", "replay", traced["trace_id"], "--keep")["activations"] == "not stored"
    assert TraceStore().activation_state(traced["trace_id"]) == "stored"
    other = tmp_path / "other"
    tiny_torch_model("llama", seed=9).save_pretrained(other)
    tiny_tokenizer().save_pretrained(other)
    report = cli("traces", "replay", traced["trace_id"], "--model", str(other), status=1)
    assert report["same"] is False
    assert "weights" in report["reason"]


def test_prompts(home: Path, model: str, steer: str, tmp_path: Path) -> None:
    file = tmp_path / "ask.csv"
    file.write_text("question,id\nOne?,a\n,b\nTwo?,c\n")
    checked = cli("prompts", "check", str(file), status=1)
    assert (checked["rows"], checked["mapping"]["prompt"]) == (2, "question")
    assert checked["errors"] == [{"row": 2, "message": "the question is empty"}]
    done = cli("prompts", "run", str(file), "--name", "both", "--model", model, *SETTINGS, "--steer", steer, status=1)
    assert (done["state"], done["summary"]["pairs"], len(done["rows"]), [e["row"] for e in done["errors"]]) == ("done", 2, 2, [2])
    assert done["rows"][0]["steered_answer"] != done["rows"][0]["answer"]
    listed = cli("prompts", "list")["jobs"]
    assert [job["id"] for job in listed] == [done["job_id"]]
    assert cli("prompts", "show", done["job_id"][:6])["summary"] == done["summary"]
    assert cli("prompts", "resume", done["job_id"], status=2)["field"] == "job"
    assert len(cli("traces", "list", "--set", "both")["traces"]) == 4
    plain = cli("prompts", "run", "-", "--model", model, *SETTINGS, stdin="Three?\n")
    assert plain["summary"]["rows"] == 1
    assert cli("prompts", "save", str(file), "mine")["rows"] == 2
    assert "--replace" in cli("prompts", "save", str(file), "mine", status=2)["error"]
    assert cli("prompts", "save", str(file), "mine", "--replace")["rows"] == 2
    assert [found["name"] for found in cli("prompts", "sets")["sets"]] == ["mine"]
    assert cli("prompts", "check", "mine", status=1)["rows"] == 2
    assert cli("prompts", "check", "nothing", status=2)["field"] == "file"
    assert cli("prompts", "cancel", done["job_id"])["cancelled"] is False
    assert "2 of 2 answers differ" in text("prompts", "show", done["job_id"])


def test_two_runs_of_one_name_stay_two(home: Path, model: str, tmp_path: Path) -> None:
    (tmp_path / "one.csv").write_text("id,prompt\na,One?\nb,Two?\n")
    (tmp_path / "two.csv").write_text("id,prompt\na,One?\nc,Three?\nd,Four?\n")
    first = cli("prompts", "run", str(tmp_path / "one.csv"), "--name", "same", "--model", model, *SETTINGS)
    second = cli("prompts", "run", str(tmp_path / "two.csv"), "--name", "same", "--model", model, *SETTINGS)
    assert [(run["run"], run["summary"]["rows"]) for run in (first, second)] == [("same", 2), ("same 2", 3)]
    assert cli("prompts", "show", first["job_id"])["summary"]["rows"] == 2
    found = [row["id"] for row in cli("traces", "list", "--set", "same")["traces"]]
    cli("traces", "export", *found, "-o", str(tmp_path / "out.zip"))
    cli("traces", "import", str(tmp_path / "out.zip"))
    assert len(cli("traces", "list", "--set", "same")["traces"]) == 2
    assert len(cli("traces", "list", "--set", "same 3")["traces"]) == 2


def test_a_concept_keeps_its_name_through_a_file(home: Path, tmp_path: Path) -> None:
    exported = SavedConcepts()
    exported.save("big birds", Concept.of([NeuronSide(0, 1)]))
    for name in ("out.json", "list.json"):
        cli("concept", "export", "big birds", str(tmp_path / name))
    exported.rename("big birds", "birds once")
    assert cli("concept", "import", str(tmp_path / "out.json"))["name"] == "big birds"
    assert "already" in cli("concept", "import", str(tmp_path / "out.json"), status=2)["error"]
    assert cli("concept", "import", str(tmp_path / "out.json"), "--name", "told")["name"] == "told"
    (tmp_path / "list.json").write_text('["0:1"]')
    assert cli("concept", "import", str(tmp_path / "list.json"))["name"] == "list"


def test_dates_are_read_as_people_write_them(home: Path, model: str) -> None:
    cli("trace", "One?", "--model", model, *SETTINGS)
    everything = len(cli("traces", "list")["traces"])
    for since, count in (("2020-9-5", everything), ("2020", everything), ("2020/9/5 7:30", everything), ("9999-1-1", 0)):
        assert len(cli("traces", "list", "--since", since)["traces"]) == count
    assert cli("traces", "list", "--since", "yesterday", status=2)["field"] == "since"


def test_default_model_as_a_process(home: Path) -> None:
    """One real run: JSON alone on stdout, progress on stderr, and the same ids when it is replayed by another process."""

    def process(*arguments: str) -> Any:
        run = subprocess.run([sys.executable, "-m", "neurons.cli.main", *arguments, "--json"], capture_output=True, text=True, timeout=250)
        assert run.returncode == 0, run.stderr
        return json.loads(run.stdout)

    traced = process("trace", "What is the capital of France?", "--max-new-tokens", "3", "--seed", "5", "--temperature", "0.6")
    report = process("traces", "replay", traced["trace_id"][:7])
    assert report["same"] is True
    assert report["activations"] == "same"


def test_pinned_traces_keep_their_activations_unless_somebody_says_so(traced: dict[str, Any]) -> None:
    cli("traces", "pin", traced["trace_id"])
    assert "pinned" in cli("traces", "evict", traced["trace_id"], status=2)["error"]
    assert TraceStore().activation_state(traced["trace_id"]) == "stored"
    assert cli("traces", "evict", traced["trace_id"], "--pinned")["freed_bytes"] > 0


def test_the_hint_after_deleting_restores_all_of_it(traced: dict[str, Any], model: str) -> None:
    second = cli("trace", "More?", "--model", model, "--max-new-tokens", "2")["trace_id"]
    said = text("traces", "delete", traced["trace_id"], second)
    command = said.partition("undo: neuronscope ")[2].rstrip(")\n ").split()
    assert set(cli(*command)["restored"]) == {traced["trace_id"], second}
