"""ONNX export: onnxruntime computes what the network computes, for every layer and for random networks."""

from __future__ import annotations

import re
import sys
import tracemalloc
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
import pytest
from attrs import evolve, frozen
from hypothesis import given, settings
from networks import CASES, Case, inputs
from random_networks import networks
from surroundings import FOREIGN

import funcnet as fn
from funcnet.core.trees import leaves
from funcnet.layers.conv import conv2d
from funcnet.network.tasks import Binary, Multiclass, Multilabel, Regression
from funcnet.runs.environment import environment

onnx: Any = pytest.importorskip("onnx", reason="onnx is not installed")
onnxruntime: Any = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
interop: Any = import_module("funcnet.interop.onnx")
FORMS: Any = import_module("funcnet.interop.onnx_graph").EMITTERS

TOLERANCE = {np.float32: 1e-6, np.float64: 1e-12}
DTYPES = pytest.mark.parametrize("dtype", TOLERANCE)
KEY = fn.Key(31)
NO_FLOAT64 = (fn.GELU, fn.Conv2D, fn.Conv1D, fn.AvgPool2D, fn.RNN, fn.GRU, fn.LSTM)
RECURRENT = (fn.RNN, fn.GRU, fn.LSTM)
"""Layers whose operators end the process of onnxruntime if the batch is empty."""

HAS_REFERENCE = tuple(map(int, onnx.__version__.split(".")[:2])) >= (1, 23)
"""Whether onnx's reference evaluator reads sequences backward; older ones do not. It knows no RNN of ReLU units."""

ONE = (np.ones(1),)
"""The size of gates and states, to which the errors of recurrent layers are relative."""


def run(model: Any, x: fn.Array) -> fn.Array:
    """The output of onnxruntime."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    (y,) = session.run(["y"], {"x": x})
    return np.asarray(y)


def run_reference(model: Any, x: fn.Array) -> fn.Array:
    """The output of onnx's reference evaluator."""
    (y,) = import_module("onnx.reference").ReferenceEvaluator(model).run(None, {"x": x})
    return np.asarray(y)


def difference(
    model: Any, net: fn.Network, x: fn.Array, *inside: fn.Array, runtime: Callable[[Any, fn.Array], fn.Array] = run
) -> float:
    """The largest difference between the outputs, relative to the largest output (or number inside of the network)."""
    wanted, found = fn.forward(net, x), runtime(model, x)
    assert found.shape == wanted.shape
    assert found.dtype == wanted.dtype
    return size(found - wanted) / max(size(wanted), *map(size, inside), 1e-30)


def size(array: fn.Array) -> float:
    """The largest absolute value; 0 for no values."""
    return float(np.abs(array).max(initial=0))


def has(net: fn.Network, kinds: tuple[type[fn.Layer], ...]) -> bool:
    """Whether a layer of one of these classes is in the network, also in a combinator."""
    return any(re.search(rf"\b{kind.__name__}\(", repr(net)) for kind in kinds)


def with_dtype(
    layer: fn.Network, shape: tuple[int, ...], dtype: fn.FloatDType, *, ids: bool = False
) -> tuple[fn.Network, ...]:
    """The plain layer after one that changes no bit and whose arrays give the network its dtype; ids need none."""
    first = () if ids else fn.Standardize(mean=np.zeros(shape, dtype), scale=np.ones(shape, dtype))
    return first, fn.astype(fn.plain(layer), dtype)


# ------------------------------------------------------------------------------------------------ the outputs


@DTYPES
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_layer(case: Case, dtype: fn.FloatDType) -> None:
    """Each layer has an ONNX form, which onnx accepts, and which onnxruntime computes for any batch."""
    layer = case.layer()
    if isinstance(layer, fn.BatchNorm) and layer.mean is None:
        layer = fn.calibrate(fn.plain(layer), case.x(9))
    net = with_dtype(layer, case.shape, dtype, ids=bool(case.ids))
    if dtype is np.float64 and has(layer, NO_FLOAT64):
        with pytest.raises(fn.ConfigError, match=r"for float64; use to_onnx\(fn.astype\(net, np.float32\), ...\)"):
            interop.to_onnx(net, case.shape)
        return
    model = interop.to_onnx(net, case.shape)
    onnx.checker.check_model(model, full_check=True)
    described = [each.name for each in model.graph.value_info]
    assert len(set(described)) == len(described)
    assert set(described) <= {node.output[0] for node in model.graph.node} - {"y"}
    for batch in (0, 1, 3, 33)[has(layer, RECURRENT) :]:
        inside = ONE if has(layer, RECURRENT) else ()
        assert difference(model, net, case.x(batch, dtype), *inside) < TOLERANCE[dtype]
    if HAS_REFERENCE and "RNN of ReLU" not in case.name:
        assert difference(model, net, case.x(3, dtype), *ONE, runtime=run_reference) < TOLERANCE[dtype]


