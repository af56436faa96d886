"""Metrics: comparison with plain loops over fractions, their laws, and the inputs that they refuse."""

from __future__ import annotations

import math
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from networks import inputs

import funcnet as fn
from funcnet import metrics
from funcnet.random.draws import permutation

KEY = fn.Key(71)
CLASS_METRICS: dict[str, Any] = {"precision": metrics.precision, "recall": metrics.recall, "f1": metrics.f1}
every_class_metric = pytest.mark.parametrize("name", CLASS_METRICS)
ids = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=30)


def columns(pairs: list[tuple[int, int]]) -> tuple[Any, Any]:
    """Split pairs into predicted ids and true ids."""
    predicted, true = zip(*pairs, strict=True)
    return np.array(predicted), np.array(true)


# ------------------------------------------------------------------------------------------------- an oracle


def by_hand(name: str, pairs: list[tuple[int, int]], each: int, empty: int) -> Fraction:
    """Compute the value of a class by counting pairs and dividing exactly."""
    right = sum(predicted == true == each for predicted, true in pairs)
    predicted, actual = (sum(pair[side] == each for pair in pairs) for side in (0, 1))
    top, bottom = {
        "precision": (right, predicted),
        "recall": (right, actual),
        "f1": (2 * right, predicted + actual),
    }[name]
    return Fraction(top, bottom) if bottom else Fraction(empty)


@every_class_metric
@given(pairs=ids, empty=st.integers(0, 1))
def test_a_class_metric_is_counted(name: str, pairs: list[tuple[int, int]], empty: int) -> None:
    """The values of the classes and all their averages agree with fractions."""
    metric, arguments = CLASS_METRICS[name], columns(pairs)
    settings: dict[str, Any] = {"classes": 5, "zero_division": empty}
    wanted = [by_hand(name, pairs, each, empty) for each in range(5)]
    assert metric(*arguments, average=None, **settings).tolist() == [float(value) for value in wanted]
    assert metric(*arguments, **settings) == pytest.approx(float(sum(wanted) / 5), abs=1e-15)
    counts = [sum(true == each for _, true in pairs) for each in range(5)]
    weighted = sum(value * count for value, count in zip(wanted, counts, strict=True)) / len(pairs)
    assert metric(*arguments, average="weighted", **settings) == pytest.approx(float(weighted), abs=1e-15)
    right = Fraction(sum(predicted == true for predicted, true in pairs), len(pairs))
    assert metric(*arguments, average="micro", **settings) == pytest.approx(float(right), abs=1e-15)


@every_class_metric
@given(pairs=ids)
def test_without_classes_a_class_that_occurs_nowhere_is_left_out(name: str, pairs: list[tuple[int, int]]) -> None:
    """The macro average leaves the class out. The array has an element for every id up to the largest."""
    metric, arguments = CLASS_METRICS[name], columns(pairs)
    occurring = sorted({each for pair in pairs for each in pair})
    values = metric(*arguments, average=None)
    assert values.shape == (max(occurring) + 1,)
    assert metric(*arguments) == pytest.approx(values[occurring].mean(), abs=1e-15)


@given(pairs=ids)
def test_a_confusion_matrix_counts_pairs(pairs: list[tuple[int, int]]) -> None:
    """There is one row per true class and one column per predicted class. The diagonal gives the accuracy."""
    matrix = metrics.confusion_matrix(*columns(pairs), classes=5)
    assert matrix.tolist() == [[pairs.count((column, row)) for column in range(5)] for row in range(5)]
    assert matrix.dtype == np.int64
    small = metrics.confusion_matrix(*columns(pairs))
    assert small.tolist() == matrix[: len(small), : len(small)].tolist()
    assert small.sum() == matrix.sum() == len(pairs)
    predicted, true = columns(pairs)
    assert (metrics.confusion_matrix(true, predicted, classes=5) == matrix.T).all()
    assert metrics.accuracy(predicted, true) == np.trace(matrix) / len(pairs)


