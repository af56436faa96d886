"""Gradients are compared with central differences, and the checker is tested with planted faults."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Generic

import numpy as np
import pytest
from attrs import evolve, frozen
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from networks import CASES, Case, inputs, near_a_kink
from random_networks import networks

import funcnet as fn
from funcnet.arithmetic import matmul, sum_rows
from funcnet.core.trees import leaves
from funcnet.data.datasets import load_mnist
from funcnet.network.layer import N
from funcnet.random.draws import normal
from funcnet.testing.gradients import replaced

KEY = fn.Key(3)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("batch", [1, 4])
def test_every_layer_agrees_with_central_differences(case: Case, batch: int) -> None:
    """The gradients with respect to the input and every parameter agree to 1e-7 of the largest of them.

    The rounding of a difference grows with the output, which all gradients share, and not with the one gradient: with
    NumPy 1.26 and AVX-512, whose exponential is less exact, it is 2e-8 for a gradient of 0.02.
    """
    checks = fn.check_gradients(case.layer(), case.x(batch)).checks
    largest = max(abs(check.expected) for check in checks)
    assert all(check.passed and check.error <= 1e-9 + 1e-7 * largest for check in checks)


@pytest.mark.slow
@settings(max_examples=max(50, settings().max_examples))
@given(net=networks(), seed=st.integers(0, 2**32 - 1))
def test_random_networks_agree_with_central_differences(net: tuple[fn.Network, ...], seed: int) -> None:
    """Every gradient of fifty networks agrees: nested ones, empty ones, and ones with every combinator."""
    x = inputs(fn.Key(seed), 2, 4)
    assume(net and not near_a_kink(net, x))
    fn.check_gradients(net, x)


def test_the_loss_agrees_with_central_differences() -> None:
    """The gradient of the mean cross-entropy with respect to the logits agrees to 1e-7 relative."""
    logits, labels = inputs(KEY, 6, 5), np.array([0, 1, 2, 3, 4, 0], np.uint8)
    wanted = fn.numerical_gradient(lambda z: fn.softmax_cross_entropy(z, labels)[0], logits)
    np.testing.assert_allclose(fn.softmax_cross_entropy(logits, labels)[1], wanted, rtol=1e-7, atol=1e-10)


def test_the_whole_network_and_loss_agree_with_central_differences() -> None:
    """The gradient from value_and_grad, through the loss, agrees for every parameter."""
    net = (fn.dense(KEY, 4, 5, dtype=np.float64), fn.Tanh(), fn.dense(KEY.child(1), 5, 3, dtype=np.float64))
    x, labels = inputs(KEY.child("x"), 6, 4), np.array([0, 1, 2, 0, 1, 2])
    loss, grads = fn.value_and_grad(net, x, labels, fn.softmax_cross_entropy)
    assert loss == fn.softmax_cross_entropy(fn.forward(net, x), labels)[0]

    def moved(weight: fn.Array) -> float:
        first = evolve(net[0], weight=weight)
        return fn.value_and_grad((first, *net[1:]), x, labels, fn.softmax_cross_entropy)[0]

    np.testing.assert_allclose(grads[0].weight, fn.numerical_gradient(moved, net[0].weight), rtol=1e-7, atol=1e-9)


# ------------------------------------------------------------------------------------------ planted faults


@frozen(eq=False)
class Faulty(fn.Layer):
    """A square affine layer whose backward has a planted fault."""

    weight: fn.Weight
    bias: fn.Array
    fault: str


def faulty_forward(params: Faulty, x: fn.Array) -> fn.Array:
    """The correct forward function."""
    return matmul(x, params.weight) + params.bias


def faulty_backward(params: Faulty, x: fn.Array, g: fn.Array) -> tuple[fn.Array, Faulty]:
    """The correct backward function, apart from the fault."""
    grad_x, weight, bias = matmul(g, params.weight.T), matmul(x.T, g), sum_rows(g)
    if params.fault == "input 0.1% too large":
        grad_x = grad_x * 1.001
    elif params.fault == "weight 0.1% too small":
        weight = weight * 0.999
    elif params.fault == "weight transposed":
        weight = weight.T
    elif params.fault == "weight not transposed in grad_x":
        grad_x = matmul(g, params.weight)
    elif params.fault == "bias forgotten":
        bias = np.zeros_like(bias)
    return grad_x, evolve(params, weight=weight, bias=bias)


fn.register_layer(Faulty, forward=faulty_forward, backward=faulty_backward)

FAULTS = {
    "input 0.1% too large": "x",
    "weight 0.1% too small": "weight",
    "weight transposed": "weight",
    "weight not transposed in grad_x": "x",
    "bias forgotten": "bias",
}
PLACES: dict[str, Callable[[fn.Layer], fn.Network]] = {
    "alone": lambda layer: layer,
    "in Residual": lambda layer: (fn.Tanh(), fn.Residual((layer, fn.Tanh()))),
    "in a nested tuple": lambda layer: (fn.Tanh(), (fn.Identity(), (layer,)), fn.Tanh()),
}
PATHS = {"alone": "", "in Residual": "1.net.0.", "in a nested tuple": "1.1.0."}


def faulty(fault: str) -> Faulty:
    """Return a layer with this fault."""
    return Faulty(weight=normal(KEY.child("weight"), (3, 3)), bias=normal(KEY.child("bias"), (3,)), fault=fault)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("fault", FAULTS)
def test_the_checker_refuses_a_planted_fault(fault: str, place: str) -> None:
    """A backward that is slightly or completely wrong is refused by name, at any place in a network."""
    where = "x" if FAULTS[fault] == "x" else PATHS[place] + FAULTS[fault]
    with pytest.raises(fn.GradientError, match=rf"respect to {where}(\[\d, \d\]|\[\d\])"):
        fn.check_gradients(PLACES[place](faulty(fault)), inputs(KEY.child("x"), 2, 3))


@pytest.mark.parametrize("place", PLACES)
def test_the_checker_accepts_the_layer_without_a_fault(place: str) -> None:
    """Without a fault, the same layer passes."""
    fn.check_gradients(PLACES[place](faulty("none")), inputs(KEY.child("x"), 2, 3))


def test_the_checker_says_layer_field_index_and_both_values() -> None:
    """The message has everything that a reader needs to find the fault."""
    with pytest.raises(fn.GradientError) as caught:
        fn.check_gradients((fn.Identity(), faulty("bias forgotten")), inputs(KEY.child("x"), 2, 3))
    message = str(caught.value)
    assert "1.bias[" in message
    assert "of Faulty must be" in message
    assert "got 0:" in message


def test_a_gradient_of_nan_is_refused() -> None:
    """A NaN is not within any tolerance."""

    @frozen(eq=False)
    class Nowhere(fn.Layer):
        pass

    fn.register_elementwise(Nowhere, value=lambda _, x: x + 0, slope=lambda _, x, __: np.full_like(x, np.nan))
    with pytest.raises(fn.GradientError, match="got nan"):
        fn.check_gradients(Nowhere(), np.ones((1, 2)))


def test_the_report_is_a_table() -> None:
    """The report has one line per array, with elements, error and tolerance."""
    report = fn.check_gradients((fn.Tanh(), faulty("none")), inputs(KEY, 2, 3))
    lines = str(report).splitlines()
    assert [line.split()[0] for line in lines] == ["gradient", "x", "1.weight", "1.bias"]


def test_numerical_gradient_never_writes_x() -> None:
    """The function passes copies to f, and f cannot write into them either."""
    x = inputs(KEY, 3)
    seen: list[fn.Array] = []

    def f(z: fn.Array) -> float:
        seen.append(z)
        return float((z * z).sum())

    np.testing.assert_allclose(fn.numerical_gradient(f, x), 2 * x, rtol=1e-7)
    assert len(seen) == 6
    assert len({id(z) for z in seen}) == 6
    assert not any(z.flags.writeable or z is x for z in seen)


def test_what_is_not_finite_is_wrong_without_a_warning() -> None:
    """Where a network overflows, the checker reports a wrong gradient, and NumPy does not warn."""
    net = fn.mlp(KEY, (4, 5, 3), dtype=np.float64)
    with pytest.raises(fn.GradientError, match=r"the gradient with respect to 0.bias.* an error of inf"):
        fn.check_gradients(net, np.array([[0.0, 1.7e308, 0.0, 0.0]]))


# ---------------------------------------------------------------------------------------- kinks and magnitudes

DATA = os.environ.get("FUNCNET_DATA")
needs_mnist = pytest.mark.skipif(not DATA or not (Path(DATA) / "mnist").is_dir(), reason="FUNCNET_DATA has no mnist/")


@frozen(eq=False)
class Off(fn.Layer, Generic[N]):
    """A network whose backward has one element that is 0.1% too large: of ``where``, ``x`` or the path of an array."""

    net: N
    where: str
    index: tuple[int, ...]


def off_backward(params: Off[N], x: fn.Array, g: fn.Array) -> tuple[fn.Array, Off[N]]:
    """The right backward, apart from the element."""

    def spoiled(array: fn.Array) -> fn.Array:
        copy = array.copy()
        if len(array) > params.index[0]:
            copy[params.index] *= 1.001
        return copy

    grad_x, grads = fn.backward(params.net, x, g)
    if params.where == "x":
        return spoiled(grad_x), evolve(params, net=grads)
    array = next(leaf.array for leaf in leaves(grads) if leaf.path == params.where)
    return grad_x, evolve(params, net=replaced(grads, params.where, spoiled(array)))


fn.register_layer(Off, forward=lambda params, x: fn.forward(params.net, x), backward=off_backward)


def dark_border() -> fn.Array:
    """An image with a dark border: most inputs of a ReLU are exactly 0, and most windows have equal numbers."""
    image = np.zeros((1, 8, 8, 1))
    image[:, 2:6, 3:6, 0] = np.random.default_rng(0).random((4, 3))
    return image


IMAGE_NETS: dict[str, tuple[fn.Layer, ...]] = {
    "conv, ReLU": (fn.conv2d(KEY, 1, 2, 3), fn.ReLU()),
    "conv, ReLU, max": (fn.conv2d(KEY, 1, 2, 3), fn.ReLU(), fn.MaxPool2D(2)),
    "conv, LeakyReLU, max, mean": (fn.conv2d(KEY, 1, 2, 3), fn.LeakyReLU(), fn.MaxPool2D(2, 1), fn.AvgPool2D(2)),
    "conv, LeakyReLU, conv, LeakyReLU": (
        fn.conv2d(KEY, 1, 2, 3),
        fn.LeakyReLU(),
        fn.conv2d(KEY.child(1), 2, 2, 2),
        fn.LeakyReLU(),
    ),
}
every_image_net = pytest.mark.parametrize("net", IMAGE_NETS.values(), ids=IMAGE_NETS)


@every_image_net
def test_a_kink_is_not_an_error(net: fn.Network) -> None:
    """A dark border is full of kinks. They are counted, compared at a point nearby, and not accused."""
    report = fn.check_gradients(net, dark_border())
    assert report.checks[0].kinks > 0
    assert all(check.passed and not check.skipped for check in report.checks)
    assert str(report).splitlines()[0].split()[-2:] == ["kinks", "skipped"]
    fn.check_layer(Chain(net), dark_border())


@frozen(eq=False)
class Chain(fn.Layer, Generic[N]):
    """A network as one layer."""

    net: N


def chain_backward(params: Chain[N], x: fn.Array, g: fn.Array) -> tuple[fn.Array, Chain[N]]:
    """The network's gradients."""
    grad_x, grads = fn.backward(params.net, x, g)
    return grad_x, Chain(grads)


