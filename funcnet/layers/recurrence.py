"""Recurrence: what RNN, GRU and LSTM share. The loop over the steps of a sequence, forward and backward through time.

A cell computes the state after a step from the state before it, the drive ``x[t] @ weight + bias`` and the product
``h @ recurrent``. The drive is also called the input projection; the sum of drive and product is the preactivation. The
drives of all steps are computed ahead of the loop. A state is a tuple of arrays (B, H). The first one, h, is the output
of the step; an LSTM has a second one, its cell.

**Backward through time.** The loss depends on the state after step t through the output of step t and through the state
after step t + 1. Its gradient by that state is therefore the sum of ``g[t]`` and the gradient that step t + 1 passes
back. The loop goes from the last computed step to the first. Each step adds ``g[t]``, and its cell returns the
gradients by the drive and by the product. The latter passes ``grad_product @ recurrent.T`` back to h. All steps use the
same weights, so the gradient by a weight is a sum over all steps: one product after the loop.

Source: Werbos, "Backpropagation through time: what it does and how to do it", Proceedings of the IEEE 78 (1990).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Generic, NamedTuple, TypeAlias, TypeVar

import numpy as np
from attrs import frozen

from funcnet.arithmetic import matmul, matmul_each, sum_outer, sum_rows
from funcnet.core.arrays import Array, lock
from funcnet.layers.recurrent_records import Recurrent, check_sequence
from funcnet.network.inference import TILE

P = TypeVar("P", bound=Recurrent)
K = TypeVar("K")
State: TypeAlias = tuple[Array, ...]
"""The state between two steps: h, which is the output of the step, then what else the cell carries, each (B, H)."""


class Slopes(NamedTuple):
    """The gradients of one step: by h except through the product (None for 0), by the rest of the state, for each gate.

    Shapes: (B, H) each. The gates are in the order of the weight. ``products`` is empty if the cell adds drive and
    product, whose gradients are then equal.
    """

    h: Array | None
    others: State
    drives: tuple[Array, ...]
    products: tuple[Array, ...] = ()


@frozen
class Cell(Generic[P, K]):
    """The formulas of one step.

    Args:
        name: The name of the record.
        order: The gates in the order in which ``step`` gets them.
        adds: Whether the cell adds drive and product and does nothing else with them.
        initial: ``params -> arrays``: the trained initial state (H,), with None for zeros.
        step: ``(params, drive, product, state) -> (state, kept)``. Shapes: drive and product (G, B, H).
        backward: ``(params, state, kept, g) -> Slopes``, where g is the gradient by the state after the step, and kept
            is what ``step`` returned.
    """

    name: str
    order: tuple[int, ...]
    adds: bool
    initial: Callable[[P], tuple[Array | None, ...]]
    step: Callable[[P, Array, Array, State], tuple[State, K]]
    backward: Callable[[P, State, K, State], Slopes]


class Step(NamedTuple, Generic[K]):
    """A computed step: its position, the state before it, what the cell kept, and the state after it."""

    time: int
    before: State
    kept: K
    after: State


class Gradients(NamedTuple):
    """The gradients of a sequence.

    Shapes: x (B, T, I), weight (I, G * H), recurrent (H, G * H), drives and products (T * B, G * H), initial (B, H).
    """

    x: Array
    weight: Array
    recurrent: Array
    drives: Array
    products: Array
    initial: State


# -------------------------------------------------------------------------------------------------- forward


def recurrence_forward(cell: Cell[P, K], params: P, x: Array) -> Array:
    """The outputs of all steps, (B, T, H), or h after the step that is read last, (B, H)."""
    steps = _steps(cell, params, x, None)
    return steps[-1].after[0] if params.outputs == "last" else _outputs(params, steps)


def recurrence_unrolled(cell: Cell[P, K], params: P, x: Array, state: State | None) -> tuple[Array, State]:
    """The outputs of all steps, (B, T, H), and the state after the step that is read last."""
    steps = _steps(cell, params, x, state)
    return _outputs(params, steps), steps[-1].after


def _steps(cell: Cell[P, K], params: P, x: Array, state: State | None) -> list[Step[K]]:
    """Read the sequence; return the steps in the order in which they are computed."""
    check_sequence(cell.name, params, x)
    drives, recurrent = _drives(cell, params, x), _by_gate(cell, params, params.recurrent)
    before = _initial(cell, params, len(x)) if state is None else state
    steps: list[Step[K]] = []
    for time in range(x.shape[1])[:: -1 if params.reverse else 1]:
        after, kept = cell.step(params, drives[time], matmul_each(before[0], recurrent), before)
        steps.append(Step(time, before, kept, _where_valid(params, time, after, before)))
        before = steps[-1].after
    return steps


def _drives(cell: Cell[P, K], params: P, x: Array) -> list[Array]:
    """``x @ weight + bias`` of each step. Shapes: x (B, T, I), result (G, B, H) each.

    One product for all steps is fast. A batch that ``outputs(rowwise=True)`` may compute has one product per step: only
    in a product of a few rows does BLAS round a row independently of its position.
    """
    batch, count, in_size = x.shape
    per = 1 if batch <= TILE else count
    weight = _by_gate(cell, params, params.weight)
    drives = matmul_each(_by_time(x).reshape(count // per, 1, per * batch, in_size), weight)
    if params.bias is not None:
        drives = drives + _by_gate(cell, params, params.bias[None])
    by_step = drives.reshape(count // per, len(weight), per, batch, len(params.recurrent))
    return [by_step[time // per, :, time % per] for time in range(count)]


def _by_time(x: Array) -> Array:
    """The numbers with the first two axes exchanged, in C order."""
    return x.swapaxes(0, 1).copy()


def _by_gate(cell: Cell[P, K], params: P, weight: Array) -> Array:
    """The part of each gate, in the order of the cell. Shapes: weight (I, G * H), result (G, I, H)."""
    parts = weight.reshape(len(weight), len(cell.order), len(params.recurrent)).swapaxes(0, 1)
    return parts[list(cell.order)]


def _initial(cell: Cell[P, K], params: P, batch: int) -> State:
    zeros = _zeros(batch, len(params.recurrent), params.recurrent.dtype)
    return tuple(zeros if each is None else zeros + each for each in cell.initial(params))


@lru_cache(maxsize=16)
def _zeros(batch: int, size: int, dtype: np.dtype[np.floating]) -> Array:
    """Zeros, the same object in forward and backward: a trace then computes what both have in common once."""
    return lock(np.zeros((batch, size), dtype))


def _where_valid(params: Recurrent, time: int, valid: State, padded: State) -> State:
    """The first arrays in rows whose step is valid, the second ones in rows whose step is padding."""
    if params.mask is None:
        return valid
    rows = params.mask[:, time, None] != 0
    return tuple(np.where(rows, new, old) for new, old in zip(valid, padded, strict=True))


def _outputs(params: Recurrent, steps: list[Step[K]]) -> Array:
    y: Array = np.concatenate([step.after[0][:, None] for step in _by_position(steps)], axis=1)
    return _without_padding(params.mask, y)


def _by_position(steps: list[Step[K]]) -> list[Step[K]]:
    return sorted(steps, key=lambda step: step.time)


def _without_padding(mask: Array | None, y: Array) -> Array:
    """The numbers with 0 at padded steps. Shapes: mask (B, T), y (B, T, H), or mask (T, B), y (T, B, H)."""
    return y if mask is None else np.where(mask[:, :, None] != 0, y, y.dtype.type(0))


# ------------------------------------------------------------------------------------------------- backward


def recurrence_backward(cell: Cell[P, K], params: P, x: Array, g: Array) -> Gradients:
    """Backward through time; this file's first lines have the derivation. Shapes: g (B, T, H) or (B, H)."""
    steps, last = _steps(cell, params, x, None), params.outputs == "last"
    zeros = _zeros(len(x), len(params.recurrent), x.dtype)
    carried: State = (g if last else zeros, *(zeros for _ in steps[0].before[1:]))
    g = g if last else _by_time(_without_padding(params.mask, g))
    drives = np.empty_like(x, shape=(len(steps), len(x), params.weight.shape[1]))
    products = drives if cell.adds else np.empty_like(drives)
    for step in reversed(steps):
        total = carried if last else (carried[0] + g[step.time], *carried[1:])
        slopes = cell.backward(params, step.before, step.kept, total)
        for rows, gates in ((drives, slopes.drives), (products, slopes.products)):
            _put(rows[step.time], gates)
        by_h = matmul(products[step.time], params.recurrent.T)
        by_h = by_h if slopes.h is None else by_h + slopes.h
        carried = _where_valid(params, step.time, (by_h, *slopes.others), total)
    return _summed(params, x, steps, (drives, products), carried)


def _put(rows: Array, gates: State) -> None:
    """Write the gates side by side. Shapes: rows (B, G * H), gates (B, H) each."""
    for gate, part in enumerate(gates):
        size = part.shape[1]
        rows[:, gate * size : (gate + 1) * size] = part


def _summed(params: Recurrent, x: Array, steps: list[Step[K]], found: tuple[Array, Array], initial: State) -> Gradients:
    """The gradients from those by drives and products, which count at valid steps. Shapes: found (T, B, G * H) each."""
    mask = None if params.mask is None else params.mask.T
    valid = (_without_padding(mask, each) for each in found)
    drives, products = (each.reshape(len(steps) * len(x), each.shape[2]) for each in valid)
    before = np.concatenate([step.before[0] for step in _by_position(steps)])
    by_time = _by_time(x)
    weight = sum_outer(by_time.reshape(len(drives), x.shape[2]), drives)
    grad_x = _by_time(matmul(drives, params.weight.T).reshape(by_time.shape))
    return Gradients(grad_x, weight, sum_outer(before, products), drives, products, initial)


def sum_if(field: Array | None, rows: Array) -> Array | None:
    """The gradient by a vector that is added to every row, the sum of the rows; None for a field that is None."""
    return None if field is None else sum_rows(rows)
