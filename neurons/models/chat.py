"""Text and messages to token ids, and ids back to text: the only place where this happens.

User text is tokenised with special tokens split, so nobody can type a role marker. Earlier answers enter as their own ids.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from jinja2.exceptions import TemplateError

from neurons.core.errors import InvalidInput
from neurons.core.types import Message, Segment, question_of
from neurons.models.loaded import LoadedModel

# Marks where a message's content goes in the rendered template. Letters and digits only: templates trim and escape the rest.
_MARK = "NSCONTENT{:04d}NS"
_REPLACEMENT = "\ufffd"


@dataclass(frozen=True)
class EncodedPrompt:
    """A prompt as ids, and which tokens belong to which chat role."""

    ids: tuple[int, ...]
    segments: tuple[Segment, ...]

    @property
    def question(self) -> tuple[int, int] | None:
        """Where the last user turn's own tokens stand, half-open: what a steer's scope "question" means under this prompt."""
        return question_of(self.segments)


def encode_prompt(loaded: LoadedModel, messages: Sequence[Message]) -> EncodedPrompt:
    """Turn a conversation that ends with the user's turn into ids, by the model's own chat template.

    A model without a template gets the texts joined by newlines, as plain completion.
    Raises `InvalidInput` for an empty prompt, one longer than the model's positions, or roles the template refuses.
    """
    if not messages or not any(m.content.strip() for m in messages if m.role == "user"):
        raise InvalidInput("the prompt is empty; type something to ask", field="prompt")
    parts = _templated(loaded, messages) if loaded.has_chat_template else _plain(loaded, messages)
    pieces = _encoded_whole(loaded, parts) or [_encode_part(loaded, part) for part in parts]
    ids: list[int] = []
    segments: list[Segment] = []
    for part, piece in zip(parts, pieces, strict=True):
        split = 0
        if part.template and loaded.has_chat_template:  # up to its last end marker it closes the previous turn, the rest opens the next
            split = max((i + 1 for i, token in enumerate(piece) if token in loaded.eos_ids), default=0)
        for role, some in ((part.previous, piece[:split]), (part.role, piece[split:])):
            if some:
                segments.append(Segment(role, len(ids), len(ids) + len(some), part.template))
                ids.extend(some)
    check_length(loaded, len(ids))
    return EncodedPrompt(tuple(ids), tuple(segments))


def check_length(loaded: LoadedModel, tokens: int) -> None:
    """Raise `InvalidInput` when `tokens` do not fit the model: past its positions it would run on and answer garbage."""
    if tokens >= loaded.ref.max_positions:
        raise InvalidInput(
            f"the prompt has {tokens} tokens, but the model has {loaded.ref.max_positions} positions; shorten it", field="prompt"
        )
    if tokens == 0:
        raise InvalidInput("the prompt is empty; type something to ask", field="prompt")


def encode_text(loaded: LoadedModel, text: str, *, bos: bool = True) -> tuple[int, ...]:
    """Plain text to ids, special tokens split. With `bos`, the model's own start token goes first where it uses one."""
    ids = _encode(loaded, text, special=False)
    start = _bos_ids(loaded) if bos else []
    return tuple(start + ids)


def decode(loaded: LoadedModel, ids: Sequence[int]) -> str:
    """The text of `ids`, special tokens left out."""
    return str(loaded.tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False))


def token_text(loaded: LoadedModel, token_id: int) -> str:
    """The text of one token, special tokens kept; bytes that are no character on their own show as U+FFFD."""
    return _decode_raw(loaded, [token_id])


def token_pieces(loaded: LoadedModel, ids: Sequence[int]) -> tuple[str, ...]:
    """Text of each token, a character that is split over tokens joined: it stands at its first token, "" at the rest."""
    pieces: list[str] = []
    start = 0
    while start < len(ids):
        stop, text = _whole_characters(loaded, ids, start)
        pieces.extend([text] + [""] * (stop - start - 1))
        start = stop
    return tuple(pieces)


def single_token(loaded: LoadedModel, text: str) -> int:
    """The id of a token typed by its text (or as a number: its id). Raises `InvalidInput` naming the first piece of a longer text."""
    ids = _encode(loaded, text, special=True)
    if len(ids) == 1:
        return ids[0]
    if text.isdigit() and int(text) < loaded.ref.n_vocab:
        return int(text)
    if not ids:
        raise InvalidInput("the token is empty; type its text, such as ' Paris'", field="token")
    first = token_text(loaded, ids[0])
    raise InvalidInput(f"{text!r} is {len(ids)} tokens in this model; the first is {first!r} (id {ids[0]}): name one token", field="token")


def _whole_characters(loaded: LoadedModel, ids: Sequence[int], start: int) -> tuple[int, str]:
    """The smallest run of tokens from `start` that decodes to whole characters (at most 8), and its text."""
    for stop in range(start + 1, min(start + 8, len(ids)) + 1):
        text = _decode_after(loaded, ids, start, stop)
        if _REPLACEMENT not in text:
            return stop, text
    return start + 1, _decode_after(loaded, ids, start, start + 1)


