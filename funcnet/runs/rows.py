"""Rows: the chain of hashes of an audited run, kept as one line of JSON per epoch.

A row has two hashes. ``hash`` covers the whole row, the row before it, and the environment. ``results`` covers the same
without any environment: in portable arithmetic, it is equal on every machine. Rows of format 1, which funcnet 0.1 wrote
first, have one hash, without the environment; they can still be read and continued.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import attrs
from attrs import field, frozen

from funcnet.arithmetic import Name
from funcnet.core.errors import CheckpointError, ConfigError, plural
from funcnet.core.files import Filename, as_path, open_regular, sync_directory
from funcnet.core.html import paragraphs, table
from funcnet.core.names import LATER, register_name
from funcnet.runs.fingerprints import fingerprint
from funcnet.runs.strict_json import check_depth

ROWS: Final = "rows.jsonl"
LONGEST_ROW: Final = 2**16
FORMAT: Final = 2
_OF_AN_EPOCH: Final = re.compile(r"epoch-[0-9]+\.safetensors")
_HASH: Final = re.compile(r"[0-9a-f]{64}")


@frozen
class RunRow:
    """The record of one epoch in the chain. The first row describes the initial state and has no epoch number.

    Args:
        epoch: The epoch's number.
        steps: The number of batches.
        previous: The hash of the previous row.
        state: The state's fingerprint after the epoch.
        data: The fingerprint of the batches, in the order of training.
        settings: The step's fingerprint.
        arithmetic: The arithmetic that computed the epoch.
        environment: The environment that computed it.
        results: The hash of this row and all previous rows without their environments; empty in format 1.
        format: The version of the row's form, 1 or 2.
        hash: The hash of all other fields; in format 1, of all but the environment.
    """

    epoch: int | None
    steps: int
    previous: str
    state: str
    data: str
    settings: str
    arithmetic: Name
    environment: str
    results: str = field(default="", metadata=LATER)
    format: int = field(default=1, metadata=LATER)
    hash: str = ""

    def sealed(self, after: RunRow | None = None) -> RunRow:
        """Return the row as the one after another row, or as the first row, with its hashes, in the newest format."""
        row = attrs.evolve(self, previous=after.hash if after else "", format=FORMAT)
        row = attrs.evolve(row, results=_results(row, after))
        return attrs.evolve(row, hash=_hash(row))


register_name(RunRow, "funcnet.RunRow")


def results_of(row: RunRow | None) -> str:
    """Return the hash of a row's results, which rows of format 1 keep as their only hash."""
    return "" if row is None else row.results or row.hash


def _results(row: RunRow, after: RunRow | None) -> str:
    """The hash of a row without environments. It is the hash that the row would have in format 1."""
    return fingerprint(attrs.evolve(row, previous=results_of(after), environment="", results="", format=1, hash=""))


def _hash(row: RunRow) -> str:
    return fingerprint(attrs.evolve(row, environment="" if row.format == 1 else row.environment, hash=""))


@frozen
class Run:
    """The rows of an audited run, and the directory with its checkpoints; see ``load_run``.

    Args:
        directory: The directory.
        rows: The rows, from the initial state to the last epoch.
        without_row: The names of the checkpoints whose epoch has no row: a crash leaves at most one; several are what
            remains after rows were cut from the end.
    """

    directory: Path
    rows: tuple[RunRow, ...] = field(repr=lambda rows: plural(len(rows), "row"))
    without_row: tuple[str, ...] = ()

    def checkpoint(self, position: int) -> Path:
        """Return the path of the checkpoint after a row, -1 for the last; the file may be missing."""
        return self.directory / checkpoint_name(self.rows[position].epoch)

    def position(self, epoch: int) -> int:
        """Return the position of an epoch's row.

        Raises:
            ConfigError: If the run has no such epoch.
        """
        for position, row in enumerate(self.rows):
            if row.epoch == epoch:
                return position
        raise ConfigError(f"the run in {self.directory} has no epoch {epoch}", subject="Run")

    def _repr_html_(self) -> str:
        rows = [
            (checkpoint_name(row.epoch).split(".")[0], row.steps, row.arithmetic, _brief(row.state), _brief(row.data))
            for row in self.rows
        ]
        made = table(("after", "steps", "arithmetic", "state", "data"), rows, "lrlcc")
        return paragraphs([self.directory]) + made + paragraphs(f"{name} has no row" for name in self.without_row)


