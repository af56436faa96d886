"""What an optimizer is: two pure functions, ``init`` and ``update``, and the checks of what they take and return."""

from __future__ import annotations

from typing import Any, Protocol, cast

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from funcnet.core.checks import check_count
from funcnet.core.errors import ConfigError, StructureError
from funcnet.core.trees import map_parameters
from funcnet.network.layer import N
from funcnet.optimizers.moments import INNER, Moments
from funcnet.optimizers.schedules import Schedule, check_rate, rate_at
from funcnet.tracing import attempt


class Optimizer(Protocol):
    """Two pure functions; the state between two updates is the moments and the number of updates done.

    Every update returns moments with the names that ``init`` gave.
    """

    def init(self, params: N, /) -> Moments[N]:
        """The moments before the first update."""
        ...

    def update(self, params: N, grads: N, moments: Moments[N], step: int, /) -> tuple[N, Moments[N]]:
        """The parameters and moments after one more update."""
        ...


class RatedOptimizer(Optimizer, Protocol):
    """An optimizer that says its learning rate: what decoupled weight decay needs."""

    def rate(self, step: int, /) -> float:
        """The learning rate after so many updates."""
        ...


def check_optimizer(subject: str, optimizer: object) -> None:
    """Check that a value has an optimizer's two functions.

    Raises:
        ConfigError: Says what it got.
    """
    if isinstance(optimizer, type) or not all(callable(getattr(optimizer, name, None)) for name in ("init", "update")):
        raise ConfigError(f"optimizer must have init and update, got {optimizer!r:.80}", subject=subject)


def initial(optimizer: Optimizer, params: N) -> Moments[N]:
    """The optimizer's moments before the first update.

    Raises:
        StructureError: If the optimizer returns something else; says what to return.
    """
    moments: Any = optimizer.init(params)
    if not isinstance(moments, Moments):
        raise _returned(optimizer, "init", "Moments.of(name=network, ...)", moments)
    return cast("Moments[N]", moments)


def updated(optimizer: Optimizer, params: N, grads: N, moments: Moments[N], step: int) -> tuple[N, Moments[N]]:
    """The parameters and moments after one more update.

    Raises:
        StructureError: If the optimizer returns something else; says what to return.
    """
    made: Any = attempt(optimizer.update, params, grads, moments, step)
    if not isinstance(made, tuple) or len(cast("tuple[object, ...]", made)) != 2 or not isinstance(made[1], Moments):
        raise _returned(optimizer, "update", "(params, Moments.of(name=network, ...))", cast("object", made))
    return cast("tuple[N, Moments[N]]", made)


def _returned(optimizer: Optimizer, name: str, wanted: str, got: object) -> StructureError:
    return StructureError(f"{name} must return {wanted}, got {got!r:.80}", subject=type(optimizer).__name__)


def zeros_like(params: N) -> N:
    """The network with every trained array zero: where moments begin."""
    return map_parameters(lambda p: np.zeros_like(p), params)  # noqa: PLW0108  # an overloaded function has no one type


def check_moments(subject: str, moments: object, names: tuple[str, ...], *, around: bool = False) -> None:
    """Check that moments have the names that an optimizer gives them.

    Args:
        subject: The optimizer.
        moments: What it got.
        names: Its own names.
        around: Whether an inner optimizer's moments follow.

    Raises:
        StructureError: If they have not; says both.
    """
    given = moments.names if isinstance(moments, Moments) else None
    rest = given[len(names) :] if given is not None and given[: len(names)] == names else None
    if rest is not None and (not rest or (around and all(name.startswith(INNER) for name in rest))):
        return
    wanted = (*names, f"{INNER}*") if around else names
    call = f"Moments.of({', '.join(f'{name}=...' for name in names)})"
    got = f"{moments!r:.80}, which is not {call}" if given is None else f"{given}"
    reason = "a run goes on under the optimizer that it began with"
    raise StructureError(f"moments must have the names {wanted}, got {got}; {reason}", subject=subject)


@frozen
class Descent:
    """The base of optimizers with a learning rate."""

    learning_rate: float | Schedule

    def __attrs_post_init__(self) -> None:
        check_rate(type(self).__name__, self.learning_rate)
        self.check()

    def check(self) -> None:
        """Raise if another setting is invalid."""

    def rate(self, step: int, /) -> float:
        """The learning rate after so many updates."""
        return rate_at(self.learning_rate, step)

    def names(self) -> tuple[str, ...]:
        """The names of the moments."""
        return ()

    def init(self, params: N, /) -> Moments[N]:
        """Moments of zero."""
        return Moments.of(**{name: zeros_like(params) for name in self.names()})

    def check_moments(self, moments: object) -> None:
        """Check that moments are this optimizer's.

        Raises:
            StructureError: If they are not.
        """
        check_moments(type(self).__name__, moments, self.names())


def rate_of(optimizer: RatedOptimizer, step: int) -> float:
    """The learning rate after so many updates as a Python number: one of NumPy's would promote float32 arrays."""
    rate: Any = optimizer.rate(step)
    return cast("float", rate.item() if isinstance(rate, np.generic | np.ndarray) else rate)


def learning_rates(optimizer: Optimizer, steps: int) -> NDArray[np.float64]:
    """The learning rates of an optimizer's first steps, for a plot. Shape: (steps,).

    Raises:
        ConfigError: If steps is no int of at least 0, or the optimizer does not say its rate.

    Example:
        >>> import funcnet as fn
        >>> learning_rates(fn.SGD(learning_rate=fn.step_decay(0.8, step_size=2, gamma=0.5)), 5)
        array([0.8, 0.8, 0.4, 0.4, 0.2])
    """
    check_count("learning_rates", "steps", steps, low=0)
    return np.array([rated(optimizer, "learning_rates").rate(step) for step in range(int(steps))], np.float64)


def rated(optimizer: Optimizer, subject: str) -> RatedOptimizer:
    """The optimizer, if it says its learning rate.

    Raises:
        ConfigError: If it does not.
    """
    if isinstance(optimizer, type) or not callable(getattr(optimizer, "rate", None)):
        fix = "give it a method rate(step)"
        raise ConfigError(f"the optimizer must say its learning rate, got {optimizer!r:.80}; {fix}", subject=subject)
    return cast("RatedOptimizer", optimizer)
