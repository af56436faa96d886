"""Softmax cross-entropy at each position: the loss of the logits there, and its slopes by these logits."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from funcnet.arithmetic import exp, log, sum_last
from funcnet.core.arrays import Array, Labels


def ids_rows(logits: Array, labels: Labels) -> tuple[Array, Array]:
    """Return each label's loss and slopes for class ids.

    Shapes: logits (B, ..., O), labels (B, ...), result (B, ...) and (B, ..., O).
    """
    index = flat_index(logits, labels)
    shifted, shares, sums = _exponentials(logits)
    slopes = shares / sums
    slopes.put(index, slopes.take(index, mode="clip") - 1, mode="clip")
    return log(sums[..., 0]) - shifted.take(index, mode="clip"), slopes


def shares_rows(logits: Array, targets: Array) -> tuple[Array, Array]:
    """Return each position's loss and slopes for class shares.

    Shapes: logits and targets (B, ..., O), result (B, ..., 1) and (B, ..., O).
    """
    shifted, shares, sums = _exponentials(logits)
    terms = np.where(targets == 0, targets, targets * (log(sums) - shifted))  # a share of 0 times infinity is 0
    return sum_last(terms), shares / sums * sum_last(targets) - targets


def flat_index(logits: Array, labels: Labels) -> NDArray[np.intp]:
    """Return the index of each label's class in the flattened logits. Shapes: (B, ..., O), (B, ...) -> (B, ...)."""
    starts = np.arange(0, logits.size, logits.shape[-1], dtype=np.intp)
    return np.add(starts.reshape(labels.shape), labels, dtype=np.intp, casting="unsafe")


def _exponentials(logits: Array) -> tuple[Array, Array, Array]:
    """Return the logits minus their maximum, the exponentials, and the sums, at each position.

    Shapes: logits (B, ..., O), result (B, ..., O), (B, ..., O) and (B, ..., 1).
    """
    shifted = logits - np.maximum.reduce(logits, axis=-1, keepdims=True)
    shares = exp(shifted)
    return shifted, shares, sum_last(shares)
