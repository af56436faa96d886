"""Minibatches in detail: which rows, in which order, under which keys; what a caller meets who gives something else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from networks import inputs

import funcnet as fn
from funcnet.random import draws

KEY = fn.Key(9)
X = inputs(KEY.child("x"), 11, 2, 3)


def unchanged(_: fn.Key, batch: fn.Batch[Any]) -> fn.Batch[Any]:
    """An augmentation that does nothing."""
    return batch


MESSAGES: dict[str, tuple[type[fn.FuncnetError], str, dict[str, Any]]] = {
    "x is a list": (
        fn.DTypeError,
        "minibatches: x must be a plain NumPy array, got list; use np.asarray(x, dtype=np.float32)",
        {"x": [[1.0]], "y": np.array([0]), "batch_size": 1},
    ),
    "y is a list": (
        fn.DTypeError,
        "minibatches: y must be a plain NumPy array of class ids, got list; use np.asarray(y)",
        {"x": np.ones((1, 1)), "y": [0], "batch_size": 1},
    ),
    "x is of integers": (
        fn.DTypeError,
        "minibatches: x must be float32 or float64, got int64; use x.astype(np.float32)",
        {"x": np.ones((1, 1), np.int64), "y": np.array([0]), "batch_size": 1},
    ),
    "x has no features": (
        fn.ShapeError,
        "minibatches: x must have shape (N, ...), at least one row and one feature, got (2,)",
        {"x": np.ones(2), "y": np.array([0, 1]), "batch_size": 1},
    ),
    "augment without a key": (
        fn.ConfigError,
        "minibatches: augment draws; give a key",
        {"x": np.ones((1, 1)), "y": np.array([0]), "batch_size": 1, "augment": unchanged},
    ),
    "transform is a number": (
        fn.ConfigError,
        "minibatches: transform must be a function, got 3",
        {"x": np.ones((1, 1)), "y": np.array([0]), "batch_size": 1, "transform": 3},
    ),
    "augment is a word": (
        fn.ConfigError,
        "minibatches: augment must be a function, got 'flip'",
        {"x": np.ones((1, 1)), "y": np.array([0]), "batch_size": 1, "augment": "flip", "key": KEY},
    ),
}


@pytest.mark.parametrize("y", [np.arange(11), np.arange(22.0).reshape(11, 2), np.arange(11.0)], ids=lambda y: y.shape)
def test_a_key_is_an_order(y: Any) -> None:
    """The rows come in the key's permutation, whole, inputs and targets alike; without a key as they stand."""
    for key, order in ((KEY, draws.permutation(KEY, 11)), (None, np.arange(11))):
        batches = list(fn.minibatches(X, y, 4, key=key))
        np.testing.assert_array_equal(np.concatenate([batch.x for batch in batches]), X[order])
        np.testing.assert_array_equal(np.concatenate([batch.y for batch in batches]), y[order])


def test_batches_in_place_are_locked_and_the_examples_are_not() -> None:
    """A batch without a key is a view: nobody can write through it, and whoever holds x and y still can."""
    x, y = X.copy(), np.arange(11)
    batch = fn.minibatches(x, y, 4)[1]
    assert np.shares_memory(batch.x, x)
    assert not batch.x.flags.writeable
    assert not batch.y.flags.writeable
    assert x.flags.writeable
    assert y.flags.writeable


def test_an_augmentation_has_the_key_of_its_place() -> None:
    """``key.child("augment", first row)``: for good, as any key; the same from the middle on."""
    keys: list[fn.Key] = []

    def augment(key: fn.Key, batch: fn.Batch[Any]) -> fn.Batch[Any]:
        keys.append(key)
        return batch

    batches = fn.minibatches(X, np.arange(11), 4, key=KEY, augment=augment)
    assert len(list(batches)) == 3
    assert keys == [KEY.child("augment", start) for start in (0, 4, 8)]
    assert len(list(batches[1:])) == 2
    assert keys[3:] == keys[1:3]


def test_rows_of_one_number_need_a_transform() -> None:
    """Which gives them features."""

    def columns(batch: fn.Batch[Any]) -> fn.Batch[Any]:
        return fn.Batch(batch.x[:, None] / 2, batch.y)

    assert fn.minibatches(np.arange(4), np.arange(4), 3, transform=columns)[1].x.tolist() == [[1.5]]


def test_targets_may_be_negative_where_they_are_no_classes() -> None:
    """Floats of one axis, integers of two."""
    for y in (np.array([-1.0, 0.5]), np.array([[-1, 2], [0, 1]])):
        np.testing.assert_array_equal(fn.minibatches(np.ones((2, 1)), y, 2)[0].y, y)


@pytest.mark.parametrize("name", MESSAGES)
def test_what_is_refused_says_so(name: str) -> None:
    """Who, what, got, fix: the whole message."""
    kind, message, arguments = MESSAGES[name]
    with pytest.raises(kind) as caught:
        fn.minibatches(**arguments)
    assert str(caught.value) == message


def test_a_batch_is_a_batch() -> None:
    """A pair is none: a step and a transform say what to make of it."""
    pair: Any = (X, 3)
    step = fn.sgd_step(fn.mean_squared_error, learning_rate=0.1)
    for name, call in (("SGDStep", lambda: step(fn.ReLU(), pair)), ("scale_images", lambda: fn.scale_images(pair))):
        with pytest.raises(fn.ConfigError) as caught:
            call()
        assert str(caught.value) == f"{name}: a batch must be a Batch, got {pair!r:.80}; use Batch(x, y)"
