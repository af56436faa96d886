"""ONNX: a network as an ONNX model, which onnxruntime and other runtimes compute without Python.

Each layer class has a function that adds the nodes of a layer to an ``OnnxGraph``; ``register_onnx`` registers it. The
nodes are of operator set 18, which runtimes have supported since 2023. Images remain channels last: a convolution or a
pool is between two transpositions, which onnxruntime cancels between neighbors.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any, Final, TypeAlias, cast

import numpy as np

from funcnet.core.arrays import AnyArray, Array
from funcnet.core.checks import check_callable, check_finite, to_python
from funcnet.core.errors import ConfigError, DTypeError, ShapeError, quoted
from funcnet.core.records import check_tree
from funcnet.core.trees import leaves
from funcnet.layers.activations import (
    ELU,
    GELU,
    SELU,
    GELUTanh,
    HardSwish,
    Identity,
    LeakyReLU,
    Mish,
    ReLU,
    Sigmoid,
    SiLU,
    Softplus,
    Softsign,
    Tanh,
)
from funcnet.layers.batch_norm import BatchNorm
from funcnet.layers.conv import Conv2D
from funcnet.layers.dense import Dense
from funcnet.layers.dropout import Dropout
from funcnet.layers.frozen import Frozen
from funcnet.layers.normalization import LayerNorm, RMSNorm
from funcnet.layers.parallel import Parallel
from funcnet.layers.pooling import AvgPool2D, GlobalAvgPool2D, MaxPool2D
from funcnet.layers.prelu import PReLU
from funcnet.layers.repeat import Repeat
from funcnet.layers.residual import Residual
from funcnet.layers.shapes import Flatten, Reshape
from funcnet.layers.softmax import Softmax
from funcnet.layers.standardize import Standardize
from funcnet.layers.windows import Axes, axes_of
from funcnet.network.layer import L, Layer, Network, Shape, entering
from funcnet.network.modes import check_evaluation
from funcnet.network.passes import check_shape, output_shape, row_shape
from funcnet.network.tasks import Binary, Multiclass, Multilabel, ProbabilityTask, check_task
from funcnet.runs.environment import environment
from funcnet.runs.fingerprints import fingerprint

try:
    from onnx import ModelProto, ValueInfoProto, checker, helper, shape_inference
except ImportError as error:
    raise ImportError("funcnet.interop.onnx needs onnx; install it with: pip install 'onnx>=1.15'") from error

OPSET: Final = 18
"""The version of the operator set. It is the first in which ReduceMean takes its axes as an input."""

IR_VERSION: Final = 8
"""The version of the file format in which this operator set was published."""

FLOAT32_ONLY: Final = ("AveragePool", "Conv", "Elu", "Erf", "LeakyRelu", "Softplus")
"""The operators of the layers below that onnxruntime has for float32, but not for float64."""

MOST_BYTES: Final = 2**31 - 2**20
"""The largest size of arrays in a model: a message of Protocol Buffers has at most 2 GiB."""

Attribute: TypeAlias = int | float | str | Sequence[int] | Sequence[float]
"""A setting of a node."""


def to_onnx(net: Network, input_shape: Shape, *, probabilities: bool | ProbabilityTask = False) -> ModelProto:
    """The network as an ONNX model; ``onnx.save(model, path)`` writes it to a file.

    The model maps ``x`` with shape ``("B", *input_shape)``, for any batch size B, to ``y``. Both have the dtype of the
    network, or float32 if it has no arrays. Arrays keep their names, such as ``0.weight``; equal ones are stored once.
    Kernels have ONNX's layout, (O, C, KH, KW). The metadata of the model are ``funcnet.fingerprint``, which is
    ``fn.fingerprint(net)``, and ``funcnet.version``.

    **The bits of the outputs are those of the runtime, not those of funcnet.** On inputs around 0, the outputs of
    onnxruntime differ by about 1e-7 to 1e-6 of the largest output in float32, and by about 1e-15 in float64. GELU far
    below 0, where its values are tiny, has fewer correct digits.

    Args:
        net: The network in its plain form; a BatchNorm in it is calibrated.
        input_shape: The shape of the input's rows, without the batch: ``(784,)``, ``(28, 28, 1)``.
        probabilities: False for the outputs of the network. A task, ``Multiclass()``, ``Binary()`` or ``Multilabel()``,
            for the probabilities that ``predict_proba(net, x, task)`` returns. True means ``Multiclass()``.

    Raises:
        ConfigError: If a layer is in its training form, has no statistics, or has no ONNX form; if the network is
            float64 and onnxruntime does not have an operator for float64: GELU, Conv2D and AvgPool2D; if the arrays
            take 2 GiB, which is ONNX's limit; if the task has no ONNX form; or if onnx refuses the nodes of a layer.
        ShapeError: If the rows do not fit a layer, or the outputs do not fit the task.
        NonFiniteError: If an array of the network has NaN or infinity.
        DTypeError: If the network has arrays of both dtypes.

    Example:
        >>> import onnx.reference
        >>> import funcnet as fn
        >>> net = fn.mlp(fn.Key(0), (4, 8, 3))
        >>> model = to_onnx(net, (4,), probabilities=True)
        >>> [node.op_type for node in model.graph.node]
        ['Gemm', 'Relu', 'Gemm', 'Softmax']
        >>> x = np.ones((2, 4), np.float32)
        >>> (y,) = onnx.reference.ReferenceEvaluator(model).run(None, {"x": x})
        >>> bool(np.abs(y - fn.predict_proba(net, x, fn.Multiclass())).max() < 1e-6)
        True
    """
    dtype = _check_network(net)
    shape = check_shape(input_shape)
    out = output_shape(net, shape)
    task = _task_of(probabilities, out)
    model = ModelProto(ir_version=IR_VERSION, producer_name="funcnet", producer_version=environment().funcnet)
    model.opset_import.add(domain="", version=OPSET)
    graph = OnnxGraph(model, dtype)
    y = graph.network(net, "x", shape)
    if task is not None:
        y, out = _add_probabilities(graph, task, y, out)
    graph.end(y, shape, out)
    helper.set_model_props(model, {"funcnet.fingerprint": fingerprint(net), "funcnet.version": environment().funcnet})
    try:  # the stub of check_model has a PathLike without its parameter
        checker.check_model(model, full_check=True)  # pyright: ignore[reportUnknownMemberType]
    except (checker.ValidationError, shape_inference.InferenceError) as refusal:
        reason = f"onnx refuses the model; check the functions of register_onnx: {refusal}"
        raise ConfigError(reason, subject="to_onnx") from refusal
    return model


def _check_network(net: Network) -> np.dtype[np.floating]:
    """Check that the network can be exported, and return its dtype."""
    check_tree("to_onnx", net)
    check_evaluation(net, "to_onnx")
    arrays = {leaf.path: leaf.array for leaf in leaves(net)}
    size = sum(array.nbytes for array in arrays.values())
    if size > MOST_BYTES:
        raise ConfigError(f"the arrays of net must have at most {MOST_BYTES} bytes, got {size}", subject="to_onnx")
    for path, array in arrays.items():
        check_finite("to_onnx", path, array)
    dtypes = {array.dtype for array in arrays.values()}
    if len(dtypes) > 1:
        fix = "use fn.astype(net, np.float32)"
        raise DTypeError(f"the arrays of net must have one dtype, got float32 and float64; {fix}", subject="to_onnx")
    return dtypes.pop() if dtypes else np.dtype(np.float32)


def _task_of(given: object, shape: Shape) -> ProbabilityTask | None:
    """The task whose probabilities are the output of the model; None for the outputs of the network."""
    task = to_python(given)
    if task is False:
        return None
    if task is not True:
        if callable(getattr(task, "predictions", None)) and not hasattr(task, "probabilities"):
            fix = "to_onnx(net, input_shape) exports the outputs themselves"
            got = f"got {quoted(task)}, which has none"
            raise ConfigError(f"probabilities must be a task with probabilities, {got}; {fix}", subject="to_onnx")
        check_task("to_onnx", "probabilities", task, "probabilities")
        return cast("ProbabilityTask", task)
    if len(shape) != 1 or shape[0] < 2:
        wanted = "rows with one number for each class, at least 2, for probabilities=True"
        fix = "for one logit, use probabilities=fn.Binary(); for numbers, probabilities=False"
        raise ShapeError(f"the output must have {wanted}, got rows of shape {shape}; {fix}", subject="to_onnx")
    return Multiclass()


def _add_probabilities(graph: OnnxGraph, task: ProbabilityTask, y: str, shape: Shape) -> tuple[str, Shape]:
    """The probabilities for the outputs y, and the shape of their rows."""
    if type(task) not in (Multiclass, Binary, Multilabel):
        fix = "export the logits with probabilities=False"
        raise ConfigError(f"the task {task!r:.80} has no ONNX form; {fix}", subject="to_onnx")
    wanted = task.probabilities(np.zeros((1, *shape), graph.dtype)).shape[1:]
    y = graph.op("Softmax", y) if type(task) is Multiclass else _logistic(graph, y)
    return y if wanted == shape else graph.op("Squeeze", y, graph.constant((1,), "axes")), wanted


class OnnxGraph:
    """The graph of a model while ``to_onnx`` builds it. A function of ``register_onnx`` adds the nodes of its layer.

    Its methods ``op``, ``constant`` and ``network`` return the name of a value in the graph and take the names of
    earlier values. A name has the place of the layer in the network, such as ``0.net.1.weight``.

    Attributes:
        dtype: The dtype of the network, which all floating-point values have.
    """

    def __init__(self, model: ModelProto, dtype: np.dtype[np.floating]) -> None:
        self.dtype: Final = dtype
        self._graph = model.graph
        self._graph.name = "funcnet"
        self._layer = ""
        self._place: tuple[int | str, ...] = ()
        self._uses: Counter[str] = Counter(("x", "y"))
        self._values = {"x"}
        self._constants: dict[tuple[object, ...], str] = {}
        self._described = {"x"}

    def op(self, kind: str, *inputs: str, **attributes: Attribute) -> str:
        """Add a node and return the name of its (first) output.

        Args:
            kind: The operator, such as ``"Mul"``, of operator set 18.
            inputs: The names of its inputs; an empty name for an optional input that is left out.
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
        output = self._unused(kind)
        settings: Any = attributes
        self._graph.node.append(helper.make_node(kind, inputs, [output], name=output, **settings))
        self._values.add(output)
        return output

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

    def end(self, y: str, input_shape: Shape, shape: Shape) -> None:
        """Set the input of the graph, ``x``, and its output, which is the value y under the name ``y``."""
        if not self._graph.node or self._graph.node[-1].output[0] != y:
            y = self.op("Identity", y)
        if self._graph.value_info and self._graph.value_info[-1].name == y:
            del self._graph.value_info[-1]
        self._graph.node[-1].output[0] = "y"
        self._graph.input.append(self._rows("x", input_shape))
        self._graph.output.append(self._rows("y", shape))

    def _add_layers(self, layers: tuple[Network, ...], x: str, shape: Shape) -> str:
        for position, layer in enumerate(layers):
            x, shape = self.network(layer, x, shape, position), row_shape(layer, shape)
        return x

    def _add_layer(self, layer: Layer, x: str, shape: Shape) -> str:
        """Add the nodes of a layer, and the shape of its output, which onnx checks against the nodes."""
        kind = type(layer).__name__
        emit = _EMITTERS.get(type(layer))
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
            self._graph.value_info.append(self._rows(y, row_shape(layer, shape)))
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

    def _rows(self, name: str, shape: Shape) -> ValueInfoProto:
        """The description of a value with these rows."""
        return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(self.dtype), ["B", *shape])

    def _unused(self, name: str) -> str:
        """The name with its place, and with a number if it was used before, as in a repetition."""
        full = ".".join([*map(str, self._place), name])
        self._uses[full] += 1
        return full if self._uses[full] == 1 else f"{full}_{self._uses[full]}"


