"""Windows: a text, which is one long array of ids, as minibatches of sequences and of the ids that follow."""

from __future__ import annotations

from typing import TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from funcnet.core.arrays import AnyArray, is_ids, unmapped
from funcnet.core.checks import check_count, check_plain
from funcnet.core.errors import DTypeError, ShapeError
from funcnet.data.batches import Minibatches, minibatches
from funcnet.random.draws import words
from funcnet.random.keys import Key, check_key

D = TypeVar("D", bound=np.integer)


def windows(
    ids: NDArray[D], length: int, batch_size: int, *, key: Key | None = None
) -> Minibatches[NDArray[D], NDArray[D]]:
    """Cut a text into windows of ``length`` ids, and the windows into batches for a model that predicts the next id.

    The batches have x and y of shape (B, length): ``y[b, t]`` is the id that follows ``x[b, t]`` in the text. The
    windows do not overlap, so an epoch visits an id at most once. Only batches are copied, not the text.

    Args:
        ids: The text, shape (N,), of any integer dtype. Bytes are ids: ``np.frombuffer(text.encode(), np.uint8)``.
        length: The number of ids in a window, T, at most N - 1.
        batch_size: The number of windows in a batch.
        key: With a key, the first window begins at a random offset below ``length``, and the windows come in a random
            order. A different key for each epoch, ``key.child("windows", epoch)``, thus gives different windows; their
            number is always the same, ``N // length - 1`` (or 1). Without a key, they follow each other from the start;
            their number is ``(N - 1) // length``. Ids that do not fill a window are left out.

    Returns:
        A sequence of batches, which can be sliced: ``windows(...)[k:]`` resumes an epoch at batch k.

    Raises:
        DTypeError: If the text is not an array of integers.
        ShapeError: If it does not have shape (N,), or N is not above ``length``.
        ConfigError: If a setting is not a positive int, or there are fewer windows than ``batch_size``.

    Example:
        >>> text = np.arange(10)
        >>> batches = windows(text, 4, 2)
        >>> batches[0].x
        array([[0, 1, 2, 3],
               [4, 5, 6, 7]])
        >>> batches[0].y
        array([[1, 2, 3, 4],
               [5, 6, 7, 8]])
        >>> windows(text, 4, 1, key=Key(4))[0].x  # begins at offset 3
        array([[3, 4, 5, 6]])
    """
    _check_text(ids)
    text = unmapped(ids)
    length = check_count("windows", "length", length)
    if len(text) <= length:
        raise ShapeError(f"ids must have more than length = {length} elements, got {len(text)}", subject="windows")
    count, offset = (len(text) - 1) // length, 0
    if key is not None:
        check_key("windows", key)
        count = max(len(text) // length - 1, 1)  # as many as fit behind the largest offset
        offset = int(words(key.child("offset"), 1)[0]) % min(length, len(text) - count * length)
    batch_size = check_count("windows", "batch_size", batch_size, high=count)
    size = count * length
    x, y = (text[start : start + size].reshape(count, length) for start in (offset, offset + 1))
    return cast("Minibatches[NDArray[D], NDArray[D]]", minibatches(x, y, batch_size, key=key))


def _check_text(ids: object) -> None:
    """Check that a text is an array (N,) of integers."""
    if isinstance(ids, str | bytes):
        text = "ids.encode()" if isinstance(ids, str) else "ids"
        fix = f"for its bytes, use np.frombuffer({text}, np.uint8)"
        raise DTypeError(f"ids must be an array of integers, got {type(ids).__name__}; {fix}", subject="windows")
    check_plain("windows", "ids", ids, " of integers")
    array = cast("AnyArray", ids)
    if array.ndim != 1:
        raise ShapeError(f"ids must have shape (N,), got {array.shape}", subject="windows")
    if not is_ids(array):
        raise DTypeError(f"ids must be integers, got {array.dtype}", subject="windows")
