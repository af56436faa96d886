"""Fuzzing the public page: whatever goes in, a result or a FuncnetError comes out, no warning, no changed argument.

A new public name needs a row in ``ROWS``: how to call it and a strategy an argument, of ``anything.py``. A name that
cannot be called, or only with functions of the caller's own, goes into ``NOT_CALLED`` with the reason.
"""

from __future__ import annotations

import inspect
import itertools
import tempfile
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, Final

import anything as a
import attrs
import numpy as np
import pytest
from anything import Anything, contents
from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis import strategies as st
from networks import CASES, KEY

import funcnet as fn
from funcnet import datasets
from funcnet.arithmetic import using
from funcnet.core.trees import same_bits
from funcnet.network.layer import rule_of


@attrs.frozen
class Row:
    """How a name is called, and what with."""

    call: Callable[..., object]
    arguments: tuple[Anything, ...]


def row(call: Callable[..., object], *arguments: Anything) -> Row:
    """A row of the table."""
    return Row(call, arguments)


# --------------------------------------------------------------------------------------------------- calls


def pulled(params: Any, x: Any, g: Any) -> object:
    """Forward, then back in both ways."""
    _, pull = fn.vjp(params, x)
    return pull(g), pull.params_only(g)


def cut(*arguments: Any) -> object:
    """Minibatches, each of them, and slices."""
    (x, y), size, key, drop_last, transform, augment = arguments
    batches = fn.minibatches(x, y, size, key=key, drop_last=drop_last, transform=transform, augment=augment)
    return list(batches), list(batches[1:]), repr(batches)


def texts(*arguments: Any) -> object:
    """The windows of a text, each batch of them, and slices."""
    batches = fn.windows(*arguments[:3], key=arguments[3])
    return list(batches), list(batches[1:]), repr(batches)


def with_examples(call: Callable[..., object], at: int = 1) -> Callable[..., object]:
    """A call that gets two of its arguments, such as inputs and targets, as one."""

    def spread(*arguments: Any) -> object:
        return call(*arguments[:at], *arguments[at], *arguments[at + 1 :])

    return spread


def keyed(call: Callable[..., object], *names: str) -> Callable[..., object]:
    """A call whose last arguments are given by these names."""

    def by_name(*arguments: Any) -> object:
        first = len(arguments) - len(names)
        return call(*arguments[:first], **dict(zip(names, arguments[first:], strict=True)))

    return by_name


def then(make: Callable[..., Any], count: int, call: Any = None) -> Callable[..., object]:
    """What the first arguments make is called, or given to a call, with the others."""

    def both(*arguments: Any) -> object:
        made = make(*arguments[:count])
        return made(*arguments[count:]) if call is None else call(made, *arguments[count:])

    return both


def predicted(task: Any, outputs: Any) -> object:
    """Predictions and, if the task has them, probabilities."""
    return task.predictions(outputs), isinstance(task, fn.Regression) or task.probabilities(outputs)


def run(iterator: Iterator[object]) -> object:
    """What a lazy sequence yields, three at most."""
    return list(itertools.islice(iterator, 3))


def trained_together(step: Any, states: Any, batches: Any, epochs: Any) -> object:
    """A run of some states."""
    return run(fn.train_together(step, states, lambda _, __: batches, epochs=epochs))


def fitted(step: Any, start: Any, batches: Any, rest: tuple[Any, ...]) -> object:
    """A fit that validates with a number."""
    value, epochs, patience, goal, delta, plateau = rest
    start = start if isinstance(start, str) and start == "as it is" else fn.Fit.create(start)
    more = {"epochs": epochs, "patience": patience, "goal": goal, "min_delta": delta, "plateau": plateau}
    return run(fn.fit(step, start, lambda _: batches, lambda _: value, **more))


def audited(step: Any, state: Any, batches: Any, epochs: Any, every: Any) -> object:
    """An audited run, read again, rechecked, and compared with itself."""
    with tempfile.TemporaryDirectory() as directory:
        list(fn.audited_train(directory, step, state, lambda _: batches, epochs=epochs, every=every))
        found = fn.load_run(directory)
        numbers = [each.epoch for each in found.rows if each.epoch is not None]
        if numbers:
            str(fn.recheck(found, numbers, step=step, data=lambda _: batches))
        return fn.first_divergence(found, found, step=step, data=lambda _: batches)


def saved(value: Any) -> object:
    """A value, saved and loaded."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "value"
        try:
            fn.save(path, value, allow_nonfinite=True)
        except fn.FuncnetError:
            assert not any(Path(directory).iterdir())
            raise
        return fn.load(path, like=value, allow_nonfinite=True)


def renamed(net: Any, other: Any) -> object:
    """The network with another one's arrays."""
    return fn.with_named_arrays(net, fn.named_arrays(other))


def file_of(read: Callable[[Path], object], name: str = "") -> Callable[[bytes], object]:
    """A call that reads a file of its bytes, or the directory of a file with this name."""

    def reading(content: bytes) -> object:
        with tempfile.TemporaryDirectory() as directory:
            (Path(directory) / (name or "value")).write_bytes(content)
            return read(Path(directory) if name else Path(directory) / "value")

    return reading


def with_text(call: Callable[..., object], attribute: str) -> Callable[..., object]:
    """A call whose result is shown in both of its forms."""

    def both(*arguments: Any) -> object:
        result = call(*arguments)
        return str(result), getattr(result, attribute)

    return both


def shown(value: Any) -> object:
    """A value as text, and as its fingerprint."""
    return str(value), repr(value), fn.fingerprint(value)


def child(seed: Any, path: Any, part: Any) -> object:
    """A key below another."""
    return shown(fn.Key(seed, path).child(part))


def trained(step: Any, state: Any, batches: Any, epochs: Any) -> object:
    """A run."""
    return run(fn.train(step, state, lambda _: batches, epochs=epochs))


