"""Losses over positions: a target for each position of a row, and weights of rows, positions and elements."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pytest
from attrs import field, frozen
from networks import inputs

import funcnet as fn
from funcnet.arithmetic import Name, using
from funcnet.core.arrays import beside
from funcnet.core.trees import same_bits
from funcnet.loops.shards import sharded_value_and_grad
from funcnet.network.loss import total_of

KEY: Final = fn.Key(66)
SHAPE: Final = (6, 5, 4)
X: Final[fn.Array] = 1.5 * inputs(KEY.child("x"), *SHAPE)
IDS: Final = np.arange(30).reshape(6, 5) * 7 % 4
SHARES: Final[fn.Array] = np.abs(inputs(KEY.child("shares"), *SHAPE)) / 8
CLASS_WEIGHT: Final = (1.0, 0.5, 2.0, 0.25)
ROWS: Final[fn.Array] = np.array([1.0, 0.5, 0.0, 3.0, 0.25, 2.0])
POSITIONS: Final[fn.Array] = np.where(IDS == 1, 0.0, np.abs(inputs(KEY.child("weight"), 6, 5)) + 0.1)
POSITIONS[1] = 0
ELEMENTS: Final[fn.Array] = np.where(SHARES < 0.02, 0.0, SHARES)


@frozen
class Case:
    """A loss with targets for X, and the fingerprint of its results in portable arithmetic."""

    name: str
    loss: Any = field(repr=False)
    target: Any = field(repr=False)
    golden: str = field(repr=False)

    @property
    def weights(self) -> tuple[fn.Array | None, ...]:
        """Weights that the loss takes: none, and those of rows, positions and elements."""
        return (None, ROWS, POSITIONS) if "softmax" in self.name else (None, ROWS, POSITIONS, ELEMENTS)

    def flat(self, values: Any) -> Any:
        """Return targets or weights with one row for each position of X, shape (30,) or (30, 4)."""
        if values is not None and values.ndim == 1:
            values = values.repeat(5)
        return values if values is None else values.reshape(30, *values.shape[2:])

    def y(self, dtype: fn.FloatDType) -> Any:
        """Return the targets; floats are converted to this dtype."""
        return self.target.astype(dtype) if self.target.dtype.kind == "f" else self.target


CASES: Final = (
    Case("softmax", fn.softmax_cross_entropy, IDS, "b36dabd40ec0d01acaabf56174576ecf5516731ce33925119f2088191c1f02c5"),
    Case(
        "softmax of shares",
        fn.SoftmaxCrossEntropy(),
        SHARES,
        "3e049dee666ce1ba2da60c56067bee9bfbc02452b8bb3639c98182d373255f6e",
    ),
    Case(
        "softmax, smoothed",
        fn.SoftmaxCrossEntropy(label_smoothing=0.1),
        IDS,
        "67c8df499dd4e663b1f9aa866b8f44506af778751136fdb3063f99dab2df17d4",
    ),
    Case(
        "softmax, class weights",
        fn.SoftmaxCrossEntropy(class_weight=CLASS_WEIGHT),
        IDS,
        "d6ca3f4d458d73e114cb959e3240878d5fad3d47bdd08e65ae7bdf2c7514c155",
    ),
    Case(
        "softmax with all",
        fn.SoftmaxCrossEntropy(0.2, CLASS_WEIGHT),
        IDS,
        "74ae226e73b8fe09a54139e78a289798a1986bb21a39cfd2d2e4a4d990cb7d6e",
    ),
    Case(
        "softmax of shares with all",
        fn.SoftmaxCrossEntropy(0.2, CLASS_WEIGHT),
        SHARES,
        "c7b606e66d6fd94fa52429487230833ac4e5b2ed4ec769dc5b94037eb8c92cda",
    ),
    Case("binary", fn.binary_cross_entropy, SHARES, "49ef7379008f276129f404da03404b46402761aa0a187b59ff6862a76aa316b0"),
    Case("squared", fn.mean_squared_error, SHARES, "7fa8a3615f9d88fa1ae8ac9e0741034f388c0eae076aa1f44ed07a9b467019b1"),
    Case(
        "absolute", fn.mean_absolute_error, SHARES, "285b59b6b944254c8654b049de1e7c02a6b645cd7cd90a47d0e58734b11ddea2"
    ),
    Case("huber", fn.Huber(delta=0.3), SHARES, "465f6f713248caf4dd53fd7645a38ed8e95e78ff7e7a96e4a747068e79c20f61"),
    Case(
        "hinge",
        fn.hinge,
        np.where(SHARES < 0.1, -1.0, 1.0),
        "59608dc9ed3d2e4664afb8a9ea0dad85c8a975599277225a6d80aa89ceb2f7e4",
    ),
    Case("poisson", fn.poisson, SHARES, "a1ac1d47957be7817063e4e4862719bb76098a2996f392f73f6fa1740c017c38"),
)
every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


@pytest.mark.parametrize("arithmetic", ["native", "portable"])
@every_case
def test_positions_are_rows(case: Case, arithmetic: Name) -> None:
    """The loss of (B, T, O) is the loss of (B * T, O), with each row's weight at each of its positions."""
    dtype = np.float64 if arithmetic == "native" else np.float32
    x, y = X.astype(dtype), case.y(dtype)
    for given in case.weights:
        weight = None if given is None else given.astype(dtype)
        with using(arithmetic):
            value, gradient = case.loss(x, y, weight)
            wanted, rows = case.loss(x.reshape(30, 4), case.flat(y), case.flat(weight))
        tolerance = 1e-12 if dtype == np.float64 else 1e-6
        assert value == pytest.approx(wanted, rel=tolerance)
        np.testing.assert_allclose(gradient.reshape(30, 4), rows, rtol=tolerance, atol=1e-15)
        assert gradient.shape == x.shape
        assert gradient.dtype == dtype
        assert not gradient.flags.writeable
        if weight is None:
            assert value == wanted
            assert same_bits(gradient.reshape(30, 4), rows)


