"""Try planted faults: one process collects the tests, and a fork of it runs them against each fault.

mutation.py runs it in its copy of the tree: python tests/tools/planted.py FAULTS OUTCOMES JOBS PYTEST-ARGUMENTS...

FAULTS is a file with a list of mutmut's names; OUTCOMES is written with the outcome of each. Collecting the tests
takes longer than running most of them, so it happens once. For each fault, a fork of this process runs the tests that
reach the changed function until one fails: first the tests that noticed its other faults, then the fastest tests.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, MutableSequence, Sequence
from contextlib import suppress
from functools import partial
from importlib import import_module
from multiprocessing.sharedctypes import RawArray
from pathlib import Path
from typing import Final

import pytest
from attrs import define, field

SURVIVED, NOTICED, NO_TEST, TOO_SLOW = "survived", "noticed", "no test", "too slow"
KILLED_FOR_TIME: Final = (-signal.SIGPROF, -signal.SIGALRM)


@define
class Trial:
    """The plugin that runs the collected tests once without a fault, and then once for each fault."""

    faults: list[str]
    jobs: int
    outcomes: dict[str, str] = field(factory=dict[str, str])
    failures: list[str] = field(factory=list[str])

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Record failures."""
        if report.failed:
            self.failures.append(f"{report.nodeid}\n{report.longreprtext}")

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Replace pytest's own loop."""
        reaching, seconds = self._watched(session.items)
        for module in sorted({fault.rpartition(".")[0] for fault in self.faults}):
            import_module(module)  # otherwise the first test that imports it pays for it
        everything = range(len(session.items))
        noticing: dict[str, MutableSequence[int]] = {}
        running: dict[int, str] = {}
        # "" is no fault: the tests must pass in this order, too. "fail" is a fault in every function.
        for fault in ["", "fail", *self.faults]:
            if len(running) == self.jobs:
                self._wait(running)
            function = fault.rpartition("__mutmut_")[0]
            count = noticing.setdefault(function, RawArray("i", len(everything)))
            chosen = promising(reaching.get(function, ()) if function else everything, count, seconds)
            if not chosen:
                self.outcomes[fault] = NO_TEST
                continue
            tests = [(index, session.items[index], 5 + 20 * seconds[index]) for index in chosen]
            running[forked(partial(self._meet, fault, tests, count))] = fault
        while running:
            self._wait(running)
        if self.outcomes.pop("") != SURVIVED:
            pytest.exit("a test fails without a fault when the quickest come first", returncode=1)
        if self.outcomes.pop("fail") != NOTICED:
            pytest.exit("no test fails though every function does", returncode=1)
        return True

    def _watched(self, items: list[pytest.Item]) -> tuple[dict[str, list[int]], list[float]]:
        """Return the tests that reach each function, and each test's duration, measured in a fork to leave no trace."""
        path = Path("watched.json")
        os.waitpid(forked(partial(self._watch, items, path)), 0)
        failures, reaching, seconds = json.loads(path.read_text())
        if failures:
            pytest.exit("a test fails without a fault:\n" + "\n".join(failures), returncode=1)
        return reaching, seconds

    def _watch(self, items: list[pytest.Item], path: Path) -> int:
        reached = set[str]()

        def reach(function: str, caller: str | None = None) -> None:  # noqa: ARG001  # mutmut passes it
            reached.add(function)

        pytest.MonkeyPatch().setattr(set_fault("stats"), "record_trampoline_hit", reach)
        reaching: dict[str, list[int]] = {}
        seconds = list[float]()
        for index, (item, following) in enumerate(zip(items, [*items[1:], None], strict=True)):
            begin = time.perf_counter()
            run(item, following)
            seconds.append(time.perf_counter() - begin)
            for function in reached:
                reaching.setdefault(function, []).append(index)
            reached.clear()
        path.write_text(json.dumps([self.failures, reaching, seconds]))
        return 0

    def _meet(self, fault: str, tests: list[tuple[int, pytest.Item, float]], count: MutableSequence[int]) -> int:
        """Run the tests with the fault, each within its time limit, until one fails; count that test and return 1."""
        set_fault(fault)
        for (index, item, limit), following in zip(tests, [*tests[1:], None], strict=True):
            signal.setitimer(signal.ITIMER_PROF, limit)  # processor time
            signal.setitimer(signal.ITIMER_REAL, 10 * limit)
            run(item, None if following is None else following[1])
            if self.failures:
                count[index] += 1
                return 1
        return 0

    def _wait(self, running: dict[int, str]) -> None:
        """Wait for the next fork to end, and record the outcome of its fault."""
        number, status = os.wait()
        code = os.waitstatus_to_exitcode(status)
        self.outcomes[running.pop(number)] = TOO_SLOW if code in KILLED_FOR_TIME else NOTICED if code else SURVIVED


def set_fault(name: str) -> object:
    """Activate this fault in mutmut's functions, or none, or a failure in all; return the module that selects it."""
    trampoline = import_module("mutmut.mutation.trampoline")
    trampoline.set_mutant_under_test(name)
    return trampoline


def promising(indices: Iterable[int], count: Sequence[int], seconds: list[float]) -> list[int]:
    """Order the tests: first those that noticed most faults, then the fastest."""
    return sorted(indices, key=lambda index: (-count[index], seconds[index]))


def run(item: pytest.Item, following: pytest.Item | None) -> None:
    """Run a test, and tear down everything that the next test does not need."""
    item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)


def forked(work: Callable[[], int]) -> int:
    """Start *work* in a copy of this process, whose exit code is its result; return the copy's process ID."""
    number = os.fork()
    if not number:
        code = 1
        with suppress(BaseException):  # an exception outside of pytest's handlers counts as a failure, too
            code = work()
        os._exit(code)
    return number


def main(faults: str, outcomes: str, jobs: str, *arguments: str) -> int:
    """Try the faults; return 0 if all could be tried."""
    trial = Trial(json.loads(Path(faults).read_text()), int(jobs))
    code = pytest.main([*arguments], plugins=[trial])
    Path(outcomes).write_text(json.dumps(trial.outcomes))
    return int(code)


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
