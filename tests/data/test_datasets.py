"""IDX and gzip files, the genuine MNIST files, and downloads from faulty mirrors."""

from __future__ import annotations

import errno
import gzip
import hashlib
import io
import os
import socket
import stat
import struct
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.client import HTTPMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Barrier, Thread
from typing import Any, ClassVar, TypeAlias
from urllib.parse import quote, unquote
from urllib.request import Request

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.testing import assert_array_equal
from numpy.typing import NDArray
from surroundings import SEARCHED, meet, needs_permissions

from funcnet import datasets
from funcnet.core.errors import ConfigError, DatasetFormatError
from funcnet.data.downloads import HttpsRedirects
from funcnet.data.idx import parse_idx, read_file

AnyArray: TypeAlias = NDArray[Any]
ELEMENTS = {"uint8": (0x08, "B"), "int8": (0x09, "b"), "int16": (0x0B, "h"), "int32": (0x0C, "i")} | {
    "float32": (0x0D, "f"),
    "float64": (0x0E, "d"),
}
MIB = 2**20
NAMES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def header(code: int, *sizes: int) -> bytes:
    """Return the header of an IDX file."""
    return struct.pack(f">4B{len(sizes)}I", 0, 0, code, len(sizes), *sizes)


def idx(values: AnyArray) -> bytes:
    """Return an array as the content of an IDX file, written element by element."""
    code, letter = ELEMENTS[values.dtype.name]
    return header(code, *values.shape) + struct.pack(f">{values.size}{letter}", *values.ravel().tolist())


def peak(action: Callable[[], object]) -> int:
    """Return the peak number of bytes in use while ``action`` runs, in addition to the bytes in use before."""
    tracemalloc.start()
    try:
        action()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def refuses(action: Callable[[], object]) -> str:
    """Return the message with which ``action`` refuses a file."""
    with pytest.raises(DatasetFormatError) as caught:
        action()
    return str(caught.value)


# ----------------------------------------------------------------------------------------------------- IDX

idx_arrays = st.sampled_from(sorted(ELEMENTS)).flatmap(
    lambda name: arrays(np.dtype(name), array_shapes(min_dims=1, max_dims=4, max_side=4))
)
idx_headers = st.tuples(
    st.sampled_from([0x08, 0x09, 0x0A, 0x0B, 0x0E]),
    st.lists(st.integers(0, 3) | st.integers(0, 2**32 - 1), max_size=4) | st.integers(0, 255).map(lambda n: [1] * n),
).map(lambda parts: header(parts[0], *parts[1]))
almost_idx = st.tuples(idx_headers, st.binary(max_size=64)).map(b"".join)


@given(values=idx_arrays, packed=st.booleans())
def test_idx_round_trip(values: AnyArray, packed: bool, tmp_path_factory: pytest.TempPathFactory) -> None:  # noqa: FBT001  # pytest passes it by name
    """Any array that is written as IDX, gzipped or plain, is read back in native byte order."""
    path = tmp_path_factory.getbasetemp() / "round-trip"
    content = idx(values)
    path.write_bytes(gzip.compress(content, 1) if packed else content)
    found = datasets.read_idx(path)
    assert found.dtype == values.dtype
    assert found.dtype.isnative
    assert_array_equal(found, values)
    assert_array_equal(datasets.read_idx(str(path)), values)


@given(data=st.binary(max_size=64) | almost_idx)
@example(data=header(0x08, *[1] * 255) + b"a")
@example(data=header(0x08, *[1] * 33) + b"a")
@example(data=header(0x08, *[1] * 32) + b"a")
def test_any_bytes_are_an_array_or_a_format_error(data: bytes) -> None:
    """The parser either returns an array or raises a DatasetFormatError."""
    try:
        found = parse_idx(data, "noise")
    except DatasetFormatError:
        return
    assert idx(found) == data or np.isnan(found).any()


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"", "begin with two zero bytes"),
        (b"\0\0\x08", "begin with two zero bytes"),
        (b"\1\0\x08\1\0\0\0\1a", "begin with two zero bytes"),
        (b"\0\1\x08\1\0\0\0\1a", "begin with two zero bytes"),
        (header(0x0A, 1) + b"a", "unknown IDX element type 0x0a"),
        (header(0x00, 1) + b"a", "unknown IDX element type 0x00"),
        (header(0x08), "axes"),
        (header(0x08) + b"a", "axes"),
        (header(0x08, 2, 2)[:-1], "axes"),
        (header(0x08, 0), "axes"),
        (header(0x08, 2, 0), "axes"),
        (header(0x08, 0, 2**32 - 1, 2**32 - 1), "axes"),
        (header(0x08, *[1] * 33) + b"a", "1 to 32 axes"),
        (header(0x08, 3) + b"ab", "must have 11 bytes"),
        (header(0x08, 3) + b"abcd", "must have 11 bytes"),
        (header(0x0E, 2) + b"a" * 15, "must have 24 bytes"),
        (header(0x0E, 2) + b"a" * 17, "must have 24 bytes"),
    ],
)
def test_malformed_idx_is_refused(data: bytes, complaint: str, tmp_path: Path) -> None:
    """The message names the file and says what is wrong, whether the file is gzipped or plain."""
    path = tmp_path / "malformed"
    for content in (data, gzip.compress(data)):
        path.write_bytes(content)
        message = refuses(lambda: datasets.read_idx(path))
        assert complaint in message
        assert str(path) in message


