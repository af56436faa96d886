"""Metrics: comparison with plain loops over fractions, their laws, and the inputs that they refuse."""

from __future__ import annotations

import math
import tracemalloc
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
    return np.array(predicted, np.int64), np.array(true, np.int64)


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
    assert metrics.top_k_accuracy(scores, labels, k=1) == fn.accuracy(
        fn.predict(fn.Identity(), scores, fn.Multiclass()), labels
    )
    assert metrics.top_k_accuracy(scores, labels, k=4) == 1


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_log_loss_is_the_cross_entropy_of_the_logits(dtype: fn.FloatDType) -> None:
    """The probabilities come from ``predict_proba``."""
    logits = inputs(KEY, 50, 4, dtype=dtype)
    labels = np.arange(50) % 4
    wanted = fn.softmax_cross_entropy(logits, labels)[0]
    found = metrics.log_loss(fn.predict_proba(fn.Identity(), logits, fn.Multiclass()), labels)
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

Y: Any = np.array([0, 2, 1, 1], np.int64)
MARKS = np.eye(3, dtype=bool)[Y]
ID_METRICS: dict[str, Any] = {
    "accuracy": metrics.accuracy,
    "balanced_accuracy": metrics.balanced_accuracy,
    "confusion_matrix": metrics.confusion_matrix,
    "hamming_loss": metrics.hamming_loss,
    "matthews": metrics.matthews,
    **CLASS_METRICS,
}
SCORE_METRICS: dict[str, Any] = {
    "top_k_accuracy": partial(metrics.top_k_accuracy, k=1),
    "log_loss": metrics.log_loss,
    "brier_score": metrics.brier_score,
    "roc_auc": metrics.roc_auc,
    "average_precision": metrics.average_precision,
}
LABEL_METRICS: dict[str, Any] = {
    "multilabel_confusion_matrix": metrics.multilabel_confusion_matrix,
    **{name: getattr(metrics, name) for name in ("accuracy", "hamming_loss", "precision", "recall", "f1")},
}
BINARY_METRICS: dict[str, Any] = {
    name: getattr(metrics, name)
    for name in ("roc_auc", "average_precision", "roc_curve", "precision_recall_curve", "log_loss", "brier_score")
}


@pytest.mark.parametrize("name", ID_METRICS)
def test_metrics_of_ids_want_ids(name: str) -> None:
    """Both arguments must be nonempty vectors of nonnegative integers, with one id per row."""
    metric = ID_METRICS[name]
    for bad, error, fact in (
        (Y.tolist(), fn.DTypeError, "must be a plain NumPy array of class ids, got list"),
        (Y.astype(float), fn.DTypeError, "must be integer class ids, got float64"),
        (np.array([0, -1, 1, 1]), fn.LabelError, r"\[1\] = -1"),
    ):
        for side, arguments in (("labels", (Y, bad)), ("predicted", (bad, Y))):
            with pytest.raises(error, match=rf"{name}: {side} .*{fact}"):
                metric(*arguments)
    with pytest.raises(fn.ShapeError, match=r"predicted must have shape \(3,\), one class id per row, got \(4,\)"):
        metric(Y, Y[:3])
    with pytest.raises(fn.ShapeError, match=r"its rows are one-hot, so use predicted.argmax\(axis=1\)"):
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


@pytest.mark.parametrize("name", ID_METRICS)
def test_bools_are_the_ids_0_and_1(name: str) -> None:
    """There are two classes, even if only one of them occurs. Their labels may also be floats."""
    metric, said, truth = ID_METRICS[name], Y > 0, Y > 1
    wanted = metric(said.astype(int), truth.astype(int))
    for labels in (truth, truth.astype(np.int8), truth.astype(np.float32)):
        assert np.array_equal(metric(said, labels), wanted)
    if name not in ("accuracy", "hamming_loss"):
        assert np.array_equal(metric(said, truth, classes=3), metric(said.astype(int), truth.astype(int), classes=3))
        with pytest.raises(fn.ConfigError, match=f"{name}: classes must be an int of at least 2, got 1"):
            metric(said, truth, classes=1)
    none = np.zeros(4, bool)
    assert metrics.confusion_matrix(none, none).tolist() == [[4, 0], [0, 0]]
    assert metrics.precision(none, none, average=None).tolist() == [1, 0]


