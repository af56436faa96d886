"""Normalization: definitions, the forms of BatchNorm, calibration, shards as ghost batches, standardization."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, Generic, cast

import numpy as np
import pytest
from attrs import evolve, frozen
from networks import batch_norm, inputs, layer_norm

import funcnet as fn
from funcnet.arithmetic import Name, using
from funcnet.core.trees import leaves, same_bits
from funcnet.loops.shards import sharded_value_and_grad
from funcnet.network.layer import N

KEY = fn.Key(51)
X = inputs(KEY.child("x"), 40, 4, dtype=np.float32)
LABELS = (X[:, 0] > X[:, 1]).astype(np.int64)
IMAGES = inputs(KEY.child("images"), 5, 3, 2, 4)
NET = (fn.dense(KEY.child(0), 4, 6), fn.batch_norm(6), fn.ReLU(), fn.dense(KEY.child(1), 6, 2))


def batches() -> Any:
    """Batches of seven rows; the last batch is smaller."""
    return fn.minibatches(X, LABELS, 7, key=KEY.child("order"))


def close(got: fn.Array | None, wanted: Any, tolerance: float = 1e-12) -> None:
    """Check that two arrays agree within a relative or absolute tolerance."""
    assert got is not None
    np.testing.assert_allclose(got, wanted, rtol=tolerance, atol=tolerance)


def normalized(x: fn.Array, axis: int | tuple[int, ...], epsilon: float) -> Any:
    """x normalized by NumPy's mean and NumPy's variance, which is the biased one."""
    return (x - x.mean(axis=axis, keepdims=True)) / np.sqrt(x.var(axis=axis, keepdims=True) + epsilon)


# ---------------------------------------------------------------------------------------------- definitions


def test_layer_norm_is_what_it_says() -> None:
    """The last axis is normalized by its mean and variance. Constant rows and rows of one number give the offset."""
    layer = layer_norm(KEY, (4,), 0.25)
    scale, offset = fn.trained_arrays(layer)
    close(fn.forward(layer, IMAGES), normalized(IMAGES, -1, 0.25) * scale + offset)
    assert same_bits(fn.forward(layer, np.full((2, 4), 3.0)), np.stack([offset] * 2))
    single = fn.layer_norm(1, dtype=np.float64)
    assert not fn.forward(single, np.array([[5.0], [-7.0]])).any()


def test_rms_norm_is_what_it_says() -> None:
    """x is divided by its root mean square and is not centered; zeros stay zeros."""
    layer = fn.RMSNorm(inputs(KEY, 4), 0.25)
    close(fn.forward(layer, IMAGES), IMAGES / np.sqrt((IMAGES**2).mean(-1, keepdims=True) + 0.25) * layer.scale)
    assert not fn.forward(layer, np.zeros((2, 4))).any()


@pytest.mark.parametrize("shape", [(9, 4), (5, 3, 2, 4), (2, 3, 4)])
def test_batch_norm_in_training_normalizes_by_the_batch(shape: tuple[int, ...]) -> None:
    """The mean is over all axes except the last. A batch of one position gives the offset, and ``grad_x`` is zero."""
    x, layer = inputs(KEY, *shape), batch_norm(KEY, (4,), 1e-5, training=True)
    scale, offset = fn.trained_arrays(layer)
    close(fn.forward(layer, x), normalized(x, tuple(range(x.ndim - 1)), 1e-5) * scale + offset)
    one = x.reshape(-1, 4)[:1]
    y, pull = fn.vjp(layer, one)
    assert same_bits(y, offset[None])
    assert not pull(inputs(KEY, 1, 4))[0].any()


def test_batch_norm_evaluates_by_its_statistics() -> None:
    """The result for a row does not depend on the batch."""
    layer = batch_norm(KEY, (4,), 1e-5)
    assert layer.mean is not None
    assert layer.variance is not None
    scale, offset = fn.trained_arrays(layer)
    close(fn.forward(layer, IMAGES), (IMAGES - layer.mean) / np.sqrt(layer.variance + 1e-5) * scale + offset)


def test_large_numbers_are_normalized() -> None:
    """Two passes keep the digits of the variance of numbers far from 0, and the variance is not negative."""
    x = 1e8 + inputs(KEY, 50, 8)
    for net, axis in ((fn.layer_norm(8, dtype=np.float64), 1), (fn.batch_norm(8, dtype=np.float64), 0)):
        close(fn.forward(fn.training(net, KEY), x).var(axis=axis), 1, 1e-4)


ARITHMETICS: list[tuple[Name, fn.FloatDType]] = [
    ("native", np.float32),
    ("native", np.float64),
    ("portable", np.float32),
]
every_arithmetic = pytest.mark.parametrize(("arithmetic", "dtype"), ARITHMETICS)


def centering_layers(x: fn.Array) -> tuple[tuple[fn.Layer, fn.Array], ...]:
    """Every layer that centers, with x as its rows or as its columns."""
    norm, size = fn.batch_norm(1, dtype=x.dtype.type), x.size
    return (
        (fn.layer_norm(size, dtype=x.dtype.type), x.reshape(1, size)),
        (fn.training(norm, KEY), x.reshape(size, 1)),
        (fn.calibrate(norm, x.reshape(size, 1)), x.reshape(size, 1)),
        (fn.standardize(x.reshape(size, 1)), x.reshape(size, 1)),
    )


@every_arithmetic
@pytest.mark.parametrize(
    ("value", "size"),
    [(200.3, 100), (1234.567, 100), (40000.3, 10), (123456.79, 300), (-0.1, 1000), (1e-30, 7), (123456.79, 1_000_000)],
)
def test_equal_numbers_are_centered_to_exactly_0(
    value: float, size: int, arithmetic: Name, dtype: fn.FloatDType
) -> None:
    """The rounded mean is never taken for a deviation. The gradient of equal numbers with equal g is 0, too."""
    x: fn.Array = np.full(size, value, dtype)
    with using(arithmetic):
        layers = centering_layers(x)
        for layer, given in layers:
            assert not fn.forward(layer, given).any()
        for layer, given in layers[:2]:
            assert not fn.backward(layer, given, given)[0].any()


@every_arithmetic
def test_nearly_equal_numbers_are_centered_by_their_mean(arithmetic: Name, dtype: fn.FloatDType) -> None:
    """Numbers that differ in their last digits only are centered as precisely as any others."""
    steps = (np.arange(3000) % 7)[::-1].copy()
    x: fn.Array = (dtype(123456.79) + steps * np.spacing(dtype(123456.79))).astype(dtype)
    deviations = (steps - steps.mean()) * float(np.spacing(dtype(123456.79)))
    with using(arithmetic):
        for layer, given in centering_layers(x)[:2]:
            wanted = deviations / np.sqrt((deviations**2).mean() + fn.batch_norm(1).epsilon)
            got = fn.forward(layer, given).ravel()
            np.testing.assert_allclose(got, wanted, rtol=0, atol=8 * np.finfo(dtype).eps * np.abs(wanted).max())


def test_makers_begin_with_the_identity_of_what_is_normal() -> None:
    """The scale is 1 and the offset 0, in the given dtype."""
    for dtype in (np.float32, np.float64):
        for layer in (fn.layer_norm(3, dtype=dtype), fn.rms_norm(3, dtype=dtype), fn.batch_norm(3, dtype=dtype)):
            assert fn.trained_arrays(layer)[0].tolist() == [1, 1, 1]
            assert {leaf.array.dtype for leaf in leaves(layer)} == {np.dtype(dtype)}
            assert all(leaf.role == "trained" for leaf in leaves(layer))  # They have no weight decay.
    assert fn.layer_norm(3, epsilon=0.5).epsilon == fn.rms_norm(3, epsilon=0.5).epsilon == 0.5
    assert fn.batch_norm(3, epsilon=0.5).epsilon == 0.5


def _trained_by(value: Any) -> fn.BatchNorm:
    return evolve(fn.batch_norm(2), training=value)


def ones(size: int) -> fn.Array:
    """An array of ones for a scale, an offset or a statistic."""
    return np.ones(size)


PLAIN = "must be a plain NumPy array, got list; use np.asarray"
REFUSED: list[tuple[Callable[[], object], type[fn.FuncnetError], str]] = [
    (lambda: fn.layer_norm(0), fn.ConfigError, "layer_norm: size must be an int of at least 1, got 0"),
    (lambda: fn.rms_norm(cast("int", 2.0)), fn.ConfigError, "rms_norm: size must be an int of at least 1, got 2.0"),
    (lambda: fn.batch_norm(-1), fn.ConfigError, "batch_norm: size must be an int of at least 1, got -1"),
    (
        lambda: fn.batch_norm(2, dtype=cast("fn.FloatDType", int)),
        fn.ConfigError,
        "dtype must be np.float32 or np.float64, got <class 'int'>",
    ),
    (lambda: fn.layer_norm(2, epsilon=0), fn.ConfigError, "LayerNorm: epsilon must be a number in (0, inf), got 0"),
    (
        lambda: fn.rms_norm(2, epsilon=float("nan")),
        fn.ConfigError,
        "RMSNorm: epsilon must be a number in (0, inf), got nan",
    ),
    (lambda: fn.layer_norm(2, epsilon=1e-50), fn.ConfigError, "LayerNorm: epsilon must be at least 1e-45 for float32"),
    (lambda: fn.rms_norm(2, epsilon=1e-50), fn.ConfigError, "RMSNorm: epsilon must be at least 1e-45 for float32 arr"),
    (lambda: fn.batch_norm(2, epsilon=1e-50), fn.ConfigError, "BatchNorm: epsilon must be at least 1e-45 for float32"),
    (lambda: fn.batch_norm(2, epsilon=0), fn.ConfigError, "BatchNorm: epsilon must be a number in (0, inf), got 0"),
    (lambda: fn.BatchNorm(ones(2), ones(2), epsilon=-1), fn.ConfigError, "BatchNorm: epsilon must be a number in (0, "),
    (
        lambda: fn.LayerNorm(ones(2), ones(3)),
        fn.ShapeError,
        "LayerNorm: offset must have shape (2,) to match scale (2,)",
    ),
    (lambda: fn.LayerNorm(cast("fn.Array", [1.0]), ones(1)), fn.DTypeError, f"LayerNorm: scale {PLAIN}(scale, "),
    (lambda: fn.LayerNorm(ones(1), cast("fn.Array", [1.0])), fn.DTypeError, f"LayerNorm: offset {PLAIN}(offset, "),
    (lambda: fn.RMSNorm(np.ones((2, 2))), fn.ShapeError, "RMSNorm: scale must have shape (C,), got (2, 2)"),
    (lambda: fn.RMSNorm(ones(0)), fn.ConfigError, "RMSNorm: scale's size must be an int of at least 1, got 0"),
    (
        lambda: fn.BatchNorm(ones(2), ones(2), ones(2)),
        fn.ConfigError,
        "BatchNorm: mean and variance must both be given, or neither",
    ),
    (
        lambda: fn.BatchNorm(ones(2), ones(2), variance=ones(2)),
        fn.ConfigError,
        "BatchNorm: mean and variance must both be given, or neither",
    ),
    (
        lambda: fn.BatchNorm(ones(2), ones(3)),
        fn.ShapeError,
        "BatchNorm: offset must have shape (2,) to match scale (2,), got (3,)",
    ),
    (
        lambda: fn.BatchNorm(ones(2), ones(2), ones(3), ones(3)),
        fn.ShapeError,
        "BatchNorm: mean must have shape (2,) to match scale (2,), got (3,)",
    ),
    (
        lambda: fn.BatchNorm(ones(2), ones(2), ones(2), ones(3)),
        fn.ShapeError,
        "BatchNorm: variance must have shape (2,) to match scale (2,), got (3,)",
    ),
    (lambda: _trained_by(1), fn.ConfigError, "BatchNorm: training must be True or False, got 1"),
    (
        lambda: fn.Standardize(ones(2), ones(3)),
        fn.ShapeError,
        "Standardize: scale must have shape (2,) to match mean (2,), got (3,)",
    ),
]


@pytest.mark.parametrize(("make", "error", "message"), REFUSED)
def test_bad_settings_are_refused(make: Callable[[], object], error: type[fn.FuncnetError], message: str) -> None:
    """Creating the record raises the error."""
    with pytest.raises(error) as caught:
        make()
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("layer", [fn.layer_norm(4), fn.rms_norm(4), fn.training(fn.batch_norm(4), KEY)], ids=repr)
def test_bad_inputs_are_refused(layer: fn.Layer) -> None:
    """A wrong shape or dtype is refused with the one that would fit, in output_shape, too."""
    name, reason = type(layer).__name__, r" must have shape \(B, \.\.\., 4\) to match scale \(4,\), got "
    for x, got in ((X[:, :3], r"\(40, 3\)"), (X[0], r"\(4,\); for a batch of one, use x\[None\]")):
        for run in (fn.forward, fn.calibrate)[: 1 + isinstance(layer, fn.BatchNorm)]:
            with pytest.raises(fn.ShapeError, match=f"^{name}: x{reason}{got}$"):
                run(layer, x)
    with pytest.raises(fn.DTypeError, match=rf"^{name}: x must be float32 to match scale, got float64; use x\.astype"):
        fn.forward(layer, IMAGES)
    with pytest.raises(fn.ShapeError, match=rf"^{name}: x{reason}\(B, 2, 3\)$"):
        fn.output_shape(layer, (2, 3))
    assert fn.output_shape(layer, (7, 7, 4)) == (7, 7, 4)


# ---------------------------------------------------------------------------------------- BatchNorm's forms


def test_a_batch_norm_without_statistics_evaluates_nothing() -> None:
    """The error in forward and backward has the layer's path and the fix."""
    fix = r"to evaluate, use calibrate\(net, x\); to train, use train_step or training\(net, key\)"
    fact = rf"^BatchNorm \(layer 1\): the layer has no statistics to normalize with; {fix}$"
    for run in (
        lambda: fn.forward(NET, X),
        lambda: fn.predict(NET, X, fn.Multiclass()),
        lambda: fn.backward(NET, X, X[:, :2]),
    ):
        with pytest.raises(fn.ConfigError, match=fact):
            run()


