"""Bad inputs: one table of calls, each with the error that refuses it: what, where, got, expected and fix."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Final

import attrs
import numpy as np
import pytest
from anything import contents
from surroundings import FOREIGN

import funcnet as fn
from funcnet import datasets
from funcnet.loops.shards import sharded_value_and_grad

KEY = fn.Key(7)
NET = (fn.dense(KEY, 8, 5), fn.ReLU(), fn.dense(KEY.child(1), 5, 3))
X: fn.Array = np.linspace(-1, 1, 32, dtype=np.float32).reshape(4, 8)
Y = np.array([0, 1, 2, 0])
G: fn.Array = np.ones((4, 3), np.float32)
LOGITS: fn.Array = np.zeros((4, 3), np.float32)
BATCH = fn.Batch(X, Y)
CE = fn.softmax_cross_entropy
STEP = fn.sgd_step(CE, learning_rate=0.1)
STATE = fn.TrainState.create(NET, fn.Momentum(0.1), key=KEY)
NAN, INF = math.nan, math.inf
Error = type[fn.FuncnetError]
Places = Mapping[str, Callable[[Any], object]]


@attrs.frozen
class Bad:
    """A call with an argument, and how it is refused; in the message, ``...`` stands for any text."""

    name: str
    call: Callable[[Any], object]
    argument: Any
    error: Error
    message: str


CASES: Final[list[Bad]] = []


def refuse(places: Places, values: Mapping[str, Any], error: Error, message: str) -> None:
    """Add a case for each place and value; PLACE and VALUE in the message stand for the name and the value."""
    for place, call in places.items():
        for name, value in values.items():
            text = message.replace("PLACE", place).replace("VALUE", repr(value))
            CASES.append(Bad(f"{len(CASES)} {place}: {name:.20}", call, value, error, text))


def named(*values: object) -> dict[str, object]:
    """Values under their names or reprs."""
    return {getattr(value, "__name__", repr(value)): value for value in values}


def one(name: str, call: Callable[[Any], object], argument: object, error: Error, message: str) -> None:
    """Add a case for one value."""
    refuse({name: call}, {"": argument}, error, message)


def epoch(batch: Any) -> object:
    """Run three good batches and this one."""
    return fn.train_epoch(STEP, NET, [BATCH, BATCH, BATCH, batch])


def after(make: Callable[[Any], object], places: Places) -> Places:
    """The places, called with what a function makes of the argument."""

    def called(call: Callable[[Any], object]) -> Callable[[Any], object]:
        return lambda value: call(make(value))

    return {name: called(call) for name, call in places.items()}


def changed(array: Any, index: Any, value: float) -> Any:
    """A copy of an array with another number."""
    copy = array.copy()
    copy[index] = value
    return copy


# ------------------------------------------------------------------------------------------------ inputs
# fmt: off

STEPS: Places = {
    "sgd_step": lambda batch: STEP(NET, batch),
    "train_step": lambda batch: fn.train_step(CE)(STATE, batch),
    "train_epoch": epoch,
    "shards": lambda batch: fn.sgd_step(CE, learning_rate=0.1, shard_size=4)(NET, batch),
}
LABELED: Places = {
    "value_and_grad": lambda xy: fn.value_and_grad(NET, xy[0], xy[1], CE),
    "evaluate": lambda xy: fn.evaluate(NET, xy[0], xy[1], CE),
    "explain": lambda xy: fn.explain(NET, xy[0], xy[1], CE),
    "first_nonfinite": lambda xy: fn.first_nonfinite(NET, xy[0], xy[1], CE),
    "gradient_statistics": lambda xy: fn.gradient_statistics(NET, xy[0], xy[1], CE),
    **after(lambda xy: fn.Batch(xy[0], xy[1]), STEPS),
}
NETWORKS: Places = {
    "forward": lambda x: fn.forward(NET, x),
    "activations": lambda x: fn.activations(NET, x),
    "vjp": lambda x: fn.vjp(NET, x),
    "backward": lambda x: fn.backward(NET, x, G),
    "outputs": lambda x: fn.outputs(NET, x),
    "predict": lambda x: fn.predict(NET, x, fn.Multiclass()),
    "predict_proba": lambda x: fn.predict_proba(NET, x, fn.Multiclass()),
    "check_gradients": lambda x: fn.check_gradients(NET, x),
    **after(lambda x: (x, Y), LABELED),
}
LAYERS = (
    *(fn.Identity(), fn.ReLU(), fn.LeakyReLU(), fn.ELU(), fn.Sigmoid(), fn.Tanh(), fn.Softplus(), fn.SiLU()),
    *(fn.SELU(), fn.Softsign(), fn.HardSwish(), fn.Mish()),
    *(fn.GELU(), fn.GELUTanh(), fn.Dropout(0.5), fn.Dropout(0.5, key=KEY), fn.Flatten(), fn.Reshape((8,))),
)
OTHERS: Places = {
    "Residual": lambda x: fn.forward(fn.Residual(fn.Sigmoid()), x),
    "standardize": fn.standardize,
    "calibrate": lambda x: fn.calibrate((fn.batch_norm(8),), x),
    "check_layer": lambda x: fn.check_layer(fn.ReLU(), x),
    "minibatches": lambda x: fn.minibatches(x, Y, 2),
}
FORWARD: Places = {"Dense (layer 0)": NETWORKS["forward"]}
WANTED = "PLACE: x must have shape (B, ..., 8) to match weight (8, 5), got "

refuse(FORWARD, {"one axis": X[0]}, fn.ShapeError, WANTED + "(8,); for a batch of one, use x[None]")
refuse(FORWARD, {"three axes": X.reshape(4, 2, 4)}, fn.ShapeError,
       WANTED + "(4, 2, 4); to make each row a vector, put Flatten() before the layer")
refuse(FORWARD, {"nine features": np.ones((4, 9), np.float32)}, fn.ShapeError, WANTED + "(4, 9)")
refuse(NETWORKS, {"seven features": X[:, :7]}, fn.ShapeError, "...Dense" + WANTED.replace("PLACE", "...") + "(4, 7)")
IDS_FIRST = "; for ids, put an Embedding first"
NO_BATCHES: dict[str, tuple[Any, Error, str]] = {
    "no axes": (np.array(1, np.float32), fn.ShapeError, "must have shape (B, ...), got ()..."),
    "ints": (
        X.astype(np.int32),
        fn.DTypeError,
        f"must be float32 or float64, got int32; use x.astype(np.float32){IDS_FIRST}",
    ),
    "list": (X.tolist(), fn.DTypeError, "must be a plain NumPy array, got list; use np.asarray(x, dtype=np.float32)"),
}
INTS: dict[str, tuple[Callable[[Any], object], Error, str]] = {
    "check_gradients": (
        NETWORKS["check_gradients"],
        fn.DTypeError,
        f"Dense (layer 0): x must be float64 to match weight, got int32; use x.astype(np.float64){IDS_FIRST}",
    ),
    "check_layer": (
        OTHERS["check_layer"],
        fn.LawError,
        "PLACE: shapes: forward raised DTypeError: ReLU: x must be float32 or float64, got int32...",
    ),
    "minibatches": (
        lambda x: fn.outputs(NET, fn.minibatches(x, Y, 2)[0].x),
        fn.DTypeError,
        f"Dense (layer 0): x must be float32 to match weight, got int32; use x.astype(np.float32){IDS_FIRST}",
    ),
}
for what, (x, error, text) in NO_BATCHES.items():
    for layer in LAYERS:
        places: Places = {f"{layer!r}": partial(fn.forward, layer), f"{layer!r} vjp": partial(fn.vjp, layer)}
        refuse(places, {what: x}, error, f"{type(layer).__name__}: x {text}")
    short = re.sub("shape .*, got| or float64, got", "... got", text.removesuffix(IDS_FIRST), count=1)
    every = {**NETWORKS, **OTHERS}
    if what == "ints":  # taken as ids; float64 layers of check_gradients, and the laws, refuse them in other words
        every = {name: call for name, call in every.items() if name not in INTS}
    refuse(every, {what: x}, error, f"...x {short}...")
for place, (call, error, text) in INTS.items():
    one(place, call, X.astype(np.int32), error, text)
one("standardize", fn.standardize, X.astype(np.int32), fn.DTypeError,
    "PLACE: x must be float32 or float64, got int32; use x.astype(np.float32)")
refuse({**NETWORKS, **OTHERS}, {"bools": X > 0, "complex": X * 1j}, fn.DTypeError, "...x must be float32... got ...")
TEXT = np.arange(20)
ROWS_OF_IDS = fn.embedding(KEY, 5, 3)
one("windows", lambda ids: fn.windows(ids, 4, 2), "to be", fn.DTypeError,
    "PLACE: ids must be an array of integers, got str; for its bytes, use np.frombuffer(ids.encode(), np.uint8)")
one("windows", lambda ids: fn.windows(ids, 4, 2), TEXT / 2, fn.DTypeError, "PLACE: ids must be integers, got float64")
one("windows", lambda ids: fn.windows(ids, 4, 2), TEXT[:4], fn.ShapeError,
    "PLACE: ids must have more than length = 4 elements, got 4")
one("windows", lambda size: fn.windows(TEXT, 4, size), 9, fn.ConfigError,
    "PLACE: batch_size must be an int from 1 to 4, got 9")
one("Embedding", lambda x: fn.forward(ROWS_OF_IDS, x), np.array([[0, 1], [2, 9]]), fn.LabelError,
    "PLACE: x must be in 0..4, got x[1, 1] = 9")
one("Embedding", lambda x: fn.forward(ROWS_OF_IDS, x), np.array([1.0, 2.0]), fn.DTypeError,
    "PLACE: x must be integer ids from 0 to 4, got float64; put the Embedding before the layers of floats, "
    "or use x.astype(np.int64)")
one("Masked", lambda x: fn.forward(fn.Masked((ROWS_OF_IDS, fn.MeanOverTime()), padding=-1), x), np.array([[3, -1]]),
    fn.LabelError,
    "Embedding (layer 0): x must be in 0..4, got x[0, 1] = -1; an id for padding needs a row, too, such as 0")
one("embedding", lambda count: fn.embedding(KEY, count, 3), 0, fn.ConfigError,
    "PLACE: count must be an int of at least 1, got 0")
one("embedding", lambda init: fn.embedding(KEY, 5, 3, init=init), 0.1, fn.ConfigError,
    "PLACE: init must be a function, got 0.1; use fn.initializers.constant(0.1)")
one("random_normal", fn.initializers.random_normal, 0, fn.ConfigError,
    "PLACE: deviation must be a number in (0, inf), got 0")

FLOAT = "; use x.astype(np.float32)"
FIXES: dict[str, str] = {
    **dict.fromkeys(("int64", "int8"), FLOAT + IDS_FIRST),
    **dict.fromkeys(("bool", "float16", "longdouble", str(FOREIGN), "float64"), FLOAT),
    "uint8": "; for images divide by 255: x.astype(np.float32) / 255",
    **dict.fromkeys(("complex64", "object", "U3", "S3"), ""),
}
for dtype, fix in FIXES.items():
    x = (np.ones((4, 8)) if dtype in ("U3", "S3") else X).astype(dtype)
    refuse(FORWARD, {dtype: x}, fn.DTypeError, f"PLACE: x must be float32 to match weight, got {x.dtype}{fix}")
one("float64 network", lambda x: fn.forward(fn.astype(NET, np.float64), x), X, fn.DTypeError,
    "Dense (layer 0): x must be float64 to match weight, got float32; use x.astype(np.float64)")
for x in ((1.0, 2.0), None, 1.0, np.float32(1), "x"):
    refuse(FORWARD, named(x), fn.DTypeError, f"PLACE: x must be a plain NumPy array, got ...{type(x).__name__}; "
           "use np.asarray(x, dtype=np.float32)")
ARRAY = "np.asarray(x)"
for x, fix in ((np.ma.asarray(X), "x.filled(...)"), (X.view(np.recarray), ARRAY), (X.view(np.matrix), ARRAY)):
    refuse(FORWARD, {type(x).__name__: x}, fn.DTypeError,
           f"PLACE: x must be a plain NumPy array, got numpy...{type(x).__name__}; use {fix}")

PULL = fn.vjp(NET, X)[1]
BACKWARD: Places = {"backward": lambda g: fn.backward(NET, X, g)}
PULLS: Places = {"vjp": PULL, "params_only": PULL.params_only}
OF_G = "backward: g must have shape (4, 3) to match the output (4, 3), got "
refuse(BACKWARD, {"one axis": G[0]}, fn.ShapeError, OF_G + "(3,)")
refuse(BACKWARD, {"no axes": np.array(1, np.float32)}, fn.ShapeError, OF_G + "()")
refuse(BACKWARD, {"three rows": G[:3]}, fn.ShapeError, OF_G + "(3, 3)")
refuse({**BACKWARD, **PULLS}, {"a column": G[:, :1]}, fn.ShapeError, OF_G + "(4, 1)")
for g, got in ((G.astype(np.float64), "float64"), (G.astype(np.int64), "int64"), (G.astype(FOREIGN), str(FOREIGN))):
    fix = f"got {got}; use g.astype(np.float32)"
    refuse(BACKWARD, {got: g}, fn.DTypeError, f"backward: g must be float32 to match the output, {fix}")
refuse(BACKWARD, {"list": G.tolist()}, fn.DTypeError,
       "backward: g must be a plain NumPy array, got list; use np.asarray(g, dtype=np.float32)")
refuse(BACKWARD, {"masked": np.ma.asarray(G)}, fn.DTypeError, "backward: g must be...; use g.filled(...)")

# ------------------------------------------------------------------------------------------ where it happened

OF_NETWORK: Places = {
    "forward": lambda net: fn.forward(net, X),
    "vjp": lambda net: fn.vjp(net, X),
    "backward": lambda net: fn.backward(net, X, G),
    "value_and_grad": lambda net: fn.value_and_grad(net, X, Y, CE),
    "sgd_step": lambda net: STEP(net, BATCH),
    "train_epoch": lambda net: fn.train_epoch(STEP, net, [BATCH]),
    "TrainState": lambda net: fn.TrainState.create(net, fn.SGD(0.1), key=KEY),
    "predict": lambda net: fn.predict(net, X, fn.Multiclass()),
    "training": lambda net: fn.training(net, KEY),
    "astype": lambda net: fn.astype(net, np.float32),
    "named_arrays": fn.named_arrays,
    "with_named_arrays": lambda net: fn.with_named_arrays(net, {}),
    "from_torch": lambda net: fn.from_torch(net, {}),
    "to_torch": fn.to_torch,
    "from_keras": lambda net: fn.from_keras(net, []),
    "equal": lambda net: fn.equal(NET, net),
    "Residual": fn.Residual,
    "sgd_update": lambda net: fn.sgd_update(net, net, learning_rate=0.1),
    "check_gradients": lambda net: fn.check_gradients(net, X),
}
SOME_RUNS = {name: OF_NETWORK[name] for name in ("forward", "backward", "predict", "sgd_step")}
RUNS: Places = {**SOME_RUNS, "activations": lambda net: fn.activations(net, X)}
FIRST, RELU, LAST = NET
NESTED: dict[str, tuple[Any, str]] = {
    "in a tuple": ((RELU, fn.Tanh(), (LAST,)), "Dense (layer 2.0): x must...(5, 3), got (4, 8)"),
    "in two tuples": ((FIRST, RELU, (LAST, (FIRST,))), "Dense (layer 2.1.0): x must...(8, 5), got (4, 3)"),
    "inside a Residual": ((RELU, fn.Residual((RELU, LAST))), "Dense (layer 1.1): x must..."),
    "a Residual": ((RELU, fn.Residual(NET)), "Residual (layer 1): net(x) must...got (4, 3)"),
}
for where, (net, text) in NESTED.items():
    refuse(RUNS, {where: net}, fn.ShapeError, text)


def inner_epoch(net: Any, batches: Any) -> tuple[Any, float]:
    """Run an epoch: a step."""
    return fn.train_epoch(STEP, net, batches)[0], 0.0


one("train_epoch", epoch, fn.Batch(X[:, :7], Y), fn.ShapeError, "step 3: Dense (layer 0): x must...")
one("inner epoch", lambda bad: fn.train_epoch(inner_epoch, NET, [[BATCH], [BATCH], [BATCH, bad]]),
    fn.Batch(X, Y + 1), fn.LabelError, "step 1: softmax_cross_entropy: labels...")

# ---------------------------------------------------------------------------------------- numbers that are not finite

CUT: Places = {
    "x": lambda x: fn.minibatches(x, np.zeros(600, np.int64), 2),
    "transform": lambda x: fn.minibatches(x, np.zeros(600, np.int64), 2, transform=fn.scale_images),
}
PREDICTED: Places = {
    "predict": lambda x: fn.predict(fn.Identity(), x, fn.Multiclass()),
    "predict_proba": lambda x: fn.predict_proba(fn.Identity(), x, fn.Multiclass()),
}
for bad in (NAN, INF, -INF):
    x = changed(np.zeros((600, 8), np.float32), (517, 3), bad)
    refuse(CUT, {str(bad): x}, fn.NonFiniteError, f"minibatches: x must be finite, got x[517, 3] = {bad}")
    refuse(PREDICTED, {str(bad): changed(X, (2, 1), bad)}, fn.NonFiniteError,
           f"Multiclass: the output must be finite, got the output[2, 1] = {bad}")
one("standardize", fn.standardize, changed(X, (1, 2), NAN), fn.NonFiniteError,
    "standardize: x must be finite, got x[1, 2] = nan")
one("targets", lambda y: fn.minibatches(X, y, 2), np.array([0.5, NAN, 1, 1]), fn.NonFiniteError,
    "minibatches: y must be finite, got y[1] = nan")
HUGE = (fn.Dense(weight=np.eye(8, 3, dtype=np.float32) * 10, bias=np.zeros(3, np.float32)),)
HUGE_STATE = fn.TrainState.create(HUGE, fn.Momentum(0.1), key=KEY)
LOST = "softmax_cross_entropy: the loss is ...; the logits are too large or not finite..."
for bad in (NAN, INF, -INF, 3e38):
    x = {str(bad): np.full((4, 8), bad, np.float32)}
    refuse({"value_and_grad": lambda x: fn.value_and_grad(HUGE, x, Y, CE)}, x, fn.NonFiniteError, LOST)
    refuse({"sgd_step": lambda x: STEP(HUGE, fn.Batch(x, Y))}, x, fn.NonFiniteError, LOST)
    refuse({"train_step": lambda x: fn.train_step(CE)(HUGE_STATE, fn.Batch(x, Y))}, x, fn.NonFiniteError, LOST)
    runs: list[tuple[Any, Any]] = [(STEP, HUGE), (fn.train_step(CE), HUGE_STATE)]
    for step, state in runs:
        run: Places = {"train_epoch": partial(fn.train_epoch, step, state)}
        refuse(after(lambda x: [BATCH, BATCH, fn.Batch(x, Y)], run), x, fn.NonFiniteError, "step 2: " + LOST)
for row in ([3e38, -3e38], [INF, 0.0], [0.0, INF], [NAN, 0.0], [0.0, -INF], [INF, INF], [-INF, -INF]):
    logits = np.array([row], np.float32)
    one(f"loss of {row}", lambda logits: CE(logits, np.array([1])), logits, fn.NonFiniteError, LOST)


def ruined(optimizer: Any) -> object:
    """Run five steps."""
    return fn.train_epoch(fn.train_step(CE), fn.TrainState.create(NET, optimizer, key=KEY), [BATCH] * 5)


RUINED: Places = {
    "sgd_step": lambda rate: fn.train_epoch(fn.sgd_step(CE, learning_rate=rate), NET, [BATCH] * 5),
    "SGD": lambda rate: ruined(fn.SGD(rate)),
    "Momentum": lambda rate: ruined(fn.Momentum(rate)),
}
refuse(RUINED, named(1e30, 1e38, 1e300), fn.NonFiniteError, "step ...")
one("the last update", lambda rate: fn.train_epoch(fn.sgd_step(CE, learning_rate=rate), NET, [BATCH]), 1e300,
    fn.NonFiniteError, "step 0: 0.weight must be finite, got 0.weight[...; the learning rate may be too high")
one("no batches", lambda net: fn.train_epoch(STEP, net, []), fn.Dense(np.full((8, 3), NAN, np.float32), G[0]),
    fn.NonFiniteError, "weight must be finite, got weight[0, 0] = nan")
one("your own step", lambda loss: fn.train_epoch(lambda net, _: (net, loss), NET, [BATCH]), NAN,
    fn.NonFiniteError, "step 0: the loss is nan...")

one("NAdam", lambda decay: fn.NAdam(0.1, momentum_decay=decay), -1, fn.ConfigError,
    "PLACE: momentum_decay must be a number in [0, inf), got -1")
one("Lion", lambda betas: fn.Lion(0.1, betas=betas), 0.9, fn.ConfigError,
    "PLACE: betas must be a tuple of two numbers, got 0.9")
one("Adam", lambda eps: fn.Adam(0.1, eps_hat=eps), 1e-7, fn.ConfigError,
    "PLACE: eps_hat must be True or False, got 1e-07")
one("one_cycle", lambda share: fn.one_cycle(0.1, steps=9, pct_start=share), 30, fn.ConfigError,
    "PLACE: pct_start must be a number in [0, 1), got 30")
one("cosine_restarts", lambda factor: fn.cosine_restarts(0.1, period=9, multiplier=factor), 1.5, fn.ConfigError,
    "PLACE: multiplier must be an int of at least 1, got 1.5")
one("polynomial_decay", lambda power: fn.polynomial_decay(0.1, steps=9, power=power), 0, fn.ConfigError,
    "PLACE: power must be a number in (0, inf), got 0")
one("piecewise_constant", lambda steps: fn.piecewise_constant([0.1, 0.01], steps), [9, 99], fn.ConfigError,
    "PLACE: there must be one boundary between consecutive values, got 2 values and 2 boundaries")

# ------------------------------------------------------------------------------------------------ nothing at all

EMPTY = "softmax_cross_entropy: the batch size must be an int of at least 1, got 0"
NO_ROWS: Places = {name: call for name, call in LABELED.items() if name not in ("explain", "first_nonfinite")}
for name, call in NO_ROWS.items():
    one(name, call, (X[:0], Y[:0]), fn.ConfigError, "step 3: " * (name == "train_epoch") + EMPTY)
one("loss", lambda logits: CE(logits, Y[:0]), LOGITS[:0], fn.ConfigError, EMPTY)
one("EpochLog", lambda log: log.mean_loss, fn.train_epoch(STEP, NET, [])[1], fn.ConfigError,
    "EpochLog: the number of steps must be an int of at least 1, got 0")
CUT_ROWS: Places = {
    "x": lambda xy: fn.minibatches(xy[0], xy[1], 1),
    "transform": lambda xy: fn.minibatches(xy[0], xy[1], 1, transform=fn.scale_images),
}
for x, y in ((X[:0], Y[:0]), (X[:, :0], Y)):
    refuse(CUT_ROWS, {str(x.shape): (x, y)}, fn.ShapeError,
           f"minibatches: x must have shape (N, ...) with at least one row and one feature, got {x.shape}")
one("softmax_cross_entropy", lambda logits: CE(logits, Y), X[:, :0], fn.ConfigError,
    "PLACE: the number of classes must be an int of at least 1, got 0")

# -------------------------------------------------------------------------------------------------------- tasks

TASKS = """; choose the task that fits the loss in training:
  Multiclass(): one of several classes; softmax_cross_entropy
  Binary(): positive or negative; binary_cross_entropy with one output
  Multilabel(): independent labels; binary_cross_entropy with one output for each label
  Regression(): numbers, without probabilities; mean_squared_error, mean_absolute_error or huber
  after poisson: Regression() gives the logarithms of the rates"""
NO_TASK: Any = fn.predict
NO_TASK_EITHER: Any = fn.predict_proba
WITHOUT: Places = {"predict": lambda net: NO_TASK(net, X), "predict_proba": lambda net: NO_TASK_EITHER(net, x=X)}
OF_TASK: Places = {
    "predict": lambda task: fn.predict(NET, X, task),
    "predict_proba": lambda task: fn.predict_proba(NET, X, task),
}
refuse(WITHOUT, {"no task": NET}, fn.ConfigError, "PLACE: task is missing" + TASKS)
refuse(OF_TASK, {"class": fn.Binary}, fn.ConfigError,
       "PLACE: task must be a record, got the class Binary; use Binary()")
for name, method in (("predict", "predictions"), ("predict_proba", "probabilities")):
    refuse({name: OF_TASK[name]}, named(None, "multiclass", CE), fn.ConfigError,
           f"PLACE: task must be a task with {method}, got ...{TASKS}")
one("predict_proba", OF_TASK["predict_proba"], fn.Regression(), fn.ConfigError,
    "PLACE: task must be a task with probabilities, got Regression()" + TASKS)
FITS: list[tuple[Any, str, str, tuple[tuple[int, ...], ...]]] = [
    (fn.Multiclass(), "(N, ..., O) with a column for each class, at least 2",
     "for one logit, use Binary(); for numbers, Regression()", ((4,), (4, 0), (4, 1), (4, 2, 1))),
    (fn.Binary(), "(N, ..., 1) or (N,)",
     "for classes, use Multiclass(); for independent labels, Multilabel()", ((4, 0), (4, 2), (4, 1, 2))),
    (fn.Multilabel(), "(N, ..., O) with a column for each label",
     "for one logit, use Binary(); for numbers, Regression()", ((4,), (4, 0), (4, 2, 0))),
]
for task, wanted, fix, shapes in FITS:
    for shape in shapes:
        for method in (task.predictions, task.probabilities):
            one(type(task).__name__, method, np.zeros(shape), fn.ShapeError,
                f"PLACE: the output must have shape {wanted}, got {shape}; {fix}")
for task in (fn.Multiclass(), fn.Binary(), fn.Multilabel(), fn.Regression()):
    one(type(task).__name__, task.predictions, np.zeros(()), fn.ShapeError,
        "PLACE: the output must have shape (N, ...), got ()")
    one(type(task).__name__, task.predictions, np.zeros((4, 1), int), fn.DTypeError,
        "PLACE: the output must be float32 or float64, got int64...")
    for bad in (NAN, INF, -INF):
        shape = (4, 1) if isinstance(task, fn.Binary) else (4, 2)
        one(type(task).__name__, task.predictions, changed(np.zeros(shape), (2, 0), bad), fn.NonFiniteError,
            f"PLACE: the output must be finite, got the output[2, 0] = {bad}")
THRESHOLDS: Places = {"Binary": fn.Binary, "Multilabel": fn.Multilabel}
IN_TUPLE: Places = {"Multilabel": lambda threshold: fn.Multilabel((0.5, threshold))}
refuse({**THRESHOLDS, **IN_TUPLE}, named(0, 1, 1.0, -0.5, NAN, INF), fn.ConfigError,
       "PLACE: threshold must be a number in (0, 1), got VALUE")
refuse({"Binary": fn.Binary}, named((0.5,), "0.5", None), fn.ConfigError,
       "PLACE: threshold must be a number in (0, 1), got VALUE")
refuse({"Multilabel": fn.Multilabel}, named([0.5], "0.5", None), fn.ConfigError,
       "PLACE: threshold must be a number or a tuple, got VALUE; use tuple(...)")
for threshold in ((0.5,), (0.5, 0.5, 0.5), ()):
    one("Multilabel", fn.Multilabel(threshold).predictions, np.zeros((4, 2)), fn.ConfigError,
        f"PLACE: threshold must have one number for each of the 2 columns of the output (4, 2), got {threshold}")

# ------------------------------------------------------------------------------------------------------ labels

LOSS: Places = {"softmax_cross_entropy": lambda y: CE(LOGITS, y)}
WITH_LABELS: Places = {**after(lambda y: (X, y), LABELED), "one_hot": lambda y: fn.one_hot(y, 3)}
IDS = "PLACE: labels must be integer class ids, got "
for y in (np.array([0, 0.5, 1, 1]), np.array([0, NAN, 1, 1]), Y.astype(np.complex64), np.array([0, None, 1, "a"])):
    refuse(LOSS, {str(y): y}, fn.DTypeError, IDS + str(y.dtype))
for y in (np.ones(4, np.float32), Y > 0, Y.astype(object)):
    refuse(LOSS, {str(y): y}, fn.DTypeError, f"{IDS}{y.dtype}; use labels.astype(np.int64)")
NAMES = "; for the names of classes, use np.unique(labels, return_inverse=True)[1]"
for y in (np.array(["cat", "dog", "cat", "cat"]), np.array(["cat", "dog", "cat", "cat"], object)):
    refuse(LOSS, {str(y.dtype): y}, fn.DTypeError, f"{IDS}{y.dtype}{NAMES}")
refuse(LOSS, {"list": Y.tolist()}, fn.DTypeError,
       "PLACE: labels must be a plain NumPy array of class ids, got list; use np.asarray(labels)")
refuse({**LOSS, "mean_squared_error": lambda labels: fn.mean_squared_error(LOGITS, labels)}, {"tuple": (Y, Y)},
       fn.DTypeError, "PLACE: ... must be a plain NumPy array..., got tuple; use ...[0] or another of its arrays")
refuse(LOSS, {"masked": np.ma.asarray(Y)}, fn.DTypeError, "PLACE: labels must...MaskedArray; use labels.filled(...)")
refuse(LOSS, {"a column": Y[:, None]}, fn.ShapeError,
       "PLACE: labels must have shape (4,), one class id per row, got (4, 1)...")
ROWS = "PLACE: labels must have shape (4,), one class id per row, got (4, 3)"
refuse(LOSS, {"one-hot ids": np.eye(3, dtype=np.int64)[Y]}, fn.ShapeError,
       f"{ROWS}; its rows are one-hot, so use labels.argmax(axis=1)")
for rows in ([1, 1, 0], [0, 0, 0]):
    refuse(LOSS, {f"multilabel {rows}": np.array([rows, [1, 0, 0], [0, 1, 0], [0, 0, 1]])}, fn.ShapeError,
           f"{ROWS}; its rows have several labels or none, so use binary_cross_entropy as the loss, "
           "and predict(net, x, Multilabel()), which the metrics take, too")
refuse({"accuracy": lambda y: fn.accuracy(y, Y)}, {"scores": LOGITS + 0.5}, fn.ShapeError,
       "accuracy: predicted ...got (4, 3); if it has a score for each class, use predicted.argmax(axis=1)")
refuse(LOSS, {"one-hot floats": np.eye(3)[Y]}, fn.DTypeError,
       "PLACE: labels must be float32 to match logits, got float64; use labels.astype(np.float32)")
refuse(WITH_LABELS, {"bool": Y > 0}, fn.DTypeError, "...labels must be integer class ids, got bool...")
for index, value in ((1, -1), (3, -100), (0, 2**40), (2, 3)):
    fix = f"; to leave a label out, use weight=(labels != {value}).astype(np.float32)" if value < 0 else ""
    refuse({**LOSS, "smoothed": lambda y: fn.SoftmaxCrossEntropy(0.1)(LOGITS, y)},
           {str(value): changed(Y, index, value)}, fn.LabelError,
           f"softmax_cross_entropy: labels must be in 0..2, got labels[{index}] = {value}{fix}")
refuse(WITH_LABELS, {"3": changed(Y, 2, 3)}, fn.LabelError, "...labels must be in 0..2, got labels[2] = 3")
refuse(LOSS, {"uint8": np.array([0, 200, 1, 1], np.uint8)}, fn.LabelError, "...in 0..2, got labels[1] = 200")
LENGTHS: Places = {**LOSS, **{name: call for name, call in WITH_LABELS.items() if name not in ("one_hot", "shards")}}
refuse(LENGTHS, {"three": Y[:3]}, fn.ShapeError, "...labels must have shape (4,), one class id per row, got (3,)")
TARGETS: Places = {"minibatches": lambda y: fn.minibatches(X, y, 2), "split": lambda y: fn.split(X, y, 1, key=KEY)}
refuse(TARGETS, {"three": Y[:3]}, fn.ShapeError, "PLACE: x and y must have the same length, got (4, 8) and (3,)")
refuse(TARGETS, {"list": Y.tolist()}, fn.DTypeError,
       "PLACE: y must be a plain NumPy array..., got list; use np.asarray(y)")
BATCHES: Places = {"minibatches": TARGETS["minibatches"]}
refuse(BATCHES, {"one": np.array(1)}, fn.ShapeError, "PLACE: x and y must have the same length, got (4, 8) and ()")
for value in (-1, -100):
    refuse(BATCHES, {str(value): np.array([0, value, 1, value])}, fn.LabelError,
           f"PLACE: y must be 0 or more, got y[1] = {value}; to leave a label out, "
           f"use weight=(y != {value}).astype(np.float32)")
for dtype in ("bool", "object", "str", "complex64", "datetime64[s]"):
    refuse(BATCHES, {dtype: Y.astype(dtype)}, fn.DTypeError, "PLACE: y must hold class ids or floats, got ...")
refuse(BATCHES, {"names": np.array(["cat", "dog", "cat", "cat"])}, fn.DTypeError,
       f"PLACE: y...got {np.dtype('U3')}; for the names of classes, use np.unique(y, return_inverse=True)[1]")
for dtype in ("object", "str", "complex64", "datetime64[s]"):
    one(dtype, lambda x: fn.minibatches(x, Y, 2, transform=fn.scale_images), X.astype(np.int64).astype(dtype),
        fn.DTypeError, "minibatches: x must hold numbers, got ...")
OF_LOGITS: Places = {"softmax_cross_entropy": lambda logits: CE(logits, Y)}
SHAPE = "PLACE: logits must have shape (B, ..., O), got "
refuse(OF_LOGITS, {"one axis": LOGITS[0]}, fn.ShapeError, SHAPE + "(3,); for a batch of one, use logits[None]")
refuse(OF_LOGITS, {"three axes": LOGITS[None]}, fn.ShapeError,
       "PLACE: labels must have shape (1, 4), one class id per position, got (4,)")
refuse(OF_LOGITS, {"swapped": Y}, fn.ShapeError, SHAPE + "(4,)...")
for dtype, fix in (("int64", "; use logits.astype(np.float32)"), ("float16", "..."), ("object", "")):
    refuse(OF_LOGITS, {dtype: LOGITS.astype(dtype)}, fn.DTypeError,
           f"PLACE: logits must be float32 or float64, got {dtype}{fix}")
refuse(OF_LOGITS, {"list": LOGITS.tolist()}, fn.DTypeError, "...got list; use np.asarray(logits, dtype=np.float32)")
refuse(OF_LOGITS, {"masked": np.ma.asarray(LOGITS)}, fn.DTypeError, "...use logits.filled(...)")
OF_STEPS = np.zeros((4, 5, 3), np.float32)
PER_STEP = np.zeros((4, 5), np.int64)
one("softmax_cross_entropy", lambda logits: CE(logits, PER_STEP), OF_STEPS.transpose(0, 2, 1), fn.ShapeError,
    "PLACE: labels must have shape (4, 3) to match logits (4, 3, 5), got (4, 5); if the classes are the second axis, "
    "use np.moveaxis(logits, 1, -1)")
one("softmax_cross_entropy", lambda labels: CE(OF_STEPS, labels), changed(PER_STEP, (2, 1), 99), fn.LabelError,
    "PLACE: labels must be in 0..2, got labels[2, 1] = 99")
one("softmax_cross_entropy", lambda weight: CE(OF_STEPS, PER_STEP, weight), OF_STEPS, fn.ShapeError,
    "PLACE: weight must have shape (4,) or (4, 5), got (4, 5, 3)")
one("softmax_cross_entropy", lambda weight: CE(OF_STEPS, PER_STEP, weight), np.ones(5, np.float32), fn.ShapeError,
    "PLACE: weight must have shape (4,) or (4, 5), got (5,)")
for target, fix in ((G[:, 0], "target[:, None]"), (G, "target[..., None]")):
    one("mean_squared_error", lambda target: fn.mean_squared_error(target[..., None], target), target, fn.ShapeError,
        f"PLACE: target must have shape ... to match prediction ..., got {target.shape}; use {fix}")
GRUS = fn.gru(KEY, 8, 2)
STEPS_OF_8 = X[:, None]
one("GRU", lambda x: fn.forward(GRUS, x), STEPS_OF_8[:, :0], fn.ShapeError,
    "PLACE: x must have at least one step, got (4, 0, 8)")
one("GRU", lambda mask: fn.forward(fn.masked(GRUS, mask), STEPS_OF_8), np.ones((4, 2), np.float32), fn.ShapeError,
    "PLACE: mask must have shape (4, 1) to match x (4, 1, 8), got (4, 2)...")
one("GRU", lambda weight: attrs.evolve(GRUS, weight=weight), np.ones((8, 2), np.float32), fn.ShapeError,
    "PLACE: weight must have shape (I, 6) to match recurrent (2, 6), got (8, 2)")
one("GRU", lambda back: attrs.evolve(GRUS, recurrent=back), np.ones((3, 6), np.float32), fn.ShapeError,
    "PLACE: recurrent must have shape (3, 9), got (3, 6)")
one("GRU", lambda outputs: attrs.evolve(GRUS, outputs=outputs), "first", fn.ConfigError,
    "PLACE: outputs must be 'all' or 'last', got 'first'")
one("RNN", lambda name: fn.rnn(KEY, 3, 2, activation=name), "elu", fn.ConfigError,
    "PLACE: activation must be 'tanh' or 'relu', got 'elu'")
one("lstm", lambda bias: fn.lstm(KEY, 3, 2, forget_bias=bias), np.inf, fn.ConfigError, "PLACE: forget_bias must be ...")
one("unroll", lambda state: fn.unroll(fn.lstm(KEY, 8, 2), STEPS_OF_8, state), np.ones((4, 2), np.float32),
    fn.ConfigError,
    "PLACE: the state of an LSTM must be a pair (h, c), got ndarray; use the state that unroll returned")
one("unroll", lambda state: fn.unroll(GRUS, STEPS_OF_8, state), np.ones((3, 2), np.float32), fn.ShapeError,
    "PLACE: state must have shape (4, 2) to match x (4, 1, 8), got (3, 2)")
ONE_STEP = "; for one step, use x[:, None]; for one sequence, use x[None]"
for state in (None, np.zeros((4, 2), np.float32)):
    one("unroll", partial(fn.unroll, GRUS, state=state), X, fn.ShapeError,
        f"PLACE: x must have shape (B, T, 8), got (4, 8){ONE_STEP}")
A_CELL = "PLACE: the layer must be an RNN, a GRU or an LSTM, got a tuple of "
UNROLL: Any = fn.unroll
for layers, fix in (((GRUS,), "1 layer; unroll one recurrent layer: unroll(net[0], x)"), (NET, "3 layers"),
                    ((ROWS_OF_IDS, GRUS), "2 layers; unroll one recurrent layer: unroll(net[1], forward(net[:1], x))")):
    one("unroll", lambda net: UNROLL(net, STEPS_OF_8), layers, fn.StructureError, A_CELL + fix)
OF_SEQUENCES: Places = {
    "GRU": lambda x: fn.forward(GRUS, x),
    "LSTM": lambda x: fn.forward(fn.lstm(KEY, 8, 2), x),
    "Conv1D": lambda x: fn.forward(fn.conv1d(KEY, 8, 2, 3), x),
    "MultiHeadAttention": lambda x: fn.forward(fn.multi_head_attention(KEY, 8, 2), x),
    "LearnedPositions": lambda x: fn.forward(fn.learned_positions(KEY, 5, 8), x),
}
OF_ANY_CHANNELS: Places = {
    type(layer).__name__: partial(fn.forward, layer)
    for layer in (fn.SinusoidalPositions(), fn.LastStep(), fn.MeanOverTime())
}
NO_TIME = "got (4, 8); for one sequence, use x[None]; for the outputs of a recurrent layer, set its outputs='all'"
for places in (OF_SEQUENCES, OF_ANY_CHANNELS):
    refuse(places, {"no axis of time": X}, fn.ShapeError, "PLACE: x must have shape (B, T, ...)..., " + NO_TIME)
    refuse(places, {"ids": PER_STEP}, fn.ShapeError,
           "PLACE: x must have shape (B, T, ...)..., got (4, 5); for ids, put an Embedding before the layer")
refuse(OF_SEQUENCES, {"other sizes": X[:, :7]}, fn.ShapeError, "PLACE: ...to match weight ..., got (4, 7)")
refuse(OF_SEQUENCES, {"channels first": np.zeros((2, 8, 5), np.float32)}, fn.ShapeError,
       "PLACE: ..., got (2, 8, 5); for channels first, use np.moveaxis(x, 1, -1)")
OF_ROWS: Places = {"GRU": partial(fn.output_shape, GRUS), "LastStep": partial(fn.output_shape, fn.LastStep())}
refuse(OF_ROWS, {"no axis of time": (8,)}, fn.ShapeError,
       "PLACE: ..., got (B, 8); for the outputs of a recurrent layer, set its outputs='all'")
one("Conv1D", lambda x: fn.forward(fn.conv1d(KEY, 1, 2, 3), x), X, fn.ShapeError,
    "PLACE: x must have shape (B, T, 1)..., got (4, 8); for sequences of one channel, use x[..., None]")
EXAMPLES: Any = fn.minibatches(X, Y, 2)
OF_X: Places = {
    "evaluate": lambda x: fn.evaluate(NET, x, Y, CE),
    "outputs": lambda x: fn.outputs(NET, x),
    "predict": lambda x: fn.predict(NET, x, fn.Multiclass()),
}
refuse(OF_X, {"batches": EXAMPLES}, fn.DTypeError,
       "PLACE: x must be a plain NumPy array, got ...Minibatches; use batches.x and batches.y")
refuse(OF_X, {"a batch": BATCH}, fn.DTypeError,
       "PLACE: x must be a plain NumPy array, got ...Batch; use batch.x and batch.y")
one("bidirectional", lambda layer: fn.bidirectional(GRUS, layer), fn.ReLU(), fn.StructureError,
    "PLACE: the layer must be an RNN, a GRU or an LSTM, got ReLU")
LOSSES: dict[str, tuple[Callable[[Any], tuple[Any, Any]], Error, str]] = {
    "inf": (lambda p: (INF, p), fn.NonFiniteError, "the loss is inf; the learning rate may be too high..."),
    "nan": (lambda p: (NAN, p), fn.NonFiniteError, "the loss is nan..."),
    "shape": (lambda p: (0.5, p[:, 0]), fn.ShapeError, "the loss: its gradient must have shape (4, 3), got (4,)"),
    "dtype": (lambda p: (0.5, p.astype(float)), fn.DTypeError, "...its gradient must be float32, got float64..."),
    "list": (lambda p: (0.5, p.tolist()), fn.DTypeError, "...its gradient must be a plain NumPy array, got list..."),
}
for name, (loss, error, text) in LOSSES.items():
    one(f"your own loss: {name}", lambda f: fn.value_and_grad(NET, X, Y, lambda p, _: f(p)), loss, error, text)

# ---------------------------------------------------------------------------------------------------- settings

NO_NUMBERS = (NAN, INF, -INF, True, "0.1", None, 1j, [0.1], np.array([0.1]), 10**400)
NO_SEEDS, NO_PARTS = (-1, 1.5, True, "0", None, NAN, [1]), (-1, 1.5, True, None, NAN, [1])
NO_COUNTS = (0, -1, 2.5, 2.0, True, "2", None, NAN, [2], np.float32(2), np.array([2]), np.True_)
RATES: Places = {
    "SGD": fn.SGD,
    "Momentum": fn.Momentum,
    "sgd_step": lambda rate: fn.sgd_step(CE, learning_rate=rate),
    "sgd_update": lambda rate: fn.sgd_update(NET, NET, learning_rate=rate),
    "gradient_statistics": lambda rate: fn.gradient_statistics(NET, X, Y, CE, learning_rate=rate),
}
POSITIVE, COUNT = "must be a number in (0, inf), got VALUE", "must be an int of at least 1, got VALUE"
refuse({"SGD": fn.SGD}, named(*NO_NUMBERS, -0.1, 0, 0.0, -1e30), fn.ConfigError, "PLACE: learning_rate " + POSITIVE)
refuse(RATES, named(-0.1), fn.ConfigError, "PLACE: learning_rate " + POSITIVE)
SHARE = "must be a number in [0, 1), got VALUE"
refuse({"Dropout": fn.Dropout}, named(*NO_NUMBERS, -0.1, 1, 1.0, 1.5), fn.ConfigError, "PLACE: rate " + SHARE)
refuse({"Momentum": lambda m: fn.Momentum(0.1, m)}, named(NAN, 1, -0.1), fn.ConfigError, "PLACE: momentum " + SHARE)
refuse({"numerical_gradient": lambda h: fn.numerical_gradient(lambda _: 1.0, X, h=h)},
       named(*NO_NUMBERS, 0, -1e-5), fn.ConfigError, "PLACE: h " + POSITIVE)
refuse({"minibatches": lambda size: fn.minibatches(X, Y, size)}, named(*NO_COUNTS, 5, 2**70), fn.ConfigError,
       "PLACE: batch_size must be an int from 1 to 4, got VALUE")
SHARDED: Places = {
    "sgd_step": lambda size: fn.sgd_step(CE, learning_rate=0.1, shard_size=size),
    "train_step": lambda size: fn.train_step(CE, shard_size=size),
    "sharded_value_and_grad": lambda size: sharded_value_and_grad(NET, X, Y, CE, shard_size=size),
}
refuse(SHARDED, named(0, -1, 2.5), fn.ConfigError, "PLACE: shard_size " + COUNT)
refuse({"dense": lambda size: fn.dense(KEY, size, 3)}, named(*NO_COUNTS), fn.ConfigError, "PLACE: in_size " + COUNT)
SIZES: Places = {"dense": lambda size: fn.dense(KEY, 3, size), "mlp": lambda size: fn.mlp(KEY, (3, size, 2))}
refuse(SIZES, named(0, -1, 2.5), fn.ConfigError, "dense: out_size " + COUNT)
FOR_INIT = "; use an initializer such as fn.initializers.he_normal"
INITS: Places = {
    "init": lambda init: fn.mlp(KEY, (3, 2), init=init),
    "bias_init": lambda init: fn.dense(KEY, 3, 2, bias_init=init),
}
refuse(INITS, named("he", [0.1]), fn.ConfigError, "dense: PLACE must be a function, got VALUE" + FOR_INIT)
refuse(INITS, named(0.1, 0), fn.ConfigError,
       "dense: PLACE must be a function, got VALUE; use fn.initializers.constant(VALUE)")
one("dense", lambda bias: fn.dense(KEY, 3, 2, bias_init=lambda _, __, ___: bias), G[0, :2], fn.ShapeError,
    "dense: the array that bias_init returns must have shape (3, 2), got (2,); its first row is the bias")
refuse({"mlp": lambda sizes: fn.mlp(KEY, sizes)}, named((), (3,), 3, None, {3}), fn.ConfigError,
       "PLACE: sizes must have at least the input size and the output size, got VALUE")
ACTIVATION: Places = {
    "mlp's activation": lambda layer: fn.mlp(KEY, (3, 2, 2), activation=layer),
    "transformer_block's activation": lambda layer: fn.transformer_block(KEY, 4, 2, activation=layer),
}
A_NETWORK = "a network is a layer or a tuple of networks, got "
refuse(ACTIVATION, {"class": fn.ReLU}, fn.StructureError, f"PLACE: {A_NETWORK}...; use ReLU()")
refuse(ACTIVATION, named("relu", None, np.tanh), fn.StructureError, f"PLACE: {A_NETWORK}VALUE")
OF_DTYPE: Places = {
    "dense": lambda dtype: fn.dense(KEY, 3, 2, dtype=dtype),
    "lstm": lambda dtype: fn.lstm(KEY, 3, 2, dtype=dtype),
    "learned_positions": lambda dtype: fn.learned_positions(KEY, 3, 2, dtype=dtype),
    "multi_head_attention": lambda dtype: fn.multi_head_attention(KEY, 4, 2, dtype=dtype),
    "mlp": lambda dtype: fn.mlp(KEY, (3, 2), dtype=dtype),
    "astype": lambda dtype: fn.astype(NET, dtype),
}
refuse(OF_DTYPE, named(np.float16, np.longdouble, FOREIGN, int, complex, None, "x"), fn.ConfigError,
       "...dtype must be np.float32 or np.float64, got VALUE")
refuse({"Key": fn.Key}, named(*NO_SEEDS, 2**64), fn.ConfigError,
       "PLACE: seed must be an int from 0 to 2**64 - 1, got VALUE")
refuse({"child": KEY.child, "path": lambda part: fn.Key(0, (part,))},
       named(*NO_PARTS, 2**32, np.ones(3)), fn.ConfigError,
       "Key: a part of a path must be a string or an int from 0 to 2**32 - 1, got VALUE")
refuse({"Key": lambda path: fn.Key(0, path)}, named([1]), fn.ConfigError,
       "PLACE: path must be a tuple of ints, got VALUE")
KEYED: Places = {
    "dense": lambda key: fn.dense(key, 3, 2),
    "conv1d": lambda key: fn.conv1d(key, 1, 1, 3),
    "embedding": lambda key: fn.embedding(key, 3, 2),
    "gru": lambda key: fn.gru(key, 3, 2),
    "learned_positions": lambda key: fn.learned_positions(key, 3, 2),
    "multi_head_attention": lambda key: fn.multi_head_attention(key, 4, 2),
    "transformer_block": lambda key: fn.transformer_block(key, 4, 2),
    "mlp": lambda key: fn.mlp(key, (3, 2)),
    "minibatches": lambda key: fn.minibatches(X, Y, 2, key=key),
    "training": lambda key: fn.training(NET, key),
    "Dropout": lambda key: fn.Dropout(0.5, key=key),
    "TrainState": lambda key: fn.TrainState.create(NET, fn.SGD(0.1), key=key),
}
refuse(KEYED, named(0), fn.ConfigError, "PLACE: key must be a Key, got 0; use Key(0)")
refuse(KEYED, named("0", np.random.default_rng), fn.ConfigError, "PLACE: key must be a Key, got VALUE")
KEYLESS: tuple[tuple[Any, Any, str], ...] = (
    (fn.dense, (64, 10), "64, 10"),
    (fn.mlp, ((784, 100, 10),), "(784, 100, 10)"),
    (fn.mlp, (784, 100, 10), "sizes"),
    (fn.conv1d, (8, 16, 3), "8, 16, 3"),
    (fn.conv2d, (1, 6, 5), "1, 6, 5"),
    (fn.embedding, (27, 8), "27, 8"),
    (fn.gru, (8, 16), "8, 16"),
    (fn.learned_positions, (64, 8), "64, 8"),
    (fn.lstm, (8, 16), "8, 16"),
    (fn.multi_head_attention, (8, 2), "8, 2"),
    (fn.rnn, (8, 16), "8, 16"),
    (fn.transformer_block, (8, 2), "8, 2"),
)


def starred(make: Callable[..., object], arguments: tuple[object, ...]) -> object:
    """Call a function with arguments by position."""
    return make(*arguments)


for make, arguments, rest in KEYLESS:
    name, right = make.__name__, f"fn.{make.__name__}(key, {rest})"
    one(name, partial(starred, make), arguments, fn.ConfigError,
        f"{name}: the first argument must be a Key; use {right} with key = fn.Key(seed)")
SIZED: tuple[tuple[Any, Any, str, str], ...] = (
    (fn.Dense, (64, 10), "64", "fn.dense(key, 64, 10)"),
    (fn.Dense, (64,), "64", "fn.dense(key, in_size, out_size)"),
    (fn.Dense, (64, 10, 3), "64", "fn.dense(key, in_size, out_size)"),
    (fn.Conv2D, (1, 6, 5), "1", "fn.conv2d(key, 1, 6, 5)"),
    (fn.Embedding, (10, 8), "10", "fn.embedding(key, 10, 8)"),
    (fn.LearnedPositions, (64, 8), "64", "fn.learned_positions(key, 64, 8)"),
    (fn.MultiHeadAttention, (64, 4), "64", "fn.multi_head_attention(key, 64, 4)"),
    (fn.BatchNorm, (3,), "3", "fn.batch_norm(3)"),
    (fn.GRU, (8, 16), "8", "fn.gru(key, 8, 16)"),
    (fn.Conv1D, (8, 16), "8", "fn.conv1d(key, in_channels, out_channels, kernel_size)"),
    (fn.RMSNorm, (np.int64(3),), "3", "fn.rms_norm(3)"),
    (fn.LayerNorm, (3, 3), "3", "fn.layer_norm(size)"),
    (fn.PReLU, (3,), "3", "fn.prelu()"),
)
for make, arguments, size, right in SIZED:
    one(make.__name__, partial(starred, make), arguments, fn.DTypeError,
        f"{make.__name__}: ... must be a plain NumPy array, got {size}; to create the layer, use {right}")
DRAWING = (NET[0], (fn.ReLU(), fn.Dropout(0.5)), NET[2])
refuse({"sgd_step": lambda net: STEP(net, BATCH), "train_epoch": lambda net: fn.train_epoch(STEP, net, [BATCH])},
       {"": DRAWING}, fn.ConfigError, "...Dropout (layer 1.1): ...key=None...; use train_step and "
       "TrainState.create(net, optimizer, key=...), or pass training(net, key)")
SEVERAL_EPOCHS: Places = {
    "train": lambda epochs: fn.train(STEP, NET, lambda _: [BATCH], epochs=epochs),
    "train_together": lambda epochs: fn.train_together(STEP, [NET], lambda _, __: [BATCH], epochs=epochs),
}
refuse(SEVERAL_EPOCHS, named(0, -1, 3, None, 2.5), fn.ConfigError,
       "PLACE: epochs must be a sequence of epoch numbers, got VALUE; use range(VALUE)")
EPOCHS: Places = {
    **SEVERAL_EPOCHS,
    "audited_train": lambda epochs: fn.audited_train("run", STEP, NET, lambda _: [BATCH], epochs=epochs),
}
refuse(EPOCHS, named(range(-1, 2), [0, -1], [True], [1.5], ["0"], "12", [None]), fn.ConfigError,
       "PLACE: an epoch's number must be an int of at least ..., got ...")
STEPPED: Places = {
    "train_epoch": lambda step: fn.train_epoch(step, STATE, [BATCH]),
    "train": lambda step: fn.train(step, STATE, lambda _: [BATCH], epochs=range(1)),
    "fit": lambda step: fn.fit(step, fn.Fit.create(STATE), lambda _: [BATCH], epochs=1),
    "train_together": lambda step: fn.train_together(step, [STATE], lambda _, __: [BATCH], epochs=range(1)),
}


def own_loss(prediction: fn.Array, target: fn.Array) -> tuple[float, fn.Array]:
    """A loss of the user, without weights."""
    return fn.mean_squared_error(prediction, target)


A_STEP = "PLACE: step must be a function (state, batch), got the loss ...; use train_step(loss)"
refuse(STEPPED, named(CE, fn.SoftmaxCrossEntropy(), fn.huber, own_loss), fn.ConfigError, A_STEP)
refuse(STEPPED, named(None), fn.ConfigError, "PLACE: step must be a function, got None")
TOGETHER: Places = {"train_together": lambda states: fn.train_together(STEP, states, lambda _, __: [BATCH], epochs=[0])}
refuse(TOGETHER, named((), []), fn.ConfigError, "PLACE: states must have at least one state")
refuse(TOGETHER, {"a state": STATE, **named(3, None)}, fn.ConfigError,
       "PLACE: states must be a sequence of states, got ...; use [state]")
refuse(TOGETHER, {"iterator": iter([NET])}, fn.ConfigError,
       "PLACE: states must be a sequence of states, got ...; use list(states)")
refuse(TOGETHER, {"layers": (NET, NET[:1])}, fn.StructureError,
       "PLACE: all states must have one structure: the state is a tuple of 1 in state 1 and a tuple of 3 in state 0")
refuse(TOGETHER, {"kinds": (NET, STATE)}, fn.StructureError,
       "PLACE: all states must have one structure: the state is TrainState in state 1 and tuple in state 0")
refuse({"train_together": lambda data: fn.train_together(STEP, [NET], data, epochs=[0])}, {"batches": [BATCH]},
       fn.ConfigError, "PLACE: data must be a function of the epoch's number and the state's position, got ...; use "
       "lambda epoch, i: batches")
refuse({"train_together": lambda data: fn.train_together(STEP, [NET], data, epochs=[0])}, named(None, 3),
       fn.ConfigError, "PLACE: data must be a function, got VALUE")
refuse({"train_together": lambda pool: fn.train_together(STEP, [NET], lambda _, __: [], epochs=[0], executor=pool)},
       named(2, "threads"), fn.ConfigError, "PLACE: executor must be a concurrent.futures.Executor or None, got VALUE")
refuse({"train_together": lambda batches: list(fn.train_together(STEP, [NET], lambda _, __: batches, epochs=[0]))},
       named(3, None), fn.ConfigError, "state 0, epoch 0: train_together: data's batches must be a sequence or "
       "an iterator, got VALUE")
POOL = ThreadPoolExecutor(1)  # without a thread until it has work
refuse({"train_together": lambda pool: fn.train_together(fn.train_step(CE, shard_size=1, executor=pool), [STATE],
                                                         lambda _, __: [], epochs=[0], executor=pool)},
       {"pool": POOL}, fn.ConfigError, "PLACE: a step with its own executor needs executor=None: ...")
REDUCED: Places = {
    "sgd_step": lambda reducer: fn.sgd_step(CE, learning_rate=0.1, reducer=reducer),
    "train_step": lambda reducer: fn.train_step(CE, reducer=reducer),
}
refuse(REDUCED, {"text": "mpi", "number": 4}, fn.ConfigError, "PLACE: reducer must be a Reducer or None, got VALUE")
refuse(REDUCED, {"class": fn.SerialReducer}, fn.ConfigError,
       "PLACE: reducer must be a Reducer or None, got ...; use SerialReducer()")
refuse({"train_step": lambda pool: fn.train_step(CE, shard_size=3, executor=pool)}, named(2, "threads"),
       fn.ConfigError, "PLACE: executor must be a concurrent.futures.Executor or None, got VALUE")
refuse(REDUCED, {"": fn.SerialReducer()}, fn.ConfigError, "PLACE: a reducer divides shards; give shard_size, too")
refuse({"fit": lambda pair: fn.fit(STEP, fn.Fit.create(NET), lambda _: [], pair, epochs=1)}, named((X, Y), 3),
       fn.ConfigError, "PLACE: validate must be a function of the state, got ...; use lambda state: "
       "evaluate(state.params, x, y, loss)")
refuse({"fit": lambda n: fn.fit(STEP, fn.Fit.create(NET), lambda _: [], lambda _: 0.5, epochs=n)}, named(-1),
       fn.ConfigError, "PLACE: epochs must be an int of at least 0, got VALUE")
refuse({"Minibatches": lambda stride: fn.minibatches(X, Y, 1)[::stride]}, named(2, -1), fn.ConfigError,
       "PLACE: batches can only be sliced with step 1, got VALUE")
PATHS: Places = {
    "load: path": fn.load,
    "load_arrays: path": fn.load_arrays,
    "load_run: directory": fn.load_run,
    "read_idx: path": datasets.read_idx,
    "read_notes: path": fn.read_notes,
    "save: path": lambda path: fn.save(path, fn.ReLU()),
    "audited_train: directory": lambda path: fn.audited_train(path, STEP, NET, lambda _: [], epochs=[]),
    "load_digits: path": lambda path: datasets.load_digits("" if path is None else path),  # None: scikit-learn's file
    "load_images: directory": datasets.load_images,
    "load_mnist: directory": lambda path: datasets.load_mnist("" if path is None else path),  # None: look around
}
NO_PATHS = {type(path).__name__ + ascii(path)[:12]: path for path in (None, 3, b"bytes", "", "a\0b", "\ud800", ["a"])}
refuse(PATHS, NO_PATHS, fn.ConfigError, "PLACE must be a string or a Path that can name a file, got ...")

# --------------------------------------------------------------------------------------------------- structure

MISMATCHES: dict[str, Any] = {
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
UPDATES: Places = {
    "sgd_update": lambda other: fn.sgd_update(NET, other, learning_rate=0.1),
    "SGD": lambda other: fn.SGD(0.1).update(NET, other, fn.Moments.of(), 0),
    "Momentum's gradients": lambda other: fn.Momentum(0.1).update(NET, other, fn.Moments.of(velocity=NET), 0),
    "Momentum's moments": lambda other: fn.Momentum(0.1).update(NET, NET, fn.Moments.of(velocity=other), 0),
    "Residual": lambda other: fn.sgd_update(fn.Residual(NET), fn.Residual(other), learning_rate=0.1),
}
for name, other in MISMATCHES.items():
    refuse(UPDATES, {name: other}, fn.StructureError,
           f"two networks must have the same structure, got...{NET!r}...")
    refuse(UPDATES, {name: other}, fn.StructureError, f"two networks must have the same structure, got...{other!r}...")
KEPT = "moments must have the names ('velocity',), got "
REASON = "; a run must continue with the optimizer that it began with"
MOVED: Places = {"Momentum": lambda moments: fn.Momentum(0.1).update(NET, NET, moments, 0)}
refuse(MOVED, {"none": fn.Moments.of()}, fn.StructureError, f"PLACE: {KEPT}(){REASON}")
TWO = fn.Moments.of(mean=NET, square=NET)
refuse(MOVED, {"other": TWO}, fn.StructureError, f"PLACE: {KEPT}('mean', 'square'){REASON}")
refuse(
    MOVED, {"a tuple": (NET,)}, fn.StructureError, f"PLACE: {KEPT}..., which is not Moments.of(velocity=...){REASON}"
)
one("SGD", lambda moments: fn.SGD(0.1).update(NET, NET, moments, 0), TWO, fn.StructureError,
    f"SGD: moments must have the names (), got ('mean', 'square'){REASON}")
one("train_step", lambda state: fn.train_step(CE)(state, BATCH), attrs.evolve(STATE, moments=fn.Moments.of()),
    fn.StructureError, "..." + REASON)

FOLDED: Places = {"forward": OF_NETWORK["forward"]}
refuse(OF_NETWORK, {"list": list(NET)}, fn.StructureError, f"...{A_NETWORK}...; use a tuple")
refuse(OF_NETWORK, {"nested": (fn.ReLU(), (None,))}, fn.StructureError, f"...layer 1.0...: {A_NETWORK}None")
refuse(FOLDED, {"class": fn.ReLU}, fn.StructureError, f"...{A_NETWORK}...; use ReLU()")
refuse(FOLDED, named("relu", 3, np.tanh), fn.StructureError, f"...{A_NETWORK}VALUE")


@attrs.frozen
class Fitted:
    """An object with a fitted network, as an estimator is."""

    network_: fn.Network


AN_ESTIMATOR = "; pass model.as_network() or model.network_"
refuse(OF_NETWORK, {"an estimator": Fitted(NET)}, fn.StructureError, f"...{A_NETWORK}Fitted(...{AN_ESTIMATOR}")
DATA: Any = NET
SWAPPED: Places = {
    "forward": lambda x: fn.forward(x, DATA),
    "predict": lambda x: fn.predict(x, DATA, fn.Multiclass()),
    "value_and_grad": lambda x: fn.value_and_grad(x, DATA, Y, CE),
    "training": lambda x: fn.training(x, DATA),
    "calibrate": lambda x: fn.calibrate(x, DATA),
}
refuse(SWAPPED, {"swapped": X}, fn.StructureError,
       f"...{A_NETWORK}array of float32 (4, 8); the network comes before the data, as in forward(net, x)")
refuse(FOLDED, {"dict": {0: NET[0]}}, fn.StructureError, f"...{A_NETWORK}{{0: Dense(...")
refuse({"activations": lambda net: fn.activations(net, X)}, named(fn.ReLU(), list(NET), None), fn.StructureError,
       "PLACE: params must be a tuple of networks, got ...")
OF_PARAMS: Places = {
    "outputs": lambda net: fn.outputs(net, X),
    "predict": lambda net: fn.predict(net, X, fn.Multiclass()),
    "predict_proba": lambda net: fn.predict_proba(net, X, fn.Multiclass()),
}
A_STATE = "PLACE: params must be a network, got a TrainState; use "
refuse(OF_PARAMS, {"state": STATE}, fn.StructureError, A_STATE + "state.params")
refuse({"sgd_step": lambda state: STEP(state, BATCH)}, {"state": STATE}, fn.StructureError,
       A_STATE + "train_step, or state.params")
OF_LOSS: Places = {"train_step": fn.train_step, "sgd_step": lambda loss: fn.sgd_step(loss, learning_rate=0.1)}
refuse(OF_LOSS, {"class": fn.SoftmaxCrossEntropy}, fn.ConfigError,
       "PLACE: loss must be a function, got the class SoftmaxCrossEntropy; use SoftmaxCrossEntropy()")

WEIGHT, ZEROS = np.zeros((8, 5), np.float32), np.zeros(5, np.float32)
BIAS = "bias must have shape (5,) to match weight (8, 5), got "
PARAMETERS: list[tuple[Any, Any, Error, str]] = [
    (WEIGHT, ZEROS[:4], fn.ShapeError, BIAS + "(4,)"),
    (WEIGHT, ZEROS[:, None], fn.ShapeError, BIAS + "(5, 1)"),
    (WEIGHT[None], ZEROS, fn.ShapeError, "weight must have shape (I, O), got (1, 8, 5)"),
    (ZEROS, WEIGHT, fn.ShapeError, "weight must have shape (I, O), got (5,)"),
    (WEIGHT, np.array(0, np.float32), fn.ShapeError, "bias must have at least one axis, got a 0-d array; use..."),
    (WEIGHT, ZEROS.astype(float), fn.DTypeError, "bias must be float32..., got float64; use bias.astype(np.float32)"),
    (WEIGHT.astype(np.int64), ZEROS, fn.DTypeError, "weight must be float32 or float64, got int64..."),
    (WEIGHT.astype(np.float16), ZEROS, fn.DTypeError, "weight must be float32 or float64, got float16..."),
    (WEIGHT.astype(FOREIGN), ZEROS, fn.DTypeError, f"weight must be float32 or float64, got {FOREIGN}..."),
    (WEIGHT.tolist(), ZEROS, fn.DTypeError, "weight must be a plain NumPy array, got list..."),
    (None, ZEROS, fn.DTypeError, "weight must be a plain NumPy array, got NoneType..."),
    (np.ma.asarray(WEIGHT), ZEROS, fn.DTypeError, "weight must be...use weight.filled(...)"),
    (WEIGHT[:0], ZEROS, fn.ConfigError, "weight's in_size must be an int of at least 1, got 0"),
    (WEIGHT[:, :0], ZEROS[:0], fn.ConfigError, "weight's out_size must be an int of at least 1, got 0"),
]
for weight, bias, error, text in PARAMETERS:
    one("Dense", lambda pair: fn.Dense(*pair), (weight, bias), error, f"Dense: {text}")
one("evolve", lambda bias: attrs.evolve(NET[0], bias=bias), ZEROS[:4], fn.ShapeError, f"Dense: {BIAS}(4,)")

# --------------------------------------------------------------------------------------------------- the test
# fmt: on

KEPT_VALUES = [X, Y, G, LOGITS, NET, STATE, WEIGHT, ZEROS]
AS_MADE = contents(KEPT_VALUES)


@pytest.fixture(autouse=True)
def _empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An empty directory to be in, which stays empty."""
    monkeypatch.chdir(tmp_path)
    yield
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_bad_inputs(case: Bad) -> None:
    """The right error with the whole message; no argument is changed, and no file is written."""
    before = contents(case.argument)
    with pytest.raises(fn.FuncnetError) as caught:
        case.call(case.argument)
    assert type(caught.value) is case.error, caught.value
    pattern = ".*".join(map(re.escape, case.message.split("...")))
    assert re.fullmatch(pattern, str(caught.value), re.DOTALL), f"{caught.value}\nis not\n{case.message}"
    assert contents(case.argument) == before
    assert contents(KEPT_VALUES) == AS_MADE