def test_a_small_file_costs_little_memory(tmp_path: Path) -> None:
    """The limit on the size of a file is not allocated in advance."""
    path = tmp_path / "small"
    path.write_bytes(idx(np.arange(5, dtype=np.int16)))
    assert peak(lambda: datasets.read_idx(path)) < MIB


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no FIFOs")
def test_only_a_regular_file_is_read(cache: Path, tmp_path: Path) -> None:
    """A FIFO without a writer, a device and a directory are refused at once, also among the files of a data set."""
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "fifo", Path("/dev/zero")):
        assert refuses(partial(datasets.read_idx, path)) == f"{path} is not a regular file"
    with pytest.raises(IsADirectoryError):
        datasets.read_idx(tmp_path)
    for load in (datasets.load_mnist, datasets.load_images):
        place = put_files(tmp_path / load.__name__)
        (place / f"{NAMES[1]}.gz").unlink()
        os.mkfifo(place / f"{NAMES[1]}.gz")
        with pytest.raises(FileNotFoundError, match="does not have the four"):
            load(place)
    assert not cache.exists()


def test_a_missing_idx_file_is_the_systems_error(tmp_path: Path) -> None:
    """A missing file raises FileNotFoundError; only wrong content is a format error."""
    with pytest.raises(FileNotFoundError):
        datasets.read_idx(tmp_path / "missing")


# ---------------------------------------------------------------------------------------------------- gzip

CONTENT = idx(np.arange(2000, dtype=np.int32))
PACKED = gzip.compress(CONTENT)


