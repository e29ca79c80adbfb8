"""A corpus for any model: the user's own files, the shipped atlas's texts, and conversations that the model writes itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from transformers import AutoTokenizer

from neurons.atlas.chat_corpus import ChatSettings, generate_conversations, read_conversations
from neurons.atlas.corpus import Corpus, Cutting, Document, Source, build_corpus
from neurons.atlas.readers import Read, Skipped, read_corpus
from neurons.atlas.store import SHIPPED, open_folder
from neurons.core.errors import InvalidInput
from neurons.core.progress import Progress, no_progress
from neurons.core.types import Message
from neurons.models.chat import encode_prompt, encode_text
from neurons.models.load import find_source
from neurons.models.loaded import LoadedModel

SHIPPED_TEXTS = "default"
"""The spec that means the shipped atlas's own texts."""


@dataclass(frozen=True)
class BuiltCorpus:
    """A corpus and what was left out of it."""

    corpus: Corpus
    skipped: tuple[Skipped, ...]

    def summary(self) -> str:
        """One line for people."""
        corpus = self.corpus
        text = f"{corpus.counted_tokens:,} tokens to describe, {corpus.held_tokens:,} held out, {len(corpus.names_D):,} documents"
        return f"{text}, {len(self.skipped):,} skipped" if self.skipped else text


def build_own_corpus(
    loaded: LoadedModel,
    specs: Sequence[str] = (SHIPPED_TEXTS,),
    *,
    column: str | None = None,
    licence: str = "not stated",
    tokens: int | None = None,
    conversations: int = 0,
    chat_file: Path | None = None,
    held_out: float = 0.1,
    progress: Progress = no_progress,
) -> BuiltCorpus:
    """Read `specs` (files, folders, data set ids, or "default"), add generated chat, cut everything for this model's tokenizer.

    `tokens` caps the counted tokens, shared evenly over the specs. `conversations` above 0 lets the model write them, into `chat_file`.
    Raises `InvalidInput` / `InvalidFile` when nothing usable is left; what is skipped is listed with the reason.
    """
    sources: list[Source] = []
    skipped: list[Skipped] = []
    columns: dict[int, dict[str, None]] = {}
    documents: list[Iterator[Document]] = []
    budgets: list[int | None] = []
    for spec in specs:
        first = len(sources)
        if spec == SHIPPED_TEXTS:
            texts = _shipped(first, sources)
        else:
            sources.append(Source(Path(spec).name or spec, "own", licence, spec))
            texts = _own(loaded, first, _noted(read_corpus(spec, column=column), columns.setdefault(first, {})), skipped)
        documents.append(texts)
        share = None if tokens is None else tokens // (len(specs) * max(len(sources) - first, 1))
        budgets += [share] * (len(sources) - first)
    if conversations:
        path = chat_file or Path("chat.jsonl")
        generate_conversations(loaded, path, ChatSettings(conversations=conversations), progress=progress)
        sources.append(Source("Chat", "chat", "written by the model", loaded.ref.name, generated=True))
        budgets.append(None)
        documents.append(_chat(path, len(sources) - 1))
    try:
        corpus = build_corpus(
            (document for part in documents for document in part),
            sources,
            encode=lambda text: encode_text(loaded, text, bos=False),
            start_ids=encode_text(loaded, ""),
            n_vocab=loaded.ref.n_vocab,
            cutting=Cutting(budgets=budgets, held_out=held_out, align=64),
            progress=progress,
        )
    except InvalidInput as error:
        if not skipped:
            raise
        reasons = "; ".join(f"{one.name} {one.reason}" for one in skipped[:3])
        raise InvalidInput(f"nothing in the corpus can be used: {len(skipped)} skipped ({reasons})", field="corpus") from error
    told = tuple(_with_columns(source, tuple(columns.get(number, ()))) for number, source in enumerate(corpus.sources))
    return BuiltCorpus(replace(corpus, sources=told), tuple(skipped))


def _noted(found: Iterator[Read | Skipped], columns: dict[str, None]) -> Iterator[Read | Skipped]:
    """The same, with the columns that the texts stood in put into `columns`, in their order."""
    for one in found:
        if isinstance(one, Read) and one.column:
            columns.setdefault(one.column)
        yield one


def _with_columns(source: Source, columns: tuple[str, ...]) -> Source:
    """The source, which says which column of its tables was read."""
    names = " and ".join(map(repr, columns))
    return replace(source, origin=f"{source.origin}, column{'s' if len(columns) > 1 else ''} {names}") if columns else source


def _shipped(first: int, sources: list[Source]) -> Iterator[Document]:
    """The shipped atlas's texts (its chat part left out: another model wrote that), decoded and to be cut again."""
    corpus = open_folder(SHIPPED).corpus
    kept = {number: at for at, number in enumerate(n for n, source in enumerate(corpus.sources) if not source.generated)}
    sources.extend(source for source in corpus.sources if not source.generated)
    tokenizer = AutoTokenizer.from_pretrained(find_source("default").path)

    def texts() -> Iterator[Document]:
        for document, name in enumerate(corpus.names_D):
            number = kept.get(int(corpus.source_D[document]))
            if number is not None:
                windows = np.flatnonzero(corpus.document_S == document)
                pieces = [str(tokenizer.decode(corpus.sequence(int(w)).tolist(), clean_up_tokenization_spaces=False)) for w in windows]
                yield Document(first + number, name, text="\n\n".join(pieces))

    return texts()


def _own(loaded: LoadedModel, source: int, found: Iterator[Read | Skipped], skipped: list[Skipped]) -> Iterator[Document]:
    for one in found:
        if isinstance(one, Skipped):
            skipped.append(one)
        elif one.messages:
            ids = _conversation_ids(loaded, one.messages)
            if ids is None:
                skipped.append(Skipped(one.name, "its turns do not fit the model's chat template"))
            else:
                yield Document(source, one.name, ids=ids)
        else:
            yield Document(source, one.name, text=one.text)


def _conversation_ids(loaded: LoadedModel, messages: tuple[Message, ...]) -> tuple[int, ...] | None:
    answer = messages[-1].content if messages[-1].role == "assistant" else ""
    prompt = messages[:-1] if messages[-1].role == "assistant" else messages
    try:
        ids = encode_prompt(loaded, prompt).ids
    except InvalidInput:
        return None
    end = sorted(loaded.eos_ids)[:1] if answer else []
    return (*ids, *encode_text(loaded, answer, bos=False), *end)


def _chat(path: Path, source: int) -> Iterator[Document]:
    for one in read_conversations(path):
        yield Document(source, f"Chat: {one.category} {one.number}", ids=one.ids, prefix=one.prefix)
