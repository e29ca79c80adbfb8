"""Cells and JSON values as what a prompt is made of: texts, conversations, expected answers, tags."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from neurons.core.errors import InvalidInput
from neurons.core.types import Message, Role
from neurons.storage.tables import kind_of, short

MAX_CHARS = 200_000
MAX_EXPECTED = 2000
"""Characters of an expected answer; a longer one is a text to compare with, not a mark of a right answer."""
_ROLES: dict[str, Role] = {
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("user", "human", "prompter"), "user"),
    **dict.fromkeys(("assistant", "gpt", "chatgpt", "bot", "model", "ai", "bard", "bing"), "assistant"),
}
VERDICTS = (("yes", "true"), ("no", "false"))
"""The words of a yes and of a no."""
_TURN = re.compile(r"(?:\A\s*|\r?\n\r?\n)(Human|Assistant):")
_FINAL = re.compile(r"####\s*(\S[^\n]*)\s*$")
_WHOLE = re.compile(r"-?\d+\.0")
"""What pandas makes of the whole numbers of a column that has gaps."""
_BRACES = re.compile(r"\\(?:boxed|fbox)\s*\{|\\.|[{}]", re.DOTALL)


@dataclass(frozen=True)
class Expected:
    """What a prompt's answer should hold: any of the texts."""

    texts: tuple[str, ...]
    kind: Literal["contains", "regex", "equals", "verdict"] = "contains"
    """verdict: yes or no; the first such word of the answer is one of the texts."""

    def __str__(self) -> str:
        return " | ".join(self.texts)


@dataclass(frozen=True)
class Asked:
    """One row, given its meaning."""

    messages: tuple[Message, ...]
    expected: Expected | None = None
    id: str = ""
    tags: tuple[str, ...] = ()


def text_of(value: Any, what: str) -> str:
    """A text that can be asked. Raises `InvalidInput`, which says what is wrong with it."""
    value = value.replace("\0", "") if isinstance(value, str) else value
    if value is None or (isinstance(value, str) and not value.strip()):
        raise InvalidInput(f"the {what} is empty")
    if not isinstance(value, str):
        raise InvalidInput(f"the {what} is {kind_of(value)}, not a text")
    if len(value) > MAX_CHARS:
        raise InvalidInput(f"the {what} has {len(value):,} characters; the limit is {MAX_CHARS:,}")
    if any(0xD800 <= ord(char) <= 0xDFFF for char in value):
        raise InvalidInput(f"the {what} holds half a character (a lone surrogate)")
    return value


def conversation(turns: Any) -> tuple[tuple[Message, ...], Expected | None]:
    """Messages up to the last user's turn, and the answer that follows it as what is expected.

    Turns are OpenAI's ("role", "content") or ShareGPT's ("from", "value"). Raises `InvalidInput` for anything that is no such list.
    """
    if not isinstance(turns, list | tuple):
        raise InvalidInput(f"the conversation is {kind_of(turns)}, not a list of messages")
    messages = []
    for turn in turns:
        role = _ROLES.get(str(turn.get("role", turn.get("from"))).casefold()) if isinstance(turn, Mapping) else None
        if role is None:
            raise InvalidInput('each message needs a "role" (system, user or assistant) and a "content"')
        messages.append(Message(role, text_of(_content(turn.get("content", turn.get("value"))), f"{role} message")))
    answer = messages.pop().content if messages and messages[-1].role == "assistant" else None
    if not messages or messages[-1].role != "user":
        raise InvalidInput("the conversation does not end with the user's turn, or with the answer to it")
    return tuple(messages), None if answer is None else expected_of(answer)


def _content(value: Any) -> Any:
    """A message's text, of OpenAI's parts too."""
    if not isinstance(value, list):
        return value
    for part in value:
        if not isinstance(part, Mapping) or not isinstance(part.get("text"), str):
            kind = part.get("type") if isinstance(part, Mapping) else kind_of(part)
            raise InvalidInput(f"a message holds {kind!r}; only texts can be asked")
    return "".join(part["text"] for part in value)


def messages_of(value: Any, what: str) -> tuple[tuple[Message, ...], Expected | None]:
    """A text, a list of messages, or a text that is a transcript of them."""
    if is_transcript(value):
        return conversation(_transcribed(value))
    return conversation(value) if isinstance(value, list) else ((Message("user", text_of(value, what)),), None)


