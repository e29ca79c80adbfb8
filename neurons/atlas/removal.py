"""Taking the user's own atlas away, and bringing it back: it is moved aside, and only the latest few removed ones are kept."""

from __future__ import annotations

import re
import secrets
import shutil
from datetime import UTC, datetime
from pathlib import Path

from neurons.atlas.store import atlas_folder
from neurons.atlas.writer import MANIFEST, read_manifest
from neurons.core.errors import InvalidInput, NotFound, StoreError
from neurons.core.home import subfolder
from neurons.core.types import ModelRef

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
    trash = subfolder("removed-atlases")
    token = f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}-{secrets.token_hex(4)}-{folder.name}"
    try:
        folder.rename(trash / token)
    except OSError as error:
        raise StoreError(f"{folder} cannot be moved: {error.strerror or error}") from error
    for old in sorted(trash.iterdir())[:-KEPT]:
        shutil.rmtree(old, ignore_errors=True)
    return token


def restore_atlas(token: str) -> Path:
    """Put a removed atlas back. Raises `NotFound` when it is gone, `InvalidInput` when there is a new one of that model."""
    source = subfolder("removed-atlases") / token
    if not _TOKEN.fullmatch(token) or not source.is_dir():
        raise NotFound(f"this atlas cannot be brought back; only the last {KEPT} removed ones are kept")
    target = subfolder("atlases") / token.split("-", 2)[2]
    if (target / MANIFEST).exists():
        raise InvalidInput("there is a new atlas of this model; remove that one first", field="atlas")
    shutil.rmtree(target, ignore_errors=True)
    source.rename(target)
    return target


def damaged_atlases() -> list[tuple[Path, str]]:
    """Folders of the user's atlases that cannot be read, and why."""
    found = []
    for folder in sorted(subfolder("atlases").iterdir()):
        try:
            read_manifest(folder, strict=True)
        except StoreError as error:
            found.append((folder, str(error)))
    return found
