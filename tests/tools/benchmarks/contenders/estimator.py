"""scikit-learn's MLPClassifier with plain SGD: an epoch is one ``partial_fit``, without its checks of values."""

from __future__ import annotations

from typing import Any

import numpy as np
import sklearn
from sklearn.neural_network import MLPClassifier

from benchmarks.contenders import Predictor
from benchmarks.workloads import LEARNING_RATE, Floats, Problem


def classifier(problem: Problem) -> Any:
    """Return the problem's initial network: a first partial fit creates the arrays, then the weights are replaced."""
    make: Any = MLPClassifier  # its stub accepts only one type of batch_size
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
    """Copy the problem's initial weights into the model, and set the biases to zero."""
    for coefficients, intercepts, weight in zip(model.coefs_, model.intercepts_, problem.weights, strict=True):
        coefficients[...] = weight
        intercepts[...] = 0


class Training:
    """One ``partial_fit`` per epoch."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.model = classifier(problem)

    def start(self) -> None:
        """Load the initial weights; without momentum there is no other state."""
        load(self.model, self.problem)

    def epoch(self) -> float:
        """Train one epoch; the model's loss is the epoch's mean."""
        with sklearn.config_context(assume_finite=True, skip_parameter_validation=True):
            self.model.partial_fit(self.problem.x32, self.problem.labels)
        return float(self.model.loss_)

    def weights(self) -> list[Floats]:
        """Return the model's coefficients."""
        return [coefficients.copy() for coefficients in self.model.coefs_]


def train(problem: Problem) -> Training:
    """Train with one ``partial_fit`` per epoch."""
    return Training(problem)


def predict(problem: Problem) -> Predictor:
    """Predict with the model's predict, without its checks of values."""
    model, x = classifier(problem), problem.x32

    def run() -> Any:
        with sklearn.config_context(assume_finite=True, skip_parameter_validation=True):
            return model.predict(x)

    return run
