"""A conversation as the model's own chat template writes it, and where in that text each message stands.

Templates trim contents, leave parts of earlier answers out, print a text twice, put the system text into the user's last turn or want
contents as lists: so the text is the template's own, and the places are found by rendering once more with marks instead of contents.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2.exceptions import TemplateError

from neurons.core.errors import InvalidInput
from neurons.core.types import Message
from neurons.models.loaded import LoadedModel
from neurons.models.template_limits import check_template, in_time

# Marks where a message's content goes in the rendered template. Letters and digits only: templates trim and escape the rest.
_MARK = "NSCONTENT{:04d}NS"
_LIST_ITSELF = re.compile(r"""['"]text['"]\s*:""")
_THOUGHT_ENDS = ("</think>", "</thinking>", "</reasoning>", "<|END_THINKING|>", "[/THINK]")


@dataclass(frozen=True)
class Place:
    """Characters [start, stop) of the text that are a message's content."""

    message: int
    start: int
    stop: int


@dataclass(frozen=True)
class Rendered:
    """A conversation's text, ready for the answer."""

    text: str
    places: tuple[Place, ...]
    """In order. None for a message that the template left out; two for one that it printed twice."""
    certain: bool = True
    """Whether everything outside the places is the template's own text, whatever the contents say."""


def render(loaded: LoadedModel, messages: Sequence[Message]) -> Rendered:
    """Write a conversation by the model's template. Raises `InvalidInput` where the template refuses it or drops a turn."""
    contents = [message.content for message in messages]
    marks = [_MARK.format(number) for number in range(len(messages))]
    lists = wants_lists(loaded)
    marked = _apply(loaded, messages, marks, lists=lists)
    dropped = next((message for message, mark in zip(messages, marks, strict=True) if mark not in marked), None)
    if dropped is not None:
        raise InvalidInput(
            f"this model's chat template drops or changes the {dropped.role} turn; leave it out or use another model", field="system"
        )
    text = _apply(loaded, messages, contents, lists=lists)
    places = _located(text, *_around(marked, marks), contents)
    return Rendered(text, tuple(places)) if places is not None else Rendered(text, tuple(_searched(text, contents)), certain=False)


def wants_lists(loaded: LoadedModel) -> bool:
    """Whether the template prints contents that are lists of parts, and drops or takes apart those that are plain texts."""
    mark = _MARK.format(0)
    messages = [Message("user", mark)]
    try:
        if mark in _apply(loaded, messages, [mark], lists=False):
            return False
    except InvalidInput:
        pass
    try:
        printed = _apply(loaded, messages, [mark], lists=True)
    except InvalidInput:
        return False
    # A template that cuts or changes plain texts prints the list itself, brackets and all: that is no content it takes.
    return mark in printed and not _LIST_ITSELF.search(printed)


def as_turns(loaded: LoadedModel, messages: Sequence[Message]) -> list[dict[str, Any]]:
    """The messages in the form that the model's template takes."""
    return _turns(messages, [message.content for message in messages], lists=wants_lists(loaded))


def template_source(loaded: LoadedModel) -> str:
    """The template's own code, all of them where the model has several."""
    template: Any = loaded.tokenizer.chat_template
    return "\n".join(map(str, template.values())) if isinstance(template, dict) else str(template or "")


def _turns(messages: Sequence[Message], contents: Sequence[str], *, lists: bool) -> list[dict[str, Any]]:
    return [
        {"role": message.role, "content": [{"type": "text", "text": content}] if lists else content}
        for message, content in zip(messages, contents, strict=True)
    ]


def _apply(loaded: LoadedModel, messages: Sequence[Message], contents: Sequence[str], *, lists: bool) -> str:
    tokenizer: Any = loaded.tokenizer
    try:
        turns = _turns(messages, contents, lists=lists)
        check_template(template_source(loaded))
        with in_time():
            return str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))
    except TemplateError as error:
        raise InvalidInput(f"this model's chat template refuses the conversation: {error}", field="system") from error
    except InvalidInput:
        raise
    except Exception as error:  # the template is a stranger's program: it may raise anything
        said = str(error)[:300]
        raise InvalidInput(f"this model's chat template cannot be used ({type(error).__name__}: {said}); use another model") from error


def _around(marked: str, marks: Sequence[str]) -> tuple[list[str], list[int]]:
    """The template's own texts before, between and after the marks (one more than marks), and whose mark each was."""
    found = sorted((at, number) for number, mark in enumerate(marks) for at in _all(marked, mark))
    texts, end = [], 0
    for at, number in found:
        texts.append(marked[end:at])
        end = at + len(marks[number])
    return [*texts, marked[end:]], [number for _at, number in found]


def _all(text: str, part: str) -> Iterator[int]:
    at = text.find(part)
    while at >= 0:
        yield at
        at = text.find(part, at + len(part))


def _located(text: str, around: Sequence[str], numbers: Sequence[int], contents: Sequence[str]) -> list[Place] | None:
    """Where the contents stand, the template's own texts being the same around them; None where they are not."""
    if not text.startswith(around[0]):
        return None
    places, at = [], len(around[0])
    for step, number in enumerate(numbers):
        following, last = around[step + 1], step + 1 == len(numbers)

        def fits(stop: int, following: str = following, last: bool = last) -> bool:
            return text.startswith(following, stop) and (not last or stop + len(following) == len(text))

        given = next((form for form in _forms(contents[number]) if text.startswith(form, at) and fits(at + len(form))), None)
        if given is None:
            return None
        places.append(Place(number, at, at + len(given)))
        at += len(given) + len(following)
    return places


def _forms(content: str) -> list[str]:
    """What templates make of a content, the longest first: as it is, trimmed, without the thoughts before an answer."""
    forms = {content}
    for end in _THOUGHT_ENDS:
        if end in content:
            forms.add(content.rpartition(end)[2])
    for form in list(forms):
        forms |= {form.strip(), form.lstrip(), form.rstrip(), form.strip("\n"), form.lstrip("\n"), form.rstrip("\n")}
    return sorted(forms, key=lambda form: (-len(form), form))


def _searched(text: str, contents: Sequence[str]) -> Iterator[Place]:
    """Contents as they are found, one after the other: for templates whose own text depends on the contents."""
    at = 0
    for number, content in enumerate(contents):
        form = next((form for form in _forms(content) if form and text.find(form, at) >= 0), None)
        if form is not None:
            start = text.find(form, at)
            at = start + len(form)
            yield Place(number, start, at)
