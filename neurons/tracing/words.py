"""Which tokens of a trace hold words: neither the template's nor the token that ended the answer."""

from __future__ import annotations

from traces.schema import TraceRecord


def word_positions(record: TraceRecord) -> tuple[int, ...]:
    """Positions, in order, of what people and the model wrote."""
    template = {n for segment in record.segments if segment.template for n in range(segment.start, segment.stop)}
    if record.finish_reason == "stop" and record.answer_ids:
        template.add(len(record.token_ids) - 1)
    return tuple(n for n in range(len(record.token_ids)) if n not in template)


def meant_positions(record: TraceRecord, ranges: tuple[tuple[int, int], ...]) -> tuple[int, ...]:
    """Of the tokens in `ranges` (all where there are none) those that hold words; the ranges' own where none does."""
    words = word_positions(record)
    if not ranges:
        return words
    asked = tuple(n for start, stop in ranges for n in range(start, min(stop, len(record.token_ids))))
    return tuple(n for n in asked if n in set(words)) or asked