Emit: TypeAlias = Callable[[OnnxGraph, L, str, Shape], str]
"""``(graph, layer, x, shape) -> y`` adds the nodes of a layer. x and y name values; shape is the shape of x's rows."""

_EMITTERS: Final[dict[type[Layer], Emit[Any]]] = {}


def register_onnx(record: type[L], emit: Emit[L]) -> None:
    """Register the ONNX form of a layer class; use it for your own layers.

    ``graph`` is an ``OnnxGraph``. The values in it have names, which its methods take and return:

    * ``graph.op("Concat", x, y, axis=-1)`` adds a node of operator set 18 with its inputs and settings.
    * ``graph.constant(layer.scale, "scale")`` adds an array, a number or a tuple of ints, as an input for ``op``.
    * ``graph.network(layer.net, x, shape, "net")`` adds the nodes of the network inside a combinator.
    * ``graph.dtype`` is the dtype of the network.

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
        ...     value=lambda params, x: np.clip(x, -params.limit, params.limit),
        ...     slope=lambda params, x, y: np.abs(x) < params.limit,
        ... )
        >>> def emit_hard_tanh(graph, layer, x, shape):
        ...     return graph.op("Clip", x, graph.constant(-layer.limit, "low"), graph.constant(layer.limit, "high"))
        >>> register_onnx(HardTanh, emit_hard_tanh)
        >>> model = to_onnx((fn.ReLU(), HardTanh(2.0)), (3,))
        >>> [(node.op_type, list(node.input), list(node.output)) for node in model.graph.node]
        [('Relu', ['x'], ['0.Relu']), ('Clip', ['0.Relu', '1.low', '1.high'], ['y'])]
    """
    if not (isinstance(record, type) and issubclass(record, Layer)):
        fix = f"; use {type(record).__name__}" if isinstance(record, Layer) else ""
        raise ConfigError(f"record must be a subclass of Layer, got {quoted(record)}{fix}", subject="register_onnx")
    check_callable("register_onnx", "emit", emit)
    if record in _EMITTERS and record.__module__ != "__main__":
        raise ConfigError(f"{record.__name__} is already registered", subject="register_onnx")
    _EMITTERS[record] = emit