SEQUENCES = [case for case in CASES if len(case.shape) == (1 if case.ids else 2)]
FIXED = "Conv1D of (6, 2), kernel 3, padding same, stride 2"
"""The layer whose nodes depend on the number of steps, as its padding does."""


@pytest.mark.parametrize("case", SEQUENCES, ids=lambda case: case.name)
def test_sequences_of_any_length(case: Case) -> None:
    """A name in place of the number of steps makes a model for sequences of any length, with one set of nodes."""
    net, shape = fn.astype(fn.plain(case.layer()), np.float32), ("T", *case.shape[1:])
    if case.name == FIXED:
        with pytest.raises(
            fn.ConfigError, match=r"to_onnx: the nodes .* depend on the size of an axis that has a name"
        ):
            interop.to_onnx(net, shape)
        return
    model = interop.to_onnx(net, shape)
    assert shape_of(model.graph.input[0]) == ["B", *shape]
    nodes = interop.to_onnx(net, case.shape).graph.node
    assert model.graph.node == nodes
    for steps in {1, 3, 5, case.shape[0]} if "Positions" in case.name else {3, 4, 5, 17}:
        longer = evolve(case, shape=(steps, *case.shape[1:]))
        assert difference(model, net, longer.x(3, np.float32), *ONE) < TOLERANCE[np.float32]


LANGUAGE_MODELS = {
    "attention": (
        *(fn.embedding(KEY, 9, 8), fn.learned_positions(KEY, 12, 8)),
        *(fn.transformer_block(KEY.child(0), 8, 2), fn.transformer_block(KEY.child(1), 8, 4)),
        *(fn.layer_norm(8), fn.dense(KEY, 8, 9, bias=False)),
    ),
    "padded": fn.Masked((fn.embedding(KEY, 9, 8), fn.gru(KEY, 8, 16), fn.lstm(KEY, 16, 8), fn.dense(KEY, 8, 9)), 2),
}


@pytest.mark.parametrize("net", LANGUAGE_MODELS.values(), ids=LANGUAGE_MODELS)
def test_a_language_model(net: fn.Network) -> None:
    """One model gives the probabilities of the next ids for sequences of every length."""
    model = interop.to_onnx(net, ("T",), probabilities=True)
    assert shape_of(model.graph.output[0]) == ["B", "T", 9]
    for steps in (1, 2, 7, 12):
        ids = Case("ids", lambda _, __: fn.Identity(), (steps,), ids=9).x(5)
        found, wanted = run(model, ids), fn.predict_proba(net, ids, Multiclass())
        assert size(found - wanted) < TOLERANCE[np.float32]


def test_the_axes_of_any_length_have_names() -> None:
    """An output has the name of the input's axis if it has its size, and no name if it has another size."""
    key = KEY.child("steps")
    net = fn.embedding(key, 5, 4), fn.conv1d(key, 4, 4, 3, padding="same"), fn.conv1d(key, 4, 6, 3)
    model = interop.to_onnx(net, ("time",))
    assert shape_of(model.graph.input[0]) == ["B", "time"]
    assert shape_of(model.graph.output[0]) == ["B", 0, 6]
    assert [shape_of(each) for each in model.graph.value_info] == [["B", "time", 4]] * 2
    images = interop.to_onnx((fn.conv2d(key, 2, 2, 3, padding=1), fn.GlobalMaxPool2D()), ("H", "W", 2))
    assert shape_of(images.graph.input[0]) == ["B", "H", "W", 2]
    x = inputs(key, 3, 7, 5, 2, dtype=np.float32)
    assert run(images, x).shape == (3, 2)


