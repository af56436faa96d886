"""Losses over positions against PyTorch in float64: ignored labels, masks and weights of positives, as weights.

PyTorch has the classes in the second axis. Its mean over masked elements is written out: it has none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import pytest
from networks import inputs

import funcnet as fn

torch: Any = pytest.importorskip("torch", reason="torch is not installed")
functional: Final[Any] = torch.nn.functional
KEY: Final = fn.Key(67)
CLASSES: Final = (1.0, 0.5, 2.0, 0.25)
POSITIVE: Final[fn.Array] = np.array([3.0, 0.5, 1.0, 7.0])


def close(found: tuple[float, fn.Array], wanted: Any, logits: Any) -> None:
    """Compare a loss and its gradient with PyTorch's, within 1e-9."""
    (gradient,) = torch.autograd.grad(wanted, logits)
    assert found[0] == pytest.approx(wanted.item(), rel=1e-9)
    np.testing.assert_allclose(found[1], gradient.numpy(), rtol=1e-9, atol=1e-12)


def data(shape: tuple[int, ...]) -> tuple[fn.Array, Any, Any]:
    """Return logits, labels of which some are -100, and shares that sum to 1."""
    x: fn.Array = inputs(KEY.child("x"), *shape) * 3
    labels = np.arange(x.size // 4).reshape(shape[:-1]) * 7 % 4
    labels[inputs(KEY.child("ignored"), *shape[:-1]) > 0.5] = -100
    shares: fn.Array = np.abs(inputs(KEY.child("shares"), *shape))
    return x, labels, shares / shares.sum(axis=-1, keepdims=True)


SHAPES: Final = ((9, 4), (6, 5, 4), (3, 2, 5, 4))
every_shape = pytest.mark.parametrize("shape", SHAPES, ids=len)


@every_shape
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("classes", [None, CLASSES])
def test_cross_entropy(shape: tuple[int, ...], smoothing: float, classes: tuple[float, ...] | None) -> None:
    """The mean over the labels that are not -100 is PyTorch's with its ``ignore_index``, also with class weights."""
    x, labels, shares = data(shape)
    settings = {
        "label_smoothing": smoothing,
        "weight": None if classes is None else torch.tensor(classes, dtype=torch.float64),
    }
    loss = fn.SoftmaxCrossEntropy(smoothing, classes)
    logits = torch.tensor(x, requires_grad=True)
    second = logits.movedim(-1, 1)
    weight = (labels != -100).astype(np.float64)
    close(loss(x, labels, weight), functional.cross_entropy(second, torch.tensor(labels), **settings), logits)
    by_shares = functional.cross_entropy(second, torch.tensor(shares).movedim(-1, 1), **settings)
    close(loss(x, shares), by_shares, logits)
    if classes is None and not smoothing:
        wanted = functional.cross_entropy(second, torch.tensor(labels))
        close(fn.softmax_cross_entropy(x, labels, weight), wanted, logits)


@every_shape
def test_weights_of_positives(shape: tuple[int, ...]) -> None:
    """PyTorch's ``pos_weight`` is a weight. PyTorch divides by the number of elements: its loss is this by mean(w)."""
    x, _, shares = data(shape)
    logits = torch.tensor(x, requires_grad=True)
    for target in ((shares > 0.3).astype(np.float64), shares):
        weight = 1 + (POSITIVE - 1) * target
        mixed = POSITIVE * target / weight  # the target itself if it is 0 or 1
        value, gradient = fn.binary_cross_entropy(x, mixed, weight)
        scale = float(weight.mean())
        wanted = functional.binary_cross_entropy_with_logits(
            logits, torch.tensor(target), pos_weight=torch.tensor(POSITIVE)
        )
        close((scale * value, scale * gradient), wanted, logits)


LOSSES: Final[dict[str, tuple[Any, Callable[..., Any]]]] = {
    "binary_cross_entropy": (fn.binary_cross_entropy, functional.binary_cross_entropy_with_logits),
    "mean_squared_error": (fn.mean_squared_error, functional.mse_loss),
    "mean_absolute_error": (fn.mean_absolute_error, functional.l1_loss),
    "huber": (fn.huber, functional.huber_loss),
    "poisson": (fn.poisson, functional.poisson_nll_loss),
}


@every_shape
@pytest.mark.parametrize("name", LOSSES)
def test_masks(name: str, shape: tuple[int, ...]) -> None:
    """Masks of rows, of positions and of elements: ``(mask * losses).sum() / mask.sum()`` over the elements."""
    loss, other = LOSSES[name]
    x, _, target = data(shape)
    logits = torch.tensor(x, requires_grad=True)
    masks = (inputs(KEY.child("mask", axes), *shape[:axes]) > -0.3 for axes in range(1, len(shape) + 1))
    for mask in masks:
        unknown = target.copy()
        unknown[~mask] = np.nan
        every = torch.tensor(mask.reshape(*mask.shape, *[1] * (x.ndim - mask.ndim))).expand(shape)
        losses = other(logits, torch.tensor(target), reduction="none")
        close(loss(x, unknown, mask.astype(np.float64)), losses[every].mean(), logits)
