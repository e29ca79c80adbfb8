"""Dates as people type them."""

from __future__ import annotations

import pytest

from neurons.core.dates import utc
from neurons.core.errors import InvalidInput


@pytest.mark.parametrize(
    ("typed", "stored"),
    [
        ("2026", "2026-01-01T00:00:00.000Z"),
        ("2026-9", "2026-09-01T00:00:00.000Z"),
        (" 2026/9/5 ", "2026-09-05T00:00:00.000Z"),
        ("2026.09.05", "2026-09-05T00:00:00.000Z"),
        ("2026-09-05 4:30", "2026-09-05T04:30:00.000Z"),
        ("2026-09-05T14:30:00+02:00", "2026-09-05T12:30:00.000Z"),
        ("2026-09-05T14:30:00.5Z", "2026-09-05T14:30:00.500Z"),
        ("2026-09-05 4:30:00.25", "2026-09-05T04:30:00.250Z"),
        ("2026-01-01T00:30-0100", "2026-01-01T01:30:00.000Z"),
    ],
)
def test_what_is_a_date(typed: str, stored: str) -> None:
    assert utc(typed) == stored


@pytest.mark.parametrize(
    "typed",
    [
        *("", "yesterday", "2026-13", "2026-02-30", "2026-09 14:30", "14:30", "2026-09-05T25:00", "99999-01-01"),
        *("0000", "0001-01-01T00:00+01:00", "9999-12-31T23:59-01:00", "2026-09-05T14:30:00+99:00"),
    ],
)
def test_what_is_none(typed: str) -> None:
    with pytest.raises(InvalidInput, match=r"since: .* is not a date; write year-month-day") as raised:
        utc(typed, field="since")
    assert raised.value.field == "since"