@pytest.mark.parametrize(
    "packed",
    [
        b"",
        PACKED[:2],
        PACKED[:9],
        PACKED[: len(PACKED) // 2],
        PACKED[:-8],
        PACKED[:-1],
        PACKED[:-8] + bytes([PACKED[-8] ^ 1]) + PACKED[-7:],
        PACKED[:-4] + bytes([PACKED[-4] ^ 1]) + PACKED[-3:],
        PACKED[:2] + b"\7" + PACKED[3:],
        PACKED + b"\0",
        PACKED + b"junk" * 30_000,
        PACKED + PACKED,
        PACKED + gzip.compress(b""),
        gzip.compress(PACKED),
    ],
    ids=[
        "empty",
        "magic only",
        "half a header",
        "half",
        "no trailer",
        "last byte missing",
        "wrong checksum",
        "wrong length",
        "wrong method",
        "trailing zero",
        "trailing junk",
        "two members",
        "empty second member",
        "packed twice",
    ],
)
def test_damaged_gzip_is_refused(packed: bytes, tmp_path: Path) -> None:
    """A gzip file must consist of one whole member and nothing else."""
    path = tmp_path / "damaged.gz"
    path.write_bytes(packed)
    assert str(path) in refuses(lambda: datasets.read_idx(path))


@given(position=st.integers(0, len(PACKED) - 1), bit=st.integers(0, 7))
def test_a_flipped_bit_never_changes_the_content(
    position: int, bit: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A gzip stream with a flipped bit is refused, unless the bit is in the header (its time or system)."""
    path = tmp_path_factory.getbasetemp() / "flipped"
    path.write_bytes(PACKED[:position] + bytes([PACKED[position] ^ 1 << bit]) + PACKED[position + 1 :])
    try:
        found = parse_idx(read_file(path, MIB), "flipped")
    except DatasetFormatError:
        return
    assert idx(found) == CONTENT
    assert position < 10


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize("size", [0, 1, 2, 70_000, 300_000])
def test_the_limit_is_the_largest_size_allowed(pack: Callable[[bytes], bytes], size: int, tmp_path: Path) -> None:
    """A file of exactly the limit is read; one byte more is refused."""
    path = tmp_path / "limit"
    content = np.random.default_rng(1).bytes(size)
    path.write_bytes(pack(content))
    assert read_file(path, size) == content
    path.write_bytes(pack(content + b"a"))
    assert f"more than {size} bytes" in refuses(lambda: read_file(path, size))


# ------------------------------------------------------------------------------------------- genuine files

ROOT = os.environ.get("FUNCNET_DATA")
GENUINE = Path(ROOT or ".") / "mnist"
genuine = pytest.mark.skipif(
    not (ROOT and all((GENUINE / f"{name}.gz").is_file() for name in NAMES)),
    reason="the genuine MNIST files are not there: set FUNCNET_DATA to the directory that has them in mnist/",
)


def parts(mnist: datasets.MNIST) -> tuple[datasets.Examples, datasets.Examples, datasets.Examples]:
    """Return the training, validation and test parts."""
    return mnist.train, mnist.validation, mnist.test


def is_locked(array: AnyArray) -> bool:
    """Return whether the array and every array that it is a view of are read-only."""
    base: object = array
    while isinstance(base, np.ndarray):
        if base.flags.writeable:
            return False
        base = base.base
    return True


@pytest.fixture(scope="module")
def scaled() -> datasets.MNIST:
    """Return the genuine files, loaded with the default settings."""
    return datasets.load_mnist(GENUINE)


@pytest.fixture(scope="module")
def raw() -> datasets.MNIST:
    """Return the genuine files as unscaled images."""
    return datasets.load_mnist(GENUINE, flatten=False, scale=False)


@genuine
def test_mnist_is_rows_from_0_to_1(scaled: datasets.MNIST) -> None:
    """By default, every image is a row of 784 float32 numbers, and every label is an int64 class id."""
    assert [len(part.x) for part in parts(scaled)] == [50_000, 10_000, 10_000]
    for part in parts(scaled):
        assert part.x.shape == (len(part.x), 784)
        assert part.y.shape == (len(part.x),)
        assert part.x.dtype == np.float32
        assert part.y.dtype == np.int64
        assert (part.x.min(), part.x.max()) == (0, 1)
        assert_array_equal(np.unique(part.y), range(10))


@genuine
def test_unscaled_images_are_the_bytes_in_the_files(scaled: datasets.MNIST, raw: datasets.MNIST) -> None:
    """The unscaled form has uint8 images with one channel, and the same values times 255."""
    for part, other in zip(parts(raw), parts(scaled), strict=True):
        assert part.x.shape == (len(part.y), 28, 28, 1)
        assert part.x.dtype == np.uint8
        assert_array_equal(part.y, other.y)
        assert_array_equal(part.x[::100].reshape(-1, 784), np.rint(other.x[::100] * 255))


@genuine
def test_validation_is_the_end_of_the_training_file(raw: datasets.MNIST) -> None:
    """The last 10,000 training examples are the validation part, in the order of the file."""
    images = gzip.decompress((GENUINE / f"{NAMES[0]}.gz").read_bytes())[16:]
    labels = gzip.decompress((GENUINE / f"{NAMES[1]}.gz").read_bytes())[8:]
    assert raw.train.x.tobytes() + raw.validation.x.tobytes() == images
    assert bytes([*raw.train.y.tolist(), *raw.validation.y.tolist()]) == labels


@genuine
def test_mnist_is_locked(scaled: datasets.MNIST, raw: datasets.MNIST) -> None:
    """The examples cannot be changed by accident, and do not have to be copied."""
    for part in (*parts(scaled), *parts(raw)):
        assert is_locked(part.x)
        assert is_locked(part.y)
        assert part.x.flags.c_contiguous


@genuine
def test_plain_copies_load_the_same(raw: datasets.MNIST, tmp_path: Path) -> None:
    """Plain files load like gzipped files."""
    for name in NAMES:
        (tmp_path / name).write_bytes(gzip.decompress((GENUINE / f"{name}.gz").read_bytes()))
    plain = datasets.load_mnist(tmp_path, flatten=False, scale=False)
    for part, other in zip(parts(plain), parts(raw), strict=True):
        assert np.array_equal(part.x, other.x)
        assert np.array_equal(part.y, other.y)


@genuine
def test_the_environment_names_the_directory(raw: datasets.MNIST) -> None:
    """Without an argument, the files are read from mnist/ in FUNCNET_DATA."""
    assert_array_equal(datasets.load_mnist(scale=False).test.y, raw.test.y)


# ------------------------------------------------------------------------------------------- small stand-ins


def fake_files() -> dict[str, bytes]:
    """Return four small files in MNIST's format: five training examples and two test examples."""
    rng = np.random.default_rng(2)
    arrays = [
        rng.integers(0, 256, (5, 28, 28)),
        rng.integers(0, 10, 5),
        rng.integers(0, 256, (2, 28, 28)),
        np.arange(2),
    ]
    return {name: idx(array.astype(np.uint8)) for name, array in zip(NAMES, arrays, strict=True)}


FAKE = fake_files()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the path of an empty cache, with the stand-ins instead of MNIST."""
    return use_stand_ins(monkeypatch, tmp_path)


def use_stand_ins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Replace MNIST with the small stand-ins, remove the mirrors and FUNCNET_DATA, and return the cache's path."""
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in FAKE.items()}
    monkeypatch.setattr(datasets, "_FILES", hashes)
    monkeypatch.setattr(datasets, "VALIDATION", 2)
    monkeypatch.setattr(datasets, "_MIRRORS", ())
    monkeypatch.setattr(datasets, "_TIMEOUT", 10.0)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.delenv("FUNCNET_DATA", raising=False)
    assert datasets.cache_directory() == tmp_path / "caches" / "funcnet" / "mnist"
    return datasets.cache_directory()


def put_files(directory: Path, *, suffix: str = ".gz") -> Path:
    """Write the stand-ins into a new directory."""
    directory.mkdir(parents=True)
    for name, content in FAKE.items():
        (directory / f"{name}{suffix}").write_bytes(gzip.compress(content) if suffix else content)
    return directory


def damage(path: Path) -> Path:
    """Replace the last element of a gzipped file."""
    content = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(content[:-1] + bytes([content[-1] ^ 1])))
    return path


def check_loaded(mnist: datasets.MNIST) -> None:
    """Assert that the stand-ins were loaded."""
    images = np.frombuffer(FAKE[NAMES[0]][16:], np.uint8).reshape(5, 784)
    assert_array_equal(np.rint(mnist.train.x * 255), images[:3])
    assert_array_equal(np.rint(mnist.validation.x * 255), images[3:])
    assert_array_equal(mnist.test.y, [0, 1])


def check_cached(cache: Path) -> None:
    """Assert that the cache contains the four whole files, readable by all users, and nothing else."""
    assert {path.name for path in cache.iterdir()} == {f"{name}.gz" for name in NAMES}
    for name in NAMES:
        assert gzip.decompress((cache / f"{name}.gz").read_bytes()) == FAKE[name]
        assert (cache / f"{name}.gz").stat().st_mode & 0o444 == 0o444


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_a_directory_needs_no_network(cache: Path, tmp_path: Path, suffix: str) -> None:
    """Files in the given directory are read, gzipped or plain, and not copied into the cache."""
    check_loaded(datasets.load_mnist(put_files(tmp_path / "here", suffix=suffix)))
    assert not cache.exists()


