"""Datasets: the IDX file format, and MNIST with a check of every byte."""

from __future__ import annotations

import hashlib
import math
import os
import re
import tempfile
import zlib
from http.client import HTTPException
from io import BytesIO
from pathlib import Path
from typing import IO, Any, Final
from urllib.request import urlopen

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from funcnet.core.arrays import Array, Labels, lock
from funcnet.core.errors import DatasetFormatError
from funcnet.core.files import Filename, as_path, remove_stale

# ----------------------------------------------------------------------------------------------------- IDX

_IDX_TYPES: Final = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_GZIP: Final = b"\x1f\x8b"
_MAX_RANK: Final = 32  # every version of NumPy supports this rank
_LONGEST_HEADER: Final = 4 + 4 * _MAX_RANK
IDX_LIMIT: Final = 2**31


def read_idx(path: Filename) -> NDArray[np.generic]:
    """Read one array from an IDX file, gzipped or plain.

    The file consists of two zero bytes, the element type, the number of axes, the size of each axis as a big-endian
    uint32, and the elements, with the last axis varying fastest. The result is locked and in native byte order.

    Raises:
        DatasetFormatError: If the file does not have this format or contains more than 2 GiB. Memory is allocated only
            for bytes that the file has, regardless of the size in its header.
        ConfigError: If the path is invalid.
        OSError: If the file cannot be read.

    Source: LeCun, Cortes and Burges, "The MNIST database of handwritten digits", section on file formats.
    """
    file = as_path("read_idx", "path", path)
    size = _idx_size(_read(file, _LONGEST_HEADER), str(file))
    if size > IDX_LIMIT:
        raise DatasetFormatError(f"{file} holds more than {IDX_LIMIT} bytes: its header says {size}")
    return parse_idx(_read(file, size + 1), str(file))


def read_file(path: Path, limit: int) -> bytes:
    """Return the content of a file, at most ``limit`` bytes, decompressed if it is a gzip file with one member.

    Raises:
        DatasetFormatError: If the gzip stream is damaged, or the content is larger than ``limit``.
    """
    data = _read(path, limit + 1)
    if len(data) > limit:
        raise DatasetFormatError(f"{path} holds more than {limit} bytes")
    return data


def _read(path: Path, count: int) -> bytes:
    """Return the first ``count`` bytes of a file's content, or all of it; a shorter gzip stream must be complete."""
    with path.open("rb") as file:
        head = file.read(2)
        file.seek(0)
        if head == _GZIP:
            return _gunzip(file, path, count)
        return file.read(min(count, os.fstat(file.fileno()).st_size + 1))  # read() allocates all of count


def _gunzip(file: IO[bytes], path: Path, count: int) -> bytes:
    unpacker = zlib.decompressobj(wbits=31)
    unpacked = BytesIO()  # it grows in place, and getvalue() does not copy
    size = 0
    try:
        while size < count and not unpacker.eof:
            packed = unpacker.unconsumed_tail or file.read(2**16)
            if not packed:
                raise DatasetFormatError(f"{path} is a gzip file that ends too early")
            size += unpacked.write(unpacker.decompress(packed, count - size))
    except zlib.error as error:
        raise DatasetFormatError(f"{path} is a damaged gzip file: {error}") from error
    if size < count and (unpacker.unused_data or file.read(1)):
        raise DatasetFormatError(f"{path} has bytes after the end of its gzip stream")
    return unpacked.getvalue()


def parse_idx(data: bytes, name: str) -> NDArray[np.generic]:
    """Return the array in the content of an IDX file; ``name`` is for messages. See ``read_idx``."""
    expected = _idx_size(data, name)
    dtype, shape, start = np.dtype(_IDX_TYPES[data[2]]), _idx_shape(data), 4 + 4 * data[3]
    if len(data) != expected:
        got = f"{len(data)}" if len(data) < expected else "more"
        raise DatasetFormatError(f"{name} must have {expected} bytes for sizes {shape}, got {got}")
    array = np.frombuffer(data, dtype, offset=start).reshape(shape).astype(dtype.newbyteorder("="), copy=False)
    array.flags.writeable = False
    return array


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


# --------------------------------------------------------------------------------------------------- MNIST

_FILES: Final = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
_MIRRORS: Final = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
_TEMPORARY: Final = re.compile(r"[a-z0-9-]+-ubyte\.[a-z0-9_]{8}\.part")
_FILE_LIMIT: Final = 48_000_000
_TIMEOUT: Final = 30.0
VALIDATION: Final = 10_000


@frozen(eq=False)
class Examples:
    """Inputs and their class ids. Shapes: x (N, 784) or (N, 28, 28, 1), y (N,)."""

    x: Array
    y: Labels

    def __repr__(self) -> str:
        return f"Examples(x={self.x.dtype} {self.x.shape}, y={self.y.dtype} {self.y.shape})"


@frozen(eq=False)
class MNIST:
    """The three parts of MNIST: 50,000 training, 10,000 validation and 10,000 test examples."""

    train: Examples
    validation: Examples
    test: Examples


