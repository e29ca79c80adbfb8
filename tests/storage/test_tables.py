"""Encodings are found out and said, byte-order marks go, and JSON lines end at line feeds alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from neurons.core.errors import InvalidFile
from neurons.storage.encodings import decode
from neurons.storage.jobs import JobContext, JobRunner
from neurons.storage.tables import read_table

TEXTS = {
    "cp1250": [
        "id;otázka\n1;Jaké je hlavní město České republiky? Řekni to stručně, příteli.\n",
        "prompt\nMi Magyarország fővárosa? Kérem, röviden válaszoljon.\n",
        "pytanie\nKtóry miesiąc jest najcieplejszy? Zażółć gęślą jaźń.\n",
        "întrebare\nCare este capitala României? Răspunde pe scurt, te rog.\n",
    ],
    "cp1254": ["prompt\nTürkiye'nin başkenti neresidir? Kısaca açıkla.\n", "soru\nİstanbul'da kaç kişi yaşıyor?\n"],
    "cp1252": [
        "prompt\nOù est le café déjà vu à Genève ? Ça va très bien.\n",
        "Où est le café déjà vu à Genève ? Ça va très bien.\n" * 20,
        "pergunta\nQual é a capital de Portugal? Não sei a solução.\n",
        "fråga\nVad heter huvudstaden i Sverige? Förklara på två rader för små barn.\n",
        "prompt\nWhat is “love”? I don’t know – really.\n",
    ],
    "cp1251": ["вопрос\nКакой город является столицей России? Объясни коротко.\n"],
    "koi8-r": ["вопрос\nКакой город является столицей России? Объясни коротко.\n"],
    "euc_jp": ["東京はどこにありますか。大阪はどこですか。\n" * 2],
    "gbk": ["问题\n中国的首都是哪里？请简短回答。\n"],
    "cp1255": ["שאלה\nמהי בירת ישראל? הסבר בקצרה.\n"],
}


@pytest.mark.parametrize(("encoding", "text"), [(encoding, text) for encoding, texts in TEXTS.items() for text in texts])
def test_encodings_are_found_out(encoding: str, text: str) -> None:
    found, name = decode(text.encode(encoding))
    assert found == text
    assert text.encode(name)


def test_marks_go_whatever_the_encoding() -> None:
    for encoding in ("utf-8-sig", "utf-16", "utf-32"):
        assert decode("prompt".encode(encoding))[0] == "prompt"
    assert decode(b"\xef\xbb\xbfprompt", "utf-8") == ("prompt", "utf-8")
    assert decode(b"\xef\xbb\xbfprompt", "cp1250") == ("prompt", "cp1250")
    assert decode("\ufeffprompt".encode("utf-16-le"), "utf-16-le")[0] == "prompt"


def test_json_lines_end_at_line_feeds_alone() -> None:
    rows = [{"prompt": f"a{mark}b"} for mark in "\u2028\u2029\u0085\x0b\x0c"]
    data = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    assert [row for _, row in read_table(data.encode(), name="x.jsonl").rows] == rows


def test_a_jobs_rows_keep_every_line_end(tmp_path: Path) -> None:
    def work(context: JobContext) -> None:
        for number, mark in enumerate("\u2028\u0085\x0c"):
            context.add_row({"row": number, "prompt": f"a{mark}b"})

    runner = JobRunner(tmp_path)
    try:
        runner.register("lines", work)  # type: ignore[arg-type]
        job = runner.start("lines", {}, title="lines")
        runner.wait(job.id, timeout=30)
        assert [row["prompt"] for row in runner.rows(job.id)] == ["a\u2028b", "a\u0085b", "a\x0cb"]
    finally:
        runner.close()


def test_pretty_printed_values_one_after_the_other() -> None:
    data = json.dumps({"prompt": "a"}, indent=1) + "\n" + json.dumps({"prompt": "b"}, indent=1)
    table = read_table(data.encode(), name="x.json")
    assert [row["prompt"] for _, row in table.rows] == ["a", "b"]
    assert table.read == 2


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
@pytest.mark.parametrize("text", ["prompt,expected\nWhere is İzmir?,Türkiye\n", "日本の首都は？\r\nパリ はどこ\r\n"])
def test_wide_text_without_a_mark_is_text(encoding: str, text: str) -> None:
    assert decode(text.encode(encoding)) == (text, encoding)


@pytest.mark.parametrize("seed", range(20))
def test_bytes_that_are_no_text_stay_refused(seed: int) -> None:
    import random

    data = bytearray(random.Random(seed).randbytes(2_000))
    data[::50] = bytes(40)
    with pytest.raises(InvalidFile, match="binary"):
        decode(bytes(data))


def test_a_table_in_markdown_is_no_list_of_prompts() -> None:
    for rule in ("|---|---|", "| :--- | ---: |", "--- | ---"):
        with pytest.raises(InvalidFile, match="Markdown"):
            read_table(f"| prompt | expected |\n{rule}\n| What? | x |\n".encode(), name="a.md")
    assert read_table(b"a | b\nc | d\n", name="a.txt").read == 2


@pytest.mark.parametrize("name", ["a.html", "notes.md", "a.log", "A.PY", "a.xml"])
def test_other_kinds_of_files_are_not_asked_line_by_line(name: str) -> None:
    with pytest.raises(InvalidFile, match="--format txt"):
        read_table(b"<p>One?</p>\nTwo?\n", name=name)
    assert read_table(b"One?\nTwo?\n", name=name, kind="txt").read == 2
    assert read_table(b'{"prompt": "One?"}\n', name=name).format == "jsonl"


@pytest.mark.parametrize("name", ["", "prompts", "prompts.v2", "a.prompts", "a.TXT", "my.questions"])
def test_a_plain_name_is_a_prompt_a_line(name: str) -> None:
    assert read_table(b"One?\nTwo?\n", name=name).read == 2


def test_plain_words_of_yaml_stay_as_they_are_written() -> None:
    words = ["no", "yes", "12:30", "1_000", "0x10", "1e3", "2026-01-01", "007", "1.50", "true"]
    table = read_table("".join(f"- prompt: {word}\n" for word in words).encode(), name="a.yaml")
    assert [row["prompt"] for _, row in table.rows] == words
    table = read_table(b"- prompt: one\n  expected: null\n- prompt: two\n  expected: ~\n- prompt: three\n  expected:\n", name="a.yaml")
    assert [row["expected"] for _, row in table.rows] == [None, None, None]


@pytest.mark.parametrize("first", [b"prompt,prompt,expected", b"question,question", b"Question,Correct?"])
def test_a_first_row_that_may_name_the_columns_is_asked_about(first: bytes) -> None:
    assert read_table(first + b"\none,two,three\n"[: None if first.count(b",") == 2 else 8] + b"\n", name="a.csv").header_in_doubt
    table = read_table(first + b"\n" + b"x," * first.count(b",") + b"y\n", name="a.csv", header=True)
    assert len(set(table.columns)) == first.count(b",") + 1
    assert table.read == 1
