"""Checkpoints: a network or a whole run's state in one safetensors file, written and read strictly.

A file consists of a little-endian uint64, the header's length; the header, as JSON; and the arrays' bytes. The header
has the dtype, shape and offsets of each array. Its ``__metadata__`` has the value's structure, the environment that
wrote it, and a SHA-256 of the rest of the file.

Source: the safetensors format, https://huggingface.co/docs/safetensors.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any, Final, TypeAlias, TypeVar, cast, get_args, overload

import attrs
import numpy as np
from attrs import frozen

from funcnet.arithmetic import Name
from funcnet.core.arrays import AnyArray, Array, lock
from funcnet.core.checks import check_choice, check_count, check_finite
from funcnet.core.errors import CheckpointError, ConfigError, FuncnetError, StructureError
from funcnet.core.files import Filename, as_path, remove_stale
from funcnet.core.records import Record, check_tree, fields_of
from funcnet.core.trees import check_alike
from funcnet.loops.fitting import Fit
from funcnet.loops.steps import TrainState
from funcnet.network.layer import N, Network
from funcnet.optimizers.moments import Moments
from funcnet.optimizers.protocol import check_moments, check_optimizer, initial
from funcnet.optimizers.wrappers import Wrapper
from funcnet.random.keys import check_key
from funcnet.runs.environment import environment
from funcnet.runs.structure import Node, canonical, put_together, raw, take_apart

FORMAT: Final = 1
HEADER_LIMIT: Final = 2**20
MAX_RANK: Final = 32
_METADATA: Final = "__metadata__"
_ENTRIES: Final = ("funcnet_format", "structure", "environment", "sha256")
_NO_HASH: Final = "0" * 64
_NAME: Final = re.compile(r"[A-Za-z0-9_.]{1,255}")
_DTYPES: Final[dict[str, np.dtype[np.floating]]] = {"F32": np.dtype("<f4"), "F64": np.dtype("<f8")}
_CODES: Final = {"float32": "F32", "float64": "F64"}
_TEMPORARY: Final = re.compile(r"\.funcnet-[0-9a-f]{16}\.tmp")
_MAX_DIGITS: Final = 1300
Header: TypeAlias = dict[str, Any]
V = TypeVar("V")

# ------------------------------------------------------------------------------------------------- writing


def save(path: Filename, value: N | TrainState[N] | Fit[N] | Fit[TrainState[N]]) -> None:
    """Write a network, a run's state, or a fit to a file. If writing fails, the path still holds the old file.

    Any framework's safetensors library opens the file and finds each array under its path, such as
    ``params.2.net.0.weight``.

    Args:
        path: The file's path. An existing file is replaced and keeps its permissions.
        value: A network; a ``TrainState``: parameters, optimizer, moments, step and key; or a ``Fit`` of either.

    Raises:
        ConfigError: If something in the value is not registered; the message says what, where, and how to fix it.
        StructureError: If the value is not a network, or the moments do not fit the parameters.
        CheckpointError: If an array is empty, or the structure is too large for a file.
        OSError: If the file cannot be written.

    Example:
        >>> import tempfile, funcnet as fn
        >>> net = fn.mlp(fn.Key(0), (3, 2))
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     fn.save(f"{directory}/net.safetensors", net)
        ...     fn.equal(fn.load(f"{directory}/net.safetensors", like=net), net)
        True
    """
    path = Path(os.path.realpath(as_path("save", "path", path)))
    _check_value(value, "save")
    structure, arrays = take_apart(value, "save")
    parts = [raw(array) for array in _ordered(arrays).values()]
    try:
        header = _header(structure, arrays)
        sealed = _encode(_with_hash(header, _hash(_encode(header), parts)))
    except CheckpointError as error:
        raise CheckpointError(error.message, subject="save") from None
    _write(path, [len(sealed).to_bytes(8, "little"), sealed, *parts])


def _ordered(arrays: dict[str, AnyArray]) -> dict[str, AnyArray]:
    """Sort larger elements first, so that each array is aligned; then by name."""
    return dict(sorted(arrays.items(), key=lambda item: (-item[1].itemsize, item[0])))


def _header(structure: Node, arrays: dict[str, AnyArray]) -> Header:
    made_in = attrs.asdict(environment())
    entries = (str(FORMAT), canonical(structure).decode(), canonical(made_in).decode(), _NO_HASH)
    header: Header = {_METADATA: dict(zip(_ENTRIES, entries, strict=True))}
    end = 0
    for name, array in _ordered(arrays).items():
        if array.dtype.name not in _CODES:
            raise CheckpointError(f"{name} must be float32 or float64, got {array.dtype}")
        if not _NAME.fullmatch(name):
            raise CheckpointError(f"the path {name!r} must have at most 255 letters, digits, _ and dots; rename fields")
        if not 0 < array.ndim <= MAX_RANK or array.size == 0:
            raise CheckpointError(f"{name} must have 1 to {MAX_RANK} axes of size at least 1, got {array.shape}")
        start, end = end, end + array.nbytes
        entry = {"dtype": _CODES[array.dtype.name], "shape": list(array.shape), "data_offsets": [start, end]}
        header[name] = entry
    return header


def _encode(header: Header) -> bytes:
    """Encode the header, padded with spaces so that the arrays are aligned."""
    text = canonical(header)
    if len(text) > HEADER_LIMIT - 8:
        raise CheckpointError(f"a header must have at most {HEADER_LIMIT} bytes, got {len(text)}")
    return text + b" " * (-len(text) % 8)


def _with_hash(header: Header, digest: str) -> Header:
    return header | {_METADATA: header[_METADATA] | {"sha256": digest}}


def _hash(header: bytes, parts: Iterable[memoryview]) -> str:
    digest = hashlib.sha256(header)
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def _write(path: Path, parts: list[bytes | memoryview]) -> None:
    mode = _mode(path)
    remove_stale(path.parent, _TEMPORARY)
    temporary = path.parent / f".funcnet-{os.urandom(8).hex()}.tmp"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    descriptor = os.open(temporary, flags, 0o666)
    try:
        with os.fdopen(descriptor, "wb") as file:
            if mode is not None:
                temporary.chmod(mode)
            for part in parts:
                file.write(part)
            file.flush()
            os.fsync(descriptor)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync(path.parent)


def _mode(path: Path) -> int | None:
    """Return the permissions of the file to be replaced, after checking that it is writable."""
    if not path.exists():
        return None
    mode = path.stat().st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise CheckpointError(f"{path} is not a regular file", subject="save")
    with path.open("r+b"):  # raises the system's own error for a directory or a read-only file
        return stat.S_IMODE(mode) & 0o777


def _sync(directory: Path) -> None:
    if hasattr(os, "O_DIRECTORY"):  # other systems cannot open a directory
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


# ------------------------------------------------------------------------------------------------- reading


@overload
def load(
    path: Filename, *, allow_nonfinite: bool = False
) -> Network | TrainState[Network] | Fit[Network] | Fit[TrainState[Network]]: ...
@overload
def load(path: Filename, *, like: V, allow_nonfinite: bool = False) -> V: ...
def load(path: Filename, *, like: object = None, allow_nonfinite: bool = False) -> object:
    """Read a file written by ``save``: the result is exactly the saved value, with locked arrays, or an error.

    Only registered records and functions are created, through their own constructors. No byte is trusted: a file that
    is cut short, or in which any byte differs, is refused.

    Args:
        path: The file's path.
        like: A value with the expected structure: record types, tuple lengths, shapes and dtypes. The result has its
            static type.
        allow_nonfinite: Accept NaN and infinity in arrays.

    Raises:
        CheckpointError: If the file is not a checkpoint, is damaged or newer than this funcnet, or holds unregistered
            names or numbers that are not finite; the message has the path and the reason.
        StructureError: If the structure differs from that of ``like``.
        OSError: If the file cannot be read.

    Example:
        >>> import tempfile, funcnet as fn
        >>> state = fn.TrainState.create(fn.mlp(fn.Key(0), (3, 2)), fn.Momentum(learning_rate=0.1), key=fn.Key(1))
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     fn.save(f"{directory}/run.safetensors", state)
        ...     fn.load(f"{directory}/run.safetensors", like=state).optimizer
        Momentum(learning_rate=0.1, momentum=0.9)
    """
    file_path = as_path("load", "path", path)
    name = str(file_path)
    try:
        with file_path.open("rb") as file:
            structure, arrays = _read(file)
        if not allow_nonfinite:
            for where, array in arrays.items():
                check_finite("", where, array)
        value = _check_value(_with_names(put_together(structure, arrays)), "load")
    except FuncnetError as error:
        raise CheckpointError(str(error), subject=name) from error
    if like is not None and not _alike(like, value):
        raise StructureError(f"it must have the structure of\n  {like!r}\ngot\n  {value!r}", subject=name)
    return value


@frozen
class _Entry:
    """The checked header entry of one array; ``end`` is the end of its bytes."""

    dtype: np.dtype[np.floating]
    shape: tuple[int, ...]
    end: int


def _read(file: IO[bytes]) -> tuple[Node, dict[str, Array]]:
    """Read the structure and the arrays, with all checks of the file's form and hash."""
    size = os.fstat(file.fileno()).st_size
    text = _header_text(file, size)
    header = _check_header(_parse(text))
    if _encode(header) != text:
        raise CheckpointError("its header is not in the form that funcnet writes")
    entries = _check_entries(header)
    expected = 8 + len(text) + max((entry.end for entry in entries.values()), default=0)
    if expected != size:
        raise CheckpointError(f"it must have {expected} bytes, got {size}; it was cut or extended")
    arrays = {name: _read_array(file, entry) for name, entry in entries.items()}
    blank = _encode(_with_hash(header, _NO_HASH))
    if _hash(blank, map(raw, arrays.values())) != header[_METADATA]["sha256"]:
        raise CheckpointError("its content does not match its SHA-256; the file is damaged")
    said = header[_METADATA]["structure"].encode()
    structure = cast("Node", _parse(said))
    if canonical(structure) != said:
        raise CheckpointError("its structure is not in the form that funcnet writes")
    return structure, {name: lock(array) for name, array in arrays.items()}