def test_another_data_set_is_not_told_to_be_deleted(tmp_path: Path) -> None:
    """The message about files with MNIST's names and other content says what reads them."""
    place = put_files(tmp_path / "fashion")
    message = refuses(lambda: datasets.load_mnist(place))
    assert f"{place / NAMES[0]}.gz is not MNIST's {NAMES[0]}" in message
    assert "load_images(directory) loads other data sets in MNIST's form, and read_idx reads one file" in message
    assert "delete" not in message


@pytest.mark.parametrize("name", NAMES)
def test_a_wrong_byte_is_found_and_its_file_named(cache: Path, tmp_path: Path, name: str) -> None:
    """A file in MNIST's format with different content is refused."""
    path = damage(put_files(tmp_path / "here") / f"{name}.gz")
    assert str(path) in refuses(lambda: datasets.load_mnist(tmp_path / "here"))
    assert not cache.exists()


def test_a_missing_directory_or_file_is_not_found(cache: Path, tmp_path: Path) -> None:
    """The message names the directory and the four files; missing files are not taken from a different place."""
    put_files(cache)
    put_files(tmp_path / "here")
    (tmp_path / "here" / f"{NAMES[2]}.gz").unlink()
    for place in (tmp_path / "missing", tmp_path / "here"):
        with pytest.raises(FileNotFoundError) as caught:
            datasets.load_mnist(str(place))
        assert all(word in str(caught.value) for word in (str(place), *NAMES))


def test_the_nearest_place_wins(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The argument takes precedence over the environment variable, which takes precedence over the cache."""
    put_files(tmp_path / "here")
    path = damage(put_files(tmp_path / "named" / "mnist") / f"{NAMES[0]}.gz")
    monkeypatch.setenv("FUNCNET_DATA", str(tmp_path / "named"))
    check_loaded(datasets.load_mnist(tmp_path / "here"))
    put_files(cache)
    assert str(path) in refuses(datasets.load_mnist)
    monkeypatch.setenv("FUNCNET_DATA", str(tmp_path / "elsewhere"))
    check_loaded(datasets.load_mnist())


def test_a_damaged_file_in_the_cache_is_named(cache: Path) -> None:
    """The file is refused with the advice to delete it, and is not replaced silently."""
    path = damage(put_files(cache) / f"{NAMES[3]}.gz")
    message = refuses(datasets.load_mnist)
    assert str(path) in message
    assert "delete it" in message


# --------------------------------------------------------------------------------------- data sets of images

CONTENT_SUMS = {name: hashlib.sha256(content).hexdigest() for name, content in FAKE.items()}


@pytest.mark.parametrize("dot", ["-", "."])
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_four_files_are_three_parts(suffix: str, dot: str, cache: Path, tmp_path: Path) -> None:
    """The files are found gzipped or plain, dashed or dotted, and become the parts that ``load_mnist`` returns."""
    place = put_files(tmp_path / "here", suffix=suffix)
    for path in list(place.iterdir()):
        path.rename(place / path.name.replace("-idx", f"{dot}idx"))
    check_loaded(datasets.load_images(place, validation=2))
    check_loaded(datasets.load_mnist(place))
    assert not cache.exists()
    raw = datasets.load_images(place, validation=0, flatten=False, scale=False)
    assert [part.x.shape for part in parts(raw)] == [(5, 28, 28, 1), (0, 28, 28, 1), (2, 28, 28, 1)]
    assert raw.train.x.tobytes() == FAKE[NAMES[0]][16:]
    assert all(is_locked(part.x) and is_locked(part.y) for part in parts(raw))


def test_a_checksum_is_that_of_the_file_or_of_its_content(tmp_path: Path) -> None:
    """Both are accepted, for some or all files; another checksum is refused with the file's name."""
    place = put_files(tmp_path / "here")
    stored = {name: hashlib.sha256((place / f"{name}.gz").read_bytes()).hexdigest() for name in NAMES}
    tables: list[Mapping[str, str]] = [stored, CONTENT_SUMS, datasets.FASHION_MNIST]
    for sums in (stored, CONTENT_SUMS, {NAMES[3]: stored[NAMES[3]].upper()}):
        check_loaded(datasets.load_images(place, validation=2, sha256=sums))
    damage(place / f"{NAMES[2]}.gz")
    for table in tables:
        assert "must have the SHA-256 " in refuses(partial(datasets.load_images, place, sha256=table))
    name = place / f"{NAMES[2]}.gz"
    assert f"{name} must have the SHA-256" in refuses(lambda: datasets.load_images(place, sha256=stored))


@pytest.mark.parametrize(
    ("position", "array", "message"),
    [
        (0, np.zeros((5, 28), np.uint8), "{0} must hold bytes of shape images, (N, H, W), got uint8 (5, 28)"),
        (2, np.zeros((2, 28, 28), np.int16), "{2} must hold bytes of shape images, (N, H, W), got int16 (2, 28, 28)"),
        (1, np.zeros((5, 1), np.uint8), "{1} must hold bytes of shape labels, (N,), got uint8 (5, 1)"),
        (3, np.zeros(2, np.int8), "{3} must hold bytes of shape labels, (N,), got int8 (2,)"),
        (1, np.zeros(4, np.uint8), "{0} and {1} must have the same length, got 5 and 4"),
        (3, np.zeros(3, np.uint8), "{2} and {3} must have the same length, got 2 and 3"),
        (
            2,
            np.zeros((2, 9, 28), np.uint8),
            "the images of {2} must be as large as those of {0}, (28, 28), got (9, 28)",
        ),
        (
            3,
            np.array([1, 11], np.uint8),
            "{3} must have labels in 0..{4}, as the training labels are, got labels[1] = 11",
        ),
    ],
)
def test_files_that_do_not_fit_are_refused(position: int, array: AnyArray, message: str, tmp_path: Path) -> None:
    """The test compares the whole message."""
    place = put_files(tmp_path / "here", suffix="")
    (place / NAMES[position]).write_bytes(idx(array))
    wanted = message.format(*(place / name for name in NAMES), max(FAKE[NAMES[1]][8:]))
    assert refuses(lambda: datasets.load_images(place, validation=2)) == wanted


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"validation": 5}, "validation must be less than the number of training examples, 5, got 5"),
        ({"validation": -1}, "validation must be an int of at least 0, got -1"),
        ({"sha256": "00"}, "sha256 must be a dict of file names to checksums, got '00'"),
        ({"sha256": {"train": "00"}}, "sha256 must name train-images-idx3-ubyte or .*, got 'train'"),
        ({"sha256": {NAMES[0]: "00"}}, r"sha256\['train-images-idx3-ubyte'\] must be 64 hexadecimal digits, got '00'"),
    ],
)
def test_settings_of_a_data_set_are_checked(settings: dict[str, Any], message: str, tmp_path: Path) -> None:
    """The message has the setting and the valid range."""
    with pytest.raises(ConfigError, match=f"^load_images: {message}"):
        datasets.load_images(put_files(tmp_path / "here"), **settings)


