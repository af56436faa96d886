"""Diagnosis: the first number in a training step that is not finite, and the numbers that it was computed from."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from attrs import frozen

from funcnet.arithmetic import using
from funcnet.core.arrays import Array, Input, contiguous
from funcnet.core.checks import check_callable, check_input
from funcnet.core.errors import NonFiniteError
from funcnet.core.html import as_printed
from funcnet.core.records import check_tree
from funcnet.core.trees import leaves
from funcnet.network.layer import Layer, Network, Pullback
from funcnet.network.loss import Loss, weighted_loss
from funcnet.network.passes import layers_of, vjp

T = TypeVar("T")


@frozen
class NonFinite:
    """A number that is NaN or infinite: its place, and the range of the numbers that it was computed from.

    Args:
        where: The name of its array, such as ``"the output of layer 2 (Dense)"`` or
            ``"the gradient with respect to 2.weight"``.
        index: Its index in that array; ``()`` for the loss.
        value: NaN or an infinity.
        low: The smallest finite number that it was computed from; NaN if all were NaN or infinite.
        high: The largest finite number that it was computed from.
    """

    where: str
    index: tuple[int, ...]
    value: float
    low: float
    high: float

    _repr_pretty_ = as_printed

    def __str__(self) -> str:
        place = f"[{', '.join(map(str, self.index))}]" if self.index else ""
        span = "of which none is finite" if np.isnan(self.low) else f"between {self.low:.3g} and {self.high:.3g}"
        return f"{self.where}{place} is {self.value}, computed from numbers {span}"


def first_nonfinite(params: Network, x: Input, y: T, loss: Loss[T], weight: Array | None = None) -> NonFinite | None:
    """Find the first number of a step, forward and backward, that is NaN or infinite; None if all are finite.

    The function checks the input, the parameters and output of each layer, the loss and its gradient, and the
    gradients of each layer from the last to the first. It uses native arithmetic, because portable arithmetic refuses
    such numbers.

    Shapes: x (B, ...), y as the loss expects it, weight (B,), or the shape of y or its first axes, or None.

    Raises:
        FuncnetError: If the network, x, y, the loss and the weights do not fit each other.

    Example:
        >>> import funcnet as fn
        >>> net = fn.Dense(weight=np.array([[1e200]]), bias=np.array([0.0])), fn.ReLU()
        >>> print(first_nonfinite(net, np.array([[1e200]]), np.array([0]), fn.softmax_cross_entropy))
        the output of layer 0 (Dense)[0, 0] is inf, computed from numbers between 1e+200 and 1e+200
    """
    check_tree("first_nonfinite", params)
    check_input("first_nonfinite", "x", x)
    check_callable("first_nonfinite", "loss", loss)
    with using("native"), np.errstate(all="ignore"):
        pulls: list[tuple[str, Layer, Pullback[Layer]]] = []
        before = contiguous(x)
        found = _first("x", before, before)
        for path, layer in layers_of(params):
            for leaf in leaves(layer):
                found = found or _first(_within(path, leaf.path), leaf.array, leaf.array)
            output, pull = vjp(layer, before)
            found = found or _first(f"the output of {_named(path, layer)}", output, before)
            if found:
                return found
            pulls.append((path, layer, pull))
            before = output
        return _of_the_loss(before, y, loss, weight) or _backward(pulls, weighted_loss(loss, before, y, weight)[1])


def _of_the_loss(prediction: Array, y: T, loss: Loss[T], weight: Array | None) -> NonFinite | None:
    try:
        value, g = weighted_loss(loss, prediction, y, weight)
    except NonFiniteError:
        value, g = float("nan"), prediction
    return _first("the loss", np.array(value), prediction) or _first("the loss's gradient", g, prediction)


def _backward(pulls: list[tuple[str, Layer, Pullback[Layer]]], g: Array) -> NonFinite | None:
    for path, layer, pull in reversed(pulls):
        grad_x, grads = pull(g)
        for leaf in leaves(grads):
            name = f"the gradient with respect to {_within(path, leaf.path)}"
            found = _first(name, leaf.array, g) if leaf.trained else None
            if found:
                return found
        found = _first(f"the gradient with respect to the input of {_named(path, layer)}", grad_x, g)
        if found:
            return found
        g = grad_x
    return None


def _within(path: str, field: str) -> str:
    return f"{path}.{field}" if path else field


def _named(path: str, layer: Layer) -> str:
    kind = type(layer).__name__
    return f"layer {path} ({kind})" if path else kind


def _first(where: str, array: Array, before: Array) -> NonFinite | None:
    finite = np.isfinite(array)
    if finite.all():
        return None
    index = tuple(int(i) for i in np.unravel_index(int(finite.argmin()), array.shape))
    known = before[np.isfinite(before)]
    low, high = (float(known.min()), float(known.max())) if known.size else (float("nan"), float("nan"))
    return NonFinite(where, index, float(array[index]), low, high)


def diagnosed(
    error: NonFiniteError, params: Network, x: Input, y: T, loss: Loss[T], *, weight: Array | None
) -> NonFiniteError:
    """Return the error of a step, with the first number in that step that is not finite added to its message."""
    found = first_nonfinite(params, x, y, loss, weight)
    if found is not None and found.where not in error.message:
        error.message = f"{error.message}; the first number that is not finite: {found}"
    return error
