"""Array types and array locking.

Every array in a record is a locked (read-only), C-contiguous ``np.ndarray`` of float32 or float64 in native byte order.
"""

from __future__ import annotations

from typing import Annotated, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

DECAYED: Final = "decayed"
FIXED: Final = "fixed"

Array: TypeAlias = NDArray[np.floating]
"""A float32 or float64 array. As the type of a record's field, it marks a trained parameter."""

Weight: TypeAlias = Annotated[Array, DECAYED]
"""The field type of a trained parameter that weight decay applies to."""

Statistic: TypeAlias = Annotated[Array, FIXED]
"""The field type of an array that is never differentiated or updated, and that structure checks ignore."""

Labels: TypeAlias = NDArray[np.integer]
"""Class ids, shape (B,), of any integer dtype."""

FloatDType: TypeAlias = type[np.float32] | type[np.float64]
"""The dtypes that a network can have."""

FLOATS: Final = (np.dtype(np.float32), np.dtype(np.float64))

ARRAY_TYPES: Final[set[type]] = {np.ndarray}
"""The types that count as a plain array: NumPy's own and the stand-in that tracing uses, but no other subclass."""

AnyArray: TypeAlias = NDArray[np.generic]
"""An array of any dtype: the type of a value that has not yet been checked to be an ``Array``."""


def describe(array: AnyArray) -> str:
    """Describe an array by its dtype and shape: ``float32 (784, 100)``."""
    return f"{array.dtype} {array.shape}"


def lock(array: Array) -> Array:
    """Make an array read-only and return it. The caller must hold the only reference to it."""
    array.flags.writeable = False
    return array


def adopt(array: Array) -> Array:
    """Return the array itself if it is locked and C-contiguous, or else a locked C-contiguous copy.

    A read-only view of memory that is writable through another array is copied, too.
    """
    return array if is_canonical(array) else lock(array.copy("C"))


def is_canonical(array: Array) -> bool:
    """Whether a record can hold an array without a copy: its memory is read-only and C-contiguous."""
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
    """Return ``x`` in C order. BLAS results depend on the memory order, so arrays are made C-contiguous on entry.

    A value that is not an array passes unchanged; the layer that receives it raises the error.
    """
    return x.copy("C") if type(x) in ARRAY_TYPES and not x.flags.c_contiguous else x
