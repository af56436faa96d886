"""Settings for every test: floating-point traps and network access are errors, and property tests are repeatable."""

from __future__ import annotations

import os

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # the workers must not compete for the cores

import subprocess
import sys
from collections.abc import Iterator
from concurrent import futures
from ipaddress import ip_address
from threading import Event, Lock, Thread, gettrace
from types import ModuleType
from typing import NoReturn, cast

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, settings

# ``pytest --hypothesis-profile=random`` tries different examples each time, and ten times as many.
settings.register_profile("same", derandomize=True, deadline=None, database=None, max_examples=40)
settings.register_profile(
    "brief", settings.get_profile("same"), max_examples=10, phases=[Phase.explicit, Phase.generate]
)
settings.register_profile("random", deadline=None, max_examples=400, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("same")


@pytest.fixture(autouse=True)
def _traps() -> Iterator[None]:
    """Make every overflow, invalid operation or division by zero that funcnet does not expect an error."""
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        yield


def _beyond_loopback(host: object) -> bool:
    """Whether a host is a different machine. A socket file, or no host at all, is not a different machine."""
    if not isinstance(host, str) or host in ("", "localhost"):
        return False
    try:
        return not ip_address(host).is_loopback
    except ValueError:  # a name, which only a name server can resolve
        return True


def _refuse_the_network(event: str, arguments: tuple[object, ...]) -> None:
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        address = arguments[1]
        host = cast("tuple[object, ...]", address)[0] if isinstance(address, tuple) else None
    elif event == "socket.getaddrinfo":
        host = arguments[0]
    else:
        return
    if _beyond_loopback(host):  # not an OSError, since handlers for a broken network must not catch it
        pytest.fail(f"a test reached for the network: {event} {host}")


sys.addaudithook(_refuse_the_network)


# Under coverage, CPython 3.11 refuses to start two threads at the same time: ``sys.settrace`` calls the audit hook
# above, which may yield to a second thread that calls ``sys.settrace``. So each thread starts after the one before.
_STARTING = Lock()
_start = Thread.start


def _start_alone(thread: Thread) -> None:
    if gettrace() is None:
        _start(thread)
        return
    running = Event()
    run = thread.run

    def signal_and_run() -> None:
        running.set()
        run()

    vars(thread)["run"] = signal_and_run  # of this thread only
    with _STARTING:
        _start(thread)
        running.wait()


Thread.start = _start_alone  # type: ignore[assignment, method-assign]  # in tests only


def _skip(*_: object, **__: object) -> NoReturn:
    pytest.skip("this system has no threads and no processes", allow_module_level=True)


if sys.platform in ("emscripten", "wasi"):
    sys.modules.setdefault("_multiprocessing", ModuleType("_multiprocessing"))  # so that tests can be imported
    for _owner, _name in (
        (Thread, "start"),
        (subprocess.Popen, "__init__"),
        (futures.ProcessPoolExecutor, "__init__"),
        (os, "fork"),
    ):
        setattr(_owner, _name, _skip)
