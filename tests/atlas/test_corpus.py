"""The corpus: windows, masks, the split by document, and the user's own files with everything that can be wrong with them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from neurons.atlas.chat_corpus import ChatSettings, generate_conversations, read_conversations
from neurons.atlas.chat_prompts import draw_prompts
from neurons.atlas.corpus import MIN_TOKENS, SKIP, WINDOW, Corpus, Cutting, Document, Source, build_corpus
from neurons.atlas.own_corpus import build_own_corpus
from neurons.atlas.readers import Read, Skipped, read_corpus
from neurons.core.errors import InvalidFile, InvalidInput, StoreError
from tests.support.atlases import tiny_corpus
from tests.support.tiny_models import tiny_model

PROSE = "It was the best of times, it was the worst of times, it was the age of wisdom. " * 8


def read(path: Path, **options: str) -> tuple[list[Read], list[Skipped]]:
    found = list(read_corpus(str(path), **options))
    return [one for one in found if isinstance(one, Read)], [one for one in found if isinstance(one, Skipped)]


def test_windows_hold_the_text_once_and_mask_their_start() -> None:
    ids = tuple(range(200)) * 5
    corpus = build_corpus(
        [Document(0, "a", text="x"), Document(0, "b", ids=ids)],
        [Source("s", "own", "", "")],
        encode=lambda text: ids,
        start_ids=[256],
        n_vocab=259,
        cutting=Cutting(held_out=0),
    )
    assert corpus.length_S.max() <= WINDOW
    text_windows = [corpus.sequence(n) for n in range(corpus.n_sequences) if corpus.document_S[n] == 0]
    assert all(window[0] == 256 for window in text_windows)
    assert sorted(np.concatenate([window[1:] for window in text_windows]).tolist()) == sorted(ids)
    assert (corpus.start_S >= SKIP).all()
    assert (corpus.counted_S >= MIN_TOKENS).all()
    with pytest.raises(InvalidInput, match="has windows 0 to"):
        corpus.sequence(corpus.n_sequences)


def test_whole_documents_of_every_source_are_held_out() -> None:
    corpus = tiny_corpus(80, held_out=0.2)
    describing = set(corpus.document_S[: corpus.n_describe].tolist())
    assert not corpus.held_S[: corpus.n_describe].any()
    assert corpus.held_S[corpus.n_describe :].all()
    assert not describing & set(corpus.document_S[corpus.n_describe :].tolist())
    for row in corpus.shares():
        assert 0.08 < row["held_out_tokens"] / (row["tokens"] + row["held_out_tokens"]) < 0.25
        assert row["licence"]
    assert sum(row["tokens"] for row in corpus.shares()) == corpus.counted_tokens


def test_a_shared_prefix_counts_in_one_document_of_sixteen() -> None:
    documents = [Document(0, str(n), ids=tuple(range(60)), prefix=30) for n in range(64)]
    corpus = build_corpus(
        documents, [Source("s", "chat", "", "")], encode=lambda text: [], start_ids=[], n_vocab=259, cutting=Cutting(held_out=0)
    )
    assert sorted(corpus.start_S.tolist()) == [SKIP] * 4 + [30] * 60


def test_a_corpus_is_the_same_after_saving(tmp_path: Path) -> None:
    corpus = tiny_corpus()
    corpus.save(tmp_path / "c.zarr.zip")
    first = (tmp_path / "c.zarr.zip").read_bytes()
    corpus.save(tmp_path / "c.zarr.zip")
    assert (tmp_path / "c.zarr.zip").read_bytes() == first
    loaded = Corpus.load(tmp_path / "c.zarr.zip")
    assert loaded.fingerprint == corpus.fingerprint
    assert loaded.sources == corpus.sources
    assert loaded.names_D == corpus.names_D
    assert np.array_equal(loaded.tokens, corpus.tokens)
    (tmp_path / "c.zarr.zip").write_bytes(first[:-100])
    with pytest.raises(StoreError):
        Corpus.load(tmp_path / "c.zarr.zip")


def test_files_of_every_kind_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(PROSE)
    (tmp_path / "b.jsonl").write_text(
        json.dumps({"text": PROSE}) + "\n" + json.dumps({"messages": [{"role": "user", "content": "Hi"}]}) + "\n"
    )
    (tmp_path / "c.csv").write_text('id,body\n1,"' + PROSE + '"\n')
    pd.DataFrame({"content": [PROSE, PROSE]}).to_parquet(tmp_path / "d.parquet")
    texts, skipped = read(tmp_path)
    assert [one.name for one in texts] == [
        "a.txt",
        "b.jsonl, line 1",
        "b.jsonl, line 2",
        "c.csv, row 1",
        "d.parquet, row 1",
        "d.parquet, row 2",
    ]
    assert texts[2].messages[0].content == "Hi"
    assert not skipped


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("empty.txt", b"", "empty"),
        ("binary.txt", b"\x00\x01\x02" * 100, "binary"),
        ("latin.txt", "für Elise, très bien ".encode("latin-1") * 10, "not UTF-8"),
        ("short.txt", b"hello", "shorter than"),
        ("bad.jsonl", b'{"text": "cut off', "not JSON"),
        ("columns.csv", b"a,b\n1,2\n", "no text column"),
        ("bad.parquet", b"PAR1 and nothing", "no Parquet"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, name: str, data: bytes, reason: str) -> None:
    (tmp_path / name).write_bytes(data)
    texts, skipped = read(tmp_path / name)
    assert not texts
    assert len(skipped) == 1
    assert name in skipped[0].name
    assert reason in skipped[0].reason


def test_a_good_file_beside_bad_ones_is_used_and_the_bad_ones_are_counted(tmp_path: Path) -> None:
    (tmp_path / "good.txt").write_text(PROSE)
    (tmp_path / "empty.txt").touch()
    built = build_own_corpus(tiny_model(), [str(tmp_path)], held_out=0)
    assert built.corpus.counted_tokens > 300
    assert [one.name for one in built.skipped] == ["empty.txt"]
    assert "1 skipped" in built.summary()
    (tmp_path / "good.txt").unlink()
    with pytest.raises(InvalidInput, match="nothing in the corpus can be used"):
        build_own_corpus(tiny_model(), [str(tmp_path)])
    with pytest.raises(InvalidInput, match="no file, folder or data set"):
        build_own_corpus(tiny_model(), [str(tmp_path / "missing.txt")])
    (tmp_path / "none").mkdir()
    with pytest.raises(InvalidFile, match="empty folder"):
        build_own_corpus(tiny_model(), [str(tmp_path / "none")])


def test_a_corpus_says_which_column_was_read(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(f'id,text\n1,"{PROSE}"\n2,"{PROSE}"\n', encoding="utf-8")
    (tmp_path / "b.jsonl").write_text(json.dumps({"content": PROSE}) + "\n", encoding="utf-8")
    (tmp_path / "c.txt").write_text(PROSE, encoding="utf-8")
    built = build_own_corpus(tiny_model(), [str(tmp_path), str(tmp_path / "c.txt")], held_out=0)
    folder, lone = (source.origin for source in built.corpus.sources)
    assert folder == f"{tmp_path}, columns 'text' and 'content'"
    assert lone == str(tmp_path / "c.txt")


def test_prompts_are_varied_and_the_same_each_time() -> None:
    prompts = draw_prompts(440)
    assert prompts == draw_prompts(440)
    assert len({messages[-1].content for _, messages, _ in prompts}) > 420
    assert len({category for category, _, _ in prompts}) == 11
    assert any(follow_up for _, _, follow_up in prompts)


def test_conversations_are_generated_once_and_resumed(tmp_path: Path) -> None:
    loaded, path = tiny_model(), tmp_path / "chat.jsonl"
    settings = ChatSettings(conversations=6, max_new_tokens=12, batch=4)
    assert generate_conversations(loaded, path, settings) == 8 - 2
    first = path.read_text()
    path.write_text("".join(first.splitlines(keepends=True)[:4]) + '{"number": 4, "cut')
    generate_conversations(loaded, path, settings)
    assert path.read_text() == first
    conversations = list(read_conversations(path))
    assert len(conversations) == 6
    assert all(0 <= i < 259 for one in conversations for i in one.ids)
    torch.manual_seed(123)  # the program's own generator has no part in it
    again = tmp_path / "again.jsonl"
    generate_conversations(loaded, again, settings)
    assert again.read_text() == first
    generate_conversations(loaded, tmp_path / "other.jsonl", replace(settings, seed=1))
    assert (tmp_path / "other.jsonl").read_text() != first
    with pytest.raises(InvalidInput, match="no chat template"):
        generate_conversations(tiny_model(chat=False), path, settings)
    path.write_text("[1]\n")
    with pytest.raises(InvalidFile, match="line 1"):
        list(read_conversations(path))


def test_conversations_end_at_the_end_marker(tmp_path: Path) -> None:
    loaded, path = tiny_model(), tmp_path / "chat.jsonl"
    hot = ChatSettings(conversations=16, max_new_tokens=60, batch=16, temperature=5.0, top_p=1.0)
    generate_conversations(loaded, path, hot)
    answers = [one.ids for one in read_conversations(path)]
    assert len({len(ids) for ids in answers}) > 1, "some answers end before the others"
    assert not any(ids[-1] in loaded.eos_ids and ids[-2] in loaded.eos_ids for ids in answers), "no padding is left in"


def test_conversations_that_are_text_in_a_table_are_conversations(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "Tell me of the sea. " * 4}, {"role": "assistant", "content": "It's wide."}]
    pd.DataFrame({"messages": [json.dumps(turns), str(turns)]}).to_parquet(tmp_path / "a.parquet")
    found = list(read_corpus(str(tmp_path / "a.parquet")))
    assert [[message.content for message in one.messages] for one in found if isinstance(one, Read)] == [[t["content"] for t in turns]] * 2
