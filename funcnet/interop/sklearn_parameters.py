"""The parameters of the estimators in ``sklearn.py`` as values: activations, layers, optimizers and losses."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from inspect import signature
from typing import Any, Final, Literal, TypeAlias, TypeVar, cast

import numpy as np

import funcnet as fn
from funcnet.core.checks import check_count, to_python
from funcnet.core.errors import plural
from funcnet.core.trees import same_values
from funcnet.network.loss import Loss

V = TypeVar("V")
Activation: TypeAlias = (
    Literal["identity", "logistic", "tanh", "relu", "gelu", "silu", "elu", "leaky_relu", "softplus"] | fn.Layer
)
OptimizerName: TypeAlias = Literal["sgd", "momentum", "nesterov", "adam", "rmsprop", "adagrad"]
RegressionLoss: TypeAlias = Literal["squared_error", "absolute_error", "huber", "poisson"] | Loss[fn.Array]
ClassWeight: TypeAlias = Mapping[str, float] | Mapping[int, float] | Literal["balanced"]
NetworkFactory: TypeAlias = Callable[[fn.Key, int, int], fn.Network]
"""``(key, in_size, out_size) -> network``."""

ACTIVATIONS: Final[Mapping[str, fn.Layer]] = {
    "identity": fn.Identity(),
    "logistic": fn.Sigmoid(),
    "tanh": fn.Tanh(),
    "relu": fn.ReLU(),
    "gelu": fn.GELU(),
    "silu": fn.SiLU(),
    "elu": fn.ELU(),
    "leaky_relu": fn.LeakyReLU(),
    "softplus": fn.Softplus(),
}
OPTIMIZERS: Final[Mapping[str, Callable[..., fn.Optimizer]]] = {
    "sgd": fn.SGD,
    "momentum": fn.Momentum,
    "nesterov": fn.Nesterov,
    "adam": fn.Adam,
    "rmsprop": fn.RMSprop,
    "adagrad": fn.Adagrad,
}
REGRESSION_LOSSES: Final[Mapping[str, Loss[fn.Array]]] = {
    "squared_error": fn.mean_squared_error,
    "absolute_error": fn.mean_absolute_error,
    "huber": fn.huber,
    "poisson": fn.poisson,
}
ADVICE: Final[Mapping[str, str]] = {
    "sigmoid": "the name is 'logistic'",
    "swish": "the name is 'silu'",
    "adamw": "use fn.AdamW(learning_rate=0.001)",
    "cross_entropy": "the name is 'log_loss'",
    "mse": "the name is 'squared_error'",
    "mae": "the name is 'absolute_error'",
}
"""What to use instead of other libraries' names."""
RATE: Final = 0.001
"""The default learning rate."""
KEPT: Final = (
    *("hidden_layer_sizes", "activation", "network", "dropout", "standardize", "scale_target", "loss"),
    *("optimizer", "learning_rate", "weight_decay", "random_state", "portable", "dtype"),
)
"""The parameters that a run keeps: a change of them would have no effect on it."""


def canonical(value: object) -> object:
    """Return the value of a parameter in one form: numbers of Python, tuples, and ``np.dtype``."""
    given: Any = value
    if isinstance(given, np.ndarray):
        given = given.tolist()
    if isinstance(given, list | tuple | range):
        return tuple(canonical(each) for each in cast("Sequence[object]", given))
    return np.dtype(given) if any(given is each for each in (np.float32, np.float64)) else to_python(value)


def is_same(first: object, second: object) -> bool:
    """Return whether two canonical values mean the same; arrays in layers are compared bit by bit."""
    return bool(first is second or same_values(first, second) or first == second)


def named(subject: str, name: str, value: object, table: Mapping[str, V]) -> V:
    """Return the value that a name stands for; a value that is not a name stands for itself.

    Raises:
        ConfigError: If the table does not have the name. The message lists the names.
    """
    if not isinstance(value, str):
        return cast("V", value)
    if value not in table:
        wanted, advice = " or ".join(map(repr, table)), ADVICE.get(value.lower())
        fix = f"; {advice}" if advice else ""
        raise fn.ConfigError(f"{name} must be {wanted}, got {value!r:.80}{fix}", subject=subject)
    return table[value]


