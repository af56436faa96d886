"""Passes: forward and backward as mirror folds over a tuple of layers.

A network is a layer or a tuple of networks; its gradient is a network of the same type.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias, TypeVar, cast

import numpy as np

from funcnet.arithmetic import in_force, using
from funcnet.core.arrays import ARRAY_TYPES, Array, Input, contiguous
from funcnet.core.checks import INFINITY, check_array, check_callable, check_count, to_python
from funcnet.core.errors import ConfigError, DTypeError, NonFiniteError, StructureError, quoted
from funcnet.core.records import check_nesting
from funcnet.core.trees import first_trained, leaves
from funcnet.network.layer import Layer, N, Network, Pullback, Shape, checked_pair, entering, rule_of
from funcnet.network.loss import Loss, weighted_loss
from funcnet.tracing import attempt
from funcnet.tracing.replay import replayed_call

T = TypeVar("T")


def forward(params: Network, x: Input) -> Array:
    """The network's output. Shapes: x (B, ...), result (B, ...).

    x holds float32 or float64 numbers, or integers if the first layer takes ids, as ``Embedding`` does.

    ``forward(a + b, x)`` equals ``forward(b, forward(a, x))`` bit for bit, and ``forward((), x)`` is ``x``.

    Raises:
        FuncnetError: If an array does not fit a layer; the message names the layer.

    Example:
        >>> from funcnet.layers.dense import Dense
        >>> forward(Dense(weight=np.array([[2.0]]), bias=np.array([1.0])), np.array([[3.0]]))
        array([[7.]])
    """
    if isinstance(params, tuple):
        check_nesting("forward", params)
    with np.errstate(all="ignore"):  # Overflow gives inf here; callers check.
        return _forward(params, contiguous(x))


def _forward(params: Network, x: Array) -> Array:
    if not isinstance(params, tuple):
        return attempt(rule_of(params).forward, params, x)
    for position, layer in enumerate(params):
        with entering(position):
            x = _forward(layer, x)
    return x


def activations(params: tuple[Network, ...], x: Input) -> list[Array]:
    """The output of every top-level element, in order; the last one is the network's output.

    Example:
        >>> from funcnet.layers.activations import ReLU, Tanh
        >>> activations((ReLU(), Tanh()), np.array([[-1.0, 0.0]]))
        [array([[0., 0.]]), array([[0., 0.]])]
    """
    if not isinstance(params, tuple):
        raise StructureError(f"params must be a tuple of networks, got {quoted(params)}", subject="activations")
    check_nesting("activations", params)
    outputs: list[Array] = []
    for position, layer in enumerate(params):
        with entering(position):
            outputs.append(forward(layer, outputs[-1] if outputs else x))
    return outputs


def vjp(params: N, x: Input) -> tuple[Array, Pullback[N]]:
    """Run the network and return its output and its pullback (vector-Jacobian product).

    ``y, pull = vjp(params, x)``; ``grad_x, grad_params = pull(g)``.

    The pullback is pure. It uses the arithmetic that was in force for the forward pass, and each layer's input, which
    the forward pass stored. ``params_only(g)`` stops at the first layer with trained parameters.

    Shapes: x (B, ...), y and g (B, ...), grad_x like x, grad_params like params. If x holds ids, grad_x is 0.

    Example:
        >>> from funcnet.layers.activations import Tanh
        >>> y, pull = vjp(Tanh(), np.array([[0.0]]))
        >>> y, pull(np.array([[3.0]]))
        (array([[0.]]), (array([[3.]]), Tanh()))
    """
    if isinstance(params, tuple):
        check_nesting("vjp", params)
    with np.errstate(all="ignore"):
        y, inputs = _remembering(params, contiguous(x))
    arithmetic = in_force()

    def checked(g: Array) -> Array:
        if y.dtype.kind != "f":  # without a layer, the output is x
            reason = f"the output must be float32 or float64 to have a gradient, got {y.dtype}"
            raise DTypeError(f"{reason}; for ids, put an Embedding first", subject="backward")
        check_array("backward", "g", g, y.shape, dtype=y.dtype, match=("the output", y))
        # BLAS uses a different kernel for the product of an array with itself; with a copy, g is never x.
        return g.copy()

    def both(g: Array) -> tuple[Array, N]:
        with using(arithmetic), np.errstate(all="ignore"):
            return cast("tuple[Array, N]", _backward(params, inputs, checked(g)))

    def params_only(g: Array) -> N:
        with using(arithmetic), np.errstate(all="ignore"):
            return cast("N", _backward_by_params(params, inputs, checked(g)))

    return y, Pullback(both, params_only)


Inputs: TypeAlias = "Array | tuple[Inputs, ...]"
"""The input of each layer, nested like the network."""


def _remembering(params: Network, x: Array) -> tuple[Array, Inputs]:
    """The network's output and the input of each layer."""
    if not isinstance(params, tuple):
        return attempt(rule_of(params).forward, params, x), x
    inputs: list[Inputs] = []
    for position, layer in enumerate(params):
        with entering(position):
            x, remembered = _remembering(layer, x)
        inputs.append(remembered)
    return x, tuple(inputs)


