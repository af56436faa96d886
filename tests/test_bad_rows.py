"""The table of bad inputs, row by row: what each gets, in every place where funcnet meets it.

A row is refused by the right error, whose message has the facts, or is fine; whatever happens, no argument is changed,
and no file is written.
"""

from __future__ import annotations

import gzip
import math
import pickle
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import attrs
import numpy as np
import pytest
from test_bad_inputs import (
    CE,
    DATA_PLACES,
    DTYPE_PLACES,
    FORWARD_PLACES,
    INFERENCE_PLACES,
    KEY,
    LABEL_PLACES,
    LOGITS,
    METRIC_PLACES,
    NET,
    SHAPE_PLACES,
    STEP,
    Call,
    X,
    Y,
    anything,
    contents,
    refuse,
    run_epoch,
    variants,
)
from test_datasets import NAMES
from test_traps import MIB, checkpoint, idx_header, packed, sparse

import funcnet as fn
from funcnet import datasets
from funcnet.core.trees import same_bits
from funcnet.loops.shards import sharded_value_and_grad

NAN, INF = math.nan, math.inf
Facts = tuple[str, ...]
Places = dict[str, Call]


@attrs.frozen
class Case:
    """One place where a row is met: the call and its argument, and the error with its facts, or None if all is well."""

    row: int
    place: str
    call: Call
    argument: Any
    error: type[fn.FuncnetError] | None
    facts: Facts

    @property
    def name(self) -> str:
        """What pytest prints."""
        return f"row {self.row:02}: {self.place}"


def bad(
    row: int, places: Places, argument: object, error: type[fn.FuncnetError], *facts: str, what: str = ""
) -> list[Case]:
    """A row that is refused in these places."""
    return [Case(row, f"{what} {name}".strip(), call, argument, error, facts) for name, call in places.items()]


def fine(row: int, places: Places, argument: object, what: str = "") -> list[Case]:
    """A row that is no error: the calls themselves check what comes out."""
    return [Case(row, f"{what} {name}".strip(), call, argument, None, ()) for name, call in places.items()]


# ------------------------------------------------------------------------------------------------ rows 1 to 17

EVERYWHERE: Places = {
    **DTYPE_PLACES,
    "evaluate": lambda x: fn.evaluate(NET, x, Y, CE),
    "explain": lambda x: fn.explain(NET, x, Y, CE),
    "first_nonfinite": lambda x: fn.first_nonfinite(NET, x, Y, CE),
    "gradient_statistics": lambda x: fn.gradient_statistics(NET, x, Y, CE),
    "standardize": fn.standardize,
    "calibrate": lambda x: fn.calibrate((fn.batch_norm(8),), x),
    "check_layer": lambda x: fn.check_layer(fn.ReLU(), x),
    "shards": lambda x: fn.sgd_step(CE, learning_rate=0.1, shard_size=2)(NET, fn.Batch(x, Y)),
}
LAYERS: Places = {name: call for name, call in EVERYWHERE.items() if name not in ("minibatches", "check_layer")}
TYPE: Final = "x must be a plain NumPy array"


def same_everywhere(x: Any) -> None:
    """Any layout gives the bits of the C-ordered copy."""
    assert same_bits(fn.forward(NET, x), fn.forward(NET, X))
    assert fn.equal(STEP(NET, fn.Batch(x, Y))[0], STEP(NET, fn.Batch(X, Y))[0])
    assert same_bits(fn.predict_proba(NET, x), fn.predict_proba(NET, X))
    assert same_bits(CE(x[:, :3], Y)[1], CE(X[:, :3].copy(), Y)[1])
    assert same_bits(fn.minibatches(x, Y, 4)[0].x, X)
    assert same_bits(fn.standardize(x).mean, fn.standardize(X).mean)


def dtype_rows(row: int, dtype: Any, *facts: str) -> list[Case]:
    """A dtype that is refused everywhere."""
    x = np.ones((4, 8)).astype(dtype) if np.dtype(dtype).kind in "US" else X.astype(dtype)
    return bad(row, EVERYWHERE, x, fn.DTypeError, "x must be float32", *facts, what=np.dtype(dtype).str)


