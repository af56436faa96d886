"""Optimisers with a rate a parameter, from its own gradients so far: Adagrad, RMSprop, Adam and AdamW."""

from __future__ import annotations

import numpy as np
from attrs import frozen

from funcnet.arithmetic.scalars import integer_power
from funcnet.arrays import Array, lock
from funcnet.errors import ConfigError
from funcnet.layer import N
from funcnet.optimizers.protocol import Descent, PlannedUpdate, planned_decay
from funcnet.plans import Memory, scalar
from funcnet.records import register_name
from funcnet.settings import INFINITY, check_number
from funcnet.trees import map_parameters


@frozen
class Adagrad(Descent):
    """``s' = s + g²``, ``p - rate * g / (sqrt(s') + eps)``, where ``rate = learning_rate / (1 + step * lr_decay)``.

    PyTorch's ``Adagrad``.

    Args:
        learning_rate: A number above 0 or a schedule.
        lr_decay: How fast the rate falls with the number of updates done.
        initial_accumulator_value: Where s begins.
        eps: Keeps the quotient finite.

    Source: Duchi, Hazan and Singer, "Adaptive subgradient methods for online learning and stochastic optimization",
    JMLR 12 (2011).

    Example:
        >>> import funcnet as fn
        >>> layer = fn.Dense(weight=np.array([[1.0]]), bias=np.array([0.0]))
        >>> grad = fn.Dense(weight=np.array([[2.0]]), bias=np.array([4.0]))
        >>> rule = Adagrad(learning_rate=0.25)
        >>> new, moments = rule.update(layer, grad, rule.init(layer), 0)
        >>> new.weight.round(6), moments[0].weight  # 1 - 0.25 * 2 / sqrt(2 * 2)
        (array([[0.75]]), array([[4.]]))
    """

    lr_decay: float = 0.0
    initial_accumulator_value: float = 0.0
    eps: float = 1e-10

    def check(self) -> None:
        """The settings are PyTorch's, and eps is above 0."""
        check_number("Adagrad", "lr_decay", self.lr_decay, low=0, high=INFINITY, closed=True)
        value = self.initial_accumulator_value
        check_number("Adagrad", "initial_accumulator_value", value, low=0, high=INFINITY, closed=True)
        check_number("Adagrad", "eps", self.eps, low=0, high=INFINITY)

    def init(self, params: N, /) -> tuple[N, ...]:
        """The initial sum of squares."""
        value = float(self.initial_accumulator_value)
        return (map_parameters(lambda p: lock(np.full_like(p, value)), params),)

    def rate(self, step: int, /) -> float:
        """The learning rate after so many updates."""
        return super().rate(step) / (1.0 + step * float(self.lr_decay))

    def plan(self, p: Memory, g: Memory, moments: tuple[Memory, ...], /) -> PlannedUpdate:
        """The update in place."""
        (total,) = self.flats(moments)
        eps, rate, root = scalar(self.eps, p.flat), np.empty((), p.flat.dtype), np.empty_like(p.flat)

        def update(step: int) -> None:
            rate[...] = self.rate(step)
            np.add(total, np.multiply(g.flat, g.flat, root), total)
            np.add(np.sqrt(total, root), eps, root)
            subtract_quotient(p.flat, g.flat, root, rate)

        return update


