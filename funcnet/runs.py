"""Runs that can be audited: a log of hashes, a row an epoch, each sealing the one before, and checkpoints beside it.

A row has fingerprints of the state after its epoch, of every batch that the step saw, and of what computed: the same
wherever the run has the same bits. So a run can be gone on with, replayed in part, and compared with another.
Whoever can write the directory can also write a whole new log: note the last row's hash elsewhere, and give it to
``load_run``.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import zip_longest
from pathlib import Path
from typing import Any, Final, Generic, TypeAlias, TypeVar, cast

import attrs
import numpy as np
from attrs import evolve, field, frozen

from funcnet.arithmetic import Name, in_force, mean, using
from funcnet.arrays import AnyArray
from funcnet.checkpoints import load, save
from funcnet.errors import CheckpointError, ConfigError, FuncnetError
from funcnet.fingerprints import environment, fingerprint
from funcnet.layer import Network
from funcnet.settings import check_count
from funcnet.training import EpochLog, SGDStep, Step, TrainState, TrainStep, train_epoch
from funcnet.values import raw

S = TypeVar("S")
B = TypeVar("B")
Data: TypeAlias = Callable[[int], Iterable[B]]
Directory: TypeAlias = "str | os.PathLike[str]"

FORMAT: Final = 1
LOG: Final = "log.jsonl"
_NO_HASH: Final = "0" * 64
_NO_DATA: Final = hashlib.sha256().hexdigest()

# ------------------------------------------------------------------------------------------------- records


@frozen
class Settings:
    """What computes: fingerprints of the step and of the state's optimizer, and the arithmetic's name."""

    step: str
    optimizer: str
    arithmetic: Name


@frozen
class RunRow:
    """What the log of a run says of an epoch; the first row, whose ``epoch`` is None, of the start.

    ``steps`` counts from the start of the run; ``mean_loss`` is None if there was no step. ``environment`` is there for
    information: it is no part of the row's hash, which is the same wherever the run has the same bits.
    """

    epoch: int | None
    steps: int
    state: str
    data: str
    settings: Settings
    mean_loss: float | None
    previous: str
    environment: Mapping[str, str] = field(eq=False, repr=False)

    @property
    def hash(self) -> str:
        """The SHA-256 of the row, the previous row's hash included: it stands for the run up to here."""
        content = attrs.asdict(self, filter=lambda a, _: a.name != "environment")
        return _sha256(json.dumps([FORMAT, content]))


@frozen
class Run:
    """A run's directory, and the rows of its log: the start, then the epochs. See ``load_run``.

    ``fn.load(run.checkpoint(-1))`` is the last epoch's state, if that was saved.
    """

    path: Path
    rows: tuple[RunRow, ...] = field(repr=lambda rows: f"<{len(rows)} rows>")

    def checkpoint(self, position: int) -> Path:
        """The file that holds the state of a row, if it was saved."""
        epoch = self.rows[position].epoch
        return self.path / _checkpoint(epoch)


@frozen
class Recheck:
    """What was replayed and found as the log has it: the epochs, and the number of their steps."""

    epochs: tuple[int, ...]
    steps: int


@frozen
class Divergence:
    """Where two runs part: the first step after which a value differs, and the first value that does.

    ``epoch`` is None if they part at the start; ``step`` counts from 0 in the epoch. ``path`` is such as ``"2.weight"``, or ``"params.2.weight"`` in a
    ``TrainState``; ``index`` is the element's in an array. ``same_batch`` says whether the step saw the same batch in
    both: if so, it computed something else.
    """

    epoch: int | None
    step: int
    path: str
    index: tuple[int, ...]
    value_a: object
    value_b: object
    same_batch: bool


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def _checkpoint(epoch: int | None) -> str:
    return "start.safetensors" if epoch is None else f"epoch-{epoch}.safetensors"


# -------------------------------------------------------------------------------------------------- the log


def _encode(row: RunRow) -> bytes:
    """A row's line: its fields, its hash, and the checksum of all that."""
    text = json.dumps({"format": FORMAT, **attrs.asdict(row), "hash": row.hash}, allow_nan=False)
    return f'{text[:-1]}, "checksum": "{_sha256(text)}"}}\n'.encode("ascii")


