"""Repairs and comparisons kept by name: one folder, two kinds of document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from neurons.core.errors import InvalidInput
from neurons.core.types import ModelRef
from neurons.repair.result import FORMAT, RepairResult, result_to_json
from neurons.statistics.comparison import FORMAT as STATISTICS_FORMAT
from neurons.statistics.comparison import ComparisonSpec
from neurons.statistics.job import spec_to_json
from neurons.storage.documents import Entry, NamedDocuments


def experiments() -> NamedDocuments:
    """The folder of experiments."""
    return NamedDocuments("experiments", check=_check)


def save_repair(name: str, result: RepairResult) -> Entry:
    """Keep a repair under a name."""
    return experiments().save(name, result_to_json(result))


def save_statistics(name: str, spec: ComparisonSpec, rows: Sequence[Mapping[str, Any]], ref: ModelRef) -> Entry:
    """Keep a comparison under a name: what was compared, and its rows. The summary is computed from them when it is opened."""
    content = {
        "format": STATISTICS_FORMAT,
        "version": 1,
        "model": plain_ref(ref),
        "spec": spec_to_json(spec),
        "rows": [dict(r) for r in rows],
    }
    return experiments().save(name, content)


def plain_ref(ref: ModelRef) -> dict[str, Any]:
    """The model as plain JSON values."""
    return asdict(ref)


def _check(content: Any) -> Any:
    if not isinstance(content, Mapping) or content.get("format") not in (FORMAT, STATISTICS_FORMAT):
        raise InvalidInput("not an experiment: a repair or a comparison is expected", field="experiment")
    return content
