"""promptfoo's files: a configuration in YAML, or its tests as a CSV table with `__expected` columns.

Of its assertions those are kept that a text alone can be held against (equals, contains, regex and their kin); the others say nothing here.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any

from neurons.core.errors import InvalidFile, InvalidInput
from neurons.core.json_text import json_text
from neurons.core.outside_json import parse_json
from neurons.prompts.values import Expected, expected_of

_VARIABLE = re.compile(r"\{\{-?\s*([\w.]+)\s*-?\}\}")
_MAX = 100_000
_CONTAINS = ("contains", "icontains", "contains-any", "icontains-any")
_ASSERTION = re.compile(r"^(equals|contains-any|icontains-any|icontains|contains|starts-with|regex)\s*:\s*(.*)$", re.DOTALL)
_OTHER = re.compile(
    r"^(not-\S+|fn|eval|javascript|python|file|similar|grade|factuality|levenshtein|latency|cost|perplexity|classifier|moderation|webhook|bleu"
    r"|guardrails|rouge-n|word-count|(is|llm|model-graded|context|answer|contains|icontains|g|trace|tool-call|select)-[a-z-]+)(\(.*?\))?\s*(:|$)"
)


def expected_cell(cell: Any) -> Expected | None:
    """An `__expected` cell: a text alone is the whole answer, "contains: x" and its like say how x is looked for."""
    text = "" if cell is None else str(cell).strip()
    if not text:
        return None
    told = _ASSERTION.match(text)
    if told is not None:
        return _assertion(told[1], told[2])
    return None if _OTHER.match(text) else Expected((text,), "equals")


def expected_assertions(assertions: Any) -> Expected | None:
    """The first assertion of a test that a text can be held against."""
    for item in assertions if isinstance(assertions, list) else []:
        found = _assertion(str(item.get("type", "")), item.get("value")) if isinstance(item, Mapping) else None
        if found is not None:
            return found
    return None


def _assertion(kind: str, value: Any) -> Expected | None:
    if kind.endswith("-any") and isinstance(value, str):
        value = [part.strip() for part in value.split(",")]
    texts = expected_of(value)
    if texts is None:
        return None
    if kind in _CONTAINS:
        return texts
    if kind == "equals":
        return Expected(texts.texts, "equals")
    if kind in ("starts-with", "regex"):
        return Expected((rf"\A{re.escape(texts.texts[0])}" if kind == "starts-with" else texts.texts[0],), "regex")
    return None


def unfold(config: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows of a configuration: every prompt with every test's variables. Raises `InvalidInput` for what only promptfoo can run."""
    prompts = [_prompt(item) for item in config["prompts"]]
    default = config.get("defaultTest") if isinstance(config.get("defaultTest"), Mapping) else {}
    tests = config.get("tests")
    if not isinstance(tests, list) or any(not isinstance(test, Mapping) for test in tests):
        raise InvalidInput("its tests stand in another file; give that file, or put the tests into this one", field="file")
    rows: list[dict[str, Any]] = []
    for test in tests or [{}]:
        values = {**(default or {}).get("vars", {}), **(test.get("vars") or {})}
        for variables in _combinations(values):
            for prompt in prompts:
                asserted = expected_assertions(test.get("assert")) or expected_assertions((default or {}).get("assert"))
                rows.append({"prompt": filled(prompt, variables), "expected": asserted, "id": test.get("description")})
        if len(rows) > _MAX:
            raise InvalidInput(f"it has more than {_MAX:,} prompts; split it", field="file")
    return rows


def _prompt(item: Any) -> str:
    text = item.get("raw", item.get("id")) if isinstance(item, Mapping) else item
    if not isinstance(text, str):
        raise InvalidInput("one of its prompts is not a text", field="file")
    if re.match(r"(file://|exec:)", text) or re.fullmatch(r"\S+\.(txt|json|ya?ml|py|js|md)", text):
        raise InvalidInput(f"its prompt stands in another file ({text[:80]}); write the text itself", field="file")
    return text


def _combinations(values: Mapping[str, Any]) -> list[dict[str, Any]]:
    lists = [value if isinstance(value, list) else [value] for value in values.values()]
    return [dict(zip(values, chosen, strict=True)) for chosen in itertools.product(*lists)]


def filled(template: str, variables: Mapping[str, Any]) -> Any:
    """A prompt with its {{variables}}; a list of messages where the text is one. Raises `InvalidInput` for a variable that is not there."""
    if "{%" in template or "{#" in template or re.search(r"\{\{[^}]*\|", template):
        raise InvalidInput("its prompt holds conditions, loops or filters, which only promptfoo can run", field="file")
    missing = [name for name in _VARIABLE.findall(template) if name not in variables]
    if missing:
        raise InvalidInput(f"its prompt asks for the variable {missing[0]!r}, which a test does not give", field="file")
    if any(isinstance(value, str) and value.startswith("file://") for value in variables.values()):
        raise InvalidInput("one of its variables stands in another file; write the text itself", field="file")
    if template.lstrip().startswith("["):
        try:
            filled_in = _VARIABLE.sub(lambda found: json_text(str(variables[found[1]]), ascii_only=True)[1:-1], template)
            turns = parse_json(filled_in, what="its prompt")
        except InvalidFile:
            turns = None
        if isinstance(turns, Sequence) and turns and all(isinstance(turn, Mapping) for turn in turns):
            return list(turns)
    return _VARIABLE.sub(lambda found: str(variables[found[1]]), template)
