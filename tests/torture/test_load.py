"""Many browsers on one server, half of them steering: asking, reloading, leaving. Answers as alone, no error, memory that does not grow."""

from __future__ import annotations

import json
import random
import re
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from playwright.sync_api import Browser, Page, expect

from neurons.core.steers import Steer
from neurons.core.types import NeuronSide, Sampling
from neurons.models.loaded import LoadedModel
from neurons.runs.steering import steer_to_json
from neurons.tracing.record import run_trace
from pages.shared.desk import FORMAT
from tests.support.browser import PATIENCE, App, start_app, stop_app
from tests.support.tally import size, tally
from traces import TraceStore

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(1500)]
SESSIONS, SECONDS = size(3, 20), size(25, 240)
QUESTIONS = ("What is one?", "What is two?", "What is three?", "Tell me a story.")
DESK = "0123456789abcdef"
STEER = Steer((NeuronSide(1, 3), NeuronSide(2, 5)), "set", 4.0, values=(1.0, -1.0))


@pytest.fixture
def app(tmp_path: Path, tiny_folder: Path) -> Iterator[App]:
    desks = tmp_path / "home" / "desks"
    desks.mkdir(parents=True)
    kept = {"format": FORMAT, "version": 1, "values": {}, "cards": [steer_to_json(STEER)], "sampling": None, "system": ""}
    (desks / f"{DESK}.json").write_text(json.dumps(kept))
    running = start_app(tmp_path / "home", tmp_path / "app.log", NEURONSCOPE_MODEL=str(tiny_folder), NEURONSCOPE_CACHE_MB="50")
    yield running
    stop_app(running)


class Person:
    """One browser session and what it complained about."""

    def __init__(self, browser: Browser, app: App, *, steering: bool) -> None:
        self.browser, self.app, self.steering = browser, app, steering
        self.complaints: list[str] = []
        self.asked = self.steered = self.waited = 0
        self.page = self.enter()

    def enter(self) -> Page:
        page = self.browser.new_context().new_page()
        page.set_default_timeout(PATIENCE)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.goto(self.home())
        return page

    def home(self) -> str:
        """The first page, with a steer on a card for those who steer."""
        return f"{self.app.url}/?kept={DESK}" if self.steering else f"{self.app.url}/"

    def act(self, rng: random.Random) -> None:
        kind = rng.choices(("ask", "reload", "leave", "browse"), (6, 2, 1, 2))[0]
        if kind == "ask" and self.steering and rng.random() < 0.5:
            self.run_steered()
        elif kind == "ask":
            self.ask(rng.choice(QUESTIONS))
        elif kind == "reload":
            self.page.reload()
        elif kind == "leave":
            self.page.context.close()
            self.page = self.enter()
        else:
            self.page.goto(f"{self.app.url}/{rng.choice(('traces', 'prompts', 'models', 'tours'))}")
            self.page.wait_for_selector("[data-testid='stApp']")
            self.page.goto(self.home())

    def ask(self, question: str) -> None:
        box = self.page.get_by_placeholder("Ask the model something")
        expect(box).to_be_enabled(timeout=PATIENCE)
        box.fill(question)
        box.press("Enter")
        self.asked += 1

    def run_steered(self) -> None:
        """The open conversation's last turn, without and with the steer; who still waits for an answer leaves it at that."""
        self.page.get_by_role("tab", name="Steer").click()
        run = self.page.get_by_role("button", name="Run steered")
        expect(run).to_be_visible(timeout=PATIENCE)
        if run.is_enabled():
            run.click()
            self.steered += 1

    def look(self) -> None:
        """Whether a place in the line is shown."""
        self.waited += self.page.get_by_text(re.compile(r"\d+ (is|are) before you")).count()

    def errors(self) -> list[str]:
        shown = self.page.locator("[data-testid='stAlertContentError'], [data-testid='stException']")
        return [*self.complaints, *shown.all_inner_texts()]


def test_many_people_at_once(browser: Browser, app: App, tiny_folder: Path) -> None:
    rng = random.Random(3)
    people = [Person(browser, app, steering=bool(number % 2)) for number in range(SESSIONS)]
    server, sizes = psutil.Process(app.process.pid), []
    begun = time.monotonic()
    actions = 0
    while time.monotonic() - begun < SECONDS or actions < SESSIONS:
        people[actions % SESSIONS].act(rng)
        for person in people:
            person.look()
        actions += 1
        sizes.append(server.memory_info().rss)
    problems = [problem for person in people for problem in person.errors()]
    for person in people:
        person.page.context.close()
    grown = sizes[-1] / sizes[len(sizes) // 2] - 1
    wrong = answers_other_than_alone(app, tiny_folder)
    steered, waited = (sum(counts) for counts in zip(*((person.steered, person.waited) for person in people), strict=True))
    what = f"load: {SESSIONS} browsers, {steered} steered runs, a place in line shown {waited} times, growth {100 * grown:.0f}%"
    tally(what, actions, len(problems) + len(wrong))
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
