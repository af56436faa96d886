"""The hash of a computation's bits, and the kinds of numbers that the hashes are computed of."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

import funcnet as fn
from funcnet.random import normal, uniform
from funcnet.runs.structure import raw, take_apart

AnyArray: TypeAlias = NDArray[Any]
Make: TypeAlias = Callable[..., fn.Array]
Hashes: TypeAlias = Iterator[tuple[str, str]]

KEY: Final = fn.Key(99)

# ---------------------------------------------------------------------------------------------------- hashes


def hashed(values: Iterable[object]) -> str:
    """Return 16 hexadecimal digits of a SHA-256 over the bits, dtypes and shapes of arrays and numbers.

    The bytes are little-endian, and integers count as int64, because their default size differs between machines. The
    sign of a NaN differs between processors, so the result for a NaN is "NaN".
    """
    digest = hashlib.sha256()
    for value in values:
        array: AnyArray = np.asarray(value)
        if array.dtype.kind in "iu":
            array = array.astype(np.int64)
        if array.dtype.kind == "f" and np.isnan(array).any():
            return "NaN"
        digest.update(f"{array.dtype.name} {array.shape}".encode() + raw(array))
    return digest.hexdigest()[:16]


def hash_of(compute: Callable[[], Iterable[object]]) -> str:
    """Return the hash of what a function computes, or the class of the error with which funcnet refuses to compute."""
    try:
        return hashed(compute())
    except fn.FuncnetError as error:
        return type(error).__name__


def arrays(value: object) -> list[AnyArray]:
    """Return all arrays in a value."""
    return list(take_apart(value, "bits")[1].values())


# ------------------------------------------------------------------------------------------------------ data


def scaled(key: fn.Key, *shape: int, scale: float = 1.0) -> fn.Array:
    """Draw normal numbers times a scale."""
    x: fn.Array = (scale * normal(key, shape)).astype(np.float32)
    return x


def spread(key: fn.Key, *shape: int) -> fn.Array:
    """Draw normal numbers times powers of two from about 2**-60 to 2**60."""
    exponents = np.rint(20 * normal(key.child("exponent"), shape)).astype(np.int32)
    x: fn.Array = np.ldexp(normal(key, shape), exponents).astype(np.float32)
    return x


def zeros(key: fn.Key, *shape: int, share: float = 1.0) -> fn.Array:
    """Draw zeros of both signs for a share of the numbers, and normal numbers for the rest."""
    signs = np.where(uniform(key.child("sign"), shape) < 0.5, np.float32(0.0), np.float32(-0.0))
    x: fn.Array = np.where(uniform(key.child("share"), shape) < share, signs, scaled(key, *shape))
    return x


KINDS: Final[dict[str, Make]] = {
    "plain": scaled,
    "wide spread": spread,
    "tiny": partial(scaled, scale=1e-30),
    "huge": partial(scaled, scale=3e37),
    "subnormal": partial(scaled, scale=1e-41),
    "zeros of both signs": zeros,
    "some zeros of both signs": partial(zeros, share=0.6),
}
"""The functions that draw float32 numbers of a shape for a key."""