def is_transcript(value: Any) -> bool:
    """Whether a text is a whole conversation as HH-RLHF and Anthropic's first prompts write it: "\\n\\nHuman: ...\\n\\nAssistant: ..."."""
    return isinstance(value, str) and value.lstrip().startswith("Human:") and "Assistant" in _TURN.findall(value)


def _transcribed(text: str) -> list[dict[str, str]]:
    _, *parts = _TURN.split(text)
    turns = [{"role": role.lower(), "content": said.strip()} for role, said in zip(parts[::2], parts[1::2], strict=True)]
    return turns[:-1] if not turns[-1]["content"] and turns[-1]["role"] == "assistant" else turns


def with_system(messages: tuple[Message, ...], system: Any) -> tuple[Message, ...]:
    """The same with this system prompt, unless it is empty."""
    if system in (None, ""):
        return messages
    return (Message("system", text_of(system, "system prompt")), *(m for m in messages if m.role != "system"))


def expected_of(value: Any) -> Expected | None:
    """An expected answer: a text or number, a list of which any will do, or {"text": [...]}. None where there is none, or too long a one.

    Of a solution that marks its result, as GSM8K (####) and MATH (boxed) do, the result is expected. Of yes and no, in words or as JSON's
    true and false, the answer's verdict is.
    """
    texts = texts_of(value)
    said = texts[0].casefold().rstrip(".") if len(texts) == 1 else ""
    verdict = next((words for words in VERDICTS if said in words), None)
    return Expected(verdict, "verdict") if verdict is not None else Expected(texts) if texts else None


def texts_of(value: Any) -> tuple[str, ...]:
    """The texts of an expected answer; none where there is none, or too long a one."""
    if isinstance(value, Mapping):
        value = _of_object(value)
    items = value if isinstance(value, list | tuple) else [value]
    found = [_answer_text(_of_object(item) if isinstance(item, Mapping) else item) for item in items]
    texts = tuple(dict.fromkeys(text for text in found if text))
    texts = _result_of(texts[0]) if len(texts) == 1 else texts
    texts = (texts[0], texts[0].partition(".")[0]) if len(texts) == 1 and _WHOLE.fullmatch(texts[0]) else texts
    if not texts or any(len(text) > MAX_EXPECTED or any(0xD800 <= ord(char) <= 0xDFFF for char in text) for text in texts):
        return ()
    return texts


def _result_of(solution: str) -> tuple[str, ...]:
    """The result that a solution marks, a number with and without its commas; else the solution."""
    if (final := _FINAL.search(solution[-MAX_EXPECTED:])) is not None:
        return tuple(dict.fromkeys((final[1].strip(), final[1].strip().replace(",", ""))))
    return (_boxed(solution) or solution,)


def _boxed(solution: str) -> str:
    """What is boxed last, whole: braces within it belong to it. "" where nothing is."""
    last = ""
    opened: list[int | None] = []  # where the content of each open brace begins, None for those that are no box's
    for found in _BRACES.finditer(solution):
        if found[0] == "}":
            start = opened.pop() if opened else None
            last = last if start is None else solution[start : found.start()].strip() or last
        elif found[0].endswith("{") and found[0] != "\\{":
            opened.append(found.end() if "box" in found[0] else None)
    return last


def _of_object(value: Mapping[str, Any]) -> Any:
    """The answer in an object such as {"text": [...]}, {"value": ...}, a message or TriviaQA's {"Value": ..., "Aliases": [...]}."""
    plain = {str(key).casefold(): item for key, item in value.items()}
    found = plain.get("text", plain.get("value", plain.get("content")))
    others = plain.get("aliases")
    return [found, *others] if isinstance(found, str) and isinstance(others, list) else found


def _answer_text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, str | int | float):
        return ""
    if isinstance(value, float):
        whole = value.is_integer() and abs(value) < 1e16
        return str(int(value)) if whole else repr(value) if math.isfinite(value) else ""
    return str(value).strip()


def id_of(value: Any) -> str:
    """A prompt's name: a text or a number; "" where there is none. Raises `InvalidInput` for anything else."""
    if isinstance(value, dict | list):
        raise InvalidInput("the id is not a text or number")
    return "" if value is None else short(str(value))


def tags_of(value: Any) -> tuple[str, ...]:
    """Tags from a list, or from a text with commas or semicolons: each once, at most twenty."""
    parts = value if isinstance(value, list) else str(value).replace(";", ",").split(",") if value is not None else []
    return tuple(dict.fromkeys(short(str(part))[:60] for part in parts if str(part).strip()))[:20]
