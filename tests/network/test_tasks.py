"""Tasks: predictions and probabilities of each, from outputs and from networks, and the rule of the threshold."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from attrs import evolve, frozen
from networks import inputs

import funcnet as fn
from funcnet.arithmetic import sigmoid, softmax, using
from funcnet.core.trees import same_bits

KEY = fn.Key(61)
ROWS = np.arange(300 * 6).reshape(300, 6) * 7919 % 256
X = ROWS.astype(np.float32) / np.float32(255)
TASKS: dict[str, tuple[Any, int]] = {
    "Multiclass": (fn.Multiclass(), 3),
    "Binary": (fn.Binary(), 1),
    "Binary, 0.3": (fn.Binary(threshold=0.3), 1),
    "Multilabel": (fn.Multilabel(), 3),
    "Multilabel, tuple": (fn.Multilabel(threshold=(0.2, 0.5, 0.9)), 3),
    "Regression": (fn.Regression(), 2),
}
every_task = pytest.mark.parametrize("name", TASKS)
both_arithmetics = pytest.mark.parametrize("arithmetic", ["native", "portable"])


def scaled(batch: fn.Batch[Any]) -> fn.Batch[Any]:
    """The batch as float32, 0 to 1."""
    return evolve(batch, x=batch.x.astype(np.float32) / np.float32(255))


def answers(net: fn.Network, x: Any, task: Any, **more: Any) -> tuple[Any, ...]:
    """The predictions and, if the task has them, the probabilities."""
    found = fn.predict(net, x, task, **more)
    return (found,) if isinstance(task, fn.Regression) else (found, fn.predict_proba(net, x, task, **more))


def alike(found: tuple[Any, ...], wanted: tuple[Any, ...]) -> bool:
    """Whether two tuples have arrays of the same bits."""
    return all(same_bits(a, b) for a, b in zip(found, wanted, strict=True))


def above(probabilities: fn.Array, threshold: float | tuple[float, ...]) -> Any:
    """Whether each probability is above the threshold, by Python's exact comparison of numbers."""
    limits = np.broadcast_to(np.array(threshold, np.float64), probabilities.shape)
    pairs = zip(probabilities.ravel().tolist(), limits.ravel().tolist(), strict=True)
    return np.array([share > limit for share, limit in pairs]).reshape(probabilities.shape)


@both_arithmetics
@every_task
def test_a_prediction_is_the_task_of_the_outputs(name: str, arithmetic: Any) -> None:
    """The bits are those of ``outputs`` in chunks, row by row, and after a transform; no rows have no predictions."""
    task, columns = TASKS[name]
    net = fn.mlp(KEY, (6, 5, columns))
    with using(arithmetic):
        for rows in (300, 9, 0):
            for rowwise in (False, True):
                outputs = fn.outputs(net, X[:rows], rowwise=rowwise)
                methods = [getattr(task, each, None) for each in ("predictions", "probabilities")]
                wanted = tuple(method(outputs) for method in methods if method)
                assert alike(answers(net, X[:rows], task, rowwise=rowwise), wanted)
                assert alike(answers(net, ROWS[:rows], task, rowwise=rowwise, transform=scaled), wanted)
                assert len(wanted[0]) == rows


@every_task
def test_rows_are_independent(name: str) -> None:
    """The answers for permuted rows are the permuted answers, in portable arithmetic and with ``rowwise``."""
    task, columns = TASKS[name]
    net, order = fn.mlp(KEY, (6, 5, columns)), fn.random.permutation(KEY, 300)
    for rowwise in (False, True):
        with using("native" if rowwise else "portable"):
            moved, still = (answers(net, x, task, rowwise=rowwise) for x in (X[order], X))
        assert alike(moved, tuple(each[order] for each in still))