def test_sgd_step_wants_the_training_form() -> None:
    """A plain BatchNorm is refused with or without statistics: fixed statistics would be a different training."""
    step = fn.sgd_step(fn.softmax_cross_entropy, learning_rate=0.1)
    for net in (NET, fn.calibrate(NET, X)):
        with pytest.raises(
            fn.ConfigError, match=r"BatchNorm \(layer 1\): sgd_step needs the layer in its training form"
        ):
            step(net, batches()[0])
    net, _ = fn.train_epoch(step, fn.training(NET, KEY), batches())
    assert net[1].training
    calibrated = fn.calibrate(net, X)
    assert not calibrated[1].training
    assert fn.forward(calibrated, X).shape == (40, 2)


@pytest.mark.parametrize("shard_size", [None, 3])
@pytest.mark.parametrize("optimizer", [fn.SGD(learning_rate=0.1), fn.Momentum(learning_rate=0.1)], ids=repr)
def test_a_run_stays_plain(optimizer: fn.SGD | fn.Momentum, shard_size: int | None) -> None:
    """train_step trains the training form and returns parameters and moments in the form that it was given."""
    step = fn.train_step(fn.softmax_cross_entropy, shard_size=shard_size)
    for net in (NET, fn.calibrate(NET, X)):
        start = fn.TrainState.create(net, optimizer, key=KEY)
        once, _ = step(start, batches()[0])
        epoch, _ = fn.train_epoch(step, start, batches())
        for state in (once, epoch):
            assert repr((state.params, *state.moments.networks)) == repr((start.params, *start.moments.networks))
            for new, old in zip(leaves(state.params), leaves(net), strict=True):
                assert same_bits(new.array, old.array) == (not new.trained)