def _header_text(file: IO[bytes], size: int) -> bytes:
    start = file.read(8)
    length = int.from_bytes(start, "little")
    if len(start) < 8 or not 2 <= length <= min(size - 8, HEADER_LIMIT):
        limit = f"at most {HEADER_LIMIT} bytes, all in the file"
        got = f"{length} in a file of {size}" if len(start) == 8 else f"a file of {size}"
        raise CheckpointError(f"it is not a checkpoint, or it was cut: its header must have {limit}, got {got}")
    text = file.read(length)
    if len(text) != length:
        raise CheckpointError(f"its header must have {length} bytes, got {len(text)}")
    return text


def _parse(text: bytes) -> object:
    """Parse JSON without duplicate keys, floats or long numbers.

    Raises:
        CheckpointError: If the text is anything else.
    """
    try:
        return json.loads(
            text.decode("ascii"),
            object_pairs_hook=_without_duplicates,
            parse_int=_short_int,
            parse_float=_no_float,
            parse_constant=_no_float,
        )
    except CheckpointError:
        raise
    except RecursionError:
        raise CheckpointError("its header is nested too deeply") from None
    except ValueError as error:
        raise CheckpointError(f"it is not a checkpoint, or it is damaged: its header is not JSON ({error})") from error


def _without_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    made = dict(pairs)
    if len(made) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise CheckpointError(f"its header has the key {twice!r:.80} twice")
    return made


