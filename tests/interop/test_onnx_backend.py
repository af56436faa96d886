"""The tests of ONNX's backends: funcnet's layers, losses and optimizers compute the outputs that ONNX expects.

Each node with an operator of ``OPERATORS`` becomes a layer, a loss or an optimizer, and all of its outputs that funcnet
has are compared. A node that funcnet cannot express has a reason, and the table counts the nodes by reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from importlib import import_module
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest
from attrs import frozen

import funcnet as fn

onnx: Any = pytest.importorskip("onnx", reason="onnx is not installed")
pytest.importorskip("onnx.backend.test.loader", reason="the tests of onnx's backends are not installed")
to_array: Any = onnx.numpy_helper.to_array

COUNTED = (1, 23)
"""The version of onnx whose tests the table counts."""

RELATIVE, ABSOLUTE = 1e-3, {"native": 1e-7, "portable": 1e-6}
"""The tolerances of the tests. Portable sums round more: an output that nearly cancels may differ by 3e-7."""

AS_IT_IS = "as it is"
Found: TypeAlias = tuple[str, Sequence[Any]]
"""How a node is expressed, and the outputs: ``AS_IT_IS``, or what the caller does by hand."""


class LacksError(Exception):
    """funcnet cannot express a node; the text is the reason."""


@frozen(eq=False)
class Node:
    """A test with one node: its settings, its inputs (None where one is left out), and the outputs that it expects."""

    name: str
    version: int
    settings: dict[str, Any]
    given: tuple[Any, ...]
    expected: dict[int, tuple[str, Any]]

    def inputs(self, count: int) -> tuple[Any, ...]:
        """The first inputs, with None for those that are left out."""
        return (*self.given, *(None,) * count)[:count]

    def __getitem__(self, setting: str) -> Any:
        """A setting, or None."""
        return self.settings.get(setting)


# --------------------------------------------------------------------------------------------- windows over images


def channels_last(x: Any) -> Any:
    """(B, C, ...) as (B, ..., C)."""
    return np.moveaxis(x, 1, -1)


def channels_first(x: Any) -> Any:
    """(B, ..., C) as (B, C, ...)."""
    return np.moveaxis(x, -1, 1)


def windows(node: Node, sizes: Sequence[int], lengths: Sequence[int]) -> tuple[str, dict[str, Any]]:
    """How the padding is expressed, and the settings of a layer with windows; each has an entry for each axis."""
    how, count = AS_IT_IS, len(sizes)
    if count > 2:
        raise LacksError("three axes")
    strides, dilations = (node[name] or (1,) * count for name in ("strides", "dilations"))
    pads, mode = node["pads"] or (0,) * 2 * count, (node["auto_pad"] or b"NOTSET").decode()
    padding: Any = tuple((int(pads[i]), int(pads[i + count])) for i in range(count))
    if mode.startswith("SAME"):
        reaches = [(size - 1) * dilation + 1 for size, dilation in zip(sizes, dilations, strict=True)]
        each = zip(lengths, strides, reaches, strict=True)
        totals = [max((-(-length // stride) - 1) * stride + reach - length, 0) for length, stride, reach in each]
        padding = "same"
        if mode == "SAME_LOWER" and any(total % 2 for total in totals):
            how, padding = "by hand: SAME_LOWER", tuple((total - total // 2, total // 2) for total in totals)
    return how, {"stride": tuple(strides), "padding": padding, "dilation": tuple(dilations)}


def conv(node: Node) -> Found:
    """Conv1D and Conv2D. ONNX's weight is (O, C // groups, ...)."""
    x, weight, bias = node.inputs(3)
    how, settings = windows(node, weight.shape[2:], x.shape[2:])
    kernel = weight.transpose(*range(2, weight.ndim), 1, 0)
    groups = {"groups": node["group"]} if (node["group"] or 1) > 1 else {}
    if x.ndim == 3:
        one = {name: value if isinstance(value, str) else value[0] for name, value in settings.items()}
        conv1d: Any = fn.Conv1D
        layer = conv1d(kernel, bias, **one, **groups)
    else:
        layer = fn.Conv2D(kernel, bias, **settings, **groups)
    return how, [channels_first(fn.forward(layer, channels_last(x)))]


