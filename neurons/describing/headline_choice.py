"""Which traits a headline names: those that together stand at most of a side's strongest places and at few of other sides'.

Each trait of a side is a bit mask over its K strongest places. A headline is a union of a few traits. What a trait adds is the share of the
side's places that it newly covers, less the share of any side's places that it would cover by chance, plus what it tells of the places it
covers (the logarithm of how much commoner it is here than elsewhere), less what its words cost a reader. Every fourth place is kept back:
nothing is chosen by it, it only says whether what was chosen holds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neurons.descriptions.headlines import MAX_WORDS

CHECKED = 4
"""Every fourth place, from rank 3 on, is kept back."""
MOST = 5
WORD = 0.012
"""Share of places that a further word must cover."""
LEAST_GAIN = 0.05
ALIKE = 0.75
"""A trait that stands at the same places as one that is named, this share of both, says nothing new."""
TELLS = 0.2
"""Worth of a nat told of every place."""
AGAIN = 0.3
"""How much a place that is covered already still counts for what is told of it."""
GENERAL_MOST = 1
"""Classes, places and kinds of text that one headline may name: a list of them is no headline."""
QUALIFIED = 0.85
"""A qualifier ("in code") must hold at this share of what it qualifies."""
_MASKS = NDArray[np.uint64]


def check_mask(places: int) -> int:
    """The ranks that nothing is chosen by, as a mask."""
    return sum(1 << rank for rank in range(CHECKED - 1, places, CHECKED))


_CHECK = check_mask(64)


@dataclass(frozen=True, eq=False)
class SideMasks:
    """One side's traits, and at which of its places each stands."""

    trait_C: NDArray[np.int64]
    mask_C: _MASKS
    places: int
    """All of its places, as a mask."""


def layer_masks(slot_TS: NDArray[np.int32], position_NK: NDArray[np.int64], traits: int) -> Iterator[SideMasks]:
    """Masks of each side of a layer; `position_NK` is -1 where a side has fewer places."""
    sides, kept = position_NK.shape
    for at in range(0, sides, 512):
        block = position_NK[at : at + 512]
        slots = slot_TS[np.maximum(block, 0)]
        there = (slots >= 0) & (block >= 0)[:, :, None]
        side, place, _ = np.nonzero(there)
        code = side * traits + slots[there]
        order = np.argsort(code, kind="stable")
        code, bit = code[order], (np.uint64(1) << place[order].astype(np.uint64))
        starts = np.flatnonzero(np.diff(code, prepend=-1))
        mask = np.bitwise_or.reduceat(bit, starts) if len(starts) else np.empty(0, dtype=np.uint64)
        side_C, trait_C = np.divmod(code[starts], traits)
        bounds = np.searchsorted(side_C, np.arange(len(block) + 1))
        for n in range(len(block)):
            here = slice(bounds[n], bounds[n + 1])
            places = sum(1 << k for k in range(kept) if block[n, k] >= 0)
            yield SideMasks(trait_C[here], mask[here], places)


@dataclass(frozen=True, eq=False)
class Costs:
    """What is known of each trait before any side is looked at, shape (F,)."""

    chance_F: NDArray[np.float32]
    """Share of all sides' places at which it stands."""
    words_F: NDArray[np.float32]
    """Words it takes; infinite where no person would say it."""
    hard_F: NDArray[np.float32]
    """How much less a reader gets from it than from a word in quotes, in shares of places."""
    least_F: NDArray[np.float32]
    """Places at which it must stand."""
    general_F: NDArray[np.bool_]
    """A class, a place or a kind of text."""
    qualifier_F: NDArray[np.bool_]
    """It may narrow another trait: "commas in code"."""
    together: Mapping[tuple[int, int], float]
    """The chance of a general trait and a qualifier at one token."""


@dataclass(frozen=True)
class Chosen:
    """One thing that a headline names."""

    trait: int
    qualifier: int
    """The trait that must hold too; -1 for none."""
    mask: int
    chance: float
    weight: float
    """How much commoner it is here than elsewhere: the logarithm of the ratio."""


@dataclass(frozen=True)
class Choice:
    """What a headline names, in the order it was chosen, and how well it holds."""

    parts: tuple[Chosen, ...]
    covered: int
    """Mask of the places."""
    worth: float
    """Share covered less chance, on the places it was chosen by."""
    check: float
    """The same on the places kept back; NaN without any."""


