"""Comparison of the metrics with those of scikit-learn, whose arguments are in the opposite order."""

from __future__ import annotations

import re
from typing import Any, Final

import numpy as np
import pytest
from attrs import frozen
from hypothesis import given, settings
from hypothesis import strategies as st

import funcnet as fn
from funcnet import metrics
from funcnet.random.draws import normal, uniform

theirs: Any = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")

TOLERANCE: Final = 1e-12
AVERAGES: Final[list[Any]] = [None, "macro", "micro", "weighted"]
INTEGERS: Final = [f"{kind}{size}" for kind in "iu" for size in (1, 2, 4, 8)]
few = settings.get_profile("brief")


@frozen(eq=False)
class Rows:
    """Drawn rows: ids of O classes, zeros and ones, scores with ties, probabilities, and weights."""

    predicted: Any
    ids: Any
    said: Any
    marks: Any
    scores: Any
    shares: Any
    weight: Any
    classes: int


@st.composite
def rows(draw: st.DrawFn, dtypes: tuple[str, ...] = ("float64",)) -> Rows:
    """Draw rows. The classes are unbalanced; each class, and each label's 0 and 1, occurs with a positive weight."""
    key = fn.Key(draw(st.integers(0, 2**32)))
    classes = draw(st.integers(3, 5))
    count = draw(st.integers(classes, 60))
    levels, dtype = draw(st.sampled_from([2, 5, 1000])), draw(st.sampled_from(dtypes))
    integer = draw(st.sampled_from(INTEGERS))

    def part(name: str, *shape: int) -> Any:
        return uniform(key.child(name), (count, *shape)).astype(np.float64)

    ids = (part("ids") * part("more") * classes).astype(integer)
    ids[:classes] = range(classes)
    predicted = (part("predicted") * classes).astype(integer)
    right = part("right") < 0.5
    predicted[right] = ids[right]
    marks = part("marks", classes) < part("rate")[0]
    marks[:2] = [[True], [False]]
    said = marks ^ (part("said", classes) < 0.3)
    scores = np.floor(levels * (0.3 * marks + 0.7 * part("scores", classes))) / levels
    shares = np.floor(part("shares", classes) * levels) + 1
    shares /= shares.sum(axis=1, keepdims=True)
    weight = draw(st.sampled_from([None, np.floor(4 * part("weight")) / 4, part("weight")]))
    if weight is not None:
        weight[:classes] = 0.75
    marks = marks.astype(draw(st.sampled_from([*INTEGERS, "bool", "float32"])))
    return Rows(predicted, ids, said, marks, scores.astype(dtype), shares.astype(dtype), weight, classes)


def near(found: Any, wanted: Any, tolerance: float = TOLERANCE) -> None:
    """Assert that both values have the same shape and agree to 1e-12."""
    assert np.shape(found) == np.shape(wanted)
    assert np.allclose(found, wanted, rtol=tolerance, atol=tolerance)


NAMES: Final = dict(re.findall(r"^``(\w+)(?:\(.*\))?``  +``(\w+)", metrics.__doc__ or "", re.MULTILINE))


@pytest.mark.parametrize("name", NAMES)
def test_a_name_of_scikit_learn_leads_to_the_metric(name: str) -> None:
    """The table of names in the docstring and the error of the missing name agree."""
    assert callable(getattr(theirs, name))
    assert NAMES[name] in dir(metrics)
    with pytest.raises(
        AttributeError, match=rf"^module 'funcnet.metrics' has no .* '{name}'; use {NAMES[name]}\(\w+, "
    ):
        getattr(metrics, name)


def test_every_name_of_scikit_learn_is_known() -> None:
    """A metric with a name of its own is in the table; the others have scikit-learn's names."""
    assert {*metrics.__all__} - {*NAMES.values()} == {name for name in metrics.__all__ if hasattr(theirs, name)}
    assert not hasattr(metrics, "accuracies")


# ------------------------------------------------------------------------------------------------- class ids


@few
@given(rows())
def test_class_ids(drawn: Rows) -> None:
    """Accuracies, counts and correlations agree."""
    predicted, ids, weight = drawn.predicted, drawn.ids, drawn.weight
    pair: Any = (ids, predicted)
    for name, peer in {
        "accuracy": theirs.accuracy_score,
        "hamming_loss": theirs.hamming_loss,
        "balanced_accuracy": theirs.balanced_accuracy_score,
        "matthews": theirs.matthews_corrcoef,
        "confusion_matrix": theirs.confusion_matrix,
    }.items():
        near(getattr(metrics, name)(predicted, ids, weight=weight), peer(*pair, sample_weight=weight))


