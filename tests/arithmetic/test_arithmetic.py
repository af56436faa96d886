"""Native and portable arithmetic: products, sums and functions have the right values, shapes, dtypes and locks."""

from __future__ import annotations

import math
import tracemalloc
from collections.abc import Callable
from typing import Final

import numpy as np
import pytest
from numpy.typing import NDArray

import funcnet as fn
from funcnet import arithmetic
from funcnet.arithmetic import Name, using
from funcnet.core.arrays import Array
from funcnet.core.trees import same_bits
from funcnet.random.draws import normal

KEY: Final = fn.Key(8)
every_arithmetic = pytest.mark.parametrize(
    ("name", "dtype"), [("native", np.float32), ("native", np.float64), ("portable", np.float32)]
)


def draw(name: str, *shape: int, dtype: fn.FloatDType) -> Array:
    """Draw normal numbers."""
    return normal(KEY.child(name), shape).astype(dtype)


def whole(name: str, *shape: int, dtype: fn.FloatDType) -> Array:
    """Draw small integers, whose products and sums do not round."""
    return np.rint(5 * draw(name, *shape, dtype=dtype))


def integers(a: Array) -> NDArray[np.int64]:
    """Convert whole numbers to int64, whose arithmetic is exact."""
    return a.astype(np.int64)


def check_locked(got: Array, wanted: NDArray[np.int64], dtype: fn.FloatDType) -> None:
    """Check that a result has this dtype, exactly these numbers and this shape, and that it is read-only."""
    assert got.dtype == dtype
    assert got.shape == wanted.shape
    assert got.tolist() == wanted.tolist()
    assert not got.flags.writeable


def test_an_arithmetic_says_its_name() -> None:
    """The name is native, except inside the ``with`` block of a different arithmetic."""
    assert arithmetic.in_force() == "native"
    with fn.portable():
        assert arithmetic.in_force() == "portable"
        with using("native"):
            assert arithmetic.in_force() == "native"
        assert arithmetic.in_force() == "portable"


# ------------------------------------------------------------------------------------------------- products


@every_arithmetic
@pytest.mark.parametrize(("batch", "inputs", "outputs"), [(6, 3, 4), (6, 1, 1), (96, 5, 96), (6, 0, 4), (6, 3, 0)])
def test_products(name: Name, dtype: fn.FloatDType, batch: int, inputs: int, outputs: int) -> None:
    """Forward and backward products are exact for large, small and empty arrays, and for a weight's transposed view."""
    shapes = ((batch, inputs), (inputs, outputs), (batch, outputs))
    x, weight, g = (whole(each, *shape, dtype=dtype) for each, shape in zip("xwg", shapes, strict=True))
    forward = integers(x) @ integers(weight)
    backward = integers(g) @ integers(weight).T
    outer = integers(x).T @ integers(g)
    with using(name):
        check_locked(arithmetic.matmul(x, weight), forward, dtype)
        check_locked(arithmetic.matmul(g, weight.T), backward, dtype)
        check_locked(arithmetic.matmul_columns(weight, g), backward.T, dtype)
        check_locked(arithmetic.sum_outer(x, g), outer, dtype)
        for size in (1, 2, batch):
            check_locked(arithmetic.matmul_parts(x, weight, size), forward, dtype)


@every_arithmetic
@pytest.mark.parametrize("shape", [(6, 3), (0, 3), (5, 7, 3), (4, 1, 3), (2, 3, 4, 5), (0, 4, 3), (4, 0, 3), (4, 2, 0)])
def test_products_over_the_last_axis(name: Name, dtype: fn.FloatDType, shape: tuple[int, ...]) -> None:
    """They are exact for any number of positions; the bits of a row do not depend on the rows around it."""
    x, weight = whole("x", *shape, dtype=dtype), whole("w", shape[-1], 2, dtype=dtype)
    with using(name):
        check_locked(arithmetic.matmul_last(x, weight), integers(x) @ integers(weight), dtype)
        check_locked(arithmetic.matmul_last(x, weight[:, ::-1]), integers(x) @ integers(weight)[:, ::-1], dtype)
        x, weight = draw("x", *shape, dtype=dtype), draw("w", shape[-1], 21, dtype=dtype)
        products = arithmetic.matmul_last(x, weight)
        for row in range(len(x) if x.ndim > 2 else 0):
            assert same_bits(products[row : row + 1], arithmetic.matmul_last(x[row : row + 1], weight))


