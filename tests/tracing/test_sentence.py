"""The sentence about a token: what it says, and that a token's text never turns into anything else."""

from __future__ import annotations

import numpy as np
import pytest

from neurons.core.errors import InvalidInput
from neurons.core.percent import becomes, column_share, percent, percentile
from neurons.core.types import AttributionRow
from neurons.tracing.sentence import TokenFacts, as_text, explain_token, facts_at, visible

WORDS = {7: " Canberra", 8: " Sydney", 9: "\n"}


def facts(**changes: object) -> TokenFacts:
    given = {"position": 5, "token_id": 7, "text": " Canberra", "prompt_tokens": 4, "logprob": float(np.log(0.65)), "rank": 0}
    given |= {"topk_ids_K": np.array([7, 8, 9]), "topk_probs_K": np.array([0.65, 0.31, 0.01])}
    return TokenFacts(**{**given, **changes})  # type: ignore[arg-type]


def said(*args: object, **kwargs: object) -> str:
    return as_text(explain_token(*args, word=WORDS.__getitem__, **kwargs))  # type: ignore[arg-type]


def test_the_token_its_probability_and_the_runner_up() -> None:
    assert said(facts()) == 'The model wrote "·Canberra" (token 5) with 65% probability; the runner-up was "·Sydney" at 31%.'


def test_a_token_of_lower_rank_names_what_was_expected() -> None:
    text = said(facts(token_id=8, text=" Sydney", rank=1, logprob=float(np.log(0.31))))
    assert text == 'The model wrote "·Sydney" (token 5) with 31% probability, rank 2; it expected "·Canberra" at 65%.'


def test_a_prompt_token_is_not_written_by_the_model() -> None:
    assert said(facts(position=2)).startswith("The prompt has")


def test_nothing_recorded() -> None:
    assert said(facts(logprob=None, topk_ids_K=None)) == 'The model wrote "·Canberra" (token 5).'


def test_strongest_neuron_of_each_sign_with_unit_place_and_note() -> None:
    rows = [
        AttributionRow(2, 9, 1, "-", -3.0, 0.5),
        AttributionRow(3, 1, 2, "+", 2.0, -0.4),
        AttributionRow(4, 4, 3, "+", 2.0, 0.3),
    ]
    text = said(facts(), rows=rows, metric="contrast", source=lambda i: f"w{i}", note=lambda row: "capitals" if row.layer == 2 else "")
    assert text.endswith(
        ' Promoted most by neuron 2:9- (capitals) at "w1" (+0.5 logits), suppressed most by neuron 3:1+ at "w2" (-0.4 logits).'
    )
    assert said(facts(), rows=rows[1:2]).endswith(" Suppressed most by neuron 3:1+ (-0.4 probability).")


def test_two_probabilities_are_told_apart_or_said_to_be_the_same() -> None:
    assert becomes(0.741, 0.58) == "74% becomes 58%"
    assert becomes(0.744, 0.739) == "74.4% becomes 73.9%"
    assert becomes(0.9941, 0.9939) == "99.41% becomes 99.39%"
    assert becomes(0.74, 0.74) == "74% stays 74%"
    assert becomes(0.99999, 0.99997) == "99.999% becomes 99.997%"
    assert becomes(0.9999999, 0.9999998) == "over 99.9% stays over 99.9%"


@pytest.mark.parametrize(
    ("probability", "text"),
    [(1.0, "over 99.9%"), (0.65, "65%"), (0.0456, "4.6%"), (0.0099, "1.0%"), (0.0005, "0.05%"), (0.0, "under 0.01%")],
)
def test_percent(probability: float, text: str) -> None:
    assert percent(probability, exact=False) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [(" the", "·the"), ("\n\n", "↵↵"), ("", "∅"), ("\u202ex", "⟨U+202E⟩x"), ("👩\u200d🚀", "👩\u200d🚀"), ("\xa0", "⟨U+00A0⟩")],
)
def test_visible(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_facts_of_a_part_of_a_character_are_those_of_the_character() -> None:
    arrays = {"logprob": np.array([0.0, -1.0, -2.0]), "rank": np.array([-1, 0, 3])}
    found = facts_at(2, ids=(1, 2, 3), pieces=("a", "é", ""), prompt_tokens=1, arrays=arrays)
    assert (found.text, found.rank, found.logprob) == ("é", 3, -2.0)
    first = facts_at(0, ids=(1, 2, 3), pieces=("a", "é", ""), prompt_tokens=1, arrays=arrays)
    assert first.logprob is None


def test_a_position_that_is_not_there() -> None:
    with pytest.raises(InvalidInput, match="tokens 0 to 2"):
        facts_at(3, ids=(1, 2, 3), pieces=("a", "b", "c"), prompt_tokens=1, arrays={})


@pytest.mark.parametrize(
    ("share", "shown"), [(0, 0), (1, 1), (0.99999, 0.9999), (1e-7, 0.0001), (0.5, 0.5), (-0.99999, -0.9999), (1.5, 1.5), (None, None)]
)
def test_a_column_of_shares_reads_all_or_nothing_only_where_it_is(share: float | None, shown: float | None) -> None:
    assert column_share(share) == shown


def test_no_percentile_reads_100_that_is_not() -> None:
    values = (98.556, 99.98, 99.9967, 99.99997, 100.0, 0.0)
    assert [percentile(value) for value in values] == ["98.56", "99.98", "99.997", "99.99997", "100.00", "0.00"]