def _brief(digest: str) -> str:
    return f"{digest[:12]}…" if len(digest) > 12 else digest


def checkpoint_name(epoch: int | None) -> str:
    """Return the file name of the checkpoint after an epoch, or of the initial state."""
    return "start.safetensors" if epoch is None else f"epoch-{epoch}.safetensors"


# --------------------------------------------------------------------------------------------------- reading


def load_run(directory: Filename, *, last_hash: str | None = None) -> Run:
    """Read the rows of an audited run, and check that they form a single chain.

    An incomplete last line, which a crash can leave, is ignored. Everyone who can write to the directory can compute
    new hashes for every row. Keep ``load_run(directory).rows[-1].hash`` elsewhere and pass it as ``last_hash``: then no
    row can be changed, added or removed unnoticed.

    Args:
        directory: The directory of ``audited_train``.
        last_hash: The last row's ``hash``, kept elsewhere; None trusts the directory.

    Raises:
        CheckpointError: If a row was changed, removed or moved; the message has the line. If the last row's hash is not
            ``last_hash``.
        ConfigError: If ``last_hash`` is not a hash.
        OSError: If the rows cannot be read.

    Example:
        >>> import tempfile, funcnet as fn
        >>> step = fn.sgd_step(fn.softmax_cross_entropy, learning_rate=0.1)
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     run = fn.audited_train(directory, step, fn.mlp(fn.Key(0), (2, 2)), lambda _: (), epochs=())
        ...     load_run(directory).rows[0].state[:8]
        '834cb581'
    """
    home = as_path("load_run", "directory", directory)
    rows: list[RunRow] = []
    for position, line in enumerate(_lines(home / ROWS)):
        row, reason = _read_row(line, rows[-1] if rows else None)
        if row is None:
            raise CheckpointError(f"line {position + 1} {reason}", subject=str(home / ROWS))
        rows.append(row)
    if not rows:
        raise no_rows(home)
    run = Run(home, tuple(rows), _without_row(home, rows))
    check_last_hash("load_run", run, last_hash)
    return run


def check_last_hash(subject: str, run: Run, last_hash: str | None) -> None:
    """Check that a run's last row has the hash that was kept elsewhere, if one was.

    Raises:
        CheckpointError: If it has another hash.
        ConfigError: If ``last_hash`` is not a hash.
    """
    if last_hash is None:
        return
    if not isinstance(last_hash, str) or not _HASH.fullmatch(last_hash):
        fix = "use the hash of a run's last row, load_run(directory).rows[-1].hash"
        raise ConfigError(f"last_hash must be 64 hexadecimal digits, got {last_hash!r:.80}; {fix}", subject=subject)
    if last_hash == run.rows[-1].hash:
        return
    later = [row.epoch for row in run.rows if row.hash == last_hash]
    reason = "the hash of no row: rows were changed, or cut from the end"
    if later:
        place = "the first row" if later[0] is None else f"epoch {later[0]}"
        reason = f"the hash of {place}, not of the last row: rows were added"
    raise CheckpointError(f"last_hash is {reason}", subject=str(run.directory / ROWS))


def no_rows(home: Path) -> CheckpointError:
    """Return the error for a directory without a row: a run that stopped very early, or one whose rows were removed."""
    left = checkpoints_in(home)
    cause = f"the directory has {left[0]}, so they were removed" if left else "the run stopped before the first one"
    return CheckpointError(f"it has no rows: {cause}", subject=str(home / ROWS))