def test_binary_is_class_one() -> None:
    """The value is that of class 1 of two classes, even if only one of them occurs."""
    predicted, true = np.array([0, 1, 1, 1]), np.array([0, 0, 1, 1])
    for metric in CLASS_METRICS.values():
        assert metric(predicted, true, average="binary") == metric(predicted, true, average=None)[1]
        assert metric(np.zeros(3, int), np.zeros(3, int), average="binary") == 0
        with pytest.raises(fn.ConfigError, match="average='binary' is for classes 0 and 1, got 3 classes; use 'macro'"):
            metric(predicted, true, average="binary", classes=3)


# --------------------------------------------------------------------------------------------------- scores


@given(st.lists(st.lists(st.integers(-2, 2), min_size=4, max_size=4), min_size=1, max_size=8), st.data())
def test_the_top_k_are_the_first_of_a_stable_order(rows: list[list[int]], data: st.DataObject) -> None:
    """The result agrees with a stable sort. With k = 1 it is the accuracy of ``predict``; with all classes it is 1."""
    scores = np.array(rows, np.float64)
    labels = np.array([data.draw(st.integers(0, 3)) for _ in rows])
    for k in range(1, 5):
        tops = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        right = [label in top for label, top in zip(labels, tops, strict=True)]
        assert metrics.top_k_accuracy(scores, labels, k=k) == sum(right) / len(right)
    assert metrics.top_k_accuracy(scores, labels, k=1) == fn.accuracy(fn.predict(fn.Identity(), scores), labels)
    assert metrics.top_k_accuracy(scores, labels, k=4) == 1


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_log_loss_is_the_cross_entropy_of_the_logits(dtype: fn.FloatDType) -> None:
    """The probabilities come from ``predict_proba``."""
    logits = inputs(KEY, 50, 4, dtype=dtype)
    labels = np.arange(50) % 4
    wanted = fn.softmax_cross_entropy(logits, labels)[0]
    found = metrics.log_loss(fn.predict_proba(fn.Identity(), logits), labels)
    assert found == pytest.approx(wanted, rel=1e-6 if dtype is np.float32 else 1e-14)


def test_log_loss_of_a_zero_is_that_of_eps() -> None:
    """The eps is that of the dtype. The loss of a certain and correct prediction is 0."""
    for dtype in (np.float32, np.float64):
        rows: fn.Array = np.array([[1, 0]], dtype)
        assert metrics.log_loss(rows, np.array([1])) == pytest.approx(-math.log(np.finfo(dtype).eps), rel=1e-6)
        assert metrics.log_loss(rows, np.array([0])) == 0


@pytest.mark.parametrize(
    "rows",
    [
        *([[2.0, -1.0], [0.5, 0.5]], [[0.5, 0.4], [0.5, 0.5]], [[0.5, 0.6], [0.5, 0.5]], [[0.0, 0.0], [0.5, 0.5]]),
        [[1.7e308, 1.7e308], [0.5, 0.5]],
    ],
)
def test_log_loss_refuses_what_is_no_probability(rows: Any) -> None:
    """Negative numbers and rows that do not sum to 1 are refused. The message names the row and the loss for logits."""
    message = r"log_loss: each row must be nonnegative and sum to 1, got probabilities\[0\] = .* softmax_cross_entropy"
    with pytest.raises(fn.ConfigError, match=message):
        metrics.log_loss(np.array(rows), np.array([0, 1]))
    with pytest.raises(fn.ConfigError, match=r"probabilities\[1\]"):
        metrics.log_loss(np.array(rows)[::-1], np.array([0, 1]))


# ----------------------------------------------------------------------------------------------- regression

numbers = st.lists(st.tuples(st.integers(-99, 99), st.integers(-99, 99)), min_size=2, max_size=20)