def _decode(line: bytes, previous: RunRow | None) -> RunRow:
    """The row of a line, which must be exactly that row's, and the next in the chain."""
    try:
        content = json.loads(line)
        if content["format"] != FORMAT:
            raise CheckpointError(f"it has format {content['format']!r:.20}, and this funcnet reads {FORMAT}")
        settings = Settings(**content["settings"])
        fields: dict[str, Any] = {a.name: content[a.name] for a in attrs.fields(RunRow)}
        fields["settings"] = settings
        row = RunRow(**fields)
        same = _well_typed(row) and _encode(row) == line
    except (TypeError, LookupError, AttributeError, RecursionError, ValueError) as error:
        if isinstance(error, FuncnetError):
            raise
        raise CheckpointError(f"it is no row ({type(error).__name__}: {error!s:.80})") from error
    if not same:
        raise CheckpointError("it was edited: its hash or checksum is another")
    if row.previous != (previous.hash if previous else _NO_HASH):
        raise CheckpointError("it does not follow the row before: rows were edited, removed or swapped")
    before = -1 if previous is None or previous.epoch is None else previous.epoch
    if (row.epoch is None) != (previous is None) or (row.epoch is not None and row.epoch <= before):
        raise CheckpointError(f"its epoch must come after {before}, got {row.epoch}")
    return row


def _well_typed(row: RunRow) -> bool:
    texts = (row.state, row.data, row.previous, row.settings.step, row.settings.optimizer, *row.environment.values())
    return (
        all(type(text) is str for text in texts)
        and row.settings.arithmetic in ("native", "portable")
        and type(row.epoch) in (int, type(None))
        and type(row.mean_loss) in (float, type(None))
        and type(row.steps) is int
        and row.steps >= 0
    )


def _read(path: Path) -> tuple[tuple[RunRow, ...], bytes]:
    """The rows of a directory's log, verified, and the unfinished line that a killed writer left."""
    *lines, rest = (path / LOG).read_bytes().split(b"\n")
    rows: list[RunRow] = []
    for number, line in enumerate(lines):
        try:
            rows.append(_decode(line + b"\n", rows[-1] if rows else None))
        except CheckpointError as error:
            raise CheckpointError(f"row {number}: {error.message}", subject=str(path / LOG)) from error
    known = {_checkpoint(row.epoch) for row in rows}
    stray = sorted(found.name for found in path.glob("epoch-*.safetensors") if found.name not in known)
    if stray:
        reason = f"row {len(rows)} or a later one was removed: the checkpoint {stray[0]} has no row"
        raise CheckpointError(reason, subject=str(path / LOG))
    return tuple(rows), rest


class _Log:
    """The rows of a log, and the file that the next one is appended to."""

    def __init__(self, path: Path) -> None:
        path.mkdir(parents=True, exist_ok=True)
        self.file = path / LOG
        if not self.file.exists():
            self.file.touch()
        rows, rest = _read(path)
        self.run = Run(path, rows)
        self.rest = len(rest)
        self.size = self.file.stat().st_size - self.rest

    def append(self, row: RunRow) -> None:
        """Write a row in one piece, in the place of an unfinished one, and see that it is on the disk."""
        line = _encode(row)
        with self.file.open("ab", buffering=0) as file:
            if os.fstat(file.fileno()).st_size != self.size + self.rest:
                reason = "another process writes to it; give each run a directory of its own"
                raise CheckpointError(reason, subject=str(self.file))
            if self.rest:
                file.truncate(self.size)
            file.write(line)
            os.fsync(file.fileno())
        self.rest, self.size = 0, self.size + len(line)
        self.run = evolve(self.run, rows=(*self.run.rows, row))