MASKED: Final[object] = np.ma.masked_less(X, 0)
READ_ONLY, FORTRAN, NEGATIVE, GAPS = variants(X)
SHAPES_AND_TYPES: Final = [
    *bad(1, SHAPE_PLACES, X[0], fn.ShapeError, "Dense (layer 0): x must have shape (B, 8)", "got (8,)", "use x[None]"),
    *bad(1, DATA_PLACES, X[0], fn.ShapeError, "x must have shape (N, ...), at least one row and one feature, got (8,)"),
    *bad(2, SHAPE_PLACES, X[None], fn.ShapeError, "Dense (layer 0): x must have shape (B, 8)", "got (1, 4, 8)"),
    *bad(3, EVERYWHERE, np.array(1, np.float32), fn.ShapeError, "x must have ", "got ()"),
    *bad(4, SHAPE_PLACES, X[:, :7], fn.ShapeError, "layer 0", "(B, 8) to match weight (8, 5)", "got (4, 7)"),
    *bad(4, {"inner layer": lambda net: fn.forward(net, X)}, (NET[0], (fn.ReLU(), NET[0])), fn.ShapeError,
         "Dense (layer 1.1): x must have shape (B, 8) to match weight (8, 5), got (4, 5)"),
    *dtype_rows(5, np.int64, "got int64; use x.astype(np.float32)"),
    *dtype_rows(5, np.uint8, "got uint8; for images divide by 255: x.astype(np.float32) / 255"),
    *dtype_rows(6, np.bool_, "got bool; use x.astype(np.float32)"),
    *bad(7, FORWARD_PLACES | INFERENCE_PLACES, X.astype(np.float64), fn.DTypeError,
         "Dense (layer 0): x must be float32 to match weight, got float64; use x.astype(np.float32)"),
    *dtype_rows(8, np.float16, "got float16; use x.astype(np.float32)"),
    *dtype_rows(9, np.longdouble, "use x.astype(np.float32)"),
    *dtype_rows(9, np.complex64, "got complex64"),
    *dtype_rows(10, object, "got object"),
    *dtype_rows(11, "U3", "got <U3"),
    *bad(12, EVERYWHERE, X.tolist(), fn.DTypeError, TYPE, "got list; use np.asarray(x, dtype=np.float32)"),
    *bad(13, EVERYWHERE, MASKED, fn.DTypeError, TYPE, "MaskedArray; use x.filled(...)", what="masked"),
    *bad(13, EVERYWHERE, X.view(np.recarray), fn.DTypeError, TYPE, "use np.asarray(x)", what="subclass"),
    *dtype_rows(14, ">f4", "got >f4; use x.astype(np.float32)"),
    *fine(15, {"everywhere": same_everywhere}, NEGATIVE),
    *fine(16, {"everywhere": same_everywhere}, FORTRAN, "Fortran order"),
    *fine(16, {"everywhere": same_everywhere}, GAPS, "gaps"),
    *fine(17, {"everywhere": same_everywhere}, READ_ONLY),
]  # fmt: skip
UNGUARDED: Final = {"check_gradients"}  # casts its network and its inputs to float64
SHAPES_AND_TYPES[:] = [case for case in SHAPES_AND_TYPES if not (case.row == 7 and case.place in UNGUARDED)]

# ----------------------------------------------------------------------------------------------- rows 18 to 25


def with_number(number: float) -> fn.Array:
    """Good inputs but for one number, in the second row's third place."""
    x = X.copy()
    x[1, 2] = number
    return x


def huge_forward(x: Any) -> None:
    """A pure map: infinite where it must be, and nothing is warned about."""
    with np.errstate(all="raise"):
        assert fn.forward(fn.Dense(np.full((8, 2), 10, np.float32), np.zeros(2, np.float32)), x).max() == INF
        assert same_bits(fn.forward(fn.ReLU(), x), x)
        assert len(fn.minibatches(x, Y, 2)) == 2


def huge_step(x: Any) -> object:
    """An epoch whose second step overflows."""
    net = fn.Dense(np.eye(8, 3, dtype=np.float32) * 10, np.zeros(3, np.float32))
    return fn.train_epoch(STEP, net, [fn.Batch(X, Y), fn.Batch(x, Y)])


def empty_forward(x: Any) -> None:
    """No rows go to no rows."""
    assert fn.forward(NET, x).shape == (0, 3)
    assert fn.outputs(NET, x).shape == (0, 3)
    assert fn.predict(NET, x).shape == (0,)
    assert fn.backward(NET, x, LOGITS[:0])[0].shape == (0, 8)