def pool(node: Node, kind: Callable[..., fn.Layer], options: dict[str, Any]) -> Found:
    """A pool; sequences are images of one row."""
    (x,) = node.inputs(1)
    if x.dtype != np.float32:
        raise LacksError("integers")
    size = tuple(node["kernel_shape"])
    how, settings = windows(node, size, x.shape[2:])
    if not any(apart > 1 for apart in settings["dilation"]):
        del settings["dilation"]
    if len(size) == 1:
        how, x, size = "by hand: images of one row", x[:, :, None], (1, *size)
        same = settings["padding"] == "same"
        settings["padding"] = "same" if same else ((0, 0), *settings["padding"])
        settings |= {name: (1, *settings[name]) for name in ("stride", "dilation") if name in settings}
    if node["ceil_mode"]:
        options = {"ceil_mode": True, **options}
    y = channels_first(fn.forward(kind(size, **settings, **options), channels_last(x)))
    return how, [y[:, :, 0] if how == "by hand: images of one row" else y]


def max_pool(node: Node) -> Found:
    """MaxPool2D."""
    return pool(node, fn.MaxPool2D, {})


def average_pool(node: Node) -> Found:
    """AvgPool2D."""
    if any(apart > 1 for apart in node["dilations"] or ()) and len(node["kernel_shape"]) == 2:
        raise LacksError("dilations")
    return pool(node, fn.AvgPool2D, {"count_padding": True} if node["count_include_pad"] else {})


def global_max_pool(node: Node) -> Found:
    """GlobalMaxPool2D."""
    (x,) = node.inputs(1)
    return AS_IT_IS, [fn.forward(fn.GlobalMaxPool2D(), channels_last(x))[:, :, None, None]]


# ------------------------------------------------------------------------------------------ products, norms, shares


def gather(node: Node) -> Found:
    """Embedding: rows of a table (V, C) by ids."""
    table, ids = node.inputs(2)
    if (ids < 0).any():
        raise LacksError("negative ids")
    axis = node["axis"] or 0
    how = AS_IT_IS if axis == 0 and table.ndim == 2 else "by hand: other axes of the table"
    moved = np.moveaxis(table, axis, 0)
    found = fn.forward(fn.Embedding(moved.reshape(len(moved), -1)), ids)
    rows = found.reshape(*ids.shape, *moved.shape[1:])
    return how, [np.moveaxis(rows, range(ids.ndim), range(axis, axis + ids.ndim))]


def gemm(node: Node) -> Found:
    """Dense."""
    a, b, c = node.inputs(3)
    alpha, beta = (1.0 if node[name] is None else node[name] for name in ("alpha", "beta"))
    a, b = (each.T if node[name] else each for each, name in ((a, "transA"), (b, "transB")))
    how = AS_IT_IS if alpha == beta == 1 else "by hand: factors of weight and bias"
    if c is not None:
        if c.ndim == 2 and len(c) > 1:
            raise LacksError("a bias for each row")
        if c.size < b.shape[1]:
            how = "by hand: one number as a bias"
        c = np.broadcast_to(c * np.float32(beta), (1, b.shape[1]))[0]
    return how, [fn.forward(fn.Dense(b * np.float32(alpha), c), a)]


def matmul(node: Node) -> Found:
    """Dense without a bias."""
    a, b = node.inputs(2)
    if b.ndim > 2:
        raise LacksError("a weight for each row")
    if a.ndim > 1 and b.ndim == 2:
        return AS_IT_IS, [fn.forward(fn.Dense(b), a)]
    rows, weight = a[None] if a.ndim == 1 else a, b[:, None] if b.ndim == 1 else b
    y = fn.forward(fn.Dense(weight), rows)
    return "by hand: a vector as a matrix", [y.reshape(a.shape[:-1] + b.shape[1:])]


def norm(node: Node, kind: Callable[..., fn.Layer], parts: int) -> Found:
    """A norm over the last axes. If all axes are normalized, the batch has one row."""
    x, *arrays = node.inputs(1 + parts)
    axes = -(node["axis"] or -1) if (node["axis"] or -1) < 0 else x.ndim - node["axis"]
    if node["axis"] == 0:
        axes = x.ndim
    options = {"epsilon": 1e-5 if node["epsilon"] is None else node["epsilon"], **({"axes": axes} if axes > 1 else {})}
    layer = kind(*arrays, **options)
    if axes < x.ndim:
        return AS_IT_IS, [fn.forward(layer, x)]
    return "by hand: a batch of one row", [fn.forward(layer, x[None])[0]]


def layer_norm(node: Node) -> Found:
    """LayerNorm."""
    return norm(node, fn.LayerNorm, 2)


def rms_norm(node: Node) -> Found:
    """RMSNorm."""
    return norm(node, fn.RMSNorm, 1)