@every_case
def test_an_image_has_two_axes_of_positions(case: Case) -> None:
    """Shape (B, H, W, O): the loss of (B, H * W, O), in any memory order, and weights of the first axes broadcast."""
    image, target = X.reshape(2, 3, 5, 4), case.target.reshape(2, 3, 5, *case.target.shape[2:])
    for weight in (None, np.array([0.5, 2.0]), ROWS.reshape(2, 3), POSITIONS.reshape(2, 3, 5)):
        value, gradient = case.loss(image, target, weight)
        every = None if weight is None else beside(weight, image[..., 0]) * np.ones((2, 3, 5))
        wanted, flat = case.loss(X, case.target, None if every is None else every.reshape(6, 5))
        assert value == pytest.approx(wanted, rel=1e-12)
        np.testing.assert_allclose(gradient.reshape(SHAPE), flat, rtol=1e-12, atol=1e-16)
        moved = np.moveaxis(np.moveaxis(image, -1, 1).copy(), 1, -1)  # channels first in memory
        again, other = case.loss(moved, target, None if weight is None else np.asfortranarray(weight))
        assert again == pytest.approx(value, rel=1e-12)
        np.testing.assert_allclose(other, gradient, rtol=1e-12, atol=1e-16)


@every_case
def test_a_target_of_weight_0_may_be_any_number(case: Case) -> None:
    """A padded step, an unknown target or an ignored label changes no number, and its gradient is 0."""
    for weight in case.weights[1:]:
        y, nothing = case.target.copy(), weight == 0
        y[nothing] = -100 if y.dtype.kind == "i" else np.nan
        value, gradient = case.loss(X, case.target, weight)
        again, same = case.loss(X, y, weight)
        assert again == value
        assert (same == gradient).all()
        assert not gradient[nothing].any()
        assert total_of(case.loss, 6, y, weight) == total_of(case.loss, 6, case.target, weight) > 0
        assert np.array_equal(fn.minibatches(X, y, 6, weight=weight)[0].y, y, equal_nan=y.dtype.kind == "f")


# -------------------------------------------------------------------------------------------------- totals


@every_case
def test_a_mean_is_the_mean_of_its_parts_by_their_totals(case: Case) -> None:
    """Parts of any size; a part whose total is 0 counts for nothing."""
    for weight in case.weights:
        values, totals = list[float](), list[float]()
        for part in (slice(0, 1), slice(1, 2), slice(2, 3), slice(3, 6)):
            w = None if weight is None else weight[part]
            totals.append(total_of(case.loss, len(X[part]), case.target[part], w))
            values.append(case.loss(X[part], case.target[part], w)[0] if totals[-1] else np.nan)
            assert bool(totals[-1]) == (w is None or bool(w.any()))
        mean = sum(value * total for value, total in zip(values, totals, strict=True) if total) / sum(totals)
        assert mean == pytest.approx(case.loss(X, case.target, weight)[0], rel=1e-12)
        assert sum(totals) == pytest.approx(total_of(case.loss, 6, case.target, weight), rel=1e-12)


