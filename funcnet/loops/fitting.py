"""Fitting: training that watches a validation value or the training loss, as a lazy sequence of values.

It keeps the best state, stops early, and reduces the learning rate on a plateau.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, Generic, Literal, TypeAlias, TypeVar

import numpy as np
from attrs import evolve, field, frozen
from numpy.typing import NDArray

from funcnet.arithmetic import Name, in_force, using
from funcnet.core.checks import INFINITY, check_callable, check_choice, check_count, check_number, to_python
from funcnet.core.errors import ConfigError, NonFiniteError, quoted
from funcnet.core.html import paragraphs, table
from funcnet.core.names import LATER, register_name
from funcnet.loops.epochs import EpochLog, check_data, train_epoch
from funcnet.loops.plateau import ReduceOnPlateau, with_multiplier, with_optimizer_of
from funcnet.loops.reducers import reducer_of
from funcnet.loops.steps import check_step
from funcnet.tracing.replay import Step

S = TypeVar("S")
R = TypeVar("R")
B = TypeVar("B")

_COLUMNS: Final = ("epoch", "loss", "validation", "multiplier")

Goal: TypeAlias = Literal["lowest", "highest"]


@frozen(eq=False)
class Fit(Generic[S]):
    """A run between two epochs: its state, its best state so far, and the age of the best one.

    Args:
        state: The network or ``TrainState`` after the last epoch.
        best: The state after the epoch with the best value; the initial state before the first epoch.
        best_epoch: The number of the epoch that gave ``best``; None before the first epoch.
        waited: The number of epochs since then.
        losses: The mean training loss of each epoch.
        values: The validation value after each epoch; empty in a fit without validation, which compares ``losses``.
        metrics: The name of each further metric, and its value after each epoch.
        multiplier: The number by which the next epoch multiplies the learning rate of the state's optimizer; see
            ``ReduceOnPlateau``. The state keeps its own optimizer, with the rate that the run began with.
        multipliers: The multiplier of each epoch; empty in a fit without a plateau.
    """

    state: S
    best: S
    best_epoch: int | None = None
    waited: int = 0
    losses: tuple[float, ...] = ()
    values: tuple[float, ...] = ()
    metrics: tuple[tuple[str, tuple[float, ...]], ...] = field(default=(), metadata=LATER)
    multiplier: float = field(default=1.0, metadata=LATER)
    multipliers: tuple[float, ...] = field(default=(), metadata=LATER)

    @staticmethod
    def create(state: R) -> Fit[R]:
        """Return the fit before its first epoch."""
        return Fit(state, state)

    @property
    def epoch(self) -> int:
        """The number of completed epochs."""
        return len(self.losses)

    @property
    def history(self) -> dict[str, NDArray[Any]]:
        """One column per quantity, one row per epoch: ``pandas.DataFrame(fit.history)``.

        A fit without validation has no column ``"validation"``, and one without a plateau no ``"multiplier"``.
        """
        columns = {"loss": self.losses, "validation": self.values, "multiplier": self.multipliers, **dict(self.metrics)}
        if len(self.values) < self.epoch:
            del columns["validation"]
        if not self.multipliers:
            del columns["multiplier"]
        return {
            "epoch": np.arange(self.epoch, dtype=np.int64),
            **{name: np.array(values, np.float64) for name, values in columns.items()},
        }

    def __repr__(self) -> str:
        reduced = f", multiplier={self.multiplier:.6g}" if self.multiplier != 1.0 else ""
        return f"Fit(epoch={self.epoch}, best_epoch={self.best_epoch}, waited={self.waited}{reduced})"

    def _repr_html_(self) -> str:
        """The history; of more than 20 epochs, the first and the last ten, and the best."""
        columns, epochs = self.history, range(self.epoch)
        shown = {*epochs[:10], *epochs[-10:], *(() if self.best_epoch is None else (self.best_epoch,))}
        rows: list[list[str]] = []
        for epoch in sorted(shown):
            if rows and epoch - 1 not in shown:
                rows.append(["…"] * len(columns))
            rows.append([f"{column[epoch]:.6g}" for column in columns.values()])
        return paragraphs([self]) + table(list(columns), rows, "r" * len(columns))


register_name(Fit, "funcnet.Fit")


@frozen
class _Settings:
    """The checked settings of one call of ``fit``, and the arithmetic that was in force at that call."""

    epochs: int
    patience: int | None
    goal: Goal
    min_delta: float
    plateau: ReduceOnPlateau | None
    arithmetic: Name

    def continues(self, fitted: Fit[Any]) -> bool:
        """Whether another epoch follows."""
        return fitted.epoch < self.epochs and (self.patience is None or fitted.waited < self.patience)


def fit(
    step: Step[S, B],
    start: Fit[S],
    data: Callable[[int], Iterable[B]],
    validate: Callable[[S], float] | None = None,
    *,
    epochs: int,
    patience: int | None = None,
    goal: Goal = "lowest",
    min_delta: float = 0.0,
    plateau: ReduceOnPlateau | None = None,
    metrics: Mapping[str, Callable[[S], float]] | None = None,
) -> Iterator[Fit[S]]:
    """Train with validation after each epoch; stop early when the best value is ``patience`` epochs old.

    With a ``plateau``, the learning rate is reduced when the best value is ``plateau.patience`` epochs old, and again
    when it is twice as old. ``patience`` counts all epochs since the best one, also those before a reduction.

    Without ``validate``, the value of an epoch is its mean training loss. That is the mean over the epoch's steps, each
    before its update, so it belongs to the states during the epoch and not exactly to the state after it.

    With a reducer, every rank calls ``fit``, validates, and yields the same fits. The ranks compare their settings and
    fits at the start, and their fits after each epoch: if these differed, they might stop after different epochs and
    wait for each other forever.

    ``fit`` is lazy: it yields the whole fit as one value after each epoch. A fit that is saved, loaded and passed as
    ``start`` continues as if it had never stopped. The run uses the arithmetic in force when ``fit`` is called.

    Args:
        step: The step that each epoch folds over its batches.
        start: ``Fit.create(state)``, or the last fit of an earlier call.
        data: A function from an epoch's number to its batches.
        validate: A pure function of the state, such as ``lambda state: evaluate(state.params, x, y, loss)``. None
            compares the mean training losses of the epochs. For a value that should grow, such as accuracy, pass
            ``goal="highest"``.
        epochs: The maximum number of epochs, including those of ``start``.
        patience: The number of epochs without a better value after which training stops; None never stops early.
        goal: Whether a lower or a higher value is better. For a value that should grow, such as accuracy, pass
            ``"highest"``; with ``"lowest"``, ``best`` would be the worst network.
        min_delta: The minimum improvement that counts as better.
        plateau: When and how the learning rate is reduced, for a ``TrainState``. None keeps the multiplier of
            ``start``, which is 1 in a new fit.
        metrics: Further pure functions of the state by name, such as ``{"accuracy": lambda state: ...}``. ``history``
            has a column for each. They do not affect training.

    Raises:
        ConfigError: If a setting is invalid, validation and metrics are not those of ``start``, or ``patience`` is not
            more than that of the plateau: training would stop before a reduced rate is used.
        NonFiniteError: If a validation value or a mean loss is NaN or infinite; the message has the epoch.
        StructureError: If a rank has other settings than rank 0, or another fit, because ``validate`` or a metric
            differs.

    Source: Prechelt, "Early stopping, but when?", in Neural Networks: Tricks of the Trade, 1998.

    Example:
        >>> import funcnet as fn
        >>> x, y = np.eye(2, dtype=np.float32), np.array([0, 1])
        >>> step = fn.sgd_step(fn.softmax_cross_entropy, learning_rate=0.5)
        >>> *_, last = fit(
        ...     step,
        ...     Fit.create(fn.mlp(fn.Key(0), (2, 2))),
        ...     lambda epoch: fn.minibatches(x, y, 1, key=fn.Key(0).child(epoch)),
        ...     lambda net: fn.evaluate(net, x, y, fn.softmax_cross_entropy),
        ...     epochs=5,
        ... )
        >>> last, last.history["validation"].round(3)
        (Fit(epoch=5, best_epoch=4, waited=0), array([0.237, 0.193, 0.162, 0.14 , 0.122]))
    """
    check_step("fit", step)
    check_data("fit", data)
    if validate is not None and not callable(validate):
        fix = "use lambda state: evaluate(state.params, x, y, loss)"
        raise ConfigError(f"validate must be a function of the state, got {quoted(validate)}; {fix}", subject="fit")
    functions = {} if metrics is None else dict(metrics)
    for name, function in functions.items():
        check_callable("fit", f"the metric {name!r}", function)
    start = _with_metrics(start, tuple(functions))
    _check_validation(start, validate)
    epochs = check_count("fit", "epochs", epochs, low=0)
    if patience is not None:
        patience = check_count("fit", "patience", patience)
    check_choice("fit", "goal", goal, ("lowest", "highest"))
    min_delta = check_number("fit", "min_delta", min_delta, low=0, high=INFINITY, closed=True)
    start = _with_plateau(start, plateau, patience)
    settings = _Settings(epochs, patience, goal, float(min_delta), plateau, in_force())
    measures = functions.values() if validate is None else (validate, *functions.values())
    return _epochs(step, start, data, tuple(measures), settings)


def _with_metrics(start: Fit[S], names: tuple[str, ...]) -> Fit[S]:
    """Return the fit with the metrics of these names, which must be those of its earlier epochs."""
    if not isinstance(start, Fit):
        raise ConfigError(f"start must be a Fit, got {start!r:.80}; use Fit.create(state)", subject="fit")
    given = tuple(name for name, _ in start.metrics)
    for name in names:
        if not isinstance(name, str) or name in _COLUMNS:
            raise ConfigError(f"a metric's name must be a string other than {_COLUMNS}, got {name!r}", subject="fit")
    if start.epoch and given != names:
        raise ConfigError(f"metrics must be those of the earlier epochs, {given}, got {names}", subject="fit")
    return start if start.epoch else evolve(start, metrics=tuple((name, ()) for name in names))


def _check_validation(start: Fit[S], validate: Callable[[S], float] | None) -> None:
    """Check that the fit's earlier epochs and its further ones are compared by the same value."""
    if start.epoch and (validate is None) == bool(start.values):
        wanted, got = ("a function", "None") if start.values else ("None", "a function")
        fix = "begin with Fit.create(start.state) to compare another value"
        reason = f"validate must be {wanted}, as in the earlier epochs of start, got {got}"
        raise ConfigError(f"{reason}; {fix}", subject="fit")


