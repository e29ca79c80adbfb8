"""`neuronscope run`: starts from any folder, is closed to other machines and host names, stops on a signal."""

from __future__ import annotations

import base64
import http.client
import os
import signal
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.datastructures import Headers

from neurons.cli.run import allowed_hosts, app_script, command, free_port
from neurons.core.errors import InvalidInput
from pages.serving.guard import refusal
from tests.support.ports import unused_port

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, default_model: object) -> Iterator[int]:
    """The app, started as a user would from a folder that has nothing to do with it; its port."""
    port = unused_port()
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    arguments = [sys.executable, "-m", "neurons.cli.main", "run", "--no-browser", "--port", str(port)]
    process = subprocess.Popen(arguments, cwd=tmp_path_factory.mktemp("elsewhere"), env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == f"Neuronscope is at http://127.0.0.1:{port} (Ctrl-C stops it)\n"
    for _ in range(600):
        if status(port, "/_stcore/health") == 200:
            break
        time.sleep(0.1)
    yield port
    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate(timeout=30)
    assert "Traceback" not in rest


def status(port: int, path: str, **headers: str) -> int | None:
    """HTTP status, or None when nobody answers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        return connection.getresponse().status
    except ConnectionError:
        return None
    finally:
        connection.close()


def socket_status(port: int, **headers: str) -> int | None:
    """Status of opening the app's web socket: 101 is open, 403 refused."""
    key = base64.b64encode(bytes(16)).decode()
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec_WebSocket_Version": "13", "Sec_WebSocket_Key": key}
    return status(port, "/_stcore/stream", **upgrade, **headers)


def test_serves_this_machine_only(server: int) -> None:
    assert status(server, "/") == 200
    assert socket_status(server) == 101
    assert socket_status(server, Host=f"localhost:{server}") == 101
    assert socket_status(server, Host="evil.example") == 403
    assert socket_status(server, Origin="http://evil.example") == 403
    assert socket_status(server, Origin=f"http://127.0.0.1:{server}") == 101
    for other in (
        f"http://127.0.0.1:{server + 1}",
        "http://127.0.0.1",
        f"http://localhost:{server}",
        "null",
        f"http://a@127.0.0.1:{server}",
    ):
        assert socket_status(server, Origin=other) == 403, other
    others = {str(info[4][0]) for info in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)} - {"127.0.0.1", "127.0.1.1"}
    for address in others:
        with pytest.raises(OSError, match=r"."):
            socket.create_connection((address, server), timeout=2)


@pytest.mark.parametrize("path", ["/", "/repair", "/_stcore/host-config", "/_stcore/upload_file/a/b", "/static/index.html", "/media/x"])
def test_every_route_looks_at_host_and_origin(server: int, path: str) -> None:
    assert status(server, path, Host="evil.example") == 403
    assert status(server, path, Host=f"127.0.0.1.evil.example:{server}") == 403
    assert status(server, path, Origin=f"http://127.0.0.1:{server + 1}") == 403
    assert status(server, path, Host="127.0.0.1:notaport") == 403


def test_no_page_of_another_origin_can_frame_it(server: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server, timeout=10)
    for path in ("/", "/_stcore/health", "/nowhere"):
        connection.request("GET", path)
        answer = connection.getresponse()
        answer.read()
        assert "frame-ancestors 'none'" in str(answer.getheader("Content-Security-Policy")), path
        assert (answer.getheader("X-Frame-Options"), answer.getheader("X-Content-Type-Options")) == ("DENY", "nosniff")
        assert "SameSite=Lax" not in str(answer.getheader("Set-Cookie"))


def test_a_named_host_may_be_the_public_name_of_a_proxy() -> None:
    hosts = ["localhost", "127.0.0.1", "box"]
    assert refusal(Headers({"host": "box:8501", "origin": "https://box"}), hosts) is None
    assert refusal(Headers({"host": "127.0.0.1:8501", "origin": "https://box"}), hosts) is None
    assert refusal(Headers({"host": "box:8501", "origin": "https://box.evil.example"}), hosts) is not None
    assert refusal(Headers({"host": "box:8501", "origin": "http://localhost"}), hosts) is not None
    assert refusal(Headers({"host": "BOX"}), hosts) is None
    assert refusal(Headers({}), hosts) is not None


def test_settings_that_keep_it_closed() -> None:
    config = tomllib.loads((ROOT / ".streamlit" / "config.toml").read_text())
    assert config["server"]["address"] == "127.0.0.1"
    assert config["server"]["allowedHosts"] == ["localhost", "127.0.0.1"]
    assert config["server"]["enableCORS"]
    assert config["server"]["enableXsrfProtection"]
    assert config["browser"]["gatherUsageStats"] is False
    assert config["client"]["showErrorDetails"] == "none"


def test_every_setting_is_one_that_streamlit_has() -> None:
    from streamlit import config as streamlit_config

    def keys(table: dict[str, object], prefix: str = "") -> Iterator[str]:
        for name, value in table.items():
            if isinstance(value, dict):
                yield from keys(value, f"{prefix}{name}.")
            else:
                yield prefix + name

    config = tomllib.loads((ROOT / ".streamlit" / "config.toml").read_text())
    known = set(streamlit_config.get_config_options())
    assert [key for key in keys(config) if key not in known] == []


def test_the_theme_is_the_palette() -> None:
    from pages.shared.palette import PALETTE

    theme = tomllib.loads((ROOT / ".streamlit" / "config.toml").read_text())["theme"]
    for name, colours in PALETTE.items():
        assert theme[name]["primaryColor"] == colours["selection"]
        assert (theme[name]["blueColor"], theme[name]["orangeColor"]) == (colours["positive"], colours["negative"])
        assert len(theme[name]["chartDivergingColors"]) == len(theme[name]["chartSequentialColors"]) == 10


def test_open_addresses_need_names() -> None:
    assert allowed_hosts("127.0.0.1", []) == ["localhost", "127.0.0.1", "127.0.0.1"]
    assert allowed_hosts("0.0.0.0", ["box"]) == ["localhost", "127.0.0.1", "box"]
    for address in ("0.0.0.0", "192.168.1.2", "::", "box"):
        with pytest.raises(InvalidInput) as caught:
            allowed_hosts(address, [])
        assert caught.value.field == "allow_host"


def test_ports() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(InvalidInput, match=f"port {port} of 127.0.0.1 is taken"):
            free_port("127.0.0.1", port)
    for port in (0, -1, 65_536):
        with pytest.raises(InvalidInput):
            free_port("127.0.0.1", port)


def test_command_line_of_the_server() -> None:
    arguments = command(app_script(), "127.0.0.1", 8600, ["localhost", "127.0.0.1", "127.0.0.1"], headless=True)
    assert arguments[2:5] == ["-m", "streamlit", "run"]
    assert Path(arguments[5]).name == "streamlit_app.py"
    assert arguments.count("--server.allowedHosts") == 2


def test_files_of_the_working_folder_stand_in_for_no_library(tmp_path: Path) -> None:
    (tmp_path / "click.py").write_text("raise SystemExit('this is not the library')")
    arguments = command(app_script(), "127.0.0.1", 8600, [], headless=True)
    shown = subprocess.run([*arguments[:5], "--help"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert (shown.returncode, "Usage" in shown.stdout) == (0, True), shown.stderr
