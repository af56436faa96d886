"""``check_layer``: our layers pass, and each kind of planted fault is refused by its law's name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from attrs import evolve, frozen
from networks import CASES, Case, inputs

import funcnet as fn
from funcnet.arithmetic import matmul, sum_rows
from funcnet.layer import Pullback

KEY = fn.Key(81)
X = inputs(KEY, 3, 3)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_our_layers_pass(case: Case) -> None:
    """Every one, with a check for each trained field."""
    if "Dropout(rate=0.4, key=Key" in repr(case.layer()):
        pytest.skip("a mask is drawn for one shape of batch: another batch is another function")
    report = fn.check_layer(case.layer(), case.x(3))
    assert isinstance(report, fn.LayerReport)
    assert {check.law for check in report.checks} >= {"shapes", "purity", "determinism", "vjp", "adjoint", "arithmetic"}


def test_a_relu_at_zero_is_no_error() -> None:
    """Kinks are counted, and any slope between the two sides will do."""
    report = fn.check_layer(fn.ReLU(), np.array([[0.0, 1.0], [-1.0, 0.0]]))
    assert [check.kinks for check in report.checks if check.law == "gradient"] == [2]


# ---------------------------------------------------------------------------------------------- planted faults

CACHE: list[fn.Array] = []


@frozen(eq=False)
class Affine(fn.Layer):
    """``y = x @ weight * scale + offset`` with a fault on purpose."""

    weight: fn.Weight
    scale: fn.Array
    offset: fn.Array
    fault: str = ""


def noise(shape: tuple[int, ...]) -> fn.Array:
    """Another one each time."""
    return np.random.default_rng().normal(size=shape)


def affine_forward(params: Affine, x: fn.Array) -> fn.Array:
    """Right, but for the fault."""
    if params.fault == "cached input":
        CACHE[:] = [x]
    if params.fault == "in-place write":
        x *= 1.0
        x[:1] += 1.0
    offset = params.offset
    if params.fault == "random draw":
        offset = offset + noise(offset.shape)
    if params.fault == "wrong broadcast":
        return matmul(x, params.weight) * params.scale[:, None] + offset
    return matmul(x, params.weight) * params.scale + offset


def affine_backward(params: Affine, x: fn.Array, g: fn.Array) -> tuple[fn.Array, Affine]:
    """Right, but for the fault."""
    if params.fault == "cached input":
        x = CACHE[0]
    scaled = g * params.scale
    grad_x, weight = matmul(scaled, params.weight.T), matmul(x.T, scaled)
    scale, offset = sum_rows(g * matmul(x, params.weight)), sum_rows(g)
    if params.fault == "scaled":
        weight = weight * 1.001
    if params.fault == "transposed":
        weight = weight.T
    if params.fault == "forgotten bias":
        offset = np.zeros_like(offset)
    if params.fault == "swapped fields":
        scale, offset = offset, scale
    if params.fault == "write to g":
        g[:1] = 0
    if params.fault == "other shape":
        grad_x = grad_x[:, :1]
    if params.fault == "other structure":
        return grad_x, evolve(params, weight=np.ones((2, 2)), scale=np.ones(2), offset=np.ones(2))
    if params.fault == "not linear":
        grad_x = grad_x * np.abs(g[:1])
    return grad_x, evolve(params, weight=weight, scale=scale, offset=offset)


def affine_vjp(params: Affine, x: fn.Array) -> tuple[fn.Array, Pullback[Affine]]:
    """Right, but for the fault."""
    y = affine_forward(params, x)

    def both(g: fn.Array) -> tuple[fn.Array, Affine]:
        grad_x, grads = affine_backward(params, x, g)
        return (2 * grad_x if params.fault == "other pullback" else grad_x), grads

    def params_only(g: fn.Array) -> Affine:
        grads = affine_backward(params, x, g)[1]
        return evolve(grads, scale=-grads.scale) if params.fault == "other params_only" else grads

    return y + 1 if params.fault == "other y" else y, Pullback(both, params_only)


fn.register_layer(Affine, forward=affine_forward, backward=affine_backward, vjp=affine_vjp)

FAULTS = {
    "scaled": "gradient: by weight",
    "transposed": "gradient: by weight",
    "forgotten bias": "gradient: by offset",
    "swapped fields": "gradient: by (scale|offset)",
    "in-place write": "purity: forward raised ValueError: .*read-only|shapes: forward .* read-only",
    "write to g": "purity: backward raised ValueError: .*read-only",
    "cached input": "determinism: backward depends on the input of an earlier call",
    "wrong broadcast": "shapes: forward of a batch of 6 raised ValueError",
    "random draw": "determinism: forward called twice gives two results",
    "other shape": r"shapes: grad_x must be float64 \(3, 3\), as x is, got float64 \(3, 1\)",
    "other structure": "shapes: walking over params and gradient raised StructureError",
    "not linear": "linearity: backward",
    "other pullback": "vjp: its pullback is not backward",
    "other params_only": "vjp: params_only does not give",
    "other y": "vjp: its y is not forward's",
}


def affine(fault: str) -> Affine:
    """A layer with a fault."""
    weight, scale, offset = (inputs(KEY.child(i), *shape) for i, shape in enumerate([(3, 3), (3,), (3,)]))
    return Affine(weight, scale, offset, fault)


def test_the_right_layer_passes() -> None:
    """Without a fault; each field has its line."""
    report = fn.check_layer(affine(""), X)
    assert [check.where for check in report.checks if check.law == "gradient"] == ["x", "weight", "scale", "offset"]
    assert str(report).count("\n") == len(report.checks) - 1


@pytest.mark.parametrize("fault", FAULTS)
def test_every_planted_fault_is_refused_by_name(fault: str) -> None:
    """By its law."""
    with pytest.raises(fn.LawError, match=FAULTS[fault]):
        fn.check_layer(affine(fault), X)


@frozen(eq=False)
class Softish(fn.Layer):
    """Its forward takes an exponential past the door."""


def softish(_: Softish, x: fn.Array) -> fn.Array:
    """``exp(x)``, by NumPy."""
    y: fn.Array = np.exp(x)
    return y


fn.register_elementwise(Softish, value=softish, slope=lambda _, __, y: y)


def test_arithmetic_past_the_door_is_refused_unless_said() -> None:
    """In the functions that were registered, with what they do."""
    with pytest.raises(fn.LawError, match=r"arithmetic: forward does np.exp itself; take it from funcnet.arithmetic"):
        fn.check_layer(Softish(), X)
    assert fn.check_layer(Softish(), X, own_arithmetic=True).checks[-1].where == "the layer's own"


def test_a_layer_without_a_source_is_checked_but_for_that() -> None:
    """Such as one typed into an interpreter; the report says so."""
    names: dict[str, Any] = {"fn": fn, "frozen": frozen}
    exec(  # noqa: S102  # a layer without a file
        "@frozen(eq=False)\nclass Typed(fn.Layer):\n    pass\n"
        "fn.register_elementwise(Typed, value=lambda p, x: x * x, slope=lambda p, x, y: 2 * x, name='tests.Typed')",
        names,
    )
    assert fn.check_layer(names["Typed"](), X).checks[-1].where == "source, as far as found"