def run_backward(params: Any, x: Any, g: Any, reuse: bool) -> object:  # noqa: FBT001
    """Backward, at times with the input as the gradient."""
    return fn.backward(params, x, x if reuse else g)


def updated(params: Any, grads: Any, rate: Any, reuse: bool) -> object:  # noqa: FBT001
    """An update, at times with gradients of the right structure."""
    return fn.sgd_update(params, params if reuse else grads, learning_rate=rate)


def optimized(optimizer: Any, params: Any, grads: Any, step: Any) -> object:
    """An optimizer's moments and update."""
    shown(optimizer)
    moments = optimizer.init(params)
    return optimizer.update(params, params, moments, step), optimizer.update(params, grads, moments, step)


def descended(kind: Any) -> Callable[..., object]:
    """An optimizer of such settings, and its updates."""

    def both(params: Any, grads: Any, step: Any, *fields: Any) -> object:
        return optimized(kind(*fields), params, grads, step)

    return both


def scheduled(make: Callable[..., Any]) -> Callable[..., object]:
    """A schedule, printed and called."""

    def both(step: Any, *settings: Any) -> object:
        schedule = make(*settings)
        return shown(schedule), schedule(step)

    return both


def tabulated(x: Any, labels: Any) -> object:
    """The inputs of a table's own frame."""
    return fn.table(x, labels).inputs(x)


def average(state: Any, params: Any, key: Any) -> object:
    """What is averaged: in any state, and in one that keeps an average."""
    good = fn.TrainState.create(params, fn.Accumulation(fn.Averaging(fn.SGD(0.1)), 2), key=key)
    return fn.averaged(good), fn.averaged(state)


def measured(name: str, pair: Any, settings: Any) -> object:
    """A metric."""
    return getattr(fn.metrics, name)(*pair, **settings)


def drawn(key: Any, shape: Any, count: Any) -> object:
    """Numbers of every distribution."""
    random = fn.random
    return (
        random.normal(key, shape),
        random.uniform(key, shape),
        random.permutation(key, count),
        random.words(key, count),
    )


def made(kind: Any) -> Callable[..., object]:
    """A record, made and used on an input; its repr and its fingerprint."""

    def make(x: Any, *fields: Any) -> object:
        layer = kind(*fields)
        shown(layer)
        y = fn.forward(layer, x)
        assert y.shape[1:] == fn.output_shape(layer, x.shape[1:])
        return y, fn.backward(fn.training(layer, KEY), x, np.ones_like(y))

    return make


def first(batches: Any) -> Any:
    """The first of a list, or what is no list."""
    a_list: Any = list
    return batches[0] if isinstance(batches, a_list) and batches else batches


SHAPES: Final = a.mostly(st.sampled_from([(), (4,), (3, 2, 4), (0,), (-1,), (2**40,), (2.5,), ("x",)]))
MODULES: Final = st.one_of(st.none(), a.mostly(st.lists(st.sampled_from(["0", "1", "a"]), max_size=3)))
STATE_DICTS: Final = a.mostly(
    st.dictionaries(
        st.sampled_from(["0.weight", "0.bias", "2.weight", "2.bias", "weight", "x"]),
        st.one_of(a.WEIGHTS, a.VECTORS, a.JUNK),
        max_size=5,
    )
)
TRANSFORMS: Final[Anything] = st.sampled_from([None, None, fn.scale_images, attrs.evolve, "x", 3])
TASKS: Final[Anything] = st.sampled_from(
    [fn.Multiclass(), fn.Binary(), fn.Multilabel(), fn.Multilabel((0.1, 0.9)), fn.Regression(), fn.Binary, None]
)
THRESHOLDS: Final = st.one_of(a.SHARES, st.tuples(a.SHARES, a.SHARES))
AUGMENTS: Final = st.sampled_from([None, None, fn.RandomNoise(0.1), fn.RandomShift(1), fn.RandomFlip(), "x"])
GOALS: Final = st.tuples(
    st.sampled_from([0.5, 1, np.float64(2), float("nan"), True]),
    a.mostly(st.integers(0, 3)),
    st.one_of(st.none(), a.COUNTS),
    a.mostly(st.sampled_from(["lowest", "highest"])),
    a.RATES,
    a.seldom(st.sampled_from([None, fn.ReduceOnPlateau(0.5, 1), fn.ReduceOnPlateau(1e-300, 1, 1e-300)]), a.JUNK),
)
VALUES: Final = st.one_of(a.NETWORKS, a.STATES, a.WILD_ARRAYS, a.JUNK, a.BATCHES, a.STEPS)
INITIALIZERS: Final = st.sampled_from([
    name for name, each in vars(fn.initializers).items() if inspect.isfunction(each) and name[0] != "_"
    and list(inspect.signature(each).parameters) == ["key", "shape", "dtype"]
])  # fmt: skip
HELD_OUT: Final = a.seldom(st.sampled_from([1, 0.5, 2, np.int64(1)]), a.RATES)
SIZES: Final = a.mostly(st.sampled_from([(4, 3), (3,), (2, 2, 3, 4), (), (0, 3), (2.5, 1), [4, 3], (4, True)]))
AXES: Final = a.mostly(st.sampled_from([1, 1, 2, 3, 0]))
HEADS: Final = a.mostly(st.sampled_from([1, 2, 4, 3]))
PROJECTIONS: Final = [a.arrays_like(a.floats(st.just(shape))) for shape in ((4, 12), (12,), (4, 4), (4,))]


def recurrent(gates: int) -> list[Anything]:
    """Weight, recurrent weight, bias and a vector of a recurrent layer of three units."""
    shapes = (a.FEATURES, 3 * gates), (3, 3 * gates), (3 * gates,), (3,)
    weight, back, *vectors = (a.arrays_like(a.floats(st.just(shape))) for shape in shapes)
    return [weight, back, *(st.none() | vector for vector in vectors)]


