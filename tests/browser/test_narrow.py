"""Every page at 1024 and at 1440 pixels: nothing has to be scrolled sideways (a table's own edge, some pixels, left out)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.browser import Tab
from tests.support.page_list import page_list

pytestmark = pytest.mark.browser

BOXES = "[data-testid='stMain'], [data-testid='stMainBlockContainer'], [data-testid='stColumn'], html"
WIDER = """(boxes) => [...document.querySelectorAll(boxes)]
  .filter((box) => box.clientWidth > 0 && box.scrollWidth > box.clientWidth + 12)
  .map((box) => `${box.dataset.testid ?? box.tagName}: ${box.scrollWidth} in ${box.clientWidth}`)"""


@pytest.mark.parametrize("width", [1024, 1440])
def test_no_page_is_wider_than_the_window(open_tab: Callable[..., Tab], width: int) -> None:
    tab = open_tab(viewport={"width": width, "height": 900})
    wide = {}
    for name in page_list():
        page = tab.open("/" if name == "trace" else f"/{name}")
        if found := page.evaluate(WIDER, BOXES):
            wide[name] = found
        tab.shoot(f"width-{width}-{name}")
    assert not wide
