"""What the rows of a comparison amount to: rates, differences with intervals, chance, and whether the text broke."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from neurons.core.percent import percent
from neurons.statistics.paired import FEW, Difference, Rate, by_prompt, paired_means, paired_rates
from neurons.statistics.rows import Facts, Row

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


def summarise(rows: Sequence[Row]) -> Summary:
    """Everything that can be said from finished rows."""
    good = [_Good(row.told_apart_by, *row.pair, tuple(row.random.values())) for row in rows if row.pair is not None]
    judged = [row for row in good if row.plain.met is not None]
    figures: list[Compared] = []
    if judged:
        figures.append(_rates([(row, row.steered) for row in judged]))
    if good and good[0].plain.token_probability is not None:
        figures.append(_means("token probability", good, lambda facts: facts.token_probability))
    if good:
        figures += [_means("length", good, lambda facts: facts.length), _means("repetition", good, lambda facts: facts.repetition)]
    drawn = [(row, facts) for row in good for facts in row.random]
    companions = [_rates([(row, facts) for row, facts in drawn if row.plain.met is not None])] if drawn and judged else []
    kl = _over_prompts([(row.unit, row.steered.kl) for row in good])
    random_kl = _over_prompts([(row.unit, facts.kl) for row, facts in drawn]) if drawn else None
    broken = any(f.name == "repetition" and f.difference.value > BROKEN for f in figures)
    prompts, asked = len({row.unit for row in good}), len({row.unit for row in judged})
    message = _say(figures, companions, broken, len(good), prompts, asked)
    return Summary(len(good), prompts, asked, len(rows) - len(good), tuple(figures), kl, tuple(companions), random_kl, broken, message)


@dataclass(frozen=True, eq=False)
class _Good:
    """A row that was answered."""

    unit: str
    plain: Facts
    steered: Facts
    random: tuple[Facts, ...]


def _rates(pairs: Sequence[tuple[_Good, Facts]]) -> Compared:
    """The criterion without the steer and by the answers given."""
    prompts = [row.unit for row, _ in pairs]
    plain, steered = [bool(row.plain.met) for row, _ in pairs], [bool(facts.met) for _, facts in pairs]
    one, two = Rate.of(plain, prompts), Rate.of(steered, prompts)
    return Compared("criterion", one.share, two.share, paired_rates(prompts, plain, steered), one, two)


def _means(name: str, rows: Sequence[_Good], figure: Callable[[Facts], float | None]) -> Compared:
    plain = [(row.unit, figure(row.plain)) for row in rows]
    steered = [(row.unit, figure(row.steered)) for row in rows]
    change = [float(two or 0.0) - float(one or 0.0) for (_, one), (_, two) in zip(plain, steered, strict=True)]
    return Compared(name, _over_prompts(plain), _over_prompts(steered), paired_means([row.unit for row in rows], change))


def _over_prompts(values: Sequence[tuple[str, float | None]]) -> float:
    """The mean over prompts of the mean of each prompt's values."""
    if not values:
        return 0.0
    return float(by_prompt([prompt for prompt, _ in values], [float(value or 0.0) for _, value in values]).mean())


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
