"""Bad inputs: each is refused by the right error, whose message says what, where, got, expected and fix."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable
from typing import Any

import attrs
import numpy as np
import pytest

import funcnet as fn
from funcnet.core.trees import same_bits

KEY = fn.Key(7)
NET = (fn.dense(KEY, 8, 5), fn.ReLU(), fn.dense(KEY.child(1), 5, 3))
X: fn.Array = np.linspace(-1, 1, 32, dtype=np.float32).reshape(4, 8)
Y = np.array([0, 1, 2, 0])
G: fn.Array = np.ones((4, 3), np.float32)
LOGITS: fn.Array = np.zeros((4, 3), np.float32)
BATCH = fn.Batch(X, Y)
CE = fn.softmax_cross_entropy
STEP = fn.sgd_step(CE, learning_rate=0.1)
NAN, INF = math.nan, math.inf
Call = Callable[[Any], object]
NO_MOMENTS: fn.Moments[Any] = fn.Moments.of()


def anything(value: object) -> Any:
    """A value whose type the type checkers do not look at."""
    return value


def contents(value: object) -> list[object]:
    """Every array inside a value as dtype, shape, strides and bytes."""
    inside = anything(value)
    if isinstance(value, np.ndarray):
        return [(inside.dtype, inside.shape, inside.strides, inside.tobytes())]
    if isinstance(value, tuple | list):
        return [part for inner in inside for part in contents(inner)]
    if attrs.has(type(value)):
        return [part for a in inside.__attrs_attrs__ for part in contents(getattr(value, a.name))]
    return []


def refuse(
    error: type[fn.FuncnetError], facts: tuple[str, ...], call: Callable[..., object], *args: object, **settings: object
) -> None:
    """Check that a call raises exactly this error, that its message has the facts, and that no argument changed."""
    before = contents([*args, *settings.values()])
    with pytest.raises(fn.FuncnetError) as caught:
        call(*args, **settings)
    assert type(caught.value) is error, caught.value
    for fact in facts:
        assert fact in str(caught.value)
    assert contents([*args, *settings.values()]) == before


def unshown(value: object) -> str | None:
    """A short test id for values whose own would be long."""
    kind = type(value)
    return kind.__name__ if issubclass(kind, np.ndarray | tuple | list) else None


def run_epoch(batch: object) -> object:
    """An epoch of three good batches and this one."""
    return fn.train_epoch(STEP, NET, [BATCH, BATCH, BATCH, anything(batch)])


def as_it_is(batch: fn.Batch[Any]) -> fn.Batch[Any]:
    """A transform that changes nothing."""
    return batch


def no_change(net: fn.Network, _: object) -> tuple[fn.Network, float]:
    """A step that learns nothing."""
    return net, NAN


def inner_epoch(net: Any, batches: Any) -> tuple[object, float]:
    """A step that is an epoch."""
    return fn.train_epoch(STEP, net, batches)[0], 0.0


# ------------------------------------------------------------------------------------------------ inputs

FORWARD_PLACES: dict[str, Call] = {
    "forward": lambda x: fn.forward(NET, x),
    "activations": lambda x: fn.activations(NET, x),
    "vjp": lambda x: fn.vjp(NET, x),
    "backward": lambda x: fn.backward(NET, x, G),
    "value_and_grad": lambda x: fn.value_and_grad(NET, x, Y, CE),
    "sgd_step": lambda x: STEP(NET, fn.Batch(x, Y)),
    "train_step": lambda x: fn.train_step(CE)(
        fn.TrainState.create(NET, fn.SGD(learning_rate=0.1), key=KEY), fn.Batch(x, Y)
    ),
    "train_epoch": lambda x: run_epoch(fn.Batch(x, Y)),
}
INFERENCE_PLACES: dict[str, Call] = {
    "outputs": lambda x: fn.outputs(NET, x),
    "predict": lambda x: fn.predict(NET, x),
    "predict_proba": lambda x: fn.predict_proba(NET, x),
    "check_gradients": lambda x: fn.check_gradients(NET, x),
}
LAYER_PLACES: dict[str, Call] = {
    "ReLU": lambda x: fn.forward(fn.ReLU(), x),
    "Tanh": lambda x: fn.backward(fn.Tanh(), x, X),
    "Dropout": lambda x: fn.forward(fn.Dropout(0.5, key=KEY), x),
    "Residual": lambda x: fn.forward(fn.Residual(fn.Sigmoid()), x),
}
DATA_PLACES: dict[str, Call] = {"minibatches": lambda x: fn.minibatches(x, Y, 2)}
SHAPE_PLACES = FORWARD_PLACES | INFERENCE_PLACES
DTYPE_PLACES: dict[str, Call] = SHAPE_PLACES | LAYER_PLACES | DATA_PLACES

shapes = pytest.mark.parametrize(
    ("x", "facts"),
    [
        (X[0], ("got (8,)", "for a batch of one, use x[None]")),
        (X[None], ("got (1, 4, 8)",)),
        (X[:, :7], ("got (4, 7)",)),
        (np.ones((4, 9), np.float32), ("got (4, 9)",)),
    ],
    ids=["one axis", "three axes", "seven features", "nine features"],
)


@pytest.mark.parametrize("place", SHAPE_PLACES)
@shapes
def test_inputs_of_another_shape_name_the_layer_and_both_shapes(
    x: fn.Array, facts: tuple[str, ...], place: str
) -> None:
    """Whoever runs the network, the message says which layer wanted what, and why."""
    wanted = ("Dense (layer 0): ", "x must have shape (B, 8) to match weight (8, 5)")
    refuse(fn.ShapeError, (*wanted, *facts), SHAPE_PLACES[place], x)


@pytest.mark.parametrize("place", DTYPE_PLACES)
def test_an_array_without_axes_is_no_batch(place: str) -> None:
    """A 0-d array is refused for its shape, not for what it holds."""
    refuse(fn.ShapeError, ("x must have ", "got ()"), DTYPE_PLACES[place], np.array(1, np.float32))


DTYPES: dict[str, tuple[str, ...]] = {
    "int64": ("got int64", "use x.astype(np.float32)"),
    "uint8": ("got uint8", "for images divide by 255: x.astype(np.float32) / 255"),
    "bool": ("got bool", "use x.astype(np.float32)"),
    "float16": ("got float16", "use x.astype(np.float32)"),
    "longdouble": (f"got {np.dtype(np.longdouble)}", "use x.astype(np.float32)"),
    "complex64": ("got complex64",),
    "object": ("got object",),
    "str": ("got <U",),
    "bytes": ("got |S",),
    ">f4": ("got >f4", "use x.astype(np.float32)"),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("place", DTYPE_PLACES)
def test_inputs_of_another_dtype_are_never_converted(place: str, dtype: str) -> None:
    """Neither in a network, nor in a layer by itself, nor as a data set; the message has the conversion."""
    x = (np.ones((4, 8)) if dtype in ("str", "bytes") else X).astype(dtype)
    refuse(fn.DTypeError, ("x must be float32", *DTYPES[dtype]), DTYPE_PLACES[place], x)


@pytest.mark.parametrize("place", FORWARD_PLACES)
def test_float64_is_not_mixed_with_float32(place: str) -> None:
    """A network of float32 refuses doubles, and the other way round."""
    facts = ("Dense (layer 0): x must be float32 to match weight, got float64", "use x.astype(np.float32)")
    refuse(fn.DTypeError, facts, FORWARD_PLACES[place], X.astype(np.float64))
    facts = ("x must be float64 to match weight, got float32", "use x.astype(np.float64)")
    refuse(fn.DTypeError, facts, fn.forward, fn.astype(NET, np.float64), X)


NO_ARRAYS: dict[str, tuple[object, str]] = {
    "list": (X.tolist(), "got list; use np.asarray(x, dtype=np.float32)"),
    "tuple": ((1.0, 2.0), "got tuple; use np.asarray(x, dtype=np.float32)"),
    "None": (None, "got NoneType"),
    "number": (1.0, "got float; use np.asarray(x, dtype=np.float32)"),
    "NumPy number": (np.float32(1), "got numpy.float32; use np.asarray(x, dtype=np.float32)"),
    "string": ("x", "got str"),
    "masked array": (np.ma.masked_less(X, 0), "MaskedArray; use x.filled(...)"),
    "subclass": (X.view(np.recarray), "use np.asarray(x)"),
    "memory map": (X.view(np.memmap), "got numpy.memmap; use np.asarray(x)"),
}


@pytest.mark.parametrize("name", NO_ARRAYS)
@pytest.mark.parametrize("place", DTYPE_PLACES)
def test_only_plain_arrays_are_inputs(place: str, name: str) -> None:
    """Lists, numbers and subclasses, whose masks would be lost in silence; the message has the way to convert."""
    x, fact = NO_ARRAYS[name]
    refuse(fn.DTypeError, ("x must be a plain NumPy array", fact), DTYPE_PLACES[place], x)


@pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")
@pytest.mark.parametrize("place", DTYPE_PLACES)
def test_a_matrix_is_no_array(place: str) -> None:
    """``*`` means another thing for it."""
    facts = ("x must be a plain NumPy array, got numpy.matrix; use np.asarray(x)",)
    refuse(fn.DTypeError, facts, DTYPE_PLACES[place], np.asmatrix(X))


@pytest.mark.parametrize(
    ("g", "error", "facts"),
    [
        (G[0], fn.ShapeError, ("got (3,)",)),
        (G[:3], fn.ShapeError, ("got (3, 3)",)),
        (G[:, :1], fn.ShapeError, ("got (4, 1)",)),
        (np.array(1, np.float32), fn.ShapeError, ("got ()",)),
        (G.astype(np.float64), fn.DTypeError, ("must be float32", "got float64", "use g.astype(np.float32)")),
        (G.astype(np.int64), fn.DTypeError, ("got int64", "use g.astype(np.float32)")),
        (G.astype(">f4"), fn.DTypeError, ("got >f4",)),
        (G.tolist(), fn.DTypeError, ("got list", "use np.asarray(g, dtype=np.float32)")),
        (1.0, fn.DTypeError, ("got float",)),
        (np.ma.asarray(G), fn.DTypeError, ("use g.filled(...)",)),
    ],
    ids=unshown,
)
def test_the_gradient_by_the_output_is_shaped_like_it(
    g: object, error: type[fn.FuncnetError], facts: tuple[str, ...]
) -> None:
    """Nothing is broadcast or converted on the way back either, with grad_x or without."""
    pull = fn.vjp(NET, X)[1]
    facts = ("backward: g must ", *facts)
    refuse(error, facts, fn.backward, NET, X, g)
    refuse(error, facts, pull, g)
    refuse(error, facts, pull.params_only, g)


# ------------------------------------------------------------------------------------------ where it happened


RUNS: dict[str, Call] = {
    "forward": lambda net: fn.forward(net, X),
    "activations": lambda net: fn.activations(net, X),
    "backward": lambda net: fn.backward(net, X, G),
    "predict": lambda net: fn.predict(net, X),
    "sgd_step": lambda net: STEP(net, BATCH),
}


@pytest.mark.parametrize("place", RUNS)
def test_a_nested_layer_is_named_by_its_path(place: str) -> None:
    """The path has a position for every tuple on the way, and a Residual adds those of its own network."""
    call, first, last = RUNS[place], NET[0], NET[2]
    refuse(fn.ShapeError, ("Dense (layer 2.0): x must", "(5, 3), got (4, 8)"), call, (fn.ReLU(), fn.Tanh(), (last,)))
    refuse(
        fn.ShapeError, ("Dense (layer 2.1.0): x must", "(8, 5), got (4, 3)"), call, (first, fn.ReLU(), (last, (first,)))
    )
    refuse(fn.ShapeError, ("Dense (layer 1.1): x must",), call, (fn.ReLU(), fn.Residual((fn.ReLU(), last))))
    refuse(fn.ShapeError, ("Residual (layer 1): net(x) must", "got (4, 3)"), call, (fn.ReLU(), fn.Residual(NET)))


def test_an_epoch_names_the_step() -> None:
    """Steps are counted from 0, in front of the layer."""
    refuse(fn.ShapeError, ("step 3: Dense (layer 0): x must",), run_epoch, fn.Batch(X[:, :7], Y))
    refuse(fn.LabelError, ("step 3: softmax_cross_entropy: labels must",), run_epoch, fn.Batch(X, Y + 1))
    refuse(fn.DTypeError, ("step 3: ", "got uint8"), run_epoch, fn.Batch(anything(X.astype(np.uint8)), Y))


def test_an_inner_epoch_keeps_its_own_step() -> None:
    """An epoch whose step is an epoch says where the inner one stopped."""
    bad = [BATCH, fn.Batch(X, Y + 1)]
    refuse(fn.LabelError, ("step 1: softmax_cross_entropy",), fn.train_epoch, inner_epoch, NET, [[BATCH], [BATCH], bad])


@pytest.mark.parametrize(
    "kind",
    [
        fn.FuncnetError,
        fn.ShapeError,
        fn.DTypeError,
        fn.NonFiniteError,
        fn.LabelError,
        fn.ConfigError,
        fn.StructureError,
        fn.GradientError,
        fn.CheckpointError,
        fn.DatasetFormatError,
    ],
)
def test_errors_pickle_with_all_they_say(kind: type[fn.FuncnetError]) -> None:
    """An error from another process is the same value: class, message, subject, path, step."""
    error = kind("x must be small, got 3", subject="Dense").enter(0).enter(2).at_step(4)
    again = pickle.loads(pickle.dumps(error))  # noqa: S301  # its own bytes
    assert type(again) is kind
    assert isinstance(again, ValueError)
    assert str(again) == str(error) == "step 4: Dense (layer 2.0): x must be small, got 3"
    assert (again.message, again.subject, again.path, again.step) == ("x must be small, got 3", "Dense", (2, 0), 4)
    assert repr(again) == repr(error)


def test_an_error_without_a_place_is_its_message() -> None:
    """Subject, path and step appear where they are known."""
    assert str(fn.ShapeError("no")) == "no"
    assert str(fn.ShapeError("no").enter(1)) == "layer 1: no"
    assert str(fn.ShapeError("no").at_step(0)) == "step 0: no"


# ---------------------------------------------------------------------------------------------- memory and order


def variants(array: fn.Array) -> list[fn.Array]:
    """The same values read-only, in Fortran order, behind negative strides, and with gaps."""
    locked = array.copy()
    locked.flags.writeable = False
    gaps = np.repeat(array, 2, axis=1)[:, ::2]
    return [locked, np.asfortranarray(array), np.ascontiguousarray(array[::-1, ::-1])[::-1, ::-1], gaps]


@pytest.mark.parametrize("position", range(4), ids=["read-only", "Fortran order", "negative strides", "gaps"])
def test_memory_order_never_changes_bits(position: int) -> None:
    """Any layout of the same numbers gives the bits of the C-ordered copy, everywhere."""
    x, g, logits = (variants(array)[position] for array in (X, G, X[:, :3].copy()))
    before = contents([x, g, logits])
    assert same_bits(fn.forward(NET, x), fn.forward(NET, X))
    grad_x, grads = fn.backward(NET, x, g)
    wanted_x, wanted = fn.backward(NET, X, G)
    assert same_bits(grad_x, wanted_x)
    assert fn.equal(grads, wanted)
    assert same_bits(fn.predict_proba(NET, x), fn.predict_proba(NET, X))
    assert fn.equal(STEP(NET, fn.Batch(x, Y))[0], STEP(NET, BATCH)[0])
    value, grad = CE(logits, Y)
    wanted_value, wanted_grad = CE(X[:, :3].copy(), Y)
    assert value == wanted_value
    assert same_bits(grad, wanted_grad)
    layer = fn.Dense(weight=x, bias=np.zeros(8, np.float32))
    assert same_bits(layer.weight, X)
    assert layer.weight.flags.c_contiguous
    assert contents([x, g, logits]) == before


def test_data_sets_in_any_memory_order_give_the_same_batches() -> None:
    """Minibatches of a Fortran-ordered array have the bits of the C-ordered one's."""
    for x in variants(X):
        for batch, wanted in zip(fn.minibatches(x, Y, 3, key=KEY), fn.minibatches(X, Y, 3, key=KEY), strict=True):
            assert same_bits(batch.x, wanted.x)
            assert batch.x.flags.c_contiguous


