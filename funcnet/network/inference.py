"""Inference: a network's outputs over many rows, computed in chunks to bound the memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial, wraps
from typing import Any, Final, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from funcnet.arithmetic import in_force
from funcnet.core.arrays import Array, Input, lock
from funcnet.core.checks import check_callable, check_input, check_rows
from funcnet.core.errors import DTypeError, ShapeError, StructureError
from funcnet.core.records import evolve
from funcnet.network.batch import Batch, Rows, check_is_batch, take_rows
from funcnet.network.layer import N, Network
from funcnet.network.loss import Loss, weighted_loss
from funcnet.network.masks import map_masks, masks_of
from funcnet.network.modes import check_plain_form
from funcnet.network.passes import forward
from funcnet.network.tasks import ProbabilityTask, Task, check_task, wrong_task
from funcnet.tracing.replay import replayed_map

F = TypeVar("F", bound=Callable[..., object])
P = TypeVar("P")
T = TypeVar("T")

CHUNK: Final = 256
TILE: Final = 8


def outputs(
    params: Network,
    x: Input,
    *,
    rowwise: bool = False,
    transform: Callable[[Batch[None]], Batch[None]] | None = None,
) -> Array:
    """The plain network's output for every row, computed 256 rows at a time. Shapes: x (N, ...), result (N, ...).

    Args:
        params: The network in its plain form. (``forward`` computes a training form, too.) A mask of ``masked`` has the
            N rows of x, and is cut with them.
        x: The inputs, float32 or float64, or ids of any integer dtype; with a transform, any number type.
        rowwise: Compute 8 rows at a time, and pad the last ones with zeros, or with the id 0. BLAS then rounds a row
            independently of the rows around it, which it does not do in larger batches. Portable arithmetic always
            does.
        transform: A pure function of a batch, such as ``scale_images``. It gets 256 rows at a time, with None as y, and
            must treat each row independently of the others. Only these rows are floats at the same time.

    Raises:
        ConfigError: If a layer is in its training form; use ``plain(net)``.
        FuncnetError: If x does not fit a layer; the message names the layer.

    Example:
        >>> import funcnet as fn
        >>> outputs(fn.ReLU(), np.array([[-1.0, 2.0]]))
        array([[0., 2.]])
        >>> outputs(fn.ReLU(), np.array([[51, 255]], np.uint8), transform=fn.scale_images)
        array([[0.2, 1. ]], dtype=float32)
    """
    _check_inputs("outputs", params, x, transform)
    return _outputs("outputs", params, x, transform, rowwise=rowwise)


def _outputs(
    subject: str,
    params: Network,
    x: NDArray[Any],
    transform: Callable[[Batch[None]], Batch[None]] | None,
    *,
    rowwise: bool = False,
) -> Array:
    batches = (batch.x for batch in _batches(subject, x, None, None, transform))
    tiled = rowwise and in_force() == "native"
    nets = _in_parts(subject, params, len(x), tiled=tiled)
    with np.errstate(all="ignore"):  # Overflow gives inf here, as in forward.
        if not tiled:
            return _joined(map(forward, nets, batches), len(x))
        tiles = (_tile(rows[start : start + TILE]) for rows in batches for start in range(0, len(rows) or 1, TILE))
        if _masks_of(params):
            return _joined(map(forward, nets, tiles), len(x))
        return _joined(replayed_map(forward, params, tiles, context=in_force()), len(x))


def _in_parts(subject: str, params: N, count: int, *, tiled: bool = False) -> Iterator[N]:
    """The network for each part of ``count`` rows: 256 of them, or a tile. Its masks have the rows of the part."""
    size, masks = TILE if tiled else CHUNK, _masks_of(params)
    is_whole = not masks or (count <= size and not tiled)
    for mask in masks:
        if len(mask) != count and not is_whole:
            wanted = f"mask must have a row for each of the {count} of x, got {mask.shape}"
            raise ShapeError(f"{wanted}; use fn.masked(net, mask) with the mask of x", subject=subject)

    def cut(mask: Array | None, start: int) -> Array | None:
        if mask is None:
            return None
        rows = mask[start : start + size]
        return lock(_tile(rows)) if tiled else rows

    for start in range(0, count or 1, size):
        yield params if is_whole else map_masks(partial(cut, start=start), params)


def _masks_of(params: Network) -> list[Array]:
    return [mask for mask in masks_of(params) if mask is not None]


def _check_inputs(subject: str, params: Network, x: NDArray[Any], transform: object) -> None:
    if hasattr(params, "moments") and hasattr(params, "params"):  # TrainState is in a later folder.
        fix = "use state.params"
        raise StructureError(f"params must be a network, got a {type(params).__name__}; {fix}", subject=subject)
    check_plain_form(params, subject)
    if transform is None:
        check_input(subject, "x", x, "N")
        return
    check_callable(subject, "transform", transform)
    check_rows(subject, "x", x)
    if x.dtype.kind not in "biuf":
        raise DTypeError(f"x must hold numbers, got {x.dtype}", subject=subject)


def _batches(
    subject: str,
    x: NDArray[Any],
    y: T,
    weight: Array | None,
    transform: Callable[[Batch[T]], Batch[T]] | None,
) -> Iterator[Batch[T]]:
    """The examples, 256 rows at a time, after the transform. No rows are one batch."""
    for start in range(0, len(x) or 1, CHUNK):
        rows = slice(start, start + CHUNK)
        batch = Batch(_cut(x, rows), _cut(y, rows), _cut(weight, rows))
        made = batch if transform is None else transform(batch)
        check_is_batch(subject, made)
        if transform is not None:
            check_input(subject, "x of the transform's batch", made.x, len(batch.x))
        yield made


def _cut(value: T, rows: slice) -> T:
    """Some rows of an array, locked, or of each array of a tuple; None remains None."""
    return value if value is None else cast("T", take_rows(cast("Rows", value), rows))


def _joined(arrays: Iterable[Array], count: int) -> Array:
    """The first ``count`` rows of the arrays, of which there is at least one, as one array."""
    result, start = np.empty(0), -1
    for array in arrays:
        if start < 0:
            result, start = np.empty((count, *array.shape[1:]), array.dtype), 0
        result[start : start + len(array)] = array[: count - start]
        start += len(array)
    return result


def _tile(rows: Array) -> Array:
    """The rows, padded with zeros to TILE rows."""
    tile = np.zeros((TILE, *rows.shape[1:]), rows.dtype)
    tile[: len(rows)] = rows
    return tile


def _with_a_task(function: F) -> F:
    """Refuse a call without a task by listing the tasks. Python's own error would only name the missing argument."""

    @wraps(function)
    def checked(*args: Any, **kwargs: Any) -> object:
        if len(args) < 3 and "task" not in kwargs:
            raise wrong_task(function.__name__, "task is missing")
        return function(*args, **kwargs)

    return cast("F", checked)


