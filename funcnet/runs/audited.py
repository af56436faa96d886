"""Auditable runs: training that records a chain of hashes, one row per epoch, and checkpoints.

A directory holds ``rows.jsonl``, the checkpoints, and the lock of the one run that writes to it. Each row's hash covers
the previous row, so changing, removing or moving a row leaves a trace; see ``funcnet.runs.rows``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any, Final, TypeAlias, TypeVar, cast

from attrs import frozen

from funcnet.arithmetic import Name, in_force, using
from funcnet.core.checks import check_count, check_iterable
from funcnet.core.errors import CheckpointError, ConfigError, FuncnetError, StructureError
from funcnet.core.files import Filename, as_path
from funcnet.core.locks import locked
from funcnet.loops.epochs import EpochLog, check_data, train_epoch
from funcnet.runs.checkpoints import load, save
from funcnet.runs.environment import differences, environment, other_environment
from funcnet.runs.fingerprints import fingerprint
from funcnet.runs.ranks import Ranks
from funcnet.runs.rows import (
    Run,
    RunRow,
    append,
    check_end,
    checkpoint_name,
    checkpoints_in,
    drop_torn_line,
    has_rows,
    load_run,
    no_rows,
)
from funcnet.tracing.replay import Step

S = TypeVar("S")
B = TypeVar("B")

Data: TypeAlias = Callable[[int], Iterable[B]]
"""A function from an epoch's number to its batches."""

LOCK: Final = ".lock"


# -------------------------------------------------------------------------------------------------- training


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

    **Resuming** is the same call again, after an end, a crash or a power failure. With the state that the run began
    with, it loads the last checkpoint, replays the epochs after it, comparing each with its row, and then trains and
    yields only the epochs that have no row yet. With the state of the last row, it continues without a replay, with
    this step. A checkpoint is on disk before its row, and a row before the next epoch begins: a crash loses only the
    epoch that it interrupts. The last state is always kept: ``load(load_run(directory).checkpoint(-1))``.

    **One run at a time writes to a directory.** A run holds the directory's lock from its first epoch until the
    sequence ends, is closed, or raises; a process that dies loses its lock. Where the system or the file system has no
    locks, such as some network file systems, a second check remains: a run appends a row only after its own last row.

    **With a reducer**, every rank calls ``audited_train`` and yields the same states. Rank 0 alone writes, and no rank
    continues before it has; all ranks read the directory to resume. The rows are those of one process, so a run may be
    resumed with any number of ranks, or without a reducer. Each epoch's batches are compared between the ranks. Your
    own step needs an attribute ``reducer`` for this.

    **On another machine**, the hash of the batches is the same only if their dtypes are. NumPy's default integer is
    int32 in 32-bit WebAssembly, and on Windows before NumPy 2: write ``y.astype(np.int64)``, not ``y.astype(int)``.
    The bits of the states do not depend on the dtype of the labels.

    Args:
        directory: The directory, which is created if it does not exist. All ranks must see it.
        step: The step that each epoch folds over its batches; your own step needs ``register_name``.
        state: A network or a ``TrainState``: the initial state, or the state after the last row.
        data: A function from an epoch's number to its batches.
        epochs: The epochs' numbers, in increasing order: all of the run's, or those after its last row.
        every: The number of epochs between checkpoints, counted from epoch 0; the first and the last state are always
            kept.

    Raises:
        ConfigError: If something has no name, the epochs do not continue the run, or a setting is invalid.
        StructureError: If the state is neither the first nor the last state of the run in the directory, or if the
            ranks of a reducer have different epochs, steps, states, or numbers for ``every``.
        CheckpointError: If another run writes to the directory, its rows are not a chain, or the replayed epochs differ
            from their rows. If a rank does not see the directory, or has other batches.
        FuncnetError: If another rank has raised an error.

    Example:
        >>> import tempfile, numpy as np, funcnet as fn
        >>> x, y = np.eye(2, dtype=np.float32), np.array([0, 1])
        >>> step, net = fn.sgd_step(fn.softmax_cross_entropy, learning_rate=0.1), fn.mlp(fn.Key(0), (2, 2))
        >>> data = lambda _: fn.minibatches(x, y, 1)
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     stopped = list(audited_train(directory, step, net, data, epochs=range(2)))
        ...     resumed = list(audited_train(directory, step, net, data, epochs=range(3)))
        ...     [row.epoch for row in load_run(directory).rows]
        [None, 0, 1, 2]
    """
    check_data("audited_train", data)
    check_iterable("audited_train", "epochs", epochs)
    every, numbers = check_count("audited_train", "every", every), list[int]()
    for number in epochs:
        low = numbers[-1] + 1 if numbers else 0
        numbers.append(check_count("audited_train", "an epoch's number", number, low=low))
    home = as_path("audited_train", "directory", directory)
    settings, given, ranks = fingerprint(step), fingerprint(state), Ranks.of(step)
    for value in (_Call(tuple(numbers), every), step, state):
        ranks.reducer.check(value)
    first = RunRow(None, 0, "", given, "", settings, in_force(), str(environment())).sealed()
    run = _opened(home, state, first, ranks)
    with ranks.together():
        _check_continues(run, given, settings)
        plan = _Plan(run, _missing(run, numbers), every, in_force(), settings, replays=given != run.rows[-1].state)
    return _audited(step, state, data, plan, ranks)


def _opened(home: Path, state: object, first: RunRow, ranks: Ranks) -> Run:
    """Begin the run if its directory is new, and return it, after a check that all ranks read the same rows."""
    with ranks.together():
        if ranks.writes:
            home.mkdir(parents=True, exist_ok=True)
            with _locked(home):
                if not has_rows(home):
                    _begin(home, state, first)
    with ranks.together():
        run = load_run(home) if ranks.writes or has_rows(home) else Run(home, ())
    reason = "does not read the rows of rank 0; use a directory of a file system that all ranks share"
    ranks.check_equal(run.rows[-1].hash if run.rows else "", reason, subject=str(home))
    return run


@frozen
class _Call:
    """The numbers on which all ranks of a call must agree, apart from those in the step and the state."""

    epochs: tuple[int, ...]
    every: int


@frozen
class _Plan:
    """What one call of ``audited_train`` will do; ``step`` is the fingerprint of the step."""

    run: Run
    numbers: tuple[int, ...]
    every: int
    arithmetic: Name
    step: str
    replays: bool

    def keeps(self, number: int) -> bool:
        """Whether the state after an epoch is kept."""
        return (number + 1) % self.every == 0 or number == self.numbers[-1]

    def row(self, number: int, steps: int, state: str, data: str, computed_by: str) -> RunRow:
        """Return an epoch's row, without its hashes, from its number of steps and the hashes of state and batches."""
        return RunRow(number, steps, "", state, data, self.step, self.arithmetic, computed_by)