@every_arithmetic
def test_parts_have_the_bits_that_they_have_alone(name: Name, dtype: fn.FloatDType) -> None:
    """The position of a part in a larger product does not change its bits."""
    x, weight = draw("x", 40, 33, dtype=dtype), draw("w", 33, 21, dtype=dtype)
    with using(name):
        parts = arithmetic.matmul_parts(x, weight, 5)
        for start in range(0, 40, 5):
            assert same_bits(parts[start : start + 5], arithmetic.matmul_parts(x[start : start + 5], weight, 5))


@every_arithmetic
@pytest.mark.parametrize("shape", [(2, 3, 4, 5, 6), (1, 1, 1, 1, 1), (2, 3, 1, 5, 1), (0, 3, 4, 5, 6), (2, 3, 4, 0, 6)])
def test_each_product(name: Name, dtype: fn.FloatDType, shape: tuple[int, ...]) -> None:
    """Products of stacked matrices are exact for views in any memory order, and have the bits that they have alone."""
    *stack, rows, inner, columns = shape
    shapes = {"a": (rows, *stack, inner), "b": (inner, *stack, columns)}
    a, b = (np.moveaxis(whole(each, *sizes, dtype=dtype), 0, -2) for each, sizes in shapes.items())
    turned = np.swapaxes(b, -1, -2)
    with using(name):
        check_locked(arithmetic.matmul_each(a, b), integers(a) @ integers(b), dtype)
        check_locked(arithmetic.inner_each(a, turned), integers(a) @ integers(b), dtype)
        a, b = (np.moveaxis(draw(each, *sizes, dtype=dtype), 0, -2) for each, sizes in shapes.items())
        for f, other in ((arithmetic.matmul_each, b), (arithmetic.inner_each, np.swapaxes(b, -1, -2))):
            products = f(a, other)
            for place in np.ndindex(*stack):
                assert same_bits(products[place], f(a[place], other[place]))


# ----------------------------------------------------------------------------------------------------- sums


@every_arithmetic
@pytest.mark.parametrize("shape", [(5,), (6, 3), (4, 2, 3)])
def test_sums(name: Name, dtype: fn.FloatDType, shape: tuple[int, ...]) -> None:
    """Sums and means over the batch, the last axis and all elements are exact for any rank."""
    a = whole("a", *shape, dtype=dtype)
    exact = integers(a)
    with using(name):
        check_locked(arithmetic.sum_rows(a), exact.sum(axis=0), dtype)
        last = arithmetic.sum_last(a)
        mean, total, mean_rows = arithmetic.mean(a), arithmetic.sum_all(a), arithmetic.mean_rows(a)
    assert last.dtype == dtype
    assert last.tolist() == exact.sum(axis=-1, keepdims=True).tolist()
    assert mean == exact.sum() / a.size
    assert total == pytest.approx(exact.sum(), rel=1e-15)
    assert type(mean) is type(total) is float
    assert mean_rows.dtype == np.float64
    assert mean_rows.tolist() == (exact.sum(axis=0) / len(a)).tolist()


@every_arithmetic
def test_means_are_summed_in_float64(name: Name, dtype: fn.FloatDType) -> None:
    """A float32 sum would lose each 1 next to a large number."""
    a: Array = np.array([2.0**24, 1.0, 1.0, 1.0], dtype)
    with using(name):
        assert arithmetic.mean(a) == 2.0**22 + 0.75
        assert arithmetic.sum_all(a) == 2.0**24 + 3
        assert arithmetic.mean_rows(np.stack([a, -a], axis=1)).tolist() == [2.0**22 + 0.75, -(2.0**22) - 0.75]


@every_arithmetic
def test_a_long_sum_keeps_no_memory(name: Name, dtype: fn.FloatDType) -> None:
    """The vectors of ones of long sums are not kept; those of short sums are, and they are locked."""
    tracemalloc.start()
    with using(name):
        sums = [arithmetic.sum_rows(np.ones((2**17 + each, 1), dtype)).item() for each in range(4)]
    kept, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert sums == [2**17 + each for each in range(4)]
    assert kept < 2**16 < 2**19 < peak
    assert arithmetic.portable.ones(9, np.dtype(dtype)) is arithmetic.portable.ones(9, np.dtype(dtype))
    assert not any(arithmetic.portable.ones(count, np.dtype(dtype)).flags.writeable for count in (9, 2**17))


