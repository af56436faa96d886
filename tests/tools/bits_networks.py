"""Hashes of every layer with its gradients, and of every loss, in portable arithmetic."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final, TypeAlias

import numpy as np
from bits_data import KEY, KINDS, AnyArray, Hashes, arrays, hash_of, scaled, zeros
from networks import CASES, Case

import funcnet as fn
from funcnet.random import uniform

# ---------------------------------------------------------------------------------------------------- layers

LAYER_KINDS: Final = {kind: make for kind, make in KINDS.items() if kind != "tiny"}
LAYER_KINDS["huge"] = partial(scaled, scale=1e18)


def layers() -> Hashes:
    """Yield the hashes of the output and of all gradients of each row of the table of layers."""
    for case in CASES:
        net, key = fn.astype(case.layer(), np.float32), KEY.child("layer", case.name)
        for kind in LAYER_KINDS:
            yield f"{case.name}, {kind}", hash_of(partial(_passes, case, net, key, kind))


def _passes(case: Case, net: fn.Layer, key: fn.Key, kind: str) -> list[AnyArray]:
    make = LAYER_KINDS[kind]
    x = case.draw(key, 9) if case.ids else make(key, 9, *case.shape)
    y = fn.forward(net, x)
    g = (LAYER_KINDS["plain"] if kind == "huge" else make)(key.child("g"), *y.shape)
    grad_x, grad_net = fn.backward(net, x, g)
    return [y, grad_x, *arrays(grad_net)]


# ---------------------------------------------------------------------------------------------------- losses

AnyLoss: TypeAlias = Callable[[fn.Array, Any, "fn.Array | None"], tuple[float, fn.Array]]
Draw: TypeAlias = Callable[[fn.Key, "tuple[int, ...]"], AnyArray]


def _ids(key: fn.Key, shape: tuple[int, ...]) -> AnyArray:
    return (uniform(key, shape[:-1]) * shape[-1]).astype(np.int64)


def _shares(key: fn.Key, shape: tuple[int, ...]) -> AnyArray:
    return uniform(key, shape).astype(np.float32)


def _labels(key: fn.Key, shape: tuple[int, ...]) -> AnyArray:
    return np.rint(uniform(key, shape)).astype(np.float32)


def _numbers(key: fn.Key, shape: tuple[int, ...]) -> AnyArray:
    return zeros(key, *shape, share=0.5)


LOSSES: Final[dict[str, tuple[AnyLoss, Draw]]] = {
    "softmax_cross_entropy": (fn.softmax_cross_entropy, _ids),
    "SoftmaxCrossEntropy of shares": (fn.SoftmaxCrossEntropy(), _shares),
    "SoftmaxCrossEntropy, smoothed": (fn.SoftmaxCrossEntropy(label_smoothing=0.1), _ids),
    "SoftmaxCrossEntropy, class weights": (fn.SoftmaxCrossEntropy(class_weight=(1.0, 0.5, 2.0, 0.0)), _ids),
    "SoftmaxCrossEntropy of shares, with all": (fn.SoftmaxCrossEntropy(0.2, (1.0, 0.5, 2.0, 0.1)), _shares),
    "binary_cross_entropy": (fn.binary_cross_entropy, _labels),
    "binary_cross_entropy of shares": (fn.binary_cross_entropy, _shares),
    "hinge": (fn.hinge, lambda key, shape: 2 * _labels(key, shape) - 1),
    "mean_squared_error": (fn.mean_squared_error, _numbers),
    "mean_absolute_error": (fn.mean_absolute_error, _numbers),
    "huber": (fn.huber, _numbers),
    "Huber of delta 0.3": (fn.Huber(0.3), _numbers),
    "poisson": (fn.poisson, lambda key, shape: 3 * _labels(key, shape)),
}
FORMS: Final[dict[str, tuple[tuple[int, ...], tuple[int, ...] | None]]] = {
    "rows": ((24, 4), None),
    "weighted rows": ((24, 4), (24,)),
    "weighted rows of positions": ((6, 5, 4), (6,)),
    "masked positions": ((6, 5, 4), (6, 5)),
}
"""The shapes of the predictions and of the weights."""
PREDICTIONS: Final = KINDS | {"wide spread": partial(scaled, scale=1e4), "huge": partial(scaled, scale=1e18)}


def losses() -> Hashes:
    """Yield the hashes of the value and the gradient of each loss."""
    for name, (loss, draw) in LOSSES.items():
        for form, (shape, weights) in FORMS.items():
            key = KEY.child("loss", *shape)
            target = draw(key.child("target"), shape)
            weight = None if weights is None else _weight(key.child("weight"), weights)
            for kind, make in PREDICTIONS.items():
                x = make(key, *shape)
                compute = partial(loss, x, target, weight)
                yield f"{name}, {form}, {kind}", hash_of(compute)


def _weight(key: fn.Key, shape: tuple[int, ...]) -> fn.Array:
    """Draw weights from 0 to 2, of which a third is 0."""
    drawn = np.maximum(3 * uniform(key, shape) - 1, 0)
    weight: fn.Array = drawn.astype(np.float32)
    return weight
