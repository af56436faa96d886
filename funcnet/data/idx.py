"""The IDX file format, in which MNIST and other data sets are published: one array in one file, gzipped or plain."""

from __future__ import annotations

import math
import os
import zlib
from io import BytesIO
from pathlib import Path
from typing import IO, Final

import numpy as np
from numpy.typing import NDArray

from funcnet.core.errors import DatasetFormatError
from funcnet.core.files import Filename, as_path, open_regular

_IDX_TYPES: Final = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_GZIP: Final = b"\x1f\x8b"
_MAX_RANK: Final = 32  # every version of NumPy supports this rank
_LONGEST_HEADER: Final = 4 + 4 * _MAX_RANK
_MOST_EXPANSION: Final = 1032  # no deflate stream expands more
IDX_LIMIT: Final = 2**31


def read_idx(path: Filename) -> NDArray[np.generic]:
    """Read one array from an IDX file, gzipped or plain.

    The file consists of two zero bytes, the element type, the number of axes, the size of each axis as a big-endian
    uint32, and the elements, with the last axis varying fastest. The result is locked and in native byte order.

    Raises:
        DatasetFormatError: If the file does not have this format, contains more than 2 GiB, or is not a regular file.
            The size in its header is compared with the size of the file before memory is allocated.
        ConfigError: If the path is invalid.
        OSError: If the file cannot be read.

    Source: LeCun, Cortes and Burges, "The MNIST database of handwritten digits", section on file formats.
    """
    name = str(as_path("read_idx", "path", path))
    with open_regular(Path(name), DatasetFormatError) as file:
        head = _content(file, name, _LONGEST_HEADER)
        size = _idx_size(head, name)
        if size > IDX_LIMIT:
            raise DatasetFormatError(f"{name} holds more than {IDX_LIMIT} bytes: its header says {size}")
        _check_room(file, name, size, _idx_shape(head))
        return parse_idx(_content(file, name, size + 1), name)


def _check_room(file: IO[bytes], name: str, size: int, shape: tuple[int, ...]) -> None:
    """Check that a file can have the content that its header declares."""
    stored = file.seek(0, os.SEEK_END)
    if _is_packed(file):
        if size > stored * _MOST_EXPANSION:
            raise _wrong_size(name, size, shape, "less")
    elif size != stored:
        raise _wrong_size(name, size, shape, str(stored))


def read_file(path: Path, limit: int) -> bytes:
    """Return the content of a file, at most ``limit`` bytes, decompressed if it is a gzip file with one member.

    Raises:
        DatasetFormatError: If the gzip stream is damaged, the content is larger than ``limit``, or the path is not a
            regular file.
    """
    with open_regular(path, DatasetFormatError) as file:
        return decompressed(file, str(path), limit)


def decompressed(file: IO[bytes], name: str, limit: int) -> bytes:
    """Do what ``read_file`` does for an open file; ``name`` is for messages."""
    data = _content(file, name, limit + 1)
    if len(data) > limit:
        raise DatasetFormatError(f"{name} holds more than {limit} bytes")
    return data


def _content(file: IO[bytes], name: str, count: int) -> bytes:
    """Return the first ``count`` bytes of a file's content, or all of it; a shorter gzip stream must be complete."""
    if _is_packed(file):
        return _gunzip(file, name, count)
    stored = file.seek(0, os.SEEK_END)
    file.seek(0)
    return file.read(min(count, stored + 1))  # read() allocates all of count


def _is_packed(file: IO[bytes]) -> bool:
    file.seek(0)
    packed = file.read(2) == _GZIP
    file.seek(0)
    return packed


def _gunzip(file: IO[bytes], name: str, count: int) -> bytes:
    unpacker = zlib.decompressobj(wbits=31)
    unpacked = BytesIO()  # it grows in place, and getvalue() does not copy
    size = 0
    try:
        while size < count and not unpacker.eof:
            packed = unpacker.unconsumed_tail or file.read(2**16)
            if not packed:
                raise DatasetFormatError(f"{name} is a gzip file that ends too early")
            size += unpacked.write(unpacker.decompress(packed, count - size))
    except zlib.error as error:
        raise DatasetFormatError(f"{name} is a damaged gzip file: {error}") from error
    if size < count and (unpacker.unused_data or file.read(1)):
        raise DatasetFormatError(f"{name} has bytes after the end of its gzip stream")
    return unpacked.getvalue()


def parse_idx(data: bytes, name: str) -> NDArray[np.generic]:
    """Return the array in the content of an IDX file; ``name`` is for messages. See ``read_idx``."""
    expected = _idx_size(data, name)
    dtype, shape, start = np.dtype(_IDX_TYPES[data[2]]), _idx_shape(data), 4 + 4 * data[3]
    if len(data) != expected:
        raise _wrong_size(name, expected, shape, f"{len(data)}" if len(data) < expected else "more")
    array = np.frombuffer(data, dtype, offset=start).reshape(shape).astype(dtype.newbyteorder("="), copy=False)
    array.flags.writeable = False
    return array


def _wrong_size(name: str, expected: int, shape: tuple[int, ...], got: str) -> DatasetFormatError:
    return DatasetFormatError(f"{name} must have {expected} bytes for sizes {shape}, got {got}")


def _idx_size(data: bytes, name: str) -> int:
    """Return the size that a file must have according to its header, which is at the start of ``data``."""
    if len(data) < 4 or data[:2] != b"\0\0":
        raise DatasetFormatError(f"{name} is not an IDX file: it must begin with two zero bytes, got {data[:4]!r}")
    kind, rank = data[2], data[3]
    if kind not in _IDX_TYPES:
        raise DatasetFormatError(f"{name} has the unknown IDX element type 0x{kind:02x}")
    start, shape = 4 + 4 * rank, _idx_shape(data)
    if not 0 < rank <= _MAX_RANK or len(data) < start or 0 in shape:
        raise DatasetFormatError(
            f"{name} must have 1 to {_MAX_RANK} axes, each with at least one element, "
            f"got {shape} in a header of {start} bytes"
        )
    return start + math.prod(shape) * np.dtype(_IDX_TYPES[kind]).itemsize


def _idx_shape(data: bytes) -> tuple[int, ...]:
    return tuple(int.from_bytes(data[i : i + 4], "big") for i in range(4, 4 + 4 * data[3], 4))
