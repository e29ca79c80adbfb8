"""Folders and GGUF files that were loaded before, so that the picker can offer them again."""

from __future__ import annotations

from contextlib import suppress

from neurons.core.errors import ModelError, StoreError
from neurons.core.home import home, subfolder
from neurons.models.weights import read_json
from neurons.storage.files import write_json

_FILE = "models.json"
_MOST = 50


def remembered() -> list[str]:
    """Paths of models loaded before, the newest first. A damaged list counts as an empty one: it is a convenience."""
    path = home() / "settings" / _FILE
    try:
        known = read_json(path).get("paths", []) if path.is_file() else []
    except ModelError:
        return []
    return [entry for entry in known if isinstance(entry, str)]


def remember(spec: str) -> None:
    """Put `spec` at the head of the list; where nothing can be written, it is not remembered."""
    with suppress(StoreError):
        write_json(subfolder("settings") / _FILE, {"paths": [spec, *(path for path in remembered() if path != spec)][:_MOST]})


def forget(spec: str) -> None:
    """Take `spec` off the list."""
    write_json(subfolder("settings") / _FILE, {"paths": [path for path in remembered() if path != spec]})
