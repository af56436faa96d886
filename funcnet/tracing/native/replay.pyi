from collections.abc import Callable
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from funcnet.core.arrays import AnyArray

copies: Final[dict[str, int]]
built: Final[str]

def loop(function: np.ufunc, types: bytes, /) -> tuple[int, int] | None: ...

class Program:
    def __new__(
        cls,
        ops: bytes,
        given: bytes,
        made: bytes,
        values: bytes,
        kinds: bytes,
        likes: tuple[AnyArray | None, ...],
        functions: tuple[Callable[..., Any], ...],
        rows: tuple[bytes, ...],
        is_long: bool,
        kept: object,
        /,
    ) -> Self: ...
    def __call__(self, *arguments: Any) -> Any: ...
    def fold(
        self,
        buffers: tuple[AnyArray, ...],
        sources: tuple[AnyArray, ...],
        limit: int,
        order: NDArray[np.int64] | None,
        start: int,
        log: NDArray[np.float64],
        numbers: tuple[Any, ...],
        /,
    ) -> tuple[int, tuple[Any, ...]]: ...
