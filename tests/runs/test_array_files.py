"""Array files: every dtype of the official library and of PyTorch, malformed headers, and files written by ``save``."""

from __future__ import annotations

import json
import os
import struct
import tracemalloc
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from networks import inputs
from surroundings import needs_large_files

import funcnet as fn
from funcnet.core.arrays import is_canonical
from funcnet.core.trees import same_bits

KEY: Final = fn.Key(5)
NET: Final = (fn.dense(KEY, 3, 2), fn.ReLU(), fn.dense(KEY.child(1), 2, 2))
DTYPES: Final = ("f8", "f4", "f2", "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1", "?")
BRAIN: Final = np.array([0x3F80, 0xC049, 0x0001, 0x7F80, 0x7FC0, 0x8000], "<u2")
"""The bfloat16 numbers 1, -3.140625, the smallest, infinity, NaN and -0."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of a test's file."""
    return tmp_path / "arrays.safetensors"


def written(path: Path, header: Any, data: bytes = b"") -> Path:
    """Write a file with this header, a value or its text, and return the path."""
    text = header if isinstance(header, bytes) else json.dumps(header, ensure_ascii=False).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def entry(dtype: str, shape: list[int], *offsets: int) -> dict[str, Any]:
    """Return the header entry of an array."""
    return {"dtype": dtype, "shape": shape, "data_offsets": list(offsets)}


# ----------------------------------------------------------------------------------------------- other writers


def test_what_the_official_library_writes(path: Path) -> None:
    """Every dtype of NumPy, arrays without axes or elements, metadata and any name come back, locked, in its order."""
    official = pytest.importorskip("safetensors.numpy", reason="safetensors is not installed")
    numbers = np.array([[0, 1, 2], [3, 4, 127]])
    arrays = {f"größe {kind}": numbers.astype(kind) for kind in DTYPES}
    arrays |= {"scalar": np.array(3), "nothing": np.zeros((0, 4), np.float32), "odd": np.array([np.nan, -np.inf, -0.0])}
    official.save_file(arrays, path, {"format": "np", "funcnet": "ö"})
    loaded = fn.load_arrays(path)
    header = json.loads(path.read_bytes()[8:].split(b"}}", 1)[0] + b"}}")
    assert [*loaded] == [name for name in header if name != "__metadata__"]
    assert set(loaded) == set(arrays)
    for name, array in loaded.items():
        assert array.tobytes() == arrays[name].tobytes()
        np.testing.assert_array_equal(array, arrays[name], strict=True)
        assert is_canonical(array)


def test_what_pytorch_writes(path: Path) -> None:
    """Linear weights of each float type come back in PyTorch's layout; a bfloat16 is the float32 of the same value."""
    torch: Any = pytest.importorskip("torch", reason="torch is not installed", exc_type=ImportError)
    official = pytest.importorskip("safetensors.torch", reason="safetensors is not installed")
    for kind in (torch.float32, torch.float64, torch.float16, torch.bfloat16):
        model = torch.nn.Sequential(torch.nn.Linear(3, 2, dtype=kind), torch.nn.BatchNorm1d(2, dtype=kind))
        state = model.state_dict()
        official.save_file(state, path)
        loaded = fn.load_arrays(path)
        assert set(loaded) == set(state)
        for name, array in loaded.items():
            same = state[name].float() if state[name].dtype == torch.bfloat16 else state[name]
            np.testing.assert_array_equal(array, same.numpy(), strict=True)
    assert loaded["0.weight"].shape == (2, 3)
    assert loaded["1.num_batches_tracked"].shape == ()


def test_bfloat16_is_exact(path: Path) -> None:
    """Each of the 65,536 numbers is the float32 of the same bits, then zeros."""
    every = np.arange(2**16, dtype="<u2")
    written(path, {"all": entry("BF16", [2**8, 2**8], 0, 2**17), "one": entry("BF16", [], 2**17, 2**17 + 2)},
            every.tobytes() + BRAIN[1:2].tobytes())  # fmt: skip
    arrays = fn.load_arrays(path)
    assert arrays["all"].dtype == np.float32
    np.testing.assert_array_equal(arrays["all"].view(np.uint32).ravel(), every.astype(np.uint32) << 16)
    np.testing.assert_array_equal(arrays["one"], np.array(-3.140625, np.float32), strict=True)
    assert all(map(is_canonical, arrays.values()))


