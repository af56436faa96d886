"""Losses: gradients, example weights, native and portable arithmetic, golden values, refusals."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import product
from typing import Any, Final

import numpy as np
import pytest
from attrs import field, frozen
from hypothesis import given
from hypothesis import strategies as st
from networks import inputs

import funcnet as fn
from funcnet.core.trees import same_bits
from funcnet.loops.shards import sharded_value_and_grad
from funcnet.network.loss import total_of
from funcnet.runs.structure import put_together, take_apart

KEY: Final = fn.Key(61)
NAN, INF = math.nan, math.inf
X: Final = 1.5 * inputs(KEY.child("x"), 6, 4)
IDS: Final[Any] = np.array([0, 3, 1, 1, 2, 0], np.int64)
SHARES: Final[fn.Array] = np.abs(inputs(KEY.child("shares"), 6, 4))
WEIGHT: Final[fn.Array] = np.array([1.0, 0.5, 0.0, 3.0, 0.25, 2.0])
ELEMENT_WEIGHT: Final[fn.Array] = np.where(SHARES < 0.3, 0.0, SHARES)
CLASS_WEIGHT: Final = (1.0, 0.5, 2.0, 0.0)


@frozen
class Case:
    """A loss, targets for X, and the fingerprint of its value and gradient in portable arithmetic."""

    name: str
    loss: Any
    target: Any = field(repr=False)
    golden: str = field(default="", repr=False)

    @property
    def subject(self) -> str:
        """The name that begins the message about a bad argument."""
        own: str = getattr(self.loss, "__name__", "huber")
        return "softmax_cross_entropy" if "softmax" in self.name else own

    def y(self, dtype: fn.FloatDType = np.float64) -> Any:
        """Return the targets; floats are converted to this dtype."""
        return self.target.astype(dtype) if self.target.dtype.kind == "f" else self.target


CASES: Final = (
    Case("softmax", fn.softmax_cross_entropy, IDS, "ebb933093024037cab2ee6ac92185b9b989fec550b9d5c3874d0d384fc4484a2"),
    Case(
        "softmax of shares",
        fn.SoftmaxCrossEntropy(),
        SHARES,
        "1114fda9a256220282b329e0be576a507cbc4638842c89a125e043f4c90f2ebc",
    ),
    Case(
        "softmax, smoothed",
        fn.SoftmaxCrossEntropy(label_smoothing=0.1),
        IDS,
        "4d650bc49a321a7e5c754ad3c3e08bbf129e1260dd34d73748928a2e084f6a18",
    ),
    Case(
        "softmax, smoothed shares",
        fn.SoftmaxCrossEntropy(0.3, CLASS_WEIGHT),
        SHARES,
        "556b54d18ee2e1ab6f5729aa8bd0c19eec9d5d47270474c8ef1c9647d9ed2c7c",
    ),
    Case(
        "softmax, class weights",
        fn.SoftmaxCrossEntropy(class_weight=CLASS_WEIGHT),
        IDS,
        "82e931f2bef788222a9a4738ce85399cb13766539eae5dd437490b9d7244a385",
    ),
    Case(
        "softmax with all",
        fn.SoftmaxCrossEntropy(0.2, CLASS_WEIGHT),
        IDS,
        "60418bfb4ffbb6b9f9776ec2bf9d17ce6a3e6181358c400b3375c7e1c26d1280",
    ),
    Case(
        "binary",
        fn.binary_cross_entropy,
        SHARES / SHARES.max(),
        "b3078a7c7c802329fd13c406dff1e2c54886433b3512e8f313fddad6212407d6",
    ),
    Case("squared", fn.mean_squared_error, SHARES, "162450c419d2a9a3b890330a1c6f8f63ba8aa9cc52f5bb8e40835e8edd6132f7"),
    Case(
        "absolute", fn.mean_absolute_error, SHARES, "f4798279dd50ee4bd9c5ab862be0fdbca0493ebf750375564ed1525f3f6d1079"
    ),
    Case("huber", fn.huber, SHARES, "c628dac8794b72e25dc4c51cabfed08ead43fd6b43cd84736dd98a03fa870c0f"),
    Case(
        "huber of 0.3", fn.Huber(delta=0.3), SHARES, "54049b123c189ffee8665ef151e35e598d1f87fe126b1fa209e7541888d874d9"
    ),
    Case("hinge", fn.hinge, np.sign(X[::-1]), "e64a165343c8e2232c3a63fba0674294bdad175965f8c57a4e61bb657f272528"),
    Case("poisson", fn.poisson, SHARES.round(), "a6332a5ed838aed37670ce7bffa88f7a01bbed3a74e899659b7be4075f3b3298"),
)
SEPARABLE: Final = [case for case in CASES if case.name != "softmax with all"]
"""Cases in which each row has a mean; with smoothing, even a row whose class has weight 0 has a loss."""
EACH_ELEMENT: Final = [case for case in CASES if "softmax" not in case.name]
every_elementwise_case = pytest.mark.parametrize("case", EACH_ELEMENT, ids=lambda case: case.name)
every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


@every_case
@pytest.mark.parametrize("weight", [None, WEIGHT, ELEMENT_WEIGHT], ids=["plain", "rows", "elements"])
def test_the_gradient_is_the_value_s(case: Case, weight: fn.Array | None) -> None:
    """The gradient agrees with central differences of the value for every element of the prediction."""
    weight = WEIGHT if case not in EACH_ELEMENT and weight is not None else weight
    _, gradient = case.loss(X, case.y(), weight)
    numerical = np.empty_like(X)
    for index in np.ndindex(X.shape):
        step = np.zeros_like(X)
        step[index] = 1e-5
        above, below = case.loss(X + step, case.y(), weight)[0], case.loss(X - step, case.y(), weight)[0]
        numerical[index] = (above - below) / 2e-5
    np.testing.assert_allclose(gradient, numerical, rtol=1e-7, atol=1e-9)
    assert not gradient.flags.writeable
    assert gradient.flags.c_contiguous


@every_case
def test_dtype_and_arguments_stay(case: Case) -> None:
    """The gradient has the prediction's dtype and is close to the float64 gradient; no argument changes."""
    wanted, wide = case.loss(X, case.y(), WEIGHT)
    x, y, weight = X.astype(np.float32), case.y(np.float32), WEIGHT.astype(np.float32)
    before = x.tobytes(), y.tobytes(), weight.tobytes()
    value, gradient = case.loss(x, y, weight)
    assert (x.tobytes(), y.tobytes(), weight.tobytes()) == before
    assert gradient.dtype == np.float32
    assert type(value) is float
    assert value == pytest.approx(wanted, rel=1e-6)
    np.testing.assert_allclose(gradient, wide, rtol=1e-4, atol=1e-7)


