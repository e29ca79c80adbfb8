"""Cells of prompt files, given their meaning: texts, conversations, expected answers, names, tags."""

from __future__ import annotations

import math
from typing import Any

import pytest

from neurons.core.errors import InvalidInput
from neurons.core.types import Message
from neurons.prompts.values import MAX_CHARS, conversation, expected_of, id_of, messages_of, tags_of, text_of, with_system


def turn(role: str, content: Any) -> dict[str, Any]:
    return {"role": role, "content": content}


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (None, "the prompt is empty"),
        (" \n", "the prompt is empty"),
        ("\0", "the prompt is empty"),
        (3, "the prompt is a number, not a text"),
        (True, "the prompt is true or false, not a text"),
        (["a"], "the prompt is a list, not a text"),
        ("x" * (MAX_CHARS + 1), "characters; the limit is"),
        ("a\ud800", "half a character"),
    ],
)
def test_what_cannot_be_asked_says_why(value: Any, why: str) -> None:
    with pytest.raises(InvalidInput, match=why):
        text_of(value, "prompt")


def test_a_conversation_ends_with_the_question() -> None:
    messages, expected = conversation([turn("system", "Be kind."), turn("user", "Hi"), turn("assistant", "Hello")])
    assert messages == (Message("system", "Be kind."), Message("user", "Hi"))
    assert expected == expected_of("Hello")
    shared, none = conversation([{"from": "human", "value": "Hi"}])
    assert (shared, none) == ((Message("user", "Hi"),), None)
    parts, _ = conversation([turn("user", [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}])])
    assert parts[0].content == "ab"


@pytest.mark.parametrize(
    ("turns", "why"),
    [
        ("Hi", "not a list of messages"),
        ([], "does not end with the user's turn"),
        ([turn("assistant", "Hello")], "does not end with the user's turn"),
        ([turn("user", "Hi"), turn("system", "Be kind.")], "does not end with the user's turn"),
        ([turn("narrator", "Hi")], "each message needs a"),
        (["Hi"], "each message needs a"),
        ([turn("user", "")], "the user message is empty"),
        ([turn("user", [{"type": "image_url"}])], "a message holds 'image_url'; only texts can be asked"),
        ([turn("user", [3])], "a message holds 'a number'"),
    ],
)
def test_what_is_no_conversation_says_why(turns: Any, why: str) -> None:
    with pytest.raises(InvalidInput, match=why):
        conversation(turns)


def test_a_system_prompt_takes_the_place_of_another() -> None:
    messages, _ = conversation([turn("system", "old"), turn("user", "Hi")])
    assert with_system(messages, "new") == (Message("system", "new"), Message("user", "Hi"))
    assert with_system(messages, "") is messages
    assert with_system(messages, None) is messages
    assert messages_of("Hi", "prompt") == ((Message("user", "Hi"),), None)


@pytest.mark.parametrize(
    ("value", "texts"),
    [
        ("Lima", ("Lima",)),
        (" Lima ", ("Lima",)),
        (3, ("3",)),
        (3.0, ("3",)),
        (2.5, ("2.5",)),
        (["Lima", "Lima", "Ciudad de los Reyes"], ("Lima", "Ciudad de los Reyes")),
        ({"text": ["Lima"], "answer_start": [3]}, ("Lima",)),
        ({"Value": "Lima", "Aliases": ["City of Kings"]}, ("Lima", "City of Kings")),
        ([{"text": "a"}, {"text": "b"}], ("a", "b")),
        ("2 + 1 is 3.\n#### 1,003", ("1,003", "1003")),
        (r"so it is \boxed{\frac{1}{2}}.", (r"\frac{1}{2}",)),
        (r"\boxed{1} or rather \boxed{2}", ("2",)),
        (r"\boxed{never closed", (r"\boxed{never closed",)),
    ],
)
def test_what_is_expected_is_read_in_each_form(value: Any, texts: tuple[str, ...]) -> None:
    found = expected_of(value)
    assert found is not None
    assert found.texts == texts


@pytest.mark.parametrize("value", [None, "", "  ", [], {}, math.nan, math.inf, "x" * 100_000, "a\ud800", [None, ""]])
def test_what_says_nothing_expects_nothing(value: Any) -> None:
    assert expected_of(value) is None


def test_names_and_tags_are_short_lines() -> None:
    assert id_of(None) == ""
    assert id_of(7) == "7"
    assert id_of("a\nb\tc") == "a b c"
    assert len(id_of("x" * 500)) == 120
    with pytest.raises(InvalidInput, match="not a text or number"):
        id_of({"a": 1})
    assert tags_of(None) == ()
    assert tags_of("a; b,a, ,c") == ("a", "b", "c")
    assert tags_of(["x", 3]) == ("x", "3")
    assert len(tags_of([str(n) for n in range(30)])) == 20