# ---------------------------------------------------------------------------------------- numbers that are not finite


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
@pytest.mark.parametrize("raw", [False, True], ids=["", "with a transform"])
def test_a_data_set_with_a_number_that_is_not_finite_names_it(bad: float, raw: bool) -> None:  # noqa: FBT001
    """Inputs are looked at once, when they are cut into batches, in a large array's later rows too."""
    x = np.zeros((600, 8), np.float32)
    x[517, 3] = bad
    transform = as_it_is if raw else None
    facts = (f"minibatches: x must be finite, got x[517, 3] = {bad}",)
    refuse(fn.NonFiniteError, facts, fn.minibatches, x, np.zeros(600, np.int64), 2, transform=transform)


def test_float_targets_are_finite() -> None:
    """A target that is NaN is found where the batches are cut."""
    facts = ("minibatches: y must be finite, got y[1] = nan",)
    refuse(fn.NonFiniteError, facts, fn.minibatches, X, np.array([0.5, NAN, 1, 1]), 2)


@pytest.mark.parametrize("bad", [NAN, INF, -INF, 3e38])
def test_a_loss_that_is_not_finite_stops_training(bad: float) -> None:
    """Nothing is warned about and nothing goes on: the loss is refused, in an epoch with the step's number."""
    net = (fn.Dense(weight=np.eye(8, 3, dtype=np.float32) * 10, bias=np.zeros(3, np.float32)),)
    x = np.full((4, 8), bad, np.float32)
    batch = fn.Batch(x, np.array([0, 1, 2, 0]))
    state = fn.TrainState.create(net, fn.Momentum(learning_rate=0.1), key=KEY)
    facts = ("softmax_cross_entropy: the loss is ", "the logits are too large or not finite")
    refuse(fn.NonFiniteError, facts, fn.value_and_grad, net, x, batch.y, CE)
    refuse(fn.NonFiniteError, facts, STEP, net, batch)
    refuse(fn.NonFiniteError, facts, fn.train_step(CE), state, batch)
    refuse(fn.NonFiniteError, ("step 2: ", *facts), fn.train_epoch, STEP, net, [BATCH, BATCH, batch])
    refuse(fn.NonFiniteError, ("step 1: ", *facts), fn.train_epoch, fn.train_step(CE), state, [BATCH, batch])


