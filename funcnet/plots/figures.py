"""Figures: a figure that a notebook shows without pyplot, the axes to draw on, and colors and marks."""

# matplotlib's keyword arguments have no types:
# pyright: reportUnknownMemberType=false

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from typing import Final, TypeAlias

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure, SubFigure
from numpy.typing import NDArray

import funcnet as fn
from funcnet.core.checks import check_array, check_count
from funcnet.network.modes import check_plain_form

Ids: TypeAlias = "NDArray[np.integer] | NDArray[np.bool_]"
"""Class ids, shape (B,), of any integer dtype, or bools."""

Targets: TypeAlias = "Ids | fn.Array"
"""Class ids, or zeros and ones of any dtype. Shape: (B,)."""

COLORS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""The colors of Okabe and Ito without yellow, which is too light for a line on white."""

MARKS: Final = ("o", "^", "s", "D", "v", "P", "X", "*", "<", ">")
"""The marks of the classes, so that no reader depends on the colors."""

TALLEST: Final = 300.0
"""The largest height of a figure, in inches: matplotlib draws less than 65,536 pixels."""


class Picture(Figure):
    """A figure that a notebook shows as the result of a cell, although pyplot does not know it."""

    def _repr_png_(self) -> bytes:
        file = BytesIO()
        self.savefig(file, format="png")
        return file.getvalue()


def axes_for(subject: str, axes: Axes | None, height: float = 5.0) -> Axes:
    """Return the given axes, or those of a new figure, 8 inches wide and ``height`` inches high.

    Raises:
        ConfigError: If the axes are not those of matplotlib.
    """
    if axes is None:
        return new_figure(height).subplots()
    return check_axes(subject, "axes", axes)


def check_axes(subject: str, name: str, axes: Axes) -> Axes:
    """Check that a value is the axes of a figure, and return it.

    Raises:
        ConfigError: If it is not.
    """
    if not isinstance(axes, Axes):
        fix = "; use one of its elements" if isinstance(axes, np.ndarray | Sequence) else ""
        got = f"got {type(axes).__name__}{fix}"
        raise fn.ConfigError(f"{name} must be the Axes of a matplotlib figure, {got}", subject=subject)
    return axes


def new_figure(height: float) -> Picture:
    """Return a figure, 8 inches wide, that places its parts without overlaps."""
    return Picture(figsize=(8.0, min(height, TALLEST)), layout="constrained")


def figure_of(axes: Axes) -> Figure:
    """Return the figure that has the axes, also if they are in a part of it."""
    return root_of(axes.figure)


def root_of(figure: Figure | SubFigure) -> Figure:
    """Return the figure that a part belongs to."""
    return figure if isinstance(figure, Figure) else figure.figure


def color_bar(axes: Axes, image: ScalarMappable, label: str) -> None:
    """Add a color bar at the right of the axes. It belongs to them, so the other axes of the figure keep their size."""
    figure_of(axes).colorbar(image, cax=axes.inset_axes((1.03, 0.0, 0.04, 1.0)), label=label)


def color_of(position: int) -> str:
    """Return the color of a class or of a run."""
    return COLORS[position % len(COLORS)]


def mark_of(position: int) -> str:
    """Return the mark of a class."""
    return MARKS[position % len(MARKS)]


def grid_of(
    subject: str, figure: Figure | SubFigure | None, images: NDArray[np.generic], columns: int, lines: int
) -> tuple[Figure | SubFigure, list[Axes]]:
    """Return the figure and axes without frames for images (N, H, W, ...), row by row, with room for titles.

    Raises:
        ConfigError: If figure is not a figure or a part of one, or columns is not a positive int.
    """
    count, height, width = max(len(images), 1), *images.shape[1:3]
    columns = min(check_count(subject, "columns", columns), count)
    rows = -(-count // columns)
    if figure is None:
        figure = new_figure(0.5 + rows * (6.8 / max(columns, 3) * height / width + 0.1 + 0.2 * lines))
    elif not isinstance(figure, Figure | SubFigure):
        got = f"got {type(figure).__name__}"
        raise fn.ConfigError(f"figure must be a matplotlib Figure or SubFigure, {got}", subject=subject)
    every: list[Axes] = list(figure.subplots(rows, columns, squeeze=False).ravel())
    for axes in every:
        axes.set_axis_off()
    return figure, every


def names_of(subject: str, names: Sequence[str] | None, classes: int) -> list[str]:
    """Return the names of the classes, which are their ids without ``names``.

    Raises:
        ConfigError: If there is not one name for each class.
    """
    if names is None:
        return [str(i) for i in range(classes)]
    if isinstance(names, str) or len(names) != classes:
        raise fn.ConfigError(
            f"names must have one name for each of {classes} classes, got {names!r:.80}", subject=subject
        )
    return [str(name) for name in names]


def classified(subject: str, net: fn.Network, x: NDArray[np.floating]) -> tuple[fn.Array, fn.Multiclass | fn.Binary]:
    """Return the logits of a classifier, shape (N, O), and its task: one column is a logit for two classes.

    Raises:
        ConfigError: If a layer is in its training form.
        FuncnetError: If x does not fit the network, or its outputs are not those of a classifier.
    """
    check_plain_form(net, subject)
    logits = fn.outputs(net, x)
    logits = logits[:, None] if logits.ndim == 1 else logits
    check_array(subject, "the network's output", logits, ("N", "O"))
    return logits, fn.Binary() if logits.shape[1] == 1 else fn.Multiclass()
