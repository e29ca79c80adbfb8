"""What comes from outside (files, jobs of an older version, addresses), checked against a pydantic model or a dataclass.

The first thing that is wrong becomes an `InvalidInput` which names its field, in one form for every boundary.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, TypeVar, cast

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from neurons.core.errors import InvalidInput, NeuronscopeError

T = TypeVar("T")
_PLAIN = {
    "missing": "is missing",
    "extra_forbidden": "is not known here",
    **dict.fromkeys(("int_parsing", "int_type", "int_from_float"), "is no whole number"),
    **dict.fromkeys(("float_parsing", "float_type"), "is no number"),
}
"""What the library says otherwise of these kinds of errors."""


class Boundary(BaseModel):
    """Base of what is read from people: a key that nobody knows is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def checked(kind: type[T], data: Any, *, what: str = "", cure: str = "") -> T:
    """`data` as `kind`. Raises `InvalidInput` whose `field` is the first field that is wrong.

    The message begins with `what` (such as "a repair") and ends with `cure`. What a validator raises of our own errors passes as it is.
    """
    try:
        found: T = _adapter(cast(Any, kind)).validate_python(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        ours = first.get("ctx", {}).get("error")
        if isinstance(ours, NeuronscopeError):
            raise ours from error
        place, said = problem(error)
        parts = [part for part in (what, place, said) if part]
        field = str(first["loc"][0]) if first["loc"] else None
        raise InvalidInput(": ".join(parts) + (f"; {cure}" if cure else ""), field=field) from error
    return found


def problem(error: ValidationError) -> tuple[str, str]:
    """Where the first thing that is wrong stands, such as "steers.2.mode" ("" for the whole), and what is wrong with it."""
    first = error.errors(include_url=False)[0]
    return ".".join(map(str, first["loc"])), said_of(first)


def said_of(found: Any) -> str:
    """What is wrong, of one error as pydantic lists it, without the library's own words where they help nobody."""
    bounds = found.get("ctx", {})
    if found["type"] == "too_short":
        return f"needs {bounds['min_length']} or more, and has {bounds['actual_length']}"
    if found["type"] == "too_long":
        return f"takes {bounds['max_length']} at most, and has {bounds['actual_length'] or 'more'}"
    said = _PLAIN.get(str(found["type"]), str(found["msg"]))
    return said.removeprefix("Value error, ").replace("Input should", "should", 1)


@lru_cache(maxsize=64)
def _adapter(kind: Any) -> TypeAdapter[Any]:
    """Made once for each kind: that costs more than a check."""
    return TypeAdapter(kind)
