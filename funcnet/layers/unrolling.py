"""Unrolling: a recurrent layer's outputs and last state, for sequences that arrive in pieces; and both directions."""

from __future__ import annotations

from typing import Any, Final, TypeVar, cast, overload

import numpy as np

from funcnet.core.arrays import ARRAY_TYPES, Array
from funcnet.core.checks import check_array
from funcnet.core.errors import ConfigError, ShapeError, StructureError, plural, quoted
from funcnet.core.records import Record, evolve
from funcnet.layers.gru import CELL as GRU_CELL
from funcnet.layers.gru import GRU
from funcnet.layers.lstm import CELL as LSTM_CELL
from funcnet.layers.lstm import LSTM
from funcnet.layers.parallel import Parallel
from funcnet.layers.recurrence import Cell, State, recurrence_unrolled
from funcnet.layers.rnn import CELL as RNN_CELL
from funcnet.layers.rnn import RNN

A = TypeVar("A", RNN, GRU, LSTM)
B = TypeVar("B", RNN, GRU, LSTM)

_CELLS: Final[dict[type, Cell[Any, Any]]] = {RNN: RNN_CELL, GRU: GRU_CELL, LSTM: LSTM_CELL}


@overload
def unroll(layer: LSTM, x: Array, state: tuple[Array, Array] | None = None) -> tuple[Array, tuple[Array, Array]]: ...
@overload
def unroll(layer: RNN | GRU, x: Array, state: Array | None = None) -> tuple[Array, Array]: ...
def unroll(
    layer: RNN | GRU | LSTM, x: Array, state: Array | tuple[Array, Array] | None = None
) -> tuple[Array, Array | tuple[Array, Array]]:
    """The outputs of all steps and the state after the last one, from a state: for sequences that arrive in pieces.

    The steps are those of ``forward``. A sequence that is unrolled in pieces, each from the state after the one before,
    has the outputs of the whole sequence: the same bits in portable arithmetic and, for at most 8 rows, in native
    arithmetic. A layer with ``reverse`` reads each piece backward, so its pieces arrive from the last to the first.

    Args:
        layer: An RNN, a GRU or an LSTM. Its ``outputs`` setting does not matter here.
        x: The steps, (B, T, I); T is 1 for one step.
        state: The state before these steps, (B, H); for an LSTM, a pair of h and c. None is the layer's initial state.

    Returns:
        The outputs, (B, T, H), and the state after the step that is read last.

    Raises:
        StructureError: If the layer is not recurrent.
        ConfigError, ShapeError, DTypeError: If x or the state does not fit the layer.

    Example:
        >>> import funcnet as fn
        >>> layer = fn.gru(fn.Key(0), 2, 3, dtype=np.float64)
        >>> x = np.arange(8.0).reshape(1, 4, 2)
        >>> whole, _ = unroll(layer, x)
        >>> first, state = unroll(layer, x[:, :3])
        >>> second, _ = unroll(layer, x[:, 3:], state)
        >>> np.allclose(np.concatenate([first, second], axis=1), whole)
        True
    """
    cell = _cell("unroll", layer)
    _check_steps(layer, x)
    with np.errstate(all="ignore"):
        outputs, after = recurrence_unrolled(cell, layer, x, None if state is None else _states(layer, state, x))
    return outputs, cast("tuple[Array, Array]", after) if isinstance(layer, LSTM) else after[0]


def _cell(subject: str, layer: object) -> Cell[Any, Any]:
    if type(layer) not in _CELLS:
        got = type(layer).__name__ if isinstance(layer, Record) else quoted(layer)
        if isinstance(layer, tuple):
            layers = cast("tuple[object, ...]", layer)
            got = f"a tuple of {plural(len(layers), 'layer')}{_fix_of_tuple(layers)}"
        raise StructureError(f"the layer must be an RNN, a GRU or an LSTM, got {got}", subject=subject)
    return _CELLS[type(layer)]


def _fix_of_tuple(layers: tuple[object, ...]) -> str:
    """Return the advice for a whole network."""
    first = next((i for i, layer in enumerate(layers) if type(layer) in _CELLS), None)
    if first is None:
        return ""
    return f"; unroll one recurrent layer: unroll(net[{first}], {f'forward(net[:{first}], x)' if first else 'x'})"


def _check_steps(layer: RNN | GRU | LSTM, x: Array) -> None:
    """Check that x is not one step without an axis of time. The layer checks the rest.

    Raises:
        ShapeError: If it is.
    """
    size = len(layer.weight)
    if type(x) in ARRAY_TYPES and x.ndim == 2 and x.shape[1] == size:
        fix = "for one step, use x[:, None]; for one sequence, use x[None]"
        raise ShapeError(f"x must have shape (B, T, {size}), got {x.shape}; {fix}", subject="unroll")


def _states(layer: RNN | GRU | LSTM, state: Array | tuple[Array, Array], x: Array) -> State:
    """The state as a tuple, after a check of its arrays."""
    if isinstance(layer, LSTM) and not (isinstance(state, tuple) and len(state) == 2):
        fix = f"got {type(state).__name__}; use the state that unroll returned"
        raise ConfigError(f"the state of an LSTM must be a pair (h, c), {fix}", subject="unroll")
    states = state if isinstance(state, tuple) and isinstance(layer, LSTM) else (cast("Array", state),)
    check_array("unroll", "x", x, ("B", "T", len(layer.weight)), dtype=layer.weight.dtype)
    for each in states:
        check_array("unroll", "state", each, (len(x), len(layer.recurrent)), dtype=x.dtype, match=("x", x))
    return states


def bidirectional(first: A, second: B) -> Parallel[tuple[A, B]]:
    """Two recurrent layers side by side, of which the second one reads from the last step to the first.

    The outputs are concatenated, (B, T, 2 * H), or (B, 2 * H) with ``outputs="last"``. It is
    ``Parallel((first, second), "concat")`` with the fields ``reverse`` set to False and True.

    For one output per sequence, create both layers with ``outputs="last"``, as in ``gru(key, 8, 16, outputs="last")``.
    A ``LastStep`` after the layers would not do: at the last step, the second layer has read only that step.

    Args:
        first: The layer that reads from the first step to the last.
        second: The layer that reads from the last step to the first.

    Raises:
        StructureError: If a layer is not recurrent.

    Source: Schuster and Paliwal, "Bidirectional recurrent neural networks", IEEE Transactions on Signal Processing 45
    (1997).

    Example:
        >>> import funcnet as fn
        >>> key = fn.Key(0)
        >>> net = bidirectional(fn.gru(key.child(0), 8, 16), fn.gru(key.child(1), 8, 16))
        >>> net.combine, [layer.reverse for layer in net.nets]
        ('concat', [False, True])
        >>> fn.output_shape(net, (5, 8))
        (5, 32)
    """
    for layer in (first, second):
        _cell("bidirectional", layer)
    return Parallel((evolve(first, reverse=False), evolve(second, reverse=True)), "concat")
