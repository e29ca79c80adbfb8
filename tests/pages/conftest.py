"""Fixtures of the page tests: a home whose server has a tiny model loaded, and a described atlas of that model."""

from __future__ import annotations

from tests.support.app_pages import app_home, tiny_folder
from tests.support.described_pages import described, described_folder, plain_folder

__all__ = ["app_home", "described", "described_folder", "plain_folder", "tiny_folder"]