def has_rows(home: Path) -> bool:
    """Whether a directory has a run: at least one complete line of rows."""
    return (home / ROWS).exists() and next(_lines(home / ROWS), None) is not None


def _lines(path: Path) -> Iterator[bytes]:
    """The lines of a file. A line that is too long for a row is cut; an incomplete last line is skipped."""
    with open_regular(path, CheckpointError) as file:
        while line := file.readline(LONGEST_ROW):
            if line.endswith(b"\n") or len(line) == LONGEST_ROW:
                yield line.removesuffix(b"\n")


def _read_row(line: bytes, after: RunRow | None) -> tuple[RunRow | None, str]:
    """Return the row of a line, or None and what is wrong with it."""
    try:
        row = _row(line)
        digest = _hash(row)
    except (ValueError, TypeError, RecursionError):
        return None, "is not a row"
    if row.format > FORMAT:
        return None, f"has format {row.format}, and this funcnet reads {FORMAT}; a newer funcnet may read it"
    if digest != row.hash:
        return None, "was changed: its hash is not that of its content"
    if row.previous != (after.hash if after else "") or (after and row.format < after.format):
        return None, "does not follow the row before it"
    if row.format > 1 and row.results != _results(row, after):
        return None, "was changed: its results are not those of its content"
    return row, ""


def _row(line: bytes) -> RunRow:
    check_depth(line)
    content: dict[str, Any] = json.loads(line.decode("ascii"))
    row = RunRow(**content)
    types: dict[str, type] = {name: type(value) for name, value in content.items()}
    wholes = {types.pop("steps"), types.pop("format", int)}
    if types.pop("epoch") not in (int, type(None)) or wholes != {int} or set(types.values()) != {str}:
        raise TypeError
    if line_of(row) != line + b"\n" or row.arithmetic not in ("native", "portable") or row.format < 1:
        raise ValueError
    return row


def _without_row(home: Path, rows: list[RunRow]) -> tuple[str, ...]:
    known = {checkpoint_name(row.epoch) for row in rows}
    return tuple(name for name in checkpoints_in(home) if name not in known)


def checkpoints_in(home: Path) -> tuple[str, ...]:
    """Return the names of the checkpoints of epochs in a directory, in the order of the epochs."""
    names = [path.name for path in home.iterdir() if _OF_AN_EPOCH.fullmatch(path.name)]
    return tuple(sorted(names, key=lambda name: (len(name), name)))


# --------------------------------------------------------------------------------------------------- writing


def line_of(row: RunRow) -> bytes:
    """Return the line of a row: JSON, in ASCII, with the fields of the row's format."""
    content = attrs.asdict(row)
    if row.format == 1:
        del content["results"], content["format"]
    return json.dumps(content).encode() + b"\n"


def append(home: Path, row: RunRow, *, after: RunRow | None) -> None:
    """Write a row to disk, after another one or as the first.

    Raises:
        CheckpointError: If another row is the last one in the file by now; then nothing is written.
    """
    if after is not None:
        check_end(home, after)
    with (home / ROWS).open("wb" if after is None else "ab") as file:
        file.write(line_of(row))
        file.flush()
        os.fsync(file.fileno())
    if after is None:
        sync_directory(home)


def check_end(home: Path, last: RunRow) -> None:
    """Check that a row is the last one in the file.

    Raises:
        CheckpointError: If something else is at the end.
    """
    end = line_of(last)
    with (home / ROWS).open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - len(end)))
        if file.read(len(end)) != end:
            reason = "another program has written to it during this run; nothing was appended"
            raise CheckpointError(f"its last row is not this run's last row: {reason}", subject=str(home / ROWS))


def drop_torn_line(home: Path) -> None:
    """Cut an incomplete last line from the rows, which a crash can leave."""
    content = (home / ROWS).read_bytes()
    os.truncate(home / ROWS, content.rfind(b"\n") + 1)
