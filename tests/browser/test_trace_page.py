"""The Trace page as a person uses it: ask, hover, click, select, keep, reload, follow a link."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.support.browser import PATIENCE, Tab
from tests.support.journey import Journey

pytestmark = pytest.mark.browser


def _tokens(page: Page) -> Locator:
    """The tokens of the conversation that are seen."""
    return page.locator(".ns-list .tok:visible")


def _token(page: Page, text: str) -> Locator:
    return page.locator(".ns-list .tok", has_text=re.compile(rf"^\s*{re.escape(text)}$")).last


def _asked(tab: Tab, question: str = "What is the capital of Australia?") -> Page:
    page = _fresh(tab)
    tab.ask(question)
    return page


def _fresh(tab: Tab) -> Page:
    """An empty conversation."""
    page = tab.open()
    tab.ready()
    if page.get_by_role("button", name="New").count():
        page.get_by_role("button", name="New").click()
    expect(page.get_by_text("A new conversation.")).to_be_visible(timeout=PATIENCE)
    return page


def test_ask_hover_click_select_and_reload(tab: Tab) -> None:
    page = _asked(tab)
    expect(page.locator(".ns-bubble.user")).to_contain_text("What is the capital of Australia?")
    expect(page.locator(".ns-bubble.assistant")).to_contain_text("Canberra")
    assert re.search(r"trace=[0-9a-f]{12}", page.url)

    word = _token(page, "Canberra")
    word.hover()
    tip = page.locator(".ns-tip")
    expect(tip).to_contain_text("rank 1")
    expect(tip).to_contain_text("Sydney")
    tab.shoot("trace-answer", pointer=True)

    word.click()
    expect(page.locator(".ns-plain").first).to_contain_text("Canberra", timeout=PATIENCE)
    tab.settle()
    assert re.search(r"token=\d+", page.url)

    start = page.url
    for _ in range(2):
        page.keyboard.press("Shift+ArrowLeft")
    page.wait_for_url(re.compile(r"token=\d+(:|%3A)\d+"), timeout=PATIENCE)
    expect(page.locator(".tok.selected:visible")).to_have_count(3)
    assert page.url != start
    tab.settle()

    page.reload()
    tab.ready()
    expect(page.locator(".ns-bubble.assistant")).to_contain_text("Canberra")
    expect(page.locator(".tok.selected:visible")).to_have_count(3)

    page.locator(".ns-list").focus()
    page.keyboard.press("Escape")
    expect(page.locator(".tok.selected")).to_have_count(0)


def test_activation_table_keeps_and_steers(tab: Tab) -> None:
    page = _asked(tab)
    page.get_by_role("tab", name="Neurons").click()
    tab.settle()
    _token(page, "Canberra").click()
    tab.settle()
    table = page.get_by_test_id("stDataFrame").first
    expect(table).to_be_visible()
    _tick(page, table, rows=2)
    page.get_by_role("button", name="Suppress").click()
    expect(page.get_by_text("2 neurons are on a new card")).to_be_visible()
    tab.shoot("trace-activation")


def _tick(page: Page, table: Locator, *, rows: int) -> None:
    """Tick the first rows of a table: it is a canvas, so by position."""
    box = table.bounding_box()
    assert box is not None
    for row in range(rows):
        page.mouse.click(box["x"] + 16, box["y"] + 36 + 35 * row + 17)
        page.wait_for_timeout(400)
    expect(page.get_by_text(f"{rows} ticked")).to_be_visible(timeout=PATIENCE)


def test_a_row_of_neurons_shows_where_it_fires_most(tab: Tab) -> None:
    page = tab.open("/")
    tab.ready()
    page.get_by_role("tab", name="Neurons").click()
    tab.settle()
    Journey(tab, "rows").choose(0)
    tip = page.locator(".ns-row-tip:popover-open")
    expect(tip).to_contain_text("fires most at", timeout=PATIENCE)
    first = tip.locator(".name").inner_text()
    page.keyboard.press("Escape")
    expect(tip).to_have_count(0)
    box = page.get_by_test_id("stDataFrame").first.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 200, box["y"] + 36 + 35 + 17)  # the second row: the table is a canvas
    expect(tip.locator(".place b").first).to_be_visible(timeout=PATIENCE)
    assert tip.locator(".name").inner_text() != first
    page.mouse.move(5, 5)
    expect(tip).to_have_count(0)


@pytest.mark.parametrize("path", ["/concepts?show=named&named=dogs", "/atlas?tab=map"])
def test_rows_of_neurons_on_other_pages_show_it_too(tab: Tab, path: str) -> None:
    tab.open("/")
    tab.ready()  # without its model no token has a text
    page = tab.open(path)
    if "map" in path:
        page.get_by_role("textbox", name="Search").fill("dogs and cats")
        page.keyboard.press("Enter")
        page.get_by_text(re.compile("Lit: .* as a list")).click()
    tab.settle()
    table = page.get_by_test_id("stDataFrame").last
    table.scroll_into_view_if_needed()
    box = table.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 200, box["y"] + 36 + 17)
    expect(page.locator(".ns-row-tip:popover-open .place b").first).to_be_visible(timeout=PATIENCE)


def test_attribution_of_a_clicked_token(tab: Tab) -> None:
    page = _asked(tab)
    page.get_by_role("tab", name="Neurons").click()
    tab.settle()
    page.get_by_role("radio", name="Attribution").click()
    tab.settle()
    _token(page, "Canberra").click()
    sentence = page.locator(".ns-plain").first
    expect(sentence).to_contain_text("Promoted most by", timeout=PATIENCE)
    expect(page.get_by_text(re.compile(r"strongest of [\d,]+ entries hold \d+% of the absolute attribution"))).to_be_visible()
    assert "view=attribution" in page.url
    tab.shoot("trace-attribution")
    page.get_by_role("tab", name="Pictures").click()
    expect(page.get_by_text("Where the attribution comes from")).to_be_visible()
    tab.shoot("trace-pictures")


def test_a_link_opens_trace_token_and_view(tab: Tab, open_tab: Callable[..., Tab]) -> None:
    page = _asked(tab)
    trace = re.search(r"trace=([0-9a-f]{12})", page.url)
    assert trace is not None
    other = open_tab(dark=True)
    linked = other.open(f"/?trace={trace[1]}&token=40:42&view=surprisal")
    other.ready()
    expect(linked.locator(".tok.selected:visible")).to_have_count(2)
    expect(linked.get_by_role("radio", name="Surprisal")).to_be_checked()
    assert "view=surprisal" in linked.url
    assert "token=40" in linked.url
    other.shoot("trace-dark")


def test_stop_regenerate_edit_and_clear(tab: Tab) -> None:
    page = _fresh(tab)
    box = page.get_by_placeholder("Ask the model something")
    box.fill("Write a long story about a lighthouse.")
    box.press("Enter")
    expect(page.locator(".ns-bubble.assistant .tok:not(.template)").nth(3)).to_be_visible(timeout=PATIENCE)
    page.get_by_test_id("stMainBlockContainer").get_by_role("button", name="Stop").click()
    tab.answered()
    first = page.url
    assert 4 <= page.locator(".ns-bubble.assistant .tok:not(.template)").count() < 128

    page.get_by_role("button", name="Edit", exact=True).click()
    page.get_by_label("Your message").fill("What is 2 + 2?")
    page.get_by_role("button", name="Send", exact=True).click()
    tab.answered()
    assert page.url != first
    expect(page.locator(".ns-bubble.user")).to_contain_text("What is")

    page.get_by_role("button", name="Regenerate").click()
    tab.answered()

    page.get_by_role("button", name="New").click()
    expect(page.get_by_text("A new conversation.")).to_be_visible()
    tab.shoot("trace-new")


def test_a_second_turn_keeps_the_first(tab: Tab) -> None:
    page = _asked(tab)
    page.get_by_text("Go on", exact=True).click()
    expect(page.get_by_text("Sent with the 2 turns before it")).to_be_visible()
    tab.ask("And of France?")
    expect(page.locator(".ns-bubble.user")).to_have_count(2)
    expect(page.locator(".ns-bubble.assistant").last).to_contain_text("Paris")


def test_model_text_is_never_markup(tab: Tab) -> None:
    page = _asked(tab, "Repeat exactly: <img src=x onerror=alert(1)> **bold** $x^2$ :smile:")
    bubble = page.locator(".ns-bubble.user")
    expect(bubble).to_contain_text("<img src=x onerror=alert(1)> **bold** $x^2$ :smile:")
    assert page.locator(".ns-list img").count() == 0


def test_narrow_window_keeps_the_input_in_view(open_tab: Callable[..., Tab]) -> None:
    tab = open_tab(viewport={"width": 1024, "height": 768})
    tab.open()
    tab.ready()
    # The page learns the window's size from its first drawing, so it fits from the second on.
    below = "document.querySelector('[placeholder=\"Ask the model something\"]').getBoundingClientRect().bottom"
    tab.page.wait_for_function(f"() => {below} <= 768", timeout=PATIENCE)
    tab.shoot("trace-1024")
