"""Every kind of prompt file is read as what it is, refused until somebody says, or read as somebody says; its rows are counted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from neurons.core.errors import InvalidInput
from neurons.core.json_text import json_text
from neurons.prompts.files import Columns, load_file
from neurons.prompts.sets import from_json, to_json
from neurons.prompts.shapes import SHAPES
from neurons.prompts.values import Expected, expected_of
from scripts.prompt_files_doc import TARGET, document
from tests.support.data_set_files import READ, REFUSED
from tests.support.prompt_files import KNOWN, TOLD_HOW, UNKNOWN, Case


@pytest.mark.parametrize("case", [*KNOWN, *READ], ids=lambda case: case.name)
def test_a_known_file_is_read_as_what_it_is(case: Case) -> None:
    reading = load_file(case.data, name=case.name)
    found = reading.prompts
    assert reading.shape is not None
    assert reading.shape.name == case.shape
    assert tuple(row.prompt for row in found.rows) == case.asked
    expected = tuple(str(row.expected or "") for row in found.rows)
    assert expected == (case.expected or ("",) * len(case.asked))
    assert len(found.errors) == case.left_out
    assert found.read == len(case.asked) + case.left_out
    assert from_json(to_json(found)) == found
    assert found.asked.startswith(case.shape)


@pytest.mark.parametrize("case", [*UNKNOWN, *REFUSED], ids=lambda case: case.name)
def test_nothing_is_guessed(case: Case) -> None:
    with pytest.raises(InvalidInput, match=case.refused):
        load_file(case.data, name=case.name, header=case.header)


@pytest.mark.parametrize("case", TOLD_HOW, ids=lambda case: case.name)
def test_what_somebody_says_is_done(case: Case) -> None:
    found = load_file(case.data, name=case.name, columns=Columns(**dict(case.columns))).prompts
    assert tuple(row.prompt for row in found.rows) == case.asked
    assert tuple(str(row.expected or "") for row in found.rows) == (case.expected or ("",) * len(case.asked))


def test_every_shape_has_a_file() -> None:
    assert {case.shape for case in (*KNOWN, *READ)} == {shape.name for shape in SHAPES}


def test_rows_left_out_are_named_and_counted() -> None:
    found = load_file(b'prompt,id\ngood,1\n , 2\n"open,3\nmore,4\nlast,5\n', name="x.csv").prompts
    assert [row.prompt for row in found.rows] == ["good"]
    assert found.account.startswith("5 rows read, 1 asked, 4 left out (the first is row 2: the prompt is empty)")
    assert "breaks off" in found.errors[2].message


def test_a_quote_that_is_not_closed_is_said() -> None:
    data = b'question,answer\nfirst?,a\n"Who said hello?,b\nthird?,c\nfourth?,d\nHow long is 12",e\n'
    table = load_file(data, name="x.csv").table
    assert "--no-quotes" in table.notes[0]
    assert len(load_file(data, name="x.csv", quotes=False).prompts.rows) == 5


def test_errors_name_the_choice() -> None:
    with pytest.raises(InvalidInput) as caught:
        load_file(b"id,url\n1,http://example.org/a\n", name="x.csv")
    assert caught.value.field == "prompt"
    assert "'url' (http://example.org/a)" in str(caught.value)
    with pytest.raises(InvalidInput, match="no column 'c'"):
        load_file(b"a,b\n1,2\n", name="x.csv", header=True, columns=Columns(prompt="c"))
    for template in ("no braces", "{", "{}", "{a!r}"):
        with pytest.raises(InvalidInput) as caught:
            load_file(b"a,b\n1,2\n", name="x.csv", header=True, columns=Columns(template=template))
        assert caught.value.field == "template"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "cp1250", "cp1252"])
def test_a_byte_order_mark_goes_whatever_the_encoding(encoding: str) -> None:
    marked = {"utf-8": b"\xef\xbb\xbf", "cp1250": b"\xef\xbb\xbf", "cp1252": b"\xef\xbb\xbf"}.get(encoding, b"")
    found = load_file(marked + "prompt\nWhat?\n".encode(encoding), name="x.csv", encoding=encoding)
    assert found.table.columns == ("prompt",)
    assert [row.prompt for row in found.prompts.rows] == ["What?"]


def test_the_page_about_prompt_files_is_what_these_files_come_to() -> None:
    assert TARGET.read_text(encoding="utf-8") == document(), "run: PYTHONPATH=. python scripts/prompt_files_doc.py"


@pytest.mark.parametrize(
    ("given", "texts"),
    [
        (1234567.5, ("1234567.5",)),
        (3.14159265, ("3.14159265",)),
        (1e5, ("100000",)),
        (float("nan"), None),
        ({"Value": "Lima", "Aliases": ["Lima", "Ciudad de los Reyes"]}, ("Lima", "Ciudad de los Reyes")),
        ({"text": ["a", "b"]}, ("a", "b")),
        (True, ("yes", "true")),
        ("4.0", ("4.0", "4")),
        ("-4.0", ("-4.0", "-4")),
        ("v4.0", ("v4.0",)),
        ("No.", ("no", "false")),
        (["no", "nope"], ("no", "nope")),
        ([{"text": "a"}, {"text": "b"}, {"text": "a"}], ("a", "b")),
        (r"so \boxed{1} or \fbox{\{1, x_{2}\}}.", (r"\{1, x_{2}\}",)),
        ("x" * 3000 + "\n#### 1,003", ("1,003", "1003")),
        ("\\boxed{" * 100_000, None),
    ],
)
def test_an_expected_answer_is_what_the_file_says(given: object, texts: tuple[str, ...] | None) -> None:
    found = expected_of(given)
    assert (None if found is None else found.texts) == texts


def test_a_transcript_is_never_one_prompt() -> None:
    rows = json_text({"chosen": "\n\nHuman: Hi\n\nAssistant: Hi", "rejected": "\n\nHuman: Hi\n\nAssistant: No"})
    (row,) = load_file(rows.encode(), name="a.jsonl", columns=Columns(prompt="chosen")).prompts.rows
    assert [(message.role, message.content) for message in row.messages] == [("user", "Hi")]
    (row,) = load_file(b'prompt\r\n"\r\n\r\nHuman: Hi\r\n\r\nAssistant:"\r\n', name="a.csv").prompts.rows
    assert row.prompt == "Hi"


def test_what_a_model_answered_is_expected_only_where_that_is_said() -> None:
    data = json_text([{"instruction": "Name one.", "output": "Me.", "generator": "gpt"}]).encode()
    found = load_file(data, name="a.json").prompts
    assert found.rows[0].expected is None
    assert "'output' is what a model answered ('generator' stands beside it)" in found.asked
    told = load_file(data, name="a.json", columns=Columns(prompt="instruction")).prompts
    assert told.rows[0].expected is None
    chosen = load_file(data, name="a.json", columns=Columns(prompt="instruction", expected="output")).prompts
    assert str(chosen.rows[0].expected) == "Me."


def test_an_assertion_of_promptfoo_stays_what_it_says() -> None:
    data = b"prompts: ['Is it?']\nproviders: [echo]\ntests: [{assert: [{type: contains, value: 'yes'}]}]\n"
    (row,) = load_file(data, name="p.yaml").prompts.rows
    assert row.expected == Expected(("yes",))


def test_a_prompt_of_nothing_but_the_character_0_is_empty() -> None:
    found = load_file(json_text([{"prompt": "\0 \0"}, {"prompt": "a\0b"}]).encode(), name="a.json").prompts
    assert ([row.prompt for row in found.rows], found.errors[0].message) == (["ab"], "the prompt is empty")


def test_expected_answers_that_cannot_be_held_against_are_said() -> None:
    rows = "".join(json_text({"question": "is it?", "answer": value}) + "\n" for value in ([[2]], {"no": 3}))
    assert "none with an expected answer" in load_file(rows.encode(), name="b.jsonl").prompts.account
    assert "expected" not in load_file(b"a?\nb?\n", name="p.txt").prompts.account


FRAME = pd.DataFrame({"prompt": ["One?", "Two?", "Drei ü?"], "expected": ["1", None, "3"], "level": [1, 2, 3]})


@pytest.mark.parametrize("orient", ["columns", "index-of-lists", "records", "table", "lines"])
def test_json_tables_of_pandas_are_their_rows(orient: str) -> None:
    if orient == "index-of-lists":
        text = json_text(FRAME.astype(object).where(FRAME.notna(), None).to_dict("list"))
    else:
        text = FRAME.to_json(orient="records" if orient == "lines" else orient, lines=orient == "lines")  # type: ignore[call-overload]
    found = load_file(text.encode(), name="a.json").prompts
    assert [row.prompt for row in found.rows] == list(FRAME["prompt"])
    assert [row.expected.texts if row.expected else None for row in found.rows] == [("1",), None, ("3",)]
    assert (found.read, found.errors) == (3, ())


def test_one_object_with_lists_is_not_taken_for_columns() -> None:
    known = {"prompts": ["Say {{a}}", "Tell {{a}}"], "tests": [{"vars": {"a": "x"}}, {"vars": {"a": "y"}}]}
    assert load_file(json_text(known).encode(), name="a.json").prompts.read == 4
    with pytest.raises(InvalidInput, match="which column"):
        load_file(json_text({"a": ["x", "y"], "b": ["z"]}).encode(), name="a.json")


@pytest.mark.parametrize(
    ("good", "bad", "said"),
    [
        ({"messages": [{"role": "user", "content": "x"}]}, {"messages": None}, "not a list of messages"),
        ({"conversations": [{"from": "human", "value": "x"}]}, {"conversations": {"from": "human"}}, "not a list of messages"),
        ([{"role": "user", "content": "x"}], {}, "not a list of messages"),
        (
            {"input": {"messages": [{"role": "user", "content": "x"}]}, "preferred_output": [], "non_preferred_output": []},
            {"input": 7, "preferred_output": 1, "non_preferred_output": {}},
            'no list of "messages"',
        ),
    ],
)
def test_a_row_of_another_form_than_its_file_is_named_and_the_rest_is_read(good: Any, bad: Any, said: str) -> None:
    found = load_file(json_text([good] * 60 + [bad]).encode(), name="p.json")  # beyond the rows that a file's shape is seen from
    assert [row.messages[-1].content for row in found.prompts.rows] == ["x"] * 60
    (error,) = found.prompts.errors
    assert error.row == 61
    assert said in error.message


def test_scores_of_several_kinds_are_named() -> None:
    task = {"examples": [{"input": "x", "target_scores": {"a": 1, "b": 0}}, {"input": "y", "target_scores": {"a": 1, "b": "no"}}]}
    found = load_file(json_text(task).encode(), name="task.json")
    assert [(error.row, error.message) for error in found.prompts.errors] == [(2, "its target scores are not all numbers")]


TURNS = [{"role": "user", "content": 'It\'s "so", no?'}, {"role": "assistant", "content": "B"}, {"role": "user", "content": "C, d\nü"}]


@pytest.mark.parametrize(
    "cell", [json_text(TURNS), json_text(TURNS, indent=1), str(TURNS), str(np.array(TURNS)), str(np.array(TURNS)).replace("\n", "\r\n")]
)
@pytest.mark.parametrize("told", [False, True])
def test_conversations_written_into_cells_are_conversations(cell: str, told: bool) -> None:
    """As JSON, as Python writes a list, as NumPy writes an array: what pandas puts into a CSV file."""
    frame = pd.DataFrame({"messages": [cell, cell], "expected": ["x", "y"]})
    found = load_file(frame.to_csv(index=False).encode(), name="a.csv", columns=Columns(prompt="messages") if told else None).prompts
    assert [[message.content for message in row.messages] for row in found.rows] == [[turn["content"] for turn in TURNS]] * 2
    assert [row.expected.texts for row in found.rows if row.expected] == [("x",), ("y",)]


def test_text_in_brackets_stays_a_text() -> None:
    for text in ("[{not a list}] of what?", '[{"a": 1}]', "[" * 5000):
        found = load_file(pd.DataFrame({"messages": [text]}).to_csv(index=False).encode(), name="a.csv").prompts
        assert [row.prompt for row in found.rows] == [text]


def test_earlier_turns_and_a_system_prompt_for_all_go_with_each_prompt() -> None:
    told = {"instruction": "And now?", "input": "", "output": "C.", "history": [["One?", "A."]]}
    (row,) = load_file(json_text([told]).encode(), name="a.json").prompts.rows
    assert [(turn.role, turn.content) for turn in row.messages] == [("user", "One?"), ("assistant", "A."), ("user", "And now?")]
    (error,) = load_file(json_text([told | {"history": "One?"}]).encode(), name="a.json").prompts.errors
    assert "no list of pairs" in error.message
    found = load_file(json_text({"system_prompt": "Be brief.", "prompts": ["One?", "Two?"]}).encode(), name="a.json").prompts
    assert [row.messages[0].content for row in found.rows] == ["Be brief.", "Be brief."]


def test_an_object_that_is_asked_keeps_its_rows_and_says_how_it_was_read() -> None:
    good = {"id": "a", "inputs": {"question": "Who?"}, "outputs": {"output": "He"}}
    reading = load_file(json_text([good] * 60 + [{"id": "b", "inputs": "text"}]).encode(), name="a.json")
    assert (len(reading.prompts.rows), len(reading.prompts.errors), reading.prompts.rows[0].id) == (61, 0, "a")
    assert "'inputs'" in reading.table.notes[-1]
    topic = {"inputs": {"topic": "bees"}, "outputs": {"answer": "buzz"}}
    with pytest.raises(InvalidInput, match="'topic'"):
        load_file(json_text([topic]).encode(), name="a.json")
    told = load_file(json_text([topic]).encode(), name="a.json", columns=Columns(template="Sing of {topic}.")).prompts
    assert told.rows[0].prompt == "Sing of bees."
    assert str(told.rows[0].expected) == "buzz"
    raw = load_file(b'inputs,note\n"{""question"": ""Who?""}",x\n', name="a.csv", columns=Columns(prompt="inputs")).prompts
    assert raw.rows[0].prompt == '{"question": "Who?"}', "somebody said that the cell is asked as it stands"
