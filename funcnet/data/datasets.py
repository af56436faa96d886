"""Datasets: images and labels in four IDX files, MNIST with a check of every byte, and scikit-learn's digits."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from http.client import HTTPException
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, TypeAlias

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from funcnet.core.arrays import Array, Labels, lock
from funcnet.core.checks import check_count
from funcnet.core.errors import ConfigError, DatasetFormatError, printable
from funcnet.core.files import Filename, as_path, open_regular, remove_stale
from funcnet.data.downloads import fetch
from funcnet.data.idx import IDX_LIMIT, decompressed, parse_idx, read_file, read_idx

__all__ = [
    "FASHION_MNIST",
    "MNIST",
    "Examples",
    "Parts",
    "cache_directory",
    "load_digits",
    "load_images",
    "load_mnist",
    "read_idx",
]


def __dir__() -> list[str]:
    return __all__


# -------------------------------------------------------------------------------------------------- images

_NAMES: Final = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
FASHION_MNIST: Final[Mapping[str, str]] = MappingProxyType(
    dict(
        zip(
            _NAMES,
            (
                "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
                "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
                "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
                "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
            ),
            strict=True,
        )
    )
)
"""The SHA-256 of the gzip files of Fashion-MNIST, for ``load_images(directory, sha256=FASHION_MNIST)``."""

VALIDATION: Final = 10_000


@frozen(eq=False)
class Examples:
    """Inputs and their class ids. Shapes: x (N, H * W) or (N, H, W, 1), y (N,)."""

    x: Array
    y: Labels

    def __repr__(self) -> str:
        return f"Examples(x={self.x.dtype} {self.x.shape}, y={self.y.dtype} {self.y.shape})"


@frozen(eq=False)
class Parts:
    """The three parts of a data set: training, validation and test examples."""

    train: Examples
    validation: Examples
    test: Examples


MNIST: TypeAlias = Parts
"""The three parts of MNIST: 50,000 training, 10,000 validation and 10,000 test examples."""


@frozen(eq=False)
class _File:
    """The content of a file, decompressed, and its name for messages."""

    name: str
    content: bytes


def load_images(
    directory: Filename,
    *,
    sha256: Mapping[str, str] | None = None,
    validation: int = VALIDATION,
    flatten: bool = True,
    scale: bool = True,
) -> Parts:
    """Load a data set of labeled images in MNIST's form, such as Fashion-MNIST or Kuzushiji-MNIST, from its files.

    The directory has four IDX files, each gzipped (``.gz``) or plain: ``train-images-idx3-ubyte``,
    ``train-labels-idx1-ubyte``, ``t10k-images-idx3-ubyte`` and ``t10k-labels-idx1-ubyte``, or the same names with a dot
    before ``idx``. ``read_idx`` reads a single file.

    Args:
        directory: The directory of the files.
        sha256: The SHA-256 of some or all of the files by the names above, such as ``FASHION_MNIST``. It is the
            checksum of a file as it is stored, which ``sha256sum`` prints, or of its decompressed content.
        validation: The number of examples at the end of the training file that are the validation part.
        flatten: Return rows of H * W numbers; otherwise images of shape (H, W, 1).
        scale: Return float32 from 0 to 1; otherwise uint8 as in the files.

    Raises:
        FileNotFoundError: If the directory does not have the four files; the message lists their names.
        DatasetFormatError: If a file is damaged or has another checksum, if the files do not fit each other, or if a
            test label is above the largest training label.
        ConfigError: If a setting is invalid.

    Example:
        >>> import tempfile
        >>> images = bytes([0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 2, *range(8)])
        >>> labels = bytes([0, 0, 8, 1, 0, 0, 0, 2, 0, 1])
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     for part in ("train", "t10k"):
        ...         _ = Path(directory, f"{part}-images-idx3-ubyte").write_bytes(images)
        ...         _ = Path(directory, f"{part}-labels-idx1-ubyte").write_bytes(labels)
        ...     data = load_images(directory, validation=1)
        >>> data.train, data.test.y.tolist()
        (Examples(x=float32 (1, 4), y=int64 (1,)), [0, 1])
    """
    place = as_path("load_images", "directory", directory)
    check_count("load_images", "validation", validation, low=0)
    checksums = _checksums(sha256)
    paths = _find_all(place)
    if paths is None:
        raise FileNotFoundError(f"{place} does not have the four files {_WANTED}")
    files = [_verified(path, checksums.get(name)) for name, path in zip(_NAMES, paths, strict=True)]
    return _parts("load_images", files, int(validation), flatten=flatten, scale=scale)


_WANTED: Final = f"{', '.join(_NAMES)} (with or without .gz)"


def _checksums(given: Mapping[str, str] | None) -> Mapping[str, str]:
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise ConfigError(f"sha256 must be a dict of file names to checksums, got {given!r:.80}", subject="load_images")
    for name, digest in given.items():
        if name not in _NAMES:
            raise ConfigError(f"sha256 must name {' or '.join(_NAMES)}, got {name!r:.80}", subject="load_images")
        if not (isinstance(digest, str) and re.fullmatch(r"[0-9a-fA-F]{64}", digest)):
            wanted = f"sha256[{name!r}] must be 64 hexadecimal digits"
            raise ConfigError(f"{wanted}, got {digest!r:.80}", subject="load_images")
    return given


def _find_all(place: Path) -> list[Path] | None:
    paths = [path for name in _NAMES if (path := _find(place, name))]
    return paths if len(paths) == len(_NAMES) else None


def _find(place: Path, name: str) -> Path | None:
    dotted = name.replace("-idx", ".idx")
    candidates = (place / f"{each}{end}" for each in (name, dotted) for end in (".gz", ""))
    return next((path for path in candidates if path.is_file()), None)


def _verified(path: Path, digest: str | None) -> _File:
    """Read a file and compare its SHA-256, as stored or decompressed, with the expected one, if there is one."""
    with open_regular(path, DatasetFormatError) as stored:
        content = decompressed(stored, str(path), IDX_LIMIT)
        if digest is not None and _sha256(content) != digest.lower():
            stored.seek(0)
            got = hashlib.file_digest(stored, "sha256").hexdigest()
            if got != digest.lower():
                fix = "it is damaged, or a file of another data set"
                raise DatasetFormatError(f"{path} must have the SHA-256 {digest}, got {got}: {fix}")
    return _File(str(path), content)


def _parts(subject: str, files: list[_File], validation: int, *, flatten: bool, scale: bool) -> Parts:
    x, y, test_x, test_y = arrays = [parse_idx(file.content, file.name) for file in files]
    _check_fit([file.name for file in files], arrays)
    remaining = len(y) - validation
    if remaining <= 0:
        wanted = f"validation must be less than the number of training examples, {len(y)}"
        raise ConfigError(f"{wanted}, got {validation}; pass a smaller validation=...", subject=subject)

    def examples(raw: NDArray[Any], ids: NDArray[Any]) -> Examples:
        shaped = raw.reshape(len(raw), -1) if flatten else raw[..., None]
        labels = ids.astype(np.int64)
        labels.flags.writeable = False
        return Examples(lock(shaped / np.float32(255) if scale else shaped), labels)

    return Parts(
        train=examples(x[:remaining], y[:remaining]),
        validation=examples(x[remaining:], y[remaining:]),
        test=examples(test_x, test_y),
    )


def _check_fit(names: list[str], arrays: list[NDArray[Any]]) -> None:
    """Check that four arrays are images and labels of training and test examples that fit each other."""
    for name, array, (rank, wanted) in zip(
        names, arrays, [(3, "images, (N, H, W)"), (1, "labels, (N,)")] * 2, strict=True
    ):
        if array.dtype != np.uint8 or array.ndim != rank:
            raise DatasetFormatError(f"{name} must hold bytes of shape {wanted}, got {array.dtype} {array.shape}")
    for images, labels in ((0, 1), (2, 3)):
        if len(arrays[images]) != len(arrays[labels]):
            got = f"got {len(arrays[images])} and {len(arrays[labels])}"
            raise DatasetFormatError(f"{names[images]} and {names[labels]} must have the same length, {got}")
    x, y, test_x, test_y = arrays
    if x.shape[1:] != test_x.shape[1:]:
        got = f"got {test_x.shape[1:]}"
        raise DatasetFormatError(
            f"the images of {names[2]} must be as large as those of {names[0]}, {x.shape[1:]}, {got}"
        )
    if test_y.max() > y.max():
        first = int((test_y > y.max()).argmax())
        wanted = f"labels in 0..{y.max()}, as the training labels are"
        raise DatasetFormatError(f"{names[3]} must have {wanted}, got labels[{first}] = {test_y[first]}")


# -------------------------------------------------------------------------------------------------- digits

_DIGITS: Final = "6ebb3d2fee246a4e99363262ddf8a00a3c41bee6014c373ed9d9216ba7f651b8"
_DIGITS_LIMIT: Final = 300_000


def load_digits(path: Filename | None = None) -> Examples:
    """Load the 1,797 handwritten digits of scikit-learn: x (1797, 64), 8 by 8 pixels from 0 to 1, and y (1797,).

    The pixels are those of ``sklearn.datasets.load_digits`` divided by 16, in float32. Without a path, the file
    ``sklearn/datasets/data/digits.csv.gz`` is read where scikit-learn is installed; scikit-learn is not imported. The
    content of the file is compared with its known SHA-256.

    Args:
        path: The file ``digits.csv.gz``, or its decompressed content.

    Returns:
        The examples in the order of the file.

    Raises:
        FileNotFoundError: If scikit-learn is not installed, or the path does not exist.
        DatasetFormatError: If the file is not the genuine one.
        ConfigError: If the path is invalid.

    Example:
        >>> load_digits()  # doctest: +SKIP
        Examples(x=float32 (1797, 64), y=int64 (1797,))

    Source: Alpaydin and Kaynak, "Optical recognition of handwritten digits", UCI Machine Learning Repository (1998).
    """
    place = _find_digits() if path is None else as_path("load_digits", "path", path)
    content = read_file(place, _DIGITS_LIMIT)
    if (got := _sha256(content)) != _DIGITS:
        wanted = f"{place} must be scikit-learn's digits.csv.gz, with a content of SHA-256 {_DIGITS}"
        raise DatasetFormatError(f"{wanted}, got {got}: {_REINSTALL}")
    table = np.loadtxt(BytesIO(content), dtype=np.int64, delimiter=",")
    labels = table[:, -1].copy()
    labels.flags.writeable = False
    return Examples(lock(table[:, :-1].astype(np.float32) / 16), labels)


_REINSTALL: Final = "install scikit-learn again (pip install --force-reinstall scikit-learn)"


def _find_digits() -> Path:
    """Return the place of the file in scikit-learn's package, which may also be a folder with this file alone."""
    try:
        found = find_spec("sklearn")
    except ValueError:  # sys.modules has a module without a spec
        found = None
    for folder in (found and found.submodule_search_locations) or ():
        path = Path(folder, "datasets", "data", "digits.csv.gz")
        if path.is_file():
            return path
    raise FileNotFoundError(
        "load_digits: scikit-learn, whose file digits.csv.gz has the digits, is not installed; "
        "pip install scikit-learn, or pass the path of the file"
    )


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
_TEMPORARY: Final = re.compile(r"[a-z0-9-]+-ubyte\.[a-z0-9_]{8,16}\.part")
_FILE_LIMIT: Final = 48_000_000
_TIMEOUT: Final = 30.0
_DEADLINE: Final = 600.0