# --------------------------------------------------------------------------------------------------- digits

DIGITS = "sklearn/datasets/data/digits.csv.gz"
ALONE = """
import sys
import numpy
from funcnet import datasets
{rest}
print(repr(datasets.load_digits()), "sklearn" in sys.modules)
"""


@pytest.fixture
def digits() -> Path:
    """Return the file in the installed scikit-learn."""
    sklearn = pytest.importorskip("sklearn")
    return Path(sklearn.__path__[0]).parent / DIGITS


def test_digits_are_those_of_scikit_learn(digits: Path, tmp_path: Path) -> None:
    """The pixels divided by 16 and the labels have the same bits, from the installed file, a copy, and its content."""
    module: Any = pytest.importorskip("sklearn.datasets")
    x, y = module.load_digits(return_X_y=True)
    plain = tmp_path / "digits.csv"
    plain.write_bytes(gzip.decompress(digits.read_bytes()))
    for found in (datasets.load_digits(), datasets.load_digits(digits), datasets.load_digits(str(plain))):
        assert found.x.dtype == np.float32
        assert found.y.dtype == np.int64
        assert found.x.astype(np.float64).tobytes() == (x / 16).tobytes()
        assert_array_equal(found.y, y)
        assert is_locked(found.x)
        assert is_locked(found.y)


@pytest.mark.slow
def test_digits_need_the_file_and_not_the_library(digits: Path, tmp_path: Path) -> None:
    """A folder with this file alone is enough, and scikit-learn is not imported."""
    copy = tmp_path / DIGITS
    copy.parent.mkdir(parents=True)
    copy.write_bytes(digits.read_bytes())
    for rest in ("", f"sys.path[:] = [{str(tmp_path)!r}]"):
        run = subprocess.run(
            [sys.executable, "-c", ALONE.format(rest=rest)], capture_output=True, text=True, check=True
        )
        assert run.stdout == "Examples(x=float32 (1797, 64), y=int64 (1797,)) False\n"


def test_other_digits_are_refused(digits: Path, tmp_path: Path) -> None:
    """One digit changed, or other bytes altogether: the message names the file and says what to do."""
    content = bytearray(gzip.decompress(digits.read_bytes()))
    content[0] ^= 1
    for wrong in (gzip.compress(content), bytes(content), b""):
        path = tmp_path / "digits.csv.gz"
        path.write_bytes(wrong)
        said = refuses(partial(datasets.load_digits, path))
        assert said.startswith(f"{path} must be scikit-learn's digits.csv.gz")
        assert "pip install" in said
    with pytest.raises(FileNotFoundError):
        datasets.load_digits(tmp_path / "absent")
    with pytest.raises(ConfigError, match="load_digits: path must be a string or a Path"):
        datasets.load_digits(3)  # type: ignore[arg-type]  # what is refused