# ------------------------------------------------------------------------------------------------- weights


def per_row(case: Case) -> tuple[list[float], list[float]]:
    """Return the loss of each row alone, and how much each row counts in the mean."""
    rows = [slice(i, i + 1) for i in range(len(X))]
    counted = [case.loss.total(case.y()[row], None) if hasattr(case.loss, "total") else 1.0 for row in rows]
    values = [case.loss(X[i : i + 1], case.y()[i : i + 1])[0] if counted[i] else 0.0 for i in range(len(X))]
    return values, counted


@pytest.mark.parametrize("case", SEPARABLE, ids=lambda case: case.name)
def test_a_weighted_mean_is_the_weighted_mean_of_the_rows(case: Case) -> None:
    """The mean is sum(w l) / sum(w), and with class weights sum(w c l) / sum(w c)."""
    values, counted = per_row(case)
    weights = WEIGHT * counted
    assert case.loss(X, case.y(), WEIGHT)[0] == pytest.approx((weights * values).sum() / weights.sum(), rel=1e-12)


@every_case
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_weights_of_one_are_no_weights(case: Case, dtype: fn.FloatDType) -> None:
    """Weights of 1 and weights of 2 both give the bits of the unweighted loss."""
    x, y = X.astype(dtype), case.y(dtype)
    value, gradient = case.loss(x, y)
    for weight in (np.ones(6, dtype), np.full(6, 2.0)):
        again, weighted = case.loss(x, y, weight)
        assert again == value
        assert same_bits(weighted, gradient)


@every_case
def test_a_weight_of_0_is_a_row_left_out(case: Case) -> None:
    """Its gradient is 0, and the gradients of the other rows are those of the batch without it."""
    value, gradient = case.loss(X, case.y(), WEIGHT)
    rows = WEIGHT > 0
    without, others = case.loss(X[rows], case.y()[rows], WEIGHT[rows])
    assert value == pytest.approx(without, rel=1e-12)
    assert not gradient[~rows].any()
    np.testing.assert_allclose(gradient[rows], others, rtol=1e-12, atol=1e-16)


@every_elementwise_case
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_elements_have_weights(case: Case, dtype: fn.FloatDType) -> None:
    """The mean is sum(w l) / sum(w) over the elements, in any memory order; equal weights in a row are the row's."""
    x, y, weight = X.astype(dtype), case.y(dtype), ELEMENT_WEIGHT.astype(dtype)
    value, gradient = case.loss(x, y, weight)
    alone = [case.loss(x[i : i + 1, j], y[i : i + 1, j]) for i, j in np.ndindex(x.shape)]
    share = weight / weight.sum(dtype=np.float64)
    tolerance = 1e-12 if dtype == np.float64 else 1e-6
    assert value == pytest.approx(sum(w * loss for w, (loss, _) in zip(share.flat, alone, strict=True)), rel=tolerance)
    wanted = share * np.array([slope for _, slope in alone]).reshape(x.shape)
    np.testing.assert_allclose(gradient, wanted, rtol=tolerance, atol=tolerance**2)
    assert gradient.dtype == dtype
    by_columns = case.loss(np.asfortranarray(x), y, weight)
    assert by_columns[0] == pytest.approx(value, rel=tolerance)
    np.testing.assert_allclose(by_columns[1], gradient, rtol=tolerance)
    assert case.loss(np.asfortranarray(x), np.asfortranarray(y), np.asfortranarray(weight))[0] == by_columns[0]
    row = WEIGHT.astype(dtype)
    assert case.loss(x, y, row)[0] == pytest.approx(case.loss(x, y, row[:, None].repeat(4, 1))[0], rel=tolerance)


