"""The guard in conftest.py: no test reaches another machine, and what loopback does is allowed."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress
from urllib.request import urlopen

import pytest

ELSEWHERE = ("192.0.2.1", 80)  # reserved for documentation: nobody answers


def connect() -> None:
    """By address."""
    with socket.socket() as client:
        client.settimeout(1)
        client.connect(ELSEWHERE)


def connect_softly() -> None:
    """By the call that returns an error's number."""
    with socket.socket() as client:
        client.settimeout(1)
        client.connect_ex(ELSEWHERE)


def send() -> None:
    """Without a connection."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.sendto(b"x", ELSEWHERE)


def look_up() -> None:
    """A name."""
    socket.getaddrinfo("example.org", 80)


def fetch() -> None:
    """By the standard library's client, whose own errors are caught."""
    with suppress(OSError):
        urlopen("http://192.0.2.1/", timeout=1)


@pytest.mark.parametrize("reach", [connect, connect_softly, send, look_up, fetch])
def test_another_machine_is_refused(reach: Callable[[], None]) -> None:
    """By a failure of the test that no handler for broken networks hides."""
    with pytest.raises(pytest.fail.Exception, match="a test reached for the network"):
        reach()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_loopback_is_allowed(host: str) -> None:
    """A server of the test's own."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()[:2]) as client:
        assert client.getpeername() == server.getsockname()
        assert socket.getaddrinfo(host, 80, socket.AF_INET)[0][4] == ("127.0.0.1", 80)


def test_a_file_of_the_system_is_no_machine() -> None:
    """Two ends of a pair, without an address."""
    first, second = socket.socketpair()
    with first, second:
        first.sendall(b"x")
        assert second.recv(1) == b"x"