def test_a_run_with_batch_norm_learns_and_resumes(tmp_path: Path) -> None:
    """A run that is saved within an epoch, loaded and resumed has the bits of the whole run. It learns the classes."""
    step = fn.train_step(fn.softmax_cross_entropy)
    whole = fn.TrainState.create(NET, fn.Momentum(learning_rate=0.1), key=KEY)
    for _ in range(20):
        half, _ = fn.train_epoch(step, whole, batches()[:3])
        whole, _ = fn.train_epoch(step, whole, batches())
        fn.save(tmp_path / "half", half)
        half, _ = fn.train_epoch(step, fn.load(tmp_path / "half", like=half), batches()[3:])
        assert fn.fingerprint(half) == fn.fingerprint(whole)
    assert fn.accuracy(fn.predict(fn.calibrate(whole.params, X), X, fn.Multiclass()), LABELS) > 0.95


def test_every_form_is_a_value_of_its_own(tmp_path: Path) -> None:
    """The four forms, with and without statistics and training, have four fingerprints and survive a file."""
    layer = fn.batch_norm(4)
    forms = (layer, fn.calibrate(layer, X), fn.training(layer, KEY), fn.training(fn.calibrate(layer, X), KEY))
    assert len({fn.fingerprint(form) for form in forms}) == 4
    for form in forms:
        fn.save(tmp_path / "form", form)
        loaded = fn.load(tmp_path / "form", like=form)
        assert fn.equal(loaded, form)
        assert fn.fingerprint(loaded) == fn.fingerprint(form)
        assert repr(loaded) == repr(form)


