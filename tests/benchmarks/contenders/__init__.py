"""Who is compared: a trainer or a predictor a library, each in the best form that its users would write."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from benchmarks.workloads import Floats, Precision, Problem


class Trainer(Protocol):
    """A network, its data and its optimiser, ready to train."""

    def start(self) -> None:
        """Go back to the problem's initial weights. Not timed."""
        ...

    def epoch(self) -> float:
        """One epoch, in a new random order if the problem shuffles; all work is done on return. The mean loss."""
        ...

    def weights(self) -> list[Floats]:
        """What the epoch has trained: every layer's weight, shape (I, O)."""
        ...


Predictor = Callable[[], NDArray[np.integer]]
"""The class of every row of the problem, shape (N,)."""


@dataclass(frozen=True)
class Entry:
    """A line of the table: ``module:function`` makes the contender, once its library is known to be there."""

    name: str
    precision: Precision
    maker: str
    library: str = "numpy"
    same_result: bool = True

    @property
    def installed(self) -> bool:
        """Whether the library can be imported."""
        return find_spec(self.library) is not None

    def _make(self, problem: Problem) -> object:
        module, _, function = self.maker.partition(":")
        return getattr(import_module(f"benchmarks.contenders.{module}"), function)(problem)

    def trainer(self, problem: Problem) -> Trainer:
        """The contender of a training workload."""
        made: Trainer = self._make(problem)  # type: ignore[assignment]
        return made

    def predictor(self, problem: Problem) -> Predictor:
        """The contender of a prediction workload."""
        made: Predictor = self._make(problem)  # type: ignore[assignment]
        return made


FUNCNET: Final = "funcnet float32"
POST: Final = "the post's NumPy"
FLOOR: Final = {"float32": "products alone float32", "float64": "products alone float64"}

TRAINERS: Final = (
    Entry(FLOOR["float32"], "float32", "products:train32", same_result=False),
    Entry(FLOOR["float64"], "float64", "products:train64", same_result=False),
    Entry(FUNCNET, "float32", "functional:train32", "funcnet"),
    Entry("funcnet float64", "float64", "functional:train64", "funcnet"),
    Entry("funcnet float32, Momentum", "float32", "functional:train_momentum", "funcnet", same_result=False),
    Entry(POST, "float64", "post:train"),
    Entry("PyTorch eager", "float32", "pytorch:train", "torch"),
    Entry("JAX, jit a step", "float32", "compiled:train_steps", "jax"),
    Entry("JAX, jit an epoch", "float32", "compiled:train_epochs", "jax"),
    Entry("scikit-learn", "float32", "estimator:train", "sklearn"),
)
PLAIN: Final = "plain im2col NumPy"
IMAGE_TRAINERS: Final = (
    Entry(FLOOR["float32"], "float32", "products:train_images", same_result=False),
    Entry(FUNCNET, "float32", "functional:train_images", "funcnet"),
    Entry(PLAIN, "float32", "im2col:train"),
    Entry("PyTorch eager", "float32", "pytorch:train_images", "torch"),
)
PREDICTORS: Final = (
    Entry(FLOOR["float32"], "float32", "products:predict32", same_result=False),
    Entry(FLOOR["float64"], "float64", "products:predict64", same_result=False),
    Entry(FUNCNET, "float32", "functional:predict32", "funcnet"),
    Entry("funcnet float64", "float64", "functional:predict64", "funcnet"),
    Entry(POST, "float64", "post:predict"),
    Entry("PyTorch eager", "float32", "pytorch:predict", "torch"),
    Entry("JAX, jit", "float32", "compiled:predict", "jax"),
    Entry("scikit-learn", "float32", "estimator:predict", "sklearn"),
)
