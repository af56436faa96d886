"""What layers of one's own, losses of one's own and runs meet that do not fit: who says what, and where it stands."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import numpy as np
import pytest
from attrs import frozen

import funcnet as fn
from funcnet.core.errors import ShapeError
from funcnet.data.batches import Batch

KEY = fn.Key(17)
X = np.linspace(-1, 1, 8, dtype=np.float32).reshape(4, 2)
LABELS = np.array([0, 1, 0, 1])
NET = fn.mlp(KEY, (2, 2))
BATCH = Batch(X, LABELS)


def unchanged(_: Any, x: fn.Array) -> fn.Array:
    """A forward that does nothing."""
    return x


def passed_on(params: Any, _: fn.Array, g: fn.Array) -> tuple[fn.Array, Any]:
    """Its backward."""
    return g, params


def register(record: Any) -> None:
    """Make it a layer that does nothing."""
    fn.register_layer(record, forward=unchanged, backward=passed_on)


class NoLayer:
    """Anything."""


class NoRecord(fn.Layer):
    """A subclass without a decorator of its own."""


@attrs.define(eq=False)
class Changeable:
    """Not even a layer."""


@frozen
class Comparing(fn.Layer):
    """It compares by value."""


@frozen(eq=False)
class Unregistered(fn.Layer):
    """Nobody said how it computes."""


@pytest.mark.parametrize(
    ("record", "facts"),
    [
        (NoLayer, ("register_layer needs a subclass of Layer", "@frozen(eq=False) class NoLayer(Layer)")),
        (Changeable, ("needs a subclass of Layer", "Changeable")),
        (3, ("needs a subclass of Layer", "got 3")),
        (NoRecord, ("NoRecord must be a frozen attrs class", "@frozen(eq=False) class NoRecord(Layer)")),
        (Comparing, ("Comparing must not compare by value", "@frozen(eq=False) class Comparing(Layer)")),
        (fn.Dense, ("Dense is registered already, as 'funcnet.Dense'",)),
    ],
)
def test_what_is_no_layer_cannot_be_registered(record: Any, facts: tuple[str, ...]) -> None:
    """With the line that makes it one."""
    with pytest.raises(fn.ConfigError) as caught:
        register(record)
    assert all(fact in str(caught.value) for fact in facts)


def test_a_layer_without_a_rule() -> None:
    """Who uses it learns where it stands and what to call."""
    with pytest.raises(fn.ConfigError, match=r"layer 1.*Unregistered has no rule; call register_layer\(Unregistered, "):
        fn.forward((fn.ReLU(), Unregistered()), X)


@frozen(eq=False)
class Refusing(fn.Layer):
    """Its backward finds fault with g."""


def refuse(_: Refusing, __: fn.Array, ___: fn.Array) -> tuple[fn.Array, Refusing]:
    """Always."""
    raise ShapeError("g must be something else", subject="Refusing")


fn.register_layer(Refusing, forward=unchanged, backward=refuse)


def test_an_error_in_a_backward_pass_has_its_place() -> None:
    """As one in a forward pass has; nested ones, too."""
    with pytest.raises(fn.ShapeError, match=r"^Refusing \(layer 1\.0\): g must be something else$"):
        fn.backward((fn.ReLU(), (Refusing(), fn.ReLU()), fn.ReLU()), X, X)


def test_an_output_shape_is_refused_with_its_place() -> None:
    """And a layer that does not tell its own is asked by a batch of no rows."""
    with pytest.raises(fn.ShapeError, match=r"layer 1"):
        fn.output_shape((fn.ReLU(), fn.Reshape((3,))), (4,))
    with pytest.raises(fn.ShapeError) as caught:
        fn.output_shape(NET, (3,))
    assert str(caught.value).startswith("Dense (layer 0): x must have ")
    assert "to match weight (2, 2), got " in str(caught.value)
    assert fn.output_shape((Refusing(), fn.dense(KEY, 4, 3)), (4,)) == (3,)


LOSSES: dict[str, tuple[Callable[[fn.Array], tuple[float, Any]], type[fn.FuncnetError], str]] = {
    "infinite": (lambda p: (float("inf"), p), fn.NonFiniteError, "the loss is inf; the learning rate may be too high"),
    "no number": (lambda p: (float("nan"), p), fn.NonFiniteError, "the loss is nan"),
    "another shape": (lambda p: (0.0, p[:1]), fn.ShapeError, r"the loss: its gradient must have shape \(4, 2\), got"),
    "another dtype": (
        lambda p: (0.0, p.astype(np.float64)),
        fn.DTypeError,
        "its gradient must be float32, got float64",
    ),
    "a list": (lambda p: (0.0, p.tolist()), fn.DTypeError, "its gradient must be a plain NumPy array, got list"),
}


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_that_does_not_keep_its_word(name: str) -> None:
    """What it gives is checked where it arrives."""
    loss, kind, message = LOSSES[name]
    with pytest.raises(kind, match=message):
        fn.value_and_grad(NET, X, LABELS, lambda prediction, _: loss(prediction))


@pytest.mark.parametrize("shard_size", [None, 2])
def test_weights_that_a_loss_does_not_take(shard_size: int | None) -> None:
    """A batch with weights is refused, not trained as if it had none."""
    batch = Batch(X, LABELS, np.ones(4, np.float32))

    def unweighted(prediction: fn.Array, target: Any) -> tuple[float, fn.Array]:
        return fn.softmax_cross_entropy(prediction, target)

    step = fn.sgd_step(unweighted, learning_rate=0.1, shard_size=shard_size)
    with pytest.raises(fn.ConfigError, match="takes no weights of examples"):
        step(NET, batch)


@pytest.mark.parametrize("shard_size", [None, 2])
def test_a_run_goes_on_in_its_own_arithmetic(shard_size: int | None) -> None:
    """In the other one it is refused, with the way back, by a step and by an epoch."""
    step = fn.train_step(fn.softmax_cross_entropy, shard_size=shard_size)
    state = fn.TrainState.create(NET, fn.SGD(learning_rate=0.1), key=KEY)
    message = r"the run began in native arithmetic, not in portable; go on inside funcnet.arithmetic.using\('native'\)"
    with fn.portable():
        with pytest.raises(fn.ConfigError, match=message):
            step(state, BATCH)
        with pytest.raises(fn.ConfigError, match=message):
            fn.train_epoch(step, state, [BATCH, BATCH])


def test_an_epoch_of_shards_is_the_plain_fold() -> None:
    """An epoch of a step that computes shards has the bits of its steps."""
    step = fn.sgd_step(fn.softmax_cross_entropy, learning_rate=0.1, shard_size=3)
    assert fn.equal(fn.train_epoch(step, NET, [BATCH, BATCH])[0], step(step(NET, BATCH)[0], BATCH)[0])


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ([2, 3], "shape must be a tuple of sizes without the batch, got [2, 3]"),
        (6, "shape must be a tuple of sizes without the batch, got 6; use (6,)"),
        ((0, 2), "a size must be an int of at least 1, got 0"),
        ((3, 2.0), "a size must be an int of at least 1, got 2.0"),
    ],
)
def test_a_reshape_has_a_shape(shape: Any, message: str) -> None:
    """A tuple of sizes of at least 1."""
    with pytest.raises(fn.ConfigError) as caught:
        fn.Reshape(shape)
    assert str(caught.value) == f"Reshape: {message}"


def test_a_reshape_keeps_every_number() -> None:
    """Rows of another size are refused with both sizes, with a batch and without; rows of no axes are of one."""
    message = "Reshape (layer 1): x must have rows of 6 numbers to fit (3, 2), got (2, 2), which are 4"
    net, x = (fn.ReLU(), fn.Reshape((3, 2))), X.reshape(2, 2, 2)
    for call in (lambda: fn.forward(net, x), lambda: fn.vjp(net, x), lambda: fn.output_shape(net, (2, 2))):
        with pytest.raises(fn.ShapeError) as caught:
            call()
        assert str(caught.value) == message
    assert fn.forward(fn.Reshape(()), X[:, :1]).shape == (4,)


ALONE: tuple[fn.Layer, ...] = (
    *(fn.Identity(), fn.ReLU(), fn.LeakyReLU(), fn.ELU(), fn.Sigmoid(), fn.Tanh(), fn.Softplus(), fn.SiLU()),
    *(fn.GELU(), fn.GELUTanh(), fn.Dropout(0.5), fn.Dropout(0.5, key=KEY), fn.Flatten(), fn.Reshape((2,))),
)


@pytest.mark.parametrize("layer", ALONE, ids=repr)
def test_a_layer_that_takes_any_batch_refuses_what_is_none(layer: fn.Layer) -> None:
    """In its own name, forward and in vjp."""
    refused: list[tuple[Any, type[fn.FuncnetError], str]] = [
        (np.array(1, np.float32), fn.ShapeError, "must have shape (B, ...), got (); for a batch of one, use x[None]"),
        (X.astype(np.int32), fn.DTypeError, "must be float32 or float64, got int32; use x.astype(np.float32)"),
        (X.tolist(), fn.DTypeError, "must be a plain NumPy array, got list; use np.asarray(x, dtype=np.float32)"),
    ]
    for x, kind, message in refused:
        for call in (fn.forward, fn.vjp):
            with pytest.raises(kind) as caught:
                call(layer, x)
            assert str(caught.value) == f"{type(layer).__name__}: x {message}"


def test_what_makes_a_value_is_not_the_value() -> None:
    """A schedule's maker and a loss's class are refused, with the call that was left out."""
    with pytest.raises(fn.ConfigError, match=r"SGD: .* got the function linear_warmup, .* call it: linear_warmup\("):
        fn.SGD(learning_rate=fn.linear_warmup)  # type: ignore[arg-type]  # what is refused
    with pytest.raises(fn.ConfigError, match=r"join_schedules: .* call it"):
        fn.join_schedules([fn.constant], [])  # type: ignore[list-item]  # what is refused
    loss: Any = fn.SoftmaxCrossEntropy
    with pytest.raises(fn.ConfigError, match=r"train_step: loss must be .* use SoftmaxCrossEntropy\(\)"):
        fn.train_step(loss)
    with pytest.raises(fn.ConfigError, match=r"sgd_step: loss must be .* use SoftmaxCrossEntropy\(\)"):
        fn.sgd_step(loss, learning_rate=0.1)


def test_a_run_is_no_network() -> None:
    """Who wants a network and gets a state says where the state has it."""
    state: Any = fn.TrainState.create(NET, fn.SGD(learning_rate=0.1), key=KEY)
    for function in (fn.outputs, fn.predict, fn.predict_proba):
        with pytest.raises(fn.StructureError, match=f"{function.__name__}: .* got a TrainState; use state.params"):
            function(state, X)
    with pytest.raises(fn.StructureError, match=r"sgd_step: .* got a TrainState; use train_step"):
        fn.sgd_step(fn.softmax_cross_entropy, learning_rate=0.1)(state, BATCH)


def test_one_column_has_no_classes() -> None:
    """One logit is no choice between classes: the message says how to read it."""
    for function in (fn.predict, fn.predict_proba):
        with pytest.raises(fn.ShapeError, match=r"got \(4, 1\); .* use outputs\(net, x\)\[:, 0\] > 0"):
            function(fn.mlp(KEY, (2, 1)), X)


REMOVED = (
    (fn.register_layer, "vjp", "forward and backward are all that a layer needs"),
    (fn.register_layer, "plan", "forward and backward are all that a layer needs"),
    (fn.register_elementwise, "value_into", "value and slope are all that an elementwise layer needs"),
    (fn.register_elementwise, "slope_into", "value and slope are all that an elementwise layer needs"),
)


@pytest.mark.parametrize(("registering", "keyword", "reason"), REMOVED)
def test_what_a_layer_could_have_once_is_refused(registering: Any, keyword: str, reason: str) -> None:
    """With the advice to delete it; a keyword that there never was is refused as Python does. Nothing is registered."""

    @attrs.frozen(eq=False)
    class Same(fn.Layer):
        pass

    elementwise = registering is fn.register_elementwise
    functions = (
        {"value": unchanged, "slope": passed_on} if elementwise else {"forward": unchanged, "backward": passed_on}
    )
    with pytest.raises(fn.ConfigError) as removed:
        registering(Same, **functions, **{keyword: None})
    assert str(removed.value) == f"{registering.__name__} takes no {keyword}=: delete it, {reason}"
    for other in ("jvp", "vjp" if elementwise else "value_into"):
        with pytest.raises(TypeError) as unknown:
            registering(Same, **functions, **{other: None})
        assert str(unknown.value) == f"{registering.__name__}() got an unexpected keyword argument '{other}'"
    registering(Same, **functions, name=f"tests.Same without {keyword}")


@pytest.mark.parametrize("value", [None, 3, "relu"])
@pytest.mark.parametrize(
    ("registering", "names"),
    [(fn.register_layer, ("forward", "backward")), (fn.register_elementwise, ("value", "slope"))],
)
def test_what_is_registered_is_functions(registering: Any, names: tuple[str, str], value: object) -> None:
    """It is refused when it is registered, and nothing is registered then."""

    @attrs.frozen(eq=False)
    class Same(fn.Layer):
        pass

    functions = dict(zip(names, (unchanged, passed_on), strict=True))
    for name in names:
        with pytest.raises(fn.ConfigError) as caught:
            registering(Same, **{**functions, name: value})
        assert str(caught.value) == f"{registering.__name__}: {name} must be a function, got {value!r}"
    registering(Same, **functions, name=f"tests.Same without {value!r} as {names[0]}")


@attrs.frozen(eq=False)
class Single(fn.Layer):
    """Its backward returns no pair."""

    scale: fn.Array


fn.register_layer(Single, forward=unchanged, backward=lambda _, __, g: g)  # type: ignore[arg-type, return-value]


@pytest.mark.parametrize("place", ["0.1", "1"])
def test_an_error_backward_has_its_place(place: str) -> None:
    """Also that of the first layer that is trained, however deep it stands."""
    single, relu = Single(np.ones(2, np.float32)), fn.ReLU()
    net: fn.Network = ((relu, single), relu) if place == "0.1" else (NET, single, relu)
    with pytest.raises(fn.StructureError) as caught:
        fn.value_and_grad(net, X, LABELS, fn.softmax_cross_entropy)
    wanted = "backward must return (grad_x, grad_params), got ndarray"
    assert str(caught.value) == f"Single (layer {place}): {wanted}"
