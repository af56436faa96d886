"""Optimizers that adapt each step to past gradients: Adagrad, RMSprop, Adam, AdamW, NAdam and Lion."""

from __future__ import annotations

from typing import cast

import numpy as np
from attrs import field, frozen

from funcnet.arithmetic import maximum
from funcnet.arithmetic.scalars import integer_power, power
from funcnet.core.checks import INFINITY, as_float, check_flag, check_number, to_python
from funcnet.core.errors import ConfigError
from funcnet.core.names import LATER, register_name
from funcnet.core.trees import map_decayed, map_parameters
from funcnet.network.layer import N
from funcnet.optimizers.descent import descend
from funcnet.optimizers.moments import Moments
from funcnet.optimizers.protocol import Descent, rate_of
from funcnet.tracing import whole


def _mean_of(mean: N, grads: N, beta: float) -> N:
    """Return the moving mean of the gradients after one more gradient: ``m + (1 - beta) * (g - m)``."""
    return map_parameters(lambda m, g: m + (g - m) * (1.0 - beta), mean, grads)


def _mean_square_of(square: N, grads: N, beta: float) -> N:
    """Return the moving mean of the squared gradients after one more gradient: ``b s + (1 - b) g²``."""
    return map_parameters(lambda s, g: s * beta + g * g * (1.0 - beta), square, grads)


@frozen
class Adagrad(Descent):
    """``s' = s + g²``, ``p - rate * g / (sqrt(s') + eps)``, where ``rate = learning_rate / (1 + step * lr_decay)``.

    This is PyTorch's ``Adagrad``.

    Args:
        learning_rate: A number above 0 or a schedule.
        lr_decay: How fast the rate falls with the number of completed updates.
        initial_accumulator_value: The initial value of s.
        eps: A number above 0 that keeps the quotient finite.

    Source: Duchi, Hazan and Singer, "Adaptive subgradient methods for online learning and stochastic optimization",
    JMLR 12 (2011).

    Example:
        >>> import funcnet as fn
        >>> layer = fn.Dense(weight=np.array([[1.0]]), bias=np.array([0.0]))
        >>> grad = fn.Dense(weight=np.array([[2.0]]), bias=np.array([4.0]))
        >>> rule = Adagrad(learning_rate=0.25)
        >>> new, moments = rule.update(layer, grad, rule.init(layer), 0)
        >>> new.weight.round(6), moments["squares"].weight  # 1 - 0.25 * 2 / sqrt(2 * 2)
        (array([[0.75]]), array([[4.]]))
    """

    lr_decay: float = 0.0
    initial_accumulator_value: float = 0.0
    eps: float = 1e-10

    def check(self) -> None:
        """Check the ranges of the settings, which are PyTorch's, except that eps must be above 0."""
        check_number("Adagrad", "lr_decay", self.lr_decay, low=0, high=INFINITY, closed=True)
        value = self.initial_accumulator_value
        check_number("Adagrad", "initial_accumulator_value", value, low=0, high=INFINITY, closed=True)
        check_number("Adagrad", "eps", self.eps, low=0, high=INFINITY)

    def names(self) -> tuple[str, ...]:
        """Return the name of the sum of squared gradients."""
        return ("squares",)

    def divisor(self) -> float:
        """Return eps."""
        return self.eps

    def init(self, params: N, /) -> Moments[N]:
        """Return the initial sum of squares."""
        value = as_float(self.initial_accumulator_value)
        zeros = super().init(params)["squares"]
        return Moments.of(squares=map_parameters(lambda p: np.full_like(p, value), zeros))

    def rate(self, step: int, /) -> float:
        """Return the learning rate after ``step`` updates."""
        return super().rate(step) / (1.0 + to_python(step) * as_float(self.lr_decay))

    def update(self, params: N, grads: N, moments: Moments[N], step: int, /) -> tuple[N, Moments[N]]:
        """Take one step, with the sum of squares that includes these gradients."""
        self.check_moments(moments)
        rate, eps = rate_of(self, step), as_float(self.eps)
        squares = map_parameters(lambda s, g: s + g * g, moments["squares"], grads)
        params = map_parameters(lambda p, g, s: p - g / (np.sqrt(s) + eps) * rate, params, grads, squares)
        return params, Moments.of(squares=squares)


