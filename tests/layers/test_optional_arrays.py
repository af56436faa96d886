"""Layers over positions, norms over several axes, and layers without a bias, a scale or an offset."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
import pytest
from attrs import evolve
from networks import batch_norm, dense, inputs, layer_norm, rms_norm, without
from optimizer_table import OPTIMIZERS

import funcnet as fn
from funcnet.arithmetic import Name, using
from funcnet.core.trees import leaves, same_bits
from funcnet.optimizers import Optimizer

KEY: Final = fn.Key(120)
NEUTRAL: Final = {"bias": 0.0, "offset": 0.0, "scale": 1.0}
LAYERS: Final[tuple[tuple[fn.Layer, tuple[str, ...]], ...]] = (
    (dense(KEY, 4, 3), ("bias",)),
    *((layer_norm(KEY, (2, 4), 1e-5, axes), names) for axes in (1, 2) for names in (("scale",), ("scale", "offset"))),
    (layer_norm(KEY, (2, 4), 1e-5, 2), ("offset",)),
    *((rms_norm(KEY, (2, 4), 1e-5, axes), ("scale",)) for axes in (1, 2)),
    *(
        (batch_norm(KEY, (4,), 1e-5, training=training), names)
        for training in (False, True)
        for names in (("scale",), ("offset",), ("scale", "offset"))
    ),
)
NET: Final = (
    fn.dense(KEY.child(0), 4, 8, bias=False),
    fn.batch_norm(8, scale=False),
    fn.Tanh(),
    fn.layer_norm(8, scale=False, offset=False),
    fn.rms_norm(8, scale=False),
    fn.dense(KEY.child(1), 8, 3),
)
X: Final = inputs(KEY.child("x"), 30, 4, dtype=np.float32)
every_arithmetic = pytest.mark.parametrize(
    ("arithmetic", "dtype"), [("native", np.float32), ("native", np.float64), ("portable", np.float32)]
)


def neutral(layer: fn.Layer, *names: str) -> fn.Layer:
    """The layer with arrays that change nothing."""
    return evolve(layer, **{name: np.full_like(getattr(layer, name), NEUTRAL[name]) for name in names})


# ------------------------------------------------------------------------------------------------ no array


@every_arithmetic
@pytest.mark.parametrize(("layer", "names"), LAYERS, ids=lambda part: type(part).__name__)
def test_a_layer_without_an_array_is_one_with_a_neutral_array(
    layer: fn.Layer, names: tuple[str, ...], arithmetic: Name, dtype: fn.FloatDType
) -> None:
    """The output and the other gradients are equal. The gradient's record has no array there, either."""
    x = inputs(KEY, 5, 3, 2, 4, dtype=dtype)
    layer = fn.astype(layer, dtype)
    with using(arithmetic):
        results: list[Any] = []
        for net in (without(layer, *names), neutral(layer, *names)):
            y, pull = fn.vjp(net, x)
            results.append((y, pull(inputs(KEY.child("g"), *y.shape, dtype=dtype))))
    (y, (grad_x, grads)), (wanted_y, (wanted_x, wanted)) = results
    assert y.dtype == dtype
    assert (y == wanted_y).all()
    assert (grad_x == wanted_x).all()
    assert fn.equal(grads, without(wanted, *names))


def test_the_makers_leave_out_what_is_not_wanted() -> None:
    """The weight keeps its bits, and the other arrays keep their values."""
    init = fn.initializers.he_normal
    false = cast("bool", np.bool_(0))
    with_bias, plain = fn.dense(KEY, 4, 3, init=init), fn.dense(KEY, 4, 3, bias=false, init=init)
    assert plain.bias is None
    assert same_bits(plain.weight, with_bias.weight)
    assert repr(fn.layer_norm((2, 3), scale=False)) == (
        "LayerNorm(scale=None, offset=float32 (2, 3), epsilon=1e-05, axes=2)"
    )
    assert fn.equal(fn.layer_norm(3, scale=False, offset=False, epsilon=0.5), fn.LayerNorm(None, None, 0.5))
    assert fn.equal(fn.rms_norm((2, 3), scale=False), fn.RMSNorm(None, axes=2))
    assert fn.equal(fn.batch_norm(3, scale=False, offset=False), fn.BatchNorm(None, None))