def _with_plateau(start: Fit[S], plateau: ReduceOnPlateau | None, patience: int | None) -> Fit[S]:
    """Return the fit with a multiplier for each of its earlier epochs, if there is a plateau, which must fit."""
    if plateau is None:
        return start
    if not isinstance(plateau, ReduceOnPlateau):
        fix = "use ReduceOnPlateau(factor=0.1, patience=10)"
        raise ConfigError(f"plateau must be a ReduceOnPlateau, got {quoted(plateau)}; {fix}", subject="fit")
    if patience is not None and patience <= plateau.patience:
        reason = "training would stop before a reduced rate is used"
        wanted = f"more than the patience of plateau, {plateau.patience}"
        raise ConfigError(f"patience must be {wanted}, got {patience}: {reason}", subject="fit")
    with_multiplier(start.state, min(start.multiplier, plateau.lowest))  # refuses a state without a rate to reduce
    return evolve(start, multipliers=start.multipliers or (1.0,) * start.epoch)


def _epochs(
    step: Step[S, B],
    fitted: Fit[S],
    data: Callable[[int], Iterable[B]],
    measures: tuple[Callable[[S], float], ...],
    settings: _Settings,
) -> Iterator[Fit[S]]:
    with using(settings.arithmetic):
        for value in (settings, fitted):
            reducer_of(step).check(value)
    while settings.continues(fitted):
        with using(settings.arithmetic):
            state, log = _epoch(step, fitted, data)
            losses = (*fitted.losses, log.mean_loss)
            numbers = [_number(measure(state)) for measure in measures]
        count = len(measures) - len(fitted.metrics)  # 0 without validation
        values, others = (*fitted.values, *numbers[:count]), numbers[count:]
        columns = ((name, (*earlier, now)) for (name, earlier), now in zip(fitted.metrics, others, strict=True))
        fitted = evolve(fitted, losses=losses, values=values, metrics=tuple(columns))
        if settings.plateau is not None or fitted.multipliers:
            fitted = evolve(fitted, multipliers=(*fitted.multipliers, fitted.multiplier))
        fitted = _after(fitted, state, settings)
        reducer_of(step).check(fitted)
        yield fitted


