"""The counts behind precision and recall: the correct ones, the predicted ones and the true ones of each class."""

from __future__ import annotations

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from funcnet.metrics.labels import Pairs
from funcnet.metrics.rows import Counts


@frozen(eq=False)
class ClassCounts:
    """The correct predictions, the predictions and the labels of each class, label or row. Shapes: (O,), or (B,)."""

    correct: Counts
    predicted: Counts
    actual: Counts

    @property
    def occurring(self) -> NDArray[np.bool_]:
        """Whether each class is predicted or true for any row."""
        return self.predicted + self.actual > 0


def counts_of_classes(pairs: Pairs, size: int) -> ClassCounts:
    """Count each of ``size`` classes."""
    predicted, labels = pairs.ids()
    both = np.where(predicted == labels, labels, size)
    correct = pairs.rows.count(both, size + 1)[:size]
    return ClassCounts(correct, pairs.rows.count(predicted, size), pairs.rows.count(labels, size))


def counts_of_labels(pairs: Pairs) -> ClassCounts:
    """Count each label, over all rows."""
    predicted, labels = pairs.flags()
    return ClassCounts(*map(pairs.rows.count_columns, (predicted & labels, predicted, labels)))


def counts_of_rows(pairs: Pairs) -> ClassCounts:
    """Count the labels of each row, without its weight."""
    predicted, labels = pairs.flags()
    marks = predicted & labels, predicted, labels
    return ClassCounts(*(np.count_nonzero(each, axis=1).astype(np.float64) for each in marks))
