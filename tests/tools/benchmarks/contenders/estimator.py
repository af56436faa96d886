"""scikit-learn's MLPClassifier under plain SGD: an epoch is one ``partial_fit``, with its checks of values off."""

from __future__ import annotations

from typing import Any

import numpy as np
import sklearn
from sklearn.neural_network import MLPClassifier

from benchmarks.contenders import Predictor
from benchmarks.workloads import LEARNING_RATE, Floats, Problem


def classifier(problem: Problem) -> Any:
    """The problem's initial network; the first partial fit makes the arrays, its weights are replaced."""
    make: Any = MLPClassifier  # its stub has one type of batch_size only
    model: Any = make(
        problem.sizes[1:-1],
        solver="sgd",
        alpha=0.0,
        batch_size=problem.batch_size,
        learning_rate_init=LEARNING_RATE,
        momentum=0.0,
        nesterovs_momentum=False,
        shuffle=problem.shuffle,
        random_state=0,
        n_iter_no_change=10**9,
    )
    rows = problem.batch_size
    model.partial_fit(problem.x32[:rows], problem.labels[:rows], classes=np.arange(problem.sizes[-1]))
    load(model, problem)
    return model


def load(model: Any, problem: Problem) -> None:
    """Copy the problem's initial weights in, and zeros."""
    for coefficients, intercepts, weight in zip(model.coefs_, model.intercepts_, problem.weights, strict=True):
        coefficients[...] = weight
        intercepts[...] = 0


class Training:
    """One ``partial_fit`` an epoch."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.model = classifier(problem)

    def start(self) -> None:
        """Without momentum there is no state but the weights."""
        load(self.model, self.problem)

    def epoch(self) -> float:
        """Its loss is the epoch's mean."""
        with sklearn.config_context(assume_finite=True, skip_parameter_validation=True):
            self.model.partial_fit(self.problem.x32, self.problem.labels)
        return float(self.model.loss_)

    def weights(self) -> list[Floats]:
        """Its coefficients."""
        return [coefficients.copy() for coefficients in self.model.coefs_]


def train(problem: Problem) -> Training:
    """One ``partial_fit`` an epoch."""
    return Training(problem)


def predict(problem: Problem) -> Predictor:
    """Its predict, with its checks of values off."""
    model, x = classifier(problem), problem.x32

    def run() -> Any:
        with sklearn.config_context(assume_finite=True, skip_parameter_validation=True):
            return model.predict(x)

    return run
