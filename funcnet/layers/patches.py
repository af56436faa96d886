"""Convolution as a product: the patches of images, one for each place of the kernel, times the weight."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from funcnet.arithmetic import matmul_columns, matmul_parts, sum_outer
from funcnet.core.arrays import Array
from funcnet.layers.windows import Axes, in_windows, inside, padded

PATCHES: Final = 2**24
"""The largest count of patch numbers that ``convolved`` holds at a time: 64 MB of float32."""


def _matrix(weight: Array) -> Array:
    """The weight as a matrix. Shapes: weight (KH, KW, C, O), result (I, O) with I = KH * KW * C."""
    return weight.reshape(-1, weight.shape[3])


def _places(axes: Axes) -> int:
    """The number of places that a kernel takes in an image."""
    return axes[0].count * axes[1].count


def patches_of(x: Array, axes: Axes) -> Array:
    """The patches of the images: the numbers under the kernel, one row for each place of the kernel.

    Shapes: x (B, H, W, C), patches (B * OH * OW, KH * KW * C). NumPy copies contiguous runs, and short runs are slow;
    therefore the memory order is whichever of two gives the longer runs.
    """
    image, channels = padded(x, axes), x.shape[3]
    vertical, horizontal = axes
    count, size = len(x) * _places(axes), vertical.size * horizontal.size * channels
    if count * channels == image.size:  # There are as many places as pixels: the kernel has one pixel.
        return image.reshape(count, size)
    views = sliding_window_view(image, tuple(axis.reach for axis in axes), axis=(1, 2))
    views = views[:, :: vertical.stride, :: horizontal.stride]
    views = views[..., :: vertical.dilation, :: horizontal.dilation].transpose(0, 1, 2, 4, 5, 3)
    if channels * (horizontal.size if horizontal.dilation == 1 else 1) >= horizontal.count:
        return views.copy().reshape(count, size)
    return views.transpose(3, 4, 5, 0, 1, 2).copy().reshape(size, count).T


def images_of(patches: Array, axes: Axes, x: Array) -> Array:
    """The transpose of ``patches_of``: each number is added to the pixel that it came from.

    Shapes: patches (KH * KW * C, OH * OW * B), result (B, H, W, C), like x. The batch is the innermost axis, which
    makes the contiguous runs long.
    """
    batch, _, __, channels = x.shape
    vertical, horizontal = axes
    parts = patches.reshape(vertical.size * horizontal.size, channels, vertical.count, horizontal.count, batch)
    image = np.zeros_like(x, shape=(channels, vertical.padded, horizontal.padded, batch))
    for pixels, part in zip(in_windows(image, axes), parts, strict=True):
        np.add(pixels, part, out=pixels)
    return inside(image, axes).transpose(3, 1, 2, 0).copy()


def product_forward(weight: Array, x: Array, axes: Axes) -> Array:
    """``patches @ weight``, with one row of patches for each place of the kernel. Shapes: result (B, OH, OW, O).

    A large batch is computed in parts to bound the memory. Each image has its own product, so the parts change no bits.
    """
    vertical, horizontal = axes
    most = max(1, PATCHES // (_places(axes) * math.prod(weight.shape[:3])))
    products = [
        matmul_parts(patches_of(x[start : start + most], axes), _matrix(weight), _places(axes))
        for start in range(0, max(len(x), 1), most)
    ]
    y = products[0] if len(products) == 1 else np.concatenate(products)
    return y.reshape(len(x), vertical.count, horizontal.count, weight.shape[3])


def product_backward(weight: Array, x: Array, g: Array, axes: Axes) -> tuple[Array, Array]:
    """The gradients by x and by the weight: those of Dense, with one row for each place of the kernel.

    ``y = patches @ weight`` gives ``dL/dweight = patches.T @ g`` and ``dL/dpatches = g @ weight.T``. A pixel occurs in
    several patches; ``dL/dx`` is the sum of its entries there.
    """
    flat, batch_last = (each.reshape(-1, weight.shape[3]) for each in (g, g.transpose(1, 2, 0, 3).copy()))
    grad_x = images_of(matmul_columns(_matrix(weight), batch_last), axes, x)
    return grad_x, sum_outer(patches_of(x, axes), flat).reshape(weight.shape)
