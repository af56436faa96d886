"""BatchNorm: normalization over the batch, with its mode and its statistics as fields."""

from __future__ import annotations

import numpy as np
from attrs import frozen

from funcnet.arithmetic import centered_rows, mean_and_variance, sum_rows
from funcnet.core.arrays import Array, FloatDType, Statistic, lock
from funcnet.core.checks import check_finite, check_flag, check_size
from funcnet.core.errors import ConfigError
from funcnet.core.records import evolve
from funcnet.layers.channels import (
    Match,
    affine,
    check_affine,
    check_epsilon,
    check_last_axes,
    first_array,
    kept_shape,
    per_channel,
    unit_affine,
)
from funcnet.network.layer import Layer, register_layer
from funcnet.random.keys import Key


@frozen(eq=False)
class BatchNorm(Layer):
    """``y = (x - mean) / sqrt(variance + epsilon) * scale + offset`` with the biased variance.

    In training form, the mean and the variance are those of the batch, over all axes except the last. In plain form,
    they are the fields, which ``calibrate(net, x)`` sets to the statistics of x. There are no running averages: the
    forward pass changes nothing. A training batch of one position gives the offset; PyTorch refuses such a batch.
    Without scale or offset, y is not scaled or shifted. Shapes: x, y (B, ..., C), all fields (C,).

    Source: Ioffe and Szegedy, "Batch normalization", ICML 2015, with population statistics as in its algorithm 2. Scale
    and offset are PyTorch's weight and bias. Epsilon has PyTorch's default (Keras' is 1e-3). PyTorch's running variance
    is unbiased.

    Example:
        >>> import funcnet as fn
        >>> x = np.array([[1.0], [3.0]])
        >>> layer = fn.batch_norm(1, dtype=np.float64)
        >>> fn.forward(fn.training(layer, fn.Key(0)), x).round(4)
        array([[-1.],
               [ 1.]])
        >>> fn.forward(fn.calibrate(layer, x), np.array([[5.0]])).round(4)
        array([[3.]])
    """

    scale: Array | None
    offset: Array | None
    mean: Statistic | None = None
    variance: Statistic | None = None
    epsilon: float = 1e-5
    training: bool = False

    def check(self) -> None:
        """Check that the vectors have one length, that both statistics or neither are given, and the settings."""
        statistics = {"mean": self.mean, "variance": self.variance}
        check_affine("BatchNorm", 1, scale=self.scale, offset=self.offset, **statistics)
        if (self.mean is None) != (self.variance is None):
            raise ConfigError("mean and variance must both be given, or neither", subject="BatchNorm")
        check_epsilon("BatchNorm", self.epsilon, _match(self))
        check_flag("BatchNorm", "training", self.training)


def _match(params: BatchNorm) -> Match:
    return first_array(scale=params.scale, offset=params.offset, mean=params.mean)


def normal_and_root(params: BatchNorm, x: Array) -> tuple[Array, Array]:
    """``(x - mean) / root``, and root, from the batch's statistics in training form, else from the layer's own."""
    if params.training:
        centered = centered_rows(per_channel(x)).reshape(x.shape)
        variance: Array = sum_rows(per_channel(centered * centered)) / _positions(x)
    else:
        mean, variance = _statistics(params)
        centered = x - mean
    root: Array = np.sqrt(variance + params.epsilon)
    return centered / root, root


def batch_norm_forward(params: BatchNorm, x: Array) -> Array:
    """``y = normal * scale + offset``; see ``normal_and_root``. An empty batch gives an empty batch."""
    check_last_axes("BatchNorm", x, _match(params))
    return affine(normal_and_root(params, x)[0], params.scale, params.offset)


def batch_norm_backward(params: BatchNorm, x: Array, g: Array) -> tuple[Array, BatchNorm]:
    """``y = normal * scale + offset``: ``grad_scale = (g * normal).sum(axis=0)``, ``grad_offset = g.sum(axis=0)``.

    In plain form, y is linear in x, and grad_x is ``g * scale / root``. In training form, mean and root depend on x:
    ``d mean / d x[j] = 1 / N`` and ``d root / d x[j] = normal[j] / N`` for N positions. Therefore
    ``d normal[i] / d x[j] = (delta[i, j] - 1 / N - normal[i] normal[j] / N) / root``, and grad_x is
    ``(g - mean(g) - normal * mean(g * normal)) * scale / root``. The second mean has the sum of grad_scale.
    """
    normal, root = normal_and_root(params, x)
    by_scale = sum_rows(per_channel(g * normal))
    offset = None if params.offset is None else sum_rows(per_channel(g))
    grads = evolve(params, scale=None if params.scale is None else by_scale, offset=offset)
    if params.training:
        g = centered_rows(per_channel(g)).reshape(g.shape) - normal * (by_scale / _positions(x))
    return g * ((1 if params.scale is None else params.scale) / root), grads


def _positions(x: Array) -> float:
    """The count of numbers in a channel; 1 for an empty batch, whose sums are 0."""
    return float(max(len(per_channel(x)), 1))


def _statistics(params: BatchNorm) -> tuple[Array, Array]:
    if params.mean is None or params.variance is None:
        fix = "to evaluate, use calibrate(net, x); to train, use train_step or training(net, key)"
        raise ConfigError(f"the layer has no statistics to normalize with; {fix}", subject="BatchNorm")
    return params.mean, params.variance


def batch_norm_training(params: BatchNorm, _: Key) -> BatchNorm:
    """The layer in its training form; it draws no random numbers."""
    return evolve(params, training=True)


def batch_norm_calibrated(params: BatchNorm, x: Array) -> BatchNorm:
    """The layer in its plain form, with the statistics of x, computed in float64."""
    check_last_axes("BatchNorm", x, _match(params))
    mean, variance = mean_and_variance(per_channel(x))
    statistics = {"mean": mean.astype(x.dtype), "variance": variance.astype(x.dtype)}
    for name, statistic in statistics.items():
        check_finite("BatchNorm", name, statistic)
    return evolve(params, mean=lock(statistics["mean"]), variance=lock(statistics["variance"]), training=False)


register_layer(
    BatchNorm,
    forward=batch_norm_forward,
    backward=batch_norm_backward,
    training=batch_norm_training,
    is_training=lambda params: params.training,
    calibrated=batch_norm_calibrated,
    output_shape=lambda params, shape: kept_shape("BatchNorm", _match(params), shape),
    name="funcnet.BatchNorm",
)


def batch_norm(
    size: int, *, scale: bool = True, offset: bool = True, epsilon: float = 1e-5, dtype: FloatDType = np.float32
) -> BatchNorm:
    """Create a BatchNorm with scale 1 and offset 0, or without them, and without statistics.

    Args:
        size: C, the size of the last axis.
        scale: Whether the layer has a scale.
        offset: Whether the layer has an offset.
        epsilon: The number that is added to the variance.
        dtype: np.float32 or np.float64.

    Raises:
        ConfigError: If the size is not a positive int, a flag is not a bool, epsilon is not positive, or the dtype is
            invalid.

    Example:
        >>> batch_norm(10)
        BatchNorm(scale=float32 (10,), offset=float32 (10,), mean=None, variance=None, epsilon=1e-05, training=False)
    """
    size = check_size("batch_norm", "size", size)
    return BatchNorm(*unit_affine("batch_norm", size, dtype, scale=scale, offset=offset), epsilon=epsilon)
