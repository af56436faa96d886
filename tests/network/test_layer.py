"""Registering your own layers: what is refused, and where an error in a layer happened."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from itertools import count
from typing import Any

import attrs
import numpy as np
import pytest
from attrs import evolve, frozen

import funcnet as fn
from funcnet.core.records import NESTING

KEY = fn.Key(17)
X = np.linspace(-1, 1, 8, dtype=np.float32).reshape(4, 2)
LABELS = np.array([0, 1, 0, 1])
NET = fn.mlp(KEY, (2, 2))


def unchanged(_: Any, x: fn.Array) -> fn.Array:
    """A forward function that does nothing."""
    return x


def passed_on(params: Any, _: fn.Array, g: fn.Array) -> tuple[fn.Array, Any]:
    """The backward function of ``unchanged``."""
    return g, params


class NoRecord(fn.Layer):
    """A subclass without a decorator."""


@attrs.define(eq=False)
class Mutable:
    """A mutable class that is not a layer."""


@frozen
class Comparing(fn.Layer):
    """A layer that compares by value."""


@frozen(eq=False)
class Unregistered(fn.Layer):
    """A layer without functions."""


@frozen(eq=False)
class Refusing(fn.Layer):
    """A layer whose backward function raises."""


@frozen(eq=False)
class Single(fn.Layer):
    """A layer whose backward function does not return a pair."""

    scale: fn.Array


def refuse(_: Refusing, __: fn.Array, ___: fn.Array) -> tuple[fn.Array, Refusing]:
    """Raise."""
    raise fn.ShapeError("g must be something else", subject="Refusing")


fn.register_layer(Refusing, forward=unchanged, backward=refuse)
fn.register_layer(Single, forward=unchanged, backward=lambda _, __, g: g)  # type: ignore[arg-type, return-value]


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (Mutable, "register_layer needs a subclass of Layer, got {}; write @frozen(eq=False) class Mutable(Layer)"),
        (3, "register_layer needs a subclass of Layer, got 3; write @frozen(eq=False) class 3(Layer)"),
        (NoRecord, "NoRecord must be a frozen attrs class; write @frozen(eq=False) class NoRecord(Layer)"),
        (
            Comparing,
            (
                "Comparing must not compare by value, because its fields may be arrays; "
                "write @frozen(eq=False) class Comparing(Layer)"
            ),
        ),
        (fn.Dense, "Dense is already registered as 'funcnet.Dense'"),
    ],
)  # fmt: skip
def test_what_is_no_layer_cannot_be_registered(record: Any, message: str) -> None:
    """The message has the line that makes a layer of it."""
    with pytest.raises(fn.ConfigError) as caught:
        fn.register_layer(record, forward=unchanged, backward=passed_on)
    assert str(caught.value) == message.format(record)


def test_a_layer_without_a_rule() -> None:
    """The message names the layer's place and the call that registers it."""
    with pytest.raises(fn.ConfigError, match=r"layer 1.*Unregistered has no rule; call register_layer\(Unregistered, "):
        fn.forward((fn.ReLU(), Unregistered()), X)


CELL = """
@frozen(eq=False)
class Bend(fn.Layer):
    weight: fn.Array

def bend(params, x):
    return x * params.weight

def bent(params, x, g):
    return g * params.weight * SLOPE, params

fn.register_layer(Bend, forward=bend, backward=bent)
"""


def ran_cell(slope: float, module: str = "__main__") -> Any:
    """Run a notebook's cell that defines and registers a layer, and return the class."""
    names: dict[str, Any] = {"fn": fn, "frozen": frozen, "SLOPE": slope, "__name__": module}
    exec(compile(CELL, "cell", "exec", dont_inherit=True), names)  # noqa: S102  # the text above
    return names["Bend"]


def test_a_cell_can_run_again() -> None:
    """The new class has the name and the new functions. A layer of the old class is refused, and nothing mixes them."""
    weight, g = np.full(2, 3.0), np.ones((1, 2))
    old = ran_cell(2.0)(weight)
    golden = fn.fingerprint(old)
    assert fn.backward(old, g, g)[0].tolist() == [[6, 6]]
    new = ran_cell(1.0)(weight)
    assert fn.backward(new, g, g)[0].tolist() == [[3, 3]]
    assert fn.fingerprint(new) == golden
    with pytest.raises(fn.ConfigError, match=r"^layer 1: Bend was defined again after this layer was created; create "):
        fn.forward((fn.ReLU(), old), g)
    with pytest.raises(fn.ConfigError, match="Bend is an earlier definition of Bend; create the value again with the "):
        fn.fingerprint(old)
    with pytest.raises(fn.StructureError, match="have the same names but were defined twice"):
        fn.sgd_update(new, old, learning_rate=0.1)