def _short_int(digits: str) -> int:
    if len(digits) > _MAX_DIGITS:
        raise CheckpointError(f"its header has an int of {len(digits)} digits")
    return int(digits)


def _no_float(digits: str) -> object:
    raise CheckpointError(f"its header has the number {digits:.40}, which is not an int")


def _check_header(header: object) -> Header:
    """Check that a header is an object with funcnet's metadata, in a readable version."""
    found = cast("Header", header).get(_METADATA) if isinstance(header, dict) else None
    metadata = cast("dict[str, object]", found) if isinstance(found, dict) else {}
    version = metadata.get(_ENTRIES[0])
    if version is None:
        raise CheckpointError("it was not written by funcnet's save: its header has no funcnet_format")
    if version != str(FORMAT):
        fix = "a newer funcnet may read it"
        raise CheckpointError(f"it has format {version!r:.20}, and this funcnet reads {str(FORMAT)!r}; {fix}")
    if tuple(metadata) != _ENTRIES or not all(isinstance(entry, str) for entry in metadata.values()):
        raise CheckpointError(f"its metadata must be the strings {', '.join(_ENTRIES)}, got {', '.join(metadata):.200}")
    return cast("Header", header)


def _check_entries(header: Header) -> dict[str, _Entry]:
    """Check the header's array entries: their bytes must be contiguous, in the order in which ``save`` sorts them."""
    entries: dict[str, _Entry] = {}
    end = 0
    for name, said in header.items():
        if name != _METADATA:
            entries[name] = _check_entry(name, said, end)
            end = entries[name].end
    if list(header) != [_METADATA, *sorted(entries, key=lambda name: (-entries[name].dtype.itemsize, name))]:
        raise CheckpointError("its arrays must be sorted, larger elements first, then by name")
    return entries