def test_portable_training_is_close_to_native() -> None:
    """One step of each is compared, in the same float32."""
    step = fn.train_step(fn.softmax_cross_entropy)
    native, loss = step(fn.TrainState.create(NET, fn.SGD(0.1), key=KEY), batches()[0])
    with fn.portable():
        exact, exact_loss = step(fn.TrainState.create(NET, fn.SGD(0.1), key=KEY), batches()[0])
    assert exact_loss == pytest.approx(loss, rel=1e-5)
    for a, b in zip(leaves(native.params), leaves(exact.params), strict=True):
        close(a.array, b.array, 1e-4)


# --------------------------------------------------------------------------------------------- calibration


def test_calibration_takes_what_reaches_a_layer() -> None:
    """A layer's input is the output of the calibrated layers before it, in nested tuples and Residuals, too."""
    first, second = fn.batch_norm(4), fn.batch_norm(4, epsilon=0.5)
    dense = fn.dense(KEY, 4, 4)
    plain = fn.calibrate((first, dense, second), X)
    nested = fn.calibrate(((first, (dense,)), (), (second, fn.Tanh())), X)
    close(plain[0].mean, X.mean(axis=0), 1e-6)
    close(plain[0].variance, X.var(axis=0), 1e-6)
    reached = fn.forward((plain[0], dense), X)
    close(plain[2].mean, reached.mean(axis=0), 1e-5)
    close(plain[2].variance, reached.var(axis=0), 1e-5)
    assert fn.equal(nested, ((plain[0], (dense,)), (), (plain[2], fn.Tanh())))
    residual = fn.calibrate((first, fn.Residual((dense, second)), second), X)
    assert fn.equal(residual[:2], (plain[0], fn.Residual((dense, plain[2]))))
    close(residual[2].mean, fn.forward(residual[:2], X).mean(axis=0), 1e-5)


def test_calibration_is_pure() -> None:
    """The given network is unchanged. A second call, or a call on the result, gives the same bits."""
    before = repr(NET), fn.fingerprint(NET)
    calibrated = fn.calibrate(NET, X)
    assert (repr(NET), fn.fingerprint(NET)) == before
    for net in (NET, calibrated, fn.training(NET, KEY), fn.training(calibrated, KEY)):
        assert fn.equal(fn.calibrate(net, X), calibrated)
    assert all(a.array is b.array for a, b in zip(leaves(NET), filter_trained(calibrated), strict=True))
    assert not any(leaf.array.flags.writeable for leaf in leaves(calibrated))
    nothing = (fn.ReLU(), fn.Residual(fn.Tanh()))
    assert fn.calibrate(nothing, X) is nothing


