"""Summary: the layers of a network as a table, with shapes, parameters and memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Final

from attrs import frozen

from funcnet.core.arrays import Array
from funcnet.core.html import as_printed, table
from funcnet.core.records import check_tree, fields_of, replace_unchecked
from funcnet.network.layer import Layer, Network, Shape, register_layer
from funcnet.network.passes import backward, check_shape, forward, layers_of, output_shape, row_shape


@frozen
class SummaryRow:
    """One layer: its path, its type, the shape of a row of its output, and the sizes of its own arrays.

    ``trained`` and ``fixed`` count numbers, ``size`` is in bytes; none of them includes the layers inside this one.
    ``output_shape`` is None for a layer inside a combinator that does not call it as a network.
    """

    path: str
    layer: str
    output_shape: Shape | None
    trained: int
    fixed: int
    size: int

    @property
    def depth(self) -> int:
        """The number of combinators that contain it."""
        return sum(not step.isdigit() for step in self.path.split(".")) if self.path else 0


_HEAD: Final = ("layer", "output shape", "trained", "fixed", "bytes")


@frozen
class Summary:
    """One row per layer, a combinator before the layers inside it; prints as a table."""

    input_shape: Shape
    rows: tuple[SummaryRow, ...]

    _repr_pretty_ = as_printed

    @property
    def trained(self) -> int:
        """The number of trained numbers."""
        return sum(row.trained for row in self.rows)

    @property
    def fixed(self) -> int:
        """The number of untrained numbers: statistics and frozen parameters."""
        return sum(row.fixed for row in self.rows)

    @property
    def size(self) -> int:
        """The size of both, in bytes."""
        return sum(row.size for row in self.rows)

    def __str__(self) -> str:
        cells = [_HEAD, *self._cells()]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        return "\n".join(_line(line, widths) for line in cells)

    def _repr_html_(self) -> str:
        return table(_HEAD, self._cells(), "llrrr")

    def _cells(self) -> Iterator[tuple[str, ...]]:
        yield "input", str(self.input_shape), "", "", ""
        for row in self.rows:
            name = f"{'  ' * row.depth}{row.path} {row.layer}" if row.path else row.layer
            shape = "" if row.output_shape is None else str(row.output_shape)
            yield name, shape, f"{row.trained:,}", f"{row.fixed:,}", f"{row.size:,}"
        yield "total", "", f"{self.trained:,}", f"{self.fixed:,}", f"{self.size:,}"


def _line(cells: tuple[str, ...], widths: list[int]) -> str:
    """Align names and shapes to the left, numbers to the right."""
    padded = [
        f"{cell:{'<' if i < 2 else '>'}{width}}" for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return "  ".join(padded).rstrip()


def summary(params: Network, shape: Shape) -> Summary:
    """Show the layers of the network, and the shape of a row after each, without running the network.

    Args:
        params: The network.
        shape: The shape of a row of x, without the batch axis.

    Returns:
        One row per layer. The layers inside a combinator have rows, too; parameters that ``Repeat`` uses repeatedly
        appear once. ``print`` shows the table.

    Raises:
        ShapeError: If a layer does not accept such a row; the message names the first one.
        ConfigError: If the shape is not a tuple of positive sizes.

    Example:
        >>> import funcnet as fn
        >>> key = fn.Key(0)
        >>> base = fn.Frozen((fn.dense(key, 784, 100), fn.ReLU()))
        >>> print(summary((base, fn.batch_norm(100), fn.dense(key, 100, 10)), (784,)))
        layer            output shape  trained   fixed    bytes
        input            (784,)
        0 Frozen         (100,)              0       0        0
          0.net.0 Dense  (100,)              0  78,500  314,000
          0.net.1 ReLU   (100,)              0       0        0
        1 BatchNorm      (100,)            200       0      800
        2 Dense          (10,)           1,010       0    4,040
        total                            1,210  78,500  318,840
    """
    check_tree("summary", params)
    shape = check_shape(shape)
    entering: dict[str, Shape] = {}
    row_shape(_probed(params, "", entering), shape)
    places = layers_of(params)
    rows = [row for path, layer in places for row in _rows(path, layer, entering.get(path), fixed=False)]
    return Summary(shape, tuple(rows))


def _rows(path: str, layer: Layer, shape: Shape | None, *, fixed: bool) -> Iterator[SummaryRow]:
    """The rows of a layer and of the layers inside it; ``shape`` is that of a row of its input, or None if unknown."""
    fields = fields_of(type(layer))
    after = None if shape is None else output_shape(layer, shape)
    arrays: dict[str, Array] = {name: getattr(layer, name) for name in fields.arrays}
    sizes = {name: (0, 0) if array is None else (array.size, array.nbytes) for name, array in arrays.items()}
    still = sum(count for name, (count, _) in sizes.items() if fixed or name in fields.statistics)
    trained = sum(count for count, _ in sizes.values()) - still
    yield SummaryRow(path, type(layer).__name__, after, trained, still, sum(size for _, size in sizes.values()))
    inside = [name for name in fields.names if name in fields.networks + fields.fixed_networks]
    entering = {} if shape is None or not inside else _entering(layer, inside, shape)
    for name in inside:
        for place, inner in layers_of(getattr(layer, name), name):
            below = f"{path}.{place}" if path else place
            yield from _rows(below, inner, entering.get(place), fixed=fixed or name in fields.fixed_networks)


# ------------------------------------------------------------------------------------------------- probes


@frozen(eq=False)
class _Probe(Layer):
    """``y = layer(x)``, and a note of the input's row shape: only a combinator knows what its inner layers receive."""

    layer: Layer
    place: str
    entering: dict[str, Shape]

    def __attrs_post_init__(self) -> None:
        """Check nothing: the layer was checked, and a probe may add a level to a network of the most levels."""


def _probed(params: Network, place: str, entering: dict[str, Shape]) -> Network:
    """The network with a probe around each layer of its nested tuples."""
    if isinstance(params, tuple):
        parts = enumerate(params)
        return tuple(_probed(inner, f"{place}.{i}" if place else str(i), entering) for i, inner in parts)
    return _Probe(params, place, entering)


def _entering(layer: Layer, inside: list[str], shape: Shape) -> dict[str, Shape]:
    """The input shapes of the layers inside a combinator, as far as it calls them as networks."""
    entering: dict[str, Shape] = {}
    probes = {name: _probed(getattr(layer, name), name, entering) for name in inside}
    with suppress(AttributeError):  # a combinator may read fields of its layer that a probe does not have
        row_shape(replace_unchecked(layer, probes), shape)
    return entering


def _noted_shape(params: _Probe, shape: Shape) -> Shape:
    params.entering.setdefault(params.place, shape)
    return output_shape(params.layer, shape)


def _noted_forward(params: _Probe, x: Array) -> Array:
    """Note the shape for a combinator that finds its output shape by running its layers on an empty batch."""
    params.entering.setdefault(params.place, x.shape[1:])
    return forward(params.layer, x)


def _no_backward(params: _Probe, x: Array, g: Array) -> tuple[Array, _Probe]:
    return backward(params.layer, x, g)[0], params


register_layer(_Probe, forward=_noted_forward, backward=_no_backward, output_shape=_noted_shape)
