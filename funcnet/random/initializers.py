"""Weight initializers: functions ``(key, shape, dtype) -> array``.

A weight of shape (..., I, O) has ``fan_in`` = I and ``fan_out`` = O, each multiplied by the preceding sizes (a kernel's
window). The draws never change: they are IEEE operations in a fixed order, whichever arithmetic is in force.

The table shows the default initialization of a fully connected layer with I inputs and O outputs. U(a) is uniform from
-a to a, and N(v) is normal with variance v. Parentheses give the ``init=`` in funcnet with the same distribution:

=========================  ====================================================  ====================
library                    weight                                                bias
=========================  ====================================================  ====================
funcnet ``dense``          N(2 / (I + O)) (``glorot_normal``)                    0
PyTorch ``Linear``         U(1 / sqrt(I)) (``pytorch_default``)                  U(1 / sqrt(I))
Keras ``Dense``            U(sqrt(6 / (I + O))) (``glorot_uniform``)             0
scikit-learn ``MLP...``    U(sqrt(6 / (I + O))) (``glorot_uniform``)             U(sqrt(6 / (I + O)))
... with ``"logistic"``    U(sqrt(2 / (I + O)))                                  U(sqrt(2 / (I + O)))
=========================  ====================================================  ====================

The normal initializers have full tails, as in PyTorch. Keras truncates the tails at two standard deviations and
rescales to the same variance. For I = O, PyTorch's default weights have a third of the variance of those of funcnet,
Keras and scikit-learn, so a learning rate tuned for PyTorch may not fit funcnet. ``dense`` draws its weight with
``init`` and its bias with ``bias_init``. Pass ``pytorch_default`` as both for the distributions of PyTorch, or
``glorot_uniform`` as both for those of scikit-learn.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from funcnet.core.arrays import FLOATS, Array, lock
from funcnet.core.checks import check_array, check_count, check_flag, check_number, check_size, to_python
from funcnet.core.errors import ConfigError, ShapeError
from funcnet.core.records import Settings
from funcnet.random.draws import normal, uniform
from funcnet.random.keys import Key, check_key

__all__ = [
    "Constant",
    "Initializer",
    "constant",
    "fans",
    "glorot_normal",
    "glorot_uniform",
    "he_normal",
    "he_uniform",
    "lecun_normal",
    "lecun_uniform",
    "orthogonal",
    "pytorch_default",
    "random_normal",
    "zeros",
]


def __dir__() -> list[str]:
    return __all__


Initializer: TypeAlias = Callable[[Key, tuple[int, ...], np.dtype[np.floating]], Array]
"""A pure function ``(key, shape, dtype) -> array``."""


def check_initializer(subject: str, name: str, init: object) -> None:
    """Check that a setting is an initializer.

    Raises:
        ConfigError: If it is not a function.

    Example:
        >>> check_initializer("dense", "bias_init", 0.1)
        Traceback (most recent call last):
        funcnet.ConfigError: dense: bias_init must be a function, got 0.1; use fn.initializers.constant(0.1)
    """
    if not callable(init):
        number = to_python(init)
        fix = f"use fn.initializers.constant({number})"
        if isinstance(number, bool) or not isinstance(number, int | float):
            fix = "use an initializer such as fn.initializers.he_normal"
        raise ConfigError(f"{name} must be a function, got {init!r:.80}; {fix}", subject=subject)


def first_bias(
    subject: str,
    key: Key,
    shape: tuple[int, ...],
    dtype: np.dtype[np.floating],
    init: Initializer | None,
    *,
    bias: bool = True,
) -> Array | None:
    """Return the bias of a new layer: zeros, or the first row of a second draw of the weight's shape, or None.

    Such a row has one number per output, and an initializer that is scaled by the fans scales it by the weight's fans.
    Shapes: the weight (..., I, O), result (O,).

    Args:
        subject: The constructor of the layer, for messages.
        key: The key of the weight; the bias is drawn from ``key.child("bias")``.
        shape: The weight's shape.
        dtype: The dtype of the layer.
        init: The initializer. None means zeros.
        bias: Whether the layer has a bias.

    Raises:
        ConfigError: If ``bias`` is not a bool, or init is not a function, or is given although there is no bias.
        FuncnetError: If init returns an array of another shape or dtype.

    Example:
        >>> first_bias("dense", Key(0), (784, 2), np.dtype(np.float32), pytorch_default)
        array([-0.03016091,  0.00606578], dtype=float32)
    """
    if not check_flag(subject, "bias", bias):
        if init is not None:
            raise ConfigError("bias_init must be None if bias is False; delete one of the two", subject=subject)
        return None
    if init is None:
        return lock(np.zeros(shape[-1], dtype))
    check_initializer(subject, "bias_init", init)
    drawn = init(key.child("bias"), shape, dtype)
    try:
        check_array(subject, "the array that bias_init returns", drawn, shape, dtype=dtype)
    except ShapeError as error:
        raise ShapeError(f"{error.message}; its first row is the bias", subject=subject) from None
    return lock(drawn.reshape(-1, shape[-1])[0].copy())


# ------------------------------------------------------------------------------------------ scaled by the fans


def fans(shape: tuple[int, ...]) -> tuple[int, int]:
    """Return the number of inputs that an output depends on, and the number of outputs that an input affects.

    Example:
        >>> fans((784, 100)), fans((5, 5, 1, 6))
        ((784, 100), (25, 150))
    """
    *window, inputs, outputs = to_python(shape)
    return math.prod(window) * inputs, math.prod(window) * outputs


def glorot_normal(key: Key, shape: tuple[int, ...], dtype: np.dtype[np.floating]) -> Array:
    """Draw from a normal distribution with variance ``2 / (fan_in + fan_out)``: Glorot (or Xavier), as in the post.

    Source: Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural networks",
    AISTATS 2010.

    Example:
        >>> float(glorot_normal(Key(0), (784, 100), np.dtype(np.float64)).std().round(3))
        0.048
    """
    _check("glorot_normal", key, shape, dtype)
    return _normal(key, shape, dtype, 2 / sum(fans(shape)))


def glorot_uniform(key: Key, shape: tuple[int, ...], dtype: np.dtype[np.floating]) -> Array:
    """Draw from a uniform distribution with variance ``2 / (fan_in + fan_out)``: Glorot (or Xavier).

    The limit is ``sqrt(6 / (fan_in + fan_out))``.

    Source: Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural networks",
    AISTATS 2010, equation 16.

    Example:
        >>> float(glorot_uniform(Key(0), (784, 100), np.dtype(np.float64)).max().round(3))
        0.082
    """
    _check("glorot_uniform", key, shape, dtype)
    return _uniform(key, shape, dtype, 2 / sum(fans(shape)))


def he_normal(key: Key, shape: tuple[int, ...], dtype: np.dtype[np.floating]) -> Array:
    """Draw from a normal distribution with variance ``2 / fan_in``: He (or Kaiming), for layers before a ReLU.

    Source: He, Zhang, Ren and Sun, "Delving deep into rectifiers", ICCV 2015, equation 10.

    Example:
        >>> float(he_normal(Key(0), (784, 100), np.dtype(np.float64)).std().round(4))
        0.0505
    """
    _check("he_normal", key, shape, dtype)
    return _normal(key, shape, dtype, 2 / fans(shape)[0])


def he_uniform(key: Key, shape: tuple[int, ...], dtype: np.dtype[np.floating]) -> Array:
    """Draw from a uniform distribution with variance ``2 / fan_in``. The limit is ``sqrt(6 / fan_in)``.

    Source: He, Zhang, Ren and Sun, "Delving deep into rectifiers", ICCV 2015, for the variance.

    Example:
        >>> float(he_uniform(Key(0), (784, 100), np.dtype(np.float64)).max().round(3))
        0.087
    """
    _check("he_uniform", key, shape, dtype)
    return _uniform(key, shape, dtype, 2 / fans(shape)[0])


def lecun_normal(key: Key, shape: tuple[int, ...], dtype: np.dtype[np.floating]) -> Array:
    """Draw from a normal distribution with variance ``1 / fan_in``, so that outputs keep the variance of the inputs.

    Source: LeCun, Bottou, Orr and Müller, "Efficient backprop", 1998, section 4.6.

    Example:
        >>> float(lecun_normal(Key(0), (784, 100), np.dtype(np.float64)).std().round(3))
        0.036
    """
    _check("lecun_normal", key, shape, dtype)
    return _normal(key, shape, dtype, 1 / fans(shape)[0])


def lecun_uniform(key: Key, shape: tuple[int, ...], dtype: np.dtype[np.floating]) -> Array:
    """Draw from a uniform distribution with variance ``1 / fan_in``. The limit is ``sqrt(3 / fan_in)``.

    Source: LeCun, Bottou, Orr and Müller, "Efficient backprop", 1998, section 4.6.

    Example:
        >>> float(lecun_uniform(Key(0), (784, 100), np.dtype(np.float64)).max().round(3))
        0.062
    """
    _check("lecun_uniform", key, shape, dtype)
    return _uniform(key, shape, dtype, 1 / fans(shape)[0])


def pytorch_default(key: Key, shape: tuple[int, ...], dtype: np.dtype[np.floating]) -> Array:
    """Draw from the uniform distribution of the weights of PyTorch's ``Linear``, with limit ``1 / sqrt(fan_in)``.

    The variance is ``1 / (3 fan_in)``. PyTorch calls the distribution ``kaiming_uniform_(a=sqrt(5))``, and it draws the
    bias from the same distribution. The numbers come from funcnet's own generator.

    Source: PyTorch, ``torch.nn.Linear.reset_parameters``.

    Example:
        >>> float(pytorch_default(Key(0), (784, 100), np.dtype(np.float64)).max().round(3))
        0.036
    """
    _check("pytorch_default", key, shape, dtype)
    return _uniform(key, shape, dtype, 1 / (3 * fans(shape)[0]))


def _normal(key: Key, shape: tuple[int, ...], dtype: np.dtype[np.floating], variance: float) -> Array:
    return lock((normal(key, shape) * np.sqrt(variance)).astype(dtype))


def _uniform(key: Key, shape: tuple[int, ...], dtype: np.dtype[np.floating], variance: float) -> Array:
    """Draw uniform numbers: a uniform distribution from ``-limit`` to ``limit`` has the variance ``limit**2 / 3``."""
    return lock(((2 * uniform(key, shape) - 1) * np.sqrt(3 * variance)).astype(dtype))


# ------------------------------------------------------------------------------------------------- orthogonal


def orthogonal(key: Key, shape: tuple[int, ...], dtype: np.dtype[np.floating]) -> Array:
    """Draw a random matrix (fan_in, O) with orthonormal columns, or orthonormal rows if there are fewer rows.

    All such matrices are equally likely. The sizes before the last are multiplied to one, as in Keras. The first column
    is a random direction ``x / |x|``. The other columns are those of a smaller such matrix below a row of zeros,
    reflected by the reflection that maps the first axis to the line of x. The columns are therefore computed from the
    last to the first: column k has an x of length n - k and reflects the columns to its right. The reflection is
    ``z - v (v . z) 2 / (v . v)`` with ``v = x + sign(x[0]) |x| e``.

    Source: Stewart, "The efficient generation of random orthogonal matrices with an application to condition
    estimators", SIAM Journal on Numerical Analysis 17 (1980); Saxe, McClelland and Ganguli, "Exact solutions to the
    nonlinear dynamics of learning in deep linear neural networks", ICLR 2014, for its use.

    Example:
        >>> weight = orthogonal(Key(0), (3, 2), np.dtype(np.float64))
        >>> abs(weight.T @ weight).round(12)
        array([[1., 0.],
               [0., 1.]])
    """
    _check("orthogonal", key, shape, dtype)
    *others, outputs = to_python(shape)
    inputs = math.prod(others)
    tall = _orthonormal_columns(normal(key, (max(inputs, outputs), min(inputs, outputs))))
    return lock((tall if inputs >= outputs else tall.T).astype(dtype, order="C")).reshape(shape)


def _orthonormal_columns(z: NDArray[np.float64]) -> NDArray[np.float64]:
    """Build the columns from z: the elements of column k of z from row k to the last are the x of column k."""
    q = np.zeros_like(z)
    for k in range(z.shape[1] - 1, -1, -1):
        v = z[k:, k].copy()
        size = np.sqrt(_total((v * v)[:, None])[0])
        q[k:, k] = v / size
        v[0] += np.copysign(size, v[0])
        half = size * np.abs(v[0])
        right = q[k:, k + 1 :]
        right -= v[:, None] * (_total(v[:, None] * right) / half)
    return q


def _total(a: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum the rows in place: add the lower half to the upper half until one row is left."""
    count = len(a)
    while count > 1:
        half = count // 2
        a[:half] += a[count - half : count]
        count -= half
    total: NDArray[np.float64] = a[0]
    return total


