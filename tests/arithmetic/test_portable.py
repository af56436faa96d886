"""Portable arithmetic is exact, accurate, independent of order, and the same under different kernels and libraries."""

from __future__ import annotations

import json
import math
import platform
import re
import sys
from collections.abc import Callable
from fractions import Fraction
from functools import cache
from pathlib import Path
from runpy import run_path
from typing import Any, Final, TypeAlias

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from portable_matrix import Cell, has_old_names, run_program
from surroundings import needs_traps

import funcnet as fn
from funcnet import arithmetic
from funcnet.arithmetic import elementary, portable
from funcnet.core.arrays import Array, is_canonical
from funcnet.random.draws import normal, permutation

KEY: Final = fn.Key(4)
linux_x86 = pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64") or not Path("/proc/cpuinfo").exists(),
    reason="the BLAS kernels are those of x86-64, and Linux says what a processor has",
)
Double: TypeAlias = NDArray[np.float64]


def draw(name: str, *shape: int, scale: float = 1.0) -> Array:
    """Draw normal numbers in float32."""
    return (scale * normal(KEY.child(name), shape)).astype(np.float32)


def spread(name: str, *shape: int) -> Array:
    """Draw normal numbers in float32 with magnitudes from 1e-6 to 1e6."""
    return (normal(KEY.child(name), shape) * 10.0 ** (3 * normal(KEY.child(name, "size"), shape))).astype(np.float32)


def same(a: Array, b: Array) -> bool:
    """Whether two arrays have the same bits."""
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


# ------------------------------------------------------------------------------------------------ exactness


def power(numbers: Array) -> Fraction:
    """Return the largest power of two that does not exceed the largest magnitude, but at least 2**-126."""
    largest = max([Fraction(2) ** -126, *(abs(Fraction(float(v))) for v in numbers.ravel())])
    return Fraction(2) ** (math.frexp(float(largest))[1] - 1)


def multiple(v: Fraction, unit: Fraction) -> Fraction:
    """Return the nearest multiple of a unit, with ties to even."""
    return round(v / unit) * unit


def rounded(numbers: Array, bits: int = 22) -> list[Fraction]:
    """Round the numbers to multiples of a unit such that the largest number has the given number of bits."""
    unit = power(numbers) / 2 ** (bits - 1)
    return [multiple(Fraction(float(v)), unit) for v in numbers.ravel()]


def added(terms: list[Fraction]) -> np.float32:
    """Return the sum of exact sums of blocks of 512, which are added in float64."""
    total = 0.0
    for start in range(0, len(terms), 512):
        total += float(sum(terms[start : start + 512], Fraction(0)))
    return np.float32(total)


PRODUCTS: Final = {
    "small": (draw("x", 3, 5), draw("w", 5, 2)),
    "spread": (spread("x", 3, 7), spread("w", 7, 2)),
    "large": (draw("x", 2, 40, scale=1e30), draw("w", 40, 1, scale=1e-30)),
    "denormal": (draw("x", 2, 5, scale=1e-40), draw("w", 5, 2)),
    "denormal weight": (draw("x", 2, 5), draw("w", 5, 2, scale=1e-42)),
    "negative": (draw("x", 2, 5), -np.abs(draw("w", 5, 2))),
    "no columns": (draw("x", 2, 0), draw("w", 0, 2)),
    "one block": (draw("x", 2, 512), draw("w", 512, 2)),
    "three blocks": (draw("x", 1, 1100), draw("w", 1100, 2)),
    "huge": (np.full((2, 600), 3.0e38, np.float32), np.full((600, 1), 1e-6, np.float32)),
}


@pytest.mark.parametrize(("x", "weight"), PRODUCTS.values(), ids=PRODUCTS)
def test_a_product_is_the_exact_product_of_the_rounded(x: Array, weight: Array) -> None:
    """The product equals the product in fractions exactly."""
    columns = rounded(weight)
    width = weight.shape[1]
    wanted = [
        [added([a * b for a, b in zip(rounded(row), columns[o::width], strict=True)]) for o in range(width)]
        for row in x
    ]
    assert same(portable.matmul(x, weight), np.array(wanted, np.float32))