@given(numbers)
def test_regression_metrics_are_exact_sums_divided(pairs: list[tuple[int, int]]) -> None:
    """The values agree with fractions for every shape of the rows."""
    predicted, target = (np.array(side, np.float32) for side in zip(*pairs, strict=True))
    square = Fraction(sum((p - t) ** 2 for p, t in pairs), len(pairs))
    middle = Fraction(sum(t for _, t in pairs), len(pairs))
    variance = sum((t - middle) ** 2 for _, t in pairs) / len(pairs)
    wanted = float(1 - square / variance) if variance else float(square == 0)
    for shape in ((-1,), (len(pairs), 1)):
        arguments = predicted.reshape(shape), target.reshape(shape)
        assert metrics.mse(*arguments) == float(square)
        assert metrics.mae(*arguments) == float(Fraction(sum(abs(p - t) for p, t in pairs), len(pairs)))
        assert metrics.r2(*arguments) == pytest.approx(wanted, rel=1e-12, abs=1e-12)


def test_r2_knows_its_own_scale() -> None:
    """R squared is 1 for the target, 0 for its mean, invariant to shifts and scales, and averaged over outputs."""
    target = inputs(KEY, 30, 2)
    predicted = target + 0.1 * inputs(KEY.child(1), 30, 2)
    assert metrics.r2(target, target) == 1
    assert metrics.r2(np.broadcast_to(target.mean(axis=0), target.shape).copy(), target) == pytest.approx(0, abs=1e-12)
    assert metrics.r2(7 * predicted - 3, 7 * target - 3) == pytest.approx(metrics.r2(predicted, target), abs=1e-12)
    each = [metrics.r2(predicted[:, [i]], target[:, [i]]) for i in (0, 1)]
    assert metrics.r2(predicted, target) == pytest.approx(sum(each) / 2, abs=1e-15)


def test_a_constant_target_is_met_or_not() -> None:
    """R squared is then 1 or 0, without a division, even if the mean is rounded."""
    target = np.full((10, 1), 0.1)
    assert metrics.r2(target, target) == 1
    assert metrics.r2(target + 1e-9, target) == 0


REGRESSION: dict[str, Any] = {"mse": metrics.mse, "mae": metrics.mae, "r2": metrics.r2}


@pytest.mark.parametrize("name", REGRESSION)
def test_regression_metrics_refuse_what_does_not_fit(name: str) -> None:
    """Shapes that would broadcast, integers, empty arrays, NaN and overflows are refused. Both dtypes are accepted."""
    metric, x = REGRESSION[name], np.array([[1.0], [2.0]])
    with pytest.raises(fn.ShapeError, match=rf"{name}: target must have shape \(2, 1\) to match predicted \(2, 1\)"):
        metric(x, x[:, 0])
    with pytest.raises(fn.ShapeError, match=rf"{name}: predicted must have shape \(B, \.\.\.\)"):
        metric(np.array(1.0), np.array(1.0))
    with pytest.raises(fn.DTypeError, match=rf"{name}: target must be float32 or float64, got int64"):
        metric(x, x.astype(np.int64))
    with pytest.raises(fn.DTypeError, match=rf"{name}: predicted must be a plain NumPy array, got list"):
        metric([1.0, 2.0], x)
    with pytest.raises(fn.ConfigError, match=rf"{name}: the number of elements must be"):
        metric(x[:0], x[:0])
    with pytest.raises(fn.NonFiniteError, match=rf"{name}: target must be finite, got target\[1, 0\] = nan"):
        metric(x, np.array([[1.0], [np.nan]]))
    with pytest.raises(fn.NonFiniteError, match=rf"{name}: the result overflows float64"):
        metric(x * 8e307, x * -8e307)
    assert metric(x.astype(np.float32), x) == metric(x, x)


def test_r2_needs_two_rows() -> None:
    """One row has no variance."""
    with pytest.raises(fn.ConfigError, match="r2: the number of rows must be an int of at least 2, got 1"):
        metrics.r2(np.ones((1, 3)), np.ones((1, 3)))


# ------------------------------------------------------------------------------------------------- bad inputs

