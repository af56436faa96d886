"""The contenders: a trainer or a predictor per library, each in the best form that its users would write."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from importlib import import_module
from importlib.util import find_spec, module_from_spec
from types import ModuleType
from typing import Final, Protocol
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray

from benchmarks.workloads import Floats, Precision, Problem, Workload


class Trainer(Protocol):
    """A network, its data and its optimizer, ready to train."""

    def start(self) -> None:
        """Restore the problem's initial weights. This is not timed."""
        ...

    def epoch(self) -> float:
        """Train one epoch, in a new random order if the problem shuffles, complete on return; return the mean loss."""
        ...

    def weights(self) -> list[Floats]:
        """Return the trained weights of every layer, shape (I, O)."""
        ...


class Program(Protocol):
    """A step's traced program: ``funcnet.StepProgram``."""

    @property
    def calls(self) -> int:
        """The number of NumPy calls per step."""
        ...

    @property
    def nbytes(self) -> int:
        """The bytes of memory that the program works on."""
        ...

    @property
    def seconds(self) -> float:
        """The time for tracing and compiling."""
        ...


class Programmed(Trainer, Protocol):
    """A trainer that gives the program of its step."""

    def program(self) -> Program:
        """Trace and compile the step again."""
        ...


Predictor = Callable[[], NDArray[np.integer]]
"""A function that returns the class of every row of the problem, shape (N,)."""


@dataclass(frozen=True)
class Entry:
    """A line of the table: ``module:function`` creates the contender once its library is known to be installed.

    ``only`` names the workloads that it is measured in; empty means all.
    """

    name: str
    precision: Precision
    maker: str
    library: str = "numpy"
    same_result: bool = True
    only: tuple[str, ...] = ()

    @property
    def installed(self) -> bool:
        """Whether the library can be imported."""
        return find_spec(self.library) is not None

    def of_release(self, library: str) -> Entry:
        """Return the same entry for another release of its library, which is importable under this name."""
        return replace(self, name=self.name.replace(self.library, library, 1), library=library)

    def _make(self, problem: Problem) -> object:
        module, _, function = self.maker.partition(":")
        return getattr(_contender(f"benchmarks.contenders.{module}", self.library), function)(problem)

    def trainer(self, problem: Problem) -> Trainer:
        """Return the contender of a training workload."""
        made: Trainer = self._make(problem)  # type: ignore[assignment]
        return made

    def programmed(self, problem: Problem) -> Programmed:
        """Return the contender of a training workload, if it is funcnet's."""
        made: Programmed = self._make(problem)  # type: ignore[assignment]
        return made

    def predictor(self, problem: Problem) -> Predictor:
        """Return the contender of a prediction workload."""
        made: Predictor = self._make(problem)  # type: ignore[assignment]
        return made


@cache
def _contender(name: str, library: str) -> ModuleType:
    """Return a contender's module; for another release of funcnet, load it again with that release as ``funcnet``."""
    if name != FUNCTIONAL or library == "funcnet":
        return import_module(name)
    spec = find_spec(name)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    with patch.dict(sys.modules, funcnet=import_module(library)):
        spec.loader.exec_module(module)
    return module


FUNCTIONAL: Final = "benchmarks.contenders.functional"
FUNCNET: Final = "funcnet float32"
POST: Final = "the post's NumPy"
FLOOR: Final = {"float32": "products alone float32", "float64": "products alone float64"}

TRAINERS: Final = (
    Entry(FLOOR["float32"], "float32", "products:train32", same_result=False),
    Entry(FLOOR["float64"], "float64", "products:train64", same_result=False),
    Entry(FUNCNET, "float32", "functional:train32", "funcnet"),
    Entry("funcnet float64", "float64", "functional:train64", "funcnet"),
    Entry("funcnet float32, Momentum", "float32", "functional:train_momentum", "funcnet", same_result=False),
    Entry("funcnet float32, Adam", "float32", "functional:train_adam", "funcnet", same_result=False, only=("W1", "W4")),
    Entry("funcnet float32, user's layer", "float32", "functional:train_users", "funcnet", only=("W1", "W4")),
    Entry("funcnet float32, portable", "float32", "functional:train_portable", "funcnet", only=("W1", "W2")),
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
NORMALIZED_TRAINERS: Final = (
    Entry(FLOOR["float32"], "float32", "products:train32", same_result=False),
    Entry(FUNCNET, "float32", "functional:train_normalized", "funcnet", same_result=False),
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


def trainers(workload: Workload) -> list[Entry]:
    """Return the contenders of a training workload whose libraries are installed."""
    of_kind = {"training": TRAINERS, "images": IMAGE_TRAINERS, "normalized": NORMALIZED_TRAINERS}
    entries = of_kind.get(workload.kind, ())
    return [entry for entry in entries if entry.installed and (not entry.only or workload.name in entry.only)]