def test_no_partial_sum_rounds() -> None:
    """The limit is 512 products of odd 22-bit numbers of one sign. One more bit or product would not fit."""
    low = permutation(KEY.child("low"), 512).astype(np.int64)
    integers = 2**portable.BITS - 1 - 2 * low[: portable.BLOCK]
    numbers = (integers * 2.0 ** (1 - portable.BITS)).astype(np.float32)
    left, right = portable.rows(numbers[None]), portable.operand(numbers[:, None])
    unit = 4.0 ** (1 - portable.BITS)
    exact = sum(int(v) * int(v) for v in integers)
    assert Fraction(float((left.values @ right.values)[0, 0]) / unit) == exact
    assert 2**52 < exact <= 2**53


EACH: Final = {
    "small": (draw("a", 2, 3, 5), draw("b", 2, 5, 2)),
    "spread": (spread("a", 2, 2, 3, 7), spread("b", 2, 2, 7, 2)),
    "one for all": (spread("a", 1, 1, 7), spread("b", 3, 7, 2)),
    "sizes": (spread("a", 2, 3, 4), draw("b", 2, 4, 2) * np.array([[0.0], [1e-30], [1.0], [1e30]], np.float32)),
    "huge": (draw("a", 1, 2, 4, scale=1e38), draw("b", 1, 4, 2, scale=1e-38)),
    "two blocks": (spread("a", 2, 1, 700), spread("b", 2, 700, 2)),
    "no columns": (draw("a", 2, 3, 0), draw("b", 2, 0, 2)),
}


def product_of_rounded(a: Array, b: Array) -> Array:
    """The product of two matrices whose operands are rounded as ``matmul_each`` says."""
    units = [power(row) for row in b]
    right = [[v / unit for v in rounded(row)] for row, unit in zip(b, units, strict=True)]
    rows = [[Fraction(float(v)) * unit for v, unit in zip(row, units, strict=True)] for row in a]
    wanted: list[list[np.float32]] = []
    for row in rows:
        top = max(map(abs, row), default=Fraction(0))
        unit = Fraction(2) ** (math.frexp(float(top))[1] - 1) / 2**21
        terms = [multiple(v, unit) for v in row]
        pairs = ([v * line[k] for v, line in zip(terms, right, strict=True)] for k in range(b.shape[1]))
        wanted.append([added(pair) for pair in pairs])
    return np.array(wanted, np.float32).reshape(len(a), b.shape[1])


@pytest.mark.parametrize(("a", "b"), EACH.values(), ids=EACH)
def test_each_product_is_the_exact_product_of_the_rounded(a: Array, b: Array) -> None:
    """``matmul_each`` equals the products in fractions exactly. Both functions are as accurate as their rounding."""
    full = np.broadcast_to(a, b.shape[:-2] + a.shape[-2:])
    got = portable.matmul_each(a, b)
    for place in np.ndindex(*b.shape[:-2]):
        assert same(got[place], product_of_rounded(full[place], b[place]))
    wide, sizes = full.astype(np.float64) @ b, (np.abs(a).astype(np.float64), np.abs(b).astype(np.float64))
    products = (sizes[0][..., :, :, None] * sizes[1][..., None, :, :]).max(axis=(-2, -1), initial=0)[..., None]
    largest = sizes[0].max(axis=-1, keepdims=True, initial=0) * sizes[1].max(axis=-2, keepdims=True, initial=0)
    unit = b.shape[-2] * 2.0**-19
    assert (np.abs(got - wide) <= unit * products + 1e-44).all()
    assert (np.abs(portable.inner_each(a, np.swapaxes(b, -1, -2)) - wide) <= unit * largest + 1e-44).all()


def test_each_product_depends_on_what_it_reads_only() -> None:
    """Neither other matrices, nor other rows, nor rows of b whose factors are 0, nor the order of a sum matter."""
    a, b = spread("a", 3, 4, 6), spread("b", 3, 6, 5)
    whole, inner = portable.matmul_each(a, b), portable.inner_each(a, np.swapaxes(b, -1, -2).copy())
    for i in range(3):
        assert same(portable.matmul_each(a[i : i + 1, 1:3], b[i : i + 1]), whole[i : i + 1, 1:3])
        part = portable.inner_each(a[i : i + 1, 1:3], np.swapaxes(b, -1, -2)[i : i + 1, 2:])
        assert same(part, inner[i : i + 1, 1:3, 2:])
    order = permutation(KEY.child("each"), 6)
    assert same(portable.matmul_each(a[..., order], b[:, order]), whole)
    a, other = a.copy(), b.copy()
    a[:, :, 4:] = 0
    other[:, 4:] *= np.float32(1e30)
    assert same(portable.matmul_each(a, other), portable.matmul_each(a, b))


