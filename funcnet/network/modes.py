"""Modes as data: ``training`` returns the training network, ``plain`` the evaluation network, of the same type."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final, cast

import attrs
import numpy as np

from funcnet.core.arrays import Array, Input, contiguous
from funcnet.core.checks import check_input
from funcnet.core.errors import ConfigError, FuncnetError, ShapeError
from funcnet.core.records import check_nesting, check_tree, evolve, fields_of, replace_unchecked
from funcnet.core.trees import equal
from funcnet.network.layer import L, Layer, N, Network, Rule, entering, rule_of
from funcnet.network.passes import forward
from funcnet.random.keys import Key, check_key

_NO_VALUES: Final[tuple[type, ...]] = (type(attrs.NOTHING), type(attrs.Factory(tuple)))


def training(params: N, key: Key) -> N:
    """The network in its training form. Each layer that draws has its own key, a child of ``key`` by its position.

    A network without such layers is returned unchanged.

    Example:
        >>> import funcnet as fn
        >>> fn.training((fn.ReLU(), fn.Dropout(0.5)), fn.Key(7))
        (ReLU(), Dropout(rate=0.5, key=Key(7, 1)))
    """
    check_tree("training", params)
    check_key("training", key)
    return cast("N", _training(params, key)) if _has_modes(params) else params


def _training(params: Network, key: Key) -> Network:
    if isinstance(params, tuple):
        return tuple(_training_at(layer, key, position) for position, layer in enumerate(params))
    hook = rule_of(params).training
    changed = params if hook is None else hook(params, key)
    inner = {name: _training_at(getattr(changed, name), key, name) for name in fields_of(type(changed)).networks}
    return evolve(changed, **inner) if inner else changed


def _training_at(params: Network, key: Key, part: int | str) -> Network:
    return _training(params, key.child(part)) if _has_modes(params) else params


def plain(params: N) -> N:
    """The network in its plain form, which evaluates: the inverse of ``training``.

    ``plain(training(net, key))`` equals ``net`` in every bit. Parameters and statistics are kept, so this is the way
    from a network that was trained in its training form to predictions. A plain network is returned unchanged.

    Raises:
        ConfigError: If the plain form of your own layer is unknown; see ``plain`` of ``register_layer``.

    Example:
        >>> import funcnet as fn
        >>> net = fn.training((fn.ReLU(), fn.Dropout(0.5)), fn.Key(7))
        >>> plain(net)
        (ReLU(), Dropout(rate=0.5, key=None))
    """
    check_nesting("plain", params)
    return cast("N", _plain(params)) if in_training(params) else params


def _plain(params: Network) -> Network:
    if isinstance(params, tuple):
        layers: list[Network] = []
        for position, inner in enumerate(params):
            with entering(position):
                layers.append(_plain(inner))
        return tuple(layers)
    networks = {name: _plain(getattr(params, name)) for name in fields_of(type(params)).networks}
    changed = evolve(params, **networks) if networks else params
    rule = rule_of(params)
    if rule.training is None or not rule.is_training(params):
        return changed
    layer = _returned(changed, rule.training) if rule.plain is None else rule.plain(changed)
    if rule.is_training(layer):
        raise _no_way_back(params)
    return layer


def _returned(layer: L, training: Callable[[L, Key], L]) -> L:
    """The layer with the fields that ``training`` sets at their defaults, if that is the inverse of ``training``."""
    defaults = _defaults(type(layer))
    keys = {name: value for name in defaults if isinstance(value := getattr(layer, name), Key)}
    try:
        end = training(evolve(layer, **defaults), Key(0))
        returned = evolve(layer, **{name: value for name, value in defaults.items() if getattr(end, name) != value})
        again = evolve(training(returned, Key(0)), **keys)
    except FuncnetError:
        raise _no_way_back(layer) from None
    if not equal(again, layer):
        raise _no_way_back(layer)
    return returned


def _defaults(record: type[Layer]) -> dict[str, object]:
    """The default of each setting that has one; a setting without one that may be None has the default None."""
    fields, found = fields_of(record), {a.name: cast("object", a.default) for a in attrs.fields(record)}
    found |= {name: None for name in fields.optional if found[name] is attrs.NOTHING}
    return {name: found[name] for name in fields.structure if not isinstance(found[name], _NO_VALUES)}


def _no_way_back(layer: Layer) -> ConfigError:
    kind = type(layer).__name__
    fix = "pass plain= to register_layer, a function that returns the layer that training was called with"
    return ConfigError(f"its plain form is unknown; {fix}", subject=kind)


def in_training(params: Network) -> bool:
    """Whether a layer of the network is in its training form."""
    return any(rule.is_training(layer) for _, layer, rule in _layers(params))


def has_modes(params: Network) -> bool:
    """Whether a layer of the network behaves differently in training."""
    check_nesting("", params)
    return _has_modes(params)


def _has_modes(params: Network) -> bool:
    return any(rule.training is not None for _, _, rule in _layers(params))


def repetition(params: N, number: int) -> N:
    """The network for one repetition of ``Repeat``: each key is replaced by a child key.

    Therefore every repetition draws independently. Only keys of layers in their training form are replaced; the arrays
    and the other layers are those of the network.
    """
    return cast("N", _repeated(params, number)) if _has_modes(params) else params


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
    """Check that every layer is in its plain form and has its statistics, so that the network can evaluate.

    Raises:
        ConfigError: If a layer is not; the message names the layer.
    """
    check_plain_form(params, subject)
    for path, layer, rule in _layers(params):
        missing = [name for name in _measured(layer) if getattr(layer, name) is None]
        if rule.calibrated is not None and missing:
            raise _at(path, layer, f"{subject} needs the layer's {missing[0]}, got {layer!r}; pass calibrate(net, x)")


def check_plain_form(params: Network, subject: str) -> None:
    """Check that no layer is in its training form.

    Raises:
        ConfigError: If a layer is; the message names the layer.
    """
    check_nesting(subject, params)
    for path, layer, rule in _layers(params):
        if rule.is_training(layer):
            raise _at(path, layer, f"{subject} needs the layer in its plain form, got {layer!r}; use fn.plain(net)")


def check_training(params: Network, subject: str) -> None:
    """Check that every layer that behaves differently in training is in its training form.

    Raises:
        ConfigError: If a layer is not; the message names the layer.
    """
    check_nesting(subject, params)
    for path, layer in not_in_training(params):
        fix = "use train_step and TrainState.create(net, optimizer, key=...), or pass training(net, key)"
        raise _at(path, layer, f"{subject} needs the layer in its training form, got {layer!r}; {fix}")


def not_in_training(params: Network) -> Iterator[tuple[tuple[int, ...], Layer]]:
    """The layers, with their paths, that behave differently in training and are not in their training form."""
    for path, layer, rule in _layers(params):
        if rule.training is not None and not rule.is_training(layer):
            yield path, layer


def calibrate(params: N, x: Input) -> N:
    """The network with the statistics of each layer's input, which ``BatchNorm`` uses in evaluation.

    The network's input is x, and the input of a layer is the output of the calibrated layers before it. All rows are
    computed at once, so the memory is that of the largest layer's output. The statistics are summed in float64.
    Training changes the inputs of the layers: calibrate after training, and again after more training.

    Args:
        params: The network. A layer with statistics may be in its training form; it is returned in its plain form.
        x: The rows, for example the training set or a thousand rows of it, shape (N, ...).

    Raises:
        ConfigError: If a layer without statistics is in its training form, or a combinator does not define the input
            of its inner network.
        ShapeError: If x has no rows or does not fit a layer.
        NonFiniteError: If a statistic is not finite.

    Example:
        >>> import funcnet as fn
        >>> net = fn.calibrate((fn.batch_norm(2),), np.array([[1, 10], [3, 30]], np.float32))
        >>> net[0].mean, net[0].variance
        (array([ 2., 20.], dtype=float32), array([  1., 100.], dtype=float32))
    """
    check_tree("calibrate", params)
    check_input("calibrate", "x", x, "N")
    if not len(x):
        raise ShapeError(f"x must have at least one row, got {x.shape}", subject="calibrate")
    for path, layer, rule in _layers(params):
        if rule.calibrated is None and rule.is_training(layer):
            raise _at(path, layer, f"calibrate needs the layer in its plain form, got {layer!r}; use fn.plain(net)")
    if not calibrates(params):
        return params
    with np.errstate(all="ignore"):  # The layers refuse nonfinite statistics.
        return cast("N", _calibrated(params, contiguous(x))[0])


def _calibrated(params: Network, x: Array) -> tuple[Network, Array]:
    """The calibrated network and its output."""
    if isinstance(params, tuple):
        layers: list[Network] = []
        for position, inner in enumerate(params):
            with entering(position):
                layer, x = _calibrated(inner, x)
            layers.append(layer)
        return tuple(layers), x
    hook = rule_of(params).calibrated
    if hook is None and calibrates(params):
        fix = "pass calibrated= to register_layer"
        raise ConfigError(f"the input of its inner network is not known; {fix}", subject=type(params).__name__)
    changed = params if hook is None else hook(params, x)
    return changed, forward(changed, x)


def calibrates(params: Network) -> bool:
    """Whether a layer of the network has statistics of its input."""
    return any(rule.calibrated is not None and _measured(layer) for _, layer, rule in _layers(params))


def _measured(layer: Layer) -> list[str]:
    """The statistics of a layer that calibration sets: all but its masks."""
    fields = fields_of(type(layer))
    return [name for name in fields.statistics if name not in fields.masks]


def _layers(params: Network, path: tuple[int, ...] = ()) -> Iterator[tuple[tuple[int, ...], Layer, Rule[Any]]]:
    """Every layer with its path and its rule; a combinator comes before its inner layers."""
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
