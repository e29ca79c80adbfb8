"""What the app's bar lists."""

from __future__ import annotations

from pages.serving.page_list import PAGES


def page_list() -> dict[str, tuple[str, str, str]]:
    """Address of each page to its title, icon and script."""
    return PAGES
