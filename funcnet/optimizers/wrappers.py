"""Optimisers around an optimiser: clipping, decoupled weight decay, accumulated gradients, averaged weights.

In ``ClipByGlobalNorm(Averaging(AdamW(learning_rate=1e-3)), max_norm=1.0)`` the outer one sees the gradients first, and
its moments come first.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import numpy as np
from attrs import frozen

from funcnet.arrays import Array, lock
from funcnet.errors import ConfigError
from funcnet.layer import N
from funcnet.optimizers.gradients import clip_by_global_norm, clip_by_value, clipping_factor
from funcnet.optimizers.protocol import (
    Optimizer,
    PlannedOptimizer,
    PlannedUpdate,
    check_moments,
    check_optimizer,
    planned_decay,
    rated,
    zeros_like,
)
from funcnet.plans import Memory, scalar
from funcnet.records import Tree, check_tree, evolve, fields_of, register_name
from funcnet.settings import INFINITY, check_count, check_number
from funcnet.trees import map_parameters


@frozen
class Wrapper:
    """The base of optimisers around an optimiser, which is their field ``optimizer``."""

    optimizer: Optimizer

    def __attrs_post_init__(self) -> None:
        check_optimizer(type(self).__name__, self.optimizer)
        self.check()

    def check(self) -> None:
        """Raise if a setting is none."""

    def rate(self, step: int, /) -> float:
        """The inner optimiser's learning rate after so many updates."""
        return rated(self.optimizer, type(self).__name__).rate(step)

    def init(self, params: N, /) -> tuple[N, ...]:
        """The inner optimiser's moments."""
        return self.optimizer.init(params)

    def planned(self, p: Memory, g: Memory, moments: tuple[Memory, ...]) -> PlannedUpdate:
        """The inner optimiser's plan."""
        return cast("PlannedOptimizer", self.optimizer).plan(p, g, moments)


@frozen
class ClipByValue(Wrapper):
    """An optimiser that gets its gradients through ``clip_by_value``.

    Args:
        optimizer: What updates.
        limit: The largest size of an element.

    Example:
        >>> import funcnet as fn
        >>> ClipByValue(fn.SGD(learning_rate=0.1), limit=1.0)
        ClipByValue(optimizer=SGD(learning_rate=0.1), limit=1.0)
    """

    limit: float

    def check(self) -> None:
        """The limit is above 0."""
        check_number("ClipByValue", "limit", self.limit, low=0, high=INFINITY)

    def update(self, params: N, grads: N, moments: tuple[N, ...], step: int, /) -> tuple[N, tuple[N, ...]]:
        """The inner update with clipped gradients."""
        return self.optimizer.update(params, clip_by_value(grads, self.limit), moments, step)

    def plan(self, p: Memory, g: Memory, moments: tuple[Memory, ...], /) -> PlannedUpdate:
        """``update`` in place."""
        inner, low, high = self.planned(p, g, moments), scalar(-self.limit, g.flat), scalar(self.limit, g.flat)

        def update(step: int) -> None:
            np.clip(g.flat, low, high, g.flat)
            inner(step)

        return update


@frozen
class ClipByGlobalNorm(Wrapper):
    """An optimiser that gets its gradients through ``clip_by_global_norm``.

    Args:
        optimizer: What updates.
        max_norm: The largest global norm.

    Example:
        >>> import funcnet as fn
        >>> ClipByGlobalNorm(fn.SGD(learning_rate=0.1), max_norm=1.0)
        ClipByGlobalNorm(optimizer=SGD(learning_rate=0.1), max_norm=1.0)
    """

    max_norm: float

    def check(self) -> None:
        """The norm is above 0."""
        check_number("ClipByGlobalNorm", "max_norm", self.max_norm, low=0, high=INFINITY)

    def update(self, params: N, grads: N, moments: tuple[N, ...], step: int, /) -> tuple[N, tuple[N, ...]]:
        """The inner update with clipped gradients."""
        return self.optimizer.update(params, clip_by_global_norm(grads, self.max_norm), moments, step)

    def plan(self, p: Memory, g: Memory, moments: tuple[Memory, ...], /) -> PlannedUpdate:
        """``update`` in place."""
        inner, scale = self.planned(p, g, moments), np.empty((), g.flat.dtype)

        def update(step: int) -> None:
            factor = clipping_factor(g.parts, self.max_norm)
            if factor is not None:
                scale[...] = factor
                np.multiply(g.flat, scale, g.flat)
            inner(step)

        return update


