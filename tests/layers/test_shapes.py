"""Reshape: its settings and the rows that it refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import funcnet as fn


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ([2, 3], "shape must be a tuple of sizes without the batch, got [2, 3]"),
        (6, "shape must be a tuple of sizes without the batch, got 6; use (6,)"),
        ((0, 2), "a size must be an int of at least 1, got 0"),
        ((3, 2.0), "a size must be an int of at least 1, got 2.0"),
    ],
)
def test_a_reshape_has_a_shape(shape: Any, message: str) -> None:
    """The shape is a tuple of sizes of at least 1."""
    with pytest.raises(fn.ConfigError) as caught:
        fn.Reshape(shape)
    assert str(caught.value) == f"Reshape: {message}"


def test_a_reshape_keeps_every_number() -> None:
    """Rows of another size are refused with both sizes; a row without axes has size 1."""
    message = "Reshape (layer 1): x must have rows of 6 numbers to fit (3, 2), got (2, 2), which has 4"
    net, x = (fn.ReLU(), fn.Reshape((3, 2))), np.ones((2, 2, 2), np.float32)
    for call in (lambda: fn.forward(net, x), lambda: fn.vjp(net, x), lambda: fn.output_shape(net, (2, 2))):
        with pytest.raises(fn.ShapeError) as caught:
            call()
        assert str(caught.value) == message
    assert fn.forward(fn.Reshape(()), x[:, :1, 0]).shape == (2,)