def _locked(home: Path) -> AbstractContextManager[None]:
    fix = "wait until it ends, close its sequence, or use another directory"
    reason = f"another audited_train is writing to this directory; {fix}"
    return locked(home / LOCK, CheckpointError(reason, subject=str(home)))


def _begin(home: Path, state: object, row: RunRow) -> None:
    """Keep the initial state and write the first row. An earlier attempt may have been interrupted between the two."""
    if checkpoints_in(home):
        raise no_rows(home)
    save(home / checkpoint_name(None), cast("Any", state))
    append(home, row, after=None)


def _audited(step: Step[S, B], state: S, data: Data[B], plan: _Plan, ranks: Ranks) -> Iterator[tuple[S, EpochLog]]:
    run, last = plan.run, plan.run.rows[-1]
    with ExitStack() as lock:
        with ranks.together():
            if ranks.writes:
                lock.enter_context(_locked(run.directory))
                drop_torn_line(run.directory)
                check_end(run.directory, last)
        if plan.replays:
            state = cast("S", state_before(run, len(run.rows), step, data))
        with ranks.together():
            if ranks.writes and not (plan.numbers or run.checkpoint(-1).exists()):
                save(run.checkpoint(-1), cast("Any", state))
        for number in plan.numbers:
            with using(plan.arithmetic):
                batches = Hashed(data(number))
                state, log = train_epoch(step, state, batches)
                computed_by = str(environment())
            reason = f"had other batches than rank 0 in epoch {number}; give all ranks the same data"
            ranks.check_equal(batches.digest(), reason, subject="audited_train")
            with ranks.together():
                if ranks.writes:
                    row = plan.row(number, len(log.losses), fingerprint(state), batches.digest(), computed_by)
                    last = _kept(plan, state, row.sealed(last), after=last)
            yield state, log


def _kept(plan: _Plan, state: object, row: RunRow, *, after: RunRow) -> RunRow:
    """Write the state after an epoch, if the plan keeps it, and then the row; return the row."""
    if plan.keeps(cast("int", row.epoch)):
        save(plan.run.directory / checkpoint_name(row.epoch), cast("Any", state))
    append(plan.run.directory, row, after=after)
    return row


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


