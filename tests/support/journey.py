"""What a person does between the steps of a journey: reads what stands there, reloads, looks at another page, comes back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Locator, Page, expect
from playwright.sync_api import TimeoutError as TooLate

from tests.support.axe import faint
from tests.support.browser import PATIENCE, Tab
from tests.support.tally import LONG

LONGEST = 2 * PATIENCE
"""Milliseconds that a step may take which computes, where other work runs beside the test."""
_LOOKS = ((1440, False), (1440, True), (1024, False), (1024, True))


def looks(width: int, *, dark: bool) -> pytest.MarkDecorator:
    """Gives a journey its `width` and `dark`: the usual ones, and all four where tests are asked to do more (NEURONSCOPE_TORTURE)."""
    chosen = _LOOKS if LONG else ((width, dark),)
    return pytest.mark.parametrize(("width", "dark"), chosen, ids=[f"{w}-{'dark' if d else 'light'}" for w, d in chosen])


def press(page: Page, place: Locator, key: str = "Enter") -> None:
    """Put the focus on something, as the Tab key would, see that it took it, and press a key."""
    place.focus()
    expect(place).to_be_focused()
    page.keyboard.press(key)


def set_out(open_tab: Callable[..., Tab], person: str, width: int, *, dark: bool) -> Journey:
    """A person's journey in a tab of that width and theme."""
    return Journey(open_tab(viewport={"width": width, "height": 900}, dark=dark), f"{person}-{width}-{'dark' if dark else 'light'}")


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
        self.pale += [f"{name}: {text}" for text in faint(self.page)]
        too_wide = self.page.evaluate("document.documentElement.scrollWidth > innerWidth + 1")
        assert not too_wide, f"{name}: the page scrolls sideways"
        self.page.reload()
        self.tab.settle()
        check()
        if away:
            self.visit("Traces")
            self.page.go_back()
            self.tab.settle()
            check()
        return shot

    def visit(self, name: str) -> None:
        """Another page by the bar, by the keyboard. Who presses in the moment in which the page draws itself anew presses again."""
        path = "/" if name == "Trace" else f"/{name.lower()}"

        def there(url: str) -> bool:
            return urlsplit(url).path == path

        for patience in (PATIENCE / 3, PATIENCE / 3, PATIENCE):
            press(self.page, self.page.get_by_role("navigation", name="App pages").get_by_role("link", name=name, exact=True))
            try:
                self.page.wait_for_url(there, timeout=patience)
                break
            except TooLate:
                self.tab.settle()
        assert there(self.page.url), f"{name} was pressed three times; the page is {self.page.url}"
        self.tab.settle()

    def shorten(self, tokens: int) -> None:
        """Short answers from here on, by the keyboard."""
        page = self.page
        press(page, page.get_by_role("button", name="greedy"))
        length = page.get_by_role("spinbutton", name="Max new tokens")
        length.fill(str(tokens))
        length.press("Enter")
        self.tab.settle()
        page.keyboard.press("Escape")
        expect(page.get_by_role("button", name=f"up to {tokens} tokens")).to_be_visible(timeout=PATIENCE)
        self.tab.settle()

    def ask(self, question: str) -> str:
        """A question in a conversation of its own, sent by the keyboard; the id of its trace. An answer may end before a Stop is seen."""
        page, box = self.page, self.page.get_by_placeholder("Ask the model something")
        before = trace_of(page.url)
        press(page, page.get_by_role("button", name="New", exact=True))
        expect(page.get_by_text("A new conversation.")).to_be_visible(timeout=PATIENCE)
        self.tab.settle()
        box.fill(question)
        box.press("Enter")
        page.wait_for_url(lambda url: trace_of(url) not in ("", before), timeout=LONGEST)
        self.tab.answered()
        return trace_of(page.url)

    def choose(self, row: int, *, table: int = -1) -> None:
        """Tick a row of a table by the keyboard. The arrow keys begin in its first row."""
        self.page.get_by_test_id("stDataFrame").nth(table).locator("canvas").first.focus()
        for _ in range(row):
            self.page.keyboard.press("ArrowDown")
        self.page.keyboard.press("Shift+Space")
        self.tab.settle()

    def all_was_readable(self) -> None:
        """No text of any step was too faint."""
        assert not self.pale, "\n".join(dict.fromkeys(self.pale))


def to_repair(tab: Tab, wanted: str) -> None:
    """From an answer to the Repair page, which another button has filled in."""
    page = tab.page
    press(page, page.get_by_role("button", name="Wrong?"))
    type_into(tab, "textbox", "What it should say", wanted)
    press(page, page.get_by_role("button", name="Search for a fix"))
    page.wait_for_url(lambda url: urlsplit(url).path == "/repair", timeout=PATIENCE)
    tab.settle()


def search(tab: Tab) -> Locator:
    """A search of few passes and short answers, not compared with chance, which takes as long as the search; what its result is headed.

    Another test may have left a result on the page: this search's stands there once its own progress has gone.
    """
    page = tab.page
    press(page, page.locator("summary", has_text="Options"))
    for label, value in (("Budget, forward passes", "300"), ("Answer tokens", "8"), ("Control tokens", "8")):
        type_into(tab, "spinbutton", label, value)
    switch = page.get_by_role("switch", name="Compare with random neurons and simple baselines")
    press(page, switch, "Space")
    expect(switch).not_to_be_checked(timeout=PATIENCE)
    tab.settle()
    press(page, page.get_by_role("button", name="Search for a fix"))
    stop = page.get_by_test_id("stMainBlockContainer").get_by_role("button", name="Stop")
    expect(stop).to_be_visible(timeout=LONGEST)
    expect(stop).to_have_count(0, timeout=4 * LONGEST)
    fixed = page.get_by_text("Held-out wordings fixed").first
    expect(fixed).to_be_in_viewport(timeout=LONGEST)
    tab.settle()
    return fixed


def type_into(tab: Tab, role: Literal["textbox", "spinbutton"], label: str, value: str) -> None:
    """A field by its label, and what the app makes of it."""
    field = tab.page.get_by_role(role, name=label)
    field.fill(value)
    field.press("Tab")
    tab.settle()
    expect(field).to_have_value(value, timeout=PATIENCE)


def trace_of(url: str) -> str:
    """The trace that an address of the Trace page names; "" where it names none."""
    return parse_qs(urlsplit(url).query).get("trace", [""])[0]