@every_case
@pytest.mark.parametrize("garbage", [-100, 10**6, 1e300, NAN, INF, -INF])
def test_a_target_of_weight_0_may_be_any_number(case: Case, garbage: float) -> None:
    """It changes no number of the loss, of the gradient, of the total or of the batches."""
    ids = case.target.dtype.kind == "i"
    if ids and not math.isfinite(garbage):
        return
    weights = [WEIGHT] if "softmax" in case.name else [WEIGHT, ELEMENT_WEIGHT]
    for weight in weights:
        y = case.y().copy()
        y[weight == 0] = garbage if abs(garbage) < 1e9 or not ids else 10**15
        value, gradient = case.loss(X, case.y(), weight)
        again, same = case.loss(X, y, weight)
        assert again == value
        assert (same == gradient).all()
        assert total_of(case.loss, 6, y, weight) == total_of(case.loss, 6, case.y(), weight)
        assert np.array_equal(fn.minibatches(X, y, 6, weight=weight)[0].y, y, equal_nan=not ids)


def test_a_prediction_is_a_number_at_any_weight() -> None:
    """A prediction of NaN is a fault of the network, not of the data."""
    with pytest.raises(fn.NonFiniteError, match=r"^mean_squared_error: the loss is nan"):
        fn.mean_squared_error(np.array([[1.0, NAN]]), np.ones((1, 2)), np.array([[1.0, 0.0]]))


@every_case
def test_a_mean_is_the_mean_of_its_parts_by_their_totals(case: Case) -> None:
    """Parts of any size, of rows, row weights and element weights; a part whose total is 0 counts for nothing."""
    elements = ELEMENT_WEIGHT.copy()
    elements[:2] = 0
    rows = np.array([0, 0, 0.5, 3, 0.25, 2])
    for weight in (None, WEIGHT, rows) if "softmax" in case.name else (None, WEIGHT, rows, ELEMENT_WEIGHT, elements):
        value, whole = 0.0, 0.0
        for part in (slice(0, 2), slice(2, 3), slice(3, 6)):
            w = None if weight is None else weight[part]
            if case not in SEPARABLE and (part.stop == 3 or (w is not None and not w.any())):
                continue
            total = total_of(case.loss, len(X[part]), case.y()[part], w)
            whole += total
            value += total * case.loss(X[part], case.y()[part], w)[0] if total else 0.0
        if case in SEPARABLE:
            assert value / whole == pytest.approx(case.loss(X, case.y(), weight)[0], rel=1e-12)
            assert whole == pytest.approx(total_of(case.loss, 6, case.y(), weight), rel=1e-12)


@pytest.mark.parametrize(
    ("target", "weight", "total"),
    [
        (X, None, 6),
        (X, WEIGHT, 6.75),
        (X, np.zeros(6), 0),
        (X, np.full((6, 4), 0.5), 12),
        (IDS, None, 6),
        (IDS.reshape(2, 3), None, 6),
        (IDS.reshape(2, 3), np.array([2.0, 1.0]), 9),
        (IDS.reshape(2, 3), np.eye(2, 3), 2),
        (X.reshape(2, 3, 4), None, 6),
        (X.reshape(2, 3, 4), np.array([2.0, 1.0]), 9),
        (X.reshape(2, 3, 4), np.eye(2, 3), 2),
        (X.reshape(2, 3, 4), np.ones((2, 3, 4)), 24),
        (X.reshape(2, 3, 2, 2), None, 12),
        (X.reshape(2, 3, 2, 2), np.eye(2, 3), 4),
        (X[:, 0], None, 6),
        (X[:, :0, None], None, 6),  # the loss refuses them
        (IDS[:, None][:, :0], None, 6),
        ((X, IDS), None, 6),
        ((X, IDS), WEIGHT, 6.75),
    ],
)
def test_the_total_is_what_a_mean_divides_by(target: Any, weight: fn.Array | None, total: float) -> None:
    """It is the number of positions, or the sum of their weights; weights of 0 have the total 0."""
    rows = len(target) if hasattr(target, "shape") else 6
    assert total_of(fn.mean_squared_error, rows, target, weight) == pytest.approx(total, rel=1e-15)


BAD_WEIGHTS: Final[dict[str, tuple[Any, type[fn.FuncnetError], str]]] = {
    "list": ([1.0] * 6, fn.DTypeError, "weight must be a plain NumPy array, got list"),
    "ints": (np.ones(6, np.int64), fn.DTypeError, "weight must be float32 or float64, got int64"),
    "column": (np.ones((6, 1)), fn.ShapeError, "got (6, 1)"),
    "row": (np.ones((1, 4)), fn.ShapeError, "got (1, 4)"),
    "an axis more": (np.ones((6, 4, 1)), fn.ShapeError, "got (6, 4, 1)"),
    "no axes": (np.array(1.0), fn.ShapeError, "got ()"),
    "short": (np.ones(5), fn.ShapeError, "weight must have shape (6,)"),
    "negative": (np.array([1.0, -1, 1, -1, 1, 1]), fn.ConfigError, "weight must be 0 or more, got weight[1] = -1.0"),
    "nan": (np.array([1.0, 1, NAN, 1, 1, 1]), fn.NonFiniteError, "weight must be finite, got weight[2] = nan"),
    "infinite": (np.array([1.0, 1, INF, 1, 1, 1]), fn.NonFiniteError, "got weight[2] = inf"),
    "zeros": (np.zeros(6), fn.ConfigError, "at least one weight must be positive, got only zeros"),
}
NET: Final = fn.dense(KEY, 4, 4, dtype=np.float64)
WEIGHT_PLACES: Final[dict[str, tuple[str, Callable[[Any], object]]]] = {
    **{case.name: (case.subject, partial(case.loss, X, case.y())) for case in CASES},
    "value_and_grad": (
        "softmax_cross_entropy",
        lambda weight: fn.value_and_grad(NET, X, IDS, fn.softmax_cross_entropy, weight),
    ),
    "total_of": ("softmax_cross_entropy", lambda weight: total_of(fn.softmax_cross_entropy, 6, IDS, weight)),
    "step": (
        "softmax_cross_entropy",
        lambda weight: fn.sgd_step(fn.softmax_cross_entropy, learning_rate=0.1)(NET, fn.Batch(X, IDS, weight)),
    ),
    "shards": (
        "sharded_value_and_grad",
        lambda weight: sharded_value_and_grad(NET, X, IDS, fn.softmax_cross_entropy, weight, shard_size=2),
    ),
    "minibatches": ("minibatches", lambda weight: fn.minibatches(X, IDS, 2, weight=weight)),
    "evaluate": (
        "softmax_cross_entropy",
        lambda weight: fn.evaluate(NET, X, IDS, fn.softmax_cross_entropy, weight),
    ),
}


