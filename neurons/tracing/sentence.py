"""What the model did at one token, in one sentence: the token, its probability, the runner-up, the neurons behind it.

The sentence comes as parts with a kind, so that a page can colour them without reading any markup in the model's own text.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from neurons.core.errors import InvalidInput
from neurons.core.percent import percent
from neurons.core.types import AttributionRow, Metric

Kind = Literal["", "token", "positive", "negative", "muted", "strong"]
Part = tuple[str, Kind]

_MARKS = {"\n": "↵", "\t": "⇥"}
_JOINERS = "\u200c\u200d\ufe0e\ufe0f"  # they shape the characters beside them
_UNITS: dict[Metric, str] = {"prob": "probability", "logprob": "nats", "logit": "logits", "contrast": "logits", "logodds": "log odds"}


@dataclass(frozen=True, eq=False)
class TokenFacts:
    """What was recorded about the distribution that one token was taken from."""

    position: int
    """Counted from 0 over prompt + answer."""
    token_id: int
    text: str
    prompt_tokens: int
    logprob: float | None = None
    """Natural log-probability; None where nothing was recorded."""
    rank: int | None = None
    """0 is the most probable."""
    topk_ids_K: Any = None
    topk_probs_K: Any = None


def facts_at(position: int, *, ids: Sequence[int], pieces: Sequence[str], prompt_tokens: int, arrays: dict[str, Any]) -> TokenFacts:
    """Gather one token's facts from a trace's per-token arrays (`logprob`, `rank`, `topk_ids`, `topk_probs`, any may be missing).

    Raises `InvalidInput` for a position that the run does not have.
    """
    if not 0 <= position < len(ids):
        raise InvalidInput(f"there is no token {position}; this trace has tokens 0 to {len(ids) - 1}", field="token")
    start = position
    while start > 0 and pieces[start] == "":
        start -= 1

    def at(name: str) -> Any:
        return arrays[name][position] if name in arrays and position > 0 else None

    logprob, rank = at("logprob"), at("rank")
    return TokenFacts(
        position,
        ids[position],
        pieces[start],
        prompt_tokens,
        None if logprob is None else float(logprob),
        None if rank is None else int(rank),
        at("topk_ids"),
        at("topk_probs"),
    )


def explain_token(
    facts: TokenFacts,
    *,
    word: Callable[[int], str],
    rows: Sequence[AttributionRow] = (),
    metric: Metric = "prob",
    source: Callable[[int], str] | None = None,
    note: Callable[[AttributionRow], str] | None = None,
) -> list[Part]:
    """The sentence. `word` gives the text of a token id, `source` that of a position; `rows` are an attribution's, strongest first.

    `note` may add a few words about a neuron (its description). Without rows the sentence ends at the runner-up.
    """
    parts: list[Part] = [
        ("The model wrote " if facts.position >= facts.prompt_tokens else "The prompt has ", ""),
        (visible(facts.text), "token"),
    ]
    parts.append((f" (token {facts.position})", "muted"))
    if facts.logprob is None:
        return [*parts, (".", "")]
    parts += [(" with ", ""), (percent(float(np.exp(facts.logprob)), exact=False), "strong"), (" probability", "")]
    other = _runner_up(facts)
    if other is not None and facts.rank == 0:
        parts += [("; the runner-up was ", ""), (visible(word(other[0])), "token"), (f" at {percent(other[1], exact=False)}", "")]
    elif other is not None:
        parts += [
            (f", rank {(facts.rank or 0) + 1}; it expected ", ""),
            (visible(word(other[0])), "token"),
            (f" at {percent(other[1], exact=False)}", ""),
        ]
    parts.append((".", ""))
    promoting = next((row for row in rows if row.attribution > 0), None)
    suppressing = next((row for row in rows if row.attribution < 0), None)
    if promoting is not None:
        parts += [(" Promoted most by ", ""), *_neuron(promoting, "positive", metric, source, note)]
    if suppressing is not None:
        parts += [
            (", suppressed most by " if promoting else " Suppressed most by ", ""),
            *_neuron(suppressing, "negative", metric, source, note),
        ]
    return [*parts, (".", "")] if promoting or suppressing else parts


def as_text(parts: Sequence[Part]) -> str:
    """The sentence as plain text, tokens in quotes."""
    return "".join(f'"{text}"' if kind == "token" else text for text, kind in parts)


def visible(text: str) -> str:
    """A token's text with what has no ink shown: line ends and tabs as arrows, an outer space as a middle dot, the rest by its number."""
    shown = "".join(_MARKS.get(char) or (char if char.isprintable() or char in _JOINERS else f"⟨U+{ord(char):04X}⟩") for char in text)
    inner = shown.strip(" ")
    left = len(shown) - len(shown.lstrip(" "))
    right = len(shown) - left - len(inner)
    return "·" * left + inner + "·" * right if shown else "∅"


def _runner_up(facts: TokenFacts) -> tuple[int, float] | None:
    """The most probable other token: (id, probability)."""
    if facts.topk_ids_K is None or facts.topk_probs_K is None:
        return None
    for token, probability in zip(facts.topk_ids_K, facts.topk_probs_K, strict=True):
        if token >= 0 and token != facts.token_id:
            return int(token), float(probability)
    return None


def _neuron(
    row: AttributionRow,
    kind: Kind,
    metric: Metric,
    source: Callable[[int], str] | None,
    note: Callable[[AttributionRow], str] | None,
) -> list[Part]:
    """One neuron with where it acted and how much, in the metric's unit."""
    parts: list[Part] = [(f"neuron {row.layer}:{row.index}{row.polarity}", kind)]
    words = note(row) if note is not None else ""
    if words:
        parts.append((f" ({words})", "muted"))
    if source is not None:
        parts += [(" at ", ""), (visible(source(row.token)), "token")]
    return [*parts, (f" ({row.attribution:+.3g} {_UNITS[metric]})", "muted")]
