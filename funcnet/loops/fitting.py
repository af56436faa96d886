"""Fitting: training with validation and early stopping, as a lazy sequence of values that can be saved."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, Generic, Literal, TypeAlias, TypeVar

import numpy as np
from attrs import evolve, field, frozen
from numpy.typing import NDArray

from funcnet.arithmetic import Name, in_force, using
from funcnet.core.checks import INFINITY, check_callable, check_choice, check_count, check_number, to_python
from funcnet.core.errors import ConfigError, NonFiniteError
from funcnet.core.names import LATER, register_name
from funcnet.loops.epochs import check_data, train_epoch
from funcnet.tracing.replay import Step

S = TypeVar("S")
R = TypeVar("R")
B = TypeVar("B")

_COLUMNS: Final = ("epoch", "loss", "validation")

Goal: TypeAlias = Literal["lowest", "highest"]


@frozen(eq=False)
class Fit(Generic[S]):
    """A run with validation, between two epochs: its state, its best state so far, and the age of the best one.

    Args:
        state: The network or ``TrainState`` after the last epoch.
        best: The state with the best validation value; the initial state before the first epoch.
        best_epoch: The number of the epoch that gave ``best``; None before the first epoch.
        waited: The number of epochs since then.
        losses: The mean training loss of each epoch.
        values: The validation value after each epoch.
        metrics: The name of each further metric, and its value after each epoch.
    """

    state: S
    best: S
    best_epoch: int | None = None
    waited: int = 0
    losses: tuple[float, ...] = ()
    values: tuple[float, ...] = ()
    metrics: tuple[tuple[str, tuple[float, ...]], ...] = field(default=(), metadata=LATER)

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
        """One column per quantity, one row per epoch: ``pandas.DataFrame(fit.history)``."""
        return {
            "epoch": np.arange(self.epoch),
            "loss": np.array(self.losses, np.float64),
            "validation": np.array(self.values, np.float64),
            **{name: np.array(values, np.float64) for name, values in self.metrics},
        }

    def __repr__(self) -> str:
        return f"Fit(epoch={self.epoch}, best_epoch={self.best_epoch}, waited={self.waited})"


register_name(Fit, "funcnet.Fit")


@frozen
class _Settings:
    """The checked settings of one call of ``fit``, and the arithmetic that was in force at that call."""

    epochs: int
    patience: int | None
    goal: Goal
    min_delta: float
    arithmetic: Name

    def continues(self, fitted: Fit[Any]) -> bool:
        """Whether another epoch follows."""
        return fitted.epoch < self.epochs and (self.patience is None or fitted.waited < self.patience)


def fit(
    step: Step[S, B],
    start: Fit[S],
    data: Callable[[int], Iterable[B]],
    validate: Callable[[S], float],
    *,
    epochs: int,
    patience: int | None = None,
    goal: Goal = "lowest",
    min_delta: float = 0.0,
    metrics: Mapping[str, Callable[[S], float]] | None = None,
) -> Iterator[Fit[S]]:
    """Train with validation after each epoch; stop early when the best value is ``patience`` epochs old.

    ``fit`` is lazy: it yields the whole fit as one value after each epoch. A fit that is saved, loaded and passed as
    ``start`` continues as if it had never stopped. The run uses the arithmetic in force when ``fit`` is called.

    Args:
        step: The step that each epoch folds over its batches.
        start: ``Fit.create(state)``, or the last fit of an earlier call.
        data: A function from an epoch's number to its batches.
        validate: A pure function of the state, such as ``lambda state: evaluate(state.params, x, y, loss)``.
        epochs: The maximum number of epochs, including those of ``start``.
        patience: The number of epochs without a better value after which training stops; None never stops early.
        goal: Whether a lower or a higher value is better.
        min_delta: The minimum improvement that counts as better.
        metrics: Further pure functions of the state by name, such as ``{"accuracy": lambda state: ...}``. ``history``
            has a column for each. They do not affect training.

    Raises:
        ConfigError: If a setting is invalid, or the metrics are not those of ``start``.
        NonFiniteError: If a validation value is NaN or infinite; the message has the epoch.

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
    check_data("fit", data)
    check_callable("fit", "validate", validate)
    functions = {} if metrics is None else dict(metrics)
    for name, function in functions.items():
        check_callable("fit", f"the metric {name!r}", function)
    start = _with_metrics(start, tuple(functions))
    epochs = check_count("fit", "epochs", epochs, low=0)
    if patience is not None:
        patience = check_count("fit", "patience", patience)
    check_choice("fit", "goal", goal, ("lowest", "highest"))
    min_delta = check_number("fit", "min_delta", min_delta, low=0, high=INFINITY, closed=True)
    settings = _Settings(epochs, patience, goal, float(min_delta), in_force())
    return _epochs(step, start, data, (validate, *functions.values()), settings)


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


def _epochs(
    step: Step[S, B],
    fitted: Fit[S],
    data: Callable[[int], Iterable[B]],
    functions: tuple[Callable[[S], float], ...],
    settings: _Settings,
) -> Iterator[Fit[S]]:
    while settings.continues(fitted):
        with using(settings.arithmetic):
            state, log = train_epoch(step, fitted.state, data(fitted.epoch))
            loss, (value, *others) = log.mean_loss, [_number(function(state)) for function in functions]
        if not -INFINITY < value < INFINITY:
            raise NonFiniteError(f"the validation value after epoch {fitted.epoch} is {value}", subject="fit")
        metrics = ((name, (*earlier, now)) for (name, earlier), now in zip(fitted.metrics, others, strict=True))
        fitted = _after(evolve(fitted, metrics=tuple(metrics)), state, loss, value, settings)
        yield fitted


def _number(value: object) -> float:
    number = to_python(value)
    if isinstance(number, bool) or not isinstance(number, int | float):
        raise ConfigError(f"validate and metrics must return a number, got {value!r:.80}", subject="fit")
    return float(number)


def _after(fitted: Fit[S], state: S, loss: float, value: float, settings: _Settings) -> Fit[S]:
    losses, values = (*fitted.losses, loss), (*fitted.values, value)
    sign = -1 if settings.goal == "lowest" else 1
    if fitted.best_epoch is None or sign * (value - fitted.values[fitted.best_epoch]) > settings.min_delta:
        return Fit(state, state, fitted.epoch, 0, losses, values, fitted.metrics)
    return Fit(state, fitted.best, fitted.best_epoch, fitted.waited + 1, losses, values, fitted.metrics)
