"""Roles and traversals: how map, leaves, equal and cast treat a field with each annotation."""

from __future__ import annotations

from typing import Annotated, Any, Generic

import numpy as np
import pytest
from attrs import frozen
from networks import inputs

import funcnet as fn
from funcnet.core.arrays import FIXED
from funcnet.core.names import name_of
from funcnet.core.records import fields_of
from funcnet.core.trees import is_trained, leaves, map_decayed
from funcnet.network.layer import N

KEY = fn.Key(4)


@frozen(eq=False)
class Everything(fn.Layer, Generic[N]):
    """A record with a field of every role."""

    weight: fn.Weight
    bias: fn.Array
    slope: fn.Array | None
    mean: fn.Statistic
    valid: fn.Mask | None
    net: N
    any_net: fn.Network
    pair: tuple[fn.Layer, fn.Layer]
    frozen_net: Annotated[fn.Network, FIXED]
    rate: float = 0.5
    window: tuple[int, int] = (3, 3)


def everything(seed: int = 0) -> Everything[fn.Dense]:
    """Make an instance of it."""
    first, second, third, fourth = (fn.dense(fn.Key(seed).child(i), 2, 2) for i in range(4))
    ones = np.ones(2, np.float32)
    weight = inputs(fn.Key(seed), 2, 2, dtype=np.float32)
    return Everything(weight, ones, None, ones, None, first, (fn.ReLU(), second), (fn.ReLU(), third), (fourth,))


def test_roles_are_annotations() -> None:
    """Each field has the role that its annotation states."""
    fields = fields_of(Everything)
    assert fields.trained == ("weight", "bias", "slope")
    assert fields.decayed == {"weight"}
    assert fields.statistics == ("mean", "valid")
    assert fields.masks == ("valid",)
    assert fields.networks == ("net", "any_net", "pair")
    assert fields.fixed_networks == ("frozen_net",)
    assert fields.structure == ("rate", "window")


def test_a_new_array_is_locked_and_not_copied() -> None:
    """The network holds the array itself. A view of writable memory is copied, and so is an array not in C order."""
    layer, made = fn.dense(KEY, 2, 3), list[fn.Array]()

    def halved(array: fn.Array) -> fn.Array:
        made.append(array / 2)
        return made[-1]

    new = fn.map_parameters(halved, layer)
    assert new.weight is made[0]
    assert new.bias is made[1]
    assert not any(array.flags.writeable for array in made)
    assert map_decayed(halved, layer).weight is made[2]
    assert fn.map_parameters(lambda array: array, layer).weight is layer.weight
    buffer: fn.Array = np.ones((5, 3), np.float32)
    viewed = fn.map_parameters(lambda array: buffer[: len(array)] if array.ndim == 2 else buffer[4], layer)
    buffer[...] = 0
    assert all(array.all() for array in fn.trained_arrays(viewed))
    turned = fn.map_parameters(lambda array: np.asfortranarray(array * 2), layer)
    assert turned.weight.flags.c_contiguous
    assert not turned.weight.flags.writeable


def test_what_decays_is_mapped_alone() -> None:
    """Only decayed arrays are mapped, also in inner networks. A value that is not a network is refused."""
    before, after = everything(), map_decayed(lambda weight: weight * 0, everything())
    for old, new in zip(leaves(before), leaves(after), strict=True):
        assert new.array.any() == (old.role != "decayed" and old.array.any())
    with pytest.raises(fn.StructureError, match="a network is a layer or a tuple of networks, got 3"):
        map_decayed(lambda weight: weight, 3)  # type: ignore[call-overload]  # not a network


def test_leaves_say_path_and_role() -> None:
    """Leaves are in the order of the fields. None is not a leaf."""
    roles = {leaf.path: leaf.role for leaf in leaves((everything(),))}
    assert roles == {
        "0.weight": "decayed",
        "0.bias": "trained",
        "0.mean": "statistic",
        "0.net.weight": "decayed",
        "0.net.bias": "trained",
        "0.any_net.1.weight": "decayed",
        "0.any_net.1.bias": "trained",
        "0.pair.1.weight": "decayed",
        "0.pair.1.bias": "trained",
        "0.frozen_net.0.weight": "fixed",
        "0.frozen_net.0.bias": "fixed",
    }


def test_map_changes_what_is_trained_and_nothing_else() -> None:
    """Statistics, frozen networks and settings come from the first network."""
    before = everything()
    after = fn.map_parameters(lambda a: a + 1, before)
    for old, new in zip(leaves(before), leaves(after), strict=True):
        assert (new.array is old.array) != old.trained
        assert not old.trained or (new.array == old.array + 1).all()
    assert (after.rate, after.window, after.slope) == (0.5, (3, 3), None)