@every_case
def test_sequences_of_two_lengths_count_by_their_positions(case: Case) -> None:
    """The mean of a batch of 5 steps and one of 2, by their totals, is the mean of all 42 positions."""
    long, short = (slice(None), slice(None)), (slice(None), slice(2))
    for weight in case.weights:
        every: Any = ROWS[:, None].repeat(5, 1) if weight is ROWS else weight
        parts, rows = list[Any](), list[Any]()
        for part in (long, short):
            parts.append((X[part], case.target[part], weight if weight is None or weight is ROWS else weight[part]))
            arrays: tuple[Any, ...] = (X, case.target, np.ones((6, 5)) if every is None else every)
            rows.append([a[part].reshape(-1, *a.shape[2:]) for a in arrays])
        totals = [total_of(case.loss, 6, y, w) for _, y, w in parts]
        mean = sum(total * case.loss(*part)[0] for total, part in zip(totals, parts, strict=True)) / sum(totals)
        wanted = case.loss(*(np.concatenate(both) for both in zip(*rows, strict=True)))[0]
        assert mean == pytest.approx(wanted, rel=1e-12)
        step = fn.sgd_step(case.loss, learning_rate=1e-300)  # which changes no parameter
        log = fn.train_epoch(step, ONES, [fn.Batch(*part) for part in parts])[1]
        assert log.mean_loss == pytest.approx(wanted, rel=1e-12)


ONES: Final = fn.Dense(np.eye(4))


@pytest.mark.parametrize("weight", [None, ROWS, POSITIONS], ids=["none", "rows", "positions"])
@pytest.mark.parametrize("target", [IDS, SHARES], ids=["ids", "shares"])
def test_both_softmax_losses_have_the_same_total(target: Any, weight: fn.Array | None) -> None:
    """The record, which counts its labels itself, and the function agree."""
    totals = [total_of(loss, 6, target, weight) for loss in (fn.softmax_cross_entropy, fn.SoftmaxCrossEntropy())]
    assert totals[0] == pytest.approx(totals[1], rel=1e-15)


NET: Final = fn.dense(KEY.child("net"), 4, 4, dtype=np.float64)


@every_case
def test_shards_give_the_gradient_of_the_batch(case: Case) -> None:
    """Shards of any size; those whose weights are all 0 are skipped."""
    for weight in case.weights:
        value, grads = fn.value_and_grad(NET, X, case.target, case.loss, weight)
        for size in (1, 2, 4):
            sharded, parts = sharded_value_and_grad(NET, X, case.target, case.loss, weight, shard_size=size)
            assert sharded == pytest.approx(value, rel=1e-12)
            np.testing.assert_allclose(parts.weight, grads.weight, rtol=1e-9, atol=1e-12)


@every_case
def test_accumulated_parts_and_epochs_have_the_mean_of_the_whole(case: Case) -> None:
    """Three minibatches make the update of the whole; the mean loss of an epoch is that of all rows, as evaluated."""
    rate = 0.1
    whole = fn.TrainState.create(NET, fn.SGD(learning_rate=rate), key=KEY)
    parts = fn.TrainState.create(NET, fn.Accumulation(fn.SGD(learning_rate=rate), steps=3), key=KEY)
    step = fn.train_step(case.loss)
    for weight in case.weights:
        wanted, loss = step(whole, fn.Batch(X, case.target, weight))
        found, log = fn.train_epoch(step, parts, fn.minibatches(X, case.target, 2, weight=weight))
        np.testing.assert_allclose(found.params.weight, wanted.params.weight, rtol=1e-10)
        assert log.mean_loss == pytest.approx(loss, rel=1e-12)
        assert fn.evaluate(NET, X, case.target, case.loss, weight) == loss
        x, y = (np.concatenate([each] * 50) for each in (X, case.target))  # more than one chunk
        many = None if weight is None else np.concatenate([weight] * 50)
        assert fn.evaluate(NET, x, y, case.loss, many) == pytest.approx(loss, rel=1e-12)


@every_case
def test_shuffled_batches_replay_to_the_bits_of_the_fold(case: Case) -> None:
    """Each weight stays with its position; a traced epoch is the fold of single steps."""
    step = fn.train_step(case.loss)
    start = fn.TrainState.create(NET, fn.Adam(learning_rate=0.01), key=KEY)
    for weight in case.weights:
        batches = fn.minibatches(X, case.target, 2, key=KEY, weight=None if weight is None else weight + 0.1)
        slow, losses = start, list[float]()
        for batch in [*batches] * 3:
            slow, loss = step(slow, batch)
            losses.append(loss)
        fast, log = fn.train_epoch(step, start, [*batches] * 3)
        assert fn.equal(slow.params, fast.params)
        assert log.losses.tolist() == losses


@every_case
def test_portable_bits_are_committed(case: Case) -> None:
    """One fingerprint covers every kind of weight; permuted rows have the permuted gradient."""
    x, y, order = X.astype(np.float32), case.y(np.float32), fn.random.permutation(KEY, 6)
    weights = [None if weight is None else weight.astype(np.float32) for weight in case.weights]
    with fn.portable():
        results = tuple(case.loss(x, y, weight) for weight in weights)
        moved = [case.loss(x[order], y[order], None if weight is None else weight[order]) for weight in weights]
    for (value, gradient), (again, permuted) in zip(results, moved, strict=True):
        assert again == value
        assert same_bits(permuted, gradient[order])
    assert fn.fingerprint(results) == case.golden


