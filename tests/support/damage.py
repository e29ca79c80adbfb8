"""Files whose bits are changed, cut off or deleted, and all that can be read of a trace, to see whether anybody notices."""

from __future__ import annotations

import random
from collections.abc import Iterator

from traces import TraceStore


def everything(store: TraceStore, trace_id: str) -> list[object]:
    """All that can be read of a trace."""
    record = store.load(trace_id)
    arrays = store.arrays(trace_id)
    values = [arrays[name].values.tobytes() for name in sorted(map(str, arrays.variables))]
    found = [store.attribution(trace_id, info.key) for info in store.attributions(trace_id)]
    rows = [(one.info, one.attribution_N.tobytes(), one.layer_N.tobytes()) for one in found]
    return [record, values, rows, store.activation_state(trace_id)]


def flips(data: bytes, count: int, seed: int) -> Iterator[bytes]:
    """`data` with one bit changed, at `count` places."""
    rng = random.Random(seed)
    for place in rng.sample(range(len(data) * 8), min(count, len(data) * 8)):
        spoiled = bytearray(data)
        spoiled[place // 8] ^= 1 << place % 8
        yield bytes(spoiled)


def spoil(data: bytes, rng: random.Random) -> tuple[str, bytes | None]:
    """One accident: a changed bit (mostly), a cut-off file, a file of zeros, a deleted one (None). What it was, and the new contents."""
    kind = rng.choices(("bit", "cut", "zeros", "deleted"), (12, 2, 1, 1))[0]
    if kind == "deleted" or not data:
        return "deleted", None
    if kind == "cut":
        return kind, data[: rng.randrange(len(data))]
    if kind == "zeros":
        return kind, bytes(len(data))
    spoiled = bytearray(data)
    spoiled[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return kind, bytes(spoiled)
