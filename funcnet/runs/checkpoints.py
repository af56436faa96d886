"""Checkpoints: a network or a whole run's state in one safetensors file, written and read strictly.

A file consists of a little-endian uint64, the header's length; the header, as JSON; and the arrays' bytes. The header
has the dtype, shape and offsets of each array. Its ``__metadata__`` has the value's structure, the environment that
wrote it, notes if there are any, and a SHA-256 of the rest of the file. A file without notes has format 1, and a file
with notes has format 2.

Source: the safetensors format, https://huggingface.co/docs/safetensors.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Final, TypeVar, cast, get_args, overload

import attrs
import numpy as np
from attrs import frozen

from funcnet.arithmetic import Name
from funcnet.core.arrays import AnyArray, Array, describe, lock
from funcnet.core.checks import check_choice, check_count, check_finite
from funcnet.core.errors import CheckpointError, ConfigError, StructureError, printable, quoted
from funcnet.core.files import (
    Filename,
    as_path,
    follow_links,
    open_regular,
    remove_stale,
    set_permissions,
    sync_directory,
)
from funcnet.core.locks import in_use
from funcnet.core.records import Record, check_tree, fields_of
from funcnet.core.trees import check_alike
from funcnet.loops.fitting import Fit
from funcnet.loops.steps import TrainState
from funcnet.network.layer import N, Network
from funcnet.optimizers.moments import Moments
from funcnet.optimizers.protocol import Wrapper, check_moments, check_optimizer, initial
from funcnet.random.keys import check_key
from funcnet.runs.environment import environment
from funcnet.runs.notes import NO_NOTES, Note, Notes, decode_notes, encode_notes
from funcnet.runs.safetensors import (
    HEADER_LIMIT,
    KEYS,
    MAX_RANK,
    METADATA,
    Entry,
    Header,
    check_entry,
    check_size,
    header_text,
    read_array,
    refusing,
)
from funcnet.runs.strict_json import is_object, parse
from funcnet.runs.structure import Node, canonical, put_together, raw, take_apart

MAX_NAME: Final = 4096
_FORMATS: Final = {
    "1": ("funcnet_format", "structure", "environment", "sha256"),
    "2": ("funcnet_format", "structure", "environment", "notes", "sha256"),
}
_NO_HASH: Final = "0" * 64
_NAME: Final = re.compile(rf"[A-Za-z0-9_.]{{1,{MAX_NAME}}}")
_DTYPES: Final[dict[str, np.dtype[np.floating]]] = {"F32": np.dtype("<f4"), "F64": np.dtype("<f8")}
_CODES: Final = {"float32": "F32", "float64": "F64"}
_TEMPORARY: Final = re.compile(r"\.funcnet-[0-9a-f]{16}\.tmp")
_LONGEST_SHOWN: Final = 320
_CHUNK: Final = 2**20
_SAVED: Final = Record | TrainState[Any] | Fit[Any]
V = TypeVar("V")

# ------------------------------------------------------------------------------------------------- writing


def save(
    path: Filename,
    value: N | TrainState[N] | Fit[N] | Fit[TrainState[N]],
    *,
    notes: Notes | None = None,
    allow_nonfinite: bool = False,
) -> None:
    """Write a network, a run's state, or a fit to a file. If writing fails, the path still holds the old file.

    Any framework's safetensors library opens the file and finds each array under its path, such as
    ``params.2.net.0.weight``.

    Args:
        path: The file's path. An existing file is replaced and keeps its permissions. A link is followed, unless
            another user could have made it.
        value: A network; a ``TrainState``: parameters, optimizer, moments, step and key; or a ``Fit`` of either. Its
            structure has at most 64 MiB as text, which is enough for 80,000 dense layers with Adam.
        notes: Values for the file's reader, such as class names and the scale of the inputs: strings, finite numbers,
            bools, None, and lists and dictionaries of them, by name. They take at most 64 KiB. ``read_notes`` returns
            them.
        allow_nonfinite: Write arrays with NaN and infinity, too, which ``load`` reads only with the same setting.

    Raises:
        ConfigError: If something in the value is not registered; the message says what, where, and how to fix it. If
            notes are invalid.
        StructureError: If the value is not a network, or the moments do not fit the parameters.
        CheckpointError: If an array is empty, the structure is too large for a file, or the path is not that of a
            regular file.
        NonFiniteError: If an array has NaN or infinity, such as a moment that overflowed; the message has its place.
        OSError: If the file cannot be written.

    Example:
        >>> import tempfile, funcnet as fn
        >>> net = fn.mlp(fn.Key(0), (3, 2))
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     fn.save(f"{directory}/net.safetensors", net)
        ...     fn.equal(fn.load(f"{directory}/net.safetensors", like=net), net)
        True
    """
    path = follow_links(as_path("save", "path", path), CheckpointError, "save")
    _check_value(value, "save")
    said = encode_notes({} if notes is None else notes, "save")
    structure, arrays = take_apart(value, "save")
    parts = [raw(array) for array in _ordered(arrays).values()]
    try:
        header = _header(structure, arrays, said)
        if not allow_nonfinite:
            _check_finite("save", arrays)
        sealed = _encode(_with_hash(header, _hash(_encode(header), parts)))
    except CheckpointError as error:
        raise CheckpointError(error.message, subject="save") from None
    _write(path, [len(sealed).to_bytes(8, "little"), sealed, *parts])


def _ordered(arrays: dict[str, AnyArray]) -> dict[str, AnyArray]:
    """Sort larger elements first, so that each array is aligned; then by name."""
    return dict(sorted(arrays.items(), key=lambda item: (-item[1].itemsize, item[0])))


def _header(structure: Node, arrays: dict[str, AnyArray], notes: str) -> Header:
    metadata = {
        "funcnet_format": "1" if notes == NO_NOTES else "2",
        "structure": canonical(structure).decode(),
        "environment": canonical(environment().entries()).decode(),
        **({} if notes == NO_NOTES else {"notes": notes}),
        "sha256": _NO_HASH,
    }
    header: Header = {METADATA: metadata}
    end = 0
    for name, array in _ordered(arrays).items():
        if array.dtype.name not in _CODES:
            raise CheckpointError(f"{name} must be float32 or float64, got {array.dtype}")
        if not _NAME.fullmatch(name):
            wanted = f"at most {MAX_NAME} letters, digits, _ and dots"
            raise CheckpointError(f"the path {quoted(name)} must have {wanted}; rename fields")
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
    return header | {METADATA: header[METADATA] | {"sha256": digest}}


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
    descriptor = os.open(temporary, flags, 0o666 if mode is None else 0o600)
    try:
        with in_use(descriptor):
            with os.fdopen(descriptor, "wb") as file:
                if mode is not None:
                    set_permissions(descriptor, temporary, mode)
                for part in parts:
                    file.write(part)
                file.flush()
                os.fsync(descriptor)
            temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def _mode(path: Path) -> int | None:
    """Return the permissions of the file to be replaced, after checking that it is writable."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return None
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise CheckpointError(f"{path} is not a regular file", subject="save")
    with path.open("r+b"):  # raises the system's own error for a directory or a read-only file
        return stat.S_IMODE(mode) & 0o777


