"""Arrays by name: out of a network and back, and refusals that name every array."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any, Final, assert_type

import numpy as np
import pytest
from hypothesis import given
from networks import CASES, Case
from random_networks import networks
from test_trees import Everything, everything

import funcnet as fn
from funcnet.core.arrays import is_canonical

KEY: Final = fn.Key(7)
Net = tuple[fn.Dense, fn.BatchNorm, fn.Residual[tuple[fn.Dense]]]
NET: Final[Net] = (fn.dense(KEY, 3, 2), fn.batch_norm(2), fn.Residual((fn.dense(KEY.child(1), 2, 2),)))
ARRAYS: Final = fn.named_arrays(NET)
VECTOR: Final = np.array([1, 2], np.float32)


def halved(arrays: dict[str, fn.Array]) -> dict[str, fn.Array]:
    """Return other arrays of the same names, shapes and dtypes."""
    return {name: np.asarray(array / 2) for name, array in arrays.items()}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_out_and_back_with_every_layer(case: Case) -> None:
    """A network with another one's arrays equals that network."""
    net = case.layer(), (case.layer(),)
    other = fn.with_named_arrays(net, halved(fn.named_arrays(net)))
    assert fn.equal(fn.with_named_arrays(net, fn.named_arrays(other)), other)
    assert fn.equal(fn.with_named_arrays(other, fn.named_arrays(net)), net)


@given(net=networks())
def test_out_and_back_with_random_networks(net: tuple[fn.Network, ...]) -> None:
    """Copies of the arrays give the network again, with locked arrays, and the copies stay writable."""
    copies = {name: array.copy() for name, array in fn.named_arrays(net).items()}
    again = fn.with_named_arrays(net, copies)
    assert fn.equal(again, net)
    assert all(is_canonical(array) for array in fn.named_arrays(again).values())
    assert all(array.flags.writeable for array in copies.values())


def test_every_role_is_named() -> None:
    """Trained arrays, statistics and frozen networks have names, in the order of the fields."""
    net = everything()
    names = [*fn.named_arrays((net,))]
    assert names[:5] == ["0.weight", "0.bias", "0.mean", "0.net.weight", "0.net.bias"]
    assert names[-2:] == ["0.frozen_net.0.weight", "0.frozen_net.0.bias"]
    other: Everything[fn.Dense] = fn.with_named_arrays(net, fn.named_arrays(everything(1)))
    assert fn.equal(other, everything(1))


def test_the_static_type_and_the_mapping() -> None:
    """The result has the network's type. Any mapping in any order will do, and locked arrays are shared."""
    given = MappingProxyType(dict(reversed(ARRAYS.items())))
    made = fn.with_named_arrays(NET, given)
    assert_type(made, Net)
    assert made[0].weight is NET[0].weight
    layer = fn.with_named_arrays(NET[0], {"bias": VECTOR, "weight": NET[0].weight})
    assert fn.equal(layer, fn.Dense(NET[0].weight, VECTOR))


def test_statistics_may_be_given_to_a_network_without_them() -> None:
    """BatchNorm gets its mean and variance; both or neither."""
    x = np.eye(3, dtype=np.float32)
    calibrated = fn.calibrate(NET, x)
    assert fn.equal(fn.with_named_arrays(NET, fn.named_arrays(calibrated)), calibrated)
    with pytest.raises(fn.ConfigError, match=r"^BatchNorm \(layer 1\): mean and variance must both be given"):
        fn.with_named_arrays(NET, ARRAYS | {"1.mean": VECTOR})
    with pytest.raises(fn.ShapeError, match=r"^BatchNorm \(layer 1\): mean must have shape \(2,\)"):
        fn.with_named_arrays(NET, ARRAYS | {"1.mean": np.ones(3, np.float32), "1.variance": VECTOR})
    with pytest.raises(fn.StructureError, match=r"missing '1.mean', '1.variance'; named_arrays"):
        fn.with_named_arrays(calibrated, ARRAYS)


