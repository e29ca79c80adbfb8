"""Whether a table's first row names its columns: said where its words tell, in doubt where they do not."""

from __future__ import annotations

import pytest

from neurons.storage.column_names import header_of, plain_name


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("systemPrompt", "system prompt"),
        ("System_Prompt", "system prompt"),
        (" SYSTEM-PROMPT ", "system prompt"),
        ("ｉｄ", "id"),
        ("question_ID", "question id"),
        ("", ""),
    ],
)
def test_names_are_compared_without_case_and_marks(name: str, plain: str) -> None:
    assert plain_name(name) == plain


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        (["prompt", "answer"], "yes"),
        (["Frage", "Antwort"], "yes"),
        (["x", "__expected"], "yes"),
        (["colour", "size"], "in doubt"),
        (["Correct?", "question"], "in doubt"),
        (["question", "question"], "in doubt"),
        (["What is the capital of Peru?", "Lima"], "no"),
        (["12", "apples"], "no"),
        (["1,000.5", "apples"], "no"),
        (["Lima", "Lima"], "no"),
        (["two\nlines", "apples"], "no"),
        (["name the capital of Peru"], "no"),
        (["capital of Peru"], "in doubt"),
    ],
)
def test_a_first_row_is_a_header_or_not(cells: list[str], said: str) -> None:
    assert header_of(cells) == said