def load_run(directory: Directory, *, last_hash: str | None = None) -> Run:
    """Read the log of a run and verify that each row follows the one before. Checkpoints are verified when used.

    Args:
        directory: What ``audited_run`` was given.
        last_hash: The hash that the last row must have, if you noted it elsewhere. Without it, rows cut off at the end
            are noticed only if there is a checkpoint of one of them.

    Raises:
        CheckpointError: If a row was edited, removed or moved; says its number.
        OSError: If the log cannot be read.

    Example:
        >>> import tempfile, funcnet as fn
        >>> x, y = np.eye(2, dtype=np.float32), np.array([0, 1])
        >>> step = fn.sgd_step(fn.softmax_cross_entropy, learning_rate=0.1)
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     for net, _ in fn.audited_run(
        ...         directory, step, fn.mlp(fn.Key(0), (2, 2)), lambda epoch: fn.minibatches(x, y, 1), epochs=range(3)
        ...     ):
        ...         pass
        ...     run = load_run(directory)
        >>> [(row.epoch, row.steps) for row in run.rows]
        [(None, 0), (0, 2), (1, 4), (2, 6)]
        >>> run.rows[-1].state == fn.fingerprint(net)
        True
    """
    path = Path(directory).absolute()
    rows, rest = _read(path)
    if rest or not rows:
        reason = f"row {len(rows)} is unfinished: its writer was stopped; audited_run goes on from there"
        raise CheckpointError(reason, subject=str(path / LOG))
    if last_hash is not None and rows[-1].hash != last_hash:
        reason = f"row {len(rows) - 1}, its last, must have the hash {last_hash}, got {rows[-1].hash}"
        raise CheckpointError(reason, subject=str(path / LOG))
    return Run(path, rows)


# ------------------------------------------------------------------------------------------------ an epoch


@frozen(eq=False)
class _Recipe(Generic[S, B]):
    """What computes a run's epochs, and who asks: the subject of errors."""

    subject: str
    step: Step[S, B]
    data: Data[B]
    arithmetic: Name

    def settings(self, state: S) -> Settings:
        """The settings of a row of this state."""
        step: object = self.step
        if isinstance(step, SGDStep | TrainStep):  # who computes the shards is no part of a step's value
            step = evolve(cast("SGDStep[Any]", step), executor=None)
        optimizer = cast("TrainState[Network]", state).optimizer if isinstance(state, TrainState) else None
        return Settings(fingerprint(step), fingerprint(optimizer), self.arithmetic)

    def start(self, state: S) -> RunRow:
        """The first row."""
        return _row(None, epoch=None, state=state, data=_NO_DATA, settings=self.settings(state), losses=[])

    def epoch(self, state: S, number: int, previous: RunRow) -> tuple[S, EpochLog, RunRow]:
        """An epoch as ``train`` computes it, and its row."""
        digest = hashlib.sha256()
        with using(self.arithmetic):
            state, log = train_epoch(self.step, state, _hashed(self.data(number), digest))
        losses: list[float] = log.losses.tolist()
        data, settings = digest.hexdigest(), self.settings(state)
        return state, log, _row(previous, epoch=number, state=state, data=data, settings=settings, losses=losses)

    def replay(self, run: Run, state: S, start: int, stop: int) -> S:
        """The state after row ``stop``, computed from the one after row ``start``; every row between is compared."""
        for previous, row in zip(run.rows[start:stop], run.rows[start + 1 : stop + 1], strict=True):
            recipe = evolve(self, arithmetic=row.settings.arithmetic)
            _check_settings(self.subject, row, recipe.settings(state))
            state, _, made = recipe.epoch(state, cast("int", row.epoch), previous)
            _check_row(self.subject, row, made)
        return state


def _row(
    previous: RunRow | None, *, epoch: int | None, state: object, data: str, settings: Settings, losses: list[float]
) -> RunRow:
    with using(settings.arithmetic), np.errstate(over="ignore"):
        mean_loss = mean(np.array(losses, np.float64)) if losses else math.nan
        made_in = attrs.asdict(environment())
    return RunRow(
        epoch=epoch,
        steps=(previous.steps if previous else 0) + len(losses),
        state=fingerprint(state),
        data=data,
        settings=settings,
        mean_loss=mean_loss if math.isfinite(mean_loss) else None,
        previous=previous.hash if previous else _NO_HASH,
        environment=made_in,
    )


def _hashed(batches: Iterable[B], digest: Any) -> Iterator[B]:
    for batch in batches:
        digest.update(bytes.fromhex(fingerprint(batch)))
        yield batch


