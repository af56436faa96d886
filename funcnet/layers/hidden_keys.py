"""Hidden keys: the steps to which a step of a sequence cannot attend, because they are later or padded."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from funcnet.core.arrays import Array, lock


def hidden_keys(steps: int, dtype: np.dtype[np.floating], *, causal: bool, mask: Array | None) -> Array | None:
    """-inf where a key is hidden from a query, else 0. None if no key is hidden.

    With ``causal``, later steps are hidden. Steps whose element of the mask (B, T) is 0 are always hidden.
    Shape: (T, T), (B, 1, 1, T) or (B, 1, T, T).

    Example:
        >>> hidden_keys(2, np.dtype(np.float64), causal=True, mask=None)
        array([[  0., -inf],
               [  0.,   0.]])
    """
    later = _later(steps, dtype) if causal else None
    if mask is None:
        return later
    padded: Array = np.where(mask != 0, dtype.type(0), dtype.type(-np.inf))[:, None, None]
    return padded if later is None else later + padded


@lru_cache(maxsize=2)
def _later(steps: int, dtype: np.dtype[np.floating]) -> Array:
    """-inf where the key is later than the query, else 0. Shape: (T, T).

    Forward and backward get the same object: a trace then computes what both have in common once.
    """
    return lock(np.triu(np.full((steps, steps), -np.inf, dtype), 1))
