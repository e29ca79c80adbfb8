"""Answers held against what their prompts say is expected, without a steer and with one: right before, right after, fixed, broken."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

from neurons.core.percent import percent
from neurons.prompts.sets import PromptSet
from neurons.statistics.comparison import expected_criterion
from neurons.statistics.criteria import Criterion
from neurons.statistics.paired import Difference, Rate, paired_rates

Outcome = Literal["fixed", "broken", "right", "wrong"]


def outcome(before: bool, after: bool) -> Outcome:
    """What a steer did to one answer: fixed or broken, or right or wrong both times."""
    if before == after:
        return "right" if after else "wrong"
    return "fixed" if after else "broken"


def judged(results: pd.DataFrame, prompts: PromptSet) -> pd.DataFrame:
    """The results of a run (`prompts.runs.results`) with what was expected: columns expected, right and, of pairs, right_steered, outcome.

    Rows whose prompt says nothing have None there. The frame as it is, where no prompt does.
    """
    criteria = {row.row: expected_criterion(row.expected) for row in prompts.rows if row.expected is not None}
    if not criteria or results.empty:
        return results
    paired = "steered_answer" in results
    found = [_judge(row, criteria.get(int(row["row"] or 0)), paired) for row in results.to_dict("records")]
    columns = ["expected", "right", *(["right_steered", "outcome"] if paired else [])]
    return pd.concat([results.reset_index(drop=True), pd.DataFrame(found, columns=columns, dtype=object)], axis=1)


def _judge(row: Mapping[Any, Any], criterion: Criterion | None, paired: bool) -> list[object]:
    if criterion is None:
        return [None] * (4 if paired else 2)
    before = criterion.met(str(row["answer"]))
    if not paired:
        return [str(criterion), before]
    if not isinstance(row["steered_answer"], str):
        return [str(criterion), before, None, None]
    after = criterion.met(row["steered_answer"])
    return [str(criterion), before, after, outcome(before, after)]


@dataclass(frozen=True)
class Tally:
    """How many answers of a run are right, before and after a steer."""

    before: Rate
    after: Rate | None
    """None without a steer."""
    change: Difference | None

    @property
    def sentence(self) -> str:
        """For a reader: counts, shares and intervals."""
        said = f"{_of(self.before)} right"
        if self.after is None or self.change is None:
            return f"{said}."
        change = self.change
        between = ""
        if change.low is not None and change.high is not None:
            between = f" ({percent(change.low, signed=True)} to {percent(change.high, signed=True)})"
        verdict = "more than chance" if change.told else "may be chance"
        moved = f"{change.gained} fixed, {change.lost} broken: {percent(change.value, signed=True)}{between}, {verdict}"
        return f"{said} before, {_of(self.after)} after; {moved}."


def tally(frame: pd.DataFrame) -> Tally | None:
    """Count the rows of `judged` that have an expected answer; None where there is none. Of pairs those that have both answers count."""
    if "right" not in frame:
        return None
    known = frame[frame["right"].notna()]
    paired = "right_steered" in known
    if paired:
        known = known[known["right_steered"].notna()]
    if known.empty:
        return None
    before: Sequence[bool] = [bool(value) for value in known["right"]]
    if not paired:
        return Tally(Rate.of(before), None, None)
    after: Sequence[bool] = [bool(value) for value in known["right_steered"]]
    return Tally(Rate.of(before), Rate.of(after), paired_rates(range(len(before)), before, after))


def _of(rate: Rate) -> str:
    return f"{rate.count:g} of {rate.total} ({percent(rate.low)} to {percent(rate.high)})"