@pytest.mark.parametrize("name", [name for name in ID_METRICS if name not in ("accuracy", "hamming_loss")])
def test_classes_are_counted_and_bound_the_ids(name: str) -> None:
    """The message names an id above the number of classes. Too many classes for a matrix are refused."""
    metric = ID_METRICS[name]
    with pytest.raises(fn.LabelError, match=rf"{name}: predicted must be in 0..1, got predicted\[1\] = 2"):
        metric(Y, Y % 2, classes=2)
    with pytest.raises(fn.LabelError, match=rf"{name}: labels must be in 0..1, got labels\[1\] = 2"):
        metric(Y % 2, Y, classes=2)
    for classes in (0, -1, 2.5, True, "3"):
        with pytest.raises(fn.ConfigError, match=f"{name}: classes must be an int of at least 1"):
            metric(Y, Y, classes=classes)
    with pytest.raises(
        fn.ConfigError, match=r"1 plus the largest id must be at most \d+, got 1099511627777; use np.uni"
    ):
        metric(Y, np.array([0, 2**40, 1, 1]))
    with pytest.raises(fn.ConfigError, match="confusion_matrix: classes must be an int from 1 to 8192, got 40000"):
        metrics.confusion_matrix(Y, Y, classes=40_000)


@every_class_metric
def test_class_metrics_refuse_other_settings(name: str) -> None:
    """Unknown averages and invalid values of ``zero_division`` are refused."""
    metric = CLASS_METRICS[name]
    for average in ("samples", "", True, 1):
        message = (
            rf"{name}: average must be one of 'binary', 'macro', 'micro', 'weighted' or None for .*, got {average!r}"
        )
        with pytest.raises(fn.ConfigError, match=message):
            metric(Y, Y, average=average)
    for average in ("binary", "", True, 1):
        message = (
            rf"{name}: average must be one of 'macro', 'micro', 'weighted', 'samples' or None for .*, got {average!r}"
        )
        with pytest.raises(fn.ConfigError, match=message):
            metric(MARKS, MARKS, average=average)
    for value in (0.5, -1, True, "warn", None, math.nan):
        with pytest.raises(fn.ConfigError, match=f"{name}: zero_division must be 0 or 1, got {value!r}"):
            metric(Y, Y, zero_division=value)


@pytest.mark.parametrize("name", SCORE_METRICS)
def test_metrics_of_scores_want_scores(name: str) -> None:
    """Scores must be finite floats, with one row per label and one column per class."""
    metric, scores = SCORE_METRICS[name], np.eye(3)[Y]
    for bad, labels, error, fact in (
        (scores[None], Y, fn.ShapeError, r"must have shape \(B, O\), got \(1, 4, 3\)"),
        (scores.astype(np.int64), Y, fn.DTypeError, "must be float32 or float64, got int64"),
        (scores[:0], Y[:0], fn.ConfigError, "the number of rows must be"),
        (scores[:, :0], Y, fn.ConfigError, "the number of classes must be"),
        (scores, Y[:3], fn.ShapeError, r"labels must have shape \(4,\)"),
        (scores, Y > 0, fn.DTypeError, "must be integer class ids, got bool"),
        (scores, Y + 1, fn.LabelError, r"labels must be in 0..2, got labels\[1\] = 3"),
        (np.where(scores > 0, np.inf, scores), Y, fn.NonFiniteError, r"must be finite, got \w+\[0, 0\] = inf"),
    ):
        with pytest.raises(error, match=f"{name}: .*{fact}"):
            metric(bad, labels)
    for k in (0, 4, 1.0, True):
        with pytest.raises(fn.ConfigError, match="top_k_accuracy: k must be an int from 1 to 3"):
            metrics.top_k_accuracy(scores, Y, k=k)  # type: ignore[arg-type]  # must not type-check: k is an int


