"""The optimizer protocol: two pure functions, ``init`` and ``update``, and checks of their arguments and results."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol, cast

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from funcnet.core.checks import check_count, check_divisor, to_python
from funcnet.core.errors import ConfigError, StructureError
from funcnet.core.records import Settings
from funcnet.core.trees import map_parameters, trained_arrays
from funcnet.network.layer import N
from funcnet.optimizers.moments import INNER, Moments
from funcnet.optimizers.schedules import Schedule, check_rate, rate_at
from funcnet.tracing import attempt


class Optimizer(Protocol):
    """Two pure functions. The state between updates is the moments and the number of completed updates.

    Every update returns moments with the names that ``init`` gave them.
    """

    def init(self, params: N, /) -> Moments[N]:
        """Return the moments before the first update."""
        ...

    def update(self, params: N, grads: N, moments: Moments[N], step: int, /) -> tuple[N, Moments[N]]:
        """Return the parameters and moments after one more update."""
        ...


class RatedOptimizer(Optimizer, Protocol):
    """An optimizer with a method that returns its learning rate, which decoupled weight decay needs."""

    def rate(self, step: int, /) -> float:
        """Return the learning rate after ``step`` updates."""
        ...


def check_optimizer(subject: str, optimizer: object) -> None:
    """Check that a value has the two functions of an optimizer.

    Raises:
        ConfigError: If it does not; the message shows the value.
    """
    if isinstance(optimizer, type) or not all(callable(getattr(optimizer, name, None)) for name in ("init", "update")):
        raise ConfigError(f"optimizer must have init and update, got {optimizer!r:.80}", subject=subject)


def initial(optimizer: Optimizer, params: N) -> Moments[N]:
    """Return the optimizer's moments before the first update.

    Raises:
        StructureError: If the optimizer does not return moments; the message says what to return.
    """
    moments: Any = optimizer.init(params)
    if not isinstance(moments, Moments):
        raise _returned(optimizer, "init", "Moments.of(name=network, ...)", moments)
    return cast("Moments[N]", moments)


def updated(  # noqa: PLR0917  # the arguments of an update
    optimizer: Optimizer, params: N, grads: N, moments: Moments[N], step: int, total: float = 1.0
) -> tuple[N, Moments[N]]:
    """Return the parameters and moments after one more update. Only wrappers get the ``total`` of the gradients.

    Raises:
        StructureError: If the optimizer does not return parameters and moments; the message says what to return.
    """
    if isinstance(optimizer, Wrapper):
        made: Any = attempt(optimizer.update, params, grads, moments, step, total)
    else:
        made = attempt(optimizer.update, params, grads, moments, step)
    if not isinstance(made, tuple) or len(cast("tuple[object, ...]", made)) != 2 or not isinstance(made[1], Moments):
        raise _returned(optimizer, "update", "(params, Moments.of(name=network, ...))", cast("object", made))
    return cast("tuple[N, Moments[N]]", made)


def _returned(optimizer: Optimizer, name: str, wanted: str, got: object) -> StructureError:
    return StructureError(f"{name} must return {wanted}, got {got!r:.80}", subject=type(optimizer).__name__)


def zeros_like(params: N) -> N:
    """Return the network with zeros in every trained array, which is the initial value of most moments."""
    return map_parameters(lambda p: np.zeros_like(p), params)  # noqa: PLW0108  # an overloaded function has no single type


def check_moments(subject: str, moments: object, names: tuple[str, ...], *, around: bool = False) -> None:
    """Check that moments have the names that an optimizer gives them.

    Args:
        subject: The name of the optimizer, for messages.
        moments: The moments that the optimizer received.
        names: The names of the optimizer's own moments.
        around: Whether the moments of an inner optimizer follow.

    Raises:
        StructureError: If the names differ; the message shows the expected and the received names.
    """
    given = moments.names if isinstance(moments, Moments) else None
    rest = given[len(names) :] if given is not None and given[: len(names)] == names else None
    if rest is not None and (not rest or (around and all(name.startswith(INNER) for name in rest))):
        return
    wanted = (*names, f"{INNER}*") if around else names
    call = f"Moments.of({', '.join(f'{name}=...' for name in names)})"
    got = f"{moments!r:.80}, which is not {call}" if given is None else f"{given}"
    reason = "a run must continue with the optimizer that it began with"
    raise StructureError(f"moments must have the names {wanted}, got {got}; {reason}", subject=subject)


@frozen
class Descent(Settings):
    """The base of optimizers with a learning rate."""

    learning_rate: float | Schedule

    def __attrs_post_init__(self) -> None:
        check_rate(type(self).__name__, self.learning_rate)
        super().__attrs_post_init__()

    def rate(self, step: int, /) -> float:
        """Return the learning rate after ``step`` updates."""
        return rate_at(self.learning_rate, step)

    def names(self) -> tuple[str, ...]:
        """Return the names of the moments."""
        return ()

    def init(self, params: N, /) -> Moments[N]:
        """Return moments of zeros.

        Raises:
            ConfigError: If a number that keeps a quotient finite is 0 in the dtype of the parameters.
        """
        eps = self.divisor()
        for dtype in {array.dtype for array in trained_arrays(params)}:
            check_divisor(type(self).__name__, "eps", eps, dtype)
        return Moments.of(**{name: zeros_like(params) for name in self.names()})

    def divisor(self) -> float:
        """Return the number that keeps the quotient of an update finite, or 1 if the update does not divide."""
        return 1.0

    def check_moments(self, moments: object) -> None:
        """Check that moments belong to this optimizer.

        Raises:
            StructureError: If they do not.
        """
        check_moments(type(self).__name__, moments, self.names())


@frozen
class Wrapper(Settings):
    """The base of optimizers that wrap an optimizer, which is their field ``optimizer``."""

    optimizer: Optimizer

    def __attrs_post_init__(self) -> None:
        check_optimizer(type(self).__name__, self.optimizer)
        super().__attrs_post_init__()

    def rate(self, step: int, /) -> float:
        """Return the inner optimizer's learning rate after ``step`` updates."""
        return rated(self.optimizer, type(self).__name__).rate(step)

    def init(self, params: N, /) -> Moments[N]:
        """Return the inner optimizer's moments."""
        return initial(self.optimizer, params)

    def update(
        self, params: N, grads: N, moments: Moments[N], step: int, total: float = 1.0, /
    ) -> tuple[N, Moments[N]]:
        """Apply the inner update.

        Args:
            params: The network.
            grads: Its gradient: the mean over a batch.
            moments: The moments before the update.
            step: The number of completed steps.
            total: The number that this mean divides by, such as the number of rows.
        """
        return updated(self.optimizer, params, grads, moments, step, total)


