"""The present moment as every file here writes it: UTC, with its zone."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from neurons.core.errors import InvalidInput

_FORM = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d{1,6})?(Z|[+-]\d{2}:\d{2})")
_FIRST, _LAST = 1970, 2261  # what tables of dates can hold in nanoseconds


def now() -> str:
    """The present moment, such as 2026-11-24T09:30:00.125Z."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def stamp() -> str:
    """The present moment for the name of a file; names sort by time."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}"


def parse_moment(text: str) -> datetime:
    """A date with its time and zone, in UTC. Raises `InvalidInput` for anything less, which could mean several moments."""
    wrong = InvalidInput(f"{text[:40]!r} is not a date with time and zone, such as 2026-11-24T09:30:00Z", field="created")
    if not _FORM.fullmatch(text):
        raise wrong
    try:
        moment = datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise wrong from error
    if not _FIRST <= moment.year <= _LAST:
        raise wrong
    return moment
