"""The server as a process: SIGTERM ends it while it computes, Ctrl-C saves an answer under way, a closed tab's uploads leave its memory."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.support.browser import PATIENCE, App, Tab, start_app, stop_app
from traces.store import TraceStore

pytestmark = pytest.mark.browser
SLOW = Path(__file__).with_name("slow_app.py")


@pytest.fixture
def slow(browser: object, tmp_path: Path) -> Iterator[App]:
    running = start_app(tmp_path / "home", tmp_path / "app.log", script=SLOW)
    yield running
    stop_app(running)


@pytest.mark.parametrize("button", ["Compute", "Compute here"])
def test_sigterm_ends_the_server_while_it_computes(open_tab: Callable[..., Tab], slow: App, button: str) -> None:
    tab = open_tab(on=slow)
    tab.open("/")
    tab.page.get_by_role("button", name=button, exact=True).click()
    expect(tab.page.get_by_text("computing")).to_be_visible()
    os.kill(slow.process.pid, signal.SIGTERM)
    slow.process.wait(60)
    tab.complaints.clear()  # the page says that its server has gone


def test_ctrl_c_in_the_middle_of_an_answer_saves_it(open_tab: Callable[..., Tab], browser: object, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "models").symlink_to(Path(os.environ["NEURONSCOPE_HOME"]) / "models", target_is_directory=True)
    running = start_app(home, tmp_path / "app.log")
    try:
        tab = open_tab(on=running)
        tab.open("/")
        tab.ready()
        box = tab.page.get_by_placeholder("Ask the model something")
        box.fill("Write a long story about a lighthouse.")
        box.press("Enter")
        expect(tab.page.get_by_text("tokens so far")).to_be_visible(timeout=PATIENCE)
        os.kill(running.process.pid, signal.SIGINT)
        running.process.wait(60)
    finally:
        stop_app(running)
    (newest, *_) = TraceStore(home / "traces", examples=None).list()
    record = TraceStore(home / "traces", examples=None).load(newest.id)
    assert record.messages[-1].content == "Write a long story about a lighthouse."
    assert record.finish_reason == "cancelled"
    assert record.answer_ids
    tab.complaints.clear()  # the page says that its server has gone


def test_the_uploads_of_a_closed_tab_are_let_go(open_tab: Callable[..., Tab], slow: App, tmp_path: Path) -> None:
    file = tmp_path / "large.bin"
    file.write_bytes(os.urandom(5_000_000))
    tab, other = open_tab(on=slow), open_tab(on=slow)
    tab.open("/")
    tab.settle()
    tab.page.locator("input[type=file]").set_input_files(file)
    expect(tab.page.get_by_text("5000000 bytes", exact=True)).to_be_visible()
    other.open("/")
    expect(other.page.get_by_text("the server holds 5000000 bytes")).to_be_visible()
    tab.page.close()
    deadline = time.monotonic() + 150  # a minute and a half in which the tab may come back, and the sweep's round
    while not other.page.get_by_text("the server holds 0 bytes").is_visible():
        assert time.monotonic() < deadline, "the upload is still in memory"
        time.sleep(5)
        other.page.reload()
        other.settle()
