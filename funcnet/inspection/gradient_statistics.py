"""Gradient statistics: the size of each gradient relative to its parameter, and dead units, as tables for plotting."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from funcnet.arithmetic import mean
from funcnet.core.arrays import Input, contiguous
from funcnet.core.checks import INFINITY, check_number
from funcnet.core.html import as_printed, paragraphs, table
from funcnet.core.trees import leaves
from funcnet.inspection.hints import UPDATE, Passed, hints_of, mode_hints
from funcnet.network.layer import Network
from funcnet.network.loss import Loss
from funcnet.network.passes import forward, layers_of, value_and_grad
from funcnet.optimizers.gradients import norm_of

T = TypeVar("T")


@frozen
class ParameterStatistics:
    """The norms of one parameter in a step. ``update_ratio`` is the update's norm over the parameter's, for plain SGD.

    A ratio of about 1e-3 is usual. With a much larger one, training is unstable; with a much smaller one, it is slow.
    """

    path: str
    layer: str
    norm: float
    gradient_norm: float
    update_ratio: float


@frozen
class ActivationStatistics:
    """The output of one layer over a batch: the mean of its magnitudes, and the share of units that are 0 in every row.

    A ReLU unit that is 0 for all examples is dead: it learns nothing from them.
    """

    path: str
    layer: str
    mean_magnitude: float
    dead_share: float


@frozen
class GradientStatistics:
    """The result of ``gradient_statistics``: one row per parameter, one row per layer, and hints.

    A hint is a sentence about what is probably wrong; a healthy step has none.
    """

    parameters: tuple[ParameterStatistics, ...]
    activations: tuple[ActivationStatistics, ...]
    hints: tuple[str, ...] = ()

    _repr_pretty_ = as_printed

    @property
    def table(self) -> dict[str, NDArray[Any]]:
        """The parameters' rows as columns: ``pandas.DataFrame(gradient_statistics(...).table)``."""
        return _columns(self.parameters, ("path", "layer", "norm", "gradient_norm", "update_ratio"))

    @property
    def activation_table(self) -> dict[str, NDArray[Any]]:
        """The layers' rows as columns."""
        return _columns(self.activations, ("path", "layer", "mean_magnitude", "dead_share"))

    def __str__(self) -> str:
        lines = [f"{'parameter':16} {'norm':>9} {'gradient':>9} {'update/norm':>11}"]
        lines += [f"{p.path:16} {p.norm:9.3g} {p.gradient_norm:9.3g} {p.update_ratio:11.2g}" for p in self.parameters]
        lines += [f"{'output of layer':16} {'magnitude':>9} {'dead':>9}"]
        lines += [f"{f'{a.path} {a.layer}':16} {a.mean_magnitude:9.3g} {a.dead_share:9.0%}" for a in self.activations]
        return "\n".join([*lines, *(f"hint: {hint}" for hint in self.hints)])

    def _repr_html_(self) -> str:
        parameters = [
            (p.path, p.layer, f"{p.norm:.3g}", f"{p.gradient_norm:.3g}", f"{p.update_ratio:.2g}")
            for p in self.parameters
        ]
        layers = [(a.path, a.layer, f"{a.mean_magnitude:.3g}", f"{a.dead_share:.0%}") for a in self.activations]
        return (
            table(("parameter", "layer", "norm", "gradient", "update/norm"), parameters, "llrrr")
            + table(("output of", "layer", "magnitude", "dead"), layers, "llrr")
            + paragraphs(f"hint: {hint}" for hint in self.hints)
        )


def _columns(rows: Sequence[object], names: Sequence[str]) -> dict[str, NDArray[Any]]:
    return {name: np.array([getattr(row, name) for row in rows]) for name in names}


