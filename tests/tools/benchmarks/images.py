"""The LeNet for the image workload: its sizes, and the data and initial weights that all contenders start from.

Its layers: convolution of 5 x 5 ("same") to 6 channels, ReLU, maximum of 2 x 2; convolution of 5 x 5 to 16 channels,
ReLU, maximum of 2 x 2; then 400-120-84-10 with ReLU between the layers.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from benchmarks.workloads import Problem, Workload

KERNELS: Final = ((5, 5, 1, 6), (5, 5, 6, 16))
SIZES: Final = ((400, 120), (120, 84), (84, 10))


class ImageProblem(Problem):
    """Images with a fifth of bright pixels, and labels from a fixed linear map. Shapes: x (N, 28, 28, 1), labels (N,).

    Kernels use He initialization, matrices Glorot initialization, and biases are zero.
    """

    def __init__(self, workload: Workload, *, rows: int | None = None, shuffle: bool = True) -> None:
        height, width, channels = workload.sizes
        flat = Workload(workload.name, (height * width * channels, 10), workload.batch_size, workload.rows)
        super().__init__(flat, rows=rows, shuffle=shuffle)
        rng = np.random.default_rng(1)
        self.x32 = self.x32.reshape(-1, height, width, channels)
        self.weights = [rng.standard_normal(shape) * np.sqrt(2 / np.prod(shape[:3])) for shape in KERNELS]
        self.weights += [rng.standard_normal(pair) * np.sqrt(2 / sum(pair)) for pair in SIZES]


def problem_of(workload: Workload, *, rows: int | None = None, shuffle: bool = True) -> Problem:
    """Return the problem of a workload's kind."""
    kind = ImageProblem if workload.kind == "images" else Problem
    return kind(workload, rows=rows, shuffle=shuffle)