def filter_trained(net: fn.Network) -> list[Any]:
    """The leaves that an update may change."""
    return [leaf for leaf in leaves(net) if leaf.trained]


@pytest.mark.parametrize("portable", [False, True])
def test_calibration_on_a_batch_is_what_training_does_with_it(portable: bool) -> None:  # noqa: FBT001  # pytest parameter
    """The outputs agree up to rounding. In portable arithmetic, the order of the rows does not matter."""
    if portable:
        with fn.portable():
            trained, calibrated = fn.forward(fn.training(NET, KEY), X), fn.calibrate(NET[1:2], X[:, [0, 1, 2, 3, 0, 1]])
            assert fn.equal(calibrated, fn.calibrate(NET[1:2], X[::-1, [0, 1, 2, 3, 0, 1]]))
            close(fn.forward(fn.calibrate(NET, X), X), trained, 1e-5)
    else:
        close(fn.forward(fn.calibrate(NET, X), X), fn.forward(fn.training(NET, KEY), X), 1e-5)


def test_calibration_keeps_its_digits_over_many_rows() -> None:
    """Sums of 200,000 float32 numbers far from 0 are in float64; the statistics are the exact ones, rounded."""
    x = (1000 + inputs(KEY, 200_000, 2)).astype(np.float32)
    layer = fn.calibrate(fn.batch_norm(2), x)
    close(layer.mean, x.mean(axis=0, dtype=np.float64), 1e-7)
    close(layer.variance, x.astype(np.float64).var(axis=0), 1e-7)


def test_calibration_of_images() -> None:
    """The statistics are over all axes except the last."""
    layer = fn.calibrate(fn.batch_norm(4, dtype=np.float64), IMAGES)
    close(layer.mean, IMAGES.mean(axis=(0, 1, 2)))
    close(layer.variance, IMAGES.var(axis=(0, 1, 2)))


def test_calibration_refuses_what_it_cannot_do() -> None:
    """It refuses an empty batch, rows that do not fit, nonfinite statistics, and layers that would draw masks."""
    with pytest.raises(fn.ShapeError, match=r"calibrate: x must have at least one row, got \(0, 4\)"):
        fn.calibrate(NET, X[:0])
    with pytest.raises(fn.ShapeError, match=r"BatchNorm \(layer 1\.0\): x must have shape \(B, \.\.\., 3\)"):
        fn.calibrate((fn.ReLU(), (fn.batch_norm(3),)), X)
    with pytest.raises(fn.DTypeError, match="calibrate: x must be a plain NumPy array"):
        fn.calibrate(NET, X.tolist())
    for bad, name, got in ((np.nan, "mean", "nan"), (np.inf, "mean", "inf"), (3e38, "variance", "inf")):
        x = X.copy()
        x[3, 2] = bad
        fact = rf"^BatchNorm \(layer 0\): {name} must be finite, got {name}\[2\] = {got}$"
        with pytest.raises(fn.NonFiniteError, match=fact):
            fn.calibrate((fn.batch_norm(4),), x)
    keyed = fn.training((fn.ReLU(), (fn.Dropout(0.5), fn.batch_norm(4))), KEY)
    with pytest.raises(fn.ConfigError, match=r"Dropout \(layer 1\.0\): calibrate needs the layer in its plain form"):
        fn.calibrate(keyed, X)
    with pytest.raises(fn.StructureError, match="layer 1"):
        fn.calibrate((fn.batch_norm(4), cast("fn.Network", [fn.ReLU()])), X)


# -------------------------------------------------------------------------------------------- custom layers


@frozen(eq=False)
class Twice(fn.Layer, Generic[N]):
    """A custom combinator: ``y = net(net(x))``."""

    net: N


def twice_forward(params: Twice[N], x: fn.Array) -> fn.Array:
    """Apply the inner network twice."""
    return fn.forward(params.net, fn.forward(params.net, x))


def twice_backward(params: Twice[N], x: fn.Array, g: fn.Array) -> tuple[fn.Array, Twice[N]]:
    """The parameters' gradient is the sum of the gradients of both applications."""
    middle, late = fn.backward(params.net, fn.forward(params.net, x), g)
    grad_x, early = fn.backward(params.net, x, middle)
    return grad_x, Twice(fn.map_parameters(lambda a, b: a + b, early, late))


fn.register_layer(Twice, forward=twice_forward, backward=twice_backward)


def test_a_combinator_must_say_what_reaches_its_inside() -> None:
    """A combinator without ``calibrated`` is refused if its network needs calibration; otherwise it is unchanged."""
    with pytest.raises(
        fn.ConfigError, match=r"Twice \(layer 1\): the input of its inner network is not known; pass calibrated= to"
    ):
        fn.calibrate((fn.ReLU(), Twice((fn.batch_norm(4),))), X)
    idle = Twice((fn.Residual(fn.ReLU()),))
    assert fn.calibrate((idle, fn.batch_norm(4)), X)[0] is idle