@pytest.mark.parametrize("name", BINARY_METRICS)
def test_metrics_of_two_classes_want_zeros_and_ones(name: str) -> None:
    """The labels may have any dtype, but must be 0 or 1, in the shape of the scores."""
    metric, scores, ones = BINARY_METRICS[name], np.array([0.1, 0.9, 0.4, 0.8]), np.array([0, 1, 1, 0])
    for dtype in ("bool", "int8", "uint64", ">i4", "float32", "float64"):
        assert np.array_equal(flat(metric(scores, ones.astype(dtype))), flat(metric(scores, ones)))
    for bad, labels, error, fact in (
        (
            scores,
            Y,
            fn.LabelError,
            r"must be 0 or 1, got labels\[1\] = 2; for class ids, \w+ must have a column for each",
        ),
        (scores, ones - 0.5, fn.LabelError, r"must be 0 or 1, got labels\[0\] = -0.5$"),
        (scores, ones[:3], fn.ShapeError, r"labels must have shape \(4,\) to match \w+, got \(3,\)"),
        (scores, ones[:, None], fn.ShapeError, r"got \(4, 1\); use labels\[:, 0\]"),
        (scores, ones.tolist(), fn.DTypeError, "labels must be a plain NumPy array of zeros and ones, got list"),
        (scores, ones.astype(str), fn.DTypeError, r"got [<>]U\d+; for the names of classes, use np.unique"),
        (scores.astype(np.int64), ones, fn.DTypeError, "must be float32 or float64, got int64"),
        (scores[:0], ones[:0], fn.ConfigError, "the number of labels must be"),
        (np.where(scores > 0.5, np.nan, scores), ones, fn.NonFiniteError, r"must be finite, got \w+\[1\] = nan"),
    ):
        with pytest.raises(error, match=f"{name}: .*{fact}"):
            metric(bad, labels)


@pytest.mark.parametrize("name", ID_METRICS)
def test_exchanged_predictions_and_labels_are_refused(name: str) -> None:
    """Integers beside bool labels, and labels that are not whole numbers, are refused: the predictions come first."""
    metric, ids, said, shares = ID_METRICS[name], Y % 2, Y > 0, np.linspace(0, 0.9, 4)
    order = rf"; the predictions come first: {name}\(predicted, labels\)"
    cases: list[tuple[Any, Any, str]] = [
        (
            ids,
            said,
            rf"labels must be integer class ids .* got bool{order}; if they do, use labels.astype\(np.int64\)$",
        ),
        (ids, shares, rf"labels must be integer class ids, got float64{order}$"),
        (said, shares, rf"labels must be 0 or 1, got labels\[1\] = 0.3\d*{order}$"),
        (
            shares,
            ids,
            "predicted must be integer class ids, .*; for probabilities of the positive class, use predicted > 0.5$",
        ),
        (shares, said, "for probabilities of the positive class, use predicted > 0.5$"),
        (ids[:, None], said, r"predicted must have shape \(4,\), .* got \(4, 1\); use predicted\[:, 0\]$"),
    ]
    if name in LABEL_METRICS:
        cases.append(
            (MARKS.astype(np.int64), MARKS, rf"got int64 \(4, 3\){order}; if they do, use predicted.astype\(bool\)$")
        )
    for predicted, labels, fact in cases:
        with pytest.raises(fn.FuncnetError, match=f"^{name}: .*{fact}"):
            metric(predicted, labels)


@pytest.mark.parametrize("name", [*SCORE_METRICS, *(name for name in BINARY_METRICS if name not in SCORE_METRICS)])
def test_exchanged_scores_and_labels_are_refused(name: str) -> None:
    """Scores that are not floats, and labels that are, are refused: the scores come first."""
    metric, what = {**SCORE_METRICS, **BINARY_METRICS}[name], "probabilities" if name[0] in "bl" else "scores"
    ones, shares = np.array([0, 1, 1, 0]), np.linspace(0, 0.9, 4)
    cases: list[tuple[Any, Any]] = [(ones, shares), (ones > 0, shares), (ones, np.eye(3)[Y]), (ones, np.eye(2)[ones])]
    if name in BINARY_METRICS:
        cases.append((ones.astype(np.float32), shares))
    for scores, labels in cases:
        with pytest.raises(fn.FuncnetError, match=rf"^{name}: .*; the {what} come first: {name}\({what}, labels\)$"):
            metric(scores, labels)


@pytest.mark.parametrize("name", ["log_loss", "brier_score"])
def test_one_column_is_no_class(name: str) -> None:
    """The outputs of a network with one output are (B, 1); the message names the column."""
    for labels in (Y, 0 * Y, Y > 0):
        with pytest.raises(
            fn.ShapeError, match=rf"{name}: .* two or more classes, got \(4, 1\); .* probabilities\[:, 0\]$"
        ):
            SCORE_METRICS[name](np.full((4, 1), 0.5), labels)


