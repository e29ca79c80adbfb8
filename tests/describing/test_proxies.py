"""An endpoint on this machine is asked directly, whatever proxy the environment names; one elsewhere goes by that proxy."""

from __future__ import annotations

import socket

import pytest

from neurons.describing.bounded_http import is_this_machine
from neurons.describing.endpoint import Client, Endpoint
from tests.support.endpoint_server import GOOD, chat_reply, serving

VARIABLES = ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")


@pytest.fixture
def dead_proxy(monkeypatch: pytest.MonkeyPatch) -> int:
    """The environment names a proxy that nobody runs."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    for name in VARIABLES:
        monkeypatch.setenv(name, f"http://127.0.0.1:{port}")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    return port


def asked(url: str) -> str | None:
    """What failed when the endpoint at `url` was asked; None where it answered."""
    return Client(Endpoint(url, "m", attempts=1, timeout=10)).ask("about a neuron").failure


@pytest.mark.usefixtures("dead_proxy")
def test_an_endpoint_on_this_machine_is_asked_directly() -> None:
    with serving(lambda request, n: chat_reply(GOOD)) as server:
        assert asked(server.url) is None
        assert asked(server.url.replace("127.0.0.1", "localhost")) is None
        assert len(server.asked) == 2


@pytest.mark.usefixtures("dead_proxy")
def test_one_elsewhere_goes_by_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    assert asked("http://endpoint.example/v1") == "down"
    with serving(lambda request, n: chat_reply(GOOD)) as proxy:
        for name in VARIABLES:
            monkeypatch.setenv(name, proxy.url.removesuffix("/v1"))
        assert asked("http://endpoint.example/v1") is None
        assert len(proxy.asked) == 1


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST.", "scope.localhost", "127.0.0.1", "127.8.9.1", "::1", "0.0.0.0", socket.gethostname()]
)
def test_names_and_addresses_of_this_machine(host: str) -> None:
    assert is_this_machine(host)


@pytest.mark.parametrize(
    "host", ["", "example.org", "localhost.example.org", "notlocalhost", "192.0.2.1", "2001:db8::1", "127.0.0.1.example.org"]
)
def test_names_and_addresses_of_others(host: str) -> None:
    assert not is_this_machine(host)


def test_an_address_of_its_own_beside_the_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing; it only chooses the address that would be used
        except OSError:
            pytest.skip("this machine has no other address")
        own = probe.getsockname()[0]
    assert is_this_machine(own)