# ------------------------------------------------------------------------------------------------- reading


@overload
def load(
    path: Filename, *, allow_nonfinite: bool = False
) -> Network | TrainState[Network] | Fit[Network] | Fit[TrainState[Network]]: ...
@overload
def load(path: Filename, *, like: V, allow_nonfinite: bool = False) -> V: ...
def load(path: Filename, *, like: object = None, allow_nonfinite: bool = False) -> object:
    """Read a file written by ``save``: the result is exactly the saved value, with locked arrays, or an error.

    No byte is trusted: a file that is cut short, or in which any byte differs, is refused. No code comes from a file:
    it can only name records and functions that the program has registered, each where the annotation of a field allows
    it. For example, only an optimizer can be a state's optimizer, and only a schedule or a function like one can be a
    learning rate.

    The constructors of the named records run before the whole value is checked, and an optimizer's ``init`` runs with
    the file's parameters. If you register a class or a function that acts (that writes a file, for example), the author
    of a checkpoint can therefore choose to run it with arguments of the right types. Compare the optimizer and the
    schedule of a file from others with the expected ones before you train: ``like`` does not compare settings.

    Args:
        path: The path of a regular file.
        like: A value with the expected structure: record types, tuple lengths, shapes and dtypes. The result has its
            static type.
        allow_nonfinite: Accept NaN and infinity in arrays.

    Raises:
        CheckpointError: If the file is not a checkpoint, is damaged or newer than this funcnet, is larger than this
            machine's memory, or holds unregistered names or numbers that are not finite; the message has the path and
            the reason. No content of a file raises another class.
        StructureError: If the structure differs from that of ``like``; the message has the first difference.
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
    with open_regular(file_path, CheckpointError) as file, refusing(file_path):
        content = read_content(file)
        if not allow_nonfinite:
            _check_finite("", content.arrays)
        made = put_together(content.structure, content.arrays, _SAVED)
        value = _check_value(_with_names(made), "load")
    difference = "" if like is None else _difference(like, value)
    if difference:
        both = f"like is\n  {quoted(like, _LONGEST_SHOWN)}\nthe file has\n  {quoted(value, _LONGEST_SHOWN)}"
        raise StructureError(f"{difference}; {both}", subject=str(file_path))
    return value


def read_notes(path: Filename) -> dict[str, Note]:
    """Read the notes that ``save`` wrote to a file, or an empty dictionary if there are none.

    The whole file is checked against its SHA-256. Nothing of the saved value is made, so its records need not be
    registered. Tuples come back as lists.

    Raises:
        CheckpointError: If the file is not a checkpoint, is damaged, or is newer than this funcnet.
        OSError: If the file cannot be read.

    Example:
        >>> import tempfile, funcnet as fn
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     notes = {"classes": ["cat", "dog"], "scale": 1 / 255}
        ...     fn.save(f"{directory}/net.safetensors", fn.mlp(fn.Key(0), (3, 2)), notes=notes)
        ...     read_notes(f"{directory}/net.safetensors")
        {'classes': ['cat', 'dog'], 'scale': 0.00392156862745098}
    """
    file_path = as_path("read_notes", "path", path)
    with open_regular(file_path, CheckpointError) as file, refusing(file_path):
        return read_content(file).notes


@frozen
class Content:
    """The content of a file whose form and hash are right: a value's structure, its arrays by path, and the notes."""

    structure: Node
    arrays: dict[str, Array]
    notes: dict[str, Note]


