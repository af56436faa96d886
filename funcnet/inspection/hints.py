"""Hints: plain sentences about what is probably wrong in a training step whose numbers are all finite.

Each hint has a fixed threshold, far from the values of healthy training. A hint about a share or a mean over the batch
needs at least ``ROWS`` rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, TypeVar, cast

import numpy as np
from attrs import frozen

from funcnet.arithmetic import mean_rows, using
from funcnet.core.arrays import AnyArray, Array
from funcnet.core.errors import FuncnetError
from funcnet.core.trees import is_trained, leaves
from funcnet.network.layer import Layer, Network
from funcnet.network.loss import Loss
from funcnet.network.modes import not_in_training

T = TypeVar("T")

ROWS: Final = 16
"""The smallest batch for hints about features, dead units and the loss: a live unit is 0 in half of the rows."""

FEATURE: Final = 10.0
"""The largest usual root mean square of a feature of the input; a standardized feature has 1."""

OUTPUT: Final = 100.0
"""The largest usual output, in units of the largest target, or of 1 for class ids: softmax saturates below 100."""

DEAD: Final = 0.75
"""The largest usual share of units that a layer sets to 0 in every row."""

UPDATE: Final = 0.3
"""The largest usual norm of an update in units of the norm of its weight; about 1e-3 is usual."""

LOSS: Final = 3.0
"""The largest usual loss, in units of the loss of the best constant prediction; a new network is near 1 to 2."""


@frozen(eq=False)
class Passed:
    """A layer in a forward pass: its path, its input and its output."""

    path: str
    layer: Layer
    x: Array
    y: Array

    def __str__(self) -> str:
        return f"layer {self.path} ({type(self.layer).__name__})" if self.path else type(self.layer).__name__


def mode_hints(params: Network) -> Iterator[str]:
    """A hint for the first layer that has a training form but is in its plain form."""
    for path, layer in not_in_training(params):
        place = f" (layer {'.'.join(map(str, path))})" if path else ""
        fix = "for the numbers of a training step, pass training(net, key)"
        yield f"{type(layer).__name__}{place} acts as in evaluation; {fix}"
        return


def hints_of(passed: Sequence[Passed], y: T, loss: Loss[T], value: float) -> Iterator[str]:
    """The hints about a forward pass with this loss, in order: input, dead units, output, loss."""
    with using("native"), np.errstate(all="ignore"):  # native arithmetic computes with infinities, too
        yield from _input_hints(passed)
        yield from _dead_hints(passed)
        if passed:
            yield from _output_hints(passed[-1].y, y)
            yield from _loss_hints(passed[-1].y, y, loss, value)


def _input_hints(passed: Sequence[Passed]) -> Iterator[str]:
    first = next((each for each in passed if any(leaf.role == "decayed" for leaf in leaves(each.layer))), None)
    if first is None or len(first.x) < ROWS or first.x.dtype.kind != "f" or not first.x.size:
        return
    rows = first.x.reshape(len(first.x), -1).astype(np.float64)
    sizes = np.sqrt(mean_rows(rows * rows))
    if sizes.max() > FEATURE:
        largest = f"feature {sizes.argmax()} of its input has a root mean square of {sizes.max():.3g}"
        yield f"{first}: {largest}, and about 1 is usual; scale the inputs, for example with (standardize(x), *net)"


def _dead_hints(passed: Sequence[Passed]) -> Iterator[str]:
    for each in passed:
        if len(each.x) < ROWS or each.x.shape != each.y.shape or is_trained(each.layer):
            continue
        rows = tuple(range(each.y.ndim - 1))
        live = (each.x != 0).any(axis=rows)  # a unit that is 0 before the layer is not the layer's own
        dead = live & (each.y == 0).all(axis=rows)
        share = np.count_nonzero(dead) / max(dead.size, 1)
        if share > DEAD:
            fix = "they learn nothing; start again with a lower learning rate or scaled inputs"
            yield f"{each}: {share:.0%} of its units are 0 in every row, so {fix}"


def _output_hints(output: Array, y: object) -> Iterator[str]:
    numbers = isinstance(y, np.ndarray) and cast("AnyArray", y).dtype.kind == "f" and cast("AnyArray", y).size
    scale = max(1.0, float(np.abs(cast("Array", y)).max())) if numbers else 1.0
    largest = float(np.abs(output).max()) if output.size else 0.0
    if largest > OUTPUT * scale:
        to = f", and the largest target is {scale:.3g}" if numbers else ", and class ids need logits below 100"
        yield f"the largest output is {largest:.3g}{to}; lower the learning rate, or scale the inputs"


def _loss_hints(output: Array, y: T, loss: Loss[T], value: float) -> Iterator[str]:
    if len(output) < ROWS:
        return
    constants: list[Array] = [np.zeros_like(output)]
    target: object = y
    if isinstance(target, np.ndarray):
        numbers = cast("Array", target)
        if numbers.dtype == output.dtype and numbers.shape == output.shape:
            constants.append(np.broadcast_to(mean_rows(numbers).astype(output.dtype), output.shape).copy())
    try:
        best = min(loss(constant, y)[0] for constant in constants)
    except FuncnetError:
        return
    if 0 < LOSS * best < value:
        reason = f"the loss is {value:.3g}, and that of a constant prediction is {best:.3g}"
        yield f"{reason}; lower the learning rate, or scale inputs and targets"