def _place(row: RunRow) -> str:
    return "the start" if row.epoch is None else f"epoch {row.epoch}"


def _check_settings(subject: str, recorded: RunRow, given: Settings) -> None:
    for a in attrs.fields(Settings):
        had, got = getattr(recorded.settings, a.name), getattr(given, a.name)
        if had != got:
            fix = f"use {had} arithmetic" if a.name == "arithmetic" else f"give the {a.name} that the run had"
            reason = f"{_place(recorded)}: settings differ: the run's {a.name} is {had}, got {got}; {fix}"
            raise ConfigError(reason, subject=subject)


def _check_data(subject: str, recorded: RunRow, data: str) -> None:
    if data != recorded.data:
        reason = f"data differ: the run's batches have the hash {recorded.data}, got {data}"
        fix = "give the data that the run had"
        raise ConfigError(f"{_place(recorded)}: {reason}; {fix}", subject=subject)


def _check_row(subject: str, recorded: RunRow, made: RunRow) -> None:
    """Check that an epoch is what the log says of it."""
    _check_settings(subject, recorded, made.settings)
    _check_data(subject, recorded, made.data)
    for name in ("state", "steps", "mean_loss"):
        had, got = getattr(recorded, name), getattr(made, name)
        if had != got:
            reason = f"{name} differs: the log has {had}, the same data and settings give {got}"
            raise CheckpointError(f"{_place(recorded)}: {reason}{_moved(recorded, made)}", subject=subject)


def _moved(recorded: RunRow, made: RunRow) -> str:
    """In what the environments of two rows differ, for messages."""
    had, here = recorded.environment, made.environment
    moved = [f"{name} {had[name]!r}, here {here.get(name)!r}" for name in had if had[name] != here.get(name)]
    return f"; the run had {', '.join(moved)}" if moved else ""


# --------------------------------------------------------------------------------------------- going on


def audited_run(
    directory: Directory,
    step: Step[S, B],
    state: S,
    data: Data[B],
    *,
    epochs: Iterable[int],
    every: int = 1,
) -> Iterator[tuple[S, EpochLog]]:
    """``train`` with a log: a row of hashes an epoch in ``log.jsonl``, and a checkpoint every few epochs.

    Called again with the same arguments, it goes on from the last checkpoint, and computes an epoch that is in the log
    already (and always the last) again and compares. So what it yields last is the last epoch's state, however often it
    was stopped. More epochs may be asked for than before. It computes in the arithmetic in force when it is called.

    Args:
        directory: Where; made if it is not there. It holds one run.
        step: What an epoch folds: a record or function with a name, as ``fingerprint`` takes it.
        state: Where the run begins, also when it goes on: a network or a ``TrainState``.
        data: The batches of an epoch, by its number.
        epochs: The numbers of all the run's epochs, increasing.
        every: A checkpoint is saved after every so many epochs, besides those of the start and of the last epoch.

    Returns:
        A lazy sequence of states and logs, as ``train`` gives. An epoch's row is written before it is given out.

    Raises:
        ConfigError: If an argument is none, or the directory holds a run with another start, step, optimizer,
            arithmetic, order of epochs or data.
        CheckpointError: If its log or its checkpoint is damaged, or an epoch computed again has another state.
        OSError: If the directory cannot be read or written.

    Example:
        >>> import tempfile, funcnet as fn
        >>> x, y = np.eye(2, dtype=np.float32), np.array([0, 1])
        >>> data = lambda epoch: fn.minibatches(x, y, 1, key=fn.Key(0).child("shuffle", epoch))
        >>> step, net = fn.sgd_step(fn.softmax_cross_entropy, learning_rate=0.1), fn.mlp(fn.Key(0), (2, 2))
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     first = next(audited_run(directory, step, net, data, epochs=range(3)))
        ...     states = [state for state, log in audited_run(directory, step, net, data, epochs=range(3))]
        >>> *_, (last, _) = fn.train(step, net, data, epochs=range(3))
        >>> len(states), fn.equal(states[-1], last)
        (2, True)
    """
    numbers = _numbers("audited_run", epochs)
    check_count("audited_run", "every", every)
    path = Path(directory).absolute()
    recipe = _Recipe(f"audited_run in {path}", step, data, in_force())
    first = recipe.start(state)
    log = _Log(path)
    state, position = _begin(log, recipe, first, state, numbers)
    return _epochs(log, recipe, state, numbers[position:], every)


