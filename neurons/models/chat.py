"""Text and messages to token ids, and ids back to text: the only place where this happens.

User text is tokenised with special tokens split, so nobody can type a role marker. Earlier answers enter as their own ids.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

from neurons.core.errors import InvalidInput
from neurons.core.types import Message, Segment, question_of
from neurons.models.loaded import LoadedModel
from neurons.models.template import Place, Rendered, render
from neurons.models.token_texts import decode_raw, pieces_of


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
    """Turn a conversation that ends with the user's turn into ids: those of the model's own chat template.

    A model without a template gets the texts joined by newlines, as plain completion. An earlier answer's own ids stand in for those that
    its text would be tokenised to, where the template prints that text as it is.
    Raises `InvalidInput` for an empty prompt, one longer than the model's positions, or roles the template refuses.
    """
    if not messages or not any(m.content.strip() for m in messages if m.role == "user"):
        raise InvalidInput("the prompt is empty; type something to ask", field="prompt")
    messages = [replace(m, content=decode(loaded, m.token_ids)) if m.token_ids else m for m in messages]
    for message in messages:
        check_characters(message.content)
    rendered = render(loaded, messages) if loaded.has_chat_template else _plain(messages)
    parts = _parts(rendered, messages)
    pieces = _encoded_whole(loaded, rendered, parts)
    if pieces is None and not rendered.certain:
        raise InvalidInput("this model's chat template changes the texts, and one of them holds a control token; remove it", field="prompt")
    if pieces is None:
        pieces = [_encode_part(loaded, part, first=number == 0) for number, part in enumerate(parts)]
    start = [] if loaded.has_chat_template else _bos_ids(loaded)
    ids: list[int] = list(start)
    segments: list[Segment] = [Segment("template", 0, len(start), True)] if start else []
    for part, piece in zip(parts, pieces, strict=True):
        split = 0
        if part.template and loaded.has_chat_template:  # up to its last end marker it closes the previous turn, the rest opens the next
            split = max((i + 1 for i, token in enumerate(piece) if token in loaded.eos_ids), default=0)
        for role, some in ((part.previous, piece[:split]), (part.role, piece[split:])):
            if some:
                segments.append(Segment(role, len(ids), len(ids) + len(some), part.template))
                ids.extend(some)
    check_length(loaded, len(ids))
    check_known(loaded, ids)
    return EncodedPrompt(tuple(ids), tuple(segments))


def check_characters(text: str) -> None:
    """Raise `InvalidInput` for half a surrogate pair: no character, and no tokenizer takes it."""
    if any("\ud800" <= char <= "\udfff" for char in text):
        raise InvalidInput("the text holds half a character (a lone surrogate); remove it", field="prompt")


def check_length(loaded: LoadedModel, tokens: int) -> None:
    """Raise `InvalidInput` when `tokens` do not fit the model: past its positions it would run on and answer garbage."""
    if tokens >= loaded.ref.max_positions:
        raise InvalidInput(
            f"the prompt has {tokens} tokens, but the model has {loaded.ref.max_positions} positions; shorten it", field="prompt"
        )
    if tokens == 0:
        raise InvalidInput("the prompt is empty; type something to ask", field="prompt")


def check_known(loaded: LoadedModel, ids: Sequence[int]) -> None:
    """Raise `InvalidInput` for a token of the tokenizer's that the weights have no row for."""
    rows = embedding_rows(loaded)
    beyond = max(ids, default=0)
    if beyond >= rows:
        said = f"the prompt holds {token_text(loaded, beyond)!r}, token {beyond} of the tokenizer; this model knows tokens 0 to {rows - 1}"
        raise InvalidInput(said, field="prompt")


def embedding_rows(loaded: LoadedModel) -> int:
    """How many tokens the weights know: rows of the input embedding."""
    weight = getattr(loaded.model.get_input_embeddings(), "weight", None)
    return loaded.ref.n_vocab if weight is None else int(weight.shape[0])


def encode_text(loaded: LoadedModel, text: str, *, bos: bool = True) -> tuple[int, ...]:
    """Plain text to ids, special tokens split. With `bos`, the model's own start token goes first where it uses one."""
    check_characters(text)
    ids = _encode(loaded, text, special=False)
    start = _bos_ids(loaded) if bos else []
    check_known(loaded, start + ids)
    return tuple(start + ids)


