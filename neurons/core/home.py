"""Where user data lives: models, atlases, traces, steers, concepts. Never inside the installed package."""

from __future__ import annotations

import os
from pathlib import Path

from platformdirs import user_data_path

from neurons.core.errors import StoreError

HOME_VARIABLE = "NEURONSCOPE_HOME"
PRIVATE_FOLDER = 0o700


def home() -> Path:
    """The user-data folder: `NEURONSCOPE_HOME` where set, else the platform's own. Created when missing, for its owner alone.

    Raises `StoreError` when it cannot be created.
    """
    return _made(_named())


def _named() -> Path:
    chosen = os.environ.get(HOME_VARIABLE)
    try:
        return Path(chosen).expanduser() if chosen else user_data_path("neuronscope", appauthor=False)
    except RuntimeError as error:  # a user whom the system does not know, in a container for example
        why = f"{HOME_VARIABLE} is {chosen!r}, and there is no such user" if chosen else "this user has no home folder"
        raise StoreError(f"{why}; set {HOME_VARIABLE} to a folder you can write") from error


def subfolder(name: str) -> Path:
    """A folder of the user data, created when missing: models, atlases, traces, steers, concepts, jobs..."""
    return _made(home() / name)


def _made(folder: Path) -> Path:
    if folder.is_dir():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=PRIVATE_FOLDER, exist_ok=True)
    except OSError as error:
        raise StoreError(f"{folder} cannot be made: {error.strerror}; set {HOME_VARIABLE} to a folder you can write") from error
    return folder
