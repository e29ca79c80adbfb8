"""What pages keep of traces, for everybody on the server: one store with one limit in bytes, the longest unused goes first.

`st.cache_resource` counts entries, and an entry of a long trace is a thousand times one of a short trace.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import os
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from contextlib import nullcontext
from typing import Any, Generic, ParamSpec, TypeVar, cast

import numpy as np
import pandas as pd
import streamlit as st

P = ParamSpec("P")
R = TypeVar("R")
LIMIT_VARIABLE = "NEURONSCOPE_CACHE_MB"
USUAL_LIMIT = 1000
_ABSENT = object()


def limit_bytes() -> int:
    """How much is kept: `NEURONSCOPE_CACHE_MB` megabytes, 1,000 where it is not set or no number."""
    given = os.environ.get(LIMIT_VARIABLE, "").strip()
    return (int(given) if given.isdecimal() and len(given) < 9 else USUAL_LIMIT) * 1_000_000


class Store:
    """Values by key, at most `limit_bytes()` of them; the newest is kept even where it is larger alone."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._making: dict[Hashable, threading.Lock] = {}
        self._values: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()
        self.bytes = 0

    def get(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """The value of `key`, made where it is not there. Of several who ask at once, one makes it."""
        if (found := self.find(key, _ABSENT)) is not _ABSENT:
            return found
        with self._guard:
            making = self._making.setdefault(key, threading.Lock())
        with making:
            try:
                if (found := self.find(key, _ABSENT)) is _ABSENT:
                    found = make()
                    self.put(key, found)
                return found
            finally:
                with self._guard:
                    self._making.pop(key, None)

    def forget(self, key: Hashable) -> None:
        """Make it anew the next time."""
        with self._guard:
            self._drop(key)

    def clear(self) -> None:
        """Forget everything."""
        with self._guard:
            self._values.clear()
            self.bytes = 0

    def find(self, key: Hashable, default: Any = None) -> Any:
        """The value of `key`, now the one used last; `default` where it is not there."""
        with self._guard:
            if key not in self._values:
                return default
            self._values.move_to_end(key)
            return self._values[key][0]

    def put(self, key: Hashable, value: Any) -> None:
        """Keep a value; those unused longest go until all fit."""
        size = size_of(value)
        with self._guard:
            self._drop(key)
            self._values[key] = value, size
            self.bytes += size
            while self.bytes > limit_bytes() and len(self._values) > 1:
                self._drop(next(iter(self._values)))

    def _drop(self, key: Hashable) -> None:
        _, size = self._values.pop(key, (None, 0))
        self.bytes -= size


STORE = Store()
"""Of this server."""


class Kept(Generic[P, R]):
    """A function whose results are kept. Parameters whose names begin with an underscore are not part of the key."""

    def __init__(self, function: Callable[P, R], spinner: str | None) -> None:
        functools.update_wrapper(self, function)
        self._function, self._spinner = function, spinner
        self._parameters = inspect.signature(function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        def make() -> R:
            with st.spinner(self._spinner) if self._spinner else nullcontext():
                return self._function(*args, **kwargs)

        return cast("R", STORE.get(self._key(args, kwargs), make))

    def clear(self, *args: P.args, **kwargs: P.kwargs) -> None:
        """Forget the result for these arguments."""
        STORE.forget(self._key(args, kwargs))

    def _key(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Hashable:
        given = self._parameters.bind(*args, **kwargs).arguments
        named = tuple((name, value) for name, value in given.items() if not name.startswith("_"))
        return self._function.__module__, self._function.__qualname__, named


def kept(spinner: str | None = None) -> Callable[[Callable[P, R]], Kept[P, R]]:
    """Keep a function's results for everybody. They must not be written to; arguments must be hashable."""
    return lambda function: Kept(function, spinner)


def size_of(value: Any, *, deep: int = 6) -> int:
    """About how many bytes a value takes: its arrays, tables, texts, and what it consists of."""
    if isinstance(value, np.ndarray):
        return int(value.nbytes) + 128
    if isinstance(value, pd.DataFrame):
        return int(value.memory_usage(deep=True).sum())
    if deep == 0 or isinstance(value, str | bytes | int | float | bool) or value is None:
        return sys.getsizeof(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        parts: Any = [getattr(value, field.name) for field in dataclasses.fields(value)]
    elif isinstance(value, Mapping):
        parts = [*value.keys(), *value.values()]
    elif isinstance(value, list | tuple | set | frozenset):
        parts = value
    else:
        return sys.getsizeof(value)
    return sys.getsizeof(value) + sum(size_of(part, deep=deep - 1) for part in parts)
