"""The laws, checked over every layer and over random networks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import CASES, Case, inputs, near_a_kink
from random_networks import networks

import funcnet as fn
from funcnet.core.trees import leaves, map_parameters, same_bits
from funcnet.network.layer import rule_of
from funcnet.network.modes import in_training
from funcnet.random.draws import uniform

KEY = fn.Key(20)
every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
seeds = st.integers(0, 2**32 - 1)


def snapshot(net: fn.Network) -> list[tuple[str, bytes]]:
    """The path and the bytes of every array of a network."""
    return [(leaf.path, leaf.array.tobytes()) for leaf in leaves(net)]


def same(first: tuple[fn.Array, fn.Network], second: tuple[fn.Array, fn.Network]) -> bool:
    """Whether two results of backward have the same bits."""
    return same_bits(first[0], second[0]) and fn.equal(first[1], second[1])


def random_g(net: fn.Network, x: fn.Array) -> fn.Array:
    """A random gradient with the shape of the network's output."""
    y = fn.forward(net, x)
    return inputs(KEY.child("g"), *y.shape, dtype=y.dtype.type)


def check_purity(net: fn.Network, x: fn.Array) -> None:
    """Check that a second call gives the same bits, that no argument changes, and that locked inputs are accepted."""
    g = random_g(net, x)
    before = (snapshot(net), x.tobytes(), g.tobytes())
    first = fn.backward(net, x, g)
    assert same_bits(fn.forward(net, x), fn.forward(net, x))
    assert same(first, fn.backward(net, x, g))
    y, pull = fn.vjp(net, x)
    assert isinstance(pull, fn.Pullback)
    assert same_bits(y, fn.forward(net, x))
    assert same(first, pull(g))
    assert same(first, pull(g))
    assert fn.equal(first[1], pull.params_only(g))
    assert before == (snapshot(net), x.tobytes(), g.tobytes())


def check_memory_order(net: fn.Network, x: fn.Array) -> None:
    """Check that Fortran order and negative strides do not change the bits and that outputs are C-contiguous."""
    g = random_g(net, x)
    flipped = np.ascontiguousarray(x[::-1])[::-1]
    for other in (np.asfortranarray(x), flipped):
        assert same_bits(fn.forward(net, x), fn.forward(net, other))
        assert same(fn.backward(net, x, g), fn.backward(net, other, np.asfortranarray(g)))
    assert fn.forward(net, x).flags.c_contiguous
    assert fn.backward(net, x, g)[0].flags.c_contiguous


def check_gradient_is_a_network(net: fn.Network, x: fn.Array) -> None:
    """Check that the gradient has the network's records, shapes and dtypes, and can be mapped together with it."""
    grads = fn.backward(net, x, random_g(net, x))[1]
    assert [leaf.path for leaf in leaves(net)] == [leaf.path for leaf in leaves(grads)]
    assert repr(grads) == repr(net)
    map_parameters(lambda p, g: p + g, net, grads)


def check_linear(net: fn.Network, x: fn.Array) -> None:
    """Check that backward is linear in g: doubling is exact, and a sum is close."""
    g, other = random_g(net, x), inputs(KEY.child("other"), *fn.forward(net, x).shape)
    grad_x, grads = fn.backward(net, x, g)
    twice_x, twice = fn.backward(net, x, 2 * g)
    assert same_bits(twice_x, 2 * grad_x)
    assert fn.equal(twice, map_parameters(lambda a: 2 * a, grads))
    other_x, other_grads = fn.backward(net, x, other)
    sum_x, sums = fn.backward(net, x, g + other)
    np.testing.assert_allclose(sum_x, grad_x + other_x, rtol=1e-9, atol=1e-12)
    wanted = map_parameters(lambda a, b: a + b, grads, other_grads)
    for leaf, total in zip(leaves(wanted), leaves(sums), strict=True):
        np.testing.assert_allclose(total.array, leaf.array, rtol=1e-9, atol=1e-12)