def test_inputs_of_3e38_are_numbers() -> None:
    """They are finite, so a data set may hold them, and layers that do not add pass them on."""
    x = np.full((4, 8), 3e38, np.float32)
    assert len(fn.minibatches(x, Y, 2)) == 2
    assert same_bits(fn.forward(fn.ReLU(), x), x)
    assert same_bits(fn.forward(fn.Tanh(), x), np.ones_like(x))
    assert same_bits(fn.forward(fn.Sigmoid(), -x), np.zeros_like(x))


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
def test_no_class_is_predicted_from_numbers_that_are_not_finite(bad: float) -> None:
    """The first such output is named instead."""
    x = X.copy()
    x[2, 1] = bad
    for predict in (fn.predict, fn.predict_proba):
        facts = (f"{predict.__name__}: the output must be finite, got the output[2, 1] = {bad}",)
        refuse(fn.NonFiniteError, facts, predict, fn.Identity(), x)
    assert same_bits(fn.outputs(fn.Identity(), x), x)


@pytest.mark.parametrize(
    "logits",
    [[[3e38, -3e38]], [[INF, 0.0]], [[0.0, INF]], [[NAN, 0.0]], [[0.0, -INF]], [[INF, INF]], [[-INF, -INF]]],
    ids=str,
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_loss_names_itself_when_it_is_not_finite(logits: list[list[float]], dtype: fn.FloatDType) -> None:
    """No infinity and no NaN comes back from a loss."""
    array: fn.Array = np.array(logits, dtype)
    if dtype is np.float64 and 3e38 in logits[0]:
        assert CE(array, np.array([1]))[0] == pytest.approx(6e38)
        return
    refuse(fn.NonFiniteError, ("softmax_cross_entropy: the loss is ", "not finite"), CE, array, np.array([1]))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_logits_of_1e4_are_no_problem(dtype: fn.FloatDType) -> None:
    """The row's maximum is subtracted first, so nothing overflows and nothing is warned about."""
    logits: fn.Array = np.array([[1e4, -1e4]], dtype)
    value, grad = CE(logits, np.array([1]))
    assert value == 20000
    assert grad.tolist() == [[1, -1]]
    assert CE(logits, np.array([0]))[0] == 0
    assert fn.predict_proba(fn.Identity(), logits).tolist() == [[1, 0]]
    assert fn.predict_proba(fn.Identity(), np.array([[3e38, -3e38]], np.float32)).tolist() == [[1, 0]]


@pytest.mark.parametrize("rate", [1e30, 1e38, 1e300])
def test_a_learning_rate_that_ruins_the_network_is_noticed(rate: float) -> None:
    """Training stops with the step's number, under every optimizer, and the network it began with is as it was."""
    batches = list(fn.minibatches(np.tile(X, (5, 1)), np.tile(Y, 5), 4))
    before = contents(NET)
    refuse(fn.NonFiniteError, ("step ",), fn.train_epoch, fn.sgd_step(CE, learning_rate=rate), NET, batches)
    for optimizer in (fn.SGD(rate), fn.Momentum(rate)):
        state = fn.TrainState.create(NET, optimizer, key=KEY)
        refuse(fn.NonFiniteError, ("step ",), fn.train_epoch, fn.train_step(CE), state, batches)
    assert contents(NET) == before


def test_parameters_are_looked_at_when_an_epoch_ends() -> None:
    """A loss before the last update cannot show what the update did."""
    step = fn.sgd_step(CE, learning_rate=1e300)
    facts = ("step 0: 0.weight must be finite, got 0.weight[", "the learning rate may be too high")
    refuse(fn.NonFiniteError, facts, fn.train_epoch, step, NET, [BATCH])


def test_an_epoch_of_no_batches_blames_no_step() -> None:
    """A network that is not finite to begin with is refused without a step's number."""
    net = fn.Dense(weight=np.full((8, 3), NAN, np.float32), bias=np.zeros(3, np.float32))
    with pytest.raises(fn.NonFiniteError, match=r"^weight must be finite, got weight\[0, 0\] = nan$"):
        fn.train_epoch(STEP, net, [])


def test_a_step_of_ones_own_is_checked_too() -> None:
    """The fold looks at every loss, whoever made it."""
    refuse(fn.NonFiniteError, ("step 0: the loss is nan",), fn.train_epoch, no_change, NET, [BATCH])


# ------------------------------------------------------------------------------------------------ nothing at all


def test_an_empty_batch_maps_to_an_empty_batch() -> None:
    """Forward and backward are maps over rows, of which there may be none."""
    empty = X[:0]
    assert fn.forward(NET, empty).shape == (0, 3)
    assert fn.outputs(NET, empty).shape == (0, 3)
    assert fn.predict(NET, empty).shape == (0,)
    assert fn.predict_proba(NET, empty).shape == (0, 3)
    grad_x, grads = fn.backward(NET, empty, G[:0])
    assert grad_x.shape == (0, 8)
    assert not grads[0].weight.any()


def test_nothing_has_no_mean() -> None:
    """The loss of an empty batch, a metric of no labels and an epoch's mean of no steps are refused."""
    none = "must be an int of at least 1, got 0"
    loss = ("softmax_cross_entropy: the batch's size " + none,)
    refuse(fn.ConfigError, loss, CE, LOGITS[:0], Y[:0])
    refuse(fn.ConfigError, loss, fn.value_and_grad, NET, X[:0], Y[:0], CE)
    refuse(fn.ConfigError, loss, STEP, NET, fn.Batch(X[:0], Y[:0]))
    refuse(fn.ConfigError, ("step 3: ", *loss), run_epoch, fn.Batch(X[:0], Y[:0]))
    refuse(fn.ConfigError, ("accuracy: the number of labels " + none,), fn.accuracy, Y[:0], Y[:0])
    log = fn.train_epoch(STEP, NET, [])[1]
    refuse(fn.ConfigError, ("EpochLog: the number of steps " + none,), lambda: log.mean_loss)


@pytest.mark.parametrize("raw", [False, True], ids=["", "with a transform"])
def test_a_data_set_has_a_row_and_a_feature(raw: bool) -> None:  # noqa: FBT001
    """Neither no rows nor no features make a data set."""
    transform = as_it_is if raw else None
    facts = ("minibatches: x must have shape (N, ...), at least one row and one feature, got ",)
    for x, y in ((X[:0], Y[:0]), (X[:, :0], Y)):
        refuse(fn.ShapeError, (*facts, str(x.shape)), fn.minibatches, x, y, 1, transform=transform)


def test_no_classes_are_no_prediction() -> None:
    """A loss or a prediction over zero classes says so."""
    fact = "the number of classes must be an int of at least 1, got 0"
    refuse(fn.ConfigError, (f"softmax_cross_entropy: {fact}",), CE, LOGITS[:, :0], Y)
    refuse(fn.ConfigError, (f"predict: {fact}",), fn.predict, fn.Identity(), X[:, :0])
    refuse(fn.ConfigError, (f"predict_proba: {fact}",), fn.predict_proba, fn.Identity(), X[:, :0])


def test_predictions_come_from_rows_of_logits() -> None:
    """Outputs with more axes have no classes."""
    for predict in (fn.predict, fn.predict_proba):
        facts = (f"{predict.__name__}: the output must have shape (N, O), got (1, 4, 8)",)
        refuse(fn.ShapeError, facts, predict, fn.Identity(), X[None])


# ------------------------------------------------------------------------------------------------------ labels

LABEL_PLACES: dict[str, Call] = {
    "loss": lambda y: CE(LOGITS, y),
    "value_and_grad": lambda y: fn.value_and_grad(NET, X, y, CE),
    "sgd_step": lambda y: STEP(NET, fn.Batch(X, y)),
    "train_epoch": lambda y: run_epoch(fn.Batch(X, y)),
}
METRIC_PLACES: dict[str, Call] = {
    "labels": lambda y: fn.accuracy(Y, y),
    "predicted_ids": lambda y: fn.accuracy(y, Y),
}
BAD_LABELS: dict[str, tuple[object, type[fn.FuncnetError], str]] = {
    "half": (np.array([0, 0.5, 1, 1]), fn.DTypeError, "must be integer class ids, got float64"),
    "whole floats": (np.ones(4, np.float32), fn.DTypeError, "must be integer class ids, got float32"),
    "nan": (np.array([0, NAN, 1, 1]), fn.DTypeError, "must be integer class ids, got float64"),
    "bool": (Y > 0, fn.DTypeError, "must be integer class ids, got bool"),
    "complex": (Y.astype(np.complex64), fn.DTypeError, "must be integer class ids, got complex64"),
    "object": (Y.astype(object), fn.DTypeError, "must be integer class ids, got object"),
    "str": (Y.astype(str), fn.DTypeError, "must be integer class ids, got <U"),
    "column": (Y[:, None], fn.ShapeError, "must have shape (4,), one class id a row, got (4, 1)"),
    "list": (Y.tolist(), fn.DTypeError, "must be a plain NumPy array of class ids, got list; use np.asarray("),
    "None": (None, fn.DTypeError, "must be a plain NumPy array of class ids, got NoneType"),
    "masked": (np.ma.asarray(Y), fn.DTypeError, ".filled(...)"),
    "one-hot ids": (np.eye(3, dtype=np.int64)[Y], fn.ShapeError, ".argmax(axis=1) if its rows are one-hot"),
    "one-hot floats": (np.eye(3)[Y], fn.ShapeError, ".argmax(axis=1) if its rows are one-hot"),
}


@pytest.mark.parametrize("name", BAD_LABELS)
@pytest.mark.parametrize("place", LABEL_PLACES)
def test_labels_are_class_ids(place: str, name: str) -> None:
    """One integer a row, nothing that could be taken for one."""
    labels, error, fact = BAD_LABELS[name]
    if name == "one-hot floats":  # shares of each class, but for their dtype
        error, fact = fn.DTypeError, "got float64; use labels.astype(np.float32)"
    refuse(error, ("softmax_cross_entropy: labels must ", fact), LABEL_PLACES[place], labels)


@pytest.mark.parametrize("name", BAD_LABELS)
@pytest.mark.parametrize("place", METRIC_PLACES)
def test_a_metric_wants_class_ids_too(place: str, name: str) -> None:
    """Predictions and labels alike; which length is right depends on the labels."""
    labels, error, fact = BAD_LABELS[name]
    if error is fn.ShapeError and place == "labels":
        fact = "labels must have shape (4,), one class id a row"
    refuse(error, (f"accuracy: {place} must ", fact), METRIC_PLACES[place], labels)


@pytest.mark.parametrize(
    ("position", "value"), [(2, 3), (1, -1), (3, -100), (0, 2**40)], ids=["classes", "minus one", "-100", "huge"]
)
@pytest.mark.parametrize("place", LABEL_PLACES)
def test_a_label_outside_the_classes_is_named(place: str, position: int, value: int) -> None:
    """No value is magic: the first label that is no class is named with its place."""
    labels = Y.copy()
    labels[position:] = value
    facts = ("softmax_cross_entropy: labels must be in 0..2", f"got labels[{position}] = {value}")
    refuse(fn.LabelError, facts, LABEL_PLACES[place], labels)


def test_a_label_beyond_a_small_dtype_is_named() -> None:
    """A uint8 that is no class does not wrap around."""
    refuse(fn.LabelError, ("in 0..2, got labels[1] = 200",), CE, LOGITS, np.array([0, 200, 1, 1], np.uint8))


@pytest.mark.parametrize("value", [-1, -100])
def test_a_negative_label_is_found_where_batches_are_cut(value: int) -> None:
    """Before any training."""
    labels = np.array([0, value, 1, value])
    refuse(fn.LabelError, (f"minibatches: y must be 0 or more, got y[1] = {value}",), fn.minibatches, X, labels, 2)
    refuse(fn.LabelError, (f"labels must be 0 or more, got labels[1] = {value}",), fn.accuracy, Y, labels)
    facts = (f"predicted_ids must be 0 or more, got predicted_ids[1] = {value}",)
    refuse(fn.LabelError, facts, fn.accuracy, labels, Y)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "uint32", "int64", "uint64", ">i4"])