SIZES: Final = np.array([[0.0], [1e-30], [1.0], [1e4]], np.float32)
OUTER: Final = {
    "small": (draw("x", 4, 3), draw("g", 4, 2)),
    "spread": (spread("x", 6, 3), spread("g", 6, 2)),
    "two blocks": (spread("x", 700, 2), spread("g", 700, 1)),
    "zeros and trifles": (draw("x", 4, 3) * SIZES, draw("g", 4, 2)),
}


@pytest.mark.parametrize(("x", "g"), OUTER.values(), ids=OUTER)
def test_a_sum_of_outer_products_is_exact(x: Array, g: Array) -> None:
    """The sum equals one in fractions, with a unit per row of x, and g rounded so that products share a unit."""
    largest = max(power(a) * power(b) for a, b in zip(x, g, strict=True))
    left, right = zip(*[(rounded(a), rounded(b)) for a, b in zip(x, g, strict=True)], strict=True)
    again = [[multiple(v, largest / 2**21 / power(a)) for v in values] for a, values in zip(x, right, strict=True)]
    wanted = [
        [added([p[i] * q[o] for p, q in zip(left, again, strict=True)]) for o in range(g.shape[1])]
        for i in range(x.shape[1])
    ]
    assert same(portable.sum_outer(x, g), np.array(wanted, np.float32))


@given(st.lists(st.floats(width=32, min_value=-(2.0**100), max_value=2.0**100), min_size=1, max_size=9))
def test_a_sum_is_exact(numbers: list[float]) -> None:
    """All three sums agree with fractions."""
    a = np.array([numbers], np.float32)
    bits = 54 - max(2, (len(numbers) - 1).bit_length()) - 1
    total = sum(rounded(a, bits), Fraction(0))
    assert portable.sum_last(a)[0, 0] == np.float32(float(total))
    assert same(portable.sum_rows(a.T), portable.sum_last(a)[0])
    exact = sum(map(Fraction, numbers), Fraction(0)) / len(numbers)
    assert abs(Fraction(portable.mean(a)) - exact) <= Fraction(np.abs(a).max().item()) / 2**46
    assert portable.mean_rows(a.T).tolist() == [portable.mean(a)]


def test_a_sum_of_comparable_numbers_rounds_once() -> None:
    """The result is the exact sum, rounded to float32."""
    a = draw("a", 1000, 3)
    a[np.abs(a) < 1e-3] = 0
    wanted = [math.fsum(column.tolist()) for column in a.T]
    assert same(portable.sum_rows(a), np.array(wanted, np.float32))
    assert same(portable.sum_last(a.T)[:, 0], np.array(wanted, np.float32))
    assert portable.mean(a) == pytest.approx(math.fsum(wanted) / a.size, rel=1e-7)
    exact = math.fsum(a.ravel().tolist()) / a.size
    assert portable.mean(a) == pytest.approx(exact, rel=1e-12)
    assert portable.mean(a.astype(np.float64)) == portable.mean(a)
    for scale in (1, np.array([1e-30, 1.0, 1e30])):  # each column independently
        scaled = (a * scale).astype(np.float32)
        columns = np.array([portable.mean(column) for column in scaled.T])
        assert same(portable.mean_rows(scaled), columns)
        assert same(portable.mean_rows(scaled.astype(np.float64)), columns)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 6, 8, 9, 10, 16, 17, 18, 1000, 2**20, 2**20 + 1])
def test_a_sum_has_room_for_all_its_terms(count: int) -> None:
    """``count`` numbers below 2, in their rounding unit, sum to 53 bits. Only bits beyond 51 per number are unused."""
    rounder = portable.sum_rounder(count)
    unit = math.ulp(rounder)
    assert math.ulp(rounder - 2) == math.ulp(math.nextafter(rounder + 2, 0)) == unit
    assert count * Fraction(2) / Fraction(unit) <= 2**53
    assert unit == 2.0**-50 or count * Fraction(2) / Fraction(unit) > 2**52


def test_zero_is_positive() -> None:
    """Some kernels begin a sum with its first product and return -0.0 where other kernels return 0.0."""
    zeros, negative = np.zeros((2, 1), np.float32), np.full((1, 3), -1.0, np.float32)
    for result in (portable.matmul(zeros, negative), portable.sum_outer(zeros.T, negative), portable.sum_rows(-zeros)):
        assert not np.signbit(result).any()


