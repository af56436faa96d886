"""Targets: functions that read bytes as a file and raise only the reader's own error.

Most changes of a file fail at its checksum. The first byte of a target's input therefore selects how the rest becomes
a file: unchanged, or sealed with a correct checksum, whatever the content.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

import attrs
import numpy as np
from attrs import frozen

import funcnet as fn
from funcnet import datasets
from funcnet.runs.checkpoints import read_notes
from funcnet.runs.notes import Notes
from funcnet.runs.rows import ROWS, line_of

KEPT: Final = tempfile.TemporaryDirectory(prefix="funcnet-fuzz-")
DIRECTORY: Final = Path(KEPT.name)
SEPARATOR: Final = b"\xff\xfe"
NO_HASH: Final = b"0" * 64
NET: Final = (fn.dense(fn.Key(0), 2, 1), fn.Dropout(0.5), fn.Residual((fn.Tanh(),)), (fn.LeakyReLU(),))
STATE: Final = fn.TrainState.create(NET, fn.Momentum(learning_rate=0.1), key=fn.Key(1, (2,)))


@frozen
class Target:
    """A fuzzing target: the function, its initial inputs, and words that occur in such files."""

    read: Callable[[bytes], None]
    seeds: tuple[bytes, ...]
    words: tuple[bytes, ...] = ()


def file_of(content: bytes, name: str = "input") -> Path:
    """Write the content to a file, always the same one, and return its path."""
    path = DIRECTORY / name
    path.write_bytes(content)
    return path


# ----------------------------------------------------------------------------------------------------- IDX


def read_idx(data: bytes) -> None:
    """Read an IDX file; the result must have the file's elements."""
    try:
        array = datasets.read_idx(file_of(data))
    except fn.DatasetFormatError:
        return
    assert array.size * array.itemsize == len(data) - 4 - 4 * array.ndim
    assert array.dtype.isnative
    big = np.ascontiguousarray(array, array.dtype.newbyteorder(">"))
    assert big.tobytes() == data[4 + 4 * array.ndim :]


def read_gzip(data: bytes) -> None:
    """Read a gzip file: either the bytes unchanged, or the parts between separators as members, then the last part."""
    content = data[1:]
    if data[:1] == b"S":
        *parts, rest = content.split(SEPARATOR)
        content = b"".join(gzip.compress(part, 1, mtime=0) for part in parts) + rest
    try:
        array = datasets.read_idx(file_of(content))
    except fn.DatasetFormatError:
        return
    unpacked = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
    assert unpacked[4 + 4 * array.ndim :] == np.ascontiguousarray(array, array.dtype.newbyteorder(">")).tobytes()


IDX_SEEDS: Final = (
    b"\0\0\x08\1\0\0\0\3abc",
    b"\0\0\x0b\2\0\0\0\1\0\0\0\2abcd",
    b"\0\0\x0e\3\0\0\0\1\0\0\0\1\0\0\0\1abcdefgh",
    b"\0\0\x0d\1\0\0\0\2\x7f\xc0\0\0\xff\x80\0\0",
    b"\0\0\x08\3\0\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff",
)
GZIP_SEEDS: Final = (
    *(b"S" + seed + SEPARATOR for seed in IDX_SEEDS),
    b"S" + SEPARATOR.join((IDX_SEEDS[0], IDX_SEEDS[1], b"")),
    b"S" + IDX_SEEDS[0] + SEPARATOR + b"junk",
    *(b"R" + gzip.compress(seed, 9, mtime=0) for seed in IDX_SEEDS),
    b"R\x1f\x8b\x08\x1e" + bytes(6) + b"\2\0abname\0comment\0",
)

# --------------------------------------------------------------------------------------------- checkpoints


def sealed(text: bytes, arrays: bytes) -> bytes:
    """Return a checkpoint with a correct length and a correct SHA-256, whatever the header contains."""
    text += b" " * (-len(text) % 8)
    text = text.replace(NO_HASH, hashlib.sha256(text + arrays).hexdigest().encode())
    return len(text).to_bytes(8, "little") + text + arrays


