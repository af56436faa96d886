"""Data as values: a batch, and minibatches as a sequence that can be counted, sliced and iterated repeatedly."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, TypeVar, cast, overload

import numpy as np
from attrs import field, frozen
from numpy.typing import NDArray

from funcnet.core.arrays import Array, contiguous, lock
from funcnet.core.checks import check_array, check_callable, check_count, check_finite, check_labels, check_weight
from funcnet.core.errors import ConfigError, DTypeError, ShapeError
from funcnet.core.names import register_name
from funcnet.core.records import evolve
from funcnet.random.draws import permutation
from funcnet.random.keys import Key, check_key

T_co = TypeVar("T_co", covariant=True)
Y = TypeVar("Y", bound=NDArray[Any])


@frozen(eq=False)
class Batch(Generic[T_co]):
    """The examples of one training step. Shapes: x (B, ...), y (B, ...), weight (B,) or None."""

    x: Array
    y: T_co
    weight: Array | None = None


@frozen(eq=False)
class Minibatches(Sequence[Batch[Y]]):
    """A sequence of batches that has a length, can be sliced, and is the same in every iteration.

    ``batches[k:]`` resumes an epoch at batch k. See ``minibatches``.
    """

    x: Array = field(repr=False)
    y: Y = field(repr=False)
    order: NDArray[np.intp] | None = field(repr=False)
    rows: range
    batch_size: int
    transform: Callable[[Batch[Y]], Batch[Y]] | None = None
    augment: Callable[[Key, Batch[Y]], Batch[Y]] | None = None
    key: Key | None = None
    weight: Array | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return (len(self.rows) + self.batch_size - 1) // self.batch_size

    @overload
    def __getitem__(self, position: int) -> Batch[Y]: ...
    @overload
    def __getitem__(self, position: slice) -> Minibatches[Y]: ...
    def __getitem__(self, position: int | slice) -> Batch[Y] | Minibatches[Y]:
        size = self.batch_size
        if isinstance(position, slice):
            start, stop, stride = position.indices(len(self))
            if stride != 1:
                raise ConfigError(f"batches can only be sliced with step 1, got {stride}", subject="Minibatches")
            return evolve(self, rows=self.rows[start * size : max(start, stop) * size])
        return self._cut(self.rows.start + range(len(self))[position] * size)

    def __iter__(self) -> Iterator[Batch[Y]]:
        return map(self._cut, self.rows[:: self.batch_size])

    def _cut(self, start: int) -> Batch[Y]:
        stop = min(start + self.batch_size, self.rows.stop)
        if self.order is None:
            x, y = self.x[start:stop], self.y[start:stop]
            x.flags.writeable = y.flags.writeable = False
        else:
            chosen = self.order[start:stop]
            x, y = self.x.take(chosen, axis=0), self.y.take(chosen, axis=0)
        batch = Batch(x, cast("Y", y), self._weight(start, stop))
        if self.transform is not None:
            batch = self.transform(batch)
        if self.augment is not None and self.key is not None:
            batch = self.augment(self.key.child("augment", start), batch)
        return batch

    def _weight(self, start: int, stop: int) -> Array | None:
        if self.weight is None:
            return None
        chosen = self.weight[start:stop] if self.order is None else self.weight.take(self.order[start:stop])
        return lock(chosen)


def check_is_batch(subject: str, batch: object) -> None:
    """Check that a value is a batch.

    Raises:
        ConfigError: If it is not a batch; the message shows the value.
    """
    if not isinstance(batch, Batch):
        raise ConfigError(f"a batch must be a Batch, got {batch!r:.80}; use Batch(x, y)", subject=subject)


def minibatches(
    x: NDArray[np.floating] | NDArray[np.integer],
    y: Y,
    batch_size: int,
    *,
    key: Key | None = None,
    drop_last: bool = False,
    transform: Callable[[Batch[Y]], Batch[Y]] | None = None,
    augment: Callable[[Key, Batch[Y]], Batch[Y]] | None = None,
    weight: Array | None = None,
) -> Minibatches[Y]:
    """Cut examples into batches, in a random order if there is a key, and check the examples once for all steps.

    Args:
        x: Inputs, shape (N, ...), float32 or float64, or any number type if a transform converts them to floats.
        y: Targets, shape (N,) or (N, ...): class ids of any integer dtype, or floats.
        batch_size: From 1 to N.
        key: The key that determines the order. None keeps the order of x.
        drop_last: Leave out the last batch if it is smaller, as the post does. By default, it is kept.
        transform: A pure function of a batch, such as ``scale_images``.
        augment: A pure function of a key and a batch, such as ``RandomShift(2)``. Each batch gets a different child of
            ``key``.
        weight: How much each example counts, shape (N,), for a loss that takes weights. The mean of a batch is then
            sum(w l) / sum(w), so each batch needs a weight above 0.

    Raises:
        ShapeError: If x, y and weight differ in length, or x has no rows or no features.
        DTypeError: If x does not contain floats and there is no transform, or y does not contain numbers.
        NonFiniteError, LabelError: If a value is NaN or infinite, or a label is negative; the message says which one.
        ConfigError: If batch_size is not from 1 to N, a weight is negative, all weights are 0, or there is an
            augmentation without a key.

    Example:
        >>> batches = minibatches(np.zeros((10, 2)), np.arange(10), 4, key=Key(0))
        >>> [batch.y.tolist() for batch in batches]
        [[0, 8, 9, 3], [7, 5, 1, 2], [6, 4]]
        >>> [batch.y.tolist() for batch in batches[2:]]
        [[6, 4]]
    """
    name = "minibatches"
    _check_examples(name, x, y, raw=transform is not None)
    for what, function in (("transform", transform), ("augment", augment)):
        if function is not None:
            check_callable(name, what, function)
    if key is not None:
        check_key(name, key)
    elif augment is not None:
        raise ConfigError("augment needs a key; pass key=Key(seed)", subject=name)
    check_count(name, "batch_size", batch_size, high=len(x))
    if weight is not None:
        check_weight(name, weight, len(x))
        weight = contiguous(weight)
    count = len(x) - len(x) % batch_size if drop_last else len(x)
    order = None if key is None else permutation(key, len(x))
    inputs = contiguous(cast("Array", x))
    return Minibatches(inputs, y, order, range(count), int(batch_size), transform, augment, key, weight)


def _check_examples(name: str, x: NDArray[Any], y: NDArray[Any], *, raw: bool) -> None:
    if type(x) is not np.ndarray:
        check_array(name, "x", x, ("...",))
    if type(y) is not np.ndarray:
        check_labels(name, "y", y, len(x))
    if x.ndim == 0 or x.size == 0 or (x.ndim == 1 and not raw):
        wanted = "(N, ...) with at least one row and one feature"
        raise ShapeError(f"x must have shape {wanted}, got {x.shape}", subject=name)
    if len(y.shape) == 0 or len(y) != len(x):
        raise ShapeError(f"x and y must have the same length, got {x.shape} and {y.shape}", subject=name)
    _check_values(name, x, y, raw=raw)


def _check_values(name: str, x: NDArray[Any], y: NDArray[Any], *, raw: bool) -> None:
    if not raw:
        check_array(name, "x", x, ("N", "..."))
    elif x.dtype.kind not in "biuf":
        raise DTypeError(f"x must hold numbers, got {x.dtype}", subject=name)
    if y.dtype.kind not in "iuf":
        raise DTypeError(f"y must hold class ids or floats, got {y.dtype}", subject=name)
    for what, array in (("x", x), ("y", y)):
        if array.dtype.kind == "f":
            check_finite(name, what, array)
    if y.dtype.kind == "i" and y.ndim == 1:
        check_labels(name, "y", y, len(x))


register_name(Batch, "funcnet.Batch")