# ------------------------------------------------------------------------------------------------- accuracy


def relative(got: Array, exact: Double) -> float:
    """Return the largest error in units of the root mean square of the result."""
    return float(np.abs(got - exact).max() / np.sqrt((exact * exact).mean()))


@pytest.mark.parametrize(
    ("batch", "inputs", "outputs"), [(32, 784, 100), (128, 200, 10), (128, 10, 200), (8, 3000, 16)]
)
def test_products_are_accurate(batch: int, inputs: int, outputs: int) -> None:
    """Errors are below 6e-6 of the result. Measured: 1.6e-6 to 4.0e-6; BLAS in float32 has 0.6e-6 to 2.2e-6."""
    x, weight = draw("x", batch, inputs), draw("w", inputs, outputs, scale=0.05)
    g = draw("g", batch, outputs, scale=1e-3)
    assert relative(portable.matmul(x, weight), x.astype(float) @ weight.astype(float)) < 6e-6
    assert relative(portable.matmul(g, weight.T), g.astype(float) @ weight.T.astype(float)) < 6e-6
    assert relative(portable.sum_outer(x, g), x.T.astype(float) @ g.astype(float)) < 6e-6


def test_rows_of_any_size_are_accurate() -> None:
    """A row of size 1e-30 is accurate next to a row of size 1e30."""
    sizes = np.array([[1e-30], [1.0], [1e30], [0.0]], np.float32)
    x, weight = draw("x", 4, 100) * sizes, draw("w", 100, 20)
    exact = x.astype(float) @ weight.astype(float)
    for got, wanted in zip(portable.matmul(x, weight)[:3], exact[:3], strict=True):
        assert relative(got, wanted) < 6e-6


# ------------------------------------------------------------------------------------------------- functions

Function: TypeAlias = Callable[[Array], Array]
FUNCTIONS: Final = {
    "exp": (portable.exp, elementary.exp, math.exp),
    "log": (portable.log, elementary.log, math.log),
    "expm1": (portable.expm1, elementary.expm1, math.expm1),
    "log1p": (portable.log1p, elementary.log1p, math.log1p),
    "tanh": (portable.tanh, elementary.tanh, math.tanh),
    "erf": (portable.erf, elementary.erf, math.erf),
}


def arguments(name: str) -> Array:
    """Make float32 numbers of every size that is relevant for the function."""
    sizes = np.ldexp(1 + np.abs(draw("mantissa", 4000)) / 8, np.resize(np.arange(-148, 127), 4000)).astype(np.float32)
    dense = np.linspace(-12, 12, 9601).astype(np.float32)
    if name == "log":
        return sizes[sizes > 0]
    signed = np.concatenate([sizes, -sizes, dense])
    if name == "log1p":
        return signed[signed > -1]
    return signed[(np.abs(signed) < 88)] if name in ("exp", "expm1") else signed


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_are_right_to_one_unit(name: str) -> None:
    """In float32, results differ from a float64 library by at most 0.5001 units in the last place."""
    ours, wide, theirs = FUNCTIONS[name]
    x = arguments(name)
    exact = np.array([theirs(v) for v in x.tolist()])
    unit = np.maximum(np.spacing(np.abs(exact).astype(np.float32)).astype(float), 2.0**-149)
    assert np.max(np.abs(ours(x).astype(float) - exact) / unit) <= 0.5001
    double = np.abs(wide(x.astype(np.float64)) - exact)
    assert np.max(double / np.spacing(np.abs(exact))) <= 4


@pytest.mark.parametrize(
    ("name", "x", "decimals"),
    [
        ("exp", 1.0, "2.718281828459045235360287471352662497757"),
        ("exp", -10.0, "0.00004539992976248485153559151556055061023792"),
        ("log", 10.0, "2.302585092994045684017991454684364207601"),
        ("expm1", 1.0, "1.718281828459045235360287471352662497757"),
        ("expm1", -0.25, "-0.2211992169285951317548297330216842448437"),
        ("log1p", 0.25, "0.2231435513142097557662950903098345033746"),
        ("log1p", 9.0, "2.302585092994045684017991454684364207601"),
        ("tanh", 0.5, "0.4621171572600097585023184836436725487302"),
        ("tanh", -2.0, "-0.9640275800758168839464137241009231502550"),
        ("erf", 0.5, "0.5204998778130465376827466538919645287365"),
        ("erf", 2.0, "0.9953222650189527341620692563672529286109"),
    ],
)
def test_functions_of_known_numbers(name: str, x: float, decimals: str) -> None:
    """Results agree with 40 digits to four units in the last place of float64 and half a unit of float32."""
    ours, wide, _ = FUNCTIONS[name]
    wanted = Fraction(decimals)
    got = Fraction(float(wide(np.array([x]))[0]))
    assert abs(got - wanted) <= 4 * Fraction(math.ulp(float(wanted)))
    assert ours(np.array([x], np.float32))[0] == np.float32(float(wanted))