LEFT_OUT: Final = {("step", "zeros"), ("total_of", "zeros")}
"""A step leaves out a batch that counts for nothing."""


@pytest.mark.parametrize(("place", "name"), sorted({*product(WEIGHT_PLACES, BAD_WEIGHTS)} - LEFT_OUT))
def test_bad_weights_are_refused(place: str, name: str) -> None:
    """Every function that takes weights refuses them; the message begins with the function's name."""
    weight, error, fact = BAD_WEIGHTS[name]
    subject, call = WEIGHT_PLACES[place]
    with pytest.raises(fn.FuncnetError, match=f"^{subject}: (at least one )?weight must ") as caught:
        call(weight)
    assert type(caught.value) is error
    assert fact in str(caught.value)


@every_case
def test_weights_must_have_a_finite_sum(case: Case) -> None:
    """Weights that are finite but overflow when summed are refused."""
    wanted = f"^{case.subject}: the sum of the weights must be positive and finite, got a mean of inf$"
    with np.errstate(over="ignore"), pytest.raises(fn.ConfigError, match=wanted):
        case.loss(X, case.y(), np.full(6, 1e308))


def test_equal_losses_weigh_alike() -> None:
    """The function and the record without options agree for class ids and for shares."""
    for targets in (IDS, SHARES):
        value, gradient = fn.softmax_cross_entropy(X, targets, WEIGHT)  # type: ignore[arg-type]  # typed for ids
        again, by_record = fn.SoftmaxCrossEntropy()(X, targets, WEIGHT)
        assert value == again != fn.SoftmaxCrossEntropy()(X, targets)[0]
        assert same_bits(gradient, by_record)


def test_a_loss_without_weights_says_so() -> None:
    """The weights are not passed as a different argument."""

    def scaled(prediction: fn.Array, _: Any, scale: float = 1.0) -> tuple[float, fn.Array]:
        return scale, prediction

    fact = r"the loss does not take example weights: scaled\(prediction, _, scale\); name its third parameter weight"
    for call in (
        lambda: fn.value_and_grad(NET, X, X, scaled, WEIGHT),
        lambda: fn.sgd_step(scaled, learning_rate=0.1)(NET, fn.Batch(X, X, WEIGHT)),
        lambda: fn.sgd_step(scaled, learning_rate=0.1, shard_size=2)(NET, fn.Batch(X, X, WEIGHT)),
        lambda: fn.train_epoch(fn.sgd_step(scaled, learning_rate=0.1), NET, fn.minibatches(X, X, 2, weight=WEIGHT)),
        lambda: fn.evaluate(NET, X, X, scaled, WEIGHT),
    ):
        with pytest.raises(fn.ConfigError, match=fact):
            call()


# --------------------------------------------------------------------------------------------- end to end


@pytest.mark.parametrize("elements", [False, True], ids=["rows", "elements"])
@every_case
def test_weighted_batches_fold_to_the_plain_bits(case: Case, elements: bool) -> None:  # noqa: FBT001  # parametrized
    """Single steps and an epoch give the same bits; each weight stays with its row, shuffled or not."""
    step = fn.train_step(case.loss)
    start = fn.TrainState.create(NET, fn.Adam(learning_rate=0.01), key=KEY)
    for key in (None, KEY):
        weight = ELEMENT_WEIGHT if elements and case in EACH_ELEMENT else WEIGHT + 0.1
        batches = fn.minibatches(X, case.y(), 2, key=key, weight=weight)
        slow, losses = start, list[float]()
        for batch in batches:
            slow, loss = step(slow, batch)
            losses.append(loss)
        fast, log = fn.train_epoch(step, start, batches)
        assert fn.equal(slow.params, fast.params)
        assert log.losses.tolist() == losses