@pytest.mark.parametrize("name", ["log_loss", "brier_score"])
def test_logits_are_no_probabilities(name: str) -> None:
    """A number outside of 0 to 1 is refused, and so is a row that does not sum to 1."""
    for value in (2.5, -0.5):
        fact = rf"0 to 1, got probabilities\[1\] = {value}; .*predict_proba"
        with pytest.raises(fn.ConfigError, match=f"{name}: .* {fact}"):
            BINARY_METRICS[name](np.array([0.5, value]), np.array([0, 1]))
    for metric in (SCORE_METRICS[name], metrics.roc_auc):
        with pytest.raises(
            fn.ConfigError, match=r"each row must be nonnegative and sum to 1, got.*predict_proba gives"
        ):
            metric(np.array([[0.5, 2.5], [0.5, 0.5]]), np.array([0, 1]))
    with pytest.raises(
        fn.ShapeError, match=rf"{name}: labels .*one class id per row, got \(3, 3\); its rows are one-hot"
    ):
        SCORE_METRICS[name](np.eye(3), np.eye(3, dtype=int))


def test_an_area_needs_zeros_and_ones() -> None:
    """The message names the column, the row or the class; precision needs a 1 only."""
    scores, some = np.array([[0.1, 0.9], [0.4, 0.8]]), np.array([[0, 1], [1, 1]])
    for metric, labels, fact in (
        (metrics.roc_auc, some[:, 1], "labels must have zeros and ones, or the area is undefined, got only ones"),
        (
            metrics.roc_curve,
            0 * some[:, 1],
            "labels must have zeros and ones, or the area is undefined, got only zeros",
        ),
        (
            metrics.average_precision,
            0 * some[:, 1],
            "labels must have a 1, or the precision is undefined, got only zeros",
        ),
        (metrics.precision_recall_curve, 0 * some[:, 1], "labels must have a 1, or the precision is undefined"),
    ):
        with pytest.raises(fn.ConfigError, match=f"{metric.__name__}: {fact}"):
            metric(scores[:, 1], labels)
    assert metrics.average_precision(scores[:, 1], some[:, 1]) == 1
    averages: Any = {"macro": r"labels\[:, 1\]", None: r"labels\[:, 1\]", "samples": r"labels\[1\]"}
    for average, where in averages.items():
        with pytest.raises(
            fn.ConfigError, match=f"{where} must have zeros and ones.*; leave it out, or use average='mic"
        ):
            metrics.roc_auc(scores, some, average=average)
    weight = np.array([1.0, 0.0, 1.0])
    with pytest.raises(fn.ConfigError, match=r"labels\[2\] must have"):
        metrics.roc_auc(scores[[0, 0, 1]], some[[0, 0, 1]], average="samples", weight=weight)
    with pytest.raises(fn.ConfigError, match="each class must occur in labels, got no 1; leave out its column of"):
        metrics.roc_auc(np.full((2, 3), 1 / 3), np.array([0, 2]))


def test_the_two_zeros_are_one_score() -> None:
    """They tie, and the threshold is the positive one, so its bits do not depend on the order of the rows."""
    for scores in (np.array([0.0, -0.0]), np.array([-0.0, 0.0])):
        assert metrics.roc_auc(scores, np.array([0, 1])) == 0.5
        thresholds = metrics.roc_curve(scores, np.array([0, 1]))[2]
        assert thresholds.tolist() == [math.inf, 0]
        assert not np.signbit(thresholds).any()


def test_rankings_refuse_other_settings() -> None:
    """An average that does not exist, or not for this shape, and another comparison of classes are refused."""
    scores, shares = np.array([0.1, 0.9, 0.4, 0.8]), np.eye(3)[Y]
    bad: Any = "binary"
    for metric in (metrics.roc_auc, metrics.average_precision):
        with pytest.raises(fn.ConfigError, match=r"average must be one of 'macro', .* or None, got 'binary'"):
            metric(scores, Y > 0, average=bad)
        with pytest.raises(fn.ConfigError, match=r"average=None is for scores of shape \(B, O\), got \(4,\)"):
            metric(scores, Y > 0, average=None)
        with pytest.raises(fn.ConfigError, match=r"average='samples' is for scores of shape \(B, O\), got \(4,\)"):
            metric(scores, Y > 0, average="samples")
    with pytest.raises(fn.ConfigError, match="multi_class must be 'ovr' or 'ovo', got 'raise'"):
        metrics.roc_auc(shares, Y, multi_class="raise")  # type: ignore[call-overload]  # must not type-check
    with pytest.raises(
        fn.ConfigError, match="average must be 'macro' or 'weighted' with multi_class='ovo', got 'micro'"
    ):
        metrics.roc_auc(shares, Y, average="micro", multi_class="ovo")