LOOKS: Places = {
    "minibatches": lambda x: fn.minibatches(x, Y, 2),
    "standardize": fn.standardize,
}
PREDICTS: Places = {
    "predict": lambda x: fn.predict(fn.Identity(), x),
    "predict_proba": lambda x: fn.predict_proba(fn.Identity(), x),
}
TRAINS: Places = {
    "value_and_grad": lambda x: fn.value_and_grad(NET, x, Y[: len(x)], CE),
    "sgd_step": lambda x: STEP(NET, fn.Batch(x, Y[: len(x)])),
    "train_step": lambda x: fn.train_step(CE)(
        fn.TrainState.create(NET, fn.SGD(0.1), key=KEY), fn.Batch(x, Y[: len(x)])
    ),
    "train_epoch": lambda x: run_epoch(fn.Batch(x, Y[: len(x)])),
}
EVALUATES: Places = {"evaluate": lambda x: fn.evaluate(NET, x, Y[: len(x)], CE)}
LENGTHS: Places = {
    **LABEL_PLACES,
    "minibatches": lambda y: fn.minibatches(X, y, 2),
    "split": lambda y: fn.split(X, y, 1, key=KEY),
    "evaluate": lambda y: fn.evaluate(NET, X, y, CE),
}
NO_ROWS: Final = "must be an int of at least 1, got 0"


def not_finite(row: int, number: float) -> list[Case]:
    """A number that is not finite, in the inputs: named where it is looked for, and where it arrives."""
    x, named = with_number(number), f"[1, 2] = {number}"
    return [
        *bad(row, LOOKS, x, fn.NonFiniteError, "x must be finite, got x" + named, what=str(number)),
        *bad(
            row, PREDICTS, x, fn.NonFiniteError, "the output must be finite, got the output" + named, what=str(number)
        ),
        *bad(row, TRAINS | EVALUATES, x, fn.NonFiniteError, "the loss is nan", what=str(number)),
        *bad(
            row,
            {"train_epoch's step": TRAINS["train_epoch"]},
            x,
            fn.NonFiniteError,
            "step 3: ",
            "x[1, 2] is ",
            what=str(number),
        ),
    ]


NUMBERS: Final = [
    *not_finite(18, NAN),
    *not_finite(19, INF),
    *not_finite(19, -INF),
    *fine(20, {"forward, minibatches": huge_forward}, np.full((4, 8), 3e38, np.float32)),
    *bad(20, {"train_epoch": huge_step}, np.full((4, 8), 3e38, np.float32), fn.NonFiniteError, "step 1: ",
         "the loss is "),
    *fine(21, {"forward": empty_forward}, X[:0]),
    *bad(21, TRAINS, X[:0], fn.ConfigError, "softmax_cross_entropy: the batch's size " + NO_ROWS),
    *bad(22, {"loss": lambda logits: CE(logits, Y[:0])}, LOGITS[:0], fn.ConfigError, "the batch's size " + NO_ROWS),
    *bad(22, {"accuracy": lambda y: fn.accuracy(y, y)}, Y[:0], fn.ConfigError, "the number of labels " + NO_ROWS),
    *bad(22, EVALUATES, X[:0], fn.ConfigError, "the batch's size " + NO_ROWS),
    *bad(23, {"minibatches": lambda x: fn.minibatches(x, Y[:0], 1)}, X[:0], fn.ShapeError, "at least one row",
         "(0, 8)"),
    *bad(23, {"standardize": fn.standardize, "calibrate": lambda x: fn.calibrate(NET, x)}, X[:0], fn.ShapeError,
         "x must have at least one row, got (0, 8)"),
    *bad(23, {"split": lambda x: fn.split(x, Y[:0], 1, key=KEY)}, X[:0], fn.ConfigError,
         "held_out must be from 1 to -1"),
    *bad(24, {"minibatches": lambda x: fn.minibatches(x, Y, 1)}, X[:, :0], fn.ShapeError, "one feature", "(4, 0)"),
    *bad(24, {"Dense": lambda x: fn.Dense(x, np.zeros(4, np.float32))}, X[:, :0].T, fn.ConfigError,
         "weight's in_size must be an int of at least 1, got 0"),
    *bad(24, {"dense": lambda n: fn.dense(KEY, n, 3)}, 0, fn.ConfigError,
         "dense: in_size must be an int of at least 1"),
    *bad(25, LENGTHS, Y[:3], fn.ShapeError, "(3,)"),
    *bad(25, {"accuracy": lambda y: fn.accuracy(Y, y)}, Y[:3], fn.ShapeError, "predicted_ids must have shape (3,)",
         "(4,)"),
]  # fmt: skip

