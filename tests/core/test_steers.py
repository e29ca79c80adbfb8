"""Steers without a model: the tokens they act on, what is refused, how they fade."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neurons.core.errors import InvalidInput, InvalidSteer
from neurons.core.steers import Fade, Steer, TokenScope, parse_ranges
from neurons.core.types import NeuronSide

A, A_MINUS, B = NeuronSide(1, 2), NeuronSide(1, 2, "-"), NeuronSide(3, 4)


@pytest.mark.parametrize(
    ("text", "scope"),
    [
        ("all", TokenScope("all")),
        (" Prompt ", TokenScope("prompt")),
        ("from_question", TokenScope("from question")),
        ("from-question", TokenScope("from question")),
        ("question, answer", TokenScope("question", with_answer=True)),
        ("3:9,12", TokenScope("ranges", ((3, 9), (12, 13)))),
        ("12,answer,3:9", TokenScope("ranges", ((12, 13), (3, 9)), with_answer=True)),
    ],
)
def test_tokens_are_read_as_people_write_them(text: str, scope: TokenScope) -> None:
    assert TokenScope.parse(text) == scope
    assert TokenScope.parse(str(scope)) == scope


@pytest.mark.parametrize("text", ["", "9:3", "3:3", "-1:2", "a", "3:9,,4", "1:2:3", "9" * 10])
def test_what_is_no_range_is_named(text: str) -> None:
    with pytest.raises(InvalidInput, match="is not a token range; write start:stop") as told:
        parse_ranges(text)
    assert told.value.field == "tokens"


@given(st.lists(st.tuples(st.integers(0, 999), st.integers(1, 50)), min_size=1, max_size=5), st.booleans())
def test_ranges_come_back_from_their_text(parts: list[tuple[int, int]], with_answer: bool) -> None:
    scope = TokenScope("ranges", tuple((start, start + length) for start, length in parts), with_answer)
    assert TokenScope.parse(str(scope)) == scope


def covered(scope: TokenScope, *, prompt: int = 6, tokens: int = 9) -> list[int]:
    return [n for n in range(tokens) if scope.covers(n, prompt)]


def test_each_scope_covers_its_tokens_and_no_others() -> None:
    assert covered(TokenScope("all")) == list(range(9))
    assert covered(TokenScope("prompt")) == [0, 1, 2, 3, 4, 5]
    assert covered(TokenScope("answer")) == [6, 7, 8]
    assert covered(TokenScope.parse("1:3,8")) == [1, 2, 8]
    assert covered(TokenScope.parse("1:3,answer")) == [1, 2, 6, 7, 8]
    assert covered(TokenScope("question").at_question((2, 4))) == [2, 3]
    assert covered(TokenScope("question", with_answer=True).at_question((2, 4))) == [2, 3, 6, 7, 8]
    assert covered(TokenScope("from question").at_question((2, 4))) == [2, 3, 4, 5, 6, 7, 8]


def test_only_the_question_has_to_be_placed() -> None:
    assert TokenScope("question").is_unplaced
    assert TokenScope("from question").is_unplaced
    assert not TokenScope("question").at_question((2, 4)).is_unplaced
    assert TokenScope("question").at_question((2, 4)).at_question(None).is_unplaced
    assert TokenScope("all").at_question((2, 4)) == TokenScope("all")  # which does not care


@pytest.mark.parametrize(
    ("steer", "field"),
    [
        (Steer((A,), mode="push"), "mode"),  # type: ignore[arg-type]
        (Steer((A,), strength=math.nan), "strength"),
        (Steer((A,), strength=1001), "strength"),
        (Steer((A, B), values=(1.0,)), "values"),
        (Steer((A,), values=(math.inf,)), "values"),
        (Steer((A,), values=(1e6,)), "values"),
        (Steer((A,), mode="set", fade=Fade()), "fade"),
        (Steer((A,), mode="add", fade=Fade(after=-1)), "fade"),
        (Steer((A,), mode="add", fade=Fade(to=1.5)), "fade"),
        (Steer((A,), mode="add", fade=Fade(to=math.nan)), "fade"),
        (Steer((A,), tokens=TokenScope("question").at_question((4, 4))), "tokens"),
    ],
)
def test_a_steer_that_cannot_be_says_which_field_is_wrong(steer: Steer, field: str) -> None:
    with pytest.raises(InvalidSteer) as told:
        steer.check()
    assert told.value.field == field


def test_a_neuron_is_steered_once_by_its_larger_value() -> None:
    both = Steer((A, A_MINUS, B), mode="add", strength=1, values=(2.0, -5.0, 1.0))
    assert both.size == 2
    assert (both.once().neurons, both.once().values) == ((A_MINUS, B), (-5.0, 1.0))
    turned = Steer((B, A_MINUS, A), mode="add", strength=1, values=(1.0, -5.0, 2.0)).once()
    assert set(zip(turned.neurons, turned.values or (), strict=True)) == {(A_MINUS, -5.0), (B, 1.0)}  # whatever the order
    assert Steer((A_MINUS, A)).once().neurons == (A,)  # without values the positive side
    plain = Steer((A, B))
    assert plain.once() is plain


@pytest.mark.parametrize(
    ("steer", "nothing"),
    [
        (Steer((A,), enabled=False), True),
        (Steer(()), True),
        (Steer((A,), mode="scale", strength=1), True),
        (Steer((A,), mode="add", strength=0), True),
        (Steer((A,), mode="set", strength=0), False),  # suppresses
        (Steer((A,), mode="scale", strength=0), False),
        (Steer((A,), mode="cap", strength=0), False),
    ],
)
def test_a_steer_that_changes_nothing_is_known_as_one(steer: Steer, nothing: bool) -> None:
    assert steer.is_noop is nothing


def test_values_are_needed_only_where_they_matter() -> None:
    assert Steer((A,), mode="add", strength=0.5).needs_values
    assert not Steer((A,), mode="scale", strength=0.5).needs_values
    assert not Steer((A,), mode="set", strength=0).needs_values
    assert Steer((A,)).with_values([2]).values == (2.0,)
    assert Steer((A,), values=(2.0,)).with_values(None).values is None


def test_a_fade_counts_the_answers_tokens() -> None:
    fade = Fade(after=2, to=0.25)
    assert [fade.at(n, 5) for n in range(9)] == [1, 1, 1, 1, 1, 1, 1, 0.25, 0.25]
    assert fade.words == "25% of it after 2 tokens of the answer"
    assert Fade(after=0, to=0).words == "and lets go where the answer begins"
    assert Fade(after=3, to=0).words == "nothing of it after 3 tokens of the answer"
