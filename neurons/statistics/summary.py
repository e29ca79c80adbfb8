"""What the rows of a comparison amount to: rates, differences with intervals, chance, and whether the text broke."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from neurons.core.percent import percent
from neurons.statistics.paired import FEW, Difference, Rate, by_prompt, paired_means, paired_rates

BROKEN = 0.25
"""Rise in repetition from which the steered text is called broken."""


@dataclass(frozen=True)
class Compared:
    """One figure without and with the steer."""

    name: str
    plain: float
    steered: float
    difference: Difference
    plain_rate: Rate | None = None
    steered_rate: Rate | None = None


@dataclass(frozen=True)
class Summary:
    """What the rows amount to."""

    pairs: int
    prompts: int
    """Different prompts: the unit of every figure, of which seeds and copies are repeats."""
    judged: int
    """Prompts whose answers are held against a criterion."""
    failed: int
    figures: tuple[Compared, ...]
    """The criterion's rate and the chosen token's probability where asked for; length (tokens) and repetition always."""
    kl: float
    """Mean KL(unsteered || steered) per token of the unsteered answers, nats."""
    random: tuple[Compared, ...]
    """The criterion (or the token's probability) under random matched neurons, all draws together."""
    random_kl: float | None
    broken: bool
    """The steered text repeats itself much more: read it before believing any rate."""
    message: str


Rows = Sequence[Mapping[str, Any]]


def summarise(rows: Rows) -> Summary:
    """Everything that can be said from finished rows."""
    good = [row for row in rows if not row.get("error")]
    judged = [row for row in good if row["plain"]["met"] is not None]
    figures: list[Compared] = []
    if judged:
        figures.append(_rates("criterion", judged, ["steered"]))
    if good and good[0]["plain"]["token_probability"] is not None:
        figures.append(_means("token probability", good, "token_probability"))
    figures += [_means(name, good, name) for name in ("length", "repetition")] if good else []
    names = sorted({key for row in good for key in row if key.startswith("random ")})
    companions = [_rates("criterion", judged, names)] if names and judged else []
    kl = _over_prompts(good, ["steered"], "kl")
    random_kl = _over_prompts(good, names, "kl") if names else None
    broken = any(f.name == "repetition" and f.difference.value > BROKEN for f in figures)
    prompts = len({unit(row) for row in good})
    message = _say(figures, companions, broken, len(good), prompts, len({unit(row) for row in judged}))
    failed = len(rows) - len(good)
    counted = (len(good), prompts, len({unit(row) for row in judged}), failed)
    return Summary(*counted, tuple(figures), kl, tuple(companions), random_kl, broken, message)


def unit(row: Mapping[str, Any]) -> str:
    """What tells a row's prompt from others: rows of equal prompts are repeats of one."""
    return str(row.get("unit") or row.get("prompt") or row["prompt_id"])


def _rates(name: str, rows: Rows, sides: Sequence[str]) -> Compared:
    """The criterion without the steer and under `sides`, together."""
    prompts = [unit(row) for row in rows for _ in sides]
    plain = [bool(row["plain"]["met"]) for row in rows for _ in sides]
    steered = [bool(row[side]["met"]) for row in rows for side in sides]
    one, two = Rate.of(plain, prompts), Rate.of(steered, prompts)
    return Compared(name, one.share, two.share, paired_rates(prompts, plain, steered), one, two)


def _means(name: str, rows: Rows, key: str) -> Compared:
    change = [float(row["steered"][key]) - float(row["plain"][key]) for row in rows]
    difference = paired_means([unit(row) for row in rows], change)
    return Compared(name, _over_prompts(rows, ["plain"], key), _over_prompts(rows, ["steered"], key), difference)


def _over_prompts(rows: Rows, sides: Sequence[str], key: str) -> float:
    """The mean over prompts of the mean over a prompt's rows and `sides`."""
    if not rows:
        return 0.0
    prompts = [unit(row) for row in rows for _ in sides]
    return float(by_prompt(prompts, [float(row[side][key]) for row in rows for side in sides]).mean())


def _say(figures: Sequence[Compared], companions: Sequence[Compared], broken: bool, pairs: int, prompts: int, judged: int) -> str:
    """A few sentences for a reader."""
    if not pairs:
        return "No pair was finished."
    first = figures[0]
    d = first.difference
    if first.name == "criterion":
        between = "" if d.low is None or d.high is None else f" (95% interval {_signed(d.low)} to {_signed(d.high)})"
        text = f"The criterion is met by {percent(first.steered)} of the steered answers against {percent(first.plain)}: "
        text += f"{_signed(d.value)}{between}."
        if judged < prompts:
            text += f" Only {judged} of the {prompts} prompts say what is expected."
        if companions:
            text += f" Random neurons of the same layers: {_signed(companions[0].difference.value)}."
    else:
        text = f"Mean {first.name} goes from {first.plain:.3g} to {first.steered:.3g}."
    return f"{text} {verdict(d)}" + (" The steered text repeats itself: it may be broken." if broken else "")


def verdict(difference: Difference) -> str:
    """Whether the difference is more than chance, in a sentence."""
    count, told = difference.prompts, difference.told
    prompts = "1 prompt" if count == 1 else f"{count} prompts"
    if count < 2 or difference.p_value is None:
        return f"{prompts.capitalize()} is too few to tell." if count == 1 else "No prompts: nothing to tell."
    chance = f"exact test, {prompts}: p = {difference.p_value:.2g}"
    if told:
        return f"It is more than chance ({chance})."
    return f"{prompts} are too few to tell ({chance})." if count < FEW else f"No difference can be told from these prompts ({chance})."


def _signed(share: float) -> str:
    return percent(share, signed=True)
