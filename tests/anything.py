"""What public functions are fuzzed with: hypothesis strategies of arrays, networks and settings, right and wrong."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

import attrs
import numpy as np
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from networks import CASES, KEY
from numpy.typing import NDArray

import funcnet as fn

AnyArray = NDArray[Any]
Anything = st.SearchStrategy[Any]

# -------------------------------------------------------------------------------------------------- arrays

EXTREMES: Final = (0.0, -0.0, 1.0, -1.0, 0.5, 1e-3, 1e4, -1e4, 3e38, -3e38, 1e-38, 1e-45, 88.8, -104.0)
NOT_FINITE: Final = (math.nan, math.inf, -math.inf)
FLOATS: Final = (np.dtype(np.float32), np.dtype(np.float64))
DTYPES: Final = tuple(
    map(np.dtype, "f2 >f4 >f8 g F D ? i1 u1 i4 i8 u8 >i4 O U3 S2 M8[s] m8[D] V3".split()),  # noqa: SIM905
)
ROWS: Final = st.integers(0, 4)
FEATURES: Final = 4
CLASSES: Final = 3


def numbers(dtype: np.dtype[Any], *, finite: bool = False) -> Anything:
    """Elements of a dtype of floats: usual, extreme, and not finite."""
    top = float(np.finfo(dtype).max)
    least = float(np.finfo(dtype).smallest_subnormal)
    chosen = [float(dtype.type(number)) for number in (*EXTREMES, top, -top, least)]
    usual = st.floats(-4, 4, width=16)
    extreme = st.sampled_from(chosen)
    return st.one_of(usual, usual, extreme) if finite else st.one_of(usual, extreme, st.sampled_from(NOT_FINITE))


def locked(array: AnyArray) -> AnyArray:
    """Read-only."""
    copy = array.copy()
    copy.flags.writeable = False
    return copy


def gapped(array: AnyArray) -> AnyArray:
    """With a gap after each element of the last axis."""
    return np.repeat(array, 2, axis=-1)[..., ::2] if array.ndim else array


def unaligned(array: AnyArray) -> AnyArray:
    """At an address that is no multiple of its elements' size."""
    if array.dtype.hasobject:
        return array
    memory = np.zeros(array.nbytes + 1, np.uint8)[1:]
    copy = memory.view(array.dtype) if array.size else np.zeros(0, array.dtype)
    copy = copy.reshape(array.shape)
    copy[...] = array
    return copy


def one_row(array: AnyArray) -> AnyArray:
    """All rows in the memory of the first one."""
    return np.broadcast_to(array[:1], array.shape) if array.ndim else array


LAYOUTS: Final[tuple[Callable[[AnyArray], AnyArray], ...]] = (
    lambda array: array,
    lambda array: array,
    locked,
    np.asfortranarray,
    lambda array: np.ascontiguousarray(np.flip(array))[(slice(None, None, -1),) * array.ndim],
    gapped,
    unaligned,
    one_row,
)


def floats(shape: Anything) -> Anything:
    """Arrays of float32, seldom float64, of a shape, in any layout."""
    return st.tuples(st.integers(0, 7), shape, st.booleans(), st.sampled_from(LAYOUTS)).flatmap(in_layout)


def in_layout(drawn: tuple[int, tuple[int, ...], bool, Callable[[AnyArray], AnyArray]]) -> Anything:
    """Arrays of this shape and layout, of finite numbers or any; float64 for a 0."""
    kind, shape, finite, layout = drawn
    dtype = FLOATS[not kind]
    return arrays(dtype, shape, elements=numbers(dtype, finite=finite)).map(layout)


def wild_array(dtype: np.dtype[Any], shape: tuple[int, ...]) -> AnyArray:
    """An array of any dtype, whose elements are whatever fits."""
    array = np.zeros(shape, dtype)
    if dtype.kind in "fciub" and array.size:
        array.flat[0] = 1
    return array