def test_training_and_is_training_go_together() -> None:
    """One without the other is refused, and the record is not registered."""

    @frozen(eq=False)
    class Half(fn.Layer):
        pass

    def forward(_: Half, x: fn.Array) -> fn.Array:
        return x

    def backward(params: Half, _: fn.Array, g: fn.Array) -> tuple[fn.Array, Half]:
        return g, params

    with pytest.raises(fn.ConfigError, match="Half must have both training= and is_training=, or neither"):
        fn.register_layer(Half, forward=forward, backward=backward, training=lambda params, _: params)
    fn.register_layer(Half, forward=forward, backward=backward)
    assert fn.forward(Half(), X) is X


def test_a_layer_that_trains_and_draws_folds_to_the_plain_bits() -> None:
    """In a fold, each step creates the training form anew; it has parameters and a key."""

    @frozen(eq=False)
    class Noisy(fn.Layer):
        scale: fn.Array
        key: fn.Key | None = None

    def forward(params: Noisy, x: fn.Array) -> fn.Array:
        return x * params.scale if params.key is None else x * params.scale + np.float32(params.key.path[-2])

    def backward(params: Noisy, x: fn.Array, g: fn.Array) -> tuple[fn.Array, Noisy]:
        return g * params.scale, evolve(params, scale=(x * g).sum(axis=0))

    fn.register_layer(
        Noisy,
        forward=forward,
        backward=backward,
        training=lambda params, key: evolve(params, key=key),
        is_training=lambda params: params.key is not None,
    )
    step = fn.train_step(fn.softmax_cross_entropy)
    net = (fn.dense(KEY, 4, 2), Noisy(np.ones(2, np.float32)))
    start = fn.TrainState.create(net, fn.Momentum(learning_rate=0.1), key=KEY)
    plain: Any = start
    for batch in batches():
        plain, _ = step(plain, batch)
    assert fn.equal(fn.train_epoch(step, start, batches())[0].params, plain.params)
    assert not fn.equal(plain.params[1], net[1])


# ---------------------------------------------------------------------------------------------------- shards


@pytest.mark.parametrize("arithmetic", ["native", "portable"])
def test_a_shard_is_a_batch_of_its_own(arithmetic: str) -> None:
    """Ghost batch normalization: the result is the mean of the shards' gradients, with any executor."""

    def check() -> None:
        x, y, loss = X[:8], LABELS[:8], fn.softmax_cross_entropy
        value, grads = sharded_value_and_grad(NET, x, y, loss, shard_size=4, key=KEY)
        net = fn.training(NET, KEY)
        halves = [fn.value_and_grad(net, x[rows], y[rows], loss) for rows in (slice(4), slice(4, 8))]
        assert value == (halves[0][0] + halves[1][0]) / 2
        assert fn.equal(grads, fn.map_parameters(lambda _, a, b: a * 0.5 + b * 0.5, NET, halves[0][1], halves[1][1]))
        assert value != fn.value_and_grad(net, x, y, loss)[0]
        with ThreadPoolExecutor(2) as executor:
            again = sharded_value_and_grad(NET, x, y, loss, shard_size=4, key=KEY, executor=executor)
        assert again[0] == value
        assert fn.equal(again[1], grads)

    if arithmetic == "portable":
        with fn.portable():
            check()
    else:
        check()


# ------------------------------------------------------------------------------------------- standardization


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(50, 3), (50, 4, 4, 2)])
def test_standardizing_gives_mean_0_and_variance_1(dtype: fn.FloatDType, shape: tuple[int, ...]) -> None:
    """Each feature has NumPy's mean and standard deviation, in the dtype of x."""
    x: fn.Array = (3 * inputs(KEY, *shape) + 1000).astype(dtype)
    layer = fn.standardize(x)
    close(layer.mean, x.mean(axis=0, dtype=np.float64), 1e-6)
    close(layer.scale, x.std(axis=0, dtype=np.float64), 1e-6)
    y = fn.forward(layer, x)
    assert y.dtype == layer.mean.dtype == layer.scale.dtype == dtype
    tolerance = 1e-4 if dtype is np.float32 else 1e-10
    close(y.mean(axis=0, dtype=np.float64), 0, tolerance)
    close(y.var(axis=0, dtype=np.float64), 1, tolerance)
    assert not any(leaf.trained for leaf in leaves(layer))


def test_the_statistics_of_steps_standardize_sequences() -> None:
    """Statistics of (N * T, C) apply to each step of (N, T, C); the weight 0 leaves padded steps out."""
    x, mask = inputs(KEY, 6, 5, 3), np.ones((6, 5))
    mask[1:3, 2:] = 0
    layer = fn.standardize(x.reshape(-1, 3), weight=mask.ravel())
    close(layer.mean, x[mask == 1].mean(axis=0), 1e-12)
    y, pull = fn.vjp(layer, x)
    assert same_bits(y.reshape(-1, 3), fn.forward(layer, x.reshape(-1, 3)))
    assert same_bits(pull(x)[0], x / layer.scale)
    assert fn.output_shape(layer, (5, 3)) == (5, 3)
    with pytest.raises(fn.ShapeError, match=r"got \(B, 3, 5\); for channels first, use np\.moveaxis\(x, 1, -1\)$"):
        fn.output_shape(layer, (3, 5))