def test_bfloat16_takes_little_memory(path: Path) -> None:
    """Beside the bytes of the file, only the float32 array is allocated."""
    size = 2**20
    written(path, {"a": entry("BF16", [size // 2], 0, size)}, bytes(size))
    fn.load_arrays(path)  # the first call imports modules
    tracemalloc.start()
    try:
        assert fn.load_arrays(path)["a"].nbytes == 2 * size
        assert tracemalloc.get_traced_memory()[1] < 3.1 * size
    finally:
        tracemalloc.stop()


def test_a_header_in_any_order(path: Path) -> None:
    """Names keep the header's order, whatever the order of the bytes, of an entry's keys, and of an empty array."""
    header = {
        "10.b": entry("U8", [2], 4, 6),
        "2.a": {"shape": [1], "data_offsets": [0, 4], "dtype": "F32"},
        "none": entry("F64", [0], 4, 4),
        "__metadata__": {},
    }
    arrays = fn.load_arrays(written(path, header, np.float32(0.5).tobytes() + b"\1\2"))
    assert {name: array.tolist() for name, array in arrays.items()} == {"10.b": [1, 2], "2.a": [0.5], "none": []}
    assert fn.load_arrays(written(path, {})) == {}


# ------------------------------------------------------------------------------------------------- funcnet's own


def test_what_save_writes(path: Path) -> None:
    """A network's arrays have the names of ``named_arrays``, so they fit another; the file's hash is checked."""
    fn.save(path, NET, notes={"classes": ["a", "b"]})
    arrays = fn.load_arrays(path)
    assert fn.equal(fn.with_named_arrays((fn.dense(KEY, 3, 2), fn.Tanh(), fn.dense(KEY, 2, 2)), arrays)[2], NET[2])
    assert arrays["2.weight"].tobytes() == NET[2].weight.tobytes()
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(fn.CheckpointError, match=r"does not match its SHA-256; the file is damaged$"):
        fn.load_arrays(path)


def test_load_says_how_to_read_a_plain_file(path: Path) -> None:
    """The message has the functions that do it, and they do."""
    official = pytest.importorskip("safetensors.numpy", reason="safetensors is not installed")
    other = fn.mlp(fn.Key(1), (3, 2))
    official.save_file(fn.named_arrays(other), path)
    with pytest.raises(fn.CheckpointError, match=r"use load_arrays\(path\), then with_named_arrays or from_torch$"):
        fn.load(path)
    assert fn.equal(fn.with_named_arrays(fn.mlp(fn.Key(0), (3, 2)), fn.load_arrays(path)), other)


# --------------------------------------------------------------------------------------------------- malformed

MALFORMED: Final[dict[str, tuple[Any, int, str]]] = {
    "a list": ([], 0, "its header must be an object, got []"),
    "no JSON": (b"{]", 0, "it is not a safetensors file, or it is damaged: its header is not JSON"),
    "not UTF-8": (b'{"\xff":1}', 0, "its header is not JSON"),
    "a name twice": (b'{"a":1,"a":1}', 0, "its header has the key 'a' twice"),
    "metadata that are a list": ({"__metadata__": []}, 0, "its metadata must be strings by name, got []"),
    "metadata that are numbers": ({"__metadata__": {"a": 1}}, 0, "its metadata must be strings by name, got {'a': 1}"),
    "a name that moves the cursor": ({"\x1b[31m": 1}, 0, r"an array's name must be printable, got '\x1b[31m'"),
    "half a character": (rb'{"\ud800":1}', 0, r"an array's name must be printable, got '\ud800'"),
    "no entry": ({"a": 1}, 0, "the data_offsets of a must be a list of ints in [0, 2**63), got None"),
    "no shape": ({"a": {"dtype": "F32", "data_offsets": [0, 4]}}, 4, "a must have dtype, shape and data_offsets, got"),
    "a key more": ({"a": {**entry("F32", [1], 0, 4), "strides": [4]}}, 4, "must have dtype, shape and data_offsets"),
    "another dtype": ({"a": entry("F8_E4M3", [4], 0, 4)}, 4, "I8, U64, U32, U16, U8 or BOOL, got 'F8_E4M3'"),
    "a dtype that is a list": ({"a": entry([], [4], 0, 4)}, 4, "a must have the dtype F64, "),  # type: ignore[arg-type]
    "a size below 0": ({"a": entry("U8", [-4], 0, 4)}, 4, "the shape of a must be a list of ints in [0, 2**63)"),
    "a size that wraps": ({"a": entry("F32", [2**62, 4], 0, 0)}, 0, "must have the data_offsets [0, 7378697629"),
    "too many axes": ({"a": entry("U8", [1] * 33, 0, 1)}, 1, "a must have at most 32 axes, got [1, 1, "),
    "one offset": ({"a": entry("F32", [1], 0)}, 4, "a must have the data_offsets [0, 4]"),
    "offsets backwards": ({"a": entry("U8", [4], 4, 0)}, 4, "a must have the data_offsets [0, 4]"),
    "too few bytes": ({"a": entry("F32", [2], 0, 4)}, 4, "[0, 8], without gaps and for the shape [2], got [0, 4]"),
    "a gap": ({"a": entry("U8", [1], 0, 1), "b": entry("U8", [1], 2, 3)}, 3, "b must have the data_offsets [1, 2]"),
    "a gap before": ({"a": entry("U8", [1], 1, 2)}, 2, "a must have the data_offsets [0, 1], without gaps"),
    "an overlap": (
        {"a": entry("U8", [2], 0, 2), "b": entry("U8", [2], 1, 3)},
        3,
        "b must have the data_offsets [2, 4]",
    ),
    "the same bytes": (
        {"a": entry("U8", [2], 0, 2), "b": entry("U8", [2], 0, 2)},
        2,
        "b must have the data_offsets [2",
    ),
    "a byte less": ({"a": entry("U8", [2], 0, 2)}, 1, "it must have 70 bytes, got 69; it was cut or extended"),
    "a byte more": ({"a": entry("U8", [2], 0, 2)}, 3, "it must have 70 bytes, got 71; it was cut or extended"),
    "a bool of 2": ({"a": entry("BOOL", [2], 0, 2)}, 2, "a must have the bytes 0 and 1, as bools, got 255"),
    "more than the file": ({"a": entry("F64", [2**50], 0, 2**53)}, 0, "it was cut or extended"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_files_are_refused(name: str, path: Path) -> None:
    """The message has the path and the reason, and nothing is allocated for what is not in the file."""
    header, size, fact = MALFORMED[name]
    written(path, header, b"\xff" * size)
    tracemalloc.start()
    try:
        with pytest.raises(fn.CheckpointError) as caught:
            fn.load_arrays(path)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()
    assert str(caught.value).startswith(f"{path}: ")
    assert fact in str(caught.value)


@pytest.mark.parametrize("pages", [0, -1])
def test_a_system_that_does_not_know_its_memory(pages: int, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every size is allowed."""

    def sysconf(_: str) -> int:
        return pages

    monkeypatch.setattr("os.sysconf", sysconf, raising=False)
    net = fn.mlp(KEY, (3, 2))
    fn.save(path, net)
    assert fn.equal(fn.load(path, like=net), net)


@needs_large_files
def test_a_sparse_file_takes_no_memory(path: Path) -> None:
    """A size that takes no disk is compared with the machine's memory."""
    written(path, {"a": entry("F64", [2**39], 0, 2**42)})
    os.truncate(path, path.stat().st_size + 2**42)
    tracemalloc.start()
    try:
        with pytest.raises(fn.CheckpointError, match="more than this machine's memory"):
            fn.load_arrays(path)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("content", [b"PK\x03\x04" + bytes(60), b"\x89HDF\r\n\x1a\n" + bytes(60), b"", b"\1"])
def test_other_formats_are_refused(content: bytes, path: Path) -> None:
    """The message names the formats of ``torch.save``, ``np.savez`` and Keras."""
    path.write_bytes(content)
    formats = {
        b"P": r"it is not a safetensors file, but a zip archive, .*; use torch.load\(.*\) or np.load\(path\)$",
        b"\x89": "it is not a safetensors file, but an HDF5 file, as Keras writes it$",
    }
    with pytest.raises(fn.CheckpointError, match=formats.get(content[:1], f"got a file of {len(content)}$")):
        fn.load_arrays(path)


def test_the_path_is_checked(path: Path) -> None:
    """It must name a regular file."""
    wrong: Any = 3
    with pytest.raises(fn.ConfigError, match=r"^load_arrays: path must be a string or a Path"):
        fn.load_arrays(wrong)
    with pytest.raises(fn.CheckpointError, match=f"{os.devnull} is not a regular file"):
        fn.load_arrays(os.devnull)
    with pytest.raises(FileNotFoundError):
        fn.load_arrays(path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(data=st.data())
def test_what_is_read_is_what_the_official_library_reads(data: st.DataObject, path: Path) -> None:
    """Changed bytes are refused, or the official library reads the same arrays from them."""
    official = pytest.importorskip("safetensors.numpy", reason="safetensors is not installed")
    arrays = {"a": inputs(KEY, 2, 3), "b": np.array([True, False]), "c": np.array(7, np.uint16)}
    content = bytearray(official.save(arrays))
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        loaded = fn.load_arrays(path)
    except fn.CheckpointError as error:
        assert str(error).isprintable()  # noqa: PT017
        return
    wanted = official.load(bytes(content))
    assert set(loaded) == set(wanted)
    assert all(same_bits(array, wanted[name]) for name, array in loaded.items())