def prelu(node: Node) -> Found:
    """PReLU with the channels last, unless the slopes are those of the last axis."""
    x, slope = node.inputs(2)
    if slope.ndim == x.ndim and slope.size > x.shape[-1]:
        raise LacksError("a slope for each number of a row")
    is_last = slope.ndim == 1 and node.version >= 7
    moved = x if is_last or slope.size == 1 else channels_last(x)
    y = fn.forward(fn.PReLU(slope.ravel()), moved)
    return AS_IT_IS, [y if moved is x else channels_first(y)]


def softmax(node: Node) -> Found:
    """Softmax over the last axis, with the axis moved there."""
    (x,) = node.inputs(1)
    axis = node["axis"] if node["axis"] is not None else -1 if node.version >= 13 else 1
    return AS_IT_IS, [np.moveaxis(fn.forward(fn.Softmax(), np.moveaxis(x, axis, -1)), -1, axis)]


# --------------------------------------------------------------------------------------------------------- sequences


def recurrent(node: Node, make: Callable[..., Any], states: int) -> Found:
    """A recurrent layer for each direction; ``make`` gets the arrays of one direction."""
    x, weight, recurrent_weight, bias, _, *initial = node.inputs(5 + states)
    if node["layout"]:
        initial = [None if each is None else each.swapaxes(0, 1) for each in initial]
    else:
        x = x.swapaxes(0, 1)
    if node["clip"] or node["activations"]:
        raise LacksError("other activations")
    direction = (node["direction"] or b"forward").decode()
    outputs: list[Any] = []
    ends: list[Any] = []
    for number in range(len(weight)):
        arrays = [None if each is None else each[number] for each in (weight, recurrent_weight, bias)]
        layer = make(*arrays, reverse=direction == "reverse" or number == 1)
        start = [each[number] for each in initial if each is not None]
        y, state = fn.unroll(layer, x, (start[0] if states == 1 else tuple(start)) if start else None)
        outputs.append(y)
        ends.append(state if isinstance(state, tuple) else (state,))
    batch_first: list[Any] = [np.stack(outputs, axis=2), *(np.stack(each, axis=1) for each in zip(*ends, strict=True))]
    if node["layout"]:
        return AS_IT_IS, batch_first
    return AS_IT_IS, [batch_first[0].transpose(1, 2, 0, 3), *(each.swapaxes(0, 1) for each in batch_first[1:])]


def in_order(array: Any, order: Sequence[int]) -> Any:
    """The gates of an array (gates * H, ...) in another order, as the last axis."""
    gates = np.split(array, max(order) + 1)
    return np.concatenate([gates[i] for i in order]).T


def rnn(node: Node) -> Found:
    """RNN with tanh."""

    def make(weight: Any, recurrent_weight: Any, bias: Any, **settings: Any) -> Any:
        both = None if bias is None else np.add(*np.split(bias, 2))
        return fn.RNN(weight.T, recurrent_weight.T, both, **settings)

    return recurrent(node, make, 1)


def gru(node: Node) -> Found:
    """GRU. ONNX's gates are z, r, h; the reset gate is after the product with ``linear_before_reset=1``.

    Otherwise the reset gate is before the product. Both are equal for one step from the state 0, and for equal units.
    """
    x, weight, recurrent_weight = node.inputs(3)
    steps = x.shape[1 if node["layout"] else 0]
    if not node["linear_before_reset"] and steps > 1 and (np.ptp(weight) or np.ptp(recurrent_weight)):
        raise LacksError("a reset gate before the product")

    def make(weight: Any, recurrent_weight: Any, bias: Any, **settings: Any) -> Any:
        arrays = in_order(weight, (1, 0, 2)), in_order(recurrent_weight, (1, 0, 2))
        if bias is None:
            return fn.GRU(*arrays, None, **settings)
        inputs, states = (in_order(each, (1, 0, 2)) for each in np.split(bias, 2))
        size = len(recurrent_weight) // 3
        if not node["linear_before_reset"]:
            return fn.GRU(*arrays, inputs + states, **settings)
        own = np.concatenate([inputs[: 2 * size] + states[: 2 * size], inputs[2 * size :]])
        return fn.GRU(*arrays, own, states[2 * size :], **settings)

    return recurrent(node, make, 1)


