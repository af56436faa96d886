"""A batch: the inputs, the targets and the weights of some examples."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar, cast

import numpy as np
from attrs import field, frozen
from numpy.typing import NDArray

from funcnet.core.arrays import AnyArray, Array, Input, unmapped
from funcnet.core.errors import ConfigError, DTypeError
from funcnet.core.names import register_name
from funcnet.core.records import shown

Inputs: TypeAlias = "Input | tuple[AnyArray, ...]"
"""The inputs of a batch: one array, or a tuple of arrays of one length for a step that takes several inputs."""

Rows: TypeAlias = "NDArray[Any] | tuple[NDArray[Any], ...]"
"""An array whose first axis is that of the examples, or a tuple of such arrays of one length."""

R = TypeVar("R", bound=Rows)
T_co = TypeVar("T_co", covariant=True)
if TYPE_CHECKING:
    from typing_extensions import TypeVar as _TypeVar  # the type checkers bring it; Python 3.13 has the default itself

    X_co = _TypeVar("X_co", bound=Inputs, covariant=True, default=Array)
else:
    X_co = TypeVar("X_co", covariant=True)


def _described(values: object) -> str:
    """The dtypes and shapes of one array or several."""
    if isinstance(values, tuple):
        return f"({', '.join(map(shown, cast('tuple[object, ...]', values)))})"
    return shown(values)


@frozen(eq=False)
class Batch(Generic[T_co, X_co]):
    """The examples of one training step. Shapes: x and y (B, ...); weight (B,), or y's shape or first axes, or None.

    As a type, ``Batch[T]`` has targets of type T and one array of inputs, which are floats; ``Batch[T, X]`` has inputs
    of type X, such as ids. For a step with several inputs or several targets, x or y is a tuple of arrays.
    ``minibatches`` and ``windows`` make batches, and ``train_epoch``, ``train`` and ``fit`` pass them to the step. The
    steps of ``sgd_step`` and ``train_step`` take one array of inputs; their losses determine the targets.

    Example:
        >>> import numpy as np
        >>> batch: Batch[AnyArray, tuple[Array, Array]] = Batch((np.zeros((2, 3)), np.zeros((2, 8))), np.array([0, 1]))
        >>> [x.shape for x in batch.x]
        [(2, 3), (2, 8)]
        >>> batch
        Batch(x=(float64 (2, 3), float64 (2, 8)), y=int64 (2,), weight=None)
    """

    x: X_co = field(repr=_described)
    y: T_co = field(repr=_described)
    weight: Array | None = field(default=None, repr=_described)

    def __attrs_post_init__(self) -> None:
        for name in ("x", "y", "weight"):
            given: object = getattr(self, name)
            if type(given) is not np.ndarray:  # every step makes a batch, and a call here takes as long as a check
                object.__setattr__(self, name, unmapped(given))

    if not TYPE_CHECKING:

        def __class_getitem__(cls, types: object) -> object:
            is_complete = isinstance(types, tuple) or len(cls.__parameters__) != 2
            return super().__class_getitem__(types if is_complete else (types, Array))


def take_rows(rows: R, chosen: slice | NDArray[np.intp]) -> R:
    """Return some rows of an array or of each array of a tuple: a locked view for a slice, else a copy."""
    if isinstance(rows, tuple):
        return cast("R", tuple(take_rows(each, chosen) for each in rows))
    if not isinstance(chosen, slice):
        return cast("R", rows.take(chosen, axis=0))
    view = rows[chosen]
    view.flags.writeable = False
    return cast("R", view)


def check_is_batch(subject: str, batch: object) -> None:
    """Check that a value is a batch with one array of inputs.

    Raises:
        ConfigError: If it is not a batch; the message shows the value.
        DTypeError: If its inputs are a tuple, which only functions of the user take.
    """
    if not isinstance(batch, Batch):
        raise ConfigError(f"a batch must be a Batch, got {batch!r:.80}; use Batch(x, y)", subject=subject)
    inputs = cast("Batch[object, Inputs]", batch).x
    if isinstance(inputs, tuple):
        fix = "a batch with several inputs needs your own function"
        raise DTypeError(f"x must be one array, got a tuple of {len(inputs)}; {fix}", subject=subject)


register_name(Batch, "funcnet.Batch")
