"""Augmentation: pure functions of a key and a batch that change the inputs at random. Shapes: x (B, H, W, C)."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from funcnet.arithmetic import minimum
from funcnet.core.arrays import Array, lock
from funcnet.core.checks import INFINITY, MOST_PIXELS, check_array, check_count, check_number
from funcnet.core.names import register_name
from funcnet.core.records import Settings, evolve
from funcnet.network.batch import Batch, check_is_batch
from funcnet.random.draws import normal, uniform
from funcnet.random.keys import Key

T = TypeVar("T")


@frozen
class RandomShift(Settings):
    """Move each image by up to ``pixels`` pixels along each axis, filling with 0. Shapes: x (B, H, W, C).

    Example:
        >>> image = np.zeros((1, 3, 3, 1))
        >>> image[0, 1, 1] = 1
        >>> RandomShift(1)(Key(0), Batch(image, np.array([0]))).x[0, :, :, 0]
        array([[0., 0., 0.],
               [0., 0., 0.],
               [0., 0., 1.]])
    """

    pixels: int

    def check(self) -> None:
        """Check that pixels is an int of at least 0."""
        check_count("RandomShift", "pixels", self.pixels, low=0, high=MOST_PIXELS)

    def __call__(self, key: Key, batch: Batch[T], /) -> Batch[T]:
        """Return the batch with its images moved."""
        check_is_batch("RandomShift", batch)
        check_array("RandomShift", "x", batch.x, ("B", "H", "W", "C"))
        count, height, width = (int(size) for size in batch.x.shape[:3])
        side = 2 * self.pixels + 1
        drawn = minimum(uniform(key, (2, count)) * side, side - 1).astype(np.intp)
        downward, rightward = drawn[:, :, None, None]
        padded = np.pad(batch.x, ((0, 0), (self.pixels, self.pixels), (self.pixels, self.pixels), (0, 0)))
        rows: NDArray[np.intp] = downward + np.arange(height)[:, None]
        columns: NDArray[np.intp] = rightward + np.arange(width)
        moved: Array = padded[np.arange(count)[:, None, None], rows, columns]
        return evolve(batch, x=lock(np.ascontiguousarray(moved)))


@frozen
class RandomFlip(Settings):
    """Mirror each image left to right with probability ``rate``. Shapes: x (B, H, W, C).

    Example:
        >>> RandomFlip()(Key(0), Batch(np.array([[[[1.0], [2.0]]]]), np.array([0]))).x[0, 0, :, 0]
        array([2., 1.])
    """

    rate: float = 0.5

    def check(self) -> None:
        """Check that the rate is from 0 to below 1."""
        check_number("RandomFlip", "rate", self.rate, low=0, high=1, closed=True)

    def __call__(self, key: Key, batch: Batch[T], /) -> Batch[T]:
        """Return the batch with some of its images mirrored."""
        check_is_batch("RandomFlip", batch)
        check_array("RandomFlip", "x", batch.x, ("B", "H", "W", "C"))
        chosen = uniform(key, (len(batch.x), 1, 1, 1)) < self.rate
        flipped: Array = np.where(chosen, batch.x[:, :, ::-1], batch.x)
        return evolve(batch, x=lock(np.ascontiguousarray(flipped)))


@frozen
class RandomNoise(Settings):
    """Add normal noise with standard deviation ``deviation`` to each number. Shapes: x (B, ...).

    Example:
        >>> RandomNoise(0.1)(Key(0), Batch(np.zeros((1, 2)), np.array([0]))).x.round(3)
        array([[-0.22 , -0.065]])
    """

    deviation: float

    def check(self) -> None:
        """Check that the deviation is above 0."""
        check_number("RandomNoise", "deviation", self.deviation, low=0, high=INFINITY)

    def __call__(self, key: Key, batch: Batch[T], /) -> Batch[T]:
        """Return the batch with noise added to its inputs."""
        check_is_batch("RandomNoise", batch)
        check_array("RandomNoise", "x", batch.x, ("B", "..."))
        with np.errstate(all="ignore"):
            noise = (normal(key, batch.x.shape) * float(self.deviation)).astype(batch.x.dtype)
            return evolve(batch, x=lock(batch.x + noise))


register_name(RandomShift, "funcnet.RandomShift")
register_name(RandomFlip, "funcnet.RandomFlip")
register_name(RandomNoise, "funcnet.RandomNoise")