@pytest.mark.parametrize("name", LABEL_METRICS)
def test_metrics_of_labels_want_bools(name: str) -> None:
    """Predictions of several labels must be bool, so that class ids are never mistaken for them."""
    metric, ids = LABEL_METRICS[name], MARKS.astype(np.int64)
    for dtype in ("int8", "uint64", ">i4", "float32"):
        assert np.array_equal(metric(MARKS, MARKS.astype(dtype)), metric(MARKS, MARKS))
    for bad, labels, error, fact in (
        (
            ids,
            ids,
            fn.DTypeError,
            r"predicted must be bool if .*, got int64 \(4, 3\); use predicted.astype\(bool\); for one",
        ),
        (0.7 * ids, ids, fn.DTypeError, "predicted must be bool .*, got float64 .*; use predicted > 0.5"),
        (MARKS, 2 * ids, fn.LabelError, r"labels must be 0 or 1, got labels\[0, 0\] = 2$"),
        (MARKS, ids[:3], fn.ShapeError, r"labels must have shape \(4, 3\) to match predicted, got \(3, 3\)"),
        (MARKS, Y, fn.ShapeError, r"labels must have shape \(4, 3\) to match predicted, got \(4,\)"),
        (MARKS[:, :1], Y, fn.ShapeError, r"got \(4,\); use predicted\[:, 0\]"),
        (MARKS[0], Y[:3], fn.LabelError, r"labels\[1\] = 2; for class ids, predicted must be integers"),
        (MARKS[:0], MARKS[:0], fn.ConfigError, "the number of labels must be"),
    ):
        with pytest.raises(error, match=f"{name}: .*{fact}"):
            metric(bad, labels)
    if name in CLASS_METRICS:
        with pytest.raises(fn.ConfigError, match=rf"{name}: classes is for class ids; got bools of shape \(4, 3\)"):
            metric(MARKS, MARKS, classes=3)
    for single in (metrics.confusion_matrix, metrics.balanced_accuracy, metrics.matthews):
        with pytest.raises(
            fn.ShapeError, match=r"must have shape \(B,\), got \(4, 3\); use multilabel_confusion_matrix"
        ):
            single(MARKS, MARKS)
    with pytest.raises(
        fn.ShapeError, match=r"bool of shape \(B, O\), got int64 \(4,\); for one class per row, use confus"
    ):
        metrics.multilabel_confusion_matrix(Y, Y)


# -------------------------------------------------------------------------------------------------------- laws

X = inputs(KEY.child("x"), 40, 3)
TARGET = X + inputs(KEY.child("t"), 40, 3)
LABELS = permutation(KEY.child("l"), 40).astype(np.int64) % 3
PREDICTED = np.where(permutation(KEY.child("p"), 40) < 25, LABELS, (LABELS + 1) % 3)
SHARES = fn.predict_proba(fn.Identity(), X, fn.Multiclass())
TRUTH = X + TARGET > 0
SEVERAL = TRUTH ^ (TARGET > 1)
TIES = np.round(2 * SHARES) / 2
CALLS: dict[str, tuple[Any, Any, Any]] = {
    **{name: (metric, PREDICTED, LABELS) for name, metric in ID_METRICS.items()},
    **{name: (metric, SHARES, LABELS) for name, metric in SCORE_METRICS.items()},
    **{f"{name} of labels": (metric, SEVERAL, TRUTH) for name, metric in LABEL_METRICS.items()},
    **{f"{name} of bools": (metric, SEVERAL[:, 0], TRUTH[:, 0]) for name, metric in ID_METRICS.items()},
    **{f"{name} of two classes": (metric, TIES[:, 0], TRUTH[:, 0]) for name, metric in BINARY_METRICS.items()},
    **{f"{name} of scores of labels": (SCORE_METRICS[name], X, TRUTH) for name in ("roc_auc", "average_precision")},
    **{
        f"{name} {average}": (partial(metric, average=average), SEVERAL, TRUTH)
        for name, metric in CLASS_METRICS.items()
        for average in ("micro", "weighted", "samples", None)
    },
    **{
        f"{name} {average}": (partial(SCORE_METRICS[name], average=average), X, TRUTH)
        for name in ("roc_auc", "average_precision")
        for average in ("micro", "weighted", None)
    },
    "roc_auc ovo": (partial(metrics.roc_auc, multi_class="ovo"), SHARES, LABELS),
    "roc_auc ovo weighted": (partial(metrics.roc_auc, multi_class="ovo", average="weighted"), SHARES, LABELS),
    **{name: (metric, X, TARGET) for name, metric in REGRESSION.items()},
}
every_metric = pytest.mark.parametrize("name", CALLS)