def test_minibatches_keep_weights_with_their_rows() -> None:
    """Each weight stays with its row in any order, in slices and through a transform."""
    x, weight = np.arange(12.0).reshape(6, 2), np.arange(6.0) + 1
    batches = fn.minibatches(x, IDS, 4, key=KEY, weight=weight)
    for batch in [*batches, *batches[1:]]:
        assert batch.weight is not None
        assert (batch.x[:, 0] == 2 * (batch.weight - 1)).all()
        assert not batch.weight.flags.writeable
    images = fn.minibatches(x.astype(np.uint8), IDS, 4, transform=fn.scale_images, weight=weight)
    assert [None if batch.weight is None else batch.weight.tolist() for batch in images] == [[1, 2, 3, 4], [5, 6]]
    elements = x * (x < 4)  # only zeros in some batches
    for key in (None, KEY):
        for batch in fn.minibatches(x, x, 2, key=key, weight=elements)[1:]:
            assert batch.weight is not None
            assert (batch.weight == batch.x * (batch.x < 4)).all()
            assert not batch.weight.flags.writeable
    with pytest.raises(fn.ShapeError, match=r"minibatches: weight must have shape \(6,\) or \(6, 2\), got \(6, 1\)$"):
        fn.minibatches(x, x, 2, weight=elements[:, :1])


@every_case
def test_shards_are_weighted_by_what_they_count_for(case: Case) -> None:
    """Shards give the gradient of the whole batch for weights of rows, elements and classes; some shards weigh 0."""
    late = np.array([0, 0, 0, 0, 1.0, 2.0])
    elements = (ELEMENT_WEIGHT, ELEMENT_WEIGHT * (late > 0)[:, None]) if case in EACH_ELEMENT else ()
    for weight in (None, WEIGHT, late, *elements):
        value, grads = fn.value_and_grad(NET, X, case.y(), case.loss, weight)
        for size in (1, 2, 4):
            if case not in SEPARABLE and size == 1:
                continue
            sharded, parts = sharded_value_and_grad(NET, X, case.y(), case.loss, weight, shard_size=size)
            assert sharded == pytest.approx(value, rel=1e-12)
            for part, whole in zip(fn.trained_arrays(parts), fn.trained_arrays(grads), strict=True):
                np.testing.assert_allclose(part, whole, rtol=1e-9, atol=1e-12)


def test_a_shard_without_a_mean_is_refused() -> None:
    """Its class has weight 0, but smoothing gives it a loss."""
    loss = fn.SoftmaxCrossEntropy(0.2, CLASS_WEIGHT)
    fix = "smoothing gives every class a share; use larger batches or shards"
    with pytest.raises(fn.ConfigError, match=f"at least one class in a batch must have a positive weight: {fix}$"):
        sharded_value_and_grad(NET, X, IDS, loss, shard_size=1)


@pytest.mark.parametrize("loss", [fn.SoftmaxCrossEntropy(0.1), fn.SoftmaxCrossEntropy(class_weight=(1.0,) * 4)])
def test_options_check_class_ids_too(loss: fn.SoftmaxCrossEntropy) -> None:
    """The loss checks them, alone, in a step and in shards; too few class weights are no fault of the labels."""
    wrong = np.array([0, 3, 4, 1, 2, 0])
    few = fn.SoftmaxCrossEntropy(class_weight=(1.0, 0.0))
    calls: list[Callable[[Any, Any], object]] = [
        lambda loss, y: loss(X, y),
        lambda loss, y: fn.sgd_step(loss, learning_rate=0.1)(NET, fn.Batch(X, y)),
        lambda loss, y: sharded_value_and_grad(NET, X, y, loss, shard_size=2),
    ]
    for call in calls:
        fact = r"^softmax_cross_entropy: labels must be in 0\.\.3, got labels\[[20]\] = 4"
        with pytest.raises(fn.LabelError, match=fact):
            call(loss, wrong)
        with pytest.raises(fn.ShapeError, match=r"class_weight must have shape \(4,\) to match logits"):
            call(few, IDS)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.uint64, np.dtype(">i4")])
def test_class_ids_have_any_integer_dtype(dtype: Any) -> None:
    """The loss, with options and without, and the total of a shard accept any integer dtype."""
    for loss in (fn.SoftmaxCrossEntropy(), fn.SoftmaxCrossEntropy(0.2, CLASS_WEIGHT)):
        (value, gradient), (wanted, other) = loss(X, IDS.astype(dtype), WEIGHT), loss(X, IDS, WEIGHT)
        assert value == wanted
        assert same_bits(gradient, other)
        assert loss.total(IDS.astype(dtype), WEIGHT) == loss.total(IDS, WEIGHT)


def test_weighted_shards_do_not_depend_on_who_computes_them() -> None:
    """One thread and two threads give the same bits."""
    alone = sharded_value_and_grad(NET, X, IDS, fn.softmax_cross_entropy, WEIGHT, shard_size=2)
    with ThreadPoolExecutor(2) as executor:
        threaded = sharded_value_and_grad(
            NET, X, IDS, fn.softmax_cross_entropy, WEIGHT, shard_size=2, executor=executor
        )
    assert alone[0] == threaded[0]
    assert fn.equal(alone[1], threaded[1])


def test_a_step_of_weighted_shards_is_their_update() -> None:
    """train_step and sgd_step pass the weights of their batch to the shards."""
    _, grads = sharded_value_and_grad(NET, X, IDS, fn.softmax_cross_entropy, WEIGHT, shard_size=4)
    wanted = fn.sgd_update(NET, grads, learning_rate=0.1)
    batch = fn.Batch(X, IDS, WEIGHT)
    step = fn.sgd_step(fn.softmax_cross_entropy, learning_rate=0.1, shard_size=4)
    assert fn.equal(step(NET, batch)[0], wanted)
    run = fn.TrainState.create(NET, fn.SGD(learning_rate=0.1), key=KEY)
    assert fn.equal(fn.train_step(fn.softmax_cross_entropy, shard_size=4)(run, batch)[0].params, wanted)


