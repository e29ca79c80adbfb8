"""What a comparison's rows amount to, in figures and in a sentence that does not claim more than they show."""

from __future__ import annotations

from typing import Any

import pytest

from neurons.core.errors import InvalidInput
from neurons.statistics.paired import Difference
from neurons.statistics.rows import Facts, Row, read_rows
from neurons.statistics.summary import BROKEN, Summary, summarise, verdict


def facts(met: bool | None = None, **more: Any) -> Facts:
    return Facts(met=met, **{"length": 4, "repetition": 0.0, "kl": 0.5, **more})


def row(prompt: str, plain: Facts, steered: Facts, **draws: Facts) -> Row:
    return Row(prompt_id=prompt, prompt=prompt, seed=0, plain=plain, steered=steered, random=draws)


def fixed(count: int, **more: Any) -> Summary:
    return summarise([row(str(n), facts(False), facts(True), **more) for n in range(count)])


def test_nothing_was_finished() -> None:
    failed = Row(prompt_id="1", seed=0, error="the prompt is empty")
    for rows in ([], [failed]):
        found = summarise(rows)
        assert (found.pairs, found.figures, found.message) == (0, (), "No pair was finished.")
    assert found.failed == 1


def test_one_prompt_is_too_few_however_clear() -> None:
    found = fixed(1)
    assert found.message.endswith("1 prompt is too few to tell.")
    assert "interval" not in found.message  # one prompt has none


def test_a_clear_difference_over_many_prompts_is_told() -> None:
    found = fixed(24)
    assert "The criterion is met by 100% of the steered answers against 0%: +100%" in found.message
    assert "It is more than chance (exact test, 24 prompts: p = " in found.message
    assert (found.pairs, found.prompts, found.judged, found.failed) == (24, 24, 24, 0)
    assert found.figures[0].plain_rate is not None
    assert found.figures[0].plain_rate.count == 0
    assert found.kl == pytest.approx(0.5)
    assert found.random_kl is None


def test_no_difference_is_not_called_one() -> None:
    few = summarise([row(str(n), facts(n < 2), facts(n < 2)) for n in range(4)])
    many = summarise([row(str(n), facts(n < 20), facts(n < 20)) for n in range(40)])
    assert "4 prompts are too few to tell" in few.message
    assert "No difference can be told from these prompts" in many.message


def test_prompts_that_say_nothing_are_left_out_of_the_rate_and_told() -> None:
    rows = [row("1", facts(False), facts(True)), row("2", facts(True), facts(True)), row("3", facts(), facts())]
    found = summarise(rows)
    assert (found.judged, found.prompts) == (2, 3)
    assert "Only 2 of the 3 prompts say what is expected." in found.message
    assert [figure.name for figure in found.figures] == ["criterion", "length", "repetition"]


def test_random_neurons_stand_beside_the_steer() -> None:
    rows = [
        row(str(n), facts(False), facts(True), **{"random 1": facts(n == 0, kl=0.1), "random 2": facts(False, kl=0.3)}) for n in range(4)
    ]
    found = summarise(rows)
    assert found.random[0].steered == pytest.approx(1 / 8)
    assert found.random_kl == pytest.approx(0.2)
    assert "Random neurons of the same layers: +12%." in found.message


def test_without_a_criterion_the_first_figure_is_told() -> None:
    rows = [row(str(n), facts(token_probability=0.1), facts(token_probability=0.4)) for n in range(6)]
    found = summarise(rows)
    assert [figure.name for figure in found.figures] == ["token probability", "length", "repetition"]
    assert found.message.startswith("Mean token probability goes from 0.1 to 0.4.")
    lengths = summarise([row(str(n), facts(length=4), facts(length=10)) for n in range(3)])
    assert lengths.message.startswith("Mean length goes from 4 to 10.")


def test_repeats_of_a_prompt_count_as_their_mean() -> None:
    rows = [row("1", facts(length=2), facts(length=n)) for n in (2, 4, 6)] + [row("2", facts(length=2), facts(length=8))]
    length = next(figure for figure in summarise(rows).figures if figure.name == "length")
    assert length.steered == pytest.approx((4 + 8) / 2)
    assert length.difference.prompts == 2


@pytest.mark.parametrize(("repetition", "broken"), [(BROKEN, False), (BROKEN + 0.01, True)])
def test_text_that_goes_round_in_circles_is_warned_of(repetition: float, broken: bool) -> None:
    found = summarise([row(str(n), facts(True), facts(True, repetition=repetition)) for n in range(3)])
    assert found.broken is broken
    assert ("it may be broken" in found.message) is broken


def test_an_interval_that_spans_zero_tells_nothing() -> None:
    assert not Difference(0.1, -0.01, 0.2, "", p_value=0.04, prompts=30).told
    assert Difference(0.1, 0.01, 0.2, "", p_value=0.04, prompts=30).told
    assert not Difference(0.1, 0.01, 0.2, "", p_value=0.06, prompts=30).told
    assert verdict(Difference(0.0, None, None, "no pairs")) == "No prompts: nothing to tell."


def test_rows_come_back_as_they_were_kept() -> None:
    one = row("1", facts(True, answer="It is Lima.", met_at=(6, 10)), facts(False), **{"random 1": facts(True)})
    assert read_rows([one.to_json()]) == (one,)
    assert one.plain is not None
    assert one.plain.met_text == "Lima"
    failed = Row(prompt_id="2", seed=1, error="too long")
    assert read_rows([failed.to_json()])[0].pair is None
    with pytest.raises(InvalidInput, match="the rows of a comparison"):
        read_rows([{"prompt_id": "1"}])
