"""Minibatches side by side: the rows of each sequence's own batches, or None."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from attrs import evolve

import funcnet as fn
from funcnet.data.stacking import stacked

KEY = fn.Key(31)
X, Y = np.arange(66.0).reshape(22, 3), np.arange(22)


def shuffled(i: int, **settings: Any) -> Any:
    """Batches in the order of a key."""
    return fn.minibatches(X, Y, 5, key=KEY.child(i), **settings)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("rest", [slice(None), slice(2, None), slice(0, 3)])
def test_the_rows_of_each_sequence(weighted: bool, rest: slice) -> None:  # noqa: FBT001  # a parameter
    """With weights and without; of slices, too; the last batch is smaller."""
    settings: Any = {"weight": np.arange(1.0, 23.0)} if weighted else {}
    many = [shuffled(i, **settings)[rest] for i in range(4)]
    whole = stacked(many)
    assert whole is not None
    for row, *batches in zip(whole, *many, strict=True):
        for i, batch in enumerate(batches):
            pairs = [(row.x, batch.x), (row.y, batch.y), *([(row.weight, batch.weight)] if weighted else [])]
            assert all(mine[i].tobytes() == own.tobytes() and mine[i].dtype == own.dtype for mine, own in pairs)
            assert (row.weight is None) == (not weighted)


def double(batch: Any) -> Any:
    """A transform."""
    return evolve(batch, x=batch.x * 2)


def drift(_: fn.Key, batch: Any) -> Any:
    """An augmentation."""
    return batch


@pytest.mark.parametrize(
    "other",
    [
        fn.minibatches(X, Y, 5),
        fn.minibatches(X.copy(), Y, 5, key=KEY),
        fn.minibatches(X, Y.copy(), 5, key=KEY),
        fn.minibatches(X, Y, 6, key=KEY),
        fn.minibatches(X, Y, 5, key=KEY, drop_last=True),
        fn.minibatches(X, Y, 5, key=KEY, weight=np.ones(22)),
        fn.minibatches(X, Y, 5, key=KEY, transform=double),
        fn.minibatches(X, Y, 5, key=KEY, augment=drift),
        list(fn.minibatches(X, Y, 5, key=KEY)),
    ],
)
def test_sequences_that_differ_are_not_stacked(other: Any) -> None:
    """In their examples, sizes, or functions; or without an order; or no minibatches."""
    assert stacked([shuffled(0), other]) is None
    assert stacked([other, shuffled(0)]) is None


def test_nothing_is_not_stacked() -> None:
    """No sequence."""
    assert stacked([]) is None
