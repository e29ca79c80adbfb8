"""Fixtures of the command line's tests."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def model(tiny_folder: Path) -> str:
    """What `--model` takes: the path of a tiny random model. No test changes it."""
    return str(tiny_folder)
