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
from neurons.prompts.values import Expected, texts_of

_VARIABLE = re.compile(r"\{\{-?\s*([\w.]+)\s*-?\}\}")
_MAX = 100_000
_DEEPEST = 5
"""Variables within variables."""
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
    texts = () if isinstance(value, Mapping) else texts_of(value)
    if not texts:
        return None
    if kind in _CONTAINS:
        return Expected(texts)
    if kind == "equals":
        return Expected(texts, "equals")
    if kind in ("starts-with", "regex"):
        return Expected((rf"\A{re.escape(texts[0])}" if kind == "starts-with" else texts[0],), "regex")
    return None


def unfold(config: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows of a configuration: every prompt with every test's variables. Raises `InvalidInput` for what only promptfoo can run."""
    if config.get("scenarios"):
        raise InvalidInput("it has scenarios, which only promptfoo can run; write them as tests", field="file")
    given = config["prompts"]
    if not isinstance(given, list | str):
        raise InvalidInput("its prompts stand in other files; write the texts themselves", field="file")
    prompts = [_prompt(item) for item in ([given] if isinstance(given, str) else given)]
    tests = config.get("tests") or []
    if not isinstance(tests, list) or any(not isinstance(test, Mapping) for test in tests):
        raise InvalidInput("its tests stand in another file; give that file, or put the tests into this one", field="file")
    default = _part(config, "defaultTest", "default test")
    rows: list[dict[str, Any]] = []
    for test in tests or [{}]:
        options = _part(default, "options", "options") | _part(test, "options", "options")
        if options.get("disableVarExpansion") or options.get("transformVars") or test.get("prompts"):
            raise InvalidInput("a test changes its variables or chooses among the prompts, which only promptfoo can run", field="file")
        values = _part(default, "vars", "variables") | _part(test, "vars", "variables")
        for variables in _combinations(values):
            expected = None if options.get("transform") else _expected(test, default, variables)
            for prompt in prompts:
                whole = f"{options.get('prefix') or ''}{prompt}{options.get('suffix') or ''}"
                rows.append({"prompt": filled(whole, variables), "expected": expected, "id": test.get("description")})
        if len(rows) > _MAX:
            raise InvalidInput(f"it has more than {_MAX:,} prompts; split it", field="file")
    return rows


def _part(whole: Mapping[str, Any], name: str, called: str) -> dict[str, Any]:
    """An object within the configuration. Raises `InvalidInput` where it stands in another file."""
    found = whole.get(name)
    if found is not None and not isinstance(found, Mapping):
        raise InvalidInput(f"its {called}: only what stands in this file is read, no other file; write it into this one", field="file")
    return dict(found or {})


def _expected(test: Mapping[str, Any], default: Mapping[str, Any], variables: Mapping[str, Any]) -> Expected | None:
    """What the first assertion says that can be used, its variables filled in."""
    for asserted in (test.get("assert"), default.get("assert")):
        items = [
            item for item in (asserted if isinstance(asserted, list) else []) if isinstance(item, Mapping) and not item.get("transform")
        ]
        found = expected_assertions([{**item, "value": _value(item.get("value"), variables)} for item in items if _is_kept(item)])
        if found is not None:
            return found
    return None


def _is_kept(item: Mapping[str, Any]) -> bool:
    return str(item.get("type")) in (*_CONTAINS, "equals", "starts-with", "regex")


def _value(value: Any, variables: Mapping[str, Any]) -> Any:
    if isinstance(value, list):
        return [_value(one, variables) for one in value]
    if isinstance(value, str) and value.startswith("file://"):
        raise InvalidInput(f"what a test expects stands in another file ({value[:80]}); write the text itself", field="file")
    return _rendered(value, variables) if isinstance(value, str) and "{{" in value else value


def _prompt(item: Any) -> str:
    text = item.get("raw", item.get("id")) if isinstance(item, Mapping) else item
    if not isinstance(text, str):
        raise InvalidInput("one of its prompts is not a text", field="file")
    if re.match(r"(file://|exec:)", text) or re.fullmatch(r"\S+\.(txt|json|jsonl|ya?ml|py|js|mjs|cjs|ts|md|csv|j2)", text):
        raise InvalidInput(f"its prompt stands in another file ({text[:80]}); write the text itself", field="file")
    return text


def _combinations(values: Mapping[str, Any]) -> list[dict[str, Any]]:
    lists = [value if isinstance(value, list) else [value] for value in values.values()]
    return [dict(zip(values, chosen, strict=True)) for chosen in itertools.product(*lists)]


def filled(template: str, variables: Mapping[str, Any]) -> Any:
    """A prompt with its {{variables}}; a list of messages where the text is one. Raises `InvalidInput` for a variable that is not there."""
    if template.lstrip().startswith("["):
        try:
            turns = parse_json(_rendered(template, variables, within_json=True), what="its prompt")
        except InvalidFile:
            turns = None
        if isinstance(turns, Sequence) and turns and all(isinstance(turn, Mapping) for turn in turns):
            return list(turns)
    return _rendered(template, variables)


def _rendered(template: str, variables: Mapping[str, Any], *, within_json: bool = False, depth: int = 0) -> str:
    """The template with its variables, and theirs. Raises `InvalidInput` for what only promptfoo can run."""
    if "{%" in template or "{#" in template or "{{" in _VARIABLE.sub("", template):
        raise InvalidInput("its prompt holds conditions, loops, filters or expressions, which only promptfoo can run", field="file")

    def text(found: re.Match[str]) -> str:
        value = _variable(found[1], variables)
        if isinstance(value, str) and value.startswith("file://"):
            raise InvalidInput("one of its variables stands in another file; write the text itself", field="file")
        if isinstance(value, str) and "{{" in value:
            if depth == _DEEPEST:
                raise InvalidInput(f"its variable {found[1]!r} stands for itself", field="file")
            value = _rendered(value, variables, depth=depth + 1)
        if value is None or isinstance(value, Mapping | list | bool):
            value = "" if value is None else json_text(value)
        return json_text(str(value), ascii_only=True)[1:-1] if within_json else str(value)

    return _VARIABLE.sub(text, template)


def _variable(name: str, variables: Mapping[str, Any]) -> Any:
    if name in variables:
        return variables[name]
    value: Any = variables
    for part in name.split("."):
        if not isinstance(value, Mapping) or part not in value:
            raise InvalidInput(f"its prompt asks for the variable {name!r}, which a test does not give", field="file")
        value = value[part]
    return value