def unsealed(value: object, notes: Notes | None = None) -> tuple[bytes, bytes]:
    """Return the header of a value's checkpoint, without its hash, and the arrays."""
    path = DIRECTORY / "seed"
    save: Callable[..., None] = fn.save
    save(path, value, notes=notes)
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    text = content[8 : 8 + length].rstrip()
    metadata = json.loads(text)["__metadata__"]
    return text.replace(metadata["sha256"].encode(), NO_HASH), content[8 + length :]


def with_structure(structure: bytes) -> bytes:
    """Return the state's checkpoint with a different structure."""
    header, arrays = STATE_PARTS
    said = json.loads(header)
    said["__metadata__"]["structure"] = structure.decode("latin-1")
    return sealed(json.dumps(said, separators=(",", ":")).encode(), arrays)


def read_checkpoint(data: bytes) -> None:
    """Read a checkpoint: bytes unchanged, or with a sealed header or structure; saving it must give the same file."""
    content = data[1:]
    if data[:1] == b"S":
        text, _, arrays = content.partition(SEPARATOR)
        content = sealed(text, arrays)
    elif data[:1] == b"T":
        content = with_structure(content)
    try:
        value = fn.load(file_of(content), allow_nonfinite=data[:1] == b"S")
    except fn.CheckpointError as error:
        assert str(error).isprintable()  # noqa: PT017
        return
    fn.save(DIRECTORY / "again", value, notes=read_notes(file_of(content)), allow_nonfinite=True)
    if b"scalar" in content:  # records convert a NumPy number, so the file is another one
        assert fn.fingerprint(fn.load(DIRECTORY / "again", allow_nonfinite=True)) == fn.fingerprint(value)
    else:
        assert same_but_for_the_environment((DIRECTORY / "again").read_bytes(), content)
    repr(value)


def same_but_for_the_environment(saved: bytes, content: bytes) -> bool:
    """Whether two checkpoints differ only in their environment, and therefore in their hash."""
    parts: list[object] = []
    for each in (saved, content):
        length = int.from_bytes(each[:8], "little")
        header = json.loads(each[8 : 8 + length])
        for entry in ("environment", "sha256"):
            del header["__metadata__"][entry]
        parts.append((list(header.items()), each[8 + length :]))
    return parts[0] == parts[1]


STATE_PARTS: Final = unsealed(STATE)
VALUES: Final = (STATE, NET, (), (fn.LeakyReLU(0.25), fn.Reshape((1, 2))), fn.Fit(STATE, STATE, 0, 0, (0.5,), (0.25,)))
CHECKPOINT_SEEDS: Final = (
    *(b"S" + SEPARATOR.join(unsealed(value)) for value in VALUES),
    *(b"R" + sealed(*unsealed(value)) for value in VALUES),
    b"S" + SEPARATOR.join(unsealed(NET, {"classes": ["a", "b"], "scale": 0.5, "more": {"": None}})),
    *(b"T" + json.loads(unsealed(value)[0])["__metadata__"]["structure"].encode() for value in VALUES),
    b'T{"record":["funcnet.Batch",{"x":{"scalar":["float32","0000803f"]},"y":null,"weight":null}]}',
)
CHECKPOINT_WORDS: Final = tuple(
    b'__metadata__ "structure" "environment" "notes" "sha256" funcnet_format data_offsets "shape" "dtype" "F32" "F64" '
    b'{"record":[" {"float":" {"scalar":[" {"array":[" {"name":" funcnet. funcnet.Dense funcnet.TrainState '
    b"funcnet.Dropout funcnet.Residual funcnet.Reshape funcnet.Key funcnet.SGD funcnet.softmax_cross_entropy "
    b'float64 int8 bool "weight" "bias" "net" "rate" "key" null true 18446744073709551616 -1 0x1p+0 inf nan'.split()
)

