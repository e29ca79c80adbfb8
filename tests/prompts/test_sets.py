"""Prompt sets: files of every sort and encoding, columns, errors by row, saved sets."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from neurons.core.errors import InvalidFile, InvalidInput, NotFound
from neurons.prompts.files import Columns, load_file, pasted, read_prompts
from neurons.prompts.sets import PromptSet, load_set, save_set, saved_sets
from neurons.storage.tables import read_table


def prompts(data: bytes | str, name: str = "x.csv") -> list[tuple[int, str]]:
    found = load_file(data.encode() if isinstance(data, str) else data, name=name).prompts
    return [(row.row, row.prompt) for row in found.rows]


def errors(data: bytes | str, name: str = "x.csv") -> list[tuple[int, str]]:
    found = load_file(data.encode() if isinstance(data, str) else data, name=name).prompts
    return [(error.row, error.message) for error in found.errors]


def test_txt() -> None:
    assert prompts("one\r\n\r\n two \nthree", "a.txt") == [(1, "one"), (3, " two "), (4, "three")]
    assert prompts("a\u2028b\nc", "a.txt") == [(1, "a\u2028b"), (2, "c")]
    assert prompts("Hello, you; there", "noending") == [(1, "Hello, you; there")]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_csv_delimiters_and_header(delimiter: str) -> None:
    text = delimiter.join(["id", "prompt", "tags", "system"]) + "\n" + delimiter.join(["7", "What?", "a b", "Be brief."]) + "\n"
    found = load_file(text.encode(), name="x.csv").prompts
    (row,) = found.rows
    assert (row.row, row.id, row.tags, row.prompt, row.messages[0].content) == (1, "7", ("a b",), "What?", "Be brief.")


def test_csv_without_header_quotes_and_newlines() -> None:
    assert prompts('What is 2+2?\n"a, ""b""\nc"\n\nlast?') == [(1, "What is 2+2?"), (2, 'a, "b"\nc'), (3, "last?")]
    table = read_table(b"alpha,beta\n1,2", name="x.csv", header=False)
    assert table.columns == ("column 1", "column 2")


def test_csv_bad_rows() -> None:
    text = "prompt,id\nfine,1\n,2\na,b,c\n   ,4\nok,5\n"
    assert [row for row, _ in prompts(text)] == [1, 5]
    assert errors(text) == [
        (2, "the prompt is empty"),
        (3, "it has 3 cells, but there are 2 columns: put the text in quotes"),
        (4, "the prompt is empty"),
    ]
    assert errors('prompt\ngood\n"open\nmore')[0][0] == 2
    assert prompts('prompt\ngood\n"open\nmore') == [(1, "good")]


def test_jsonl() -> None:
    lines = [
        '{"question": "one", "label": "x;y"}',
        '"just a text"',
        "{broken",
        '{"question": 5}',
        '{"question": null}',
        "",
        '{"question": ["a"]}',
        "17",
        '{"question": "\\ud800"}',
        json.dumps({"question": "x" * 200_001}),
        "[" * 5000,
    ]
    data = "\n".join(lines)
    table = read_table(data.encode(), name="x.jsonl")
    assert table.columns == ("question", "label", "prompt")
    found = read_prompts(table, Columns("question", tags="label")).prompts
    assert [(row.prompt, row.tags) for row in found.rows] == [("one", ("x", "y"))]
    assert [error.row for error in found.errors] == [2, 3, 4, 5, 7, 8, 9, 10, 11]
    messages = {error.row: error.message for error in found.errors}
    assert "not JSON" in messages[3]
    assert messages[4] == "the question is a number, not a text"
    assert "200,001" in messages[10]


def test_conversations() -> None:
    talk = [
        {"role": "system", "content": "S"},
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "yo"},
        {"role": "user", "content": "q"},
    ]
    found = load_file(json.dumps({"messages": talk}).encode(), name="x.jsonl").prompts
    assert [m.role for m in found.rows[0].messages] == ["system", "user", "assistant", "user"]
    assert found.rows[0].prompt == "q"
    answered = load_file(json.dumps({"messages": talk[:3]}).encode(), name="x.jsonl").prompts.rows[0]
    assert (answered.prompt, str(answered.expected)) == ("hi", "yo")
    assert "end with the user" in errors(json.dumps({"messages": talk[:1]}), "x.jsonl")[0][1]
    assert "role" in errors(json.dumps({"messages": [{"role": "tool", "content": "x"}]}), "x.jsonl")[0][1]
    assert prompts(json.dumps([{"prompt": "a"}, {"prompt": "b"}]), "x.json") == [(1, "a"), (2, "b")]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252", "shift_jis"])
def test_encodings(encoding: str) -> None:
    text = (
        "東京はどこにありますか。大阪はどこですか。\n" * 20
        if encoding == "shift_jis"
        else "Où est le café déjà vu à Genève ? Ça va très bien.\n" * 20
    )
    assert prompts(text.encode(encoding), "x.txt")[0][1] == text.split("\n")[0]
    assert read_table(text.encode(encoding), encoding=encoding).rows[0][1]["prompt"] == text.split("\n")[0]


def test_wrong_encoding_named() -> None:
    with pytest.raises(InvalidFile):
        read_table("é".encode("cp1252"), encoding="utf-8")
    with pytest.raises(InvalidFile):
        read_table(b"x", encoding="klingon")


@pytest.mark.parametrize(
    ("data", "message"),
    [(b"", "empty"), (b"  \n\n", "empty"), (b"PK\x03\x04zip", "Excel"), (b"\x00\x01\x02" * 50, "binary"), (b"\xff\xfea", "UTF-16")],
)
def test_unreadable_files(data: bytes, message: str) -> None:
    with pytest.raises(InvalidFile, match=message):
        read_table(data, name="x.txt")


def test_all_rows_broken() -> None:
    with pytest.raises(InvalidFile, match="not JSON"):
        read_table(b"{a\n{b", name="x.jsonl")


def test_saved_sets(home: Path) -> None:
    found = load_file(b"prompt,id\nfine,1\n,2\n", name="x.csv").prompts
    save_set("capitals", found)
    assert load_set("capitals") == found
    assert load_set("capitals").account == "2 rows read, 1 asked, 1 left out (row 2: the prompt is empty)"
    assert saved_sets().names() == ("capitals",)
    with pytest.raises(InvalidInput):
        save_set("capitals", found)
    save_set("capitals", found, replace=True)
    with pytest.raises(InvalidInput):
        save_set("none", PromptSet(()))
    with pytest.raises(NotFound):
        load_set("other")


def test_pasted() -> None:
    assert [row.prompt for row in pasted("one\n\ntwo").rows] == ["one", "two"]
    with pytest.raises(InvalidFile):
        pasted(" \n ")
