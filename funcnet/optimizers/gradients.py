"""Functions of gradients, which are networks: the global norm, clipping by value, clipping by the global norm."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from funcnet.arithmetic import clip, minimum, sum_all
from funcnet.core.arrays import Array
from funcnet.core.checks import INFINITY, as_float, check_number
from funcnet.core.errors import NonFiniteError
from funcnet.core.records import check_tree
from funcnet.core.trees import map_parameters, trained_arrays
from funcnet.network.layer import N, Network

SMALL = 1e-6


def global_norm(grads: Network) -> float:
    """The Euclidean norm of all trained arrays together, computed in float64.

    Raises:
        StructureError: If the gradients are not a network.

    Example:
        >>> import funcnet as fn
        >>> global_norm(fn.Dense(weight=np.array([[3.0]]), bias=np.array([4.0])))
        5.0
    """
    check_tree("global_norm", grads)
    return norm_of(trained_arrays(grads))


def norm_of(arrays: Iterable[Array]) -> float:
    """Return the Euclidean norm of all arrays together."""
    total = 0.0
    with np.errstate(all="ignore"):  # an overflow gives an infinite norm, without a warning
        for array in arrays:
            wide = array.astype(np.float64)
            total += sum_all(wide * wide)
        norm: float = np.sqrt(total).item()
        return norm


def clip_by_value(grads: N, limit: float) -> N:
    """Limit every element to the range from ``-limit`` to ``limit``: PyTorch's ``clip_grad_value_`` as a pure function.

    Raises:
        ConfigError: If the limit is not above 0 and finite.

    Example:
        >>> import funcnet as fn
        >>> clip_by_value(fn.Dense(weight=np.array([[-3.0]]), bias=np.array([0.5])), 1.0).weight
        array([[-1.]])
    """
    limit = check_number("clip_by_value", "limit", limit, low=0, high=INFINITY)
    return map_parameters(lambda g: clip(g, g.dtype.type(-limit), g.dtype.type(limit)), grads)


def clip_by_global_norm(grads: N, max_norm: float) -> N:
    """Scale the gradients down to a global norm of ``max_norm`` if their global norm is larger.

    The factor is ``max_norm / (norm + 1e-6)``, as in PyTorch's ``clip_grad_norm_``; Optax leaves out the ``1e-6``.

    Raises:
        ConfigError: If max_norm is not above 0 and finite.
        StructureError: If the gradients are not a network.
        NonFiniteError: If the norm is NaN or infinite.

    Source: Pascanu, Mikolov and Bengio, "On the difficulty of training recurrent neural networks", ICML 2013.

    Example:
        >>> import funcnet as fn
        >>> grads = fn.Dense(weight=np.array([[3.0]]), bias=np.array([4.0]))
        >>> clip_by_global_norm(grads, 1.0).weight.round(4), clip_by_global_norm(grads, 6.0).weight
        (array([[0.6]]), array([[3.]]))
    """
    max_norm = check_number("clip_by_global_norm", "max_norm", max_norm, low=0, high=INFINITY)
    check_tree("clip_by_global_norm", grads)
    norm = norm_of(trained_arrays(grads))
    if not norm < INFINITY:
        raise NonFiniteError(f"the gradients' norm is {norm}; the learning rate may be too high", subject="global_norm")
    factor = minimum(as_float(max_norm) / (norm + SMALL), 1.0).item()
    return map_parameters(lambda g: g * factor, grads)