WILD_ARRAYS: Final = st.one_of(
    floats(array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5)),
    st.tuples(st.sampled_from(DTYPES), array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)).map(
        lambda pair: wild_array(*pair)
    ),
)
NO_ARRAYS: Final[Anything] = st.sampled_from([
    [[1.0, 2.0, 3.0, 4.0]], (1.0,), None, 1.0, "x", np.float32(1),
    np.ma.masked_less(np.ones((2, FEATURES), np.float32), 0),
    np.ones((2, FEATURES), np.float32).view(np.recarray),
])  # fmt: skip
SHAPES: Final = st.one_of(
    ROWS.map(lambda rows: (rows, FEATURES)), st.tuples(ROWS, st.just(3), st.just(2), st.just(FEATURES))
)


def seldom(usual: Anything, *others: Anything, share: int = 9) -> Anything:
    """The usual strategy, and one time in ``share + 1`` one of the others."""
    return st.integers(0, share).flatmap(lambda n: usual if n else st.one_of(*others))


def arrays_like(*usual: Anything) -> Anything:
    """Arrays of these strategies, and seldom anything."""
    return seldom(st.one_of(*usual), WILD_ARRAYS, NO_ARRAYS)


INPUTS: Final = arrays_like(*[floats(ROWS.map(lambda rows: (rows, FEATURES)))] * 3, floats(SHAPES))
LOGITS: Final = arrays_like(floats(ROWS.map(lambda rows: (rows, CLASSES))))
LABELS: Final = arrays_like(
    *[arrays(np.int64, ROWS, elements=st.integers(0, CLASSES - 1))] * 2,
    arrays(st.sampled_from(["i1", "u1", ">i4", "u8"]), ROWS, elements=st.integers(0, 3)),
    arrays(np.int64, ROWS, elements=st.sampled_from([-1, -100, 0, 2**62, -(2**63)])),
)
WEIGHTS: Final = arrays_like(floats(st.tuples(st.just(FEATURES), st.integers(2, 3))))
VECTORS: Final = arrays_like(*[floats(st.just((FEATURES,)))] * 9, floats(st.sampled_from([(3,), (0,), (1,)])))
BIASES: Final = arrays_like(*[floats(st.just((CLASSES,)))] * 3, floats(st.just((2,))))
IMAGES: Final = arrays_like(floats(st.tuples(ROWS, st.just(3), st.just(2), st.just(1))))
SIGNALS: Final = arrays_like(floats(st.tuples(ROWS, st.just(4), st.just(1))))
SEQUENCES: Final = arrays_like(floats(st.tuples(ROWS, st.integers(0, 3), st.just(FEATURES))))
IDS_OF_STEPS: Final = arrays_like(arrays(np.int64, st.tuples(ROWS, st.integers(0, 3)), elements=st.integers(0, 3)))
MASKS: Final = st.none() | arrays_like(
    arrays(np.float32, st.tuples(ROWS, st.integers(1, 3)), elements=st.sampled_from([0.0, 1.0])),
    floats(st.tuples(ROWS, st.integers(1, 3))),
)
BYTES: Final = arrays_like(arrays(np.uint8, st.tuples(ROWS, st.just(FEATURES))), INPUTS)


def pairs(y: Callable[[int], Anything]) -> Anything:
    """Inputs and something of as many rows; at times, two things that do not fit."""
    fitting = st.integers(1, 4).flatmap(lambda rows: st.tuples(floats(st.just((rows, FEATURES))), y(rows)))
    return seldom(fitting, st.tuples(INPUTS, seldom(LABELS, LOGITS)), share=5)


def labels_of(rows: int) -> Anything:
    """Class ids."""
    return arrays(st.sampled_from([np.int64, np.uint8]), rows, elements=st.integers(0, CLASSES - 1))


def gradients_of(rows: int) -> Anything:
    """Gradients by logits."""
    return floats(st.just((rows, CLASSES)))


