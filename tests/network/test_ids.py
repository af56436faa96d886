"""Networks of ids: every function that takes inputs takes integers of any dtype, and refuses what is neither."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeAlias

import numpy as np
import pytest
from networks import inputs

import funcnet as fn
from funcnet.arithmetic import Name, using
from funcnet.core.arrays import Labels
from funcnet.core.records import evolve
from funcnet.core.trees import same_bits
from funcnet.loops.shards import sharded_value_and_grad

KEY: Final = fn.Key(18)
NET: Final = (
    fn.Parallel((fn.Frozen(fn.embedding(KEY, 9, 3)), fn.embedding(KEY.child(1), 9, 2)), "concat"),
    fn.layer_norm(5),
    fn.Flatten(),
    fn.dense(KEY.child(2), 20, 3),
)
IDS: Final[Labels] = np.arange(520 * 4, dtype=np.int64).reshape(520, 4) ** 2 % 9
FEW: Final = IDS[:20]
LABELS: Final[Labels] = np.arange(520) % 3
CE: Final = fn.softmax_cross_entropy
STEP: Final = fn.sgd_step(CE, learning_rate=0.1)
Function: TypeAlias = Callable[[Any], object]


def shifted(batch: fn.Batch[Any, Any]) -> fn.Batch[Any, Any]:
    """The next ids, as a transform."""
    return evolve(batch, x=(batch.x + np.ones_like(batch.x)) % np.full_like(batch.x, 9))


def epoch(x: Any) -> object:
    """A fold over minibatches, in a random order."""
    return fn.train_epoch(STEP, NET, fn.minibatches(x, LABELS[: len(x)], 7, key=KEY))[0]


FUNCTIONS: Final[dict[str, Function]] = {
    "forward": lambda x: fn.forward(NET, x),
    "activations": lambda x: tuple(fn.activations(NET, x)),
    "backward": lambda x: fn.backward(NET, x, np.ones((len(x), 3), np.float32)),
    "vjp": lambda x: fn.vjp(NET, x)[1].params_only(np.ones((len(x), 3), np.float32)),
    "value_and_grad": lambda x: fn.value_and_grad(NET, x, LABELS[: len(x)], CE),
    "shards": lambda x: sharded_value_and_grad(NET, x, LABELS[: len(x)], CE, shard_size=3),
    "outputs": lambda x: fn.outputs(NET, x),
    "outputs by rows": lambda x: fn.outputs(NET, x, rowwise=True),
    "outputs of a transform": lambda x: fn.outputs(NET, x, transform=shifted),
    "predict": lambda x: fn.predict(NET, x, fn.Multiclass()),
    "predict_proba": lambda x: fn.predict_proba(NET, x, fn.Multiclass()),
    "evaluate": lambda x: fn.evaluate(NET, x, LABELS[: len(x)], CE),
    "evaluate a transform": lambda x: fn.evaluate(NET, x, LABELS[: len(x)], CE, transform=shifted),
    "calibrate": lambda x: fn.calibrate((*NET[:2], fn.batch_norm(5)), x),
    "a step": lambda x: STEP(NET, fn.Batch(x, LABELS[: len(x)])),
    "train_epoch": epoch,
    "explain": lambda x: str(fn.explain(NET, x, LABELS[: len(x)], CE)),
    "gradient_statistics": lambda x: str(fn.gradient_statistics(NET, x, LABELS[: len(x)], CE)),
    "first_nonfinite": lambda x: str(fn.first_nonfinite(broken(), x, LABELS[: len(x)], CE)),
    "check_gradients": lambda x: str(fn.check_gradients(NET[0], x[:2])),
    "check_layer": lambda x: str(fn.check_layer(NET[0], x[:2])),
}
every_function = pytest.mark.parametrize("name", FUNCTIONS)


def broken() -> fn.Network:
    """The network with a number that is not finite."""
    layer = fn.embedding(KEY, 9, 5)
    weight = layer.weight.copy()
    weight[FEW[0, 2]] = np.inf
    return fn.Embedding(weight), NET[1:]


@every_function
def test_any_integer_dtype_gives_one_result(name: str) -> None:
    """Also a view with gaps and a memory map's dtype; the argument is not changed."""
    wanted = fn.fingerprint(FUNCTIONS[name](FEW))
    for ids in (FEW.astype(np.uint8), FEW.astype(">i2"), np.asfortranarray(FEW), np.repeat(FEW, 2, axis=0)[::2]):
        before = ids.tobytes()
        assert fn.fingerprint(FUNCTIONS[name](ids)) == wanted
        assert ids.tobytes() == before


@every_function
@pytest.mark.parametrize("dtype", [np.bool_, np.complex64, np.float16], ids=lambda dtype: dtype.__name__)
def test_what_is_neither_ids_nor_floats_is_refused(name: str, dtype: Any) -> None:
    """The message has the dtype. A transform may convert bools."""
    if "transform" in name and dtype is np.bool_:
        return
    with pytest.raises(fn.DTypeError, match=np.dtype(dtype).name):
        FUNCTIONS[name](FEW.astype(dtype))


@every_function
def test_an_id_out_of_range_is_refused_with_its_place(name: str) -> None:
    """Whatever calls the layer."""
    ids = FEW.copy()
    ids[1, 2] = 99
    if "transform" in name:  # it takes the remainder
        FUNCTIONS[name](ids)
        return
    with pytest.raises(fn.FuncnetError, match=r"x must be in 0\.\.8, got x\[\d, 2\] = 99"):
        FUNCTIONS[name](ids)