@pytest.mark.parametrize(
    ("arithmetic", "dtype"), [("native", np.float32), ("native", np.float64), ("portable", np.float32)]
)
def test_probabilities_are_softmax_and_sigmoid(arithmetic: Any, dtype: fn.FloatDType) -> None:
    """They have the bits of ``funcnet.arithmetic`` and of the layer ``Sigmoid``."""
    logits: fn.Array = 4 * inputs(KEY, 50, 3, dtype=dtype)
    logits[0], logits[1] = (9e2, -9e2, 0), (-9e2, 0, 9e2)
    with using(arithmetic):
        shares, layer = sigmoid(logits), fn.forward(fn.Sigmoid(), logits)
        assert same_bits(fn.Multiclass().probabilities(logits), softmax(logits))
        assert same_bits(fn.Multilabel().probabilities(logits), layer)
        assert same_bits(shares, layer)
        for column in (logits[:, 0], logits[:, :1], logits[:, 0].copy()):
            assert same_bits(fn.Binary().probabilities(column), layer[:, 0].copy())
    assert (fn.Multiclass().predictions(logits) == logits.argmax(axis=1)).all()
    assert fn.Regression().predictions(logits) is logits


@both_arithmetics
def test_a_prediction_is_a_probability_above_the_threshold(arithmetic: Any) -> None:
    """The comparison is exact, also where a probability equals the threshold, or rounds to it in float32."""
    logits = 4 * inputs(KEY, 200, 2, dtype=np.float32)
    with using(arithmetic):
        shares = fn.Multilabel().probabilities(logits)
        near = [float(shares[3, 0]), 0.1, 0.3, 0.5, 1 - 1e-12, 1e-300]
        for threshold in [*near, *(float(np.nextafter(each, 0)) for each in near)]:
            found = fn.Multilabel(threshold).predictions(logits)
            assert (found == above(shares, threshold)).all()
            assert (fn.Binary(threshold).predictions(logits[:, 1]) == found[:, 1]).all()
        tie = float(shares[3, 0])
        assert fn.Multilabel((tie, 0.3)).predictions(logits)[3].tolist() == [False, bool(shares[3, 1] > 0.3)]
        assert fn.Multilabel((float(np.nextafter(tie, 0)), 0.3)).predictions(logits)[3, 0]
        assert (fn.Multilabel((0.2, 0.7)).predictions(logits) == above(shares, (0.2, 0.7))).all()


POSITIONS: dict[str, tuple[Any, tuple[int, ...]]] = {
    "Multiclass": (fn.Multiclass(), (3,)),
    "Binary": (fn.Binary(threshold=0.3), (1,)),
    "Multilabel": (fn.Multilabel(threshold=(0.2, 0.5, 0.9)), (3,)),
    "Regression": (fn.Regression(), (2,)),
}


@both_arithmetics
@pytest.mark.parametrize("name", POSITIONS)
def test_a_position_is_answered_as_a_row(name: str, arithmetic: Any) -> None:
    """The answers for outputs (N, T, O) and (N, H, W, O) are those for the outputs of all positions as rows."""
    task, columns = POSITIONS[name]
    for shape in ((300, 5), (20, 3, 4), (0, 5), (4, 0)):
        logits = 4 * inputs(KEY, *shape, *columns, dtype=np.float32)
        rows = logits.reshape(-1, *columns) if logits.size else logits[:0].reshape(0, *columns)
        with using(arithmetic):
            found, wanted = answers(fn.Identity(), logits, task), answers(fn.Identity(), rows, task)
        for answer, flat in zip(found, wanted, strict=True):
            assert answer.shape == (*shape, *flat.shape[1:])
            assert same_bits(answer.reshape(flat.shape), flat)


