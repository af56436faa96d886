"""Minibatches in detail: their rows, order and keys, and the messages about invalid arguments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import pytest
from attrs import frozen
from networks import inputs

import funcnet as fn
from funcnet.core.arrays import Labels
from funcnet.core.trees import same_bits
from funcnet.data.batches import Minibatches
from funcnet.random import draws

KEY = fn.Key(9)
X = inputs(KEY.child("x"), 11, 2, 3)
WIDE, SCORES = inputs(KEY.child("wide"), 11, 4), inputs(KEY.child("scores"), 11, 3)
IDS: Labels = np.arange(11) % 3
Pair: TypeAlias = fn.Batch[tuple[Labels, fn.Array], tuple[fn.Array, fn.Array]]


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
    "no inputs": (
        fn.ConfigError,
        "minibatches: x must be an array or a tuple of arrays, got ()",
        {"x": (), "y": IDS, "batch_size": 1},
    ),
    "two lengths": (
        fn.ShapeError,
        "minibatches: x[0] and x[1] must have the same length, got (11, 4) and (10, 4)",
        {"x": (WIDE, WIDE[1:]), "y": IDS, "batch_size": 1},
    ),
    "two lengths of targets": (
        fn.ShapeError,
        "minibatches: x and y[1] must have the same length, got (11, 4) and (10, 3)",
        {"x": WIDE, "y": (IDS, SCORES[1:]), "batch_size": 1},
    ),
    "a list in a tuple": (
        fn.DTypeError,
        "minibatches: x[1] must be a plain NumPy array, got list; use np.asarray(x[1], dtype=np.float32)",
        {"x": (WIDE, [1.0]), "y": IDS, "batch_size": 1},
    ),
    "text in a tuple": (
        fn.DTypeError,
        f"minibatches: x[0] must hold numbers, got {np.dtype('U1')}",
        {"x": (np.array(["a"]), np.ones((1, 1))), "y": np.array([0]), "batch_size": 1},
    ),
    "NaN in a tuple": (
        fn.NonFiniteError,
        "minibatches: x[1] must be finite, got x[1][0, 0] = nan",
        {"x": (np.ones((1, 1)), np.full((1, 1), np.nan)), "y": np.array([0]), "batch_size": 1},
    ),
    "a negative label in a tuple": (
        fn.LabelError,
        "minibatches: y[1] must be 0 or more, got y[1][0] = -1",
        {"x": np.ones((1, 1)), "y": (np.array([0]), np.array([-1])), "batch_size": 1},
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
    wrong: Any = (X, 3)
    pair: fn.Batch[Any] = wrong
    step = fn.sgd_step(fn.mean_squared_error, learning_rate=0.1)
    calls: dict[str, Callable[[], object]] = {
        "SGDStep": lambda: step(fn.ReLU(), pair),
        "scale_images": lambda: fn.scale_images(pair),
    }
    for name, call in calls.items():
        with pytest.raises(fn.ConfigError) as caught:
            call()
        assert str(caught.value) == f"{name}: a batch must be a Batch, got {pair!r:.80}; use Batch(x, y)"


# ------------------------------------------------------------------------- several inputs and several targets


@pytest.mark.parametrize("key", [KEY, None])
def test_each_array_of_a_tuple_has_the_rows_of_a_single_array(key: fn.Key | None) -> None:
    """Order, slices and locks are those of batches of each array alone; weights have the order of their rows."""
    weight, order = np.linspace(0.5, 1, 11), np.arange(11) if key is None else draws.permutation(key, 11)
    pairs = fn.minibatches((X, WIDE), (IDS, SCORES), 4, key=key, weight=weight)
    singles = fn.minibatches(X, IDS, 4, key=key), fn.minibatches(WIDE, SCORES, 4, key=key)
    assert len(pairs[1:]) == 2
    for start, pair, *alone in zip((0, 4, 8), [*pairs[:1], *pairs[1:]], *singles, strict=True):
        assert pair.weight is not None
        assert same_bits(pair.weight, weight[order[start : start + 4]])
        for position, single in enumerate(alone):
            np.testing.assert_array_equal(pair.x[position], single.x)
            np.testing.assert_array_equal(pair.y[position], single.y)
            assert pair.x[position].flags.writeable is single.x.flags.writeable is (key is not None)


def test_an_array_of_a_tuple_may_hold_ids() -> None:
    """Integers and arrays of shape (N,) are inputs in a tuple; a gap or another order in memory changes nothing."""
    batch = fn.minibatches((IDS, np.asfortranarray(WIDE), WIDE[:, ::2]), IDS, 11)[0]
    assert [x.dtype.kind for x in batch.x] == ["i", "f", "f"]
    assert all(x.flags.c_contiguous for x in batch.x)
    np.testing.assert_array_equal(batch.x[2], WIDE[:, ::2])


def test_transform_and_augment_see_the_tuple() -> None:
    """They get the whole batch, and return a batch of the same form."""

    def doubled(batch: Pair) -> Pair:
        return fn.Batch((batch.x[0] * 2, batch.x[1]), batch.y)

    def noisy(key: fn.Key, batch: Pair) -> Pair:
        return fn.Batch((batch.x[0], batch.x[1] + fn.random.normal(key, batch.x[1].shape)), batch.y)

    x, y = (X, WIDE), (IDS, SCORES)
    plain, changed = (
        list(fn.minibatches(x, y, 4, key=KEY, transform=transform, augment=augment))
        for transform, augment in ((None, None), (doubled, noisy))
    )
    for start, a, b in zip((0, 4, 8), plain, changed, strict=True):
        np.testing.assert_array_equal(b.x[0], 2 * a.x[0])
        noise = fn.random.normal(KEY.child("augment", start), a.x[1].shape)
        np.testing.assert_array_equal(b.x[1], a.x[1] + noise)


@frozen(eq=False)
class Towers:
    """A network for each input."""

    wide: fn.Network
    deep: fn.Network


def learn(towers: Towers, batch: Pair) -> tuple[Towers, float]:
    """Classify by the sum of both outputs, and fit the scores by the first."""
    (wide, pull_wide), (deep, pull_deep) = fn.vjp(towers.wide, batch.x[0]), fn.vjp(towers.deep, batch.x[1])
    loss, grad = fn.softmax_cross_entropy(wide + deep, batch.y[0], batch.weight)
    score_loss, grad_scores = fn.mean_squared_error(wide, batch.y[1])
    return Towers(
        fn.sgd_update(towers.wide, pull_wide(grad + grad_scores)[1], learning_rate=0.1),
        fn.sgd_update(towers.deep, pull_deep(grad)[1], learning_rate=0.1),
    ), loss + score_loss


def test_a_step_with_two_inputs_and_two_targets_is_replayed() -> None:
    """The fold of such a step has the bits of the plain loop, and nothing in the step is opaque."""
    start = Towers((fn.Flatten(), *fn.mlp(KEY, (6, 5, 3))), fn.mlp(KEY.child(1), (4, 5, 3)))
    start = Towers(*(fn.astype(net, np.float64) for net in (start.wide, start.deep)))
    batches = fn.minibatches((X, WIDE), (IDS, SCORES), 2, key=KEY, drop_last=True, weight=np.linspace(0.5, 1, 11))
    state, losses = start, list[float]()
    for batch in batches:
        state, loss = learn(state, batch)
        losses.append(loss)
    calls: list[int] = []

    def counted(towers: Towers, batch: Pair) -> tuple[Towers, float]:
        calls.append(1)
        return learn(towers, batch)

    for step in (learn, counted):
        found, log = fn.train_epoch(step, start, batches)
        assert same_bits(log.losses, np.array(losses))
        assert fn.equal((found.wide, found.deep), (state.wide, state.deep))
    assert len(calls) < len(batches)
    assert not fn.program(learn, start, batches[0]).opaque


def test_built_in_functions_refuse_several_inputs() -> None:
    """The message says what to do; the type checkers refuse it, too."""
    pair: Any = fn.minibatches((WIDE, WIDE), IDS, 11)[0]
    batch: fn.Batch[Any] = pair
    net = fn.astype(fn.mlp(KEY, (4, 3)), np.float64)
    state = fn.TrainState.create(net, fn.SGD(learning_rate=0.1), key=KEY)
    calls: dict[str, Callable[[], object]] = {
        "SGDStep": lambda: fn.sgd_step(fn.softmax_cross_entropy, learning_rate=0.1)(net, batch),
        "TrainStep": lambda: fn.train_step(fn.softmax_cross_entropy, shard_size=2)(state, batch),
        "scale_images": lambda: fn.scale_images(batch),
        "RandomNoise": lambda: fn.RandomNoise(0.1)(KEY, batch),
    }
    for name, call in calls.items():
        with pytest.raises(fn.DTypeError) as caught:
            call()
        fix = "a batch with several inputs needs your own function"
        assert str(caught.value) == f"{name}: x must be one array, got a tuple of 2; {fix}"


def test_a_loss_may_take_several_targets() -> None:
    """A built-in step passes a tuple of targets to the user's loss."""

    def both(prediction: fn.Array, target: tuple[Labels, fn.Array]) -> tuple[float, fn.Array]:
        loss, grad = fn.softmax_cross_entropy(prediction, target[0])
        score_loss, grad_scores = fn.mean_squared_error(prediction, target[1])
        return loss + score_loss, grad + grad_scores

    net = fn.astype(fn.mlp(KEY, (4, 3)), np.float64)
    step = fn.sgd_step(both, learning_rate=0.1)
    trained, log = fn.train_epoch(step, net, fn.minibatches(WIDE, (IDS, SCORES), 11))
    loss, grad = fn.value_and_grad(net, WIDE, (IDS, SCORES), both)
    assert log.losses.tolist() == [loss]
    assert fn.equal(trained, fn.sgd_update(net, grad, learning_rate=0.1))


def test_a_batch_type_has_one_array_of_inputs_by_default() -> None:
    """``Batch[T]`` is ``Batch[T, Array]``, also while a program runs."""
    generic: Any = fn.Batch
    assert generic[Labels] == generic[Labels, fn.Array] != generic[Labels, tuple[fn.Array, fn.Array]]
    assert Minibatches[Labels] is not None
