"""The graph of an ONNX model while ``to_onnx`` builds it, and the ONNX forms of layers.

``register_onnx`` registers a function that adds the nodes of a layer to an ``OnnxGraph``. The nodes are of operator set
18, which runtimes have supported since 2023.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any, Final, TypeAlias, cast

import numpy as np

from funcnet.core.arrays import AnyArray
from funcnet.core.checks import check_callable, to_python
from funcnet.core.errors import ConfigError, DTypeError, quoted
from funcnet.network.layer import L, Layer, Network, Shape, entering
from funcnet.network.passes import row_shape

try:
    from onnx import GraphProto, ModelProto, ValueInfoProto, checker, helper, shape_inference
except ImportError as error:
    raise ImportError("funcnet.interop.onnx needs onnx; install it with: pip install 'onnx>=1.15'") from error

OPSET: Final = 18
"""The version of the operator set. It is the first in which ReduceMean takes its axes as an input."""

IR_VERSION: Final = 8
"""The version of the file format in which this operator set was published."""

FLOAT32_ONLY: Final = ("AveragePool", "Conv", "Elu", "Erf", "GRU", "LSTM", "LeakyRelu", "RNN", "Softplus")
"""The operators of funcnet's layers that onnxruntime has for float32, but not for float64."""

AnyDType: TypeAlias = "np.dtype[Any] | type[Any]"
"""The dtype of any array."""

Attribute: TypeAlias = int | float | str | Sequence[int] | Sequence[float] | Sequence[str]
"""A setting of a node."""


def new_model(producer: str, version: str) -> ModelProto:
    """An empty model of this operator set."""
    model = ModelProto(ir_version=IR_VERSION, producer_name=producer, producer_version=version)
    model.opset_import.add(domain="", version=OPSET)
    return model


def check_model(model: ModelProto) -> None:
    """Check that onnx accepts the nodes and the shapes of a model.

    Raises:
        ConfigError: If it does not.
    """
    try:  # the stub of check_model has a PathLike without its parameter
        checker.check_model(model, full_check=True)  # pyright: ignore[reportUnknownMemberType]
    except (checker.ValidationError, shape_inference.InferenceError) as refusal:
        reason = f"onnx refuses the model; check the functions of register_onnx: {refusal}"
        raise ConfigError(reason, subject="to_onnx") from refusal


def add_metadata(model: ModelProto, properties: dict[str, str]) -> None:
    """Set the metadata of a model."""
    helper.set_model_props(model, properties)


def join_shapes(model: ModelProto, longer: ModelProto, names: Sequence[str]) -> None:
    """Declare the axes of any size in a model, given the model for rows that are longer in these axes.

    Args:
        model: The model, which is changed.
        longer: The other model.
        names: The name of each axis of x's rows; an empty name for an axis of one size. An axis that always has the
            size of a named one gets its name, too.

    Raises:
        ConfigError: If the nodes of the models differ.
    """
    one, two = model.graph, longer.graph
    if one.node != two.node or one.initializer != two.initializer:
        wanted = "the nodes of the network depend on the size of an axis that has a name"
        raise ConfigError(f"{wanted}; give its size as a number in input_shape", subject="to_onnx")
    known: dict[tuple[int, int], str] = {}
    for value, other in zip(_values(one), _values(two), strict=True):
        axes = zip(value.type.tensor_type.shape.dim, other.type.tensor_type.shape.dim, strict=True)
        for position, (axis, twin) in enumerate(axes):
            sizes = axis.dim_value, twin.dim_value
            if sizes[0] != sizes[1]:
                if value.name == "x":
                    known[sizes] = names[position - 1]
                axis.ClearField("dim_value")
                axis.dim_param = known.get(sizes, "")


def _values(graph: GraphProto) -> list[ValueInfoProto]:
    """The input, the output, and the values inside whose shapes are known."""
    return [*graph.input, *graph.output, *graph.value_info]


