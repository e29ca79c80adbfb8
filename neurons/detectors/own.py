"""The user's own part of the lexicon: concepts added or put in a shipped one's place. Each change is whole or absent, and can be undone."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock
from pydantic import ValidationError

from neurons.core.boundary import problem
from neurons.core.errors import InvalidFile, InvalidInput, NotFound
from neurons.core.json_text import json_text
from neurons.core.names import free_name
from neurons.detectors.lexicon import SHIPPED, ConceptEntry, FieldFile, LexiconConcept, lexicon_folder, lexicon_of, parse_field, read_field
from neurons.storage import journal
from neurons.storage.files import disk_errors, write_atomic

Files = Mapping[str, bytes | None]
"""Contents by file name; None is a file that is not there."""


@dataclass(frozen=True, eq=False)
class Change:
    """What one change did to the user's files, enough to take it back."""

    said: str
    """What was done, as the beginning of a sentence."""
    before: Files
    after: Files


@dataclass(frozen=True)
class BrokenFile:
    """A file of the user's that cannot be used: as long as it is there no lexicon can be read."""

    name: str
    why: str


class OwnLexicon:
    """The files of `<home>/lexicon`. A concept is written where its key stands already, else into a file of its own.

    >>> own = OwnLexicon(); change = own.put("Games of wind", [entry]); own.undo(change)
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = lexicon_folder() if folder is None else folder
        self._work = self.folder / ".work"

    def stamp(self) -> str:
        """Another one after every change of the files, whoever made it."""
        files = [(path.name, path.stat().st_mtime_ns, path.stat().st_size) for path in self._paths()]
        return hashlib.sha256(repr(files).encode()).hexdigest()[:16]

    def concepts(self) -> tuple[LexiconConcept, ...]:
        """The user's own concepts, file by file. Raises `InvalidFile` for one that cannot be used."""
        return tuple(LexiconConcept(given.field, entry, own=True) for _, given in self._read() for entry in given.concepts)

    def broken(self) -> tuple[BrokenFile, ...]:
        """Files that cannot be used, with the first thing that is wrong in each."""
        found = []
        for path in self._paths():
            try:
                read_field(path)
            except InvalidFile as error:
                found.append(BrokenFile(path.name, str(error)))
        return tuple(found)

    def put(self, field: str, entries: Sequence[ConceptEntry]) -> Change:
        """Add concepts to a field, or put them in the place of those with their keys, shipped or own.

        Raises `InvalidFile` where the lexicon would not hold together (two concepts of one name), `InvalidInput` for an empty list.
        """
        if not entries:
            raise InvalidInput("there is no concept to add", field="concepts")
        with self._writing():
            left = self._without({entry.key for entry in entries})
            kept = {path.name for path, given in self._read() if left.get(path.name, given) is not None}
            name = free_name(entries[0].key if len(entries) == 1 else _file_name(field), {Path(name).stem for name in kept}) + ".json"
            wanted = {**left, name: _checked_field(field, entries)}
            said = entries[0].name if len(entries) == 1 else f"{len(entries)} concepts"
            return self._apply(f"{said} put into {field}", wanted)

    def add_file(self, data: bytes, *, name: str) -> Change:
        """Take a lexicon file (docs/lexicon.md): all its concepts or none. Raises `InvalidFile` with what is wrong by concept and field."""
        given = parse_field(data, what=name)
        return self.put(given.field, given.concepts)

    def remove(self, key: str) -> Change:
        """Take one of the user's concepts out; the shipped one of its key stands again. Raises `NotFound`."""
        with self._writing():
            entry = next((c.entry for c in self.concepts() if c.key == key), None)
            if entry is None:
                raise NotFound(f"there is no concept {key!r} of your own")
            return self._apply(f"{entry.name} removed", self._without({key}))

    def set_aside(self, name: str) -> Change:
        """Take a file out that cannot be used, so that the lexicon can be read. Raises `NotFound`."""
        if name not in {path.name for path in self._paths()}:
            raise NotFound(f"there is no file {name!r} in {self.folder}")
        with self._writing():
            return self._write(f"{name} taken out", {name: None})

    def undo(self, change: Change) -> None:
        """Put the files back as they were before a change. Raises `InvalidInput` where they were changed again since."""
        with self._writing():
            if any(self._bytes(name) != data for name, data in change.after.items()):
                raise InvalidInput("the lexicon was changed again since; undo the later change first", field="lexicon")
            self._write("", change.before)

    def _apply(self, said: str, wanted: Mapping[str, FieldFile | None]) -> Change:
        """Write what fits together with the shipped lexicon and with the files that stay."""
        stay = [(path, given) for path, given in self._read() if path.name not in wanted]
        fresh = [(self.folder / name, given) for name, given in wanted.items() if given is not None]
        shipped = [(path, read_field(path)) for path in sorted(SHIPPED.glob("*.json"))]
        lexicon_of([shipped, [*stay, *fresh]])
        return self._write(said, {name: None if given is None else _file_bytes(given) for name, given in wanted.items()})

    def _without(self, keys: set[str]) -> dict[str, FieldFile | None]:
        """The files that hold any of these keys, without them; None for a file that holds nothing else."""
        found: dict[str, FieldFile | None] = {}
        for path, given in self._read():
            rest = tuple(entry for entry in given.concepts if entry.key not in keys)
            if len(rest) < len(given.concepts):
                found[path.name] = given.model_copy(update={"concepts": rest}) if rest else None
        return found

    def _write(self, said: str, wanted: Files) -> Change:
        """All files at once or none, a crash between them included."""
        before = {name: self._bytes(name) for name in wanted}
        bench = self._work / f"change-{secrets.token_hex(6)}"
        with disk_errors(bench):
            bench.mkdir(parents=True)
            moves = [(self.folder / name, bench / f"old-{name}") for name, data in before.items() if data is not None]
            for name, data in wanted.items():
                if data is not None:
                    write_atomic(bench / name, data)
                    moves.append((bench / name, self.folder / name))
            journal.rename_all(self.folder, bench, moves)
        return Change(said, before, wanted)

    def _paths(self) -> list[Path]:
        return sorted(self.folder.glob("*.json"))

    def _read(self) -> list[tuple[Path, FieldFile]]:
        return [(path, read_field(path)) for path in self._paths()]

    def _bytes(self, name: str) -> bytes | None:
        try:
            return (self.folder / name).read_bytes()
        except FileNotFoundError:
            return None

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