def check_adjoint(net: fn.Network, x: fn.Array) -> None:
    """Check <g, J v> = <J' g, v>, with J v by central differences along a random v in input and parameters.

    Ids do not move.
    """
    g, h = random_g(net, x), 1e-6
    v = inputs(KEY.child("v"), *x.shape) if x.dtype.kind == "f" else np.zeros_like(x)
    grad_x, grads = fn.backward(net, x, g)
    vs = iter(inputs(KEY.child("v", i), *leaf.array.shape) for i, leaf in enumerate(leaves(net)) if leaf.trained)
    direction = map_parameters(lambda _: next(vs), net)

    def along(t: float) -> fn.Array:
        return fn.forward(map_parameters(lambda p, d: p + t * d, net, direction), (x + t * v).astype(x.dtype))

    def quotient(h: float) -> float:
        return float((g * (along(h) - along(-h)) / (2 * h)).sum())

    product = (4 * quotient(h / 2) - quotient(h)) / 3  # without the error of h², which deep networks make large
    pairs = zip(leaves(grads), leaves(direction), strict=True)
    wanted = float((grad_x * v).sum()) + sum(float((a.array * b.array).sum()) for a, b in pairs if a.trained)
    assert product == pytest.approx(wanted, rel=1e-6, abs=1e-7)


def check_backward_is_the_pullback(net: fn.Network, x: fn.Array) -> None:
    """Check that a layer's registered forward and backward have the bits of ``vjp``."""
    if isinstance(net, tuple):
        for layer in net:
            check_backward_is_the_pullback(layer, x)
            x = fn.forward(layer, x)
        return
    g, rule = random_g(net, x), rule_of(net)
    y, pull = fn.vjp(net, x)
    assert same_bits(rule.forward(net, x), y)
    assert same(rule.backward(net, x, g), pull(g))


def check_empty_batch(net: fn.Network, x: fn.Array) -> None:
    """Check that an empty batch gives an empty output and zero gradients."""
    y = fn.forward(net, x[:0])
    assert y.shape == (0, *fn.forward(net, x).shape[1:])
    grad_x, grads = fn.backward(net, x[:0], y)
    assert grad_x.shape == x[:0].shape
    assert not any(leaf.array.any() for leaf in leaves(grads) if leaf.trained)


def check_dtype(net: fn.Network, x: fn.Array) -> None:
    """Check that a float32 network computes and learns in float32."""
    small, x32 = fn.astype(net, np.float32), x.astype(np.float32) if x.dtype.kind == "f" else x
    y = fn.forward(small, x32)
    grad_x, grads = fn.backward(small, x32, y)
    updated = fn.sgd_update(small, grads, learning_rate=np.float64(0.1))
    assert {y.dtype, grad_x.dtype, *(leaf.array.dtype for leaf in leaves((grads, updated)))} == {np.dtype(np.float32)}


def check_output_shape(net: fn.Network, x: fn.Array) -> None:
    """Check that ``output_shape`` gives the shape of the output."""
    assert fn.output_shape(net, x.shape[1:]) == fn.forward(net, x).shape[1:]


CHECKS = (
    check_output_shape,
    check_purity,
    check_memory_order,
    check_gradient_is_a_network,
    check_linear,
    check_adjoint,
    check_backward_is_the_pullback,
    check_empty_batch,
    check_dtype,
)
every_check = pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)


@every_case
@every_check
@pytest.mark.parametrize("batch", [1, 5])
def test_every_layer_keeps_the_laws(check: Callable[[fn.Network, fn.Array], None], case: Case, batch: int) -> None:
    """Each law holds for each layer, for a batch of one row and a batch of five."""
    check(case.layer(), case.x(batch))


@pytest.mark.slow
@settings(max_examples=5 * settings().max_examples)  # 200 in the default profile
@given(net=networks(), seed=seeds)
def test_random_networks_keep_the_laws(net: tuple[fn.Network, ...], seed: int) -> None:
    """All laws hold for two hundred random networks."""
    x = inputs(fn.Key(seed), 3, 4)
    for check in CHECKS:
        if check is not check_adjoint or not near_a_kink(net, x):
            check(net, x)


@given(a=networks(), data=st.data(), seed=seeds)
def test_composition_is_concatenation(a: tuple[fn.Network, ...], data: st.DataObject, seed: int) -> None:
    """forward(a + b, x) is forward(b, forward(a, x)); a tuple inside a tuple is a layer; forward((), x) is x."""
    x = inputs(fn.Key(seed), 3, 4)
    middle = fn.forward(a, x)
    b = data.draw(networks(middle.shape[1]))
    whole = fn.forward(a + b, x)
    assert same_bits(whole, fn.forward(b, middle))
    assert same_bits(whole, fn.forward((a, b), x))
    assert fn.forward((), x) is x
    g = random_g(a + b, x)
    grad_x, grads = fn.backward(a + b, x, g)
    nested_x, nested = fn.backward((a, b), x, g)
    assert same_bits(grad_x, nested_x)
    assert fn.equal(grads, (*nested[0], *nested[1]))


