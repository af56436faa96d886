"""The guard in conftest.py: no test can reach a different machine, and loopback connections are allowed."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress
from urllib.request import urlopen

import pytest

ELSEWHERE = ("192.0.2.1", 80)  # reserved for documentation; no machine answers


def connect() -> None:
    """Connect to an address."""
    with socket.socket() as client:
        client.settimeout(1)
        client.connect(ELSEWHERE)


def connect_softly() -> None:
    """Connect with the call that returns an error number."""
    with socket.socket() as client:
        client.settimeout(1)
        client.connect_ex(ELSEWHERE)


def send() -> None:
    """Send a datagram without a connection."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.sendto(b"x", ELSEWHERE)


def look_up() -> None:
    """Look up a host name."""
    socket.getaddrinfo("example.org", 80)


def fetch() -> None:
    """Fetch a page with the standard library's client, and suppress its own errors."""
    with suppress(OSError):
        urlopen("http://192.0.2.1/", timeout=1)


@pytest.mark.parametrize("reach", [connect, connect_softly, send, look_up, fetch])
def test_another_machine_is_refused(reach: Callable[[], None]) -> None:
    """The guard fails the test, and handlers for network errors cannot hide the failure."""
    with pytest.raises(pytest.fail.Exception, match="a test reached for the network"):
        reach()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_loopback_is_allowed(host: str) -> None:
    """A test can connect to its own server."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()[:2]) as client:
        assert client.getpeername() == server.getsockname()
        assert socket.getaddrinfo(host, 80, socket.AF_INET)[0][4] == ("127.0.0.1", 80)


def test_a_file_of_the_system_is_no_machine() -> None:
    """A socket pair, which has no address, is allowed."""
    first, second = socket.socketpair()
    with first, second:
        first.sendall(b"x")
        assert second.recv(1) == b"x"
