"""Inspection of a step: the first number that is not finite, every number of a pass, norms and dead units."""

from __future__ import annotations

import ast
import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from networks import CASES, Case, inputs

import funcnet as fn
from funcnet.core.trees import leaves, same_bits

KEY = fn.Key(71)
CE = fn.softmax_cross_entropy
LABELS = np.array([0, 1, 2, 0, 1])


def network(**planted: float) -> tuple[fn.Dense, fn.ReLU, tuple[fn.Dense]]:
    """Return a network of two Dense layers; ``planted`` puts a number into the ``first`` or ``second`` weight."""
    first, second = (fn.dense(KEY.child(i), 4, 4 - i, dtype=np.float64) for i in range(2))
    weights = [first.weight.copy(), second.weight.copy()]
    for name, number in planted.items():
        weights[name == "second"][1, 2] = number
    return fn.Dense(weights[0], first.bias), fn.ReLU(), (fn.Dense(weights[1], second.bias),)


X = inputs(KEY, 5, 4)


def test_a_healthy_step_has_none() -> None:
    """The function returns None."""
    assert fn.first_nonfinite(network(), X, LABELS, CE) is None


@pytest.mark.parametrize(
    ("net", "where", "index"),
    [
        (network(first=np.nan), "0.weight", (1, 2)),
        (network(second=-np.inf), "2.0.weight", (1, 2)),
        (network(first=1e308), "the output of layer 0 (Dense)", None),
        (network(second=1e308), "the output of layer 2.0 (Dense)", None),
    ],
)
def test_the_first_place_forward_is_found(net: Any, where: str, index: tuple[int, ...] | None) -> None:
    """The place is a parameter, or the output of the layer that overflows, with the range of its input."""
    x = X * 1e3
    found = fn.first_nonfinite(net, x, LABELS, CE)
    assert isinstance(found, fn.NonFinite)
    assert found.where == where
    assert index is None or found.index == index
    assert not np.isfinite(found.value)
    if where.startswith("the output of layer 0"):
        assert (found.low, found.high) == (x.min(), x.max())


def test_numbers_of_which_none_is_finite_have_no_range() -> None:
    """The text says that none of the numbers is finite."""
    net = fn.Dense(np.full((4, 3), np.inf), np.zeros(3))
    found = str(fn.first_nonfinite(net, X, LABELS, CE))
    assert found == "weight[0, 0] is inf, computed from numbers of which none is finite"


def test_the_input_is_looked_at_first() -> None:
    """The input is checked before every layer."""
    x = X.copy()
    x[3, 1] = np.inf
    found = fn.first_nonfinite(network(first=np.nan), x, LABELS, CE)
    assert found is not None
    assert (found.where, found.index, found.value) == ("x", (3, 1), np.inf)


def test_the_loss_and_the_gradients_are_looked_at() -> None:
    """A loss that is NaN, a gradient of the loss, and a gradient that overflows in the backward pass are found."""

    def broken(prediction: fn.Array, _: Any) -> tuple[float, fn.Array]:
        return float("nan"), np.zeros_like(prediction)

    def broken_gradient(prediction: fn.Array, _: Any) -> tuple[float, fn.Array]:
        return 1.0, np.full_like(prediction, np.inf)

    def steep(prediction: fn.Array, _: Any) -> tuple[float, fn.Array]:
        return 1.0, np.full_like(prediction, 1e307)

    def where(loss: Any, net: Any) -> str:
        found = fn.first_nonfinite(net, X, LABELS, loss)
        assert found is not None
        return found.where

    assert where(broken, network()) == "the loss"
    assert where(broken_gradient, network()) == "the loss's gradient"
    assert where(steep, network(second=1e3)) == "the gradient with respect to the input of layer 2.0 (Dense)"
    large = fn.Dense(np.full((4, 3), 1e-3), np.zeros(3))
    found = fn.first_nonfinite(large, X * 1e3, LABELS, steep)
    assert found is not None
    assert found.where == "the gradient with respect to weight"