def load_mnist(directory: Filename | None = None, *, flatten: bool = True, scale: bool = True) -> MNIST:
    """Load MNIST's handwritten digits. The last 10,000 training examples are the validation part, as in the post.

    The four IDX files, gzipped or plain, are read from ``directory``. Without a directory, they are read from
    ``$FUNCNET_DATA/mnist`` or from the user's cache; if neither has them, they are downloaded into the cache. The
    content of each file is compared with its known SHA-256. ``load_images`` loads other data sets in this form.

    Args:
        directory: The directory of the files.
        flatten: Return rows of 784 numbers; otherwise images of shape (28, 28, 1).
        scale: Return float32 from 0 to 1; otherwise uint8 as in the files.

    Raises:
        FileNotFoundError: If no place has the files and they cannot be downloaded; the message says what to do.
        DatasetFormatError: If a file is not the genuine MNIST file.

    Source: LeCun et al., "Gradient-based learning applied to document recognition", Proceedings of the IEEE 86 (1998).
    """
    return _parts("load_mnist", _mnist_files(directory), VALIDATION, flatten=flatten, scale=scale)


def _mnist_files(directory: Filename | None) -> list[_File]:
    """Return the four files from the first place that has all of them, or from the cache and the mirrors."""
    if directory is not None:
        place = as_path("load_mnist", "directory", directory)
        paths = _find_all(place)
        if paths is None:
            raise FileNotFoundError(f"{place} does not have the four MNIST files {_WANTED}")
        return _genuine(paths)
    named = os.environ.get("FUNCNET_DATA")
    if named and (paths := _find_all(Path(named) / "mnist")):
        return _genuine(paths)
    return [_fetched(cache_directory(), name) for name in _NAMES]


