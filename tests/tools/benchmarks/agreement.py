"""That the contenders compute the same: before anything is timed, a few steps of each, without shuffling, compared."""

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
    """The largest difference, relative to the largest expected value."""
    return float(np.abs(got - expected).max() / np.abs(expected).max())


def check(what: str, entry: Entry, found: float) -> None:
    """Raise if a distance is not within the precision's tolerance."""
    if not found <= TOLERANCE[entry.precision]:
        raise AssertionError(f"{entry.name} computes another {what}: relative distance {found:.1e}")


def reference_among(entries: Sequence[Entry]) -> Entry:
    """The post's code, or the plain code for images, which all are compared with."""
    return next(entry for entry in entries if entry.name in {POST, PLAIN})


def check_training(workload: Workload, entries: Sequence[Entry]) -> None:
    """After an epoch of a few steps, started for the second time, all have the reference's losses and weights."""
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
    """All predict the classes that the post's code predicts, but for ties within rounding."""
    entries = [entry for entry in entries if entry.same_result]
    problem = Problem(workload, rows=STEPS * workload.batch_size)
    expected = reference_among(entries).predictor(problem)()
    for entry in entries:
        share = float(np.mean(entry.predictor(problem)() == expected))
        if share < 0.99:
            raise AssertionError(f"{entry.name} predicts other classes: {share:.1%} agree")