@pytest.mark.parametrize("folded", [False, True])
@pytest.mark.parametrize("portable", [False, True])
def test_training_says_where_it_began(folded: bool, portable: bool) -> None:  # noqa: FBT001
    """With or without replay, in either arithmetic, the error has the step and the first number that is not finite."""
    x = np.tile(X.astype(np.float32), (6, 1))
    x[27, 2] = 3e38
    doubled = fn.Dense(np.full((4, 4), 2.0), np.zeros(4))
    net = fn.astype((doubled, fn.Dropout(0.1), *network()[1:]), np.float32)
    step = fn.train_step(CE)
    batches: list[fn.Batch[Any]] = list(fn.minibatches(x, np.tile(LABELS, 6), 5))

    def train() -> None:
        state = fn.TrainState.create(net, fn.SGD(learning_rate=1e-6), key=KEY)
        if folded:
            fn.train_epoch(step, state, batches)
        for batch in batches:
            state, _ = step(state, batch)

    with fn.portable() if portable else np.errstate(), pytest.raises(fn.NonFiniteError) as raised:
        train()
    message = str(raised.value)
    assert message.startswith("step 5: ") is folded
    assert "the first number that is not finite: the output of layer 0 (Dense)[2, " in message
    assert "computed from numbers between " in message
    assert message.endswith("and 3e+38")


@pytest.mark.parametrize("portable", [False, True])
def test_a_shard_says_where_it_began(portable: bool) -> None:  # noqa: FBT001
    """The error has the shard's first number with its row in the shard, also from another thread."""
    x = np.tile(X.astype(np.float32), (2, 1))
    x[7, 2] = 3e38
    net = fn.astype((fn.Dense(np.full((4, 4), 2.0), np.zeros(4)), *network()[1:]), np.float32)
    with fn.portable() if portable else np.errstate(), ThreadPoolExecutor(2) as executor:
        step = fn.sgd_step(CE, learning_rate=0.1, shard_size=5, executor=executor)
        batches = fn.minibatches(x, np.tile(LABELS, 2), 10)
        with pytest.raises(fn.NonFiniteError) as raised:
            fn.train_epoch(step, net, batches)
    message = str(raised.value)
    assert message.startswith("step 0: ")
    assert "the first number that is not finite: the output of layer 0 (Dense)[2, " in message


# ------------------------------------------------------------------------------------------------ explaining


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_an_explanation_has_trainings_numbers(case: Case) -> None:
    """The loss, the outputs and every gradient match training bit for bit, for every layer."""
    layer = case.layer()
    x = case.x(3)
    features = fn.forward((layer, fn.Flatten()), x).shape[1]
    net = (layer, fn.Flatten(), fn.dense(KEY, features, 3, dtype=np.float64))
    told = fn.explain(net, x, LABELS[:3], CE)
    assert isinstance(told, fn.Explanation)
    loss, grads = fn.value_and_grad(net, x, LABELS[:3], CE)
    assert told.loss == loss
    forward, backward = told.stages[:3], told.stages[-1:-4:-1]
    for stage, output in zip(forward, fn.activations(net, x), strict=True):
        assert same_bits(stage.terms[-1].value, output)
    for stage, grad in zip(backward, grads, strict=True):
        wanted = [leaf.array for leaf in leaves(grad) if leaf.trained]
        assert [term.name for term in (stage.terms[0], stage.terms[-1])] == ["g", "grad_x"]
        for term, array in zip(stage.terms[1:-1], wanted, strict=True):
            assert same_bits(term.value, array)
    assert same_bits(told.stages[-1].terms[-1].value, fn.backward(net, x, CE(fn.forward(net, x), LABELS[:3])[1])[0])


def test_an_explanation_names_formulas_and_prints_as_a_table() -> None:
    """An explanation prints as text, and as Markdown with one row per array."""
    told = fn.explain(network(), X[:1], LABELS[:1], CE)
    assert str(told).startswith("forward, layer 0 Dense\n  y = x @ weight + bias\n    x (1, 4) =\n    [[")
    assert "forward, layer 1 ReLU\n  y = max(x, 0)\n" in str(told)
    assert "loss, softmax_cross_entropy\n  loss = mean(log(sum(exp(logits))) - logits[label])\n  g = (" in str(told)
    assert "backward, layer 2.0 Dense\n  grad_weight = x.T @ g\n  grad_bias = g.sum(axis=0)\n  grad_x = g @" in str(
        told
    )
    assert "backward, layer 1 ReLU\n  grad_x = g * (x > 0)\n" in str(told)
    lines = told.markdown.splitlines()
    assert len(lines) == 2 + sum(len(stage.terms) for stage in told.stages)
    assert all(line.count("|") == 6 for line in lines)