@given(net=networks(), seed=seeds)
def test_activations_end_in_the_output(net: tuple[fn.Network, ...], seed: int) -> None:
    """There is one array per top-level element, and the last one is the network's output."""
    x = inputs(fn.Key(seed), 3, 4)
    outputs = fn.activations(net, x)
    assert len(outputs) == len(net)
    assert same_bits((outputs or [x])[-1], fn.forward(net, x))


@given(net=networks(), seed=seeds)
def test_the_update_is_separate(net: tuple[fn.Network, ...], seed: int) -> None:
    """A zero gradient changes no value, an update changes none of its arguments, and the closed form holds."""
    x = inputs(fn.Key(seed), 3, 4)
    grads = fn.backward(net, x, random_g(net, x))[1]
    before = snapshot(net), snapshot(grads)
    updated = fn.sgd_update(net, grads, learning_rate=0.5)
    assert (snapshot(net), snapshot(grads)) == before
    for new, old, grad in zip(leaves(updated), leaves(net), leaves(grads), strict=True):
        assert same_bits(new.array, old.array - 0.5 * grad.array if old.trained else old.array)
        assert not new.array.flags.writeable
    zero = map_parameters(np.zeros_like, net)
    assert fn.equal(fn.sgd_update(net, zero, learning_rate=0.5), net)


@given(net=networks(), seed=seeds)
def test_the_row_order_only_permutes_rows(net: tuple[fn.Network, ...], seed: int) -> None:
    """Reversed rows give reversed outputs up to rounding, unless the network draws masks by position."""
    if "key=Key" in repr(net):
        return
    x = inputs(fn.Key(seed), 5, 4)
    np.testing.assert_allclose(fn.forward(net, x[::-1])[::-1], fn.forward(net, x), rtol=1e-9, atol=1e-12)


@given(net=networks(), seed=seeds)
def test_mode_is_data(net: tuple[fn.Network, ...], seed: int) -> None:
    """The training network has the same records and the same array objects, and the same key gives the same network."""
    key = fn.Key(seed)
    keyed = fn.training(net, key)
    assert fn.equal(keyed, fn.training(net, key))
    assert [leaf.path for leaf in leaves(keyed)] == [leaf.path for leaf in leaves(net)]
    assert all(a.array is b.array for a, b in zip(leaves(keyed), leaves(net), strict=True))


@every_case
def test_plain_is_the_way_back(case: Case) -> None:
    """``plain`` is the inverse of ``training`` and keeps every array. Evaluation refuses the training form."""
    layer, key = case.layer(), KEY.child("mode")
    net: tuple[fn.Network, ...] = (layer, (fn.Residual((fn.Dropout(0.3), layer)), fn.batch_norm(4)), fn.Dropout(0.1))
    evaluating = fn.plain(net)
    trained = fn.training(evaluating, key)
    assert not in_training(evaluating)
    assert in_training(trained)
    for back in (fn.plain(trained), fn.plain(fn.training(trained, KEY)), fn.plain(evaluating)):
        assert fn.equal(back, evaluating)
        assert repr(back) == repr(evaluating)
        assert all(a.array is b.array for a, b in zip(leaves(back), leaves(net), strict=True))
    assert fn.equal(fn.training(fn.plain(trained), key), trained)
    assert fn.plain(evaluating) is evaluating
    x = case.x(2)
    wanted = r" \(layer .*needs the layer in its plain form, got .*; use fn.plain\(net\)$"
    for evaluate in EVALUATIONS.values():
        with pytest.raises(fn.ConfigError, match=wanted):
            evaluate(trained, x)


EVALUATIONS: dict[str, Callable[[Any, fn.Array], object]] = {
    "outputs": fn.outputs,
    "rowwise outputs": lambda net, x: fn.outputs(net, x, rowwise=True),
    "predict": lambda net, x: fn.predict(net, x, fn.Multiclass()),
    "predict_proba": lambda net, x: fn.predict_proba(net, x, fn.Multiclass()),
    "evaluate": lambda net, x: fn.evaluate(net, x, np.zeros(len(x), np.int64), fn.softmax_cross_entropy),
    "Frozen": lambda net, _: fn.Frozen(net),
}