@pytest.mark.parametrize("value", [0.0, 0.1, -1e30, 1e-40])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_constant_feature_becomes_zero(value: float, dtype: fn.FloatDType) -> None:
    """It is exactly 0, even if the mean is rounded; the scale is 1."""
    x: fn.Array = np.stack([np.full(7, value), np.arange(7)], axis=1).astype(dtype)
    layer = fn.standardize(x)
    assert layer.scale[0] == 1
    assert layer.mean[0] == x[0, 0]
    assert not fn.forward(layer, x)[:, 0].any()
    close(layer.scale[1:], [2], 1e-6)


def test_a_scale_is_never_zero() -> None:
    """The scale is 1 if a difference is too small to be squared, and for a single row."""
    tiny = np.array([[0.0], [1e-200]])
    assert fn.standardize(tiny).scale.tolist() == [1]
    assert fn.standardize(np.array([[0.0], [1e-45]], np.float32)).scale.tolist() == [1]
    assert fn.standardize(X[:1]).scale.tolist() == [1, 1, 1, 1]


ROWS: Final[fn.Array] = 5 + inputs(KEY.child("weighted"), 12, 2, 3)
COUNTS: Final = np.array([0, 2, 1, 0, 3, 1, 1, 0, 5, 1, 2, 4], np.int64)
every_arithmetic = pytest.mark.parametrize("arithmetic", ["native", "portable"])


@every_arithmetic
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_weight_counts_a_row(dtype: fn.FloatDType, arithmetic: Name) -> None:
    """Whole weights are repeated rows; only ratios of weights count; the result is in the dtype of x."""
    x: fn.Array = ROWS.astype(dtype)
    weight = COUNTS.astype(np.float64)
    with using(arithmetic):
        layer, repeated = fn.standardize(x, weight=weight), fn.standardize(np.repeat(x, COUNTS, axis=0))
        scaled = fn.standardize(x, weight=weight * 1e300)
    tolerance = 1e-6 if dtype is np.float32 else 1e-13
    for one in (layer, scaled):
        assert one.mean.dtype == one.scale.dtype == dtype
        close(one.mean, repeated.mean, tolerance)
        close(one.scale, repeated.scale, tolerance)
    close(layer.mean, np.average(x.astype(np.float64), axis=0, weights=weight), 1e-6)


@every_arithmetic
@pytest.mark.parametrize("garbage", [np.nan, np.inf, 1e30])
def test_a_row_of_weight_0_is_a_row_left_out(garbage: float, arithmetic: Name) -> None:
    """The layer has the bits of the layer without it, also if only this row varies; equal weights are no weights."""
    x, rows = ROWS.astype(np.float32), COUNTS > 0
    x[rows, 0, 0] = 0.1
    x[~rows] = garbage
    weight, equal = COUNTS.astype(np.float32), np.where(rows, 0.7, 0)
    with using(arithmetic):
        layer = fn.standardize(x, weight=weight)
        assert fn.equal(layer, fn.standardize(x[rows], weight=weight[rows]))
        assert fn.equal(fn.standardize(x, weight=equal), fn.standardize(x[rows]))
    assert (layer.mean[0, 0], layer.scale[0, 0]) == (np.float32(0.1), 1)


def test_weights_are_those_of_scikit_learn() -> None:
    """Mean and scale are those of a StandardScaler with sample weights."""
    preprocessing: Any = pytest.importorskip("sklearn.preprocessing", reason="scikit-learn is not installed")
    x, weight = ROWS.reshape(12, 6), np.abs(inputs(KEY, 12))
    scaler = preprocessing.StandardScaler().fit(x, sample_weight=weight)
    layer = fn.standardize(x, weight=weight)
    close(layer.mean, scaler.mean_, 1e-12)
    close(layer.scale, scaler.scale_, 1e-12)


BAD_WEIGHTS: Final[dict[str, tuple[Any, type[fn.FuncnetError], str]]] = {
    "zeros": (np.zeros(12), fn.ConfigError, "at least one weight must be positive, got only zeros"),
    "negative": (-COUNTS.astype(float), fn.ConfigError, r"weight must be 0 or more, got weight\[1\] = -2.0"),
    "nan": (np.full(12, np.nan), fn.NonFiniteError, r"weight must be finite, got weight\[0\] = nan"),
    "a row less": (np.ones(11), fn.ShapeError, r"weight must have shape \(12,\), got \(11,\)"),
    "a column": (np.ones((12, 1)), fn.ShapeError, r"weight must have shape \(12,\), got \(12, 1\)"),
    "ints": (COUNTS, fn.DTypeError, "weight must be float32 or float64, got int64; use weight.astype"),
    "a list": ([1.0] * 12, fn.DTypeError, "weight must be a plain NumPy array, got list"),
}


@pytest.mark.parametrize("name", BAD_WEIGHTS)
def test_weights_that_do_not_fit_are_refused(name: str) -> None:
    """A weight is a finite float of at least 0, one for each row."""
    weight, error, message = BAD_WEIGHTS[name]
    with pytest.raises(error, match=f"^standardize: {message}"):
        fn.standardize(ROWS, weight=weight)


