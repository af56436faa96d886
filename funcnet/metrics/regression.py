"""Metrics of predicted numbers: mean squared error, mean absolute error and R squared."""

from __future__ import annotations

import numpy as np

from funcnet.core.arrays import Array, counted
from funcnet.core.checks import INFINITY, check_array, check_count, check_finite
from funcnet.core.errors import NonFiniteError
from funcnet.metrics.rows import Rows, weighted_rows


def mse(predicted: Array, target: Array, *, weight: Array | None = None) -> float:
    """Return the mean squared error over all elements. Shapes: both (B, ...), exactly the same.

    Each argument may be float32 or float64. The result is computed in float64.

    Args:
        predicted: The predictions.
        target: The numbers to predict.
        weight: How much each row counts, shape (B,): scikit-learn's ``sample_weight``. None means 1.

    Raises:
        ShapeError, DTypeError: If the arguments differ in shape or are not floats.
        NonFiniteError: If a number or the error is NaN or infinite.
        ConfigError: If the arguments are empty, or if no weight is positive.

    Example:
        >>> mse(np.array([1.0, 2.0]), np.array([1.0, 4.0]))
        2.0
        >>> mse(np.array([1.0, 2.0]), np.array([1.0, 4.0]), weight=np.array([3.0, 1.0]))
        1.0
    """
    error, _, rows = _read("mse", predicted, target, weight)
    return _mean("mse", _square(error), rows)


def mae(predicted: Array, target: Array, *, weight: Array | None = None) -> float:
    """Return the mean absolute error over all elements. See ``mse`` for the arguments and errors.

    Example:
        >>> mae(np.array([1.0, 2.0]), np.array([1.0, 4.0]))
        1.0
    """
    error, _, rows = _read("mae", predicted, target, weight)
    return _mean("mae", np.abs(error), rows)


def r2(predicted: Array, target: Array, *, weight: Array | None = None) -> float:
    """Return R squared: 1 - mean squared error / variance of the target.

    1 is a perfect prediction; 0 is as good as predicting the target's mean. For several outputs, the result is the mean
    of their values. A constant target gives 1 if the prediction matches it exactly, or else 0. A target whose
    differences are below about 1e-160 counts as constant, because their squares are 0 in float64.

    Args:
        predicted: Shape (B, ...), float32 or float64.
        target: The same shape.
        weight: How much each row counts, shape (B,): scikit-learn's ``sample_weight``. None means 1.

    Raises:
        ShapeError, DTypeError: If the arguments differ in shape or are not floats.
        NonFiniteError: If a number or the result is NaN or infinite.
        ConfigError: If there are fewer than two rows, or two of positive weight.

    Example:
        >>> r2(np.array([1.0, 2.0, 4.0]), np.array([1.0, 2.0, 3.0]))
        0.5
    """
    error, target, rows = _read("r2", predicted, target, weight)
    count = len(target)
    check_count("r2", "the number of rows" if weight is None else "the number of positive weights", count, low=2)
    outputs = zip(error.reshape(count, -1).T, target.astype(np.float64).reshape(count, -1).T, strict=True)
    return _mean("r2", np.array([_determination(*pair, rows) for pair in outputs]), Rows())


def _determination(error: Array, target: Array, rows: Rows) -> float:
    """Return R squared of one output. Shapes: both (B,), float64."""
    variance = _mean("r2", _square(target - _mean("r2", target, rows)), rows)
    if not variance or target.min() == target.max():
        return 0.0 if error.any() else 1.0
    return 1 - _mean("r2", _square(error), rows) / variance


def _read(name: str, predicted: Array, target: Array, weight: Array | None) -> tuple[Array, Array, Rows]:
    """Check the arguments. Return the error in float64 and the target of the rows that count, and their weights."""
    check_array(name, "predicted", predicted, ("B", "..."))
    check_array(name, "target", target, predicted.shape, match=("predicted", predicted))
    check_count(name, "the number of elements", predicted.size)
    rows = weighted_rows(name, len(predicted), weight)
    check_finite(name, "predicted", predicted)
    target = counted(target, weight, np.isfinite(target))
    check_finite(name, "target", target)
    predicted, target = rows.of(predicted), rows.of(target)
    with np.errstate(over="ignore"):
        return np.subtract(predicted, target, dtype=np.float64), target, rows


def _square(a: Array) -> Array:
    with np.errstate(over="ignore"):
        return a * a


def _mean(name: str, values: Array, rows: Rows) -> float:
    """Return the mean. Raise if it overflows."""
    with np.errstate(over="ignore"):
        value = rows.average(values) if np.isfinite(values).all() else INFINITY
    if not -INFINITY < value < INFINITY:
        raise NonFiniteError("the result overflows float64; the numbers are too large", subject=name)
    return value