RECURRENT: Final = {gates: recurrent(gates) for gates in (1, 3, 4)}
READING: Final = a.mostly(st.sampled_from(["all", "last", "first"])), a.mostly(a.BOOLEANS), a.MASKS
UNROLLED: Final = a.seldom(st.builds(fn.rnn, st.just(KEY), st.just(a.FEATURES), st.just(3)), a.NETWORKS)
STATES: Final = st.none() | a.arrays_like(a.floats(st.tuples(a.ROWS, st.just(3))))
NEW_RECURRENT: Final = (a.KEYS, *[a.COUNTS] * 2, READING[0], *[a.mostly(a.BOOLEANS)] * 3, a.FLOAT_TYPES)
BY_NAME: Final = ("outputs", "reverse", "bias", "initial", "dtype")
COMBINES: Final = a.mostly(st.sampled_from(["add", "concat", "multiply", "mul"]))
EPSILONS: Final = a.mostly(st.sampled_from([1e-5, 1e-45, 1.0, 1e300, 0, -1, 5e-324]))
SLOPES: Final = a.mostly(st.sampled_from([0, 0.01, 0.999, 1, 5e-324, -0.1]))
AVERAGES: Final = a.mostly(st.sampled_from(["binary", "macro", "micro", "weighted", None]))
CLASSES: Final = st.one_of(st.none(), a.COUNTS)
ZERO_DIVISIONS: Final = a.mostly(st.sampled_from([0, 1, 0.0, 0.5]))
AVERAGED: Final = {"average": AVERAGES, "classes": CLASSES, "zero_division": ZERO_DIVISIONS}
WEIGHTED: Final[dict[str, Anything]] = {"weight": st.none() | a.VECTORS}
RANKED: Final = {"average": a.mostly(st.sampled_from(["macro", "micro", "weighted", "samples", None])), **WEIGHTED}
MARKS: Final = st.tuples(*[st.lists(st.lists(st.booleans(), min_size=2, max_size=2), min_size=4, max_size=4)] * 2).map(
    lambda pair: tuple(map(np.array, pair))
)
PAIRS: Final = a.IDS | MARKS
SCORED: Final = st.one_of(
    a.PREDICTIONS, a.TARGETS.map(lambda drawn: drawn[:2]), MARKS.map(lambda y: (1.0 * y[0], y[1]))
)
METRICS: Final[dict[str, tuple[Anything, dict[str, Anything]]]] = {
    **dict.fromkeys(["accuracy", "hamming_loss", "multilabel_confusion_matrix"], (PAIRS, WEIGHTED)),
    **dict.fromkeys(["balanced_accuracy", "confusion_matrix", "matthews"], (PAIRS, {"classes": CLASSES, **WEIGHTED})),
    **dict.fromkeys(["precision", "recall", "f1"], (PAIRS, {**AVERAGED, **WEIGHTED})),
    "top_k_accuracy": (a.PREDICTIONS, {"k": a.COUNTS, **WEIGHTED}),
    **dict.fromkeys(["log_loss", "brier_score", "roc_curve", "precision_recall_curve"], (SCORED, WEIGHTED)),
    "average_precision": (SCORED, RANKED),
    "roc_auc": (SCORED, {"multi_class": a.mostly(st.sampled_from(["ovr", "ovo"])), **RANKED}),
    **dict.fromkeys(["mse", "mae", "r2"], (a.TARGETS.map(lambda drawn: drawn[:2]), WEIGHTED)),
}
METRIC_CALLS: Final = st.one_of(
    [st.tuples(st.just(name), pair, st.fixed_dictionaries(options)) for name, (pair, options) in METRICS.items()]
)
NETWORK_TUPLES: Final = a.mostly(st.lists(a.NETWORKS, max_size=3).map(tuple))
BETAS: Final = a.mostly(st.tuples(a.SHARES, a.SHARES))
DESCENT: Final = (a.NETWORKS, a.NETWORKS, a.COUNTS)
SOME_SCHEDULES: Final = a.mostly(st.lists(a.SCHEDULES, max_size=3).map(tuple))
SOME_RATES: Final = a.mostly(st.lists(a.RATES, max_size=3).map(tuple))
BOUNDARIES: Final = a.mostly(st.sampled_from([(), (2,), (1, 3), [2], (3, 1), (0,), ("x",)]))
STEPPED: Final[list[Any]] = [
    fn.SGD(0.1),
    fn.Adam(0.1),
    fn.Accumulation(fn.SGD(0.1), 2),
    fn.Averaging(fn.SGD(0.1)),
    fn.WeightDecay(fn.SGD(0.1), 0.1),
]
ALPHAS: Final = a.mostly(st.sampled_from([1.0, 0.5, 1e300, 5e-324, 0, -1]))

# --------------------------------------------------------------------------------------------------- table