@pytest.mark.parametrize(
    ("layer", "forward", "backward"),
    [
        (fn.dense(KEY, 4, 3, bias=False), "x @ weight", ["weight = x.T @ g", "x = g @ weight.T"]),
        (fn.layer_norm(4, scale=False), "(x - mean) / sqrt(variance + epsilon) + offset", ["offset = g.sum(axis=0)"]),
        (
            fn.layer_norm(4, offset=False),
            "(x - mean) / sqrt(variance + epsilon) * scale",
            ["scale = (g * normal).sum(axis=0)", "x = d - mean(d)"],
        ),
        (fn.RMSNorm(None), "x / sqrt(mean(x * x) + epsilon)", ["x = (g - normal * mean(g * normal)) / root"]),
    ],
    ids=repr,
)
def test_a_formula_omits_an_array_that_the_layer_does_not_have(
    layer: fn.Layer, forward: str, backward: list[str]
) -> None:
    """The formulas are those of the layer's arrays."""
    told = fn.explain(layer, inputs(KEY, 3, 4, dtype=np.float32), LABELS[:3], CE)
    assert told.stages[0].formulas == (f"y = {forward}",)
    assert set(told.stages[-1].formulas) >= {f"grad_{formula}" for formula in backward}
    assert "None" not in str(told)


def small() -> tuple[tuple[fn.Layer, ...], fn.Array]:
    """Return a 2-3-2 network and two rows in float32, as in training."""
    return (*fn.mlp(KEY, (2, 3, 2)), fn.Softplus(), fn.Tanh()), inputs(KEY, 2, 2, dtype=np.float32)


def test_the_printed_numbers_are_trainings_bit_for_bit() -> None:
    """Numbers read back from the text and the Markdown have the same bits, whatever NumPy's print options are."""
    net, x = small()
    with np.printoptions(precision=2, suppress=True, threshold=1, formatter={"float": lambda _: "?"}):
        told = fn.explain(net, x, LABELS[:2], CE)
        text, markdown = str(told), told.markdown
    terms = [term for stage in told.stages for term in stage.terms]
    assert len(terms) == 4 + 2 + 4 + 2 + 2 + 3 + 2 + 2 + 4 + 2 + 4
    by_text = re.findall(r"^    (\w+) \(.*\) =\n((?:    [\[ \d-].*\n?)+)", text, re.MULTILINE)
    cells = [re.split(r"(?<!\\) \| ", row.strip("| ")) for row in markdown.splitlines()[2:]]
    assert [name for name, _ in by_text] == [row[-3] for row in cells] == [term.name for term in terms]
    for term, (_, one), row in zip(terms, by_text, cells, strict=True):
        for shown in (one, row[-1]):
            assert same_bits(np.array(ast.literal_eval(shown.strip()), term.value.dtype), term.value)
    _, grads = fn.value_and_grad(net, x, LABELS[:2], CE)
    shown = [term.value for term in terms if term.name in ("grad_weight", "grad_bias")]
    for leaf, array in zip(leaves(grads), [shown[2], shown[3], shown[0], shown[1]], strict=True):
        assert same_bits(leaf.array, array)


def test_a_bar_in_a_formula_does_not_break_the_table() -> None:
    """The bar is escaped."""

    def away(prediction: fn.Array, _: Any) -> tuple[float, fn.Array]:
        """``loss = mean(|prediction|)``."""
        return 1.0, np.ones_like(prediction)

    row = fn.explain(fn.ReLU(), X, LABELS, away).markdown.splitlines()[-5]
    assert row.startswith(r"| loss, away | `loss = mean(\|prediction\|)` | target | (5,) | [0, 1, 2, 0, 1] |")


# ------------------------------------------------------------------------------------------------ monitoring


