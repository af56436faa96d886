"""Array types and array locking.

Every array in a record is a locked (read-only), C-contiguous ``np.ndarray`` of float32 or float64 in native byte order.
"""

from __future__ import annotations

import sys
from typing import Annotated, Final, TypeAlias, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

G = TypeVar("G", bound=np.generic)
V = TypeVar("V")

DECAYED: Final = "decayed"
FIXED: Final = "fixed"
MASK: Final = "mask"

Array: TypeAlias = NDArray[np.floating]
"""A float32 or float64 array. As the type of a record's field, it marks a trained parameter."""

Weight: TypeAlias = Annotated[Array, DECAYED]
"""The field type of a trained parameter that weight decay applies to."""

Statistic: TypeAlias = Annotated[Array, FIXED]
"""The field type of an array that is never differentiated or updated, and that structure checks ignore."""

Mask: TypeAlias = Annotated[Array, MASK]
"""The field type of the mask that ``masked`` and ``Masked`` set, ``Mask | None``: a statistic of one batch.

Shape (B, T): 1.0 for a valid step of a sequence, 0.0 for a padded one. None means that all steps are valid.
"""

Labels: TypeAlias = NDArray[np.integer]
"""Class ids, shape (B, ...), of any integer dtype: one for each row or position."""

Input: TypeAlias = "NDArray[np.floating] | NDArray[np.integer]"
"""What a network takes, shape (B, ...): float32 or float64 numbers, or ids of any integer dtype for an ``Embedding``.

The functions of a layer have x of type ``Array``; in a layer of ids, x holds the ids.
"""

FloatDType: TypeAlias = type[np.float32] | type[np.float64]
"""The dtypes that a network can have."""

FLOATS: Final = (np.dtype(np.float32), np.dtype(np.float64))

ARRAY_TYPES: Final[set[type]] = {np.ndarray, np.memmap}
"""The types that count as a plain array: NumPy's own, its memory maps of files, and the stand-in that tracing uses.

Other subclasses of ``np.ndarray`` change what an operator means. A memory map does not, but its views and copies keep
its type; therefore ``unmapped`` replaces it wherever an array enters a record, a batch or a pass.
"""

AnyArray: TypeAlias = NDArray[np.generic]
"""An array of any dtype: the type of a value that has not yet been checked to be an ``Array``."""


def describe(array: AnyArray) -> str:
    """Describe an array by its dtype and shape: ``float32 (784, 100)``."""
    return f"{array.dtype} {array.shape}"


def lock(array: Array) -> Array:
    """Make an array read-only and return it. The caller must hold the only reference to it."""
    array.flags.writeable = False
    return array


def unmapped(value: V) -> V:
    """Return a memory map, also in a tuple, as an ``np.ndarray`` over the same memory, and other values unchanged.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryFile() as file:
        ...     x = np.memmap(file, np.float32, "w+", shape=(2, 3))
        ...     type(unmapped(x)).__name__, np.shares_memory(unmapped(x), x)
        ('ndarray', True)
    """
    if type(value) is tuple:
        return cast("V", tuple(map(unmapped, cast("tuple[object, ...]", value))))
    return cast("V", np.asarray(value)) if type(value) is np.memmap else value


def adopt(array: Array) -> Array:
    """Return the array itself if it is locked and C-contiguous, or else a locked C-contiguous copy.

    A read-only view of memory that is writable through another array is copied, too. A read-only memory map is not.
    """
    array = unmapped(array)
    return array if is_canonical(array) else lock(array.copy("C"))


def is_canonical(array: Array) -> bool:
    """Whether a record can hold an array as it is: not a memory map, and its memory is read-only and C-contiguous."""
    flags = array.flags
    if flags.writeable or not flags.c_contiguous or type(array) is np.memmap:
        return False
    base = array.base
    while isinstance(base, np.ndarray):
        if base.flags.writeable:
            return False
        base = base.base
    return base is None or isinstance(base, bytes) or _is_read_only_map(base)


def _is_read_only_map(memory: object) -> bool:
    """Whether memory is the mapping of a file that this process cannot write to."""
    mmap = sys.modules.get("mmap")  # not every platform has the module; NumPy imports it for its first memory map
    return mmap is not None and isinstance(memory, mmap.mmap) and memoryview(cast("bytes", memory)).readonly


def beside(weight: Array, rows: AnyArray) -> Array:
    """Return weights with trailing axes of size 1, so that they broadcast against the rows.

    Shapes: rows (B, ...); weight (B,), or the shape of the rows, which is returned unchanged.
    """
    return weight.reshape(*weight.shape, *(1 for _ in range(rows.ndim - weight.ndim)))


def counted(target: NDArray[G], weight: Array | None, good: NDArray[np.bool_]) -> NDArray[G]:
    """Return the target with a 1 for each invalid number whose weight is 0. Such a number counts for nothing.

    Shapes: target and good (B, ...); weight (B,), or the shape of the target, or None.

    Example:
        >>> ids = np.array([3, -100, 0])
        >>> counted(ids, np.array([0.5, 0.0, 0.0]), ids >= 0)
        array([3, 1, 0])
    """
    return target if weight is None else np.where(good | (beside(weight, target) != 0), target, target.dtype.type(1))


def is_ids(x: AnyArray) -> bool:
    """Whether an array holds integers. A network takes them as ids, which are not differentiated."""
    return x.dtype.kind in "iu"


def contiguous(given: Input) -> Array:
    """Return an array in C order. BLAS results depend on the memory order, so arrays are made C-contiguous on entry.

    A memory map becomes an ``np.ndarray`` over the same memory. A value that is not an array passes unchanged; the
    layer that receives it raises the error, as it does for an array of a dtype that it does not take.
    """
    x = cast("Array", unmapped(given))
    return x.copy("C") if type(x) in ARRAY_TYPES and not x.flags.c_contiguous else x