@few
@given(rows(), st.sampled_from([0.0, 1.0]))
@pytest.mark.parametrize("name", ["precision", "recall", "f1"])
def test_precision_recall_f1(name: str, drawn: Rows, empty: float) -> None:
    """The values agree with explicit classes, and by default, where both libraries ignore classes that do not occur."""
    mine, peer = getattr(metrics, name), getattr(theirs, f"{name}_score")
    shared: Any = {"zero_division": empty}
    for average in AVERAGES:
        wanted = peer(drawn.ids, drawn.predicted, average=average, sample_weight=drawn.weight, **shared)
        near(mine(drawn.predicted, drawn.ids, average=average, weight=drawn.weight, **shared), wanted)
        more = peer(drawn.ids, drawn.predicted, average=average, labels=range(7), sample_weight=drawn.weight, **shared)
        near(mine(drawn.predicted, drawn.ids, average=average, classes=7, weight=drawn.weight, **shared), more)
    two = peer(drawn.marks[:, 0].astype(int), drawn.said[:, 0], sample_weight=drawn.weight, **shared)
    near(mine(drawn.said[:, 0], drawn.marks[:, 0], average="binary", weight=drawn.weight, **shared), two)


# -------------------------------------------------------------------------------------------- several labels


@few
@given(rows(), st.sampled_from([0.0, 1.0]), st.booleans())
def test_several_labels(drawn: Rows, empty: float, no_label: bool) -> None:  # noqa: FBT001  # drawn
    """Every average agrees, also that of the rows, and if labels do not occur; so do the accuracy and the counts."""
    said, marks, weight = drawn.said, drawn.marks.copy(), drawn.weight
    said[:, 0] = marks[:, 0] = 0
    if no_label:
        marks[:] = 0
    truth: Any = marks.astype(int)
    for name, peer in {
        "accuracy": theirs.accuracy_score,
        "hamming_loss": theirs.hamming_loss,
        "multilabel_confusion_matrix": theirs.multilabel_confusion_matrix,
    }.items():
        near(getattr(metrics, name)(said, marks, weight=weight), peer(truth, said, sample_weight=weight))
    for name in ("precision", "recall", "f1"):
        for average in (*AVERAGES, "samples"):
            shared: Any = {"average": average, "zero_division": empty}
            wanted = getattr(theirs, f"{name}_score")(truth, said, sample_weight=weight, **shared)
            near(getattr(metrics, name)(said, marks, weight=weight, **shared), wanted)


@few
@given(rows(dtypes=("float32", "float64")))
def test_rankings_of_several_labels(drawn: Rows) -> None:
    """The areas agree for each average. Of the rows, those with zeros and ones have an area."""
    scores, weight, truth = drawn.scores, drawn.weight, drawn.marks.astype(int)
    for average in AVERAGES:
        for name, peer in PEERS.items():
            wanted = peer(truth, scores, average=average, sample_weight=weight)
            near(getattr(metrics, name)(scores, drawn.marks, average=average, weight=weight), wanted)
    mixed = np.ptp(truth, axis=1) == 1
    if mixed.any() and (weight is None or weight[mixed].any()):
        some: Any = None if weight is None else weight[mixed]
        for name, peer in PEERS.items():
            wanted = peer(truth[mixed], scores[mixed], average="samples", sample_weight=some)
            near(getattr(metrics, name)(scores[mixed], drawn.marks[mixed], average="samples", weight=some), wanted)


PEERS: Final = {"roc_auc": theirs.roc_auc_score, "average_precision": theirs.average_precision_score}

# ---------------------------------------------------------------------------------------------- two classes


@few
@given(rows(dtypes=("float32", "float64")))
def test_rankings_of_two_classes(drawn: Rows) -> None:
    """The areas agree, with ties and weights; the curves have the same points if their sums are exact."""
    scores, marks, weight = drawn.scores[:, 0], drawn.marks[:, 0], drawn.weight
    truth: Any = marks.astype(int)
    for name, peer in PEERS.items():
        near(getattr(metrics, name)(scores, marks, weight=weight), peer(truth, scores, sample_weight=weight))
    exact = None if weight is None else np.ceil(4 * weight) / 4
    for name in ("roc_curve", "precision_recall_curve"):
        found = getattr(metrics, name)(scores, marks, weight=exact)
        wanted = getattr(theirs, name)(truth, scores, sample_weight=exact)
        for one, other in zip(found, wanted, strict=True):
            near(one, other)
            assert one.dtype == np.float64


