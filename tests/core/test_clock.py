"""Moments as every file here writes them, and names that are not taken."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest

from neurons.core.clock import now, parse_moment, stamp
from neurons.core.errors import InvalidInput
from neurons.core.names import MAX_NAME, free_name


def test_the_present_moment_comes_back() -> None:
    before = datetime.now(UTC)
    moment = parse_moment(now())
    assert abs((moment - before).total_seconds()) < 5
    assert moment.utcoffset() is not None


def test_names_of_files_sort_by_time() -> None:
    first = stamp()
    time.sleep(0.001)
    assert first < stamp()


def test_a_zone_is_taken_into_account() -> None:
    assert parse_moment("2026-01-01T01:30:00+02:00") == datetime(2025, 12, 31, 23, 30, tzinfo=UTC)
    assert parse_moment("2026-01-01T01:30:00.5Z").microsecond == 500_000


@pytest.mark.parametrize(
    "text",
    [
        "2026-01-01",
        "2026-01-01T10:00:00",
        "2026-01-01 10:00:00Z",
        "2026-02-30T10:00:00Z",
        "2026-01-01T25:00:00Z",
        "1969-12-31T23:59:59Z",
        "2262-01-01T00:00:00Z",
        "9999-12-31T23:59:59-01:00",
        "2026-01-01T10:00:00Z\n",
        "",
    ],
)
def test_what_could_be_several_moments_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="is not a date with time and zone") as told:
        parse_moment(text)
    assert told.value.field == "created"


def test_a_free_name_is_the_first_that_is_not_taken() -> None:
    assert free_name("sea", {"lake"}) == "sea"
    assert free_name("sea", {"sea", "sea 2"}) == "sea 3"
    long = "x" * MAX_NAME
    assert len(free_name(long, {long})) <= MAX_NAME
    assert free_name(long, {long}).endswith(" 2")