@frozen
class RMSprop(Descent):
    """``s' = alpha * s + (1 - alpha) * g²``, ``p - learning_rate * g / (sqrt(s') + eps)``. PyTorch's ``RMSprop``.

    Args:
        learning_rate: A number above 0 or a schedule.
        alpha: What stays of the mean square.
        eps: Keeps the quotient finite.
        momentum: Above 0, the quotients are summed to a velocity, as Momentum's gradients are.
        centered: Divide by the deviation, ``sqrt(s' - m'²)``, where m is the mean gradient.

    Source: Tieleman and Hinton, "Neural networks for machine learning", lecture 6.5, 2012; Graves, "Generating
    sequences with recurrent neural networks", 2013, for the centered form.

    Example:
        >>> import funcnet as fn
        >>> layer = fn.Dense(weight=np.array([[1.0]]), bias=np.array([0.0]))
        >>> grad = fn.Dense(weight=np.array([[2.0]]), bias=np.array([4.0]))
        >>> rule = RMSprop(learning_rate=0.025)
        >>> new, moments = rule.update(layer, grad, rule.init(layer), 0)
        >>> new.weight.round(6), moments[0].weight.round(6)  # (1 - 0.99) * 2 * 2, and 1 - 0.025 * 2 / 0.2
        (array([[0.75]]), array([[0.04]]))
    """

    alpha: float = 0.99
    eps: float = 1e-8
    momentum: float = 0.0
    centered: bool = False

    def check(self) -> None:
        """Shares are shares."""
        check_number("RMSprop", "alpha", self.alpha, low=0, high=1, closed=True)
        check_number("RMSprop", "eps", self.eps, low=0, high=INFINITY)
        check_number("RMSprop", "momentum", self.momentum, low=0, high=1, closed=True)
        if not isinstance(self.centered, bool):
            raise ConfigError(f"centered must be True or False, got {self.centered!r}", subject="RMSprop")

    def count(self) -> int:
        """The mean square, the velocity if there is momentum, the mean if centered."""
        return 1 + (self.momentum > 0) + self.centered

    def plan(self, p: Memory, g: Memory, moments: tuple[Memory, ...], /) -> PlannedUpdate:
        """The update in place."""
        square, *rest = self.flats(moments)
        mean = rest.pop() if self.centered else None
        velocity = rest.pop() if self.momentum > 0 else None
        alpha, beta = scalar(self.alpha, p.flat), scalar(1.0 - self.alpha, p.flat)
        eps, decay, rate = scalar(self.eps, p.flat), scalar(self.momentum, p.flat), np.empty((), p.flat.dtype)
        root, zero = np.empty_like(p.flat), scalar(0, p.flat)

        def update(step: int) -> None:
            rate[...] = self.rate(step)
            decay_to_square(square, g.flat, alpha, beta, root)
            if mean is None:
                np.sqrt(square, root)
            else:
                move(mean, g.flat, beta, root)
                np.subtract(square, np.multiply(mean, mean, root), root)
                np.sqrt(np.maximum(root, zero, out=root), root)  # rounding may leave less than nothing
            np.add(root, eps, root)
            if velocity is None:
                subtract_quotient(p.flat, g.flat, root, rate)
            else:
                np.multiply(velocity, decay, velocity)
                np.add(velocity, np.divide(g.flat, root, root), velocity)
                np.subtract(p.flat, np.multiply(velocity, rate, root), p.flat)

        return update


