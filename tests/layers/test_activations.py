"""The activations: known values, values far from 0 and at 0, and invalid settings."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import funcnet as fn
from funcnet.arithmetic import Name, elementary, using

ACTIVATIONS: tuple[fn.Layer, ...] = (
    fn.Identity(),
    fn.ReLU(),
    fn.LeakyReLU(),
    fn.ELU(),
    fn.ELU(alpha=0.5),
    fn.SELU(),
    fn.Sigmoid(),
    fn.Tanh(),
    fn.Softplus(),
    fn.Softsign(),
    fn.SiLU(),
    fn.HardSwish(),
    fn.Mish(),
    fn.GELU(),
    fn.GELUTanh(),
)
every_activation = pytest.mark.parametrize("layer", ACTIVATIONS, ids=repr)
every_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def slopes(layer: fn.Layer, x: fn.Array) -> fn.Array:
    """The derivative at each number."""
    return fn.backward(layer, x, np.ones_like(x))[0]


# Each entry has the value and the slope at -1e4, 0 and 1e4.
FAR_AND_0: tuple[tuple[fn.Layer, tuple[tuple[float, float], ...]], ...] = (
    (fn.Identity(), ((-1e4, 1), (0, 1), (1e4, 1))),
    (fn.ReLU(), ((0, 0), (0, 0), (1e4, 1))),
    (fn.LeakyReLU(0.25), ((-2500, 0.25), (0, 0.25), (1e4, 1))),
    (fn.LeakyReLU(0), ((0, 0), (0, 0), (1e4, 1))),
    (fn.ELU(0.5), ((-0.5, 0), (0, 0.5), (1e4, 1))),
    (fn.SELU(), ((-1.7580993408473766, 0), (0, 1.7580993408473766), (10507.009873554805, 1.0507009873554805))),
    (fn.Sigmoid(), ((0, 0), (0.5, 0.25), (1, 0))),
    (fn.Tanh(), ((-1, 0), (0, 1), (1, 0))),
    (fn.Softplus(), ((0, 0), (math.log(2), 0.5), (1e4, 1))),
    (fn.Softsign(), ((-1e4 / 10001, 10001**-2), (0, 1), (1e4 / 10001, 10001**-2))),
    (fn.SiLU(), ((0, 0), (0, 0.5), (1e4, 1))),
    (fn.HardSwish(), ((0, 0), (0, 0.5), (1e4, 1))),
    (fn.Mish(), ((0, 0), (0, 0.6), (1e4, 1))),
    (fn.GELU(), ((0, 0), (0, 0.5), (1e4, 1))),
    (fn.GELUTanh(), ((0, 0), (0, 0.5), (1e4, 1))),
)


@pytest.mark.parametrize(("layer", "wanted"), FAR_AND_0, ids=repr)
@pytest.mark.parametrize(
    ("arithmetic", "dtype"), [("native", np.float32), ("native", np.float64), ("portable", np.float32)]
)
def test_the_value_and_slope_far_away_and_at_0(
    layer: fn.Layer, wanted: tuple[tuple[float, float], ...], arithmetic: Name, dtype: fn.FloatDType
) -> None:
    """At -1e4, 0 and 1e4, value and slope are right and raise no warning."""
    x: fn.Array = np.array([[-1e4, 0, 1e4]], dtype)
    values, gradients = np.array(wanted).T
    with using(arithmetic):
        np.testing.assert_allclose(fn.forward(layer, x)[0], values, rtol=1e-7, atol=0)
        np.testing.assert_allclose(slopes(layer, x)[0], gradients, rtol=1e-7, atol=0)


@every_activation
@every_dtype
def test_any_finite_number_has_a_finite_value_and_slope(layer: fn.Layer, dtype: fn.FloatDType) -> None:
    """From the smallest to the largest number, without a warning. Portable and native agree to float32's digits.

    SELU multiplies by more than 1, so it gets half of the largest number.
    """
    largest, least = np.finfo(dtype).max, np.finfo(dtype).smallest_subnormal
    largest = largest / 2 if isinstance(layer, fn.SELU) else largest
    sizes: fn.Array = np.array(
        [0, least, 1e-38, 1e-31, 1e-29, 1e-10, 0.1, 1, 5, 9, 13, 39, 41, 90, 800, 1e30, largest], dtype
    )
    x = np.concatenate([sizes, -sizes])[None]
    values, gradients = fn.forward(layer, x), slopes(layer, x)
    assert np.isfinite(values).all()
    assert np.isfinite(gradients).all()
    if dtype is np.float32:
        with fn.portable():
            np.testing.assert_allclose(fn.forward(layer, x), values, rtol=1e-6, atol=1e-6)
            np.testing.assert_allclose(slopes(layer, x), gradients, rtol=1e-6, atol=1e-6)


# --------------------------------------------------------------------------------------------------- digits
#
# A reference returns the value and the terms of the slope at x. It computes with ``m``: the module math for float32,
# and mpmath, with 60 digits, for float64.


def logistic(m: Any, x: Any) -> Any:
    """``1 / (1 + exp(-x))``, which math cannot compute for numbers below -709."""
    return 1 / (1 + m.exp(-x)) if x > -700 else m.exp(x)


def twice_u(m: Any, x: Any) -> Any:
    """The argument of the logistic function in GELUTanh."""
    return m.sqrt(8 / m.pi) * (x + x**3 * 44715 / 1000000)


def gelu_tanh(m: Any, x: Any) -> tuple[Any, Any]:
    """GELUTanh as a product with a logistic function, and the terms of its slope."""
    u, steepness = twice_u(m, x), m.sqrt(8 / m.pi) * (1 + 3 * x * x * 44715 / 1000000)
    return x * logistic(m, u), (logistic(m, u), x * logistic(m, u) * logistic(m, -u) * steepness)


def silu(m: Any, x: Any) -> tuple[Any, Any]:
    """SiLU and the terms of its slope."""
    return x * logistic(m, x), (logistic(m, x), x * logistic(m, x) * logistic(m, -x))


def mish(m: Any, x: Any) -> tuple[Any, Any]:
    """Mish and the terms of its slope. Far from 0, its Softplus is ``exp(x)`` or x."""
    u = m.log1p(m.exp(x)) if x < 700 else x
    return x * m.tanh(u), (m.tanh(u), x * logistic(m, x) / m.cosh(min(u, 700)) ** 2)


def hard_swish(_: Any, x: Any) -> tuple[Any, Any]:
    """HardSwish and the terms of its slope, with the smaller slope at its kinks."""
    if abs(x) < 3:
        return x * (x + 3) / 6, (x / 3, 0.5)
    return max(x, 0), (int(x > 0),)


SCALE, ALPHA = 1.0507009873554805, 1.6732632423543772


def selu(m: Any, x: Any) -> tuple[Any, Any]:
    """ELU with two constants."""
    return (SCALE * x, (SCALE,)) if x > 0 else (SCALE * ALPHA * m.expm1(x), (SCALE * ALPHA * m.exp(x),))


def gelu(m: Any, x: Any) -> tuple[Any, Any]:
    """GELU and the terms of its slope."""
    share = m.erfc(-x / m.sqrt(2)) / 2
    return x * share, (share, x * m.exp(-x * x / 2) / m.sqrt(2 * m.pi))


REFERENCES: tuple[tuple[fn.Layer, Callable[[Any, Any], tuple[Any, Any]]], ...] = (
    (fn.Identity(), lambda _, x: (x, (1,))),
    (fn.ReLU(), lambda _, x: (max(x, 0), (int(x > 0),))),
    (fn.LeakyReLU(0.25), lambda _, x: (max(x, x / 4), (1 if x > 0 else 0.25,))),
    (fn.ELU(), lambda m, x: (x, (1,)) if x > 0 else (m.expm1(x), (m.exp(x),))),
    (fn.ELU(alpha=0.5), lambda m, x: (x, (1,)) if x > 0 else (m.expm1(x) / 2, (m.exp(x) / 2,))),
    (fn.SELU(), selu),
    (fn.Sigmoid(), lambda m, x: (logistic(m, x), (logistic(m, x) * logistic(m, -x),))),
    (fn.Tanh(), lambda m, x: (m.tanh(x), (1 / m.cosh(x) ** 2,))),
    (fn.Softplus(), lambda m, x: (m.log1p(m.exp(x)), (logistic(m, x),))),
    (fn.Softsign(), lambda _, x: (x / (1 + abs(x)), (1 / (1 + abs(x)) ** 2,))),
    (fn.SiLU(), silu),
    (fn.HardSwish(), hard_swish),
    (fn.Mish(), mish),
    (fn.GELU(), gelu),
    (fn.GELUTanh(), gelu_tanh),
)
GRID = (
    *np.linspace(-100, 100, 81),
    *np.linspace(-16, 16, 65),
    *(s * 10.0**e for e in range(-30, 0, 3) for s in (-1, 1)),
)


def test_every_activation_has_a_reference() -> None:
    """The table below covers all activations."""
    assert {type(layer) for layer, _ in REFERENCES} == {type(layer) for layer in ACTIVATIONS}


@pytest.mark.parametrize(("layer", "reference"), REFERENCES, ids=[repr(layer) for layer, _ in REFERENCES])
@pytest.mark.parametrize(
    ("arithmetic", "dtype"), [("native", np.float32), ("native", np.float64), ("portable", np.float32)]
)
def test_values_and_slopes_keep_their_digits(
    layer: fn.Layer, reference: Callable[[Any, Any], tuple[Any, Any]], arithmetic: Name, dtype: fn.FloatDType
) -> None:
    """From -100 to 100, the error is below 4 machine epsilons of the number, or of the terms of a slope that is a sum.

    GELUTanh rounds the argument of its logistic function, so its bound grows with that argument. Below the smallest
    normal number, digits are lost, and x multiplies that error.
    """
    m: Any = math
    if dtype is np.float64:
        m = pytest.importorskip("mpmath", reason="computes references with 60 digits")
        m.mp.dps = 60
    number = float if m is math else m.mpf
    x: fn.Array = np.array([GRID], dtype)
    with using(arithmetic):
        values, gradients = fn.forward(layer, x)[0], slopes(layer, x)[0]
    for at, value, slope in zip(x[0].tolist(), values.tolist(), gradients.tolist(), strict=True):
        wanted, terms = reference(m, number(at))
        digits = 4 * float(np.finfo(dtype).eps)
        if isinstance(layer, fn.GELUTanh):
            digits *= 1 + abs(float(twice_u(m, number(at))))
        floor = (1 + abs(at)) * float(np.finfo(dtype).tiny)
        assert abs(number(value) - wanted) <= digits * abs(wanted) + floor, f"the value at {at}"
        assert abs(number(slope) - sum(terms)) <= digits * sum(map(abs, terms)) + floor, f"the slope at {at}"


@pytest.mark.parametrize(("x", "slope"), [(-7.0, 9.118819656e-4), (-16.0, 1.125351747e-7), (-20.0, 2.061153622e-9)])
def test_the_slope_of_elu_is_an_exponential(x: float, slope: float) -> None:
    """``y + alpha`` is 0 at -20 in float32."""
    np.testing.assert_allclose(slopes(fn.ELU(), np.array([[x]], np.float32)), slope, rtol=3e-7)


@every_activation
def test_slopes_agree_with_central_differences_on_a_grid(layer: fn.Layer) -> None:
    """The grid goes from -12 to 12 and excludes 0."""
    x = (np.arange(-120, 120) + 0.5)[None] / 10
    fn.check_gradients(layer, x)


@pytest.mark.parametrize(
    ("layer", "decimals"),
    [
        (fn.Softplus(), "0.3132616875182228340489954949678556419152800856703483"),
        (fn.SiLU(), "-0.2689414213699951207488407581781636525634052141139012"),
        (fn.GELU(), "-0.1586552539314570514147674543679620775220845155205957"),
        (fn.ELU(), "-0.6321205588285576784044762298385391325541888689682322"),
        (fn.Mish(), "-0.3034014613741089180743892753783652296742937346581052"),
        (fn.SELU(), "-1.111330737812562761798641"),
    ],
    ids=repr,
)
def test_values_of_known_numbers(layer: fn.Layer, decimals: str) -> None:
    """The values at -1 match references of 50 decimals to a relative error of 1e-15."""
    wanted = Fraction(decimals)
    got = Fraction(float(fn.forward(layer, np.array([[-1.0]]))[0, 0]))
    assert abs(got - wanted) <= abs(wanted) * Fraction(1, 10**15)


def test_the_two_gelus_are_near_each_other() -> None:
    """They differ by at most 5e-4 but are not equal."""
    x = np.linspace(-6, 6, 2001)[None]
    difference = np.abs(fn.forward(fn.GELU(), x) - fn.forward(fn.GELUTanh(), x)).max()
    assert 4e-4 < difference < 5e-4


def test_erf_is_right_to_float64s_digits() -> None:
    """It matches the C library's erf to a relative error of 1e-15."""
    x = np.concatenate([np.linspace(-6.5, 6.5, 4001), 10.0 ** np.linspace(-300, 0, 301)])
    exact = np.array([math.erf(v) for v in x.tolist()])
    assert (np.abs(elementary.erf(x) - exact) <= 1e-15 * np.abs(exact)).all()


