"""A researcher's hour: a neuron found by meaning, the map of all of them, and two traces taken into pandas and xarray, and compared."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pandas as pd
import pytest
import xarray
from playwright.sync_api import Locator, expect

from tests.support.browser import PATIENCE, Tab
from tests.support.journey import LONGEST, Journey, looks, press, set_out

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]


@looks(1024, dark=False)
def test_from_a_neuron_by_its_meaning_to_two_traces_in_a_notebook(
    open_tab: Callable[..., Tab], tmp_path: Path, width: int, dark: bool
) -> None:
    walk = set_out(open_tab, "researcher", width, dark=dark)
    tab = walk.tab
    tab.open("/neurons")
    find_a_neuron(walk)
    find_on_the_map(walk)
    walk.visit("Trace")
    tab.ready()
    walk.shorten(8)
    first, second = (walk.ask(f"Name a river in {country}. ({walk.name})") for country in ("Peru", "Chile"))
    take_the_table(walk, tmp_path)
    take_the_traces(walk, tmp_path, first, second)
    compare(walk, first, second)
    walk.all_was_readable()


def find_a_neuron(walk: Journey) -> None:
    """By words, then its own page, by the keyboard."""
    tab, page = walk.tab, walk.page
    found = page.get_by_text(re.compile("neuron sides pass"))
    expect(found).to_contain_text("92,160 of 92,160", timeout=PATIENCE)
    words = page.get_by_role("textbox", name="Search")
    words.fill("court and law")
    words.press("Enter")
    expect(found).not_to_contain_text("92,160 of", timeout=LONGEST)
    tab.settle()
    walk.step("searched", lambda: expect(found).not_to_contain_text("92,160 of", timeout=LONGEST))
    walk.choose(0)
    press(page, page.get_by_role("button", name="Open neuron"))
    expect(page.get_by_role("button", name="All neurons")).to_be_visible(timeout=PATIENCE)
    walk.step("neuron", lambda: expect(page.locator(".ns-passage").first).to_be_visible(timeout=LONGEST), away=True)


def find_on_the_map(walk: Journey) -> None:
    """What fires on a subject lights up, and the nearest of it opens; the search is still there after a reload and Back."""
    tab, page = walk.tab, walk.page
    walk.visit("Atlas")
    press(page, page.get_by_role("tab", name="Map"))
    expect(page.locator(".ns-map canvas[data-seen='92160']")).to_be_visible(timeout=LONGEST)
    tab.settle()
    words = page.get_by_role("textbox", name="Search")
    words.fill("football matches")
    words.press("Enter")
    lit = page.get_by_text("Lit: 200 neuron sides")
    expect(lit).to_be_visible(timeout=LONGEST)
    walk.step("map", lambda: expect(lit).to_be_visible(timeout=LONGEST), away=True)
    press(page, page.locator(".ns-map canvas"), "ArrowUp")
    expect(page.locator(".ns-map .tip")).to_contain_text("Click to open it", timeout=PATIENCE)
    name = page.locator(".ns-map .tip .name").inner_text()
    page.keyboard.press("Enter")
    page.wait_for_url(lambda url: parse_qs(urlsplit(url).query).get("neuron") == [name], timeout=PATIENCE)
    tab.settle()


def take_the_table(walk: Journey, folder: Path) -> None:
    """The neurons of the last answer as a pandas table, from both kinds of file."""
    page = walk.page
    press(page, page.get_by_role("tab", name="Neurons"))
    walk.tab.settle()
    press(page, page.get_by_test_id("stPopoverButton").filter(has_text="Export"))
    commas = pd.read_csv(download(walk, page.get_by_role("button", name="CSV", exact=True), folder))
    columns = pd.read_parquet(download(walk, page.get_by_role("button", name="Parquet", exact=True), folder))
    page.keyboard.press("Escape")
    assert list(commas["neuron"]) == list(columns["neuron"])
    assert commas["neuron"].str.fullmatch(r"\d+:\d+[+-]").all()
    assert commas["normalised"].is_monotonic_decreasing


def take_the_traces(walk: Journey, folder: Path, *ids: str) -> None:
    """Both traces in one file, whose arrays plain xarray opens: a greedy answer's tokens are the most probable ones."""
    tab, page = walk.tab, walk.page
    walk.visit("Traces")
    words = page.get_by_placeholder(re.compile("words in prompt"))
    words.fill(walk.name)
    words.press("Enter")
    expect(page.get_by_text(re.compile(r"\b2 shown"))).to_be_visible(timeout=PATIENCE)
    tab.settle()
    walk.choose(0)
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Shift+Space")
    expect(page.get_by_text("2 traces selected")).to_be_visible(timeout=PATIENCE)
    walk.step("selected", lambda: expect(page.get_by_text("2 traces selected")).to_be_visible(timeout=PATIENCE))
    press(page, page.get_by_test_id("stPopoverButton").filter(has_text="Export"))
    archive = download(walk, page.get_by_role("button", name=re.compile("Download 2 traces")), folder)
    page.keyboard.press("Escape")
    with zipfile.ZipFile(archive) as packed:
        packed.extractall(folder / "traces")
    for one in ids:
        record = json.loads((folder / "traces" / one / "trace.json").read_text("utf-8"))
        with xarray.open_zarr(folder / "traces" / one / "tensors.zarr", consolidated=False) as arrays:
            prompt, answer = record["prompt_ids"], record["answer_ids"]
            written = slice(len(prompt), len(prompt) + len(answer) - 1)  # labels: the last one counts
            assert arrays["topk_ids"].sel(candidate=0, token=written).values.tolist() == answer
            assert arrays["activations"].sel(layer=3, token=slice(0, 9)).shape == (10, 1536)


def compare(walk: Journey, *ids: str) -> None:
    """The two that are still selected, side by side."""
    page = walk.page
    press(page, page.get_by_role("button", name="Compare", exact=True))
    page.wait_for_url(re.compile("/compare"), timeout=PATIENCE)
    walk.tab.settle()
    assert {*parse_qs(urlsplit(page.url).query)["a"], *parse_qs(urlsplit(page.url).query)["b"]} == {*ids}
    walk.step("compared", lambda: expect(page.locator(".ns-bubble.assistant")).to_have_count(2, timeout=PATIENCE), away=True)
    press(page, page.get_by_role("tab", name="Probabilities"))
    shown = page.get_by_role("tabpanel", name="Probabilities").get_by_test_id("stDataFrame")
    walk.step("probabilities", lambda: expect(shown).to_be_visible(timeout=PATIENCE), away=True)


def download(walk: Journey, button: Locator, folder: Path) -> Path:
    """What a press of a button gives, under the name that the app gives it."""
    with walk.page.expect_download(timeout=LONGEST) as got:
        press(walk.page, button)
    path = folder / got.value.suggested_filename
    got.value.save_as(path)
    return path
