"""Gradient descent: ``sgd_update``, and SGD, Momentum and Nesterov as optimisers."""

from __future__ import annotations

import numpy as np
from attrs import frozen

from funcnet.arrays import Array, lock
from funcnet.layer import N
from funcnet.optimizers.protocol import Descent, PlannedUpdate, check_moments
from funcnet.plans import Memory, scalar
from funcnet.records import register_name
from funcnet.schedules import Schedule
from funcnet.settings import INFINITY, check_number
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
    check_number("sgd_update", "learning_rate", learning_rate, low=0, high=INFINITY)
    return descend(params, grads, float(learning_rate))  # a NumPy scalar would promote float32 arrays


def descend(params: N, direction: N, rate: float) -> N:
    """``p - rate * d`` for every trained array: what ``sgd_update`` does, for a rate that is known to be one."""

    def subtract(p: Array, d: Array) -> Array:
        new = np.empty_like(p)
        np.multiply(d, rate, out=new)
        np.subtract(p, new, out=new)
        return lock(new)

    return map_parameters(subtract, params, direction)


def planned_descent(p: Memory, direction: Memory, rate_of: Schedule) -> PlannedUpdate:
    """``descend`` in place; it overwrites the direction."""
    rate = np.empty((), p.flat.dtype)

    def update(step: int) -> None:
        rate[...] = rate_of(step)
        np.multiply(direction.flat, rate, direction.flat)
        np.subtract(p.flat, direction.flat, p.flat)

    return update


@frozen
class SGD(Descent):
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

    def count(self) -> int:
        """No moments."""
        return 0

    def update(self, params: N, grads: N, moments: tuple[N, ...], step: int, /) -> tuple[N, tuple[N, ...]]:
        """``sgd_update``."""
        check_moments("SGD", moments, 0)
        return descend(params, grads, self.rate(step)), moments

    def plan(self, p: Memory, g: Memory, moments: tuple[Memory, ...], /) -> PlannedUpdate:
        """``update`` in place."""
        self.flats(moments)
        return planned_descent(p, g, self.rate)


@frozen
class Momentum(Descent):
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

    momentum: float = 0.9

    def check(self) -> None:
        """Momentum is a share."""
        check_number(type(self).__name__, "momentum", self.momentum, low=0, high=1, closed=True)

    def update(self, params: N, grads: N, moments: tuple[N, ...], step: int, /) -> tuple[N, tuple[N, ...]]:
        """One step with the new velocity."""
        check_moments("Momentum", moments, 1)
        (velocity,) = moments
        decay = float(self.momentum)
        velocity = map_parameters(lambda v, g: lock(v * decay + g), velocity, grads)
        return descend(params, velocity, self.rate(step)), (velocity,)

    def plan(self, p: Memory, g: Memory, moments: tuple[Memory, ...], /) -> PlannedUpdate:
        """``update`` in place."""
        (velocity,) = self.flats(moments)
        decay, rate = scalar(self.momentum, p.flat), np.empty((), p.flat.dtype)

        def update(step: int) -> None:
            rate[...] = self.rate(step)
            np.multiply(velocity, decay, velocity)
            np.add(velocity, g.flat, velocity)
            np.multiply(velocity, rate, g.flat)
            np.subtract(p.flat, g.flat, p.flat)

        return update


@frozen
class Nesterov(Descent):
    """Momentum that looks ahead: ``v' = momentum * v + g``, ``p - learning_rate * (g + momentum * v')``.

    PyTorch's ``SGD(momentum=..., nesterov=True)``.

    Source: Nesterov, "A method of solving a convex programming problem with convergence rate O(1/k²)", 1983; Sutskever
    et al., "On the importance of initialization and momentum in deep learning", ICML 2013.

    Example:
        >>> import funcnet as fn
        >>> layer = fn.Dense(weight=np.array([[1.0]]), bias=np.array([0.0]))
        >>> grad = fn.Dense(weight=np.array([[2.0]]), bias=np.array([4.0]))
        >>> rule = Nesterov(learning_rate=0.25, momentum=0.5)
        >>> new, moments = rule.update(layer, grad, rule.init(layer), 0)
        >>> new.weight, moments[0].weight  # 1 - 0.25 * (2 + 0.5 * 2)
        (array([[0.25]]), array([[2.]]))
    """

    momentum: float = 0.9

    def check(self) -> None:
        """Momentum is a share."""
        check_number("Nesterov", "momentum", self.momentum, low=0, high=1, closed=True)

    def plan(self, p: Memory, g: Memory, moments: tuple[Memory, ...], /) -> PlannedUpdate:
        """The update in place."""
        (velocity,) = self.flats(moments)
        decay, descent = scalar(self.momentum, p.flat), planned_descent(p, g, self.rate)
        ahead = np.empty_like(velocity)

        def update(step: int) -> None:
            np.multiply(velocity, decay, velocity)
            np.add(velocity, g.flat, velocity)
            np.add(g.flat, np.multiply(velocity, decay, ahead), g.flat)
            descent(step)

        return update


register_name(SGD, "funcnet.SGD")
register_name(Momentum, "funcnet.Momentum")
register_name(Nesterov, "funcnet.Nesterov")
