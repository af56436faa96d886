"""Scores and times of the estimators and of scikit-learn's networks, all with their default settings.

Run: OPENBLAS_NUM_THREADS=1 PYTHONPATH=.:tests/tools python -m benchmarks.estimators [--splits 3] [--data digits,wine]

Each split keeps a quarter of the rows for the score, which is the accuracy or R squared. The synthetic data are
``sklearn.datasets.make_friedman1(4000, 8, noise=1)``.
"""

from __future__ import annotations

import argparse
import statistics
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias

import numpy as np
from sklearn import datasets
from sklearn.compose import TransformedTargetRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.choice import chosen_names
from benchmarks.machine import facts
from benchmarks.table import aligned
from benchmarks.timing import Task
from funcnet.interop.sklearn import Classifier, Regressor

Make: TypeAlias = Callable[..., Any]


def scaled_classifier(**settings: Any) -> Any:
    """Return MLPClassifier behind a scaler of its inputs."""
    return make_pipeline(StandardScaler(), MLPClassifier(**settings))


def scaled_regressor(**settings: Any) -> Any:
    """Return MLPRegressor between a scaler of its inputs and a scaler of its target."""
    regressor = make_pipeline(StandardScaler(), MLPRegressor(**settings))
    return TransformedTargetRegressor(regressor, transformer=StandardScaler())


CLASSIFIERS: Final[Mapping[str, Make]] = {
    "funcnet": Classifier,
    "funcnet, early stopping": lambda **settings: Classifier(early_stopping=True, **settings),
    "MLP": MLPClassifier,
    "scaled MLP": scaled_classifier,
}
REGRESSORS: Final[Mapping[str, Make]] = {
    "funcnet": Regressor,
    "funcnet, early stopping": lambda **settings: Regressor(early_stopping=True, **settings),
    "MLP": MLPRegressor,
    "scaled MLP": scaled_regressor,
}
DATA: Final[Mapping[str, tuple[Callable[[], Any], Mapping[str, Make]]]] = {
    "digits": (lambda: datasets.load_digits(return_X_y=True), CLASSIFIERS),
    "breast cancer": (lambda: datasets.load_breast_cancer(return_X_y=True), CLASSIFIERS),
    "wine": (lambda: datasets.load_wine(return_X_y=True), CLASSIFIERS),
    "diabetes": (lambda: datasets.load_diabetes(return_X_y=True), REGRESSORS),
    "synthetic": (lambda: datasets.make_friedman1(4000, 8, noise=1.0, random_state=0), REGRESSORS),
}
"""Each data set's rows, and the estimators that learn them."""

STEP: Final[Mapping[str, Make]] = {
    "funcnet": Classifier,
    "funcnet, portable": lambda **settings: Classifier(portable=True, **settings),
    "MLP": MLPClassifier,
}
"""The classifiers whose steps are timed: 64-100-10, batches of 200, Adam."""


def arguments() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(prog="benchmarks.estimators", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", default=",".join(DATA), help=f"such as digits,wine (default {','.join(DATA)})")
    parser.add_argument("--splits", type=int, default=3, help="random splits of each data set (default 3)")
    parser.add_argument("--epochs", type=int, default=50, help="epochs of a fit whose steps are timed (default 50)")
    parser.add_argument("--rounds", type=int, default=7, help="timed fits, of which the median is shown (default 7)")
    return parser


def scored(make: Make, x: Any, y: Any, split: int, *, stratify: bool) -> tuple[float, float]:
    """Return the score on a quarter of the rows and the processor seconds of the fit on the others."""
    x, x_test, y, y_test = train_test_split(x, y, random_state=split, stratify=y if stratify else None)
    model = make(random_state=split)
    _, seconds = Task(lambda: None, lambda: model.fit(x, y)).seconds()
    return float(model.score(x_test, y_test)), seconds


def scores(name: str, splits: int) -> list[Sequence[str]]:
    """Return one line for each estimator: the mean score, its standard error, and the median time of a fit."""
    load, contenders = DATA[name]
    x, y = load()
    found: list[Sequence[str]] = []
    for contender, make in contenders.items():
        runs = [scored(make, x, y, split, stratify=contenders is CLASSIFIERS) for split in range(splits)]
        values, seconds = zip(*runs, strict=True)
        error = statistics.stdev(values) / splits**0.5 if splits > 1 else float("nan")
        mean = statistics.fmean(values)
        found.append((name, contender, f"{mean:.4f}", f"{error:.4f}", f"{statistics.median(seconds):.2f}"))
    return found


def step_times(epochs: int, rounds: int) -> dict[str, float]:
    """Return the median processor microseconds of a step, over fits by turns."""
    x, y = datasets.load_digits(return_X_y=True)
    x, y = x[:1600], y[:1600]
    settings: dict[str, Any] = {"max_iter": epochs, "n_iter_no_change": 10 * epochs, "random_state": 0}
    tasks = {name: Task(lambda: None, _fit(make(**settings), x, y)) for name, make in STEP.items()}
    for task in tasks.values():
        task.seconds()
    turns = [{name: task.seconds()[1] for name, task in tasks.items()} for _ in range(rounds)]
    return {name: statistics.median(turn[name] for turn in turns) * 1e6 / (8 * epochs) for name in tasks}


def _fit(model: Any, x: Any, y: Any) -> Callable[[], object]:
    return lambda: model.fit(x, y)


def main() -> None:
    """Measure and print both tables."""
    parser = arguments()
    options = parser.parse_args()
    chosen = chosen_names(parser, options.data, DATA, kind="data")
    np.seterr(all="ignore")
    warnings.simplefilter("ignore", ConvergenceWarning)
    print("\n".join(f"{name}: {value}" for name, value in facts(threads=1).items()), end="\n\n")
    lines = [line for name in chosen for line in scores(name, options.splits)]
    print(aligned([("workload", "contender", "score", "error", "s a fit"), *lines]), end="\n\n")
    times = step_times(options.epochs, options.rounds)
    steps = [(name, f"{time:.0f}", f"{time / times['MLP']:.2f}") for name, time in times.items()]
    print(aligned([("contender", "µs a step", "x MLP"), *steps]))


if __name__ == "__main__":
    main()