def test_a_class_can_be_registered_again_in_a_notebook() -> None:
    """The new functions are in force at once, also in programs that were recorded with the old ones."""
    kind = ran_cell(2.0)
    net, x, loss = kind(np.full(2, 3.0)), np.ones((1, 2)), fn.mean_squared_error
    values = [fn.value_and_grad(net, x, x, loss)[0] for _ in range(4)]
    fn.register_layer(kind, forward=unchanged, backward=passed_on)
    assert [*values, fn.value_and_grad(net, x, x, loss)[0]] == [4.0, 4.0, 4.0, 4.0, 0.0]


def test_a_function_can_be_defined_again_in_a_notebook() -> None:
    """A loss of the same qualified name takes the name; outside of ``__main__``, a taken name stays an error."""

    def made(module: str) -> Any:
        def loss() -> None:
            pass

        loss.__module__ = module
        return loss

    for _ in range(2):
        fn.register_name(loss := made("__main__"))
        assert fn.fingerprint(loss)
    fn.register_name(made("tests.elsewhere"))
    with pytest.raises(fn.ConfigError, match=r"is taken by <function .*>; pass a different name="):
        fn.register_name(made("tests.elsewhere"))
    with pytest.raises(fn.ConfigError, match=r"is taken by "):
        fn.register_name(made("__main__"), name="funcnet.huber")
    ran_cell(1.0, "tests.elsewhere")
    with pytest.raises(fn.ConfigError, match=r"is taken by <class 'tests.elsewhere.*>; pass a different name="):
        ran_cell(1.0, "tests.elsewhere")


def test_an_error_in_a_backward_pass_has_its_place() -> None:
    """The path goes through nested tuples, also where the first layer that is trained is deep inside."""
    with pytest.raises(fn.ShapeError, match=r"^Refusing \(layer 1\.0\): g must be something else$"):
        fn.backward((fn.ReLU(), (Refusing(), fn.ReLU()), fn.ReLU()), X, X)
    single, relu = Single(np.ones(2, np.float32)), fn.ReLU()
    nets: list[tuple[str, fn.Network]] = [("0.1", ((relu, single), relu)), ("1", (NET, single, relu))]
    for place, net in nets:
        with pytest.raises(fn.StructureError) as caught:
            fn.value_and_grad(net, X, LABELS, fn.softmax_cross_entropy)
        wanted = "backward must return (grad_x, grad_params), got ndarray"
        assert str(caught.value) == f"Single (layer {place}): {wanted}"


def test_an_output_shape_is_refused_with_its_place() -> None:
    """A layer without ``output_shape`` is asked with a batch of no rows."""
    with pytest.raises(fn.ShapeError, match=r"^Reshape \(layer 1\): x must have rows of 3 numbers"):
        fn.output_shape((fn.ReLU(), fn.Reshape((3,))), (4,))
    with pytest.raises(fn.ShapeError, match=r"^Dense \(layer 0\): x must have .* to match weight \(2, 2\), got "):
        fn.output_shape(NET, (3,))
    assert fn.output_shape((Refusing(), fn.dense(KEY, 4, 3)), (4,)) == (3,)


# ------------------------------------------------------------------------------------------------------- modes


def moded(training: Callable[[Any, fn.Key], Any], **more: Any) -> Any:
    """A layer with modes, of a new class; one of its settings differs from its default, and ``key`` has no default."""

    @frozen(eq=False)
    class Moded(fn.Layer):
        weight: fn.Weight
        key: fn.Key | None
        strength: float = 0.5
        active: bool = False

        def check(self) -> None:
            if self.strength < 0:
                raise fn.ConfigError("strength must be 0 or more")

    functions: dict[str, Any] = {
        "forward": unchanged,
        "backward": passed_on,
        "is_training": is_active,
        **more,
    }
    fn.register_layer(Moded, training=training, name=f"tests.Moded {next(NUMBERS)}", **functions)
    return Moded(np.ones((2, 2)), None, 0.75)


def is_active(params: Any) -> bool:
    """Whether the layer is in its training form."""
    active: bool = params.active
    return active