def test_statistics_are_not_compared() -> None:
    """Structures agree if only the shape of a statistic differs, but ``equal`` detects the difference."""
    one, other = everything(), everything()
    other = type(other)(
        *(other.weight, other.bias, None, np.zeros(7, np.float32), np.ones((2, 3), np.float32)),
        *(other.net, other.any_net, other.pair, other.frozen_net),
    )
    assert fn.map_parameters(lambda a, b: a + b, one, other).mean.shape == (2,)
    assert not fn.equal(one, other)


def test_equal_sees_every_bit_and_every_setting() -> None:
    """A different bit, setting, dtype or type is detected. Minus zero differs from zero, and NaN equals itself."""

    def layer(weight: float, bias: float = 0.0) -> fn.Dense:
        return fn.Dense(weight=np.array([[weight]], np.float64), bias=np.array([bias], np.float64))

    assert fn.equal(everything(), everything())
    assert not fn.equal(everything(), everything(1))
    assert fn.equal(layer(np.nan), layer(np.nan))
    assert not fn.equal(layer(1), layer(np.nextafter(1, 2)))
    assert not fn.equal(layer(1, 0.0), layer(1, -0.0))
    assert not fn.equal(layer(1), fn.astype(layer(1), np.float32))
    assert not fn.equal(fn.Dropout(0.1), fn.Dropout(0.2))
    assert not fn.equal((), (fn.ReLU(),))
    assert not fn.equal(fn.ReLU(), fn.Tanh())


def test_cast_changes_every_array() -> None:
    """Statistics and frozen networks are cast, too. Casting back gives the same value."""
    wide = fn.astype(everything(), np.float64)
    assert {leaf.array.dtype for leaf in leaves(wide)} == {np.dtype(np.float64)}
    assert fn.equal(fn.astype(wide, np.float32), everything())
    same = everything().net
    assert fn.astype(same, np.float32) is same


def test_is_trained_looks_inside() -> None:
    """A network is trained if a nested layer has parameters."""
    assert is_trained(((fn.ReLU(),), fn.Residual((fn.dense(KEY, 2, 2),))))
    assert not is_trained(((fn.ReLU(), ()), fn.Residual((fn.Tanh(),))))


def test_names_are_of_the_package() -> None:
    """Files identify built-in layers by short names that remain valid when a module moves."""
    assert name_of(fn.Dense) == "funcnet.Dense"
    assert name_of(fn.Residual) == "funcnet.Residual"


def test_reprs_are_short() -> None:
    """A repr shows dtypes and shapes, not numbers."""
    net = (fn.dense(KEY, 784, 100), fn.Residual((fn.Dropout(0.5),)))
    assert repr(net) == (
        "(Dense(weight=float32 (784, 100), bias=float32 (100,)), Residual(net=(Dropout(rate=0.5, key=None),)))"
    )


def test_the_error_shows_both_structures() -> None:
    """The message shows the difference."""
    one, other = (fn.dense(KEY, 2, 3),), (fn.dense(KEY, 2, 4),)
    with pytest.raises(fn.StructureError) as caught:
        fn.sgd_update(one, other, learning_rate=0.1)
    assert "float32 (2, 3)" in str(caught.value)
    assert "float32 (2, 4)" in str(caught.value)


@frozen(eq=False)
class Bare(fn.Layer):
    """A record with a field whose annotation does not state a role."""

    weight: np.ndarray | None


def test_an_annotation_without_a_role_is_refused() -> None:
    """Otherwise an ``np.ndarray`` field would silently stay untrained."""
    with pytest.raises(
        fn.ConfigError, match=r"Bare: weight is a np\.ndarray, which does not state a role; annotate it as fn\.Array"
    ):
        fn.register_layer(Bare, forward=lambda _, x: x, backward=lambda params, _, g: (g, params))


@frozen(eq=False)
class AlwaysMasked(fn.Layer):
    """A record with a mask that a network without masks cannot have."""

    mask: fn.Mask


def test_a_mask_may_be_none() -> None:
    """``masked(net, None)`` removes every mask."""
    with pytest.raises(fn.ConfigError, match=r"AlwaysMasked: mask is a fn\.Mask .*; annotate it as fn\.Mask \| None"):
        fields_of(AlwaysMasked)


def test_none_stands_only_where_the_annotation_allows_it() -> None:
    """None is refused for a required array, but allowed for statistics that are not yet known."""
    nothing: Any = None
    vector = np.ones(2)
    for make in (lambda: fn.Dense(nothing), lambda: fn.Standardize(vector, nothing), lambda: fn.PReLU(nothing)):
        with pytest.raises(fn.DTypeError, match="must be a plain NumPy array, got NoneType"):
            make()
    assert fn.BatchNorm(vector, vector).mean is None
