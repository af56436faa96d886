"""Memory maps: every function takes a file's array as it takes the array, and no record keeps the map's type."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Literal, cast

import numpy as np
import pytest
from test_copies import pickled, same

import funcnet as fn
from funcnet.core.arrays import AnyArray, is_canonical
from funcnet.core.records import evolve
from funcnet.core.trees import leaves

Mode = Literal["r", "r+", "c"]

KEY: Final = fn.Key(3)
NET: Final = (fn.dense(KEY, 5, 6), fn.Tanh(), fn.dense(KEY.child(1), 6, 3))
X: Final = np.linspace(-1, 1, 200, dtype=np.float32).reshape(40, 5)
LABELS: Final = np.arange(40) % 3
BYTES: Final = (np.arange(200) % 256).astype(np.uint8).reshape(40, 5)
LOSS: Final = fn.softmax_cross_entropy
STEP: Final = fn.sgd_step(LOSS, learning_rate=0.5)

FUNCTIONS: Final[dict[str, Callable[[Any, Any], object]]] = {
    "forward": lambda x, _: fn.forward(NET, x),
    "forward of nothing": lambda x, _: fn.forward((), x),
    "forward of a view": lambda x, _: fn.forward((fn.Flatten(), fn.Reshape((5, 1))), x),
    "activations": lambda x, _: fn.activations(NET, x),
    "backward": lambda x, _: fn.backward(fn.Tanh(), x, x),
    "value_and_grad": lambda x, y: [fn.value_and_grad(NET, x, y, LOSS) for _ in range(4)],
    "a target": lambda x, _: fn.value_and_grad(fn.Tanh(), x, x, fn.mean_squared_error),
    "a weight": lambda x, y: fn.value_and_grad(NET, x, y, LOSS, abs(x[:, 0])),
    "predict": lambda x, _: fn.predict(NET, x, fn.Multiclass()),
    "predict, rowwise": lambda x, _: fn.predict(NET, x, fn.Multiclass(), rowwise=True),
    "predict_proba": lambda x, _: fn.predict_proba(NET, x, fn.Multiclass()),
    "evaluate": lambda x, y: fn.evaluate(NET, x, y, LOSS),
    "calibrate": lambda x, _: fn.calibrate(fn.batch_norm(5), x),
    "standardize": lambda x, _: fn.standardize(x),
    "split": lambda x, y: fn.split(x, y, 0.25, key=KEY),
    "one_hot": lambda _, y: fn.one_hot(y, 3),
    "accuracy": lambda _, y: fn.accuracy(y, LABELS),
    "a layer": lambda x, _: fn.Dense(x, x[0]),
    "a network": lambda x, _: fn.forward(fn.Dense(x, x[0]), np.ones((2, 40), np.float32)),
    "an equal field": lambda x, _: evolve(fn.Dense(X[:6], X[0]), weight=x[6:12]),
    "a batch": fn.Batch,
    "a batch of two inputs": lambda x, y: fn.Batch((x, x), y),
    "minibatches": lambda x, y: list(fn.minibatches(x, y, 16)),
    "minibatches with a key": lambda x, y: list(fn.minibatches(x, y, 16, key=KEY)),
    "two targets": lambda x, y: list(fn.minibatches(x, (x, y), 16)),
    "train_epoch": lambda x, y: fn.train_epoch(STEP, NET, fn.minibatches(x, y, 8))[0],
    "train_epoch on batches": lambda x, y: fn.train_epoch(
        STEP, NET, [fn.Batch(x[i : i + 8], y[i : i + 8]) for i in range(0, 40, 8)]
    )[0],
    "fingerprint": lambda x, y: [fn.fingerprint(value) for value in (x, y, fn.Batch(x, y))],
}


def mapped(folder: Path, array: AnyArray, mode: Mode = "r") -> Any:
    """Save an array and return the memory map of its file."""
    np.save(folder / "array.npy", array)
    made = np.load(folder / "array.npy", mmap_mode=mode)
    assert type(made) is np.memmap
    return made


@pytest.mark.parametrize("mode", ["r", "r+", "c"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_memory_map_is_an_array(name: str, mode: Mode, tmp_path: Path) -> None:
    """The result has the bits and the types of the result for the array."""
    function, (one, two) = FUNCTIONS[name], (tmp_path / "x", tmp_path / "y")
    one.mkdir()
    two.mkdir()
    assert same(function(mapped(one, X, mode), mapped(two, LABELS, mode)), function(X, LABELS))


def test_bytes_of_a_file(tmp_path: Path) -> None:
    """Images can remain in their file until a transform converts the rows of a batch."""
    images = mapped(tmp_path, BYTES)
    wanted: fn.Array = fn.scale_images(BYTES)
    scale = cast("Any", fn.scale_images)
    assert same(cast("object", scale(images)), wanted)
    batches = fn.minibatches(images, LABELS, 16, transform=fn.scale_images)
    assert np.shares_memory(batches.x, images)
    assert same(list(batches), list(fn.minibatches(wanted, LABELS, 16)))


@pytest.mark.parametrize("mode", ["r", "r+", "c"])
def test_a_record_shares_only_read_only_memory(mode: Mode, tmp_path: Path) -> None:
    """A record holds a locked array: over a file's memory only if this process cannot write to it."""
    weight = mapped(tmp_path, X, mode)
    weight.flags.writeable = False  # locks this array, not the file's memory
    layer = fn.Dense(weight, X[0])
    assert np.shares_memory(layer.weight, weight) == (mode == "r")
    assert not layer.weight.flags.writeable
    assert is_canonical(layer.weight)
    assert same(pickled(layer), layer)


@pytest.mark.parametrize("kind", [np.matrix, np.ma.MaskedArray])
def test_other_subclasses_are_refused(kind: type[AnyArray]) -> None:
    """A matrix multiplies by other rules, and a masked array has no value under its mask."""
    given: Any = X.view(kind)
    calls: tuple[Callable[[], object], ...] = (
        lambda: fn.forward(NET, given),
        lambda: fn.Dense(given, X[0]),
        lambda: fn.minibatches(given, LABELS, 2),
    )
    for call in calls:
        with pytest.raises(fn.DTypeError, match="must be a plain NumPy array"):
            call()


def described(net: tuple[fn.Dense, fn.Dense], batches: Any) -> tuple[str, str, list[bool]]:
    """Return the fingerprints of a network and of its gradient, and whether the network's arrays are plain."""
    gradient = fn.value_and_grad(net, batches[0].x, batches[0].y, LOSS)[1]
    return fn.fingerprint(net), fn.fingerprint(gradient), [type(leaf.array) is np.ndarray for leaf in leaves(net)]


@pytest.mark.slow
def test_joblib_sends_large_networks() -> None:
    """Worker processes get arrays above 1 MiB as memory maps; the network has the same bits there."""
    joblib = pytest.importorskip("joblib")
    net = fn.dense(KEY, 600, 600), fn.dense(KEY, 600, 3)
    batches = fn.minibatches(np.ones((600, 600), np.float32), np.arange(600) % 3, 50)
    job = joblib.delayed(described)(net, batches)
    one, two = joblib.Parallel(n_jobs=2)([job, job])
    assert one == two
    assert one[0] == fn.fingerprint(net)
    assert all(one[2])