def _decode_after(loaded: LoadedModel, ids: Sequence[int], start: int, stop: int) -> str:
    """Decode [start, stop) in the place where it stands: some tokenizers drop the space before a text's first token."""
    if start == 0:
        return _decode_raw(loaded, ids[start:stop])
    before = _decode_raw(loaded, ids[start - 1 : start])
    both = _decode_raw(loaded, ids[start - 1 : stop])
    return both[len(before) :] if both.startswith(before) and _REPLACEMENT not in before else _decode_raw(loaded, ids[start:stop])


def _decode_raw(loaded: LoadedModel, ids: Sequence[int]) -> str:
    return str(loaded.tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False))


def _encode(loaded: LoadedModel, text: str, *, special: bool) -> list[int]:
    tokenizer: Any = loaded.tokenizer
    return list(tokenizer.encode(text, add_special_tokens=False, split_special_tokens=not special))


def _bos_ids(loaded: LoadedModel) -> list[int]:
    """The start token, where the tokenizer itself would put one before a text."""
    bos = loaded.tokenizer.bos_token_id
    tokenizer: Any = loaded.tokenizer
    return [bos] if bos is not None and list(tokenizer.encode("a"))[:1] == [bos] else []


@dataclass(frozen=True)
class _Part:
    """A stretch of a prompt: a turn's content, or the template's text between two contents."""

    role: str
    """Whose turn it belongs to or opens."""
    text: str
    template: bool = False
    previous: str = "system"
    """For the template's text: whose turn it closes."""
    token_ids: tuple[int, ...] | None = None
    """An earlier answer's own ids."""


def _plain(loaded: LoadedModel, messages: Sequence[Message]) -> list[_Part]:
    """Plain completion: the contents, a newline between them, after the start token where the tokenizer uses one."""
    parts = [_Part("template", "", template=True, token_ids=tuple(_bos_ids(loaded)))]
    for number, message in enumerate(messages):
        if number:
            parts.append(_Part("template", "\n", template=True))
        parts.append(_Part(message.role, message.content, token_ids=message.token_ids))
    return parts


def _templated(loaded: LoadedModel, messages: Sequence[Message]) -> list[_Part]:
    """The template's own text and the contents, in turn."""
    marked = [{"role": m.role, "content": _MARK.format(i)} for i, m in enumerate(messages)]
    rendered = _render(loaded, marked)
    trims = _render(loaded, [{**m, "content": f" {m['content']} "} for m in marked]) == rendered
    parts: list[_Part] = []
    previous = "system"
    for number, message in enumerate(messages):
        before, found, rendered = rendered.partition(_MARK.format(number))
        if not found:
            raise InvalidInput(
                f"this model's chat template drops the {message.role} turn; leave it out or use another model", field="system"
            )
        parts.append(_Part(message.role, before, template=True, previous=previous))
        content = message.content.strip() if trims else message.content
        parts.append(_Part(message.role, content, token_ids=message.token_ids))
        previous = message.role
    parts.append(_Part("assistant", rendered, template=True, previous=previous))
    return parts


def _encoded_whole(loaded: LoadedModel, parts: Sequence[_Part]) -> list[list[int]] | None:
    """The ids of each part when the whole text is tokenised at once, as the model's own pipeline does: spaces at the joints merge.

    None where that must not be: an earlier answer has ids of its own, a content holds a control token, or offsets are not known.
    """
    if not loaded.tokenizer.is_fast or any(part.token_ids for part in parts):
        return None
    tokenizer: Any = loaded.tokenizer
    encoded = tokenizer("".join(part.text for part in parts), add_special_tokens=False, return_offsets_mapping=True)
    control = set(tokenizer.added_tokens_decoder)
    pieces: list[list[int]] = [[] for _ in parts]
    ends = list(accumulate(len(part.text) for part in parts))
    for token, (start, _stop) in zip(encoded["input_ids"], encoded["offset_mapping"], strict=True):
        number = bisect_right(ends, start)
        if number >= len(parts) or (token in control and not parts[number].template):
            return None
        pieces[number].append(token)
    return pieces


def _encode_part(loaded: LoadedModel, part: _Part) -> list[int]:
    """One part on its own: special tokens only in the template's text, an earlier answer as its ids less the end marker."""
    if part.token_ids is None:
        return _encode(loaded, part.text, special=part.template)
    ids = list(part.token_ids)
    while not part.template and ids and ids[-1] in loaded.eos_ids:
        ids.pop()
    return ids


def _render(loaded: LoadedModel, messages: list[dict[str, str]]) -> str:
    tokenizer: Any = loaded.tokenizer
    try:
        return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
    except TemplateError as error:
        raise InvalidInput(f"this model's chat template refuses the conversation: {error}", field="system") from error