EXAMPLES: Final = pairs(labels_of)
WITH_GRADIENT: Final = pairs(gradients_of)
PREDICTIONS: Final = seldom(
    st.integers(1, 4).flatmap(lambda rows: st.tuples(gradients_of(rows), labels_of(rows))),
    st.tuples(LOGITS, LABELS),
    share=4,
)


def examples_of(shape: tuple[int, ...]) -> Anything:
    """Predictions, targets of the same shape and dtype, and weights of rows, positions or elements, or none."""
    dtype = FLOATS[0]
    usual = st.sampled_from([(-1.0, 1.0), (0.0, 1.0, 0.5), (0.0, 2.0, 7.0), (-4.0, 2.0**127, math.inf)])
    targets = usual.flatmap(lambda some: arrays(dtype, shape, elements=st.sampled_from(some)))
    weights = st.none() | st.integers(1, len(shape)).flatmap(lambda axes: weights_of(shape[:axes]))
    return st.tuples(arrays(dtype, shape, elements=numbers(dtype, finite=True)), targets, weights)


def weights_of(shape: tuple[int, ...]) -> Anything:
    """Weights of a shape."""
    return arrays(FLOATS[0], shape, elements=st.sampled_from([0.0, 1.0, 0.5, 2.0**127]))


def positions_of(rows: int) -> Anything:
    """Logits of two positions per row, class ids or shares, and weights of rows or positions, or none."""
    shape, dtype = (rows, 2, CLASSES), FLOATS[0]
    ids = arrays(st.sampled_from([np.int64, np.uint8, np.int8]), shape[:2], elements=st.sampled_from([0, 1, 2, 3, 100]))
    shares = arrays(dtype, shape, elements=st.sampled_from([0.0, 0.5, 1.0, 7.0, -1.0, math.inf]))
    weights = st.none() | st.integers(1, 2).flatmap(lambda axes: weights_of(shape[:axes]))
    return st.tuples(arrays(dtype, shape, elements=numbers(dtype, finite=True)), ids | shares, weights)


POSITIONS: Final = st.integers(1, 3).flatmap(positions_of)


TARGETS: Final = seldom(
    st.tuples(st.integers(1, 4), st.sampled_from([(), (CLASSES,), (2, CLASSES)])).flatmap(
        lambda pair: examples_of((pair[0], *pair[1]))
    ),
    st.tuples(LOGITS, LOGITS, st.none() | VECTORS),
    share=4,
)
IDS: Final = seldom(
    st.integers(1, 4).flatmap(lambda rows: st.tuples(labels_of(rows), labels_of(rows))), st.tuples(LABELS, LABELS)
)
KERNELS: Final = arrays_like(floats(st.tuples(st.integers(1, 2), st.integers(1, 2), st.just(1), st.just(CLASSES))))
STEP_KERNELS: Final = arrays_like(floats(st.tuples(st.integers(1, 3), st.just(1), st.just(CLASSES))))

# ------------------------------------------------------------------------------------------------ settings

LARGE: Final = 2**70
JUNK: Final[Anything] = st.sampled_from([
    None, True, -1, LARGE, 1.5, math.nan, "x", "\ud800", b"x", (), [1], {}, object(),
    np.float32(1), np.ones(3), fn.ReLU, fn.ReLU(), KEY, fn.SGD(0.1),
])  # fmt: skip


NO_FUNCTIONS: Final = JUNK.filter(lambda value: not callable(value))


def mostly(usual: Anything) -> Anything:
    """The usual, and seldom anything else."""
    return seldom(usual, JUNK)


