"""Where user data lives: models, atlases, traces, steers, concepts. Never inside the installed package."""

from __future__ import annotations

import os
from pathlib import Path

from platformdirs import user_data_path

HOME_VARIABLE = "NEURONSCOPE_HOME"


def home() -> Path:
    """The user-data folder: `NEURONSCOPE_HOME` where set, else the platform's own. Created when missing."""
    chosen = os.environ.get(HOME_VARIABLE)
    folder = Path(chosen).expanduser() if chosen else user_data_path("neuronscope", appauthor=False)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def subfolder(name: str) -> Path:
    """A folder of the user data, created when missing: models, atlases, traces, steers, concepts, jobs..."""
    folder = home() / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder
