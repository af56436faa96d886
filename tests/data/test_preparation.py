"""Preparation of data: held-out examples, one-hot rows, bytes to floats, and augmentation with keys."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from networks import inputs

import funcnet as fn
from funcnet.core.trees import same_bits
from funcnet.random import draws

KEY = fn.Key(61)
IMAGES = inputs(KEY, 8, 5, 6, 2, dtype=np.float32)
LABELS = np.arange(8)
AUGMENTATIONS: list[Any] = [fn.RandomShift(2), fn.RandomFlip(), fn.RandomNoise(0.1)]
every_augmentation = pytest.mark.parametrize("augment", AUGMENTATIONS, ids=repr)


@given(count=st.integers(2, 60), data=st.data())
def test_a_split_keeps_every_example_once(count: int, data: st.DataObject) -> None:
    """The two parts have the requested sizes and keep the order; inputs and targets stay together."""
    held = data.draw(st.integers(1, count - 1))
    x, y = np.arange(2.0 * count).reshape(count, 2), np.arange(count)
    stay, out = fn.split(x, y, held, key=KEY)
    assert len(out.y) == held
    assert sorted([*stay.y, *out.y]) == list(range(count))
    for part in (stay, out):
        assert (part.x[:, 0] == 2 * part.y).all()
        assert (np.diff(part.y) > 0).all()


def test_a_split_is_named_by_its_key() -> None:
    """The same key gives the same split; a fraction is rounded to a count."""
    x, y = np.zeros((10, 1)), np.arange(10)
    assert (fn.split(x, y, 3, key=KEY)[1].y == fn.split(x, y, 0.3, key=KEY)[1].y).all()
    assert (fn.split(x, y, 3, key=KEY)[1].y != fn.split(x, y, 3, key=KEY.child(1))[1].y).any()


@pytest.mark.parametrize("held_out", [0, 10, -1, 0.0, 1.0, 1.5, 0.01, float("nan"), True, "3", None, 2.5])
def test_a_split_leaves_something_on_both_sides(held_out: Any) -> None:
    """A split with an empty part is refused."""
    with pytest.raises(fn.ConfigError, match="held_out must be"):
        fn.split(np.zeros((10, 1)), np.arange(10), held_out, key=KEY)


def test_a_split_needs_one_length() -> None:
    """Inputs and targets must have the same length."""
    with pytest.raises(fn.ShapeError, match="x and y must have the same length"):
        fn.split(np.zeros((10, 1)), np.arange(9), 3, key=KEY)


@given(data=st.data())
def test_a_stratified_split_divides_each_class(data: st.DataObject) -> None:
    """Each class has its share, rounded down or up, and every example and its weight is in one part."""
    sizes = data.draw(st.lists(st.integers(2, 12), min_size=1, max_size=5))
    y = np.repeat(np.arange(len(sizes)) * 3 - 4, sizes)[draws.permutation(KEY.child("order"), sum(sizes))]
    held = data.draw(st.integers(len(sizes), sum(sizes) - len(sizes)))
    x, weight = np.arange(2.0 * len(y)).reshape(-1, 2), np.arange(len(y)) + 1.0
    stay, out = fn.split(x, y, held, key=KEY, stratify=True, weight=weight)
    assert len(out.y) == held
    for position, size in enumerate(sizes):
        share = held * size / len(y)
        assert abs(np.count_nonzero(out.y == position * 3 - 4) - share) < 1
    rows = [(part.x[:, 0] / 2).astype(np.intp) for part in (stay, out)]
    assert sorted(rows[0].tolist() + rows[1].tolist()) == list(range(len(y)))
    for part, chosen in zip((stay, out), rows, strict=True):
        assert part.weight is not None
        assert (np.diff(chosen) > 0).all()
        assert (part.y == y[chosen]).all()
        assert (part.weight == weight[chosen]).all()


@pytest.mark.parametrize(("sizes", "held"), [((50, 30, 20), 10), ((7, 11, 23), 13), ((2, 3, 90), 19), ((30, 2), 9)])
def test_a_stratified_split_has_the_counts_of_scikit_learn(sizes: tuple[int, ...], held: int) -> None:
    """The classes have the counts of ``train_test_split``; these have no equal remainders, which it draws at random."""
    selection = pytest.importorskip("sklearn.model_selection")
    y = np.repeat(np.arange(len(sizes)), sizes)
    wanted = selection.train_test_split(y, test_size=held, stratify=y, random_state=0)[1]
    found = fn.split(y[:, None] + 0.5, y, held, key=KEY, stratify=True)[1].y
    assert np.bincount(found, minlength=len(sizes)).tolist() == np.bincount(wanted, minlength=len(sizes)).tolist()


def test_equal_remainders_go_to_the_smaller_class() -> None:
    """Two of three equal classes get one more."""
    y = np.repeat([2, 0, 1], 4)
    assert np.bincount(fn.split(y[:, None] + 0.5, y, 5, key=KEY, stratify=True)[1].y).tolist() == [2, 2, 1]


def test_a_class_is_drawn_by_its_own_key() -> None:
    """A class's draw depends on its rank, its size and its share alone, and has the permanent key of its rank."""
    y = np.array([1, 0, 0, 1, 0, 1, 0, 1])
    out = fn.split(np.arange(8.0)[:, None], y, 4, key=KEY, stratify=True)[1].x[:, 0]
    for name in (0, 1):
        drawn = np.flatnonzero(y == name)[draws.permutation(KEY.child("class", name), 4)[:2]]
        assert sorted(drawn) == out[y[out.astype(int)] == name].tolist()
    flags = fn.split(np.arange(8.0)[:, None], np.arange(8) / 2, 0.5, key=KEY, stratify=y == 1)[1].x[:, 0]
    assert same_bits(flags, out)


