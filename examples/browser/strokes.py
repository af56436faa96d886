"""Turns strokes that a reader draws into an image like those of scikit-learn's digits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

import funcnet as fn

Strokes = Sequence[Sequence[tuple[float, float]]]
"""The points of each stroke, (x, y) from the top left corner, in any unit."""

SIDE: Final = 32
"""The side of the bitmap from which an image is made, as in the source of the digits."""

PEN: Final = 2.3
"""Half the width of a line on that bitmap: images have as much ink as those of the digits."""


def image_of(strokes: Strokes) -> fn.Array:
    """Return an image of 8 by 8 pixels from 0 to 1. Shape: (1, 64).

    As in the source of the digits, the strokes fill a bitmap of 32 by 32 dots, in their own proportions, and a pixel is
    the share of black dots in a square of 4 by 4. Without a point, all pixels are 0.

    Source: Alpaydin and Kaynak, "Optical recognition of handwritten digits", UCI Machine Learning Repository (1998).
    """
    bitmap = np.zeros((SIDE, SIDE), np.float32)
    points = [point for stroke in strokes for point in stroke]
    if points:
        low, high = np.min(points, axis=0), np.max(points, axis=0)
        scale = (SIDE - 2 * PEN) / max(float((high - low).max()), 1e-9)
        down, across = np.mgrid[:SIDE, :SIDE] + 0.5
        for stroke in strokes:
            placed = (np.array(stroke) - (low + high) / 2) * scale + SIDE / 2
            for begin, end in zip(placed, placed[1:] if len(placed) > 1 else placed, strict=False):
                bitmap[distances(across, down, begin, end) <= PEN] = 1
    image: fn.Array = bitmap.reshape(8, 4, 8, 4).mean(axis=(1, 3)).reshape(1, 64)
    return image


def distances(x: fn.Array, y: fn.Array, begin: fn.Array, end: fn.Array) -> fn.Array:
    """Return the distance of each point of the plane from the line between two points."""
    along = end - begin
    length = max(float(along @ along), 1e-12)
    share = np.clip(((x - begin[0]) * along[0] + (y - begin[1]) * along[1]) / length, 0, 1)
    return np.asarray(np.hypot(x - begin[0] - share * along[0], y - begin[1] - share * along[1]))