# ----------------------------------------------------------------------------------------------- rows 26 to 38

CLASSES: Places = {
    **LABEL_PLACES,
    "evaluate": lambda y: fn.evaluate(NET, X, y, CE),
    "explain": lambda y: fn.explain(NET, X, y, CE),
    "gradient_statistics": lambda y: fn.gradient_statistics(NET, X, y, CE),
    "one_hot": lambda y: fn.one_hot(y, 3),
    "shards": lambda y: fn.sgd_step(CE, learning_rate=0.1, shard_size=4)(NET, fn.Batch(X, y)),
}
BATCHED: Places = {"minibatches": lambda y: fn.minibatches(X, y, 2)}


def labelled(value: int, position: int = 1) -> Any:
    """Labels with one that is no class."""
    labels = Y.copy()
    labels[position] = value
    return labels


def labels_of_any_integer(dtype: Any) -> None:
    """Taken as they are."""
    labels = Y.astype(dtype)
    assert CE(LOGITS, labels)[0] == CE(LOGITS, Y)[0]
    assert fn.equal(STEP(NET, fn.Batch(X, labels))[0], STEP(NET, fn.Batch(X, Y))[0])
    assert fn.minibatches(X, labels, 2)[0].y.dtype == np.dtype(dtype)
    assert fn.accuracy(labels, Y) == 1
    assert same_bits(fn.one_hot(labels, 3), fn.one_hot(Y, 3))


def broadcast_loss(prediction: Any, target: Any) -> tuple[float, Any]:
    """A loss of one's own whose gradient has another shape than the prediction."""
    return 0.5, prediction[:, 0] - target


def large_logits(logits: Any) -> None:
    """The maximum is subtracted first."""
    value, grad = CE(logits, np.array([1]))
    assert value == 20000
    assert grad.tolist() == [[1, -1]]
    assert fn.predict_proba(fn.Identity(), logits).tolist() == [[1, 0]]


def float_labels(row: int, labels: Any, what: str) -> list[Case]:
    """Labels that are no integers."""
    facts = ("must be integer class ids", f"got {labels.dtype}")
    return bad(row, CLASSES | METRIC_PLACES, labels, fn.DTypeError, *facts, what=what)


OF_LOGITS: Places = {"loss": lambda logits: CE(logits, np.array([1]))}


def of_a_pair(loss: Any) -> Call:
    """A loss of a prediction and a target in one argument."""
    return lambda pair: loss(*pair)


REGRESSIONS: Places = {
    name: of_a_pair(getattr(fn, name))
    for name in ("mean_squared_error", "mean_absolute_error", "huber")
    if hasattr(fn, name)
}
LABELS: Final = [
    *bad(26, CLASSES, labelled(3), fn.LabelError, "labels must be in 0..2, got labels[1] = 3"),
    *bad(27, CLASSES, labelled(-1), fn.LabelError, "labels must be in 0..2, got labels[1] = -1"),
    *bad(27, BATCHED, labelled(-1), fn.LabelError, "minibatches: y must be 0 or more, got y[1] = -1"),
    *bad(27, METRIC_PLACES, labelled(-1), fn.LabelError, "must be 0 or more, got ", "[1] = -1"),
    *bad(28, CLASSES, labelled(-100, 2), fn.LabelError, "labels must be in 0..2, got labels[2] = -100"),
    *bad(28, BATCHED, labelled(-100, 2), fn.LabelError, "minibatches: y must be 0 or more, got y[2] = -100"),
    *float_labels(29, np.array([0, 0.5, 1, 1]), "0.5"),
    *float_labels(30, np.ones(4, np.float32), "1.0"),
    *float_labels(31, np.array([0, NAN, 1, 1]), "NaN"),
    *bad(31, BATCHED, np.array([0, NAN, 1, 1]), fn.NonFiniteError, "y must be finite, got y[1] = nan"),
    *float_labels(32, Y > 0, "bool"),
    *bad(32, BATCHED, Y > 0, fn.DTypeError, "minibatches: y must hold class ids or floats, got bool"),
    *[case for dtype in ("i1", "u1", "i4", "u4", "i8", "u8", ">i4")
      for case in fine(32, {"everywhere": labels_of_any_integer}, dtype, dtype)],
    *bad(33, CLASSES | METRIC_PLACES, Y[:, None], fn.ShapeError, "one class id a row"),
    *bad(34, CLASSES, np.eye(3, dtype=np.int64)[Y], fn.ShapeError, "(4,), one class id a row, got (4, 3)",
         "use labels.argmax(axis=1) if its rows are one-hot"),
    *bad(35, {"a loss of one's own": lambda y: fn.value_and_grad(fn.Identity(), X[:, :1], y, broadcast_loss)},
         X[:, 0].copy(), fn.ShapeError, "its gradient must have shape (4, 1), got (4,)"),
    *bad(35, REGRESSIONS, (X[:, :1].copy(), X[:, 0].copy()), fn.ShapeError, "(4, 1)", "(4,)"),
    *fine(36, {"loss, predict_proba": large_logits}, np.array([[1e4, -1e4]], np.float32)),
    *bad(37, OF_LOGITS, np.array([[3e38, -3e38]], np.float32), fn.NonFiniteError,
         "softmax_cross_entropy: the loss is inf"),
    *bad(38, OF_LOGITS, np.array([[INF, 0.0]]), fn.NonFiniteError, "softmax_cross_entropy: the loss is nan"),
    *bad(38, PREDICTS, np.array([[INF, 0.0]]), fn.NonFiniteError, "the output must be finite", "[0, 0] = inf"),
]  # fmt: skip