def concept_entry(key: str, name: str, definition: str, words: str, sentences: str, near: str) -> ConceptEntry:
    """An entry from typed text: words with commas between them, sentences and near misses one on each line.

    An empty key is made of the name. Raises `InvalidInput` naming the field that is wrong.
    """
    given = {
        "key": key.strip() or key_of(name),
        "name": name,
        "definition": definition,
        "words": [word.strip() for word in words.replace("\n", ",").split(",") if word.strip()],
        "sentences": [line.strip() for line in sentences.splitlines() if line.strip()],
        "near": [line.strip() for line in near.splitlines() if line.strip()],
    }
    try:
        return ConceptEntry.model_validate(given)
    except ValidationError as error:
        where, said = problem(error)
        raise InvalidInput(f"{where}: {said}" if where else said, field=where.split(".")[0] or "concept") from error


def key_of(name: str) -> str:
    """A key for a name: lower case, dashes."""
    key = re.sub(r"[^a-z0-9]+", "-", name.casefold()).strip("-")[:60]
    return key if key[:1].isalpha() else f"own-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _checked_field(field: str, entries: Sequence[ConceptEntry]) -> FieldFile:
    try:
        return FieldFile(field=field, concepts=tuple(entries))
    except ValidationError as error:
        raise InvalidInput(f"field: {problem(error)[1]}", field="field") from error


def _file_name(field: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", field.casefold()).strip("-")[:60] or "own"


def _file_bytes(given: FieldFile) -> bytes:
    return json_text(given.model_dump(), indent=1).encode("utf-8")
