"""What all commands share: results on stdout, errors as one line on stderr with their exit status, start-up without torch."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from neurons.cli.common import ErrorGroup, emit, printable, size, stderr_progress, table
from neurons.cli.main import build
from neurons.core.errors import Cancelled, InvalidInput, ModelError, NeuronscopeError
from neurons.core.json_text import plain
from neurons.core.types import NeuronSide

RUN = [sys.executable, "-m", "neurons.cli.main"]


def app_raising(error: BaseException) -> typer.Typer:
    app = typer.Typer(cls=ErrorGroup)
    group = typer.Typer()

    @group.command()
    def fail() -> None:
        raise error

    @app.callback()
    def root() -> None: ...

    app.add_typer(group, name="group")
    return app


@pytest.mark.parametrize(
    ("error", "status"),
    [(InvalidInput("top-p is 2", field="top_p"), 2), (ModelError("no such model"), 1), (Cancelled(), 1), (NeuronscopeError("x"), 1)],
)
def test_errors_are_one_line_and_a_status(error: NeuronscopeError, status: int) -> None:
    result = CliRunner().invoke(app_raising(error), ["group", "fail"])
    assert result.exit_code == status
    assert result.stdout == ""
    assert result.stderr == f"error: {str(error) or 'stopped'}\n"


def test_errors_cannot_drive_the_terminal() -> None:
    result = CliRunner().invoke(app_raising(ModelError("bad\x1b[2J\nname")), ["group", "fail"])
    assert result.stderr == "error: bad\ufffd[2J name\n"


@pytest.mark.parametrize("group", [[], ["traces"], ["prompts"], ["models"], ["atlas"], ["concept"]])
def test_lists_of_commands_cut_no_sentence(group: list[str]) -> None:
    _, heading, listed = CliRunner().invoke(build(), [*group, "--help"]).stdout.partition("\nCommands:\n")
    assert heading
    assert "..." not in listed


def test_other_errors_are_bugs_and_leave_a_report(home: Path) -> None:
    result = CliRunner().invoke(app_raising(ZeroDivisionError()), ["group", "fail"])
    assert result.exit_code == 1
    (report,) = (home / "reports").iterdir()
    assert str(report) in result.stderr.replace("\n", "")
    assert "ZeroDivisionError" in report.read_text(encoding="utf-8")


def test_plain_values() -> None:
    @dataclasses.dataclass(frozen=True)
    class Result:
        side: NeuronSide
        values: np.ndarray
        path: Path

    result = Result(NeuronSide(1, 2, "-"), np.array([1.5, math.nan], dtype=np.float32), Path("x"))
    assert plain(result) == {"side": {"layer": 1, "index": 2, "polarity": "-"}, "values": [1.5, None], "path": "x"}
    assert plain({1: (np.int64(3), math.inf), "s": {2, 1}}) == {"1": [3, None], "s": [1, 2]}
    assert json.loads(json.dumps(plain(np.bool_(True)))) is True


def test_emit(capsys: pytest.CaptureFixture[str]) -> None:
    emit({"answer": "caf\u00e9\x1b"}, as_json=True, human="never")
    assert json.loads(capsys.readouterr().out) == {"answer": "caf\u00e9\x1b"}
    emit({}, False, lambda: "text\x07\n")
    assert capsys.readouterr().out == "text\ufffd\n\n"
    assert printable("a\tb\nc\x9b\ud800") == "a\tb\nc\ufffd\ufffd"


def test_table_and_size() -> None:
    text = table(("name", "value"), [("a\nb\x1b", 1.23456), ("long name", 10)])
    assert text.splitlines() == ["name       value", "---------  -----", "a\\nb\ufffd      1.235", "long name     10"]
    assert table(("a",), []) == "(none)"
    assert [size(n) for n in (12, 999_999, 538_090_408, 4_300_000_000, 5e12)] == ["12 B", "1000 kB", "538 MB", "4.3 GB", "5.0 TB"]


def test_progress_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with stderr_progress() as progress:
        for done in range(3):
            progress(done, 3, "reading")
        progress(0, None, "writing")
    out, err = capsys.readouterr()
    assert (out, err) == ("", "reading\nwriting\n")


def test_every_area_registers_commands() -> None:
    names = set(typer.main.get_command(build()).commands)  # type: ignore[attr-defined]
    assert names == {
        *("run", "trace", "activations", "compare", "sweep", "attribute", "effect", "paths", "lens", "traces", "prompts", "models"),
        *("atlas", "concept", "concepts", "lexicon", "repair", "search", "neuron", "clusters", "stats", "describe", "report", "steer"),
    }


def test_help_loads_no_heavy_library() -> None:
    code = (
        "import sys\nfrom neurons.cli.main import app\ntry:\n    app(['--help'])\nexcept SystemExit: pass\n"
        "heavy = {'torch', 'transformers', 'streamlit', 'pandas', 'zarr', 'numpy', 'sklearn'} & set(sys.modules)\n"
        "print('HEAVY', sorted(heavy))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.endswith("HEAVY []\n"), done.stdout[-200:]


@pytest.mark.parametrize(
    "arguments", [["nonsense"], ["models", "info", "--device", "gpu"], ["run", "--port", "0"], ["run", "--address", "0.0.0.0"]]
)
def test_bad_usage_is_2(arguments: list[str], home: Path) -> None:
    done = subprocess.run([*RUN, *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr


def test_json_errors(home: Path) -> None:
    done = subprocess.run([*RUN, "models", "info", "/no/where", "--json"], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert json.loads(done.stderr) == {
        "error": "there is no model folder /no/where, and it is not a hub id (owner/name); check the path",
        "field": None,
    }


def test_models_commands(default_model: object) -> None:
    runner = CliRunner()
    failed = runner.invoke(build(), ["models", "info", "/no/where", "--json"])
    assert (failed.exit_code, json.loads(failed.stderr)["field"]) == (1, None)
    listed = json.loads(runner.invoke(build(), ["models", "list", "--json"]).stdout)
    assert listed["models"][0]["spec"] == "default"
    info = json.loads(runner.invoke(build(), ["models", "info", "--device", "cpu", "--json"]).stdout)
    assert (info["layers"], info["neurons"], info["dtype"], info["cached"]) == (30, 46_080, "float32", True)
    fetched = runner.invoke(build(), ["models", "fetch", "--json"])
    assert fetched.exit_code == 0
    assert json.loads(fetched.stdout)["path"].endswith("models/default")
    for arguments in (["models", "list"], ["models", "info"], ["models", "fetch"]):
        result = runner.invoke(build(), arguments)
        assert result.exit_code == 0
        assert "SmolLM2" in result.stdout or "default" in result.stdout


@pytest.fixture
def interruptible(bare_home: Path) -> Callable[[], subprocess.Popen[str]]:
    # A test run in the background may itself ignore Ctrl-C, and a child would inherit that.
    return lambda: subprocess.Popen(
        [*RUN, "models", "fetch"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def test_ctrl_c_is_clean(interruptible: Callable[[], subprocess.Popen[str]], bare_home: Path) -> None:
    process = interruptible()
    assert process.stderr is not None
    assert "fetching" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    try:
        _, err = process.communicate(timeout=30)
    except subprocess.TimeoutExpired:  # Python loses one that comes in a destructor: a person presses again
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert not (bare_home / "models" / "default").exists()