@_with_a_task
def predict(
    params: Network,
    x: Input,
    task: Task[P],
    *,
    rowwise: bool = False,
    transform: Callable[[Batch[None]], Batch[None]] | None = None,
) -> P:
    """What the network predicts for every row, ``task.predictions(outputs(params, x))``. Shapes: x (N, ...).

    Args:
        params: The network in its plain form.
        x: The inputs, as in ``outputs``.
        task: What the outputs mean, which the loss in training decides. ``Multiclass()`` gives a class id for each row,
            (N,); ``Binary()`` a bool for each row, (N,); ``Multilabel()`` a bool for each row and label, (N, O);
            ``Regression()`` the outputs. Outputs with positions, (N, ..., O), have an answer for each position.
        rowwise: As in ``outputs``.
        transform: As in ``outputs``.

    Raises:
        ConfigError: If the task is missing, or a layer is in its training form; use ``plain(net)``.
        ShapeError: If the outputs do not fit the task; the message names the tasks that they fit.
        NonFiniteError: If an output is NaN or infinite; the message says which one.

    Example:
        >>> import funcnet as fn
        >>> logits = np.array([[0.1, 0.9], [0.8, -0.2]])
        >>> predict(fn.Identity(), logits, fn.Multiclass())
        array([1, 0])
        >>> predict(fn.Identity(), logits, fn.Multilabel())
        array([[ True,  True],
               [ True, False]])
    """
    check_task("predict", "predictions", task)
    _check_inputs("predict", params, x, transform)
    return task.predictions(_outputs("predict", params, x, transform, rowwise=rowwise))