# --------------------------------------------------------------------------------------------- array files


def read_arrays(data: bytes) -> None:
    """Read a safetensors file of any library; the arrays have as many numbers as the file says."""
    try:
        arrays = fn.load_arrays(file_of(data))
    except fn.CheckpointError as error:
        assert str(error).isprintable()  # noqa: PT017
        return
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    assert [*arrays] == [name for name in header if name != "__metadata__"]
    for name, array in arrays.items():
        assert list(array.shape) == header[name]["shape"]
        assert array.dtype.isnative
        assert not array.flags.writeable


def plain_file(data: bytes, **entries: tuple[str, list[int]]) -> bytes:
    """Return a file of another library with arrays of these dtypes and shapes."""
    said: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, (dtype, shape) in entries.items():
        start, end = end, end + int(np.prod(shape)) * {"BOOL": 1, "BF16": 2, "F64": 8, "I16": 2}[dtype]
        said[name] = {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(said).encode()
    return len(text).to_bytes(8, "little") + text + data


ARRAY_SEEDS: Final = (
    plain_file(bytes(16) + b"\1\2\3\4", weight=("F64", [2, 1]), half=("BF16", [1]), count=("I16", [])),
    plain_file(b"\1\0", mask=("BOOL", [2]), nothing=("F64", [0, 3])),
    sealed(*STATE_PARTS),
)
ARRAY_WORDS: Final = tuple(b'"BOOL" "BF16" "F16" "I64" "U8" "F8_E4M3" __metadata__ data_offsets shape dtype'.split())

# ---------------------------------------------------------------------------------------------------- runs


def sealed_row(row: fn.RunRow, after: fn.RunRow | None = None) -> bytes:
    """Return a row's line with correct hashes."""
    return line_of(row.sealed(after))


def read_rows(data: bytes) -> None:
    """Read a run's rows: either the bytes unchanged, or the first line sealed."""
    content = data[1:]
    if data[:1] == b"S":
        try:
            content = sealed_row(fn.RunRow(**json.loads(content)))
        except (ValueError, TypeError, RecursionError):
            return
    file_of(content, ROWS)
    try:
        run = fn.load_run(DIRECTORY)
    except fn.CheckpointError:
        return
    lines = b"".join(map(line_of, run.rows))
    assert content.startswith(lines)
    assert b"\n" not in content[len(lines) :]


FIRST: Final = fn.RunRow(None, 0, "", "a", "", "b", "native", "c").sealed()
ROW_SEEDS: Final = (
    b"R" + sealed_row(FIRST),
    b"R" + sealed_row(FIRST) + sealed_row(attrs.evolve(FIRST, epoch=0, steps=2), FIRST),
    b"R" + sealed_row(FIRST) + b"torn",
    b"S" + sealed_row(FIRST),
)

# ----------------------------------------------------------------------------------------- a planted fault


def read_wrongly(data: bytes) -> None:
    """Fail on files whose first axis has 7 elements, which fuzzing must find."""
    read_idx(data)
    if data[4:8] == b"\0\0\0\7":
        raise LookupError


TARGETS: Final[dict[str, Target]] = {
    "idx": Target(read_idx, IDX_SEEDS),
    "gzip": Target(read_gzip, GZIP_SEEDS, (SEPARATOR, b"\x1f\x8b\x08")),
    "checkpoint": Target(read_checkpoint, CHECKPOINT_SEEDS, (SEPARATOR, NO_HASH, *CHECKPOINT_WORDS)),
    "arrays": Target(read_arrays, ARRAY_SEEDS, ARRAY_WORDS),
    "rows": Target(read_rows, ROW_SEEDS, (b'"epoch"', b"null", b"true", b"portable", b"\n")),
    "planted": Target(read_wrongly, IDX_SEEDS),
}
