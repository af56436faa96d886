"""Metrics: pure functions of predictions and targets that nobody differentiates."""

from __future__ import annotations

import numpy as np

from funcnet.arrays import Labels, check_labels
from funcnet.settings import check_count


def accuracy(predicted_ids: Labels, labels: Labels) -> float:
    """The share of predictions that are right. Shapes: both (B,).

    Raises:
        ShapeError, DTypeError, LabelError: If an argument is no vector of class ids.
        ConfigError: If the vectors are empty.

    Example:
        >>> accuracy(np.array([1, 2, 3, 4]), np.array([1, 2, 3, 0]))
        0.75
    """
    count = len(labels) if isinstance(labels, np.ndarray) and labels.ndim else 0
    check_labels("accuracy", "labels", labels, count)
    check_labels("accuracy", "predicted_ids", predicted_ids, count)
    check_count("accuracy", "the number of labels", count)
    return float(np.count_nonzero(predicted_ids == labels)) / count