def test_labels_of_any_integer_dtype_are_the_same_labels(dtype: str) -> None:
    """Loss, step, batches and metric take them as they are."""
    labels = Y.astype(dtype)
    value, grad = CE(LOGITS, labels)
    assert value == CE(LOGITS, Y)[0]
    assert same_bits(grad, CE(LOGITS, Y)[1])
    assert fn.equal(STEP(NET, fn.Batch(X, labels))[0], STEP(NET, BATCH)[0])
    assert fn.minibatches(X, labels, 2)[0].y.dtype == np.dtype(dtype)
    assert fn.accuracy(labels, Y) == 1


def test_inputs_and_targets_have_one_length() -> None:
    """In a data set, a loss, a step and a metric."""
    facts = ("minibatches: x and y must have one length, got (4, 8) and (3,)",)
    refuse(fn.ShapeError, facts, fn.minibatches, X, Y[:3], 2)
    refuse(fn.ShapeError, ("got (4, 8) and ()",), fn.minibatches, X, np.array(1), 2)
    labels = ("labels must have shape (4,)", "got (3,)")
    for call in LABEL_PLACES.values():
        refuse(fn.ShapeError, labels, call, Y[:3])
    refuse(fn.ShapeError, ("predicted_ids must have shape (3,)", "got (4,)"), fn.accuracy, Y, Y[:3])


