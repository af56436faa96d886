"""Checks of class ids and of labels that are 0 or 1, and the pairs of predictions and labels that metrics compare."""

from __future__ import annotations

from typing import Final, TypeAlias, cast

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from funcnet.core.arrays import ARRAY_TYPES, AnyArray, Array, Labels, beside
from funcnet.core.checks import check_count, check_labels, check_plain, check_size, first_true, fix_of_ids
from funcnet.core.errors import ConfigError, DTypeError, LabelError, ShapeError
from funcnet.metrics.rows import Rows, weighted_rows

Flags: TypeAlias = NDArray[np.bool_]
"""Yes or no: shape (B,) for two classes, or (B, O) for O labels, of which each row may have several."""

Predicted: TypeAlias = Labels | Flags
"""Predicted class ids, shape (B,), or bools, shape (B,) or (B, O)."""

Targets: TypeAlias = Labels | Flags | Array
"""Class ids, shape (B,), or, if the prediction is bool or a score, zeros and ones of any dtype in its shape."""

MOST_CLASSES: Final = 2**24


@frozen(eq=False)
class Pairs:
    """Predictions and labels of the rows that count: class ids, shape (B,), or bools, shape (B, O).

    Args:
        predicted: The predictions.
        labels: The labels.
        rows: How much each row counts.
        classes: The number of classes, if it is given.
        binary: Whether the ids were bools.
    """

    predicted: Predicted
    labels: Predicted
    rows: Rows
    classes: int | None = None
    binary: bool = False

    @property
    def multilabel(self) -> bool:
        """Whether each row may have several labels."""
        return self.labels.ndim == 2

    def size(self, name: str, most: int = MOST_CLASSES) -> int:
        """Return the number of classes: the given one, or 2 for bools, or 1 plus the largest id.

        Raises:
            ConfigError: If there are more than ``most``.
        """
        if self.classes is not None:
            return check_count(name, "classes", self.classes, high=most)
        size = 2 if self.binary else 1 + max(int(self.predicted.max()), int(self.labels.max()))
        if size > most:
            fix = "use np.unique(ids, return_inverse=True) to number the classes from 0"
            raise ConfigError(f"1 plus the largest id must be at most {most}, got {size}; {fix}", subject=name)
        return size

    def ids(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Return the predicted class ids and the true ones."""
        return self.predicted.astype(np.intp), self.labels.astype(np.intp)

    def flags(self) -> tuple[Flags, Flags]:
        """Return whether each row is predicted to have each label, and whether it has it. Shapes: both (B, O)."""
        return cast("Flags", self.predicted), cast("Flags", self.labels)


def read_pairs(
    name: str, predicted: Predicted, labels: Targets, weight: Array | None, classes: int | None = None
) -> Pairs:
    """Check predictions and labels, and return the rows that count.

    Raises:
        ShapeError, DTypeError, LabelError: If they are neither class ids nor bools and their labels.
        ConfigError: If there are no rows, or if a setting is invalid.
    """
    if classes is not None:
        classes = check_size(name, "classes", classes)
    plain = type(predicted) in ARRAY_TYPES and type(labels) in ARRAY_TYPES
    if plain and predicted.ndim == labels.ndim == 2 and predicted.dtype != np.bool_:
        raise _not_bool(name, predicted, labels, weight)
    if plain and predicted.ndim in (1, 2) and predicted.dtype == np.bool_:
        return _read_flags(name, cast("Flags", predicted), labels, weight, classes)
    if plain and predicted.ndim == 1 and predicted.shape == labels.shape:
        _check_kinds(name, predicted, labels)
    check_plain(name, "labels", labels, " of class ids")
    count = len(labels) if labels.ndim else 0
    rows = weighted_rows(name, count, weight)
    if labels.dtype == np.bool_:
        labels = labels.view(np.uint8)
    ids = check_labels(name, "labels", labels, count, classes, weight=weight)
    check_labels(name, "predicted", predicted, count, classes)
    check_count(name, "the number of labels", count)
    return Pairs(rows.of(cast("Labels", predicted)), rows.of(ids), rows, classes)


def _read_flags(name: str, predicted: Flags, labels: Targets, weight: Array | None, classes: int | None) -> Pairs:
    rows = weighted_rows(name, len(predicted), weight)
    truth = check_binary(name, labels, "predicted", predicted, weight)
    check_count(name, "the number of labels", truth.size)
    if predicted.ndim == 2:
        if classes is not None:
            raise ConfigError(f"classes is for class ids; got bools of shape {predicted.shape}", subject=name)
        return Pairs(rows.of(predicted), rows.of(truth), rows)
    if classes is not None:
        check_count(name, "classes", classes, low=2)
    ids, true = predicted.view(np.uint8), truth.view(np.uint8)
    return Pairs(rows.of(ids), rows.of(true), rows, classes, binary=True)


def _not_bool(name: str, predicted: AnyArray, labels: AnyArray, weight: Array | None) -> DTypeError:
    fix = "predicted > 0.5" if predicted.dtype.kind == "f" else "predicted.astype(bool)"
    if labels.dtype == np.bool_ and predicted.dtype.kind != "f":
        advice = f"{in_order(name, 'predicted')}; if they do, use {fix}"
    else:
        advice = f"use {fix}; for one class per row, use the class ids, such as predicted.argmax(axis=1)"
        if predicted.dtype.kind in "iu" and labels.dtype.kind in "iu":
            flat = " and labels.ravel()" if weight is None else ", labels.ravel() and weight.ravel()"
            advice += f"; for the class ids of positions, use predicted.ravel(){flat}"
    got = f"got {predicted.dtype} {predicted.shape}; {advice}"
    return DTypeError(f"predicted must be bool if each row may have several labels, {got}", subject=name)


def _check_kinds(name: str, predicted: AnyArray, labels: AnyArray) -> None:
    """Check that predictions, which are not bool, are no probabilities and not exchanged with the labels.

    Predictions of integers do not belong to labels that are bool, because only ``predict`` returns bools.
    """
    kinds = predicted.dtype.kind, labels.dtype.kind
    if kinds[0] in "iu" and kinds[1] == "b":
        fix = f"{in_order(name, 'predicted')}; if they do, use labels.astype(np.int64)"
        raise DTypeError(f"labels must be integer class ids to match predicted, got bool; {fix}", subject=name)
    if kinds[0] in "iu" and kinds[1] == "f" and not fix_of_ids("labels", labels):
        fix = in_order(name, "predicted")
        raise DTypeError(f"labels must be integer class ids, got {labels.dtype}; {fix}", subject=name)
    if kinds[0] == "f" and not fix_of_ids("predicted", predicted):
        fix = "for probabilities of the positive class, use predicted > 0.5"
        raise DTypeError(f"predicted must be integer class ids, got {predicted.dtype}; {fix}", subject=name)


def in_order(name: str, what: str) -> str:
    """Return the advice to pass the predictions, or the scores, before the labels."""
    return f"the {'predictions' if what == 'predicted' else what} come first: {name}({what}, labels)"


def check_binary(name: str, labels: Targets, what: str, like: AnyArray, weight: Array | None) -> Flags:
    """Check that labels are 0 or 1, in the shape of ``like``, and return whether they are 1.

    Raises:
        ShapeError, DTypeError, LabelError: If they are not.
    """
    check_plain(name, "labels", labels, " of zeros and ones")
    if labels.shape != like.shape:
        column = labels.shape == (*like.shape, 1)
        fix = "; use labels[:, 0]" if column else f"; use {what}[:, 0]" if like.shape == (*labels.shape, 1) else ""
        wanted = f"shape {like.shape} to match {what}"
        raise ShapeError(f"labels must have {wanted}, got {labels.shape}{fix}", subject=name)
    if labels.dtype.kind not in "biuf":
        fix = fix_of_ids("labels", labels)
        raise DTypeError(f"labels must be zeros and ones or bool, got {labels.dtype}{fix}", subject=name)
    truth: Flags = labels == 1
    good = truth | (labels == 0)
    bad = ~good if weight is None else ~good & (beside(weight, labels) != 0)
    if bad.any():
        index, where = first_true(bad)
        ids = "predicted must be integers" if what == "predicted" else f"{what} must have a column for each class"
        fix = f"; for class ids, {ids}" if labels.dtype.kind in "iu" and labels.ndim == 1 else ""
        if labels.dtype.kind == "f" and np.isfinite(labels[index]) and ((like == 0) | (like == 1)).all():
            fix = f"; {in_order(name, what)}"
        raise LabelError(f"labels must be 0 or 1, got labels[{where}] = {labels[index]}{fix}", subject=name)
    return truth
