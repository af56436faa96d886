"""``check_layer``: the built-in layers pass, and each kind of planted fault is refused by the name of its law."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import pytest
from attrs import evolve, frozen
from networks import CASES, Case, inputs

import funcnet as fn
from funcnet.arithmetic import matmul, sum_rows
from funcnet.core.trees import leaves
from funcnet.testing.slopes import slope

KEY = fn.Key(81)
X = inputs(KEY, 3, 3)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_our_layers_pass(case: Case) -> None:
    """Every layer passes, with a check for each trained field."""
    report = fn.check_layer(case.layer(), case.x(3))
    assert isinstance(report, fn.LayerReport)
    assert {check.law for check in report.checks} >= {"shapes", "purity", "determinism", "adjoint", "arithmetic"}
    first = "x is not differentiated" if case.ids else "x"
    wanted = [first, *(leaf.path for leaf in leaves(case.layer()) if leaf.trained)]
    checks = [check for check in report.checks if check.law == "gradient"]
    assert [check.where for check in checks] == wanted
    assert all(0 <= check.error <= check.tolerance for check in checks)
    assert all(len(check.index) == case.x(3).ndim for check in checks[: not case.ids])


def test_a_relu_at_zero_is_no_error() -> None:
    """Kinks are counted, and any slope between the two sides passes; with many kinks, some have a small g, too."""
    report = fn.check_layer(fn.ReLU(), np.array([[0.0, 1.0], [-1.0, 0.0]]))
    assert [check.kinks for check in report.checks if check.law == "gradient"] == [2]
    many = fn.check_layer(fn.ReLU(), np.zeros((40, 50)))
    assert [check.kinks for check in many.checks if check.law == "gradient"] == [2000]


@pytest.mark.parametrize("size", [1e-6, 1e-3, 1.0, 1e3, 1e5])
def test_large_and_small_numbers_are_no_error(size: float) -> None:
    """Differences are taken before sums, so rounding is not mistaken for a fault."""
    fn.check_layer(fn.dense(KEY, 3, 4, dtype=np.float64), X * size)
    fn.check_layer(fn.ReLU(), X * size)


@frozen(eq=False)
class Curve(fn.Layer):
    """``y = x * x``, with a fault on request: a slope that is right on one side of 0 only."""

    fault: bool = False


fn.register_elementwise(
    Curve, value=lambda _, x: x * x, slope=lambda params, x, _: 2 * x + (1e-6 if params.fault else 0.0)
)


def test_a_curve_is_no_kink() -> None:
    """Where the slope is 0, the two sides differ only because of the step, so only the true slope passes."""
    report = fn.check_layer(Curve(), np.array([[0.0, 1.0]]))
    assert [check.kinks for check in report.checks if check.law == "gradient"] == [0]
    with pytest.raises(fn.LawError, match=r"gradient: .*respect to x\[0, 0\]"):
        fn.check_layer(Curve(fault=True), np.array([[0.0, 1.0]]))


def test_a_slope_outside_of_a_kink_is_refused() -> None:
    """The error is the distance of the slope from the kink's range."""

    def bend(t: float) -> fn.Array:
        return np.array([max(t, 0.0) + 3 * t * t])

    assert [slope(bend, got).share <= 1 for got in (-1e-5, 0.0, 0.3, 1.0, 1 + 1e-5)] == [False, True, True, True, False]
    assert slope(bend, np.nan).error == np.inf


def test_numbers_beyond_every_float_break_a_law() -> None:
    """An output that overflows has no slope."""
    assert slope(lambda t: np.array([t, 1 / (t * t + 1e-11) if t else np.inf]), 0.0).share == np.inf
    with pytest.raises(
        fn.LawError, match=r"gradient: y\[0, 1\] is inf: choose an x at which the layer's output is finite"
    ):
        fn.check_layer(Curve(), np.array([[1.0, 1e200]]))


def test_no_rows_check_nothing() -> None:
    """An empty batch would check nothing, so it is refused."""
    with pytest.raises(fn.ConfigError, match="the number of elements of x must be"):
        fn.check_layer(fn.ReLU(), np.zeros((0, 3)))


# ---------------------------------------------------------------------------------------------- planted faults

CACHE: list[fn.Array] = []
GENERATOR = np.random.default_rng()


@frozen(eq=False)
class Affine(fn.Layer):
    """``y = x @ weight * scale + offset`` with a planted fault."""

    weight: fn.Weight
    scale: fn.Array
    offset: fn.Array
    fault: str = ""


def noise(shape: tuple[int, ...]) -> fn.Array:
    """Return different numbers on each call."""
    return GENERATOR.normal(size=shape)


