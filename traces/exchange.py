"""Traces as zip files, out and in. What comes in is untrusted: all of it is checked before any of it is listed.

export.json          {"format": "neuronscope-export", "version": 1, "traces": [ids]}
<id>/...             the folder of each trace, see traces.store
"""

from __future__ import annotations

import hashlib
import secrets
import shutil
import stat
import zipfile
import zlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from neurons.core.errors import InvalidFile, InvalidInput, StoreError
from neurons.core.json_text import json_text
from neurons.core.names import free_name
from neurons.core.progress import Progress, no_progress
from neurons.storage.files import SHARED, atomic_file, disk_errors, fsync_tree, walk
from neurons.storage.journal import JOURNAL, rename_all
from neurons.storage.manifest import MANIFEST, entry_of, manifest_bytes, opening_problems, read_manifest
from neurons.storage.sealed import seal
from traces import activations, attributions
from traces.folders import META, RECORD, is_id
from traces.schema import TraceRecord, meta_of, new_id, to_json
from traces.store import TraceStore
from traces.untrusted import ALLOWED_NAMES, MAX_JSON, check_folder

INDEX = "export.json"
FORMAT = "neuronscope-export"
MAX_BYTES = 16 << 30
MAX_FILES = 200_000
MAX_RATIO = 200
_FREE_RATIO = 1 << 20  # a file up to this size may be packed as tightly as it likes
_BLOCK = 1 << 20


@dataclass(frozen=True)
class Imported:
    """One trace that came in."""

    id: str
    """Its id here."""
    original_id: str
    """Its id in the file; another one when that was taken."""
    title: str


def export_zip(
    store: TraceStore,
    trace_ids: Sequence[str],
    target: Path | IO[bytes],
    *,
    with_activations: bool = True,
    progress: Progress = no_progress,
) -> int:
    """Write traces to a zip file; returns how many files went in. A damaged trace raises `StoreError` and nothing is left.

    Without activations the file is small, and whoever imports it recomputes them.
    """
    wanted = list(dict.fromkeys(trace_ids))
    if not wanted:
        raise InvalidInput("choose at least one trace to export", field="traces")
    if not isinstance(target, Path):
        return _write_zip(store, wanted, target, with_activations=with_activations, progress=progress)
    with disk_errors(target), atomic_file(target, mode=SHARED) as stream:
        return _write_zip(store, wanted, stream, with_activations=with_activations, progress=progress)


def _write_zip(store: TraceStore, trace_ids: Sequence[str], target: IO[bytes], *, with_activations: bool, progress: Progress) -> int:
    count = 0
    with zipfile.ZipFile(target, "w", allowZip64=True) as archive:
        archive.writestr(INDEX, json_text({"format": FORMAT, "version": 1, "traces": list(trace_ids)}, indent=1))
        for number, trace_id in enumerate(trace_ids):
            progress(number, len(trace_ids), f"packing trace {trace_id}")
            folder = store.folders.find(trace_id)
            held = activations.holding(folder)
            problems = opening_problems(folder, held.files) + attributions.problems_of(folder)
            if problems:
                raise StoreError(f"trace {trace_id} is damaged ({problems[0]}) and was not exported; delete it or leave it out")
            leave = held.state == "stored" and not with_activations
            for name, path in walk(folder):
                if leave and (name.startswith(activations.PREFIX) or name == activations.STATE):
                    continue
                if not ALLOWED_NAMES.fullmatch(name):
                    continue
                digest = _pack(archive, path, f"{trace_id}/{name}", store_only="/c/" in name)
                if name in held.files and digest != held.files[name].sha256:
                    raise StoreError(f"trace {trace_id} is damaged ({name} was changed) and was not exported; delete it or leave it out")
                count += 1
            if leave:
                archive.writestr(f"{trace_id}/{activations.STATE}", seal({"state": "evicted"}))
                count += 1
    progress(len(trace_ids), len(trace_ids), "packed")
    return count


def _pack(archive: zipfile.ZipFile, path: Path, name: str, *, store_only: bool) -> str:
    digest = hashlib.sha256()
    entry = zipfile.ZipInfo(name, date_time=(2020, 1, 1, 0, 0, 0))
    entry.compress_type = zipfile.ZIP_STORED if store_only else zipfile.ZIP_DEFLATED
    entry.external_attr = 0o644 << 16
    entry.file_size = path.stat().st_size
    with path.open("rb") as source, archive.open(entry, "w") as sink:
        while block := source.read(_BLOCK):
            digest.update(block)
            sink.write(block)
    return digest.hexdigest()


def import_zip(
    store: TraceStore, source: Path | IO[bytes], *, max_bytes: int = MAX_BYTES, progress: Progress = no_progress
) -> tuple[Imported, ...]:
    """Bring in every trace of a zip file, or none. A taken id is replaced by a new one. Raises `InvalidFile`."""
    bench = store.folders.work / f"import-{secrets.token_hex(6)}"
    try:
        bench.mkdir(parents=True)
        with zipfile.ZipFile(source) as archive:
            _unpack(archive, bench, max_bytes=max_bytes, progress=progress)
        folders = sorted(path for path in bench.iterdir() if path.is_dir())
        records = []
        for number, folder in enumerate(folders):
            progress(number, len(folders), f"checking trace {folder.name}")
            try:
                records.append(check_folder(folder))
            except InvalidFile as error:
                raise InvalidFile(f"trace {folder.name} in the file is not valid, so nothing was imported: {error}") from error
        return _publish_all(store, bench, folders, records)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, UnicodeDecodeError) as error:
        raise InvalidFile(f"this is not a readable zip file of traces ({error}); export it again") from error
    except UnicodeEncodeError as error:
        raise InvalidFile(f"a text in this file cannot be stored ({error.reason}); nothing was imported") from error
    except OSError as error:
        if isinstance(error, StoreError):
            raise
        raise StoreError(f"cannot import: {error.strerror or error}; free some disk space or check the file") from error
    finally:
        if not (bench / JOURNAL).exists():  # else it is finished at the next start
            shutil.rmtree(bench, ignore_errors=True)