def read_content(file: IO[bytes]) -> Content:
    """Read a file, with all checks of its form and hash."""
    about = os.fstat(file.fileno())
    size = about.st_size
    text = header_text(file, size)
    header = _check_header(parse(text))
    if _encode(header) != text:
        raise CheckpointError("its header is not in the form that funcnet writes")
    entries = _check_entries(header)
    check_size(size, len(text), max((entry.end for entry in entries.values()), default=0))
    if getattr(about, "st_blocks", math.inf) * 512 < size:  # a sparse file can claim any size
        _check_hash(header, _chunks(file))
        file.seek(8 + len(text))
    arrays = {name: cast("Array", read_array(file, entry)) for name, entry in entries.items()}
    _check_hash(header, map(raw, arrays.values()))
    metadata = header[METADATA]
    structure = cast("Node", parse(metadata["structure"].encode()))
    if canonical(structure) != metadata["structure"].encode():
        raise CheckpointError("its structure is not in the form that funcnet writes")
    notes = decode_notes(metadata["notes"]) if "notes" in metadata else {}
    return Content(structure, {name: lock(array) for name, array in arrays.items()}, notes)


def _chunks(file: IO[bytes]) -> Iterator[memoryview]:
    while chunk := file.read(_CHUNK):
        yield memoryview(chunk)


def _check_hash(header: Header, parts: Iterable[memoryview]) -> None:
    if _hash(_encode(_with_hash(header, _NO_HASH)), parts) != header[METADATA]["sha256"]:
        raise CheckpointError("its content does not match its SHA-256; the file is damaged")


def is_checkpoint(header: object) -> bool:
    """Whether a header says that ``save`` wrote the file."""
    return "funcnet_format" in _metadata(header)


def _metadata(header: object) -> dict[str, object]:
    found = header.get(METADATA) if is_object(header) else None
    return found if is_object(found) else {}


def _check_header(header: object) -> Header:
    """Check that a header is an object with funcnet's metadata, in a readable version."""
    metadata = _metadata(header)
    if not is_checkpoint(header):
        fix = "to put its arrays into a network, use load_arrays(path), then with_named_arrays or from_torch"
        raise CheckpointError(f"it was not written by funcnet's save: its header has no funcnet_format; {fix}")
    version = metadata["funcnet_format"]
    wanted = _FORMATS.get(version) if isinstance(version, str) else None
    if wanted is None:
        reads = " and ".join(map(repr, _FORMATS))
        fix = f"this funcnet reads {reads}; a newer funcnet may read it"
        raise CheckpointError(f"it has format {quoted(version, 20)}, and {fix}")
    if tuple(metadata) != wanted or not all(isinstance(entry, str) for entry in metadata.values()):
        got = printable(", ".join(metadata), 200)
        raise CheckpointError(f"its metadata must be the strings {', '.join(wanted)}, got {got}")
    return cast("Header", header)


def _check_entries(header: Header) -> dict[str, Entry]:
    """Check the header's array entries: their bytes must be contiguous, in the order in which ``save`` sorts them."""
    entries: dict[str, Entry] = {}
    end = 0
    for name, said in header.items():
        if name != METADATA:
            entries[name] = _check_entry(name, said, end)
            end = entries[name].end
    if list(header) != [METADATA, *sorted(entries, key=lambda name: (-entries[name].dtype.itemsize, name))]:
        raise CheckpointError("its arrays must be sorted, larger elements first, then by name")
    return entries


