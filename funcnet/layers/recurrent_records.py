"""Recurrent records: the common fields of RNN, GRU and LSTM, their checks, and their random weights."""

from __future__ import annotations

from typing import Literal, Protocol, TypeAlias, get_args

import numpy as np

from funcnet.core.arrays import Array, FloatDType, lock
from funcnet.core.checks import check_array, check_choice, check_count, check_flag, check_row_shape
from funcnet.core.trees import float_dtype
from funcnet.network.layer import Shape
from funcnet.network.masks import check_mask, check_mask_field, check_steps
from funcnet.random.initializers import Initializer, check_initializer
from funcnet.random.keys import Key, check_key

Outputs: TypeAlias = Literal["all", "last"]


class Recurrent(Protocol):
    """The common fields of the records. Shapes: weight (I, G * H), recurrent (H, G * H), bias (G * H,), for G gates."""

    @property
    def weight(self) -> Array: ...  # noqa: D102
    @property
    def recurrent(self) -> Array: ...  # noqa: D102
    @property
    def bias(self) -> Array | None: ...  # noqa: D102
    @property
    def outputs(self) -> Outputs: ...  # noqa: D102
    @property
    def reverse(self) -> bool: ...  # noqa: D102
    @property
    def mask(self) -> Array | None: ...  # noqa: D102


def check_recurrence(name: str, params: Recurrent, gates: int, **vectors: Array | None) -> None:
    """Check the common fields of a record, and ``vectors``, its optional arrays (H,).

    Raises:
        DTypeError, ShapeError, ConfigError: If a field is invalid.
    """
    check_array(name, "recurrent", params.recurrent, ("H", "O"))
    size = len(params.recurrent)
    check_count(name, "recurrent's size", size)
    match = ("recurrent", params.recurrent)
    check_array(name, "recurrent", params.recurrent, (size, gates * size))
    check_array(name, "weight", params.weight, ("I", gates * size), match=match)
    check_count(name, "weight's in_size", len(params.weight))
    shapes = dict.fromkeys(vectors, size) | {"bias": gates * size}
    for field, vector in (("bias", params.bias), *vectors.items()):
        if vector is not None:
            check_array(name, field, vector, (shapes[field],), match=match)
    check_choice(name, "outputs", params.outputs, get_args(Outputs))
    check_flag(name, "reverse", params.reverse)
    check_mask_field(name, params.mask)


def check_sequence(name: str, params: Recurrent, x: Array) -> None:
    """Check that x has shape (B, T, I) with at least one step, and that a mask fits it.

    Raises:
        DTypeError, ShapeError: If it does not.
    """
    weight = params.weight
    check_array(name, "x", x, ("B", "T", len(weight)), dtype=weight.dtype, match=("weight", weight))
    check_steps(name, x)
    check_mask(name, params.mask, x)


def recurrence_output_shape(name: str, params: Recurrent, shape: Shape) -> Shape:
    """Map the row shape (T, I) to (T, H) or (H,)."""
    check_row_shape(name, shape, ("T", len(params.weight)), ("weight", params.weight))
    size = len(params.recurrent)
    return (size,) if params.outputs == "last" else (shape[0], size)


def drawn(
    name: str,
    key: Key,
    gates: int,
    sizes: tuple[int, int],
    *,
    inits: tuple[Initializer, Initializer],
    dtype: FloatDType,
) -> tuple[Array, Array]:
    """Draw weight and recurrent weight, each gate from its own key. Shapes: sizes (I, H) -> (I, G * H), (H, G * H).

    Raises:
        ConfigError: If an argument of the constructor is invalid.
    """
    check_key(name, key)
    in_size, size = check_count(name, "in_size", sizes[0]), check_count(name, "size", sizes[1])
    check_initializer(name, "init", inits[0])
    check_initializer(name, "recurrent_init", inits[1])
    kind = float_dtype(dtype)

    def parts(path: str, rows: int, init: Initializer) -> Array:
        draws = [init(key.child(path, gate), (rows, size), kind) for gate in range(gates)]
        return lock(np.concatenate(draws, axis=1))

    return parts("weight", in_size, inits[0]), parts("recurrent", size, inits[1])


def zeros_if(name: str, field: str, flag: object, size: int, weight: Array) -> Array | None:
    """Zeros in the weight's dtype if the constructor's flag is True, else None.

    Raises:
        ConfigError: If the flag is neither True nor False.
    """
    return lock(np.zeros(size, weight.dtype)) if check_flag(name, field, flag) else None
