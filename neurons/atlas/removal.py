"""Taking the user's own atlas away, and bringing it back: it is moved aside, and only the latest few removed ones are kept."""

from __future__ import annotations

import re
import secrets
import shutil
from pathlib import Path

from neurons.atlas.store import atlas_folder
from neurons.core.clock import stamp
from neurons.core.errors import InvalidInput, NotFound
from neurons.core.home import subfolder
from neurons.core.types import ModelRef
from neurons.storage.manifest import MANIFEST
from neurons.storage.trash import Trash

KEPT = 2
"""Removed atlases that can still be brought back; older ones are deleted for good."""
_TOKEN = re.compile(r"[0-9a-zA-Z]+-[0-9a-f]{8}-[0-9a-f]{1,64}")


def remove_atlas(ref: ModelRef) -> str:
    """Move the user's atlas of a model aside; returns the token that `restore_atlas` takes. The shipped atlas is never touched.

    Raises `NotFound` when the user has none of this model.
    """
    return remove_folder(atlas_folder(ref))


def remove_folder(folder: Path) -> str:
    """The same by the atlas's folder, which may be damaged. Raises `NotFound` when it is none of the user's atlases."""
    if folder.parent != subfolder("atlases") or not (folder / MANIFEST).exists():
        raise NotFound(f"there is no atlas of your own in {folder.name}; the shipped one cannot be removed")
    token = f"{stamp()}-{secrets.token_hex(4)}-{folder.name}"
    _trash().put(folder, token)
    return token


def _trash() -> Trash:
    return Trash(subfolder("removed-atlases"), keep=KEPT)


def restore_atlas(token: str) -> Path:
    """Put a removed atlas back. Raises `NotFound` when it is gone, `InvalidInput` when there is a new one of that model."""
    trash = _trash()
    if not _TOKEN.fullmatch(token) or token not in trash:
        raise NotFound(f"this atlas cannot be brought back; only the last {KEPT} removed ones are kept")
    target = subfolder("atlases") / token.split("-", 2)[2]
    if (target / MANIFEST).exists():
        raise InvalidInput("there is a new atlas of this model; remove that one first", field="atlas")
    shutil.rmtree(target, ignore_errors=True)
    trash.put_back(token, target)
    return target
