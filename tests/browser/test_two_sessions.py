"""Two browsers on one server at once, one steered and one not: the steer reaches only its own run."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from tests.browser.test_steering_journey import ISTANBUL, QUESTION, ask, type_steer
from tests.support.browser import PATIENCE, Tab
from traces.store import TraceStore

pytestmark = pytest.mark.browser


def test_a_steer_never_reaches_another_session(open_tab: Callable[..., Tab]) -> None:
    steering, plain = open_tab(), open_tab()
    ask(steering)
    first = re.search(r"trace=([0-9a-f]{12})", steering.page.url)
    assert first is not None
    type_steer(steering, ISTANBUL, "says Istanbul")
    page = plain.open()
    plain.ready()
    if page.get_by_role("button", name="New", exact=True).count():
        page.get_by_role("button", name="New", exact=True).click()
        plain.settle()

    box = page.get_by_placeholder("Ask the model something")
    box.fill(QUESTION)
    steering.page.get_by_role("button", name="Run steered").click()
    box.press("Enter")
    expect(page.get_by_role("button", name="Regenerate")).to_be_visible(timeout=2 * PATIENCE)
    plain.ready()
    expect(steering.page.get_by_text("Open on its own page")).to_be_visible(timeout=2 * PATIENCE)
    steering.settle()

    expect(page.locator(".ns-bubble.assistant").last).to_contain_text("Istanbul")
    expect(steering.page.locator(".ns-bubble.assistant").nth(2)).to_contain_text("Ankara")
    second = re.search(r"trace=([0-9a-f]{12})", page.url)
    assert second is not None
    store = TraceStore(steering.app.home / "traces")
    baseline, unsteered = store.load(first[1]), store.load(second[1])
    assert unsteered.token_ids == baseline.token_ids
    assert not unsteered.steers
    assert store.read(first[1], "activations").tobytes() == store.read(second[1], "activations").tobytes()
    assert not plain.page.get_by_text("Suppresses 3 neurons").count()