def test_special_values() -> None:
    """Results are right at the ends of the range."""
    ends = np.array([0.0, -0.0, 30.0, -30.0, 3e38, -3e38, 1e-45], np.float32)
    assert portable.tanh(ends).tolist() == [*portable.erf(ends).tolist()[:6], float(np.float32(1e-45))]
    assert portable.tanh(ends).tolist()[:6] == [0, 0, 1, -1, 1, -1]
    assert np.signbit(portable.tanh(ends)).tolist() == np.signbit(ends).tolist()
    assert portable.exp(np.array([0.0, -104.0, -3e38, 1e-45], np.float32)).tolist() == [1, 0, 0, 1]
    assert portable.log(np.array([1.0, 1e-45], np.float32)).tolist() == [0, float(np.float32(-149 * math.log(2)))]


@needs_traps
def test_an_exponential_beyond_float32_is_said() -> None:
    """An overflow is reported by NumPy, as for ``np.exp``."""
    for function in (portable.exp, portable.expm1):
        with np.errstate(over="raise"), pytest.raises(FloatingPointError, match="overflow"):
            function(np.array([89.0], np.float32))
        with np.errstate(over="ignore"):
            assert function(np.array([89.0, 3e38], np.float32)).tolist() == [math.inf, math.inf]


def test_odd_functions_are_odd() -> None:
    """The functions are odd, bit for bit."""
    x = arguments("tanh")
    for function in (portable.tanh, portable.erf):
        assert same(function(-x), -function(x))


def test_the_doors_functions_are_native_ones_or_portable_ones() -> None:
    """The arithmetic in force determines which implementation runs."""
    x = np.abs(draw("door", 50))
    numpys: dict[str, Function] = {"exp": np.exp, "expm1": np.expm1, "log": np.log, "log1p": np.log1p, "tanh": np.tanh}

    def own_erf(a: Array) -> Array:
        return elementary.erf(a.astype(np.float64)).astype(a.dtype)

    for name, (ours, _, _) in FUNCTIONS.items():
        door: Callable[..., Array] = getattr(arithmetic, name)
        native = numpys.get(name, own_erf)
        for dtype in (np.float32, np.float64):
            assert same(door(x.astype(dtype)), native(x.astype(dtype)))
        with fn.portable():
            assert same(door(x), ours(x))


# ---------------------------------------------------------------------------------------------- independence


@pytest.mark.parametrize("count", [1, 7, 33])
def test_rows_do_not_depend_on_rows(count: int) -> None:
    """In every function over rows, a part of a batch has the same bits as it has in the full batch."""
    x = spread("x", 100, 784)
    x[3], x[4] = 0, x[4] * np.float32(1e25)
    weight = draw("w", 784, 30)
    functions: tuple[Function, ...] = (
        lambda a: portable.matmul(a, weight),
        portable.sum_last,
        portable.tanh,
        portable.erf,
        lambda a: portable.expm1(-np.abs(a)),
        lambda a: portable.log1p(np.abs(a)),
    )
    for function in functions:
        whole = function(x)
        parts = [function(x[start : start + count]) for start in range(0, 100, count)]
        assert same(np.concatenate(parts), whole)


def test_order_does_not_matter() -> None:
    """Neither the order of the rows nor that of the summands changes a bit."""
    x, g, weight = spread("x", 300, 90), spread("g", 300, 20), draw("w", 90, 20)
    order, inner = permutation(KEY.child("order"), 300), permutation(KEY.child("inner"), 90)
    assert same(portable.matmul(x[order], weight), portable.matmul(x, weight)[order])
    assert same(portable.matmul(x[:, inner], weight[inner]), portable.matmul(x, weight))
    assert same(portable.sum_outer(x[order], g[order]), portable.sum_outer(x, g))
    assert same(portable.sum_rows(x[order]), portable.sum_rows(x))
    assert same(portable.sum_last(x[:, inner]), portable.sum_last(x))
    assert portable.mean(x[order][:, inner]) == portable.mean(x)
    assert same(portable.mean_rows(x[order]), portable.mean_rows(x))