def test_a_bad_row_has_its_place_among_all_rows() -> None:
    """Rows of weight 0 are counted in the message."""
    x = ROWS.copy()
    x[:2] = np.nan
    with pytest.raises(fn.NonFiniteError, match=r"^standardize: x must be finite, got x\[1, 0, 0\] = nan$"):
        fn.standardize(x, weight=COUNTS.astype(float))


def test_standardizing_does_as_scikit_learn() -> None:
    """Mean, scale and result are StandardScaler's."""
    preprocessing: Any = pytest.importorskip("sklearn.preprocessing")
    x = np.concatenate([inputs(KEY, 30, 3) * [1, 1e-6, 1e6], np.full((30, 1), 2.5)], axis=1)
    scaler = preprocessing.StandardScaler().fit(x)
    layer = fn.standardize(x)
    close(layer.mean, scaler.mean_)
    close(layer.scale, scaler.scale_)
    close(fn.forward(layer, x), scaler.transform(x))


def test_portable_standardizing_does_not_depend_on_the_rows_order() -> None:
    """The result is close to the native one."""
    with fn.portable():
        exact = fn.standardize(X)
        assert fn.equal(exact, fn.standardize(X[::-1].copy()))
    close(exact.mean, fn.standardize(X).mean, 1e-6)
    close(exact.scale, fn.standardize(X).scale, 1e-6)


def test_standardizing_refuses_what_has_no_statistics() -> None:
    """It refuses an x without rows or features, with nonfinite numbers or squares, or with an integer dtype."""
    with pytest.raises(fn.ShapeError, match=r"^standardize: x must have at least one row, got \(0, 4\)$"):
        fn.standardize(X[:0])
    with pytest.raises(fn.ShapeError, match=r"^standardize: x must have shape \(N, I, \.\.\.\), got \(40,\)$"):
        fn.standardize(X[:, 0])
    with pytest.raises(fn.DTypeError, match=r"^standardize: x must be float32 or float64, got uint8; .* divide by 255"):
        fn.standardize(cast("fn.Array", np.zeros((2, 2), np.uint8)))
    for bad in (np.nan, np.inf):
        with pytest.raises(fn.NonFiniteError, match=rf"^standardize: x must be finite, got x\[1, 0\] = {bad}$"):
            fn.standardize(np.array([[1.0], [bad]]))
    with pytest.raises(fn.NonFiniteError, match=r"^standardize: scale must be finite, got scale\[0\] = inf$"):
        fn.standardize(np.array([[1e200], [-1e200]]))
    with pytest.raises(fn.NonFiniteError, match=r"^standardize: mean must be finite, got mean\[1\] = inf$"):
        fn.standardize(np.array([[0, 1.7e308], [1, 1.6e308]]))
    with pytest.raises(fn.NonFiniteError, match=r"^standardize: (mean|scale) must be finite, got "):
        fn.standardize(np.array([[1.7e308], [-1.7e308]] * 16))  # inf - inf is NaN
    layer = fn.standardize(X)
    reason = r"Standardize: x must have shape \(B, \.\.\., 4\) to match mean \(4,\), got"
    one_row = r"\(4,\); for a batch of one, use x\[None\]"
    flat = r"\(40, 4, 1\); to make each row a vector, put Flatten\(\) before the layer"
    for x, got in ((X[:, :3], r"\(40, 3\)"), (X[:, :, None], flat), (X[0], one_row), (X[0, 0, ...], r"\(\)")):
        with pytest.raises(fn.ShapeError, match=rf"^{reason} {got}$"):
            fn.forward(layer, x)
    with pytest.raises(
        fn.DTypeError, match=r"^Standardize: x must be a plain NumPy array, got list; use np\.asarray\("
    ):
        fn.forward(layer, X.tolist())
    with pytest.raises(fn.DTypeError, match=r"^Standardize: x must be float32 to match mean, got float64; use x\."):
        fn.forward(layer, X.astype(np.float64))
    with pytest.raises(fn.ShapeError, match=rf"^{reason} \(B, 3\)$"):
        fn.output_shape(layer, (3,))


def test_a_network_trains_behind_its_standardizing() -> None:
    """With features of any scale, the network learns behind the layer, and the layer itself is not trained."""
    x = X * np.array([1e4, 1e4, 1e-4, 1], np.float32) + np.array([0, 0, 5, -1000], np.float32)
    net = (fn.standardize(x), fn.dense(KEY.child(0), 4, 6), fn.Tanh(), fn.dense(KEY.child(1), 6, 2))
    step, trained = fn.sgd_step(fn.softmax_cross_entropy, learning_rate=0.5), net
    for _ in range(30):
        trained, _ = fn.train_epoch(step, trained, fn.minibatches(x, LABELS, 8))
    assert fn.equal(trained[0], net[0])
    assert fn.accuracy(fn.predict(trained, x, fn.Multiclass()), LABELS) > 0.95