class OnnxGraph:
    """The graph of a model while ``to_onnx`` builds it. A function of ``register_onnx`` adds the nodes of its layer.

    Its methods ``op``, ``constant``, ``cast`` and ``network`` return the name of a value in the graph and take the
    names of earlier values. A name has the place of the layer in the network, such as ``0.net.1.weight``.

    Attributes:
        dtype: The dtype of the network, which all floating-point values have.
        mask: The name of the mask (B, T) for the layers of sequences inside a ``Masked``, 1 for a valid step; else "".
    """

    def __init__(self, model: ModelProto, dtype: np.dtype[np.floating]) -> None:
        self.dtype: Final = dtype
        self.mask = ""
        self._graph = model.graph
        self._graph.name = "funcnet"
        self._layer = ""
        self._place: tuple[int | str, ...] = ()
        self._uses: Counter[str] = Counter(("x", "y"))
        self._values = {"x"}
        self._constants: dict[tuple[object, ...], str] = {}
        self._described = {"x"}

    def op(self, kind: str, *inputs: str, outputs: int = 1, **attributes: Attribute) -> str:
        """Add a node and return the name of its output.

        Args:
            kind: The operator, such as ``"Mul"``, of operator set 18.
            inputs: The names of its inputs; an empty name for an optional input that is left out.
            outputs: The number of outputs that the node has. The last one is returned.
            attributes: Its settings, such as ``axis=-1``.

        Raises:
            ConfigError: If an input is not a value of the graph, or if onnxruntime does not have the operator for the
                dtype of the network.
        """
        for name in inputs:
            if not (isinstance(name, str) and (name == "" or name in self._values)):
                given: object = name
                got = f"an array {cast('AnyArray', given).shape}" if isinstance(given, np.ndarray) else quoted(given)
                wanted = f"the inputs of op are names of values of the graph, got {got} for {kind}"
                fix = "use graph.constant(value, name) for numbers and arrays"
                raise ConfigError(f"{wanted}; {fix}", subject=self._layer)
        if self.dtype == np.float64 and kind in FLOAT32_ONLY:
            fix = "use to_onnx(fn.astype(net, np.float32), ...)"
            raise ConfigError(f"onnxruntime does not have the operator {kind} for float64; {fix}", subject=self._layer)
        names = [self._unused(kind) for _ in range(outputs)]
        settings: Any = attributes
        self._graph.node.append(helper.make_node(kind, inputs, names, name=names[-1], **settings))
        self._values.add(names[-1])
        return names[-1]

    def constant(self, value: AnyArray | float | tuple[int, ...], name: str = "constant") -> str:
        """Add a constant and return its name. Equal constants are stored once.

        Args:
            value: An array, which keeps its dtype; a number, which gets the dtype of the network; or a tuple of ints,
                such as axes or a shape, which becomes int64.
            name: The last part of the name.

        Raises:
            DTypeError: If the value has another type.
        """
        array = self._array(value)
        data = array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
        kind = helper.np_dtype_to_tensor_dtype(array.dtype.newbyteorder("="))
        key = kind, array.shape, hashlib.sha256(data).digest()
        if key not in self._constants:
            self._constants[key] = added = self._unused(name)
            self._graph.initializer.add(name=added, data_type=kind, dims=array.shape, raw_data=data)
            self._values.add(added)
        return self._constants[key]

    def cast(self, x: str, dtype: AnyDType | None = None) -> str:
        """Add a node that converts a value to a dtype, such as np.int64, or to the dtype of the network for None."""
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(self.dtype if dtype is None else dtype))
        return self.op("Cast", x, to=kind)

    def network(self, net: Network, x: str, shape: Shape, *place: int | str) -> str:
        """Add the nodes of a network and return the name of its output; for combinators.

        Args:
            net: The network.
            x: The name of its input.
            shape: The shape of the rows of x.
            place: Where the combinator has the network, ``"net"`` or ``"nets", 1``, for the names.

        Raises:
            ConfigError: If a layer has no ONNX form.
        """
        outer, self._place = self._place, (*self._place, *place)
        with ExitStack() as stack:
            for position in place:
                if isinstance(position, int):
                    stack.enter_context(entering(position))
            x = self._add_layers(net, x, shape) if isinstance(net, tuple) else self._add_layer(net, x, shape)
        self._place = outer
        return x

    def end(self, y: str, input_shape: Shape, shape: Shape, *, ids: bool = False) -> None:
        """Set the input of the graph, ``x``, and its output, which is the value y under the name ``y``.

        The input has the dtype of the network, or int64 for ids.
        """
        if not self._graph.node or self._graph.node[-1].output[0] != y:
            y = self.op("Identity", y)
        if self._graph.value_info and self._graph.value_info[-1].name == y:
            del self._graph.value_info[-1]
        self._graph.node[-1].output[0] = "y"
        self._graph.input.append(self._rows("x", input_shape, np.dtype(np.int64) if ids else self.dtype))
        self._graph.output.append(self._rows("y", shape, self.dtype))

    def _add_layers(self, layers: tuple[Network, ...], x: str, shape: Shape) -> str:
        for position, layer in enumerate(layers):
            x, shape = self.network(layer, x, shape, position), row_shape(layer, shape)
        return x

    def _add_layer(self, layer: Layer, x: str, shape: Shape) -> str:
        """Add the nodes of a layer, and the shape of its output, which onnx checks against the nodes."""
        kind = type(layer).__name__
        emit = EMITTERS.get(type(layer))
        if emit is None:
            raise ConfigError(f"the layer has no ONNX form; call register_onnx({kind}, emit)", subject=kind)
        outer, self._layer = self._layer, kind
        y = emit(self, layer, x, shape)
        self._layer = outer
        if not self._has(y):
            wanted = f"emit must return the name of a value of the graph, got {quoted(y)}"
            raise ConfigError(f"{wanted}; return the result of graph.op", subject=kind)
        if y not in self._described:
            self._described.add(y)
            self._graph.value_info.append(self._rows(y, row_shape(layer, shape), self.dtype))
        return y

    def _array(self, value: object) -> AnyArray:
        if isinstance(value, np.ndarray):
            array = cast("AnyArray", value)
            if array.dtype.kind in "biuf":
                return array
        elif isinstance(number := to_python(value), int | float):
            return np.array(number, self.dtype)
        elif isinstance(number, tuple) and all(isinstance(each, int) for each in cast("tuple[object, ...]", number)):
            return np.array(number, np.int64)
        wanted = "a number, a tuple of ints, or an array of numbers"
        raise DTypeError(f"a constant must be {wanted}, got {value!r:.80}", subject=self._layer)

    def _has(self, name: object) -> bool:
        return isinstance(name, str) and name in self._values

    def _rows(self, name: str, shape: Shape, dtype: np.dtype[Any]) -> ValueInfoProto:
        """The description of a value with these rows."""
        return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(dtype), ["B", *shape])

    def _unused(self, name: str) -> str:
        """The name with its place, and with a number if it was used before, as in a repetition."""
        full = ".".join([*map(str, self._place), name])
        self._uses[full] += 1
        return full if self._uses[full] == 1 else f"{full}_{self._uses[full]}"