# ----------------------------------------------------------------------------------------------- rows 39 to 49

SIZED: Places = {"minibatches": lambda size: fn.minibatches(X, Y, size)}
SHARDED: Places = {
    "sgd_step": lambda size: fn.sgd_step(CE, learning_rate=0.1, shard_size=size),
    "train_step": lambda size: fn.train_step(CE, shard_size=size),
    "sharded": lambda size: sharded_value_and_grad(NET, X, Y, CE, shard_size=size),
}
RATED: Places = {
    "sgd_step": lambda rate: fn.sgd_step(CE, learning_rate=rate),
    "sgd_update": lambda rate: fn.sgd_update(NET, NET, learning_rate=rate),
    "SGD": fn.SGD,
    "Momentum": fn.Momentum,
    "gradient_statistics": lambda rate: fn.gradient_statistics(NET, X, Y, CE, learning_rate=rate),
}
DROPPED: Places = {"Dropout": fn.Dropout}
HEAVY: Places = {"Momentum": lambda momentum: fn.Momentum(0.1, momentum)}
UNITS: Places = {
    "dense's in_size": lambda size: fn.dense(KEY, size, 3),
    "dense's out_size": lambda size: fn.dense(KEY, 3, size),
    "mlp": lambda size: fn.mlp(KEY, (3, size, 2)),
    "layer_norm": fn.layer_norm,
    "batch_norm": fn.batch_norm,
    "rms_norm": fn.rms_norm,
}
SEEDS: Places = {"Key": fn.Key}


def ruined(rate: float) -> object:
    """An epoch of two steps, under each way to update."""
    batches = [fn.Batch(X, Y)] * 2
    for optimizer in (fn.SGD(rate), fn.Momentum(rate)):
        with pytest.raises(fn.NonFiniteError, match="step "):
            fn.train_epoch(fn.train_step(CE), fn.TrainState.create(NET, optimizer, key=KEY), batches)
    return fn.train_epoch(fn.sgd_step(CE, learning_rate=rate), NET, batches)


def no_epochs(count: int) -> None:
    """The identity."""
    assert list(fn.train(STEP, NET, lambda _: [], epochs=range(count))) == []
    assert list(fn.fit(STEP, fn.Fit.create(NET), lambda _: [], lambda _: 0.5, epochs=count)) == []


EPOCHS: Places = {
    "train": lambda number: fn.train(STEP, NET, lambda _: [], epochs=[number]),
    "audited_train": lambda number: fn.audited_train("run", STEP, NET, lambda _: [], epochs=[number]),
}
RATE: Final = "learning_rate must be a number in (0, inf), got "


def each(row: int, places: Places, values: tuple[object, ...], fact: str) -> list[Case]:
    """Several values that a setting cannot have."""
    return [case for value in values for case in bad(row, places, value, fn.ConfigError, fact, what=repr(value))]


