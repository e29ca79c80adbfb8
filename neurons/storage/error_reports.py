"""Errors that nobody foresaw: what is needed to mend them goes into a file of the user data, and the person is told which."""

from __future__ import annotations

import logging
import os
import platform
import secrets
import tempfile
import traceback
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from neurons.core.errors import StoreError
from neurons.core.home import subfolder
from neurons.core.version import __version__

KEPT = 50
_MOST_CHARACTERS = 200_000
_log = logging.getLogger(__name__)


def unforeseen(error: BaseException, doing: str) -> str:
    """Keep a report of `error`, and the sentence that a person is shown. `doing` says what was being done, in a few words."""
    _log.debug("%s", doing, exc_info=error)
    said = " ".join(str(error).split())[:200]
    kind = f"{type(error).__name__}: {said}" if said else type(error).__name__
    path = write_report(error, doing)
    where = f"what happened is in {path}" if path is not None else "no report could be written: the disk refused"
    return f"{doing} failed in a way that was not foreseen ({kind}); {where}. It helps to report it with that file"


def write_report(error: BaseException, doing: str) -> Path | None:
    """Write the report, in the system's temporary folder where the user data cannot be written; None where that refuses too."""
    text = "\n".join(
        (
            f"Neuronscope {__version__}, Python {platform.python_version()}, {platform.platform()}",
            f"while: {doing}",
            "",
            "".join(traceback.format_exception(error))[-_MOST_CHARACTERS:],
        )
    )
    name = f"{datetime.now().astimezone():%Y%m%d-%H%M%S}-{secrets.token_hex(3)}.txt"
    with suppress(OSError, StoreError):
        folder = subfolder("reports")
        path = _written(folder / name, text)
        _forget_old(folder)
        return path
    with suppress(OSError):
        return _written(Path(tempfile.gettempdir(), f"neuronscope-{name}"), text)
    return None


def _written(path: Path, text: str) -> Path:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "w", encoding="utf-8", errors="backslashreplace") as stream:
        stream.write(text)
    return path


def _forget_old(folder: Path) -> None:
    for old in sorted(folder.glob("*.txt"))[:-KEPT]:
        with suppress(OSError):
            old.unlink()