@frozen
class Adam(Descent):
    """``p - learning_rate * m / (sqrt(s) + eps)``, m the mean gradient and s the mean square, free of their start.

    With ``betas = (a, b)``: ``m' = a m + (1 - a) g`` and ``s' = b s + (1 - b) g²``, from zero; after t updates they are
    divided by ``1 - a^t`` and ``1 - b^t``. PyTorch's ``Adam``, but it has no ``weight_decay``: take ``AdamW``.

    Source: Kingma and Ba, "Adam: A method for stochastic optimization", ICLR 2015, algorithm 1.

    Example:
        >>> import funcnet as fn
        >>> layer = fn.Dense(weight=np.array([[1.0]]), bias=np.array([0.0]))
        >>> grad = fn.Dense(weight=np.array([[2.0]]), bias=np.array([4.0]))
        >>> rule = Adam(learning_rate=0.25, betas=(0.5, 0.75))
        >>> new, moments = rule.update(layer, grad, rule.init(layer), 0)
        >>> moments[0].weight, moments[1].weight  # (1 - 0.5) * 2, and (1 - 0.75) * 2 * 2
        (array([[1.]]), array([[1.]]))
        >>> new.weight.round(6)  # 1 - 0.25 * (1 / 0.5) / sqrt(1 / 0.25)
        array([[0.75]])
    """

    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8

    def check(self) -> None:
        """Betas are two shares."""
        name = type(self).__name__
        if not isinstance(self.betas, tuple) or len(self.betas) != 2:
            raise ConfigError(f"betas must be a tuple of two numbers, got {self.betas!r}", subject=name)
        for beta in self.betas:
            check_number(name, "each of betas", beta, low=0, high=1, closed=True)
        check_number(name, "eps", self.eps, low=0, high=INFINITY)

    def count(self) -> int:
        """The mean and the mean square."""
        return 2

    def plan(self, p: Memory, g: Memory, moments: tuple[Memory, ...], /) -> PlannedUpdate:
        """The update in place."""
        mean, square = self.flats(moments)
        first, second = map(float, self.betas)
        fresh, kept, entering = (scalar(value, p.flat) for value in (1.0 - first, second, 1.0 - second))
        eps, rate, correction = scalar(self.eps, p.flat), np.empty((), p.flat.dtype), np.empty((), p.flat.dtype)
        root = np.empty_like(p.flat)

        def update(step: int) -> None:
            rate[...] = self.rate(step) / (1.0 - integer_power(first, step + 1))
            correction[...] = np.sqrt(1.0 - integer_power(second, step + 1))
            move(mean, g.flat, fresh, root)
            decay_to_square(square, g.flat, kept, entering, root)
            np.divide(np.sqrt(square, root), correction, root)
            np.add(root, eps, root)
            subtract_quotient(p.flat, mean, root, rate)

        return update


@frozen
class AdamW(Adam):
    """Adam with decoupled weight decay: first ``p * (1 - learning_rate * weight_decay)``, for ``Weight`` fields.

    PyTorch's ``AdamW``, which decays every parameter; here biases and the scales of normalisation are left alone.

    Source: Loshchilov and Hutter, "Decoupled weight decay regularization", ICLR 2019, algorithm 2.

    Example:
        >>> import funcnet as fn
        >>> layer = fn.Dense(weight=np.array([[1.0]]), bias=np.array([0.0]))
        >>> grad = fn.Dense(weight=np.array([[2.0]]), bias=np.array([4.0]))
        >>> rule = AdamW(learning_rate=0.25, weight_decay=0.4)
        >>> new, moments = rule.update(layer, grad, rule.init(layer), 0)
        >>> new.weight.round(6), new.bias.round(6)  # 1 * (1 - 0.25 * 0.4) - 0.25, and 0 - 0.25
        (array([[0.65]]), array([-0.25]))
    """

    weight_decay: float = 0.01

    def check(self) -> None:
        """The decay is 0 or more."""
        super().check()
        check_number("AdamW", "weight_decay", self.weight_decay, low=0, high=INFINITY, closed=True)

    def plan(self, p: Memory, g: Memory, moments: tuple[Memory, ...], /) -> PlannedUpdate:
        """The update in place."""
        adam, decay = super().plan(p, g, moments), planned_decay(p, self.rate, self.weight_decay)

        def update(step: int) -> None:
            decay(step)
            adam(step)

        return update


def move(mean: Array, g: Array, share: Array, free: Array) -> None:
    """``mean + share * (g - mean)`` in place; it overwrites ``free``."""
    np.subtract(g, mean, free)
    np.add(mean, np.multiply(free, share, free), mean)


def decay_to_square(square: Array, g: Array, kept: Array, entering: Array, free: Array) -> None:
    """``kept * square + entering * g²`` in place; it overwrites ``free``."""
    np.multiply(square, kept, square)
    np.multiply(np.multiply(g, g, free), entering, free)
    np.add(square, free, square)


def subtract_quotient(p: Array, direction: Array, size: Array, rate: Array) -> None:
    """``p - rate * (direction / size)`` in place; it overwrites ``size``."""
    np.divide(direction, size, size)
    np.multiply(size, rate, size)
    np.subtract(p, size, p)


for _optimizer in (Adagrad, RMSprop, Adam, AdamW):
    register_name(_optimizer, f"funcnet.{_optimizer.__name__}")