# ----------------------------------------------------------------------------------------------- affine layers


def _emit_dense(graph: OnnxGraph, params: Dense, x: str, _: Shape) -> str:
    return graph.op("Gemm", x, graph.constant(params.weight, "weight"), graph.constant(params.bias, "bias"))


def _emit_standardize(graph: OnnxGraph, params: Standardize, x: str, _: Shape) -> str:
    centered = graph.op("Sub", x, graph.constant(params.mean, "mean"))
    return graph.op("Div", centered, graph.constant(params.scale, "scale"))


def _scaled(graph: OnnxGraph, x: str, scale: Array, offset: Array | None = None) -> str:
    y = graph.op("Mul", x, graph.constant(scale, "scale"))
    return y if offset is None else graph.op("Add", y, graph.constant(offset, "offset"))


def _emit_batch_norm(graph: OnnxGraph, params: BatchNorm, x: str, _: Shape) -> str:
    mean, variance = cast("tuple[Array, Array]", (params.mean, params.variance))  # to_onnx checks that they are set
    centered = graph.op("Sub", x, graph.constant(mean, "mean"))
    normal = graph.op("Div", centered, graph.constant(np.sqrt(variance + params.epsilon), "root"))
    return _scaled(graph, normal, params.scale, params.offset)


def _mean_last(graph: OnnxGraph, x: str) -> str:
    return graph.op("ReduceMean", x, graph.constant((-1,), "axes"), keepdims=1)


