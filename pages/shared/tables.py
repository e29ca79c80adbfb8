"""Tables that pages share: selection, search, downloads as CSV and Parquet. Cell text is drawn on a canvas, never as markup."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Literal

import pandas as pd
import streamlit as st

from neurons.storage.table_files import frame_csv, frame_parquet

SELECTABLE_ROWS = 150_000
"""Above this many rows st.dataframe offers no selection."""


def downloads(frame: pd.DataFrame, stem: str, *, key: str) -> None:
    """Two buttons: the table as CSV and as Parquet. The bytes are made when a button is pressed."""
    kinds = (("CSV", frame_csv, "csv", "text/csv"), ("Parquet", frame_parquet, "parquet", "application/octet-stream"))
    with st.container(horizontal=True):
        for label, make, ending, mime in kinds:
            st.download_button(
                label,
                partial(make, frame),
                f"{stem}.{ending}",
                mime,
                key=f"{key}.{ending}",
                icon=":material/download:",
                on_click="ignore",
                disabled=frame.empty,
            )


def moments(texts: Iterable[str]) -> pd.DatetimeIndex:
    """Dates as files hold them, for a column of a table; one that is no date is an empty cell."""
    return pd.to_datetime(list(texts), utc=True, format="ISO8601", errors="coerce")


def matching(frame: pd.DataFrame, words: str, columns: Sequence[str]) -> pd.DataFrame:
    """The rows that hold every word of `words` (case ignored) somewhere in `columns`."""
    kept = frame
    for word in words.casefold().split():
        found = pd.Series(False, index=kept.index)
        for column in columns:
            found |= kept[column].astype("string").str.casefold().str.contains(word, regex=False, na=False)
        kept = kept[found]
    return kept


def table_key(key: str, identity: Sequence[object] | pd.Index) -> str:
    """The widget key of a table: another one for other rows."""
    names = identity if isinstance(identity, pd.Index) else pd.Index([str(name) for name in identity], dtype="object")
    mark = zlib.crc32(pd.util.hash_pandas_object(names).to_numpy().tobytes())
    return f"{key}.{mark:x}"


def choose_rows(
    frame: pd.DataFrame,
    *,
    key: str,
    columns: Mapping[str, Any],
    identity: Sequence[object] | None = None,
    many: bool = False,
    height: int | Literal["stretch", "auto"] = 420,
    chosen: Sequence[int] = (),
) -> list[int]:
    """Draw `frame` with only `columns`, in their order; return the positions of the selected rows.

    `identity` names each row, by default the frame's index does. When it changes (a filter, a deleted row) the selection is
    dropped: a position would then mean another row. `chosen` are the rows that are selected when these rows are drawn first.
    """
    event = st.dataframe(
        frame,
        key=table_key(key, frame.index if identity is None else identity),
        width="stretch",
        height=height,
        hide_index=True,
        column_order=list(columns),
        column_config=dict(columns),
        on_select="rerun",
        selection_mode="multi-row" if many else "single-row",
        selection_default={"selection": {"rows": list(chosen), "columns": [], "cells": []}} if chosen else None,
    )
    return [row for row in event.selection.rows if row < len(frame)]