@frozen
class RMSprop(Descent):
    """``s' = alpha * s + (1 - alpha) * g²``, ``p - learning_rate * g / (sqrt(s') + eps)``: PyTorch's ``RMSprop``.

    Args:
        learning_rate: A number above 0 or a schedule.
        alpha: The fraction of the mean square that each update keeps.
        eps: A number above 0 that keeps the quotient finite.
        momentum: If it is above 0, the quotients accumulate in a velocity, as the gradients do in Momentum.
        centered: Divide by the standard deviation, ``sqrt(s' - m'²)``, where m is the mean gradient.

    Source: Tieleman and Hinton, "Neural networks for machine learning", lecture 6.5, 2012; Graves, "Generating
    sequences with recurrent neural networks", 2013, for the centered form.

    Example:
        >>> import funcnet as fn
        >>> layer = fn.Dense(weight=np.array([[1.0]]), bias=np.array([0.0]))
        >>> grad = fn.Dense(weight=np.array([[2.0]]), bias=np.array([4.0]))
        >>> rule = RMSprop(learning_rate=0.025)
        >>> new, moments = rule.update(layer, grad, rule.init(layer), 0)
        >>> new.weight.round(6), moments["square"].weight.round(6)  # (1 - 0.99) * 2 * 2, and 1 - 0.025 * 2 / 0.2
        (array([[0.75]]), array([[0.04]]))
    """

    alpha: float = 0.99
    eps: float = 1e-8
    momentum: float = 0.0
    centered: bool = False

    def check(self) -> None:
        """Check the ranges of alpha, eps and momentum, and the type of centered."""
        check_number("RMSprop", "alpha", self.alpha, low=0, high=1, closed=True)
        check_number("RMSprop", "eps", self.eps, low=0, high=INFINITY)
        check_number("RMSprop", "momentum", self.momentum, low=0, high=1, closed=True)
        check_flag("RMSprop", "centered", self.centered)

    def names(self) -> tuple[str, ...]:
        """Return the names of the mean square, of the velocity with momentum, and of the mean if centered."""
        return ("square", *(["velocity"] if self.momentum > 0 else []), *(["mean"] if self.centered else []))

    def divisor(self) -> float:
        """Return eps."""
        return self.eps

    def update(self, params: N, grads: N, moments: Moments[N], step: int, /) -> tuple[N, Moments[N]]:
        """Take one step, with the mean square that includes these gradients."""
        self.check_moments(moments)
        rate, alpha = rate_of(self, step), as_float(self.alpha)
        eps, decay = as_float(self.eps), as_float(self.momentum)
        square = _mean_square_of(moments["square"], grads, alpha)
        made = {"square": square}
        if self.centered:
            made["mean"] = _mean_of(moments["mean"], grads, alpha)
            square = map_parameters(lambda s, m: maximum(s - m * m, 0.0), square, made["mean"])  # not below 0
        direction = map_parameters(lambda g, s: g / (np.sqrt(s) + eps), grads, square)
        if self.momentum > 0:
            direction = map_parameters(lambda v, d: v * decay + d, moments["velocity"], direction)
            made["velocity"] = direction
        return descend(params, direction, rate), Moments.of(**{name: made[name] for name in self.names()})


def _check_betas(subject: str, betas: object) -> None:
    """Check that betas are two numbers from 0 to below 1.

    Raises:
        ConfigError: If they are not.
    """
    if not isinstance(betas, tuple) or len(cast("tuple[object, ...]", betas)) != 2:
        raise ConfigError(f"betas must be a tuple of two numbers, got {betas!r}", subject=subject)
    for beta in cast("tuple[object, ...]", betas):
        check_number(subject, "each of betas", beta, low=0, high=1, closed=True)


@frozen
class _Means(Descent):
    """The base of Adam and NAdam, which keep a mean of the gradient and a mean of its square."""

    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8

    def check(self) -> None:
        """Check that betas are two numbers from 0 to below 1, and that eps is above 0."""
        _check_betas(type(self).__name__, self.betas)
        check_number(type(self).__name__, "eps", self.eps, low=0, high=INFINITY)

    def names(self) -> tuple[str, ...]:
        """Return the names of the mean gradient and the mean square."""
        return "mean", "square"

    def divisor(self) -> float:
        """Return eps."""
        return self.eps

    def means(self, moments: Moments[N], grads: N) -> tuple[N, N]:
        """Return the mean gradient and the mean square that include these gradients."""
        a, b = map(as_float, self.betas)
        return _mean_of(moments["mean"], grads, a), _mean_square_of(moments["square"], grads, b)


def _correction(beta: float, step: int) -> float:
    """Return the root of the bias correction of the mean square."""
    root: float = np.sqrt(1.0 - integer_power(beta, step + 1)).item()
    return root


