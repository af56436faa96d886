"""Agreement: before timing, check that a few steps of all contenders, without shuffling, compute the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from benchmarks.contenders import PLAIN, POST, Entry
from benchmarks.images import problem_of
from benchmarks.workloads import Floats, Problem, Workload

TOLERANCE: Final = {"float32": 1e-4, "float64": 1e-10}
STEPS: Final = 4


def distance(got: Floats, expected: Floats) -> float:
    """Return the largest difference, relative to the largest expected value."""
    return float(np.abs(got - expected).max() / np.abs(expected).max())


def check(what: str, entry: Entry, found: float) -> None:
    """Raise if a distance exceeds the precision's tolerance."""
    if not found <= TOLERANCE[entry.precision]:
        raise AssertionError(f"{entry.name} computes another {what}: relative distance {found:.1e}")


def reference_among(entries: Sequence[Entry]) -> Entry:
    """Return the entry that the others are compared with: the post's code, or the plain NumPy code for images."""
    return next(entry for entry in entries if entry.name in {POST, PLAIN})


def check_training(workload: Workload, entries: Sequence[Entry]) -> None:
    """Check losses and weights against the reference's after an epoch of a few steps, on the second start."""
    entries = [entry for entry in entries if entry.same_result]
    if not entries:
        return
    problem = problem_of(workload, rows=STEPS * workload.batch_size, shuffle=False)
    reference = reference_among(entries).trainer(problem)
    expected = reference.epoch()
    for entry in entries:
        trainer = entry.trainer(problem)
        trainer.epoch()
        trainer.start()
        check("loss", entry, distance(np.array(trainer.epoch()), np.array(expected)))
        for got, weight in zip(trainer.weights(), reference.weights(), strict=True):
            check("weight", entry, distance(got, weight))


def check_prediction(workload: Workload, entries: Sequence[Entry]) -> None:
    """Check that all predict the same classes as the post's code, except for ties within rounding."""
    entries = [entry for entry in entries if entry.same_result]
    problem = Problem(workload, rows=STEPS * workload.batch_size)
    expected = reference_among(entries).predictor(problem)()
    for entry in entries:
        share = float(np.mean(entry.predictor(problem)() == expected))
        if share < 0.99:
            raise AssertionError(f"{entry.name} predicts other classes: {share:.1%} agree")