def _backward(params: Network, inputs: Inputs, g: Array) -> tuple[Array, Network]:
    """Call each layer's backward, from the last layer to the first."""
    if not isinstance(params, tuple):
        return checked_pair(params, attempt(rule_of(params).backward, params, cast("Array", inputs), g))
    g, grads = _backward_from(0, params, inputs, g)
    return g, tuple(grads)


def _backward_by_params(params: Network, inputs: Inputs, g: Array) -> Network:
    """``_backward`` without the gradient by x; it stops at the first trained layer."""
    if not isinstance(params, tuple):
        return _backward(params, inputs, g)[1]
    first = first_trained(params)
    if first == len(params):
        return params
    g, grads = _backward_from(first + 1, params, inputs, g)
    with entering(first):
        return (*params[:first], _backward_by_params(params[first], inputs[first], g), *grads)


def _backward_from(first: int, params: tuple[Network, ...], inputs: Inputs, g: Array) -> tuple[Array, list[Network]]:
    """Go back from the last layer to ``first``; return the gradient by its input, and all their gradients in order."""
    grads: list[Network] = []
    for position in reversed(range(first, len(params))):
        with entering(position):
            g, grad = _backward(params[position], inputs[position], g)
        grads.append(grad)
    grads.reverse()
    return g, grads


def output_shape(params: Network, shape: Shape) -> Shape:
    """The shape of the network's output for one row, without computing it. Shapes exclude the batch.

    Raises:
        ConfigError: If the shape is not a tuple of positive sizes.
        ShapeError: If such a row does not fit a layer; the message names the layer.

    Example:
        >>> import funcnet as fn
        >>> output_shape(fn.mlp(fn.Key(0), (784, 100, 10)), (784,))
        (10,)
    """
    shape = check_shape(shape)
    check_nesting("output_shape", params)
    return row_shape(params, shape)


def check_shape(shape: Shape) -> Shape:
    """Check that a shape of rows is a tuple of positive sizes, and return it with Python ints.

    Raises:
        ConfigError: If it is not.
    """
    shape = to_python(shape)
    if not isinstance(shape, tuple):
        fix = f"; use ({shape},)" if isinstance(shape, int) else ""
        raise ConfigError(f"shape must be a tuple of sizes without the batch, got {shape!r}{fix}")
    for size in shape:
        check_count("", "a size in shape", size)
    return shape


def row_shape(params: Network, shape: Shape) -> Shape:
    """``output_shape`` of arguments that have been checked."""
    if isinstance(params, tuple):
        for position, layer in enumerate(params):
            with entering(position):
                shape = row_shape(layer, shape)
        return shape
    rule = rule_of(params)
    if rule.output_shape is not None:
        return rule.output_shape(params, shape)
    dtype = next((leaf.array.dtype for leaf in leaves(params)), np.dtype(np.float32))
    return rule.forward(params, np.zeros((0, *shape), dtype)).shape[1:]  # The batch is empty.