SETTINGS: Final = [
    *each(39, SIZED, (0,), "minibatches: batch_size must be an int from 1 to 4, got 0"),
    *each(39, SHARDED, (0,), "shard_size must be an int of at least 1, got 0"),
    *each(40, SIZED, (-1, 2.5, True), "minibatches: batch_size must be an int from 1 to 4, got "),
    *each(40, SHARDED, (-1, 2.5, True), "shard_size must be an int of at least 1, got "),
    *each(41, SIZED, (5,), "minibatches: batch_size must be an int from 1 to 4, got 5"),
    *each(42, RATED, (-0.1, -1), RATE),
    *each(43, RATED, (NAN,), RATE + "nan"),
    *each(44, RATED, (INF, -INF), RATE),
    *bad(44, {"1e30 in training": ruined}, 1e30, fn.NonFiniteError, "step "),
    *each(45, RATED, (0, 0.0, True, "x", None), RATE),
    *each(46, HEAVY, (NAN,), "Momentum: momentum must be a number in [0, 1), got nan"),
    *each(46, DROPPED, (NAN,), "Dropout: rate must be a number in [0, 1), got nan"),
    *each(47, DROPPED, (1.5, 1, -0.1), "Dropout: rate must be a number in [0, 1), got "),
    *each(47, UNITS, (0, -1, 2.5), "must be an int of at least 1, got "),
    *fine(48, {"train, fit": no_epochs}, 0),
    *each(48, EPOCHS, (-1,), "an epoch's number must be an int of at least 0, got -1"),
    *each(48, {"fit": lambda n: fn.fit(STEP, fn.Fit.create(NET), lambda _: [], lambda _: 0.5, epochs=n)}, (-1,),
          "fit: epochs must be an int of at least 0, got -1"),
    *each(49, SEEDS, (-1, 1.5, 2**64, True), "Key: seed must be an int from 0 to 2**64 - 1, got "),
    *fine(49, {"Key": lambda seeds: [fn.Key(seed) for seed in seeds]}, (0, 2**64 - 1)),
]  # fmt: skip

# ----------------------------------------------------------------------------------------------- rows 50 to 53

OTHERS: Final[dict[str, Any]] = {
    "missing": NET[:2],
    "extra": (*NET, fn.ReLU()),
    "another shape": (fn.dense(KEY, 8, 4), fn.ReLU(), fn.dense(KEY, 4, 3)),
    "another type": (NET[0], fn.Tanh(), NET[2]),
}
STATE: Final = fn.TrainState.create(NET, fn.Momentum(0.1), key=KEY)


def load_like(other: Any) -> object:
    """A network in a file, loaded as another one."""
    fn.save("net", NET)
    return fn.load("net", like=other)


UPDATES: Places = {
    "sgd_update": lambda other: fn.sgd_update(NET, other, learning_rate=0.1),
    "SGD": lambda other: fn.SGD(0.1).update(NET, other, fn.Moments.of(), 0),
    "Momentum's gradients": lambda other: fn.Momentum(0.1).update(NET, other, fn.Moments.of(velocity=NET), 0),
    "Momentum's moments": lambda other: fn.Momentum(0.1).update(NET, NET, fn.Moments.of(velocity=other), 0),
}
LOADS: Places = {"load": load_like}


def broken_weights(number: float) -> object:
    """A file with a weight that is not finite: let through when asked for."""
    net = fn.Dense(np.full((2, 2), number, np.float32), np.zeros(2, np.float32))
    fn.save("net", net)
    assert fn.equal(fn.load("net", like=net, allow_nonfinite=True), net)
    return fn.load("net")


STRUCTURES: Final = [
    *[case for name, other in OTHERS.items()
      for case in bad(50, UPDATES, other, fn.StructureError, "must have one structure", repr(NET), repr(other),
         what=name)],
    *[case for name, other in OTHERS.items()
      for case in bad(50, LOADS, other, fn.StructureError, "it must have the structure of", repr(NET), repr(other),
         what=name)],
    *bad(51, UPDATES, fn.astype(NET, np.float64), fn.StructureError, "must have one structure", "float32", "float64"),
    *bad(51, LOADS, fn.astype(NET, np.float64), fn.StructureError, "float32", "float64"),
    *bad(52, {"load": broken_weights}, NAN, fn.CheckpointError, "net: ",
         "weight must be finite, got weight[0, 0] = nan"),
    *bad(52, {"load": broken_weights}, INF, fn.CheckpointError, "weight[0, 0] = inf", what="inf"),
    *bad(53, UPDATES, NET[::-1], fn.StructureError, repr(NET), repr(NET[::-1]), what="order"),
    *bad(53, UPDATES, (NET,), fn.StructureError, repr(NET), what="nesting"),
    *bad(53, {"swapped w and b": lambda pair: fn.Dense(*pair)}, (NET[0].bias, NET[0].weight), fn.ShapeError,
         "Dense: weight must have shape (I, O), got (5,)"),
]  # fmt: skip