def cache_directory() -> Path:
    """Return the directory of downloads: ``$XDG_CACHE_HOME/funcnet/mnist``, by default in ``~/.cache``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "funcnet" / "mnist"


def _genuine(paths: list[Path]) -> list[_File]:
    """Read the files of a user's directory, which may hold another data set with the same names."""
    files = [_File(str(path), read_file(path, IDX_LIMIT)) for path in paths]
    for file, (name, digest) in zip(files, _FILES.items(), strict=True):
        if _sha256(file.content) != digest:
            fix = "load_images(directory) loads other data sets in MNIST's form, and read_idx reads one file"
            raise DatasetFormatError(f"{file.name} is not MNIST's {name}: its SHA-256 differs; {fix}")
    return files


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _fetched(cache: Path, name: str) -> _File:
    """Return one file from the cache, or download it; a download is kept only if it is genuine."""
    found = _find(cache, name)
    if found:
        content = read_file(found, _FILE_LIMIT)
        if _sha256(content) != _FILES[name]:
            raise DatasetFormatError(f"{found} is not MNIST's {name}: its SHA-256 differs; delete it and load again")
        return _File(str(found), content)
    reasons: list[str] = []
    for mirror in _MIRRORS:
        try:
            return _File(name, _download(f"{mirror}{name}.gz", cache, name))
        except (OSError, HTTPException, ValueError) as error:  # urllib raises ValueError for bad addresses
            reasons.append(f"{mirror}: {printable(error, 200)}")
    raise FileNotFoundError(
        f"MNIST's {name} is neither in $FUNCNET_DATA/mnist nor in {cache}, and it could not be downloaded "
        f"({'; '.join(reasons)}). Connect to the network and try again, or put the four files "
        f"({', '.join(_FILES)}, with or without .gz) into a directory and call load_mnist(directory)."
    )


def _download(url: str, cache: Path, name: str) -> bytes:
    """Download one gzip file, keep it in the cache if its content is genuine, and return the content."""
    cache.mkdir(mode=0o755, parents=True, exist_ok=True)
    remove_stale(cache, _TEMPORARY)
    packed = fetch(url, limit=_FILE_LIMIT, timeout=_TIMEOUT, deadline=_DEADLINE)
    try:
        content = decompressed(BytesIO(packed), name, _FILE_LIMIT)
    except DatasetFormatError:
        content = b""
    if _sha256(content) != _FILES[name]:
        raise DatasetFormatError(f"the download is not {name}.gz: its SHA-256 or its format is wrong")
    _keep(cache / f"{name}.gz", packed)
    return content


def _keep(path: Path, content: bytes) -> None:
    """Write a whole file or nothing. The file that has the final name has its final permissions from the start."""
    temporary = path.with_name(f"{path.name.removesuffix('.gz')}.{os.urandom(8).hex()}.part")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    descriptor = os.open(temporary, flags, 0o644)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
