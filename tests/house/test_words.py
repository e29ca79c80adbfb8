"""Turns of phrase that readers stumbled over do not come back: in labels, help, messages, docstrings and docs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
UNITS = (
    "prompt|neuron|side|line|row|token|layer|minute|page|server|run|trace|case|concept|job|model|machine|window|pass|process|steer|"
    "group|shard"
)
PLURALS = (
    "[Oo]ne|[Oo]nce|row|rows|channels|objectives|seeds|tokens|requests|candidates|exemplars|extremes|sides|values|neurons|"
    "bytes|nats|seconds|runs|entries|GPUs"
)
REFUSED = {
    "'a' in the sense of 'per'": rf"\b(?:{PLURALS}),? (?:a|an) (?:{UNITS})\b(?! of|'s|’s)(?=[ \"'.,;:)|\]])",
    "'anew'": r"\b[Bb]egin anew\b",
    "'had better'": r"\bhad better\b",
    "'as dear as'": r"\bas dear as\b",
}
ALLOWED = ("sides a trace is about", "tokens a steer act")


def texts() -> list[Path]:
    code = [path for folder in ("neurons", "pages", "traces") for path in (ROOT / folder).rglob("*.py")]
    return [*code, *(path for path in (ROOT / "docs").glob("*.md") if path.name != "log.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]


@pytest.mark.parametrize("name", REFUSED)
def test_words_that_readers_stumble_over(name: str) -> None:
    found = []
    for path in texts():
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if re.search(REFUSED[name], line) and not any(words in line for words in ALLOWED):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:120]}")
    assert not found, "write it in plain English, 'per' for a rate:\n" + "\n".join(found)