def _check_entry(name: str, said: object, start: int) -> Entry:
    if not _NAME.fullmatch(name):
        wanted = f"at most {MAX_NAME} letters, digits, _ and dots"
        raise CheckpointError(f"an array's name must have {wanted}, got {quoted(name)}")
    entry = check_entry(name, said, start, _DTYPES)
    if tuple(cast("dict[str, object]", said)) != KEYS:
        raise CheckpointError(f"{name} must have {', '.join(KEYS)} in this order, got {quoted(said)}")
    if not entry.shape or 0 in entry.shape:
        raise CheckpointError(f"{name} must have 1 to {MAX_RANK} axes of size at least 1, got {list(entry.shape)}")
    return entry


# ------------------------------------------------------------------------------------------------ checking


def _check_finite(subject: str, arrays: Mapping[str, AnyArray]) -> None:
    for where, array in arrays.items():
        check_finite(subject, where, cast("Array", array))


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
    given = cast("object", state.moments)
    networks = cast("tuple[object, ...]", given) if isinstance(given, tuple) else ()
    total = networks[-1] if networks and isinstance(networks[-1], float) else None
    networks = networks if total is None else networks[:-1]
    if not isinstance(given, tuple) or len(networks) != len(names):
        reason = "a run must continue with the optimizer that it began with"
        found = len(networks) if isinstance(given, tuple) else None
        raise StructureError(f"moments must be {len(names)} networks, {names}, got {found}; {reason}", subject="load")
    return attrs.evolve(state, moments=Moments(names, cast("tuple[Network, ...]", networks), total))


def _check_fit(fitted: Fit[object], subject: str) -> None:
    """Check that a fit has a loss and each metric per epoch, a value, too, or none, and a best epoch among them."""
    metrics = cast("object", fitted.metrics)  # a file or a caller may have put anything there
    if not isinstance(metrics, tuple) or not all(map(_is_metric, cast("tuple[object, ...]", metrics))):
        raise ConfigError(f"metrics must be a tuple of (name, values), got {metrics!r:.80}", subject=subject)
    columns: list[tuple[str, tuple[float, ...]]] = [
        ("losses", fitted.losses),
        ("values", fitted.values),
        *fitted.metrics,
    ]
    for name, numbers in columns:
        if type(numbers) is not tuple or not all(isinstance(number, int | float) for number in numbers):
            raise ConfigError(f"{name} must be a tuple of numbers, got {numbers!r:.80}", subject=subject)
    epochs = len(fitted.losses)
    for name, numbers in columns[1:]:
        if len(numbers) != epochs and (numbers or name != "values"):  # a fit without validation has no values
            raise ConfigError(f"{name} must have length {epochs}, one per loss, got {len(numbers)}", subject=subject)
    if epochs == 0 and fitted.best_epoch is not None:
        got = f"got {fitted.best_epoch!r:.80}"
        raise ConfigError(f"best_epoch must be None before the first epoch, {got}", subject=subject)
    if epochs:
        check_count(subject, "best_epoch", fitted.best_epoch, low=0, high=epochs - 1)
    check_count(subject, "waited", fitted.waited, low=0)


def _is_metric(metric: object) -> bool:
    parts = cast("tuple[object, ...]", metric) if isinstance(metric, tuple) else ()
    return len(parts) == 2 and isinstance(parts[0], str)


def _difference(like: object, value: object, path: str = "") -> str:
    """The first place at which record types, tuple lengths, shapes or dtypes differ, as text; "" if none do."""
    if type(like) is not type(value) or _shown(like) != _shown(value):
        return f"the value{' at ' * bool(path)}{path} must be {_shown(like)} as in like, got {_shown(value)}"
    if isinstance(like, tuple):
        parts = cast("tuple[object, ...]", like), cast("tuple[object, ...]", value)
        pairs = [(str(i), *pair) for i, pair in enumerate(zip(*parts, strict=True))]
    else:
        pairs = [(name, getattr(like, name), getattr(value, name)) for name in _compared(type(like))]
    found = (_difference(first, second, f"{path}.{name}" if path else name) for name, first, second in pairs)
    return next(filter(None, found), "")


def _shown(value: object) -> str:
    """What is compared of one value: the length of a tuple, the dtype and shape of an array, or the type."""
    if type(value) is tuple:
        return f"a tuple of {len(cast('tuple[object, ...]', value))}"
    if value is None:
        return "None"
    return describe(cast("AnyArray", value)) if type(value) is np.ndarray else type(value).__name__


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
