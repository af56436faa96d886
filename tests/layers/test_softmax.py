"""Softmax: shares of any logits, gradients that keep their digits, and inputs without classes."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from networks import inputs

import funcnet as fn
from funcnet.arithmetic import softmax

KEY = fn.Key(62)
every_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64])


@every_dtype
def test_shares_are_those_of_predict_proba(dtype: fn.FloatDType) -> None:
    """They are the probabilities of logits, bit for bit, also for the largest numbers, and their sum is 1."""
    largest = np.finfo(dtype).max
    far: fn.Array = np.array([[largest, -largest, 0, 1], [1e4, 1e4, -1e4, 0], [-largest] * 4], dtype)
    x = np.concatenate([inputs(KEY, 5, 4, dtype=dtype), far])
    y = fn.forward(fn.Softmax(), x)
    np.testing.assert_array_equal(y, softmax(x))
    np.testing.assert_allclose(y.sum(axis=-1), 1, rtol=1e-6)
    assert np.isfinite(fn.backward(fn.Softmax(), x, np.ones_like(x))[0]).all()


def test_a_shift_of_the_logits_changes_nothing() -> None:
    """Each row and position is independent, and the gradient of a row of equal g is 0."""
    x = np.round(inputs(KEY, 3, 2, 5) * 64) / 64
    np.testing.assert_array_equal(fn.forward(fn.Softmax(), x), fn.forward(fn.Softmax(), x + 1024))
    np.testing.assert_array_equal(fn.backward(fn.Softmax(), x, np.full_like(x, 0.7))[0], np.zeros_like(x))


@every_dtype
@pytest.mark.parametrize("distance", [1.0, 20.0, 50.0, 80.0])
@pytest.mark.parametrize("g", [(2.0, -2.0), (0.3, 0.7), (-1.0, 0.0)])
def test_the_gradient_of_two_classes_keeps_its_digits(
    dtype: fn.FloatDType, distance: float, g: tuple[float, ...]
) -> None:
    """``grad = y[0] y[1] (g[0] - g[1])`` for the first class, and its negative for the second."""
    x: fn.Array = np.array([[distance, 0]], dtype)
    of_g: fn.Array = np.array([g], dtype)
    small = float(np.exp(-distance))
    wanted = small / (1 + small) ** 2 * float(Fraction(float(of_g[0, 0])) - Fraction(float(of_g[0, 1])))
    grad_x = fn.backward(fn.Softmax(), x, of_g)[0]
    np.testing.assert_allclose(grad_x, [[wanted, -wanted]], rtol=16 * float(np.finfo(dtype).eps))


def test_many_equal_logits_keep_their_digits() -> None:
    """A new classifier has nearly equal logits: the g that is subtracted is the mean over all of the largest."""
    g = inputs(KEY, 2, 1000, dtype=np.float32)
    grad_x = fn.backward(fn.Softmax(), np.zeros_like(g), g)[0]
    wide = g.astype(np.float64)
    np.testing.assert_allclose(grad_x, (wide - wide.mean(axis=1, keepdims=True)) / 1000, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize(
    ("shape", "error", "message"),
    [
        ((3,), fn.ShapeError, "Softmax: x must have shape (B, ..., C), got (3,)"),
        ((3, 0), fn.ConfigError, "Softmax: the size of the last axis must be an int of at least 1, got 0"),
    ],
)
def test_rows_without_classes_are_refused(shape: tuple[int, ...], error: type[fn.FuncnetError], message: str) -> None:
    """A row must have at least one number."""
    with pytest.raises(error) as caught:
        fn.forward(fn.Softmax(), np.ones(shape))
    assert str(caught.value).startswith(message)
    with pytest.raises(fn.ShapeError, match=r"^Softmax: x must have shape \(B, ..., C\), got \(B,\)"):
        fn.output_shape(fn.Softmax(), ())
