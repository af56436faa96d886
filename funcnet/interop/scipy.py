"""SciPy: train a network on all examples at once with ``scipy.optimize.minimize``, such as by L-BFGS.

Small networks on small data reach a minimum that stochastic steps only approach. SciPy gets the trained parameters as
one float64 vector, and their loss and gradient from ``value_and_grad``.
"""

# SciPy has no types:
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnnecessaryTypeIgnoreComment=false

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Final, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from funcnet.core.arrays import Array, Input
from funcnet.core.checks import INFINITY, check_callable, check_number
from funcnet.core.errors import ConfigError, NonFiniteError, quoted
from funcnet.core.trees import flat, map_decayed, map_parameters, with_flat
from funcnet.network.layer import N
from funcnet.network.loss import Loss
from funcnet.network.passes import value_and_grad

try:
    from scipy.optimize import OptimizeResult, OptimizeWarning, minimize  # type: ignore[import-untyped]  # SciPy has no types
except ImportError as error:
    raise ImportError("SciPy 1.11 or newer is needed; use pip install 'scipy>=1.11'") from error

T = TypeVar("T")

_NAME: Final = "scipy_minimize"
_METHODS: Final = ("L-BFGS-B", "BFGS", "CG", "Newton-CG", "TNC", "SLSQP", "trust-constr")
"""SciPy's methods that need the gradient and no second derivatives."""


def scipy_minimize(
    params: N,
    x: Input,
    y: T,
    loss: Loss[T],
    weight: Array | None = None,
    *,
    weight_decay: float = 0.0,
    method: str = "L-BFGS-B",
    tol: float | None = None,
    options: Mapping[str, object] | None = None,
    callback: Callable[[N], object] | None = None,
) -> tuple[N, OptimizeResult]:
    """Minimize the loss over all examples with ``scipy.optimize.minimize``; return the network and SciPy's result.

    The network keeps its dtype, its statistics, and what is frozen. Its loss is that of the form that it has, as in
    ``value_and_grad``: Dropout is off in a plain network. SciPy computes in float64, and a float32 network is rounded
    before each evaluation, so a line search may fail near a minimum. For the last digits, use
    ``fn.astype(net, np.float64)`` and float64 inputs.

    Args:
        params: The network, with the parameters to begin with.
        x: The inputs, shape (N, ...).
        y: The targets, as the loss expects them.
        loss: The loss.
        weight: The weights of the examples, for a loss that takes weights.
        weight_decay: Adds ``weight_decay / 2 * sum(w²)``, over all fields of type ``Weight``, to the loss. The
            ``alpha`` of scikit-learn's MLPs is ``N * weight_decay``, and the ``C`` of its ``LogisticRegression`` is
            ``1 / (N * weight_decay)``.
        method: A method of SciPy's ``minimize`` that needs the gradient and no second derivatives: "L-BFGS-B", "BFGS",
            "CG", "Newton-CG", "TNC", "SLSQP" or "trust-constr".
        tol: SciPy's tolerance, which depends on the method.
        options: SciPy's options, which depend on the method, such as ``{"maxiter": 200}``.
        callback: A function of the network, called after each iteration, such as for a validation loss. It ends the
            minimization by raising ``StopIteration``.

    Returns:
        The network and the result. ``result.success`` and ``result.message`` tell how it ended, ``result.fun`` is the
        loss with the decay, and ``result.nit`` the number of iterations.

    Raises:
        NonFiniteError: If the loss or its gradient is NaN or infinite, also at a point that a line search tries: some
            methods would report success there. The network that was passed is unchanged.
        ConfigError: If the network has no trained parameters, a setting is invalid, or the method does not have an
            option.

    Source: Liu and Nocedal, "On the limited memory BFGS method for large scale optimization", Mathematical Programming
    45 (1989), for L-BFGS.

    Example:
        >>> import funcnet as fn
        >>> x, y = np.array([[0.0], [1.0], [2.0], [3.0]]), np.array([0, 1, 0, 1])
        >>> net, result = scipy_minimize(fn.mlp(fn.Key(0), (1, 2), dtype=np.float64), x, y, fn.softmax_cross_entropy)
        >>> result.success, round(result.fun, 4), fn.predict(net, x, fn.Multiclass())
        (True, 0.5869, array([0, 0, 1, 1]))
    """
    check_callable(_NAME, "loss", loss)
    weight_decay = check_number(_NAME, "weight_decay", weight_decay, low=0, high=INFINITY, closed=True)
    _check_scipys(method, tol, options)
    if callback is not None:
        check_callable(_NAME, "callback", callback)
    begin = flat(params).astype(np.float64)
    if not begin.size:
        raise ConfigError(f"the network must have trained parameters, got {params!r:.80}", subject=_NAME)
    decay = weight_decay * flat(map_decayed(np.ones_like, map_parameters(np.zeros_like, params))).astype(np.float64)

    def value_and_slopes(vector: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        value, grads = _value_and_grad(with_flat(params, vector), x, y, loss, weight)
        return value + 0.5 * float((decay * vector * vector).sum()), flat(grads).astype(np.float64) + decay * vector

    def after_iteration(vector: NDArray[np.float64], *_: object) -> None:
        if callback is not None:
            callback(with_flat(params, vector))

    after = None if callback is None else after_iteration
    settings = {"method": method, "tol": tol, "options": None if options is None else dict(options)}
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "Unknown solver options", OptimizeWarning)
        try:
            result = minimize(value_and_slopes, begin, jac=True, callback=after, **settings)
        except OptimizeWarning as error:
            raise ConfigError(f"options must be those of SciPy's {method}: {error}", subject=_NAME) from None
    return with_flat(params, cast("NDArray[np.float64]", result.x)), result


def _check_method(method: object) -> None:
    """Check that a method needs the gradient and no more. SciPy ignores the case of its name."""
    if not isinstance(method, str) or method.lower() not in map(str.lower, _METHODS):
        raise ConfigError(f"method must be one of {', '.join(_METHODS)}, got {quoted(method)}", subject=_NAME)


def _check_scipys(method: object, tol: object, options: object) -> None:
    """Check the settings of SciPy, which itself refuses options that the method does not have."""
    _check_method(method)
    if tol is not None:
        check_number(_NAME, "tol", tol, low=0, high=INFINITY, closed=True)
    given = cast("Mapping[object, object]", options) if isinstance(options, Mapping) else (None,)
    if options is not None and not all(isinstance(name, str) for name in given):
        wanted = "a mapping of SciPy's names to values, such as {'maxiter': 200}"
        raise ConfigError(f"options must be {wanted}, got {quoted(options)}", subject=_NAME)


def _value_and_grad(params: N, x: Input, y: T, loss: Loss[T], weight: Array | None) -> tuple[float, N]:
    fix = "scale the inputs, or begin with smaller parameters"
    try:
        value, grads = value_and_grad(params, x, y, loss, weight)
    except NonFiniteError as error:
        raise NonFiniteError(f"{error}; {fix}", subject=_NAME) from None
    if not np.isfinite(flat(grads)).all():
        raise NonFiniteError(f"the gradient must be finite, where the loss is {value}; {fix}", subject=_NAME)
    return value, grads