@pytest.mark.slow
@DTYPES
def test_random_networks(dtype: fn.FloatDType) -> None:
    """Random networks agree, relative to the largest number inside of the network, as outputs may cancel to near 0."""

    @settings(max_examples=50)
    @given(networks(plain=True))
    def check(drawn: tuple[fn.Network, ...]) -> None:
        net = with_dtype(drawn, (4,), dtype)
        if dtype is np.float64 and "GELU()" in repr(net):
            return
        model = interop.to_onnx(net, (4,))
        for batch in (1, 3, 33):
            x = inputs(KEY, batch, 4, dtype=dtype)
            assert difference(model, net, x, x, *fn.activations(drawn_in(net), x)) < TOLERANCE[dtype]

    check()


def drawn_in(net: tuple[fn.Network, ...]) -> tuple[fn.Network, ...]:
    """The network that ``with_dtype`` was given."""
    inner = net[1]
    assert isinstance(inner, tuple)
    return inner


@pytest.mark.parametrize(
    "layer",
    [
        *(fn.ELU(0.5), fn.SELU(), fn.prelu(), fn.Softplus(), fn.Softsign(), fn.SiLU(), fn.HardSwish(), fn.Mish()),
        *(fn.GELU(), fn.GELUTanh(), fn.Sigmoid(), fn.Tanh()),
    ],
)
def test_far_from_zero(layer: fn.Layer) -> None:
    """Negative inputs of every size alone, and positive ones, agree, and none becomes NaN."""
    model = interop.to_onnx(layer, (1,))
    for sign in (-1, 1):
        x = sign * np.array([[1e-3], [0.3], [1], [5], [20], [80], [100], [1e4], [1e13], [1e30]], np.float32)
        near = x[:7]
        assert difference(model, layer, x) < 1e-6
        assert difference(model, layer, near) < 1e-6


@DTYPES
@pytest.mark.parametrize("task", [None, Binary(), Multilabel()])
def test_small_probabilities_keep_their_digits(task: Any, dtype: fn.FloatDType) -> None:
    """The logistic function is exact relative to each of its values, as a Sigmoid and for the tasks."""
    x: Any = np.linspace(-40, 20, 601, dtype=dtype)[:, None]
    net = with_dtype(fn.Sigmoid() if task is None else fn.Identity(), (1,), dtype)
    wanted = fn.forward(net, x) if task is None else fn.predict_proba(net, x, task)
    found = run(interop.to_onnx(net, (1,), probabilities=task or False), x)
    assert (np.abs(found - wanted) / wanted).max() < TOLERANCE[dtype]


@pytest.mark.parametrize("mean", [1, 1e3, 1e5])
def test_rows_far_from_zero(mean: float) -> None:
    """LayerNorm keeps the digits of rows that are far from 0, and equal numbers become the offset."""
    net = fn.layer_norm(16)
    x = np.float32(mean) + inputs(KEY, 33, 16, dtype=np.float32)
    x[0] = 0.1 * np.float32(mean)
    model = interop.to_onnx(net, (16,))
    assert difference(model, net, x) < 1e-6
    assert (run(model, x)[0] == net.offset).all()


DENSE = fn.dense(KEY, 2, 2)
IMAGE = (3, 2, 1)
GRU = fn.gru(KEY, 4, 2)
ATTENTION = fn.multi_head_attention(KEY, 4, 2)
FAULTS: dict[str, tuple[tuple[int, ...], fn.Layer, fn.Layer]] = {
    "epsilon": ((4,), fn.layer_norm(4), fn.layer_norm(4, epsilon=2e-5)),
    "slope": ((4,), fn.LeakyReLU(), fn.LeakyReLU(0.01001)),
    "alpha": ((4,), fn.ELU(), fn.ELU(1.0001)),
    "trained slope": ((4,), fn.prelu(), fn.prelu(slope=0.25001)),
    "approximation": ((4,), fn.GELU(), fn.GELUTanh()),
    "bias": ((2,), DENSE, fn.Dense(weight=DENSE.weight, bias=np.full(2, 1e-5, np.float32))),
    "transposed": ((2,), DENSE, fn.Dense(weight=DENSE.weight.T, bias=DENSE.bias)),
    "recurrent bias": ((3, 4), GRU, evolve(GRU, recurrent_bias=np.full(2, 1e-5, np.float32))),
    "direction": ((3, 4), GRU, evolve(GRU, reverse=True)),
    "causal": ((3, 4), ATTENTION, evolve(ATTENTION, causal=True)),
    "heads": ((3, 4), ATTENTION, evolve(ATTENTION, heads=1)),
    "padding": (IMAGE, fn.MaxPool2D(2, 1, ((1, 0), (0, 0))), fn.MaxPool2D(2, 1, ((0, 1), (0, 0)))),
}


