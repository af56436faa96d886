"""Gradient descent: ``sgd_update``, and SGD, Momentum and Nesterov as optimizers."""

from __future__ import annotations

import numpy as np
from attrs import frozen

from funcnet.core.arrays import Array
from funcnet.core.checks import INFINITY, as_float, check_number
from funcnet.core.names import register_name
from funcnet.core.trees import map_parameters
from funcnet.network.layer import N
from funcnet.optimizers.moments import Moments
from funcnet.optimizers.protocol import Descent, rate_of

_PROMOTES = np.lib.NumpyVersion(np.__version__) < "2.0.0"
"""NumPy 1 promotes a float32 array by a number beyond float32; NumPy 2 takes the number as infinite."""

_LARGEST = float(np.finfo(np.float32).max)


def sgd_update(params: N, grads: N, *, learning_rate: float) -> N:
    """One step of gradient descent: ``p - learning_rate * g`` for every trained array p, in p's dtype.

    Raises:
        StructureError: If the gradients have a different structure; the message shows both structures.
        ConfigError: If the learning rate is not above 0 and finite.

    Example:
        >>> import numpy as np, funcnet as fn
        >>> layer = fn.Dense(weight=np.array([[1.0]]), bias=np.array([0.0]))
        >>> grad = fn.Dense(weight=np.array([[2.0]]), bias=np.array([1.0]))
        >>> new = sgd_update(layer, grad, learning_rate=0.1)
        >>> new.weight, new.bias, layer.weight
        (array([[0.8]]), array([-0.1]), array([[1.]]))
    """
    rate = check_number("sgd_update", "learning_rate", learning_rate, low=0, high=INFINITY)
    return descend(params, grads, 1.0 * rate)


def descend(params: N, direction: N, rate: float) -> N:
    """Return ``p - rate * d`` for every trained array: ``sgd_update`` without the check of the rate."""

    def moved(p: Array, d: Array) -> Array:
        is_beyond = _PROMOTES and rate > _LARGEST and p.dtype == np.float32
        return p - d * (INFINITY if is_beyond else rate)

    return map_parameters(moved, params, direction)


@frozen
class SGD(Descent):
    """Gradient descent: ``p - learning_rate * g``. It has no moments.

    Source: Robbins and Monro, "A stochastic approximation method", Annals of Mathematical Statistics 22 (1951).

    Example:
        >>> import numpy as np, funcnet as fn
        >>> layer = fn.Dense(weight=np.array([[1.0]]), bias=np.array([0.0]))
        >>> grad = fn.Dense(weight=np.array([[2.0]]), bias=np.array([4.0]))
        >>> new, _ = SGD(learning_rate=0.25).update(layer, grad, fn.Moments.of(), 0)
        >>> new.weight, new.bias  # 1 - 0.25 * 2 and 0 - 0.25 * 4
        (array([[0.5]]), array([-1.]))
    """

    def update(self, params: N, grads: N, moments: Moments[N], step: int, /) -> tuple[N, Moments[N]]:
        """Take one step along the negative gradient."""
        self.check_moments(moments)
        return descend(params, grads, rate_of(self, step)), moments


@frozen
class _Velocity(Descent):
    """The base of Momentum and Nesterov, which keep a velocity: a decaying sum of the gradients."""

    momentum: float = 0.9

    def check(self) -> None:
        """Check that momentum is from 0 to below 1."""
        check_number(type(self).__name__, "momentum", self.momentum, low=0, high=1, closed=True)

    def names(self) -> tuple[str, ...]:
        """Return the name of the velocity."""
        return ("velocity",)


@frozen
class Momentum(_Velocity):
    """Gradient descent with momentum: ``v' = momentum * v + g``, ``p - learning_rate * v'`` (PyTorch's form).

    Source: Polyak, "Some methods of speeding up the convergence of iteration methods", 1964; Sutskever et al., "On the
    importance of initialization and momentum in deep learning", ICML 2013, with the rate outside the velocity.

    Example:
        >>> import numpy as np, funcnet as fn
        >>> layer = fn.Dense(weight=np.array([[1.0]]), bias=np.array([0.0]))
        >>> grad = fn.Dense(weight=np.array([[2.0]]), bias=np.array([4.0]))
        >>> heavy = Momentum(learning_rate=0.25, momentum=0.5)
        >>> new, moments = heavy.update(layer, grad, heavy.init(layer), 0)
        >>> new.weight, moments["velocity"].weight  # 1 - 0.25 * 2
        (array([[0.5]]), array([[2.]]))
        >>> newer, moments = heavy.update(new, grad, moments, 1)
        >>> newer.weight, moments["velocity"].weight  # 0.5 - 0.25 * 3, and 0.5 * 2 + 2
        (array([[-0.25]]), array([[3.]]))
    """

    def update(self, params: N, grads: N, moments: Moments[N], step: int, /) -> tuple[N, Moments[N]]:
        """Take one step along the new velocity."""
        self.check_moments(moments)
        rate, decay = rate_of(self, step), as_float(self.momentum)
        velocity = map_parameters(lambda v, g: v * decay + g, moments["velocity"], grads)
        return descend(params, velocity, rate), Moments.of(velocity=velocity)


@frozen
class Nesterov(_Velocity):
    """Nesterov momentum: ``v' = momentum * v + g``, ``p - learning_rate * (g + momentum * v')``.

    This is PyTorch's ``SGD(momentum=..., nesterov=True)``.

    Source: Nesterov, "A method of solving a convex programming problem with convergence rate O(1/k²)", 1983; Sutskever
    et al., "On the importance of initialization and momentum in deep learning", ICML 2013.

    Example:
        >>> import numpy as np, funcnet as fn
        >>> layer = fn.Dense(weight=np.array([[1.0]]), bias=np.array([0.0]))
        >>> grad = fn.Dense(weight=np.array([[2.0]]), bias=np.array([4.0]))
        >>> rule = Nesterov(learning_rate=0.25, momentum=0.5)
        >>> new, moments = rule.update(layer, grad, rule.init(layer), 0)
        >>> new.weight, moments["velocity"].weight  # 1 - 0.25 * (2 + 0.5 * 2)
        (array([[0.25]]), array([[2.]]))
    """

    def update(self, params: N, grads: N, moments: Moments[N], step: int, /) -> tuple[N, Moments[N]]:
        """Take one step along the look-ahead velocity, ``g + momentum * v'``."""
        self.check_moments(moments)
        rate, decay = rate_of(self, step), as_float(self.momentum)
        velocity = map_parameters(lambda v, g: v * decay + g, moments["velocity"], grads)
        params = map_parameters(lambda p, g, v: p - (g + v * decay) * rate, params, grads, velocity)
        return params, Moments.of(velocity=velocity)


register_name(SGD, "funcnet.SGD")
register_name(Momentum, "funcnet.Momentum")
register_name(Nesterov, "funcnet.Nesterov")
