"""Audits: replay part of a run and compare its bytes; find where two runs diverge."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any, TypeVar, cast

import numpy as np
from attrs import frozen

from funcnet.arithmetic import using
from funcnet.core.arrays import AnyArray, describe
from funcnet.core.checks import check_callable, check_iterable
from funcnet.core.errors import CheckpointError, ConfigError
from funcnet.core.trees import same_bits
from funcnet.loops.epochs import train_epoch
from funcnet.runs.audited import Data, Hashed, Run, RunRow
from funcnet.runs.checkpoints import load
from funcnet.runs.fingerprints import fingerprint
from funcnet.runs.structure import Node, take_apart
from funcnet.tracing.replay import Step

B = TypeVar("B")


# ------------------------------------------------------------------------------------------------- replaying


def _nearest(run: Run, position: int) -> int:
    """Return the position of the last row, at or before this one, that has a checkpoint."""
    for candidate in range(position, -1, -1):
        if run.checkpoint(candidate).exists():
            return candidate
    raise CheckpointError("the run has no checkpoint to replay from", subject=str(run.directory))


def _state_at(run: Run, position: int) -> Any:
    state = load(run.checkpoint(position))
    if fingerprint(state) != run.rows[position].state:
        raise CheckpointError("it is not the state of its row", subject=str(run.checkpoint(position)))
    return state


@frozen
class Recheck:
    """The comparison of ``recheck``, and its first difference, if any; true if there is no difference."""

    epochs: tuple[int, ...]
    replayed_from: str
    difference: str = ""

    @property
    def passed(self) -> bool:
        """Whether all bytes are equal."""
        return not self.difference

    def __bool__(self) -> bool:
        return self.passed

    def __str__(self) -> str:
        outcome = self.difference or "every state and every batch has the bytes of its row"
        return f"epochs {', '.join(map(str, self.epochs))}, replayed from {self.replayed_from}: {outcome}"


def recheck(run: Run, segment: Iterable[int], *, step: Step[Any, B], data: Data[B]) -> Recheck:
    """Replay some epochs of a run from the nearest earlier checkpoint, and compare the bytes.

    Args:
        run: The result of ``load_run``.
        segment: The epochs' numbers, such as ``range(3, 6)``.
        step: The run's step.
        data: The run's data.

    Returns:
        The epochs compared, and the first difference: in the step, the batches, the states or the checkpoints.

    Raises:
        ConfigError: If the run has no such epoch, or an argument has the wrong type.
        CheckpointError: If the starting checkpoint is damaged or missing.

    Example:
        See ``examples/resume.py``.
    """
    _check_run("recheck", "run", run)
    check_iterable("recheck", "segment", segment)
    check_callable("recheck", "step", step)
    check_callable("recheck", "data", data)
    epochs = tuple(segment)
    if not epochs:
        raise ConfigError("segment must have at least one epoch", subject="recheck")
    positions = [run.position(epoch) for epoch in epochs]
    begin = _nearest(run, min(positions) - 1)
    state, difference = _state_at(run, begin), ""
    for position in range(begin + 1, max(positions) + 1):
        state, difference = _replay(run, position, state, step, data)
        if difference:
            break
    return Recheck(epochs, run.checkpoint(begin).name, difference)


def _check_run(subject: str, name: str, run: object) -> None:
    if not isinstance(run, Run):
        fix = f"use load_run({run!r:.80})" if isinstance(run, str) else "use load_run(path)"
        raise ConfigError(f"{name} must be a Run, got {run!r:.80}; {fix}", subject=subject)


def _replay(run: Run, position: int, state: Any, step: Step[Any, B], data: Data[B]) -> tuple[Any, str]:
    row = run.rows[position]
    epoch = cast("int", row.epoch)
    if fingerprint(step) != row.settings:
        return state, f"epoch {epoch} was trained by another step"
    with using(row.arithmetic):
        batches = Hashed(data(epoch))
        state, _ = train_epoch(step, state, batches)
    kept = run.checkpoint(position)
    if batches.digest() != row.data:
        return state, f"epoch {epoch} was trained on other batches"
    if fingerprint(state) != row.state:
        return state, f"epoch {epoch} ends in another state"
    if kept.exists() and fingerprint(load(kept)) != row.state:
        return state, f"{kept.name} is not the state of its row"
    return state, ""


# ------------------------------------------------------------------------------------------------- comparing


@frozen
class Divergence:
    """The point where two runs diverge, and the field that differs.

    Args:
        epoch: The first epoch that differs; None if the runs differ at the start.
        step: The first step of that epoch that differs, counted from 0; None if no step was replayed.
        what: ``"state"``, ``"data"``, ``"settings"`` or ``"length"``.
        path: The field, such as ``"params.2.weight"``.
        values: The field's value in each run.
    """

    epoch: int | None
    step: int | None
    what: str
    path: str
    values: tuple[str, str]

    def __str__(self) -> str:
        where = "at the start" if self.epoch is None else f"in epoch {self.epoch}"
        where += "" if self.step is None else f", step {self.step}"
        field = f", {self.path}" if self.path else ""
        values = f"{self.values[0]} in one and {self.values[1]} in the other"
        return f"the runs diverge {where}: {self.what}{field} is {values}"


def first_divergence(
    run_a: Run,
    run_b: Run,
    *,
    step: Step[Any, B] | tuple[Step[Any, B], Step[Any, B]],
    data: Data[B] | tuple[Data[B], Data[B]],
) -> Divergence | None:
    """Find the first step, layer and field in which two runs diverge; None if all their rows are equal.

    The rows give the epoch. Replaying that epoch in both runs, one step after the other, gives the step.

    Args:
        run_a: The result of ``load_run`` for the first run.
        run_b: The result for the second run.
        step: The step of both runs, or a pair of steps, one per run.
        data: The data of both runs, or a pair, one per run.

    Raises:
        ConfigError: If an argument has the wrong type.
        CheckpointError: If no checkpoint exists to replay from, or the replay does not reproduce the rows.

    Example:
        See ``examples/resume.py``.
    """
    runs = run_a, run_b
    steps = cast("tuple[Step[Any, B], ...]", step if isinstance(step, tuple) else (step, step))
    sources = cast("tuple[Data[B], ...]", data if isinstance(data, tuple) else (data, data))
    for name, run in (("run_a", run_a), ("run_b", run_b)):
        _check_run("first_divergence", name, run)
    for name, functions in (("step", steps), ("data", sources)):
        for function in functions:
            check_callable("first_divergence", name, function)
    pairs = list(zip(run_a.rows, run_b.rows, strict=False))
    position = next((i for i, (a, b) in enumerate(pairs) if a.hash != b.hash), len(pairs))
    if position == len(pairs):
        return _other_length(run_a, run_b)
    a, b = pairs[position]
    if position == 0:
        return _between(None, None, "state", _state_at(run_a, 0), _state_at(run_b, 0)) or _settings(a, b, steps)
    if a.epoch != b.epoch:
        return Divergence(a.epoch, None, "the epoch's number", "", (str(a.epoch), str(b.epoch)))
    states = [_before(run, position, one, source) for run, one, source in zip(runs, steps, sources, strict=True)]
    found = _settings(a, b, steps) or _step_by_step(cast("int", a.epoch), runs, position, states, steps, sources)
    if found is None:
        reason = f"replaying epoch {a.epoch} shows no difference between the runs; see recheck"
        raise CheckpointError(reason, subject="first_divergence")
    return found


def _other_length(run_a: Run, run_b: Run) -> Divergence | None:
    if len(run_a.rows) == len(run_b.rows):
        return None
    longer = max(run_a, run_b, key=lambda run: len(run.rows))
    epoch = longer.rows[min(len(run_a.rows), len(run_b.rows))].epoch
    rows = tuple(f"{len(run.rows) - 1} epochs" for run in (run_a, run_b))
    return Divergence(epoch, None, "length", "", cast("tuple[str, str]", rows))


def _before(run: Run, position: int, step: Step[Any, B], data: Data[B]) -> Any:
    """Return the state before a row, replayed from the nearest checkpoint."""
    begin = _nearest(run, position - 1)
    state = _state_at(run, begin)
    for between in range(begin + 1, position):
        state, difference = _replay(run, between, state, step, data)
        if difference:
            raise CheckpointError(f"the replay does not reproduce the run: {difference}", subject=str(run.directory))
    return state


def _settings(a: RunRow, b: RunRow, steps: tuple[Step[Any, B], ...]) -> Divergence | None:
    if a.arithmetic != b.arithmetic:
        return Divergence(a.epoch, None, "settings", "arithmetic", (a.arithmetic, b.arithmetic))
    if a.settings != b.settings:
        return _between(a.epoch, None, "settings", *steps)
    return None


def _step_by_step(  # noqa: PLR0917
    epoch: int,
    runs: tuple[Run, Run],
    position: int,
    states: list[Any],
    steps: tuple[Step[Any, B], ...],
    sources: tuple[Data[B], ...],
) -> Divergence | None:
    with using(runs[0].rows[position].arithmetic):
        pairs = zip_longest(*(source(epoch) for source in sources))
        for number, batches in enumerate(pairs):
            if None in batches:
                ends = cast("tuple[str, str]", tuple("at its end" if batch is None else "not" for batch in batches))
                return Divergence(epoch, number, "data", "", ends)
            found = _between(epoch, number, "data", *batches)
            if found:
                return found
            states = [one(state, batch)[0] for one, state, batch in zip(steps, states, batches, strict=True)]
            found = _between(epoch, number, "state", *states)
            if found:
                return found
    return None


def _between(epoch: int | None, step: int | None, what: str, a: object, b: object) -> Divergence | None:
    """Return the first field in which two values differ, arrays first."""
    (structure, arrays), (other_structure, others) = take_apart(a, what), take_apart(b, what)
    for path, array in arrays.items():
        other = others.get(path)
        if other is None or describe(other) != describe(array):
            return Divergence(
                epoch, step, what, path, (describe(array), "absent" if other is None else describe(other))
            )
        if not same_bits(array, other):
            index = _first_index(array, other)
            where = f"{path}[{', '.join(map(str, index))}]"
            return Divergence(epoch, step, what, where, (str(array[index]), str(other[index])))
    one, two = dict(_settings_of(structure, "")), dict(_settings_of(other_structure, ""))
    for path in one | two:
        values = one.get(path, "absent"), two.get(path, "absent")
        if values[0] != values[1]:
            return Divergence(epoch, step, what, path, values)
    return None


def _first_index(a: AnyArray, b: AnyArray) -> tuple[int, ...]:
    """The index of the first element whose bits differ."""
    bits = [np.ascontiguousarray(each).reshape(-1).view(np.uint8).reshape(-1, each.itemsize) for each in (a, b)]
    flat = int((bits[0] != bits[1]).any(axis=1).argmax())
    return tuple(int(i) for i in np.unravel_index(flat, a.shape))


def _settings_of(node: Node, path: str) -> Iterator[tuple[str, str]]:
    """The content of a value apart from its arrays: the path of each field, with its setting or its record's name."""
    if isinstance(node, Mapping):
        kind, content = next(iter(node.items()))
        if kind == "record":
            name, inside = cast("tuple[str, Mapping[str, Node]]", content)
            yield path, name
            for field, inner in inside.items():
                yield from _settings_of(inner, f"{path}.{field}" if path else field)
        else:
            yield path, str(float.fromhex(str(content)) if kind == "float" else content)
    elif isinstance(node, Sequence) and not isinstance(node, str):
        for position, inner in enumerate(node):
            yield from _settings_of(inner, f"{path}.{position}" if path else str(position))
    else:
        yield path, str(node)