def test_a_split_takes_tuples_and_weights_of_the_targets() -> None:
    """Each array and the weights lose the same rows, and the inputs are locked."""
    x, y = (np.arange(20.0).reshape(10, 2), np.arange(10)), (np.arange(10) % 2, np.arange(10.0)[:, None])
    for part in fn.split(x, y, 4, key=KEY, stratify=y[0], weight=np.arange(10) + 1.0):
        ids = part.x[1]
        assert (part.x[0] == x[0][ids]).all()
        assert (part.y[0] == ids % 2).all()
        assert (part.y[1][:, 0] == ids).all()
        assert part.weight is not None
        assert part.weight.tolist() == (ids + 1.0).tolist()
        assert not any(array.flags.writeable for array in (*part.x, part.weight))
    mask = np.ones((10, 2))
    assert [part.weight.shape for part in fn.split(x[0], mask, 4, key=KEY, weight=mask) if part.weight is not None] == [
        (6, 2),
        (4, 2),
    ]


STRATIFIED: list[tuple[dict[str, Any], type[fn.FuncnetError], str]] = [
    (
        {"stratify": np.array([0, 0, 0, 0, 1])},
        fn.ConfigError,
        "each class must have at least 2 examples, got 1 of class 1; merge it with another class, or leave it out",
    ),
    (
        {"held_out": 1, "stratify": np.array([0, 0, 0, 1, 1])},
        fn.ConfigError,
        "held_out must leave each part at least as many examples as there are classes, 2, got parts of 4 and 1",
    ),
    (
        {"stratify": True},
        fn.DTypeError,
        "y must be classes for a stratified split, got float64; use y.astype(np.int64)",
    ),
    (
        {"y": (np.arange(5), np.arange(5)), "stratify": True},
        fn.DTypeError,
        "y must be one array of classes, got a tuple; pass the classes: stratify=...",
    ),
    (
        {"stratify": np.zeros((5, 2), np.int64)},
        fn.ShapeError,
        "stratify must have shape (5,), one class per row, for a stratified split, got (5, 2)",
    ),
    (
        {"stratify": "y"},
        fn.DTypeError,
        "stratify must be a plain NumPy array of class ids, got str; use np.asarray(stratify)",
    ),
    ({"weight": np.ones(4)}, fn.ShapeError, "weight must have shape (5,), got (4,)"),
]