def affine_forward(params: Affine, x: fn.Array) -> fn.Array:
    """The correct forward function, apart from the fault."""
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
    if params.fault == "other rows":
        return (matmul(x, params.weight) * params.scale + offset)[None]
    if params.fault == "scalar":
        return np.float64(1.0) + np.zeros(())
    return matmul(x, params.weight) * params.scale + offset


def affine_backward(params: Affine, x: fn.Array, g: fn.Array) -> tuple[fn.Array, Affine]:
    """The correct backward function, apart from the fault."""
    if params.fault == "cached input":
        x = CACHE[0]
    if params.fault == "write to x backward":
        x[:1] += 1.0
    if params.fault == "write to g":
        g[:1] = 0
    if params.fault == "other structure":
        return x, evolve(params, weight=np.ones((2, 2)), scale=np.ones(2), offset=np.ones(2))
    scaled = g * params.scale
    grad_x, weight = matmul(scaled, params.weight.T), matmul(x.T, scaled)
    scale, offset = sum_rows(g * matmul(x, params.weight)), sum_rows(g)
    faulty = SPOILED.get(params.fault, unspoiled)
    grad_x, weight, scale, offset = faulty((grad_x, weight, scale, offset), g)
    return grad_x, evolve(params, weight=weight, scale=scale, offset=offset)


def unspoiled(parts: Parts, _: fn.Array) -> Parts:
    """Return the parts unchanged."""
    return parts


Parts: TypeAlias = tuple[fn.Array, fn.Array, fn.Array, fn.Array]
SPOILED: dict[str, Callable[[Parts, fn.Array], Parts]] = {
    "scaled": lambda parts, _: (parts[0], parts[1] * 1.001, parts[2], parts[3]),
    "transposed": lambda parts, _: (parts[0], parts[1].T, parts[2], parts[3]),
    "mean over the batch": lambda parts, g: (parts[0], parts[1], parts[2], parts[3] / max(len(g), 1)),
    "other sign": lambda parts, _: (-parts[0], parts[1], parts[2], parts[3]),
    "not a number": lambda parts, _: (parts[0], parts[1] * np.nan, parts[2], parts[3]),
    "forgotten bias": lambda parts, _: (parts[0], parts[1], parts[2], np.zeros_like(parts[3])),
    "swapped fields": lambda parts, _: (parts[0], parts[1], parts[3], parts[2]),
    "other shape": lambda parts, _: (parts[0][:, :1], parts[1], parts[2], parts[3]),
    "not linear": lambda parts, g: (parts[0] * np.abs(g[:1]), parts[1], parts[2], parts[3]),
}


fn.register_layer(Affine, forward=affine_forward, backward=affine_backward)

FAULTS = {
    "scaled": r"gradient: .*respect to weight\[\d, \d\] must be .*; scaled: it is 1.001 times the correct gradient$",
    "transposed": r"gradient: .*respect to weight\[\d, \d\] .*; transposed: its transpose is right",
    "forgotten bias": r"gradient: .*respect to offset\[\d\] .*, got 0; forgotten: it is 0 everywhere",
    "in-place write": "purity: forward writes into an array in place: .*read-only",
    "cached input": "determinism: backward depends on an earlier call, .*: it caches an input",
    "wrong broadcast": "shapes: forward of a batch of 6 raised ValueError: .*; a wrong broadcast",
    "random draw": "determinism: forward called twice gives two different results: it draws at random",
    "swapped fields": r"gradient: .*respect to scale\[\d\] .*; swapped: it is the gradient with respect to offset",
    "mean over the batch": "scaled: it is 0.333333 times the correct gradient, as if it were the mean over the batch",
    "other sign": "gradient: .*respect to x.*; scaled: it is -1 times the correct gradient",
    "not a number": r"linearity: .* gives nan at weight\[0, 0\]",
    "write to g": "purity: backward writes into an array in place: .*read-only",
    "write to x backward": "purity: backward .*writes into an array in place: .*read-only",
    "other shape": r"shapes: grad_x must be float64 \(3, 3\), like x, got float64 \(3, 1\)",
    "other rows": r"shapes: y must be a C-contiguous float64 array of 3 rows, got float64 \(1, 3, 3\)",
    "scalar": r"shapes: y must be a C-contiguous float64 array of 3 rows, got (np.float64|1.0)",
    "other structure": r"shapes: the gradient with respect to weight must be float64 \(3, 3\), got float64 \(2, 2\)$",
    "not linear": "linearity: backward",
}
EIGHT = {
    "scaled": "scaled",
    "transposed": "transposed",
    "forgotten bias": "forgotten",
    "in-place write": "in place",
    "cached input": "caches an input",
    "wrong broadcast": "wrong broadcast",
    "random draw": "draws at random",
    "swapped fields": "swapped",
}


def affine(fault: str) -> Affine:
    """Return a layer with the given fault."""
    weight, scale, offset = (inputs(KEY.child(i), *shape) for i, shape in enumerate([(3, 3), (3,), (3,)]))
    return Affine(weight, scale, offset, fault)