WEIGHT: Final = "with_named_arrays: arrays['0.weight'] must "
SEVEN: Final = {f"layer{number}": VECTOR for number in range(7)}
LONG: Final = (
    "with_named_arrays: arrays must have the names of the network's arrays: missing '0.bias', '1.offset', "
    "'2.net.0.bias'; named_arrays(net) shows them, and from_torch takes the state_dict of a PyTorch model"
)
TRANSPOSED: Final = (
    "have shape (3, 2), got (2, 3); PyTorch keeps weights as (O, I) and kernels as (O, C, KH, KW): use "
    "from_torch(net, state)"
)
REFUSED: Final[dict[str, tuple[Any, type[fn.FuncnetError], str]]] = {
    "missing": ({name: ARRAYS[name] for name in ("0.weight", "1.scale", "2.net.0.weight")}, fn.StructureError, LONG),
    "left over": (ARRAYS | {"0.wait": VECTOR, 3: VECTOR}, fn.StructureError, ": left over '0.wait', 3; named_arrays"),
    "both": ({"0.weight": 0} | SEVEN, fn.StructureError, "missing '0.bias', '1.scale', '1.offset', '2.net.0.weight',"),
    "many": (
        ARRAYS | SEVEN,
        fn.StructureError,
        "left over 'layer0', 'layer1', 'layer2', 'layer3', 'layer4', 'layer5' a",
    ),
    "more than many": (ARRAYS | SEVEN, fn.StructureError, "'layer5' and 1 more; named_arrays(net) shows them"),
    "a name of a file": (ARRAYS | {"\x1b[31m": VECTOR}, fn.StructureError, r"left over '\x1b[31m'"),
    "transposed": (ARRAYS | {"0.weight": ARRAYS["0.weight"].T}, fn.ShapeError, WEIGHT + TRANSPOSED),
    "another shape": (ARRAYS | {"0.bias": VECTOR[:1]}, fn.ShapeError, "['0.bias'] must have shape (2,), got (1,)"),
    "another dtype": (
        ARRAYS | {"0.weight": ARRAYS["0.weight"].astype(np.float64)},
        fn.DTypeError,
        WEIGHT + "be float32 to match the network, got float64; use arrays['0.weight'].astype(np.float32)",
    ),
    "half precision": (ARRAYS | {"0.weight": ARRAYS["0.weight"].astype(np.float16)}, fn.DTypeError, "got float16; use"),
    "a list": (ARRAYS | {"0.weight": [1.0]}, fn.DTypeError, WEIGHT + "be a plain NumPy array, got list; use np.as"),
    "a list of arrays": ([VECTOR], fn.ConfigError, "with_named_arrays: arrays must be a mapping by name, got [array("),
}


@pytest.mark.parametrize("name", REFUSED)
def test_arrays_that_do_not_fit_are_refused(name: str) -> None:
    """The message has the names, both shapes or dtypes, and the fix."""
    arrays, error, message = REFUSED[name]
    with pytest.raises(fn.FuncnetError) as caught:
        fn.with_named_arrays(NET, arrays)
    assert type(caught.value) is error
    assert message in str(caught.value)


def test_a_kernel_of_pytorch_is_refused() -> None:
    """The message points to the function that transposes it."""
    layer = fn.conv2d(KEY, 2, 3, 5)
    kernel: fn.Array = layer.weight.transpose(3, 2, 0, 1)
    with pytest.raises(fn.ShapeError, match=r"shape \(5, 5, 2, 3\), got \(3, 2, 5, 5\); PyTorch .*from_torch"):
        fn.with_named_arrays(layer, fn.named_arrays(layer) | {"weight": kernel})


def test_what_is_no_network_is_refused() -> None:
    """A state is not a network."""
    state: Any = fn.TrainState.create(NET, fn.SGD(learning_rate=0.1), key=KEY)
    with pytest.raises(fn.StructureError, match=r"^named_arrays: a network is a layer or a tuple of networks, got T"):
        fn.named_arrays(state)
    with pytest.raises(fn.StructureError, match=r"^with_named_arrays: a network is a layer or a tuple of networks"):
        fn.with_named_arrays(state, {})
