"""Diagrams: the layers of a network as boxes, with shapes and numbers of parameters."""

# matplotlib's keyword arguments have no types:
# pyright: reportUnknownMemberType=false

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Final, cast

from attrs import frozen
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

import funcnet as fn
from funcnet.core.records import fields_of
from funcnet.plots.figures import axes_for, color_of, figure_of

HEIGHT: Final = 0.5
"""The height of a box and of the head of a frame, in inches of a new figure."""

GAP: Final = 0.25


@frozen(eq=False)
class _Box:
    """A layer, and the chains of layers inside it: one for most combinators, one for each network of a ``Parallel``."""

    title: str
    detail: str
    layer: fn.Layer | None
    chains: tuple[tuple[_Box, ...], ...] = ()

    @property
    def height(self) -> float:
        """The height with everything inside it."""
        return HEIGHT + max((GAP + _height(chain) for chain in self.chains), default=0.0)


def _is_wide(box: _Box) -> bool:
    return len(box.chains) > 1 or any(_is_wide(each) for chain in box.chains for each in chain)


def _height(chain: Sequence[_Box]) -> float:
    """The height of boxes one below the other, each with the arrow below it."""
    return sum(box.height + GAP for box in chain)


def network_diagram(net: fn.Network, shape: tuple[int, ...], *, axes: Axes | None = None) -> Figure:
    """Plot the layers of a network as boxes, from the input at the top to the output at the bottom.

    A box has the path and the type of the layer, the shape of a row of its output, and its number of parameters. The
    layers inside a combinator are in its frame: those of ``Parallel`` side by side, and those of ``Residual`` beside an
    arrow that goes around them.

    Args:
        net: The network.
        shape: The shape of a row of x, without the batch axis.
        axes: The axes to draw on. None means a new figure, as high as the diagram needs.

    Raises:
        ShapeError: If a layer does not accept such a row; the message names the first one.
        ConfigError: If the shape is not a tuple of positive sizes.

    Example:
        >>> import funcnet as fn
        >>> figure = fn.plots.network_diagram(fn.mlp(fn.Key(0), (64, 16, 10)), (64,))
        >>> [text.get_text().splitlines()[0] for text in figure.axes[0].texts if text.get_text()]
        ['input', '0 Dense', '1 ReLU', '2 Dense']
    """
    summary = fn.summary(net, shape)
    chain = (_Box("input", str(summary.input_shape), None), *_chain(net, summary.rows))
    height, margin = _height(chain), 0.1 if any(_is_wide(box) for box in chain) else 1.5
    axes = axes_for("network_diagram", axes, height + 0.4)
    axes.set(xlim=(0, 8), ylim=(-height, 0.05), title=f"Network: {summary.trained:,} parameters")
    axes.set_axis_off()
    _draw_chain(axes, chain, margin, 8 - margin, 0.0)
    return figure_of(axes)


def _chain(net: fn.Network, rows: Sequence[fn.SummaryRow]) -> tuple[_Box, ...]:
    """The boxes of the rows at one level, in order, with those of the deeper rows inside them."""
    depth = rows[0].depth if rows else 0
    starts = [i for i, row in enumerate(rows) if row.depth == depth]
    return tuple(_box(net, rows[i], rows[i + 1 : end]) for i, end in pairwise([*starts, len(rows)]))


def _box(net: fn.Network, row: fn.SummaryRow, inside: Sequence[fn.SummaryRow]) -> _Box:
    layer = _at(net, row.path)
    parts: dict[tuple[str, ...], list[fn.SummaryRow]] = {}
    for each in inside:
        steps = each.path.removeprefix(row.path).strip(".").split(".")
        parts.setdefault(tuple(steps[: 1 + (row.layer == "Parallel")]), []).append(each)
    values = {name: getattr(layer, name) for name in fields_of(type(layer)).names} if inside else {}
    settings = ", ".join(f"{name}={value}" for name, value in values.items() if isinstance(value, str | int))
    title = f"{row.path} {row.layer}".strip() + (f" ({settings})" if settings else "")
    count = f"{row.trained:,} parameter{'s' * (row.trained != 1)}" if row.trained else ""
    fixed = f"{row.fixed:,} fixed" if row.fixed else ""
    detail = ", ".join(filter(None, ("" if row.output_shape is None else str(row.output_shape), count, fixed)))
    return _Box(title, detail, layer, tuple(_chain(net, part) for part in parts.values()))


def _at(net: fn.Network, path: str) -> fn.Layer:
    """The layer at a path of the summary, such as ``1.net.0``."""
    found = net
    for step in path.split(".") if path else ():
        found = cast("fn.Network", found[int(step)] if isinstance(found, tuple) else getattr(found, step))
    return cast("fn.Layer", found)


def _draw_chain(axes: Axes, chain: Sequence[_Box], left: float, right: float, top: float) -> float:
    """Draw boxes one below the other, with arrows between them, and return the lower end of the last one."""
    middle = (left + right) / 2
    for i, box in enumerate(chain):
        if i:
            _draw_arrow(axes, middle, top, top - GAP)
            top -= GAP
        _draw_box(axes, box, left, right, top)
        top -= box.height
    return top


def _draw_box(axes: Axes, box: _Box, left: float, right: float, top: float) -> None:
    color, bottom = color_of(0) if box.layer is not None else "gray", top - box.height
    fill = (*to_rgb(color), 0.12)
    axes.add_patch(Rectangle((left, bottom), right - left, box.height, facecolor=fill, edgecolor=color, linewidth=1.2))
    text = f"{box.title}\n{box.detail}"
    axes.text((left + right) / 2, top - HEIGHT / 2, text, ha="center", va="center", fontsize=9)
    top -= HEIGHT
    if isinstance(box.layer, fn.Residual):
        left += GAP
        _draw_arrow(axes, left, top, bottom)
        axes.text(left - 0.02, (top + bottom) / 2, "+ x", ha="right", va="center", rotation=90, fontsize=9)
    each = (right - left - GAP) / max(len(box.chains), 1)
    for i, chain in enumerate(box.chains):
        start, end = left + GAP + i * each, left + (i + 1) * each
        _draw_arrow(axes, (start + end) / 2, top, top - GAP)
        _draw_arrow(axes, (start + end) / 2, _draw_chain(axes, chain, start, end, top - GAP), bottom)


def _draw_arrow(axes: Axes, x: float, top: float, bottom: float) -> None:
    style = {"arrowstyle": "-|>", "shrinkA": 0.0, "shrinkB": 0.0, "color": "black"}
    axes.annotate("", (x, bottom), (x, top), arrowprops=style, annotation_clip=False)
