"""Array files: the arrays of any safetensors file by name, such as the weights of another library."""

from __future__ import annotations

import os
from typing import Any, Final, cast

import numpy as np
from numpy.typing import NDArray

from funcnet.core.errors import CheckpointError, quoted
from funcnet.core.files import Filename, as_path, open_regular
from funcnet.runs.checkpoints import is_checkpoint, read_content
from funcnet.runs.safetensors import (
    METADATA,
    Entry,
    check_entry,
    check_size,
    header_text,
    offsets_of,
    read_array,
    refusing,
)
from funcnet.runs.strict_json import is_object, parse

_FLOATS: Final = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}
_INTS: Final = {"I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "<i1", "U64": "<u8", "U32": "<u4", "U16": "<u2"}
_BYTES: Final = {"U8": "<u1", "BOOL": "<u1"}
_DTYPES: Final = {code: np.dtype(kind) for code, kind in (_FLOATS | _INTS | _BYTES).items()}
"""The dtypes in which an array's bytes are read. ``_converted`` then makes bfloat16 numbers and bools of them."""


def load_arrays(path: Filename) -> dict[str, NDArray[Any]]:
    """Read the arrays of a safetensors file of any library, by name, in the order of its header.

    ``with_named_arrays`` puts arrays in funcnet's layout into a network, and ``from_torch`` those of a PyTorch model. A
    file written by ``save`` has the arrays of a network under the names of ``named_arrays``; it is checked as ``load``
    checks it. In a file of another library, the header and the sizes are checked, but nothing can show that a number
    has changed.

    The arrays are read-only and have NumPy's dtype of the same name: floats of 16, 32 or 64 bits, ints of 8 to 64 bits,
    or bools. NumPy has no bfloat16, so such an array becomes the float32 array of the same numbers. NaN and infinity
    are read as they are.

    Args:
        path: The path of a regular file. For a file of ``torch.save``, use ``torch.load(path, weights_only=True)``.

    Raises:
        CheckpointError: If the file is not a safetensors file, is damaged, is larger than this machine's memory, or has
            an array of another dtype; the message has the path and the reason.
        OSError: If the file cannot be read.

    Example:
        >>> import tempfile, funcnet as fn
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     fn.save(f"{directory}/net.safetensors", fn.mlp(fn.Key(0), (3, 2)))
        ...     arrays = load_arrays(f"{directory}/net.safetensors")
        >>> {name: array.shape for name, array in arrays.items()}
        {'0.bias': (2,), '0.weight': (3, 2)}
    """
    file_path = as_path("load_arrays", "path", path)
    with open_regular(file_path, CheckpointError) as file, refusing(file_path):
        size = os.fstat(file.fileno()).st_size
        text = header_text(file, size)
        header = parse(text)
        if is_checkpoint(header):
            file.seek(0)
            return dict(read_content(file).arrays)
        entries = _check_entries(header)
        check_size(size, len(text), max((entry.end for entry in entries.values()), default=0))
        arrays = {name: _converted(name, entry, read_array(file, entry)) for name, entry in entries.items()}
    for array in arrays.values():
        array.flags.writeable = False
    return {name: arrays[name] for name in cast("dict[str, object]", header) if name != METADATA}


def _check_entries(header: object) -> dict[str, Entry]:
    """Check the header of a file of another library. The entries are in the order of their bytes."""
    if not is_object(header):
        raise CheckpointError(f"its header must be an object, got {quoted(header)}")
    metadata = header.get(METADATA, {})
    if not is_object(metadata) or not all(isinstance(value, str) for value in metadata.values()):
        raise CheckpointError(f"its metadata must be strings by name, got {quoted(metadata)}")
    names = [name for name in header if name != METADATA]
    for name in names:
        if not name.isprintable():
            raise CheckpointError(f"an array's name must be printable, got {quoted(name)}")
    entries: dict[str, Entry] = {}
    end = 0
    for name in sorted(names, key=lambda name: offsets_of(name, header[name])):
        entries[name] = check_entry(name, header[name], end, _DTYPES)
        end = entries[name].end
    return entries


def _converted(name: str, entry: Entry, array: NDArray[Any]) -> NDArray[Any]:
    """Return an array as NumPy has it: a bfloat16 is the upper half of a float32, and a byte of a bool is 0 or 1."""
    if entry.code == "BF16":
        wide = array.astype(np.uint32)
        wide <<= np.uint32(16)
        wide.flags.writeable = False
        return wide.view(np.float32)
    if entry.code == "BOOL":
        if (array > 1).any():
            raise CheckpointError(f"{name} must have the bytes 0 and 1, as bools, got {array.max()}")
        return array.astype(np.bool_)
    return array