@pytest.mark.parametrize(("settings", "kind", "message"), STRATIFIED)
def test_a_split_says_what_is_wrong(settings: dict[str, Any], kind: type[fn.FuncnetError], message: str) -> None:
    """The test compares the whole message."""
    arguments: dict[str, Any] = {"x": np.zeros((5, 1)), "y": np.arange(5.0), "held_out": 2, "key": KEY}
    with pytest.raises(kind) as caught:
        fn.split(**arguments | settings)
    assert str(caught.value) == f"split: {message}"


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_one_hot_rows_have_one_one(dtype: fn.FloatDType) -> None:
    """The 1 is at the position of the label."""
    labels = np.array([0, 2, 1, 2], np.uint8)
    rows = fn.one_hot(labels, 3, dtype=dtype)
    assert rows.dtype == dtype
    assert rows.shape == (4, 3)
    assert (rows.argmax(axis=1) == labels).all()
    assert (rows.sum(axis=1) == 1).all()
    with pytest.raises(fn.LabelError, match=r"labels must be in 0..1, got labels\[1\] = 2"):
        fn.one_hot(labels, 2)
    of_positions = fn.one_hot(labels.reshape(2, 2), 3, dtype=dtype)
    assert same_bits(of_positions, rows.reshape(2, 2, 3))
    assert not of_positions.flags.writeable
    with pytest.raises(fn.ShapeError, match=r"labels must have shape \(4,\), .* got \(4, 1\); use labels\[:, 0\]$"):
        fn.one_hot(labels[:, None], 3)


def test_scaled_images_are_from_0_to_1() -> None:
    """Every byte is divided by 255 in float32; other types are refused."""
    pixels = np.arange(256, dtype=np.uint8).reshape(1, 256)
    given: Any = pixels
    batch = fn.Batch(given, np.array([0]))
    assert same_bits(fn.scale_images(batch).x[0], np.arange(256, dtype=np.float32) / np.float32(255))
    scaled = fn.scale_images(pixels)
    assert same_bits(scaled, fn.scale_images(batch).x)
    assert not scaled.flags.writeable
    with pytest.raises(fn.DTypeError, match="x must be uint8"):
        fn.scale_images(fn.scale_images(batch))
    with pytest.raises(fn.ShapeError, match="scale_images: x must have shape"):
        fn.scale_images(fn.Batch(given[0, 0, ...], batch.y))


# ---------------------------------------------------------------------------------------------- augmentation


@every_augmentation
def test_an_augmentation_is_a_pure_function_of_key_and_batch(augment: Any) -> None:
    """The bits depend only on the key; the shape, dtype and labels stay the same, and no argument changes."""
    batch, before = fn.Batch(IMAGES, LABELS), IMAGES.tobytes()
    first = augment(KEY, batch)
    assert same_bits(first.x, augment(KEY, batch).x)
    assert not same_bits(first.x, augment(KEY.child(1), batch).x)
    assert (first.x.shape, first.x.dtype, first.y is LABELS) == (IMAGES.shape, IMAGES.dtype, True)
    assert first.x.flags.c_contiguous
    assert IMAGES.tobytes() == before


def test_a_shift_moves_whole_images() -> None:
    """Each image has its own offsets within the limit, and is filled with 0."""
    image = np.zeros((200, 9, 9, 1))
    image[:, 4, 4] = 1
    moved = fn.RandomShift(2)(KEY, fn.Batch(image, np.zeros(200))).x[..., 0]
    _, rows, columns = np.nonzero(moved)
    assert len(rows) == 200
    assert {(int(r), int(c)) for r, c in zip(rows, columns, strict=True)} == {
        (r, c) for r in range(2, 7) for c in range(2, 7)
    }
    assert same_bits(fn.RandomShift(0)(KEY, fn.Batch(IMAGES, LABELS)).x, IMAGES)


def test_a_flip_mirrors_a_share() -> None:
    """Each image is either unchanged or mirrored."""
    images = inputs(KEY, 400, 2, 3, 1)
    flipped = fn.RandomFlip(0.25)(KEY, fn.Batch(images, np.zeros(400))).x
    same = (flipped == images).all(axis=(1, 2, 3))
    assert ((flipped == images[:, :, ::-1]).all(axis=(1, 2, 3)) ^ same).all()
    assert 1 - same.mean() == pytest.approx(0.25, abs=0.06)