def flat(result: Any) -> Any:
    """The numbers of a result: a float, an array or a curve."""
    curve: Any = tuple
    return np.concatenate([np.ravel(each) for each in (result if isinstance(result, curve) else (result,))])


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
    assert np.allclose(flat(metric(*locked)), flat(first), rtol=1e-12, atol=0)
    assert np.array_equal(flat(metric(*arguments)), flat(first))
    assert before == [argument.tobytes() for argument in arguments]
    assert type(first) is float or isinstance(first, np.ndarray | tuple)


@every_metric
def test_a_metric_is_a_portable_one_too(name: str) -> None:
    """In portable arithmetic, a metric of float32 arrays agrees to float32 accuracy."""
    metric, *arguments = CALLS[name]
    small = [a.astype(np.float32) if a.dtype.kind == "f" else a for a in arguments]
    with fn.portable():
        found = metric(*small)
    assert np.allclose(flat(found), flat(metric(*small)), rtol=1e-6, atol=0)


# ----------------------------------------------------------------------------------------------------- weights

REPEATS = np.where(permutation(KEY.child("w"), 40) < 8, 0, permutation(KEY.child("w"), 40) % 3 + 1).astype(np.int64)
WEIGHT: fn.Array = REPEATS.astype(np.float64)


@every_metric
def test_a_weight_repeats_a_row(name: str) -> None:
    """Weight 1 is the default, a whole weight repeats a row, and weight 0 leaves it out. Only counts have a scale."""
    metric, *arguments = CALLS[name]
    wanted, ones = metric(*arguments), metric(*arguments, weight=np.ones(40))
    assert np.array_equal(flat(ones), flat(wanted))
    kept = [argument[REPEATS > 0] for argument in arguments]
    found = metric(*arguments, weight=WEIGHT)
    assert np.array_equal(flat(found), flat(metric(*kept, weight=WEIGHT[REPEATS > 0])))
    zeros_and_ones = (REPEATS > 0).astype(np.float32)
    assert np.array_equal(flat(metric(*arguments, weight=zeros_and_ones)), flat(metric(*kept)))
    repeated = metric(*(np.repeat(argument, REPEATS, axis=0) for argument in arguments))
    assert np.allclose(flat(found), flat(repeated), rtol=1e-13, atol=1e-15)
    for factor in (2.0**-40, 1e300, 1e-300):
        scale = factor if "confusion" in name else 1
        assert np.allclose(
            flat(metric(*arguments, weight=factor * WEIGHT)) / scale, flat(found), rtol=1e-13, atol=1e-15
        )


@every_metric
def test_a_target_of_weight_0_may_be_anything(name: str) -> None:
    """It may be outside the range of the classes, or NaN. Its prediction must be valid."""
    metric, predicted, target = CALLS[name]
    odd = target.astype(np.float64 if target.dtype == np.bool_ else target.dtype)
    odd[REPEATS == 0] = np.nan if odd.dtype.kind == "f" else -100
    assert np.array_equal(flat(metric(predicted, odd, weight=WEIGHT)), flat(metric(predicted, target, weight=WEIGHT)))
    with pytest.raises((fn.LabelError, fn.NonFiniteError), match=r"got \w+\[\d+(, 0)?\] = "):
        metric(predicted, odd)
    if predicted.dtype.kind == "f":
        broken = np.where(REPEATS.reshape(40, *(1 for _ in predicted.shape[1:])) == 0, np.inf, predicted)
        with pytest.raises(fn.NonFiniteError, match="= inf"):
            metric(broken, target, weight=WEIGHT)


