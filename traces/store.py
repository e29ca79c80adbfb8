"""The trace store: one folder per trace, whole or absent, with a searchable catalogue and a disk budget for the tensors.

<root>/<id>/trace.json          the record, never changed
            manifest.json       size and SHA-256 of trace.json and of every file of tensors.zarr
            meta.json           name, note, tags, pin, set: what a person may change, replaced atomically
            tensors.zarr/       see traces.tensors
            activations.json    only when the activations were evicted or recomputed, see traces.activations
            attributions/<key>/ see traces.attributions
<root>/.trash/<id>/             deleted, can be restored
<root>/.work/                   unfinished folders; swept
<root>/catalogue.sqlite3        an index, rebuilt from the folders when lost
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from neurons.core.errors import InvalidInput, NeuronscopeError, NotFound, StoreError
from neurons.core.home import subfolder
from neurons.storage.files import tree_size, write_atomic
from neurons.storage.manifest import changed, missing_or_resized, write_folder
from traces import activations, attributions
from traces.attributions import AttributionInfo, StoredAttribution
from traces.catalogue import Catalogue, TraceSummary, haystack_of, summarise
from traces.folders import META, RECORD, TRASH, TraceFolders, unreadable
from traces.reports import Usage, VerifyReport
from traces.schema import TraceRecord, check_id, check_record, meta_of, new_id, now, to_json, with_meta
from traces.tensors import ACTIVATIONS, GROUP, check_shapes, narrow, open_dataset, read_array, write_group

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
        self._mend()
        self.folders.sweep()
        self.sync()

    # -- writing ---------------------------------------------------------------------------------------------------

    def save(self, record: TraceRecord, arrays: Mapping[str, NDArray[Any]] | None = None) -> TraceRecord:
        """Publish a run; returns the record with its id. First writer wins: an id that exists raises `StoreError`.

        `arrays` are those of `traces.tensors.DIMENSIONS`, any of them left out. Raises `StoreError` for non-finite values
        and for a disk that refuses; nothing is left behind then.
        """
        record = check_record(replace(record, id=record.id or new_id(), created=record.created or now()))
        if self.folders.locate(record.id, trashed=True) is not None:
            raise StoreError(f"trace {record.id} exists already and was kept; save the new one under another id")
        narrowed = {name: narrow(name, np.asarray(array)) for name, array in (arrays or {}).items()}
        check_shapes(narrowed, n_layers=record.model.n_layers, n_tokens=len(record.token_ids), n_neurons=record.model.n_neurons)

        def fill(folder: Path) -> None:
            (folder / RECORD).write_text(to_json(record), encoding="utf-8")
            write_group(folder / GROUP, narrowed, {"format": "neuronscope-tensors", "version": 1})

        try:
            write_folder(self.root / record.id, self.folders.work, fill)
        except FileExistsError as error:
            raise StoreError(f"trace {record.id} exists already and was kept; save the new one under another id") from error
        self._index(record.id)
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
        with self.folders.lock():
            folder = self.folders.own(trace_id)
            record = self.folders.read_record(folder)
            wanted: dict[str, Any] = {"name": name, "note": note, "tags": tags, "pinned": pinned, "set_name": set_name, "set_row": set_row}
            meta = {**meta_of(record), **{key: value for key, value in wanted.items() if value is not None}}
            if set_name == "":
                meta |= {"set_name": None, "set_row": None}
            meta["tags"] = list(dict.fromkeys(tag.strip() for tag in meta["tags"]))
            record = with_meta(record, meta)
            write_atomic(folder / META, json.dumps(meta_of(record), ensure_ascii=False, allow_nan=False).encode())
            self._index(trace_id)
        return record

    def delete(self, trace_id: str) -> None:
        """Move a trace to the trash, from which `restore` brings it back."""
        with self.folders.lock():
            folder = self.folders.find(trace_id)
            if self.folders.is_example(folder) or self.folders.example(trace_id) is not None:
                (self.folders.hidden / trace_id).touch()
            if not self.folders.is_example(folder):
                folder.rename(self.folders.trash / trace_id)
            self._index(trace_id)

    def restore(self, trace_id: str) -> TraceRecord:
        """Bring a deleted trace back."""
        with self.folders.lock():
            check_id(trace_id)
            trashed, hidden = self.folders.trash / trace_id, self.folders.hidden / trace_id
            if not trashed.exists() and not hidden.exists():
                raise NotFound(f"trace {trace_id} is not in the trash")
            if trashed.exists():
                trashed.rename(self.root / trace_id)
            hidden.unlink(missing_ok=True)
            self._index(trace_id)
            return self.folders.read_record(self.folders.find(trace_id))

    def purge(self, trace_id: str | None = None) -> int:
        """Remove one trace, or all, from the trash for good; returns how many. Only what is in the trash is ever removed."""
        with self.folders.lock():
            names = [path.name for path in (self.folders.trash).iterdir()] if trace_id is None else [check_id(trace_id)]
            gone = [name for name in names if (self.folders.trash / name).exists()]
            if trace_id is not None and not gone:
                raise NotFound(f"trace {trace_id} is not in the trash")
            for name in gone:
                doomed = self.folders.work / f"purge-{name}"
                (self.folders.trash / name).rename(doomed)
                shutil.rmtree(doomed, ignore_errors=True)
                self._index(name)
        return len(gone)

    # -- reading ---------------------------------------------------------------------------------------------------

    def resolve(self, text: str) -> str:
        """The full id for an id, a unique start of one, or "last". Raises `NotFound` or `InvalidInput` when several fit."""
        text = text.strip().lower()
        self.sync()
        if text == "last":
            newest = [row for row in self.catalogue.find("", limit=50) if not row.example]
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

    def load(self, trace_id: str) -> TraceRecord:
        """The record, with its present name, tags, note and pin. Reads the trash too. Raises `NotFound`, `StoreError`."""
        return self.folders.read_record(self.folders.find(trace_id, trashed=True))

    def list(self, query: str = "", **filters: Any) -> tuple[TraceSummary, ...]:
        """Rows of the catalogue whose prompt, answer, name, note, tags, model or date hold every word of `query`.

        Filters: model, tag, set_name, baseline_id, pinned, since, until (ISO dates), trashed, sort, descending, limit,
        offset; see `Catalogue.find`.
        """
        self.sync()
        return self.catalogue.find(query, **filters)

    def summary(self, trace_id: str) -> TraceSummary:
        """One row of the catalogue."""
        row = self.catalogue.get(trace_id)
        if row is None:
            self._index(trace_id)
            row = self.catalogue.get(trace_id)
        if row is None:
            raise NotFound(f"there is no trace {trace_id[:80]!r}; `neuronscope traces list` shows them")
        return row

    def arrays(self, trace_id: str) -> xr.Dataset:
        """The tensors as a lazy dataset, after a check that no file is missing or cut. Evicted activations are not in it."""
        folder = self.folders.find(trace_id, trashed=True)
        problems = missing_or_resized(folder, activations.holding(folder).files)
        if problems:
            raise StoreError(f"trace {trace_id} is damaged ({problems[0]}); import it again or delete it")
        return open_dataset(folder / GROUP)

    def activation_state(self, trace_id: str) -> str:
        """stored, evicted or none."""
        return activations.holding(self.folders.find(trace_id, trashed=True)).state

    def read(self, trace_id: str, name: str, **selection: slice | int) -> NDArray[Any]:
        """Values of one array, such as `read(id, "activations", layer=3, token=slice(0, 9))`.

        Raises `Evicted` when activations were removed for the disk budget, `NotFound` when they were never stored.
        """
        dataset = self.arrays(trace_id)
        if name not in dataset:
            if name == ACTIVATIONS and self.activation_state(trace_id) == "evicted":
                raise Evicted(
                    f"the activations of trace {trace_id} were removed to keep the disk budget; recompute them (traces replay --keep)"
                )
            raise NotFound(f"trace {trace_id} has no {name}; it was recorded without")
        values = read_array(dataset, name, selection)
        if name == ACTIVATIONS and self.activation_state(trace_id) != "stored":
            raise Evicted(f"the activations of trace {trace_id} were removed while they were read; recompute them")
        return values

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
        with self.folders.lock():
            key = attributions.save(self.folders.own(trace_id), self.folders.work, attribution)
        self._index(trace_id)
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
        write_atomic(self.root / "settings.json", json.dumps({"budget_bytes": budget_bytes}).encode())
        self._budget = None
        return len(self.enforce_budget())

    def usage(self) -> Usage:
        """How much disk the traces take."""
        self.sync()
        total, tensors, count = self.catalogue.total_bytes()
        return Usage(count, total, tensors, self.budget_bytes)

    def enforce_budget(self, *, keep: str | None = None) -> tuple[str, ...]:
        """Evict activations until they fit: the trash first, then the oldest; pinned traces and `keep` stay. Returns the ids."""
        evicted: list[str] = []
        if self.catalogue.total_bytes()[1] <= self.budget_bytes:
            return ()
        with self.folders.lock():
            for row in self.catalogue.evictable():
                if self.catalogue.total_bytes()[1] <= self.budget_bytes:
                    break
                folder = self.folders.locate(row.id, trashed=True)
                if row.id != keep and folder is not None:
                    activations.evict(folder, self.folders.work)
                    self._index(row.id)
                    evicted.append(row.id)
        return tuple(evicted)

    def evict(self, trace_id: str) -> int:
        """Remove the activations of one trace now; returns the bytes freed."""
        with self.folders.lock():
            freed = activations.evict(self.folders.own(trace_id), self.folders.work)
            self._index(trace_id)
        return freed

    def put_activations(self, trace_id: str, acts_LTI: NDArray[Any], **attributes: str) -> bool:
        """Store recomputed activations again; returns whether they are bit for bit what was published first."""
        record = self.load(trace_id)
        narrowed = narrow(ACTIVATIONS, np.asarray(acts_LTI))
        check_shapes(
            {ACTIVATIONS: narrowed}, n_layers=record.model.n_layers, n_tokens=len(record.token_ids), n_neurons=record.model.n_neurons
        )
        with self.folders.lock():
            same = activations.put_back(self.folders.own(trace_id), self.folders.work, narrowed, attributes)
            self._index(trace_id)
        self.enforce_budget(keep=trace_id)
        return same

    # -- catalogue -------------------------------------------------------------------------------------------------

    def rebuild(self) -> int:
        """Make the catalogue anew from the folders; returns how many traces it holds."""
        with self.folders.lock():
            self.catalogue.create()
        self.sync()
        return len(self.catalogue.ids())

    def _mend(self) -> None:
        """Start an empty catalogue where the file is lost or corrupt; `sync` fills it."""
        if not self.catalogue.healthy():
            with self.folders.lock():
                if not self.catalogue.healthy():
                    self.catalogue.create()

    def sync(self) -> None:
        """Bring the catalogue in line with the folders on disk; costs one directory listing when nothing changed."""
        present = dict.fromkeys(self.folders.names(self.root), False) | dict.fromkeys(self.folders.names(self.folders.trash), True)
        for name in self.folders.names(self.folders.examples):
            present.setdefault(name, (self.folders.hidden / name).exists())
        try:
            known = self.catalogue.ids()
        except StoreError:
            self._mend()
            known = self.catalogue.ids()
        if known != present:
            self._index(
                *(name for name in present if known.get(name) is not present[name]), *(name for name in known if name not in present)
            )

    def _index(self, *trace_ids: str) -> None:
        rows, gone = [], []
        for trace_id in trace_ids:
            folder = self.folders.locate(trace_id, trashed=True)
            row = self._row(folder) if folder is not None else None
            if row is None:
                gone.append(trace_id)
            else:
                rows.append(row)
        if rows:
            self.catalogue.put(rows)
        if gone:
            self.catalogue.remove(gone)

    def _row(self, folder: Path) -> tuple[TraceSummary, str] | None:
        try:
            record = self.folders.read_record(folder)
            held = activations.holding(folder)
        except NeuronscopeError:
            record, held = unreadable(folder.name), activations.Holding("none", {})
        target = folder / GROUP / ACTIVATIONS / "zarr.json"
        tensors = sum(entry.size for name, entry in held.files.items() if name.startswith(activations.PREFIX)) if target.exists() else 0
        small = sum(entry.size for name, entry in held.files.items() if not name.startswith(activations.PREFIX))
        example = self.folders.is_example(folder)
        summary = summarise(
            record,
            activations=held.state,
            size=tensors + small + tree_size(folder / attributions.FOLDER),
            tensor_size=0 if example else tensors,
            tensors_at=target.stat().st_mtime if tensors else 0.0,
            trashed=folder.parent.name == TRASH or (example and (self.folders.hidden / folder.name).exists()),
            example=example,
        )
        return summary, haystack_of(record)