@frozen
class Adam(_Means):
    """``p - learning_rate * m / (sqrt(s) + eps)``, with bias-corrected means m of the gradient and s of its square.

    With ``betas = (a, b)``, ``m' = a m + (1 - a) g`` and ``s' = b s + (1 - b) g²``, starting from zero. After t updates
    they are divided by ``1 - a^t`` and ``1 - b^t``. This is PyTorch's ``Adam`` without its ``weight_decay``; for weight
    decay, use ``AdamW`` or ``WeightDecay``.

    Args:
        learning_rate: A number above 0 or a schedule.
        betas: The fractions of the mean and of the mean square that each update keeps.
        eps: A number above 0 that keeps the quotient finite.
        amsgrad: Use the largest s' so far in place of s', with the same bias correction, as PyTorch does.
        eps_hat: Add eps before the bias correction, ``sqrt(s') + eps``, as scikit-learn, Keras and ONNX do. It is then
            the "epsilon hat" of Kingma and Ba, section 2. The root of the correction of s' then multiplies the rate.

    Source: Kingma and Ba, "Adam: A method for stochastic optimization", ICLR 2015, algorithm 1; Reddi, Kale and Kumar,
    "On the convergence of Adam and beyond", ICLR 2018, for AMSGrad.

    Example:
        >>> import funcnet as fn
        >>> layer = fn.Dense(weight=np.array([[1.0]]), bias=np.array([0.0]))
        >>> grad = fn.Dense(weight=np.array([[2.0]]), bias=np.array([4.0]))
        >>> rule = Adam(learning_rate=0.25, betas=(0.5, 0.75))
        >>> new, moments = rule.update(layer, grad, rule.init(layer), 0)
        >>> moments["mean"].weight, moments["square"].weight  # (1 - 0.5) * 2, and (1 - 0.75) * 2 * 2
        (array([[1.]]), array([[1.]]))
        >>> new.weight.round(6)  # 1 - 0.25 * (1 / 0.5) / sqrt(1 / 0.25)
        array([[0.75]])
    """

    amsgrad: bool = field(default=False, kw_only=True, metadata=LATER)
    eps_hat: bool = field(default=False, kw_only=True, metadata=LATER)

    def check(self) -> None:
        """Check betas and eps, and the types of amsgrad and eps_hat."""
        super().check()
        check_flag(type(self).__name__, "amsgrad", self.amsgrad)
        check_flag(type(self).__name__, "eps_hat", self.eps_hat)

    def names(self) -> tuple[str, ...]:
        """Return the names of the mean gradient, of the mean square, and of the largest mean square with amsgrad."""
        return (*super().names(), *(["largest"] if self.amsgrad else []))

    def update(self, params: N, grads: N, moments: Moments[N], step: int, /) -> tuple[N, Moments[N]]:
        """Take one step along the mean gradient, divided by the root of the mean square."""
        self.check_moments(moments)
        (a, b), eps, step = map(as_float, self.betas), as_float(self.eps), to_python(step)
        rate = rate_of(self, step) / (1.0 - integer_power(a, step + 1))
        correction = _correction(b, step)
        eps = eps / correction if self.eps_hat else eps
        mean, square = self.means(moments, grads)
        made = {"mean": mean, "square": square}
        if self.amsgrad:
            square = map_parameters(maximum, moments["largest"], square)
            made["largest"] = square
        params = map_parameters(lambda p, m, s: p - m / (np.sqrt(s) / correction + eps) * rate, params, mean, square)
        return params, Moments.of(**made)


@frozen
class AdamW(Adam):
    """Adam with decoupled weight decay: first ``p * (1 - learning_rate * weight_decay)``, for ``Weight`` fields.

    PyTorch's ``AdamW`` decays every parameter. This one does not decay biases and the scales of normalization layers.

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
        """Check Adam's settings, and that the decay is 0 or more."""
        super().check()
        check_number("AdamW", "weight_decay", self.weight_decay, low=0, high=INFINITY, closed=True)

    def update(self, params: N, grads: N, moments: Moments[N], step: int, /) -> tuple[N, Moments[N]]:
        """Decay the weights, then take Adam's step."""
        kept = 1.0 - rate_of(self, step) * as_float(self.weight_decay)
        return super().update(map_decayed(lambda w: w * kept, params), grads, moments, step)


