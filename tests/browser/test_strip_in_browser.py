"""The token strip in Chromium: pointer, keyboard, tooltip, copying, two strips scrolled together, 2,000 tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.support.browser import App, Tab, start_app, stop_app

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def strips(browser: object, tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    folder = tmp_path_factory.mktemp("strips")
    running = start_app(folder, folder / "app.log", script=Path(__file__).with_name("strip_app.py"))
    yield running
    stop_app(running)


@pytest.fixture
def page(open_tab: Callable[..., Tab], strips: App) -> Page:
    tab = open_tab(on=strips, permissions=["clipboard-read", "clipboard-write"])
    tab.open("/")
    expect(tab.page.locator(".ns-list")).to_have_count(2)
    return tab.page


def _list(page: Page, side: str = "left") -> Locator:
    return page.locator(".ns-list").nth(0 if side == "left" else 1)


def _token(page: Page, i: int, side: str = "left") -> Locator:
    return _list(page, side).locator(f"#t{i}")


def _says(page: Page, text: str) -> None:
    expect(page.get_by_text(text, exact=True)).to_be_visible()


def test_roles_are_bubbles_and_template_tokens_fold_away(page: Page) -> None:
    strip = _list(page)
    expect(strip.get_by_role("group")).to_have_count(2)
    expect(strip.locator(".tok.template").first).to_be_hidden()
    page.get_by_role("button", name="Template").first.click()
    expect(strip.locator(".tok.template").first).to_be_visible()
    expect(_token(page, 16)).to_have_text(" <b>no</b>")
    assert strip.locator("b").count() == 0
    expect(_token(page, 20)).to_have_text("⟨U+202E⟩")
    assert "underline" in _token(page, 4).evaluate("node => getComputedStyle(node).textDecorationLine")


def test_a_character_split_over_tokens_is_one(page: Page) -> None:
    assert _list(page).locator("#t13").count() == 0
    _token(page, 12).click()
    _says(page, "left [12:15]")
    expect(page.locator(".ns-tip").first).to_contain_text("tokens 12–14")


def test_click_drag_and_ctrl(page: Page) -> None:
    _token(page, 4).click()
    _says(page, "left [4]")
    _token(page, 15).drag_to(_token(page, 17))
    _says(page, "left [15:18]")
    page.keyboard.down("Control")
    _token(page, 3).drag_to(_token(page, 5))
    page.keyboard.up("Control")
    _says(page, "left [3:6,15:18]")
    _token(page, 16).click(modifiers=["Control"])
    _says(page, "left [3:6,15,17]")
    _token(page, 11).click()
    _token(page, 15).click(modifiers=["Shift"])
    _says(page, "left [11:16]")
    page.locator(".ns-who", has_text="Model").first.click()
    _says(page, f"left [8:{22}]")


def test_keyboard(page: Page) -> None:
    _list(page).focus()
    page.keyboard.press("ArrowRight")
    tip = page.locator(".ns-tip").first
    expect(tip).to_contain_text("token 3")
    expect(tip).to_contain_text("rank 3")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    _says(page, "left [4]")
    page.keyboard.press("Shift+ArrowRight")
    _says(page, "left [4:6]")
    page.keyboard.press("End")
    page.keyboard.press("Control+Space")
    _says(page, "left [4:6,21]")
    page.keyboard.press("Escape")
    _says(page, "left []")
    assert _list(page).get_attribute("aria-activedescendant") == "t21"


def test_tooltip_shows_candidates_and_the_token_taken(page: Page) -> None:
    _token(page, 15).hover()
    tip = page.locator(".ns-tip").first
    expect(tip).to_contain_text("·Sydney")
    expect(tip).to_contain_text("surprisal 3.3 bits")
    expect(tip.locator(".row.taken")).to_contain_text("Canberra")
    page.mouse.move(700, 700)
    expect(tip).to_be_hidden()


def test_copy(page: Page) -> None:
    _token(page, 3).drag_to(_token(page, 5))
    page.keyboard.press("Control+c")
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == "Why not?"


def test_python_selects_and_sides_are_apart(page: Page) -> None:
    _token(page, 4, "right").click()
    _says(page, "right [4]")
    _says(page, "left []")
    page.get_by_role("button", name="Select 11 to 12").click()
    _says(page, "left [11:13]")
    expect(_list(page).locator(".tok.selected")).to_have_count(2)


def test_two_thousand_tokens(page: Page, strips: App) -> None:
    page.goto(f"{strips.url}/?n=2000")
    for side in ("left", "right"):
        expect(_list(page, side).locator(".tok")).to_have_count(1998)
    _list(page).evaluate("node => (node.scrollTop = 900)")
    page.wait_for_function("list => list.scrollTop === 900", arg=_list(page, "right").element_handle())
    _list(page).evaluate("list => { window.first = list.querySelector('.tok'); }")
    for i in (400, 420, 440):
        _token(page, i).click()
        _says(page, f"left [{i}]")
    assert _list(page).evaluate("list => list.querySelector('.tok') === window.first"), "a click draws no token anew"
    steps = """list => {
      const watcher = new MutationObserver(() => {});
      watcher.observe(list, {childList: true, attributes: true, subtree: true});
      for (let k = 0; k < 20; k++) list.dispatchEvent(new KeyboardEvent("keydown", {key: "ArrowRight", shiftKey: true, bubbles: true}));
      return watcher.takeRecords().length;
    }"""
    assert 20 <= _list(page).evaluate(steps) < 1000, "a key touches the tokens it selects, not all 2,000"
