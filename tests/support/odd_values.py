"""JSON that is well-formed and wrong: one or two places of a value hold something that no writer put there."""

from __future__ import annotations

import copy
import hashlib
import json
import math
import random
from collections.abc import Iterator
from typing import Any

NESTED: list[Any] = []
for _ in range(200):
    NESTED = [NESTED]
ODD: tuple[Any, ...] = (
    None, True, False, -1, 0, 1, 2**31, 2**53, 2**63, 2**70, -(2**70), 10**400, 0.5, -0.0, 1e308, 1e-320, math.nan, math.inf,
    "", "x", "x" * 5000, "\0", "\ud800", "../x", "/dev/zero", "a\nb", "2026-11-24", "0", "nan", [], {}, [[]], [None], {"a": 1},
    [1, "x"], NESTED,
)  # fmt: skip


def places(value: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value within, from the top."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inside:
        yield (*above, key)
        yield from places(one, (*above, key))


def with_odd(value: Any, rng: random.Random) -> Any:
    """`value` with one or two places replaced, removed or put in; now and then something else altogether."""
    if not isinstance(value, dict | list) or not value or rng.random() < 0.03:
        return copy.deepcopy(rng.choice(ODD))
    changed = copy.deepcopy(value)
    for _ in range(rng.choice((1, 1, 1, 2))):
        found = list(places(changed))
        if not found:
            break
        *above, last = rng.choice(found)
        holder = changed
        for key in above:
            holder = holder[key]
        kind = rng.choices(("replace", "remove", "add"), (6, 2, 2))[0]
        odd = copy.deepcopy(rng.choice(ODD))
        if kind == "replace":
            holder[last] = odd
        elif kind == "remove":
            del holder[last]
        elif isinstance(holder, list):
            holder.insert(last, odd)
        else:
            holder[rng.choice(("", "x", "\0", "\ud800", "../x", "/dev/zero", "sha256", "version"))] = odd
    return changed


def sealed(value: Any) -> bytes:
    """As `neurons.storage.sealed.seal`, of anything: what a stranger can write."""
    if not isinstance(value, dict) or not value:
        return json.dumps(value).encode("utf-8", "surrogatepass")
    body = json.dumps({key: one for key, one in value.items() if key != "sha256"}, indent=1).removesuffix("\n}").encode()
    return body + f',\n "sha256": "{hashlib.sha256(body).hexdigest()}"\n}}\n'.encode()