def test_without_scikit_learn_the_fix_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says how to install it."""
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(FileNotFoundError, match=r"load_digits: scikit-learn, .* pip install scikit-learn"):
        datasets.load_digits()


# ------------------------------------------------------------------------------------------------ downloads


class Mirror(BaseHTTPRequestHandler):
    """A server of the stand-ins; the first part of the address says what goes wrong."""

    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        """Answer in the way that the address says."""
        self.asked.append(self.path)
        _, behavior, file = unquote(self.path).split("/")
        good = gzip.compress(FAKE[file.removesuffix(".gz")])
        other = gzip.compress(FAKE[file.removesuffix(".gz")][:-1] + b"\xff")
        answers: dict[str, Callable[[], None]] = {
            "good": lambda: self.answer(good),
            "half": lambda: self.answer(good if "train" in file else b""),
            "truncated": lambda: self.answer(good[:-9], promised=len(good)),
            "shortened": lambda: self.answer(good[:-9]),
            "wrong": lambda: self.answer(other),
            "plain": lambda: self.answer(b"\0" + good),
            "trailing": lambda: self.answer(good + b"\n"),
            "bomb": lambda: self.answer(gzip.compress(bytes(9 * MIB))),
            "html": lambda: self.answer(b"<!doctype html><title>Log in to this network</title>"),
            "portal": lambda: self.answer(b"<!doctype html><title>Log in to this network</title>"),
            "error": lambda: self.send_error(500),
            "gone": lambda: self.send_error(404),
            "garbled": lambda: self.write(b"no status line\r\n\r\n"),
            "chunks": lambda: self.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n" + good[:9]),
            "hangs": lambda: time.sleep(0.4),
            "stalls": lambda: self.answer(good[:-9], promised=len(good), then_wait=0.4),
            "silent": lambda: None,
            "nothing": lambda: self.answer(b""),
            "no content": lambda: self.write(b"HTTP/1.1 204 No Content\r\n\r\n"),
            "a huge promise": lambda: self.answer(good[:-9], promised=10**18),
            "a negative promise": lambda: self.answer(good[:-9], promised=-5),
            "many headers": lambda: self.write(b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 200 + b"\r\n"),
            "a long header": lambda: self.write(b"HTTP/1.1 200 OK\r\nA: " + b"b" * 2**17 + b"\r\n\r\n"),
            "a login page": lambda: self.redirect(f"/portal/{file}"),
            "a loop": lambda: self.redirect(self.path),
            "a file": lambda: self.redirect("file:///etc/hostname"),
            "no address": lambda: self.redirect("http://[/"),
            "no name": lambda: self.redirect(f"http://{'a' * 64}.invalid/"),
            "no port": lambda: self.redirect("http://127.0.0.1:port/"),
            "ftp": lambda: self.redirect("ftp://127.0.0.1/"),
            "data": lambda: self.redirect("data:,content"),
            "no end": lambda: self.answer(bytes(8 * MIB), promised=10**18),
            "a slow status": lambda: self.trickle(b"HTTP/1.1 200 OK"),
            "a slow body": lambda: self.answer(b"", promised=100, then=lambda: self.trickle(bytes(100))),
            "a long wait": lambda: self.trickle(b"HTTP/1.1 100 Continue\r\n\r\n" * 20, 25),
        }
        answers[behavior]()

    def trickle(self, content: bytes, size: int = 1) -> None:
        """Send a few bytes at a time, more often than the client's timeout, until the client has left."""
        for start in range(0, len(content), size):
            try:
                self.write(content[start : start + size])
            except OSError:
                return
            time.sleep(0.05)

    def answer(
        self, body: bytes, promised: int | None = None, then_wait: float = 0, then: Callable[[], None] = lambda: None
    ) -> None:
        """Send a response with this body, which may declare a different length."""
        self.send_response(200)
        self.send_header("Content-Length", str(len(body) if promised is None else promised))
        self.end_headers()
        self.write(body)
        then()
        time.sleep(then_wait)

    def redirect(self, address: str) -> None:
        """Redirect the client to a different address."""
        self.send_response(302)
        self.send_header("Location", address)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def write(self, content: bytes) -> None:
        """Send these bytes immediately."""
        self.wfile.write(content)
        self.wfile.flush()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # http.server's name
        """Do not log."""


BROKEN_BODIES = ["truncated", "shortened", "wrong", "plain", "trailing", "bomb", "html"]
REDIRECTS = ["a login page", "a loop", "a file", "no address", "no name", "no port", "ftp", "data"]
SLOW = ["a slow status", "a slow body", "a long wait"]
HEADERS = ["nothing", "no content", "a huge promise", "a negative promise", "many headers", "a long header"]
BRIEF_FAULTS = [*BROKEN_BODIES, *REDIRECTS, *HEADERS, "error", "gone", "garbled", "chunks", "silent"]
FAULTS = [*BRIEF_FAULTS, *SLOW, "no end", "hangs", "stalls"]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """Yield the address of a local server."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Mirror) as http:
        thread = Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}/"
        http.shutdown()
        thread.join()


@pytest.fixture
def mirrors(server: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a function that sets the mirrors by their faults; each test begins with an empty cache."""
    assert not cache.exists()
    Mirror.asked.clear()

    def use(*behaviors: str) -> None:
        monkeypatch.setattr(datasets, "_MIRRORS", tuple(f"{server}{quote(behavior)}/" for behavior in behaviors))

    return use


def not_found() -> str:
    """Return the message of a load that does not find MNIST, after a check that it names both solutions."""
    with pytest.raises(FileNotFoundError) as caught:
        datasets.load_mnist()
    message = str(caught.value)
    assert "Connect to the network" in message
    assert "load_mnist(directory)" in message
    assert all(name in message for name in NAMES)
    return message


