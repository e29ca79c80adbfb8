"""Named JSON documents in a folder of the user's data: saved steers, concepts, prompt sets, experiments.

One sealed file per document. Names are the user's own and untrusted: the file is named by the name's hash, the name stands inside.
Deleting moves a document to its trash, from where it can be put back.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import shutil
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from neurons.core.clock import now, stamp
from neurons.core.errors import InvalidInput, NotFound, StoreError
from neurons.core.home import home
from neurons.core.names import MAX_NAME, free_name
from neurons.storage import journal
from neurons.storage.files import disk_errors, sweep_leftovers
from neurons.storage.sealed import unseal, write_sealed
from neurons.storage.trash import Trash

Check = Callable[[Any], Any]
"""Takes a document's content and returns it (tidied, if it likes), or raises `InvalidInput`."""

TRASH_KEPT = 50
_FORMAT = "neuronscope-shelf"
_PARTS = ("format", "version", "name", "changed", "content")
_CURE = "mend or remove the file"


@dataclass(frozen=True)
class Entry:
    """One document as a list shows it."""

    name: str
    changed: str
    """ISO time in UTC of the last save."""
    content: Any


def _same(content: Any) -> Any:
    return content


class NamedDocuments:
    """The documents of one kind. Every write is whole or absent; several processes may share a folder.

    >>> saved = NamedDocuments("steers", check=check_steers)
    >>> saved.save("Paris", {...}); saved.load("Paris"); token = saved.delete("Paris"); saved.restore(token)
    """

    def __init__(self, kind: str, *, check: Check = _same, folder: Path | None = None) -> None:
        """`kind` names the subfolder of the user data, and what error messages call a document. `check` guards saves and loads."""
        self.kind = kind
        self.check = check
        self.folder = home() / kind if folder is None else folder
        self.trash = Trash(self.folder / ".trash", keep=TRASH_KEPT)
        self._work = self.folder / ".work"
        sweep_leftovers(self.folder)
        if journal.has_work(self._work):
            with suppress(StoreError), self._writing():  # where nothing can be written, both names of a broken rename are shown
                pass

    def save(self, name: str, content: Any, *, replace: bool = True) -> Entry:
        """Write a document. Raises `InvalidInput` for a bad name or content, or a name that is taken when `replace` is off."""
        name = self._checked(name)
        entry = Entry(name, now(), self.check(content))
        with self._writing():
            path = self._path(name)
            if path.exists() and not replace:
                raise InvalidInput(f"there is already an entry {name!r} in {self.kind}; choose another name", field="name")
            self._write(path, entry)
        return entry

    def load(self, name: str) -> Any:
        """A document's content. Raises `NotFound`, or `StoreError` when the file is damaged."""
        return self._entry(name).content

    def list(self) -> tuple[Entry, ...]:
        """All readable documents, by name. `damaged` lists the others."""
        entries = (entry for _, entry in self._read_all() if entry is not None)
        return tuple(sorted(entries, key=lambda entry: (entry.name.casefold(), entry.name)))

    def names(self) -> tuple[str, ...]:
        """All names, sorted."""
        return tuple(entry.name for entry in self.list())

    def damaged(self) -> tuple[Path, ...]:
        """Files in the folder that cannot be read. They are left as they are."""
        return tuple(path for path, entry in self._read_all() if entry is None)

    def __contains__(self, name: str) -> bool:
        return self._path(_plain(name)).is_file()

    def rename(self, name: str, new_name: str) -> Entry:
        """Give a document another name, at once or not at all. Raises `InvalidInput` when that is taken."""
        new_name = self._checked(new_name)
        with self._writing():
            old = self._entry(name)
            if new_name == old.name:
                return old
            target = self._path(new_name)
            if target.exists():
                raise InvalidInput(f"there is already an entry {new_name!r} in {self.kind}; choose another name", field="name")
            entry = Entry(new_name, now(), old.content)
            bench = self._work / f"rename-{secrets.token_hex(6)}"
            try:
                with disk_errors(bench):
                    bench.mkdir(parents=True)
                self._write(bench / target.name, entry)
                gone = self._path(old.name)
                journal.rename_all(self.folder, bench, [(bench / target.name, target), (gone, bench / f"old-{gone.name}")])
            except StoreError:
                if not (bench / journal.JOURNAL).exists():
                    shutil.rmtree(bench, ignore_errors=True)
                raise
        return entry

    def delete(self, name: str) -> str:
        """Move a document to the trash and return the token that `restore` takes."""
        with self._writing():
            path = self._path(self._entry(name).name)
            token = f"{stamp()}-{secrets.token_hex(4)}"
            self.trash.put(path, f"{token}.json")
        return token

    def restore(self, token: str) -> Entry:
        """Put a deleted document back. Raises `NotFound` when it is gone, `InvalidInput` when its name was taken meanwhile."""
        source = f"{token}.json"
        if not re.fullmatch(r"[0-9A-Za-z-]+", token) or source not in self.trash:
            raise NotFound(f"there is nothing to put back under {token!r} in {self.kind}; only the last {TRASH_KEPT} deletions are kept")
        with self._writing():
            entry = self._read(self.trash.path(source))
            target = self._path(entry.name)
            if target.exists():
                raise InvalidInput(f"there is a new entry {entry.name!r} in {self.kind}; rename that one first", field="name")
            self.trash.put_back(source, target)
        return entry

    def free_name(self, wanted: str) -> str:
        """`wanted`, or `wanted 2`, `wanted 3`... whichever is not taken."""
        return free_name(self._checked(wanted), self)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        with disk_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.folder / ".lock")
            lock.acquire()
        try:
            with disk_errors(self.folder):
                journal.replay(self.folder, self._work)
            yield
        finally:
            lock.release()

    def _checked(self, name: str) -> str:
        name = _plain(name)
        if not name:
            raise InvalidInput("the name is empty; type a name", field="name")
        if len(name) > MAX_NAME:
            raise InvalidInput(f"the name is {len(name)} characters long; use at most {MAX_NAME}", field="name")
        return name

    def _path(self, name: str) -> Path:
        readable = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40]
        digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:16]
        return self.folder / f"{readable}-{digest}.json" if readable else self.folder / f"{digest}.json"

    def _entry(self, name: str) -> Entry:
        path = self._path(_plain(name))
        if not path.is_file():
            known = ", ".join(repr(other) for other in self.names()[:5])
            raise NotFound(f"there is no entry {name!r} in {self.kind}" + (f"; there are {known}" if known else "; it is empty"))
        return self._read(path)

    def _read_all(self) -> Iterator[tuple[Path, Entry | None]]:
        for path in sorted(self.folder.glob("*.json")):
            try:
                yield path, self._read(path)
            except StoreError:
                yield path, None
            except NotFound:
                continue

    def _read(self, path: Path) -> Entry:
        try:
            document = unseal(path.read_bytes(), what=str(path), unsealed=_PARTS, cure=_CURE)
            return Entry(_plain(document["name"]), str(document["changed"]), self.check(document["content"]))
        except FileNotFoundError as error:
            raise NotFound(f"the entry was deleted meanwhile ({path.name})") from error
        except StoreError as error:
            raise StoreError(f"damaged: {error}") from error
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise StoreError(f"{path} is damaged ({error}); {_CURE}") from error

    def _write(self, path: Path, entry: Entry) -> None:
        try:
            write_sealed(path, {"format": _FORMAT, "version": 1, "name": entry.name, "changed": entry.changed, "content": entry.content})
        except (ValueError, TypeError) as error:
            raise InvalidInput(f"{entry.name!r} cannot be kept as JSON: {error}", field="content") from error


def _plain(name: Any) -> str:
    """One line of normalised text without control characters, so that two names that look the same are the same."""
    text = unicodedata.normalize("NFC", str(name))
    return " ".join("".join(c if unicodedata.category(c) not in ("Cc", "Cs") else " " for c in text).split())