def _check_entry(name: str, said: object, start: int) -> _Entry:
    if not _NAME.fullmatch(name):
        raise CheckpointError(f"an array's name must have at most 255 letters, digits, _ and dots, got {name!r:.80}")
    entry = cast("dict[str, object]", said) if isinstance(said, dict) else {}
    if tuple(entry) != ("dtype", "shape", "data_offsets"):
        raise CheckpointError(f"{name} must have dtype, shape and data_offsets, got {said!r:.80}")
    dtype = _DTYPES.get(entry["dtype"]) if isinstance(entry["dtype"], str) else None
    if dtype is None:
        raise CheckpointError(f"{name} must have the dtype {' or '.join(_DTYPES)}, got {entry['dtype']!r:.80}")
    shape = _sizes(name, "shape", entry["shape"])
    if not 0 < len(shape) <= MAX_RANK or 0 in shape:
        raise CheckpointError(f"{name} must have 1 to {MAX_RANK} axes of size at least 1, got {list(shape)!r:.80}")
    offsets = (start, start + math.prod(shape) * dtype.itemsize)
    if _sizes(name, "data_offsets", entry["data_offsets"]) != offsets:
        wanted = f"{list(offsets)}, without gaps and for the shape {list(shape)}"
        raise CheckpointError(f"{name} must have the data_offsets {wanted}, got {entry['data_offsets']!r:.80}")
    return _Entry(dtype, shape, offsets[1])


def _sizes(name: str, what: str, sizes: object) -> tuple[int, ...]:
    items = cast("list[object]", sizes) if isinstance(sizes, list) else [None]
    if not all(type(item) is int and 0 <= item < 2**63 for item in items):
        raise CheckpointError(f"the {what} of {name} must be a list of ints in [0, 2**63), got {sizes!r:.80}")
    return tuple(cast("list[int]", items))


def _read_array(file: IO[bytes], entry: _Entry) -> Array:
    array: Array = np.empty(entry.shape, entry.dtype)
    buffer = array.reshape(-1).view(np.uint8).data
    count: int = file.readinto(buffer)  # type: ignore[attr-defined]  # every binary file has readinto
    if count != len(buffer):
        raise CheckpointError("it was cut while it was being read")
    return array.astype(array.dtype.newbyteorder("="), copy=False)


# ------------------------------------------------------------------------------------------------ checking


