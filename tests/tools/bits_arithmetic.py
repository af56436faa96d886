"""Hashes of random draws, and of every function, product and sum of portable arithmetic."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Final, TypeAlias

import numpy as np
from bits_data import KEY, KINDS, Hashes, hash_of, hashed
from numpy.typing import NDArray

import funcnet as fn
from funcnet import arithmetic
from funcnet.arithmetic import elementary
from funcnet.arithmetic.scalars import cos_pi, integer_power, power
from funcnet.random import normal, permutation, uniform, words

Results: TypeAlias = "tuple[object, ...]"

# ----------------------------------------------------------------------------------------------------- draws


DRAWS: Final[dict[str, Callable[[], object]]] = {
    "words": lambda: words(KEY, 1000),
    "uniform": lambda: uniform(KEY, (4000,)),
    "normal": lambda: normal(KEY, (100_000,)),
    "permutation": lambda: permutation(KEY, 5000),
    "path of a key": lambda: words(KEY.child("shuffle", 3).child(2**31), 10),
}
INITIALIZERS: Final[dict[str, fn.initializers.Initializer]] = {
    "constant": fn.initializers.constant(0.1),
    "glorot_normal": fn.initializers.glorot_normal,
    "glorot_uniform": fn.initializers.glorot_uniform,
    "he_normal": fn.initializers.he_normal,
    "he_uniform": fn.initializers.he_uniform,
    "lecun_normal": fn.initializers.lecun_normal,
    "lecun_uniform": fn.initializers.lecun_uniform,
    "orthogonal": fn.initializers.orthogonal,
    "pytorch_default": fn.initializers.pytorch_default,
    "random_normal": fn.initializers.random_normal(0.02),
    "zeros": fn.initializers.zeros,
}


def draws() -> Hashes:
    """Yield the hashes of random numbers."""
    for name, draw in DRAWS.items():
        yield name, hashed([draw()])


def initializers() -> Hashes:
    """Yield the hashes of initial weights, in both dtypes."""
    for name, init in INITIALIZERS.items():
        for dtype in (np.float32, np.float64):
            weights = [init(KEY.child("init"), shape, np.dtype(dtype)) for shape in ((30, 20), (3, 3, 4, 50))]
            yield f"{name}, {np.dtype(dtype).name}", hashed(weights)


# ------------------------------------------------------------------------------------------------- functions

FUNCTIONS: Final = ("exp", "expm1", "log", "log1p", "tanh", "sigmoid", "erf", "normal_density", "normal_cdf")
ELEMENTARY: Final = ("exp", "expm1", "log", "log1p", "tanh", "sin_pi", "erf", "normal_density", "normal_cdf")
EXTREMES: Final[dict[str, Callable[[fn.Array, fn.Array], Results]]] = {
    "clip": lambda a, b: (arithmetic.clip(a, 0.0, 0.5), arithmetic.clip(b, -0.5, 0.0)),
    "largest": lambda a, b: (arithmetic.largest(a), arithmetic.largest(b, 0)),
    "maximum": lambda a, b: (arithmetic.maximum(a, b), arithmetic.maximum(b, 0.0, a)),
    "minimum": lambda a, b: (arithmetic.minimum(a, b), arithmetic.minimum(b, 0.0)),
}
LIMITS: Final = {"log": 0.0, "log1p": -1.0}
ENDS: Final = (0.0, -0.0, 1e-45, 1.1754942e-38, 1.1754944e-38, 1.0, 88.72284, 88.7229, 89, 103.9, 104.1, 3.4028235e38)


@cache
def regions() -> dict[str, NDArray[np.float32]]:
    """Return the numbers of which each function is computed."""
    exponents = np.resize(np.arange(-148, 128), 27_600)
    sizes = np.ldexp(1 + uniform(KEY.child("size"), exponents.shape), exponents).astype(np.float32)
    sizes = sizes[np.isfinite(sizes)]
    ends = np.array(ENDS, np.float32)
    return {
        "positive, every binade": sizes,
        "negative, every binade": -sizes,
        "from -12 to 12": np.linspace(-12, 12, 20_001).astype(np.float32),
        "the ends of the range": np.concatenate([ends, -ends]),
    }


def functions() -> Hashes:
    """Yield the hashes of the elementwise functions of float32, and of the float64 functions behind them."""
    for region, numbers in regions().items():
        for name in sorted({*FUNCTIONS, *ELEMENTARY}):
            x = numbers[numbers > LIMITS.get(name, -np.inf)]
            if name in FUNCTIONS and x.size:
                yield f"{name}, {region}", hashed([getattr(arithmetic, name)(x)])
            if name in ELEMENTARY and x.size:
                yield f"elementary.{name}, {region}", hashed([getattr(elementary, name)(x.astype(np.float64))])
    for kind, make in KINDS.items():
        a, b = make(KEY.child("a"), 37, 5), make(KEY.child("b"), 37, 5)
        for name, function in EXTREMES.items():
            yield f"{name}, {kind}", hashed(function(a, b))


def scalars() -> Hashes:
    """Yield the hashes of the functions of single numbers."""
    bases = (0.1, 0.5, 0.9, 0.999, 3.7)
    exponents: list[float] = np.linspace(-50, 50, 41).tolist()
    yield "power", hashed([[power(base, exponent) for base in bases for exponent in exponents]])
    yield "integer_power", hashed([[integer_power(base, exponent) for base in bases for exponent in range(0, 900, 7)]])
    yield "cos_pi", hashed([[cos_pi(i / 1000) for i in range(1001)]])


# ------------------------------------------------------------------------------------------ products and sums

Product: TypeAlias = Callable[[fn.Array, fn.Array, fn.Array], Results]
Sum: TypeAlias = Callable[[fn.Array], Results]

PRODUCTS: Final[dict[str, Product]] = {
    "matmul": lambda x, w, g: (arithmetic.matmul(x, w), arithmetic.matmul(g, w.T)),
    "matmul_columns": lambda x, w, g: (arithmetic.matmul_columns(w, g), arithmetic.matmul_columns(w.T, x)),
    "matmul_each": lambda x, w, g: (
        arithmetic.matmul_each(np.stack([x, -x]), np.stack([w, w + w])),
        arithmetic.matmul_each(x.T[None], g[None]),
    ),
    "matmul_last": lambda x, w, _: (arithmetic.matmul_last(x[None], w), arithmetic.matmul_last(x[:, None], w)),
    "matmul_parts": lambda x, w, _: (arithmetic.matmul_parts(x, w, 1),),
    "inner_each": lambda x, w, g: (arithmetic.inner_each(x[None], w.T[None]), arithmetic.inner_each(g[None], w[None])),
    "sum_outer": lambda x, _, g: (arithmetic.sum_outer(x, g),),
}
"""The products of x (B, I), w (I, O) and g (B, O)."""
SUMS: Final[dict[str, Sum]] = {
    "sum_rows": lambda x: (arithmetic.sum_rows(x),),
    "sum_last": lambda x: (arithmetic.sum_last(x),),
    "sum_all": lambda x: (arithmetic.sum_all(x),),
    "sum_by_id": lambda x: tuple(arithmetic.sum_by_id(x, np.arange(len(x)) % 3, count) for count in (3, 4000)),
    "cumulative_sum": lambda x: (arithmetic.cumulative_sum(x[:, :5].reshape(-1)),),
    "mean": lambda x: (arithmetic.mean(x), arithmetic.mean(x.astype(np.float64))),
    "mean_rows": lambda x: (arithmetic.mean_rows(x), arithmetic.mean_rows(x.astype(np.float64))),
    "mean_last": lambda x: (arithmetic.mean_last(x),),
    "mean_and_variance": lambda x: (*arithmetic.mean_and_variance(x), *arithmetic.mean_and_variance(x, _weight(x))),
    "centered_last": lambda x: (arithmetic.centered_last(x),),
    "centered_rows": lambda x: (arithmetic.centered_rows(x),),
    "softmax": lambda x: (arithmetic.softmax(x),),
}
"""The sums of x (B, I)."""
SHAPES: Final = (
    *((1, 1, 1), (2, 2, 2), (5, 7, 3), (17, 33, 65), (8, 784, 50), (128, 100, 10), (3, 1100, 4), (600, 6, 5)),
    *((1, 513, 1), (1, 512, 9), (40, 64, 80), (2, 5, 300)),
)
EMPTY: Final = ((0, 3, 2), (3, 0, 2), (3, 2, 0))
PARTNERS: Final = {"tiny": "plain", "huge": "tiny", "subnormal": "plain"}


def _weight(x: fn.Array) -> fn.Array:
    return np.arange(1, len(x) + 1).astype(x.dtype)


def products() -> Hashes:
    """Yield the hashes of the matrix products: for the numbers of a kind, and of no number."""
    for b, i, o in SHAPES:
        for kind, make in KINDS.items():
            key, other = KEY.child("product", b, i, o), KINDS[PARTNERS.get(kind, kind)]
            x, w, g = make(key.child("x"), b, i), other(key.child("w"), i, o), other(key.child("g"), b, o)
            for name, product in PRODUCTS.items():
                yield f"{name}, {b}x{i}x{o}, {kind}", hash_of(partial(product, x, w, g))
    for b, i, o in EMPTY:
        x, w, g = (np.zeros(shape, np.float32) for shape in ((b, i), (i, o), (b, o)))
        for name, product in PRODUCTS.items():
            yield f"{name}, {b}x{i}x{o}", hash_of(partial(product, x, w, g))


def sums() -> Hashes:
    """Yield the hashes of the sums and means."""
    for b, i in dict.fromkeys(shape[:2] for shape in SHAPES):
        for kind, make in KINDS.items():
            x = make(KEY.child("sum", b, i), b, i)
            for name, function in SUMS.items():
                yield f"{name}, {b}x{i}, {kind}", hash_of(partial(function, x))
