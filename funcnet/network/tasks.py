"""Tasks: what the outputs of a network mean, and therefore what a prediction is.

A network does not know its task: one output column may be a logit or a number, and several may be classes or labels.
The loss that trains the network decides it, and ``predict`` takes it as an argument.
"""

from __future__ import annotations

from typing import Final, Protocol, TypeVar

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from funcnet.arithmetic import sigmoid, softmax
from funcnet.core.arrays import Array
from funcnet.core.checks import check_array, check_finite, check_number
from funcnet.core.errors import ConfigError, ShapeError
from funcnet.core.names import register_name
from funcnet.core.records import Settings

P_co = TypeVar("P_co", covariant=True)


class Task(Protocol[P_co]):
    """What the outputs of a network mean.

    A frozen record with this method is a task, too. With a method ``probabilities``, it also serves ``predict_proba``.
    """

    def predictions(self, outputs: Array, /) -> P_co:
        """Return the predictions for the outputs, one for each row. Shapes: outputs (N, ...), result (N, ...)."""
        ...


class ProbabilityTask(Protocol):
    """A task whose outputs are logits."""

    def probabilities(self, outputs: Array, /) -> Array:
        """Return the probabilities for the outputs. Shapes: outputs (N, ...), result (N, ...)."""
        ...


@frozen
class Multiclass(Settings):
    """Each row belongs to one of several classes: a logit for each class, trained with ``softmax_cross_entropy``.

    In outputs (N, ..., O), each position of a row, such as a step of a sequence, belongs to one of the classes. The
    metrics take the class ids of positions as ``predicted.ravel(), labels.ravel()``.

    Example:
        >>> task, logits = Multiclass(), np.array([[0.0, 0.0], [0.0, np.log(3.0)]])
        >>> task.predictions(logits), task.predictions(logits[None])  # two rows, and one row of two positions
        (array([0, 1]), array([[0, 1]]))
        >>> task.probabilities(logits)
        array([[0.5 , 0.5 ],
               [0.25, 0.75]])
    """

    def predictions(self, outputs: Array, /) -> NDArray[np.intp]:
        """Return the class of each row or position: the index of its (first) largest logit.

        Shapes: outputs (N, ..., O), result (N, ...).

        Raises:
            ShapeError, DTypeError: If the outputs do not have two columns or more.
            NonFiniteError: If a logit is NaN or infinite; the message says which one.
        """
        self._check(outputs)
        ids: NDArray[np.intp] = outputs.argmax(axis=-1)
        return ids

    def probabilities(self, outputs: Array, /) -> Array:
        """Return the probability of each class: the softmax of the logits. Shapes: outputs and result (N, ..., O).

        Raises:
            ShapeError, DTypeError: If the outputs do not have two columns or more.
            NonFiniteError: If a logit is NaN or infinite; the message says which one.
        """
        self._check(outputs)
        with np.errstate(all="ignore"):  # A probability below the dtype's range is 0.
            return softmax(outputs)

    def _check(self, outputs: Array) -> None:
        check_array("Multiclass", "the output", outputs, ("N", "..."))
        if outputs.ndim < 2 or outputs.shape[-1] < 2:
            fix = "for one logit, use Binary(); for numbers, Regression()"
            raise _wrong_columns("Multiclass", "(N, ..., O) with a column for each class, at least 2", outputs, fix)
        check_finite("Multiclass", "the output", outputs)


@frozen
class Binary(Settings):
    """Each row is positive or negative: one logit, trained with ``binary_cross_entropy``.

    In outputs (N, ..., 1), each position of a row is positive or negative.

    A row is positive if its probability is above the threshold. At 0.5, its logit is then above 0. A probability that
    is equal to the threshold, also because it was rounded, is negative.

    Args:
        threshold: A probability between 0 and 1. To count a probability that is equal to t as positive, such as a
            threshold of ``metrics.precision_recall_curve``, use ``np.nextafter(t, 0.0)``.

    Example:
        >>> task, logits = Binary(threshold=0.7), np.array([[0.0], [np.log(3.0)]])
        >>> task.predictions(logits), task.probabilities(logits)
        (array([False,  True]), array([0.5 , 0.75]))
    """

    threshold: float = 0.5

    def check(self) -> None:
        """Check that the threshold is between 0 and 1."""
        check_number("Binary", "threshold", self.threshold, low=0, high=1)

    def predictions(self, outputs: Array, /) -> NDArray[np.bool_]:
        """Return whether each row or position is positive. Shapes: outputs (N, ..., 1) or (N,), result (N, ...).

        Raises:
            ShapeError, DTypeError: If the outputs do not have one column.
            NonFiniteError: If a logit is NaN or infinite; the message says which one.
        """
        return _above(self.probabilities(outputs), self.threshold)

    def probabilities(self, outputs: Array, /) -> Array:
        """Return the probability of each row or position of being positive: the logistic function of its logit.

        Shapes: outputs (N, ..., 1) or (N,), result (N, ...).

        Raises:
            ShapeError, DTypeError: If the outputs do not have one column.
            NonFiniteError: If a logit is NaN or infinite; the message says which one.
        """
        check_array("Binary", "the output", outputs, ("N", "..."))
        if outputs.ndim > 1 and outputs.shape[-1] != 1:
            fix = "for classes, use Multiclass(); for independent labels, Multilabel()"
            raise _wrong_columns("Binary", "(N, ..., 1) or (N,)", outputs, fix)
        check_finite("Binary", "the output", outputs)
        return _logistic(outputs if outputs.ndim == 1 else outputs.reshape(outputs.shape[:-1]))


