"""How a classifier does: its confusion matrix and its ROC curve."""

# matplotlib's keyword arguments have no types:
# pyright: reportUnknownMemberType=false

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

import funcnet as fn
from funcnet.arithmetic import sum_last
from funcnet.core.checks import check_flag
from funcnet.plots.figures import Ids, Targets, axes_for, color_bar, color_of, figure_of, names_of

MOST_NUMBERS: Final = 30
"""The most classes whose numbers are readable in a matrix."""


def confusion_matrix(
    predictions: Ids,
    labels: Targets,
    *,
    names: Sequence[str] | None = None,
    normalize: bool = False,
    axes: Axes | None = None,
) -> Figure:
    """Plot how often each class is predicted for each true class: a row per true class, a column per predicted class.

    Args:
        predictions: Class ids or bools, shape (B,), as from ``fn.predict``.
        labels: The true class ids, or, for bools, zeros and ones, shape (B,).
        names: The name of each class. None means the ids.
        normalize: Divide each row by its number of labels. A cell is then the share of the true class.
        axes: The axes to draw on. None means a new figure.

    Raises:
        ShapeError, DTypeError, LabelError: If predictions and labels are not class ids of one shape.
        ConfigError: If they are empty, or there is not one name for each class.

    Example:
        >>> import funcnet as fn
        >>> figure = fn.plots.confusion_matrix(np.array([0, 2, 2, 1]), np.array([0, 1, 2, 1]), names=["a", "b", "c"])
        >>> [text.get_text() for text in figure.axes[0].texts]
        ['1', '0', '0', '0', '1', '1', '0', '0', '1']
    """
    name = "confusion_matrix"
    normalize = check_flag(name, "normalize", normalize)
    counts = fn.metrics.confusion_matrix(predictions, labels, classes=None if names is None else len(names))
    shown = names_of(name, names, len(counts))
    cells = counts.astype(np.float64)
    if normalize:
        totals = sum_last(cells)
        cells /= np.where(totals == 0, 1.0, totals)
    axes = axes_for(name, axes, 6.4)
    image = axes.imshow(cells, cmap="Blues", vmin=0, vmax=1 if normalize else max(cells.max(), 1.0))
    color_bar(axes, image, "share of the true class" if normalize else "number of rows")
    places = np.arange(len(counts))
    axes.set(xlabel="predicted class", ylabel="true class")
    axes.set_title(f"Confusion matrix: accuracy {fn.accuracy(predictions, labels):.4f}")
    if len(counts) <= MOST_NUMBERS:
        axes.set_xticks(places, shown, rotation=90 if max(map(len, shown)) > 40 // len(shown) else 0)
        axes.set_yticks(places, shown)
        _write_cells(axes, cells, normalize=normalize)
    return figure_of(axes)


def _write_cells(axes: Axes, cells: NDArray[np.float64], *, normalize: bool) -> None:
    middle, size = 0.5 * cells.max(), min(14.0, 120.0 / len(cells))
    for (row, column), value in np.ndenumerate(cells):
        text = f"{value:.2f}" if normalize else f"{value:,.0f}"
        color = "white" if value > middle else "black"
        axes.text(column, row, text, ha="center", va="center", color=color, fontsize=size)


def roc_curve(scores: fn.Array | Mapping[str, fn.Array], labels: Targets, *, axes: Axes | None = None) -> Figure:
    """Plot the ROC curve: the share of the positives above each score over that of the negatives.

    Args:
        scores: Logits or probabilities of the positive class, shape (B,), or a mapping from the names of models to
            theirs. The legend has the area under each curve.
        labels: Zeros and ones of any dtype, shape (B,).
        axes: The axes to draw on. None means a new figure.

    Raises:
        FuncnetError: If ``fn.metrics.roc_curve`` does not accept scores and labels.
        ConfigError: If the mapping is empty.

    Example:
        >>> import funcnet as fn
        >>> figure = fn.plots.roc_curve(np.array([0.1, 0.4, 0.35, 0.8]), np.array([0, 0, 1, 1]))
        >>> figure.axes[0].lines[1].get_label()
        'area 0.750'
    """
    named = scores if isinstance(scores, Mapping) else {"": scores}
    if not named:
        raise fn.ConfigError("scores must have at least one array, got an empty mapping", subject="roc_curve")
    curves = {name: fn.metrics.roc_curve(each, labels) for name, each in named.items()}
    axes = axes_for("roc_curve", axes, 6.4)
    axes.plot([0, 1], [0, 1], linestyle=":", color="gray", label="chance, area 0.500")
    for position, (name, (false, true, _)) in enumerate(curves.items()):
        label = f"{name}, area" if name else "area"
        area = fn.metrics.roc_auc(named[name], labels)
        style = ("-", "--", "-.")[position % 3]
        axes.plot(false, true, linestyle=style, color=color_of(position), label=f"{label} {area:.3f}")
    axes.set(title="ROC curve", xlabel="false positive rate", ylabel="true positive rate", aspect="equal")
    axes.legend(loc="lower right")
    return figure_of(axes)