def unmoved(params: Any) -> Any:
    """Return the layer itself: no way back."""
    return params


def doubled(params: Any) -> Any:
    """The way back from the training form ``a setting``."""
    return evolve(params, active=False, strength=params.strength * 2)


NUMBERS = count()
INVERTIBLE: dict[str, Callable[[Any, fn.Key], Any]] = {
    "a flag": lambda params, _: evolve(params, active=True),
    "a key and a flag": lambda params, key: evolve(params, active=True, key=key),
    "a child key": lambda params, key: evolve(params, active=True, key=key.child("noise")),
}
NOT_INVERTIBLE: dict[str, Callable[[Any, fn.Key], Any]] = {
    "a setting": lambda params, _: evolve(params, active=True, strength=params.strength / 2),
    "an array": lambda params, _: evolve(params, active=True, weight=params.weight * 2),
    "a refusal": lambda params, _: evolve(params, active=True, strength=1.5 if params.strength == 0.75 else -1.0),
}


@pytest.mark.parametrize("name", INVERTIBLE)
def test_the_plain_form_of_a_users_layer_is_derived(name: str) -> None:
    """The fields that ``training`` sets return to their defaults, also inside a combinator. The others are kept."""
    layer = moded(INVERTIBLE[name])
    net = (fn.Residual((layer, fn.Repeat(layer, 2))), layer)
    assert fn.equal(fn.plain(fn.training(net, KEY)), net)
    assert not fn.equal(fn.training(net, KEY), net)


@pytest.mark.parametrize("name", NOT_INVERTIBLE)
def test_a_training_form_without_a_way_back_is_refused(name: str) -> None:
    """``plain`` of ``register_layer`` is the way back where none can be derived; the message asks for it."""
    trained = fn.training((fn.ReLU(), (moded(NOT_INVERTIBLE[name]),)), KEY)
    with pytest.raises(
        fn.ConfigError, match=r"\(layer 1\.0\): its plain form is unknown; pass plain= to register_layer"
    ):
        fn.plain(trained)
    layer = moded(NOT_INVERTIBLE["a setting"], plain=doubled)
    assert fn.equal(fn.plain(fn.training(layer, KEY)), layer)
    with pytest.raises(fn.ConfigError, match="its plain form is unknown"):
        fn.plain(fn.training(moded(INVERTIBLE["a flag"], plain=unmoved), KEY))


def test_a_way_back_needs_a_way_there() -> None:
    """``plain`` without ``training`` is refused."""

    @frozen(eq=False)
    class Back(fn.Layer):
        pass

    with pytest.raises(
        fn.ConfigError, match="Back has plain= without a training form; give training= and is_training="
    ):
        fn.register_layer(Back, forward=unchanged, backward=passed_on, plain=unmoved)


# -------------------------------------------------------------------------------------------------- usual mistakes


def test_a_layer_has_no_methods_of_other_libraries() -> None:
    """The message names the function that takes the place of the method. Other names have Python's own message."""
    advice = "'Dense' object has no attribute 'forward'; a layer is a record of parameters, so use fn.forward(net, x)"
    with pytest.raises(AttributeError) as caught:
        NET[0].forward(X)  # type: ignore[attr-defined]  # a layer has no methods
    assert str(caught.value) == advice
    assert not hasattr(NET[0], "another_name")


def nested(levels: int) -> Any:
    """A layer inside this number of tuples."""
    net: fn.Network = fn.dense(KEY, 2, 2)
    for _ in range(levels):
        net = (net,)
    return net


