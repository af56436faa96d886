"""Concurrency: parallel threads and processes compute the bits that each computes alone, from the first call."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from itertools import product
from math import prod
from multiprocessing import get_context
from threading import Barrier

import numpy as np
import pytest
from networks import CASES, inputs
from surroundings import SEARCHED, meet

import funcnet as fn
from funcnet.arithmetic import Name, using

pytestmark = pytest.mark.slow

KEY = fn.Key(8)
THREADS = 8
JOBS: list[tuple[int, Name]] = list(product(range(len(CASES)), ("native", "portable")))


def computed(number: int, name: Name) -> str:
    """Return a hash of everything that a layer of the table, and training with it, computes in an arithmetic."""
    layer = fn.astype(CASES[number].layer(), np.float32)
    x = CASES[number].draw(KEY.child(number), 12, np.float32)
    digest = hashlib.sha256()
    with using(name):
        y = fn.forward(layer, x)
        grad_x, grads = fn.backward(layer, x, y)
        net = (layer, fn.Flatten(), fn.dense(KEY.child("last"), prod(y.shape[1:]), 3))
        state = fn.TrainState.create(net, fn.Momentum(learning_rate=0.01), key=KEY.child(number))
        batches = fn.minibatches(x, np.arange(12) % 3, 5, key=KEY.child("order", number))
        state, log = fn.train_epoch(fn.train_step(fn.softmax_cross_entropy), state, batches)
    for value in (y, grad_x, grads, state, log.losses):
        digest.update(fn.fingerprint(value).encode())
    return digest.hexdigest()


def job(which: tuple[int, Name]) -> str:
    """Run one of the jobs, for an executor."""
    return computed(*which)


def at_once(every: int = 1) -> list[str]:
    """Run each job, or each nth job, on eight threads that start together and switch often."""
    begin, interval = Barrier(THREADS), sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(THREADS, initializer=meet, initargs=(begin,)) as executor:
            return list(executor.map(job, JOBS[::every]))
    finally:
        sys.setswitchinterval(interval)


@pytest.fixture(scope="module")
def alone() -> list[str]:
    """Return the results of all jobs, run one at a time."""
    return [job(which) for which in JOBS]


def test_the_jobs_differ(alone: list[str]) -> None:
    """Each layer and arithmetic has a different hash, so a mix-up would be detected."""
    assert len(set(alone)) == len(alone)


def test_threads_compute_the_bits_of_one(alone: list[str]) -> None:
    """Forward, backward and training of every layer have the same bits, with both arithmetics running together."""
    assert at_once() == alone


def test_threads_may_make_the_first_calls(alone: list[str]) -> None:
    """In a new process, eight threads start at once with empty registries and modules that are not loaded."""
    program = (
        f"import sys; sys.path[:0] = {SEARCHED!r}.splitlines()\n"
        "import test_concurrency; print(*test_concurrency.at_once(5))"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.split() == alone[::5]


@pytest.fixture
def processes() -> Iterator[ProcessPoolExecutor]:
    """Return a pool of two spawned processes, which share only the code."""
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as executor:
        yield executor


def test_processes_compute_the_bits_of_one(alone: list[str], processes: ProcessPoolExecutor) -> None:
    """Spawned processes, which exist on every system, compute the same bits."""
    assert list(processes.map(job, JOBS[::3], chunksize=8)) == alone[::3]


def test_large_products_at_once() -> None:
    """Eight threads at once compute products that BLAS splits over its own threads."""
    net = fn.mlp(KEY, (784, 128, 10))
    x = inputs(KEY.child("large"), 128, 784, dtype=np.float32)
    labels = np.arange(128) % 10

    def gradient(_: int) -> str:
        return fn.fingerprint(fn.value_and_grad(net, x, labels, fn.softmax_cross_entropy)[1])

    with ThreadPoolExecutor(THREADS) as executor:
        assert set(executor.map(gradient, range(2 * THREADS))) == {gradient(0)}