@frozen
class WeightDecay(Wrapper):
    """An optimiser with decoupled weight decay: first ``p * (1 - rate * weight_decay)``, for fields of type ``Weight``.

    ``rate`` is the inner optimiser's. Around ``Adam`` it is ``AdamW``. PyTorch's other optimisers add ``weight_decay *
    p`` to the gradient of every parameter instead: for plain SGD, and if all is decayed, that is the same.

    Args:
        optimizer: What updates.
        weight_decay: 0 or more.

    Source: Loshchilov and Hutter, "Decoupled weight decay regularization", ICLR 2019.

    Example:
        >>> import funcnet as fn
        >>> WeightDecay(fn.SGD(learning_rate=0.1), weight_decay=1e-4)
        WeightDecay(optimizer=SGD(learning_rate=0.1), weight_decay=0.0001)
    """

    weight_decay: float

    def check(self) -> None:
        """The decay is 0 or more, and the inner optimiser says its rate."""
        check_number("WeightDecay", "weight_decay", self.weight_decay, low=0, high=INFINITY, closed=True)
        rated(self.optimizer, "WeightDecay")
        if any(isinstance(inner, Accumulation) for inner in chain(self.optimizer)):
            reason = "it would decay in steps without an update"
            raise ConfigError(f"put WeightDecay inside of Accumulation; outside, {reason}", subject="WeightDecay")

    def update(self, params: N, grads: N, moments: tuple[N, ...], step: int, /) -> tuple[N, tuple[N, ...]]:
        """The inner update of smaller weights."""
        kept = 1.0 - self.rate(step) * float(self.weight_decay)
        check_tree("WeightDecay", params)
        with np.errstate(all="ignore"):  # as in map_parameters
            decayed = cast("N", _decayed(params, kept))
        return self.optimizer.update(decayed, grads, moments, step)

    def plan(self, p: Memory, g: Memory, moments: tuple[Memory, ...], /) -> PlannedUpdate:
        """``update`` in place."""
        inner, decay = self.planned(p, g, moments), planned_decay(p, self.rate, self.weight_decay)

        def update(step: int) -> None:
            decay(step)
            inner(step)

        return update


def _decayed(params: Tree, kept: float) -> Tree:
    if isinstance(params, tuple):
        return tuple(_decayed(inner, kept) for inner in params)
    fields = fields_of(type(params))
    arrays: dict[str, Array | None] = {name: getattr(params, name) for name in fields.trained if name in fields.decayed}
    changes: dict[str, object] = {name: lock(array * kept) for name, array in arrays.items() if array is not None}
    for name in fields.networks:
        changes[name] = _decayed(getattr(params, name), kept)
    return evolve(params, **changes) if changes else params