def test_a_norm_without_arrays_takes_both_dtypes_and_any_size() -> None:
    """The output has the dtype and the shape of x; ``calibrate`` gives a BatchNorm its size and its dtype."""
    for layer in (fn.LayerNorm(None, None), fn.RMSNorm(None), fn.BatchNorm(None, None, training=True)):
        for dtype, size in ((np.float32, 3), (np.float64, 7)):
            x = inputs(KEY, 4, size, dtype=dtype)
            y, grad_x = fn.forward(layer, x), fn.backward(layer, x, x)[0]
            assert y.dtype == grad_x.dtype == dtype
            assert y.shape == grad_x.shape == x.shape
            assert fn.output_shape(layer, (5, size)) == (5, size)
    calibrated = fn.calibrate(fn.BatchNorm(None, None), X)
    np.testing.assert_allclose(fn.forward(calibrated, X).std(axis=0), 1, rtol=1e-3)
    with pytest.raises(fn.DTypeError, match=r"x must be float32 to match mean, got float64; use x\.astype"):
        fn.forward(calibrated, X.astype(np.float64))


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_every_optimizer_trains_and_resumes_it(optimizer: Optimizer, tmp_path: Path) -> None:
    """What is None stays None; the arrays change; a run that is saved and resumed has the bits of the whole run."""
    batches = fn.minibatches(X, np.arange(30) % 3, 7, key=KEY.child("order"))
    step = fn.train_step(fn.softmax_cross_entropy)
    start = fn.TrainState.create(NET, optimizer, key=KEY)
    whole, _ = fn.train_epoch(step, start, batches)
    half, _ = fn.train_epoch(step, start, batches[:3])
    fn.save(tmp_path / "half", half)
    rest, _ = fn.train_epoch(step, fn.load(tmp_path / "half", like=start), batches[3:])
    assert fn.fingerprint(rest) == fn.fingerprint(whole)
    assert repr((whole.params, *whole.moments.networks)) == repr((NET, *start.moments.networks))
    for old, new in zip(fn.trained_arrays(NET), fn.trained_arrays(whole.params), strict=True):
        assert not same_bits(old, new)


def test_a_network_with_an_array_is_another_structure(tmp_path: Path) -> None:
    """Updates and files refuse one for the other; the message shows both."""
    layer, plain = fn.dense(KEY, 4, 3), fn.dense(KEY, 4, 3, bias=False)
    fn.save(tmp_path / "plain", plain)
    assert fn.equal(fn.load(tmp_path / "plain", like=plain), plain)
    assert len({fn.fingerprint(each) for each in (layer, plain, evolve(layer, bias=np.zeros(3, np.float32)))}) == 2
    calls: tuple[Callable[[], object], ...] = (
        lambda: fn.sgd_update(layer, plain, learning_rate=0.1),
        lambda: fn.sgd_update(plain, layer, learning_rate=0.1),
        lambda: fn.load(tmp_path / "plain", like=layer),
    )
    for call in calls:
        with pytest.raises(fn.FuncnetError, match=r"(?s)bias=(None|float32 \(3,\)).*bias=(None|float32 \(3,\))"):
            call()


FINGERPRINTS: Final[dict[str, tuple[fn.Layer, str]]] = {
    "Dense": (fn.dense(fn.Key(0), 2, 3), "f4a28f4a707ceaf379a1e92356baa9ff7c8f4d5764d7615d5b5dabda446f7352"),
    "LayerNorm": (fn.layer_norm(3), "ddb389821f69fc5019d33156bb456ed351c327e73ed9ea5a5d383138416ee3b2"),
    "RMSNorm": (fn.rms_norm(3), "5c7fac42c046cfc153beec7ca83e4ae2dc56b15d4795f1358d6aa810a280036a"),
    "BatchNorm": (fn.batch_norm(3), "10f99059795b8096d8f2d322c074e01c4ec4bb4740933ab21fbfcee2e1f9830d"),
}


