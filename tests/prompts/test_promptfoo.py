"""promptfoo's files: what of its assertions is kept, what its configurations unfold to, and what only promptfoo can run."""

from __future__ import annotations

import re
from typing import Any

import pytest

from neurons.core.errors import InvalidInput
from neurons.prompts.promptfoo import expected_assertions, expected_cell, filled, unfold


@pytest.mark.parametrize(
    ("cell", "texts", "kind"),
    [
        ("Lima", ("Lima",), "equals"),
        ("equals: Lima", ("Lima",), "equals"),
        ("contains: Lima", ("Lima",), "contains"),
        ("icontains-any: Lima, Cusco", ("Lima", "Cusco"), "contains"),
        ("regex: L.ma", ("L.ma",), "regex"),
    ],
)
def test_a_cell_says_what_is_looked_for(cell: str, texts: tuple[str, ...], kind: str) -> None:
    found = expected_cell(cell)
    assert found is not None
    assert (found.texts, found.kind) == (texts, kind)


@pytest.mark.parametrize(
    "cell", ["", None, "llm-rubric: is polite", "not-contains: Lima", "javascript: output.length", "similar(0.8): Lima"]
)
def test_what_a_text_cannot_be_held_against_says_nothing(cell: str | None) -> None:
    assert expected_cell(cell) is None


def test_starts_with_takes_its_text_as_it_is_written() -> None:
    found = expected_cell("starts-with: 1.5 (about)")
    assert found is not None
    assert re.search(found.texts[0], "1.5 (about) or so")
    assert not re.search(found.texts[0], "it is 1.5 (about)")
    assert not re.search(found.texts[0], "1x5 (about)")


def test_the_first_assertion_that_can_be_used_is_taken() -> None:
    asserted = [{"type": "javascript", "value": "x"}, "junk", {"type": "equals", "value": "Santiago"}, {"type": "contains", "value": "no"}]
    found = expected_assertions(asserted)
    assert found is not None
    assert (found.texts, found.kind) == (("Santiago",), "equals")
    assert expected_assertions("junk") is None


def test_every_prompt_meets_every_combination_and_a_test_goes_before_the_default() -> None:
    rows = unfold(
        {
            "prompts": ["{{word}} in {{ language }}?", {"raw": "Say {{word}}."}],
            "defaultTest": {"vars": {"language": "Spanish"}, "assert": [{"type": "contains", "value": "default"}]},
            "tests": [
                {"vars": {"word": ["cat", "dog"]}, "description": "animals"},
                {"vars": {"word": "sun", "language": "French"}, "assert": [{"type": "contains", "value": "soleil"}]},
            ],
        }
    )
    assert [row["prompt"] for row in rows] == ["cat in Spanish?", "Say cat.", "dog in Spanish?", "Say dog.", "sun in French?", "Say sun."]
    assert [row["expected"].texts[0] for row in rows] == ["default"] * 4 + ["soleil"] * 2
    assert [row["id"] for row in rows] == ["animals"] * 4 + [None] * 2


def test_a_conversation_is_messages_and_its_variables_cannot_break_out() -> None:
    template = '[{"role": "user", "content": "{{question}}"}]'
    assert filled(template, {"question": 'Say "hi"\n'}) == [{"role": "user", "content": 'Say "hi"\n'}]
    assert filled("[not JSON] {{question}}", {"question": "Why?"}) == "[not JSON] Why?"


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"prompts": ["Hi"], "tests": "tests.csv"}, "tests stand in another file"),
        ({"prompts": ["Hi"], "tests": ["file://one.yaml"]}, "tests stand in another file"),
        ({"prompts": ["file://prompt.txt"], "tests": []}, "prompt stands in another file"),
        ({"prompts": ["prompt.json"], "tests": []}, "prompt stands in another file"),
        ({"prompts": [3], "tests": []}, "not a text"),
        ({"prompts": ["{{name | upper}}"], "tests": []}, "only promptfoo can run"),
        ({"prompts": ["{% if a %}b{% endif %}"], "tests": []}, "only promptfoo can run"),
        ({"prompts": ["Hi {{name}}"], "tests": []}, "'name', which a test does not give"),
        ({"prompts": ["Hi {{name}}"], "tests": [{"vars": {"name": "file://names.txt"}}]}, "variables stands in another file"),
        ({"prompts": ["Hi {{names[0]}}"], "tests": [{"vars": {"names": ["a"]}}]}, "only promptfoo can run"),
        ({"prompts": ["Hi {{a}}"], "tests": [{"vars": {"a": "{{b}}", "b": "{{a}}"}}]}, "stands for itself"),
        ({"prompts": ["Hi {{a}}"], "tests": [{"vars": {"a": "x"}, "prompts": ["one"]}]}, "only promptfoo can run"),
        ({"prompts": ["Hi"], "defaultTest": {"vars": "file://v.yaml"}}, "no other file"),
        ({"prompts": {"p.txt": "one"}, "tests": []}, "stand in other files"),
        ({"prompts": ["{{a}}{{b}}"], "tests": [{"vars": {"a": list(range(400)), "b": list(range(400))}}]}, "more than 100,000"),
    ],
)
def test_what_only_promptfoo_can_run_is_refused_by_name(config: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInput, match=re.escape(words)):
        unfold(config)


def test_variables_of_variables_of_objects_and_in_what_is_expected() -> None:
    config = {
        "prompts": ["{{greeting}}, {{user.name}}: {{list}}{{none}}"],
        "defaultTest": {"options": {"suffix": "!"}},
        "tests": [
            {"vars": {"greeting": "Hi {{word}}", "word": "you", "user": {"name": "Bo"}, "list": [[1, "a"]], "none": None},
             "assert": [{"type": "equals", "value": {"a": 1}}, {"type": "contains-any", "value": ["{{word}}", "{{user.name}}"]}]},
            {"vars": {"greeting": "a", "user": {"name": "b"}, "list": "c", "none": ""}, "options": {"transform": "output.x"},
             "assert": [{"type": "contains", "value": "x"}]},
        ],
    }  # fmt: skip
    first, second = unfold(config)
    assert first["prompt"] == 'Hi you, Bo: [1, "a"]!'
    assert first["expected"].texts == ("you", "Bo")
    assert (second["prompt"], second["expected"]) == ("a, b: c!", None)