@pytest.mark.parametrize(("shape", "layer", "other"), FAULTS.values(), ids=FAULTS)
def test_the_comparison_sees(shape: tuple[int, ...], layer: fn.Layer, other: fn.Layer) -> None:
    """The model of a slightly different layer fails the comparison."""
    x = inputs(KEY, 33, *shape, dtype=np.float32)
    assert difference(interop.to_onnx(layer, shape), layer, x) < TOLERANCE[np.float32]
    assert difference(interop.to_onnx(other, shape), layer, x) > TOLERANCE[np.float32]


@DTYPES
@pytest.mark.parametrize(
    ("given", "task", "shape"),
    [
        (True, Multiclass(), (3,)),
        (np.True_, Multiclass(), (2,)),
        (Multiclass(), Multiclass(), (3,)),
        (Binary(threshold=0.7), Binary(), (1,)),
        (Multilabel(), Multilabel(), (3,)),
        (Multilabel(), Multilabel(), (1,)),
        (True, Multiclass(), (4, 3)),
        (Binary(), Binary(), (4, 1)),
    ],
)
def test_probabilities(given: Any, task: Any, shape: tuple[int, ...], dtype: fn.FloatDType) -> None:
    """The output is that of ``predict_proba``, also for logits that saturate, and its shape is declared."""
    net = with_dtype(fn.Dropout(0.5), shape, dtype)
    x = 100 * inputs(KEY, 33, *shape, dtype=dtype)
    x[0] = 0
    model = interop.to_onnx(net, shape, probabilities=given)
    wanted = fn.predict_proba(net, x, task)
    found = run(model, x)
    assert found.shape == wanted.shape
    assert size(found - wanted) < TOLERANCE[dtype]
    assert shape_of(model.graph.output[0]) == ["B", *wanted.shape[1:]]


def test_one_logit_without_an_axis() -> None:
    """``Binary`` takes rows that are single numbers."""
    net = fn.Reshape(())
    x = inputs(KEY, 5, 1, dtype=np.float32)
    model = interop.to_onnx(net, (1,), probabilities=Binary())
    assert size(run(model, x) - fn.predict_proba(net, x, Binary())) < TOLERANCE[np.float32]


# --------------------------------------------------------------------------------------------------- the model

CONV = (
    conv2d(KEY, 1, 2, 3),
    fn.calibrate(fn.batch_norm(2), inputs(KEY, 9, 2, dtype=np.float32)),
    fn.ReLU(),
    fn.Flatten(),
    fn.Residual(fn.dense(KEY, 32, 32)),
    fn.Repeat((fn.dense(KEY, 32, 32), fn.Tanh()), 3),
    fn.Parallel((fn.dense(KEY, 32, 4), fn.dense(KEY.child(1), 32, 4))),
)


def shape_of(value: Any) -> list[str | int]:
    """The shape that the model declares; the name of an axis of any size."""
    return [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]


def constants_of(model: Any) -> dict[str, fn.Array]:
    """The constants of a model by name."""
    to_array = import_module("onnx.numpy_helper").to_array
    return {each.name: to_array(each) for each in model.graph.initializer}


@DTYPES
def test_the_interface(dtype: fn.FloatDType) -> None:
    """The model states its origin, its versions, and the names, dtypes and shapes of its input and output."""
    net = fn.astype(fn.mlp(KEY, (4, 8, 3)), dtype)
    model = interop.to_onnx(net, (np.int64(4),))
    properties = {each.key: each.value for each in model.metadata_props}
    assert properties == {"funcnet.fingerprint": fn.fingerprint(net), "funcnet.version": environment().funcnet}
    assert (model.producer_name, model.producer_version) == ("funcnet", environment().funcnet)
    assert [(each.domain, each.version) for each in model.opset_import] == [("", 18)]
    assert model.ir_version == 8
    (x,), (y,) = model.graph.input, model.graph.output
    assert (x.name, shape_of(x), y.name, shape_of(y)) == ("x", ["B", 4], "y", ["B", 3])
    kind = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    assert x.type.tensor_type.elem_type == y.type.tensor_type.elem_type == kind
    assert model.SerializeToString() == interop.to_onnx(net, (4,)).SerializeToString()


