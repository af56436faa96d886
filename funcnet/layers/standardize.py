"""Standardize: a layer of statistics that is created from data."""

from __future__ import annotations

import numpy as np
from attrs import frozen

from funcnet.arithmetic import mean_and_variance
from funcnet.core.arrays import ARRAY_TYPES, Array, Statistic, beside, lock
from funcnet.core.checks import check_array, check_finite, check_row_shape, check_weight
from funcnet.core.errors import ShapeError
from funcnet.network.layer import Layer, Shape, register_layer


@frozen(eq=False)
class Standardize(Layer):
    """``y = (x - mean) / scale`` with one mean and one scale per feature. The layer has no trained parameters.

    Shapes: x, y (B, ...), mean and scale like a row of x, or like its last axes: (C,) for sequences x (B, T, C) whose
    steps share the statistics. ``standardize(x)`` creates the layer from data.

    Example:
        >>> import funcnet as fn
        >>> fn.forward(Standardize(mean=np.array([1.0, 2.0]), scale=np.array([2.0, 4.0])), np.array([[3.0, 4.0]]))
        array([[1. , 0.5]])
    """

    mean: Statistic
    scale: Statistic

    def check(self) -> None:
        """Check that mean and scale have the same shape."""
        check_array("Standardize", "scale", self.scale, self.mean.shape, match=("mean", self.mean))


def _check(params: Standardize, x: Array) -> None:
    mean = params.mean
    if type(x) not in ARRAY_TYPES or x.shape[1:] != mean.shape or x.dtype != mean.dtype:
        check_array("Standardize", "x", x, ("B", "...", *mean.shape), dtype=mean.dtype, match=("mean", mean))


def standardize_forward(params: Standardize, x: Array) -> Array:
    """``y = (x - mean) / scale``."""
    _check(params, x)
    y: Array = (x - params.mean) / params.scale
    return y


def standardize_backward(params: Standardize, _: Array, g: Array) -> tuple[Array, Standardize]:
    """``grad_x = g / scale``, because ``dy/dx = 1 / scale``."""
    return g / params.scale, params


def standardize_output_shape(params: Standardize, shape: Shape) -> Shape:
    """The row shape of x, whose last axes must have the shape of mean."""
    check_row_shape("Standardize", shape, ("...", *params.mean.shape), ("mean", params.mean))
    return shape


register_layer(
    Standardize,
    forward=standardize_forward,
    backward=standardize_backward,
    output_shape=standardize_output_shape,
    name="funcnet.Standardize",
)


def standardize(x: Array, *, weight: Array | None = None) -> Standardize:
    """Create the layer that gives each feature of x the mean 0 and the (biased) variance 1.

    The statistics are computed in float64. A feature that is the same in every row gets the scale 1 and becomes 0, as
    in scikit-learn's ``StandardScaler``. A feature whose differences are below about 1e-160 also gets the scale 1,
    because their squares are 0 in float64.

    Args:
        x: Rows, shape (N, ...). In images, every pixel is a feature, and in sequences (N, T, C) every step has its own
            features. ``standardize(x.reshape(-1, C))`` has one mean and scale for all steps, which the layer applies to
            sequences, too; ``weight=mask.ravel()`` then leaves padded steps out.
        weight: How much each row counts, shape (N,): ``mean = sum(w x) / sum(w)``, and the variance likewise. A row of
            weight 0 counts for nothing and may hold NaN. None, as any equal weights, counts each row once.

    Raises:
        ShapeError: If x has no rows, if its rows are single numbers, or if weight does not fit x.
        ConfigError: If a weight is negative, or no weight is positive.
        NonFiniteError: If x, a weight or a statistic of x is not finite.

    Example:
        >>> layer = standardize(np.array([[1.0, 5.0], [3.0, 5.0]]))
        >>> layer.mean, layer.scale
        (array([2., 5.]), array([1., 1.]))
        >>> standardize(np.array([[1.0], [3.0], [100.0]]), weight=np.array([3.0, 1.0, 0.0])).mean
        array([1.5])
    """
    check_array("standardize", "x", x, ("N", "I", "..."))
    if not len(x):
        raise ShapeError(f"x must have at least one row, got {x.shape}", subject="standardize")
    if weight is not None:
        check_weight("standardize", weight, len(x))
        x, weight = _counting(x, weight)
    check_finite("standardize", "x", x)
    constant = np.maximum.reduce(x) == np.minimum.reduce(x)
    with np.errstate(over="ignore", invalid="ignore"):  # A nonfinite statistic is refused below.
        mean, variance = mean_and_variance(x, weight)
        scale = np.sqrt(variance).astype(x.dtype)
    mean = np.where(constant, x[0], mean).astype(x.dtype)
    scale = np.where(constant | (scale == 0), 1, scale).astype(x.dtype)
    check_finite("standardize", "mean", mean)
    check_finite("standardize", "scale", scale)
    return Standardize(mean=lock(mean), scale=lock(scale))


def _counting(x: Array, weight: Array) -> tuple[Array, Array | None]:
    """The rows that count, and their weights, or None if these are equal."""
    counts = weight > 0
    check_finite("standardize", "x", np.where(beside(weight, x) > 0, x, 0))  # the message has the position in all of x
    weights = weight[counts]
    return x[counts], None if (weights == weights[0]).all() else weights
