"""What the rows of a comparison amount to: rates, differences with intervals, chance, and whether the text broke."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from neurons.statistics.paired import Difference, Rate, paired_means, paired_rates

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


def summarise(rows: Sequence[Mapping[str, Any]]) -> Summary:
    """Everything that can be said from finished rows."""
    good = [row for row in rows if not row.get("error")]
    prompts = [row["prompt_id"] for row in good]
    figures: list[Compared] = []
    if good and good[0]["plain"]["met"] is not None:
        figures.append(_rates("criterion", prompts, [r["plain"]["met"] for r in good], [r["steered"]["met"] for r in good]))
    if good and good[0]["plain"]["token_probability"] is not None:
        figures.append(_means("token probability", prompts, good, "token_probability"))
    figures += [_means(name, prompts, good, name) for name in ("length", "repetition")] if good else []
    names = sorted({key for row in good for key in row if key.startswith("random ")})
    companions: list[Compared] = []
    if names and good[0]["plain"]["met"] is not None:
        spread = [p for p in prompts for _ in names]
        plain = [r["plain"]["met"] for r in good for _ in names]
        companions.append(_rates("criterion", spread, plain, [r[name]["met"] for r in good for name in names]))
    kl = _mean([r["steered"]["kl"] for r in good])
    random_kl = _mean([r[name]["kl"] for r in good for name in names]) if names else None
    broken = any(f.name == "repetition" and f.difference.value > BROKEN for f in figures)
    return Summary(
        len(good),
        len(set(prompts)),
        len(rows) - len(good),
        tuple(figures),
        kl,
        tuple(companions),
        random_kl,
        broken,
        _say(figures, companions, broken, len(good)),
    )


def _rates(name: str, prompts: Sequence[Any], plain: Sequence[bool], steered: Sequence[bool]) -> Compared:
    one, two = Rate.of(plain), Rate.of(steered)
    return Compared(name, one.share, two.share, paired_rates(prompts, plain, steered), one, two)


def _means(name: str, prompts: Sequence[Any], rows: Sequence[Mapping[str, Any]], key: str) -> Compared:
    plain, steered = [float(r["plain"][key]) for r in rows], [float(r["steered"][key]) for r in rows]
    difference = paired_means(prompts, [b - a for a, b in zip(plain, steered, strict=True)])
    return Compared(name, _mean(plain), _mean(steered), difference)


def _say(figures: Sequence[Compared], companions: Sequence[Compared], broken: bool, pairs: int) -> str:
    """One or two sentences for a reader."""
    if not pairs:
        return "No pair was finished."
    first = figures[0]
    d = first.difference
    interval = "" if d.low is None or d.high is None else f" (95% interval {d.low:+.0%} to {d.high:+.0%})"
    if first.name == "criterion":
        text = f"The criterion is met by {first.steered:.0%} of the steered answers against {first.plain:.0%}: {d.value:+.0%}{interval}."
        if companions:
            text += f" Random neurons of the same layers: {companions[0].difference.value:+.0%}."
    else:
        text = f"Mean {first.name} goes from {first.plain:.3g} to {first.steered:.3g}."
    if d.low is not None and d.high is not None and d.low <= 0 <= d.high:
        text += " No difference can be told from these pairs."
    return text + (" The steered text repeats itself: it may be broken." if broken else "")


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