ROWS: Final[dict[str, Row]] = {
    "Accumulation": row(descended(fn.Accumulation), *DESCENT, a.OPTIMIZERS, a.COUNTS),
    "Adagrad": row(descended(fn.Adagrad), *DESCENT, a.RATES_OR_SCHEDULES, a.RATES, a.RATES, EPSILONS),
    "Adam": row(descended(keyed(fn.Adam, "amsgrad", "eps_hat")),
        *DESCENT, a.RATES_OR_SCHEDULES, BETAS, EPSILONS, *[a.mostly(a.BOOLEANS)] * 2),
    "AdamW": row(descended(keyed(fn.AdamW, "amsgrad", "eps_hat")),
        *DESCENT, a.RATES_OR_SCHEDULES, BETAS, EPSILONS, a.RATES, *[a.mostly(a.BOOLEANS)] * 2),
    "Averaging": row(descended(fn.Averaging), *DESCENT, a.OPTIMIZERS, a.SHARES),
    "AvgPool2D": row(made(fn.AvgPool2D),
        a.IMAGES, a.PAIRS, st.none() | a.PAIRS, a.PADDINGS, *[a.mostly(a.BOOLEANS)] * 2),
    "Batch": row(fn.Batch, a.INPUTS, a.LABELS, a.VECTORS),
    "BatchNorm": row(made(fn.BatchNorm),
        a.INPUTS, *[st.none() | a.VECTORS] * 4, EPSILONS, a.mostly(a.BOOLEANS)),
    "Binary": row(then(fn.Binary, 1, predicted), THRESHOLDS, st.one_of(a.VECTORS, a.VECTORS, a.INPUTS)),
    "ClipByGlobalNorm": row(descended(fn.ClipByGlobalNorm), *DESCENT, a.OPTIMIZERS, a.RATES),
    "ClipByValue": row(descended(fn.ClipByValue), *DESCENT, a.OPTIMIZERS, a.RATES),
    "Conv1D": row(made(fn.Conv1D),
        a.SIGNALS, a.STEP_KERNELS, st.none() | a.BIASES, a.COUNTS, a.STEP_PADDINGS, a.COUNTS, a.GROUPS, a.MASKS),
    "Conv2D": row(made(fn.Conv2D),
        a.IMAGES, a.KERNELS, st.none() | a.BIASES, a.PAIRS, a.PADDINGS, a.PAIRS, a.GROUPS),
    "Dense": row(made(fn.Dense), a.INPUTS, a.WEIGHTS, st.none() | a.BIASES),
    "Dropout": row(made(fn.Dropout), a.INPUTS, a.SHARES, a.NO_KEYS),
    "ELU": row(made(fn.ELU), a.INPUTS, ALPHAS),
    "Embedding": row(made(fn.Embedding), a.LABELS, a.WEIGHTS),
    "Fit": row(fn.Fit.create, st.one_of(a.NETWORKS, a.STATES)),
    "Flatten": row(made(fn.Flatten), a.INPUTS),
    "Frozen": row(made(fn.Frozen), a.INPUTS, a.NETWORKS),
    "GRU": row(made(fn.GRU), a.SEQUENCES, *RECURRENT[3], RECURRENT[3][3], *READING),
    "GELU": row(made(fn.GELU), a.INPUTS),
    "GELUTanh": row(made(fn.GELUTanh), a.INPUTS),
    "GlobalAvgPool2D": row(made(fn.GlobalAvgPool2D), a.IMAGES),
    "GlobalMaxPool2D": row(made(fn.GlobalMaxPool2D), a.IMAGES),
    "HardSwish": row(made(fn.HardSwish), a.INPUTS),
    "Huber": row(with_examples(then(fn.Huber, 1), 1), a.RATES, a.TARGETS),
    "Identity": row(made(fn.Identity), a.INPUTS),
    "Key":
        row(child, a.mostly(st.sampled_from([0, 2**64 - 1, 2**64])),
        a.mostly(st.sampled_from([(), (0,), (2**32 - 1, 2**32), (1.5,)])),
        a.mostly(st.one_of(st.text(max_size=3), st.integers(-1, 2**33)))),
    "LSTM": row(made(fn.LSTM), a.SEQUENCES, *RECURRENT[4], RECURRENT[4][3], *READING),
    "LastStep": row(made(fn.LastStep), a.SEQUENCES, a.MASKS),
    "LayerNorm": row(made(fn.LayerNorm), a.INPUTS, *[st.none() | a.VECTORS] * 2, EPSILONS, AXES),
    "LearnedPositions": row(made(fn.LearnedPositions), a.SEQUENCES,
        a.arrays_like(a.floats(st.tuples(st.integers(0, 3), st.just(a.FEATURES))))),
    "LeakyReLU": row(made(fn.LeakyReLU), a.INPUTS, SLOPES),
    "Lion": row(descended(fn.Lion), *DESCENT, a.RATES_OR_SCHEDULES, BETAS),
    "Masked": row(made(fn.Masked), st.one_of(a.SEQUENCES, a.IDS_OF_STEPS), a.NETWORKS, a.RATES),
    "MaxPool2D": row(made(fn.MaxPool2D),
        a.IMAGES, a.PAIRS, st.none() | a.PAIRS, a.PADDINGS, a.PAIRS, a.mostly(a.BOOLEANS)),
    "MeanOverTime": row(made(fn.MeanOverTime), a.SEQUENCES, a.MASKS),
    "Mish": row(made(fn.Mish), a.INPUTS),
    "Momentum": row(then(fn.Momentum, 2, optimized), a.RATES, a.SHARES, a.NETWORKS, a.NETWORKS, a.COUNTS),
    "MultiHeadAttention": row(made(fn.MultiHeadAttention), a.SEQUENCES, PROJECTIONS[0], st.none() | PROJECTIONS[1],
        PROJECTIONS[2], st.none() | PROJECTIONS[3], HEADS, a.mostly(a.BOOLEANS), a.MASKS),
    "Multiclass": row(then(fn.Multiclass, 0, predicted), a.INPUTS),
    "Multilabel": row(then(fn.Multilabel, 1, predicted), THRESHOLDS, a.INPUTS),
    "NAdam": row(descended(fn.NAdam), *DESCENT, a.RATES_OR_SCHEDULES, BETAS, EPSILONS, a.RATES),
    "Nesterov": row(descended(fn.Nesterov), *DESCENT, a.RATES_OR_SCHEDULES, a.SHARES),
    "PReLU": row(made(fn.PReLU), a.INPUTS, a.VECTORS),
    "Parallel": row(made(fn.Parallel), a.INPUTS, NETWORK_TUPLES, COMBINES),
    "RMSNorm": row(made(fn.RMSNorm), a.INPUTS, st.none() | a.VECTORS, EPSILONS, AXES),
    "RMSprop":
        row(descended(fn.RMSprop), *DESCENT, a.RATES_OR_SCHEDULES, a.SHARES, EPSILONS, a.SHARES, a.mostly(a.BOOLEANS)),
    "RNN": row(made(fn.RNN), a.SEQUENCES, *RECURRENT[1], a.mostly(st.sampled_from(["tanh", "relu", "elu"])), *READING),
    "RandomFlip": row(then(fn.RandomFlip, 1), a.RATES, a.KEYS, a.IMAGE_BATCHES),
    "RandomNoise": row(then(fn.RandomNoise, 1), a.RATES, a.KEYS, a.IMAGE_BATCHES),
    "RandomShift": row(then(fn.RandomShift, 1), a.COUNTS, a.KEYS, a.IMAGE_BATCHES),
    "ReLU": row(made(fn.ReLU), a.INPUTS),
    "ReduceOnPlateau": row(fn.ReduceOnPlateau, a.SHARES, a.COUNTS, a.SHARES),
    "Regression": row(then(fn.Regression, 0, predicted), a.INPUTS),
    "Repeat": row(made(fn.Repeat), a.INPUTS, a.NETWORKS, a.FEW),
    "Reshape": row(made(fn.Reshape), a.INPUTS, SHAPES),
    "Residual": row(made(fn.Residual), a.INPUTS, a.NETWORKS),
    "SELU": row(made(fn.SELU), a.INPUTS),
    "SGD": row(then(fn.SGD, 1, optimized), a.RATES, a.NETWORKS, a.NETWORKS, a.COUNTS),
    "SinusoidalPositions": row(made(fn.SinusoidalPositions), a.SEQUENCES),
    "SiLU": row(made(fn.SiLU), a.INPUTS),
    "Sigmoid": row(made(fn.Sigmoid), a.INPUTS),
    "Softmax": row(made(fn.Softmax), a.INPUTS),
    "SoftmaxCrossEntropy":
        row(with_examples(then(fn.SoftmaxCrossEntropy, 2), 2), a.SHARES,
        a.seldom(st.none(), a.mostly(st.lists(a.RATES, max_size=4).map(tuple)), share=1),
        st.one_of(a.PREDICTIONS, a.TARGETS, a.POSITIONS)),
    "Softplus": row(made(fn.Softplus), a.INPUTS),
    "Softsign": row(made(fn.Softsign), a.INPUTS),
    "Standardize": row(made(fn.Standardize), a.INPUTS, a.VECTORS, a.VECTORS),
    "Table": row(tabulated, a.INPUTS, a.LABELS),
    "Tanh": row(made(fn.Tanh), a.INPUTS),
    "Moments": row(keyed(fn.Moments.of, "mean", "square"), a.NETWORKS, a.NETWORKS),
    "prelu": row(keyed(fn.prelu, "slope", "dtype"), a.COUNTS, a.RATES, a.FLOAT_TYPES),
    "program": row(fn.program, a.STEPS, a.TRAINABLE, a.LISTS_OF_BATCHES.map(first)),
    "TrainState": row(then(keyed(fn.TrainState.create, "key"), 3, shown), a.NETWORKS, a.OPTIMIZERS, a.KEYS),
    "WeightDecay": row(descended(keyed(fn.WeightDecay, "coupled")),
        *DESCENT, a.OPTIMIZERS, a.RATES, a.mostly(a.BOOLEANS)),
    "accuracy": row(fn.accuracy, a.LABELS, a.LABELS),
    "activations": row(fn.activations, a.NETWORKS, a.INPUTS),
    "audited_train": row(audited, a.STEPS, a.TRAINABLE, a.LISTS_OF_BATCHES, a.EPOCHS, a.COUNTS),
    "averaged": row(average, a.STATES, a.NETWORKS, a.KEYS),
    "backward": row(with_examples(run_backward), a.NETWORKS, a.WITH_GRADIENT, a.BOOLEANS),
    "batch_norm": row(keyed(fn.batch_norm, "scale", "offset", "epsilon", "dtype"),
        a.COUNTS, *[a.mostly(a.BOOLEANS)] * 2, EPSILONS, a.FLOAT_TYPES),
    "bidirectional": row(fn.bidirectional, UNROLLED, UNROLLED),
    "binary_cross_entropy": row(with_examples(fn.binary_cross_entropy, 0), a.TARGETS),
    "calibrate": row(fn.calibrate, a.NETWORKS, a.INPUTS),
    "astype": row(fn.astype, a.NETWORKS, a.FLOAT_TYPES),
    "check_gradients": row(then(keyed(fn.check_gradients, "h"), 3, str), a.NETWORKS, a.INPUTS, a.RATES),
    "check_layer": row(fn.check_layer, a.NETWORKS, a.INPUTS),
    "clip_by_global_norm": row(fn.clip_by_global_norm, a.NETWORKS, a.RATES),
    "clip_by_value": row(fn.clip_by_value, a.NETWORKS, a.RATES),
    "constant": row(scheduled(fn.constant), a.COUNTS, a.RATES),
    "conv1d": row(keyed(fn.conv1d, "stride", "padding", "dilation", "groups", "bias", "dtype"),
        a.KEYS, *[a.COUNTS] * 4, a.STEP_PADDINGS, a.COUNTS, a.GROUPS, a.mostly(a.BOOLEANS), a.FLOAT_TYPES),
    "conv2d": row(keyed(fn.conv2d, "stride", "padding", "dilation", "groups", "bias", "dtype"),
        a.KEYS, a.COUNTS, a.COUNTS, *[a.PAIRS] * 2, a.PADDINGS, a.PAIRS, a.GROUPS, a.mostly(a.BOOLEANS), a.FLOAT_TYPES),
    "cosine_restarts": row(scheduled(keyed(fn.cosine_restarts, "period", "multiplier", "final")),
        a.COUNTS, a.RATES, a.COUNTS, a.COUNTS, a.RATES),
    "cosine_decay": row(scheduled(keyed(fn.cosine_decay, "steps", "final")), a.COUNTS, a.RATES, a.COUNTS, a.RATES),
    "datasets": row(file_of(datasets.read_idx), st.binary(max_size=40)),
    "dense": row(keyed(fn.dense, "bias", "dtype"), a.KEYS, a.COUNTS, a.COUNTS, a.mostly(a.BOOLEANS), a.FLOAT_TYPES),
    "embedding": row(keyed(fn.embedding, "dtype"), a.KEYS, a.COUNTS, a.COUNTS, a.FLOAT_TYPES),
    "environment": row(fn.environment),
    "trained_arrays": row(fn.trained_arrays, a.NETWORKS),
    "map_parameters": row(partial(fn.map_parameters, np.add), a.NETWORKS, a.NETWORKS),
    "equal": row(fn.equal, a.NETWORKS, a.NETWORKS),
    "evaluate": row(with_examples(fn.evaluate), a.TRAINABLE, a.EXAMPLES, a.LOSSES),
    "explain": row(with_examples(with_text(fn.explain, "markdown")), a.TRAINABLE, a.EXAMPLES, a.LOSSES),
    "exponential_decay":
        row(scheduled(keyed(fn.exponential_decay, "gamma", "steps")), a.COUNTS, a.RATES, a.RATES, a.COUNTS),
    "fingerprint": row(fn.fingerprint, VALUES),
    "first_nonfinite": row(with_examples(then(fn.first_nonfinite, 4, str)), a.TRAINABLE, a.EXAMPLES, a.LOSSES),
    "fit": row(fitted, a.STEPS, a.seldom(a.TRAINABLE | a.STATES, st.just("as it is")), a.LISTS_OF_BATCHES, GOALS),
    "flushed": row(fn.flushed, a.STATES),
    "forward": row(fn.forward, a.NETWORKS, a.INPUTS),
    "global_norm": row(fn.global_norm, a.NETWORKS),
    "gradient_statistics": row(with_examples(with_text(keyed(fn.gradient_statistics, "learning_rate"), "table")),
        a.TRAINABLE, a.EXAMPLES, a.LOSSES, a.RATES),
    "gru": row(keyed(fn.gru, *BY_NAME), *NEW_RECURRENT),
    "hinge": row(with_examples(fn.hinge, 0), a.TARGETS),
    "huber": row(with_examples(fn.huber, 0), a.TARGETS),
    "initializers": row(then(partial(getattr, fn.initializers), 1), INITIALIZERS, a.KEYS, SIZES, a.FLOAT_TYPES),
    "join_schedules": row(then(fn.join_schedules, 2), SOME_SCHEDULES, BOUNDARIES, a.COUNTS),
    "layer_norm": row(keyed(fn.layer_norm, "scale", "offset", "epsilon", "dtype"),
        st.one_of(a.COUNTS, st.tuples(a.COUNTS, a.COUNTS)), *[a.mostly(a.BOOLEANS)] * 2, EPSILONS, a.FLOAT_TYPES),
    "learned_positions": row(keyed(fn.learned_positions, "dtype"), a.KEYS, a.COUNTS, a.COUNTS, a.FLOAT_TYPES),
    "learning_rates": row(fn.learning_rates, a.OPTIMIZERS, a.FEW),
    "linear_warmup": row(scheduled(keyed(fn.linear_warmup, "steps", "initial")), a.COUNTS, a.RATES, a.COUNTS, a.RATES),
    "from_keras":
        row(fn.from_keras, a.NETWORKS, a.mostly(st.lists(st.one_of(a.WEIGHTS, a.VECTORS, a.JUNK), max_size=5))),
    "from_torch": row(keyed(fn.from_torch, "input_shape"), a.NETWORKS, STATE_DICTS, MODULES, st.none() | SHAPES),
    "load_arrays": row(file_of(fn.load_arrays), st.binary(max_size=40)),
    "named_arrays": row(fn.named_arrays, a.NETWORKS),
    "reorder_flat": row(fn.reorder_flat, a.mostly(st.just(fn.dense(KEY, 24, 2))), SHAPES),
    "to_torch": row(keyed(fn.to_torch, "input_shape"), a.NETWORKS, MODULES, st.none() | SHAPES),
    "with_named_arrays": row(renamed, a.NETWORKS, a.NETWORKS),
    "lstm": row(keyed(fn.lstm, *BY_NAME, "forget_bias"), *NEW_RECURRENT, a.RATES),
    "load": row(file_of(fn.load), st.binary(max_size=40)),
    "load_run": row(file_of(fn.load_run, "rows.jsonl"), st.binary(max_size=40)),
    "masked": row(fn.masked, a.NETWORKS, a.MASKS),
    "mean_absolute_error": row(with_examples(fn.mean_absolute_error, 0), a.TARGETS),
    "mean_squared_error": row(with_examples(fn.mean_squared_error, 0), a.TARGETS),
    "metrics": row(with_examples(measured, 0), METRIC_CALLS),
    "minibatches": row(cut, a.EXAMPLES, a.COUNTS, a.NO_KEYS, a.BOOLEANS, TRANSFORMS, AUGMENTS),
    "multi_head_attention": row(keyed(fn.multi_head_attention, "causal", "bias", "dtype"),
        a.KEYS, a.COUNTS, HEADS, *[a.mostly(a.BOOLEANS)] * 2, a.FLOAT_TYPES),
    "mlp": row(keyed(fn.mlp, "activation", "dtype"), a.KEYS, SIZES, a.NETWORKS, a.FLOAT_TYPES),
    "numerical_gradient": row(partial(fn.numerical_gradient, np.size), a.INPUTS, a.RATES),
    "one_cycle": row(scheduled(keyed(fn.one_cycle, "steps", "pct_start", "div_factor", "final_div_factor")),
        a.COUNTS, a.RATES, a.COUNTS, a.SHARES, a.RATES, a.RATES),
    "one_hot": row(keyed(fn.one_hot, "dtype"), a.LABELS, a.COUNTS, a.FLOAT_TYPES),
    "output_shape": row(fn.output_shape, a.NETWORKS, SHAPES),
    "piecewise_constant": row(scheduled(fn.piecewise_constant), a.COUNTS, SOME_RATES, BOUNDARIES),
    "polynomial_decay": row(scheduled(keyed(fn.polynomial_decay, "steps", "power", "final")),
        a.COUNTS, a.RATES, a.COUNTS, a.RATES, a.RATES),
    "outputs": row(keyed(fn.outputs, "rowwise", "transform"), a.NETWORKS, a.INPUTS, a.BOOLEANS, TRANSFORMS),
    "plain": row(fn.plain, a.NETWORKS),
    "poisson": row(with_examples(fn.poisson, 0), a.TARGETS),
    "predict": row(keyed(fn.predict, "rowwise", "transform"), a.NETWORKS, a.INPUTS, TASKS, a.BOOLEANS, TRANSFORMS),
    "predict_proba":
        row(keyed(fn.predict_proba, "rowwise", "transform"), a.NETWORKS, a.INPUTS, TASKS, a.BOOLEANS, TRANSFORMS),
    "random": row(drawn, a.KEYS, SIZES, a.COUNTS),
    "read_notes": row(file_of(fn.read_notes), st.binary(max_size=40)),
    "rnn": row(keyed(fn.rnn, *BY_NAME), *NEW_RECURRENT),
    "rms_norm": row(keyed(fn.rms_norm, "scale", "epsilon", "dtype"),
        st.one_of(a.COUNTS, st.tuples(a.COUNTS, a.COUNTS)), a.mostly(a.BOOLEANS), EPSILONS, a.FLOAT_TYPES),
    "save": row(saved, VALUES),
    "scale_images": row(fn.scale_images, st.one_of(a.BATCHES, st.builds(a.batch, a.BYTES, a.LABELS, st.none()))),
    "sgd_step": row(then(keyed(fn.sgd_step, "learning_rate", "shard_size"), 3),
        a.LOSSES, a.RATES, a.seldom(st.none(), a.COUNTS, share=2), a.TRAINABLE, a.BATCHES),
    "sgd_update": row(updated, a.NETWORKS, a.NETWORKS, a.RATES, a.BOOLEANS),
    "softmax_cross_entropy": row(with_examples(fn.softmax_cross_entropy, 0), a.PREDICTIONS),
    "split": row(with_examples(keyed(fn.split, "key"), 0), a.EXAMPLES, HELD_OUT, a.KEYS),
    "standardize": row(keyed(fn.standardize, "weight"), a.INPUTS, st.none() | a.VECTORS),
    "step_decay": row(scheduled(keyed(fn.step_decay, "step_size", "gamma")), a.COUNTS, a.RATES, a.COUNTS, a.RATES),
    "summary": row(with_text(fn.summary, "size"), a.NETWORKS, SHAPES),
    "table": row(fn.table, a.INPUTS, a.LABELS),
    "train": row(trained, a.STEPS, a.TRAINABLE, a.LISTS_OF_BATCHES, a.EPOCHS),
    "train_epoch": row(fn.train_epoch, a.STEPS, a.TRAINABLE, a.LISTS_OF_BATCHES),
    "train_step": row(then(keyed(fn.train_step, "shard_size"), 2, fn.train_epoch),
        a.LOSSES, a.seldom(st.none(), a.COUNTS, share=2), a.STATES, a.LISTS_OF_BATCHES),
    "train_together": row(trained_together, a.STEPS,
        a.mostly(st.lists(a.TRAINABLE, min_size=1, max_size=3) | st.sampled_from(a.NETS).map(lambda net: [net] * 3)),
        a.LISTS_OF_BATCHES, a.EPOCHS),
    "transformer_block": row(keyed(fn.transformer_block, "hidden", "causal", "dropout", "activation", "dtype"),
        a.KEYS, a.COUNTS, HEADS, st.none() | a.COUNTS, a.mostly(a.BOOLEANS), a.SHARES, a.NETWORKS, a.FLOAT_TYPES),
    "training": row(fn.training, a.NETWORKS, a.KEYS),
    "unroll": row(fn.unroll, UNROLLED, a.SEQUENCES, STATES),
    "value_and_grad": row(with_examples(fn.value_and_grad), a.TRAINABLE, a.EXAMPLES, a.LOSSES),
    "vjp": row(with_examples(pulled), a.TRAINABLE, a.WITH_GRADIENT),
    "windows": row(texts, a.LABELS, a.COUNTS, a.COUNTS, a.NO_KEYS),
}  # fmt: skip