def test_ids_of_positions_are_scored_flat() -> None:
    """A network learns to repeat the sign at each position; the metrics take the class ids of all positions."""
    x = inputs(KEY, 40, 6, 1, dtype=np.float32)
    y = (x[..., 0] > 0).astype(np.uint8)
    state = fn.TrainState.create(fn.dense(KEY, 1, 2), fn.Adam(0.5), key=KEY)
    for epoch in range(10):
        batches = fn.minibatches(x, y, 8, key=KEY.child(epoch), weight=np.abs(x[..., 0]))
        state, _ = fn.train_epoch(fn.train_step(fn.softmax_cross_entropy), state, batches)
    predicted = fn.predict(state.params, x, fn.Multiclass())
    assert predicted.shape == (40, 6)
    assert fn.accuracy(predicted.ravel(), y.ravel()) > 0.95
    assert fn.evaluate(state.params, x, y, fn.softmax_cross_entropy) < 0.2
    start = r"for the class ids of positions, use predicted\.ravel\(\)"
    with pytest.raises(fn.DTypeError, match=rf"{start} and labels\.ravel\(\)$"):
        fn.accuracy(predicted, y)
    with pytest.raises(fn.DTypeError, match=rf"{start}, labels\.ravel\(\) and weight\.ravel\(\)$"):
        fn.metrics.confusion_matrix(predicted, y, weight=np.abs(x[..., 0]))


def test_a_threshold_of_a_curve() -> None:
    """``np.nextafter`` makes a row at a curve's threshold positive, so that each point of the curve is reached."""
    logits, labels = inputs(KEY, 60, 1, dtype=np.float32), np.arange(60) % 3 == 0
    false, true, thresholds = fn.metrics.roc_curve(fn.Binary().probabilities(logits), labels.astype(np.int64))
    for index in range(1, len(thresholds)):
        found = fn.Binary(np.nextafter(thresholds[index], 0.0)).predictions(logits)
        assert (found[~labels].mean(), found[labels].mean()) == (false[index], true[index])


@both_arithmetics
def test_at_one_half_the_sign_of_the_logit_decides(arithmetic: Any) -> None:
    """A logit of 0 is negative. ``Binary`` is ``Multiclass`` with the logits 0 and x, as the losses are."""
    logits = inputs(KEY, 500, 1, dtype=np.float32).copy()
    logits[:5, 0] = (0.0, -0.0, 1e-6, -1e-6, 90)
    with using(arithmetic):
        found = fn.Binary().predictions(logits)
        assert (found == (logits[:, 0] > 0)).all()
        assert (found == fn.Multiclass().predictions(np.hstack([np.zeros_like(logits), logits]))).all()


def test_a_binary_loss_trains_labels() -> None:
    """A network that was trained on three independent labels predicts each of them."""
    labels = np.stack([X[:, 0] > 0.5, X[:, 1] > 0.4, X[:, 0] < 0.7], axis=1)
    step = fn.train_step(fn.binary_cross_entropy)
    state = fn.TrainState.create((fn.standardize(X), fn.dense(KEY, 6, 3)), fn.Adam(0.1), key=KEY)
    for epoch in range(20):
        batches = fn.minibatches(X, labels.astype(np.float32), 32, key=KEY.child(epoch))
        state, _ = fn.train_epoch(step, state, batches)
    assert (fn.predict(state.params, X, fn.Multilabel()) == labels).mean() > 0.95


@frozen
class Sign:
    """A task without probabilities."""

    def predictions(self, outputs: fn.Array, /) -> list[str]:
        """A word for each row."""
        return ["above" if row[0] > 0 else "below" for row in outputs]


def test_a_custom_task() -> None:
    """A record with the method ``predictions`` is a task."""
    sign: fn.Task[list[str]] = Sign()
    assert fn.predict(fn.Identity(), np.array([[1.0], [-1.0]]), sign) == ["above", "below"]
    task: Any = sign
    with pytest.raises(fn.ConfigError, match=r"^predict_proba: task must be a task with probabilities, got Sign\(\); "):
        fn.predict_proba(fn.Identity(), np.zeros((1, 1)), task)


def test_each_task_has_a_name() -> None:
    """The fingerprints of different tasks differ; a threshold from NumPy has that of the Python number."""
    prints = {fn.fingerprint(task) for task, _ in TASKS.values()}
    assert len(prints) == len(TASKS)
    assert fn.fingerprint(fn.Binary(np.float64(0.3))) in prints
