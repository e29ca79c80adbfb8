"""Back, reload, a visit to another page, and addresses without a page, in real Chromium."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import WebSocketRoute, expect

from tests.browser.test_steering_journey import run_steered, tick
from tests.support.browser import PATIENCE, Tab
from traces.store import EXAMPLES

pytestmark = pytest.mark.browser


def asked(tab: Tab, name: str) -> str:
    """A parameter of the address."""
    return parse_qs(urlsplit(tab.page.url).query).get(name, [""])[0]


def test_back_leads_to_the_trace_before_with_its_token_and_clicks_are_no_steps(open_tab: Callable[..., Tab]) -> None:
    tab = open_tab()
    page = tab.open("/")
    tab.ready()
    first = asked(tab, "trace")
    length = page.evaluate("history.length")
    tokens = page.locator(".ns-strip .tok:visible")
    for number in (8, 10, 12):
        tokens.nth(number).click()
        tab.settle()
    token = asked(tab, "token")
    assert token
    assert page.evaluate("history.length") == length, "a click on a token is no step"
    page.get_by_role("button", name="New", exact=True).click()
    tab.settle()
    tab.ask("What is the capital of Peru?")
    second = asked(tab, "trace")
    assert second
    assert second != first
    page.get_by_role("link", name="Models").click()
    tab.settle()
    page.go_back()
    tab.settle()
    assert asked(tab, "trace") == second
    page.go_back()
    tab.settle()
    assert (asked(tab, "trace"), asked(tab, "token")) == (first, token)
    page.go_forward()
    tab.settle()
    assert asked(tab, "trace") == second


@pytest.mark.parametrize("lag", [60, 200])
def test_back_at_once_over_a_slow_line_keeps_the_two_traces_of_compare(open_tab: Callable[..., Tab], lag: int) -> None:
    """What the page that was left wrote to its address lay on Compare's, or on its entry: five of sixty times, and with a reload two other
    traces were compared."""
    tab = open_tab()
    slow_down(tab, lag)
    first, second = sorted(path.parent.name for path in EXAMPLES.glob("*/trace.json"))[:2]
    page = tab.open("/traces")
    page.get_by_role("textbox", name="Search").fill("capital")  # something is kept: every page names it in its address
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("kept="))
    kept = asked(tab, "kept")
    tab.open(f"/compare?a={first}&b={second}&kept={kept}")
    expect(page.locator(".ns-bubble.assistant")).to_have_count(2, timeout=PATIENCE)
    tab.settle()
    for number in range(10):
        page.get_by_role("navigation", name="App pages").get_by_role("link", name="Traces", exact=True).press("Enter")
        page.wait_for_url(re.compile("/traces"))
        page.wait_for_timeout(5 * number)
        page.go_back()
        page.wait_for_timeout(4 * lag + 400)
        tab.settle()
        assert urlsplit(page.url).path == "/compare"
        assert (asked(tab, "a"), asked(tab, "b")) == (first, second)


def slow_down(tab: Tab, lag: int) -> None:
    """Every message between browser and server takes `lag` milliseconds each way."""

    def later(send: Callable[[str | bytes], None], message: str | bytes) -> None:
        asyncio.get_running_loop().call_later(lag / 1000, lambda: send(message))

    def between(line: WebSocketRoute) -> None:
        server = line.connect_to_server()
        line.on_message(lambda message: later(server.send, message))
        server.on_message(lambda message: later(line.send, message))

    tab.page.route_web_socket(re.compile("_stcore/stream"), between)


def test_back_pressed_while_a_page_is_still_being_drawn_leaves_conversation_and_cards_as_they_were(open_tab: Callable[..., Tab]) -> None:
    tab = open_tab()
    page = tab.open("/")
    tab.ready()
    mine = another_trace_than_the_first(tab)
    page.get_by_role("tab", name="Neurons").click()
    tab.settle()
    tick(tab, 0)
    page.get_by_role("button", name="Suppress").click()
    tab.settle()
    page.get_by_role("tab", name="Steer").click()
    run_steered(tab)
    card = page.get_by_text(re.compile("Suppresses 1 neuron")).first
    expect(card).to_be_visible()
    said = card.inner_text()
    for wait in (0, 150, 400):
        page.get_by_text("Open on its own page").click()
        page.wait_for_url(re.compile(r"/compare\?a=.*kept="), timeout=PATIENCE)
        expect(page.locator(".ns-bubble.assistant")).to_have_count(2, timeout=PATIENCE)
        tab.settle()
        page.reload()
        page.wait_for_selector("[data-test-script-state='running']", timeout=PATIENCE)
        page.wait_for_timeout(wait)
        page.go_back()
        tab.ready()
        expect(page.get_by_text(said, exact=True).first).to_be_visible(timeout=PATIENCE)
        assert asked(tab, "trace") == mine
        assert not asked(tab, "a")
        run_steered(tab)


def another_trace_than_the_first(tab: Tab) -> str:
    """Ask something in a conversation of its own; the id of its trace."""
    tab.page.get_by_role("button", name="New", exact=True).click()
    tab.settle()
    tab.ask("What is the capital of Chile?")
    return asked(tab, "trace")


def test_what_is_typed_survives_a_visit_and_a_reload(open_tab: Callable[..., Tab]) -> None:
    tab = open_tab()
    page = tab.open("/")
    tab.ready()
    box = page.get_by_placeholder("Ask the model something")
    box.fill("half a quest")
    page.get_by_role("link", name="Repair").click()
    tab.settle()
    page.get_by_label("Wanted", exact=True).fill("Ankara")
    page.get_by_label("Wanted", exact=True).press("Tab")
    tab.settle()
    page.get_by_role("link", name="Models").click()
    tab.settle()
    page.get_by_role("link", name="Repair").click()
    tab.settle()
    expect(page.get_by_label("Wanted", exact=True)).to_have_value("Ankara")
    page.reload()
    tab.settle()
    expect(page.get_by_label("Wanted", exact=True)).to_have_value("Ankara")
    page.get_by_role("link", name="Trace").first.click()
    tab.ready()
    expect(box).to_have_value("half a quest")


def test_paths_without_a_page_say_so_and_slash_trace_is_the_trace_page(open_tab: Callable[..., Tab]) -> None:
    tab = open_tab()
    page = tab.open("/nowhere")
    expect(page.get_by_text("There is no page “nowhere” here")).to_be_visible()
    expect(page.get_by_text("Page not found")).to_have_count(0)
    page.goto(tab.app.url + "/trace?view=surprisal")
    tab.settle()
    assert urlsplit(page.url).path == "/"
    assert asked(tab, "view") == "surprisal"