def _check_value(value: object, subject: str) -> object:
    """Check that a value is a network, a consistent state, or a fit of either."""
    if isinstance(value, Fit):
        fitted = cast("Fit[object]", value)
        _check_fit(fitted, subject)
        _check_value(fitted.state, subject)
        _check_value(fitted.best, subject)
        return fitted
    if not isinstance(value, TrainState):
        check_tree(subject, value)
        return value
    state = cast("TrainState[Network]", value)
    check_tree(subject, state.params)
    check_optimizer(subject, state.optimizer)
    check_moments(subject, state.moments, initial(state.optimizer, state.params).names)
    for moment in state.moments.networks:
        check_alike(state.params, moment)
    check_count(subject, "step", state.step, low=0)
    check_key(subject, state.key)
    check_choice(subject, "arithmetic", state.arithmetic, get_args(Name))
    return state


def _with_names(value: object) -> object:
    """Restore the names of moments, which a file holds as a tuple of networks, from their optimizer."""
    if isinstance(value, Fit):
        fitted = cast("Fit[object]", value)
        return attrs.evolve(fitted, state=_with_names(fitted.state), best=_with_names(fitted.best))
    if not isinstance(value, TrainState):
        return value
    state = cast("TrainState[Network]", value)
    check_tree("load", state.params)
    check_optimizer("load", state.optimizer)
    names = initial(state.optimizer, state.params).names
    networks = cast("object", state.moments)
    found = len(cast("tuple[object, ...]", networks)) if isinstance(networks, tuple) else None
    if found != len(names):
        reason = "a run must continue with the optimizer that it began with"
        raise StructureError(f"moments must be {len(names)} networks, {names}, got {found}; {reason}", subject="load")
    return attrs.evolve(state, moments=Moments(names, cast("tuple[Network, ...]", networks)))


def _check_fit(fitted: Fit[object], subject: str) -> None:
    """Check that a fit has one loss and one value per epoch, and that its best epoch is one of them."""
    for name, numbers in (("losses", fitted.losses), ("values", fitted.values)):
        if type(numbers) is not tuple or not all(isinstance(number, int | float) for number in numbers):
            raise ConfigError(f"{name} must be a tuple of numbers, got {numbers!r:.80}", subject=subject)
    epochs = len(fitted.losses)
    if len(fitted.values) != epochs:
        raise ConfigError(f"values must have length {epochs}, one per loss, got {len(fitted.values)}", subject=subject)
    if epochs == 0 and fitted.best_epoch is not None:
        got = f"got {fitted.best_epoch!r:.80}"
        raise ConfigError(f"best_epoch must be None before the first epoch, {got}", subject=subject)
    if epochs:
        check_count(subject, "best_epoch", fitted.best_epoch, low=0, high=epochs - 1)
    check_count(subject, "waited", fitted.waited, low=0)


def _alike(a: object, b: object) -> bool:
    """Whether two values have the same record types, tuple lengths, shapes and dtypes."""
    kind = type(a)
    if kind is not type(b):
        return False
    if kind is tuple:
        first, second = cast("tuple[object, ...]", a), cast("tuple[object, ...]", b)
        return len(first) == len(second) and all(_alike(x, y) for x, y in zip(first, second, strict=True))
    if kind is np.ndarray:
        array, other = cast("AnyArray", a), cast("AnyArray", b)
        return array.dtype == other.dtype and array.shape == other.shape
    return all(_alike(getattr(a, name), getattr(b, name)) for name in _compared(kind))


def _compared(kind: type) -> tuple[str, ...]:
    if issubclass(kind, TrainState):
        return "params", "optimizer", "moments"
    if issubclass(kind, Fit):
        return "state", "best"
    if issubclass(kind, Moments):
        return ("networks",)
    if not issubclass(kind, Record):
        return ("optimizer",) if issubclass(kind, Wrapper) else ()
    fields = fields_of(kind)
    return fields.arrays + fields.networks + fields.fixed_networks
