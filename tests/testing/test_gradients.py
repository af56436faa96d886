"""Gradients are compared with central differences, and the checker is tested with planted faults."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from attrs import evolve, frozen
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from networks import CASES, Case, inputs, near_a_kink, networks

import funcnet as fn
from funcnet.arithmetic import matmul, sum_rows
from funcnet.random.draws import normal

KEY = fn.Key(3)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("batch", [1, 4])
def test_every_layer_agrees_with_central_differences(case: Case, batch: int) -> None:
    """The gradients with respect to the input and every parameter agree to 1e-7 relative."""
    report = fn.check_gradients(case.layer(), case.x(batch))
    assert all(check.passed and check.tolerance <= 1e-9 + 1e-7 * abs(check.expected) for check in report.checks)


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
    with pytest.raises(fn.GradientError, match="the gradient with respect to x"):
        fn.check_gradients(net, np.array([[0.0, 1.7e308, 0.0, 0.0]]))