def multilayer_perceptron(
    subject: str,
    key: fn.Key,
    sizes: tuple[int, object, int],
    *,
    activation: object,
    dropout: object,
    dtype: fn.FloatDType,
) -> fn.Network:
    """Return ``fn.mlp`` with scikit-learn's initialization and, for each hidden layer, its activation and dropout.

    Args:
        subject: The estimator, for messages.
        key: The key of ``fn.mlp``.
        sizes: The input size, the hidden sizes, and the output size.
        activation: A name or a layer, or a list with one for each hidden layer.
        dropout: A rate, or a list with one for each hidden layer.
        dtype: np.float32 or np.float64.

    Raises:
        ConfigError: If a parameter is invalid.
    """
    inputs, hidden, outputs = sizes
    widths = _hidden_sizes(subject, hidden)
    activations = _for_each(subject, "activation", activation, len(widths))
    rates = _for_each(subject, "dropout", dropout, len(widths))
    uniform = fn.initializers.glorot_uniform
    first, *others = fn.mlp(key, (inputs, *widths, outputs), init=uniform, bias_init=uniform, dtype=dtype)[::2]
    layers = [first]
    for each, rate, dense in zip(activations, rates, others, strict=True):
        layers.append(named(subject, "activation", each, ACTIVATIONS))
        layers += [dense] if rate == 0 else [fn.Dropout(rate), dense]
    return tuple(layers)


def _hidden_sizes(subject: str, given: object) -> tuple[int, ...]:
    value = canonical(given)
    if not isinstance(value, int | tuple):  # an iterator would be empty in the next fit
        raise fn.ConfigError(f"hidden_layer_sizes must be an int or a list of ints, got {value!r:.80}", subject=subject)
    sizes = cast("tuple[object, ...]", value if isinstance(value, tuple) else (value,))
    return tuple(check_count(subject, "a size in hidden_layer_sizes", size) for size in sizes)


def _for_each(subject: str, name: str, value: object, count: int) -> Sequence[Any]:
    """Return the value of each hidden layer."""
    given = canonical(value)
    values = cast("tuple[object, ...]", given if isinstance(given, tuple) else (given,) * count)
    if len(values) != count:
        wanted = f"one value, or one for each of the {count} hidden layers"
        raise fn.ConfigError(f"{name} must be {wanted}, got {plural(len(values), 'value')}", subject=subject)
    return values


def made(
    subject: str, network: NetworkFactory, key: fn.Key, sizes: tuple[int, int], *, dtype: fn.FloatDType
) -> fn.Network:
    """Return the network of a factory.

    Raises:
        ConfigError: If it is not a function of a key and two sizes, or if its network does not have these input and
            output sizes, or the dtype.
    """
    inputs, outputs = sizes
    _check_factory(subject, network, (key, inputs, outputs))
    net, call = network(key, inputs, outputs), f"network(key, {inputs}, {outputs})"
    shape = fn.output_shape(net, (inputs,))
    if shape != (outputs,):
        wanted = f"must map rows ({inputs},) to rows ({outputs},)"
        raise fn.ConfigError(f"{call} {wanted}, got rows {shape}", subject=subject)
    others = {array.dtype for array in fn.trained_arrays(net)} - {np.dtype(dtype)}
    if others:
        got = others.pop()
        fix = f"set the estimator's dtype=np.{got}"
        raise fn.ConfigError(f"{call} must be {np.dtype(dtype)}, got {got}; {fix}", subject=subject)
    return net


def _check_factory(subject: str, network: object, arguments: tuple[fn.Key, int, int]) -> None:
    given: Any = network
    fix = "use network=lambda key, inputs, outputs: fn.mlp(key, (inputs, 100, outputs))"
    if not callable(given):
        raise fn.ConfigError(
            f"network must be a function that makes a network, got {given!r:.80}; {fix}", subject=subject
        )
    try:
        signature(given).bind(*arguments)
    except TypeError as error:
        reason = f"network is called as network(key, inputs, outputs), which {given!r:.80} does not accept: {error}"
        raise fn.ConfigError(f"{reason}; {fix}", subject=subject) from error
    except ValueError:  # a function without a signature
        pass


def optimizer_of(subject: str, given: object, rate: float | fn.Schedule, decay: float) -> fn.Optimizer:
    """Return the optimizer of a name and a learning rate, or the given optimizer, with decoupled weight decay.

    Raises:
        ConfigError: If there is no such name, if the optimizer is a class, or if a learning rate is given beside an
            optimizer that has its own.
    """
    if isinstance(given, type):
        fix = f"use {given.__name__}(learning_rate=0.001)"
        raise fn.ConfigError(f"optimizer must be a name or an optimizer, got a class; {fix}", subject=subject)
    if isinstance(given, str):
        optimizer = named(subject, "optimizer", given, OPTIMIZERS)(learning_rate=rate)
    elif rate == RATE:
        optimizer = cast("fn.Optimizer", given)
    else:
        fix = "pass the rate to the optimizer, or give its name"
        raise fn.ConfigError(f"learning_rate has no effect on {given!r:.80}; {fix}", subject=subject)
    return fn.WeightDecay(optimizer, decay) if decay else optimizer