def make_impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set a short timeout and a small limit on the file size."""
    monkeypatch.setattr(datasets, "_TIMEOUT", 0.2)
    monkeypatch.setattr(datasets, "_DEADLINE", 0.4)
    monkeypatch.setattr(datasets, "_FILE_LIMIT", MIB)


def test_a_download_fills_the_cache(cache: Path, mirrors: Callable[..., None]) -> None:
    """The first load requests each file once; the second load does not request any file."""
    mirrors("good")
    check_loaded(datasets.load_mnist())
    check_cached(cache)
    assert Mirror.asked == [f"/good/{name}.gz" for name in NAMES]
    check_loaded(datasets.load_mnist())
    assert len(Mirror.asked) == len(NAMES)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_mirror_leaves_nothing(
    fault: str, cache: Path, mirrors: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files that are not whole and genuine are not kept, not even in part; the message names the mirror."""
    mirrors(fault)
    make_impatient(monkeypatch)
    message = not_found()
    assert f"/{quote(fault)}/: " in message
    assert list(cache.iterdir()) == []
    if fault in SLOW:
        assert "the download is not complete after 0.4 s" in message
    if fault in {"a login page", "a loop", "ftp"}:
        assert "which is not an https address" in message
    if fault == "no end":
        assert "the content has more than 1048576 bytes" in message


def test_a_redirection_to_https_is_followed() -> None:
    """The request for the new address is that of urllib."""
    request, headers = Request("https://a.example/x"), HTTPMessage()
    found = HttpsRedirects().redirect_request(request, io.BytesIO(), 302, "Found", headers, "https://b.example/x")
    assert found is not None
    assert found.full_url == "https://b.example/x"


