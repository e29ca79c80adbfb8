"""docs/python.md runs as written, on a tiny model."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

import neurons
import neurons.models.load
from tests.support.tiny_models import tiny_model

PAGE = Path(__file__).resolve().parents[2] / "docs" / "python.md"


@pytest.mark.slow
def test_the_page_runs_from_top_to_bottom(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "\n".join(re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL))
    tiny = tiny_model("llama")
    # The page's numbers belong to the default model; every call in it is made, on neurons and tokens that the tiny one has.
    code = code.replace("neurons.load_model()", "tiny").replace("29", "2").replace("1285", "28").replace("1123", "11")
    code = code.replace("max_new_tokens=60", "max_new_tokens=4")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "capitals.csv").write_text("prompt\nOne?\n\nTwo?\n")
    names: dict[str, object] = {"tiny": tiny, "torch": torch}
    exec(compile(code, str(PAGE), "exec"), names)
    assert names["report"].same  # type: ignore[attr-defined]
    assert len(names["prompt_runs"].results(names["store"], "capitals, steered")) == 2  # type: ignore[attr-defined]


def test_every_public_name_can_be_had() -> None:
    for name in neurons.__all__:
        assert getattr(neurons, name) is not None
