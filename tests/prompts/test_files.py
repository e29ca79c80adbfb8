"""Every kind of prompt file is read as what it is, refused until somebody says, or read as somebody says; its rows are counted."""

from __future__ import annotations

import pytest

from neurons.core.errors import InvalidInput
from neurons.prompts.files import Columns, load_file
from neurons.prompts.sets import from_json, to_json
from neurons.prompts.shapes import SHAPES
from scripts.prompt_files_doc import TARGET, document
from tests.support.prompt_files import KNOWN, TOLD_HOW, UNKNOWN, Case


@pytest.mark.parametrize("case", KNOWN, ids=lambda case: case.name)
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


@pytest.mark.parametrize("case", UNKNOWN, ids=lambda case: case.name)
def test_nothing_is_guessed(case: Case) -> None:
    with pytest.raises(InvalidInput, match=case.refused):
        load_file(case.data, name=case.name, header=case.header)


@pytest.mark.parametrize("case", TOLD_HOW, ids=lambda case: case.name)
def test_what_somebody_says_is_done(case: Case) -> None:
    found = load_file(case.data, name=case.name, columns=Columns(**dict(case.columns))).prompts
    assert tuple(row.prompt for row in found.rows) == case.asked
    assert tuple(str(row.expected or "") for row in found.rows) == (case.expected or ("",) * len(case.asked))


def test_every_shape_has_a_file() -> None:
    assert {case.shape for case in KNOWN} == {shape.name for shape in SHAPES}


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
