"""Several renames that happen all or not at all, a crash between them included.

The renames are written down first, inside the folder (the bench) that holds what is to be moved; then they are done. Whoever finds
a bench with such a list after a crash does what is left of it. Each rename can be repeated without harm.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from neurons.core.errors import StoreError
from neurons.storage.files import fsync_path, move
from neurons.storage.sealed import unseal, write_sealed

JOURNAL = "journal.json"
_FORMAT = "neuronscope-journal"


def rename_all(root: Path, bench: Path, moves: Sequence[tuple[Path, Path]]) -> None:
    """Rename each (source, target) in order, then remove the bench. All paths lie below `root`. Hold the lock of `root`.

    No target may exist, but for one that an earlier rename moves away. Raises `StoreError` when the disk refuses: what was done
    is undone then.
    """
    names = [[source.relative_to(root).as_posix(), target.relative_to(root).as_posix()] for source, target in moves]
    write_sealed(bench / JOURNAL, {"format": _FORMAT, "version": 1, "moves": names})
    try:
        for source, target in moves:
            move(source, target)
    except OSError as error:
        for source, target in reversed(moves):
            if target.exists() and not source.exists():
                os.rename(target, source)
        (bench / JOURNAL).unlink()
        raise StoreError(f"{error.filename} cannot be moved: {error.strerror or error}; nothing was changed") from error
    _clear(bench)


def replay(root: Path, workshop: Path) -> int:
    """Finish what a crash broke off; returns how many lists were finished. Hold the lock of `root`.

    A bench without a readable list was never to be published; it is left for the sweep.
    """
    finished = 0
    for path in sorted(workshop.glob(f"*/{JOURNAL}")):
        try:
            entries = unseal(path.read_bytes(), what=str(path), unsealed=(), cure="")["moves"]
        except (OSError, KeyError, StoreError):
            continue
        for source, target in ((root / a, root / b) for a, b in entries):
            if source.exists() and not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                move(source, target)
        _clear(path.parent)
        finished += 1
    return finished


def has_work(workshop: Path) -> bool:
    """Whether a crash left renames undone."""
    return any(workshop.glob(f"*/{JOURNAL}"))


def _clear(bench: Path) -> None:
    """Remove a bench whose renames are done: its list goes first, so that it is never done again.

    Where the disk refuses that, all stays: as long as what the renames moved away lies here, doing them again changes nothing.
    """
    with suppress(OSError):
        (bench / JOURNAL).unlink()
        fsync_path(bench)
        shutil.rmtree(bench, ignore_errors=True)