@pytest.mark.parametrize("dtype", ["bool", "object", "str", "complex64", "datetime64[s]"])
def test_targets_are_numbers(dtype: str) -> None:
    """A data set's targets are class ids or floats."""
    refuse(
        fn.DTypeError, ("minibatches: y must hold class ids or floats, got ",), fn.minibatches, X, Y.astype(dtype), 2
    )


@pytest.mark.parametrize("dtype", ["object", "str", "complex64", "datetime64[s]"])
def test_a_transform_starts_from_numbers(dtype: str) -> None:
    """What a transform turns into floats is numbers already."""
    x = X.astype(np.int64).astype(dtype)
    facts = ("minibatches: x must hold numbers, got ",)
    refuse(fn.DTypeError, facts, fn.minibatches, x, Y, 2, transform=as_it_is)


@pytest.mark.parametrize(
    ("logits", "error", "facts"),
    [
        (LOGITS[0], fn.ShapeError, ("must have shape (B, O), got (3,)", "use logits[None]")),
        (LOGITS[None], fn.ShapeError, ("must have shape (B, O), got (1, 4, 3)",)),
        (LOGITS.astype(np.int64), fn.DTypeError, ("must be float32 or float64, got int64", "use logits.astype(")),
        (LOGITS.astype(np.float16), fn.DTypeError, ("must be float32 or float64, got float16",)),
        (LOGITS.astype(object), fn.DTypeError, ("got object",)),
        (LOGITS.tolist(), fn.DTypeError, ("got list", "use np.asarray(logits, dtype=np.float32)")),
        (np.ma.asarray(LOGITS), fn.DTypeError, ("use logits.filled(...)",)),
        (Y, fn.ShapeError, ("must have shape (B, O), got (4,)",)),
    ],
    ids=unshown,
)
def test_a_loss_wants_rows_of_logits(logits: object, error: type[fn.FuncnetError], facts: tuple[str, ...]) -> None:
    """Exact shapes, floats, plain arrays; swapped arguments are found by this."""
    refuse(error, ("softmax_cross_entropy: logits ", *facts), CE, logits, Y)