# ---------------------------------------------------------------------------------------------- any deviation


@frozen
class RandomNormal(Settings):
    """An initializer that draws normal numbers with a given deviation. Use ``random_normal`` to make one."""

    deviation: float

    def check(self) -> None:
        """Check that the deviation is above 0 and finite."""
        check_number("random_normal", "deviation", self.deviation, low=0, high=math.inf)

    def __call__(self, key: Key, shape: tuple[int, ...], dtype: np.dtype[np.floating]) -> Array:
        """Draw an array of any shape."""
        _check("random_normal", key, shape, dtype, axes=1)
        largest = float(np.finfo(dtype).max) / 10  # no draw is above 9
        check_number("random_normal", f"deviation in {np.dtype(dtype)}", self.deviation, low=0, high=largest)
        return lock((normal(key, shape) * self.deviation).astype(dtype))


def random_normal(deviation: float) -> RandomNormal:
    """Make an initializer that draws from N(deviation**2), whatever the shape: for the rows of an ``Embedding``.

    PyTorch's ``Embedding`` has the deviation 1. GPT-2 has 0.02 for all weights.

    Raises:
        ConfigError: If the deviation is not above 0 and finite.

    Example:
        >>> random_normal(0.02)(Key(0), (2,), np.dtype(np.float64)).round(4)
        array([-0.0439, -0.013 ])
    """
    return RandomNormal(deviation)


