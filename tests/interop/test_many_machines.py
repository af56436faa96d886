"""Whole runs on many ranks and hosts: the fingerprints and rows of one process, whatever stops and resumes them.

Network namespaces imitate hosts: each has its own network devices, and the only way between them is TCP.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from random import Random
from shutil import which
from typing import Any, Final

import machines_program
import pytest
from attrs import frozen
from mpi_program import mpiexec
from surroundings import ROOT

import funcnet as fn

pytest.importorskip("mpi4py", reason="mpi4py is not installed")
pytestmark = pytest.mark.slow
if mpiexec() is None:
    pytest.skip("mpiexec is not installed", allow_module_level=True)

PROGRAM: Final = Path(machines_program.__file__)
EXAMPLE: Final = ROOT / "examples" / "many_machines.py"
LIMIT: Final = 120
KILLS: Final = int(os.environ.get("FUNCNET_KILLS", "3"))
"""The number of runs in which a rank is killed; ``FUNCNET_KILLS=20`` takes two minutes."""


def command(ranks: int, *arguments: str | Path, options: tuple[str, ...] = ()) -> list[str]:
    """Return the command that runs a program on some ranks, or as one process that does not use MPI."""
    job = [str(mpiexec()), *options, "-n", str(ranks), sys.executable, "-m", "mpi4py"] if ranks else [sys.executable]
    return [*job, *map(str, arguments), *(() if ranks else ("--serial",))]


def surroundings(**more: str) -> dict[str, str]:
    """Return the environment of a job."""
    return {**os.environ, "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **more}


def ran(arguments: list[str], **more: str) -> str:
    """Run a command, which must succeed, and return what it prints."""
    result = subprocess.run(
        arguments, capture_output=True, text=True, check=False, timeout=LIMIT, env=surroundings(**more)
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> fn.Run:
    """Return the run of one process without MPI."""
    home = tmp_path_factory.mktemp("undisturbed") / "run"
    ran(command(0, PROGRAM, home))
    return fn.load_run(home)


# --------------------------------------------------------------------------------------------- one machine


def test_the_rows_on_three_ranks_are_those_of_one_process(undisturbed: fn.Run, tmp_path: Path) -> None:
    """One process replays the run, and finds no difference from its own."""
    home = tmp_path / "run"
    said = ran(command(3, PROGRAM, home))
    run = fn.load_run(home)
    assert run.rows == undisturbed.rows
    assert said == f"{run.rows[-1].state}\n"
    step, data = machines_program.step(), machines_program.data
    assert fn.recheck(run, range(5, 10), step=step, data=data)
    assert fn.first_divergence(undisturbed, run, step=step, data=data) is None
    names = [sorted(path.name for path in each.directory.iterdir()) for each in (run, undisturbed)]
    assert names[0] == names[1]


def test_a_portable_run_resumes_with_any_number_of_ranks(tmp_path: Path) -> None:
    """Four parts with two, one, four and no ranks have the rows of a run in one part."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for ranks, epochs in ((2, 2), (1, 3), (4, 4)):
        ran(command(ranks, PROGRAM, parts, "--portable", "--epochs", str(epochs)))
    step, data = machines_program.step(), machines_program.data
    with fn.portable():
        for home in (parts, whole):
            for _ in fn.audited_train(home, step, machines_program.start(), data, epochs=range(5), every=3):
                pass
    assert fn.load_run(whole).rows[-1].results == fn.load_run(parts).rows[-1].results


MNIST: Final = Path(os.environ.get("FUNCNET_DATA", "")) / "mnist"


