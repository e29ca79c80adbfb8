"""Every command in a code block of the docs and of README.md runs as it stands there, on the default model, or here stands why not."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

import neurons
from neurons.cli.main import build
from neurons.core.types import Sampling
from neurons.models.loaded import LoadedModel
from neurons.tracing.record import run_trace
from traces.store import TraceStore

ROOT = Path(__file__).resolve().parents[2]
PAGES = [path for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))) if path.name != "cli.md"]
NOT_RUN = {
    "neuronscope run": "serves until it is stopped: tests/cli/test_run.py",
    "neuronscope atlas collect --model meta-llama/Llama-3.1-8B-Instruct": "needs such a cluster: tests/atlas/test_ray_cluster.py",
    "neuronscope atlas merge --model meta-llama/Llama-3.1-8B-Instruct": "merges what those have collected: tests/atlas/test_collect.py",
    "neuronscope atlas concepts --model default": "minutes of the model's time: tests/cli/test_lexicon.py has it on a tiny one",
    "neuronscope repair spec.json": "searches for minutes: tests/repair/test_default_model.py",
    "neuronscope stats --prompts": "dozens of answers each: tests/statistics/test_comparison.py has it on a tiny model",
    "neuronscope models remove COPY": "the word stands for a copy that there is none of: tests/models/test_converted.py",
    "neuronscope stats ... --job": "the dots stand for the command above it: tests/cli/test_options.py",
}
"""Beginnings of the commands that are not run, each with the reason, or where it is run."""


def commands(page: Path) -> list[str]:
    """The commands of its code blocks: comments aside, continued lines joined."""
    blocks = re.findall(r"^```(?:bash|sh)?\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    lines = [re.split(r" {3,}", line)[0].strip() for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [" ".join(line.split()) if '"' not in line else line for line in lines if line.startswith("neuronscope ")]


def left_out(line: str) -> bool:
    return any(line == begin or line.startswith(f"{begin} ") for begin in NOT_RUN)


RUN = [(page.name, line) for page in PAGES for line in commands(page) if not left_out(line)]


@pytest.fixture
def at_work(default_model: LoadedModel, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files that the pages name, a trace, and the model that every command would load."""
    monkeypatch.setattr("neurons.checking.load.load_model", lambda *args, **options: default_model)
    monkeypatch.chdir(tmp_path)
    steer = {"neurons": ["29:1285", "29:1123"], "mode": "set", "strength": 0.0, "name": "suppress"}
    (tmp_path / "steer.json").write_text(json.dumps(steer))
    concept = {
        "key": "gliding",
        "name": "gliding",
        "definition": "Flying without an engine.",
        "words": ["glider"],
        "sentences": [f"The glider rose over field number {n}." for n in range(12)],
        "near": [f"The aeroplane's engine stopped over town number {n}." for n in range(12)],
    }
    (tmp_path / "my-field.json").write_text(json.dumps({"field": "Air", "concepts": [concept]}))
    run_trace(default_model, "What is the capital of Turkey?", sampling=Sampling(max_new_tokens=8), store=TraceStore(home / "traces"))
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize(("page", "line"), RUN, ids=[f"{page}: {line[:60]}" for page, line in RUN])
def test_commands_run_as_they_stand(page: str, line: str, at_work: Path) -> None:
    ran = CliRunner().invoke(build(), shlex.split(line)[1:])
    expected = (0, 1) if " replay " in line else (0,)  # on another machine than the example's, a replay says that it differs
    assert ran.exit_code in expected, (line, ran.stdout, ran.stderr, ran.exception)
    if "--json" in line:
        assert json.loads(ran.stdout)
    if "--against" in line:
        assert "contrasted with its first, ' Ank'" in ran.stderr


def test_what_is_left_out_still_stands_in_the_docs_and_takes_its_options() -> None:
    lines = [line for page in PAGES for line in commands(page)]
    assert [begin for begin in NOT_RUN if not any(line == begin or line.startswith(f"{begin} ") for line in lines)] == []
    assert [line for line in lines if left_out(line) and (said := unknown(line)) and "..." not in said] == []


def test_commands_named_in_the_text_are_commands_with_these_options() -> None:
    wrong = {}
    for page in PAGES:
        text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
        for line in re.findall(r"`(neuronscope [^`]*)`", text.replace("\n", " ")):
            if page.name != "bad-inputs.md" and (said := unknown(line)):
                wrong[f"{page.name}: {line}"] = said
    assert wrong == {}


def unknown(line: str) -> str:
    """The first word of a command line that names no command or option, "" where all do. Values are not looked at."""
    command: Any = typer.main.get_command(build())
    words = shlex.split(re.sub(r"[\[\]|]", " ", line).replace("|", " "))[1:]
    for word in words:
        if (inner := getattr(command, "commands", None)) is not None and not word.startswith("-"):
            if word not in inner:
                return word
            command = inner[word]
        elif word.startswith("--") and word.partition("=")[0] not in {name for p in command.params for name in p.opts + p.secondary_opts}:
            return word
    return ""


@pytest.mark.slow
def test_the_readme_s_snippet_runs_as_it_stands(default_model: LoadedModel, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    monkeypatch.setattr(neurons, "load_model", lambda: default_model, raising=False)
    names: dict[str, object] = {}
    exec(compile(code, "README.md", "exec"), names)
    assert names["causes"].attr_LTI.shape[0] == default_model.n_layers  # type: ignore[attr-defined]
