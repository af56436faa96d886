"""Auditable runs: training that records a chain of hashes, one row per epoch, and checkpoints.

A directory holds ``rows.jsonl`` and the checkpoints. Each row's hash covers the previous row, so changing, removing
or moving a row leaves a trace. The ``Environment`` that computed a row appears next to the hash but is not part of
it: in portable arithmetic, a run has the same hashes on every machine.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final, TypeAlias, TypeVar, cast

import attrs
from attrs import frozen

from funcnet.arithmetic import Name, in_force, using
from funcnet.core.checks import check_callable, check_count, check_iterable
from funcnet.core.errors import CheckpointError, ConfigError, StructureError
from funcnet.core.files import Filename, as_path
from funcnet.core.names import register_name
from funcnet.loops.epochs import EpochLog, train_epoch
from funcnet.runs.checkpoints import save
from funcnet.runs.environment import environment
from funcnet.runs.fingerprints import fingerprint
from funcnet.tracing.replay import Step

S = TypeVar("S")
B = TypeVar("B")

Data: TypeAlias = Callable[[int], Iterable[B]]
"""A function from an epoch's number to its batches."""

ROWS: Final = "rows.jsonl"
LONGEST_ROW: Final = 2**16


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
        environment: The environment that computed it, for the reader; not part of the hash.
        hash: The hash of all other fields.
    """

    epoch: int | None
    steps: int
    previous: str
    state: str
    data: str
    settings: str
    arithmetic: Name
    environment: str
    hash: str = ""

    def sealed(self) -> RunRow:
        """Return the row with its hash."""
        return attrs.evolve(self, hash=fingerprint(attrs.evolve(self, environment="", hash="")))


register_name(RunRow, "funcnet.RunRow")


@frozen
class Run:
    """The rows of an audited run, and the directory with its checkpoints; see ``load_run``."""

    directory: Path
    rows: tuple[RunRow, ...]

    def checkpoint(self, position: int) -> Path:
        """Return the path of the checkpoint after a row; the file may be missing."""
        return self.directory / _checkpoint_name(self.rows[position].epoch)

    def position(self, epoch: int) -> int:
        """Return the position of an epoch's row.

        Raises:
            ConfigError: If the run has no such epoch.
        """
        for position, row in enumerate(self.rows):
            if row.epoch == epoch:
                return position
        raise ConfigError(f"the run in {self.directory} has no epoch {epoch}", subject="Run")


def _checkpoint_name(epoch: int | None) -> str:
    return "start.safetensors" if epoch is None else f"epoch-{epoch}.safetensors"


# --------------------------------------------------------------------------------------------------- keeping


def audited_train(
    directory: Filename,
    step: Step[S, B],
    state: S,
    data: Data[B],
    *,
    epochs: Iterable[int],
    every: int = 1,
) -> Iterator[tuple[S, EpochLog]]:
    """Run ``train`` and write a row per epoch, and regular checkpoints, to a directory. The bits are ``train``'s.

    In a directory that already has rows, the run resumes: the state must be that of the last row. A row is on disk
    before the next epoch begins; a crash loses only the epoch that it interrupts.

    Args:
        directory: The directory, which is created if it does not exist.
        step: The step that each epoch folds over its batches; your own step needs ``register_name``.
        state: A network or a ``TrainState``.
        data: A function from an epoch's number to its batches.
        epochs: The epochs' numbers, in increasing order.
        every: The number of epochs between checkpoints, counted from epoch 0; the initial state is always kept.

    Raises:
        ConfigError: If something has no name, an epoch is already in the rows, or a setting is invalid.
        StructureError: If the state is not the final state of the run in the directory.
        CheckpointError: If the rows in the directory are not a chain.

    Example:
        >>> import tempfile, numpy as np, funcnet as fn
        >>> x, y = np.eye(2, dtype=np.float32), np.array([0, 1])
        >>> step = fn.sgd_step(fn.softmax_cross_entropy, learning_rate=0.1)
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     run = audited_train(
        ...         directory, step, fn.mlp(fn.Key(0), (2, 2)), lambda _: fn.minibatches(x, y, 1), epochs=range(3)
        ...     )
        ...     net, log = list(run)[-1]
        ...     [row.epoch for row in load_run(directory).rows]
        [None, 0, 1, 2]
    """
    check_callable("audited_train", "data", data)
    check_iterable("audited_train", "epochs", epochs)
    check_count("audited_train", "every", every)
    numbers = list(epochs)
    for before, number in zip([-1, *numbers], numbers, strict=False):
        check_count("audited_train", "an epoch's number", number, low=before + 1)
    home = as_path("audited_train", "directory", directory)
    settings, computed_by = fingerprint(step), str(environment())
    home.mkdir(parents=True, exist_ok=True)
    if (home / ROWS).exists():
        last = load_run(home).rows[-1]
        _check_going_on(last, state, numbers)
        _drop_torn_line(home / ROWS)
    else:
        save(home / _checkpoint_name(None), cast("Any", state))
        last = RunRow(None, 0, "", fingerprint(state), "", settings, in_force(), computed_by).sealed()
        _append(home / ROWS, last)
    return _audited(step, state, data, last, _Settings(home, tuple(numbers), every, in_force(), settings))


@frozen
class _Settings:
    """The checked settings of one call of ``audited_train``; ``step`` is the fingerprint of the step."""

    home: Path
    numbers: tuple[int, ...]
    every: int
    arithmetic: Name
    step: str


def _audited(
    step: Step[S, B], state: S, data: Data[B], last: RunRow, settings: _Settings
) -> Iterator[tuple[S, EpochLog]]:
    for number in settings.numbers:
        with using(settings.arithmetic):
            batches = Hashed(data(number))
            state, log = train_epoch(step, state, batches)
            computed_by = str(environment())
        if (number + 1) % settings.every == 0:
            save(settings.home / _checkpoint_name(number), cast("Any", state))
        last = RunRow(
            epoch=number,
            steps=len(log.losses),
            previous=last.hash,
            state=fingerprint(state),
            data=batches.digest(),
            settings=settings.step,
            arithmetic=settings.arithmetic,
            environment=computed_by,
        ).sealed()
        _append(settings.home / ROWS, last)
        yield state, log


class Hashed(Iterable[B]):
    """An iterable of batches that hashes each batch as it passes."""

    def __init__(self, batches: Iterable[B]) -> None:
        check_iterable("audited_train", "data's batches", batches)
        self._batches = batches
        self._digest = hashlib.sha256()

    def __iter__(self) -> Iterator[B]:
        for batch in self._batches:
            self._digest.update(fingerprint(batch).encode())
            yield batch

    def digest(self) -> str:
        """Return the hash of the batches so far."""
        return self._digest.hexdigest()


def _check_going_on(last: RunRow, state: object, numbers: list[int]) -> None:
    if fingerprint(state) != last.state:
        after = "the start" if last.epoch is None else f"epoch {last.epoch}"
        fix = "load the state that the run ended with, or use another directory"
        raise StructureError(f"state is not the run's state after {after}; {fix}", subject="audited_train")
    first = -1 if last.epoch is None else last.epoch
    if numbers and numbers[0] <= first:
        fix = f"range({first + 1}, ...)"
        raise ConfigError(f"the run already has epochs up to {first}; use epochs={fix}", subject="audited_train")


def _append(path: Path, row: RunRow) -> None:
    with path.open("a", encoding="ascii", newline="\n") as file:
        file.write(json.dumps(attrs.asdict(row)) + "\n")
        file.flush()
        os.fsync(file.fileno())


def _drop_torn_line(path: Path) -> None:
    content = path.read_bytes()
    os.truncate(path, content.rfind(b"\n") + 1)


# --------------------------------------------------------------------------------------------------- reading


def load_run(directory: Filename) -> Run:
    """Read the rows of an audited run, and check that they form a single chain.

    An incomplete last line, which a crash can leave, is ignored.

    Raises:
        CheckpointError: If a row was changed, removed or moved; the message has the line.
        OSError: If the rows cannot be read.

    Example:
        >>> import tempfile, funcnet as fn
        >>> step = fn.sgd_step(fn.softmax_cross_entropy, learning_rate=0.1)
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     run = audited_train(directory, step, fn.mlp(fn.Key(0), (2, 2)), lambda _: (), epochs=())
        ...     load_run(directory).rows[0].state[:8]
        '834cb581'
    """
    home = as_path("load_run", "directory", directory)
    rows: list[RunRow] = []
    for position, line in enumerate(_lines(home / ROWS)):
        reason = ""
        try:
            row = _row(line)
            sealed = row.sealed()
        except (ValueError, TypeError, RecursionError):
            raise CheckpointError(f"line {position + 1} is not a row", subject=str(home / ROWS)) from None
        if sealed.hash != row.hash:
            reason = "was changed: its hash is not that of its content"
        elif row.previous != (rows[-1].hash if rows else ""):
            reason = "does not follow the row before it"
        if reason:
            raise CheckpointError(f"line {position + 1} {reason}", subject=str(home / ROWS))
        rows.append(row)
    if not rows:
        raise CheckpointError("it has no rows", subject=str(home / ROWS))
    return Run(home, tuple(rows))


def _lines(path: Path) -> Iterator[bytes]:
    """The lines of a file. A line that is too long for a row is cut; an incomplete last line is skipped."""
    with path.open("rb") as file:
        while line := file.readline(LONGEST_ROW):
            if line.endswith(b"\n") or len(line) == LONGEST_ROW:
                yield line.removesuffix(b"\n")


def _row(line: bytes) -> RunRow:
    content: dict[str, Any] = json.loads(line.decode("ascii"))
    row = RunRow(**content)
    types: dict[str, type] = {name: type(value) for name, value in content.items()}
    if types.pop("epoch") not in (int, type(None)) or types.pop("steps") is not int or set(types.values()) != {str}:
        raise TypeError
    if json.dumps(attrs.asdict(row)).encode() != line or row.arithmetic not in ("native", "portable"):
        raise ValueError
    return row
