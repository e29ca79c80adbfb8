"""What a press began is in view: runs of prompts, a long question's answer, steered runs."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from tests.support.browser import PATIENCE, Tab

pytestmark = pytest.mark.browser

LOW = {"width": 1440, "height": 560}


def test_a_run_of_prompts_shows_its_progress_where_it_can_be_seen(open_tab: Callable[..., Tab]) -> None:
    tab = open_tab(viewport=LOW)
    page = tab.open("/")
    tab.ready()
    tab.open("/prompts")
    page.get_by_text("Paste", exact=True).click()
    tab.settle()
    page.get_by_label("One prompt per line").fill("\n".join(f"Say {n}." for n in range(3)))
    page.get_by_label("One prompt per line").press("Tab")
    tab.settle()
    run = page.get_by_role("button", name="Run", exact=True)
    run.scroll_into_view_if_needed()
    run.click()
    expect(page.get_by_text("prompts answered").or_(page.get_by_text("of 3")).first).to_be_in_viewport(timeout=PATIENCE)


def test_a_long_question_does_not_hide_its_answer(open_tab: Callable[..., Tab]) -> None:
    tab = open_tab()
    page = tab.open("/")
    tab.ready()
    tab.ask("\n".join(f"line {n}" for n in range(50)) + "\nWhat comes next?")
    expect(page.locator(".ns-strip .ns-who").last).to_be_in_viewport()
    expect(page.locator(".ns-strip .tok:visible").last).to_be_in_viewport()