def decode(loaded: LoadedModel, ids: Sequence[int]) -> str:
    """The text of `ids`, special tokens left out."""
    return str(loaded.tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False))


def token_text(loaded: LoadedModel, token_id: int) -> str:
    """The text of one token, special tokens kept; bytes that are no character on their own show as U+FFFD."""
    return decode_raw(loaded.tokenizer, [token_id])


def token_pieces(loaded: LoadedModel, ids: Sequence[int]) -> tuple[str, ...]:
    """Text of each token, a character that is split over tokens joined: it stands at its first token, "" at the rest."""
    return pieces_of(loaded.tokenizer, ids)


def single_token(loaded: LoadedModel, text: str) -> int:
    """The id of a token typed by its text (or as a number: its id). Raises `InvalidInput` naming the first piece of a longer text."""
    check_characters(text)
    space_comes = text[:1] == " " and text.strip() and prepends_space(loaded)
    ids = _encode(loaded, text[1:] if space_comes else text, special=True)
    if len(ids) == 1:
        return ids[0]
    if text.isdecimal() and len(text) < 10 and int(text) < loaded.ref.n_vocab:
        return int(text)
    if not ids:
        raise InvalidInput("the token is empty; type its text, such as ' Paris'", field="token")
    first = token_text(loaded, ids[0])
    raise InvalidInput(f"{text!r} is {len(ids)} tokens in this model; the first is {first!r} (id {ids[0]}): name one token", field="token")


def contrast_token(loaded: LoadedModel, text: str, *, beside: int) -> tuple[int, str]:
    """(token, note) that a text typed for a contrast with the token `beside` stands for: the token itself, or the first of several.

    A text without a space is read with one where `beside` begins with one: "Ankara" beside " Istanbul" is " Ankara". The note says what was
    taken where that is not the text as typed; "" else. Raises `InvalidInput` for an empty text and one that begins as `beside` does.
    """
    spaced = token_text(loaded, beside)[:1] == " " and text.strip() and not text[:1].isspace() and not text.isdigit()
    wanted = f" {text}" if spaced else text
    try:
        found = single_token(loaded, wanted)
        return found, f"{text!r} is read as {token_text(loaded, found)!r}" if spaced else ""
    except InvalidInput:
        space_comes = wanted[:1] == " " and prepends_space(loaded)
        ids = _encode(loaded, wanted[1:] if space_comes else wanted, special=True)
        if not ids or not wanted.strip():
            raise
    first = token_text(loaded, ids[0])
    if ids[0] == beside:
        raise InvalidInput(
            f"{text!r} begins with {first!r}, which is the token that is explained; name the next token, where the two texts differ",
            field="token",
        )
    return ids[0], f"{text!r} is {len(ids)} tokens in this model: contrasted with its first, {first!r}"


def prepends_space(loaded: LoadedModel) -> bool:
    """Whether the tokenizer puts a space before every text, as SentencePiece does: "Paris" is the token " Paris"."""
    alone, after = (_encode(loaded, text, special=False) for text in ("a", "\na"))
    return alone != after[len(_encode(loaded, "\n", special=False)) :]


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


def _plain(messages: Sequence[Message]) -> Rendered:
    """Plain completion: the contents, a newline between them."""
    places, text = [], ""
    for number, message in enumerate(messages):
        text += "\n" if number else ""
        places.append(Place(number, len(text), len(text) + len(message.content)))
        text += message.content
    return Rendered(text, tuple(places))


def _parts(rendered: Rendered, messages: Sequence[Message]) -> list[_Part]:
    """The template's own text and the contents, in turn."""
    parts: list[_Part] = []
    previous, end = "system", 0
    for place in rendered.places:
        message = messages[place.message]
        parts.append(_Part(message.role, rendered.text[end : place.start], template=True, previous=previous))
        parts.append(_Part(message.role, rendered.text[place.start : place.stop], token_ids=message.token_ids))
        previous, end = message.role, place.stop
    return [*parts, _Part("assistant", rendered.text[end:], template=True, previous=previous)]


