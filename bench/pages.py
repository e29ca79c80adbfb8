"""How long people wait in the browser: real Chromium, the real app, the default model. Prints each wait beside its limit.

    python bench/pages.py [--clicks 7] [--shot FOLDER]

    click to attributions     a token of a 100-token conversation is clicked in the attribution view, until its table stands (1.5 s)
    open a 500-token trace    from *Open* on the Traces page until its neurons stand in the table, tensors read from disk (1 s)
    select in 2,000 tokens    a click on a token of a 2,000-token trace until it is selected and the sentence above names it
    100,000 rows              a wheel turn over the neuron table of a long trace until it has been redrawn: frames a second while scrolling

The click to attributions is taken in the page itself, from the pointer event to the frame in which its table stands; the others by a driver
that looks twice a second, so they are upper bounds.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from neurons.core.home import home
from neurons.core.types import Sampling
from neurons.models.load import load_model
from neurons.tracing.record import run_trace
from tests.browser.test_steering_journey import tick
from tests.support.browser import PATIENCE, SIZE, App, Tab, start_app, stop_app
from traces.store import TraceStore

PARAGRAPH = (
    "The old harbour town had two bakeries, one bank and a small school. In spring the fishermen mended their nets on the quay, "
    "and the children counted the boats that came home. "
)


WATCH = """text => {
  const says = root => [...root.querySelectorAll("*")].some(
    el => (el.shadowRoot && says(el.shadowRoot)) || (el.matches(".ns-plain") && el.textContent.includes(text)));
  const stands = () => {
    const table = document.querySelector("[data-testid='stDataFrame']");
    return table && !table.closest("[data-stale='true']") && says(document);
  };
  window.nsWait = new Promise(resolve => {
    document.addEventListener("pointerdown", () => {
      const start = performance.now();
      const timer = setInterval(() => {
        if (!stands()) return;
        clearInterval(timer);
        requestAnimationFrame(() => resolve((performance.now() - start) / 1000));
      }, 40);
    }, { capture: true, once: true });
  });
}"""
"""Makes `nsWait`, the seconds from the next click until a text is said above a table that is not being replaced."""


def make_traces(folder: Path) -> dict[int, str]:
    """Traces of about 100, 500 and 2,000 tokens in a home of their own: length -> trace id."""
    loaded = load_model("default")
    store = TraceStore(folder / "traces")
    made = {}
    for length in (100, 500, 2000):
        words = (PARAGRAPH * (length // 30 + 1)).split()
        prompt = " ".join(words[: int((length - 50) / 1.12)])
        record, _ = run_trace(loaded, f"What is this about? {prompt}", sampling=Sampling(max_new_tokens=12), store=store)
        made[length] = record.id
        sys.stderr.write(f"a trace of {len(record.token_ids)} tokens\n")
    return made


def waited(act: Callable[[], object], done: Callable[[], object]) -> float:
    """Seconds from an action until `done` returns."""
    start = time.perf_counter()
    act()
    done()
    return time.perf_counter() - start


def attribution_clicks(tab: Tab, trace: str, clicks: int) -> list[float]:
    """Seconds from the click on an unexplained token to its table."""
    page = tab.open(f"/?trace={trace}&view=attribution")
    tab.ready()
    already = page.locator(".ns-plain", has_text=re.compile(r"all \d+ tokens before it")).first.text_content() or ""
    tokens = page.locator(".ns-list .tok:visible")
    count = tokens.count()
    waits: list[float] = []
    for number in range(clicks + 2):
        token = tokens.nth(count - 3 - number)
        place = token.get_attribute("id")
        position = re.sub(r"\D", "", place or "")
        if f"all {position} tokens" in already or len(waits) > clicks:
            continue
        page.evaluate(WATCH, f"all {position} tokens before it")
        token.click()
        waits.append(float(page.evaluate("window.nsWait")))
        tab.settle()
    return waits[1:]


def opening(tab: Tab, row: int, rounds: int) -> list[float]:
    """Seconds from *Open* on the Traces page to the neuron table of the trace in that row."""
    page = tab.page
    waits = []
    for _ in range(rounds):
        tab.open("/traces")
        tab.settle()
        tick(tab, row)
        button = page.get_by_role("button").filter(has_text=re.compile("Open$"))
        waits.append(waited(button.click, partial(table_stands, page)))
        tab.settle()
    return waits


def table_stands(page: Page) -> None:
    """Wait for the strip and the neuron table."""
    page.locator(".ns-list .tok").nth(100).wait_for(timeout=PATIENCE)
    page.get_by_test_id("stDataFrame").first.wait_for(timeout=PATIENCE)


def selecting(tab: Tab, trace: str, clicks: int) -> list[float]:
    """Seconds from a click in a long strip to the sentence about the token."""
    page = tab.open(f"/?trace={trace}&view=surprisal")
    tab.ready()
    tokens = page.locator(".ns-list .tok:visible")
    count = tokens.count()
    waits = []
    for number in range(clicks + 1):
        position = count - 20 - 3 * number
        waits.append(waited(tokens.nth(position).click, lambda: page.wait_for_url(re.compile(r"token="), timeout=PATIENCE)))
        tab.settle()
        page.keyboard.press("Escape")
        page.wait_for_url(re.compile(r"^(?!.*token=)"), timeout=PATIENCE)
        tab.settle()
    return waits[1:]


def frames_while_scrolling(tab: Tab, trace: str) -> float:
    """Frames a second while the neuron table of all tokens is scrolled."""
    page = tab.open(f"/?trace={trace}")
    tab.ready()
    tab.settle()
    box = page.get_by_test_id("stDataFrame").first.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.evaluate("() => { window.nsFrames = 0; const step = () => { window.nsFrames += 1; requestAnimationFrame(step); }; step(); }")
    start, first = time.perf_counter(), page.evaluate("window.nsFrames")
    while time.perf_counter() - start < 3:
        page.mouse.wheel(0, 900)
        page.wait_for_timeout(16)
    return float(page.evaluate("window.nsFrames") - first) / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clicks", type=int, default=7)
    parser.add_argument("--shot", type=Path, default=None)
    options = parser.parse_args()
    browser_path = next((found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None)
    if browser_path is None:
        raise SystemExit("Chromium is not installed (Debian: apt-get install chromium)")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "models").symlink_to(home() / "models", target_is_directory=True)
        os.environ["NEURONSCOPE_HOME"] = str(place)
        traces = make_traces(place)
        with sync_playwright() as playwright:
            chromium = playwright.chromium.launch(executable_path=browser_path, args=["--no-sandbox", "--disable-dev-shm-usage"])
            page = chromium.new_context(viewport=SIZE, reduced_motion="reduce").new_page()
            page.set_default_timeout(PATIENCE)
            start = time.perf_counter()
            app: App = start_app(place, place / "app.log")
            try:
                tab = Tab(page, app, options.shot or place)
                tab.open()
                tab.ready()
                print(f"start of the app to a ready model in the browser: {time.perf_counter() - start:.1f} s (limit 10 s)")
                show("click to attributions, 100 tokens", attribution_clicks(tab, traces[100], options.clicks), 1.5)
                show("open a 500-token trace", opening(tab, 1, 5), 1.0)
                show("select in 2,000 tokens", selecting(tab, traces[2000], options.clicks), None)
                print(f"scrolling the neuron table of 2,000 tokens: {frames_while_scrolling(tab, traces[2000]):.0f} frames a second")
                if options.shot:
                    tab.shoot("bench-pages")
            finally:
                stop_app(app)
                chromium.close()


def show(what: str, waits: list[float], limit: float | None) -> None:
    """One line a measurement."""
    median = statistics.median(waits)
    bound = "" if limit is None else f" (limit {limit:g} s: {'kept' if median <= limit else 'not kept'})"
    print(f"{what}: median {median:.2f} s of {len(waits)}, from {min(waits):.2f} to {max(waits):.2f}{bound}", flush=True)


if __name__ == "__main__":
    main()
