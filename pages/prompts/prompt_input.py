"""Getting prompts: a file whose columns are detected, shown and mapped, pasted lines, or a saved set; and the rows that cannot be used."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
import streamlit as st

from neurons.core.errors import NeuronscopeError
from neurons.prompts.files import Columns, pasted, read_prompts
from neurons.prompts.sets import PromptSet, load_set, saved_sets
from neurons.prompts.shapes import find_shape
from neurons.storage.tables import Table, read_table
from pages.shared import deleting, desk, server_wide, untrusted

PROMPT_FILES = ["txt", "csv", "tsv", "jsonl", "json", "yaml", "yml"]
_MAX_MB = 100
_FILE = "prompts.file.kept"
_PREVIEW = 200
_OWN = "columns of my choice"
_DETECTED = "(by its name)"
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
        "One prompt per line", key="prompts.text", height=160, placeholder="What is the capital of Turkey?\nWhat is the capital of Brazil?"
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
    desk.still_offered("prompts.saved", names)
    chosen = st.selectbox("Set", names, key="prompts.saved")
    found = load_set(chosen)
    preview(found)
    deleting.offer(lambda: deleting.entry(saved_sets(), chosen), key="prompts.saved", label="Delete this set", help="Its traces stay")
    return found


def _upload() -> PromptSet | None:
    file = st.file_uploader(
        "TXT, CSV, JSON or YAML",
        type=PROMPT_FILES,
        key="prompts.file",
        max_upload_size=_MAX_MB,
        on_change=_forget_file,
        help="TXT: one prompt per line. CSV: any separator. JSON: an array, or a value on each line. Known kinds (Alpaca, ShareGPT, "
        "OpenAI chat, BIG-bench, lm-eval, promptfoo, HarmBench...) are read as what they are",
    )
    file = _kept(file)
    if file is None:
        st.caption("The file stays on this machine. Its columns are detected; you can change what they mean before anything runs.")
        return None
    try:
        table = _table(file)
    except NeuronscopeError as error:
        server_wide.show_error(error)
        return None
    return _understood(table, file.name, file.file_id)


@dataclass(frozen=True)
class _File:
    """An uploaded file, kept while other pages are visited: the field itself is emptied then."""

    name: str
    data: bytes
    file_id: str

    def getvalue(self) -> bytes:
        return self.data


def _kept(file: Any) -> Any:
    """The file in the field, else the one that was there before another page was visited."""
    if file is not None:
        st.session_state[_FILE] = _File(file.name, file.getvalue(), file.file_id)
        return file
    before: _File | None = st.session_state.get(_FILE)
    if before is not None:
        left, right = st.columns([4, 1], vertical_alignment="center")
        left.caption(f"Still here: {untrusted.escape(before.name)}, {len(before.data):,} bytes.")
        right.button("Remove", key="prompts.file.remove", on_click=_forget_file, width="stretch")
    return before


def _forget_file() -> None:
    st.session_state.pop(_FILE, None)


def _table(file: Any) -> Table:
    """The file as a table, its header and quoting as somebody has it."""
    table = read_table(file.getvalue(), name=file.name)
    if table.format != "csv":
        return table
    tabs = table.delimiter == "\t"
    quotes = st.toggle("Cells may be quoted", value=False, key=f"prompts.quotes.{file.file_id}") if tabs else None
    header = st.toggle("The first row names the columns", value=table.header, key=f"prompts.header.{file.file_id}")
    return replace(read_table(file.getvalue(), name=file.name, header=header, quotes=quotes), header_in_doubt=False)


def _understood(table: Table, name: str, mark: str) -> PromptSet | None:
    """The file's prompts: as a known shape, or by the columns that somebody chooses."""
    separator = {"\t": "tab", ",": "comma", ";": "semicolon", "|": "bar"}.get(table.delimiter, "")
    facts = ", ".join(filter(None, [table.format.upper(), table.encoding, f"{separator} separated" if separator else ""]))
    shape, unfolded = find_shape(table)
    rows, columns = len(unfolded.rows) + len(unfolded.errors), len(unfolded.columns)
    st.caption(f"{facts}: {rows:,} rows, {columns} column{'' if columns == 1 else 's'}.")
    for note in unfolded.notes:
        st.caption(untrusted.escape(note))
    options = [*([shape.name] if shape is not None else []), _OWN]
    how = st.radio("Read as", options, key=f"prompts.shape.{mark}.{shape.name if shape else ''}", horizontal=True)
    chosen = _columns(unfolded, mark) if how == _OWN else Columns()
    if chosen is None:
        return None
    found = read_prompts(table, chosen, source=name).prompts
    preview(found)
    return found


def _columns(table: Table, mark: str) -> Columns | None:
    """What each column means, as somebody chooses. None until what is asked is chosen."""
    key = f"{mark}.{table.header}"
    fields: dict[str, Any] = {}
    prompt = st.selectbox(
        "Prompt", table.columns, index=None, key=f"prompts.map.prompt.{key}", placeholder="Which column holds the prompt?"
    )
    template = st.text_input(
        "Or a template",
        key=f"prompts.map.template.{key}",
        placeholder="{instruction}\\n{input}",
        help="The prompt, with names of columns in braces; \\n begins a new line",
        disabled=prompt is not None,
    )
    places = zip(st.columns(4), (("expected", "Expected"), ("system", "System"), ("id", "Id"), ("tags", "Tags")), strict=True)
    for place, (field, label) in places:
        picked = place.selectbox(label, [_DETECTED, *table.columns], key=f"prompts.map.{field}.{key}")
        fields[field] = None if picked == _DETECTED else picked
    if prompt is None and not template.strip():
        st.info(
            "Choose the column that holds the prompt, or write a template. Neuronscope does not guess it.",
            icon=":material/touch_app:",
        )
        return None
    return Columns(prompt, None if prompt is not None else template, **fields)


def preview(found: PromptSet) -> None:
    """The first prompts, and every row that cannot be used."""
    frame = pd.DataFrame(
        {
            "row": [row.row for row in found.rows[:_PREVIEW]],
            "prompt": [row.prompt[:300] for row in found.rows[:_PREVIEW]],
            "turns": [len(row.messages) for row in found.rows[:_PREVIEW]],
            "id": [row.id for row in found.rows[:_PREVIEW]],
            "expected": [str(row.expected or "")[:100] for row in found.rows[:_PREVIEW]],
            "tags": [list(row.tags) for row in found.rows[:_PREVIEW]],
        }
    )
    used = ["row", "prompt"]
    used += ["turns"] if (frame["turns"] > 1).any() else []
    used += [name for name in ("expected", "id", "tags") if any(frame[name].map(bool))]
    names = {"row": "Row", "prompt": "Prompt", "turns": "Turns", "expected": "Expected", "id": "Id", "tags": "Tags"}
    more = f", the first {_PREVIEW} shown" if len(found.rows) > _PREVIEW else ""
    st.caption(f"{len(found.rows):,} prompt{'' if len(found.rows) == 1 else 's'} can be run{more}.")
    st.caption(untrusted.escape(f"{found.asked}; {found.account}" if found.asked else found.account))
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
