"""PReLU: slopes of any size and sign, the sums of their gradients, and invalid settings."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest
from networks import inputs

import funcnet as fn

KEY = fn.Key(61)
EACH_SIGN = np.array([[-2.0, 0.0, 3.0]])


@pytest.mark.parametrize("slope", [-0.5, 0.0, 0.25, 1.0, 3.0])
def test_the_value_and_the_slope_on_each_side_of_0(slope: float) -> None:
    """The slope may be negative, or larger than 1, where y is no maximum; at 0, the derivative is the slope."""
    layer = fn.prelu(slope=slope, dtype=np.float64)
    grad_x, grad = fn.backward(layer, EACH_SIGN, np.array([[1.0, 10.0, 100.0]]))
    np.testing.assert_array_equal(fn.forward(layer, EACH_SIGN), [[-2 * slope, 0, 3]])
    np.testing.assert_array_equal(grad_x, [[slope, 10 * slope, 100]])
    np.testing.assert_array_equal(grad.slope, [-2])


def test_equal_slopes_are_one_slope() -> None:
    """One slope for each channel, all equal, gives the same outputs; the gradient of one slope is their sum."""
    x, g = inputs(KEY.child("x"), 5, 3, 2, 4), inputs(KEY.child("g"), 5, 3, 2, 4)
    one, four = fn.prelu(dtype=np.float64), fn.prelu(4, dtype=np.float64)
    np.testing.assert_array_equal(fn.forward(one, x), fn.forward(four, x))
    (grad_one, of_one), (grad_four, of_four) = fn.backward(one, x, g), fn.backward(four, x, g)
    np.testing.assert_array_equal(grad_one, grad_four)
    np.testing.assert_allclose(of_one.slope, [of_four.slope.sum()], rtol=1e-12)


def test_one_slope_takes_rows_of_any_shape() -> None:
    """The rows may also be single numbers."""
    for shape in ((3,), (3, 1), (3, 2), (3, 2, 4, 5), (0, 2)):
        x = inputs(KEY, *shape)
        grad_x, grad = fn.backward(fn.prelu(dtype=np.float64), x, x)
        assert (grad_x.shape, grad.slope.shape) == (x.shape, (1,))
    assert fn.output_shape(fn.prelu(), (2, 4)) == (2, 4)


def test_weight_decay_does_not_apply() -> None:
    """The slope is trained but not decayed."""
    layer = fn.prelu(2)
    optimizer = fn.AdamW(learning_rate=0.1, weight_decay=0.5)
    zero = fn.map_parameters(np.zeros_like, layer)
    state = fn.TrainState.create(layer, optimizer, key=KEY)
    new, _ = optimizer.update(layer, zero, state.moments, 0)
    assert fn.equal(new, layer)


REFUSED: list[tuple[Callable[[], object], type[fn.FuncnetError], str]] = [
    (lambda: fn.prelu(0), fn.ConfigError, "prelu: size must be an int of at least 1, got 0"),
    (lambda: fn.prelu(slope=math.nan), fn.ConfigError, "prelu: slope must be a number in (-3.402"),
    (lambda: fn.prelu(slope=cast("Any", "0.1")), fn.ConfigError, "prelu: slope must be a number in (-3.402"),
    (lambda: fn.prelu(slope=1e300), fn.ConfigError, "prelu: slope must be a number in (-3.402"),
    (lambda: fn.PReLU(np.ones((2, 2))), fn.ShapeError, "PReLU: slope must have shape (C,), got (2, 2)"),
    (lambda: fn.PReLU(np.ones(0)), fn.ConfigError, "PReLU: slope's size must be an int of at least 1, got 0"),
    (
        lambda: fn.forward(fn.prelu(3), np.ones((2, 4), np.float32)),
        fn.ShapeError,
        "PReLU: x must have shape (B, ..., 3) to match slope (3,), got (2, 4)",
    ),
    (
        lambda: fn.forward(fn.prelu(), np.ones((2, 4))),
        fn.DTypeError,
        "PReLU: x must be float32 to match slope, got float64; use x.astype(np.float32)",
    ),
    (
        lambda: fn.output_shape(fn.prelu(3), (2, 4)),
        fn.ShapeError,
        "PReLU: x must have shape (B, ..., 3) to match slope (3,), got (B, 2, 4)",
    ),
]


@pytest.mark.parametrize(("make", "error", "message"), REFUSED)
def test_what_is_refused(make: Callable[[], object], error: type[fn.FuncnetError], message: str) -> None:
    """The message says what is wrong."""
    with pytest.raises(error) as caught:
        make()
    assert str(caught.value).startswith(message)
