"""Names that people give: one that is not taken."""

from __future__ import annotations

from typing import Protocol

MAX_NAME = 200


class Names(Protocol):
    """What can say whether a name is taken."""

    def __contains__(self, name: str, /) -> bool: ...


def free_name(wanted: str, taken: Names) -> str:
    """`wanted`, or `wanted 2`, `wanted 3`... whichever is not taken."""
    name, number = wanted, 1
    while name in taken:
        number += 1
        name = f"{wanted[: MAX_NAME - 8]} {number}"
    return name