NOT_CALLED: Final = {
    "arithmetic": "its functions get arrays that a layer or a loss has checked",
    **dict.fromkeys(["Array", "FloatDType", "Loss", "Mask", "Minibatches", "Network", "Optimizer"], "a type"),
    **dict.fromkeys(["Reducer", "Schedule", "Statistic", "Step", "Task", "Weight"], "a type"),
    **dict.fromkeys(["Layer", "Pullback"], "what a caller's own layers are made of"),
    **dict.fromkeys(["EpochLog", "Explanation", "GradientStatistics", "LayerReport", "NonFinite"], "a result"),
    **dict.fromkeys(["Divergence", "Environment", "Recheck", "Run", "RunRow", "Summary", "SummaryRow"], "a result"),
    "StepProgram": "a result",
    **dict.fromkeys(["register_elementwise", "register_layer", "register_name"], "changes what is registered"),
    "keep_programs": "changes what the process keeps",
    "whole": "takes a function of the caller's own",
    **dict.fromkeys(["first_divergence", "recheck"], "called in audited_train's row"),
    "portable": "in force in half of all calls",
    "selftest": "takes nothing, and a second",
    "SerialReducer": "takes nothing",
}
ERRORS: Final = {
    name for name in fn.__all__ if isinstance(getattr(fn, name), type) and issubclass(getattr(fn, name), Exception)
}


