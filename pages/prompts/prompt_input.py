"""Getting prompts: a file whose columns are detected, shown and mapped, pasted lines, or a saved set; and the rows that cannot be used."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from neurons.core.errors import NeuronscopeError
from neurons.prompts.sets import ColumnMapping, PromptSet, build, guess_mapping, load_set, pasted, saved_sets
from neurons.storage.tables import Table, read_table
from pages.shared import deleting, server_wide, untrusted

PROMPT_FILES = ["txt", "csv", "tsv", "jsonl", "json"]
_MAX_MB = 100
_PREVIEW = 200
_NONE = "(none)"
SOURCES = ("Upload", "Paste", "Saved set")


def draw() -> PromptSet | None:
    """The fields; returns the prompts, or None while there are none. What is wrong stands below the field it was entered in."""
    source = st.segmented_control(
        "Prompts from",
        SOURCES,
        default=SOURCES[0],
        key="prompts.source",
        required=True,
        label_visibility="collapsed",
        persist_state="session",
    )
    found: PromptSet | None = None
    with server_wide.errors_shown():
        found = {"Paste": _paste, "Saved set": _saved}.get(source, _upload)()
    return found  # noqa: RET504  # None where an error was shown


def _paste() -> PromptSet | None:
    text = st.text_area(
        "One prompt a line", key="prompts.text", height=160, placeholder="What is the capital of Turkey?\nWhat is the capital of Brazil?"
    )
    if not text.strip():
        st.caption("Each line becomes one prompt.")
        return None
    found = pasted(text)
    preview(found)
    return found


def _saved() -> PromptSet | None:
    names = saved_sets().names()
    if not names:
        st.caption("No saved sets yet. Upload or paste prompts, then press Save.")
        return None
    chosen = st.selectbox("Set", names, key="prompts.saved")
    found = load_set(chosen)
    preview(found)
    deleting.offer(lambda: deleting.entry(saved_sets(), chosen), key="prompts.saved", label="Delete this set", help="Its traces stay")
    return found


def _upload() -> PromptSet | None:
    file = st.file_uploader(
        "TXT, CSV or JSONL",
        type=PROMPT_FILES,
        key="prompts.file",
        max_upload_size=_MAX_MB,
        help="TXT: one prompt a line. CSV: any separator. JSONL: a text or an object a line; an object may hold chat messages",
    )
    if file is None:
        st.caption("The file stays on this machine. Its columns are detected; you can change what they mean before anything runs.")
        return None
    header: bool | None = None
    try:
        table = read_table(file.getvalue(), name=file.name)
        if table.format == "csv":
            header = st.toggle("The first row names the columns", value=table.header, key=f"prompts.header.{file.file_id}")
            if header != table.header:
                table = read_table(file.getvalue(), name=file.name, header=header)
    except NeuronscopeError as error:
        server_wide.show_error(error)
        return None
    mapping = _mapping(table, f"{file.file_id}.{header}")
    if mapping is None:
        return None
    found = build(table, mapping, source=file.name)
    preview(found)
    return found


def _mapping(table: Table, mark: str) -> ColumnMapping | None:
    """What each column means, guessed and changeable."""
    separator = {"\t": "tab", ",": "comma", ";": "semicolon", "|": "bar"}.get(table.delimiter, "")
    facts = ", ".join(filter(None, [table.format.upper(), table.encoding, f"{separator} separated" if separator else ""]))
    st.caption(f"{facts}: {len(table.rows):,} rows, {len(table.columns)} column{'' if len(table.columns) == 1 else 's'}.")
    if len(table.columns) == 1:
        return ColumnMapping(table.columns[0])
    guess = guess_mapping(table)
    fields: dict[str, Any] = {}
    for place, (field, label) in zip(
        st.columns(4), (("prompt", "Prompt"), ("system", "System"), ("id", "Id"), ("tags", "Tags")), strict=True
    ):
        options = list(table.columns) if field == "prompt" else [_NONE, *table.columns]
        guessed = getattr(guess, field)
        picked = place.selectbox(
            label, options, index=options.index(guessed) if guessed in options else 0, key=f"prompts.map.{field}.{mark}"
        )
        fields[field] = None if picked == _NONE else picked
    return ColumnMapping(**fields)


def preview(found: PromptSet) -> None:
    """The first prompts, and every row that cannot be used."""
    frame = pd.DataFrame(
        {
            "row": [row.row for row in found.rows[:_PREVIEW]],
            "prompt": [row.prompt[:300] for row in found.rows[:_PREVIEW]],
            "turns": [len(row.messages) for row in found.rows[:_PREVIEW]],
            "id": [row.id for row in found.rows[:_PREVIEW]],
            "tags": [list(row.tags) for row in found.rows[:_PREVIEW]],
        }
    )
    used = ["row", "prompt"]
    used += ["turns"] if (frame["turns"] > 1).any() else []
    used += [name for name in ("id", "tags") if any(frame[name].map(bool))]
    names = {"row": "Row", "prompt": "Prompt", "turns": "Turns", "id": "Id", "tags": "Tags"}
    more = f", the first {_PREVIEW} shown" if len(found.rows) > _PREVIEW else ""
    st.caption(f"{len(found.rows):,} prompt{'' if len(found.rows) == 1 else 's'} can be run{more}.")
    if len(frame):
        st.dataframe(
            frame, column_order=used, column_config=names, hide_index=True, height=min(250, 40 + 35 * len(frame)), key="prompts.preview"
        )
    if found.errors:
        count = len(found.errors)
        parts: list[untrusted.Part] = [(f"{count} row{'' if count == 1 else 's'} cannot be used and will be left out:\n", "negative")]
        parts += [(f"row {error.row}: {error.message}\n", "") for error in found.errors[:100]]
        with st.container(height=min(180, 60 + 26 * count), border=True):
            untrusted.draw(parts, key="prompts.errors", size="0.9rem")
