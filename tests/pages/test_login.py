"""The password in front of a server that other machines can reach: real requests to a real server on all addresses of this machine."""

from __future__ import annotations

import http.client
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest

from neurons.cli.run import PASSWORD_VARIABLE
from neurons.core.errors import InvalidInput
from neurons.storage.password import is_password, is_set, set_password
from tests.support.ports import unused_port

ROOT = Path(__file__).resolve().parents[2]
SECRET = "a long secret & more"


def test_a_password_is_kept_as_a_hash_that_only_its_owner_reads(home: Path) -> None:
    assert not is_set()
    assert not is_password("")
    set_password(SECRET)
    assert is_set()
    assert is_password(SECRET)
    assert not is_password(SECRET + "x")
    assert SECRET not in (home / "password").read_text()
    assert (home / "password").read_text().startswith("$argon2id$")
    if os.name == "posix":
        assert (home / "password").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("text", ["", "short", "x" * 1001])
def test_a_poor_password_is_refused_and_the_old_one_stays(home: Path, text: str) -> None:
    set_password(SECRET)
    with pytest.raises(InvalidInput, match="use 8 to 1000"):
        set_password(text)
    assert is_password(SECRET)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, default_model: object) -> Iterator[int]:
    """The app on all addresses of this machine, with a password; its port."""
    folder = tmp_path_factory.mktemp("open")
    port = unused_port("0.0.0.0")
    arguments = [sys.executable, "-m", "neurons.cli.main", "run", "--no-browser", "--port", str(port), "--address", "0.0.0.0"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), PASSWORD_VARIABLE: SECRET}
    process = subprocess.Popen([*arguments, "--allow-host", "box"], cwd=folder, env=environment, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while ask(port, "GET", "/_stcore/health")[0] != 200:
        assert time.monotonic() < deadline, "the server did not start"
        time.sleep(0.2)
    yield port
    process.terminate()
    process.wait(timeout=30)


def ask(port: int, method: str, path: str, body: str | None = None, **headers: str) -> tuple[int | None, dict[str, str], str]:
    """Status, headers and text of an answer; no status when nobody answers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request(method, path, body, {"Content-Type": "application/x-www-form-urlencoded", **headers})
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read().decode()
    except ConnectionError:
        return None, {}, ""
    finally:
        connection.close()


def test_without_the_password_nothing_is_shown(server: int) -> None:
    for path in ("/", "/traces?trace=abc", "/_stcore/host-config", "/_stcore/stream"):
        status, headers, text = ask(server, "GET", path)
        assert status == 401, path
        assert "Password of this server" in text
        assert headers["cache-control"] == "no-store"
    status, _, text = ask(server, "GET", '/"><script>alert(1)</script>'.replace(" ", "%20"))
    assert status == 401
    assert "<script>" not in text


def test_the_password_opens_the_page_that_was_asked_for(server: int) -> None:
    wrong = ask(server, "POST", "/neuronscope-login", urlencode({"password": "not that one", "next": "/repair"}))
    assert wrong[0] == 401
    assert "not the password" in wrong[2]
    status, headers, _ = ask(server, "POST", "/neuronscope-login", urlencode({"password": SECRET, "next": "/traces?trace=abc"}))
    assert (status, headers["location"]) == (303, "/traces?trace=abc")
    cookie = headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "samesite=strict" in cookie.lower()
    token = cookie.split(";")[0]
    assert ask(server, "GET", "/", Cookie=token)[0] == 200
    assert ask(server, "GET", "/", Cookie=token + "x")[0] == 401
    away = ask(server, "POST", "/neuronscope-login", urlencode({"password": SECRET, "next": "//evil.example/"}))
    assert away[1]["location"] == "/"
    assert ask(server, "POST", "/neuronscope-login", "password=" + "x" * 5000)[0] == 413


def test_an_open_address_needs_a_password(home: Path) -> None:
    arguments = [sys.executable, "-m", "neurons.cli.main", "run", "--no-browser", "--address", "0.0.0.0", "--allow-host", "box"]
    done = subprocess.run(arguments, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 2
    assert PASSWORD_VARIABLE in done.stderr
