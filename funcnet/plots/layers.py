"""Layers: the outputs of each layer over a batch, its dead units, and the gradient of each parameter."""

# matplotlib's keyword arguments have no types:
# pyright: reportUnknownMemberType=false

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeVar

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter
from numpy.typing import NDArray

import funcnet as fn
from funcnet.core.arrays import Input, contiguous
from funcnet.network.passes import layers_of
from funcnet.plots.figures import check_axes, color_of, figure_of, new_figure

T = TypeVar("T")

_NAME = "layer_statistics"
_SHARES: Final = (0.05, 0.25, 0.5, 0.75, 0.95)


def layer_statistics(
    net: fn.Network, x: Input, y: T, loss: fn.Loss[T], *, axes: Sequence[Axes] | NDArray[np.object_] | None = None
) -> Figure:
    """Plot the outputs of each layer over a batch, its share of dead units, and the norm of each gradient.

    On the left, the thin line of a layer has 90% of its outputs, the thick line 50%, and the mark is the median. A unit
    is dead if it is 0 in every row. On the right, the norms of the gradients have a log scale; a norm of 0 has no bar.

    The network is measured in the form that it has. For the gradients of a training step, pass
    ``fn.training(net, key)``.

    Args:
        net: The network.
        x: Inputs, shape (B, ...).
        y: Targets, as the loss expects them.
        loss: The loss.
        axes: The pair of axes to draw on. None means a new figure.

    Raises:
        FuncnetError: If the network, x, y and the loss do not fit each other, or the loss is not finite.
        ConfigError: If axes are not a pair.

    Example:
        >>> import funcnet as fn
        >>> net = fn.mlp(fn.Key(0), (2, 8, 3), activation=fn.ReLU())
        >>> x, y = np.eye(2, dtype=np.float32), np.array([0, 1])
        >>> figure = fn.plots.layer_statistics(net, x, y, fn.softmax_cross_entropy)
        >>> [label.get_text() for label in figure.axes[0].get_yticklabels()]
        ['0 Dense', '1 ReLU', '2 Dense']
    """
    measured = fn.gradient_statistics(net, x, y, loss)
    outputs: list[fn.Array] = []
    for _, layer in layers_of(net):
        outputs.append(fn.forward(layer, outputs[-1] if outputs else contiguous(x)))
    left, right = _pair(axes, 1.5 + 0.3 * max(len(outputs), len(measured.parameters)))
    with np.errstate(all="ignore"):  # an infinite output has no quantiles, and the plot leaves it out
        quantiles = np.array([np.quantile(each.astype(np.float64), _SHARES) for each in outputs])
    rows = np.arange(len(outputs))
    left.hlines(rows, quantiles[:, 0], quantiles[:, 4], color=color_of(0), linewidth=1.5)
    left.hlines(rows, quantiles[:, 1], quantiles[:, 3], color=color_of(0), linewidth=6)
    left.plot(quantiles[:, 2], rows, "o", color="white", markeredgecolor="black", markersize=6)
    for row, statistics in enumerate(measured.activations):
        at = (1.02, row)
        text = f"{statistics.dead_share:.0%}"
        left.annotate(text, at, xycoords=("axes fraction", "data"), va="center", annotation_clip=False)
    left.annotate("dead\nunits", (1.02, 1.02), xycoords="axes fraction", annotation_clip=False)
    left.set(title="Outputs of the layers", xlabel="output")
    left.axvline(0, color="gray", linewidth=0.8)
    _label_rows(left, [f"{each.path} {each.layer}".strip() for each in measured.activations])
    norms = np.array([each.gradient_norm for each in measured.parameters])
    right.barh(np.arange(len(norms)), np.where(norms > 0, norms, np.nan), color=color_of(1))
    right.set(title="Gradients of the parameters", xlabel="norm of the gradient", xscale="log")
    right.xaxis.set_minor_formatter(NullFormatter())
    if (norms > 0).any():
        right.set_xlim(_power_of_ten(norms[norms > 0].min()), _power_of_ten(norms.max(), above=1))
    _label_rows(right, [each.path for each in measured.parameters])
    return figure_of(left)


def _pair(axes: Sequence[Axes] | NDArray[np.object_] | None, height: float) -> tuple[Axes, Axes]:
    if axes is None:
        axes = new_figure(height).subplots(1, 2)
    if not isinstance(axes, Sequence | np.ndarray) or len(axes) != 2:
        raise fn.ConfigError(f"axes must be a pair of Axes, got {axes!r:.80}", subject=_NAME)
    return check_axes(_NAME, "axes[0]", axes[0]), check_axes(_NAME, "axes[1]", axes[1])


def _power_of_ten(norm: float, above: int = 0) -> float:
    """Return the largest power of ten up to a positive number, or one ``above`` it."""
    return float(f"1e{int(f'{norm:e}'.split('e')[1]) + above}")


def _label_rows(axes: Axes, labels: list[str]) -> None:
    """Write a label for each row, the first one at the top."""
    axes.set_yticks(np.arange(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.5, -0.5)
