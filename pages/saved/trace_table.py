"""The list of traces as a table, and the row of filters above it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import pandas as pd
import streamlit as st

from pages.shared import address, server_wide
from pages.shared.tables import choose_rows, moments
from traces.summary import TraceSummary

MOST = 2000
_CUT = 160
_PICKED = "traces.picked"

COLUMNS: Mapping[str, Any] = {
    "pinned": st.column_config.CheckboxColumn("Pin", width=40, help="Pinned traces keep their activations on disk"),
    "created": st.column_config.DatetimeColumn("When", format="D MMM YY, HH:mm", width=115, help="When the run ended, in your time zone"),
    "steers": st.column_config.TextColumn("Steered", width=70, help="How many steers were on; empty: an unsteered run"),
    "name": st.column_config.TextColumn("Name", width=135),
    "prompt": st.column_config.TextColumn("Prompt", width=185),
    "answer": st.column_config.TextColumn("Answer", width=200),
    "model": st.column_config.TextColumn("Model", width=165),
    "link": st.column_config.LinkColumn("Link", display_text="open", width=50, help="The address of this trace: right-click to copy it"),
    "tags": st.column_config.ListColumn("Tags", width=110),
    "set": st.column_config.TextColumn("Set", width=90, help="The prompt set it belongs to"),
    "tokens": st.column_config.NumberColumn("Tokens", width=60, help="Tokens of prompt and answer"),
    "ended": st.column_config.TextColumn(
        "Ended", width=75, help="stop: the model ended its answer; length: the token limit; cancelled: stopped"
    ),
    "size": st.column_config.NumberColumn("MB", format="%.1f", width=50, help="Megabytes on disk, activations and attributions included"),
}


def filters() -> dict[str, Any]:
    """The row of filters; returns the arguments of `TraceStore.list`. They stay when another page is visited."""
    catalogue = server_wide.store().catalogue
    search, model, tag, group, days, trash = st.columns([2.4, 1.5, 1.2, 1.4, 1.8, 1.5], vertical_alignment="bottom")
    words = search.text_input(
        "Search",
        key="traces.words",
        placeholder="words in prompt, answer, name, note, tags",
        icon=":material/search:",
        persist_state="session",
    )
    chosen: dict[str, Any] = {"query": words or ""}
    chosen["model"] = _pick(model, "Model", catalogue.distinct("model_name"), "traces.model")
    chosen["tag"] = _pick(tag, "Tag", catalogue.tags(), "traces.tag")
    chosen["set_name"] = _pick(group, "Prompt set", catalogue.distinct("set_name"), "traces.set")
    period = days.date_input("Dates", value=[], key="traces.dates", format="YYYY-MM-DD", persist_state="session")
    if period:
        chosen["since"] = _utc(period[0])
        chosen["until"] = _utc(period[-1] + timedelta(days=1))
    chosen["trashed"] = trash.toggle("Trash", key="traces.trash", help="Show the deleted traces")
    return {name: value for name, value in chosen.items() if value is not None}


def _pick(place: Any, label: str, options: Sequence[str], key: str) -> str | None:
    if st.session_state.get(key) not in options:
        st.session_state.pop(key, None)
    picked: str | None = place.selectbox(label, options, index=None, key=key, placeholder="any", persist_state="session")
    return picked


def _utc(day: date) -> str:
    """Midnight of a day in this browser's time zone, as the catalogue writes times."""
    offset = st.context.timezone_offset or 0
    moment = datetime.combine(day, time(), UTC) + timedelta(minutes=offset)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def frame_of(rows: Sequence[TraceSummary]) -> pd.DataFrame:
    """The rows as a table, texts cut to what a cell can show."""
    return pd.DataFrame(
        {
            "id": [row.id for row in rows],
            "pinned": [row.pinned for row in rows],
            "created": moments(row.created for row in rows),
            "name": [row.name or ("(example)" if row.example else "") for row in rows],
            "prompt": [_one_line(row.prompt) for row in rows],
            "answer": [_one_line(row.answer) for row in rows],
            "tags": [list(row.tags) for row in rows],
            "set": [row.set_name or "" for row in rows],
            "model": [row.model_name for row in rows],
            "steers": [f"{row.steers} steer{'' if row.steers == 1 else 's'}" if row.steers else "" for row in rows],
            "tokens": [row.prompt_tokens + row.answer_tokens for row in rows],
            "ended": [row.finish_reason for row in rows],
            "size": [row.bytes / 1e6 for row in rows],
            "link": [address.address("trace", trace=row.id) for row in rows],
        }
    )


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _CUT else f"{line[:_CUT]}…"


def draw(rows: Sequence[TraceSummary], *, height: int) -> list[TraceSummary]:
    """Draw the rows; return the selected ones."""
    ids = [row.id for row in rows]
    before = [ids.index(one) for one in st.session_state.get(_PICKED, ()) if one in ids]
    picked = choose_rows(frame_of(rows), key="traces.table", identity=ids, columns=COLUMNS, many=True, height=height, chosen=before)
    st.session_state[_PICKED] = [ids[place] for place in picked]
    return [rows[place] for place in picked]