def lstm(node: Node) -> Found:
    """LSTM. ONNX's gates are i, o, f, c."""
    if node.inputs(8)[7] is not None:
        raise LacksError("peepholes")

    def make(weight: Any, recurrent_weight: Any, bias: Any, **settings: Any) -> Any:
        both = None if bias is None else in_order(np.add(*np.split(bias, 2)), (0, 2, 3, 1))
        gates, of_state = (in_order(each, (0, 2, 3, 1)) for each in (weight, recurrent_weight))
        return fn.LSTM(gates, of_state, both, **settings)

    return recurrent(node, make, 2)


def side_by_side(q: Any) -> Any:
    """(B, heads, T, D) as (B, T, heads * D)."""
    return q.transpose(0, 2, 1, 3).reshape(len(q), q.shape[2], -1) if q.ndim == 4 else q


def attention(node: Node) -> Found:
    """MultiHeadAttention of rows with queries, keys and values side by side; its weights select them.

    Rows are added where there are fewer queries than keys; their outputs are removed.
    """
    q, k, v, scores, past, _, valid = node.inputs(7)
    heads, of_keys = (q.shape[1], k.shape[1]) if q.ndim == 4 else (node["q_num_heads"], node["kv_num_heads"])
    lacks = {
        "half floats": q.dtype != np.float32,
        "earlier keys": past is not None,
        "soft caps": node["softcap"],
        "fewer heads of keys": heads != of_keys,
        "values of another size": k.shape[-1] != v.shape[-1],
        "a mask for each query": scores is not None,
        "a window of keys": any("window" in name for name in node.settings),
        "causal from the last key": node["is_causal"] and valid is not None,
        "more queries than keys": side_by_side(q).shape[1] > side_by_side(k).shape[1],
    }
    for reason, is_so in lacks.items():
        if is_so:
            raise LacksError(reason)
    q3, k3, v3 = map(side_by_side, (q, k, v))
    size, count, steps = q3.shape[2], q3.shape[1], k3.shape[1]
    x = np.concatenate([np.pad(q3, ((0, 0), (0, steps - count), (0, 0))), k3, v3], axis=2)
    factor = 1.0 if node["scale"] is None else node["scale"] * np.sqrt(size / heads)
    weight = np.diag(np.repeat([factor, 1, 1], size)).astype(np.float32)
    settings: dict[str, Any] = {"causal": bool(node["is_causal"])}
    if valid is not None:
        lengths: Any = valid[:, None]
        settings["mask"] = np.array(np.arange(steps) < lengths, np.float32)
    layer = fn.MultiHeadAttention(weight, None, np.eye(size, 3 * size, dtype=np.float32), None, heads, **settings)
    y = fn.forward(layer, x)[:, :count, :size]
    whole = y if q.ndim == 3 else y.reshape(len(y), count, heads, -1).transpose(0, 2, 1, 3)
    return "by hand: queries, keys and values side by side", [whole]


# ----------------------------------------------------------------------------------------------- losses, optimizers


def cross_entropy(node: Node) -> Found:
    """SoftmaxCrossEntropy over positions; an ignored label has the weight 0."""
    logits, labels, weights = node.inputs(3)
    reduction = (node["reduction"] or b"mean").decode()
    loss = fn.SoftmaxCrossEntropy(class_weight=None if weights is None else tuple(weights.tolist()))
    ignored = node["ignore_index"]
    weight = None if ignored is None else (labels != ignored).astype(np.float32)
    rows = np.ascontiguousarray(channels_last(logits))
    if reduction == "none":
        each = zip(
            *(array.reshape(labels.size, 1, *array.shape[labels.ndim :]) for array in (rows, labels)), strict=True
        )
        losses = [loss(row, label)[0] * loss.total(label, None) if label != ignored else 0.0 for row, label in each]
        return "by hand: a call for each label", [np.reshape(losses, labels.shape)]
    mean = loss(rows, labels, weight)[0]
    if reduction == "mean":
        return AS_IT_IS, [mean]
    return "by hand: the mean times its total", [mean * loss.total(labels, weight)]


def updated(node: Node, rule: Any, names: Sequence[str], step: int) -> list[Any]:
    """The new parameters and moments. The inputs are the rate, the step, and all arrays of each kind."""
    if node["norm_coefficient"]:
        rule = fn.WeightDecay(rule, weight_decay=node["norm_coefficient"], coupled=True)
    count = len(node.given[2:]) // (2 + len(names))
    kinds = [node.given[i : i + count] for i in range(2, len(node.given), count)]
    params, grads, *moments = (tuple(fn.Dense(array[None]) for array in arrays) for arrays in kinds)
    new, after = rule.update(params, grads, fn.Moments.of(**dict(zip(names, moments, strict=True))), step)
    return [layer.weight[0] for net in (new, *(after[name] for name in names)) for layer in net]