@every_metric
def test_a_weight_is_a_float_per_row(name: str) -> None:
    """Weights of another shape or type, negative ones, ones that are not finite, and no positive one are refused."""
    metric, *arguments = CALLS[name]
    short = name.split(maxsplit=1)[0]
    for bad, error, fact in (
        (WEIGHT[:39], fn.ShapeError, r"weight must have shape \(40,\), got \(39,\)"),
        (WEIGHT[:, None], fn.ShapeError, r"weight must have shape \(40,\), got \(40, 1\)"),
        (REPEATS, fn.DTypeError, "weight must be float32 or float64, got int64; use weight.astype"),
        (WEIGHT - 1, fn.ConfigError, "weight must be 0 or more, got weight"),
        (0 * WEIGHT, fn.ConfigError, "at least one weight must be positive"),
        (np.where(WEIGHT > 2, np.inf, WEIGHT), fn.NonFiniteError, "weight must be finite"),
        ([1.0] * 40, fn.DTypeError, "weight must be a plain NumPy array"),
    ):
        with pytest.raises(error, match=f"^{short}: {fact}"):
            metric(*arguments, weight=bad)


def test_extreme_weights_are_weights() -> None:
    """Sums of weights may overflow, except where they are the result. A tiny weight beside a large one is not 0."""
    weight = np.array([1.7e308, 5e-324])
    assert metrics.roc_auc(np.array([0.5, 0.1]), np.array([1, 0]), weight=weight) == 1
    assert metrics.recall(np.array([1, 0]), np.array([1, 0]), average=None, weight=weight).tolist() == [1, 1]
    weight = np.full(40, 1.7e308)
    assert metrics.accuracy(PREDICTED, LABELS, weight=weight) == pytest.approx(metrics.accuracy(PREDICTED, LABELS))
    with pytest.raises(fn.NonFiniteError, match="confusion_matrix: a sum of weights overflows float64; divide the w"):
        metrics.confusion_matrix(PREDICTED, LABELS, weight=weight)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(-40, 40)), min_size=1, max_size=12))
def test_matthews_loses_no_digit_of_small_weights(triples: list[tuple[int, int, int]]) -> None:
    """The value is that of exact sums, even if weights differ by 24 orders of magnitude."""
    predicted, true = columns([triple[:2] for triple in triples])
    weight: fn.Array = np.array([2.0**power for *_, power in triples])
    exact = [(p, t, Fraction(w)) for p, t, w in zip(predicted, true, weight.tolist(), strict=True)]

    def product(first: int, second: int) -> Fraction:
        """The covariance of two columns: 0 is the predicted ids, and 1 the true ids."""
        pairs = [(a, b) for a in exact for b in exact]
        same = sum((a[2] * b[2] for a, b in pairs if a[first] == a[second]), Fraction())
        return same - sum((a[2] * b[2] for a, b in pairs if a[first] == b[second]), Fraction())

    spreads = product(0, 0) * product(1, 1)
    wanted = float(product(0, 1)) / math.sqrt(spreads) if spreads else 0.0
    assert metrics.matthews(predicted, true, weight=weight) == pytest.approx(wanted, rel=1e-12, abs=1e-12)
    if wanted and (predicted == true).all():
        assert metrics.matthews(predicted, true, weight=weight) == 1


def test_a_confusion_matrix_is_counted_in_place() -> None:
    """The peak of the memory is that of the matrix, not of two; a 32-bit machine also has the counts in 32 bits."""
    tracemalloc.start()
    matrix = metrics.confusion_matrix(Y, Y, classes=1000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < (1.5 if np.dtype(np.intp) == matrix.dtype else 2) * matrix.nbytes


def test_differences_whose_squares_are_zero() -> None:
    """Such a target counts as constant, as the docstring says."""
    target = np.array([1e-170, 2e-170])
    assert metrics.r2(target, target) == 1
    assert metrics.r2(2 * target, target) == 0


def test_counts_are_integers_without_weights() -> None:
    """With weights they are float64, also for whole weights."""
    for matrix, pair in (
        (metrics.confusion_matrix, (PREDICTED, LABELS)),
        (metrics.multilabel_confusion_matrix, (SEVERAL, TRUTH)),
    ):
        matrix_of: Any = matrix
        assert matrix_of(*pair).dtype == np.int64
        assert matrix_of(*pair, weight=WEIGHT).dtype == np.float64


def test_every_metric_is_here() -> None:
    """The table contains every metric, and every metric has an example."""
    assert set(metrics.__all__) == {name.split()[0] for name in CALLS}
    assert all("Example:" in (getattr(metrics, name).__doc__ or "") for name in metrics.__all__)
    assert fn.accuracy is fn.metrics.accuracy
