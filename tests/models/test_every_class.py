"""Every causal-LM class of the installed transformers, built tiny: right, or refused with a sentence, and docs/models.md says which."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from tests.support.class_table import Line, check_class

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

from model_table import page

FEW = (
    *("llama", "gpt2", "opt", "bloom", "gptj", "mpt", "gpt_oss", "granitemoehybrid", "granitemoeshared", "qwen2_moe", "qwen3_next"),
    *("qwen3_5_text", "deepseek_v2", "deepseek_v3", "glm4_moe", "gemma3n_text", "gemma4_text", "llama4_text", "lfm2", "jamba", "bert"),
    *("nemotron_h", "zaya", "mamba", "olmoe"),
)
"""A class of each kind: dense in several layouts, routed with and without shared experts, hybrid, latent attention, refused."""


def rows(text: str) -> dict[str, list[str]]:
    """The page's lines by model type: class, neurons and what is said, without the figures, whose rounding differs between machines."""
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("| ")]
    return {row[0]: [row[1], row[2], re.sub(r"\d[\w.+-]*", "#", row[8])] for row in cells if row[0] != "model type"}


@pytest.mark.parametrize("kind", [kind for kind in FEW if kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES])
def test_a_class_is_right_or_refused_as_the_page_says(kind: str) -> None:
    line = check_class(kind, MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[kind])
    assert line.right or line.refused, f"{kind} is wrong: {line.wrong}"
    written = rows((ROOT / "docs" / "models.md").read_text(encoding="utf-8"))
    assert rows(page([line]))[kind] == written[kind]


@pytest.mark.slow
def test_the_page_is_what_every_class_gives() -> None:
    lines: list[Line] = [check_class(kind, name) for kind, name in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.items()]
    assert not [f"{line.kind}: {line.wrong}" for line in lines if not line.right and not line.refused]
    assert sum(line.right for line in lines) >= 130
    assert rows(page(lines)) == rows((ROOT / "docs" / "models.md").read_text(encoding="utf-8"))


def test_a_wrong_figure_is_wrong() -> None:
    line = Line("x", "X", 3, (("gradient", 0.01), ("lens", 0.0)))
    assert line.wrong == ["gradient 0.01"]
    assert not line.right
    assert Line("x", "X", 3, (("gradient", float("nan")),)).wrong