# ------------------------------------------------------------------------------------------ golden values


@every_case
def test_portable_bits_are_committed(case: Case) -> None:
    """One fingerprint covers the plain and the weighted loss."""
    x, y, weight = X.astype(np.float32), case.y(np.float32), WEIGHT.astype(np.float32)
    with fn.portable():
        results = case.loss(x, y), case.loss(x, y, weight)
    assert fn.fingerprint(results) == case.golden
    native = case.loss(x, y), case.loss(x, y, weight)
    for (ours, _), (theirs, __) in zip(results, native, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-6)


@every_case
def test_losses_are_values(case: Case) -> None:
    """They can be pickled, and rebuilt from the contents of a file."""
    copies: list[Any] = [pickle.loads(pickle.dumps(case.loss)), put_together(*take_apart(case.loss, "test"))]  # noqa: S301
    for again in copies:
        assert again == case.loss
        assert fn.fingerprint(again) == fn.fingerprint(case.loss)
        assert case.loss(X, case.y())[0] == again(X, case.y())[0]


# ---------------------------------------------------------------------------------------------- closed forms


def test_by_hand() -> None:
    """The losses of a few small numbers agree with values computed by hand."""
    y, t = np.array([[1.0, -3.0]]), np.array([[0.0, 1.0]])
    assert fn.mean_squared_error(y, t)[0] == (1 + 16) / 2
    assert fn.mean_absolute_error(y, t)[0] == (1 + 4) / 2
    assert fn.huber(y, t)[0] == (0.5 + 3.5) / 2
    assert fn.hinge(y, np.array([[1.0, 1.0]]))[0] == (0 + 4) / 2
    assert fn.binary_cross_entropy(y, t)[0] == pytest.approx((math.log(1 + math.e) + math.log(1 + math.exp(3))) / 2)
    assert fn.poisson(y, t)[0] == pytest.approx((math.e + math.exp(-3) + 3) / 2)
    assert fn.SoftmaxCrossEntropy(0.5)(np.zeros((1, 2)), np.array([0]))[0] == pytest.approx(math.log(2))


def test_one_hot_rows_are_class_ids() -> None:
    """The record and the function give the value and gradient of the class ids."""
    rows = fn.one_hot(IDS, 4, dtype=np.float64)
    ids, by_ids = fn.softmax_cross_entropy(X, IDS)
    for value, gradient in (fn.SoftmaxCrossEntropy()(X, rows), fn.softmax_cross_entropy(X, rows)):  # type: ignore[arg-type]  # typed for ids
        assert value == pytest.approx(ids, rel=1e-14)
        np.testing.assert_allclose(gradient, by_ids, rtol=1e-12, atol=1e-16)
    assert fn.SoftmaxCrossEntropy()(X, IDS)[0] == ids


@given(st.floats(-1e4, 1e4), st.sampled_from([0.0, 0.25, 1.0]))
def test_binary_cross_entropy_at_any_logit(logit: float, target: float) -> None:
    """It does not overflow for any logit x, and equals the two-class softmax with the logits 0 and x.

    The softmax adds its exponentials to 1: a small loss has an absolute error of up to one unit in the last place of 1.
    """
    value, gradient = fn.binary_cross_entropy(np.array([[logit]]), np.array([[target]]))
    shares = np.array([[1 - target, target]])
    wanted, g = fn.SoftmaxCrossEntropy()(np.array([[0.0, logit]]), shares)
    assert value == pytest.approx(wanted, rel=1e-12, abs=np.finfo(np.float64).eps)
    assert gradient[0, 0] == pytest.approx(g[0, 1], rel=1e-9, abs=1e-15)


@pytest.mark.parametrize(("logit", "target"), [(20.0, 1.0), (-20.0, 0.0), (80.0, 1.0)])
def test_a_small_slope_keeps_its_digits(logit: float, target: float) -> None:
    """``s - t`` would be 0 in float32 where the logistic function s rounds to the target."""
    x, t = np.array([[logit]], np.float32), np.array([[target]], np.float32)
    small = math.exp(-abs(logit))
    value, gradient = fn.binary_cross_entropy(x, t)
    assert value == pytest.approx(small, rel=1e-6)
    assert gradient[0, 0] == pytest.approx(small if target == 0 else -small, rel=1e-6)


def test_a_share_of_0_costs_nothing() -> None:
    """The loss is 0 even if the logit is so far below the others that its log-probability is minus infinity."""
    value, gradient = fn.SoftmaxCrossEntropy()(np.array([[1e308, -1e308]]), np.array([[1.0, 0.0]]))
    assert value == 0
    assert not gradient.any()


def test_slopes_at_the_kinks_are_zero() -> None:
    """The gradient is 0 where a loss has no derivative."""
    assert not fn.mean_absolute_error(X, X)[1].any()
    assert not fn.hinge(np.ones((2, 2)), np.ones((2, 2)))[1].any()


# ------------------------------------------------------------------------------------------------ refusals