# --------------------------------------------------------------------------------------------------- constant


def zeros(key: Key, shape: tuple[int, ...], dtype: np.dtype[np.floating]) -> Array:
    """Return zeros of any shape, such as a bias.

    Example:
        >>> zeros(Key(0), (2,), np.dtype(np.float32))
        array([0., 0.], dtype=float32)
    """
    _check("zeros", key, shape, dtype, axes=1)
    return lock(np.zeros(shape, dtype))


@frozen
class Constant(Settings):
    """An initializer that fills an array with one number. Use ``constant`` to make one."""

    value: float

    def check(self) -> None:
        """Check that the value is finite."""
        check_number("constant", "value", self.value, low=-math.inf, high=math.inf)

    def __call__(self, key: Key, shape: tuple[int, ...], dtype: np.dtype[np.floating]) -> Array:
        """Return an array of any shape that is filled with the number."""
        _check("constant", key, shape, dtype, axes=1)
        largest = float(np.finfo(dtype).max)
        check_number("constant", f"value in {np.dtype(dtype)}", self.value, low=-largest, high=largest)
        return lock(np.full(shape, self.value, dtype))


def constant(value: float) -> Constant:
    """Make an initializer that fills an array of any shape with one finite number.

    Raises:
        ConfigError: If the value is not a finite number.

    Example:
        >>> constant(0.1)(Key(0), (2,), np.dtype(np.float64))
        array([0.1, 0.1])
    """
    return Constant(value)


# ----------------------------------------------------------------------------------------------------- checks


def _check(subject: str, key: Key, shape: tuple[int, ...], dtype: np.dtype[np.floating], *, axes: int = 2) -> None:
    check_key(subject, key)
    if not isinstance(shape, tuple) or len(shape) < axes:
        wanted = "(..., I, O)" if axes == 2 else "of at least one axis"
        raise ConfigError(f"shape must be a tuple {wanted}, got {shape!r}", subject=subject)
    sizes = [check_count(subject, "a size in shape", size) for size in shape]
    check_size(subject, "the product of shape", math.prod(sizes))
    if not (isinstance(dtype, np.dtype | type) and dtype in FLOATS):
        raise ConfigError(f"dtype must be np.float32 or np.float64, got {dtype!r}", subject=subject)