def _numbers(subject: str, epochs: Iterable[int]) -> list[int]:
    if not isinstance(epochs, Iterable):
        raise ConfigError(f"epochs must be numbers of epochs, got {epochs!r}; use range({epochs})", subject=subject)
    numbers = list(epochs)
    for number in numbers:
        check_count(subject, "an epoch's number", number, low=0)
    if numbers != sorted(set(numbers)):
        raise ConfigError(f"epochs must increase, got {numbers!r:.80}", subject=subject)
    return [int(number) for number in numbers]


def _begin(log: _Log, recipe: _Recipe[S, B], first: RunRow, state: S, numbers: list[int]) -> tuple[S, int]:
    """Where a run goes on: a state, and how many epochs were before it."""
    rows = log.run.rows
    if not rows:
        start = log.run.path / _checkpoint(None)
        if start.exists() and fingerprint(load(start)) != first.state:
            raise ConfigError("it holds another run's start, and no log; give an empty directory", subject=str(start))
        save(start, cast("Network", state))
        log.append(first)
        return state, 0
    subject = recipe.subject
    _check_settings(subject, rows[0], first.settings)
    if rows[0].state != first.state:
        fix = "give the state that it began with, or another directory"
        raise ConfigError(f"the run begins with the state {rows[0].state}, got {first.state}; {fix}", subject=subject)
    logged = [row.epoch for row in rows[1:]]
    common = min(len(logged), len(numbers))
    if logged[:common] != numbers[:common]:
        reason = f"epochs must begin with those in the log, {logged!r:.80}, got {numbers!r:.80}"
        raise ConfigError(reason, subject=subject)
    position = _saved(log.run, len(numbers) - 1)
    if position <= 0:
        return state, 0
    digest = hashlib.sha256()
    with using(recipe.arithmetic):
        for _ in _hashed(recipe.data(numbers[position - 1]), digest):
            pass
    _check_data(subject, rows[position], digest.hexdigest())
    return _load(log.run, position), position


def _saved(run: Run, position: int) -> int:
    """The last row up to this one that has a checkpoint; -1 if none has."""
    while position >= 0 and not (position < len(run.rows) and run.checkpoint(position).exists()):
        position -= 1
    return position


def _load(run: Run, position: int) -> Any:
    """The state of a row from its checkpoint, verified."""
    path = run.checkpoint(position)
    state, row = load(path), run.rows[position]
    found = fingerprint(state)
    if found != row.state:
        fix = "remove the file to do without it"
        reason = f"row {position} of the log has the state {row.state}, the checkpoint {found}; {fix}"
        raise CheckpointError(reason, subject=str(path))
    return state


def _epochs(log: _Log, recipe: _Recipe[S, B], state: S, numbers: list[int], every: int) -> Iterator[tuple[S, EpochLog]]:
    for number in numbers:
        done = next((at for at, row in enumerate(log.run.rows) if row.epoch == number), len(log.run.rows))
        state, epoch_log, row = recipe.epoch(state, number, log.run.rows[done - 1])
        if done < len(log.run.rows):
            _check_row(recipe.subject, log.run.rows[done], row)
        else:
            log.append(row)
        if done % every == 0 or number == numbers[-1]:
            save(log.run.checkpoint(done), cast("Network", state))
        yield state, epoch_log


# ----------------------------------------------------------------------------------------------- replaying


