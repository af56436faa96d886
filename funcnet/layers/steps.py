"""LastStep and MeanOverTime: layers that turn a sequence into one row, and may ignore padded steps."""

from __future__ import annotations

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from funcnet.arithmetic import matmul_each, maximum, sum_last
from funcnet.core.arrays import Array, Mask, contiguous
from funcnet.core.checks import check_array, check_row_shape
from funcnet.network.layer import Layer, Shape, register_layer
from funcnet.network.masks import check_mask, check_mask_field, check_steps


def _check(subject: str, mask: Array | None, x: Array) -> None:
    dtype, match = (None, None) if mask is None else (mask.dtype, ("mask", mask))
    check_array(subject, "x", x, ("B", "T", "C"), dtype=dtype, match=match)
    check_steps(subject, x)
    check_mask(subject, mask, x)


def _row_shape(subject: str, shape: Shape) -> Shape:
    check_row_shape(subject, shape, ("T", "C"))
    return shape[1:]


@frozen(eq=False)
class LastStep(Layer):
    """``y = x[:, -1]``: the last step of each sequence. Shapes: x (B, T, C), y (B, C), mask (B, T) or None.

    With a mask, it is the last step whose mask is 1, and 0 if a sequence has no such step.

    After a recurrent layer, it is the state after the whole sequence only if the layer reads forward. For a layer with
    ``reverse``, also in ``bidirectional``, use the layer's ``outputs="last"``.

    Example:
        >>> import funcnet as fn
        >>> fn.forward(LastStep(), np.array([[[1.0], [2.0], [3.0]]]))
        array([[3.]])
    """

    mask: Mask | None = None

    def check(self) -> None:
        """Check that a mask has shape (B, T)."""
        check_mask_field("LastStep", self.mask)


def _last(params: LastStep, x: Array) -> Array:
    """1 at the step that becomes y, else 0. Shape: (B or 1, T)."""
    numbers: Array = np.arange(1, x.shape[1] + 1, dtype=x.dtype)[None]
    valid = numbers if params.mask is None else numbers * params.mask
    last: Array = (valid == np.maximum.reduce(valid, axis=1, keepdims=True)).astype(x.dtype)
    return last if params.mask is None else last * params.mask


def last_step_forward(params: LastStep, x: Array) -> Array:
    """``y[b] = x[b, t]``, where t is the last step of sequence b."""
    _check("LastStep", params.mask, x)
    if params.mask is None:
        return contiguous(x[:, -1])
    batch, steps, size = x.shape
    starts: NDArray[np.intp] = np.arange(0, batch * steps, steps, dtype=np.intp)
    places: NDArray[np.intp] = starts + np.argmax(_last(params, x), axis=1)
    y: Array = x.reshape(batch * steps, size).take(places, axis=0, mode="clip")
    return y * np.maximum.reduce(params.mask, axis=1, keepdims=True)


def last_step_backward(params: LastStep, x: Array, g: Array) -> tuple[Array, LastStep]:
    """``dy[b] / dx[b, t]`` is 1 for the last step t of sequence b, else 0."""
    return _last(params, x)[:, :, None] * g[:, None], params


register_layer(
    LastStep,
    forward=last_step_forward,
    backward=last_step_backward,
    output_shape=lambda _, shape: _row_shape("LastStep", shape),
    name="funcnet.LastStep",
)


@frozen(eq=False)
class MeanOverTime(Layer):
    """``y = mean(x, axis=1)``: the mean over the steps. Shapes: x (B, T, C), y (B, C), mask (B, T) or None.

    With a mask, it is the mean over the steps whose mask is 1, and 0 if a sequence has no such step.

    Example:
        >>> import funcnet as fn
        >>> fn.forward(MeanOverTime(), np.array([[[1.0], [2.0], [6.0]]]))
        array([[3.]])
    """

    mask: Mask | None = None

    def check(self) -> None:
        """Check that a mask has shape (B, T)."""
        check_mask_field("MeanOverTime", self.mask)


def _counts(params: MeanOverTime, x: Array) -> tuple[Array, Array]:
    """1 for each step of the mean, else 0, and the number of these steps. Shapes: (B or 1, T, 1), (B or 1, 1)."""
    counts = np.ones((1, x.shape[1]), x.dtype) if params.mask is None else params.mask
    return counts[:, :, None], maximum(sum_last(counts), 1)


def mean_over_time_forward(params: MeanOverTime, x: Array) -> Array:
    """``y[b]`` is the sum of the steps of sequence b that count, divided by their number."""
    _check("MeanOverTime", params.mask, x)
    counts, number = _counts(params, x)
    return matmul_each(counts.swapaxes(1, 2), x)[:, 0] / number


def mean_over_time_backward(params: MeanOverTime, x: Array, g: Array) -> tuple[Array, MeanOverTime]:
    """``dy[b] / dx[b, t]`` is 1 divided by the number of steps that count, for each of them."""
    counts, number = _counts(params, x)
    return counts * (g / number)[:, None], params


register_layer(
    MeanOverTime,
    forward=mean_over_time_forward,
    backward=mean_over_time_backward,
    output_shape=lambda _, shape: _row_shape("MeanOverTime", shape),
    name="funcnet.MeanOverTime",
)