NOTHING = Choice((), 0, 0.0, float("nan"))


def choose(side: SideMasks, costs: Costs) -> Choice:
    """The best union of at most `MOST` traits and `MAX_WORDS` words."""
    fit, check = side.places & ~_CHECK, side.places & _CHECK
    total = fit.bit_count()
    if not total:
        return NOTHING
    seen_C = np.bitwise_count(side.mask_C & np.uint64(fit)).astype(np.float32)
    chance_C = costs.chance_F[side.trait_C]
    good = (seen_C >= costs.least_F[side.trait_C]) & np.isfinite(costs.words_F[side.trait_C]) & (seen_C > 2 * total * chance_C)
    trait_C, mask_C, chance_C, seen_C = side.trait_C[good], side.mask_C[good], chance_C[good], seen_C[good]
    words_C, general_C = costs.words_F[trait_C], costs.general_F[trait_C]
    told_C = TELLS * _weight(seen_C, total, chance_C) / total
    price_C = costs.hard_F[trait_C] + WORD * words_C
    parts: list[Chosen] = []
    covered, chance, left, general = 0, 0.0, float(MAX_WORDS), 0
    while len(parts) < MOST and len(trait_C):
        new_C = np.bitwise_count((mask_C | np.uint64(covered)) & np.uint64(fit)).astype(np.float32) - (covered & fit).bit_count()
        gain_C = new_C / total - chance_C * (1 - chance) + told_C * (new_C + AGAIN * (seen_C - new_C)) - price_C
        gain_C[words_C > left] = -1
        if general >= GENERAL_MOST:
            gain_C[general_C] = -1
        best = int(np.argmax(gain_C))
        if gain_C[best] < LEAST_GAIN:
            break
        part = Chosen(int(trait_C[best]), -1, int(mask_C[best]), float(chance_C[best]), float(_weight(seen_C[best], total, chance_C[best])))
        if general_C[best]:
            general += 1
            part = _narrowed(part, side, costs, fit, left)
        left -= float(words_C[best]) + (float(costs.words_F[part.qualifier]) + 1 if part.qualifier >= 0 else 0)
        parts.append(part)
        covered |= part.mask
        chance += part.chance * (1 - chance)
        both_C = np.bitwise_count(mask_C & np.uint64(part.mask & fit))
        either_C = np.bitwise_count((mask_C | np.uint64(part.mask)) & np.uint64(fit))
        open_C = both_C < ALIKE * either_C
        open_C[best] = False
        trait_C, mask_C, chance_C, seen_C = trait_C[open_C], mask_C[open_C], chance_C[open_C], seen_C[open_C]
        words_C, general_C, told_C, price_C = words_C[open_C], general_C[open_C], told_C[open_C], price_C[open_C]
    held = check.bit_count()
    return Choice(
        tuple(parts),
        covered,
        (covered & fit).bit_count() / total - chance,
        (covered & check).bit_count() / held - chance if held else float("nan"),
    )


def _weight(seen: NDArray[np.float32] | np.float32, total: int, chance: NDArray[np.float32] | np.float32) -> NDArray[np.float32]:
    """Nats told by a trait that stands at `seen` of `total` places, half a place being luck."""
    return np.asarray(np.log(np.clip((seen - 0.5) / total, 0.01, 0.98) / np.maximum(chance, 5e-4)), dtype=np.float32)


def _narrowed(part: Chosen, side: SideMasks, costs: Costs, fit: int, left: float) -> Chosen:
    """The same trait "in code", where it stands almost only there and that says more."""
    best, best_worth = part, (part.mask & fit).bit_count() / fit.bit_count() - part.chance
    room = left - float(costs.words_F[part.trait])
    for row in np.flatnonzero(costs.qualifier_F[side.trait_C]):
        trait, both = int(side.trait_C[row]), part.mask & int(side.mask_C[row])
        together = costs.together.get((part.trait, trait))
        if together is None or trait == part.trait or costs.words_F[trait] + 1 > room:
            continue
        seen = (both & fit).bit_count()
        worth = seen / fit.bit_count() - together - 2 * WORD
        if seen >= QUALIFIED * (part.mask & fit).bit_count() and worth > best_worth:
            weight = float(_weight(np.float32(seen), fit.bit_count(), np.float32(together)))
            best, best_worth = Chosen(part.trait, trait, both, together, weight), worth
    return best
