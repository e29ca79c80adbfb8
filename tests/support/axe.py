"""Whether every text on the screen can be read, by axe-core in the page itself; nothing is fetched for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

_CONTRAST = {"runOnly": {"type": "rule", "values": ["color-contrast"]}, "resultTypes": ["violations"]}


def faint(page: Page, *, but: Sequence[str] = ()) -> list[str]:
    """The texts under 4.5:1 (3:1 where they are large) against what is behind them, with its ratio; the selectors `but` are left out."""
    context: dict[str, Any] = {"exclude": [[selector] for selector in but]} if but else {}
    found: list[dict[str, Any]] = Axe().run(page, context or None, _CONTRAST).response["violations"]
    nodes = [node for violation in found for node in violation["nodes"]]
    return [f"{node['any'][0]['message'].partition('(')[0].strip()}: {node['html'][:160]}" for node in nodes]
