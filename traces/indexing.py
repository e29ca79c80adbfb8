"""Keeping the catalogue in line with the folders: what is new, gone, changed by a program that was killed, or damaged."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from neurons.core.errors import UNFORESEEN, StoreError
from neurons.storage.files import is_leftover, sweep_leftovers, tree_size
from neurons.storage.manifest import MANIFEST
from traces import activations, attributions
from traces.catalogue import Catalogue, CatalogueDamaged, Row
from traces.folders import META, RECORD, TRASH, TraceFolders, unreadable
from traces.schema import TraceRecord
from traces.summary import haystack_of, summarise
from traces.tensors import ACTIVATIONS, GROUP

_Answer = TypeVar("_Answer")
_STAMPED = frozenset({RECORD, META, MANIFEST, activations.STATE, attributions.FOLDER})


class Indexer:
    """Brings the catalogue of a store in line with its folders."""

    def __init__(self, folders: TraceFolders, catalogue: Catalogue) -> None:
        self.folders = folders
        self.catalogue = catalogue

    def open(self) -> None:
        """Start an empty catalogue where the file is lost or corrupt, and look at every trace whose files are newer than its row."""
        self._mend()
        self.refresh()

    def _mend(self) -> None:
        if self.catalogue.healthy():
            return
        try:
            with self.folders.changing():
                if not self.catalogue.healthy():
                    self.catalogue.create()
        except StoreError:  # nothing can be written here
            self.catalogue.use_memory()

    def rebuild(self) -> None:
        """Make the catalogue anew."""
        with self.folders.changing():
            self.catalogue.create()
        self.sync()

    def answer(self, question: Callable[[], _Answer]) -> _Answer:
        """The answer of the catalogue, which is made anew when it turns out to be damaged."""
        try:
            return question()
        except CatalogueDamaged:
            self._mend()
            self.sync()
            return question()

    def sync(self) -> None:
        """Add what is new and forget what is gone; costs one directory listing when nothing changed."""
        if self.catalogue.back_on_disk():
            self.open()
            return
        present = self._present()
        known = self.answer(self.catalogue.ids)
        if known != present:
            self.put(*(name for name in present if known.get(name) is not present[name]), *(name for name in known if name not in present))

    def refresh(self) -> None:
        """As `sync`, and look again at every trace whose files have another stamp: a program may have been killed between the two."""
        present = self._present()
        known, stamps = self.answer(self.catalogue.ids), self.catalogue.stamps()
        stale = []
        for name, trashed in present.items():
            folder = self.folders.locate(name, trashed=True)
            if folder is not None and (known.get(name) is not trashed or stamps.get(name) != stamp_of(folder, tidy=True)):
                stale.append(name)
        self.put(*stale, *(name for name in known if name not in present))

    def _present(self) -> dict[str, bool]:
        """Every trace on disk with whether it is in the trash."""
        folders = self.folders
        present = dict.fromkeys(folders.names(folders.root), False) | dict.fromkeys(folders.names(folders.trash.folder), True)
        for name in folders.names(folders.examples):
            present.setdefault(name, (folders.hidden / name).exists())
        return present

    def put(self, *trace_ids: str) -> None:
        """Look at traces and write what the list shows of them. One that fails in any way is listed as damaged."""
        rows, gone = [], []
        for trace_id in trace_ids:
            row = self._row(trace_id)
            if row is None:
                gone.append(trace_id)
            else:
                rows.append(row)
        if rows:
            self._write(rows)
        if gone:
            self.answer(lambda: self.catalogue.remove(gone))

    def _write(self, rows: Iterable[Row]) -> None:
        rows = list(rows)
        try:
            self.answer(lambda: self.catalogue.put(rows))
        except (OverflowError, ValueError, TypeError, sqlite3.Error):
            for row in rows:
                self._write_one(row)

    def _write_one(self, row: Row) -> None:
        try:
            self.catalogue.put([row])
        except (OverflowError, ValueError, TypeError, sqlite3.Error) as error:
            damaged = unreadable(row.summary.id, f"it cannot be listed: {type(error).__name__}: {error}")
            summary = summarise(damaged, activations="none", size=0, tensor_size=0, tensors_at=0.0)
            keep = replace(summary, trashed=row.summary.trashed, example=row.summary.example)
            self.catalogue.put([Row(keep, haystack_of(damaged), row.stamp)])

    def _row(self, trace_id: str) -> Row | None:
        """What the list shows of a trace, or None when it is gone. It may be deleted or restored while it is read."""
        while (folder := self.folders.locate(trace_id, trashed=True)) is not None:
            stamp = stamp_of(folder)  # before anything is read: a change meanwhile makes the row stale
            try:
                return self._row_of(folder, self.folders.read_record(folder), activations.holding(folder), stamp)
            except UNFORESEEN as error:
                if folder.exists():
                    return self._row_of(folder, unreadable(trace_id, str(error)), activations.Holding("none", {}), stamp)
        return None

    def _row_of(self, folder: Path, record: TraceRecord, held: activations.Holding, stamp: str) -> Row:
        target = folder / GROUP / ACTIVATIONS / "zarr.json"
        try:
            tensors_at = target.stat().st_mtime
            tensors = sum(entry.size for name, entry in held.files.items() if name.startswith(activations.PREFIX))
        except OSError:
            tensors, tensors_at = 0, 0.0
        small = sum(entry.size for name, entry in held.files.items() if not name.startswith(activations.PREFIX))
        example = self.folders.is_example(folder)
        summary = summarise(
            record,
            activations=held.state,
            size=tensors + small + tree_size(folder / attributions.FOLDER),
            tensor_size=0 if example else tensors,
            tensors_at=tensors_at if tensors else 0.0,
            trashed=folder.parent.name == TRASH or (example and (self.folders.hidden / folder.name).exists()),
            example=example,
        )
        return Row(summary, haystack_of(record), stamp)


def stamp_of(folder: Path, *, tidy: bool = False) -> str:
    """Changes whenever one of the trace's small files does. With `tidy` unfinished writes of long ago are removed on the way."""
    parts, leftovers = [], False
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name in _STAMPED:
                status = entry.stat(follow_symlinks=False)
                parts.append(f"{entry.name}:{status.st_ino}:{status.st_mtime_ns}:{status.st_size}")
            leftovers |= is_leftover(entry.name)
    if tidy and leftovers:
        sweep_leftovers(folder)
    return " ".join(sorted(parts))