@pytest.mark.parametrize("name", FINGERPRINTS)
def test_fingerprints_of_earlier_versions_stay(name: str) -> None:
    """The fingerprint does not know the field ``axes`` with its default, so older files can be read."""
    layer, wanted = FINGERPRINTS[name]
    assert fn.fingerprint(layer) == wanted


# ----------------------------------------------------------------------------------------------- positions


@every_arithmetic
@pytest.mark.parametrize("shape", [(5, 7, 4), (3, 1, 4), (2, 3, 2, 4), (0, 3, 4), (3, 0, 4)])
def test_dense_maps_each_position(arithmetic: Name, dtype: fn.FloatDType, shape: tuple[int, ...]) -> None:
    """It is Dense of the flattened positions: the same bits in portable arithmetic and in the sums over positions."""
    layer, x = fn.astype(dense(KEY, 4, 3), dtype), inputs(KEY.child("x"), *shape, dtype=dtype)
    g = inputs(KEY.child("g"), *shape[:-1], 3, dtype=dtype)
    with using(arithmetic):
        y, (grad_x, grads) = fn.forward(layer, x), fn.backward(layer, x, g)
        flat = x.reshape(-1, 4)
        wanted, (wanted_x, wanted_grads) = fn.forward(layer, flat), fn.backward(layer, flat, g.reshape(-1, 3))
    assert (y.shape, grad_x.shape) == (g.shape, x.shape)
    assert not all(shape[1:]) or fn.output_shape(layer, shape[1:]) == g.shape[1:]
    assert fn.equal(grads, wanted_grads)
    for ours, theirs in ((y, wanted), (grad_x, wanted_x)):
        tolerance = 0.0 if arithmetic == "portable" else 8 * float(np.finfo(dtype).eps)
        np.testing.assert_allclose(ours.reshape(theirs.shape), theirs, rtol=tolerance, atol=tolerance)


@every_arithmetic
@pytest.mark.parametrize("axes", [2, 3])
def test_a_norm_over_several_axes_is_one_of_the_flattened_axes(
    arithmetic: Name, dtype: fn.FloatDType, axes: int
) -> None:
    """It has the bits of the norm over the one axis that the axes become, in both directions."""
    x, g = (inputs(KEY.child(name), 5, 3, 2, 4, dtype=dtype) for name in "xg")
    for make in (layer_norm, rms_norm):
        layer = fn.astype(make(KEY, (3, 2, 4), 1e-5, axes), dtype)
        changes: dict[str, Any] = {leaf.field: leaf.array.reshape(-1) for leaf in leaves(layer)}
        flat = evolve(layer, axes=1, **changes)
        with using(arithmetic):
            y, (grad_x, grads) = fn.forward(layer, x), fn.backward(layer, x, g)
            rows, by_rows = (each.reshape(*each.shape[:-axes], -1) for each in (x, g))
            wanted, (wanted_x, wanted_grads) = fn.forward(flat, rows), fn.backward(flat, rows, by_rows)
        assert same_bits(y.reshape(wanted.shape), wanted)
        assert same_bits(grad_x.reshape(wanted_x.shape), wanted_x)
        for ours, theirs in zip(fn.trained_arrays(grads), fn.trained_arrays(wanted_grads), strict=True):
            assert same_bits(ours.reshape(-1), theirs)


# ------------------------------------------------------------------------------------------------ refusals