fn.register_layer(Chain, forward=lambda params, x: fn.forward(params.net, x), backward=chain_backward)


@every_image_net
@pytest.mark.parametrize(
    ("where", "index"), [("x", (0, 3, 4, 0)), ("x", (0, 1, 1, 0)), ("weight", (1, 1, 0, 1)), ("bias", (1,))]
)
def test_a_fault_among_kinks_is_found(net: tuple[fn.Layer, ...], where: str, index: tuple[int, ...]) -> None:
    """One element that is 0.1% too large is refused, at a kink, too: in the first layer with parameters."""
    first = next(i for i, layer in enumerate(net) if isinstance(layer, fn.Conv2D))
    spoiled = (Off(net, "x", index),) if where == "x" else (Off(net, f"{first}.{where}", index),)
    with pytest.raises(fn.GradientError, match=rf"respect to {'x' if where == 'x' else f'0.net.{first}.{where}'}\["):
        fn.check_gradients(spoiled, dark_border())
    with pytest.raises(fn.LawError, match="gradient: "):
        fn.check_layer(spoiled[0], dark_border())


MAGNITUDES = [1e-12, 1e-6, 1e-3, 1.0, 1e3, 1e6, 1e12]


def of_magnitude(inputs_by: float, weights_by: float) -> tuple[tuple[fn.Layer, ...], fn.Array]:
    """A network with a kink, a curve and an array of zeros, and its input."""
    first = fn.dense(KEY, 4, 5, dtype=np.float64)
    net = (evolve(first, weight=first.weight * weights_by), fn.ReLU(), fn.rms_norm(5, dtype=np.float64), fn.Tanh())
    return net, inputs(KEY.child("x"), 3, 4) * inputs_by