def test_outputs_are_computed_in_chunks_and_rows() -> None:
    """520 rows are three chunks; by rows, the last tile is padded with the id 0, and a row depends on no other."""
    whole = fn.outputs(NET, IDS)
    assert same_bits(whole[256:512], fn.forward(NET, IDS[256:512]))
    by_rows = fn.outputs(NET, IDS, rowwise=True)
    assert all(same_bits(fn.outputs(NET, IDS[i : i + 1], rowwise=True), by_rows[i : i + 1]) for i in range(0, 520, 37))
    np.testing.assert_allclose(by_rows, whole, rtol=1e-5, atol=1e-6)
    assert fn.evaluate(NET, IDS, LABELS, CE) == CE(whole, LABELS)[0]
    assert fn.outputs(NET[0], IDS[:0]).shape == (0, 4, 5)


@pytest.mark.parametrize("arithmetic", ["native", "portable"])
@pytest.mark.parametrize("shard_size", [None, 3])
def test_a_fold_is_the_plain_loop(arithmetic: Name, shard_size: int | None) -> None:
    """Bit for bit, on ids that differ from batch to batch, sharded on threads or not; and every step can be traced."""
    with using(arithmetic), ThreadPoolExecutor(2) as threads:
        state = fn.TrainState.create(NET, fn.Adam(learning_rate=0.01), key=KEY)
        step = fn.train_step(CE, shard_size=shard_size, executor=threads if shard_size else None)
        batches = fn.minibatches(IDS[:80], LABELS[:80], 7, key=KEY)
        wanted = state
        losses: list[float] = []
        for batch in batches:
            wanted, loss = step(wanted, batch)
            losses.append(loss)
        folded, log = fn.train_epoch(step, state, batches)
        assert fn.fingerprint(folded) == fn.fingerprint(wanted)
        assert log.losses.tolist() == losses
        if shard_size is None:
            assert fn.program(step, state, batches[0]).opaque == ()


OF_FLOATS: Final[tuple[fn.Layer, ...]] = (
    *(fn.ReLU(), fn.Flatten(), fn.Dropout(0.5), fn.Softmax(), fn.dense(KEY, 4, 3), fn.layer_norm(4)),
    *(fn.PReLU(np.ones(1, np.float32)), fn.Standardize(np.zeros(4, np.float32), np.ones(4, np.float32))),
)


@pytest.mark.parametrize("layer", OF_FLOATS, ids=lambda layer: type(layer).__name__)
def test_layers_of_floats_keep_their_refusal_and_its_advice(layer: fn.Layer) -> None:
    """Images of bytes that were not scaled reach the first layer."""
    images = FEW.astype(np.uint8)
    batches = fn.minibatches(images, LABELS[:20], 5)
    net = fn.training(layer, KEY)
    for call in (lambda: fn.forward(layer, images), lambda: STEP(net, batches[0])):
        with pytest.raises(fn.DTypeError, match=r"got uint8; for images divide by 255: x.astype\(np.float32\) / 255$"):
            call()


def test_ids_have_no_gradient_without_a_layer() -> None:
    """The message does not ask for a g of integers."""
    gradients: list[Any] = [np.zeros(FEW.shape), np.zeros(FEW.shape, np.int64)]
    for g in gradients:
        with pytest.raises(fn.DTypeError, match=r"^backward: the output must be float32 or float64 .*, got int64; for"):
            fn.backward((), FEW, g)


def test_ids_may_have_one_axis() -> None:
    """One id per row: minibatches, a step, and outputs."""
    net = fn.embedding(KEY, 9, 3)
    net, _ = fn.train_epoch(STEP, net, fn.minibatches(IDS[:, 0], LABELS, 64, key=KEY))
    assert same_bits(fn.outputs(net, IDS[:, 0], rowwise=True), net.weight[IDS[:, 0]])
    with pytest.raises(fn.ShapeError, match=r"^minibatches: x must have shape \(N, ...\) .*, got \(520,\)$"):
        fn.minibatches(IDS[:, 0] / 2, LABELS, 64)


def test_the_update_moves_the_rows_of_the_batch_alone() -> None:
    """Without momentum and decay, the row of an id that does not occur keeps its bits; weight decay shrinks it."""
    net = fn.embedding(KEY, 9, 3)
    moved, _ = STEP(net, fn.Batch(np.array([2, 5, 2]), np.array([0, 1, 2])))
    changed = (moved.weight != net.weight).any(axis=1)
    assert changed.nonzero()[0].tolist() == [2, 5]
    state = fn.TrainState.create(net, fn.AdamW(learning_rate=0.1, weight_decay=0.1), key=KEY)
    state, _ = fn.train_step(CE)(state, fn.Batch(np.array([2, 5, 2]), np.array([0, 1, 2])))
    assert (state.params.weight != net.weight).all()


def test_gradients_of_a_language_model_agree_with_differences() -> None:
    """Ids (B, T) through every layer to logits (B, T, V)."""
    net = (fn.embedding(KEY, 9, 4), fn.rms_norm(4), fn.Tanh(), fn.Residual(fn.ReLU()))
    report = fn.check_gradients(net, FEW[:2])
    assert [check.where for check in report.checks] == ["0.weight", "1.scale"]
    assert str(report).endswith("\nx is not differentiated")
    assert "x is not" not in str(fn.check_gradients(net[1:], inputs(KEY, 2, 4, 4)))