TALL: Final = ((300, 2), (301, 2), (5001, 3), (9000, 16), (9000, 17), (129, 1), (200, 150))


@pytest.mark.parametrize("shape", TALL)
def test_a_tall_array_has_the_bits_of_its_parts(shape: tuple[int, int]) -> None:
    """Many short rows have their own way to the largest numbers. It gives the units of few rows, and sees every row."""
    x = spread("tall", *shape)
    whole, parts = portable.rows(x), [portable.rows(x[start : start + 7]) for start in range(0, len(x), 7)]
    assert same(whole.powers, np.concatenate([part.powers for part in parts]))
    assert same(whole.values, np.concatenate([part.values for part in parts]))
    turned = np.ascontiguousarray(x.T)
    assert same(portable.sum_rows(x), portable.sum_last(turned)[:, 0])
    assert same(portable.sum_last(x)[:, 0], portable.sum_rows(turned))
    for row in (0, len(x) // 2, len(x) - 1):
        bad = x.copy()
        bad[row, -1] = math.nan
        for function in (portable.rows, portable.sum_rows, portable.sum_last):
            with pytest.raises(fn.NonFiniteError, match=rf"a?x?\[{row}, {shape[1] - 1}\] = nan"):
                function(bad)


def layouts(a: Array) -> list[Array]:
    """Return the same numbers in different memory orders."""
    sparse = np.zeros((2 * a.shape[0], 3 * a.shape[1]), a.dtype)
    sparse[::2, ::3] = a
    backwards = np.ascontiguousarray(a[::-1, ::-1])
    return [a, np.asfortranarray(a), sparse[::2, ::3], backwards[::-1, ::-1]]


def test_memory_order_does_not_matter() -> None:
    """C order, Fortran order, strides and negative strides give the same bits."""
    x, g, weight = draw("x", 40, 33), draw("g", 40, 20), draw("w", 33, 20)
    for a, b, w in zip(layouts(x), layouts(g), layouts(weight), strict=True):
        assert same(portable.matmul(a, w), portable.matmul(x, weight))
        assert same(portable.sum_outer(a, b), portable.sum_outer(x, g))
        for name in ("sum_rows", "sum_last", "exp", "expm1", "tanh", "erf"):
            function = getattr(portable, name)
            assert same(np.ascontiguousarray(function(a)), function(x))
        assert same(np.ascontiguousarray(portable.log(np.exp(a))), portable.log(np.exp(x)))
        assert same(np.ascontiguousarray(portable.log1p(np.exp(a))), portable.log1p(np.exp(x)))
        assert portable.mean(a) == portable.mean(x)


def test_a_weight_is_rounded_once_for_both_directions() -> None:
    """A transposed weight has the transposed rounding in any memory order. Column products agree with row products."""
    x, g, weight = spread("x", 20, 33), spread("g", 20, 9), spread("w", 33, 9)
    once, turned = portable.operand(weight), portable.operand(weight.T)
    assert same(turned.values, once.values.T)
    assert same(turned.powers, once.powers.T)
    assert same(portable.matmul(g, weight.T), portable.matmul(g, weight.T.copy()))
    assert same(portable.matmul_columns(weight, g), portable.matmul(g, weight.T).T.copy())
    assert same(portable.matmul_columns(weight.T, x), portable.matmul(x, weight).T.copy())
    for values in (weight, -weight, 0 * weight, weight * np.float32(1e-42), np.full_like(weight, 3e38)):
        rounded = portable.operand(values)
        top = float(np.abs(values).max(initial=2.0**-126))
        assert rounded.powers.tolist() == [[math.ldexp(0.5, math.frexp(top)[1])]]


# ------------------------------------------------------------------------------------------------------ edges


def test_empty_and_extreme_arrays() -> None:
    """No rows, no columns, zeros, denormal and huge numbers give right results without a warning."""
    weight = draw("w", 5, 3)
    with np.errstate(all="raise", under="ignore"):
        nothing = np.zeros((0, 5), np.float32)
        assert portable.matmul(nothing, weight).shape == (0, 3)
        assert portable.sum_outer(nothing, nothing[:, :2]).tolist() == [[0, 0]] * 5
        assert portable.exp(nothing).shape == portable.log(nothing).shape == portable.erf(nothing).shape == (0, 5)
        for scale in (0.0, 1e-45, 1e-38, 1e30, 5e37):
            x = np.full((4, 5), scale, np.float32)
            assert portable.matmul(x, np.ones((5, 2), np.float32)) == pytest.approx(5 * scale, rel=1e-6, abs=5e-44)
            assert portable.sum_rows(x / 4) == pytest.approx(scale, rel=1e-6, abs=5e-45)
            assert portable.mean(x) == pytest.approx(float(np.float32(scale)), rel=1e-12, abs=0)
            trifle = np.full((4, 2), 1e-4, np.float32)
            assert portable.sum_outer(x, trifle) == pytest.approx(4e-4 * scale, rel=1e-6, abs=5e-45)


def test_arguments_may_be_locked_and_stay_as_they_are() -> None:
    """Products, sums and functions write to none of their arguments."""
    x, weight = draw("x", 4, 5), draw("w", 5, 3)
    x.flags.writeable = weight.flags.writeable = False
    for result in (portable.matmul(x, weight), portable.sum_outer(x, x), portable.sum_rows(x)):
        assert is_canonical(result)
    for function in (portable.exp, portable.tanh, portable.erf, portable.sum_last):
        function(x)
    assert same(x, draw("x", 4, 5))
    assert same(weight, draw("w", 5, 3))


GOOD: Final = np.ones((2, 2), np.float32)
NAMES: Final = ("sum_rows", "sum_last", "mean", "mean_rows", *FUNCTIONS)
CALLS: Final[list[tuple[str, str, Callable[[Array], object]]]] = [
    *((name, "a" if name.startswith(("sum", "mean")) else "x", getattr(portable, name)) for name in NAMES),
    ("matmul", "x", lambda a: portable.matmul(a, GOOD)),
    ("matmul", "weight", lambda a: portable.matmul(GOOD, a)),
    ("inner_each", "a", lambda a: portable.inner_each(a, GOOD)),
    ("inner_each", "b", lambda a: portable.inner_each(GOOD, a)),
    ("matmul_each", "a", lambda a: portable.matmul_each(a, GOOD)),
    ("matmul_each", "b", lambda a: portable.matmul_each(GOOD, a)),
    ("sum_outer", "x", lambda a: portable.sum_outer(a, GOOD)),
    ("sum_outer", "g", lambda a: portable.sum_outer(GOOD, a)),
]
"""Each function with one of its arguments, by its name."""


@pytest.mark.parametrize(("subject", "name", "call"), CALLS)
def test_float64_is_refused(subject: str, name: str, call: Callable[[Array], object]) -> None:
    """The message states the fix. Means accept float64."""
    if subject.startswith("mean"):
        assert np.array(call(GOOD.astype(float))).ravel().tolist() in ([1], [1, 1])
        return
    message = f"portable arithmetic is for float32: {name} is float64 (2, 2); use {name}.astype(np.float32)"
    with pytest.raises(fn.DTypeError, match=f"^{re.escape(f'{subject}: {message}')}$"):
        call(GOOD.astype(float))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(("subject", "name", "call"), CALLS)
def test_non_finite_numbers_are_refused(subject: str, name: str, call: Callable[[Array], object], bad: float) -> None:
    """The message names the function and the position."""
    array = GOOD.copy()
    array[1, 0] = bad
    got = f"{subject}({bad})" if subject.startswith("log") and bad < 0 else f"{name}[1, 0] = {bad}"
    message = f"{subject}: portable arithmetic needs finite numbers, got {got}"
    with pytest.raises(fn.NonFiniteError, match=f"^{re.escape(message)}$"):
        call(array)


@pytest.mark.parametrize(
    ("name", "bad"), [("log", 0.0), ("log", -0.0), ("log", -1.0), ("log1p", -1.0), ("log1p", -3.5)]
)
def test_a_logarithm_needs_positive_numbers(name: str, bad: float) -> None:
    """The logarithm of 0, and thus ``log1p(-1)``, is not finite."""
    message = re.escape(f"{name}: portable arithmetic needs finite numbers, got {name}({bad})")
    for numbers in ([2.0, bad], [bad, 2.0, bad - 1]):
        with pytest.raises(fn.NonFiniteError, match=f"^{message}$"):
            FUNCTIONS[name][0](np.array(numbers, np.float32))


# ------------------------------------------------------------------------------------- other kernels and libraries

PROGRAM: Final = """
import hashlib, json, math
import numpy as np
import funcnet as fn
from funcnet.arithmetic import elementary as e, portable as p
from funcnet.random.draws import normal

def draw(*shape):
    return normal(fn.Key(9).child(*shape), shape).astype(np.float32)

def sha256(*arrays):
    digest = hashlib.sha256()
    for a in arrays:
        digest.update(np.ascontiguousarray(a).astype(a.dtype.newbyteorder("<")).tobytes())
    return digest.hexdigest()[:16]

x, weight, g = draw(128, 784), draw(784, 100), draw(128, 100)
long, tall = draw(32, 1500), draw(1500, 37)
wide = np.ldexp(normal(fn.Key(9).child("wide"), (8, 1000)), np.arange(-24, 8, 4)[:, None])
once = p.operand(weight)
kinds = fn.initializers
initializers = (kinds.glorot_uniform, kinds.he_normal, kinds.orthogonal)
a, b = p.rows(x), p.rows(g)
print(json.dumps({
    "portable": sha256(
        p.matmul(x, weight), p.matmul(g, weight.T), p.sum_outer(x, g), p.matmul(long, tall),
        p.sum_outer(tall, tall[:, :5]), p.matmul(x[:1], weight), p.sum_rows(g), p.sum_last(x), p.sum_rows(long),
        np.array([p.mean(x), p.mean(x.astype(np.float64))]),
        a.values[:, :p.BLOCK] @ once.values[:p.BLOCK] + 0.0,  # in float64, no rounding hides a difference
        b.values @ once.values.T + 0.0,
        p.exp(long), p.log(np.abs(long) + np.float32(1e-20)), p.tanh(long), p.erf(long),
    ),
    "functions": sha256(p.expm1(long), p.log1p(np.abs(long)), p.log1p(np.abs(x) * np.float32(1e-9)),
        *(draw_weight(fn.Key(9), (3, 40, 30), np.dtype(np.float64)) for draw_weight in initializers),
        *(function(wide) for function in (e.exp, e.expm1, e.tanh, e.erf)), e.log(np.abs(wide)), e.log1p(np.abs(wide)),
    ),
    "native": sha256(x @ weight),
    "numpy": sha256(np.exp(long), np.tanh(long), np.exp(long.astype(np.float64))),
    "openblas": "openblas" in str(np.show_config("dicts")["Build Dependencies"]["blas"]["name"]),
}))
"""
GOLDEN: Final = "a7312b5efb7805bd"
GOLDEN_FUNCTIONS: Final = "72833f3fbdc5afc7"
CELLS: Final = (
    *(
        Cell("Haswell", 1, "all", "all"),
        Cell("Haswell", 2, "no AVX2", "no AVX2"),
        Cell("Prescott", 1, "no AVX2", "all"),
    ),
    *(Cell("Prescott", 2, "all", "no AVX2"), Cell("Sandybridge", 1, "all", "no AVX2")),
    *(Cell("Sandybridge", 2, "no AVX2", "all"), Cell("SkylakeX", 1, "all", "no AVX2")),
    Cell("SkylakeX", 2, "no AVX2", "all"),
)


@cache
def said(cell: Cell) -> dict[str, Any]:
    """Run the program in a cell of the matrix, whose own tests show that its settings take effect."""
    if reason := cell.missing():
        pytest.skip(reason)
    python = Path(sys.executable)
    found: dict[str, Any] = json.loads(run_program(python, PROGRAM, cell, old_names=has_old_names(python)))
    return found


@pytest.mark.slow
@linux_x86
@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_the_bits_are_the_same_everywhere(cell: Cell) -> None:
    """No BLAS kernel, number of threads, SIMD level or C library changes a bit."""
    assert (said(cell)["portable"], said(cell)["functions"]) == (GOLDEN, GOLDEN_FUNCTIONS)


@pytest.mark.slow
@linux_x86
def test_other_arithmetic_is_not_the_same_everywhere() -> None:
    """The cells can show differences: NumPy's own product and functions differ between them."""
    plain, far = said(CELLS[0]), said(CELLS[5])
    assert not plain["openblas"] or plain["native"] != far["native"]
    assert plain["numpy"] != far["numpy"]


def test_the_bits_are_the_same_here(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The program gives the golden hashes in this process, too."""
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    run_path(str(path))
    found = json.loads(capsys.readouterr().out)
    assert (found["portable"], found["functions"]) == (GOLDEN, GOLDEN_FUNCTIONS)