ELEMENTWISE: Final = [
    fn.binary_cross_entropy,
    fn.mean_squared_error,
    fn.mean_absolute_error,
    fn.huber,
    fn.hinge,
    fn.poisson,
]
every_elementwise = pytest.mark.parametrize("loss", ELEMENTWISE, ids=lambda loss: loss.__name__)


@every_elementwise
def test_shapes_are_exact(loss: Any) -> None:
    """Nothing is broadcast: (n, 1) against (n,) is refused, and the message has both shapes."""
    name = loss.__name__
    ones: fn.Array = np.ones((4, 1))
    for target in (np.ones(4), np.ones((4, 4)), np.ones((1, 1)), np.array(1.0)):
        with pytest.raises(fn.ShapeError, match=rf"{name}: target must have shape \(4, 1\) to match prediction"):
            loss(ones, target)
    with pytest.raises(fn.ShapeError, match=rf"{name}: prediction must have shape \(B, \.\.\.\), got \(\)"):
        loss(np.array(1.0), np.array(1.0))
    with pytest.raises(fn.DTypeError, match=f"{name}: target must be float64 to match prediction, got float32"):
        loss(ones, ones.astype(np.float32))
    fix = r"use np.asarray\(target, dtype=np.float64\)"
    with pytest.raises(fn.DTypeError, match=f"{name}: target must be a plain NumPy array, got list; {fix}"):
        loss(ones, [[1.0]] * 4)
    with pytest.raises(fn.DTypeError, match=f"{name}: prediction must be float32 or float64, got int64"):
        loss(np.ones((4, 1), np.int64), ones)
    with pytest.raises(fn.ConfigError, match=f"{name}: the number of predictions must be an int of at least 1, got 0"):
        loss(ones[:0], ones[:0])


@every_elementwise
@pytest.mark.parametrize("bad", [NAN, INF, -INF, 1e200, -1e200])
def test_what_is_not_finite_is_named(loss: Any, bad: float) -> None:
    """A prediction of NaN or infinity, or one too large for the loss, raises and names the loss."""
    prediction, target = np.array([[1.0, bad]]), np.array([[1.0, 1.0]])
    finite = math.isfinite(bad) and loss not in (fn.mean_squared_error, fn.poisson)
    if finite or (loss, bad) in ((fn.poisson, -1e200), (fn.hinge, INF)):
        assert math.isfinite(loss(prediction, target)[0])
    else:
        reason = "a prediction or a target is too large or not finite"
        with pytest.raises(fn.NonFiniteError, match=f"^{loss.__name__}: the loss is .*; {reason}$"):
            loss(prediction, target)


def test_minus_infinity_is_not_finite() -> None:
    """The Poisson loss of a large count is negative, and may overflow to minus infinity."""
    with pytest.raises(fn.NonFiniteError, match=r"^poisson: the loss is -inf"):
        fn.poisson(np.array([700.0]), np.array([1e308]))


@pytest.mark.parametrize("loss", [fn.softmax_cross_entropy, fn.SoftmaxCrossEntropy(0.1)])
def test_logits_that_are_not_finite_are_named(loss: Any) -> None:
    """The function and the record raise the same message."""
    wanted = "^softmax_cross_entropy: the loss is nan; the logits are too large or not finite$"
    with pytest.raises(fn.NonFiniteError, match=wanted):
        loss(np.array([[0.0, NAN]]), np.array([0]))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_logits_of_1e4_lose_nothing(dtype: fn.FloatDType) -> None:
    """The row's maximum is subtracted first, so nothing overflows; the largest floats fit only in float64."""
    logits: fn.Array = np.array([[1e4, -1e4]], dtype)
    value, grad = fn.softmax_cross_entropy(logits, np.array([1]))
    assert value == 20000
    assert grad.tolist() == [[1, -1]]
    assert fn.softmax_cross_entropy(logits, np.array([0]))[0] == 0
    assert fn.predict_proba(fn.Identity(), logits, fn.Multiclass()).tolist() == [[1, 0]]
    assert fn.predict_proba(fn.Identity(), np.array([[3e38, -3e38]], np.float32), fn.Multiclass()).tolist() == [[1, 0]]
    assert fn.softmax_cross_entropy(np.array([[3e38, -3e38]]), np.array([1]))[0] == pytest.approx(6e38)