@frozen
class NAdam(_Means):
    """Adam with Nesterov momentum: ``p - learning_rate * d / (sqrt(s) + eps)``, where d combines m' and the gradient.

    The momentum of update t is ``c_t = a * (1 - 0.96^(t * momentum_decay) / 2)``, with ``betas = (a, b)``, and C_t is
    the product of the first t of them. ``d = c_(t+1) m' / (1 - C_(t+1)) + (1 - c_t) g / (1 - C_t)``. The means m' and s
    are those of ``Adam``, but only s is divided by ``1 - b^t``. This is PyTorch's ``NAdam`` without its
    ``weight_decay``; for weight decay, use ``WeightDecay``.

    Args:
        learning_rate: A number above 0 or a schedule.
        betas: The fractions of the mean and of the mean square that each update keeps.
        eps: A number above 0 that keeps the quotient finite.
        momentum_decay: How fast the momentum grows from a / 2 to a.

    Source: Dozat, "Incorporating Nesterov momentum into Adam", ICLR 2016 workshop.

    Example:
        >>> import funcnet as fn
        >>> layer = fn.Dense(weight=np.array([[1.0]]), bias=np.array([0.0]))
        >>> grad = fn.Dense(weight=np.array([[2.0]]), bias=np.array([4.0]))
        >>> rule = NAdam(learning_rate=0.25, betas=(0.5, 0.75), momentum_decay=0.0)
        >>> new, moments = rule.update(layer, grad, rule.init(layer), 0)
        >>> new.weight.round(6)  # d = 0.25 * 1 / (1 - 0.25²) + 0.75 * 2 / (1 - 0.25), and 1 - 0.25 * d / 2
        array([[0.716667]])
    """

    momentum_decay: float = 0.004

    def check(self) -> None:
        """Check betas and eps, and that the decay of the momentum is 0 or more."""
        super().check()
        check_number("NAdam", "momentum_decay", self.momentum_decay, low=0, high=INFINITY, closed=True)

    def update(self, params: N, grads: N, moments: Moments[N], step: int, /) -> tuple[N, Moments[N]]:
        """Take one step along a combination of the mean gradient and the gradient."""
        self.check_moments(moments)
        (a, b), eps, step = map(as_float, self.betas), as_float(self.eps), to_python(step)
        rate, correction = rate_of(self, step), _correction(b, step)
        of_mean, of_gradient = _nesterov_factors(a, power(0.96, as_float(self.momentum_decay)), step + 1)
        mean, square = self.means(moments, grads)
        direction = map_parameters(lambda m, g: m * of_mean + g * of_gradient, mean, grads)
        params = map_parameters(
            lambda p, d, s: p - d / (np.sqrt(s) / correction + eps) * rate, params, direction, square
        )
        return params, Moments.of(mean=mean, square=square)


@whole
def _nesterov_factors(beta: float, decay: float, update: int) -> tuple[float, float]:
    """Return NAdam's factors of the mean and of the gradient.

    A product below 2^-54 does not change ``1 - product``, so its further factors are left out.
    """
    product, number, weight = 1.0, 0, 1.0
    while number < update and product > 2.0**-54:
        number, weight = number + 1, weight * decay
        product *= beta * (1.0 - 0.5 * weight)
    now = beta * (1.0 - 0.5 * integer_power(decay, update))
    later = beta * (1.0 - 0.5 * integer_power(decay, update + 1))
    return later / (1.0 - product * later), (1.0 - now) / (1.0 - product)


@frozen
class Lion(Descent):
    """``p - learning_rate * sign(c)``, where ``c = a m + (1 - a) g`` and ``m' = b m + (1 - b) g``.

    Every element moves by the same amount, so that learning rates are 3 to 10 times smaller than those of ``AdamW``.
    The decoupled weight decay of the paper is ``WeightDecay(Lion(...), weight_decay=...)``.

    Args:
        learning_rate: A number above 0 or a schedule.
        betas: The numbers a and b: the fractions of the mean in the direction and in the next mean.

    Source: Chen et al., "Symbolic discovery of optimization algorithms", NeurIPS 2023, algorithm 2.

    Example:
        >>> import funcnet as fn
        >>> layer = fn.Dense(weight=np.array([[1.0]]), bias=np.array([0.0]))
        >>> grad = fn.Dense(weight=np.array([[2.0]]), bias=np.array([-4.0]))
        >>> rule = Lion(learning_rate=0.25, betas=(0.5, 0.75))
        >>> new, moments = rule.update(layer, grad, rule.init(layer), 0)
        >>> new.weight, new.bias, moments["mean"].weight  # 1 - 0.25, 0 + 0.25, and (1 - 0.75) * 2
        (array([[0.75]]), array([0.25]), array([[0.5]]))
    """

    betas: tuple[float, float] = (0.9, 0.99)

    def check(self) -> None:
        """Check that betas are two numbers from 0 to below 1."""
        _check_betas("Lion", self.betas)

    def names(self) -> tuple[str, ...]:
        """Return the name of the mean gradient."""
        return ("mean",)

    def update(self, params: N, grads: N, moments: Moments[N], step: int, /) -> tuple[N, Moments[N]]:
        """Take one step of equal size in every element."""
        self.check_moments(moments)
        rate, (a, b) = rate_of(self, step), map(as_float, self.betas)
        signs = map_parameters(lambda c: np.sign(c), _mean_of(moments["mean"], grads, a))  # noqa: PLW0108  # typed
        return descend(params, signs, rate), Moments.of(mean=_mean_of(moments["mean"], grads, b))


for _optimizer in (Adagrad, RMSprop, Adam, AdamW, NAdam, Lion):
    register_name(_optimizer, f"funcnet.{_optimizer.__name__}")
