"""Boundaries: what a classifier of two inputs predicts at each place of the plane."""

# matplotlib's keyword arguments have no types:
# pyright: reportUnknownMemberType=false

from __future__ import annotations

from typing import Final, TypeAlias

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_rgb
from matplotlib.figure import Figure
from numpy.typing import NDArray

import funcnet as fn
from funcnet.core.checks import (
    check_array,
    check_count,
    check_finite,
    check_flag,
    check_labels,
    check_number,
    to_python,
)
from funcnet.plots.figures import COLORS, Targets, axes_for, classified, color_bar, color_of, figure_of, mark_of

SIDE: Final = 200
"""The number of places along each side at which the network is computed."""

_NAME = "decision_boundary"
_BETWEEN: Final = LinearSegmentedColormap.from_list("between", (COLORS[0], "#FFFFFF", COLORS[1]))

Extent: TypeAlias = tuple[float, float, float, float]
"""``(left, right, bottom, top)``."""


def decision_boundary(
    net: fn.Network,
    x: fn.Array,
    y: Targets,
    *,
    extent: Extent | None = None,
    bar: bool = True,
    axes: Axes | None = None,
) -> Figure:
    """Plot the probabilities of a network with two inputs, the boundary between its classes, and the examples.

    With two classes, the shade is the probability of class 1. With more, the color is the most probable class, and the
    stronger it is, the more probable. The black line is where the two most probable classes are equally probable. Each
    class has its own mark.

    Args:
        net: The network in its plain form, with one logit for two classes, or a logit for each class.
        x: The examples, shape (N, 2).
        y: Their class ids, shape (N,); with one logit, zeros and ones of any dtype, shape (N,) or (N, 1).
        extent: The part of the plane, ``(left, right, bottom, top)``. None means a little more than the examples need.
        bar: Add a color bar, if there are two classes.
        axes: The axes to draw on. None means a new figure.

    Raises:
        ConfigError: If a layer is in its training form, or extent is not in order.
        FuncnetError: If net, x and y do not fit each other.

    Example:
        >>> import funcnet as fn
        >>> net = fn.Dense(weight=np.array([[1.0], [0.0]]), bias=np.zeros(1))
        >>> figure = fn.plots.decision_boundary(net, np.array([[-1.0, 0.0], [1.0, 1.0]]), np.array([0, 1]))
        >>> figure.axes[0].images[0].get_array().shape
        (200, 200)
    """
    bar = check_flag(_NAME, "bar", bar)
    check_array(_NAME, "x", x, ("N", 2))
    check_count(_NAME, "the number of rows of x", len(x))
    check_finite(_NAME, "x", x)
    extent = _around(x) if extent is None else _checked(extent)
    across, up = (low + (np.arange(SIDE) + 0.5) / SIDE * (high - low) for low, high in (extent[:2], extent[2:]))
    grid = np.stack(np.meshgrid(across, up), axis=-1).reshape(-1, 2).astype(x.dtype)
    logits, task = classified(_NAME, net, grid)
    ids = _ids(y, len(x), max(logits.shape[1], 2), binary=isinstance(task, fn.Binary))
    chances = task.probabilities(logits)
    axes = axes_for(_NAME, axes, 6.0)
    if logits.shape[1] <= 2:
        shade = chances.reshape(len(chances), -1)[:, -1].reshape(SIDE, SIDE)
        image = axes.imshow(
            shade, cmap=_BETWEEN, vmin=0, vmax=1, alpha=0.5, extent=extent, origin="lower", aspect="auto"
        )
        if bar:
            color_bar(axes, image, "probability of class 1")
    else:
        axes.imshow(_regions(chances), extent=extent, origin="lower", aspect="auto")
    for lead in _leads(logits):
        if lead.min() < 0 < lead.max():
            axes.contour(across, up, lead, levels=[0.0], colors="black", linewidths=1.5, linestyles="-")
    for k in np.unique(ids).tolist():
        (points,) = axes.plot(*x[ids == k].T, mark_of(k), color=color_of(k), markersize=6, label=f"class {k}")
        points.set(markeredgecolor="white", markeredgewidth=0.6)
    axes.set(title="Decision boundary", xlabel="input 0", ylabel="input 1", xlim=extent[:2], ylim=extent[2:])
    axes.legend(loc="upper right")
    return figure_of(axes)


def _around(x: fn.Array) -> Extent:
    """The rectangle of the examples, and a tenth more on each side."""
    low, high = x.min(axis=0).astype(np.float64), x.max(axis=0).astype(np.float64)
    margin = np.where(high > low, 0.1 * (high - low), 1.0)
    (left, bottom), (right, top) = (low - margin).tolist(), (high + margin).tolist()
    return left, right, bottom, top


def _checked(extent: Extent) -> Extent:
    given = to_python(tuple(extent)) if isinstance(extent, tuple | list) else ()
    if len(given) != 4:
        got = f"got {extent!r:.80}"
        raise fn.ConfigError(f"extent must be (left, right, bottom, top), {got}", subject=_NAME)
    infinity = float("inf")
    for low, high, name in ((given[0], given[1], "right"), (given[2], given[3], "top")):
        check_number(_NAME, "a side of extent", low, low=-infinity, high=infinity)
        check_number(_NAME, f"extent's {name}", high, low=low, high=infinity)
    return given


def _ids(y: Targets, rows: int, classes: int, *, binary: bool) -> NDArray[np.intp]:
    """The class ids of the examples, also from zeros and ones of another dtype or in a column."""
    if binary and isinstance(y, np.ndarray) and y.size == rows and y.dtype.kind in "bf":
        if not ((y == 0) | (y == 1)).all():
            raise fn.LabelError(f"y must be zeros and ones for one logit, got {y!r:.60}", subject=_NAME)
        y = y.astype(np.intp)
    if binary and isinstance(y, np.ndarray) and y.shape == (rows, 1):
        y = y[:, 0]
    return check_labels(_NAME, "y", y, rows, classes).astype(np.intp)


def _regions(chances: fn.Array) -> fn.Array:
    """A color for each place: that of the most probable class, paler where it is less probable. Shape: (S, S, 3)."""
    colors = np.array([to_rgb(color_of(k)) for k in range(chances.shape[-1])])
    lowest = 1.0 / chances.shape[-1]
    strength = 0.1 + 0.4 * (chances.max(axis=-1) - lowest) / (1.0 - lowest)
    mixed = 1.0 - strength[:, None] * (1.0 - colors[chances.argmax(axis=-1)])
    return fn.arithmetic.clip(mixed, 0.0, 1.0).reshape(SIDE, SIDE, 3)


def _leads(logits: fn.Array) -> list[fn.Array]:
    """How far the logit of each class is above the largest of the others; one function is enough for two classes."""
    if logits.shape[1] <= 2:
        return [(logits[:, -1] - (logits[:, 0] if logits.shape[1] == 2 else 0.0)).reshape(SIDE, SIDE)]
    others = (np.delete(logits, k, axis=1).max(axis=1) for k in range(logits.shape[1]))
    return [(logits[:, k] - other).reshape(SIDE, SIDE) for k, other in enumerate(others)]