def chain(optimizer: Optimizer) -> Iterator[Optimizer]:
    """Yield an optimizer and all optimizers inside it, from the outermost to the innermost."""
    yield optimizer
    while isinstance(optimizer, Wrapper):
        optimizer = optimizer.optimizer
        yield optimizer


def rate_of(optimizer: RatedOptimizer, step: int) -> float:
    """Return the learning rate after ``step`` updates as a Python number: a NumPy scalar would promote arrays."""
    return to_python(optimizer.rate(step))


def learning_rates(optimizer: Optimizer, steps: int) -> NDArray[np.float64]:
    """The learning rates of an optimizer's first steps, for a plot. Shape: (steps,).

    Raises:
        ConfigError: If steps is not an int of at least 0, or the optimizer does not have a learning rate.

    Example:
        >>> import funcnet as fn
        >>> learning_rates(fn.SGD(learning_rate=fn.step_decay(0.8, step_size=2, gamma=0.5)), 5)
        array([0.8, 0.8, 0.4, 0.4, 0.2])
    """
    steps = check_count("learning_rates", "steps", steps, low=0)
    return np.array([rated(optimizer, "learning_rates").rate(step) for step in range(steps)], np.float64)


def rated(optimizer: Optimizer, subject: str) -> RatedOptimizer:
    """Return the optimizer if it has a learning rate.

    Raises:
        ConfigError: If it does not have one.
    """
    if isinstance(optimizer, type) or not callable(getattr(optimizer, "rate", None)):
        fix = "give it a method rate(step)"
        raise ConfigError(f"the optimizer must have a learning rate, got {optimizer!r:.80}; {fix}", subject=subject)
    return cast("RatedOptimizer", optimizer)