Y = np.array([0, 2, 1, 1])
ID_METRICS: dict[str, Any] = {
    "accuracy": metrics.accuracy,
    "confusion_matrix": metrics.confusion_matrix,
    **CLASS_METRICS,
}
SCORE_METRICS: dict[str, Any] = {
    "top_k_accuracy": partial(metrics.top_k_accuracy, k=1),
    "log_loss": metrics.log_loss,
}


@pytest.mark.parametrize("name", ID_METRICS)
def test_metrics_of_ids_want_ids(name: str) -> None:
    """Both arguments must be nonempty vectors of nonnegative integers, with one id per row."""
    metric = ID_METRICS[name]
    for bad, error, fact in (
        (Y.tolist(), fn.DTypeError, "must be a plain NumPy array of class ids, got list"),
        (Y.astype(float), fn.DTypeError, "must be integer class ids, got float64"),
        (Y > 0, fn.DTypeError, "must be integer class ids, got bool"),
        (np.array([0, -1, 1, 1]), fn.LabelError, r"\[1\] = -1"),
    ):
        for side, arguments in (("labels", (Y, bad)), ("predicted_ids", (bad, Y))):
            with pytest.raises(error, match=rf"{name}: {side} .*{fact}"):
                metric(*arguments)
    with pytest.raises(fn.ShapeError, match=r"predicted_ids must have shape \(3,\), one class id per row, got \(4,\)"):
        metric(Y, Y[:3])
    with pytest.raises(fn.ShapeError, match=r"its rows are one-hot, so use predicted_ids.argmax\(axis=1\)"):
        metric(np.eye(3, dtype=int)[Y], Y)
    with pytest.raises(fn.ConfigError, match=f"{name}: the number of labels must be an int of at least 1, got 0"):
        metric(Y[:0], Y[:0])


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint32", "uint64", ">i4"])
@pytest.mark.parametrize("name", ID_METRICS)
def test_ids_of_any_integer_dtype_are_the_same_ids(name: str, dtype: str) -> None:
    """Counts do not overflow when a small dtype holds many classes."""
    predicted, labels = np.arange(100) % 50, np.arange(100) % 49
    wanted = ID_METRICS[name](predicted, labels)
    assert np.array_equal(ID_METRICS[name](predicted.astype(dtype), labels), wanted)
    assert np.array_equal(ID_METRICS[name](predicted, labels.astype(dtype)), wanted)


@pytest.mark.parametrize("name", [name for name in ID_METRICS if name != "accuracy"])
def test_classes_are_counted_and_bound_the_ids(name: str) -> None:
    """The message names an id above the number of classes. Too many classes for a matrix are refused."""
    metric = ID_METRICS[name]
    with pytest.raises(fn.LabelError, match=rf"{name}: predicted_ids must be in 0..1, got predicted_ids\[1\] = 2"):
        metric(Y, Y % 2, classes=2)
    with pytest.raises(fn.LabelError, match=rf"{name}: labels must be in 0..1, got labels\[1\] = 2"):
        metric(Y % 2, Y, classes=2)
    for classes in (0, -1, 2.5, True, "3"):
        with pytest.raises(fn.ConfigError, match=f"{name}: classes must be an int of at least 1"):
            metric(Y, Y, classes=classes)
    with pytest.raises(
        fn.ConfigError, match="confusion_matrix: classes must be an int from 1 to 32768, got 1099511627"
    ):
        metrics.confusion_matrix(Y, np.array([0, 2**40, 1, 1]))


@every_class_metric
def test_class_metrics_refuse_other_settings(name: str) -> None:
    """Unknown averages and invalid values of ``zero_division`` are refused."""
    metric = CLASS_METRICS[name]
    for average in ("samples", "", True, 1):
        message = f"{name}: average must be one of 'binary', 'macro', 'micro', 'weighted' or None, got {average!r}"
        with pytest.raises(fn.ConfigError, match=message):
            metric(Y, Y, average=average)
    for value in (0.5, -1, True, "warn", None, math.nan):
        with pytest.raises(fn.ConfigError, match=f"{name}: zero_division must be 0 or 1, got {value!r}"):
            metric(Y, Y, zero_division=value)


