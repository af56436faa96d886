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
from funcnet.core.errors import CheckpointError, ConfigError, printable
from funcnet.core.html import as_printed
from funcnet.core.trees import same_bits
from funcnet.loops.epochs import check_data
from funcnet.runs.audited import Data, nearest, replayed, state_at, state_before
from funcnet.runs.environment import differences
from funcnet.runs.rows import Run, RunRow, check_last_hash, results_of
from funcnet.runs.structure import Node, take_apart
from funcnet.tracing.replay import Step

B = TypeVar("B")


# ------------------------------------------------------------------------------------------------- replaying


@frozen
class Recheck:
    """The comparison of ``recheck``, and its first difference, if any; true if there is no difference.

    Args:
        epochs: The epochs that were compared.
        replayed_from: The name of the checkpoint where the replay began.
        difference: The first difference. If the environment of a native run differs, too, the text begins with that.
        without_row: The run's checkpoints without a row, which are not compared.
    """

    epochs: tuple[int, ...]
    replayed_from: str
    difference: str = ""
    without_row: tuple[str, ...] = ()

    _repr_pretty_ = as_printed

    @property
    def passed(self) -> bool:
        """Whether all bytes are equal."""
        return not self.difference

    def __bool__(self) -> bool:
        return self.passed

    def __str__(self) -> str:
        outcome = self.difference or "every state and every batch has the bytes of its row"
        if self.without_row:
            outcome += f"; {', '.join(self.without_row)} has no row: a crash left it, or rows were cut from the end"
        return f"epochs {', '.join(map(str, self.epochs))}, replayed from {self.replayed_from}: {outcome}"


def recheck(
    run: Run, segment: Iterable[int], *, step: Step[Any, B], data: Data[B], last_hash: str | None = None
) -> Recheck:
    """Replay some epochs of a run from the nearest earlier checkpoint, and compare the bytes.

    Native arithmetic promises equal bits only in the environment that computed the run. If the bits of a native run
    differ and its environment does, too, the difference says so first: it is no sign of a change.

    Args:
        run: The result of ``load_run``.
        segment: The epochs' numbers, such as ``range(3, 6)``.
        step: The run's step.
        data: The run's data.
        last_hash: The last row's ``hash``, kept elsewhere; see ``load_run``.

    Returns:
        The epochs compared, and the first difference: in the step, the batches, the states or the checkpoints.

    Raises:
        ConfigError: If the run has no such epoch, or an argument has the wrong type.
        CheckpointError: If the starting checkpoint is damaged or missing, or the last row's hash is not ``last_hash``.

    Example:
        See ``examples/resume.py``.
    """
    _check_run("recheck", "run", run)
    check_iterable("recheck", "segment", segment)
    check_callable("recheck", "step", step)
    check_data("recheck", data)
    epochs = tuple(segment)
    if not epochs:
        raise ConfigError("segment must have at least one epoch", subject="recheck")
    check_last_hash("recheck", run, last_hash)
    positions = [run.position(epoch) for epoch in epochs]
    begin = nearest(run, min(positions) - 1)
    state, difference = state_at(run, begin), ""
    for position in range(begin + 1, max(positions) + 1):
        state, difference = replayed(run, position, state, step, data)
        if difference:
            break
    return Recheck(epochs, run.checkpoint(begin).name, difference, run.without_row)


def _check_run(subject: str, name: str, run: object) -> None:
    if not isinstance(run, Run):
        fix = f"use load_run({run!r:.80})" if isinstance(run, str) else "use load_run(path)"
        raise ConfigError(f"{name} must be a Run, got {run!r:.80}; {fix}", subject=subject)


# ------------------------------------------------------------------------------------------------- comparing


@frozen
class Divergence:
    """The point where two runs diverge, and the field that differs.

    Args:
        epoch: The first epoch that differs; None if the runs differ at the start.
        step: The first step of that epoch that differs, counted from 0; None if no step was replayed.
        what: ``"state"``, ``"data"``, ``"settings"``, ``"environment"`` or ``"length"``.
        path: The field, such as ``"params.2.weight"``.
        values: The field's value in each run.
    """

    epoch: int | None
    step: int | None
    what: str
    path: str
    values: tuple[str, str]

    _repr_pretty_ = as_printed

    def __str__(self) -> str:
        where = "at the start" if self.epoch is None else f"in epoch {self.epoch}"
        where += "" if self.step is None else f", step {self.step}"
        field = f", {self.path}" if self.path else ""
        one, other = map(printable, self.values)  # text from a file
        values = f"{one} in one and {other} in the other"
        excuse = "; the states need not be equal across them" if self.what == "environment" else ""
        return f"the runs diverge {where}: {self.what}{field} is {values}{excuse}"


def first_divergence(
    run_a: Run,
    run_b: Run,
    *,
    step: Step[Any, B] | tuple[Step[Any, B], Step[Any, B]],
    data: Data[B] | tuple[Data[B], Data[B]],
) -> Divergence | None:
    """Find the first step, layer and field in which two runs diverge; None if all their results are equal.

    The rows give the epoch. Replaying that epoch in both runs, one step after the other, gives the step. If two native
    runs of the same step on the same data differ in their environment, the result is that environment, not a step:
    native arithmetic does not promise equal bits across environments.

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
    for function, source in zip(steps, sources, strict=False):
        check_callable("first_divergence", "step", function)
        check_data("first_divergence", source)
    pairs = list(zip(run_a.rows, run_b.rows, strict=False))
    position = next((i for i, (a, b) in enumerate(pairs) if results_of(a) != results_of(b)), len(pairs))
    if position == len(pairs):
        return _other_length(run_a, run_b)
    a, b = pairs[position]
    if position == 0:
        return _between(None, None, "state", state_at(run_a, 0), state_at(run_b, 0)) or _settings(a, b, steps)
    if a.epoch != b.epoch:
        return Divergence(a.epoch, None, "the epoch's number", "", (str(a.epoch), str(b.epoch)))
    found = _environment(a, b)
    if found:
        return found
    states = [state_before(run, position, one, source) for run, one, source in zip(runs, steps, sources, strict=True)]
    found = _settings(a, b, steps) or _step_by_step(cast("int", a.epoch), runs, position, states, steps, sources)
    if found is None:
        reason = f"replaying epoch {a.epoch} here shows no difference between the runs"
        reason += ": the step is not pure, or their environments differ in something that is not recorded"
        raise CheckpointError(reason, subject="first_divergence")
    return found


def _other_length(run_a: Run, run_b: Run) -> Divergence | None:
    if len(run_a.rows) == len(run_b.rows):
        return None
    longer = max(run_a, run_b, key=lambda run: len(run.rows))
    epoch = longer.rows[min(len(run_a.rows), len(run_b.rows))].epoch
    rows = tuple(f"{len(run.rows) - 1} epochs" for run in (run_a, run_b))
    return Divergence(epoch, None, "length", "", cast("tuple[str, str]", rows))


def _environment(a: RunRow, b: RunRow) -> Divergence | None:
    """Return the factors in which environments differ, if only the states differ and these factors may explain it."""
    if (a.arithmetic, a.settings, a.data, a.steps) != (b.arithmetic, b.settings, b.data, b.steps):
        return None
    other = differences(a.environment, b.environment, a.arithmetic)
    if not other:
        return None
    one, two = (", ".join(f"{name}={pair[side]!r}" for name, pair in other.items()) for side in (0, 1))
    return Divergence(a.epoch, None, "environment", "", (one, two))


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