def _normalized(graph: OnnxGraph, x: str, epsilon: float) -> str:
    square = graph.op("Add", _mean_last(graph, graph.op("Mul", x, x)), graph.constant(epsilon, "epsilon"))
    return graph.op("Div", x, graph.op("Sqrt", square))


def _emit_rms_norm(graph: OnnxGraph, params: RMSNorm, x: str, _: Shape) -> str:
    return _scaled(graph, _normalized(graph, x, params.epsilon), params.scale)


def _emit_layer_norm(graph: OnnxGraph, params: LayerNorm, x: str, _: Shape) -> str:
    """Up to onnxruntime 1.26, its operator LayerNormalization loses the digits of rows far from 0."""
    for __ in range(2):
        x = graph.op("Sub", x, _mean_last(graph, x))
    return _scaled(graph, _normalized(graph, x, params.epsilon), params.scale, params.offset)


register_onnx(Dense, _emit_dense)
register_onnx(Standardize, _emit_standardize)
register_onnx(BatchNorm, _emit_batch_norm)
register_onnx(RMSNorm, _emit_rms_norm)
register_onnx(LayerNorm, _emit_layer_norm)

# ------------------------------------------------------------------------------------------------- images


def _windowed(graph: OnnxGraph, kind: str, x: str, axes: Axes, *arrays: str, **attributes: Attribute) -> str:
    rows, columns = axes
    settings: dict[str, Attribute] = {
        "kernel_shape": (rows.size, columns.size),
        "strides": (rows.stride, columns.stride),
        "pads": (rows.before, columns.before, rows.after, columns.after),
        **attributes,
    }
    y = graph.op(kind, graph.op("Transpose", x, perm=(0, 3, 1, 2)), *arrays, **settings)
    return graph.op("Transpose", y, perm=(0, 2, 3, 1))


def _emit_conv2d(graph: OnnxGraph, params: Conv2D, x: str, shape: Shape) -> str:
    height, width = params.weight.shape[:2]
    settings = {"stride": params.stride, "dilation": params.dilation}
    axes = axes_of("Conv2D", shape, (height, width), padding=params.padding, **settings)
    weight = graph.constant(params.weight.transpose(3, 2, 0, 1), "weight")
    dilations = axes[0].dilation, axes[1].dilation
    return _windowed(graph, "Conv", x, axes, weight, graph.constant(params.bias, "bias"), dilations=dilations)


