"""Inference: outputs, predictions and losses of bytes that a transform converts chunk by chunk."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import numpy as np
import pytest
from attrs import evolve
from networks import inputs

import funcnet as fn
from funcnet.core.trees import same_bits

T = TypeVar("T")
KEY = fn.Key(53)
NET = fn.mlp(KEY, (6, 5, 3))
ROWS = np.arange(600 * 6, dtype=np.int64).reshape(600, 6) * 7919 % 256
LABELS = np.arange(600) % 3
CE = fn.softmax_cross_entropy


def scaled(batch: fn.Batch[T]) -> fn.Batch[T]:
    """The batch with numbers of any type as float32, 0 to 1."""
    return evolve(batch, x=batch.x.astype(np.float32) / np.float32(255))


def evaluate(net: Any, x: Any, **more: Any) -> fn.Array:
    """The loss as an array."""
    return np.array(fn.evaluate(net, x, LABELS[: len(x)], CE, **more))


def all_labels(net: Any, x: Any, *, transform: Any) -> float:
    """The loss with 600 labels, whatever x is."""
    return fn.evaluate(net, x, LABELS, CE, transform=transform)


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "outputs": fn.outputs,
    "rowwise outputs": partial(fn.outputs, rowwise=True),
    "predict": partial(fn.predict, task=fn.Multiclass()),
    "predict_proba": partial(fn.predict_proba, task=fn.Multiclass()),
    "evaluate": evaluate,
}
every_function = pytest.mark.parametrize("name", FUNCTIONS)


@every_function
@pytest.mark.parametrize("count", [1, 7, 256, 257, 600])
def test_a_transform_in_chunks_is_a_transform_of_everything(name: str, count: int) -> None:
    """The bits are those of the transformed rows, for bytes and for other numbers, and x does not change."""
    function = FUNCTIONS[name]
    for dtype in ("u1", "i2", ">i8", "f2", "f8", "?") if count == 257 else ("u1",):
        x = ROWS[:count].astype(dtype)
        before, floats = x.copy(), x.astype(np.float32) / np.float32(255)
        assert same_bits(function(NET, x, transform=scaled), function(NET, floats))
        assert (x == before).all()
    x = ROWS[:count].astype(np.uint8)
    assert same_bits(function(NET, x, transform=fn.scale_images), function(NET, fn.scale_images(x)))


def test_no_rows_have_the_outputs_of_no_rows() -> None:
    """The transform gets an empty batch."""
    empty = np.zeros((0, 6), np.uint8)
    for rowwise in (False, True):
        found = fn.outputs(NET, empty, rowwise=rowwise, transform=fn.scale_images)
        assert found.shape == (0, 3)
        assert found.dtype == np.float32
    assert fn.predict(NET, empty, fn.Multiclass(), transform=fn.scale_images).shape == (0,)


def test_only_a_chunk_is_transformed_at_a_time() -> None:
    """The transform sees at most 256 rows, which are locked, and None for y; ``evaluate`` passes y and the weight."""
    seen: list[fn.Batch[Any]] = []

    def noted(batch: fn.Batch[T]) -> fn.Batch[T]:
        seen.append(batch)
        return scaled(batch)

    fn.outputs(NET, ROWS, transform=noted)
    assert [(len(batch.x), batch.y) for batch in seen] == [(256, None), (256, None), (88, None)]
    assert not any(batch.x.flags.writeable for batch in seen)
    seen.clear()
    fn.evaluate(NET, ROWS, LABELS, CE, inputs(KEY, 600, dtype=np.float32) ** 2, transform=noted)
    assert [(len(batch.x), len(batch.y), len(batch.weight)) for batch in seen if batch.weight is not None] == [
        (256, 256, 256),
        (256, 256, 256),
        (88, 88, 88),
    ]


def test_a_transform_may_change_targets_and_weights() -> None:
    """``evaluate`` has the loss of the transformed examples, also for targets that are a tuple."""

    def two(prediction: fn.Array, target: tuple[fn.Array, fn.Array]) -> tuple[float, fn.Array]:
        return fn.mean_squared_error(prediction, target[0] + target[1])

    def changed(batch: fn.Batch[Any]) -> fn.Batch[Any]:
        weight = None if batch.weight is None else batch.weight * 3
        y: Any = (batch.y[0] * 2, batch.y[1] * 2) if len(batch.y) == 2 else 2 - batch.y
        return fn.Batch(scaled(batch).x, y, weight)

    everything = fn.scale_images(ROWS.astype(np.uint8))
    weight = np.abs(inputs(KEY, 600, dtype=np.float32))
    whole = fn.evaluate(NET, everything, 2 - LABELS, CE, weight * 3)
    assert fn.evaluate(NET, ROWS, LABELS, CE, weight, transform=changed) == whole
    pair = inputs(KEY, 600, 3, dtype=np.float32), inputs(KEY.child(1), 600, 3, dtype=np.float32)
    whole = fn.evaluate(NET, everything, (pair[0] * 2, pair[1] * 2), two)
    assert fn.evaluate(NET, ROWS, pair, two, transform=changed) == whole


def unscaled(batch: fn.Batch[T]) -> fn.Batch[T]:
    """The batch itself."""
    return batch


def shortened(batch: fn.Batch[T]) -> fn.Batch[T]:
    """Nine rows of the batch."""
    return evolve(batch, x=batch.x[:9] / 2)


def inputs_alone(batch: fn.Batch[Any]) -> fn.Array:
    """An array instead of a batch."""
    return batch.x


BAD: list[tuple[Any, Any, type[fn.FuncnetError], str]] = [
    (ROWS, 3, fn.ConfigError, ": transform must be a function, got 3"),
    (ROWS, inputs_alone, fn.ConfigError, ": a batch must be a Batch, got array"),
    (
        ROWS,
        shortened,
        fn.ShapeError,
        r"must have shape \(256, ...\), got \(9, 6\)",
    ),
    (ROWS > 9, unscaled, fn.DTypeError, "x of the transform's batch must be float32 or float64, got bool"),
    (ROWS.astype(object), scaled, fn.DTypeError, ": x must hold numbers, got object"),
    (np.array(3), scaled, fn.ShapeError, r": x must have shape \(N, ...\), got \(\)"),
    (ROWS.tolist(), scaled, fn.DTypeError, ": x must be a plain NumPy array, got list"),
    (ROWS > 9, None, fn.DTypeError, ": x must be float32 or float64, got bool"),
]


@every_function
@pytest.mark.parametrize(("x", "transform", "error", "message"), BAD, ids=[text[:30] for *_, text in BAD])
def test_what_is_no_transform_is_refused(name: str, x: Any, transform: Any, error: Any, message: str) -> None:
    """The message names the function and the argument."""
    function = FUNCTIONS[name] if name != "evaluate" else all_labels
    with pytest.raises(error, match=rf"^(outputs|predict|predict_proba|evaluate).*{message}"):
        function(NET, x, transform=transform)


@every_function
@pytest.mark.parametrize("transform", [None, unscaled], ids=["no transform", "integers"])
def test_integers_are_refused_by_a_layer_of_floats(name: str, transform: Any) -> None:
    """Only a layer knows whether it takes ids."""
    with pytest.raises(fn.DTypeError, match=r"^Dense \(layer 0\): x must be float32 to match weight, got int64; use "):
        FUNCTIONS[name](NET, ROWS, transform=transform)


def test_targets_and_weights_have_a_row_for_each_input() -> None:
    """A shorter target would end in the middle of a chunk."""
    calls: tuple[tuple[Any, Any, str], ...] = (
        (LABELS[:9], None, "y"),
        ((LABELS, LABELS[:9]), None, r"y\[1\]"),
        (LABELS, np.ones(9), "weight"),
    )
    for y, weight, name in calls:
        with pytest.raises(
            fn.ShapeError, match=f"^evaluate: {name} must have one row for each of the 600 of x, got 9$"
        ):
            fn.evaluate(NET, ROWS, y, CE, weight, transform=scaled)