# ----------------------------------------------------------------------------------------------- rows 54 to 64


def written(content: bytes, path: str = "net") -> Path:
    """A file in the directory of the test."""
    Path(path).write_bytes(content)
    return Path(path)


def good_checkpoint() -> bytes:
    """A network's file."""
    fn.save("good", NET)
    content = Path("good").read_bytes()
    Path("good").unlink()
    return content


def load_changed(change: Callable[[bytes], bytes]) -> object:
    """Read a checkpoint after a change of its bytes."""
    return fn.load(written(change(good_checkpoint())))


class Bomb:
    """What runs code when it is unpickled."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return Path.touch, (Path("executed"),)  # type: ignore[return-value]  # two arguments are enough


def load_pickle(kind: str) -> object:
    """Read a pickle, or an archive of one, as a checkpoint: no code of it runs."""
    if kind == "npz":
        np.savez("net.npz", anything(np.array([Bomb()], object)))
        path = Path("net.npz")
    else:
        path = written(pickle.dumps(Bomb()))
    try:
        return fn.load(path)
    finally:
        assert not Path("executed").exists()


def load_made(make: Callable[[Path], object]) -> object:
    """Read what a function makes as a checkpoint."""
    make(Path("net"))
    return fn.load("net")


def renamed(name: str) -> Callable[[bytes], bytes]:
    """Another name for an array."""

    def change(content: bytes) -> bytes:
        length = int.from_bytes(content[:8], "little")
        text = content[8 : 8 + length].replace(b'"0.bias"', name.encode()).rstrip()
        text += b" " * (-len(text) % 8)
        return len(text).to_bytes(8, "little") + text + content[8 + length :]

    return change


def read_idx(content: bytes | Callable[[Path], object]) -> object:
    """Read an IDX file of this content, or that a function makes."""
    if callable(content):
        content(Path("idx"))
    else:
        written(content, "idx")
    return datasets.read_idx("idx")


def load_wrong_mnist(labels: Any) -> object:
    """Read a directory with four IDX files that are not MNIST's: of other counts, with other labels."""
    for name in NAMES:
        values = labels if "labels" in name else np.zeros((3, 28, 28), np.uint8)
        Path(name).write_bytes(idx_header(*values.shape) + values.tobytes())
    return datasets.load_mnist(".")


LOAD: Places = {"load": load_changed}
MADE: Places = {"load": load_made}
IDX: Places = {"read_idx": read_idx}
GOOD: Final = idx_header(3) + b"abc"
ZIPPED: Final = gzip.compress(GOOD)
FLIPPED: Final = ZIPPED[:-8] + bytes([ZIPPED[-8] ^ 1]) + ZIPPED[-7:]
FORMAT, FILE = fn.DatasetFormatError, fn.CheckpointError


def of_shape(shape: Sequence[int]) -> Callable[[Path], object]:
    """Makes a checkpoint whose array says that it has another shape."""
    return lambda path: checkpoint(path, shape, 12)


def changed(
    row: int, change: Callable[[bytes], bytes], error: type[fn.FuncnetError], *facts: str, what: str = ""
) -> list[Case]:
    """A checkpoint whose bytes were changed."""
    return bad(row, LOAD, change, error, *facts, what=what)


def made(
    row: int, places: Places, make: Callable[[Path], object], error: type[fn.FuncnetError], *facts: str, what: str = ""
) -> list[Case]:
    """A file that a function makes."""
    return bad(row, places, make, error, *facts, what=what)


