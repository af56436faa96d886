"""Comparison of the metrics with those of scikit-learn, whose arguments are in the opposite order."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from networks import inputs

import funcnet as fn
from funcnet import metrics
from funcnet.random.draws import uniform

theirs: Any = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")

TOLERANCE = 1e-12
SEEDS = pytest.mark.parametrize("seed", range(6))
AVERAGES = pytest.mark.parametrize("average", [None, "macro", "micro", "weighted"])
SIZES = ((1, 2), (7, 3), (50, 2), (200, 5), (1000, 10), (30, 20))


def ids(seed: int) -> tuple[Any, Any, int]:
    """Make predicted ids, labels and the number of classes. A third is correct; an odd seed leaves out one class."""
    rows, classes = SIZES[seed]
    draws = uniform(fn.Key(seed), (2, rows))
    predicted, labels = (draws * classes).astype(np.int64)
    predicted[: rows // 3] = labels[: rows // 3]
    if seed % 2:
        predicted, labels = (np.where(each == 1, 0, each) for each in (predicted, labels))
    return predicted, labels, classes


def near(found: Any, wanted: Any) -> None:
    """Assert that both values have the same shape and agree to 1e-12."""
    assert np.shape(found) == np.shape(wanted)
    assert np.allclose(found, wanted, rtol=TOLERANCE, atol=TOLERANCE)


@SEEDS
def test_accuracy_and_confusion(seed: int) -> None:
    """Accuracies agree, and the counts of the confusion matrices are equal."""
    predicted, labels, classes = ids(seed)
    near(metrics.accuracy(predicted, labels), theirs.accuracy_score(labels, predicted))
    wanted = theirs.confusion_matrix(labels, predicted, labels=range(classes))
    assert (metrics.confusion_matrix(predicted, labels, classes=classes) == wanted).all()


@pytest.mark.slow
@SEEDS
@AVERAGES
@pytest.mark.parametrize("empty", [0.0, 1.0])
@pytest.mark.parametrize("name", ["precision", "recall", "f1"])
def test_precision_recall_f1(name: str, empty: float, average: Any, seed: int) -> None:
    """The values agree with explicit classes, and by default, where both libraries ignore classes that do not occur."""
    predicted, labels, classes = ids(seed)
    mine, peer = getattr(metrics, name), getattr(theirs, f"{name}_score")
    named = peer(labels, predicted, average=average, labels=range(classes), zero_division=empty)
    near(mine(predicted, labels, average=average, classes=classes, zero_division=empty), named)
    found = mine(predicted, labels, average=average, zero_division=empty)
    default = peer(labels, predicted, average=average, zero_division=empty)
    near(found if average else found[np.union1d(predicted, labels)], default)


@pytest.mark.parametrize("name", ["precision", "recall", "f1"])
def test_binary(name: str) -> None:
    """The average ``"binary"`` is scikit-learn's default for two classes."""
    predicted, labels, _ = ids(2)
    near(
        getattr(metrics, name)(predicted, labels, average="binary"), getattr(theirs, f"{name}_score")(labels, predicted)
    )


@pytest.mark.parametrize("k", [1, 2, 5])
def test_top_k_accuracy(k: int) -> None:
    """The values agree if there are no ties."""
    scores, labels = inputs(fn.Key(3), 300, 6), np.arange(300) % 6
    near(metrics.top_k_accuracy(scores, labels, k=k), theirs.top_k_accuracy_score(labels, scores, k=k))


def test_of_equal_scores_scikit_learn_takes_the_last() -> None:
    """The two libraries break ties differently, as the docstring of ``top_k_accuracy`` states."""
    scores, labels = np.zeros((3, 3)), np.arange(3)
    assert metrics.top_k_accuracy(scores[:1], labels[:1], k=1) == 1
    assert theirs.top_k_accuracy_score(labels[:1], scores[:1], k=1, labels=labels) == 0


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_log_loss(dtype: fn.FloatDType) -> None:
    """The values agree even for zeros, which both libraries replace with the dtype's eps."""
    probabilities = np.array(fn.predict_proba(fn.Identity(), 5 * inputs(fn.Key(4), 100, 4, dtype=dtype)))
    labels = np.arange(100) % 4
    probabilities[0] = [0, 1, 0, 0]
    wanted = theirs.log_loss(labels, probabilities, labels=range(4))
    found = metrics.log_loss(probabilities, labels)
    assert found == pytest.approx(wanted, rel=TOLERANCE if dtype is np.float64 else 1e-6)


@pytest.mark.parametrize("shape", [(40,), (40, 1), (40, 3)])
def test_regression(shape: tuple[int, ...]) -> None:
    """The values agree for one output and for several outputs, whose values are averaged."""
    target = inputs(fn.Key(5), *shape)
    predicted = target + 0.3 * inputs(fn.Key(6), *shape)
    near(metrics.mse(predicted, target), theirs.mean_squared_error(target, predicted))
    near(metrics.mae(predicted, target), theirs.mean_absolute_error(target, predicted))
    near(metrics.r2(predicted, target), theirs.r2_score(target, predicted))
    flat = np.ones(shape)
    near(metrics.r2(flat, flat), theirs.r2_score(flat, flat))
    near(metrics.r2(predicted, flat), theirs.r2_score(flat, predicted))
