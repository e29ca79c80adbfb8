"""JSON files as rows: each form that people keep lists of prompts in."""

from __future__ import annotations

import pytest

from neurons.core.errors import InvalidFile
from neurons.storage import json_rows
from neurons.storage.json_rows import read_json, turns_in

TURNS = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ('["a", "b"]', [(1, "a"), (2, "b")]),
        ('{"a": 1}', [(1, {"a": 1})]),
        ('{"a": 1}\n\n{"a": 2}\n', [(1, {"a": 1}), (3, {"a": 2})]),
        ('{\n "a": 1\n}\n{\n "a": 2\n}', [(1, {"a": 1}), (2, {"a": 2})]),
        ('[{"role": "user", "content": "Hi"}]', [(1, [{"role": "user", "content": "Hi"}])]),
        ('[{"from": "human", "value": "Hi"}]', [(1, [{"from": "human", "value": "Hi"}])]),
        ('[{"role": "user"}, 3]', [(1, {"role": "user"}), (2, 3)]),
        ('{"a": "b\u2028c"}\n{"a": 2}', [(1, {"a": "b\u2028c"}), (2, {"a": 2})]),
    ],
)
def test_each_form_of_file_gives_its_rows(text: str, rows: list[tuple[int, object]]) -> None:
    assert read_json(text) == (rows, [])


def test_a_broken_line_is_a_reason_and_the_others_are_rows() -> None:
    rows, errors = read_json('{"a": 1}\n{"a": \n{"a": NaN}\n{"a": 4}\n')
    assert rows == [(1, {"a": 1}), (4, {"a": 4})]
    assert [number for number, _ in errors] == [2, 3]
    assert "use finite numbers" in errors[1][1]


@pytest.mark.parametrize("text", ["hello\nworld", '[{"a": 1},', "{"])
def test_a_file_without_a_row_says_what_is_wrong(text: str) -> None:
    with pytest.raises(InvalidFile, match="no row of the file can be read; the first says: "):
        read_json(text)


def test_a_file_of_broken_lines_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_rows, "MAX_ERRORS", 3)
    with pytest.raises(InvalidFile, match="more than 3 lines of the file are not JSON; the first, line 2, says"):
        read_json('{"a": 1}\n' + "nothing\n" * 5)


@pytest.mark.parametrize(
    "cell",
    [
        '[{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]',
        "[{'role': 'user', 'content': 'Hi'}, {'role': 'assistant', 'content': 'Hello'}]",
        "[{'role': 'user', 'content': 'Hi'}\n {'role': 'assistant', 'content': 'Hello'}]",  # as NumPy writes it
    ],
)
def test_a_conversation_in_a_cell_is_read_as_one(cell: str) -> None:
    assert turns_in(cell) == TURNS


@pytest.mark.parametrize("cell", [None, 3, "", "[1, 2]", "[{]", "[{'a': 1}]", "[{'role': open('x')}]", "text [{'role': 'user'}]"])
def test_any_other_cell_stays_as_it_is(cell: object) -> None:
    assert turns_in(cell) == cell