def backward(params: N, x: Input, g: Array) -> tuple[Array, N]:
    """The gradients of ``<g, forward(params, x)>`` by x and by every parameter.

    It is the chain rule: each layer's backward maps g, the gradient by its output, to the gradient by its input, which
    is the g of the layer before. Shapes: x (B, ...), g like the output, grad_x like x; grad_params has params' type.
    Ids are not differentiated: if x holds ids, grad_x is 0 in the dtype of the layer.

    A layer that behaves differently in training, such as Dropout, is differentiated in the form that it has: for the
    gradient of a training step, pass ``training(net, key)``.

    Raises:
        FuncnetError: If x does not fit a layer, or g does not fit the output.

    Example:
        >>> from funcnet.layers.dense import Dense
        >>> layer = Dense(weight=np.array([[2.0]]), bias=np.array([1.0]))
        >>> grad_x, grad = backward(layer, np.array([[3.0]]), np.array([[1.0]]))
        >>> grad_x, grad.weight, grad.bias
        (array([[2.]]), array([[3.]]), array([1.]))

        Dropout passes g unchanged in its plain form; in its training form, it drops and scales elements:

        >>> import funcnet as fn
        >>> net, x = (fn.Dropout(0.5),), np.ones((1, 4))
        >>> backward(net, x, x)[0], backward(fn.training(net, fn.Key(0)), x, x)[0]
        (array([[1., 1., 1., 1.]]), array([[2., 0., 0., 2.]]))
    """
    return vjp(params, x)[1](g)


def layers_of(params: Network, path: str = "") -> Iterator[tuple[str, Layer]]:
    """The layers of nested tuples in order, each with its path; a combinator is one layer.

    Example:
        >>> import funcnet as fn
        >>> list(layers_of((fn.ReLU(), (fn.Tanh(),))))
        [('0', ReLU()), ('1.0', Tanh())]
    """
    if isinstance(params, tuple):
        for position, layer in enumerate(params):
            yield from layers_of(layer, f"{path}.{position}" if path else str(position))
    else:
        yield path, params


def value_and_grad(params: N, x: Input, y: T, loss: Loss[T], weight: Array | None = None) -> tuple[float, N]:
    """The loss of the network on one batch, and its gradient by every parameter, a network of the type of params.

    Shapes: x (B, ...), y (B, ...) as the loss requires, weight (B,), or the shape of y or its first axes, or None.

    The loss is that of the network in the form that it has. With a plain network, Dropout is off and BatchNorm uses its
    calibrated statistics, as in evaluation. In your own training step, pass ``training(net, key)`` with a
    different key in each step, as ``train_step`` does; the gradient fits the plain network.

    Raises:
        NonFiniteError: If the loss is NaN or infinite.
        ConfigError: If weights are given but the loss takes no weights, or all weights are 0. Your own training step
            leaves out such a batch, as ``train_step`` does.
        FuncnetError: If an array does not fit.

    Example:
        >>> import funcnet as fn
        >>> net = fn.mlp(fn.Key(0), (2, 3))
        >>> x, y = np.zeros((1, 2), np.float32), np.array([1])
        >>> loss, grad = value_and_grad(net, x, y, fn.softmax_cross_entropy)
        >>> round(loss, 4), grad[0].bias.round(2)
        (1.0986, array([ 0.33, -0.67,  0.33], dtype=float32))

        A training step of a network with Dropout:

        >>> net, key = (fn.Dropout(0.5), *net), fn.Key(1)
        >>> def step(state, batch):
        ...     net, number = state
        ...     in_training = fn.training(net, key.child("step", number))
        ...     loss, grad = fn.value_and_grad(in_training, batch.x, batch.y, fn.softmax_cross_entropy)
        ...     return (fn.sgd_update(net, grad, learning_rate=0.1), number + 1), loss
        >>> (net, steps), loss = step((net, 0), fn.Batch(x, y))
        >>> net[0], steps
        (Dropout(rate=0.5, key=None), 1)
    """
    check_callable("value_and_grad", "loss", loss)
    check_nesting("value_and_grad", params)
    return replayed_call(loss_and_grad, params, x, y, loss, weight, context=in_force())


def loss_and_grad(params: N, x: Input, y: T, loss: Loss[T], weight: Array | None = None) -> tuple[float, N]:
    """``value_and_grad`` for callers that have already silenced floating-point warnings, such as a step in a fold."""
    prediction, inputs = _remembering(params, contiguous(x))
    value, g = weighted_loss(loss, prediction, y, weight)
    if not -INFINITY < value < INFINITY:
        raise NonFiniteError(f"the loss is {value}; the learning rate may be too high, or the logits too large")
    if type(g) not in ARRAY_TYPES or g.shape != prediction.shape or g.dtype != prediction.dtype:
        check_array("the loss", "its gradient", g, prediction.shape, dtype=prediction.dtype)
    return value, cast("N", _backward_by_params(params, inputs, contiguous(g)))
