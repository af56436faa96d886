"""Inspection: what a network is made of, layer by layer, as a table: shapes, parameters, memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from attrs import frozen

from funcnet.core.arrays import Array
from funcnet.core.records import check_tree, fields_of, replace_unchecked
from funcnet.network.layer import Layer, Network, Shape, register_layer
from funcnet.network.passes import backward, forward, layers_of, output_shape


@frozen
class SummaryRow:
    """A layer: where it stands, its type, a row's shape after it, and what it holds itself.

    ``trained`` and ``fixed`` count numbers, ``size`` is bytes; what stands in the layers inside is theirs.
    ``output_shape`` is None for what is inside a layer that does not give it an input by calling it.
    """

    path: str
    layer: str
    output_shape: Shape | None
    trained: int
    fixed: int
    size: int

    @property
    def depth(self) -> int:
        """How many combinators it is inside of."""
        return sum(not step.isdigit() for step in self.path.split(".")) if self.path else 0


@frozen
class Summary:
    """A row a layer, combinators before what is inside them; prints as a table."""

    input_shape: Shape
    rows: tuple[SummaryRow, ...]

    @property
    def trained(self) -> int:
        """Numbers that are trained."""
        return sum(row.trained for row in self.rows)

    @property
    def fixed(self) -> int:
        """Numbers that are not: statistics, and what is frozen."""
        return sum(row.fixed for row in self.rows)

    @property
    def size(self) -> int:
        """Bytes of both."""
        return sum(row.size for row in self.rows)

    def __str__(self) -> str:
        head = ("layer", "output shape", "trained", "fixed", "bytes")
        cells = [head, ("input", str(self.input_shape), "", "", "")]
        for row in self.rows:
            name = f"{'  ' * row.depth}{row.path} {row.layer}" if row.path else row.layer
            shape = "" if row.output_shape is None else str(row.output_shape)
            cells.append((name, shape, f"{row.trained:,}", f"{row.fixed:,}", f"{row.size:,}"))
        cells.append(("total", "", f"{self.trained:,}", f"{self.fixed:,}", f"{self.size:,}"))
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        return "\n".join(_line(line, widths) for line in cells)


def _line(cells: tuple[str, ...], widths: list[int]) -> str:
    """Names and shapes to the left, numbers to the right."""
    padded = [
        f"{cell:{'<' if i < 2 else '>'}{width}}" for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return "  ".join(padded).rstrip()


def summary(params: Network, shape: Shape) -> Summary:
    """What the network is made of, and what becomes of a row of this shape, without running it.

    Args:
        params: The network.
        shape: The shape of a row of x, without the batch.

    Returns:
        A row a layer; what is inside a combinator has rows of its own, and parameters that ``Repeat`` uses several
        times are there once. ``print`` it.

    Raises:
        ShapeError: Names the first layer that such a row does not fit.
        ConfigError: If the shape is no tuple of positive sizes.

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
    entering: dict[str, Shape] = {}
    output_shape(_probed(params, "", entering), shape)
    places = layers_of(params)
    rows = [row for path, layer in places for row in _rows(path, layer, entering.get(path), fixed=False)]
    return Summary(shape, tuple(rows))


def _rows(path: str, layer: Layer, shape: Shape | None, *, fixed: bool) -> Iterator[SummaryRow]:
    """A layer's row, and those of the layers inside; ``shape`` is that of a row of its input, if it is known."""
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
    """``y = layer(x)``, which notes the shape of what enters the layer first: only a combinator knows what that is."""

    layer: Layer
    place: str
    entering: dict[str, Shape]


def _probed(params: Network, place: str, entering: dict[str, Shape]) -> Network:
    """The network with a probe around each layer of its nested tuples."""
    if isinstance(params, tuple):
        parts = enumerate(params)
        return tuple(_probed(inner, f"{place}.{i}" if place else str(i), entering) for i, inner in parts)
    return _Probe(params, place, entering)


def _entering(layer: Layer, inside: list[str], shape: Shape) -> dict[str, Shape]:
    """What enters the layers inside a combinator when such rows enter it, as far as it calls them as networks."""
    entering: dict[str, Shape] = {}
    probes = {name: _probed(getattr(layer, name), name, entering) for name in inside}
    with suppress(AttributeError):  # it looks for a layer's own fields
        output_shape(replace_unchecked(layer, probes), shape)
    return entering


def _noted_shape(params: _Probe, shape: Shape) -> Shape:
    params.entering.setdefault(params.place, shape)
    return output_shape(params.layer, shape)


def _noted_forward(params: _Probe, x: Array) -> Array:
    """For a combinator whose shape is found by running it on no rows."""
    params.entering.setdefault(params.place, x.shape[1:])
    return forward(params.layer, x)


def _no_backward(params: _Probe, x: Array, g: Array) -> tuple[Array, _Probe]:
    return backward(params.layer, x, g)[0], params


register_layer(_Probe, forward=_noted_forward, backward=_no_backward, output_shape=_noted_shape)
