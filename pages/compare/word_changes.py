"""The words in which two answers differ: a sentence about them, the coloured text, and the tokens they fall on."""

from __future__ import annotations

from collections.abc import Sequence

from neurons.core.percent import percent
from neurons.tracing.sentence import visible
from pages.shared.untrusted import Part
from traces.compare import DiffOp, TraceComparison
from traces.schema import TraceRecord


def parts(words: Sequence[DiffOp]) -> list[Part]:
    """The two answers as one text, what differs marked as removed or added."""
    shown: list[Part] = []
    for op in words:
        if op.tag == "equal":
            shown.append((op.a, ""))
        else:
            changed: tuple[Part, Part] = ((op.a, "removed"), (op.b, "added"))
            shown += [part for part in changed if part[0]]
    return shown or [("Both answers are empty.", "muted")]


def verdict(found: TraceComparison, names: tuple[str, str]) -> list[Part]:
    """One sentence: whether and where the two runs differ."""
    told: list[Part] = []
    if not found.same_model:
        told.append(("Two different models, asked the same. " if found.same_messages else "Two different models. ", "strong"))
    if not (found.same_prompt or (found.same_messages and not found.same_model)):
        told.append(("Two different prompts. ", "strong"))
    if found.same_ids:
        return [*told, ("The same answer", "strong"), (", token for token.", "")]
    told += [(f"{percent(found.changed_words)} of the words differ. ", "strong")]
    split = found.divergence
    if split is not None and (found.same_model or split.a_text != split.b_text):  # other models number the same texts otherwise
        told += [(f"They part at token {split.position}: {names[0].lower()} ", "")]
        told += [_said(split.a_id, split.a_text), (f", {names[1].lower()} ", ""), _said(split.b_id, split.b_text), (".", "")]
        if split.kl is not None and found.same_prompt:
            told += [(f" KL divergence there {'' if split.kl_exact else 'at least '}{split.kl:.3g} nats.", "muted")]
    return told


def _said(token_id: int | None, text: str) -> Part:
    return ("had ended", "") if token_id is None else (visible(text), "token")


def marked_tokens(a: TraceRecord, b: TraceRecord, words: Sequence[DiffOp]) -> tuple[list[bool], list[bool]]:
    """For each trace, which tokens of its answer lie in a word that the other answer does not have."""
    spans_a, spans_b = [], []
    at_a = at_b = 0
    for op in words:
        if op.tag != "equal":
            spans_a.append((at_a, at_a + len(op.a)))
            spans_b.append((at_b, at_b + len(op.b)))
        at_a, at_b = at_a + len(op.a), at_b + len(op.b)
    return _covered(a, spans_a), _covered(b, spans_b)


def _covered(record: TraceRecord, spans: Sequence[tuple[int, int]]) -> list[bool]:
    """Tokens whose text overlaps one of the character spans of the answer. Control tokens are not part of the answer's text."""
    marks = [False] * len(record.token_ids)
    at = 0
    for position in range(len(record.prompt_ids), len(record.token_ids)):
        piece = record.pieces[position]
        if not piece or not record.answer.startswith(piece, at):
            continue
        stop = at + len(piece)
        marks[position] = any(start < stop and at < end for start, end in spans)
        at = stop
    return marks