def load_mnist(directory: Filename | None = None, *, flatten: bool = True, scale: bool = True) -> MNIST:
    """Load MNIST's handwritten digits. The last 10,000 training examples are the validation part, as in the post.

    The four IDX files, gzipped or plain, are read from ``directory``. Without a directory, they are read from
    ``$FUNCNET_DATA/mnist`` or from the user's cache; if neither has them, they are downloaded into the cache. The
    content of each file is compared with its known SHA-256.

    Args:
        directory: The directory of the files.
        flatten: Return rows of 784 numbers; otherwise images of shape (28, 28, 1).
        scale: Return float32 from 0 to 1; otherwise uint8 as in the files.

    Raises:
        FileNotFoundError: If no place has the files and they cannot be downloaded; the message says what to do.
        DatasetFormatError: If a file is not the genuine MNIST file.

    Source: LeCun et al., "Gradient-based learning applied to document recognition", Proceedings of the IEEE 86 (1998).
    """
    arrays = [parse_idx(data, name) for name, data in _mnist_files(directory).items()]
    train_images, train_labels, test_images, test_labels = arrays

    def images(raw: NDArray[Any]) -> Array:
        shaped = raw.reshape(len(raw), 784) if flatten else raw.reshape(len(raw), 28, 28, 1)
        return lock(shaped / np.float32(255) if scale else shaped)

    def examples(x: Array, y: NDArray[np.generic]) -> Examples:
        labels = y.astype(np.int64)
        labels.flags.writeable = False
        return Examples(x, labels)

    x, y = images(train_images), train_labels
    return MNIST(
        train=examples(x[:-VALIDATION], y[:-VALIDATION]),
        validation=examples(x[-VALIDATION:], y[-VALIDATION:]),
        test=examples(images(test_images), test_labels),
    )


def _mnist_files(directory: Filename | None) -> dict[str, bytes]:
    """Return the content of each file by name, from the first place that has all four files."""
    if directory is not None:
        places = [as_path("load_mnist", "directory", directory)]
    else:
        named = os.environ.get("FUNCNET_DATA")
        places = ([Path(named) / "mnist"] if named else []) + [cache_directory()]
    for place in places:
        paths = [_find(place, name) for name in _FILES]
        if all(paths):
            return {name: _checked(path, name) for name, path in zip(_FILES, paths, strict=True) if path}
    if directory is not None:
        raise FileNotFoundError(f"{directory} does not have the four MNIST files {', '.join(_FILES)} (or with .gz)")
    return {name: _fetched(places[-1], name) for name in _FILES}


def cache_directory() -> Path:
    """Return the directory of downloads: ``$XDG_CACHE_HOME/funcnet/mnist``, by default in ``~/.cache``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "funcnet" / "mnist"


def _find(place: Path, name: str) -> Path | None:
    candidates = (place / f"{name}.gz", place / name)
    return next((path for path in candidates if path.is_file()), None)


def _checked(path: Path, name: str) -> bytes:
    data = read_file(path, _FILE_LIMIT)
    if _sha256(data) != _FILES[name]:
        raise DatasetFormatError(f"{path} is not MNIST's {name}: its SHA-256 differs; delete it and load again")
    return data


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _fetched(cache: Path, name: str) -> bytes:
    """Return the content of one file from the cache, or download it; a download is kept only if it is genuine."""
    found = _find(cache, name)
    if found:
        return _checked(found, name)
    reasons: list[str] = []
    for mirror in _MIRRORS:
        try:
            return _download(f"{mirror}{name}.gz", cache, name)
        except (OSError, HTTPException, ValueError) as error:  # urllib raises ValueError for bad addresses
            reasons.append(f"{mirror}: {error}")
    raise FileNotFoundError(
        f"MNIST's {name} is neither in $FUNCNET_DATA/mnist nor in {cache}, and it could not be downloaded "
        f"({'; '.join(reasons)}). Connect to the network and try again, or put the four files "
        f"({', '.join(_FILES)}, with or without .gz) into a directory and call load_mnist(directory)."
    )


def _download(url: str, cache: Path, name: str) -> bytes:
    cache.mkdir(parents=True, exist_ok=True)
    remove_stale(cache, _TEMPORARY)
    with urlopen(url, timeout=_TIMEOUT) as response:  # noqa: S310  # the two https mirrors above
        packed: bytes = response.read(_FILE_LIMIT + 1)
    descriptor, temporary = tempfile.mkstemp(dir=cache, prefix=f"{name}.", suffix=".part")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(packed)
        try:
            data = _checked(Path(temporary), name)
        except DatasetFormatError:
            raise DatasetFormatError(f"the download is not {name}.gz: its SHA-256 or its format is wrong") from None
        Path(temporary).chmod(0o644)
        Path(temporary).replace(cache / f"{name}.gz")
    finally:
        Path(temporary).unlink(missing_ok=True)
    return data
