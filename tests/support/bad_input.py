"""One input that nobody should give and somebody will, with the ways in which it reaches Neuronscope: engine, command line, app."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from neurons.models.loaded import LoadedModel

DEEP = "[" * 50_000
DIGITS = "9" * 5_000
HALF = "\ud83d"


@dataclass
class Place:
    """Where an input is tried: a home with one trace of a tiny model."""

    home: Path
    folder: Path
    model: str
    trace_id: str
    loaded: LoadedModel
    count: int = 0

    def file(self, name: str, data: bytes | str) -> str:
        """A file of that content, in a folder of its own."""
        self.count += 1
        path = self.folder / str(self.count) / name
        path.parent.mkdir(parents=True)
        path.write_bytes(data if isinstance(data, bytes) else data.encode("utf-8", "surrogatepass"))
        return str(path)


Engine = Callable[[Place], Any]
Command = Callable[[Place], Sequence[str]]


@dataclass(frozen=True)
class App:
    """A page, its address, what is uploaded or typed there, and the button that is pressed."""

    page: str
    query: dict[str, str] = field(default_factory=dict)
    typed: dict[str, str] = field(default_factory=dict)
    files: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    press: str | None = None
    ask: str | None = None


@dataclass(frozen=True)
class Bad:
    """One bad input. `fine` where it is answered after all, as it should be."""

    kind: str
    what: str
    engine: Engine | None = None
    command: Command | None = None
    app: App | None = None
    fine: bool = False
    stdin: bytes | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    """The command's environment, beside the test's own."""