# ---------------------------------------------------------------------------------------------------- settings

NO_NUMBERS = [NAN, INF, -INF, True, "0.1", None, 1j, [0.1], np.array([0.1]), 10**400]


@pytest.mark.parametrize("value", [*NO_NUMBERS, -0.1, 0, 0.0, -1e30], ids=repr)
def test_a_learning_rate_is_above_0_and_finite(value: object) -> None:
    """Wherever one is given."""
    fact = "learning_rate must be a number in (0, inf), got "
    refuse(fn.ConfigError, ("sgd_step: " + fact,), fn.sgd_step, CE, learning_rate=value)
    refuse(fn.ConfigError, ("sgd_update: " + fact,), fn.sgd_update, NET, NET, learning_rate=value)
    refuse(fn.ConfigError, ("SGD: " + fact,), fn.SGD, learning_rate=value)
    refuse(fn.ConfigError, ("Momentum: " + fact,), fn.Momentum, learning_rate=value)


@pytest.mark.parametrize("value", [*NO_NUMBERS, -0.1, 1, 1.0, 1.5], ids=repr)
def test_shares_are_below_1(value: object) -> None:
    """Momentum and the dropped share."""
    fact = "must be a number in [0, 1), got "
    refuse(fn.ConfigError, ("Momentum: momentum " + fact,), fn.Momentum, 0.1, momentum=value)
    refuse(fn.ConfigError, ("Dropout: rate " + fact,), fn.Dropout, value)


@pytest.mark.parametrize("value", [*NO_NUMBERS, 0, -1e-5], ids=repr)
def test_a_difference_needs_a_step(value: object) -> None:
    """The step of a numerical gradient is above 0."""
    call = fn.numerical_gradient
    refuse(fn.ConfigError, ("numerical_gradient: h must be a number in (0, inf)",), call, np.max, X, h=value)


NO_COUNTS = [0, -1, 2.5, 2.0, True, "2", None, NAN, [2], np.float32(2), np.array(2)]


@pytest.mark.parametrize("value", [*NO_COUNTS, 5, 2**70], ids=repr)
def test_a_batch_size_is_from_1_to_the_number_of_rows(value: object) -> None:
    """More than there are is more likely a mistake than a wish."""
    facts = ("minibatches: batch_size must be an int from 1 to 4, got ",)
    refuse(fn.ConfigError, facts, fn.minibatches, X, Y, value)


@pytest.mark.parametrize("value", NO_COUNTS, ids=repr)
def test_sizes_are_counts(value: object) -> None:
    """Inputs, outputs and hidden units."""
    fact = "must be an int of at least 1, got "
    refuse(fn.ConfigError, ("dense: in_size " + fact,), fn.dense, KEY, value, 3)
    refuse(fn.ConfigError, ("dense: out_size " + fact,), fn.dense, KEY, 3, value)
    refuse(fn.ConfigError, ("dense: out_size " + fact,), fn.mlp, KEY, (3, value, 2))


def test_what_draws_a_weight_is_a_function() -> None:
    """A name of one is none."""
    refuse(fn.ConfigError, ("dense: init must be a function, got 'he'",), fn.dense, KEY, 3, 2, init="he")


@pytest.mark.parametrize("sizes", [(), (3,), 3, None, {3, 2}], ids=repr)
def test_a_perceptron_has_inputs_and_outputs(sizes: object) -> None:
    """At least two sizes, in an order."""
    refuse(fn.ConfigError, ("mlp: sizes must have at least the inputs and the outputs, got ",), fn.mlp, KEY, sizes)


def test_an_activation_is_a_layer() -> None:
    """Its class, its name or None is none."""
    facts = ("mlp's activation: a network is a layer or a tuple of networks, got ",)
    refuse(fn.StructureError, (*facts, "use ReLU()"), fn.mlp, KEY, (3, 2, 2), activation=fn.ReLU)
    for activation in ("relu", None, np.tanh):
        refuse(fn.StructureError, facts, fn.mlp, KEY, (3, 2, 2), activation=activation)