@pytest.mark.parametrize("slope", [-0.1, 1, 1.5, math.nan, math.inf, True, "0.1", None])
def test_leaky_relu_refuses_a_slope(slope: float) -> None:
    """A slope outside of [0, 1), or one that is not a number, is refused."""
    with pytest.raises(fn.ConfigError) as caught:
        fn.LeakyReLU(slope)
    assert str(caught.value) == f"LeakyReLU: slope must be a number in [0, 1), got {slope!r}"


@pytest.mark.parametrize("alpha", [-1.0, 0, math.nan, math.inf, True, "1", None])
def test_elu_refuses_an_alpha(alpha: float) -> None:
    """An alpha that is not positive, not finite, or not a number is refused."""
    with pytest.raises(fn.ConfigError) as caught:
        fn.ELU(alpha)
    assert str(caught.value) == f"ELU: alpha must be a number in (0, inf), got {alpha!r}"


def test_an_elementwise_layer_has_nothing_to_train() -> None:
    """A record with trained fields is refused; a class that is not a record is refused by ``register_layer``."""
    refused: list[tuple[Any, str]] = [
        (fn.Dense, "Dense has trained fields; use register_layer"),
        (fn.ReLU, "ReLU is already registered as 'funcnet.ReLU'"),
    ]
    for record, message in refused:
        with pytest.raises(fn.ConfigError) as caught:
            fn.register_elementwise(record, value=lambda _, x: x, slope=lambda _, x, __: x)
        assert str(caught.value) == message