def _epoch(step: Step[S, B], fitted: Fit[S], data: Callable[[int], Iterable[B]]) -> tuple[S, EpochLog]:
    """Train for one epoch with the multiplied learning rate; the state after it has its own optimizer again."""
    if fitted.multiplier == 1.0:
        return train_epoch(step, fitted.state, data(fitted.epoch))
    state, log = train_epoch(step, with_multiplier(fitted.state, fitted.multiplier), data(fitted.epoch))
    return with_optimizer_of(state, fitted.state), log


def _number(value: object) -> float:
    number = to_python(value)
    if isinstance(number, bool) or not isinstance(number, int | float):
        raise ConfigError(f"validate and metrics must return a number, got {value!r:.80}", subject="fit")
    return float(number)


def _after(fitted: Fit[S], state: S, settings: _Settings) -> Fit[S]:
    """Return the fit with the state after its last epoch, which is the best state if its value is the best one."""
    epoch, values = fitted.epoch - 1, fitted.values or fitted.losses
    if not -INFINITY < values[-1] < INFINITY:
        name = "validation value after" if fitted.values else "mean loss of"
        raise NonFiniteError(f"the {name} epoch {epoch} is {values[-1]}", subject="fit")
    sign = -1 if settings.goal == "lowest" else 1
    if fitted.best_epoch is None or sign * (values[-1] - values[fitted.best_epoch]) > settings.min_delta:
        return evolve(fitted, state=state, best=state, best_epoch=epoch, waited=0)
    waited, multiplier = fitted.waited + 1, fitted.multiplier
    if settings.plateau is not None:
        multiplier = settings.plateau.reduced(multiplier, waited)
    return evolve(fitted, state=state, waited=waited, multiplier=multiplier)
