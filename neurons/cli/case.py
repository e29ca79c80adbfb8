"""A trace with the model that runs it, and how the commands about one of its tokens tell what they found."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from neurons.cli.common import table
from neurons.core.types import AttributionRow, NeuronSide, TargetSpec

if TYPE_CHECKING:
    from neurons.core.types import ModelRef
    from neurons.models.loaded import LoadedModel
    from traces.schema import TraceRecord
    from traces.store import TraceStore


@dataclass(frozen=True)
class Case:
    """A trace with the model that runs it."""

    record: TraceRecord
    loaded: LoadedModel
    store: TraceStore

    @property
    def ids(self) -> tuple[int, ...]:
        return self.record.token_ids

    @property
    def prompt_tokens(self) -> int:
        return len(self.record.prompt_ids)

    def piece(self, token: int) -> str:
        return self.record.pieces[token] if token < len(self.record.pieces) else ""


def words_of(ref: ModelRef) -> Callable[[NeuronSide], dict[str, str | None]]:
    """Gives a neuron side's headline and description; None where nothing is known."""
    from neurons.descriptions.known import known_descriptions, known_headlines

    headlines, descriptions = known_headlines(ref), known_descriptions(ref)
    return lambda side: {"headline": headlines.get(str(side)), "description": descriptions.get(str(side))}


def row_of(case: Case, row: AttributionRow, said: Callable[[NeuronSide], dict[str, str | None]]) -> dict[str, Any]:
    """A row of an attribution, with its words, as JSON."""
    site = case.loaded.sites[row.layer]
    return {
        "layer": row.layer,
        "index": row.index,
        "neuron": f"{row.layer}:{row.index}",
        **({} if site.experts is None else {"expert": site.label(row.index)}),
        "token": row.token,
        "text": case.piece(row.token),
        "polarity": row.polarity,
        "activation": row.activation,
        "attribution": row.attribution,
        **said(NeuronSide(row.layer, row.index, row.polarity)),
    }


def about(case: Case, target: TargetSpec) -> dict[str, Any]:
    """What was asked about which token, as JSON."""
    from neurons.models.chat import token_text

    other = target.against_id
    return {
        "trace_id": case.record.id,
        "token": target.token,
        "token_id": target.token_id,
        "text": token_text(case.loaded, target.token_id or 0),
        "metric": target.metric,
        "against_id": other,
        "against": None if other is None else token_text(case.loaded, other),
    }


def heading(answer: Mapping[str, Any]) -> str:
    """The line above a table: token, metric and its value."""
    from neurons.attribution.metrics import SATURATED

    flat = answer["metric"] == "prob" and answer["metric_value"] > SATURATED
    hint = "so sure a probability hardly moves: all rows are small; --metric logodds shows them\n" if flat else ""
    other = f" against {answer['against']!r}" if answer["against"] is not None else ""
    return f"token {answer['token']} {answer['text']!r}{other}: {answer['metric']} {answer['metric_value']:.4g}\n{hint}"


def rows_table(rows: Sequence[Mapping[str, Any]], numbers: Sequence[str]) -> str:
    """Rows with the columns of numbers given, for a reader."""
    cells = [
        (f"{r['neuron']}{r['polarity']}", r["headline"] or "", r["token"], repr(r["text"]), r["activation"], *(r[n] for n in numbers))
        for r in rows
    ]
    return table(("neuron", "headline", "at", "text", "activation", *numbers), cells)