@every_arithmetic
def test_a_cumulative_sum_adds_in_order(name: Name, dtype: fn.FloatDType) -> None:
    """It has the bits of a loop over float64 numbers."""
    a, totals = draw("c", 100, dtype=dtype), [0.0]
    for each in a.tolist():
        totals.append(totals[-1] + each)
    with using(name):
        assert arithmetic.cumulative_sum(a).tolist() == totals[1:]
        assert arithmetic.cumulative_sum(np.array([2**40, 1])).tolist() == [2.0**40, 2.0**40 + 1]


@every_arithmetic
def test_the_sum_of_nothing_is_0(name: Name, dtype: fn.FloatDType) -> None:
    """A sum of no rows or of empty rows is 0. The mean of an empty array is not a number."""
    with using(name):
        for shape in ((0, 3), (3, 0)):
            nothing = np.empty(shape, dtype)
            assert arithmetic.sum_rows(nothing).tolist() == [0.0] * shape[1]
            assert arithmetic.sum_last(nothing).tolist() == [[0.0]] * shape[0]
            assert arithmetic.sum_all(nothing) == 0
            with pytest.raises(ZeroDivisionError):
                arithmetic.mean(nothing)
        with np.errstate(invalid="ignore"):
            assert np.isnan(arithmetic.mean_rows(np.empty((0, 3), dtype))).tolist() == [True] * 3


@every_arithmetic
@pytest.mark.parametrize("shape", [(7, 3), (5, 2, 4), (1, 1), (0, 3)])
def test_centering(name: Name, dtype: fn.FloatDType, shape: tuple[int, ...]) -> None:
    """Over the batch and over the last axis, numbers far from 0 keep the digits of their deviations."""
    steps = integers(whole("a", *shape, dtype=dtype))
    a: Array = (1000 + steps / 1024).astype(dtype)
    tolerance = 4 * float(np.finfo(dtype).eps)
    with using(name):
        rows, last = arithmetic.centered_rows(a), arithmetic.centered_last(a)
    assert rows.dtype == last.dtype == dtype
    np.testing.assert_allclose(1024 * last, steps - steps.mean(axis=-1, keepdims=True), rtol=tolerance, atol=tolerance)
    if shape[0]:
        np.testing.assert_allclose(1024 * rows, steps - steps.mean(axis=0), rtol=tolerance, atol=tolerance)
        with using(name):
            mean, variance = arithmetic.mean_and_variance(a)
        assert mean.dtype == variance.dtype == np.float64
        np.testing.assert_allclose(mean, 1000 + steps.mean(axis=0) / 1024, rtol=1e-15)
        np.testing.assert_allclose(1024**2 * variance, steps.var(axis=0), rtol=1e-14, atol=1e-14)


# ------------------------------------------------------------------------------------------------ functions


NORMAL: Final[dict[str, Callable[[float], float]]] = {
    "normal_cdf": lambda x: math.erfc(-x / math.sqrt(2)) / 2,
    "normal_density": lambda x: math.exp(-x * x / 2) / math.sqrt(2 * math.pi),
}


@every_arithmetic
def test_softmax(name: Name, dtype: fn.FloatDType) -> None:
    """Each row is normalized independently, even next to a much larger row."""
    logits = np.log(np.array([[1.0, 3.0], [4.0, 1.0], [0.5, 0.5]], dtype)) + np.array([[0.0], [0.0], [1e4]], dtype)
    with using(name):
        shares = arithmetic.softmax(logits)
    assert shares.dtype == dtype
    np.testing.assert_allclose(shares, [[0.25, 0.75], [0.8, 0.2], [0.5, 0.5]], rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_softmax_of_the_ends_of_the_numbers(dtype: fn.FloatDType) -> None:
    """A difference that overflows gives a share of 0, without a warning."""
    end = np.finfo(dtype).max
    assert arithmetic.softmax(np.array([[end, -end]], dtype)).tolist() == [[1, 0]]