def test_the_right_layer_passes() -> None:
    """Without a fault, the layer passes, and each field has a line in the report."""
    report = fn.check_layer(affine(""), X)
    assert [check.where for check in report.checks if check.law == "gradient"] == ["x", "weight", "scale", "offset"]
    lines = str(report).splitlines()
    assert len(lines) == 1 + len(report.checks)
    assert lines[0].split() == ["law", "where", "error", "tolerance", "worst", "at", "kinks"]
    by_weight = next(check for check in report.checks if (check.law, check.where) == ("gradient", "weight"))
    assert f"{by_weight.error:.1e}" in str(report)
    assert str(list(by_weight.index)) in str(report)


@pytest.mark.parametrize("fault", FAULTS)
def test_every_planted_fault_is_refused_by_name(fault: str) -> None:
    """The error names the broken law."""
    with pytest.raises(fn.LawError, match=FAULTS[fault]):
        fn.check_layer(affine(fault), X)


def test_the_eight_usual_faults_are_named() -> None:
    """The error uses the common name of each fault."""
    for fault, word in EIGHT.items():
        with pytest.raises(fn.LawError, match=word):
            fn.check_layer(affine(fault), X)


@frozen(eq=False)
class Oblong(fn.Layer):
    """``y = x @ weight``, whose gradient is transposed and therefore has the wrong shape."""

    weight: fn.Weight


fn.register_layer(
    Oblong,
    forward=lambda params, x: matmul(x, params.weight),
    backward=lambda params, x, g: (matmul(g, params.weight.T), evolve(params, weight=matmul(g.T, x))),
)


def test_a_transposed_gradient_of_an_oblong_weight_is_named() -> None:
    """The transposed shape is recognized."""
    wanted = r"the gradient with respect to weight must be float64 \(3, 2\), got float64 \(2, 3\): it is transposed"
    with pytest.raises(fn.LawError, match=wanted):
        fn.check_layer(Oblong(np.ones((3, 2))), X)


@frozen(eq=False)
class Softish(fn.Layer):
    """A layer whose forward function takes an exponential from NumPy, not from ``funcnet.arithmetic``."""


def inside(x: fn.Array) -> fn.Array:
    """``exp(x)``, computed by NumPy."""
    y: fn.Array = np.exp(x)
    return y


def softish(_: Softish, x: fn.Array) -> fn.Array:
    """A forward function that calls a helper with the exponential."""
    return inside(x)


fn.register_elementwise(Softish, value=softish, slope=lambda _, __, y: y)


def test_arithmetic_past_the_door_is_refused_unless_said() -> None:
    """The lint covers the registered functions and those that they call, and names each operation."""
    with pytest.raises(fn.LawError, match=r"arithmetic: forward does np.exp itself; use funcnet.arithmetic, or pass"):
        fn.check_layer(Softish(), X)
    assert fn.check_layer(Softish(), X, own_arithmetic=True).checks[-1].where == "the layer's own"


@frozen(eq=False)
class Cube(fn.Layer):
    """A layer with a power."""


fn.register_elementwise(Cube, value=lambda _, x: x**3, slope=lambda _, x, __: 3 * x * x)


def test_the_advice_for_a_power_exists() -> None:
    """``funcnet.arithmetic`` has no powers of arrays, so the advice is a product."""
    with pytest.raises(fn.LawError, match=r"forward does \*\* itself; write a power as a product, such as x \* x, or"):
        fn.check_layer(Cube(), X)


@frozen(eq=False)
class PlainReLU(fn.Layer):
    """A layer with NumPy's maximum."""


fn.register_elementwise(PlainReLU, value=lambda _, x: np.maximum(x, 0), slope=lambda _, x, __: x > 0)


def test_the_advice_for_a_maximum_names_the_door() -> None:
    """The sign of a zero of ``np.maximum`` depends on the processor."""
    with pytest.raises(fn.LawError, match=r"forward does np.maximum itself; use maximum, minimum and clip of"):
        fn.check_layer(PlainReLU(), X)


@frozen(eq=False)
class OtherNames(fn.Layer):
    """A layer whose functions have the maximum of NumPy, and that of the door, under other names."""


larger, doors = np.maximum, fn.arithmetic


def bent(_: OtherNames, x: fn.Array) -> fn.Array:
    """The maximum of ``x`` and 0, from NumPy."""
    y: fn.Array = larger(x, 0)
    return y


def test_names_are_those_of_the_module(monkeypatch: pytest.MonkeyPatch) -> None:
    """The global names of a layer's functions say what is NumPy's and what is the door's."""
    fn.register_elementwise(OtherNames, value=bent, slope=lambda _, x, __: doors.clip(np.sign(x), 0, 1))
    with pytest.raises(fn.LawError, match=r"arithmetic: forward does np.maximum itself; use maximum, minimum and"):
        fn.check_layer(OtherNames(), X)
    monkeypatch.setitem(globals(), "larger", fn.arithmetic.maximum)
    assert fn.check_layer(OtherNames(), X).checks[-1].where == "source"


