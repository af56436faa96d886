"""The workloads: their sizes, and the data and initial weights that all contenders start from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.floating[Any]]
Precision: TypeAlias = Literal["float32", "float64"]
LEARNING_RATE: Final = 0.1


@dataclass(frozen=True)
class Workload:
    """The work to measure: a training epoch, or predicting all rows, of an MLP with ReLU between its layers.

    ``"images"`` is a training epoch of a LeNet, see ``images.py``; ``"normalized"`` is one of an MLP with LayerNorm,
    GELU and Dropout between its layers, trained by Adam.
    """

    name: str
    sizes: tuple[int, ...]
    batch_size: int
    rows: int
    kind: Literal["training", "prediction", "footprint", "images", "normalized"] = "training"

    @property
    def title(self) -> str:
        """The network and the work to measure."""
        if self.kind == "footprint":
            return "import time, installed size"
        if self.kind == "images":
            return f"LeNet on {' x '.join(map(str, self.sizes))} images, batch {self.batch_size}"
        layers = " with LayerNorm, GELU, Dropout and Adam" if self.kind == "normalized" else ""
        task = f"predict {self.rows:,} rows" if self.kind == "prediction" else f"batch {self.batch_size}"
        return f"{'-'.join(map(str, self.sizes))}{layers}, {task}"


WORKLOADS: Final = (
    Workload("W1", (784, 100, 200, 10), 32, 16_000),
    Workload("W2", (784, 100, 200, 10), 128, 16_000),
    Workload("W3", (784, 512, 512, 10), 64, 5_120),
    Workload("W4", (16, 32, 32, 10), 16, 16_000),
    Workload("W5", (784, 1024, 1024, 10), 256, 5_120),
    Workload("W6", (784, 100, 200, 10), 256, 50_000, "prediction"),
    Workload("W7", (), 0, 0, "footprint"),
    Workload("W8", (28, 28, 1), 32, 3_200, "images"),
    Workload("W9", (784, 128, 128, 10), 32, 8_000, "normalized"),
)


class Problem:
    """One workload's data: a fifth of the inputs in (0, 1), the rest 0, as in MNIST; labels of a fixed linear map.

    Weights use Glorot's normal initialization, biases are zero. Shapes: x (N, I), labels (N,), where N is a multiple
    of the batch size.
    """

    def __init__(self, workload: Workload, *, rows: int | None = None, shuffle: bool = True) -> None:
        wanted = workload.rows if rows is None else rows
        rng = np.random.default_rng(0)
        self.sizes = workload.sizes
        self.batch_size = min(workload.batch_size, wanted)
        self.steps = wanted // self.batch_size
        self.shuffle = shuffle
        shape = (self.steps * self.batch_size, self.sizes[0])
        drawn = rng.random(shape, np.float32)
        self.x32: Floats = np.maximum(drawn * 5 - 4, np.float32(0))
        self.labels: NDArray[np.int64] = (self.x32 @ rng.standard_normal((shape[1], self.sizes[-1]))).argmax(axis=1)
        self.weights = [rng.standard_normal(pair) * np.sqrt(2 / sum(pair)) for pair in pairwise(self.sizes)]

    @cached_property
    def x64(self) -> Floats:
        """The same inputs in float64."""
        return self.x32.astype(np.float64)

    def x(self, precision: Precision) -> Floats:
        """Return the inputs in one precision."""
        return self.x32 if precision == "float32" else self.x64