@given(net=networks(), seed=seeds)
def test_plain_is_the_way_back_for_random_networks(net: tuple[fn.Network, ...], seed: int) -> None:
    """This holds for nested combinators, too."""
    evaluating = fn.plain(net)
    assert fn.equal(fn.plain(fn.training(evaluating, fn.Key(seed))), evaluating)
    assert fn.equal(fn.plain(fn.training(net, fn.Key(seed))), evaluating)
    fn.outputs(evaluating, inputs(fn.Key(seed), 3, 4))


def test_randomness_is_an_argument() -> None:
    """The same key draws the same mask, regardless of earlier calls; a different key draws a different mask."""
    x = np.ones((8, 8))
    first = fn.forward(fn.Dropout(0.5, key=KEY), x)
    fn.forward(fn.Dropout(0.5, key=KEY.child(1)), x)
    assert same_bits(first, fn.forward(fn.Dropout(0.5, key=KEY), x))
    assert not same_bits(first, fn.forward(fn.Dropout(0.5, key=KEY.child(1)), x))


def test_dropout_drops_what_draws_less_than_the_rate() -> None:
    """Draws are in [0, 1). A draw equal to the rate is kept, so that a rate of 0 drops nothing."""
    draws = uniform(KEY, (2, 50))
    rate = float(draws[1, 7])
    y = fn.forward(fn.Dropout(rate, key=KEY), np.ones((2, 50)))
    assert ((y == 0) == (draws < rate)).all()


def test_each_layer_draws_from_the_key_of_its_place() -> None:
    """The key of a layer is a child by its positions and by the names of the fields that it is in."""
    drop, inside = fn.Dropout(0.5), KEY.child(6, "net", 0)
    *six, residual, parallel = fn.training((*[drop] * 6, fn.Residual((drop,)), fn.Parallel((drop, drop), "add")), KEY)
    assert [layer.key for layer in six if isinstance(layer, fn.Dropout)] == [KEY.child(i) for i in range(6)]
    assert fn.equal(residual, fn.Residual((fn.Dropout(0.5, inside),)))
    assert fn.equal(parallel, fn.Parallel(tuple(fn.Dropout(0.5, KEY.child(7, "nets", i)) for i in (0, 1)), "add"))


def test_the_draws_inside_a_combinator_are_permanent() -> None:
    """The committed output may not change, because a saved run would not resume with its bits."""
    net = fn.training((fn.Residual((fn.Dropout(0.5),)),), fn.Key(7))
    assert fn.forward(net, np.ones((2, 4))).tolist() == [[1, 3, 1, 3], [3, 3, 1, 3]]


def test_dropout_keeps_the_mean_and_drops_the_rate() -> None:
    """A share of about ``rate`` is 0, the rest is scaled, and the mean is preserved."""
    y = fn.forward(fn.Dropout(0.3, key=KEY), np.ones((200, 500)))
    assert (y == 0).mean() == pytest.approx(0.3, abs=0.005)
    assert set(np.unique(y)) == {0.0, 1 / 0.7}
    assert y.mean() == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_layer_of_float32_makes_arrays_of_float32(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """This holds for results and intermediate arrays: float64 would take NumPy longer and give the same bits."""
    layer, x = fn.astype(case.layer(), np.float32), case.x(3, np.float32)
    g = fn.forward(layer, x)
    made: set[np.dtype[Any]] = set()

    def noted(make: Callable[..., Any]) -> Callable[..., Any]:
        def make_and_note(*arguments: Any, **settings: Any) -> Any:
            array = make(*arguments, **settings)
            made.add(array.dtype)
            return array

        return make_and_note

    for name in ("array", "empty", "full", "ones", "zeros"):
        monkeypatch.setattr(np, name, noted(getattr(np, name)))
        if name != "array":
            monkeypatch.setattr(np, f"{name}_like", noted(getattr(np, f"{name}_like")))
    fn.forward(layer, x)
    fn.backward(layer, x, g)
    assert {dtype for dtype in made if dtype.kind == "f"} <= {np.dtype(np.float32)}