@_with_a_task
def predict_proba(
    params: Network,
    x: Input,
    task: ProbabilityTask,
    *,
    rowwise: bool = False,
    transform: Callable[[Batch[None]], Batch[None]] | None = None,
) -> Array:
    """The probabilities for every row, ``task.probabilities(outputs(params, x))``. Shapes: x (N, ...).

    Args:
        params: The network in its plain form.
        x: The inputs, as in ``outputs``.
        task: What the outputs mean, which the loss in training decides. ``Multiclass()`` gives the softmax of each row,
            (N, O); ``Binary()`` the probability of being positive, (N,); ``Multilabel()`` that of each label, (N, O).
            Outputs with positions, (N, ..., O), have probabilities for each position. ``Regression()`` has none.
        rowwise: As in ``outputs``.
        transform: As in ``outputs``.

    Raises:
        ConfigError: If the task is missing or has no probabilities, or a layer is in its training form.
        ShapeError: If the outputs do not fit the task; the message names the tasks that they fit.
        NonFiniteError: If an output is NaN or infinite; the message says which one.

    Example:
        >>> import funcnet as fn
        >>> logits = np.array([[0.0, 0.0]])
        >>> predict_proba(fn.Identity(), logits, fn.Multiclass())
        array([[0.5, 0.5]])
        >>> predict_proba(fn.Identity(), logits[:, :1], fn.Binary())
        array([0.5])
    """
    check_task("predict_proba", "probabilities", task)
    _check_inputs("predict_proba", params, x, transform)
    return task.probabilities(_outputs("predict_proba", params, x, transform, rowwise=rowwise))


def evaluate(
    params: Network,
    x: Input,
    y: T,
    loss: Loss[T],
    weight: Array | None = None,
    *,
    transform: Callable[[Batch[T]], Batch[T]] | None = None,
) -> float:
    """The loss of the plain network over all rows. The outputs are computed 256 rows at a time.

    Shapes: x (N, ...), y (N, ...), weight (N,), or the shape of y or its first axes, or None.

    Args:
        params: The network in its plain form.
        x: The inputs, float32 or float64, or ids of any integer dtype; with a transform, any number type.
        y: The targets, as the loss expects them.
        loss: The loss.
        weight: How much each example counts, for a loss that takes weights.
        transform: A pure function of a batch, such as ``scale_images``, which treats each row independently of the
            others. It gets 256 examples at a time. With a transform, y must be an array, or a tuple of arrays.

    Raises:
        ConfigError: If a layer is in its training form; use ``plain(net)``.
        FuncnetError: If an array does not fit.

    Example:
        >>> import funcnet as fn
        >>> evaluate(fn.Identity(), np.array([[0.0, 0.0]]), np.array([1]), fn.softmax_cross_entropy)
        0.6931471805599453
    """
    check_callable("evaluate", "loss", loss)
    _check_inputs("evaluate", params, x, transform)
    if transform is None:
        return weighted_loss(loss, _outputs("evaluate", params, x, None), y, weight)[0]
    for name, value in (("y", y), ("weight", weight)):
        _check_length("evaluate", name, value, len(x))
    with np.errstate(all="ignore"):
        batches = _batches("evaluate", x, y, weight, transform)
        nets = _in_parts("evaluate", params, len(x))
        done = [evolve(batch, x=forward(net, batch.x)) for net, batch in zip(nets, batches, strict=True)]
    targets, weights = _put_together([batch.y for batch in done]), _put_together([batch.weight for batch in done])
    return weighted_loss(loss, _joined([batch.x for batch in done], len(x)), targets, weights)[0]


def _check_length(subject: str, name: str, value: object, count: int) -> None:
    """Check that a value is an array with ``count`` rows, a tuple of such arrays, or, for a weight, None."""
    if isinstance(value, tuple):
        for position, part in enumerate(cast("tuple[object, ...]", value)):
            _check_length(subject, f"{name}[{position}]", part, count)
    elif value is not None or name != "weight":
        length = len(check_rows(subject, name, value))
        if length != count:
            raise ShapeError(f"{name} must have one row for each of the {count} of x, got {length}", subject=subject)


def _put_together(values: list[T]) -> T:
    """The arrays as one array, position by position if they are tuples; None if they are None."""
    if isinstance(values[0], tuple):
        parts = zip(*cast("list[tuple[object, ...]]", values), strict=True)
        return cast("T", tuple(_put_together(list(part)) for part in parts))
    return values[0] if values[0] is None else cast("T", lock(np.concatenate(cast("list[Array]", values))))