STEP = fn.sgd_step(fn.softmax_cross_entropy, learning_rate=0.1)
BATCH, RATE = fn.Batch(X, LABELS), fn.SGD(0.1)
DEEP: dict[str, Callable[[Any], object]] = {
    "forward": lambda net: fn.forward(net, X),
    "backward": lambda net: fn.backward(net, X, X),
    "vjp": lambda net: fn.vjp(net, X)[1](X),
    "activations": lambda net: fn.activations(net, X),
    "value_and_grad": lambda net: fn.value_and_grad(net, X, LABELS, fn.softmax_cross_entropy),
    "output_shape": lambda net: fn.output_shape(net, (2,)),
    "summary": lambda net: fn.summary(net, (2,)),
    "predict": lambda net: fn.predict(net, X, fn.Multiclass()),
    "evaluate": lambda net: fn.evaluate(net, X, LABELS, fn.softmax_cross_entropy),
    "training": lambda net: fn.training(net, KEY),
    "plain": fn.plain,
    "calibrate": lambda net: fn.calibrate(net, X),
    "explain": lambda net: fn.explain(net, X, LABELS, fn.softmax_cross_entropy),
    "first_nonfinite": lambda net: fn.first_nonfinite(net, X, LABELS, fn.softmax_cross_entropy),
    "gradient_statistics": lambda net: fn.gradient_statistics(net, X, LABELS, fn.softmax_cross_entropy),
    "check_gradients": lambda net: fn.check_gradients(net, X),
    "equal": lambda net: fn.equal(net, net),
    "astype": lambda net: fn.astype(net, np.float64),
    "map_parameters": lambda net: fn.map_parameters(lambda p: p, net),
    "trained_arrays": fn.trained_arrays,
    "global_norm": fn.global_norm,
    "sgd_update": lambda net: fn.sgd_update(net, net, learning_rate=0.1),
    "Momentum": lambda net: fn.Momentum(0.1).init(net),
    "WeightDecay": lambda net: fn.WeightDecay(RATE, 0.1).update(net, net, fn.Moments.of(), 0),
    "TrainState": lambda net: fn.TrainState.create(net, RATE, key=KEY),
    "a step": lambda net: STEP(net, BATCH),
    "train_epoch": lambda net: fn.train_epoch(STEP, net, [BATCH] * 3),
    "program": lambda net: fn.program(STEP, net, BATCH),
    "fingerprint": fn.fingerprint,
    "pickle": lambda net: pickle.loads(pickle.dumps(net)),  # noqa: S301  # the test's own bytes
}


@pytest.mark.parametrize("name", DEEP)
def test_nesting_has_one_limit(name: str) -> None:
    """Every function takes a network of 64 levels, and refuses one of 2,000 without a RecursionError."""
    DEEP[name](nested(NESTING))
    if name != "pickle":
        levels = "levels deep" if name == "fingerprint" else "64 levels of tuples and combinators, got more"
        with pytest.raises(fn.FuncnetError, match=levels):
            DEEP[name](nested(2_000))


@pytest.mark.parametrize("name", DEEP)
def test_combinators_can_be_nested_to_the_limit(name: str) -> None:
    """A combinator beyond the limit cannot be created, and every function takes one at the limit."""
    net: Any = fn.dense(KEY, 2, 2)
    for level in range(NESTING):
        net = fn.Frozen(net) if level == 9 else fn.Parallel((net.net,)) if level == 20 else fn.Residual(net)
    DEEP[name](net if name != "activations" else (net.net,))
    combinators: tuple[Callable[[Any], Any], ...] = (fn.Residual, fn.Frozen, lambda net: fn.Repeat(net, 1))
    for combinator in combinators:
        with pytest.raises(fn.StructureError, match="64 levels of tuples and combinators, got more"):
            combinator(net)


REGISTERING = (
    (fn.register_layer, ("forward", "backward"), ("vjp", "plan"), "forward and backward are all that a layer needs"),
    (
        fn.register_elementwise,
        ("value", "slope"),
        ("value_into", "slope_into"),
        "value and slope are all that an elementwise layer needs",
    ),
)


@pytest.mark.parametrize(("registering", "names", "keywords", "reason"), REGISTERING)
def test_what_is_registered_is_functions(
    registering: Any, names: tuple[str, str], keywords: tuple[str, str], reason: str
) -> None:
    """Removed and unknown keywords, and values that are not functions, are refused, and nothing is registered."""

    @frozen(eq=False)
    class Same(fn.Layer):
        pass

    functions = dict(zip(names, (unchanged, passed_on), strict=True))
    for keyword in keywords:
        with pytest.raises(fn.ConfigError) as caught:
            registering(Same, **functions, **{keyword: None})
        assert str(caught.value) == f"{registering.__name__} does not take {keyword}=; delete it: {reason}"
    with pytest.raises(TypeError) as unknown:
        registering(Same, **functions, jvp=None)
    assert str(unknown.value) == f"{registering.__name__}() got an unexpected keyword argument 'jvp'"
    for name in names:
        for value in (None, 3, "relu"):
            with pytest.raises(fn.ConfigError) as caught:
                registering(Same, **{**functions, name: value})
            assert str(caught.value) == f"{registering.__name__}: {name} must be a function, got {value!r}"
    registering(Same, **functions, name=f"tests.Same of {registering.__name__}")