@frozen
class Multilabel(Settings):
    """Each row has any number of labels: a logit for each label, trained with ``binary_cross_entropy``.

    In outputs (N, ..., O), each position of a row has any number of labels.

    A row has a label if the label's probability is above the threshold, as in ``Binary``.

    Args:
        threshold: A probability between 0 and 1, or a tuple with one for each label.

    Example:
        >>> task, logits = Multilabel(threshold=(0.5, 0.2)), np.array([[0.0, 0.0], [np.log(3.0), -np.log(9.0)]])
        >>> task.predictions(logits)
        array([[False,  True],
               [ True, False]])
        >>> task.probabilities(logits)
        array([[0.5 , 0.5 ],
               [0.75, 0.1 ]])
    """

    threshold: float | tuple[float, ...] = 0.5

    def check(self) -> None:
        """Check that each threshold is between 0 and 1."""
        if not isinstance(self.threshold, float | int | tuple):
            got = f"got {self.threshold!r:.80}"
            raise ConfigError(f"threshold must be a number or a tuple, {got}; use tuple(...)", subject="Multilabel")
        for each in self.threshold if isinstance(self.threshold, tuple) else (self.threshold,):
            check_number("Multilabel", "threshold", each, low=0, high=1)

    def predictions(self, outputs: Array, /) -> NDArray[np.bool_]:
        """Return whether each row or position has each label. Shapes: outputs and result (N, ..., O).

        Raises:
            ShapeError, DTypeError: If the outputs do not have one column for each label.
            NonFiniteError: If a logit is NaN or infinite; the message says which one.
            ConfigError: If there are several thresholds, but not one for each label.
        """
        probabilities, threshold = self.probabilities(outputs), self.threshold
        if isinstance(threshold, tuple) and len(threshold) != outputs.shape[-1]:
            wanted = f"one number for each of the {outputs.shape[-1]} columns of the output {outputs.shape}"
            raise ConfigError(f"threshold must have {wanted}, got {threshold}", subject="Multilabel")
        return _above(probabilities, threshold)

    def probabilities(self, outputs: Array, /) -> Array:
        """Return the probability of each label: the logistic function of its logit.

        Shapes: outputs and result (N, ..., O).

        Raises:
            ShapeError, DTypeError: If the outputs do not have one column for each label.
            NonFiniteError: If a logit is NaN or infinite; the message says which one.
        """
        check_array("Multilabel", "the output", outputs, ("N", "..."))
        if outputs.ndim < 2 or not outputs.shape[-1]:
            fix = "for one logit, use Binary(); for numbers, Regression()"
            raise _wrong_columns("Multilabel", "(N, ..., O) with a column for each label", outputs, fix)
        check_finite("Multilabel", "the output", outputs)
        return _logistic(outputs)


@frozen
class Regression(Settings):
    """The outputs are numbers, trained with ``mean_squared_error``, ``mean_absolute_error`` or ``huber``.

    After ``poisson``, the numbers are the logarithms of the rates.

    Example:
        >>> Regression().predictions(np.array([[2.5], [-1.0]]))
        array([[ 2.5],
               [-1. ]])
    """

    def predictions(self, outputs: Array, /) -> Array:
        """Return the outputs themselves. Shapes: outputs and result (N, ...).

        Raises:
            ShapeError, DTypeError: If the outputs are not rows of numbers.
            NonFiniteError: If an output is NaN or infinite; the message says which one.
        """
        check_array("Regression", "the output", outputs, ("N", "..."))
        check_finite("Regression", "the output", outputs)
        return outputs


def _wrong_columns(subject: str, wanted: str, outputs: Array, fix: str) -> ShapeError:
    return ShapeError(f"the output must have shape {wanted}, got {outputs.shape}; {fix}", subject=subject)


def _logistic(logits: Array) -> Array:
    with np.errstate(all="ignore"):  # A probability below the dtype's range is 0.
        return sigmoid(logits)


def _above(probabilities: Array, threshold: float | tuple[float, ...]) -> NDArray[np.bool_]:
    """Compare in float64, so that neither the threshold nor a probability is rounded for the comparison."""
    above: NDArray[np.bool_] = probabilities.astype(np.float64) > np.array(threshold, np.float64)
    return above


_TASKS: Final = (
    "Multiclass(): one of several classes; softmax_cross_entropy",
    "Binary(): positive or negative; binary_cross_entropy with one output",
    "Multilabel(): independent labels; binary_cross_entropy with one output for each label",
    "Regression(): numbers, without probabilities; mean_squared_error, mean_absolute_error or huber",
    "after poisson: Regression() gives the logarithms of the rates",
)


def check_task(subject: str, method: str, task: object, name: str = "task") -> None:
    """Check that the argument of this name is a task with the method ``predictions`` or ``probabilities``.

    Raises:
        ConfigError: If it is not. The message lists the tasks and the losses that train networks for them.

    Example:
        >>> check_task("predict", "predictions", Multiclass)
        Traceback (most recent call last):
        funcnet.ConfigError: predict: task must be a record, got the class Multiclass; use Multiclass()
    """
    if isinstance(task, type):
        fix = f"use {task.__name__}()"
        raise ConfigError(f"{name} must be a record, got the class {task.__name__}; {fix}", subject=subject)
    if not callable(getattr(task, method, None)):
        raise wrong_task(subject, f"{name} must be a task with {method}, got {task!r:.80}")


def wrong_task(subject: str, reason: str) -> ConfigError:
    """Return the error for a task that is missing or wrong. It lists each task with the losses that train for it."""
    fix = "choose the task that fits the loss in training"
    return ConfigError("\n  ".join((f"{reason}; {fix}:", *_TASKS)), subject=subject)


register_name(Multiclass, "funcnet.Multiclass")
register_name(Binary, "funcnet.Binary")
register_name(Multilabel, "funcnet.Multilabel")
register_name(Regression, "funcnet.Regression")