def test_statistics_are_norms_of_the_step() -> None:
    """The norms agree with NumPy's own, and the ratio with the change made by ``sgd_update``."""
    net = network()
    found = fn.gradient_statistics(net, X, LABELS, CE, learning_rate=0.2)
    assert isinstance(found, fn.GradientStatistics)
    _, grads = fn.value_and_grad(net, X, LABELS, CE)
    updated = fn.sgd_update(net, grads, learning_rate=0.2)
    rows = zip(found.parameters, leaves(net), leaves(grads), leaves(updated), strict=True)
    for row, leaf, grad, new in rows:
        assert row.path == leaf.path
        assert row.norm == pytest.approx(np.linalg.norm(leaf.array))
        assert row.gradient_norm == pytest.approx(np.linalg.norm(grad.array))
        if row.norm:
            ratio = np.linalg.norm(new.array - leaf.array) / np.linalg.norm(leaf.array)
            assert row.update_ratio == pytest.approx(ratio)
    assert list(found.table) == ["path", "layer", "norm", "gradient_norm", "update_ratio"]
    assert found.table["norm"].tolist() == [row.norm for row in found.parameters]
    assert found.table["layer"].tolist() == ["Dense"] * 4
    assert list(found.activation_table) == ["path", "layer", "mean_magnitude", "dead_share"]
    assert found.activation_table["dead_share"].tolist() == [row.dead_share for row in found.activations]
    assert {len(column) for column in found.activation_table.values()} == {3}


def test_dead_units_are_counted() -> None:
    """Only units that are 0 in every row count, not those that are 0 in some."""
    net = (fn.Dense(np.eye(4), np.array([0.0, -100.0, 0.0, -100.0])), fn.ReLU())
    found = fn.gradient_statistics((*net, fn.dense(KEY, 4, 3, dtype=np.float64)), X, LABELS, CE)
    assert [row.dead_share for row in found.activations] == [0.0, 0.5, 0.0]


def test_a_parameter_of_zeros_has_an_infinite_ratio() -> None:
    """A parameter of zeros that does not change has a ratio of 0."""
    net = fn.Dense(np.zeros((4, 3)), np.zeros(3))
    ratios = [row.update_ratio for row in fn.gradient_statistics(net, np.zeros((5, 4)), LABELS, CE).parameters]
    assert ratios == [0.0, np.inf]


def test_statistics_of_huge_parameters_warn_of_nothing() -> None:
    """A norm that overflows is infinite, and NumPy does not warn."""
    net = fn.Dense(weight=np.full((1, 2), 1e200), bias=np.zeros(2))
    with np.errstate(all="raise"):
        found = fn.gradient_statistics(net, np.array([[1e-200]]), np.array([1]), fn.softmax_cross_entropy)
    assert found.parameters[0].norm == np.inf


# ----------------------------------------------------------------------------------------------------- hints

POINTS = inputs(KEY.child("points"), 256, 8, dtype=np.float32)
CLASSES = np.argmax(POINTS[:, :3], axis=1)
SCALES = np.array([1, 1, 1, 300, 1, 900, 1, 1], np.float32)
START = fn.mlp(KEY.child("start"), (8, 32, 3))
UPDATE = r"an update changes \d\.weight by .* of its norm, and about 1e-3 is usual; lower the learning rate of "
LOSS = r"the loss is .*, and that of a constant prediction is 1\..*; lower the learning rate, or scale "
INPUT = r"layer 0 \(Dense\): feature 5 of its input has a root mean square of 8\d\d, and about 1 is usual; scale the "
OUTPUT = r"the largest output is .*, and class ids need logits below 100; lower "


def steps(net: Any, x: fn.Array, rate: float, count: int) -> Any:
    """Return the network after some steps of gradient descent on the whole batch."""
    step = fn.sgd_step(CE, learning_rate=rate)
    return fn.train_epoch(step, net, [fn.Batch(x, CLASSES)] * count)[0]


SITUATIONS: dict[str, tuple[fn.Array, float, int, list[str]]] = {
    "a healthy start": (POINTS, 0.1, 0, []),
    "a healthy run": (POINTS, 0.1, 60, []),
    "unscaled inputs at the start": (POINTS * SCALES, 0.1, 0, [INPUT, OUTPUT, LOSS, UPDATE + "0.1"]),
    "unscaled inputs after a step": (POINTS * SCALES, 0.1, 1, [INPUT, OUTPUT, LOSS, UPDATE + "0.1"]),
    "rate 10 at the start": (POINTS, 10, 0, [UPDATE + "10"]),
    "rate 1000 at the start": (POINTS, 1000, 0, [UPDATE + "1000"]),
    "rate 1000 after a step": (POINTS, 1000, 1, [OUTPUT, LOSS, UPDATE + "1000"]),
}