@pytest.mark.skipif(
    "FUNCNET_DATA" not in os.environ or not MNIST.is_dir(), reason="FUNCNET_DATA has no mnist directory"
)
def test_the_example_has_one_fingerprint(tmp_path: Path) -> None:
    """It has it alone, on one, two and three ranks, and if it stops and resumes with another number of ranks."""
    jobs = {"alone": [0], "one": [1], "two": [2], "three": [3], "resumed": [3, 2], "resumed alone": [2, 0]}
    printed: dict[str, list[str]] = {}
    for name, parts in jobs.items():
        for place, ranks in enumerate(parts):
            epochs = "2" if place == len(parts) - 1 else "1"
            quick = ("--rows", "1000", "--epochs", epochs, "--directory", tmp_path / name)
            start = command(ranks or 1, EXAMPLE, *quick) if ranks else [sys.executable, *map(str, (EXAMPLE, *quick))]
            said = ran(start, FUNCNET_DATA=str(MNIST.parent.absolute()))
            assert said.startswith(f"Processes: {ranks or 1}\n")
            printed.setdefault(name, []).extend(re.findall(r"(?:after|Test|Finger).*", said))
    assert len({tuple(lines[-2:]) for lines in printed.values()}) == 1
    assert re.fullmatch(r"Fingerprint: [0-9a-f]{64}", printed["alone"][-1])
    steps = [[line for line in lines if line.startswith("after")] for lines in printed.values()]
    assert steps == [steps[0]] * len(steps)


# ------------------------------------------------------------------------------------------------- failures


def started(arguments: list[str], **more: str) -> subprocess.Popen[str]:
    """Start a command."""
    pipe = subprocess.PIPE
    return subprocess.Popen(arguments, stdout=pipe, stderr=pipe, text=True, env=surroundings(**more))


def wait_for_rows(home: Path, count: int, job: subprocess.Popen[str]) -> None:
    """Wait until a run has some rows."""
    end = time.monotonic() + LIMIT
    while not (home / "rows.jsonl").exists() or (home / "rows.jsonl").read_bytes().count(b"\n") < count:
        assert job.poll() is None, job.communicate()
        assert time.monotonic() < end
        time.sleep(0.002)


@pytest.mark.parametrize("number", range(KILLS))
def test_a_killed_rank_costs_only_its_epoch(number: int, undisturbed: fn.Run, tmp_path: Path) -> None:
    """A random rank of four is killed at a random moment; the run resumes with a random number of ranks.

    The last epoch of the job never begins, so that it cannot end before the kill.
    """
    chance, home = Random(number), tmp_path / "run"  # noqa: S311  # a test that can be repeated
    rows, delay, victim, ranks = chance.randrange(1, 8), chance.random() / 10, chance.randrange(4), chance.randrange(5)
    job = started(command(4, PROGRAM, home, "--endless"))
    try:
        wait_for_rows(home, rows, job)
        time.sleep(delay)
        os.kill(int((tmp_path / f"pid-{victim}").read_text()), signal.SIGKILL)
        job.communicate(timeout=30)
    finally:
        job.kill()
    assert job.returncode != 0
    left = len(fn.load_run(home).rows)
    assert rows <= left < len(undisturbed.rows)
    said = ran(command(ranks, PROGRAM, home))
    assert said == f"{undisturbed.rows[-1].state}\n"
    assert fn.load_run(home).rows == undisturbed.rows


# -------------------------------------------------------------------------------------------------- two hosts


@frozen
class Hosts:
    """Two hosts: the network namespaces, their addresses, and the program that starts a process on a host."""

    names: tuple[str, str]
    addresses: tuple[str, str]
    launcher: Path

    def command(self, ranks: int, *arguments: str | Path) -> list[str]:
        """Return the command of a job on both hosts, started on the first one."""
        options = ("-launcher", "ssh", "-launcher-exec", str(self.launcher), "-hosts", ",".join(self.addresses))
        return ["ip", "netns", "exec", self.names[0], *command(ranks, *arguments, options=options)]

    def sent(self) -> int:
        """Return the bytes that the first host has sent to the second one."""
        return int(device(self.names[0])["stats64"]["tx"]["bytes"])


LAUNCHER = """#!/bin/sh
while [ "${{1#-}}" != "$1" ]; do shift; done
host=$1; shift
[ "$host" = {0} ] && name={2} || name={3}
exec ip netns exec $name sh -c "$*"
"""
"""Hydra calls it as it would call ssh: options, a host, and the parts of a command for the host's shell."""

