"""BatchNorm: normalization over the batch, with its mode and its statistics as fields."""

from __future__ import annotations

import numpy as np
from attrs import frozen

from funcnet.arithmetic import mean_rows, sum_rows
from funcnet.core.arrays import Array, FloatDType, Statistic, lock
from funcnet.core.checks import INFINITY, check_array, check_channels, check_finite, check_number
from funcnet.core.errors import ConfigError
from funcnet.core.records import evolve
from funcnet.layers.channels import check_affine, kept_shape, per_channel, unit_affine
from funcnet.network.layer import Layer, register_layer
from funcnet.random.keys import Key


@frozen(eq=False)
class BatchNorm(Layer):
    """``y = (x - mean) / sqrt(variance + epsilon) * scale + offset``, the variance being the biased one.

    In training form, mean and variance are those of the batch, over all axes but the last; else they are the fields,
    which ``calibrate(net, x)`` fills with those of x. There are no running averages: nothing changes behind the
    network's back. A training batch of one position gives the offset; PyTorch refuses it. Shapes: x, y (B, ..., C), all
    others (C,).

    Source: Ioffe and Szegedy, "Batch normalization", ICML 2015, with population statistics as in its algorithm 2. Scale
    and offset are PyTorch's weight and bias, epsilon is its default (Keras' is 1e-3); its running variance is the
    unbiased one.

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

    scale: Array
    offset: Array
    mean: Statistic | None = None
    variance: Statistic | None = None
    epsilon: float = 1e-5
    training: bool = False

    def check(self) -> None:
        """Vectors of one length, both statistics or none, epsilon above 0, and a bool."""
        check_affine("BatchNorm", self.scale, self.offset)
        if (self.mean is None) != (self.variance is None):
            raise ConfigError("mean and variance must be given both or not at all", subject="BatchNorm")
        if self.mean is not None:
            check_array("BatchNorm", "mean", self.mean, self.scale.shape, match=("scale", self.scale))
            check_array("BatchNorm", "variance", self.variance, self.scale.shape, match=("scale", self.scale))
        check_number("BatchNorm", "epsilon", self.epsilon, low=0, high=INFINITY)
        if not isinstance(self.training, bool):
            raise ConfigError(f"training must be True or False, got {self.training!r}", subject="BatchNorm")


def normal_and_root(params: BatchNorm, x: Array) -> tuple[Array, Array]:
    """``(x - mean) / root``, and root: by the batch's statistics in training, else by the layer's own."""
    if params.training:
        centred: Array = x - sum_rows(per_channel(x)) / _positions(x)
        variance: Array = sum_rows(per_channel(centred * centred)) / _positions(x)
    else:
        mean, variance = _statistics(params)
        centred = x - mean
    root: Array = np.sqrt(variance + params.epsilon)
    return centred / root, root


def batch_norm_forward(params: BatchNorm, x: Array) -> Array:
    """Normalized by the batch's statistics or by its own, scaled and shifted. No rows give no rows."""
    check_channels("BatchNorm", x, "scale", params.scale)
    return normal_and_root(params, x)[0] * params.scale + params.offset


def batch_norm_backward(params: BatchNorm, x: Array, g: Array) -> tuple[Array, BatchNorm]:
    """``y = normal * scale + offset``: ``grad_scale = (g * normal).sum(axis=0)``, ``grad_offset = g.sum(axis=0)``.

    With its own statistics y is linear in x: grad_x is ``g * scale / root``. In training, mean and root depend on x:
    ``d mean / d x[j] = 1 / N``, ``d root / d x[j] = normal[j] / N`` for N positions, so that
    ``d normal[i] / d x[j] = (delta[i, j] - 1 / N - normal[i] normal[j] / N) / root``, and
    grad_x is ``(g - mean(g) - normal * mean(g * normal)) * scale / root``: two sums that are there already.
    """
    normal, root = normal_and_root(params, x)
    grads = evolve(params, scale=sum_rows(per_channel(g * normal)), offset=sum_rows(per_channel(g)))
    if params.training:
        count = _positions(x)
        g = g - grads.offset / count - normal * (grads.scale / count)
    return g * (params.scale / root), grads


def _positions(x: Array) -> int:
    """How many numbers a channel has; 1 for no rows, whose sums are 0."""
    return max(len(per_channel(x)), 1)


def _statistics(params: BatchNorm) -> tuple[Array, Array]:
    if params.mean is None or params.variance is None:
        fix = "use calibrate(net, x) to evaluate, train_step or training(net, key) to train"
        raise ConfigError(f"it has no statistics to normalize by; {fix}", subject="BatchNorm")
    return params.mean, params.variance


def batch_norm_training(params: BatchNorm, _: Key) -> BatchNorm:
    """The layer in its training form, which draws nothing."""
    return evolve(params, training=True)


def batch_norm_calibrated(params: BatchNorm, x: Array) -> BatchNorm:
    """The layer in its plain form, with the statistics of x, computed in float64."""
    check_channels("BatchNorm", x, "scale", params.scale)
    mean = mean_rows(per_channel(x))
    centred = per_channel(x) - mean
    variance = mean_rows(centred * centred)
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
    output_shape=lambda params, shape: kept_shape("BatchNorm", params.scale, shape),
    name="funcnet.BatchNorm",
)


def batch_norm(size: int, *, epsilon: float = 1e-5, dtype: FloatDType = np.float32) -> BatchNorm:
    """A BatchNorm that scales by 1 and shifts by 0, without statistics yet.

    Args:
        size: C, the size of the last axis.
        epsilon: What is added to the variance.
        dtype: np.float32 or np.float64.

    Raises:
        ConfigError: If the size is no positive int, epsilon not above 0, or the dtype another.

    Example:
        >>> batch_norm(10)
        BatchNorm(scale=float32 (10,), offset=float32 (10,), mean=None, variance=None, epsilon=1e-05, training=False)
    """
    return BatchNorm(*unit_affine("batch_norm", size, dtype), epsilon=epsilon)
