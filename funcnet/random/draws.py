"""Random numbers from a key: uniform numbers, normal numbers, permutations. A key's bits never change.

This module uses neither NumPy's ``Generator``, whose streams may change between releases, nor libm, whose last bits
depend on the CPU. The words come from the Philox bit generator. All later steps are IEEE arithmetic.
"""

from __future__ import annotations

import math
from typing import Final, cast

import numpy as np
from numpy.typing import NDArray

from funcnet.arithmetic.elementary import log, polynomial
from funcnet.core.checks import MOST_ELEMENTS, check_count
from funcnet.core.errors import ConfigError
from funcnet.random.keys import Key, check_key
from funcnet.tracing import whole


@whole
def words(key: Key, count: int) -> NDArray[np.uint64]:
    """Draw ``count`` random 64-bit words from Philox4x64-10, seeded by ``SeedSequence(key.seed, spawn_key=key.path)``.

    Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.

    Example:
        >>> words(Key(42), 2)
        array([1587852024645073290, 2611271723512893552], dtype=uint64)
    """
    check_key("words", key)
    count = check_count("words", "count", count, low=0, high=MOST_ELEMENTS)
    from numpy.random import Philox, SeedSequence  # noqa: PLC0415  # 8 ms of import time

    return Philox(SeedSequence(key.seed, spawn_key=key.path)).random_raw(count)


def _size(subject: str, shape: object) -> int:
    """Check a shape, and return its number of elements, which ``words`` checks."""
    if not isinstance(shape, tuple):
        raise ConfigError(f"shape must be a tuple of sizes, got {shape!r:.80}", subject=subject)
    sizes = cast("tuple[object, ...]", shape)
    return math.prod(check_count(subject, "a size in shape", size, low=0) for size in sizes)


def uniform(key: Key, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Draw uniform numbers in [0, 1): the upper 53 bits of each word.

    Example:
        >>> uniform(Key(42), (2,))
        array([0.08607763, 0.14155732])
    """
    return (words(key, _size("uniform", shape)) >> np.uint64(11)).astype(np.float64).reshape(shape) * 2.0**-53


def permutation(key: Key, count: int) -> NDArray[np.intp]:
    """Draw a random order of ``range(count)``: the stable argsort of ``count`` words.

    Example:
        >>> permutation(Key(42), 5)
        array([0, 1, 4, 2, 3])
    """
    return np.argsort(words(key, count), kind="stable")


@whole
def normal(key: Key, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Draw standard normal numbers: the inverse distribution function of 52-bit uniform numbers in (0, 1).

    Source: Wichura, "Algorithm AS 241: the percentage points of the normal distribution", Applied Statistics 37 (1988),
    routine PPND16, with funcnet's own logarithm.

    Example:
        >>> normal(Key(42), (2,))
        array([-1.3653112, -1.0733488])
    """
    p = ((words(key, _size("normal", shape)) >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52
    return _normal_quantile(p).reshape(shape)


_CENTRE: Final = (
    (
        3.3871328727963666080e0,
        1.3314166789178437745e2,
        1.9715909503065514427e3,
        1.3731693765509461125e4,
        4.5921953931549871457e4,
        6.7265770927008700853e4,
        3.3430575583588128105e4,
        2.5090809287301226727e3,
    ),
    (
        1.0,
        4.2313330701600911252e1,
        6.8718700749205790830e2,
        5.3941960214247511077e3,
        2.1213794301586595867e4,
        3.9307895800092710610e4,
        2.8729085735721942674e4,
        5.2264952788528545610e3,
    ),
)
_TAIL: Final = (
    (
        1.42343711074968357734e0,
        4.63033784615654529590e0,
        5.76949722146069140550e0,
        3.64784832476320460504e0,
        1.27045825245236838258e0,
        2.41780725177450611770e-1,
        2.27238449892691845833e-2,
        7.74545014278341407640e-4,
    ),
    (
        1.0,
        2.05319162663775882187e0,
        1.67638483018380384940e0,
        6.89767334985100004550e-1,
        1.48103976427480074590e-1,
        1.51986665636164571966e-2,
        5.47593808499534494600e-4,
        1.05075007164441684324e-9,
    ),
)
_FAR_TAIL: Final = (
    (
        6.65790464350110377720e0,
        5.46378491116411436990e0,
        1.78482653991729133580e0,
        2.96560571828504891230e-1,
        2.65321895265761230930e-2,
        1.24266094738807843860e-3,
        2.71155556874348757815e-5,
        2.01033439929228813265e-7,
    ),
    (
        1.0,
        5.99832206555887937690e-1,
        1.36929880922735805310e-1,
        1.48753612908506148525e-2,
        7.86869131145613259100e-4,
        1.84631831751005468180e-5,
        1.42151175831644588870e-7,
        2.04426310338993978564e-15,
    ),
)


def _ratio(terms: tuple[tuple[float, ...], tuple[float, ...]], x: NDArray[np.float64]) -> NDArray[np.float64]:
    above, below = terms
    return polynomial(above, x) / polynomial(below, x)


def _normal_quantile(p: NDArray[np.float64]) -> NDArray[np.float64]:
    q = p - 0.5
    z = np.empty_like(p)
    centre = np.abs(q) <= 0.425
    middle = q[centre]
    z[centre] = middle * _ratio(_CENTRE, 0.180625 - middle * middle)
    outside = q[~centre]
    r = np.sqrt(-log(np.where(outside < 0, p[~centre], 1 - p[~centre])))
    size = np.where(r <= 5, _ratio(_TAIL, r - 1.6), _ratio(_FAR_TAIL, r - 5))
    z[~centre] = np.where(outside < 0, -size, size)
    return z