def test_names_and_shapes() -> None:
    """Arrays have the names and bits of the network's, once each; layers' outputs have their shapes."""
    model = interop.to_onnx(CONV, (6, 6, 1))
    arrays = {leaf.path: leaf.array for leaf in leaves(CONV)}
    constants = constants_of(model)
    assert (constants["0.weight"] == arrays["0.weight"].transpose(3, 2, 0, 1)).all()
    for path in ("0.bias", "4.net.weight", "6.nets.0.weight", "6.nets.1.weight"):
        assert constants[path].tobytes() == arrays[path].tobytes()
    contents = [(each.data_type, tuple(each.dims), each.raw_data) for each in model.graph.initializer]
    assert len(set(contents)) == len(contents)
    shapes = {each.name: shape_of(each) for each in model.graph.value_info}
    assert shapes["0.Transpose_2"] == ["B", 4, 4, 2]
    assert shapes["3.Flatten"] == ["B", 32]
    names = [node.name for node in model.graph.node]
    assert len(set(names)) == len(names)
    assert [name for name in names if name.startswith("5.")] == [
        f"5.net.{name}" for name in ("0.Gemm", "1.Tanh", "0.Gemm_2", "1.Tanh_2", "0.Gemm_3", "1.Tanh_3")
    ]


def test_nothing_and_the_deepest() -> None:
    """A network without nodes, the deepest network that funcnet allows, and a long one can be exported."""
    x = inputs(KEY, 3, 2, dtype=np.float32)
    deep: fn.Network = fn.ReLU()
    for _ in range(63):
        deep = (deep,)
    for net in ((), fn.Residual(()), deep, (fn.Sigmoid(),) * 300, fn.Repeat(fn.Sigmoid(), 300)):
        assert difference(interop.to_onnx(net, (2,)), net, x) < TOLERANCE[np.float32]
    with pytest.raises(fn.StructureError, match="at most 64 levels"):
        interop.to_onnx(((deep,),), (2,))


def test_memory() -> None:
    """The peak of Python's memory is the text that onnx checks, not further copies of the arrays."""
    net = fn.Repeat(tuple(fn.dense(KEY.child(i), 400, 400) for i in range(8)), 4)
    arrays = sum(array.nbytes for array in fn.trained_arrays(net))
    tracemalloc.start()
    model = interop.to_onnx(net, (400,))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert model.ByteSize() < 1.01 * arrays
    assert peak < 1.2 * arrays


# ------------------------------------------------------------------------------------------------ your own layers


@frozen(eq=False)
class Scale(fn.Layer):
    """``y = x * scale + shift``."""

    scale: fn.Array
    shift: float = 0.0


@frozen(eq=False)
class Twice(fn.Layer):
    """A combinator: ``y = net(net(x))``."""

    net: fn.Network


@frozen(eq=False)
class Unknown(fn.Layer):
    """A layer without an ONNX form."""


@frozen(eq=False)
class Wrong(fn.Layer):
    """A layer with a wrong ONNX form, which a test chooses."""


def _emit_scale(graph: Any, layer: Scale, x: str, _: tuple[int, ...]) -> str:
    scaled = graph.op("Mul", x, graph.constant(layer.scale, "scale"))
    return str(graph.op("Add", scaled, graph.constant(layer.shift, "shift")))


def _emit_twice(graph: Any, layer: Twice, x: str, shape: tuple[int, ...]) -> str:
    return str(graph.network(layer.net, graph.network(layer.net, x, shape, "net"), shape, "net"))


def _twice(params: Twice, x: fn.Array) -> fn.Array:
    return fn.forward(params.net, fn.forward(params.net, x))


def _emit_abs(graph: Any, _: fn.Layer, x: str, __: tuple[int, ...]) -> str:
    return str(graph.op("Abs", x))


