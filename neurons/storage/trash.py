"""A folder of deleted things, from where they can be put back. What is removed from it is gone for good."""

from __future__ import annotations

import os
import shutil
import time
from contextlib import suppress
from pathlib import Path

from neurons.core.errors import StoreError
from neurons.storage.files import move, publish

_GOING = ".going-"


class Trash:
    """Deleted files and folders, each under a name of its own: the name that `put` was given."""

    def __init__(self, folder: Path, *, keep: int | None = None) -> None:
        """`keep` is how many of the latest deletions can be put back; None keeps all."""
        self.folder = folder
        self.keep = keep

    def __contains__(self, name: str) -> bool:
        return _is_plain(name) and (self.folder / name).exists()

    def path(self, name: str) -> Path:
        """Where a deleted thing lies."""
        return self.folder / name

    def names(self) -> tuple[str, ...]:
        """What can be put back, the oldest deletion first."""
        try:
            with os.scandir(self.folder) as entries:
                found = [(entry.stat().st_mtime_ns, entry.name) for entry in entries if not entry.name.startswith(".")]
        except OSError:
            return ()
        return tuple(name for _, name in sorted(found))

    def put(self, path: Path, name: str) -> None:
        """Move a file or folder here. Raises `StoreError` when the disk refuses; then it stays where it was."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if self.keep is not None:
                moment = time.time_ns()  # when it was deleted; the clock that utime asks by itself stands still for milliseconds
                os.utime(path, ns=(moment, moment))
            move(path, self.folder / name)
        except OSError as error:
            raise StoreError(f"{path} cannot be deleted: {error.strerror or error}; close programs that use it, and try again") from error
        if self.keep is not None:
            for old in self.names()[: -self.keep]:
                with suppress(StoreError):  # the next deletion tries again
                    self.remove(old)

    def put_back(self, name: str, target: Path) -> None:
        """Move a deleted thing to `target`. Raises `StoreError` when the disk refuses or a folder is there already."""
        try:
            publish(self.folder / name, target)
        except OSError as error:
            raise StoreError(f"{target} cannot be put back: {error.strerror or error}") from error

    def remove(self, name: str) -> None:
        """Remove a deleted thing for good. It leaves the list at once; its space is freed after that.

        Raises `StoreError` when the disk refuses.
        """
        source, going = self.folder / name, self.folder / f"{_GOING}{name}"
        try:
            os.rename(source, going)
        except OSError:  # the disk refuses even a rename: remove it where it is
            going = source
        if going.is_dir() and not going.is_symlink():
            shutil.rmtree(going, ignore_errors=True)
        else:
            with suppress(OSError):
                going.unlink()
        if source.exists():
            raise StoreError(f"{source} cannot be removed; check that you may change this folder")

    def sweep(self) -> None:
        """Finish removals that were broken off."""
        for path in self.folder.glob(f"{_GOING}*"):
            shutil.rmtree(path, ignore_errors=True)
            with suppress(OSError):
                path.unlink()


def _is_plain(name: str) -> bool:
    return bool(name) and not name.startswith(".") and "/" not in name and "\\" not in name and "\0" not in name