def gradient_statistics(
    params: Network, x: Input, y: T, loss: Loss[T], *, learning_rate: float | None = None
) -> GradientStatistics:
    """Measure the norms of parameters and gradients, update-to-weight ratios, and shares of dead units, on one batch.

    The hints say what is probably wrong when training fails without a NaN. There is a hint if

    - a feature of the input of the first layer with weights has a root mean square above 10;
    - a layer sets more than 75% of its units to 0 in every row;
    - an output is above 100, or above 100 times the largest target;
    - the loss is above 3 times the loss of the best constant prediction;
    - an update is above 0.3 of its weight in norm, with the given learning rate;
    - a layer with a training form, such as Dropout, is in its plain form.

    The first, the second and the fourth need at least 16 rows.

    Args:
        params: The network.
        x: Inputs, shape (B, ...).
        y: Targets, as the loss expects them.
        loss: The loss.
        learning_rate: The factor of the gradient in ``update_ratio``. None is a factor of 1 without a hint.

    Raises:
        FuncnetError: If the network, x, y and the loss do not fit each other, or the loss is not finite.

    Example:
        >>> import funcnet as fn
        >>> net = fn.Dense(weight=np.array([[3.0, -4.0]]), bias=np.zeros(2)), fn.ReLU()
        >>> x, y = np.array([[1.0]]), np.array([1])
        >>> print(gradient_statistics(net, x, y, fn.softmax_cross_entropy, learning_rate=0.1))
        parameter             norm  gradient update/norm
        0.weight                 5     0.953       0.019
        0.bias                   0     0.953         inf
        output of layer  magnitude      dead
        0 Dense                3.5        0%
        1 ReLU                 1.5       50%
    """
    if learning_rate is not None:
        learning_rate = check_number("gradient_statistics", "learning_rate", learning_rate, low=0, high=INFINITY)
    value, grads = value_and_grad(params, x, y, loss)
    passed: list[Passed] = []
    for path, layer in layers_of(params):
        before = passed[-1].y if passed else contiguous(x)
        passed.append(Passed(path, layer, before, forward(layer, before)))
    parameters = _of_parameters(params, grads, 1.0 if learning_rate is None else learning_rate)
    updates = () if learning_rate is None else _update_hints(params, parameters, learning_rate)
    hints = (*hints_of(passed, y, loss, value), *updates, *mode_hints(params))
    return GradientStatistics(parameters, tuple(map(_of_activation, passed)), hints)


def _of_parameters(params: Network, grads: Network, learning_rate: float) -> tuple[ParameterStatistics, ...]:
    parameters: list[ParameterStatistics] = []
    for leaf, gradient in zip(leaves(params), leaves(grads), strict=True):
        if leaf.trained:
            norm, gradient_norm = norm_of([leaf.array]), norm_of([gradient.array])
            ratio = learning_rate * gradient_norm / norm if norm else INFINITY if gradient_norm else 0.0
            parameters.append(ParameterStatistics(leaf.path, type(leaf.record).__name__, norm, gradient_norm, ratio))
    return tuple(parameters)


def _of_activation(passed: Passed) -> ActivationStatistics:
    dead = (passed.y == 0).all(axis=0)
    share = float(np.count_nonzero(dead)) / dead.size
    with np.errstate(all="ignore"):  # an infinite mean is visible in the result
        magnitude = mean(np.abs(passed.y))
    return ActivationStatistics(passed.path, type(passed.layer).__name__, magnitude, share)


def _update_hints(params: Network, parameters: tuple[ParameterStatistics, ...], learning_rate: float) -> Iterator[str]:
    weights = {leaf.path for leaf in leaves(params) if leaf.role == "decayed"}  # biases may be 0
    rows = (row for row in parameters if row.path in weights and row.norm)
    largest = max(rows, key=lambda row: row.update_ratio, default=None)
    if largest is not None and largest.update_ratio > UPDATE:
        reason = f"an update changes {largest.path} by {largest.update_ratio:.2g} of its norm, and about 1e-3 is usual"
        yield f"{reason}; lower the learning rate of {learning_rate:g}"
