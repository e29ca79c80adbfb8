"""Many browsers on one server: asking, stopping, reloading, leaving. Answers as alone, no error on any page, memory that does not grow."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from playwright.sync_api import Browser, Page, expect

from neurons.core.types import Sampling
from neurons.models.loaded import LoadedModel
from neurons.tracing.record import run_trace
from tests.support.browser import PATIENCE, App, start_app, stop_app
from tests.support.tally import size, tally
from traces import TraceStore

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(1500)]
SESSIONS, SECONDS = size(3, 20), size(25, 240)
QUESTIONS = ("What is one?", "What is two?", "What is three?", "Tell me a story.")


@pytest.fixture
def app(tmp_path: Path, tiny_folder: Path) -> Iterator[App]:
    (tmp_path / "home").mkdir()
    running = start_app(tmp_path / "home", tmp_path / "app.log", NEURONSCOPE_MODEL=str(tiny_folder), NEURONSCOPE_CACHE_MB="50")
    yield running
    stop_app(running)


class Person:
    """One browser session and what it complained about."""

    def __init__(self, browser: Browser, app: App) -> None:
        self.browser, self.app = browser, app
        self.complaints: list[str] = []
        self.asked = 0
        self.page = self.enter()

    def enter(self) -> Page:
        page = self.browser.new_context().new_page()
        page.set_default_timeout(PATIENCE)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.goto(f"{self.app.url}/")
        return page

    def act(self, rng: random.Random) -> None:
        kind = rng.choices(("ask", "reload", "leave", "browse"), (6, 2, 1, 2))[0]
        if kind == "ask":
            self.ask(rng.choice(QUESTIONS))
        elif kind == "reload":
            self.page.reload()
        elif kind == "leave":
            self.page.context.close()
            self.page = self.enter()
        else:
            self.page.goto(f"{self.app.url}/{rng.choice(('traces', 'prompts', 'models', 'tours'))}")
            self.page.wait_for_selector("[data-testid='stApp']")
            self.page.goto(f"{self.app.url}/")

    def ask(self, question: str) -> None:
        box = self.page.get_by_placeholder("Ask the model something")
        expect(box).to_be_enabled(timeout=PATIENCE)
        box.fill(question)
        box.press("Enter")
        self.asked += 1

    def errors(self) -> list[str]:
        shown = self.page.locator("[data-testid='stAlertContentError'], [data-testid='stException']")
        return [*self.complaints, *shown.all_inner_texts()]


def test_many_people_at_once(browser: Browser, app: App, tiny_folder: Path) -> None:
    rng = random.Random(3)
    people = [Person(browser, app) for _ in range(SESSIONS)]
    server, sizes = psutil.Process(app.process.pid), []
    begun = time.monotonic()
    actions = 0
    while time.monotonic() - begun < SECONDS or actions < SESSIONS:
        people[actions % SESSIONS].act(rng)
        actions += 1
        sizes.append(server.memory_info().rss)
    problems = [problem for person in people for problem in person.errors()]
    for person in people:
        person.page.context.close()
    grown = sizes[-1] / sizes[len(sizes) // 2] - 1
    wrong = answers_other_than_alone(app, tiny_folder)
    tally(f"load: {SESSIONS} browsers, {actions} actions, growth {100 * grown:.0f}%", actions, len(problems) + len(wrong))
    assert not problems
    assert not wrong
    assert grown < 0.1
    assert "Traceback" not in app.log.read_text(errors="replace")


def answers_other_than_alone(app: App, tiny_folder: Path) -> list[str]:
    """Unsteered greedy answers whose ids are not those of a run alone."""
    from neurons.models.load import load_model

    loaded: LoadedModel = load_model(str(tiny_folder), device="cpu")
    store = TraceStore(app.home / "traces", examples=None)
    wrong, compared = [], 0
    for row in store.list(limit=10_000):
        record = store.load(row.id)
        if record.steers or not record.sampling.greedy:
            continue
        alone, _ = run_trace(loaded, record.messages, sampling=Sampling(max_new_tokens=max(1, len(record.answer_ids))))
        compared += 1
        if alone.answer_ids[: len(record.answer_ids)] != record.answer_ids:
            wrong.append(record.id)
    assert compared, "nobody was answered"
    return wrong
