"""Folds on buffers: the fold of a step with its buffers made once and every operation bound to them.

Nobody sees the buffers: a fold begins with a copy of the parameters and ends with another. Its bits are the plain
fold's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import accumulate
from typing import Generic, TypeAlias, TypeVar

import numpy as np
from attrs import frozen

from funcnet.arithmetic import NotPlannedError
from funcnet.arrays import Array, lock
from funcnet.data import Batch, check_is_batch
from funcnet.errors import NonFiniteError
from funcnet.layer import N
from funcnet.network import Loss
from funcnet.optimizers.protocol import PlannedUpdate
from funcnet.plans import Memory, copy, plan_loss, plan_network
from funcnet.settings import INFINITY
from funcnet.trees import leaves, on_arrays, trained_arrays

S = TypeVar("S")
T = TypeVar("T")
ALIGNMENT = 64


class Buffer(Generic[N]):
    """One piece of memory for all trained arrays of a network: ``flat`` is all of it, ``net`` the network on it."""

    def __init__(self, like: N, *, locked: bool) -> None:
        arrays = trained_arrays(like)
        dtype = arrays[0].dtype
        unit = ALIGNMENT // dtype.itemsize
        starts = [0, *accumulate(-(-array.size // unit) * unit for array in arrays)]
        self.flat: Array = np.zeros(starts[-1], dtype)
        self.parts = [
            self.flat[start : start + array.size].reshape(array.shape)
            for start, array in zip(starts, arrays, strict=False)
        ]
        decayed = [leaf.role == "decayed" for leaf in leaves(like) if leaf.trained]
        weights = tuple(part for part, weight in zip(self.parts, decayed, strict=True) if weight)
        self.memory = Memory(self.flat, tuple(self.parts), weights)
        self.read(like)
        self.net = on_arrays(like, iter([locked_view(part) if locked else part for part in self.parts]))

    def read(self, net: N) -> None:
        """Copy a network's trained arrays into the buffer."""
        for part, array in zip(self.parts, trained_arrays(net), strict=True):
            part[...] = array

    def value(self) -> N:
        """The network as a value, on memory of its own."""
        return on_arrays(self.net, iter([copy(part) for part in self.parts]))


def locked_view(array: Array) -> Array:
    """The array for those who may only read it."""
    return lock(array.view())


Planner: TypeAlias = Callable[[Memory, Memory, tuple[Memory, ...]], PlannedUpdate]
"""``(p, g, moments) -> update``: binds an update to buffers."""


class PlannedSteps(Generic[N, T]):
    """The network, its moments and one batch as buffers, and the operations of a step on them."""

    def __init__(
        self,
        params: N,
        moments: tuple[N, ...],
        update: Planner,
        loss: Loss[T],
        batch: Batch[T],
        *,
        keyed: Callable[[N, int], N] | None,
    ) -> None:
        self.params = Buffer(params, locked=True)
        self.arrays = trained_arrays(self.params.net)
        self.keyed = keyed
        self.moments = [Buffer(moment, locked=True) for moment in moments]
        self.x: Array = np.array(batch.x, order="C")
        grads = Buffer(params, locked=False)
        plan = plan_network(self.params.net if keyed is None else self.in_step(keyed, 0), self.x)
        self.enter = plan.enter
        g = np.empty_like(plan.output)
        self.forward = plan.forward
        self.loss = plan_loss(loss, locked_view(plan.output), g)
        self.backward = plan.backward(g, grads.net, None)
        self.update = update(self.params.memory, grads.memory, tuple(moment.memory for moment in self.moments))

    def in_step(self, keyed: Callable[[N, int], N], step: int) -> N:
        """The network as it is in a step, on the buffers: what makes it may copy arrays."""
        return on_arrays(keyed(self.params.net, step), iter(self.arrays))

    def fits(self, batch: Batch[T]) -> bool:
        """Whether the batch has the shape and dtype that the buffers were made for."""
        return fit(batch.x, self.x)

    def run(self, batch: Batch[T], step: int) -> float:
        """One step on a batch that fits: the loss before the update."""
        with np.errstate(all="ignore"):  # what is not finite is refused, here or at the epoch's end
            np.copyto(self.x, batch.x)
            if self.keyed is not None:
                self.enter(self.in_step(self.keyed, step))
            for operation in self.forward:
                operation()
            value = self.loss(batch.y, batch.weight)
            if not -INFINITY < value < INFINITY:
                raise NonFiniteError(f"the loss is {value}; the learning rate may be too high, or the logits too large")
            for operation in self.backward:
                operation()
            self.update(step)
            return value

    def read(self, params: N, moments: tuple[N, ...]) -> None:
        """Go on from these values."""
        self.params.read(params)
        for buffer, moment in zip(self.moments, moments, strict=True):
            buffer.read(moment)

    def values(self) -> tuple[N, tuple[N, ...]]:
        """The network and its moments as values."""
        return self.params.value(), tuple(moment.value() for moment in self.moments)


def fit(x: object, other: Array) -> bool:
    """Whether x is an array of the other's shape and dtype."""
    return type(x) is np.ndarray and x.shape == other.shape and x.dtype == other.dtype


@frozen(eq=False)
class PlannedFold(Generic[S, N, T]):
    """What a step must give so that its fold can run on buffers.

    ``split(state)`` is its network, its moments and the steps done; ``join(state, params, moments, steps)`` the state
    after so many more; ``keyed(params, steps)`` the network as it is in the step after so many, if it draws.
    """

    step: Callable[[S, Batch[T]], tuple[S, float]]
    loss: Loss[T]
    update: Planner
    split: Callable[[S], tuple[N, tuple[N, ...], int]]
    join: Callable[[S, N, tuple[N, ...], int], S]
    keyed: Callable[[N, int], N] | None = None

    def plan(self, state: S, batch: Batch[T]) -> PlannedSteps[N, T] | None:
        """The buffers for a state and batches like this one: of one dtype, with something to train, in plans."""
        params, moments, _ = self.split(state)
        dtypes = {array.dtype for array in trained_arrays(params)}
        if dtypes != {batch.x.dtype}:
            return None
        try:
            return PlannedSteps(params, moments, self.update, self.loss, batch, keyed=self.keyed)
        except NotPlannedError:
            return None

    def run(self, state: S, batches: Iterable[Batch[T]], losses: list[float]) -> S:
        """Fold the step over batches, on buffers from the second batch of a shape on; losses are appended."""
        planned: PlannedSteps[N, T] | None = None
        last: Batch[T] | None = None
        ahead, done, refused = 0, 0, False
        for batch in batches:
            check_is_batch(type(self.step).__name__, batch)
            if planned is None and not refused and last is not None and fit(batch.x, last.x):
                planned = self.plan(state, batch)
                refused = planned is None
            if planned is not None and planned.fits(batch):
                if not ahead:
                    params, moments, done = self.split(state)
                    planned.read(params, moments)
                try:
                    loss = planned.run(batch, done + ahead)
                except NonFiniteError:  # the plain step has the same bits, and says where it began
                    self.step(self.advanced(state, planned, ahead) if ahead else state, batch)
                    raise
                ahead += 1
            else:
                if planned is not None and ahead:
                    state = self.advanced(state, planned, ahead)
                    ahead = 0
                state, loss = self.step(state, batch)
            losses.append(loss)
            last = batch
        return state if planned is None or not ahead else self.advanced(state, planned, ahead)

    def advanced(self, state: S, planned: PlannedSteps[N, T], steps: int) -> S:
        """The state after so many steps on the buffers."""
        params, moments = planned.values()
        return self.join(state, params, moments, steps)