@pytest.mark.parametrize("name", SCORE_METRICS)
def test_metrics_of_scores_want_scores(name: str) -> None:
    """Scores must be finite floats, with one row per label and one column per class."""
    metric, scores = SCORE_METRICS[name], np.eye(3)[Y]
    for bad, labels, error, fact in (
        (Y, Y, fn.ShapeError, r"must have shape \(B, O\), got \(4,\)"),
        (scores.astype(int), Y, fn.DTypeError, "must be float32 or float64, got int64"),
        (scores[:0], Y[:0], fn.ConfigError, "the number of rows must be"),
        (scores[:, :0], Y, fn.ConfigError, "the number of classes must be"),
        (scores, Y[:3], fn.ShapeError, r"labels must have shape \(4,\)"),
        (scores, Y + 1, fn.LabelError, r"labels must be in 0..2, got labels\[1\] = 3"),
        (np.where(scores > 0, np.inf, scores), Y, fn.NonFiniteError, r"must be finite, got \w+\[0, 0\] = inf"),
    ):
        with pytest.raises(error, match=f"{name}: .*{fact}"):
            metric(bad, labels)
    for k in (0, 4, 1.0, True):
        with pytest.raises(fn.ConfigError, match="top_k_accuracy: k must be an int from 1 to 3"):
            metrics.top_k_accuracy(scores, Y, k=k)  # type: ignore[arg-type]  # must not type-check: k is an int


# -------------------------------------------------------------------------------------------------------- laws

X = inputs(KEY.child("x"), 40, 3)
TARGET = X + inputs(KEY.child("t"), 40, 3)
LABELS = permutation(KEY.child("l"), 40) % 3
PREDICTED = np.where(permutation(KEY.child("p"), 40) < 25, LABELS, (LABELS + 1) % 3)
SHARES = fn.predict_proba(fn.Identity(), X)
CALLS: dict[str, tuple[Any, Any, Any]] = {
    **{name: (metric, PREDICTED, LABELS) for name, metric in ID_METRICS.items()},
    **{name: (metric, SHARES, LABELS) for name, metric in SCORE_METRICS.items()},
    **{name: (metric, X, TARGET) for name, metric in REGRESSION.items()},
}
every_metric = pytest.mark.parametrize("name", CALLS)


@every_metric
def test_a_metric_is_pure_and_knows_no_order(name: str) -> None:
    """Reordering the rows does not change the value. A metric modifies no argument and accepts read-only arguments."""
    metric, *arguments = CALLS[name]
    before = [argument.tobytes() for argument in arguments]
    order = permutation(KEY, 40)
    locked = [argument[order] for argument in arguments]
    for argument in locked:
        argument.flags.writeable = False
    first = metric(*arguments)
    assert np.allclose(metric(*locked), first, rtol=1e-12, atol=0)
    assert np.array_equal(metric(*arguments), first)
    assert before == [argument.tobytes() for argument in arguments]
    assert type(first) is float or isinstance(first, np.ndarray)


@every_metric
def test_a_metric_is_a_portable_one_too(name: str) -> None:
    """In portable arithmetic, a metric of float32 arrays agrees to float32 accuracy."""
    metric, *arguments = CALLS[name]
    small = [a.astype(np.float32) if a.dtype.kind == "f" else a for a in arguments]
    with fn.portable():
        found = metric(*small)
    assert np.allclose(found, metric(*small), rtol=1e-6, atol=0)


def test_every_metric_is_here() -> None:
    """The table contains every metric, and every metric has an example."""
    public = {name for name, value in vars(metrics).items() if getattr(value, "__module__", "") == metrics.__name__}
    functions = {name for name in public if not name.startswith("_")}
    assert functions == set(CALLS)
    assert all("Example:" in vars(metrics)[name].__doc__ for name in functions)
    assert fn.accuracy is fn.metrics.accuracy