Emit: TypeAlias = Callable[[OnnxGraph, L, str, Shape], str]
"""``(graph, layer, x, shape) -> y`` adds the nodes of a layer. x and y name values; shape is the shape of x's rows."""

EMITTERS: Final[dict[type[Layer], Emit[Any]]] = {}
"""The function of each layer class."""


def register_onnx(record: type[L], emit: Emit[L]) -> None:
    """Register the ONNX form of a layer class; use it for your own layers.

    ``graph`` is an ``OnnxGraph``. The values in it have names, which its methods take and return:

    * ``graph.op("Concat", x, y, axis=-1)`` adds a node of operator set 18 with its inputs and settings.
    * ``graph.constant(layer.scale, "scale")`` adds an array, a number or a tuple of ints, as an input for ``op``.
    * ``graph.network(layer.net, x, shape, "net")`` adds the nodes of the network inside a combinator.
    * ``graph.dtype`` is the dtype of the network, and ``graph.mask`` names the mask of a ``Masked`` around the layer.

    Args:
        record: The class of the layer.
        emit: ``(graph, layer, x, shape) -> y``, a function that adds the nodes of a layer to the graph and returns the
            name of the last value. ``x`` is the name of the input, and ``shape`` the shape of its rows.

    Raises:
        ConfigError: If the record is not a layer class, or is already registered; if emit is not a function. A class
            from ``__main__``, which is a notebook or the prompt, may be registered again.

    Example:
        >>> from attrs import frozen
        >>> import funcnet as fn
        >>> @frozen(eq=False)
        ... class HardTanh(fn.Layer):
        ...     limit: float = 1.0
        >>> fn.register_elementwise(
        ...     HardTanh,
        ...     value=lambda params, x: fn.arithmetic.clip(x, -params.limit, params.limit),
        ...     slope=lambda params, x, y: np.abs(x) < params.limit,
        ... )
        >>> def emit_hard_tanh(graph, layer, x, shape):
        ...     return graph.op("Clip", x, graph.constant(-layer.limit, "low"), graph.constant(layer.limit, "high"))
        >>> fn.register_onnx(HardTanh, emit_hard_tanh)
        >>> model = fn.to_onnx((fn.ReLU(), HardTanh(2.0)), (3,))
        >>> [(node.op_type, list(node.input), list(node.output)) for node in model.graph.node]
        [('Relu', ['x'], ['0.Relu']), ('Clip', ['0.Relu', '1.low', '1.high'], ['y'])]
    """
    if not (isinstance(record, type) and issubclass(record, Layer)):
        fix = f"; use {type(record).__name__}" if isinstance(record, Layer) else ""
        raise ConfigError(f"record must be a subclass of Layer, got {quoted(record)}{fix}", subject="register_onnx")
    check_callable("register_onnx", "emit", emit)
    if record in EMITTERS and record.__module__ != "__main__":
        raise ConfigError(f"{record.__name__} is already registered", subject="register_onnx")
    EMITTERS[record] = emit