TCP: Final = {"UCX_TLS": "tcp,self"}
"""UCX sees that both hosts are one machine, and would exchange data through its memory."""


def ip(*arguments: str) -> str:
    """Run ``ip`` and return what it prints."""
    result = subprocess.run([str(which("ip")), *arguments], capture_output=True, text=True, check=True, timeout=LIMIT)
    return result.stdout


def device(name: str) -> dict[str, Any]:
    """Return the description of a host's network device."""
    found: list[dict[str, Any]] = json.loads(ip("-n", name, "-s", "-j", "link", "show", "dev", "veth"))
    return found[0]


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[Hosts]:
    """Return two hosts with a cable between them."""
    if which("ip") is None:
        pytest.skip("ip is not installed")
    options = subprocess.run([str(mpiexec()), "-help"], capture_output=True, text=True, check=False).stdout
    if "-launcher-exec" not in options:
        pytest.skip("mpiexec is not MPICH's")
    names, addresses = (f"funcnet-{os.getpid()}-a", f"funcnet-{os.getpid()}-b"), ("10.77.0.1", "10.77.0.2")
    with ExitStack() as stack:
        for name in names:
            try:
                ip("netns", "add", name)
            except subprocess.CalledProcessError as error:
                pytest.skip(f"ip netns does not work here: {error.stderr.strip()}")
            stack.callback(ip, "netns", "delete", name)
        peer = ("peer", "name", "veth", "netns", names[1])
        ip("link", "add", "veth", "netns", names[0], "type", "veth", *peer)
        for name, address in zip(names, addresses, strict=True):
            ip("-n", name, "addr", "add", f"{address}/24", "dev", "veth")
            ip("-n", name, "link", "set", "lo", "up")
            ip("-n", name, "link", "set", "veth", "up")
        end = time.monotonic() + LIMIT
        while not all(device(name)["operstate"] == "UP" for name in names):
            assert time.monotonic() < end
            time.sleep(0.01)
        launcher = tmp_path / "launcher"
        launcher.write_text(LAUNCHER.format(*addresses, *names))
        launcher.chmod(0o755)
        yield Hosts(names, addresses, launcher)


def test_two_hosts_have_the_bits_of_one_process(hosts: Hosts, undisturbed: fn.Run, tmp_path: Path) -> None:
    """Two and four ranks on two hosts have the rows of one process, and their gradients went through TCP."""
    parameters = sum(array.size for array in fn.trained_arrays(machines_program.start().params))
    steps = sum(row.steps for row in undisturbed.rows)
    for ranks in (2, 4):
        before, home = hosts.sent(), tmp_path / f"{ranks}" / "run"
        home.parent.mkdir()
        assert ran(hosts.command(ranks, PROGRAM, home), **TCP) == f"{undisturbed.rows[-1].state}\n"
        assert fn.load_run(home).rows == undisturbed.rows
        assert hosts.sent() - before > 4 * parameters * steps / 2


def test_a_cut_network_costs_only_its_epoch(hosts: Hosts, undisturbed: fn.Run, tmp_path: Path) -> None:
    """``timeout -k`` ends the job, and the run resumes on the host that has its files.

    A signal ends the job as the limit would, which is far away: a loaded machine starts slowly.
    """
    home = tmp_path / "run"
    job = started(["timeout", "-k", "1", str(LIMIT), *hosts.command(2, PROGRAM, home, "--endless")], **TCP)
    try:
        wait_for_rows(home, 4, job)
        ip("-n", hosts.names[0], "link", "set", "veth", "down")
        time.sleep(0.5)
        job.terminate()
        job.communicate(timeout=30)
    finally:
        job.kill()
        for pid in [pid for name in hosts.names for pid in ip("netns", "pids", name).split()]:
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
    assert job.returncode != 0
    assert 4 <= len(fn.load_run(home).rows) < len(undisturbed.rows)
    assert ran(command(2, PROGRAM, home)) == f"{undisturbed.rows[-1].state}\n"
    assert fn.load_run(home).rows == undisturbed.rows
