"""Dates as people type them, as the times in UTC that everything is stored with."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from neurons.core.errors import InvalidInput

_DATE = re.compile(r"(\d{4})(?:[-/.](\d{1,2})(?:[-/.](\d{1,2}))?)?(?:[T ]\s*(\d{1,2}:\d{2}(?::\d{2}(?:\.\d+)?)?)\s*(Z|[+-]\d{2}:?\d{2})?)?")


def utc(text: str, *, field: str = "date") -> str:
    """`2026-9-5`, `2026-09-05 14:30` or `2026-09-05T14:30:00+02:00` as `2026-09-05T...Z`; without a zone it is UTC.

    Raises `InvalidInput`, naming `field`, for anything else.
    """
    found = _DATE.fullmatch(text.strip())
    try:
        if found is None or (found[4] and not found[3]):
            raise ValueError(text)
        year, month, day, clock, zone = found.groups()
        hours = "00:00" if clock is None else clock if clock[1] != ":" else f"0{clock}"
        moment = datetime.fromisoformat(f"{year}-{int(month or 1):02d}-{int(day or 1):02d}T{hours}{zone or 'Z'}").astimezone(UTC)
    except (ValueError, OverflowError) as error:  # a zone can take the first and the last day past the end of the calendar
        raise InvalidInput(f"{field}: {text!r} is not a date; write year-month-day, such as 2026-01-31", field=field) from error
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