COUNTS: Final = mostly(st.integers(0, 4))
RATES: Final = mostly(st.sampled_from([0.1, 0.5, 0.0, 1e-30, 1, 1e30, 1e300, math.inf, -0.1, 10**400]))
FEW: Final = seldom(st.integers(0, 4), JUNK.filter(lambda value: value is not LARGE))
"""Counts of what takes its time."""
SHARES: Final = mostly(st.sampled_from([0.1, 0.5, 0.9, 0.0, 5e-324]))
KEYS: Final = mostly(st.sampled_from([KEY, fn.Key(2**64 - 1, (2**32 - 1,))]))
NO_KEYS: Final = st.one_of(st.none(), KEYS)
FLOAT_TYPES: Final = mostly(st.sampled_from([np.float32, np.float64, np.float16, np.dtype(np.float32), int]))
BOOLEANS: Final = st.booleans()


def not_a_number(_: int) -> float:
    """A schedule without a rate."""
    return math.nan


PAIRS: Final = mostly(st.sampled_from([1, 2, (1, 2), (2, 1), 3, 0, (1, -1), (1, 2, 3), (LARGE, 1)]))
PADDINGS: Final = mostly(
    st.sampled_from(["valid", "same", 0, 1, (1, 0), ((0, 1), (1, 0)), "full", ((1, 2), 3), LARGE, ((0, LARGE), (0, 0))])
)
STEP_PADDINGS: Final = mostly(st.sampled_from(["valid", "same", "causal", 0, 1, (0, 2), (1, -1), "full", LARGE]))
GROUPS: Final = mostly(st.sampled_from([1, 1, 1, 2]))
SCHEDULES: Final = mostly(
    st.sampled_from([
        fn.constant(0.1),
        fn.step_decay(0.1, step_size=2, gamma=0.5),
        fn.step_decay(0.1, step_size=1, gamma=1e300),
        fn.linear_warmup(0.1, steps=3),
        fn.exponential_decay(0.1, gamma=0.5, steps=3),
        fn.cosine_decay(0.1, steps=2),
        fn.one_cycle(0.1, steps=3),
        fn.piecewise_constant([0.1, 0], [2]),
        not_a_number,
        str,
    ])
)  # fmt: skip
RATES_OR_SCHEDULES: Final = st.one_of(RATES, SCHEDULES)

# ------------------------------------------------------------------------------------------------ networks


def extreme_dense(top: float, out_size: int) -> fn.Dense:
    """A Dense layer with numbers of this size."""
    weight = np.where(np.eye(FEATURES, out_size) > 0, top, -top).astype(np.float32)
    return fn.Dense(weight, np.full(out_size, top, np.float32))


LAYERS: Final[list[Any]] = [fn.astype(case.layer(), np.float32) for case in CASES] + [
    case.layer() for case in CASES[:2]
]
NETS: Final[list[Any]] = [
    (fn.dense(KEY, FEATURES, 5), fn.ReLU(), (fn.dense(KEY.child(1), 5, CLASSES),)),
    (fn.dense(KEY, FEATURES, CLASSES), fn.Dropout(0.5)),
    (fn.batch_norm(FEATURES), fn.dense(KEY, FEATURES, CLASSES)),
    (fn.layer_norm(FEATURES), fn.Residual((fn.Tanh(),)), fn.dense(KEY, FEATURES, CLASSES)),
    *((extreme_dense(top, CLASSES),) for top in (1e-45, 1e19, 3e38, math.inf, math.nan)),
    (extreme_dense(3e38, FEATURES), fn.Softplus(), extreme_dense(3e38, CLASSES)),
    fn.astype((fn.dense(KEY, FEATURES, CLASSES),), np.float64),
    (),
    ((), (fn.Identity(),)),
]
NO_NETWORKS: Final[list[Any]] = [None, fn.ReLU, [fn.ReLU()], (fn.ReLU(), None), "relu", 3, np.ones(3, np.float32)]
NETWORKS: Final = seldom(st.one_of(st.sampled_from(NETS), st.sampled_from(LAYERS)), st.sampled_from(NO_NETWORKS))
TRAINABLE: Final = seldom(st.sampled_from(NETS), NETWORKS)
LOSSES: Final = seldom(st.just(fn.softmax_cross_entropy), NO_FUNCTIONS)
GOOD_OPTIMIZERS: Final[list[Any]] = [
    *(kind(rate) for kind in (fn.SGD, fn.Momentum, fn.Nesterov) for rate in (0.1, 1e30, 1e300)),
    *(kind(rate) for kind in (fn.Adam, fn.AdamW, fn.NAdam, fn.Lion, fn.Adagrad) for rate in (0.1, 1e30, 1e300)),
    *(fn.RMSprop(rate, momentum=0.5, centered=True) for rate in (0.1, 1e30, 1e300)),
    fn.SGD(fn.step_decay(0.1, step_size=1, gamma=1e300)),
    fn.ClipByValue(fn.SGD(0.1), 1e-3),
    fn.ClipByGlobalNorm(fn.Momentum(0.1), 1e300),
    fn.WeightDecay(fn.SGD(1e30), 1e30),
    fn.WeightDecay(fn.Adam(0.1, amsgrad=True, eps_hat=True), 0.1, coupled=True),
    fn.Accumulation(fn.Adam(0.1), 2),
    fn.Averaging(fn.Nesterov(1e30), 0.5),
]
OPTIMIZERS: Final = mostly(st.sampled_from(GOOD_OPTIMIZERS))