def test_every_public_name_has_a_row() -> None:
    """A new name is fuzzed, or says why not."""
    assert {*ROWS, *NOT_CALLED, *ERRORS} == set(fn.__all__)
    assert len(ROWS) + len(NOT_CALLED) + len(ERRORS) == len(fn.__all__)


def outcome(row: Row, arguments: list[object], arithmetic: Any) -> str:
    """Call: "a result", or the error's class; anything else, and any warning, is raised."""
    before = contents(arguments)
    with warnings.catch_warnings(), np.errstate(over="warn", invalid="warn", divide="warn"), using(arithmetic):
        warnings.simplefilter("error")
        try:
            row.call(*arguments)
        except fn.FuncnetError as error:
            found = type(error).__name__ if str(error) else "no message"
        except (OSError, MemoryError) as error:
            found = type(error).__name__
        else:
            found = "a result"
    assert contents(arguments) == before
    assert found != "no message"
    return found


def overflowing(x: Any) -> object:
    """A planted fault: NumPy warns."""
    return np.float32(3e38) * x


def changing(x: Any) -> object:
    """A planted fault: the argument is another one afterwards."""
    x[0] = 2
    return x


def lying(x: Any) -> object:
    """A planted fault: an error without a word."""
    raise fn.FuncnetError(x)


