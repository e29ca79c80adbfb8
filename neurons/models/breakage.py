"""Whatever a model's files break in the libraries that read them, told as one sentence that names the file and what is wrong in it.

Files of strangers raise anything: unpickling errors, assertions, strict configurations, errors of Rust code, too deep a recursion. None
of it may reach a page, where it would be raised again at every draw.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from neurons.core.errors import ModelError, NeuronscopeError
from neurons.storage.error_reports import write_report

_SHOWN = 400


class _Within(Exception):
    """An error while one file of the model was read."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Say which file is being read: an error in the block is told with it by `load_errors`."""
    try:
        yield
    except (NeuronscopeError, _Within):
        raise
    except Exception as error:
        raise _Within(what) from error


@contextmanager
def load_errors(name: str, path: Path, device: str) -> Iterator[None]:
    """Turn every error in the block that was not raised on purpose into a `ModelError`, and keep a report of it."""
    import torch

    try:
        yield
    except NeuronscopeError:
        raise
    except Exception as error:
        cause = error.__cause__ if isinstance(error, _Within) and error.__cause__ is not None else error
        if isinstance(cause, torch.OutOfMemoryError | MemoryError):
            raise ModelError(f"{name} does not fit into the memory of {device}; choose a smaller model or another device") from error
        write_report(error, f"loading {name}")
        where = f"{path} ({error.what})" if isinstance(error, _Within) else str(path)
        raise ModelError(
            f"{name} cannot be loaded from {where}: {_said(cause)}; mend that file or fetch the model again, and load another one meanwhile"
        ) from error


def _said(error: BaseException) -> str:
    """An error in one line: strict configurations name the field only in their second."""
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:_SHOWN]}" if text else type(error).__name__