def _pool_axes(params: MaxPool2D | AvgPool2D, shape: Shape) -> Axes:
    stride = params.window if params.stride is None else params.stride
    return axes_of(type(params).__name__, shape, params.window, stride=stride, padding=params.padding)


def _emit_max_pool(graph: OnnxGraph, params: MaxPool2D, x: str, shape: Shape) -> str:
    return _windowed(graph, "MaxPool", x, _pool_axes(params, shape))


def _emit_avg_pool(graph: OnnxGraph, params: AvgPool2D, x: str, shape: Shape) -> str:
    return _windowed(graph, "AveragePool", x, _pool_axes(params, shape), count_include_pad=0)


def _emit_global_avg_pool(graph: OnnxGraph, _: GlobalAvgPool2D, x: str, __: Shape) -> str:
    return graph.op("ReduceMean", x, graph.constant((1, 2), "axes"), keepdims=0)


register_onnx(Conv2D, _emit_conv2d)
register_onnx(MaxPool2D, _emit_max_pool)
register_onnx(AvgPool2D, _emit_avg_pool)
register_onnx(GlobalAvgPool2D, _emit_global_avg_pool)

# --------------------------------------------------------------------------------------------- activations


def _emit_leaky_relu(graph: OnnxGraph, params: LeakyReLU, x: str, _: Shape) -> str:
    if graph.dtype == np.float32:
        return graph.op("LeakyRelu", x, alpha=params.slope)
    return graph.op("Max", x, graph.op("Mul", x, graph.constant(params.slope, "slope")))


def _emit_elu(graph: OnnxGraph, params: ELU, x: str, _: Shape) -> str:
    if graph.dtype == np.float32:
        return graph.op("Elu", x, alpha=params.alpha)
    return _elu(graph, x, params.alpha)


def _elu(graph: OnnxGraph, x: str, alpha: float) -> str:
    zero = graph.constant(0.0, "zero")
    small = graph.op("Sub", graph.op("Exp", graph.op("Min", x, zero)), graph.constant(1.0, "one"))
    below = graph.op("Mul", small, graph.constant(alpha, "alpha"))
    return graph.op("Add", graph.op("Max", x, zero), below)


_SCALE: Final = 1.0507009873554805
_ALPHA: Final = 1.6732632423543772


def _emit_selu(graph: OnnxGraph, _: SELU, x: str, __: Shape) -> str:
    """A node's settings are float32, so the two constants of the operator have too few digits for float64."""
    if graph.dtype == np.float32:
        return graph.op("Selu", x)
    return graph.op("Mul", _elu(graph, x, _ALPHA), graph.constant(_SCALE, "scale"))


def _emit_prelu(graph: OnnxGraph, params: PReLU, x: str, _: Shape) -> str:
    return graph.op("PRelu", x, graph.constant(params.slope, "slope"))


def _emit_hard_swish(graph: OnnxGraph, _: HardSwish, x: str, __: Shape) -> str:
    """``x * (min(max(x + 3, 0), 6) / 6)`` in float64; the operator has 1/6 as a float32."""
    if graph.dtype == np.float32:
        return graph.op("HardSwish", x)
    zero, six = graph.constant(0.0, "zero"), graph.constant(6.0, "six")
    clipped = graph.op("Clip", graph.op("Add", x, graph.constant(3.0, "three")), zero, six)
    return graph.op("Mul", x, graph.op("Div", clipped, six))


def _emit_softplus(graph: OnnxGraph, _: Softplus, x: str, __: Shape) -> str:
    """``max(x, 0) + log(1 + exp(-|x|))`` in float64."""
    if graph.dtype == np.float32:
        return graph.op("Softplus", x)
    small = graph.op("Exp", graph.op("Neg", graph.op("Abs", x)))
    rest = graph.op("Log", graph.op("Add", small, graph.constant(1.0, "one")))
    return graph.op("Add", graph.op("Max", x, graph.constant(0.0, "zero")), rest)


def _divisor(graph: OnnxGraph, u: str) -> str:
    """``1 + exp(-u)``. Far below 0, onnxruntime's Sigmoid loses the digits of its reciprocal in float32."""
    return graph.op("Add", graph.op("Exp", graph.op("Neg", u)), graph.constant(1.0, "one"))