def _encoded_whole(loaded: LoadedModel, rendered: Rendered, parts: Sequence[_Part]) -> list[list[int]] | None:
    """The ids of each part when the whole text is tokenised at once, as the model's own pipeline does: spaces at the joints merge.

    None where that must not be: a content holds a control token.
    """
    ids, offsets = _with_offsets(loaded, rendered.text)
    control = _control(loaded)
    ends = list(accumulate(len(part.text) for part in parts))
    owners: list[int] = []
    for token, (start, stop) in zip(ids, offsets, strict=True):
        piece = rendered.text[start:stop]
        at = start + len(piece) - len(piece.lstrip()) if piece.strip() else start  # a space before a word goes with the word
        owners.append(min(bisect_right(ends, at), len(parts) - 1))
        if token in control and not parts[bisect_right(ends, start) if start < len(rendered.text) else -1].template:
            return None
    if not rendered.certain and any(text in part.text for part in parts if not part.template for text in control.values()):
        return None
    pieces: list[list[int]] = [[] for _ in parts]
    for token, owner in zip(ids, owners, strict=True):
        pieces[owner].append(token)
    for number, part in enumerate(parts):
        if part.token_ids:
            covered = [offset for offset, owner in zip(offsets, owners, strict=True) if owner == number]
            if covered and covered[-1][1] <= ends[number]:
                _put_own(loaded, pieces, number, _own_ids(loaded, part))
    return pieces


def _with_offsets(loaded: LoadedModel, text: str) -> tuple[list[int], list[tuple[int, int]]]:
    """The ids of a text, control tokens included, and which characters each stands for."""
    tokenizer: Any = loaded.tokenizer
    if tokenizer.is_fast:
        encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        return list(encoded["input_ids"]), [(int(start), int(stop)) for start, stop in encoded["offset_mapping"]]
    ids = _encode(loaded, text, special=True)
    stops = [min(len(decode_raw(loaded.tokenizer, ids[: count + 1])), len(text)) for count in range(len(ids))]
    return ids, list(zip([0, *stops[:-1]], stops, strict=True))


def _put_own(loaded: LoadedModel, pieces: list[list[int]], number: int, own: list[int]) -> None:
    """Give an earlier answer its own ids where they say what stands there, the space before it included or not."""
    before, there = pieces[number - 1], pieces[number]
    for spaces in (0, 1):
        kept, moved = before[: len(before) - spaces], before[len(before) - spaces :]
        if [*moved, *there] == own or any(token in _control(loaded) for token in moved):
            return
        if _said(loaded, kept[-1:], own) == _said(loaded, kept[-1:], [*moved, *there]) and not _said(loaded, [], moved).strip():
            pieces[number - 1], pieces[number] = kept, own
            return


def _said(loaded: LoadedModel, before: Sequence[int], ids: Sequence[int]) -> str:
    """The text of `ids` where they stand."""
    whole, start = decode(loaded, [*before, *ids]), decode(loaded, before)
    return whole[len(start) :] if whole.startswith(start) else whole


def _control(loaded: LoadedModel) -> dict[int, str]:
    """The control tokens with their texts; runs of spaces, which some tokenizers add in the same way, are none."""
    return {token_id: str(token) for token_id, token in loaded.tokenizer.added_tokens_decoder.items() if str(token).strip()}


def _own_ids(loaded: LoadedModel, part: _Part) -> list[int]:
    """An earlier answer's ids less its end marker."""
    ids = list(part.token_ids or ())
    while ids and ids[-1] in loaded.eos_ids:
        ids.pop()
    return ids


def _encode_part(loaded: LoadedModel, part: _Part, *, first: bool) -> list[int]:
    """One part on its own: special tokens only in the template's text, an earlier answer as its ids."""
    if part.token_ids:
        return _own_ids(loaded, part)
    ids = _encode(loaded, part.text, special=part.template)
    if first or not prepends_space(loaded):
        return ids
    after = _encode(loaded, "\n", special=False)  # some tokenizers put a space before every text: let it stand before this one
    both = _encode(loaded, "\n" + part.text, special=part.template)
    return both[len(after) :] if both[: len(after)] == after else ids
