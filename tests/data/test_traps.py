"""Bombs and traps: files that promise more than they have, or have more than they promise, cost no memory to refuse."""

from __future__ import annotations

import gzip
import json
import os
import struct
import subprocess
import sys
import tracemalloc
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from surroundings import SEARCHED

import funcnet as fn
from funcnet import datasets
from funcnet.runs.rows import LONGEST_ROW, ROWS
from funcnet.runs.safetensors import HEADER_LIMIT

MIB, GIB = 2**20, 2**30
Trap = Callable[[Path], object]
Reader = Callable[[Path], object]


def idx_header(*sizes: int, kind: int = 0x08) -> bytes:
    """What an IDX file begins with."""
    return struct.pack(f">4B{len(sizes)}I", 0, 0, kind, len(sizes), *sizes)


def sparse(path: Path, start: bytes, size: int) -> None:
    """A file that begins with these bytes, and is zeros on to this size; the zeros take no room on a disk."""
    path.write_bytes(start)
    os.truncate(path, size)


def packed(path: Path, start: bytes, zeros: int) -> None:
    """A gzip file of these bytes and this many zeros, written piece by piece."""
    packer = zlib.compressobj(9, wbits=31)
    with path.open("wb") as file:
        file.write(packer.compress(start))
        for _ in range(zeros // MIB):
            file.write(packer.compress(bytes(MIB)))
        file.write(packer.flush())


def endless_name(path: Path) -> None:
    """A gzip header whose file name has no end."""
    path.write_bytes(b"\x1f\x8b\x08\x08" + bytes(6) + b"x" * (16 * MIB))


def members(path: Path) -> None:
    """Many gzip members, each of which is a good file."""
    path.write_bytes(gzip.compress(idx_header(1) + b"a") * 50_000)


def framed(text: bytes, size: int | None = None) -> Callable[[Path], None]:
    """A checkpoint with this header, followed by zeros up to a size."""
    content = len(text).to_bytes(8, "little") + text
    return lambda path: sparse(path, content, len(content) if size is None else size)


def checkpoint(path: Path, shape: Sequence[int], size: int) -> None:
    """A network's checkpoint whose one entry is of another shape, with a file to match it."""
    fn.save(path, (fn.rms_norm(3),))
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    end = 4
    for axis in shape:
        end *= axis
    header["0.scale"] = {"dtype": "F32", "shape": list(shape), "data_offsets": [0, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    sparse(path, len(text).to_bytes(8, "little") + text, 8 + len(text) + size)


def names(path: Path) -> None:
    """As many entries as a header can name."""
    entries = ",".join(f'"{name}":{{}}' for name in range(80_000))
    framed(b"{" + entries.encode() + b"}")(path)


IDX_TRAPS: dict[str, tuple[Trap, str]] = {
    "few bytes promise 2 GiB": (lambda p: sparse(p, idx_header(2**31 - 100), 100), "must have 2147483556 bytes"),
    "3 GiB promise 1 GiB": (lambda p: sparse(p, idx_header(GIB), 3 * GIB), "must have 1073741832 bytes"),
    "few packed bytes promise 1 GiB": (lambda p: packed(p, idx_header(GIB), 0), "sizes (1073741824,), got less"),
    "3 GiB promise little": (lambda p: sparse(p, idx_header(10), 3 * GIB), "must have 18 bytes"),
    "3 GiB promise 3 GiB": (lambda p: sparse(p, idx_header(3 * GIB), 8 + 3 * GIB), "holds more than 2147483648 bytes"),
    "a bomb promises little": (lambda p: packed(p, idx_header(10), GIB // 4), "sizes (10,), got more"),
    "a bomb promises 3 GiB": (lambda p: packed(p, idx_header(3 * GIB), GIB // 4), "holds more than 2147483648 bytes"),
    "a bomb of no format": (lambda p: packed(p, b"", GIB // 4), "unknown IDX element type 0x00"),
    "an endless name": (endless_name, "ends too early"),
    "fifty thousand members": (members, "has bytes after the end of its gzip stream"),
    "255 axes of the largest": (lambda p: packed(p, idx_header(*[2**32 - 1] * 255), GIB // 4), "1 to 32 axes"),
}  # fmt: skip
TOO_LONG = f"at most {HEADER_LIMIT} bytes"
CHECKPOINT_TRAPS: dict[str, tuple[Trap, str]] = {
    "8 GiB of zeros": (lambda p: sparse(p, b"", 8 * GIB), "its header must have"),
    "a header of 8 GiB": (lambda p: sparse(p, (8 * GIB - 8).to_bytes(8, "little"), 8 * GIB), TOO_LONG),
    "an array of 4 TiB": (lambda p: checkpoint(p, [2**40], 12), "it was cut or extended"),
    "8 GiB after the arrays": (lambda p: checkpoint(p, [3], 8 * GIB), "it was cut or extended"),
    "80,000 names": (names, "not written by funcnet's save"),
}  # fmt: skip
ROWS_TRAPS: dict[str, tuple[Trap, str]] = {
    "a line of 8 GiB": (lambda p: sparse(p / ROWS, b"{", 8 * GIB), "line 1 is not a row"),
    "a row too long": (lambda p: (p / ROWS).write_bytes(b" " * LONGEST_ROW + b"\n"), "line 1 is not a row"),
}


def read_checkpoint(path: Path) -> object:
    """Read a network."""
    return fn.load(path)


READERS: dict[str, tuple[Reader, type[fn.FuncnetError], dict[str, tuple[Trap, str]], int]] = {
    "read_idx": (datasets.read_idx, fn.DatasetFormatError, IDX_TRAPS, 2 * MIB),
    "load": (read_checkpoint, fn.CheckpointError, CHECKPOINT_TRAPS, 40 * MIB),
    "load_run": (fn.load_run, fn.CheckpointError, ROWS_TRAPS, 2 * MIB),
}
TRAPS = [(reader, trap) for reader, row in READERS.items() for trap in row[2]]


def set_trap(reader: str, trap: str, directory: Path) -> Path:
    """Make a trap's file, and return the path that its reader gets."""
    path = directory if reader == "load_run" else directory / "trap"
    READERS[reader][2][trap][0](path)
    return path


@pytest.mark.slow
@pytest.mark.parametrize(("reader", "trap"), TRAPS, ids=[f"{reader}: {trap}" for reader, trap in TRAPS])
def test_a_trap_is_refused_in_little_memory(reader: str, trap: str, tmp_path: Path) -> None:
    """By the right error, with the path and the reason; a checkpoint's header may take the 40 MiB of its limit."""
    read, error, traps, most = READERS[reader]
    path = set_trap(reader, trap, tmp_path)
    tracemalloc.start()
    try:
        with pytest.raises(fn.FuncnetError) as caught:
            read(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert type(caught.value) is error
    assert str(path) in str(caught.value)
    assert traps[trap][1] in str(caught.value)
    assert peak < most


def limited(program: str, *arguments: object, room: int = 64 * MIB) -> subprocess.CompletedProcess[str]:
    """Run a program that can take no more address space than it has when it begins, and so much room."""
    pytest.importorskip("resource")
    if not Path("/proc/self/statm").exists():
        pytest.skip("the size of a process cannot be read here")
    limit = (
        "import resource, sys\n"
        f"sys.path[:0] = {SEARCHED!r}.splitlines()\n"
        "import test_traps as t\n"
        "from pathlib import Path\n"
        "size = int(Path('/proc/self/statm').read_text().split()[0]) * resource.getpagesize()\n"
        f"resource.setrlimit(resource.RLIMIT_AS, (size + {room}, size + {room}))\n"
    )
    command = [sys.executable, "-c", limit + program, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_every_trap_is_refused_where_64_mib_are_left(tmp_path: Path) -> None:
    """The system itself counts: no reader asks for more, not even for memory that it would not touch."""
    arguments: list[object] = []
    for number, (reader, trap) in enumerate(TRAPS):
        directory = tmp_path / str(number)
        directory.mkdir()
        arguments += [reader, set_trap(reader, trap, directory)]
    program = (
        "for reader, path in zip(*[iter(sys.argv[1:])] * 2):\n"
        "    try: t.READERS[reader][0](Path(path))\n"
        "    except t.fn.FuncnetError as error: print(type(error) is t.READERS[reader][1])\n"
    )
    result = limited(program, *arguments)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == ["True"] * len(TRAPS)


@pytest.mark.slow
def test_the_limit_of_memory_is_felt() -> None:
    """What does ask for more gets the system's MemoryError: the planted fault of the test above."""
    result = limited("try: bytes(65 * 2**20)\nexcept MemoryError: print('felt')\n")
    assert result.stdout == "felt\n", result.stderr


@pytest.mark.slow
def test_a_good_file_is_read_where_little_is_left(tmp_path: Path) -> None:
    """A limit refuses nothing that fits: 8 MiB, packed and plain, and a checkpoint."""
    content = idx_header(8 * MIB) + bytes(8 * MIB)
    (tmp_path / "plain").write_bytes(content)
    (tmp_path / "packed").write_bytes(gzip.compress(content))
    fn.save(tmp_path / "net", fn.dense(fn.Key(0), 2000, 2000))
    program = (
        "for name in ('plain', 'packed'): print(t.datasets.read_idx(Path(sys.argv[1]) / name).shape)\n"
        "print(t.fn.load(Path(sys.argv[1]) / 'net'))\n"
    )
    result = limited(program, tmp_path)
    dense = "Dense(weight=float32 (2000, 2000), bias=float32 (2000,))"
    assert result.stdout.splitlines() == [*[str((8 * MIB,))] * 2, dense], result.stderr
