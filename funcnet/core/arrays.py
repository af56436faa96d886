"""Arrays as funcnet uses them: their types and locking.

Every array in a record is a locked (read-only), C-contiguous ``np.ndarray`` of float32 or float64 in native byte order.
"""

from __future__ import annotations

from typing import Annotated, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

DECAYED: Final = "decayed"
FIXED: Final = "fixed"

Array: TypeAlias = NDArray[np.floating]
"""A float32 or float64 array; as the type of a record's field: a trained parameter."""

Weight: TypeAlias = Annotated[Array, DECAYED]
"""As the type of a record's field: a trained parameter that weight decay applies to."""

Statistic: TypeAlias = Annotated[Array, FIXED]
"""As the type of a record's field: rides along; never differentiated, updated or compared."""

Labels: TypeAlias = NDArray[np.integer]
"""Class ids, shape (B,), of any integer dtype."""

FloatDType: TypeAlias = type[np.float32] | type[np.float64]
"""The dtypes that a network can have."""

FLOATS: Final = (np.dtype(np.float32), np.dtype(np.float64))

ARRAY_TYPES: Final[set[type]] = {np.ndarray}
"""What counts as a plain array: NumPy's own, and what stands for one in a trace; no other subclass."""

AnyArray: TypeAlias = NDArray[np.generic]
"""An array of anything: what is looked at before it is known to be an ``Array``."""


def describe(array: AnyArray) -> str:
    """An array in a word: ``float32 (784, 100)``."""
    return f"{array.dtype} {array.shape}"


def lock(array: Array) -> Array:
    """Make an array that nobody else holds read-only, and return it."""
    array.flags.writeable = False
    return array


def adopt(array: Array) -> Array:
    """The array itself if it is locked and C-contiguous, else a locked C-contiguous copy.

    A read-only view of memory that somebody else can write is copied, too.
    """
    return array if is_canonical(array) else lock(array.copy("C"))


def is_canonical(array: Array) -> bool:
    """Whether an array can stand in a record as it is: read-only, and nobody can write its memory; C-contiguous."""
    flags = array.flags
    if flags.writeable or not flags.c_contiguous:
        return False
    base = array.base
    while isinstance(base, np.ndarray):
        if base.flags.writeable:
            return False
        base = base.base
    return base is None or isinstance(base, bytes)


def contiguous(x: Array) -> Array:
    """``x`` in C order. Memory order changes bits in BLAS, so it is made canonical where arrays enter.

    Anything but an array passes unchanged: the layer that gets it knows what to say.
    """
    return x.copy("C") if type(x) in ARRAY_TYPES and not x.flags.c_contiguous else x