def _unpack(archive: zipfile.ZipFile, bench: Path, *, max_bytes: int, progress: Progress) -> None:
    """Write the allowed files below `bench`. Sizes are counted as they are read, not believed."""
    entries = [entry for entry in archive.infolist() if not entry.filename.endswith("/")]  # is_dir breaks on an empty name
    if len(entries) > MAX_FILES:
        raise InvalidFile(f"the zip file holds {len(entries)} files; the limit is {MAX_FILES}")
    names = [entry.filename for entry in entries]
    if len(set(names)) != len(names):
        raise InvalidFile("the zip file holds two files of the same name")
    if INDEX not in names:
        raise InvalidFile(f"the zip file has no {INDEX}: it was not made by exporting traces")
    left = max_bytes
    for number, entry in enumerate(entries):
        if number % 200 == 0:
            progress(number, len(entries), "unpacking")
        _check_entry(entry)
        if entry.filename == INDEX:
            continue
        path = bench / entry.filename
        path.parent.mkdir(parents=True, exist_ok=True)
        written = 0
        with archive.open(entry) as stream, path.open("xb") as sink:
            while block := stream.read(_BLOCK):
                written += len(block)
                left -= len(block)
                if left < 0:
                    raise InvalidFile(f"the zip file unpacks to more than {max_bytes / 1e9:.1f} GB")
                if written > MAX_JSON and "/c/" not in entry.filename:
                    raise InvalidFile(f"{entry.filename[:100]!r} has more than {MAX_JSON >> 20} MB")
                if written > max(_FREE_RATIO, MAX_RATIO * entry.compress_size):
                    raise InvalidFile(f"{entry.filename[:100]!r} unpacks to {MAX_RATIO} times its size: refused as a zip bomb")
                sink.write(block)
    if not any(path.is_dir() for path in bench.iterdir()):
        raise InvalidFile("the zip file holds no traces")


def _check_entry(entry: zipfile.ZipInfo) -> None:
    folder, _, name = entry.filename.partition("/")
    if entry.filename != INDEX and not (is_id(folder) and ALLOWED_NAMES.fullmatch(name)):
        raise InvalidFile(f"{entry.filename[:100]!r} is not a file that a trace has")
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind not in (0, stat.S_IFREG):
        raise InvalidFile(f"{entry.filename[:100]!r} is a link or device, not a file")
    if entry.header_offset < 0:  # zipfile would seek there
        raise InvalidFile("the zip file's table of contents is damaged: a file would begin before it; export it again")
    if entry.flag_bits & 0x1:
        raise InvalidFile("the zip file is encrypted; export it without a password")
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise InvalidFile("the zip file uses a compression other than stored or deflated")


def _publish_all(store: TraceStore, bench: Path, folders: Sequence[Path], records: Sequence[TraceRecord]) -> tuple[Imported, ...]:
    """Give the checked folders their names in the store, all or none, also when the program is killed on the way."""
    runs = _free_runs(store, records)
    with store.folders.changing():
        taken = {record.id for record in records if store.folders.locate(record.id, trashed=True) is not None}
        ids = {record.id: new_id() if record.id in taken else record.id for record in records}
        moves = []
        for folder, record in zip(folders, records, strict=True):
            run = runs.get(record.set_name or "")
            baseline = ids.get(record.baseline_id or "", record.baseline_id)
            wanted = replace(record, id=ids[record.id], baseline_id=baseline, pinned=False, set_name=run)
            if (wanted.id, wanted.baseline_id) != (record.id, record.baseline_id):
                _rewrite(folder, wanted)
            (folder / META).write_bytes(seal(meta_of(wanted)))
            fsync_tree(folder)
            moves.append((folder, store.root / wanted.id))
        rename_all(store.root, bench, moves)
    store.sync()
    with suppress(StoreError):  # the traces are in: the next run makes room
        store.enforce_budget()
    return tuple(Imported(ids[record.id], record.id, store.summary(ids[record.id]).title) for record in records)


def _free_runs(store: TraceStore, records: Sequence[TraceRecord]) -> dict[str, str]:
    """Each run's name here: another one where there is a run of that name, for the two are not one."""
    store.sync()
    taken = set(store.catalogue.distinct("set_name", trash=True))
    names: dict[str, str] = {}
    for name in dict.fromkeys(record.set_name for record in records if record.set_name):
        names[name] = free_name(name, taken)
        taken.add(names[name])
    return names


def _rewrite(folder: Path, record: TraceRecord) -> None:
    """Write the record anew under another id and mend the manifest's entry for it."""
    path = folder / RECORD
    path.write_bytes(to_json(record).encode())
    manifest = read_manifest(folder)
    manifest[RECORD] = entry_of(path)
    (folder / MANIFEST).write_bytes(manifest_bytes(manifest))
