"""Modes as data: the plain network is the evaluation network; ``training`` makes the training one, of the same type."""

from __future__ import annotations

from typing import cast

from attrs import evolve

from funcnet.errors import ConfigError, FuncnetError
from funcnet.keys import Key, check_key
from funcnet.layer import N, Network, rule_of
from funcnet.records import fields_of


def training(params: N, key: Key) -> N:
    """The network as it is in training: each layer that draws has a key of its own, a child of ``key`` by its position.

    A network that draws nothing is returned as it is.

    Example:
        >>> import funcnet as fn
        >>> fn.training((fn.ReLU(), fn.Dropout(0.5)), fn.Key(7))
        (ReLU(), Dropout(rate=0.5, key=Key(7, 1)))
    """
    check_key("training", key)
    return cast("N", _training(params, key)) if draws(params) else params


def _training(params: Network, key: Key) -> Network:
    if isinstance(params, tuple):
        return tuple(_training(layer, key.child(position)) for position, layer in enumerate(params))
    with_key = rule_of(params).with_key
    keyed = params if with_key is None else with_key(params, key)
    inner = {name: _training(getattr(keyed, name), key.child(name)) for name in fields_of(type(keyed)).networks}
    return evolve(keyed, **inner) if inner else keyed


def draws(params: Network) -> bool:
    """Whether a layer of the network draws in training."""
    if isinstance(params, tuple):
        return any(_draws_at(position, layer) for position, layer in enumerate(params))
    if rule_of(params).with_key is not None:
        return True
    return any(draws(getattr(params, name)) for name in fields_of(type(params)).networks)


def _draws_at(position: int, layer: Network) -> bool:
    try:
        return draws(layer)
    except FuncnetError as error:
        error.enter(position)
        raise


def check_keyed(params: Network, subject: str) -> None:
    """Check that every layer that draws in training has its key.

    Raises:
        ConfigError: Names the layer that has none.
    """
    if isinstance(params, tuple):
        for position, layer in enumerate(params):
            try:
                check_keyed(layer, subject)
            except FuncnetError as error:
                error.enter(position)
                raise
        return
    if rule_of(params).with_key is not None and getattr(params, "key", None) is None:
        fix = "use train_step and TrainState.create(net, optimizer, key=...), or give training(net, key)"
        raise ConfigError(f"{subject} has no key to draw from; {fix}", subject=type(params).__name__)
    for name in fields_of(type(params)).networks:
        check_keyed(getattr(params, name), subject)
