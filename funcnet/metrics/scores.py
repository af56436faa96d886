"""Checks of scores and probabilities, with the class ids or the zeros and ones that belong to them."""

from __future__ import annotations

import numpy as np

from funcnet.arithmetic import mean_rows
from funcnet.core.arrays import ARRAY_TYPES, Array, Labels
from funcnet.core.checks import check_array, check_count, check_finite, check_labels, first_true
from funcnet.core.errors import ConfigError, DTypeError, ShapeError
from funcnet.metrics.labels import Flags, Targets, check_binary, in_order
from funcnet.metrics.rows import Rows, weighted_rows


def read_scores(
    name: str, what: str, scores: Array, labels: Targets, weight: Array | None
) -> tuple[Array, Labels, Rows]:
    """Check a score for each class and the class ids, and return the rows that count. Shapes: (B, O) and (B,)."""
    check_order(name, what, scores, labels)
    check_array(name, what, scores, ("B", "O"))
    count, classes = scores.shape
    check_count(name, "the number of rows", count)
    check_count(name, "the number of classes", classes)
    rows = weighted_rows(name, count, weight)
    ids = check_labels(name, "labels", labels, count, classes, weight=weight)
    check_finite(name, what, scores)
    return rows.of(scores), rows.of(ids), rows


def read_probabilities(
    name: str, probabilities: Array, labels: Targets, weight: Array | None
) -> tuple[Array, Labels, Rows]:
    """Check probabilities of each class and the class ids, and return the rows that count. Shapes: (B, O) and (B,)."""
    if type(probabilities) in ARRAY_TYPES and probabilities.ndim == 2 and probabilities.shape[1] == 1:
        got = f"got {probabilities.shape}; for probabilities of the positive class, use probabilities[:, 0]"
        raise ShapeError(f"probabilities must have a column for each of two or more classes, {got}", subject=name)
    kept, ids, rows = read_scores(name, "probabilities", probabilities, labels, weight)
    with np.errstate(over="ignore"):  # an infinite sum is not 1, so it is refused below
        sums = mean_rows(probabilities.T) * probabilities.shape[1]
    tolerance = np.sqrt(np.finfo(probabilities.dtype).eps)
    bad = (np.minimum.reduce(probabilities, axis=1) < 0) | (np.abs(sums - 1) > tolerance)
    if bad.any():
        first = int(bad.argmax())
        logits = "for logits use softmax_cross_entropy; " if name == "log_loss" else ""
        fix = f"{logits}predict_proba gives probabilities"
        got = f"got probabilities[{first}] = {probabilities[first]} with sum {sums[first]:.6g}"
        raise ConfigError(f"each row must be nonnegative and sum to 1, {got}; {fix}", subject=name)
    return kept, ids, rows


def read_binary_probabilities(
    name: str, probabilities: Array, labels: Targets, weight: Array | None
) -> tuple[Array, Flags, Rows]:
    """Check probabilities of the positive class and the labels, and return the rows that count. Shapes: both (B,)."""
    kept, truth, rows = read_binary_scores(name, "probabilities", probabilities, labels, weight)
    bad = (probabilities < 0) | (probabilities > 1)
    if bad.any():
        index, where = first_true(bad)
        got = f"got probabilities[{where}] = {probabilities[index]}"
        logits = "for logits use binary_cross_entropy; " if name == "log_loss" else ""
        fix = f"{logits}predict_proba(net, x, Binary()) gives probabilities"
        raise ConfigError(f"probabilities must be from 0 to 1, {got}; {fix}", subject=name)
    return kept, truth, rows


def read_binary_scores(
    name: str, what: str, scores: Array, labels: Targets, weight: Array | None
) -> tuple[Array, Flags, Rows]:
    """Check scores and labels of the same shape, (B,) or (B, O), and return the rows that count."""
    check_order(name, what, scores, labels)
    check_array(name, what, scores, ("B", "O") if getattr(scores, "ndim", 1) > 1 else ("B",))
    rows = weighted_rows(name, len(scores), weight)
    truth = check_binary(name, labels, what, scores, weight)
    check_count(name, "the number of labels", truth.size)
    check_finite(name, what, scores)
    return rows.of(scores), rows.of(truth), rows


def check_order(name: str, what: str, scores: Array, labels: Targets) -> None:
    """Check that scores are not the labels, and the labels not the scores: zeros and ones of another dtype, and floats.

    Raises:
        DTypeError: If only the labels are floats.
    """
    plain = type(scores) in ARRAY_TYPES and type(labels) in ARRAY_TYPES
    if plain and scores.dtype.kind in "biu" and labels.dtype.kind == "f":
        fix = in_order(name, what)
        raise DTypeError(f"{what} must be float32 or float64, got {scores.dtype}; {fix}", subject=name)
