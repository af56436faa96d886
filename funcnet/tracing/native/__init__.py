"""Native replay: an interpreter in C for the programs of ``funcnet.tracing``.

It is optional. ``python -m funcnet.tracing.native`` compiles ``replay.c`` where there is a C compiler; without it, the
same programs run as Python functions. The environment variable ``FUNCNET_NATIVE`` names the folder of the compiled file
if it is not beside ``replay.c``; 0 turns native replay off. A file that was built from another version of funcnet or
for another NumPy is ignored. ``environment().replay`` says what runs.

The interpreter computes nothing itself. It calls NumPy's own inner loops, by the addresses in each ufunc, and the BLAS
that NumPy has loaded, in NumPy's own order, so the bits are NumPy's. A line of a program that it has no operation for
is called as a Python function (``translation.py``). Each fold compares the first replay with the plain function, as for
programs in Python.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from funcnet.core.arrays import AnyArray
from funcnet.tracing.native.loaded import STATE as STATE
from funcnet.tracing.native.loaded import replay

if TYPE_CHECKING:
    from funcnet.tracing.native.replay import Program  # pyright: ignore[reportMissingModuleSource]  # a stub


def is_built() -> bool:
    """Return whether the interpreter was built, fits this funcnet and this NumPy, and is not turned off."""
    return replay is not None


class NativeRun:
    """The function ``run`` of a program. The interpreter gets its lines at the first call, which shows the arguments.

    Args:
        run: The function in Python.
        source: The source of the program.
    """

    def __init__(self, run: Callable[..., Any], source: str) -> None:
        self._plain, self._source = run, source
        self._program: Program | None = None
        self._is_new = True
        self.can_fold = False
        self.lines: list[str] = []  # those that Python runs
        self.reason = ""  # why the interpreter cannot run the program

    @property
    def is_native(self) -> bool:
        """Whether the interpreter runs the program."""
        return self._program is not None

    def __call__(self, *given: Any) -> Any:
        """Compute a step, as the function in Python does."""
        if self._is_new:
            self._translate(given)
        if self._program is None:
            return self._plain(*given)
        made = self._program(*given)
        return self._plain(*given) if made is NotImplemented else made

    def turn_off(self) -> bool:
        """Run the program in Python from now on; return whether the interpreter ran it."""
        was_native, self._program, self._is_new, self.can_fold = self.is_native, None, False, False
        return was_native

    def _translate(self, given: Sequence[Any]) -> None:
        from funcnet.tracing.native.translation import Translator  # noqa: PLC0415  # only if there is an interpreter

        try:
            made = Translator(self._plain, self._source, given)
            self._program, self.can_fold, self.lines = made.program(), made.can_fold(), made.lines
        except Exception as error:  # noqa: BLE001  # the program in Python computes the same
            self.reason = repr(error)
            self.turn_off()
        self._is_new = False

    def fold(
        self,
        batch: Sequence[Any],
        sources: Sequence[Any],
        order: NDArray[np.intp] | None,
        rows: range,
        numbers: tuple[Any, ...],
    ) -> tuple[list[tuple[float, float]], tuple[Any, ...]]:
        """Compute steps on batches that are rows of some sources, until one does not fit.

        Args:
            batch: The arrays of the first batch.
            sources: The arrays with all rows, in the same order.
            order: The row of each place; None for the row with its number.
            rows: The places of the rows: as many as the batches have.
            numbers: The numbers of the state.

        Returns:
            The result of each step that was computed, and the numbers after them.
        """
        if self._program is None or not self.can_fold or not _fit(batch, sources):
            return [], numbers
        limit = min(map(len, sources))
        places = limit if order is None else len(order)
        if (order is not None and not _is_order(order)) or rows.start < 0 or rows.stop > places or rows.step != 1:
            return [], numbers
        buffers = tuple(map(_buffer, batch))
        log = np.empty((len(rows) // len(batch[0]), 2))
        done, numbers = self._program.fold(buffers, tuple(sources), limit, order, rows.start, log, numbers)
        return list(map(tuple, log[:done].tolist())), numbers


def _fit(batch: Sequence[Any], sources: Sequence[Any]) -> bool:
    """Return whether all arrays of a batch are copies of rows of the sources, byte by byte."""
    return len({each.shape[:1] for each in batch}) == 1 and all(map(_is_source, batch, sources)) and len(batch[0]) > 0


def _is_source(array: Any, source: Any) -> bool:
    if type(array) is not np.ndarray or type(source) is not np.ndarray or not array.ndim:
        return False
    flags = array.flags.c_contiguous, source.flags.c_contiguous, source.flags.aligned
    return all(flags) and (array.dtype, array.shape[1:]) == (source.dtype, source.shape[1:])


def _is_order(order: AnyArray) -> bool:
    is_plain = type(order) is np.ndarray and order.dtype == np.int64 and order.ndim == 1
    return is_plain and order.flags.c_contiguous and order.flags.aligned


def _buffer(array: AnyArray) -> AnyArray:
    """Return memory for such a batch, which functions of the program may write to if they may write to the batch."""
    made = np.empty_like(array)
    made.flags.writeable = array.flags.writeable
    return made
