"""Activations without arrays: the elementwise layers, each a record with two functions, value and slope.

A slope is not computed from the output where the output has lost the slope's digits: ``1 - y`` is 0 or a rounding error
where y is near 1. Values and slopes are correct to a few units in the last place, however small they are. A sum that
passes through 0, such as SiLU's slope at -1.28, is correct to a few units of its terms.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from attrs import frozen

from funcnet.arithmetic import exp, expm1, log1p, maximum, minimum, normal_cdf, normal_density, sigmoid, tanh
from funcnet.core.arrays import Array
from funcnet.core.checks import check_number
from funcnet.layers.elementwise import register_elementwise
from funcnet.network.layer import Layer


@frozen(eq=False)
class Identity(Layer):
    """``y = x``, ``grad_x = g``: the post's first layer. Shapes: x, y (B, ...).

    Example:
        >>> import funcnet as fn
        >>> fn.forward(Identity(), np.array([[-2.0, 3.0]]))
        array([[-2.,  3.]])
    """


register_elementwise(
    Identity, value=lambda _, x: x, slope=lambda _, x, __: np.ones(x.shape, np.bool_), name="funcnet.Identity"
)


@frozen(eq=False)
class ReLU(Layer):
    """``y = max(x, 0)``, ``grad_x = g * (x > 0)``; the slope at 0 is 0. Shapes: x, y (B, ...).

    Source: Glorot, Bordes and Bengio, "Deep sparse rectifier neural networks", AISTATS 2011.

    Example:
        >>> import funcnet as fn
        >>> fn.forward(ReLU(), np.array([[-2.0, 3.0]]))
        array([[0., 3.]])
        >>> fn.backward(ReLU(), np.array([[-2.0, 3.0]]), np.array([[5.0, 7.0]]))[0]
        array([[0., 7.]])
    """


register_elementwise(ReLU, value=lambda _, x: maximum(x, 0), slope=lambda _, x, __: x > 0, name="funcnet.ReLU")


@frozen(eq=False)
class LeakyReLU(Layer):
    """``y = x`` above 0, else ``slope * x``; the derivative at 0 is ``slope``. Shapes: x, y (B, ...).

    PyTorch calls the setting ``negative_slope`` and has the same default. Keras uses that name too (formerly
    ``alpha``), with the default 0.3. The slope is in [0, 1), so that y is the larger of x and ``slope * x``.

    Source: Maas, Hannun and Ng, "Rectifier nonlinearities improve neural network acoustic models", ICML 2013.

    Example:
        >>> import funcnet as fn
        >>> fn.forward(LeakyReLU(), np.array([[-2.0, 3.0]]))
        array([[-0.02,  3.  ]])
    """

    slope: float = 0.01

    def check(self) -> None:
        """Check that the slope is in [0, 1)."""
        check_number("LeakyReLU", "slope", self.slope, low=0, high=1, closed=True)


register_elementwise(
    LeakyReLU,
    value=lambda params, x: maximum(x, x.dtype.type(params.slope) * x),
    slope=lambda params, x, _: np.where(x > 0, x.dtype.type(1), x.dtype.type(params.slope)),
    name="funcnet.LeakyReLU",
)


@frozen(eq=False)
class ELU(Layer):
    """``y = x`` above 0, else ``alpha * (exp(x) - 1)``; the derivative at 0 is ``alpha``. Shapes: x, y (B, ...).

    Below 0, the derivative is ``alpha * exp(x)``; ``y + alpha`` would lose its digits. PyTorch and Keras have the same
    ``alpha``.

    Source: Clevert, Unterthiner and Hochreiter, "Fast and accurate deep network learning by exponential linear units
    (ELUs)", ICLR 2016, equation 15.

    Example:
        >>> import funcnet as fn
        >>> fn.forward(ELU(), np.array([[-1e4, -1.0, 3.0]])).round(4)
        array([[-1.    , -0.6321,  3.    ]])
    """

    alpha: float = 1.0

    def check(self) -> None:
        """Check that alpha is positive."""
        check_number("ELU", "alpha", self.alpha, low=0, high=np.inf)


register_elementwise(
    ELU,
    value=lambda params, x: maximum(x, 0) + x.dtype.type(params.alpha) * expm1(minimum(x, 0)),
    slope=lambda params, x, _: np.where(x > 0, x.dtype.type(1), x.dtype.type(params.alpha) * exp(minimum(x, 0))),
    name="funcnet.ELU",
)


@frozen(eq=False)
class SELU(Layer):
    """``y = scale * x`` above 0, else ``scale * alpha * (exp(x) - 1)``: ELU with two constants. Shapes: x, y (B, ...).

    ``scale`` is 1.0507 and ``alpha`` is 1.6733, so that outputs of mean 0 and variance 1 keep both from layer to layer
    if ``fn.initializers.lecun_normal`` makes the weights. The derivative at 0 is ``scale * alpha``.

    Source: Klambauer, Unterthiner, Mayr and Hochreiter, "Self-normalizing neural networks", NIPS 2017, equation 2.

    Example:
        >>> import funcnet as fn
        >>> fn.forward(SELU(), np.array([[-1e4, -1.0, 1.0]])).round(4)
        array([[-1.7581, -1.1113,  1.0507]])
    """


_SCALE: Final = 1.0507009873554805
_ALPHA: Final = 1.6732632423543772

register_elementwise(
    SELU,
    value=lambda _, x: _SCALE * maximum(x, 0) + _SCALE * _ALPHA * expm1(minimum(x, 0)),
    slope=lambda _, x, __: _SCALE * np.where(x > 0, x.dtype.type(1), _ALPHA * exp(minimum(x, 0))),
    name="funcnet.SELU",
)


@frozen(eq=False)
class Sigmoid(Layer):
    """The logistic function ``y = 1 / (1 + exp(-x))``. Shapes: x, y (B, ...).

    With ``s = exp(-|x|)``, the derivative ``y * (1 - y)`` is ``s / (1 + s)**2``, which has no cancellation. The post
    uses this name for tanh, which is ``Tanh`` here.

    Source: Rumelhart, Hinton and Williams, "Learning representations by back-propagating errors", Nature 323 (1986).

    Example:
        >>> import funcnet as fn
        >>> fn.forward(Sigmoid(), np.array([[0.0, -1e4, 1e4]]))
        array([[0.5, 0. , 1. ]])
        >>> fn.backward(Sigmoid(), np.array([[0.0]]), np.array([[8.0]]))[0]  # 8 * 0.5 * 0.5
        array([[2.]])
    """


def _sigmoid_slope(x: Array) -> Array:
    """``s(x) s(-x)``, which is even."""
    small = exp(-np.abs(x))
    return small / ((1 + small) * (1 + small))


register_elementwise(
    Sigmoid, value=lambda _, x: sigmoid(x), slope=lambda _, x, __: _sigmoid_slope(x), name="funcnet.Sigmoid"
)


@frozen(eq=False)
class Tanh(Layer):
    """The hyperbolic tangent ``y = tanh(x)``, ``grad_x = g / cosh(x)**2``. Shapes: x, y (B, ...).

    The derivative of ``sinh(x) / cosh(x)`` is ``1 - tanh(x)**2 = 1 / cosh(x)**2``. With ``s = exp(-2 |x|)``, it is
    ``4 s / (1 + s)**2``, which has no cancellation. The post calls this layer Sigmoid.

    Source: LeCun, Bottou, Orr and Müller, "Efficient backprop", 1998, section 4.4.

    Example:
        >>> import funcnet as fn
        >>> fn.forward(Tanh(), np.array([[0.0, 1.0]])).round(4)
        array([[0.    , 0.7616]])
    """


_SLOPE_IS_0: Final = 400.0  # exp(-800) is 0 in float64


def _tanh_slope(x: Array) -> Array:
    small = exp(-2 * minimum(np.abs(x), _SLOPE_IS_0))
    return 4 * small / ((1 + small) * (1 + small))


register_elementwise(Tanh, value=lambda _, x: tanh(x), slope=lambda _, x, __: _tanh_slope(x), name="funcnet.Tanh")


@frozen(eq=False)
class Softplus(Layer):
    """``y = log(1 + exp(x))``, which is log 2 at 0. Shapes: x, y (B, ...).

    PyTorch's layer is the same with ``beta=1`` and without ``threshold``. The form ``max(x, 0) + log(1 + exp(-|x|))``
    cannot overflow. The derivative is the logistic function of x: ``exp(x) / (1 + exp(x)) = 1 - exp(-y)``.

    Source: Dugas et al., "Incorporating second-order functional knowledge for better option pricing", NIPS 2000.

    Example:
        >>> import funcnet as fn
        >>> fn.forward(Softplus(), np.array([[-1e4, 0.0, 1e4]])).round(4)
        array([[0.000e+00, 6.931e-01, 1.000e+04]])
    """


def _softplus(x: Array) -> Array:
    return maximum(x, 0) + log1p(exp(-np.abs(x)))


register_elementwise(
    Softplus, value=lambda _, x: _softplus(x), slope=lambda _, __, y: -expm1(-y), name="funcnet.Softplus"
)


@frozen(eq=False)
class Softsign(Layer):
    """``y = x / (1 + |x|)``, whose derivative is ``1 / (1 + |x|)**2``. Shapes: x, y (B, ...).

    Source: Bergstra, Desjardins, Lamblin and Bengio, "Quadratic polynomials learn better image features", 2009.

    Example:
        >>> import funcnet as fn
        >>> fn.forward(Softsign(), np.array([[-3.0, 0.0, 1.0]]))
        array([[-0.75,  0.  ,  0.5 ]])
    """


def _softsign_slope(x: Array) -> Array:
    """The square of the quotient: ``(1 + |x|)**2`` could overflow."""
    share = 1 / (1 + np.abs(x))
    return share * share


register_elementwise(
    Softsign,
    value=lambda _, x: x / (1 + np.abs(x)),
    slope=lambda _, x, __: _softsign_slope(x),
    name="funcnet.Softsign",
)


@frozen(eq=False)
class SiLU(Layer):
    """``y = x * s(x)`` with the logistic function s, also called Swish. Shapes: x, y (B, ...).

    At 0, y is 0 and the slope is 1/2. With ``s' = s (1 - s)``, the derivative is ``s + x s (1 - s) = s + x s'``.

    Source: Hendrycks and Gimpel, "Gaussian error linear units (GELUs)", arXiv:1606.08415, 2016, which introduces the
    name; Ramachandran, Zoph and Le, "Searching for activation functions", arXiv:1710.05941, 2017, for Swish.

    Example:
        >>> import funcnet as fn
        >>> fn.forward(SiLU(), np.array([[-1e4, 0.0, 1.0]])).round(4)
        array([[-0.    ,  0.    ,  0.7311]])
    """


register_elementwise(
    SiLU,
    value=lambda _, x: x * sigmoid(x),
    slope=lambda _, x, __: sigmoid(x) + x * _sigmoid_slope(x),
    name="funcnet.SiLU",
)


@frozen(eq=False)
class HardSwish(Layer):
    """``y = x * min(max(x + 3, 0), 6) / 6``, an approximation of SiLU without exponentials. Shapes: x, y (B, ...).

    The derivative is 0 up to -3, ``(2 x + 3) / 6`` between -3 and 3, and 1 from 3 on.

    Source: Howard et al., "Searching for MobileNetV3", ICCV 2019, section 5.2.

    Example:
        >>> import funcnet as fn
        >>> fn.forward(HardSwish(), np.array([[-4.0, -1.5, 1.0, 4.0]])).round(4)
        array([[-0.    , -0.375 ,  0.6667,  4.    ]])
    """


def _hard_swish_slope(x: Array) -> Array:
    between = (2 * minimum(maximum(x, -3), 3) + 3) / 6
    return np.where(np.abs(x) < 3, between, (x > 0).astype(x.dtype))


register_elementwise(
    HardSwish,
    value=lambda _, x: x * (minimum(maximum(x + 3, 0), 6) / 6),
    slope=lambda _, x, __: _hard_swish_slope(x),
    name="funcnet.HardSwish",
)


@frozen(eq=False)
class Mish(Layer):
    """``y = x * tanh(u)`` with ``u = log(1 + exp(x))``, which is Softplus. Shapes: x, y (B, ...).

    At 0, y is 0 and the slope is 0.6. With ``u' = s(x)``, the logistic function, the derivative is
    ``tanh(u) + x s(x) / cosh(u)**2``.

    Source: Misra, "Mish: a self regularized non-monotonic activation function", BMVC 2020.

    Example:
        >>> import funcnet as fn
        >>> fn.forward(Mish(), np.array([[-1e4, 0.0, 1.0]])).round(4)
        array([[-0.    ,  0.    ,  0.8651]])
    """


def _mish_slope(x: Array) -> Array:
    u = _softplus(x)
    return tanh(u) + x * sigmoid(x) * _tanh_slope(u)


register_elementwise(
    Mish, value=lambda _, x: x * tanh(_softplus(x)), slope=lambda _, x, __: _mish_slope(x), name="funcnet.Mish"
)


@frozen(eq=False)
class GELU(Layer):
    """``y = x * P(x)`` with the exact normal distribution function P. Shapes: x, y (B, ...).

    At 0, y is 0 and the slope is 1/2. This is the default of PyTorch and Keras; their approximation is ``GELUTanh``.
    ``P(x)`` is ``(1 + erf(x / sqrt 2)) / 2``. Its derivative is the normal density p, so the derivative of y is
    ``P(x) + x p(x)``.

    Source: Hendrycks and Gimpel, "Gaussian error linear units (GELUs)", arXiv:1606.08415, 2016.

    Example:
        >>> import funcnet as fn
        >>> fn.forward(GELU(), np.array([[-1.0, 0.0, 1.0]])).round(4)
        array([[-0.1587,  0.    ,  0.8413]])
    """


register_elementwise(
    GELU,
    value=lambda _, x: x * normal_cdf(x),
    slope=lambda _, x, __: normal_cdf(x) + x * normal_density(x),
    name="funcnet.GELU",
)


@frozen(eq=False)
class GELUTanh(Layer):
    """``y = x * (1 + tanh(u)) / 2`` with ``u = sqrt(2 / pi) (x + 0.044715 x**3)``, an approximation of GELU.

    Shapes: x, y (B, ...). At 0, y is 0 and the slope is 1/2. This is PyTorch's ``GELU(approximate="tanh")``, within
    5e-4 of ``GELU``. ``(1 + tanh(u)) / 2`` is ``s(2u)`` with the logistic function s, which has no cancellation. The
    derivative is ``s(2u) + x s'(2u) 2u'``, where ``u' = sqrt(2 / pi) (1 + 3 * 0.044715 x**2)``.

    Source: Hendrycks and Gimpel, "Gaussian error linear units (GELUs)", arXiv:1606.08415, 2016, section 2.

    Example:
        >>> import funcnet as fn
        >>> fn.forward(GELUTanh(), np.array([[-1.0, 0.0, 1.0]])).round(4)
        array([[-0.1588,  0.    ,  0.8412]])
    """


_2_SQRT_2_BY_PI: Final = 1.5957691216057308
_CUBIC: Final = 0.044715
_SATURATED: Final = 25.0


def _near(x: Array) -> Array:
    """Clip x to [-25, 25]. From 25 on, s(-2u) is 0 in float64, so y is the same, and the cube cannot overflow."""
    return minimum(maximum(x, -_SATURATED), _SATURATED)


def _twice_u(x: Array) -> Array:
    return _2_SQRT_2_BY_PI * (x + _CUBIC * x * x * x)


def _gelu_tanh_slope(x: Array) -> Array:
    twice, steepness = _twice_u(x), _2_SQRT_2_BY_PI * (1 + 3 * _CUBIC * x * x)
    return sigmoid(twice) + x * _sigmoid_slope(twice) * steepness


register_elementwise(
    GELUTanh,
    value=lambda _, x: x * sigmoid(_twice_u(_near(x))),
    slope=lambda _, x, __: _gelu_tanh_slope(_near(x)),
    name="funcnet.GELUTanh",
)
