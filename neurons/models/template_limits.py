"""A chat template is a stranger's program in a sandbox that keeps it from the machine, but not from running for ever: limits to that."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from types import FrameType
from typing import Any

from jinja2 import Environment, TemplateSyntaxError, nodes

from neurons.core.errors import InvalidInput

SECONDS = 5.0
"""How long one conversation may take to be written; real templates take milliseconds."""
_LARGEST_FACTOR = 10_000
_LONGEST = 1_000_000


@cache
def check_template(source: str) -> None:
    """Raise `InvalidInput` for a template whose arithmetic is computed in one step however large it is: powers, large products."""
    if len(source) > _LONGEST:
        raise InvalidInput(f"this model's chat template has {len(source):,} characters; use another model", field="model")
    try:
        tree = Environment(extensions=["jinja2.ext.loopcontrols"]).parse(source)
    except TemplateSyntaxError:
        return  # tags of the libraries' own; a real mistake is told when it is rendered
    except RecursionError as error:
        raise InvalidInput("this model's chat template is nested too deeply; use another model", field="model") from error
    if tree.find(nodes.Pow) is not None or any(_large(node) for node in tree.find_all(nodes.Mul)):
        raise InvalidInput("this model's chat template computes powers or large products, which no conversation needs", field="model")


def _large(node: nodes.Mul) -> bool:
    factors = [side.value for side in (node.left, node.right) if isinstance(side, nodes.Const)]
    return any(isinstance(value, int | float) and abs(value) > _LARGEST_FACTOR for value in factors)


@contextmanager
def in_time(seconds: float = SECONDS) -> Iterator[None]:
    """Raise `InvalidInput` from the block's Python code, in this thread, once `seconds` are over."""
    end = time.monotonic() + seconds
    before = sys.gettrace()

    def watch(frame: FrameType, event: str, argument: Any) -> Any:
        if time.monotonic() > end:
            raise InvalidInput(f"this model's chat template does not end within {seconds:g} s; use another model", field="model")
        return watch

    sys.settrace(watch)
    try:
        yield
    finally:
        sys.settrace(before)  # of a debugger, or of what measures coverage
