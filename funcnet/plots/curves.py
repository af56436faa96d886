"""Curves over time: the losses of runs by epoch, and a learning rate by update."""

# matplotlib's keyword arguments have no types:
# pyright: reportUnknownMemberType=false

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol, TypeAlias, cast, get_args

import numpy as np
from attrs import frozen
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

import funcnet as fn
from funcnet.arithmetic import mean
from funcnet.core.checks import check_choice, check_count, check_finite
from funcnet.plots.figures import axes_for, color_of, figure_of, mark_of

Scale: TypeAlias = Literal["log", "linear"]
"""The scale of an axis."""

_NAME = "learning_curves"


class Fitted(Protocol):
    """What a plot reads of a ``Fit``."""

    @property
    def losses(self) -> tuple[float, ...]:
        """The mean training loss of each epoch."""
        ...

    @property
    def values(self) -> tuple[float, ...]:
        """The validation value after each epoch."""
        ...

    @property
    def best_epoch(self) -> int | None:
        """The number of the best epoch."""
        ...


Run: TypeAlias = "Fitted | Sequence[fn.EpochLog] | Sequence[float] | NDArray[np.floating]"
"""A ``Fit``, the logs of the epochs, or one number for each epoch."""


@frozen(eq=False)
class _Curves:
    """A run as numbers, one for each epoch; ``values`` is empty without validation. The best epoch counts from 0."""

    losses: NDArray[np.float64]
    values: NDArray[np.float64]
    best: int | None = None