def _logistic(graph: OnnxGraph, x: str) -> str:
    """``1 / (1 + exp(-x))``."""
    return graph.op("Reciprocal", _divisor(graph, x))


def _times_logistic(graph: OnnxGraph, x: str, u: str) -> str:
    """``x / (1 + exp(-u))``."""
    return graph.op("Div", x, _divisor(graph, u))


_ROOT_2: Final = 1.4142135623730951
_2_SQRT_2_BY_PI: Final = 1.5957691216057308


def _emit_gelu(graph: OnnxGraph, _: GELU, x: str, __: Shape) -> str:
    """``x * (erf(x / sqrt 2) + 1) * 0.5``, which onnxruntime fuses; the operator Gelu is of operator set 20."""
    erf = graph.op("Erf", graph.op("Div", x, graph.constant(_ROOT_2, "root_2")))
    twice = graph.op("Mul", x, graph.op("Add", erf, graph.constant(1.0, "one")))
    return graph.op("Mul", twice, graph.constant(0.5, "half"))


def _emit_gelu_tanh(graph: OnnxGraph, _: GELUTanh, x: str, __: Shape) -> str:
    """``x s(2u)`` with ``2u = 2 sqrt(2 / pi) (x + 0.044715 x**3)``, as in ``GELUTanh``."""
    cube = graph.op("Mul", graph.op("Mul", x, x), x)
    inner = graph.op("Add", x, graph.op("Mul", cube, graph.constant(0.044715, "cubic")))
    return _times_logistic(graph, x, graph.op("Mul", inner, graph.constant(_2_SQRT_2_BY_PI, "steepness")))


def _node(kind: str) -> Emit[Layer]:
    """The ONNX form of a layer that is one node without settings."""
    return lambda graph, _, x, __: graph.op(kind, x)


register_onnx(Identity, lambda _, __, x, ___: x)
register_onnx(Dropout, lambda _, __, x, ___: x)
register_onnx(ReLU, _node("Relu"))
register_onnx(LeakyReLU, _emit_leaky_relu)
register_onnx(ELU, _emit_elu)
register_onnx(SELU, _emit_selu)
register_onnx(PReLU, _emit_prelu)
register_onnx(Sigmoid, lambda graph, _, x, __: _logistic(graph, x))
register_onnx(Tanh, _node("Tanh"))
register_onnx(Softplus, _emit_softplus)
register_onnx(Softsign, _node("Softsign"))
register_onnx(SiLU, lambda graph, _, x, __: _times_logistic(graph, x, x))
register_onnx(HardSwish, _emit_hard_swish)
register_onnx(Mish, _node("Mish"))
register_onnx(GELU, _emit_gelu)
register_onnx(GELUTanh, _emit_gelu_tanh)
register_onnx(Softmax, _node("Softmax"))

# --------------------------------------------------------------------------------- shapes and combinators


def _emit_reshape(graph: OnnxGraph, params: Reshape, x: str, _: Shape) -> str:
    """The 0 in the shape keeps the size of the batch."""
    return graph.op("Reshape", x, graph.constant((0, *params.shape), "shape"))


def _emit_residual(graph: OnnxGraph, params: Residual[Any], x: str, shape: Shape) -> str:
    return graph.op("Add", x, graph.network(params.net, x, shape, "net"))


def _emit_parallel(graph: OnnxGraph, params: Parallel[Any], x: str, shape: Shape) -> str:
    y, *others = (graph.network(net, x, shape, "nets", position) for position, net in enumerate(params.nets))
    if params.combine == "concat":
        return graph.op("Concat", y, *others, axis=-1)
    for other in others:
        y = graph.op("Add", y, other)
    return y


def _emit_repeat(graph: OnnxGraph, params: Repeat[Any], x: str, shape: Shape) -> str:
    """The repetitions one after the other, with the same constants."""
    for __ in range(params.times):
        x = graph.network(params.net, x, shape, "net")
    return x


def _emit_frozen(graph: OnnxGraph, params: Frozen[Any], x: str, shape: Shape) -> str:
    return graph.network(params.net, x, shape, "net")


register_onnx(Flatten, lambda graph, _, x, __: graph.op("Flatten", x, axis=1))
register_onnx(Reshape, _emit_reshape)
register_onnx(Residual, _emit_residual)
register_onnx(Parallel, _emit_parallel)
register_onnx(Repeat, _emit_repeat)
register_onnx(Frozen, _emit_frozen)