def adagrad(node: Node) -> Found:
    """Adagrad."""
    rate, step = float(node.given[0]), int(node.given[1])
    rule = fn.Adagrad(learning_rate=rate, lr_decay=node["decay_factor"] or 0.0, eps=node["epsilon"])
    return AS_IT_IS, updated(node, rule, ["squares"], step)


def momentum(node: Node) -> Found:
    """Momentum and Nesterov, whose factor of the gradient is 1, as ONNX's is in the first step."""
    kind = fn.Nesterov if node["mode"] == b"nesterov" else fn.Momentum
    if node.given[1] > 0 and node["beta"] != 1:
        raise LacksError("a factor of the gradient")
    return AS_IT_IS, updated(node, kind(learning_rate=float(node.given[0]), momentum=node["alpha"]), ["velocity"], 0)


def adam(node: Node) -> Found:
    """Adam. ONNX's step 0 has no bias corrections, and neither has a very late step."""
    if node["epsilon"] is None:
        raise LacksError("an epsilon that the node of onnx 1.15 does not have")
    betas = node["alpha"], node["beta"]
    rule = fn.Adam(learning_rate=float(node.given[0]), betas=betas, eps=node["epsilon"], eps_hat=True)
    how = AS_IT_IS if node.given[1] > 0 else "by hand: a late step"
    step = int(node.given[1]) - 1 if node.given[1] > 0 else 10**6
    return how, updated(node, rule, ["mean", "square"], step)


# --------------------------------------------------------------------------------------------------------- the table


@frozen(eq=False)
class Operator:
    """How an operator is expressed, where its tests are, and how many nodes there are of each outcome."""

    translate: Callable[[Node], Found]
    file: str
    counts: dict[str, int]


# fmt: off
OPERATORS: dict[str, Operator] = {
    "Conv": Operator(conv, "conv", {AS_IT_IS: 26, "three axes": 7}),
    "MaxPool": Operator(max_pool, "maxpool", {
        AS_IT_IS: 12, "by hand: images of one row": 5, "by hand: SAME_LOWER": 1, "without z": 2, "three axes": 7,
        "integers": 1}),
    "AveragePool": Operator(average_pool, "averagepool", {
        AS_IT_IS: 13, "by hand: images of one row": 1, "by hand: SAME_LOWER": 1, "three axes": 9, "dilations": 1}),
    "GlobalMaxPool": Operator(global_max_pool, "globalmaxpool", {AS_IT_IS: 2}),
    "Gather": Operator(gather, "gather", {AS_IT_IS: 2, "by hand: other axes of the table": 3, "negative ids": 1}),
    "Gemm": Operator(gemm, "gemm", {
        AS_IT_IS: 6, "by hand: factors of weight and bias": 3, "by hand: one number as a bias": 2,
        "a bias for each row": 1}),
    "MatMul": Operator(matmul, "matmul", {
        AS_IT_IS: 1, "by hand: a vector as a matrix": 2, "a weight for each row": 4}),
    "LayerNormalization": Operator(layer_norm, "layernormalization", {"without Mean and InvStdDev": 19}),
    "RMSNormalization": Operator(rms_norm, "rmsnormalization", {AS_IT_IS: 13, "by hand: a batch of one row": 6}),
    "PRelu": Operator(prelu, "prelu", {AS_IT_IS: 7, "a slope for each number of a row": 1}),
    "Softmax": Operator(softmax, "softmax", {AS_IT_IS: 10}),
    "RNN": Operator(rnn, "rnn", {AS_IT_IS: 6}),
    "GRU": Operator(gru, "gru", {AS_IT_IS: 4, "a reset gate before the product": 2}),
    "LSTM": Operator(lstm, "lstm", {AS_IT_IS: 5, "peepholes": 1}),
    "Attention": Operator(attention, "attention", {
        "by hand: queries, keys and values side by side": 7, "without qk_matmul_output": 1, "earlier keys": 20,
        "a mask for each query": 19, "half floats": 11, "fewer heads of keys": 10, "soft caps": 10,
        "values of another size": 9, "a window of keys": 3, "causal from the last key": 3}),
    "SoftmaxCrossEntropyLoss": Operator(cross_entropy, "softmax_cross_entropy_loss", {
        AS_IT_IS: 11, "by hand: a call for each label": 4, "by hand: the mean times its total": 2,
        "without log_prob": 17}),
    "Adagrad": Operator(adagrad, "adagrad", {AS_IT_IS: 2}),
    "Momentum": Operator(momentum, "momentum", {AS_IT_IS: 3}),
    "Adam": Operator(adam, "adam", {
        "by hand: a late step": 2, "an epsilon that the node of onnx 1.15 does not have": 0}),
}
# fmt: on
SLOW = ("MaxPool", "AveragePool", "SoftmaxCrossEntropyLoss")
"""The operators whose tests take seconds: onnx makes large ones, and a loss has thousands of labels."""