@pytest.mark.parametrize("counts", [np.int64(3), np.uint8(3)], ids=repr)
def test_counts_may_be_numpy_integers(counts: Any) -> None:
    """They are integers all the same."""
    assert fn.dense(KEY, counts, counts).weight.shape == (3, 3)
    assert len(fn.minibatches(X, Y, counts)) == 2


@pytest.mark.parametrize("dtype", [np.float16, np.longdouble, np.dtype(">f4"), int, complex, None, "x"], ids=repr)
def test_a_network_is_of_float32_or_float64(dtype: object) -> None:
    """No other dtype, and none by default of NumPy's."""
    for call, args in ((fn.dense, (KEY, 3, 2)), (fn.mlp, (KEY, (3, 2)))):
        refuse(fn.ConfigError, ("dtype must be np.float32 or np.float64, got ",), anything(call), *args, dtype=dtype)
    refuse(fn.ConfigError, ("dtype must be np.float32 or np.float64, got ",), fn.astype, NET, dtype)


@pytest.mark.parametrize("seed", [-1, 1.5, 2**64, True, "0", None, NAN, [1], np.int64(1)], ids=repr)
def test_a_seed_is_an_int_of_64_bits(seed: object) -> None:
    """From 0 on."""
    refuse(fn.ConfigError, ("Key: seed must be an int from 0 to 2**64 - 1, got ",), fn.Key, seed)


def test_every_64_bit_seed_is_one() -> None:
    """The first and the last."""
    assert fn.Key(0) != fn.Key(2**64 - 1)
    assert fn.dense(fn.Key(2**64 - 1), 2, 2).weight.any()


@pytest.mark.parametrize("part", [-1, 1.5, 2**32, True, None, NAN, [1], np.ones(3)], ids=repr)
def test_a_part_of_a_path_is_an_int_of_32_bits_or_a_string(part: object) -> None:
    """NumPy spells larger ones like a longer path."""
    facts = ("Key: a part of a path must be a string or an int from 0 to 2**32 - 1, got ",)
    refuse(fn.ConfigError, facts, KEY.child, part)
    refuse(fn.ConfigError, facts, fn.Key, 0, (part,))


def test_a_path_is_a_tuple() -> None:
    """A list could change."""
    refuse(fn.ConfigError, ("Key: path must be a tuple of ints, got [1]",), fn.Key, 0, [1])


@pytest.mark.parametrize("key", [0, "0", np.random.default_rng], ids=["int", "str", "function"])
def test_randomness_comes_from_a_key(key: object) -> None:
    """A seed alone is no key; the message makes it one."""
    facts = ("key must be a Key, got ", "; use Key(0)" if key == 0 else "")
    calls: list[tuple[str, Call]] = [
        ("dense: ", lambda key: fn.dense(key, 3, 2)),
        ("mlp: ", lambda key: fn.mlp(key, (3, 2))),
        ("minibatches: ", lambda key: fn.minibatches(X, Y, 2, key=key)),
        ("training: ", lambda key: fn.training(NET, key)),
        ("Dropout: ", lambda key: fn.Dropout(0.5, key=key)),
        ("TrainState: ", lambda key: fn.TrainState.create(NET, fn.SGD(0.1), key=key)),
    ]
    for subject, call in calls:
        refuse(fn.ConfigError, (subject, *facts), call, key)


def test_a_layer_that_draws_needs_a_key_in_training() -> None:
    """It is named by its path, and the message says how to give it one."""
    net = (NET[0], (fn.ReLU(), fn.Dropout(0.5)), NET[2])
    facts = ("Dropout (layer 1.1): ", "key=None", "use train_step and TrainState.create(net, optimizer, key=...)")
    refuse(fn.ConfigError, facts, STEP, net, BATCH)
    refuse(fn.ConfigError, ("step 0: ", *facts), fn.train_epoch, STEP, net, [BATCH])


def data(_: int) -> list[fn.Batch[Any]]:
    """The same batch in every epoch."""
    return [BATCH]


@pytest.mark.parametrize("epochs", [0, -1, 3, None, 2.5], ids=repr)
def test_epochs_are_numbered(epochs: object) -> None:
    """A number of epochs is no list of them; the message has the range."""
    facts = (f"train: epochs must be numbers of epochs, got {epochs}", f"use range({epochs})")
    refuse(fn.ConfigError, facts, fn.train, STEP, NET, data, epochs=epochs)


@pytest.mark.parametrize("epochs", [range(-1, 2), [0, -1], [True], [1.5], ["0"], "12", [None]], ids=repr)
def test_an_epoch_number_is_a_count(epochs: object) -> None:
    """All are looked at before the first epoch begins."""
    facts = ("train: an epoch's number must be an int of at least 0, got ",)
    refuse(fn.ConfigError, facts, fn.train, STEP, NET, data, epochs=epochs)


def test_no_epochs_and_no_batches_change_nothing() -> None:
    """A run of no epochs is empty, and an epoch of no batches is the identity."""
    assert list(fn.train(STEP, NET, data, epochs=range(0))) == []
    net, log = fn.train_epoch(STEP, NET, [])
    assert net is NET
    assert log.losses.shape == (0,)


@pytest.mark.parametrize("stride", [2, -1])
def test_batches_are_sliced_without_gaps(stride: int) -> None:
    """A slice goes on in an epoch's middle; it leaves nothing out."""
    batches = fn.minibatches(X, Y, 1)
    facts = (f"Minibatches: batches are sliced with step 1, got {stride}",)
    refuse(fn.ConfigError, facts, lambda: batches[::stride])


# --------------------------------------------------------------------------------------------------- structure

MISMATCHES: dict[str, object] = {
    "shorter": NET[:2],
    "longer": (*NET, fn.ReLU()),
    "other order": NET[::-1],
    "other layer": (NET[0], fn.Tanh(), NET[2]),
    "other dtype": fn.astype(NET, np.float64),
    "other shape": (fn.dense(KEY, 8, 4), fn.ReLU(), fn.dense(KEY, 4, 3)),
    "nested": (NET,),
    "a layer": NET[0],
    "one layer nested": ((NET[0],), NET[1], NET[2]),
}


