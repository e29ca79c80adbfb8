"""The trace store: one folder per trace, whole or absent, with a searchable catalogue and a disk budget for the tensors.

<root>/<id>/trace.json          the record, never changed
            manifest.json       size and SHA-256 of trace.json and of every file of tensors.zarr, and of itself
            meta.json           name, note, tags, pin, set: what a person may change, sealed, replaced atomically
            tensors.zarr/       see traces.tensors
            activations.json    only when the activations were evicted or recomputed, see traces.activations
            attributions/<key>/ see traces.attributions
<root>/.trash/<id>/             deleted, can be restored
<root>/.work/                   unfinished folders, swept; renames that a crash broke off, finished at the next start
<root>/catalogue.sqlite3        an index, rebuilt from the folders when lost
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from neurons.core.clock import now
from neurons.core.errors import InvalidInput, NeuronscopeError, NotFound, StoreError
from neurons.core.home import subfolder
from neurons.core.json_text import json_text
from neurons.storage.files import tree_size, write_atomic
from neurons.storage.manifest import changed, opening_problems, write_folder
from neurons.storage.sealed import write_sealed
from traces import activations, attributions
from traces.attributions import AttributionInfo, StoredAttribution
from traces.catalogue import Catalogue, Search
from traces.folders import META, RECORD, TraceFolders
from traces.indexing import Indexer
from traces.reports import Usage, VerifyReport
from traces.schema import TraceRecord, check_created, check_id, check_record, meta_of, new_id, to_json, with_meta
from traces.summary import TraceSummary
from traces.tensors import ACTIVATIONS, GROUP, check_shapes, files_below, narrow, open_dataset, read_array, write_group

_Read = TypeVar("_Read")
_ATTEMPTS = 5
EXAMPLES = Path(__file__).parent / "examples"
DEFAULT_BUDGET = 5 * 10**9


class Evicted(StoreError):
    """The activations were removed to keep the disk budget. `neurons.tracing.replay.recompute` brings them back, bit for bit."""


class TraceStore:
    """Every trace of one folder. Safe for several threads and processes at once."""

    def __init__(self, root: Path | None = None, *, budget_bytes: int | None = None, examples: Path | None = EXAMPLES) -> None:
        """Open (and create) the store at `root`, by default the user's own.

        `budget_bytes` limits the activations on disk; None takes the saved setting, else 5 GB. `examples` is a read-only
        folder of traces listed beside the user's own; None lists none.
        """
        self.root = root if root is not None else subfolder("traces")
        self._budget = budget_bytes
        self.folders = TraceFolders(self.root, examples=examples)
        self.catalogue = Catalogue(self.root / "catalogue.sqlite3")
        self._index = Indexer(self.folders, self.catalogue)
        self._recover()
        self._index.open()

    # -- writing ---------------------------------------------------------------------------------------------------

    def save(self, record: TraceRecord, arrays: Mapping[str, NDArray[Any]] | None = None) -> TraceRecord:
        """Publish a run; returns the record with its id. First writer wins: an id that exists raises `StoreError`.

        `arrays` are those of `traces.tensors.DIMENSIONS`, any of them left out. Raises `StoreError` for non-finite values
        and for a disk that refuses; nothing is left behind then.
        """
        record = check_created(check_record(replace(record, id=record.id or new_id(), created=record.created or now())))
        if self.folders.locate(record.id, trashed=True) is not None:
            raise StoreError(f"trace {record.id} exists already and was kept; save the new one under another id")
        narrowed = {name: narrow(name, np.asarray(array)) for name, array in (arrays or {}).items()}
        sizes = check_shapes(narrowed, n_layers=record.model.n_layers, n_tokens=len(record.token_ids), n_neurons=record.model.n_neurons)

        def fill(folder: Path) -> None:
            (folder / RECORD).write_bytes(to_json(record).encode())
            write_group(folder / GROUP, narrowed, sizes=sizes)

        try:
            write_folder(self.root / record.id, self.folders.work, fill)
        except FileExistsError as error:
            raise StoreError(f"trace {record.id} exists already and was kept; save the new one under another id") from error
        self._index.put(record.id)
        with suppress(StoreError):  # the run is saved: the next one makes room
            self.enforce_budget(keep=record.id)
        return record

    def update(
        self,
        trace_id: str,
        *,
        name: str | None = None,
        note: str | None = None,
        tags: tuple[str, ...] | None = None,
        pinned: bool | None = None,
        set_name: str | None = None,
        set_row: int | None = None,
    ) -> TraceRecord:
        """Change what is given, keep the rest; returns the record. "" as `set_name` takes the trace out of its set."""
        with self.folders.changing():
            folder = self.folders.own(trace_id)
            record = self.folders.read_record(folder)
            wanted: dict[str, Any] = {"name": name, "note": note, "tags": tags, "pinned": pinned, "set_name": set_name, "set_row": set_row}
            meta = {**meta_of(record), **{key: value for key, value in wanted.items() if value is not None}}
            if set_name == "":
                meta |= {"set_name": None, "set_row": None}
            meta["tags"] = list(dict.fromkeys(tag.strip() for tag in meta["tags"]))
            record = with_meta(record, meta)
            write_sealed(folder / META, meta_of(record))
            self._index.put(trace_id)
        return record

    def delete(self, trace_id: str) -> None:
        """Move a trace to the trash, from which `restore` brings it back."""
        with self.folders.changing():
            folder = self.folders.find(trace_id)
            if self.folders.is_example(folder) or self.folders.example(trace_id) is not None:
                write_atomic(self.folders.hidden / trace_id, b"")
            if not self.folders.is_example(folder):
                self.folders.trash.put(folder, trace_id)
            self._index.put(trace_id)

    def restore(self, trace_id: str) -> TraceRecord:
        """Bring a deleted trace back."""
        with self.folders.changing():
            check_id(trace_id)
            trash, hidden = self.folders.trash, self.folders.hidden / trace_id
            if trace_id not in trash and not hidden.exists():
                raise NotFound(f"trace {trace_id} is not in the trash")
            if trace_id in trash:
                trash.put_back(trace_id, self.root / trace_id)
            if hidden.exists():
                hidden.unlink()
            self._index.put(trace_id)
            return self.folders.read_record(self.folders.find(trace_id))

    def purge(self, trace_id: str | None = None) -> int:
        """Remove one trace, or all, from the trash for good; returns how many. Only what is in the trash is ever removed."""
        with self.folders.changing():
            trash = self.folders.trash
            if trace_id is not None and check_id(trace_id) not in trash:
                raise NotFound(f"trace {trace_id} is not in the trash")
            gone = trash.names() if trace_id is None else (trace_id,)
            for name in gone:
                trash.remove(name)
                self._index.put(name)
        return len(gone)

    # -- reading ---------------------------------------------------------------------------------------------------

    def resolve(self, text: str) -> str:
        """The full id for an id, a unique start of one, or "last". Raises `NotFound` or `InvalidInput` when several fit."""
        text = text.strip().lower()
        self.sync()
        if text == "last":
            newest = [row for row in self._index.answer(lambda: self.catalogue.find(Search(limit=50))) if not row.example]
            if not newest:
                raise NotFound('there are no traces yet; run `neuronscope trace "..."` first')
            return newest[0].id
        found = self.catalogue.starting_with(text, limit=6) if text else ()
        if text in found:
            return text
        if not found:
            raise NotFound(f"there is no trace {text[:80]!r}; `neuronscope traces list` shows them")
        if len(found) > 1:
            raise InvalidInput(f"{text!r} is the start of several traces: {', '.join(found[:5])}; type more of it", field="trace")
        return found[0]

    def examples(self) -> tuple[TraceRecord, ...]:
        """The traces that ship, as they are now: a copy of the user's own in the place of one, none for one that was deleted."""
        found = []
        for trace_id in self.folders.names(self.folders.examples):
            with suppress(NotFound, StoreError):
                if not self.summary(trace_id).trashed:
                    found.append(self.load(trace_id))
        return tuple(found)

    def load(self, trace_id: str) -> TraceRecord:
        """The record, with its present name, tags, note and pin. Reads the trash too. Raises `NotFound`, `StoreError`."""
        return self._steadily(trace_id, self.folders.read_record)

    def _steadily(self, trace_id: str, read: Callable[[Path], _Read]) -> _Read:
        """What `read` makes of the trace's folder, read again when the trace was deleted, restored or changed meanwhile."""
        for _ in range(_ATTEMPTS):
            folder = self.folders.find(trace_id, trashed=True)
            before = activations.mark(folder)
            try:
                found = read(folder)
            except StoreError:
                if activations.mark(folder) == before and folder.exists():
                    raise
                continue
            if activations.mark(folder) == before:
                return found
        raise StoreError(f"trace {trace_id} is being changed by another program; try again")

    def list(self, query: str = "", **filters: Any) -> tuple[TraceSummary, ...]:
        """Rows of the catalogue whose prompt, answer, name, note, tags, model or date hold every word of `query`.

        Filters: model, tag, set_name, baseline_id, pinned, since, until (ISO dates), trashed, sort, descending, limit,
        offset; see `Search` of the catalogue.
        """
        self.sync()
        return self._index.answer(lambda: self.catalogue.find(Search(query, **filters)))

    def summary(self, trace_id: str) -> TraceSummary:
        """One row of the catalogue."""
        row = self._index.answer(lambda: self.catalogue.get(trace_id))
        if row is None:
            self._index.put(trace_id)
            row = self.catalogue.get(trace_id)
        if row is None:
            raise NotFound(f"there is no trace {trace_id[:80]!r}; `neuronscope traces list` shows them")
        return row

    def arrays(self, trace_id: str) -> xr.Dataset:
        """The tensors as a lazy dataset, after a check that no file is missing, cut or (chunks aside) changed.

        Evicted activations are not in it. Whatever goes missing later is an error when it is read, never a fill value.
        """
        return self._steadily(trace_id, self._open)

    def _open(self, folder: Path) -> xr.Dataset:
        files = activations.holding(folder).files
        problems = opening_problems(folder, files)
        if problems:
            raise StoreError(f"trace {folder.name} is damaged ({problems[0]}); import it again or delete it")
        dataset = open_dataset(folder / GROUP, files_below(files, GROUP))
        return dataset[[name for name in map(str, dataset.data_vars) if f"{GROUP}/{name}/zarr.json" in files]]

    def activation_state(self, trace_id: str) -> str:
        """stored, evicted or none."""
        return self._steadily(trace_id, activations.holding).state

    def read(self, trace_id: str, name: str, **selection: slice | int) -> NDArray[Any]:
        """Values of one array, such as `read(id, "activations", layer=3, token=slice(0, 9))`.

        Raises `Evicted` when activations were removed for the disk budget, `NotFound` when they were never stored.
        """
        return self._steadily(trace_id, lambda folder: self._read(folder, name, selection))

    def _read(self, folder: Path, name: str, selection: Mapping[str, slice | int]) -> NDArray[Any]:
        dataset = self._open(folder)
        if name in dataset:
            return read_array(dataset, name, selection)
        if name == ACTIVATIONS and activations.holding(folder).state == "evicted":
            why = "were removed to keep the disk budget; recompute them (traces replay --keep)"
            raise Evicted(f"the activations of trace {folder.name} {why}")
        raise NotFound(f"trace {folder.name} has no {name}; it was recorded without")

    def verify(self, trace_id: str) -> VerifyReport:
        """Check every byte against the manifests, and the record against its schema."""
        folder = self.folders.find(trace_id, trashed=True)
        state, files = "none", 0
        try:
            held = activations.holding(folder)
            state, files = held.state, len(held.files)
            problems = changed(folder, held.files)
            self.folders.read_record(folder)
        except NeuronscopeError as error:
            problems = [str(error)]
        problems += attributions.problems_of(folder)
        return VerifyReport(trace_id, not problems, tuple(problems), files, tree_size(folder), state)

    # -- attributions ----------------------------------------------------------------------------------------------

    def save_attribution(self, trace_id: str, attribution: StoredAttribution) -> str:
        """Store an attribution in the trace; returns its key. One with the same key is replaced."""
        with self.folders.changing():
            key = attributions.save(self.folders.own(trace_id), self.folders.work, attribution)
        self._index.put(trace_id)
        return key

    def attributions(self, trace_id: str) -> tuple[AttributionInfo, ...]:
        """What was computed for the trace so far. Damaged ones are left out; `verify` names them."""
        folder = self.folders.find(trace_id, trashed=True)
        found = []
        for key in attributions.keys(folder):
            try:
                found.append(attributions.info(folder, key))
            except StoreError:
                continue
        return tuple(found)

    def attribution(self, trace_id: str, key: str) -> StoredAttribution:
        """One stored attribution. Raises `NotFound`, `StoreError`."""
        return attributions.load(self.folders.find(trace_id, trashed=True), key)

    # -- disk budget -----------------------------------------------------------------------------------------------

    @property
    def budget_bytes(self) -> int:
        """How many bytes of activations may stay on disk."""
        if self._budget is not None:
            return self._budget
        try:
            saved = json.loads((self.root / "settings.json").read_bytes())["budget_bytes"]
        except (OSError, ValueError, KeyError, TypeError):
            return DEFAULT_BUDGET
        return saved if isinstance(saved, int) and saved >= 0 else DEFAULT_BUDGET

    def set_budget(self, budget_bytes: int) -> int:
        """Save the budget for every program that uses this store, and keep to it now. Returns the traces evicted."""
        if budget_bytes < 0:
            raise InvalidInput(f"the disk budget is {budget_bytes} bytes; use 0 or more", field="budget")
        write_atomic(self.root / "settings.json", json_text({"budget_bytes": budget_bytes}).encode())
        self._budget = None
        return len(self.enforce_budget())

    def usage(self) -> Usage:
        """How much disk the traces take."""
        self.sync()
        total, tensors, count = self._index.answer(self.catalogue.total_bytes)
        return Usage(count, total, tensors, self.budget_bytes)

    def enforce_budget(self, *, keep: str | None = None) -> tuple[str, ...]:
        """Evict activations until they fit: the trash first, then the oldest; pinned traces and `keep` stay. Returns the ids."""
        evicted: list[str] = []
        if self._index.answer(self.catalogue.total_bytes)[1] <= self.budget_bytes:
            return ()
        with self.folders.changing():
            for row in self._index.answer(self.catalogue.evictable):
                if self.catalogue.total_bytes()[1] <= self.budget_bytes:
                    break
                folder = self.folders.locate(row.id, trashed=True)
                if row.id != keep and folder is not None:
                    activations.evict(folder, self.folders.work)
                    self._index.put(row.id)
                    evicted.append(row.id)
        return tuple(evicted)

    def evict(self, trace_id: str, *, pinned: bool = False) -> int:
        """Remove the activations of one trace now; returns the bytes freed. A pinned one keeps them (`InvalidInput`), unless `pinned`."""
        with self.folders.changing():
            folder = self.folders.own(trace_id)
            if not pinned and self.folders.read_record(folder).pinned:
                raise InvalidInput(f"trace {trace_id} is pinned and keeps its activations; unpin it first", field="pinned")
            freed = activations.evict(folder, self.folders.work)
            self._index.put(trace_id)
        return freed

    def put_activations(self, trace_id: str, acts_LTI: NDArray[Any], **attributes: str) -> bool:
        """Store recomputed activations again; returns whether they are bit for bit what was published first."""
        record = self.load(trace_id)
        narrowed = narrow(ACTIVATIONS, np.asarray(acts_LTI))
        check_shapes(
            {ACTIVATIONS: narrowed}, n_layers=record.model.n_layers, n_tokens=len(record.token_ids), n_neurons=record.model.n_neurons
        )
        with self.folders.changing():
            same = activations.put_back(self.folders.own(trace_id), self.folders.work, narrowed, attributes)
            self._index.put(trace_id)
        self.enforce_budget(keep=trace_id)
        return same

    # -- catalogue -------------------------------------------------------------------------------------------------

    def rebuild(self) -> int:
        """Make the catalogue anew from the folders; returns how many traces it holds."""
        self._index.rebuild()
        return len(self.catalogue.ids())

    def sync(self) -> None:
        """Bring the catalogue in line with the folders on disk; costs one directory listing when nothing changed."""
        self._index.sync()

    def _recover(self) -> None:
        """Finish what a program that was killed left undone; where nothing can be written, all stays as it is."""
        broken = {
            *activations.parked(self.folders.work),
            *activations.unfinished(self.root),
            *activations.unfinished(self.folders.trash.folder),
        }
        with suppress(StoreError, OSError):
            for trace_id in broken:
                with self.folders.changing():
                    folder = self.folders.locate(trace_id, trashed=True)
                    if folder is not None:
                        activations.recover(folder, self.folders.work)
        self.folders.recover()