def learning_curves(
    runs: Run | Mapping[str, Run | Sequence[Run]], *, scale: Scale = "log", axes: Axes | None = None
) -> Figure:
    """Plot the mean training loss of each epoch, and the validation value after it if there is one.

    Epochs count from 1. The line of the validation is dashed, and a circle marks the best epoch. Several runs of one
    name are a line, the mean, and a band from the lowest to the highest. Runs may differ in length: at each epoch, the
    mean and the band are those of the runs that reached it, so they may jump where a run ends.

    Args:
        runs: A ``Fit``; the logs of the epochs, ``[log for _, log in fn.train(...)]``; one number for each epoch; or a
            mapping from names to these, or to sequences of several runs.
        scale: ``"log"`` or ``"linear"``. A log scale needs numbers above 0.
        axes: The axes to draw on. None means a new figure.

    Raises:
        ConfigError: If runs have another type or no epoch, or a number does not fit the scale.
        NonFiniteError: If a number is NaN or infinite.

    Example:
        >>> import funcnet as fn
        >>> figure = fn.plots.learning_curves({"rate 0.1": [2.0, 1.0, 0.5], "rate 0.3": [[1.0, 0.5], [3.0, 1.5]]})
        >>> [line.get_ydata().tolist() for line in figure.axes[0].lines]
        [[2.0, 1.0, 0.5], [2.0, 1.0]]
    """
    check_choice(_NAME, "scale", scale, get_args(Scale))
    named = {name: _read(each) for name, each in runs.items()} if isinstance(runs, Mapping) else {"": [_read_run(runs)]}
    if not named:
        raise fn.ConfigError("runs must have at least one run, got an empty mapping", subject=_NAME)
    _check_scale(scale, named)
    axes = axes_for(_NAME, axes)
    for position, (name, several) in enumerate(named.items()):
        _draw(axes, name, several, color_of(position), mark_of(position) if len(named) > 1 else ".")
    values = any(len(run.values) for several in named.values() for run in several)
    what = "training loss, validation value" if values else "mean training loss"
    axes.set(title="Learning curves", xlabel="epoch", ylabel=what, yscale=scale)
    siblings = cast("list[Axes]", axes.get_shared_x_axes().get_siblings(axes))  # with axes itself
    axes.set_xlim(0.5, max(each.dataLim.x1 for each in siblings) + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    axes.legend()
    return figure_of(axes)


def _draw(axes: Axes, name: str, runs: list[_Curves], color: str, mark: str) -> None:
    values = [run.values for run in runs if len(run.values)]
    kind = "training" if values or not name else ""
    for each, style, what in (([run.losses for run in runs], "-", kind), (values, "--", "validation")):
        if each:
            label = _joined(name, what, f"mean and range of {len(runs)} runs" if len(runs) > 1 else "")
            _draw_line(axes, each, color).set(linestyle=style, marker=mark, label=label)
    best = runs[0].best
    if len(runs) == 1 and best is not None:
        height, label = (values[0] if values else runs[0].losses)[best], _joined(name, f"best epoch: {best + 1}")
        axes.plot([best + 1], [height], "o", color=color, markersize=9, markerfacecolor="none", label=label)


def _joined(*parts: str) -> str:
    return ", ".join(filter(None, parts))


def _draw_line(axes: Axes, runs: list[NDArray[np.float64]], color: str) -> Line2D:
    """Draw the mean of the runs that reached each epoch, and the band between the lowest and the highest of them."""
    reached = [np.array([run[i] for run in runs if i < len(run)]) for i in range(max(map(len, runs)))]
    epochs = np.arange(1, len(reached) + 1)
    (line,) = axes.plot(epochs, [mean(each) for each in reached], color=color, markersize=4)
    line.set_markevery(max(1, len(reached) // 8))
    if len(runs) > 1:
        low, high = ([float(f(each)) for each in reached] for f in (np.min, np.max))
        axes.fill_between(epochs, low, high, color=color, alpha=0.2, linewidth=0)
    return line


def _read(value: Run | Sequence[Run]) -> list[_Curves]:
    """The runs of a name: one, or each of several."""
    items = list(value) if isinstance(value, Sequence) and not isinstance(value, str) else []
    if items and all(isinstance(each, fn.Fit | Sequence | np.ndarray) and not isinstance(each, str) for each in items):
        return [_read_run(cast("Run", each)) for each in items]
    return [_read_run(cast("Run", value))]


def _read_run(run: Run) -> _Curves:
    if isinstance(run, fn.Fit):
        curves = _Curves(_numbers(run.losses), _numbers(run.values), run.best_epoch)
    elif isinstance(run, np.ndarray) and run.ndim == 1 and run.dtype.kind in "fiu":
        curves = _Curves(_numbers(run), np.zeros(0))
    elif isinstance(run, Sequence) and all(isinstance(each, fn.EpochLog) for each in run):
        curves = _Curves(_numbers([cast("fn.EpochLog", log).mean_loss for log in run]), np.zeros(0))
    elif isinstance(run, Sequence) and all(isinstance(each, int | float | np.number) for each in run):
        curves = _Curves(_numbers(cast("Sequence[float]", run)), np.zeros(0))
    else:
        wanted = "a Fit, the EpochLogs or the numbers of its epochs"
        fix = "use the last fit of fn.fit, [log for _, log in fn.train(...)], or, for several runs, {'name': runs}"
        raise fn.ConfigError(f"a run must be {wanted}, got {type(run).__name__} {run!r:.60}; {fix}", subject=_NAME)
    check_count(_NAME, "the number of epochs", len(curves.losses))
    return curves


def _numbers(values: Sequence[float] | NDArray[np.floating]) -> NDArray[np.float64]:
    numbers = np.array(values, np.float64)
    check_finite(_NAME, "a run", numbers)
    return numbers


def _check_scale(scale: Scale, named: Mapping[str, list[_Curves]]) -> None:
    for name, several in named.items():
        for numbers in (each for run in several for each in (run.losses, run.values)):
            if scale == "log" and (numbers <= 0).any():
                got = f"got {numbers[numbers <= 0][0]:g}{f' in {name!r}' if name else ''}"
                raise fn.ConfigError(f"a log scale needs numbers above 0, {got}; use scale='linear'", subject=_NAME)


def learning_rates(schedule: fn.Schedule | fn.Optimizer, steps: int, *, axes: Axes | None = None) -> Figure:
    """Plot the learning rate of each of the first updates, of a schedule or of an optimizer.

    Args:
        schedule: A schedule, or an optimizer with a learning rate.
        steps: The number of updates.
        axes: The axes to draw on. None means a new figure.

    Raises:
        ConfigError: If steps is not a positive int, or there is no learning rate.

    Example:
        >>> import funcnet as fn
        >>> figure = fn.plots.learning_rates(fn.step_decay(0.8, step_size=2, gamma=0.5), 5)
        >>> figure.axes[0].lines[0].get_ydata()
        array([0.8, 0.8, 0.4, 0.4, 0.2])
    """
    steps = check_count("learning_rates", "steps", steps)
    optimizer = schedule if hasattr(schedule, "rate") else fn.SGD(learning_rate=cast("fn.Schedule", schedule))
    rates = fn.learning_rates(cast("fn.Optimizer", optimizer), steps)
    axes = axes_for("learning_rates", axes, 4.0)
    axes.plot(np.arange(steps), rates, color=color_of(0), marker="." if steps == 1 else "")
    axes.set(title="Learning rate", xlabel="completed updates", ylabel="learning rate")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    axes.set_ylim(bottom=0)
    return figure_of(axes)