fn.register_layer(
    Scale,
    forward=lambda params, x: x * params.scale + x.dtype.type(params.shift),
    backward=lambda params, _, g: (g, params),
)
fn.register_layer(Twice, forward=_twice, backward=lambda params, _, g: (g, params))
fn.register_elementwise(Unknown, value=lambda _, x: x, slope=lambda _, x, __: x == x)
fn.register_elementwise(Wrong, value=lambda _, x: x, slope=lambda _, x, __: x == x)
fn.register_onnx(Scale, _emit_scale)
fn.register_onnx(Twice, _emit_twice)


@DTYPES
def test_a_layer_and_a_combinator_of_the_user(dtype: fn.FloatDType) -> None:
    """Numbers become constants of the network's dtype, and inner networks have names."""
    net = fn.astype((fn.ReLU(), Twice((Scale(np.array([2.0, 3.0]), 0.1), fn.Tanh()))), dtype)
    model = interop.to_onnx(net, (2,))
    assert difference(model, net, inputs(KEY, 3, 2, dtype=dtype)) < TOLERANCE[dtype]
    assert constants_of(model)["1.net.0.scale"].dtype == dtype
    assert [node.name for node in model.graph.node][-2:] == ["1.net.0.Add_2", "1.net.1.Tanh_2"]


Emit = Callable[[Any, Any, str, tuple[int, ...]], Any]
# fmt: off
WRONG_FORMS: dict[str, tuple[Emit, str]] = {
    "no name": (lambda _, __, ___, ____: None, "Wrong (layer 1.0): emit must return the name of a value .*, got None"),
    "a new name": (lambda _, __, ___, ____: "z", "Wrong (layer 1.0): emit must return .*, got 'z'"),
    "a number": (lambda g, _, x, __: g.op("Mul", x, 2.0), "Wrong (layer 1.0): the inputs of op .*, got 2.0 for Mul; "),
    "an array": (lambda g, _, x, __: g.op("Mul", x, np.ones(2)), "got an array (2,) for Mul; use graph.constant("),
    "an operator": (lambda g, _, x, __: g.op("NoSuch", x), "to_onnx: onnx refuses the model; .*No Op .* for NoSuch"),
    "a dtype": (lambda g, _, x, __: g.op("Mul", x, g.constant(np.ones(2))), "to_onnx: onnx refuses the model; .*Mul"),
    "a shape": (lambda g, _, x, __: g.op("Concat", x, x, axis=-1), "to_onnx: onnx refuses the model; .*differ"),
    "a list": (lambda g, _, x, __: g.constant([x]), "Wrong (layer 1.0): a constant must be .*, got ['0.Relu']"),
    "text": (lambda g, _, x, __: g.constant(np.array([x])), "Wrong (layer 1.0): a constant must be .*, got array"),
    "texts": (lambda g, _, x, __: g.constant((x,)), "Wrong (layer 1.0): a constant must be .*, got ('0.Relu',)"),
}
# fmt: on


@pytest.mark.parametrize(("emit", "message"), WRONG_FORMS.values(), ids=WRONG_FORMS)
def test_a_wrong_form(emit: Emit, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A function that emits no valid nodes is refused, and the message has the layer or the operator."""
    monkeypatch.setitem(FORMS, Wrong, emit)  # a class can be registered once
    with pytest.raises(fn.FuncnetError, match="(?s)" + literally(message)):
        interop.to_onnx((fn.ReLU(), (Wrong(), fn.Tanh())), (2,))


def test_a_combinator_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error after the inner network has the name of the combinator."""
    monkeypatch.setitem(FORMS, Twice, _emit_twice_wrongly)  # a class can be registered once
    with pytest.raises(fn.ConfigError, match=r"Twice \(layer 0\): the inputs of op are .* for Mul"):
        interop.to_onnx((Twice(fn.Tanh()),), (2,))


def _emit_twice_wrongly(graph: Any, layer: Twice, x: str, shape: tuple[int, ...]) -> str:
    return str(graph.op("Mul", graph.network(layer.net, x, shape, "net"), 2.0))


SQUARE = np.arange(4.0).reshape(2, 2)


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        (0.5, np.array(0.5, np.float32)),
        (2, np.array(2, np.float32)),
        (np.float64(0.5), np.array(0.5, np.float32)),
        ((), np.zeros(0, np.int64)),
        ((0, -1), np.array([0, -1])),
        ((np.int32(3),), np.array([3])),
        (np.array(3), np.array(3)),
        (np.array([True]), np.array([True])),
        (SQUARE.T, np.array([[0.0, 2.0], [1.0, 3.0]])),
        (SQUARE.astype(FOREIGN), SQUARE.astype(np.float32)),
    ],
)
def test_constants(value: Any, stored: fn.Array) -> None:
    """A number gets the dtype of the network, a tuple becomes int64, and an array keeps its dtype and its elements."""
    model = onnx.ModelProto()
    graph = interop.OnnxGraph(model, np.dtype(np.float32))
    assert [graph.constant(value, "y"), graph.constant(value, "x"), graph.constant(-9.0, "x")] == ["y_2", "y_2", "x_2"]
    found = constants_of(model)["y_2"]
    assert (found.dtype, found.shape, found.tolist()) == (stored.dtype, stored.shape, stored.tolist())


