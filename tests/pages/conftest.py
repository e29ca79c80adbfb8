"""Fixtures of the page tests: a home whose server has a tiny model loaded, and a described atlas of that model."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.app_pages import app_home, saved
from tests.support.described_pages import described, described_folder, plain_folder
from traces.schema import TraceRecord

__all__ = ["app_home", "described", "described_folder", "plain_folder"]


@pytest.fixture
def record(app_home: Path) -> TraceRecord:
    """A short saved trace."""
    return saved("hello there")[0]
