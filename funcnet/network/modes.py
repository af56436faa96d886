"""Modes as data: the plain network is the evaluation network; ``training`` makes the training one, of the same type."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import numpy as np

from funcnet.core.arrays import Array, contiguous
from funcnet.core.checks import check_array
from funcnet.core.errors import ConfigError, FuncnetError, ShapeError
from funcnet.core.records import evolve, fields_of, replace_unchecked
from funcnet.network.layer import Layer, N, Network, Rule, entering, rule_of
from funcnet.network.passes import forward
from funcnet.random.keys import Key, check_key


def training(params: N, key: Key) -> N:
    """The network as it is in training: each layer that draws has a key of its own, a child of ``key`` by its position.

    A network that is no other in training is returned as it is.

    Example:
        >>> import funcnet as fn
        >>> fn.training((fn.ReLU(), fn.Dropout(0.5)), fn.Key(7))
        (ReLU(), Dropout(rate=0.5, key=Key(7, 1)))
    """
    check_key("training", key)
    return cast("N", _training(params, key)) if has_modes(params) else params


def _training(params: Network, key: Key) -> Network:
    if isinstance(params, tuple):
        return tuple(_training_at(layer, key, position) for position, layer in enumerate(params))
    hook = rule_of(params).training
    changed = params if hook is None else hook(params, key)
    inner = {name: _training_at(getattr(changed, name), key, name) for name in fields_of(type(changed)).networks}
    return evolve(changed, **inner) if inner else changed


def _training_at(params: Network, key: Key, part: int | str) -> Network:
    return _training(params, key.child(part)) if has_modes(params) else params


def has_modes(params: Network) -> bool:
    """Whether a layer of the network is another one in training."""
    return any(rule.training is not None for _, _, rule in _layers(params))


def repetition(params: N, number: int) -> N:
    """The network as it is in one of several uses of it in one pass: each key is the use's own child of what it was.

    Only layers in their training form have keys that count; others, and every array, are the network's own.
    """
    return cast("N", _repeated(params, number)) if has_modes(params) else params


def _repeated(params: Network, number: int) -> Network:
    if isinstance(params, tuple):
        return tuple(_repeated(layer, number) for layer in params)
    rule, fields = rule_of(params), fields_of(type(params))
    changes: dict[str, Any] = {name: _repeated(getattr(params, name), number) for name in fields.networks}
    if rule.training is not None and rule.is_training(params):
        values = {name: getattr(params, name) for name in fields.structure}
        keys = {name: value for name, value in values.items() if isinstance(value, Key)}
        changes |= {name: key.child("repetition", number) for name, key in keys.items()}
    return replace_unchecked(params, changes) if changes else params


def check_evaluation(params: Network, subject: str) -> None:
    """Check that every layer is in its plain form, with its statistics: that it can evaluate, for good.

    Raises:
        ConfigError: Names the layer that is not.
    """
    for path, layer, rule in _layers(params):
        if rule.is_training(layer):
            raise _at(path, layer, f"{subject} needs it in its plain form, got {layer!r}; give the plain network")
        missing = [name for name in fields_of(type(layer)).statistics if getattr(layer, name) is None]
        if rule.calibrated is not None and missing:
            raise _at(path, layer, f"{subject} needs its {missing[0]}, got {layer!r}; give calibrate(net, x)")


def check_training(params: Network, subject: str) -> None:
    """Check that every layer that is another one in training is that one.

    Raises:
        ConfigError: Names the layer that is not.
    """
    for path, layer, rule in _layers(params):
        if rule.training is not None and not rule.is_training(layer):
            fix = "use train_step and TrainState.create(net, optimizer, key=...), or give training(net, key)"
            raise _at(path, layer, f"{subject} needs it in its training form, got {layer!r}; {fix}")


def calibrate(params: N, x: Array) -> N:
    """The network with the statistics of what reaches each layer when x goes in: what ``BatchNorm`` evaluates with.

    Each layer gets what the ones before, calibrated already, make of x. All rows go through at once: the memory is that
    of the largest layer's output. The statistics are summed in float64. Training changes what they stand for: calibrate
    after it, and again after more of it.

    Args:
        params: The network. A layer with statistics may be in its training form; it comes back in its plain one.
        x: The rows, such as the training set's or a thousand of them, shape (N, ...).

    Raises:
        ConfigError: If another layer is in its training form, or a combinator does not say what reaches its inside.
        ShapeError: If there is no row, or x does not fit a layer.
        NonFiniteError: If a statistic is not finite.

    Example:
        >>> import funcnet as fn
        >>> net = fn.calibrate((fn.batch_norm(2),), np.array([[1, 10], [3, 30]], np.float32))
        >>> net[0].mean, net[0].variance
        (array([ 2., 20.], dtype=float32), array([  1., 100.], dtype=float32))
    """
    check_array("calibrate", "x", x, ("N", "..."))
    if not len(x):
        raise ShapeError(f"x must have at least one row, got {x.shape}", subject="calibrate")
    for path, layer, rule in _layers(params):
        if rule.calibrated is None and rule.is_training(layer):
            raise _at(path, layer, f"calibrate needs it in its plain form, got {layer!r}; give the plain network")
    if not calibrates(params):
        return params
    with np.errstate(all="ignore"):  # a statistic that is not finite is refused
        return cast("N", _calibrated(params, contiguous(x))[0])


def _calibrated(params: Network, x: Array) -> tuple[Network, Array]:
    """The calibrated network, and its output."""
    if isinstance(params, tuple):
        layers: list[Network] = []
        for position, inner in enumerate(params):
            with entering(position):
                layer, x = _calibrated(inner, x)
            layers.append(layer)
        return tuple(layers), x
    hook = rule_of(params).calibrated
    if hook is None and calibrates(params):
        fix = "give register_layer calibrated="
        raise ConfigError(f"what reaches its inner network is not known; {fix}", subject=type(params).__name__)
    changed = params if hook is None else hook(params, x)
    return changed, forward(changed, x)


def calibrates(params: Network) -> bool:
    """Whether a layer of the network takes statistics of what reaches it."""
    return any(rule.calibrated is not None and fields_of(type(layer)).statistics for _, layer, rule in _layers(params))


def _layers(params: Network, path: tuple[int, ...] = ()) -> Iterator[tuple[tuple[int, ...], Layer, Rule[Any]]]:
    """Every layer, with its path and its rule; combinators before what is inside."""
    if isinstance(params, tuple):
        for position, inner in enumerate(params):
            yield from _layers(inner, (*path, position))
        return
    try:
        rule = rule_of(params)
    except FuncnetError as error:
        error.path = path
        raise
    yield path, params, rule
    for name in fields_of(type(params)).networks:
        yield from _layers(getattr(params, name), path)


def _at(path: tuple[int, ...], layer: Layer, message: str) -> ConfigError:
    error = ConfigError(message, subject=type(layer).__name__)
    error.path = path
    return error
