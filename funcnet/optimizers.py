"""The update, separate from the gradient: ``sgd_update``, and optimisers as records of two pure functions.

An optimiser's state, its moments, is a tuple of networks: ``()`` for SGD, ``(velocity,)`` for Momentum.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeGuard, cast

import numpy as np
from attrs import frozen

from funcnet.arrays import Array, lock
from funcnet.errors import StructureError
from funcnet.layer import N
from funcnet.plans import scalar
from funcnet.records import register_name
from funcnet.settings import check_number
from funcnet.trees import map_parameters


def sgd_update(params: N, grads: N, *, learning_rate: float) -> N:
    """One step of gradient descent: ``p - learning_rate * g`` for every trained array p, in p's dtype.

    Raises:
        StructureError: If the gradients have another structure; the message has both.
        ConfigError: If the learning rate is not above 0 and finite.

    Example:
        >>> import funcnet as fn
        >>> layer = fn.Dense(weight=np.array([[1.0]]), bias=np.array([0.0]))
        >>> grad = fn.Dense(weight=np.array([[2.0]]), bias=np.array([1.0]))
        >>> new = sgd_update(layer, grad, learning_rate=0.1)
        >>> new.weight, new.bias, layer.weight
        (array([[0.8]]), array([-0.1]), array([[1.]]))
    """
    check_number("sgd_update", "learning_rate", learning_rate, low=0, high=float("inf"))
    rate = float(learning_rate)  # a NumPy scalar would promote float32 arrays

    def descend(p: Array, g: Array) -> Array:
        new = np.empty_like(p)
        np.multiply(g, rate, out=new)
        np.subtract(p, new, out=new)
        return lock(new)

    return map_parameters(descend, params, grads)


def zeros_like(params: N) -> N:
    """The network with every trained array zero: where moments begin."""
    return map_parameters(lambda p: lock(np.zeros_like(p)), params)


def _check_moments(subject: str, moments: object, count: int) -> None:
    if not isinstance(moments, tuple) or len(cast("tuple[object, ...]", moments)) != count:
        reason = "a run goes on under the optimizer that it began with"
        raise StructureError(f"moments must be a tuple of {count} networks, got {moments!r}; {reason}", subject=subject)


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

    def plan(self, p: Array, g: Array, moments: tuple[Array, ...], /) -> Callable[[int], None]:
        """The update of all parameters, as one flat buffer, in place: a function of the steps done. May overwrite g."""
        ...


def is_planned(optimizer: Optimizer) -> TypeGuard[PlannedOptimizer]:
    """Whether an optimiser has a plan for its own update: a subclass with another update needs another plan."""
    owner = next(kind for kind in type(optimizer).__mro__ if "update" in vars(kind))
    return "plan" in vars(owner)


def planned_sgd(p: Array, g: Array, learning_rate: float) -> Callable[[int], None]:
    """``sgd_update`` in place."""
    rate = scalar(learning_rate, p)

    def update(_: int) -> None:
        np.multiply(g, rate, g)
        np.subtract(p, g, p)

    return update


@frozen
class SGD:
    """Gradient descent: ``p - learning_rate * g``. It has no moments.

    Source: Robbins and Monro, "A stochastic approximation method", Annals of Mathematical Statistics 22 (1951).

    Example:
        >>> import funcnet as fn
        >>> layer = fn.Dense(weight=np.array([[1.0]]), bias=np.array([0.0]))
        >>> grad = fn.Dense(weight=np.array([[2.0]]), bias=np.array([4.0]))
        >>> new, _ = SGD(learning_rate=0.25).update(layer, grad, (), 0)
        >>> new.weight, new.bias  # 1 - 0.25 * 2 and 0 - 0.25 * 4
        (array([[0.5]]), array([-1.]))
    """

    learning_rate: float

    def __attrs_post_init__(self) -> None:
        check_number("SGD", "learning_rate", self.learning_rate, low=0, high=float("inf"))

    def init(self, params: N, /) -> tuple[N, ...]:  # noqa: ARG002  # the protocol's
        """No moments."""
        return ()

    def update(self, params: N, grads: N, moments: tuple[N, ...], step: int, /) -> tuple[N, tuple[N, ...]]:  # noqa: ARG002
        """``sgd_update``."""
        _check_moments("SGD", moments, 0)
        return sgd_update(params, grads, learning_rate=self.learning_rate), moments

    def plan(self, p: Array, g: Array, moments: tuple[Array, ...], /) -> Callable[[int], None]:  # noqa: ARG002
        """``update`` in place."""
        return planned_sgd(p, g, self.learning_rate)


@frozen
class Momentum:
    """Gradient descent with a heavy ball: ``v' = momentum * v + g``, ``p - learning_rate * v'`` (PyTorch's form).

    Source: Polyak, "Some methods of speeding up the convergence of iteration methods", 1964; Sutskever et al., "On the
    importance of initialization and momentum in deep learning", ICML 2013, with the rate outside the velocity.

    Example:
        >>> import funcnet as fn
        >>> layer = fn.Dense(weight=np.array([[1.0]]), bias=np.array([0.0]))
        >>> grad = fn.Dense(weight=np.array([[2.0]]), bias=np.array([4.0]))
        >>> heavy = Momentum(learning_rate=0.25, momentum=0.5)
        >>> new, moments = heavy.update(layer, grad, heavy.init(layer), 0)
        >>> new.weight, moments[0].weight  # 1 - 0.25 * 2
        (array([[0.5]]), array([[2.]]))
        >>> newer, moments = heavy.update(new, grad, moments, 1)
        >>> newer.weight, moments[0].weight  # 0.5 - 0.25 * 3, and 0.5 * 2 + 2
        (array([[-0.25]]), array([[3.]]))
    """

    learning_rate: float
    momentum: float = 0.9

    def __attrs_post_init__(self) -> None:
        check_number("Momentum", "learning_rate", self.learning_rate, low=0, high=float("inf"))
        check_number("Momentum", "momentum", self.momentum, low=0, high=1, closed=True)

    def init(self, params: N, /) -> tuple[N, ...]:
        """A velocity of zero."""
        return (zeros_like(params),)

    def update(self, params: N, grads: N, moments: tuple[N, ...], step: int, /) -> tuple[N, tuple[N, ...]]:  # noqa: ARG002
        """One step with the new velocity."""
        _check_moments("Momentum", moments, 1)
        (velocity,) = moments
        decay = float(self.momentum)
        velocity = map_parameters(lambda v, g: lock(v * decay + g), velocity, grads)
        return sgd_update(params, velocity, learning_rate=self.learning_rate), (velocity,)

    def plan(self, p: Array, g: Array, moments: tuple[Array, ...], /) -> Callable[[int], None]:
        """``update`` in place."""
        (velocity,) = moments
        decay, rate = scalar(self.momentum, p), scalar(self.learning_rate, p)

        def update(_: int) -> None:
            np.multiply(velocity, decay, velocity)
            np.add(velocity, g, velocity)
            np.multiply(velocity, rate, g)
            np.subtract(p, g, p)

        return update


register_name(SGD, "funcnet.SGD")
register_name(Momentum, "funcnet.Momentum")
