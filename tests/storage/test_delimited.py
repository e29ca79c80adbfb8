"""CSV and TSV: every line belongs to a row, a header or a reason."""

from __future__ import annotations

import pytest

from neurons.core.errors import InvalidFile
from neurons.storage.delimited import read_delimited


@pytest.mark.parametrize(
    ("text", "delimiter"),
    [
        ("prompt,id\na,1\n", ","),
        ("prompt;id\na;1\n", ";"),
        ("prompt\tid\na\t1\n", "\t"),
        ("prompt|id\na|1\n", "|"),
        ("prompt\nHi, you\n", ""),
    ],
)
def test_the_separator_is_found(text: str, delimiter: str) -> None:
    found = read_delimited(text)
    assert (found.delimiter, found.header) == (delimiter, True)
    assert found.columns[0] == "prompt"


def test_a_told_separator_goes_first() -> None:
    found = read_delimited("sep=;\nprompt;id\na,b;1\n")
    assert found.rows == ((1, {"prompt": "a,b", "id": "1"}),)


def test_a_row_with_too_many_cells_is_listed_with_advice() -> None:
    found = read_delimited("prompt,id\na,1\nb,c,2\n")
    assert found.errors == ((2, "it has 3 cells, but there are 2 columns: put the text in quotes"),)
    assert [number for number, _ in found.rows] == [1]
    assert read_delimited("prompt,id\na,1,,\n").errors == ()  # empty cells at the end are no text


def test_after_an_open_quote_every_line_has_a_reason() -> None:
    found = read_delimited('prompt,id\na,1\n"b,2\nc,3\n')
    assert [number for number, _ in found.rows] == [1]
    assert len(found.errors) == 2
    assert "is a quote not closed?" in found.errors[0][1]
    assert "not read" in found.errors[1][1]


def test_lines_hidden_in_a_cell_are_told() -> None:
    found = read_delimited('prompt,id\n"a,1\nb,2\nc",3\n')
    assert len(found.rows) == 1
    assert "is a quote not closed?" in found.notes[0]


def test_without_quotes_they_are_text_and_said() -> None:
    found = read_delimited('prompt\tid\n"a"\t1\n', tabs=True)
    assert found.rows == ((1, {"prompt": '"a"', "id": "1"}),)
    assert "1 cell stands in quotes" in found.notes[0]
    assert read_delimited('prompt\tid\n"a"\t1\n', tabs=True, quotes=True).rows[0][1]["prompt"] == "a"


def test_the_guard_of_a_formula_is_taken_away_and_said() -> None:
    found = read_delimited("prompt,id\n'=1+1,1\n")
    assert found.rows[0][1]["prompt"] == "=1+1"
    assert "1 cell begins with an apostrophe" in found.notes[-1]


def test_columns_of_one_name_and_of_none() -> None:
    assert read_delimited("prompt,,prompt\na,b,c\n", header=True).columns == ("prompt", "column 2", "prompt (3)")
    assert read_delimited("a,b\n", header=False).columns == ("column 1", "column 2")


def test_nothing_is_no_table() -> None:
    with pytest.raises(InvalidFile, match="no rows"):
        read_delimited("\n \n")


@pytest.mark.parametrize("before", ["# made by a script\n", "Our questions\n\n", "# one\n# two\n"])
def test_a_table_below_a_title_is_refused(before: str) -> None:
    text = before + "prompt,expected\nWhat?,4\nWho?,He\n"
    with pytest.raises(InvalidFile, match=r"looks like the names of the columns \('prompt', 'expected'\)"):
        read_delimited(text)
    assert read_delimited(text, header=False).delimiter == ""
    assert read_delimited("prompt\nquestion, answer\nname, url\n").rows[0][1] == {"prompt": "question, answer"}


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_carriage_return_within_a_cell_ends_no_row(end: str) -> None:
    text = end.join(["prompt,id", "a\rb,1", '"c\rd",2', ""])
    assert [row for _, row in read_delimited(text).rows] == [{"prompt": "a\rb", "id": "1"}, {"prompt": "c\rd", "id": "2"}]
    old = read_delimited('prompt,id\ra,1\r"b\nc",2\r')
    assert [row["prompt"] for _, row in old.rows] == ["a", "b\nc"]
    assert [row["prompt"] for _, row in read_delimited("prompt,id\r\r\na,1\r\r\n").rows] == ["a"]


@pytest.mark.parametrize(
    ("header", "columns"),
    [
        ("prompt,id,id", ("prompt", "id", "id (3)")),
        ("prompt,id (3),id,id", ("prompt", "id (3)", "id", "id (4)")),
        ("prompt,prompt (3),prompt", ("prompt", "prompt (3)", "prompt (4)")),
        ("prompt,prompt,prompt (2)", ("prompt", "prompt (3)", "prompt (2)")),
        ("prompt,,column 2", ("prompt", "column 2", "column 2 (3)")),
        ("prompt, two\t words ,x", ("prompt", "two words", "x")),
    ],
)
def test_no_two_columns_have_one_name(header: str, columns: tuple[str, ...]) -> None:
    cells = [f"c{n}" for n in range(len(columns))]
    found = read_delimited(f"{header}\n{','.join(cells)}\n", header=True)
    assert found.columns == columns
    assert found.rows == ((1, dict(zip(columns, cells, strict=True))),)  # no cell is lost


def test_a_row_that_is_shorter_keeps_what_it_has() -> None:
    found = read_delimited("prompt,id\na\nb,2\n")
    assert found.rows == ((1, {"prompt": "a"}), (2, {"prompt": "b", "id": "2"}))
    assert found.errors == ()


def test_an_apostrophe_that_guards_a_formula_is_taken_away_and_told() -> None:
    found = read_delimited("prompt,id\n'=1+1,'tis\n'-3,4\n")
    assert [row["prompt"] for _, row in found.rows] == ["=1+1", "-3"]
    assert found.rows[0][1]["id"] == "'tis"  # no formula
    assert "2 cells begin with an apostrophe" in " ".join(found.notes)


def test_a_quoted_cell_that_swallows_rows_is_told() -> None:
    found = read_delimited('prompt,id\n"a,1\nb,2\nc",3\n')
    assert "is a quote not closed?" in " ".join(found.notes)
    assert read_delimited('prompt,id\n"a,1\nb,2\nc",3\n', quotes=False).notes == ()


def test_a_file_of_blank_lines_has_no_rows() -> None:
    with pytest.raises(InvalidFile, match="the file has no rows"):
        read_delimited("\n \n\t\n", tabs=True)
