"""Class ids: every function that takes them agrees on their range, for every integer dtype and number of classes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeAlias

import numpy as np
import pytest

import funcnet as fn
from funcnet import metrics
from funcnet.core.checks import check_labels
from funcnet.loops.shards import sharded_value_and_grad

Place: TypeAlias = Callable[[Any, int], object]
CE: Final = fn.softmax_cross_entropy
STEP: Final = fn.sgd_step(CE, learning_rate=1.0)
ONE: Final[fn.Array] = np.ones((1, 1))
DTYPES: Final = [f"{order}{kind}{size}" for kind in "iu" for size in (1, 2, 4, 8) for order in "<>"]
CLASSES: Final = (2, 128, 200, 300, 70_000)


def zeros(classes: int) -> Any:
    """Return a layer whose output is 0 for every class."""
    return fn.Dense(weight=np.zeros((1, classes)), bias=np.zeros(classes))


def row(labels: Any, classes: int) -> fn.Array:
    """Return scores, shape (1, classes): 1 for the label, if it is a class, and 0 for the other classes."""
    scores: fn.Array = np.zeros((1, classes))
    scores[:, np.arange(classes) == int(labels[0])] = 1
    return scores


def weighted(labels: Any, classes: int) -> object:
    """Return the label, found in the gradient of a loss with class weights, which has a method ``total``."""
    loss = fn.SoftmaxCrossEntropy(class_weight=(1.0,) * classes)
    return sharded_value_and_grad(zeros(classes), ONE, labels, loss, shard_size=1)[1].bias.argmin()


PLACES: Final[dict[str, Place]] = {
    "softmax_cross_entropy": lambda y, c: CE(np.zeros((1, c)), y)[1].argmin(),
    "weighted loss": lambda y, c: CE(np.zeros((1, c)), y, np.ones(1))[1].argmin(),
    "smoothed loss": lambda y, c: fn.SoftmaxCrossEntropy(0.1)(np.zeros((1, c)), y)[1].argmin(),
    "class weights": weighted,
    "value_and_grad": lambda y, c: fn.value_and_grad(zeros(c), ONE, y, CE)[1].bias.argmin(),
    "evaluate": lambda y, c: y[0] if fn.evaluate(fn.Identity(), 1e3 * row(y, c), y, CE) == 0 else None,
    "Batch": lambda y, c: STEP(zeros(c), fn.Batch(ONE, y))[0].bias.argmax(),
    "minibatches": lambda y, c: fn.train_epoch(STEP, zeros(c), fn.minibatches(ONE, y, 1))[0].bias.argmax(),
    "shards": lambda y, c: sharded_value_and_grad(zeros(c), ONE, y, CE, shard_size=1)[1].bias.argmin(),
    "one_hot": lambda y, c: fn.one_hot(y, c).argmax(),
    "top_k_accuracy": lambda y, c: y[0] if metrics.top_k_accuracy(row(y, c), y, k=1) == 1 else None,
    "log_loss": lambda y, c: y[0] if metrics.log_loss(row(y, c), y) == 0 else None,
    "confusion_matrix": lambda y, c: metrics.confusion_matrix(y, y, classes=c).diagonal().argmax(),
    "precision": lambda y, c: metrics.precision(y, y, classes=c, average=None).argmax(),
    "recall": lambda y, c: metrics.recall(y, y, classes=c, average=None).argmax(),
    "f1": lambda y, c: metrics.f1(y, y, classes=c, average=None).argmax(),
}


FEW: Final = ("class weights", "confusion_matrix")
"""The places that take time or memory for many classes."""


def values(dtype: str, classes: int) -> list[int]:
    """Return the numbers of a dtype around the ends of its range and of the class ids."""
    low, high = int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)
    numbers = {low, -100, -1, 0, classes - 1, classes, high // 2 + 1, high}
    return sorted(number for number in numbers if low <= number <= high)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("place", PLACES)
def test_a_label_is_a_class_or_refused(place: str, dtype: str) -> None:
    """A label from 0 to classes - 1 is that class; any other raises a LabelError that has its value."""
    for classes in CLASSES[:-1] if place in FEW else CLASSES:
        for number in values(dtype, classes):
            labels = np.array([number], dtype)
            if 0 <= number < classes:
                assert PLACES[place](labels, classes) == number
            else:
                with pytest.raises(fn.LabelError, match=rf"must be .*, got \w+\[0\] = {number}(;|$)"):
                    PLACES[place](labels, classes)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_label_of_a_position_is_a_class_or_refused(dtype: str) -> None:
    """The message has the place; a label of weight 0, for its row or its position, may be any number."""
    for classes in (2, 200):
        for number in values(dtype, classes):
            labels = np.zeros((2, 3), dtype)
            labels[1, 2] = number
            if 0 <= number < classes:
                assert check_labels("test", "x", labels, (2, 3), classes) is labels
                continue
            with pytest.raises(
                fn.LabelError, match=rf"^test: x must be in 0\.\.{classes - 1}, got x\[1, 2\] = {number}$"
            ):
                check_labels("test", "x", labels, (2, 3), classes)
            for weight in (np.array([1.0, 0.0]), np.array([[1.0, 1, 1], [1, 1, 0]])):
                assert check_labels("test", "x", labels, (2, 3), classes, weight=weight)[1, 2] == 1
    assert check_labels("test", "x", np.zeros((0, 3), dtype), (0, 3), 2).shape == (0, 3)


WITHOUT_CLASSES: Final[dict[str, Callable[[Any], object]]] = {
    "accuracy": lambda y: fn.accuracy(y, y),
    "minibatches": lambda y: len(fn.minibatches(ONE, y, 1)),
    "split": lambda y: len(fn.split(np.ones((2, 1)), np.repeat(y, 2), 1, key=fn.Key(0))[0].x),
}


@pytest.mark.parametrize("dtype", DTYPES)
def test_without_a_number_of_classes_a_label_is_not_negative(dtype: str) -> None:
    """Each number of the dtype that is 0 or more is a label."""
    for number in values(dtype, 2):
        labels = np.array([number], dtype)
        for place, call in WITHOUT_CLASSES.items():
            if number >= 0 or place == "split":
                assert call(labels) == 1, place
            else:
                with pytest.raises(fn.LabelError, match=rf"must be 0 or more, got \w+\[0\] = {number}(;|$)"):
                    call(labels)


@pytest.mark.parametrize("dtype", DTYPES)
def test_labels_of_two_dtypes_are_compared_as_numbers(dtype: str) -> None:
    """Neither a common small dtype nor float64, which has no 2**53 + 1, decides whether two labels are equal."""
    for other in DTYPES:
        high = min(int(np.iinfo(dtype).max), int(np.iinfo(other).max))
        for number in (1, high, min(2**53 + 1, high)):
            predicted = np.array([number], dtype)
            assert fn.accuracy(predicted, np.array([number], other)) == 1
            assert fn.accuracy(predicted, np.array([number - 1], other)) == 0


def test_a_metric_of_classes_refuses_a_huge_id() -> None:
    """It would need an array as long as the largest id; the message says how to number the classes."""
    ids = np.array([0, 2**40], np.uint64)
    for metric in (metrics.precision, metrics.recall, metrics.f1):
        with pytest.raises(fn.ConfigError, match=r"1099511627777; use np\.unique\(ids, return_inverse=True\)"):
            metric(ids, ids)