def test_targets_are_what_the_loss_is_for() -> None:
    """Each loss accepts only its own targets (shares, signs or counts) and names the first invalid one."""
    x: fn.Array = np.zeros((2, 2))
    wrong: list[tuple[Any, float, str]] = [
        (fn.binary_cross_entropy, 1.5, "from 0 to 1"),
        (fn.binary_cross_entropy, NAN, "from 0 to 1"),
        (fn.hinge, 0.0, "-1 or 1"),
        (fn.poisson, -1.0, "a count, 0 or more"),
        (fn.poisson, NAN, "a count, 0 or more"),
    ]
    for loss, target, wanted in wrong:
        targets: fn.Array = np.ones((2, 2))
        targets[1, 0] = target
        fact = rf"^{loss.__name__}: target must be {wanted}, got target\[1, 0\] = {target}$"
        with pytest.raises(fn.LabelError, match=fact):
            loss(x, targets)
    softmax = "softmax_cross_entropy"
    for shares, fact in ((-0.5, "-0.5"), (NAN, "nan")):
        with pytest.raises(
            fn.LabelError, match=rf"^{softmax}: labels must be shares, 0 or more, got labels\[0, 1\] = {fact}"
        ):
            fn.SoftmaxCrossEntropy()(x, np.array([[1.0, shares], [1.0, 0.0]]))
    with pytest.raises(fn.DTypeError, match="labels must be float64 to match logits, got float32"):
        fn.SoftmaxCrossEntropy()(x, np.ones((2, 2), np.float32))
    forms: list[Any] = [fn.SoftmaxCrossEntropy(), fn.softmax_cross_entropy]
    for loss in forms:
        with pytest.raises(fn.ShapeError, match=rf"^{softmax}: labels must have shape \(2, 2\) to match logits"):
            loss(x, np.ones((2, 3)))
    with pytest.raises(fn.ShapeError, match=rf"^{softmax}: class_weight must have shape \(2,\) to match logits"):
        fn.SoftmaxCrossEntropy(class_weight=(1.0, 2.0, 3.0))(x, np.array([0, 1]))
    with pytest.raises(fn.ConfigError, match="the sum of the weights must be positive"):
        fn.SoftmaxCrossEntropy(class_weight=(0.0, 1.0))(x, np.array([0, 0]))
    with pytest.raises(fn.NonFiniteError):  # the weight overflows in float32, without a warning
        fn.SoftmaxCrossEntropy(class_weight=(1e300, 1.0))(x.astype(np.float32), np.array([0, 1]))


@pytest.mark.parametrize("value", [-0.1, 1, 1.5, NAN, INF, True, "0.1", None])
def test_settings_are_checked(value: Any) -> None:
    """Smoothing must be a share, delta above 0, and class weights a tuple of numbers that are 0 or more."""
    with pytest.raises(fn.ConfigError, match=r"SoftmaxCrossEntropy: label_smoothing must be a number in \[0, 1\)"):
        fn.SoftmaxCrossEntropy(label_smoothing=value)
    if value not in (1, 1.5) or value is True:
        with pytest.raises(fn.ConfigError, match=r"Huber: delta must be a number in \(0, inf\)"):
            fn.Huber(delta=value)
        with pytest.raises(fn.ConfigError, match=r"SoftmaxCrossEntropy: a class weight must be a number in \[0, inf\)"):
            fn.SoftmaxCrossEntropy(class_weight=(1.0, value))
    weights: list[Any] = [[1.0, 3.0], np.array([1, 3]), np.array([1.0, 3.0], np.float32)]
    for class_weight in weights:
        wanted = r"^SoftmaxCrossEntropy: class_weight must be a tuple of numbers, got .*; use tuple\(.*\)$"
        with pytest.raises(fn.ConfigError, match=wanted):
            fn.SoftmaxCrossEntropy(class_weight=class_weight)
        assert fn.SoftmaxCrossEntropy(class_weight=tuple(class_weight)).class_weight == (1.0, 3.0)


def test_targets_of_a_near_shape_are_told_what_to_do() -> None:
    """The message about a column of class ids, shares of a different dtype or a flat target contains the fix."""
    x, column = np.ones((3, 2), np.float32), np.ones((3, 1))
    wrong: list[tuple[Any, Any, Any, str]] = [
        (fn.softmax_cross_entropy, x, np.zeros((3, 1), np.int64), r"got \(3, 1\); use labels\[:, 0\]"),
        (fn.SoftmaxCrossEntropy(0.1), x, np.zeros((3, 1), np.int64), r"got \(3, 1\); use labels\[:, 0\]"),
        (fn.softmax_cross_entropy, x, np.ones((3, 2)), r"got float64; use labels.astype\(np.float32\)"),
        (fn.mean_squared_error, column, np.ones(3), r"got \(3,\); use target\[:, None\]"),
        (fn.binary_cross_entropy, column, np.ones(3), r"got \(3,\); use target\[:, None\]"),
    ]
    for loss, prediction, target, fix in wrong:
        with pytest.raises((fn.ShapeError, fn.DTypeError), match=fix):
            loss(prediction, target)


def test_one_class_is_no_choice() -> None:
    """A softmax over one class is always 1, so the loss would be 0 for every prediction."""
    wanted = "the number of classes must be at least 2"
    fix = "a softmax over one class is always 1; use binary_cross_entropy"
    for loss in (fn.softmax_cross_entropy, fn.SoftmaxCrossEntropy(label_smoothing=0.1)):
        with pytest.raises(fn.ConfigError, match=rf"^softmax_cross_entropy: {wanted}, got logits \(3, 1\); {fix}$"):
            loss(np.ones((3, 1)), np.zeros(3, np.int64))


def test_many_elements_keep_the_dtype() -> None:
    """A count beyond 65,535 does not promote float32 gradients, as an int does in NumPy 1."""
    zeros = np.zeros((70_000, 1), np.float32)
    assert fn.mean_squared_error(zeros + 1, zeros)[1].dtype == np.float32
    assert (
        fn.softmax_cross_entropy(np.zeros((70_000, 2), np.float32), np.zeros(70_000, np.int64))[1].dtype == np.float32
    )
    image = np.zeros((1, 300, 300, 1), np.float32)
    assert fn.forward(fn.GlobalAvgPool2D(), image).dtype == np.float32
    assert fn.backward(fn.GlobalAvgPool2D(), image, np.ones((1, 1), np.float32))[0].dtype == np.float32