def _missing(run: Run, numbers: list[int]) -> tuple[int, ...]:
    """The epochs that have no row yet: the given numbers begin with all of the run's epochs, or come after them."""
    done = [row.epoch for row in run.rows[1:]]
    if numbers[: len(done)] == done:
        return tuple(numbers[len(done) :])
    last = run.rows[-1].epoch
    if last is None or not numbers or numbers[0] > last:
        return tuple(numbers)
    fix = f"use range({last + 1}, ...), or all epochs from {done[0]}"
    raise ConfigError(f"the run already has epochs up to {last}; {fix}", subject="audited_train")


def _check_continues(run: Run, state: str, settings: str) -> None:
    """Check that a state is the last one of a run, or the first one with the last row's step and arithmetic."""
    first, last = run.rows[0], run.rows[-1]
    if state == last.state:
        return
    after = "the start" if last.epoch is None else f"epoch {last.epoch}"
    if state != first.state:
        fix = "give the state that the run began or ended with, or use another directory"
        reason = f"state is not the run's state at the start or after {after}; {fix}"
        raise StructureError(reason, subject="audited_train")
    if settings != last.settings:
        fix = "give that step, or the state after the last row"
        raise ConfigError(f"{after} was trained by another step; {fix}", subject="audited_train")
    if in_force() != last.arithmetic:
        fix = f"resume {'outside of' if last.arithmetic == 'native' else 'inside'} `with fn.portable():`"
        raise ConfigError(f"{after} was trained in {last.arithmetic} arithmetic; {fix}", subject="audited_train")


# ------------------------------------------------------------------------------------------------- replaying


def nearest(run: Run, position: int) -> int:
    """Return the position of the last row, at or before this one, that has a checkpoint."""
    for candidate in range(position, -1, -1):
        if run.checkpoint(candidate).exists():
            return candidate
    raise CheckpointError("the run has no checkpoint to replay from", subject=str(run.directory))


def state_at(run: Run, position: int) -> Any:
    """Return the state of a row's checkpoint.

    Raises:
        CheckpointError: If the checkpoint is damaged, or is that of another state.
    """
    state = load(run.checkpoint(position))
    if fingerprint(state) != run.rows[position].state:
        raise CheckpointError("it is not the state of its row", subject=str(run.checkpoint(position)))
    return state


def state_before(run: Run, position: int, step: Step[Any, B], data: Data[B]) -> Any:
    """Return the state before a row, replayed from the nearest checkpoint and compared with every row that it passes.

    Raises:
        CheckpointError: If the replay differs from a row.
    """
    begin = nearest(run, position - 1)
    state = state_at(run, begin)
    for between in range(begin + 1, position):
        state, difference = replayed(run, between, state, step, data)
        if difference:
            raise CheckpointError(f"the replay does not reproduce the run: {difference}", subject=str(run.directory))
    return state


def replayed(run: Run, position: int, state: Any, step: Step[Any, B], data: Data[B]) -> tuple[Any, str]:
    """Train a row's epoch again, and return the state and the first difference from the row, if any."""
    row = run.rows[position]
    epoch = cast("int", row.epoch)
    if fingerprint(step) != row.settings:
        return state, f"epoch {epoch} was trained by another step"
    try:
        with using(row.arithmetic):
            batches = Hashed(data(epoch))
            state, log = train_epoch(step, state, batches)
    except FuncnetError as error:
        return state, f"epoch {epoch} cannot be trained again: {error}"
    kept = run.checkpoint(position)
    difference = _difference(row, len(log.losses), batches.digest(), fingerprint(state))
    if not difference and kept.exists() and fingerprint(load(kept)) != row.state:
        difference = f"{kept.name} is not the state of its row"
    return state, difference


def _difference(row: RunRow, steps: int, data: str, state: str) -> str:
    """Say how an epoch that was trained again differs from its row; what may explain other bits comes first."""
    environments = row.environment, str(environment()), row.arithmetic
    excuse = other_environment(*environments)
    if data != row.data:  # batches need no BLAS: that it is not known explains nothing
        return f"{excuse if differences(*environments) else ''}epoch {row.epoch} was trained on other batches"
    if steps != row.steps:
        return f"epoch {row.epoch} has {steps} steps, but its row has {row.steps}"
    return f"{excuse}epoch {row.epoch} ends in another state" if state != row.state else ""
