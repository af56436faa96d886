"""Depthwise convolution: each output has one kernel for one channel, so a sum over the kernel's pixels is enough."""

from __future__ import annotations

import numpy as np

from funcnet.arithmetic import sum_last, sum_rows
from funcnet.core.arrays import Array
from funcnet.layers.windows import Axes, in_windows, inside, padded


def depthwise_forward(weight: Array, x: Array, axes: Axes) -> Array:
    """``y = sum(pixels * weight)``, where pixels are all windows' pixels at one position of the kernel, in row order.

    Shapes: weight (KH, KW, 1, O), x (B, H, W, C), result (B, OH, OW, O). Output o reads the channel o // (O // C).
    """
    first, *others = _pixels(weight, x, axes)
    row, *rows = _rows(weight, len(x), axes)
    y = first * row
    for pixels, row in zip(others, rows, strict=True):
        y += pixels * row
    return _batch_first(y, len(x), weight.shape[3])


def depthwise_backward(weight: Array, x: Array, g: Array, axes: Axes) -> tuple[Array, Array]:
    """The gradients by x and by the weight.

    ``y = sum(pixels * weight)`` gives ``dL/dpixels = g * weight`` and ``dL/dweight = sum(pixels * g)``, over all places
    of the kernel and all images. A pixel of x is in several windows; ``dL/dx`` is the sum of its gradients there.
    """
    outputs, g = weight.shape[3], _batch_inside(g)
    image = np.zeros_like(g, shape=(1, axes[0].padded, axes[1].padded, len(x) * outputs))
    sums: list[Array] = []
    pairs = zip(_pixels(weight, x, axes), _rows(weight, len(x), axes), strict=True)
    for target, (pixels, row) in zip(in_windows(image, axes), pairs, strict=True):
        np.add(target, g * row, out=target)
        sums.append(sum_rows((pixels * g).reshape(-1, outputs)))
    grad_x, times = _batch_first(inside(image, axes), len(x), outputs), outputs // x.shape[3]
    if times > 1:
        grad_x = sum_last(grad_x.reshape(*x.shape, times))[..., 0]
    return grad_x, np.concatenate(sums).reshape(weight.shape)


def _pixels(weight: Array, x: Array, axes: Axes) -> list[Array]:
    """For each position of the kernel, all windows' pixels there, once per output. Shapes: each (1, OH, OW, B * O)."""
    times = weight.shape[3] // x.shape[3]
    repeated = np.repeat(x, times, axis=3) if times > 1 else x
    return in_windows(padded(_batch_inside(repeated), axes), axes)


def _rows(weight: Array, batch: int, axes: Axes) -> Array:
    """The weight, repeated over a row of the places, as multiplying short runs is slower. Shapes: (I, OW, B * O)."""
    size, outputs, count = weight.size // weight.shape[3], weight.shape[3], axes[1].count
    rows = np.broadcast_to(weight.reshape(size, 1, outputs), (size, count * batch, outputs))
    return rows.copy().reshape(size, count, batch * outputs)


def _batch_inside(x: Array) -> Array:
    """The images beside each other as channels, which makes long runs. Shapes: (B, H, W, C) to (1, H, W, B * C)."""
    batch, height, width, channels = x.shape
    return x.transpose(1, 2, 0, 3).copy().reshape(1, height, width, batch * channels)


def _batch_first(image: Array, batch: int, channels: int) -> Array:
    """The inverse of ``_batch_inside``."""
    _, height, width, _ = image.shape
    return image.reshape(height, width, batch, channels).transpose(2, 0, 1, 3).copy()