def test_an_input_can_be_left_out() -> None:
    """An empty name denotes an optional input that is left out."""
    graph = fn.OnnxGraph(onnx.ModelProto(), np.dtype(np.float32))
    assert graph.op("Clip", "x", "", graph.constant(1.0)) == "Clip"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((Scale, _emit_scale), "register_onnx: Scale is already registered"),
        ((fn.Dense, _emit_scale), "register_onnx: Dense is already registered"),
        ((Wrong, None), "register_onnx: emit must be a function, got None"),
        ((Wrong(), _emit_scale), r"register_onnx: record must be a subclass of Layer, got Wrong\(\); use Wrong"),
        ((int, _emit_scale), "register_onnx: record must be a subclass of Layer, got <class 'int'>"),
    ],
)
def test_registration_is_refused(arguments: tuple[Any, Any], message: str) -> None:
    """Only layer classes and functions can be registered, and each class once."""
    with pytest.raises(fn.ConfigError, match=message):
        interop.register_onnx(*arguments)


def test_a_notebook_registers_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A class from ``__main__`` can be registered again, and the last function counts."""
    monkeypatch.setattr(Wrong, "__module__", "__main__")
    monkeypatch.setitem(FORMS, Wrong, None)  # removed after the test
    for emit in (_emit_scale, _emit_abs):
        interop.register_onnx(Wrong, emit)
    assert [node.op_type for node in interop.to_onnx(Wrong(), (2,)).graph.node] == ["Abs"]


# ---------------------------------------------------------------------------------------------- what is refused

NET = fn.mlp(KEY, (4, 3))
BAD = fn.Dense(weight=np.array([[1, np.nan]] * 4, np.float32), bias=np.zeros(2, np.float32))
DENSE64 = fn.dense(KEY, 4, 4, dtype=np.float64)
STATE = fn.TrainState.create(NET, fn.SGD(0.1), key=KEY)
# fmt: off
REFUSED: dict[str, tuple[Any, str]] = {
    "training": (fn.training(fn.Dropout(0.5), KEY), "Dropout: to_onnx needs .* plain form, .*; use fn.plain(net)"),
    "no statistics": ((NET, (fn.batch_norm(3),)), "BatchNorm (layer 1.0): to_onnx needs .*; pass calibrate(net, x)"),
    "no form": ((fn.ReLU(), fn.Residual((fn.Tanh(), Unknown()))),
                "Unknown (layer 1.1): the layer has no ONNX form; call register_onnx(Unknown, emit)"),
    "a branch": (fn.Parallel(((), (Unknown(),))), "Unknown (layer 1.0): the layer has no ONNX form; call"),
    "float64": ((DENSE64, fn.GELU()), "GELU (layer 1): onnxruntime does not have the operator Erf for float64; use "),
    "another size": ((fn.ReLU(), (fn.dense(KEY, 5, 4),)), "Dense (layer 1.0): x must have .* (5, 4), got (B, 4)"),
    "NaN": ((BAD,), "to_onnx: 0.weight must be finite, got 0.weight[0, 1] = nan"),
    "two dtypes": ((DENSE64, NET), "to_onnx: the arrays of net must have one dtype, .*; use fn.astype"),
    "a state": (STATE, "to_onnx: a network is a layer or a tuple of networks, got TrainState.*; use state.params"),
    "a mask": (fn.masked((fn.Reshape((2, 2)), fn.LastStep()), np.ones((1, 2), np.float32)),
               "LastStep (layer 1): a mask is data of one batch, which a model cannot have; use fn.Masked(net), which"),
    "a list": ([fn.ReLU()], "to_onnx: a network is a layer or a tuple of networks, .*; use a tuple"),
}
REFUSED_SHAPES: dict[str, tuple[Any, str]] = {
    "a name twice": (("H", "H", 1), "to_onnx: the names of axes must be different and not empty; .*, got .*'H', 'H'"),
    "the batch": (("B", 4), "to_onnx: the names of axes must be different .*; 'B', 'x' and 'y' are taken, got .*'B'"),
    "an axis of features": (("T",), "to_onnx: the network takes no sizes below 128 for ('T',): Dense (layer 0): .*"),
    "an int": (4, "shape must be a tuple of sizes without the batch, got 4; use (4,)"),
    "with the batch": ((None, 4), "a size in shape must be an int of at least 1, got None"),
}
REFUSED_TASKS: dict[str, tuple[Any, tuple[int, ...], str]] = {
    "one column": (True, (1,), "to_onnx: the output .* at least 2, .*, got .* (1,); for one logit, .*Binary()"),
    "images": (True, (2, 2, 1), "to_onnx: the output must have .*, got rows of shape (2, 2, 1)"),
    "one class": (Multiclass(), (1,), "Multiclass: the output must have .*; for one logit, use Binary()"),
    "two logits": (Binary(), (2,), "Binary: the output must have .*, got (1, 2); .* use Multiclass()"),
    "numbers": (Regression(), (2,), "to_onnx: .*, got Regression(), .*; to_onnx(net, input_shape) exports the outputs"),
    "text": ("softmax", (2,), "to_onnx: probabilities must be a task with probabilities, got 'softmax'"),
    "a class": (Binary, (1,), "to_onnx: probabilities must be a record, got the class Binary; use Binary()"),
}
# fmt: on


def literally(message: str) -> str:
    """A regular expression in which only ``.*`` is special."""
    return ".*".join(map(re.escape, message.split(".*")))


@pytest.mark.parametrize(("net", "message"), REFUSED.values(), ids=REFUSED)
def test_a_network_is_refused(net: Any, message: str) -> None:
    """The message says what, where, and the fix."""
    with pytest.raises(fn.FuncnetError, match=literally(message)):
        interop.to_onnx(net, (4,))


@pytest.mark.parametrize(("shape", "message"), REFUSED_SHAPES.values(), ids=REFUSED_SHAPES)
def test_a_shape_is_refused(shape: Any, message: str) -> None:
    """The shape is that of a row."""
    with pytest.raises(fn.FuncnetError, match=literally(message)):
        interop.to_onnx(NET, shape)


@pytest.mark.parametrize(("given", "shape", "message"), REFUSED_TASKS.values(), ids=REFUSED_TASKS)
def test_a_task_is_refused(given: Any, shape: tuple[int, ...], message: str) -> None:
    """The outputs must fit the task, and the message has the alternatives."""
    with pytest.raises(fn.FuncnetError, match=literally(message)):
        interop.to_onnx(fn.ReLU(), shape, probabilities=given)


def test_a_task_of_the_user_is_refused() -> None:
    """The form of its probabilities is unknown."""

    class Halves(Multiclass):
        pass

    with pytest.raises(fn.ConfigError, match=r"the task Halves\(\) has no ONNX form; export the logits with prob"):
        interop.to_onnx(NET, (4,), probabilities=Halves())


def test_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Arrays beyond the limit of the file format are refused before they are read."""
    monkeypatch.setattr(interop, "MOST_BYTES", 59)
    with pytest.raises(fn.ConfigError, match="to_onnx: the arrays of net must have at most 59 bytes, got 60"):
        interop.to_onnx(NET, (4,))


def test_without_onnx(monkeypatch: pytest.MonkeyPatch) -> None:
    """The import says how to install it."""
    monkeypatch.setitem(sys.modules, "onnx", None)
    for name in [name for name in sys.modules if name.startswith("funcnet.interop.onnx")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(ImportError, match=r"funcnet.interop.onnx needs onnx; .*pip install 'onnx>=1.15'"):
        import_module("funcnet.interop.onnx")