@pytest.mark.parametrize("situation", SITUATIONS)
def test_hints_say_what_goes_wrong(situation: str) -> None:
    """A healthy run has no hint; unscaled inputs and a high learning rate have some, before and after they do harm."""
    x, rate, count, wanted = SITUATIONS[situation]
    found = fn.gradient_statistics(steps(START, x, rate, count), x, CLASSES, CE, learning_rate=rate)
    assert len(found.hints) == len(wanted)
    for hint, pattern in zip(found.hints, wanted, strict=True):
        assert re.match(pattern, hint)
        assert f"\nhint: {hint}" in str(found)


def test_hints_about_dead_units_count_the_units_that_the_layer_kills() -> None:
    """There is a hint above a share of 75%, in a batch of at least 16 rows; a unit is a channel of an image."""
    first, relu, last = START
    assert isinstance(first, fn.Dense)

    def found(share: float, rows: int = 256) -> tuple[str, ...]:
        bias = np.where(np.arange(32) < 32 * share, np.float32(-1e3), np.float32(0))
        net = fn.Dense(first.weight, bias), relu, last
        return fn.gradient_statistics(net, POINTS[:rows], CLASSES[:rows], CE).hints

    wanted = "layer 1 (ReLU): 78% of its units are 0 in every row, so they learn nothing; start again with a lower "
    assert [hint[: len(wanted)] for hint in found(25 / 32)] == [wanted]
    assert found(24 / 32) == found(25 / 32, rows=15) == ()
    dark = np.zeros((20, 6, 6, 1), np.float32)
    dark[:, 2:4, 2:4] = np.abs(POINTS[:20, :4].reshape(20, 2, 2, 1))
    net = fn.conv2d(KEY, 1, 3, 3, padding="same"), fn.ReLU(), fn.Flatten(), fn.dense(KEY, 108, 3)
    assert fn.gradient_statistics(net, dark, CLASSES[:20], CE).hints == ()


def test_hints_about_regression_know_the_size_of_the_targets() -> None:
    """Outputs as large as the targets are usual. A loss is compared with that of the mean target."""
    target = 1e3 * (1 + 0.1 * POINTS[:, :1])
    net = fn.Dense(np.zeros((8, 1), np.float32), np.array([1e3], np.float32))
    mse = fn.mean_squared_error
    assert fn.gradient_statistics(net, POINTS, target, mse).hints == ()
    away = fn.Dense(net.weight, np.array([1.3e3], np.float32))
    hints = fn.gradient_statistics(away, POINTS, target, mse).hints
    assert [hint.split(",")[0][:11] for hint in hints] == ["the loss is"]
    far = fn.Dense(net.weight, np.array([1e6], np.float32))
    assert (
        "the largest output is 1e+06, and the largest target is 1"
        in fn.gradient_statistics(far, POINTS, target, mse).hints[0]
    )


def test_a_hint_says_that_modes_are_off() -> None:
    """``gradient_statistics`` and ``explain`` name the first plain layer that has a training form."""
    net = (
        fn.ReLU(),
        fn.Residual((fn.Tanh(), fn.Dropout(0.5))),
        fn.dense(KEY, 4, 3, dtype=np.float64),
        fn.batch_norm(3),
    )
    net = fn.astype(fn.calibrate(fn.astype(net, np.float64), X), np.float64)
    hint = "Dropout (layer 1.1) acts as in evaluation; for the numbers of a training step, pass training(net, key)"
    for told in (fn.gradient_statistics(net, X, LABELS, CE), fn.explain(net, X, LABELS, CE)):
        assert told.hints == (hint,)
        assert str(told).endswith(f"\nhint: {hint}")
    trained = fn.training(net, KEY)
    assert fn.gradient_statistics(trained, X, LABELS, CE).hints == fn.explain(trained, X, LABELS, CE).hints == ()
