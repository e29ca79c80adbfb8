"""Build the shipped atlas's corpus, FOLDER/corpus.zarr.zip: `python scripts/build_corpus.py FOLDER [--tokens N] [--conversations N]`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from corpus_sources import SHARES, SOURCES, documents, fetch

from neurons.atlas.chat_corpus import ChatSettings, generate_conversations, read_conversations
from neurons.atlas.corpus import Corpus, Cutting, Document, build_corpus, describe_shares
from neurons.core.progress import Progress, no_progress
from neurons.models.chat import encode_text
from neurons.models.load import load_model
from neurons.models.loaded import LoadedModel

CHAT = 1


def chat_documents(path: Path) -> Iterator[Document]:
    """The generated conversations as documents."""
    for conversation in read_conversations(path):
        name = f"Chat: {conversation.category} {conversation.number}"
        yield Document(CHAT, name, ids=conversation.ids, prefix=conversation.prefix)


def build(loaded: LoadedModel, folder: Path, *, tokens: int, conversations: int, progress: Progress = no_progress) -> Corpus:
    """Fetch, clean, generate, cut; writes `folder`/corpus.zarr.zip. `conversations` 0 takes what `folder`/chat.jsonl holds."""
    chat = folder / "chat.jsonl"
    unpacked = fetch(folder / "fetch")
    if conversations:
        generate_conversations(loaded, chat, ChatSettings(conversations=conversations, batch=40), progress=progress)
    corpus = build_corpus(
        chain(documents(unpacked), chat_documents(chat)),
        SOURCES,
        encode=lambda text: encode_text(loaded, text, bos=False),
        start_ids=encode_text(loaded, ""),
        n_vocab=loaded.ref.n_vocab,
        cutting=Cutting(
            budgets=[None if number == CHAT else int(tokens * share) for number, share in enumerate(SHARES)], held_out=0.07, align=64
        ),
        progress=progress,
    )
    corpus.save(folder / "corpus.zarr.zip")
    return corpus


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tokens", type=int, default=1_750_000)
    parser.add_argument("--conversations", type=int, default=1100, help="0 takes what the folder's chat.jsonl holds")
    options = parser.parse_args()
    corpus = build(load_model("default"), options.folder, tokens=options.tokens, conversations=options.conversations)
    sys.stdout.write(describe_shares(corpus) + f"\n{corpus.counted_tokens} describing, {corpus.held_tokens} held out\n")


if __name__ == "__main__":
    main()