@pytest.mark.parametrize(
    ("call", "argument", "error"),
    [
        (len, 3, TypeError),
        (overflowing, np.ones(3, np.float32) * 100, RuntimeWarning),
        (changing, np.ones(3), AssertionError),
        (changing, [1, 2], AssertionError),
        (lying, "", AssertionError),
    ],
    ids=["exception", "warning", "array", "list", "no message"],
)
def test_planted_faults_are_found(call: Callable[..., object], argument: object, error: type[Exception]) -> None:
    """Another exception, a warning, a changed argument, an error that says nothing."""
    with pytest.raises(error):
        outcome(row(call), [argument], "native")


def test_whatever_is_no_setting_is_refused() -> None:
    """What drawn arguments met, once: numbers beyond any array, an array among words, no network, no step."""
    net, ids = fn.Dense(np.ones((1, 1)), np.ones(1)), np.zeros(1, np.int64)
    wrong: list[tuple[Callable[..., object], tuple[Any, ...]]] = [
        *((measured, ("f1", (ids, ids), {name: np.ones(3)})) for name in ("average", "zero_division")),
        (measured, ("f1", (ids, ids), {"classes": a.LARGE})),
        (fn.Parallel, ((net,), np.ones(3))),
        *((then(fn.join_schedules, 2), (*some, 0)) for some in [(None, ()), ((fn.constant(0.1),), None)]),
        *((fn.step_decay(0.1, step_size=1), (step,)) for step in ("x", -1, None)),
        *((optimizer.update, (net, net, optimizer.init(net), "x")) for optimizer in STEPPED),
        (fn.global_norm, (None,)),
        (fn.clip_by_global_norm, (None, 1.0)),
    ]
    for call, arguments in wrong:
        assert outcome(row(call), [*arguments], "native") in ("ConfigError", "StructureError"), call
    assert fn.step_decay(1, step_size=1, gamma=2**70)(1) == pytest.approx(2.0**70)


