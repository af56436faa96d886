"""Safetensors files: the checks of their form, which checkpoints share with the files of other libraries.

A file consists of a little-endian uint64, the header's length; the header, as JSON; and the arrays' bytes. The header
has the dtype, shape and offsets of each array, by name. No byte is trusted.

Source: the safetensors format, https://huggingface.co/docs/safetensors.
"""

from __future__ import annotations

import math
import os
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final, TypeAlias, cast

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from funcnet.core.errors import CheckpointError, FuncnetError, printable, quoted
from funcnet.runs.strict_json import is_list, is_object

HEADER_LIMIT: Final = 2**26
MAX_RANK: Final = 32
METADATA: Final = "__metadata__"
KEYS: Final = ("dtype", "shape", "data_offsets")
_LONGEST_MESSAGE: Final = 1000
_OTHERS: Final = {
    b"PK\x03\x04": "a zip archive, as torch.save and np.savez write it; "
    "use torch.load(path, weights_only=True) or np.load(path)",
    b"\x89HDF": "an HDF5 file, as Keras writes it",
}
Header: TypeAlias = dict[str, Any]


@contextmanager
def refusing(path: Path) -> Generator[None]:
    """Turn every error that a file's content causes into a ``CheckpointError`` that is safe to print."""
    try:
        yield
    except (OSError, MemoryError):
        raise
    except FuncnetError as error:
        raise CheckpointError(printable(error, _LONGEST_MESSAGE), subject=str(path)) from None
    except Exception as error:  # noqa: BLE001  # what a forged file makes other code raise
        reason = f"it is invalid ({type(error).__name__}: {printable(error)})"
        raise CheckpointError(reason, subject=str(path)) from None


def header_text(file: IO[bytes], size: int) -> bytes:
    """Read the header of a file of this size."""
    start = file.read(8)
    length = int.from_bytes(start, "little")
    if len(start) < 8 or not 2 <= length <= min(size - 8, HEADER_LIMIT):
        if start[:4] in _OTHERS:
            raise CheckpointError(f"it is not a safetensors file, but {_OTHERS[start[:4]]}")
        got = f"{length} in a file of {size}" if len(start) == 8 else f"a file of {size}"
        limit = f"at most {HEADER_LIMIT} bytes, all in the file"
        raise CheckpointError(f"it is not a safetensors file, or it was cut: its header must have {limit}, got {got}")
    text = file.read(length)
    if len(text) != length:
        raise CheckpointError(f"its header must have {length} bytes, got {len(text)}")
    return text


@frozen
class Entry:
    """The checked header entry of one array: the name of its dtype in the file; ``end`` is the end of its bytes."""

    code: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    end: int


def check_entry(name: str, said: object, start: int, dtypes: Mapping[str, np.dtype[Any]]) -> Entry:
    """Check the header entry of the array whose bytes begin at ``start``.

    Args:
        name: The name of the array, which is safe to print.
        said: The entry, as parsed.
        start: The end of the preceding array.
        dtypes: The dtypes that the file may have.
    """
    entry = said if is_object(said) else {}
    if len(entry) != len(KEYS) or any(key not in entry for key in KEYS):
        raise CheckpointError(f"{name} must have dtype, shape and data_offsets, got {quoted(said)}")
    code = entry["dtype"]
    if not isinstance(code, str) or code not in dtypes:
        *others, last = dtypes
        raise CheckpointError(f"{name} must have the dtype {', '.join(others)} or {last}, got {quoted(code)}")
    shape = _sizes(name, "shape", entry["shape"])
    if len(shape) > MAX_RANK:
        raise CheckpointError(f"{name} must have at most {MAX_RANK} axes, got {quoted(list(shape))}")
    offsets = (start, start + math.prod(shape) * dtypes[code].itemsize)
    if offsets_of(name, entry) != offsets:
        wanted = f"{quoted(list(offsets))}, without gaps and for the shape {quoted(list(shape))}"
        raise CheckpointError(f"{name} must have the data_offsets {wanted}, got {quoted(entry['data_offsets'])}")
    return Entry(code, dtypes[code], shape, offsets[1])


def offsets_of(name: str, said: object) -> tuple[int, ...]:
    """Return where the bytes of an array begin and end, according to its header entry."""
    return _sizes(name, "data_offsets", said.get("data_offsets") if is_object(said) else None)


def _sizes(name: str, what: str, sizes: object) -> tuple[int, ...]:
    items = sizes if is_list(sizes) else [None]
    if not all(type(item) is int and 0 <= item < 2**63 for item in items):
        raise CheckpointError(f"the {what} of {name} must be a list of ints in [0, 2**63), got {quoted(sizes)}")
    return tuple(cast("list[int]", items))


def check_size(size: int, header: int, end: int) -> None:
    """Check that a file of this size has a header of ``header`` bytes and arrays up to ``end``, and fits in memory."""
    expected = 8 + header + end
    if expected != size:
        raise CheckpointError(f"it must have {expected} bytes, got {size}; it was cut or extended")
    if size > _machine_memory():
        raise CheckpointError(f"it has {size} bytes, which is more than this machine's memory")


def _machine_memory() -> float:
    """Return the number of bytes of this machine's memory, or infinity if the system does not say."""
    try:
        pages = os.sysconf("SC_PHYS_PAGES")
        return pages * os.sysconf("SC_PAGE_SIZE") if pages > 0 else math.inf
    except (AttributeError, ValueError, OSError):
        return math.inf


def read_array(file: IO[bytes], entry: Entry) -> NDArray[Any]:
    """Read the next array of a file, in native byte order."""
    array: NDArray[Any] = np.empty(entry.shape, entry.dtype)
    buffer = array.reshape(-1).view(np.uint8).data
    count: int = file.readinto(buffer)  # type: ignore[attr-defined]  # every binary file has readinto
    if count != len(buffer):
        raise CheckpointError("it was cut while it was being read")
    return array.astype(array.dtype.newbyteorder("="), copy=False)
