"""The app under a path of a reverse proxy's address: every link, download, redirect and the printed address carry it."""

from __future__ import annotations

import base64
import http.client
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import expect

from tests.support.browser import PATIENCE, ROOT, App, Tab
from tests.support.ports import unused_port
from tests.support.reverse_proxy import ReverseProxy, reverse_proxy

pytestmark = pytest.mark.browser
NAME = "scope.localhost"  # every browser takes names that end so for this machine
BASE = "/tools/scope"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, browser: object) -> Iterator[int]:
    """The port of an app that was started for a base path."""
    folder = tmp_path_factory.mktemp("base")
    home = folder / "home"
    home.mkdir()
    (home / "models").symlink_to(Path(os.environ["NEURONSCOPE_HOME"]) / "models", target_is_directory=True)
    port = unused_port()
    words = ["run", "--no-browser", "--port", str(port), "--base-path", BASE + "/", "--allow-host", NAME]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NEURONSCOPE_HOME": str(home)}
    with (folder / "app.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "neurons.cli.start", *words], cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=log, text=True
        )
        assert process.stdout is not None
        assert process.stdout.readline() == f"Neuronscope is at http://127.0.0.1:{port}{BASE} (Ctrl-C stops it)\n"
        deadline = time.monotonic() + 180
        while answer(f"http://127.0.0.1:{port}{BASE}/_stcore/health") != 200:
            assert time.monotonic() < deadline
            time.sleep(0.3)
        yield port
        process.terminate()
        process.communicate(timeout=60)


def answer(address: str) -> int | None:
    try:
        with urllib.request.urlopen(address, timeout=10) as found:
            return int(found.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return None


@pytest.fixture(params=[(False, False), (True, True)], ids=["path and host left", "path taken off, own host"])
def proxy(request: pytest.FixtureRequest, served: int) -> Iterator[ReverseProxy]:
    strips, own_host = request.param
    with reverse_proxy(served, BASE, strips=strips, own_host=own_host) as running:
        yield running


def under(tab: Tab, selector: str) -> set[str]:
    """The paths that links lead to, as the browser resolves them."""
    addresses = tab.page.locator(selector).evaluate_all("links => links.map((link) => link.href)")
    return {urlsplit(address).path for address in addresses}


def test_everything_stays_under_the_path(open_tab: Callable[..., Tab], proxy: ReverseProxy, served: int, tmp_path: Path) -> None:
    site = f"http://{NAME}:{proxy.port}{BASE}"
    tab = open_tab(on=App(site, tmp_path, None, tmp_path / "no.log"))  # type: ignore[arg-type]
    page = tab.open("/")
    tab.ready()
    assert all(path.startswith(f"{BASE}/") for path in under(tab, "a[href]") if path != BASE)
    page.get_by_role("button", name="A wrong capital").click()
    expect(page.get_by_test_id("stCode").first).to_contain_text(f"http://{NAME}:{proxy.port}{BASE}/?trace=")
    with page.expect_download() as taken:
        page.get_by_test_id("stDownloadButton").first.get_by_role("button").click()
    assert taken.value.path().stat().st_size > 0
    page.keyboard.press("Escape")

    tab.open("/neurons?neuron=17:803%2B&view=neighbours")
    expect(page.locator("a[href*='neuron=']").first).to_be_visible(timeout=PATIENCE)
    paths = under(tab, "a[href*='neuron=']")
    assert paths == {f"{BASE}/neurons"}
    page.locator("a[href*='neuron=']").first.click()
    tab.settle()
    assert urlsplit(page.url).path == f"{BASE}/neurons"
    page.go_back()
    tab.settle()
    assert "17:803" in page.url.replace("%3A", ":")

    tab.open("/nowhere/at/all?x=1")
    expect(page.get_by_text("There is no page")).to_be_visible()
    assert urlsplit(page.url).path == f"{BASE}/"
    page.goto(f"{site}?trace=unknown")  # no slash at the end
    tab.settle()
    expect(page.get_by_text("which is not on this machine")).to_be_visible()
    page.get_by_role("link", name="Traces").click()
    tab.settle()
    assert urlsplit(page.url).path == f"{BASE}/traces"
    page.reload()
    tab.settle()
    expect(page.get_by_test_id("stDataFrame")).to_be_visible()
    assert proxy.refused == 0, "something was asked for outside of the path"


def test_foreign_pages_are_refused_there_too(proxy: ReverseProxy) -> None:
    request = urllib.request.Request(f"http://127.0.0.1:{proxy.port}{BASE}/", headers={"Host": NAME, "Origin": "http://evil.example"})
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=30)
    assert refused.value.code == 403


def test_web_sockets_open_through_the_proxy(proxy: ReverseProxy) -> None:
    key = base64.b64encode(bytes(16)).decode()
    asked = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": key}
    for origin, status in ((f"http://{NAME}:{proxy.port}", 101), ("http://evil.example", 403)):
        connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=60)
        headers = {**asked, "Host": f"{NAME}:{proxy.port}", "Origin": origin}
        connection.request("GET", f"{BASE}/_stcore/stream", headers=headers)
        assert connection.getresponse().status == status
        connection.close()
