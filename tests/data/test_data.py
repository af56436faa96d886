"""Minibatches in detail: their rows, order and keys, and the messages about invalid arguments."""

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
    """Return the batch unchanged, as an augmentation."""
    return batch


MESSAGES: dict[str, tuple[type[fn.FuncnetError], str, dict[str, Any]]] = {
    "y is a list": (
        fn.DTypeError,
        "minibatches: y must be a plain NumPy array of class ids, got list; use np.asarray(y)",
        {"x": np.ones((1, 1)), "y": [0], "batch_size": 1},
    ),
    "augment without a key": (
        fn.ConfigError,
        "minibatches: augment needs a key; pass key=Key(seed)",
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
    """Whole rows of inputs and targets come in the permutation of the key, or in their own order without a key."""
    for key, order in ((KEY, draws.permutation(KEY, 11)), (None, np.arange(11))):
        batches = list(fn.minibatches(X, y, 4, key=key))
        np.testing.assert_array_equal(np.concatenate([batch.x for batch in batches]), X[order])
        np.testing.assert_array_equal(np.concatenate([batch.y for batch in batches]), y[order])


def test_batches_in_place_are_locked_and_the_examples_are_not() -> None:
    """Without a key, a batch is a read-only view; x and y themselves stay writable."""
    x, y = X.copy(), np.arange(11)
    batch = fn.minibatches(x, y, 4)[1]
    assert np.shares_memory(batch.x, x)
    assert not batch.x.flags.writeable
    assert not batch.y.flags.writeable
    assert x.flags.writeable
    assert y.flags.writeable


def test_an_augmentation_has_the_key_of_its_place() -> None:
    """The key is ``key.child("augment", first_row)``, permanently, and is the same in a slice."""
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
    """The transform adds a feature axis."""

    def columns(batch: fn.Batch[Any]) -> fn.Batch[Any]:
        return fn.Batch(batch.x[:, None] / 2, batch.y)

    assert fn.minibatches(np.arange(4), np.arange(4), 3, transform=columns)[1].x.tolist() == [[1.5]]


def test_unusual_arrays_make_usual_batches() -> None:
    """Fortran order, gaps, NumPy integers, any label dtype and the largest floats do not change the batches."""
    x, y = np.linspace(-3e38, 3e38, 24, dtype=np.float32).reshape(4, 6), np.array([0, 1, 2, 0])
    size: Any = np.uint8(3)
    for same in (np.asfortranarray(x), np.repeat(x, 2, axis=1)[:, ::2]):
        for batch, wanted in zip(fn.minibatches(same, y, size, key=KEY), fn.minibatches(x, y, 3, key=KEY), strict=True):
            np.testing.assert_array_equal(batch.x, wanted.x)
            assert batch.x.flags.c_contiguous
    for dtype in ("i1", "u1", "u8", ">i4"):
        assert fn.minibatches(x, y.astype(dtype), 2)[0].y.dtype == np.dtype(dtype)
    assert fn.dense(KEY, size, size).weight.shape == (3, 3)


def test_targets_may_be_negative_where_they_are_no_classes() -> None:
    """Floats with one axis and integers with two axes may be negative."""
    for y in (np.array([-1.0, 0.5]), np.array([[-1, 2], [0, 1]])):
        np.testing.assert_array_equal(fn.minibatches(np.ones((2, 1)), y, 2)[0].y, y)


@pytest.mark.parametrize("name", MESSAGES)
def test_what_is_refused_says_so(name: str) -> None:
    """The test compares the whole message: where, what, got and fix."""
    kind, message, arguments = MESSAGES[name]
    with pytest.raises(kind) as caught:
        fn.minibatches(**arguments)
    assert str(caught.value) == message


def test_a_batch_is_a_batch() -> None:
    """A pair is not a batch: a step and a transform refuse it and say how to make a batch."""
    pair: Any = (X, 3)
    step = fn.sgd_step(fn.mean_squared_error, learning_rate=0.1)
    for name, call in (("SGDStep", lambda: step(fn.ReLU(), pair)), ("scale_images", lambda: fn.scale_images(pair))):
        with pytest.raises(fn.ConfigError) as caught:
            call()
        assert str(caught.value) == f"{name}: a batch must be a Batch, got {pair!r:.80}; use Batch(x, y)"
