"""ONNX: a network as an ONNX model, which onnxruntime and other runtimes compute without Python.

``onnx_graph`` builds the graph of a model; the forms of the layers are in ``onnx_layers``, ``onnx_images``,
``onnx_sequences`` and ``onnx_recurrent``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

import numpy as np

from funcnet.core.checks import check_finite, to_python
from funcnet.core.errors import ConfigError, DTypeError, ShapeError, quoted
from funcnet.core.records import check_tree
from funcnet.core.trees import leaves
from funcnet.interop import onnx_images, onnx_layers, onnx_recurrent, onnx_sequences
from funcnet.interop.onnx_graph import OnnxGraph, add_metadata, check_model, join_shapes, new_model, register_onnx
from funcnet.interop.onnx_layers import logistic
from funcnet.layers.embedding import takes_ids
from funcnet.network.layer import Network, Shape
from funcnet.network.modes import check_evaluation
from funcnet.network.passes import check_shape, output_shape
from funcnet.network.tasks import Binary, Multiclass, Multilabel, ProbabilityTask, check_task
from funcnet.runs.environment import environment
from funcnet.runs.fingerprints import fingerprint

if TYPE_CHECKING:
    from onnx import ModelProto

__all__ = ["OnnxGraph", "register_onnx", "to_onnx"]

for _forms in (onnx_layers.FORMS, onnx_images.FORMS, onnx_sequences.FORMS, onnx_recurrent.FORMS):
    for _record, _emit in _forms.items():
        register_onnx(_record, _emit)

LARGEST: Final = 128
"""The largest size that is tried for an axis of any size."""

MOST_BYTES: Final = 2**31 - 2**20
"""The largest size of arrays in a model: a message of Protocol Buffers has at most 2 GiB."""


def to_onnx(
    net: Network, input_shape: tuple[int | str, ...], *, probabilities: bool | ProbabilityTask = False
) -> ModelProto:
    """The network as an ONNX model; ``onnx.save(model, path)`` writes it to a file.

    The model maps ``x`` with shape ``("B", *input_shape)``, for any batch size B, to ``y``. Both have the dtype of the
    network, or float32 if it has no arrays; ids for an ``Embedding`` are int64. Arrays keep their names, such as
    ``0.weight``; equal ones are stored once. Kernels have ONNX's layout, (O, C, KH, KW), and so have the gates of
    recurrent layers. The metadata of the model are ``funcnet.fingerprint``, which is ``fn.fingerprint(net)``, and
    ``funcnet.version``.

    **The bits of the outputs are those of the runtime, not those of funcnet.** On inputs around 0, the outputs of
    onnxruntime differ by about 1e-7 to 1e-6 of the largest output in float32, and by about 1e-15 in float64. GELU far
    below 0, where its values are tiny, has fewer correct digits.

    Args:
        net: The network in its plain form; a BatchNorm in it is calibrated.
        input_shape: The shape of the input's rows, without the batch: ``(784,)``, ``(28, 28, 1)``. A text in place of a
            size is the name of an axis of any size: ``("T",)`` for sequences of ids, ``("T", 16)`` for steps of 16
            numbers.
        probabilities: False for the outputs of the network. A task, ``Multiclass()``, ``Binary()`` or ``Multilabel()``,
            for the probabilities that ``predict_proba(net, x, task)`` returns. True means ``Multiclass()``.

    Raises:
        ConfigError: If a layer is in its training form, has no statistics, or has no ONNX form; if the network is
            float64 and onnxruntime does not have an operator for float64: GELU, convolutions, AvgPool2D and recurrent
            layers; if an axis has a name and the nodes depend on its size; if a layer has a mask without ``Masked``; if
            the arrays take 2 GiB, which is ONNX's limit; if the task has no ONNX form; or if onnx refuses the nodes of
            a layer.
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
    first, *others = (_model(net, shape, dtype, probabilities) for shape in _shapes(net, input_shape))
    for longer in others:
        join_shapes(first, longer, [size if isinstance(size, str) else "" for size in input_shape])
    add_metadata(first, {"funcnet.fingerprint": fingerprint(net), "funcnet.version": environment().funcnet})
    check_model(first)
    return first


def _model(net: Network, shape: Shape, dtype: np.dtype[np.floating], probabilities: object) -> ModelProto:
    """The model for rows of a shape, without its metadata."""
    out = output_shape(net, shape)
    task = _task_of(probabilities, out)
    model = new_model("funcnet", environment().funcnet)
    graph = OnnxGraph(model, dtype)
    y = graph.network(net, "x", shape)
    if task is not None:
        y, out = _add_probabilities(graph, task, y, out)
    graph.end(y, shape, out, ids=takes_ids(net))
    return model


def _shapes(net: Network, given: tuple[int | str, ...]) -> list[Shape]:
    """The shape of x's rows; if axes have names, two shapes whose sizes there are small and differ by 1."""
    names = [size for size in given if isinstance(size, str)] if isinstance(given, tuple) else []
    if not names:
        return [check_shape(cast("Shape", given))]
    if len({*names, "", "B", "x", "y"}) < len(names) + 4:
        wanted = "the names of axes must be different and not empty; 'B', 'x' and 'y' are taken"
        raise ConfigError(f"{wanted}, got input_shape {given!r}", subject="to_onnx")
    refusal: ShapeError | None = None
    for size in range(1, LARGEST):
        try:
            return [_sized(net, given, size), _sized(net, given, size + 1)]
        except ShapeError as error:
            refusal = error
    raise ShapeError(f"the network takes no sizes below {LARGEST} for {given!r}: {refusal}", subject="to_onnx")


def _sized(net: Network, given: tuple[int | str, ...], size: int) -> Shape:
    """The shape with a size for each axis that has a name, after a check that the network takes it."""
    shape = check_shape(tuple(size if isinstance(each, str) else each for each in given))
    output_shape(net, shape)
    return shape


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
    if not shape or shape[-1] < 2:
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
    y = graph.op("Softmax", y) if type(task) is Multiclass else logistic(graph, y)
    return y if wanted == shape else graph.op("Squeeze", y, graph.constant((-1,), "axes")), wanted