def test_noise_has_its_deviation() -> None:
    """The noise has mean 0 and the given standard deviation."""
    noise = fn.RandomNoise(0.5)(KEY, fn.Batch(np.zeros((100, 200)), np.zeros(100))).x
    assert noise.mean() == pytest.approx(0, abs=0.01)
    assert noise.std() == pytest.approx(0.5, abs=0.01)


@every_augmentation
def test_minibatches_augment_by_their_key(augment: Any) -> None:
    """Every iteration gives the same batches, each batch has a different draw, and a slice equals part of the whole."""
    same = np.tile(IMAGES[:1], (8, 1, 1, 1))
    batches = fn.minibatches(same, LABELS, 2, key=KEY, augment=augment)
    first = [batch.x for batch in batches]
    assert all(same_bits(a, b.x) for a, b in zip(first, batches, strict=True))
    assert not all(same_bits(first[0], other) for other in first[1:])
    assert all(same_bits(a, b.x) for a, b in zip(first[2:], batches[2:], strict=True))
    with pytest.raises(fn.ConfigError, match=r"augment needs a key; pass key=Key\(seed\)"):
        fn.minibatches(same, LABELS, 2, augment=augment)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: fn.RandomShift(-1), "RandomShift: pixels must be"),
        (lambda: fn.RandomShift(2**70), "RandomShift: pixels must be"),
        (lambda: fn.RandomFlip(1.5), "RandomFlip: rate must be"),
        (lambda: fn.RandomNoise(0.0), "RandomNoise: deviation must be"),
        (lambda: fn.RandomShift(1)(KEY, fn.Batch(np.zeros((2, 4)), LABELS[:2])), "RandomShift: x must have shape"),
        (lambda: fn.RandomFlip()(KEY, fn.Batch(np.zeros((2, 4)), LABELS[:2])), "RandomFlip: x must have shape"),
    ],
)
def test_bad_augmentations_are_refused(make: Any, message: str) -> None:
    """The message has the field and the valid range."""
    with pytest.raises(fn.FuncnetError, match=message):
        make()


# ---------------------------------------------------------------------------------------------------- memory

MNIST = Path(os.environ.get("FUNCNET_DATA", "")) / "mnist"
MEASURED = """
import sys
import funcnet as fn

def peak():  # VmHWM covers this program alone; getrusage also counts the process that it was forked from
    return next(int(line.split()[1]) / 1024 for line in open("/proc/self/status") if line.startswith("VmHWM"))

imported = peak()
{body}
print(peak() - imported, right)
"""
TRAINED = """
data = fn.datasets.load_mnist(sys.argv[1], scale=False)
key = fn.Key(0)
net = fn.mlp(key, (784, 100, 200, 10))
step = fn.sgd_step(fn.softmax_cross_entropy, learning_rate=0.1)
batches = fn.minibatches(data.train.x, data.train.y, 32, key=key, transform=fn.scale_images)
net, log = fn.train_epoch(step, net, batches)
held_out = fn.minibatches(data.validation.x, data.validation.y, 500, transform=fn.scale_images)
right = sum(fn.accuracy(fn.predict(net, batch.x, fn.Multiclass()), batch.y) for batch in held_out) / len(held_out)
"""
LOADED = """
data, right = fn.datasets.load_mnist(sys.argv[1]), 0
"""


def megabytes_and_accuracy(body: str) -> tuple[float, float]:
    """Return a program's peak memory above the import of funcnet, in MiB, and the accuracy that it prints."""
    command = [sys.executable, "-c", MEASURED.format(body=body), str(MNIST.absolute())]
    memory, right = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return float(memory), float(right)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
@pytest.mark.skipif(
    "FUNCNET_DATA" not in os.environ or not MNIST.is_dir(), reason="FUNCNET_DATA has no mnist directory"
)
def test_mnist_is_trained_in_under_100_mb() -> None:
    """Training stays below 100 MB above the import with images as bytes, and learns; images as floats take more."""
    memory, right = megabytes_and_accuracy(TRAINED)
    assert memory < 100_000_000 / 2**20
    assert right > 0.93
    assert megabytes_and_accuracy(LOADED)[0] > 60_000 * 784 * 4 / 2**20