def made_nodes(kind: str, file: str) -> Iterator[Node]:
    """The tests that the package makes when the module of an operator is imported."""
    if import_module("importlib.util").find_spec(f"onnx.backend.test.case.node.{file}") is None:
        return  # an operator that this version does not have
    with np.errstate(all="ignore"):
        import_module(f"onnx.backend.test.case.node.{file}")
    for case in import_module("onnx.backend.test.case.node")._NodeTestCases:  # noqa: SLF001  # the public function makes the tests of all operators
        nodes = case.model.graph.node
        if len(nodes) == 1 and nodes[0].op_type == kind:
            yield node_of(case.name, case.model, *case.data_sets[0])


def stored_nodes(kind: str) -> Iterator[Node]:
    """The tests that were converted from PyTorch and are files of the package."""
    loader = import_module("onnx.backend.test.loader")
    for suite in ("pytorch-converted", "pytorch-operator"):
        for case in loader.load_model_tests(kind=suite):
            model = onnx.load(f"{case.model_dir}/model.onnx")
            if [node.op_type for node in model.graph.node] == [kind]:
                folder = Path(case.model_dir) / "test_data_set_0"
                files = (
                    [folder / f"{part}_{i}.pb" for i in range(len(list(folder.glob(f"{part}_*"))))]
                    for part in ("input", "output")
                )
                yield node_of(
                    case.name, model, *([to_array(onnx.load_tensor(str(file))) for file in part] for part in files)
                )


def node_of(name: str, model: Any, given: Sequence[Any], expected: Sequence[Any]) -> Node:
    """The node of a model with the arrays that it gets and the outputs that it must give."""
    (node,) = model.graph.node
    arrays: dict[str, Any] = {each.name: to_array(each) for each in model.graph.initializer}
    names = (each.name for each in model.graph.input if each.name not in arrays)
    arrays |= {name: plain(array) for name, array in zip(names, given, strict=True)}
    settings = {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}
    places = [(i, output) for i, output in enumerate(node.output) if output]
    outputs = {i: (output, plain(array)) for (i, output), array in zip(places, expected, strict=True)}
    version = max(each.version for each in model.opset_import)
    return Node(name, version, settings, tuple(arrays.get(each) for each in node.input), outputs)


def plain(array: Any) -> Any:
    """A NumPy array."""
    return to_array(array) if isinstance(array, onnx.TensorProto) else np.asarray(array)


def outcome(node: Node, translate: Callable[[Node], Found], absolute: float) -> str:
    """How the node is expressed, after a check of the outputs; or the reason why it is not."""
    try:
        how, outputs = translate(node)
    except LacksError as reason:
        return str(reason)
    missing = [name for i, (name, _) in node.expected.items() if i >= len(outputs)]
    for i, (name, wanted) in node.expected.items():
        if i < len(outputs):
            found = np.asarray(outputs[i])
            assert found.shape == wanted.shape, (node.name, name)
            np.testing.assert_allclose(found, wanted, RELATIVE, absolute, err_msg=f"{node.name} {name}")
    return f"without {' and '.join(missing)}" if missing else how


CASES = [pytest.param(kind, id=kind, marks=pytest.mark.slow if kind in SLOW else ()) for kind in OPERATORS]


@pytest.mark.filterwarnings("ignore")  # onnx's own, while it makes the tests
@pytest.mark.parametrize("kind", CASES)
def test_an_operator(kind: str) -> None:
    """Every node agrees in native and in portable arithmetic, or has a reason that the table counts."""
    operator = OPERATORS[kind]
    nodes = [*made_nodes(kind, operator.file), *stored_nodes(kind)]
    for arithmetic, absolute in ABSOLUTE.items():
        with fn.portable() if arithmetic == "portable" else nullcontext():
            found = Counter(outcome(node, operator.translate, absolute) for node in nodes)
        if tuple(map(int, onnx.__version__.split(".")[:2])) == COUNTED:
            assert found == Counter(operator.counts)
        else:
            assert set(found) <= set(operator.counts)