@few
@given(rows(dtypes=("float32", "float64")))
def test_probabilities_of_two_classes(drawn: Rows) -> None:
    """The log loss, also of 0 and 1, and the Brier score agree."""
    shares, marks, weight = drawn.scores[:, 0], drawn.marks[:, 0], drawn.weight
    tolerance = TOLERANCE if shares.dtype == np.float64 else 1e-6
    truth: Any = marks.astype(int)
    near(
        metrics.log_loss(shares, marks, weight=weight), theirs.log_loss(truth, shares, sample_weight=weight), tolerance
    )
    wanted = theirs.brier_score_loss(truth, shares, sample_weight=weight)
    near(metrics.brier_score(shares, marks, weight=weight), wanted, tolerance)


# ---------------------------------------------------------------------------------------------- more classes


@few
@given(rows(dtypes=("float32", "float64")))
def test_rankings_of_classes(drawn: Rows) -> None:
    """The areas agree for one versus the rest and one versus one; scikit-learn gives the latter no weights."""
    shares, ids, weight = drawn.shares, drawn.ids, drawn.weight
    for average in AVERAGES:
        wanted = theirs.roc_auc_score(ids, shares, average=average, multi_class="ovr", sample_weight=weight)
        near(metrics.roc_auc(shares, ids, average=average, weight=weight), wanted)
        wanted = theirs.average_precision_score(ids, shares, average=average, sample_weight=weight)
        near(metrics.average_precision(shares, ids, average=average, weight=weight), wanted)
    pairs: list[Any] = ["macro", "weighted"]
    for average in pairs:
        wanted = theirs.roc_auc_score(ids, shares, average=average, multi_class="ovo")
        near(metrics.roc_auc(shares, ids, average=average, multi_class="ovo"), wanted)


@few
@given(rows(dtypes=("float32", "float64")))
def test_probabilities_of_classes(drawn: Rows) -> None:
    """The log loss, the Brier score and, without ties, the top-k accuracy agree. Two classes halve the Brier score."""
    shares, ids, weight = drawn.shares, drawn.ids, drawn.weight
    tolerance = TOLERANCE if shares.dtype == np.float64 else 1e-6
    near(metrics.log_loss(shares, ids, weight=weight), theirs.log_loss(ids, shares, sample_weight=weight), tolerance)
    wanted = theirs.brier_score_loss(ids, shares, sample_weight=weight)
    near(metrics.brier_score(shares, ids, weight=weight), wanted, tolerance)
    two: Any = shares[:, :2] / shares[:, :2].sum(axis=1, keepdims=True)
    wanted = theirs.brier_score_loss(ids % 2, two, sample_weight=weight)
    near(metrics.brier_score(two, ids % 2, weight=weight), wanted, tolerance)
    apart = normal(fn.Key(3), shares.shape)
    for k in (1, 2):
        wanted = theirs.top_k_accuracy_score(ids, apart, k=k, sample_weight=weight)
        near(metrics.top_k_accuracy(apart, ids, k=k, weight=weight), wanted)


def test_of_equal_scores_scikit_learn_takes_the_last() -> None:
    """The two libraries break ties differently, as the docstring of ``top_k_accuracy`` states."""
    scores, labels = np.zeros((3, 3)), np.arange(3)
    assert metrics.top_k_accuracy(scores[:1], labels[:1], k=1) == 1
    assert theirs.top_k_accuracy_score(labels[:1], scores[:1], k=1, labels=labels) == 0


def test_log_loss_of_a_zero() -> None:
    """Both libraries replace 0 with the dtype's eps, for two classes and for more."""
    for dtype in (np.float32, np.float64):
        shares: fn.Array = np.array([[0, 1, 0], [1, 0, 0], [0.5, 0.25, 0.25]], dtype)
        labels = np.array([0, 0, 2])
        wanted = theirs.log_loss(labels, shares, labels=range(3))
        assert metrics.log_loss(shares, labels) == pytest.approx(wanted, rel=1e-6)
        wanted = theirs.log_loss(labels == 2, shares[:, 0])
        assert metrics.log_loss(shares[:, 0], labels == 2) == pytest.approx(wanted, rel=1e-6)


# ----------------------------------------------------------------------------------------------- regression


@few
@given(rows(), st.sampled_from([(), (1,), (3,)]))
def test_regression(drawn: Rows, shape: tuple[int, ...]) -> None:
    """The values agree for one output and for several outputs, whose values are averaged."""
    count, weight = len(drawn.ids), drawn.weight
    target = normal(fn.Key(5), (count, *shape))
    predicted = target + 0.3 * normal(fn.Key(6), (count, *shape))
    flat = np.ones((count, *shape))
    for name, peer in {
        "mse": theirs.mean_squared_error,
        "mae": theirs.mean_absolute_error,
        "r2": theirs.r2_score,
    }.items():
        for pair in ((predicted, target), (flat, flat), (predicted, flat)):
            near(getattr(metrics, name)(*pair, weight=weight), peer(pair[1], pair[0], sample_weight=weight))