@pytest.mark.skipif(os.name != "posix", reason="the system has no such permissions")
@pytest.mark.parametrize("umask", [0, 0o022, 0o077])
def test_a_download_has_its_permissions_from_the_start(
    umask: int, cache: Path, mirrors: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No other user may write a file or the cache, and a partial file is as private as the whole one."""
    modes: set[int] = set()
    replace = Path.replace

    def noted(path: Path, target: Path) -> Path:
        modes.add(stat.S_IMODE(path.stat().st_mode))
        return replace(path, target)

    mirrors("good")
    monkeypatch.setattr(Path, "replace", noted)
    before = os.umask(umask)
    try:
        datasets.load_mnist()
    finally:
        os.umask(before)
    assert modes == {0o644 & ~umask} == {stat.S_IMODE(path.stat().st_mode) for path in cache.iterdir()}
    assert stat.S_IMODE(cache.stat().st_mode) == 0o755 & ~umask


def test_a_damaged_file_in_an_incomplete_cache_is_named(cache: Path, mirrors: Callable[..., None]) -> None:
    """Its content is checked although other files are missing, and it is not downloaded again."""
    mirrors("good")
    path = damage(put_files(cache) / f"{NAMES[3]}.gz")
    (cache / f"{NAMES[1]}.gz").unlink()
    message = refuses(datasets.load_mnist)
    assert f"{path} is not MNIST's" in message
    assert "delete it" in message
    assert Mirror.asked == [f"/good/{NAMES[1]}.gz"]


@pytest.mark.parametrize("fault", BRIEF_FAULTS)
def test_the_second_mirror_helps_out(
    fault: str, cache: Path, mirrors: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After any fault of the first mirror, the same file is requested from the second."""
    mirrors(fault, "good")
    monkeypatch.setattr(datasets, "_FILE_LIMIT", MIB)
    check_loaded(datasets.load_mnist())
    check_cached(cache)
    asked = [path for path in Mirror.asked if not path.startswith("/portal/")]
    if fault == "a loop":
        asked = list(dict.fromkeys(asked))
    assert asked == [f"/{quote(each)}/{name}.gz" for name in NAMES for each in (fault, "good")]


def test_an_interrupted_download_goes_on_where_it_stopped(cache: Path, mirrors: Callable[..., None]) -> None:
    """The files that arrived are kept; the next load requests only the missing files."""
    mirrors("half")
    not_found()
    assert {path.name for path in cache.iterdir()} == {f"{name}.gz" for name in NAMES[:2]}
    Mirror.asked.clear()
    mirrors("good")
    check_loaded(datasets.load_mnist())
    check_cached(cache)
    assert Mirror.asked == [f"/good/{name}.gz" for name in NAMES[2:]]


def test_without_a_network_both_ways_out_are_named(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One message contains the error of every mirror and the directories that were searched."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{unused.getsockname()[1]}/"
    monkeypatch.setattr(datasets, "_MIRRORS", (f"{address}one/", f"{address}two/"))
    message = not_found()
    assert all(word in message for word in (f"{address}one/: ", f"{address}two/: ", str(cache), "FUNCNET_DATA"))
    assert list(cache.iterdir()) == []


class FullDisk(io.FileIO):
    """A file that cannot be written."""

    def write(self, b: object, /) -> int:
        """Raise the error of a full disk."""
        del b
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_leaves_nothing(cache: Path, mirrors: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    """The message has the reason, and the cache stays empty."""
    mirrors("good")
    monkeypatch.setattr(os, "fdopen", FullDisk)
    assert "No space left" in not_found()
    assert list(cache.iterdir()) == []


def test_a_cache_that_cannot_be_made_is_named(cache: Path, mirrors: Callable[..., None]) -> None:
    """A file at the cache's path leads to the same message, and is not changed."""
    mirrors("good")
    cache.parent.mkdir(parents=True)
    cache.write_bytes(b"not a directory")
    assert str(cache) in not_found()
    assert cache.read_bytes() == b"not a directory"


def test_a_stop_in_the_middle_leaves_nothing(
    cache: Path, mirrors: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An interrupt before the file gets its name propagates unchanged, and the partial file is removed."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    mirrors("good")
    monkeypatch.setattr(Path, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        datasets.load_mnist()
    assert list(cache.iterdir()) == []


def test_two_loads_at_once_both_succeed(cache: Path, mirrors: Callable[..., None]) -> None:
    """Loads in several threads do not interfere with each other's partial files."""
    mirrors("good")
    start = Barrier(4)

    def load() -> datasets.MNIST:
        meet(start)
        return datasets.load_mnist()

    with ThreadPoolExecutor(4) as pool:
        for future in [pool.submit(load) for _ in range(4)]:
            check_loaded(future.result())
    check_cached(cache)


PROCESS = """
import sys
sys.path[:0] = sys.argv[1].splitlines()
import pytest, test_datasets as t
with pytest.MonkeyPatch.context() as patch:
    t.use_stand_ins(patch, t.Path(sys.argv[2]))
    patch.setattr(t.datasets, "_MIRRORS", (sys.argv[3] + sys.argv[4] + "/",))
    print("ready", flush=True)
    sys.stdin.readline()
    exec(sys.stdin.read())
"""
LOAD = "t.check_loaded(t.datasets.load_mnist()); print('loaded')"


class Loader:
    """A separate Python process that waits before it loads MNIST into a cache below a directory."""

    def __init__(self, server: str, directory: Path, behavior: str = "good") -> None:
        command = [sys.executable, "-c", PROCESS, SEARCHED, str(directory), server, behavior]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def go(self, program: str = LOAD) -> None:
        """Run a program in the process."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n" + program)
        self.process.stdin.close()
        self.process.stdin = None

    def result(self) -> tuple[str, str]:
        """Return the output and the errors of the process."""
        return self.process.communicate(timeout=60)


@pytest.mark.slow
def test_two_processes_at_once_both_succeed(server: str, cache: Path, tmp_path: Path) -> None:
    """Processes write the same files at the same time; each loads whole files, and no other files remain."""
    loaders = [Loader(server, tmp_path) for _ in range(3)]
    for loader in loaders:
        loader.go()
    for loader in loaders:
        assert loader.result() == ("loaded\n", "")
    check_cached(cache)


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["write", "rename"])
def test_a_killed_process_leaves_no_half_file(moment: str, server: str, cache: Path, tmp_path: Path) -> None:
    """After SIGKILL during a write or a rename, every named file is whole, and the next load resumes."""
    places = {"write": "t.os.fdopen", "rename": "t.Path.replace"}
    program = (
        "original, calls = {place}, []\n"
        "def dying(*args, **settings):\n"
        "    calls.append(1)\n"
        "    if len(calls) == 3: t.os.kill(t.os.getpid(), 9)\n"
        "    return original(*args, **settings)\n"
        "{place} = dying\n"
    )
    loader = Loader(server, tmp_path)
    loader.go(program.replace("{place}", places[moment]) + LOAD)
    assert loader.result() == ("", "")
    assert loader.process.returncode == -9
    whole = sorted(cache.glob("*.gz"))
    assert len(whole) == 2
    for path in whole:
        assert gzip.decompress(path.read_bytes()) == FAKE[path.stem]
    (left,) = cache.glob("*.part")
    again = Loader(server, tmp_path)
    again.go()
    assert again.result() == ("loaded\n", "")
    assert left.exists()
    left.unlink()
    check_cached(cache)


def test_what_killed_loads_left_is_removed(cache: Path, mirrors: Callable[..., None]) -> None:
    """The next download removes partial files older than an hour; newer files and other names are kept."""
    mirrors("good")
    cache.mkdir(parents=True)
    names = (f"{NAMES[0]}.abcd_123.part", f"{NAMES[1]}.abcd_123.part", f"{NAMES[0]}.part", "mine.part")
    for name in names:
        (cache / name).write_bytes(b"half")
    for name in (names[0], *names[2:]):
        os.utime(cache / name, (0, 0))
    check_loaded(datasets.load_mnist())
    assert {path.name for path in cache.iterdir()} == {*names[1:], *(f"{name}.gz" for name in NAMES)}


@pytest.mark.slow
def test_a_limit_of_the_system_leaves_nothing(server: str, cache: Path, tmp_path: Path) -> None:
    """The operating system refuses a write halfway; the message has the reason."""
    pytest.importorskip("resource")
    loader = Loader(server, tmp_path)
    loader.go(
        "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try: t.datasets.load_mnist()\n"
        "except FileNotFoundError as error: print('File too large' in str(error))\n"
    )
    assert loader.result() == ("True\n", "")
    assert list(cache.iterdir()) == []


def test_a_system_without_threads_is_named(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message has the reason why there is no download."""

    def start(_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("threading.Thread.start", start)
    monkeypatch.setattr(datasets, "_MIRRORS", ("https://mirror.invalid/",))
    assert "(https://mirror.invalid/: can't start new thread). Connect" in not_found()
    assert list(cache.iterdir()) == []


@needs_permissions
def test_a_cache_that_cannot_be_written_is_named(cache: Path, mirrors: Callable[..., None]) -> None:
    """The message has the reason."""
    mirrors("good")
    cache.mkdir(parents=True, mode=0o500)
    assert "Permission denied" in not_found()