def test_a_layer_without_a_source_is_checked_but_for_that() -> None:
    """A layer typed into an interpreter has no source; it passes the other checks, and the report says so."""
    names: dict[str, Any] = {"fn": fn, "frozen": frozen}
    exec(  # noqa: S102  # a layer without a file
        "@frozen(eq=False)\nclass Typed(fn.Layer):\n    pass\n"
        "fn.register_elementwise(Typed, value=lambda p, x: x * x, slope=lambda p, x, y: 2 * x, name='tests.Typed')",
        names,
    )
    assert fn.check_layer(names["Typed"](), X).checks[-1].where == "source, as far as found"


# ---------------------------------------------------------------------------------------- float32, pairs, names


@frozen(eq=False)
class Scaled(fn.Layer):
    """``y = x * scale * (1, 2, 3)`` with a planted fault."""

    scale: fn.Array
    fault: str = ""


def scaled_forward(params: Scaled, x: fn.Array) -> fn.Array:
    """The correct forward function, apart from the fault."""
    constant: fn.Array = np.array([1.0, 2.0, 3.0])
    y: fn.Array = x * params.scale * (constant if params.fault == "forward" else constant.astype(x.dtype))
    return y


def scaled_backward(params: Scaled, x: fn.Array, g: fn.Array) -> tuple[fn.Array, Scaled]:
    """The correct backward function, apart from the fault."""
    constant: fn.Array = np.array([1.0, 2.0, 3.0])
    grad_x = g * params.scale * (constant if params.fault == "backward" else constant.astype(x.dtype))
    if params.fault == "no pair":
        return grad_x  # type: ignore[return-value]  # the fault
    if params.fault == "three":
        return grad_x, params, params  # type: ignore[return-value]  # the fault
    if params.fault == "forgotten":
        return grad_x, params
    scale = sum_rows(g * x) * (constant if params.fault == "gradient" else constant.astype(x.dtype))
    return grad_x, evolve(params, scale=scale)


def scaled_shape(params: Scaled, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The correct output shape, apart from the fault."""
    return (*shape, 1) if params.fault == "output_shape" else shape


fn.register_layer(Scaled, forward=scaled_forward, backward=scaled_backward, output_shape=scaled_shape)

SCALED = {
    "forward": r"shapes: y must be .* float32 array .*, got float64 \(3, 3\); a constant of float64 promotes",
    "backward": r"shapes: grad_x must be float32 \(3, 3\), like x, got float64 \(3, 3\); a constant of",
    "gradient": r"the gradient with respect to scale must be float32 \(3,\), got float64 \(3,\); a constant of float64",
    "output_shape": r"shapes: output_shape must return \(3,\), the shape of forward's rows, got \(3, 1\)",
    "no pair": r"shapes: .*backward must return \(grad_x, grad_params\), got ndarray",
    "three": r"shapes: .*backward must return \(grad_x, grad_params\), got 3 values",
    "forgotten": r"gradient: the gradient with respect to scale is the parameter itself; was it forgotten in evolve\?",
}


@pytest.mark.parametrize("fault", SCALED)
def test_promotions_pairs_and_forgotten_fields_are_named(fault: str) -> None:
    """The correct layer passes; each fault is refused with a description."""
    scale = np.array([0.5, -1.0, 2.0])
    fn.check_layer(Scaled(scale), X)
    with pytest.raises(fn.LawError, match=SCALED[fault]):
        fn.check_layer(Scaled(scale, fault), X)


def test_a_backward_that_returns_no_pair_is_named_with_its_place() -> None:
    """The error appears in a network's backward, and in a step, where the first layer needs no input gradient."""
    layer = Scaled(np.ones(3), "no pair")
    wanted = r"backward must return \(grad_x, grad_params\), got ndarray"
    with pytest.raises(fn.StructureError, match=wanted) as caught:
        fn.backward((fn.ReLU(), layer), X, X)
    assert "1" in str(caught.value).split(":")[0]
    with pytest.raises(fn.StructureError, match=wanted):
        fn.value_and_grad(layer, X, np.zeros(3, np.int64), fn.softmax_cross_entropy)
    with pytest.raises(fn.StructureError, match=wanted):
        fn.check_gradients(layer, X)


def test_check_layer_takes_one_layer() -> None:
    """A network is refused, and the error names the function that takes networks."""
    net: Any = (fn.ReLU(), fn.Tanh())
    with pytest.raises(fn.StructureError, match="check_layer: takes one layer; for a network use check_gradients"):
        fn.check_layer(net, X)