@pytest.mark.parametrize("name", MISMATCHES)
def test_gradients_of_another_structure_are_refused_with_both(name: str) -> None:
    """Lengths, layers, shapes, dtypes and nesting are compared, and the message shows both networks."""
    other = MISMATCHES[name]
    facts = ("two networks must have one structure", repr(NET), repr(other))
    refuse(fn.StructureError, facts, fn.sgd_update, NET, other, learning_rate=0.1)
    refuse(fn.StructureError, facts, fn.SGD(0.1).update, NET, other, NO_MOMENTS, 0)
    refuse(fn.StructureError, facts, fn.Momentum(0.1).update, NET, other, fn.Moments.of(velocity=NET), 0)
    inner, wrapped = fn.Residual(NET), fn.Residual(anything(other))
    refuse(fn.StructureError, facts, fn.sgd_update, inner, wrapped, learning_rate=0.1)


def test_moments_belong_to_their_optimizer() -> None:
    """A run does not go on under another optimizer."""
    reason = "a run goes on under the optimizer that it began with"
    other = fn.Moments.of(mean=NET, square=NET)
    for moments, got in (
        (NO_MOMENTS, "()"),
        (other, "('mean', 'square')"),
        ((NET,), "which is not Moments.of(velocity=...)"),
        (None, ""),
    ):
        facts = ("Momentum: moments must have the names ('velocity',), got ", got, reason)
        refuse(fn.StructureError, facts, fn.Momentum(0.1).update, NET, NET, moments, 0)
    fact = "SGD: moments must have the names (), got ('mean', 'square')"
    refuse(fn.StructureError, (fact, reason), fn.SGD(0.1).update, NET, NET, other, 0)
    state = fn.TrainState(NET, fn.Momentum(0.1), NO_MOMENTS, 0, KEY)
    refuse(fn.StructureError, (reason,), fn.train_step(CE), state, BATCH)


NETWORK_PLACES: dict[str, Call] = {
    "forward": lambda net: fn.forward(net, X),
    "vjp": lambda net: fn.vjp(net, X),
    "backward": lambda net: fn.backward(net, X, G),
    "value_and_grad": lambda net: fn.value_and_grad(net, X, Y, CE),
    "sgd_step": lambda net: STEP(net, BATCH),
    "train_epoch": lambda net: fn.train_epoch(STEP, net, [BATCH]),
    "TrainState": lambda net: fn.TrainState.create(net, fn.SGD(0.1), key=KEY),
    "predict": lambda net: fn.predict(net, X),
    "training": lambda net: fn.training(net, KEY),
    "cast": lambda net: fn.astype(net, np.float32),
    "equal": lambda net: fn.equal(NET, net),
    "Residual": fn.Residual,
    "sgd_update": lambda net: fn.sgd_update(net, net, learning_rate=0.1),
    "check_gradients": lambda net: fn.check_gradients(net, X),
}
NO_NETWORKS: dict[str, tuple[object, str]] = {
    "list": (list(NET), "; use a tuple"),
    "None": (None, "got None"),
    "class": (fn.ReLU, "; use ReLU()"),
    "string": ("relu", "got 'relu'"),
    "number": (3, "got 3"),
    "array": (X, "got array"),
    "function": (np.tanh, "got <ufunc 'tanh'>"),
    "dict": ({0: NET[0]}, "got {0: Dense("),
}


@pytest.mark.parametrize("name", NO_NETWORKS)
@pytest.mark.parametrize("place", NETWORK_PLACES)
def test_a_network_is_a_layer_or_a_tuple(place: str, name: str) -> None:
    """Anything else is named, alone and by its place in a network."""
    value, fact = NO_NETWORKS[name]
    facts = ("a network is a layer or a tuple of networks", fact)
    refuse(fn.StructureError, facts, NETWORK_PLACES[place], value)
    refuse(fn.StructureError, ("layer 1.0", *facts), NETWORK_PLACES[place], (fn.ReLU(), (value,)))


def test_activations_are_those_of_a_tuple() -> None:
    """One layer has no outputs between its elements."""
    for value in (fn.ReLU(), list(NET), None):
        refuse(fn.StructureError, ("activations: params must be a tuple of networks, got ",), fn.activations, value, X)


ZEROS = np.zeros(5, np.float32)
WEIGHT = np.zeros((8, 5), np.float32)


@pytest.mark.parametrize(
    ("weight", "bias", "error", "facts"),
    [
        (WEIGHT, ZEROS[:4], fn.ShapeError, ("bias must have shape (5,) to match weight (8, 5), got (4,)",)),
        (WEIGHT, ZEROS[:, None], fn.ShapeError, ("bias must have shape (5,)", "got (5, 1)")),
        (WEIGHT[0], ZEROS, fn.ShapeError, ("weight must have shape (I, O), got (5,)",)),
        (WEIGHT[None], ZEROS, fn.ShapeError, ("weight must have shape (I, O), got (1, 8, 5)",)),
        (ZEROS, WEIGHT, fn.ShapeError, ("weight must have shape (I, O), got (5,)",)),
        (WEIGHT, np.array(0, np.float32), fn.ShapeError, ("bias must have an axis", "use shape (1,)")),
        (WEIGHT, ZEROS.astype(np.float64), fn.DTypeError, ("bias must be float32", "got float64; use bias.astype(")),
        (WEIGHT.astype(np.int64), ZEROS, fn.DTypeError, ("weight must be float32 or float64, got int64",)),
        (WEIGHT.astype(np.float16), ZEROS, fn.DTypeError, ("weight must be float32 or float64, got float16",)),
        (WEIGHT.astype(">f4"), ZEROS, fn.DTypeError, ("weight must be float32 or float64, got >f4",)),
        (WEIGHT.tolist(), ZEROS, fn.DTypeError, ("weight must be a plain NumPy array, got list",)),
        (WEIGHT, None, fn.DTypeError, ("bias must be a plain NumPy array, got NoneType",)),
        (np.ma.asarray(WEIGHT), ZEROS, fn.DTypeError, ("use weight.filled(...)",)),
        (WEIGHT[:0], ZEROS, fn.ConfigError, ("weight's in_size must be an int of at least 1, got 0",)),
        (WEIGHT[:, :0], ZEROS[:0], fn.ConfigError, ("weight's out_size must be an int of at least 1, got 0",)),
    ],
    ids=unshown,
)
def test_parameters_fit_each_other(
    weight: object, bias: object, error: type[fn.FuncnetError], facts: tuple[str, ...]
) -> None:
    """A layer that cannot work cannot be made."""
    refuse(error, ("Dense: ", *facts), fn.Dense, weight, bias)
    refuse(error, ("Dense: ", *facts), attrs.evolve, NET[0], weight=weight, bias=bias)