def batch(x: Any, y: Any, weight: Any) -> Any:
    """A batch of anything."""
    return fn.Batch(x, y, weight)


def batches_of(rows: int) -> Anything:
    """Good batches of the given number of rows."""
    return st.builds(
        batch,
        floats(st.just((rows, FEATURES))),
        arrays(np.int64, rows, elements=st.integers(0, CLASSES - 1)),
        st.none(),
    )


GOOD_BATCHES: Final = ROWS.flatmap(batches_of)
BATCHES: Final = seldom(
    GOOD_BATCHES, st.builds(batch, INPUTS, LABELS, seldom(st.none(), VECTORS, share=3)), JUNK, share=4
)
IMAGE_BATCHES: Final = mostly(st.builds(batch, IMAGES, LABELS, st.none()))


def step_of(rate: Any, shards: Any) -> Any:
    """A step of plain descent."""
    return fn.sgd_step(fn.softmax_cross_entropy, learning_rate=rate, shard_size=shards)


def state_of(net: Any, optimizer: Any, step: Any) -> Any:
    """A state after the given number of steps."""
    return attrs.evolve(fn.TrainState.create(net, optimizer, key=KEY), step=step)


STEPS: Final = seldom(
    st.builds(step_of, st.sampled_from([0.1, 1e30]), st.sampled_from([None, None, 2])),
    NO_FUNCTIONS,
)
STATES: Final = mostly(
    st.builds(
        state_of,
        st.sampled_from(NETS),
        st.sampled_from(GOOD_OPTIMIZERS),
        st.sampled_from([0, 3, 2**32 - 1]),
    )
)
LISTS_OF_BATCHES: Final = mostly(st.lists(BATCHES, max_size=3))
EPOCHS: Final = mostly(st.sampled_from([range(2), (), (0, 3), (2, 1), range(3, 4)]))


# ------------------------------------------------------------------------------------------------- content


def contents(value: object) -> list[object]:
    """Every array inside a value as dtype, shape, strides and bytes; every list and dictionary by what is in it."""
    inside: Any = value
    if isinstance(value, np.ndarray):
        shown = repr(inside.tolist()) if inside.dtype.hasobject else inside.tobytes()
        return [(inside.dtype, inside.shape, inside.strides, inside.flags.writeable, shown)]
    if isinstance(value, tuple | list):
        return [type(inside), *(part for inner in inside for part in contents(inner))]
    if attrs.has(type(value)):
        return [part for a in inside.__attrs_attrs__ for part in contents(getattr(value, a.name))]
    return [repr(value)]
