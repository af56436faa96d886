"""What an optimiser is: two pure functions and, optionally, a plan, the update on buffers in place.

The state between two updates is a tuple of networks, the moments, and the number of updates done.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeAlias, TypeGuard, cast

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from funcnet.arrays import Array, lock
from funcnet.errors import ConfigError, StructureError
from funcnet.layer import N, Network
from funcnet.plans import Memory
from funcnet.schedules import Schedule, check_rate, rate_at
from funcnet.settings import check_count
from funcnet.trees import check_alike, leaves, map_parameters, on_arrays

PlannedUpdate: TypeAlias = Callable[[int], None]
"""An update bound to buffers, called with the number of updates done."""


class Optimizer(Protocol):
    """Two pure functions; the state between two updates is a tuple of networks and the number of updates done."""

    def init(self, params: N, /) -> tuple[N, ...]:
        """The moments before the first update."""
        ...

    def update(self, params: N, grads: N, moments: tuple[N, ...], step: int, /) -> tuple[N, tuple[N, ...]]:
        """The parameters and moments after one more update."""
        ...


class PlannedOptimizer(Optimizer, Protocol):
    """An optimiser that also works on buffers."""

    def plan(self, p: Memory, g: Memory, moments: tuple[Memory, ...], /) -> PlannedUpdate:
        """The update of all parameters, in place: a function of the number of updates done. May overwrite g."""
        ...


class RatedOptimizer(Optimizer, Protocol):
    """An optimiser that says its learning rate: what decoupled weight decay needs."""

    def rate(self, step: int, /) -> float:
        """The learning rate after so many updates."""
        ...


def check_optimizer(subject: str, optimizer: object) -> None:
    """Check that a value has an optimiser's two functions.

    Raises:
        ConfigError: Says what it got.
    """
    if isinstance(optimizer, type) or not all(callable(getattr(optimizer, name, None)) for name in ("init", "update")):
        raise ConfigError(f"optimizer must have init and update, got {optimizer!r:.80}", subject=subject)


def is_planned(optimizer: Optimizer) -> TypeGuard[PlannedOptimizer]:
    """Whether an optimiser has a plan for its own update: a subclass with another update needs another plan.

    One around another has a plan if that has.
    """
    owner = next(kind for kind in type(optimizer).__mro__ if "update" in vars(kind))
    inner = getattr(optimizer, "optimizer", None)
    return (owner is Descent or "plan" in vars(owner)) and (inner is None or is_planned(cast("Optimizer", inner)))


def planned_decay(p: Memory, rate: Callable[[int], float], weight_decay: float) -> PlannedUpdate:
    """Decoupled weight decay in place: weights times ``1 - rate * weight_decay``, before an update."""
    kept = np.empty((), p.flat.dtype)

    def decay(step: int) -> None:
        kept[...] = 1.0 - rate(step) * float(weight_decay)
        for part in p.decayed:
            np.multiply(part, kept, part)

    return decay


def zeros_like(params: N) -> N:
    """The network with every trained array zero: where moments begin."""
    return map_parameters(lambda p: lock(np.zeros_like(p)), params)


def check_moments(subject: str, moments: object, count: int, *, more: bool = False) -> None:
    """Check that moments are as many networks as an optimiser keeps, or at least so many.

    Raises:
        StructureError: If they are not.
    """
    found = len(cast("tuple[object, ...]", moments)) if isinstance(moments, tuple) else None
    if found is None or found < count or (found != count and not more):
        reason = "a run goes on under the optimizer that it began with"
        wanted = f"a tuple of {count} networks{' or more' if more else ''}"
        raise StructureError(f"moments must be {wanted}, got {moments!r}; {reason}", subject=subject)


@frozen
class Descent:
    """The base of optimisers whose update is written once: on buffers, number by number, as ``plan``."""

    learning_rate: float | Schedule

    def __attrs_post_init__(self) -> None:
        check_rate(type(self).__name__, self.learning_rate)
        self.check()

    def check(self) -> None:
        """Raise if another setting is none."""

    def rate(self, step: int, /) -> float:
        """The learning rate after so many updates."""
        return rate_at(self.learning_rate, step)

    def count(self) -> int:
        """The number of moments."""
        return 1

    def init(self, params: N, /) -> tuple[N, ...]:
        """Moments of zero."""
        return tuple(zeros_like(params) for _ in range(self.count()))

    def update(self, params: N, grads: N, moments: tuple[N, ...], step: int, /) -> tuple[N, tuple[N, ...]]:
        """``plan`` on copies: what went in does not change."""
        check_moments(type(self).__name__, moments, self.count())
        check_alike(params, grads)
        for moment in moments:
            check_alike(params, moment)
        p, g, *rest = (_copies(network) for network in (params, grads, *moments))
        with np.errstate(all="ignore"):  # as in map_parameters
            for parts in zip(p, g, *rest, strict=True):
                self.plan(parts[0], parts[1], parts[2:])(step)
        new, *states = (
            on_arrays(network, iter([lock(part.flat) for part in parts]))
            for network, parts in zip((params, *moments), (p, *rest), strict=True)
        )
        return new, tuple(states)

    def plan(self, p: Memory, g: Memory, moments: tuple[Memory, ...], /) -> PlannedUpdate:
        """The update in place."""
        raise NotImplementedError

    def flats(self, moments: tuple[Memory, ...]) -> tuple[Array, ...]:
        """The moments' numbers, if they are as many as this optimiser keeps."""
        check_moments(type(self).__name__, moments, self.count())
        return tuple(moment.flat for moment in moments)


def _copies(network: Network) -> list[Memory]:
    arrays = [(leaf.array.copy(), leaf.role == "decayed") for leaf in leaves(network) if leaf.trained]
    return [Memory(array, (array,), (array,) if decayed else ()) for array, decayed in arrays]


def learning_rates(optimizer: Optimizer, steps: int) -> NDArray[np.float64]:
    """The learning rates of an optimiser's first steps, for a plot. Shape: (steps,).

    Raises:
        ConfigError: If steps is no int of at least 0, or the optimiser does not say its rate.

    Example:
        >>> import funcnet as fn
        >>> learning_rates(fn.SGD(learning_rate=fn.step_decay(0.8, step_size=2, gamma=0.5)), 5)
        array([0.8, 0.8, 0.4, 0.4, 0.2])
    """
    check_count("learning_rates", "steps", steps, low=0)
    return np.array([rated(optimizer, "learning_rates").rate(step) for step in range(int(steps))], np.float64)


def rated(optimizer: Optimizer, subject: str) -> RatedOptimizer:
    """The optimiser, if it says its learning rate.

    Raises:
        ConfigError: If it does not.
    """
    if isinstance(optimizer, type) or not callable(getattr(optimizer, "rate", None)):
        fix = "give it a method rate(step)"
        raise ConfigError(f"the optimizer must say its learning rate, got {optimizer!r:.80}; {fix}", subject=subject)
    return cast("RatedOptimizer", optimizer)