@frozen
class Accumulation(Wrapper):
    """An optimiser that updates once in ``steps`` steps, with the mean of their gradients: a large batch in parts.

    In the steps between, the parameters stay. It keeps one moment, the sum so far. To the inner optimiser and its
    schedule only updates count.

    Args:
        optimizer: What updates.
        steps: How many gradients make an update.

    Example:
        >>> import funcnet as fn
        >>> Accumulation(fn.SGD(learning_rate=0.1), steps=4)
        Accumulation(optimizer=SGD(learning_rate=0.1), steps=4)
    """

    steps: int

    def check(self) -> None:
        """Steps are counted."""
        check_count("Accumulation", "steps", self.steps)

    def rate(self, step: int, /) -> float:
        """The inner optimiser's learning rate."""
        check_count("Accumulation", "step", step, low=0)
        return super().rate(step // self.steps)

    def init(self, params: N, /) -> tuple[N, ...]:
        """A sum of zero, and the inner moments."""
        return (zeros_like(params), *super().init(params))

    def update(self, params: N, grads: N, moments: tuple[N, ...], step: int, /) -> tuple[N, tuple[N, ...]]:
        """A longer sum, or the inner update."""
        check_moments("Accumulation", moments, 1, more=True)
        check_count("Accumulation", "step", step, low=0)
        total = map_parameters(lambda s, g: lock(s + g), moments[0], grads)
        if (step + 1) % self.steps:
            return params, (total, *moments[1:])
        average = map_parameters(lambda s: lock(s / s.dtype.type(self.steps)), total)
        params, inner = self.optimizer.update(params, average, moments[1:], step // self.steps)
        return params, (zeros_like(total), *inner)

    def plan(self, p: Memory, g: Memory, moments: tuple[Memory, ...], /) -> PlannedUpdate:
        """``update`` in place."""
        total, inner, size = moments[0].flat, self.planned(p, g, moments[1:]), scalar(self.steps, p.flat)

        def update(step: int) -> None:
            np.add(total, g.flat, total)
            if (step + 1) % self.steps == 0:
                np.divide(total, size, g.flat)
                inner(step // self.steps)
                total.fill(0.0)

        return update


@frozen
class Averaging(Wrapper):
    """An optimiser that also keeps a moving average of the parameters: ``averaged(state)`` is that network.

    The average is exponential, ``a' = a + (1 - decay) * (p' - a)``, and after the first update ``p'`` itself, as in
    PyTorch's ``AveragedModel`` with ``get_ema_multi_avg_fn``. It is one moment, and changes no update.

    Args:
        optimizer: What updates.
        decay: What stays of the average in a step.

    Source: Polyak and Juditsky, "Acceleration of stochastic approximation by averaging", SIAM Journal on Control and
    Optimization 30 (1992), for averages of parameters.

    Example:
        >>> import funcnet as fn
        >>> Averaging(fn.SGD(learning_rate=0.1), decay=0.99)
        Averaging(optimizer=SGD(learning_rate=0.1), decay=0.99)
    """

    decay: float = 0.999

    def check(self) -> None:
        """The decay is a share."""
        check_number("Averaging", "decay", self.decay, low=0, high=1, closed=True)

    def init(self, params: N, /) -> tuple[N, ...]:
        """The parameters, and the inner moments."""
        return (params, *super().init(params))

    def update(self, params: N, grads: N, moments: tuple[N, ...], step: int, /) -> tuple[N, tuple[N, ...]]:
        """The inner update, and the average after it."""
        check_moments("Averaging", moments, 1, more=True)
        check_count("Averaging", "step", step, low=0)
        average, fresh = moments[0], 1.0 - self.decay
        params, inner = self.optimizer.update(params, grads, moments[1:], step)
        if step:
            average = map_parameters(lambda a, p: lock(a + (p - a) * fresh), average, params)
        else:
            average = map_parameters(lambda _, p: p, average, params)
        return params, (average, *inner)

    def plan(self, p: Memory, g: Memory, moments: tuple[Memory, ...], /) -> PlannedUpdate:
        """``update`` in place."""
        average, inner = moments[0].flat, self.planned(p, g, moments[1:])
        fresh, free = scalar(1.0 - self.decay, p.flat), np.empty_like(p.flat)

        def update(step: int) -> None:
            inner(step)
            if step:
                np.multiply(np.subtract(p.flat, average, free), fresh, free)
                np.add(average, free, average)
            else:
                np.copyto(average, p.flat)

        return update


def chain(optimizer: Optimizer) -> Iterator[Optimizer]:
    """An optimiser and all inside of it, from the outer to the inner."""
    yield optimizer
    while isinstance(optimizer, Wrapper):
        optimizer = optimizer.optimizer
        yield optimizer


def average_in(optimizer: Optimizer, moments: tuple[N, ...], subject: str) -> N | None:
    """The averaged network among an optimiser's moments; None if none is kept.

    Raises:
        StructureError: If it should be there and is not.
    """
    for each in chain(optimizer):
        if isinstance(each, Averaging):
            check_moments(subject, moments, 1, more=True)
            return moments[0]
        moments = moments[isinstance(each, Accumulation) :]
    return None


for _wrapper in (ClipByValue, ClipByGlobalNorm, WeightDecay, Accumulation, Averaging):
    register_name(_wrapper, f"funcnet.{_wrapper.__name__}")
