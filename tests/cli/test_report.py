"""`neuronscope report`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from neurons.cli.main import app
from neurons.core.types import Sampling
from neurons.models.loaded import LoadedModel
from neurons.tracing.record import run_trace
from traces.store import TraceStore


def test_a_report_is_written_where_it_is_asked_for(home: Path, tiny: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record, _ = run_trace(tiny, "hello there", sampling=Sampling(max_new_tokens=4), store=TraceStore())
    monkeypatch.chdir(tmp_path)
    told = CliRunner().invoke(app, ["report", "last", "--json"])
    assert told.exit_code == 0, told.output
    answer = json.loads(told.stdout)
    page = tmp_path / f"report-{record.id}.html"
    assert (answer["file"], answer["bytes"]) == (page.name, page.stat().st_size)
    assert "hello there" in page.read_text(encoding="utf-8")
    assert CliRunner().invoke(app, ["report", record.id, "--against", "nothing", "-o", "x.html"]).exit_code != 0
    assert not (tmp_path / "x.html").exists()