@pytest.mark.parametrize("inputs_by", MAGNITUDES)
@pytest.mark.parametrize("weights_by", MAGNITUDES)
def test_magnitudes_neither_accuse_nor_excuse(inputs_by: float, weights_by: float) -> None:
    """Whatever the size of the numbers, the right gradient passes, and one element that is 0.1% too large does not."""
    net, x = of_magnitude(inputs_by, weights_by)
    if inputs_by * weights_by < 1e-3:  # RMSNorm's epsilon then turns the network into a linear one
        net = (*net[:2], fn.Tanh())
    fn.check_gradients(net, x)
    for where, index in (("x", (1, 2)), ("0.weight", (2, 3)), ("0.bias", (3,))):
        with pytest.raises(fn.GradientError, match="the gradient with respect to"):
            fn.check_gradients(Off(net, where, index), x)


@needs_mnist
@pytest.mark.slow
def test_a_hundred_digits_pass_through_a_convolution() -> None:
    """Real digits are full of kinks: no false alarm, and a fault of 0.1% in one element is found."""
    images = load_mnist(flatten=False).train.x[:100, 1::4, 1::4]
    net = (fn.conv2d(KEY, 1, 2, 3), fn.ReLU(), fn.MaxPool2D(2))
    for image in images[:, None]:
        fn.check_gradients(net, image)
    for where, index in (("x", (0, 3, 3, 0)), ("x", (0, 1, 1, 0)), ("0.weight", (0, 0, 0, 1)), ("0.bias", (0,))):
        with pytest.raises(fn.GradientError, match="the gradient with respect to"):
            fn.check_gradients(Off(net, where, index), images[:1])