# ------------------------------------------------------------------------------------------------ refusals


def changed(array: Any, value: Any) -> Any:
    """Return a copy with another number at position [2, 1]."""
    copy = array.copy()
    copy[2, 1] = value
    return copy


def total_of_shares(target: Any, weight: Any) -> float:
    """Return the total of six rows of class shares."""
    return total_of(fn.SoftmaxCrossEntropy(), 6, target, weight)


PER_POSITION: Final = "labels must have shape (6, 5), one class id per position, got"
CE: Final = fn.softmax_cross_entropy
MSE: Final = fn.mean_squared_error
REFUSED: Final[dict[str, tuple[Any, tuple[Any, ...], type[fn.FuncnetError], str]]] = {
    "classes second": (
        CE,
        (X.transpose(0, 2, 1), IDS),
        fn.ShapeError,
        (
            "labels must have shape (6, 4) to match logits (6, 4, 5), got (6, 5); "
            "if the classes are the second axis, use np.moveaxis(logits, 1, -1)"
        ),
    ),
    "labels of rows": (CE, (X, IDS[:, 0]), fn.ShapeError, f"{PER_POSITION} (6,)"),
    "labels in columns": (CE, (X, IDS[..., None]), fn.ShapeError, f"{PER_POSITION} (6, 5, 1); use labels[..., 0]"),
    "float labels": (
        CE,
        (X, IDS.astype(np.float32)),
        fn.DTypeError,
        "labels must be integer class ids, got float32; use labels.astype(np.int64)",
    ),
    "no class": (CE, (X, changed(IDS, 99)), fn.LabelError, "labels must be in 0..3, got labels[2, 1] = 99"),
    "no class, smoothed": (
        fn.SoftmaxCrossEntropy(0.1),
        (X, changed(IDS, -100), np.ones((6, 5))),
        fn.LabelError,
        (
            "labels must be in 0..3, got labels[2, 1] = -100; "
            "to leave a label out, use weight=(labels != -100).astype(np.float64)"
        ),
    ),
    "a share below 0": (
        fn.SoftmaxCrossEntropy(),
        (X, changed(SHARES, [-1.0, 0, 0, 0])),
        fn.LabelError,
        "labels must be shares, 0 or more, got labels[2, 1, 0] = -1.0",
    ),
    "shares of another shape": (
        fn.SoftmaxCrossEntropy(),
        (X, SHARES[:, :4]),
        fn.ShapeError,
        "labels must have shape (6, 5, 4) to match logits (6, 5, 4), got (6, 4, 4)",
    ),
    "no positions": (
        CE,
        (X[:, :0], IDS[:, :0]),
        fn.ConfigError,
        "the number of positions must be an int of at least 1, got 0",
    ),
    "one class": (
        CE,
        (X[..., :1], IDS),
        fn.ConfigError,
        (
            "the number of classes must be at least 2, got logits (6, 5, 1); "
            "a softmax over one class is always 1; use binary_cross_entropy"
        ),
    ),
    "weights of the logits' shape": (
        CE,
        (X, IDS, ELEMENTS),
        fn.ShapeError,
        "weight must have shape (6,) or (6, 5), got (6, 5, 4)",
    ),
    "weights of the shares, as a total": (
        total_of_shares,
        (SHARES, ELEMENTS),
        fn.ShapeError,
        "weight must have shape (6,) or (6, 5), got (6, 5, 4)",
    ),
    "weights of other positions": (
        MSE,
        (X, X, POSITIONS[:, :4]),
        fn.ShapeError,
        "weight must have shape (6,), (6, 5) or (6, 5, 4), got (6, 4)",
    ),
    "a weight below 0": (
        CE,
        (X, IDS, changed(POSITIONS, -1.0)),
        fn.ConfigError,
        "weight must be 0 or more, got weight[2, 1] = -1.0",
    ),
    "a weight of NaN": (
        MSE,
        (X, X, changed(POSITIONS, np.nan)),
        fn.NonFiniteError,
        "weight must be finite, got weight[2, 1] = nan",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_refused(name: str) -> None:
    """The message names the loss and the place."""
    loss, arguments, error, fact = REFUSED[name]
    subject = "mean_squared_error" if loss is MSE else "softmax_cross_entropy"
    with pytest.raises(fn.FuncnetError) as caught:
        loss(*arguments)
    assert type(caught.value) is error
    assert str(caught.value) == f"{subject}: {fact}"
