"""What a person does between the steps of a journey: reads what stands there, reloads, looks at another page, comes back."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from playwright.sync_api import Locator, Page, expect

from tests.support.axe import faint
from tests.support.browser import PATIENCE, Tab

_KNOWN = ('[data-testid="stCaptionContainer"]', '[data-testid="stBaseButton-primary"]')
"""Faint in Streamlit's own theme."""


def press(page: Page, place: Locator, key: str = "Enter") -> None:
    """Put the focus on something, as the Tab key would, see that it took it, and press a key."""
    place.focus()
    expect(place).to_be_focused()
    page.keyboard.press(key)


@dataclass
class Journey:
    """One person's hour in one tab. After everything that was done: `step`."""

    tab: Tab
    name: str
    pale: list[str] = field(default_factory=list)
    """Texts that could not be read, with the step at which they stood."""

    @property
    def page(self) -> Page:
        return self.tab.page

    def step(self, name: str, check: Callable[[], object], *, away: bool = False) -> Path:
        """What `check` sees now it still sees after a reload and, with `away`, after a visit to another page and the browser's Back.

        Every text of the step can be read, and nothing is cut off at the side. Returns its screenshot.
        """
        check()
        shot = self.tab.shoot(f"journey-{self.name}-{name}")
        self.pale += [f"{name}: {text}" for text in faint(self.page, but=_KNOWN)]
        too_wide = self.page.evaluate("document.documentElement.scrollWidth > innerWidth + 1")
        assert not too_wide, f"{name}: the page scrolls sideways"
        self.page.reload()
        self.tab.settle()
        check()
        if away:
            self.visit("Models")
            expect(self.page).to_have_url(re.compile("/models"), timeout=PATIENCE)
            self.page.go_back()
            self.tab.settle()
            check()
        return shot

    def visit(self, name: str) -> None:
        """Another page by the bar; in a narrow window its last ones are behind "3 more"."""
        link = self.page.get_by_role("link", name=name, exact=True).first
        more = self.page.get_by_text(re.compile(r"^\d+ more$"))
        expect(link.or_(more).first).to_be_visible(timeout=PATIENCE)
        if not link.is_visible():
            more.click()
        link.click()
        self.tab.settle()

    def all_was_readable(self) -> None:
        """No text of any step was too faint."""
        assert not self.pale, "\n".join(dict.fromkeys(self.pale))