SLOW: Final = (HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much)
READERS: Final = ("datasets", "load", "load_arrays", "load_run", "read_notes")
"""Random bytes are no file: readers are fuzzed from good ones, in ``tools/fuzz``."""


@pytest.mark.slow
@pytest.mark.parametrize("name", ROWS)
def test_a_result_or_a_funcnet_error(name: str) -> None:
    """Never another exception, a warning or a changed argument; and not errors alone: some arguments are right."""
    arguments, found = st.tuples(*ROWS[name].arguments), set[str]()

    @settings(suppress_health_check=SLOW)
    @given(drawn=arguments, arithmetic=st.sampled_from(["native", "portable"]))
    def call(drawn: tuple[object, ...], arithmetic: str) -> None:
        found.add(outcome(ROWS[name], [*drawn], arithmetic))

    call()
    if "a result" not in found and name not in READERS:
        wanted = settings(max_examples=1000, phases=[Phase.generate], suppress_health_check=SLOW)
        same = Random(0)  # noqa: S311  # the same search each time
        find(
            arguments, lambda drawn: outcome(ROWS[name], [*drawn], "native") == "a result", settings=wanted, random=same
        )


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_layer_by_itself_overflows_only_where_its_result_does(case: Any) -> None:
    """``forward`` silences NumPy for whatever must be infinite; no layer has need of that at 1e4, forward or back."""
    layer = fn.astype(case.layer(), np.float32)
    x = case.x(3, np.float32) * (1 if case.ids else np.float32(1e4))
    rule = rule_of(layer)
    y = rule.forward(layer, x)
    assert np.isfinite(y).all()
    assert np.isfinite(rule.backward(layer, x, np.full_like(y, 1e4))[0]).all()


@pytest.mark.parametrize("number", [3e38, np.inf, -np.inf, np.nan])
def test_forward_and_backward_never_warn(number: float) -> None:
    """Whatever a caller's NumPy is told to do: what they compute depends on their arguments alone."""
    net = (fn.dense(KEY, 4, 3), fn.GELU(), fn.Residual(fn.Tanh()))
    x: fn.Array = np.full((2, 4), number, np.float32)
    with np.errstate(all="raise"):
        y = fn.forward(net, x)
        grad_x, grads = fn.backward(net, x, np.full_like(y, 1e38))
        fn.sgd_update(net, grads, learning_rate=1e30)
        fn.sgd_update(net, net, learning_rate=1e300)
    with np.errstate(all="ignore"):
        assert same_bits(y, fn.forward(net, x))
        assert same_bits(grad_x, fn.backward(net, x, np.full_like(y, 1e38))[0])