def recheck(run: Run, segment: Iterable[int] | None = None, *, step: Step[Any, B], data: Data[B]) -> Recheck:
    """Replay epochs of a run, from the checkpoint before them, and compare each with its row. Writes nothing.

    Each epoch is computed in the arithmetic that its row names, whatever is in force.

    Args:
        run: What ``load_run`` gave.
        segment: Numbers of epochs, such as ``range(5, 10)``; None is all. What lies between the checkpoint and the last
            of them is replayed and compared, too.
        step: The run's step.
        data: The run's data.

    Returns:
        What was replayed.

    Raises:
        ConfigError: If the step, the optimizer or the data are not the run's, or the run has no such epoch; names the
            first epoch that differs.
        CheckpointError: If an epoch's state is not what the log says, or a checkpoint not the log's; names the epoch.
        OSError: If a checkpoint cannot be read.

    Example:
        >>> import tempfile, funcnet as fn
        >>> x, y = np.eye(2, dtype=np.float32), np.array([0, 1])
        >>> data = lambda epoch: fn.minibatches(x, y, 1, key=fn.Key(0).child("shuffle", epoch))
        >>> step, net = fn.sgd_step(fn.softmax_cross_entropy, learning_rate=0.1), fn.mlp(fn.Key(0), (2, 2))
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     last = list(fn.audited_run(directory, step, net, data, epochs=range(6), every=2))[-1]
        ...     recheck(fn.load_run(directory), range(3, 5), step=step, data=data)
        Recheck(epochs=(2, 3, 4), steps=6)
    """
    epochs = [row.epoch for row in run.rows]
    wanted = epochs[1:] if segment is None else _numbers("recheck", segment)
    missing = [number for number in wanted if number not in epochs]
    if missing:
        raise ConfigError(f"the run has no epoch {missing[0]}; it has {epochs[1:]!r:.80}", subject="recheck")
    if not wanted:
        return Recheck((), 0)
    start = _find(run, epochs.index(wanted[0]) - 1)
    stop = epochs.index(wanted[-1])
    _Recipe("recheck", step, data, "native").replay(run, _load(run, start), start, stop)
    replayed = cast("list[int]", epochs[start + 1 : stop + 1])
    return Recheck(tuple(replayed), run.rows[stop].steps - run.rows[start].steps)


def _find(run: Run, position: int) -> int:
    found = _saved(run, position)
    if found < 0:
        reason = f"there is no checkpoint of {_place(run.rows[position])} or before, not even of the start"
        raise CheckpointError(reason, subject=str(run.path))
    return found


# ----------------------------------------------------------------------------------------------- comparing


def first_divergence(
    run_a: Run,
    run_b: Run,
    *,
    step: Step[Any, B],
    data: Data[B],
    step_b: Step[Any, B] | None = None,
    data_b: Data[B] | None = None,
) -> Divergence | None:
    """Find where two runs part: the first step after which a value differs, the layer, the field, the element.

    The logs say in which epoch. That epoch is replayed in both runs, step by step, from the last checkpoint before it,
    and must come out as both logs have it. Each run computes in its own arithmetic.

    Args:
        run_a: A run, from ``load_run``.
        run_b: Another.
        step: The step of run_a, and of run_b unless that has its own.
        data: The data of run_a, and of run_b unless that has its own.
        step_b: The step of run_b.
        data_b: The data of run_b.

    Returns:
        Where they part; None if their states agree as far as both go.

    Raises:
        ConfigError: If a step or data are not those of their run; says which run and epoch.
        CheckpointError: If a run does not come out here as its log has it, or a checkpoint is not the log's.
        OSError: If a checkpoint cannot be read.

    Example:
        >>> import tempfile, funcnet as fn
        >>> x, y = np.eye(2, dtype=np.float32), np.array([0, 1])
        >>> data = lambda epoch: fn.minibatches(x, y, 1)
        >>> changed = lambda epoch: fn.minibatches(x, y if epoch != 2 else y[[0, 0]], 1)
        >>> step, net = fn.sgd_step(fn.softmax_cross_entropy, learning_rate=0.1), fn.mlp(fn.Key(0), (2, 2))
        >>> with tempfile.TemporaryDirectory() as a, tempfile.TemporaryDirectory() as b:
        ...     last_a = list(fn.audited_run(a, step, net, data, epochs=range(4)))[-1]
        ...     last_b = list(fn.audited_run(b, step, net, changed, epochs=range(4)))[-1]
        ...     found = first_divergence(fn.load_run(a), fn.load_run(b), step=step, data=data, data_b=changed)
        >>> found.epoch, found.step, found.path, found.index, found.same_batch
        (2, 1, '0.weight', (1, 0), False)
    """
    pairs = enumerate(zip(run_a.rows, run_b.rows, strict=False))
    position = next((at for at, (a, b) in pairs if a.state != b.state), None)
    if position is None:
        return None
    if position == 0:
        found = _difference(*(_load(run, _find(run, 0)) for run in (run_a, run_b)))
        return Divergence(None, 0, *cast("_Difference", found), same_batch=True)
    source = max((run_a, run_b), key=lambda run: _saved(run, position - 1))
    start = _find(source, position - 1)
    recipe_a = _Recipe("first_divergence (run_a)", step, data, run_a.rows[position].settings.arithmetic)
    recipe_b = _Recipe(
        "first_divergence (run_b)", step_b or step, data_b or data, run_b.rows[position].settings.arithmetic
    )
    common = recipe_a.replay(run_a, _load(source, start), start, position - 1)
    a, b = _Side(recipe_a, run_a, position, common), _Side(recipe_b, run_b, position, common)
    divergence: Divergence | None = None
    for number, _ in enumerate(zip_longest(a.steps(), b.steps())):
        found = None if divergence else _difference(a.state, b.state)
        if found:
            same_batch = a.batches[number:] == b.batches[number:]
            divergence = Divergence(run_a.rows[position].epoch, number, *found, same_batch=same_batch)
    a.check()
    b.check()
    return divergence