FLATTEN: Final = "; to make each row a vector, put Flatten() before the layer"
REFUSED: Final[list[tuple[Callable[[], object], type[fn.FuncnetError], str]]] = [
    (
        lambda: fn.dense(KEY, 2, 3, bias=False, bias_init=fn.initializers.zeros),
        fn.ConfigError,
        "dense: bias_init must be None if bias is False; delete one of the two",
    ),
    (lambda: fn.dense(KEY, 2, 3, bias=cast("bool", 1)), fn.ConfigError, "dense: bias must be True or False, got 1"),
    (lambda: fn.layer_norm(3, scale=cast("bool", 0)), fn.ConfigError, "layer_norm: scale must be True or False, got 0"),
    (lambda: fn.rms_norm(()), fn.ConfigError, "rms_norm: the number of sizes must be an int from 1 to 31, got 0"),
    (lambda: fn.layer_norm((2, 0)), fn.ConfigError, "layer_norm: size must be an int of at least 1, got 0"),
    (
        lambda: fn.layer_norm((2**57, 4)),
        fn.ConfigError,
        "layer_norm: the product of the sizes must be an int from 1 to",
    ),
    (
        lambda: fn.batch_norm(cast("int", (2, 3))),
        fn.ConfigError,
        "batch_norm: size must be an int of at least 1, got (",
    ),
    (lambda: fn.LayerNorm(None, None, axes=0), fn.ConfigError, "LayerNorm: axes must be an int from 1 to 31, got 0"),
    (lambda: fn.RMSNorm(None, axes=10**9), fn.ConfigError, "RMSNorm: axes must be an int from 1 to 31, got 1000000000"),
    (lambda: fn.layer_norm((1,) * 32), fn.ConfigError, "layer_norm: the number of sizes must be an int from 1 to 31"),
    (
        lambda: fn.LayerNorm(None, None, epsilon=1e-50),
        fn.ConfigError,
        "LayerNorm: epsilon must be at least 1e-45 for float32 arrays, got 1e-50",
    ),
    (
        lambda: fn.LayerNorm(np.ones((2, 3)), None),
        fn.ShapeError,
        "LayerNorm: scale must have shape (C,), got (2, 3); use axes=2",
    ),
    (
        lambda: fn.LayerNorm(np.ones((2, 3)), np.ones(3), axes=2),
        fn.ShapeError,
        "LayerNorm: offset must have shape (2, 3) to match scale (2, 3), got (3,)",
    ),
    (
        lambda: fn.RMSNorm(np.ones(3), axes=2),
        fn.ShapeError,
        "RMSNorm: scale must have shape (W, C), got (3,); use axes=1",
    ),
    (
        lambda: fn.BatchNorm(None, np.ones(2), np.ones(3), np.ones(3)),
        fn.ShapeError,
        "BatchNorm: mean must have shape (2,) to match offset (2,), got (3,)",
    ),
    (
        lambda: fn.forward(fn.layer_norm((2, 3)), np.ones((5, 3, 2), np.float32)),
        fn.ShapeError,
        "LayerNorm: x must have shape (B, ..., 2, 3) to match scale (2, 3), got (5, 3, 2)",
    ),
    (
        lambda: fn.forward(fn.LayerNorm(None, None, axes=3), np.ones((5, 3, 2))),
        fn.ShapeError,
        "LayerNorm: x must have shape (B, ..., H, W, C), got (5, 3, 2); for a batch of one, use x[None]",
    ),
    (
        lambda: fn.forward(fn.RMSNorm(None), np.ones((5, 0))),
        fn.ConfigError,
        "RMSNorm: the size of a normalized axis must be an int of at least 1, got 0",
    ),
    (
        lambda: fn.forward(fn.RMSNorm(None), np.ones((5, 3), np.int64)),
        fn.DTypeError,
        "RMSNorm: x must be float32 or float64, got int64; use x.astype(np.float32); for ids, put an Embedding first",
    ),
    (
        lambda: fn.output_shape(fn.LayerNorm(None, None, axes=2), (3,)),
        fn.ShapeError,
        "LayerNorm: x must have shape (B, ..., W, C), got (B, 3)",
    ),
    (
        lambda: fn.forward(fn.dense(KEY, 784, 10), np.ones((5, 28, 28, 1), np.float32)),
        fn.ShapeError,
        f"Dense: x must have shape (B, ..., 784) to match weight (784, 10), got (5, 28, 28, 1){FLATTEN}",
    ),
    (
        lambda: fn.output_shape((fn.dense(KEY, 8, 10),), (2, 4)),
        fn.ShapeError,
        f"Dense (layer 0): x must have shape (B, ..., 8) to match weight (8, 10), got (B, 2, 4){FLATTEN}",
    ),
]


@pytest.mark.parametrize(("make", "error", "message"), REFUSED, ids=[text[:50] for _, _, text in REFUSED])
def test_what_does_not_fit_is_refused(make: Callable[[], object], error: type[fn.FuncnetError], message: str) -> None:
    """The message says what, where, and how to fix it."""
    with pytest.raises(error) as caught:
        make()
    assert str(caught.value).startswith(message)