FILES: Final = [
    *changed(54, lambda content: content[:-1], FILE, "net", "bytes, got ", "it was cut", what="truncated"),
    *changed(54, lambda _: b"", FILE, "net", "got a file of 0", what="empty"),
    *changed(55, lambda content: content[:-1] + bytes([content[-1] ^ 1]), FILE, "net", "SHA-256", "damaged"),
    *bad(56, {"pickle": load_pickle, "npz": load_pickle}, "pickle", FILE, "it is no checkpoint"),
    *bad(56, {"object array": load_pickle}, "npz", FILE, "it is no checkpoint"),
    *[case for name in ('"../../x"', '"/abs"', '"0.weight"')
      for case in changed(57, renamed(name), FILE, "twice" if name == '"0.weight"' else "an array's name must",
         what=name)],
    *[case for shape, fact in (([10**11], "it was cut or extended"), ([2**62, 4], "ints in [0, 2**63)"),
                               ([-3], "ints in [0, 2**63)"), ([True], "ints in [0, 2**63)"))
      for case in made(58, MADE, of_shape(shape), FILE, fact, what=str(shape))],
    *changed(59, lambda content: content + b"garbage", FILE, "it was cut or extended", what="trailing"),
    *changed(59, lambda _: (2 * MIB).to_bytes(8, "little") + b" " * 2 * MIB, FILE, "at most 1048576 bytes",
         what="header"),
    *made(60, IDX, lambda path: packed(path, idx_header(10), 64 * MIB), FORMAT, "idx must have 18 bytes", what="gzip"),
    *made(60, IDX, lambda path: sparse(path, idx_header(10), 64 * MIB), FORMAT, "idx must have 18 bytes", what="plain"),
    *bad(61, IDX, ZIPPED[:-1], FORMAT, "idx is a gzip file that ends too early", what="truncated"),
    *bad(61, IDX, FLIPPED, FORMAT, "idx is a damaged gzip file", what="bad CRC"),
    *bad(61, IDX, ZIPPED + b"junk", FORMAT, "idx has bytes after the end of its gzip stream", what="junk"),
    *bad(61, IDX, ZIPPED + ZIPPED, FORMAT, "idx has bytes after the end of its gzip stream", what="two members"),
    *bad(62, IDX, b"\1" + GOOD[1:], FORMAT, "idx is no IDX file", "two zero bytes", what="magic"),
    *bad(62, IDX, GOOD[:2] + b"\x0a" + GOOD[3:], FORMAT, "unknown IDX element type 0x0a", what="dtype"),
    *bad(62, IDX, GOOD[:-1], FORMAT, "must have 11 bytes for sizes (3,), got 10", what="short"),
    *bad(62, IDX, GOOD + b"d", FORMAT, "must have 11 bytes for sizes (3,), got more", what="extra"),
    *bad(63, IDX, idx_header(0, 2**32 - 1, 2**32 - 1), FORMAT, "axes of at least one element",
         "(0, 4294967295, 4294967295)"),
    *bad(64, {"load_mnist": load_wrong_mnist}, np.zeros(4, np.uint8), FORMAT, "its SHA-256 differs", what="count"),
    *bad(64, {"load_mnist": load_wrong_mnist}, np.full(3, 10, np.uint8), FORMAT, "its SHA-256 differs",
         what="label 10"),
    *bad(64, {"minibatches": lambda y: fn.minibatches(X, y, 2)}, np.zeros(5, np.uint8), fn.ShapeError,
         "(4, 8) and (5,)"),
    *bad(64, {"loss": lambda y: CE(np.zeros((3, 10), np.float32), y)}, np.full(3, 10, np.uint8), fn.LabelError,
         "in 0..9"),
]  # fmt: skip

CASES: Final = [*SHAPES_AND_TYPES, *NUMBERS, *LABELS, *SETTINGS, *STRUCTURES, *FILES]
LAST: Final = 64
WRITES: Final = {"net", "net.npz", "idx", *NAMES}  # what cases themselves make


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty directory to be in: nothing is written there but what a case makes itself."""
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    assert {path.name for path in tmp_path.iterdir()} <= WRITES


def test_every_row_has_a_case() -> None:
    """From 1 to 64, in order, each place once."""
    assert list(dict.fromkeys(case.row for case in CASES)) == list(range(1, LAST + 1))
    names = [case.name for case in CASES]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_bad_inputs(case: Case) -> None:
    """The right error with the facts, or a result; no argument is another one afterwards."""
    if case.error is None:
        before = contents(case.argument)
        case.call(case.argument)
        assert contents(case.argument) == before
    else:
        refuse(case.error, case.facts, case.call, case.argument)