class _Side:
    """One of two runs, in the epoch in which they part."""

    def __init__(self, recipe: _Recipe[Any, Any], run: Run, position: int, state: Any) -> None:
        self.recipe, self.state = recipe, state
        self.previous, self.row = run.rows[position - 1 : position + 1]
        self.batches: list[str] = []
        self.losses: list[float] = []
        _check_settings(recipe.subject, self.row, recipe.settings(state))

    def steps(self) -> Iterator[None]:
        """One step at a time; each leaves its state, its loss and its batch's fingerprint."""
        with using(self.recipe.arithmetic):
            batches = iter(self.recipe.data(cast("int", self.row.epoch)))
        while True:
            with using(self.recipe.arithmetic):  # entered anew: others compute between two steps
                for batch in batches:
                    self.batches.append(fingerprint(batch))
                    self.state, loss = self.recipe.step(self.state, batch)
                    self.losses.append(loss)
                    break
                else:
                    return
            yield

    def check(self) -> None:
        """Check that the epoch came out as the log has it."""
        data = hashlib.sha256(bytes.fromhex("".join(self.batches))).hexdigest()
        settings, epoch = self.recipe.settings(self.state), self.row.epoch
        made = _row(self.previous, epoch=epoch, state=self.state, data=data, settings=settings, losses=self.losses)
        _check_row(self.recipe.subject, self.row, made)


_Difference: TypeAlias = tuple[str, tuple[int, ...], object, object]


def _difference(a: object, b: object, path: tuple[str, ...] = ()) -> _Difference | None:
    """The first part in which two values differ, in the order of their tuples and fields."""
    first, second = _parts(a), _parts(b)
    if first and type(a) is type(b) and len(first) == len(second):
        pairs = zip(first, second, strict=True)
        return next(filter(None, (_difference(x, y, (*path, name)) for (name, x), (_, y) in pairs)), None)
    if type(a) is type(b) is np.ndarray:
        array, other = cast("AnyArray", a), cast("AnyArray", b)
        if array.dtype == other.dtype and array.shape == other.shape:
            return _element(array, other, ".".join(path))
    return None if fingerprint(a) == fingerprint(b) else (".".join(path), (), a, b)


def _parts(value: object) -> list[tuple[str, object]]:
    kind: Any = type(value)
    if kind is tuple:
        return [(str(position), part) for position, part in enumerate(cast("tuple[object, ...]", value))]
    return [(a.name, getattr(value, a.name)) for a in attrs.fields(kind)] if attrs.has(kind) else []


def _element(a: AnyArray, b: AnyArray, path: str) -> _Difference | None:
    first, second = raw(a), raw(b)
    if first == second:
        return None
    differs = np.frombuffer(first, np.uint8) != np.frombuffer(second, np.uint8)
    index = tuple(int(i) for i in np.unravel_index(int(differs.argmax()) // a.itemsize, a.shape))
    return path, index, a[index].item(), b[index].item()
