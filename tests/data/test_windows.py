"""Windows of a text: what they cover, that an epoch resumes, and the messages about invalid arguments."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import funcnet as fn

KEY: Final = fn.Key(19)
seeds = st.integers(0, 2**16)
TEXT: Final = np.arange(100)


def starts(batches: fn.Minibatches[Any, Any]) -> list[int]:
    """The first id of each window of a text that counts upwards, in order; each window and its targets are checked."""
    found: list[int] = []
    for batch in batches:
        assert batch.x.shape == batch.y.shape
        assert (np.diff(batch.x, axis=1) == 1).all()
        assert (batch.y == batch.x + 1).all()
        found += batch.x[:, 0].tolist()
    return found


@given(count=st.integers(2, 60), length=st.integers(1, 20), size=st.integers(1, 5), seed=seeds)
def test_each_id_is_in_one_window_at_most(count: int, length: int, size: int, seed: int) -> None:
    """With a key, as many windows as fit behind any offset, in another order; without, all from the start."""
    if count <= length:
        return
    text = np.arange(count)
    plain = fn.windows(text, length, 1)
    assert starts(plain) == list(range(0, (count - 1) // length * length, length))
    number = max(count // length - 1, 1)
    drawn = fn.windows(text, length, min(size, number), key=fn.Key(seed))
    offset, *others = sorted(starts(drawn))
    assert [offset, *others] == list(range(offset, offset + number * length, length))
    assert offset < length
    assert len(plain) - number <= 1


@given(seed=seeds, place=st.integers(0, 13))
def test_slices_resume_an_epoch(seed: int, place: int) -> None:
    """The batches before and after a place are those of the whole epoch."""
    batches = fn.windows(TEXT, 5, 2, key=fn.Key(seed))
    whole = [batch.x.tobytes() + batch.y.tobytes() for batch in batches]
    parts = [batch.x.tobytes() + batch.y.tobytes() for part in (batches[:place], batches[place:]) for batch in part]
    assert parts == whole
    assert len(batches) == 10


def test_keys_give_every_offset_and_many_orders() -> None:
    """So each id is seen at every place of a window, over the epochs."""
    epochs = [starts(fn.windows(TEXT, 5, 4, key=KEY.child(epoch))) for epoch in range(60)]
    assert {min(epoch) for epoch in epochs} == {0, 1, 2, 3, 4}
    assert len({tuple(epoch) for epoch in epochs}) == 60
    assert {id for epoch in epochs for start in epoch for id in range(start, start + 5)} == set(range(99))  # noqa: A001  # ids


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64, ">u2"], ids=str)
def test_a_text_is_not_copied(dtype: Any) -> None:
    """Without a key, a batch is a read-only view; a batch has the text's dtype, and the text stays writable."""
    text = TEXT.astype(dtype)
    for key in (None, KEY):
        batch = fn.windows(text, 5, 3, key=key)[0]
        assert batch.x.dtype == batch.y.dtype == text.dtype
        assert np.shares_memory(batch.x, text) == (key is None)
    assert not fn.windows(text, 5, 3)[0].x.flags.writeable
    assert text.flags.writeable
    assert fn.windows(np.frombuffer(b"read-only", np.uint8), 4, 1)[0].x.tobytes() == b"read"


GOOD: Final[dict[str, Any]] = {"ids": TEXT, "length": 5, "batch_size": 2}
REFUSED: Final[dict[str, tuple[type[fn.FuncnetError], str, dict[str, Any]]]] = {
    "a string": (
        fn.DTypeError,
        "ids must be an array of integers, got str; for its bytes, use np.frombuffer(ids.encode(), np.uint8)",
        {"ids": "to be or not to be"},
    ),
    "bytes": (
        fn.DTypeError,
        "ids must be an array of integers, got bytes; for its bytes, use np.frombuffer(ids, np.uint8)",
        {"ids": b"to be"},
    ),
    "a list": (
        fn.DTypeError,
        "ids must be a plain NumPy array of integers, got list; use np.asarray(ids)",
        {"ids": [1, 2, 3]},
    ),
    "floats": (fn.DTypeError, "ids must be integers, got float64", {"ids": TEXT / 2}),
    "bools": (fn.DTypeError, "ids must be integers, got bool", {"ids": TEXT > 3}),
    "two axes": (fn.ShapeError, "ids must have shape (N,), got (10, 10)", {"ids": TEXT.reshape(10, 10)}),
    "a short text": (
        fn.ShapeError,
        "ids must have more than length = 5 elements, got 5",
        {"ids": TEXT[:5]},
    ),
    "no length": (fn.ConfigError, "length must be an int of at least 1, got 0", {"length": 0}),
    "a large batch": (
        fn.ConfigError,
        "batch_size must be an int from 1 to 19, got 20",
        {"batch_size": 20},
    ),
    "a large batch with a key": (
        fn.ConfigError,
        "batch_size must be an int from 1 to 19, got 20",
        {"batch_size": 20, "key": KEY},
    ),
    "a seed": (fn.ConfigError, "key must be a Key, got 3; use Key(3)", {"key": 3}),
}


@pytest.mark.parametrize(("error", "message", "arguments"), REFUSED.values(), ids=REFUSED)
def test_bad_arguments_are_refused(error: type[fn.FuncnetError], message: str, arguments: dict[str, Any]) -> None:
    """The whole message."""
    with pytest.raises(error) as caught:
        fn.windows(**(GOOD | arguments))
    assert str(caught.value) == f"windows: {message}"
