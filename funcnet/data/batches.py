"""Data as values: a batch, and minibatches as a sequence that can be counted, sliced and iterated repeatedly."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, cast, overload

import numpy as np
from attrs import field, frozen
from numpy.typing import NDArray

from funcnet.core.arrays import ARRAY_TYPES, Array, Input, contiguous, counted, is_ids, lock, unmapped
from funcnet.core.checks import (
    check_array,
    check_callable,
    check_count,
    check_finite,
    check_input,
    check_labels,
    check_plain,
    check_weight,
    fix_of_ids,
)
from funcnet.core.errors import ConfigError, DTypeError, ShapeError
from funcnet.core.records import evolve
from funcnet.network.batch import Batch, Inputs, Rows, take_rows
from funcnet.random.draws import permutation
from funcnet.random.keys import Key, check_key
from funcnet.tracing.replay import Gather, Gathered

Y = TypeVar("Y", bound=Rows)
XS = TypeVar("XS", bound=tuple[NDArray[Any], ...])
if TYPE_CHECKING:
    from typing_extensions import TypeVar as _TypeVar  # see Batch

    X = _TypeVar("X", bound=Inputs, default=Array)
else:
    X = TypeVar("X")


@frozen(eq=False)
class Minibatches(Gathered, Sequence[Batch[Y, X]]):
    """A sequence of batches that has a length, can be sliced, and is the same in every iteration.

    ``batches[k:]`` resumes an epoch at batch k. A slice shares ``x``, ``y``, ``order`` and ``weight``, which hold all
    examples; only its ``rows`` differ. The examples of a batch are ``batches[k].x`` and ``batches[k].y``. See
    ``minibatches``.
    """

    x: X = field(repr=False)
    y: Y = field(repr=False)
    order: NDArray[np.intp] | None = field(repr=False)
    rows: range
    batch_size: int
    transform: Callable[[Batch[Y, X]], Batch[Y, X]] | None = None
    augment: Callable[[Key, Batch[Y, X]], Batch[Y, X]] | None = None
    key: Key | None = None
    weight: Array | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return (len(self.rows) + self.batch_size - 1) // self.batch_size

    @overload
    def __getitem__(self, position: int) -> Batch[Y, X]: ...
    @overload
    def __getitem__(self, position: slice) -> Minibatches[Y, X]: ...
    def __getitem__(self, position: int | slice) -> Batch[Y, X] | Minibatches[Y, X]:
        size = self.batch_size
        if isinstance(position, slice):
            start, stop, stride = position.indices(len(self))
            if stride != 1:
                raise ConfigError(f"batches can only be sliced with step 1, got {stride}", subject="Minibatches")
            return evolve(self, rows=self.rows[start * size : max(start, stop) * size])
        return self._cut(self.rows.start + range(len(self))[position] * size)

    def __iter__(self) -> Iterator[Batch[Y, X]]:
        return map(self._cut, self.rows[:: self.batch_size])

    def gathered(self) -> Gather[Batch[Y, X]] | None:
        """Return where the rows of the batches are; None if a batch is more than rows of the examples."""
        if self.transform is not None or self.augment is not None or type(self) is not Minibatches:
            return None
        return Gather(Batch(self.x, self.y, self.weight), self.order, self.rows, self.batch_size)

    def _cut(self, start: int) -> Batch[Y, X]:
        stop = min(start + self.batch_size, self.rows.stop)
        chosen = slice(start, stop) if self.order is None else self.order[start:stop]
        weight = None if self.weight is None else lock(take_rows(self.weight, chosen))
        batch = Batch(take_rows(self.x, chosen), take_rows(self.y, chosen), weight)
        if self.transform is not None:
            batch = self.transform(batch)
        if self.augment is not None and self.key is not None:
            batch = self.augment(self.key.child("augment", start), batch)
        return batch


@overload
def minibatches(
    x: Input,
    y: Y,
    batch_size: int,
    *,
    key: Key | None = None,
    drop_last: bool = False,
    transform: Callable[[Batch[Y]], Batch[Y]] | None = None,
    augment: Callable[[Key, Batch[Y]], Batch[Y]] | None = None,
    weight: Array | None = None,
) -> Minibatches[Y]: ...
@overload
def minibatches(
    x: XS,
    y: Y,
    batch_size: int,
    *,
    key: Key | None = None,
    drop_last: bool = False,
    transform: Callable[[Batch[Y, XS]], Batch[Y, XS]] | None = None,
    augment: Callable[[Key, Batch[Y, XS]], Batch[Y, XS]] | None = None,
    weight: Array | None = None,
) -> Minibatches[Y, XS]: ...
def minibatches(
    x: Rows,
    y: Rows,
    batch_size: int,
    *,
    key: Key | None = None,
    drop_last: bool = False,
    transform: Callable[[Batch[Any, Any]], Batch[Any, Any]] | None = None,
    augment: Callable[[Key, Batch[Any, Any]], Batch[Any, Any]] | None = None,
    weight: Array | None = None,
) -> Minibatches[Any, Any]:
    """Cut examples into batches, in a random order if there is a key, and check the examples once for all steps.

    Args:
        x: Inputs, shape (N, ...), float32 or float64, or any number type if a transform converts them to floats. For a
            network that begins with an ``Embedding``, ids of any integer dtype, shape (N,) or (N, T). For your own step
            with several inputs, a tuple of arrays of any number type, each of shape (N, ...).
        y: Targets, shape (N,) or (N, ...): class ids of any integer dtype, or floats. For your own step or loss with
            several targets, a tuple of such arrays.
        batch_size: From 1 to N.
        key: The key that determines the order. None keeps the order of x.
        drop_last: Leave out the last batch if it is smaller, as the post does. By default, it is kept.
        transform: A pure function of a batch, such as ``scale_images``.
        augment: A pure function of a key and a batch, such as ``RandomShift(2)``. Each batch gets a different child of
            ``key``.
        weight: How much each example counts, shape (N,), or how much each number of y counts, the shape of y or its
            first axes, for a loss that takes weights. The mean of a batch is then sum(w l) / sum(w). Where the weight
            is 0, y may be any number, also NaN. If y is a tuple, shape (N,).

    Raises:
        ShapeError: If x, y and weight differ in length, or x has no rows or no features.
        DTypeError: If x contains neither floats nor integers and there is no transform, or y does not contain numbers.
        NonFiniteError, LabelError: If a value is NaN or infinite, or a label is negative and y has shape (N,); the
            message says which one. The loss checks labels of other shapes.
        ConfigError: If batch_size is not from 1 to N, a weight is negative, all weights are 0, or there is an
            augmentation without a key.

    Example:
        >>> batches = minibatches(np.zeros((10, 2)), np.arange(10), 4, key=Key(0))
        >>> [batch.y.tolist() for batch in batches]
        [[0, 8, 9, 3], [7, 5, 1, 2], [6, 4]]
        >>> [batch.y.tolist() for batch in batches[2:]]
        [[6, 4]]
        >>> wide, deep = np.zeros((10, 3)), np.zeros((10, 2, 8))
        >>> [x.shape for x in minibatches((wide, deep), np.arange(10), 4)[0].x]
        [(4, 3), (4, 2, 8)]
    """
    name = "minibatches"
    size = _check_examples(name, x, y, weight, raw=transform is not None)
    for what, function in (("transform", transform), ("augment", augment)):
        if function is not None:
            check_callable(name, what, function)
    if key is not None:
        check_key(name, key)
    elif augment is not None:
        raise ConfigError("augment needs a key; pass key=Key(seed)", subject=name)
    batch_size = check_count(name, "batch_size", batch_size, high=size)
    weight = None if weight is None else contiguous(weight)
    count = size - size % batch_size if drop_last else size
    order = None if key is None else permutation(key, size)
    inputs = tuple(map(contiguous, x)) if isinstance(x, tuple) else contiguous(x)
    return Minibatches(inputs, unmapped(y), order, range(count), batch_size, transform, augment, key, weight)


def _check_examples(name: str, x: Rows, y: Rows, weight: Array | None, *, raw: bool) -> int:
    """Check the inputs, the targets and the weights, and return the number of rows."""
    raw = raw or type(x) is tuple
    inputs, targets = named_rows(name, "x", x), named_rows(name, "y", y)
    for what, array in inputs.items():
        if type(array) not in ARRAY_TYPES:
            check_array(name, what, array, ("...",))
    for what, array in targets.items():
        check_plain(name, what, array, " of class ids")
    for what, array in inputs.items():
        if array.ndim == 0 or array.size == 0 or (array.ndim == 1 and not raw and not is_ids(array)):
            wanted = "(N, ...) with at least one row and one feature"
            raise ShapeError(f"{what} must have shape {wanted}, got {array.shape}", subject=name)
    count = check_one_length(name, inputs | targets)
    if weight is not None:
        check_weight(name, weight, count, None if isinstance(y, tuple) else y.shape)
    for what, array in inputs.items():
        _check_inputs(name, what, array, raw=raw)
    for what, array in targets.items():
        _check_targets(name, what, array, weight, alone=not isinstance(y, tuple))
    return count


def _check_inputs(name: str, what: str, x: NDArray[Any], *, raw: bool) -> None:
    if not raw:
        check_input(name, what, x, "N")
    elif x.dtype.kind not in "biuf":
        raise DTypeError(f"{what} must hold numbers, got {x.dtype}", subject=name)
    if x.dtype.kind == "f":
        check_finite(name, what, x)


def _check_targets(name: str, what: str, y: NDArray[Any], weight: Array | None, *, alone: bool) -> None:
    """Check targets; the weights of several do not tell which of them count."""
    weight = weight if alone else None
    if y.dtype.kind not in "iuf":
        raise DTypeError(f"{what} must hold class ids or floats, got {y.dtype}{fix_of_ids(what, y)}", subject=name)
    if y.dtype.kind == "f":
        check_finite(name, what, y if weight is None else counted(y, weight, np.isfinite(y)))
    elif y.ndim == 1:
        check_labels(name, what, y, len(y), weight=weight, dtype=np.dtype(np.float32) if alone else None)


def named_rows(subject: str, name: str, rows: object) -> dict[str, NDArray[Any]]:
    """Return an array, or each array of a tuple, by its name for messages: ``x``, or ``x[0]``, ``x[1]`` and so on.

    Raises:
        ConfigError: If the tuple is empty.
    """
    if type(rows) is not tuple:
        return {name: cast("NDArray[Any]", rows)}
    if not rows:
        raise ConfigError(f"{name} must be an array or a tuple of arrays, got ()", subject=subject)
    return {f"{name}[{position}]": array for position, array in enumerate(cast("tuple[NDArray[Any], ...]", rows))}


def check_one_length(subject: str, arrays: dict[str, NDArray[Any]]) -> int:
    """Check that arrays, by name, have a first axis of one length, and return the length.

    Raises:
        ShapeError: If they do not.
    """
    first, *others = arrays
    for other in others:
        a, b = arrays[first].shape, arrays[other].shape
        if not a or not b or a[0] != b[0]:
            raise ShapeError(f"{first} and {other} must have the same length, got {a} and {b}", subject=subject)
    return len(arrays[first])
