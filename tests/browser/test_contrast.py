"""What people with poor sight, or without a mouse, need of every page, light and dark: axe-core finds no serious violation.

The violations listed in `STREAMLITS_OWN` are of widgets that Streamlit draws and that no option of it changes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from tests.support.browser import PATIENCE, Tab
from traces.store import TraceStore

pytestmark = pytest.mark.browser
COMPARED = next(f"/compare?a={record.baseline_id}&b={record.id}" for record in TraceStore().examples() if record.baseline_id)
"""The two examples of one question."""
PATHS = (
    "/",
    COMPARED,
    "/traces",
    "/neurons",
    "/neurons?neuron=17:803%2B",
    "/concepts",
    "/prompts",
    "/atlas",
    "/repair",
    "/experiments",
    "/tours",
    "/models",
)
WORST = ("serious", "critical")
STREAMLITS_OWN: dict[str, tuple[str, ...]] = {}
"""Rule, and what stands in the markup of the element."""


def violations(tab: Tab) -> list[str]:
    """What axe finds on the page as it is, one line each."""
    found: list[dict[str, Any]] = Axe().run(tab.page, options={"resultTypes": ["violations"]}).response["violations"]
    return [
        f"{rule['id']} {node['target']}: {node['html'][:150]} {node['failureSummary'][:200]}"
        for rule in found
        if rule["impact"] in WORST
        for node in rule["nodes"]
        if not any(mark in node["html"] for mark in STREAMLITS_OWN.get(rule["id"], ()))
    ]


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_every_page_can_be_read(open_tab: Callable[..., Tab], dark: bool) -> None:
    tab, said = open_tab(dark=dark), []
    for path in PATHS:
        tab.open(path)
        said += [f"{path} {line}" for line in violations(tab)]
    assert not said, "\n".join(said)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_a_button_that_waits_shows_its_label(open_tab: Callable[..., Tab], dark: bool) -> None:
    page = open_tab(dark=dark).open("/traces")
    button = page.get_by_test_id("stBaseButton-primary").filter(has_text="Open")
    expect(button).to_be_disabled(timeout=PATIENCE)
    others = page.get_by_role("button", name="Replay")
    colour = "button => getComputedStyle(button).color"
    assert button.evaluate(colour) == others.evaluate(colour), "not pale like the buttons beside it"


def test_the_page_of_a_trace_fits_the_window(tab: Tab) -> None:
    page = tab.open("/")
    tab.ready()
    page.wait_for_timeout(3000)
    over = page.get_by_test_id("stMain").evaluate("main => main.scrollHeight - main.clientHeight")
    assert over == 0


def test_an_enter_of_an_input_method_sends_nothing(tab: Tab) -> None:
    page = tab.open("/")
    tab.ready()
    box = page.get_by_placeholder("Ask the model something")
    box.click()
    method = page.context.new_cdp_session(page)
    method.send("Input.imeSetComposition", {"text": "にほん", "selectionStart": 3, "selectionEnd": 3})
    enter = {"type": "rawKeyDown", "key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 229}
    method.send("Input.dispatchKeyEvent", enter)
    method.send("Input.insertText", {"text": "日本"})
    safari = "box => box.dispatchEvent(new KeyboardEvent('keydown', {key: 'Enter', keyCode: 229, bubbles: true, cancelable: true}))"
    box.evaluate(safari)
    tab.settle()
    expect(box).to_have_value("日本")
    expect(page.get_by_test_id("stMainBlockContainer").get_by_role("button", name="Stop")).to_have_count(0)
    box.press("Enter")
    expect(page.get_by_test_id("stMainBlockContainer").get_by_role("button", name="Stop")).to_be_visible(timeout=PATIENCE)
    tab.answered()


def test_a_text_from_right_to_left_begins_at_the_right(tab: Tab) -> None:
    page = tab.open("/")
    tab.ready()
    tab.ask("ما هي عاصمة تركيا؟")
    body = page.locator(".ns-bubble.user .ns-body").last
    mark = body.locator(".tok:not(.template)").last.bounding_box()
    whole = body.bounding_box()
    assert mark is not None
    assert whole is not None
    assert mark["x"] < whole["x"] + whole["width"] / 2, "the question mark, which comes last, stands left"
