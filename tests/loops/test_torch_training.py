"""Losses, optimizers and schedules against PyTorch in float64, to 1e-9 relative; these tests need PyTorch.

Where funcnet follows a different convention, the row says how PyTorch is adapted to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final

import numpy as np
import pytest
from attrs import field, frozen
from networks import inputs

import funcnet as fn
from funcnet.core.trees import leaves, trained_arrays
from funcnet.optimizers import Optimizer
from funcnet.optimizers.schedules import Schedule

torch: Any = pytest.importorskip("torch", exc_type=ImportError)
functional: Final[Any] = torch.nn.functional
KEY: Final = fn.Key(64)

# -------------------------------------------------------------------------------------------------- losses

X: Final[fn.Array] = inputs(KEY.child("x"), 8, 5) * np.array([0.1, 1, 1, 4, 30])
IDS: Final = np.arange(8) % 5
SHARES: Final[fn.Array] = np.abs(inputs(KEY.child("shares"), 8, 5))
PROBABILITIES: Final[fn.Array] = SHARES / SHARES.sum(axis=1, keepdims=True)
WEIGHT: Final[fn.Array] = np.abs(inputs(KEY.child("weight"), 8))
CLASSES: Final = (1.0, 0.5, 2.0, 0.25, 3.0)


@frozen
class LossRow:
    """A loss, its targets, and PyTorch's loss, per element or per row and as the mean over a batch."""

    name: str
    loss: Any
    target: Any = field(repr=False)
    each: Callable[[Any, Any], Any] = field(repr=False)
    whole: Callable[[Any, Any], Any] = field(repr=False)
    elements: Callable[[Any, Any], Any] | None = field(default=None, repr=False)


def elementwise(name: str, loss: Any, target: Any, theirs: Callable[..., Any], **settings: Any) -> LossRow:
    """Return the row of a PyTorch loss that has one value per element."""
    return LossRow(
        name,
        loss,
        target,
        lambda x, t: theirs(x, t, reduction="none", **settings).mean(dim=1),
        lambda x, t: theirs(x, t, **settings),
        lambda x, t: theirs(x, t, reduction="none", **settings),
    )


def hinge(x: Any, t: Any, reduction: str = "mean") -> Any:
    """The hinge loss for targets of -1 and 1, which PyTorch does not have."""
    losses = functional.relu(1 - t * x)
    return losses.mean() if reduction == "mean" else losses


def cross_entropy(name: str, loss: Any, target: Any, **settings: Any) -> LossRow:
    """Return the row of PyTorch's cross-entropy, whose weights are class weights."""
    theirs = functional.cross_entropy
    return LossRow(
        name,
        loss,
        target,
        lambda x, t: theirs(x, t, reduction="none", **settings),
        lambda x, t: theirs(x, t, **settings),
    )


CLASS_WEIGHT: Final = torch.tensor(CLASSES, dtype=torch.float64)
# fmt: off
LOSSES: Final = (
    cross_entropy("softmax", fn.softmax_cross_entropy, IDS),
    cross_entropy("softmax of shares", fn.SoftmaxCrossEntropy(), PROBABILITIES),
    cross_entropy("softmax of any shares", fn.SoftmaxCrossEntropy(), SHARES),
    cross_entropy("softmax, smoothed", fn.SoftmaxCrossEntropy(0.1), IDS, label_smoothing=0.1),
    cross_entropy("softmax, smoothed shares", fn.SoftmaxCrossEntropy(0.3), PROBABILITIES, label_smoothing=0.3),
    cross_entropy("class weights", fn.SoftmaxCrossEntropy(class_weight=CLASSES), IDS, weight=CLASS_WEIGHT),
    cross_entropy("class weights, smoothed",
        fn.SoftmaxCrossEntropy(0.2, CLASSES), IDS, weight=CLASS_WEIGHT, label_smoothing=0.2),
    cross_entropy("class weights of shares",
        fn.SoftmaxCrossEntropy(0.2, CLASSES), SHARES, weight=CLASS_WEIGHT, label_smoothing=0.2),
    elementwise("binary", fn.binary_cross_entropy, PROBABILITIES, functional.binary_cross_entropy_with_logits),
    elementwise("squared", fn.mean_squared_error, SHARES, functional.mse_loss),
    elementwise("absolute", fn.mean_absolute_error, SHARES, functional.l1_loss),
    elementwise("huber", fn.huber, SHARES, functional.huber_loss),
    elementwise("huber of 0.3", fn.Huber(0.3), SHARES, functional.huber_loss, delta=0.3),
    elementwise("hinge", fn.hinge, np.sign(X[::-1]), hinge),
    elementwise("poisson", fn.poisson, SHARES.round(), functional.poisson_nll_loss),
)
# fmt: on


@pytest.mark.parametrize("row", LOSSES, ids=lambda row: row.name)
def test_a_loss_computes_what_pytorch_does(row: LossRow) -> None:
    """The value and the gradient agree; with example weights, the value is the weighted mean of PyTorch's rows."""
    value, gradient = row.loss(X, row.target)
    compare(row, value, gradient, row.whole)

    def weighted(x: Any, t: Any) -> Any:
        counted = CLASS_WEIGHT[t] if "class weights" in row.name and t.ndim == 1 else 1
        return (torch.tensor(WEIGHT) * row.each(x, t)).sum() / (torch.tensor(WEIGHT) * counted).sum()

    value, gradient = row.loss(X, row.target, WEIGHT)
    compare(row, value, gradient, weighted)


@pytest.mark.parametrize("row", [row for row in LOSSES if row.elements], ids=lambda row: row.name)
def test_weights_of_elements_are_pytorch_s(row: LossRow) -> None:
    """They agree for any weights, for a mask with unknown targets, and for ``pos_weight``."""
    losses = row.elements
    assert losses is not None
    for weight in (np.abs(X), np.where(SHARES < 0.5, 0.0, 1.0)):
        target = np.where(weight == 0, np.nan, row.target)
        value, gradient = row.loss(X, target, weight)
        compare(row, value, gradient, partial(weighted_mean, losses, torch.tensor(weight)))
    positive = (SHARES > 1).astype(np.float64)
    weight = np.where(positive == 1, 7.0, 1.0)
    value, _ = fn.binary_cross_entropy(X, positive, weight)
    t, p = torch.tensor(positive), torch.tensor(7.0)
    theirs = functional.binary_cross_entropy_with_logits(torch.tensor(X), t, pos_weight=p).item()
    assert value * weight.mean() == pytest.approx(theirs, rel=1e-9)


def weighted_mean(losses: Callable[[Any, Any], Any], weight: Any, x: Any, t: Any) -> Any:
    """Return the mean of the losses of the elements."""
    return (weight * losses(x, t)).sum() / weight.sum()


def compare(row: LossRow, value: float, gradient: fn.Array, theirs: Callable[[Any, Any], Any]) -> None:
    """Compare each number to 1e-9 relative, and to 1e-12 absolute, where terms cancel."""
    x = torch.tensor(X, requires_grad=True)
    wanted = theirs(x, torch.tensor(np.ascontiguousarray(row.target)))
    wanted.backward()
    assert value == pytest.approx(wanted.item(), rel=1e-9)
    np.testing.assert_allclose(gradient, x.grad.numpy(), rtol=1e-9, atol=1e-12)


# ---------------------------------------------------------------------------------------------- optimizers

STEPS: Final = 50
INPUTS: Final = inputs(KEY.child("inputs"), STEPS, 6, 4)
TARGETS: Final = inputs(KEY.child("targets"), STEPS, 6, 2)
NET: Final = (
    fn.dense(KEY.child(0), 4, 6, dtype=np.float64),
    fn.Tanh(),
    fn.dense(KEY.child(1), 6, 2, dtype=np.float64),
)


def module() -> Any:
    """Return the same network in PyTorch."""
    linear = torch.nn.Linear
    net = torch.nn.Sequential(linear(4, 6), torch.nn.Tanh(), linear(6, 2)).double()
    for theirs, ours in zip(net.parameters(), trained_arrays(NET), strict=True):
        theirs.data = torch.tensor(np.ascontiguousarray(ours.T))
    return net


def decayed(net: Any, decay: float) -> list[dict[str, Any]]:
    """Return PyTorch's parameter groups in which weights decay and biases do not."""
    named = list(net.named_parameters())
    return [
        {"params": [p for name, p in named if "weight" in name], "weight_decay": decay},
        {"params": [p for name, p in named if "weight" not in name], "weight_decay": 0.0},
    ]


def of_torch(kind: str, *, decay: float | None = None, **settings: Any) -> Callable[[Any], Any]:
    """Return a function that makes PyTorch's optimizer of a module; with ``decay``, weights decay and biases do not."""
    return lambda net: getattr(optim, kind)(net.parameters() if decay is None else decayed(net, decay), **settings)


def nothing(_: Any) -> None:
    """Do not clip."""


@frozen
class OptimizerRow:
    """An optimizer, PyTorch's optimizer of a module, and the treatment of gradients before an update."""

    name: str
    optimizer: Optimizer
    theirs: Callable[[Any], Any] = field(repr=False)
    clip: Callable[[Any], object] = field(default=nothing, repr=False)
    scheduler: Callable[[Any], Any] | None = field(default=None, repr=False)
    every: int = field(default=1, repr=False)


optim: Final[Any] = torch.optim
clipping: Final[Any] = torch.nn.utils
lr: Final[Any] = optim.lr_scheduler
# fmt: off
OPTIMIZERS: Final = (
    OptimizerRow("SGD", fn.SGD(0.1), of_torch("SGD", lr=0.1)),
    # for plain SGD, PyTorch's decay in the gradient is the decoupled one
    OptimizerRow("SGD with decay", fn.WeightDecay(fn.SGD(0.1), weight_decay=0.05), of_torch("SGD", decay=0.05, lr=0.1)),
    OptimizerRow("Momentum", fn.Momentum(0.05, momentum=0.8), of_torch("SGD", lr=0.05, momentum=0.8)),
    OptimizerRow("Nesterov", fn.Nesterov(0.05), of_torch("SGD", lr=0.05, momentum=0.9, nesterov=True)),
    OptimizerRow("Adagrad", fn.Adagrad(0.1), of_torch("Adagrad", lr=0.1)),
    OptimizerRow("Adagrad with all", fn.Adagrad(0.1, lr_decay=0.05, initial_accumulator_value=0.2, eps=1e-3),
        of_torch("Adagrad", lr=0.1, lr_decay=0.05, initial_accumulator_value=0.2, eps=1e-3)),
    OptimizerRow("RMSprop", fn.RMSprop(0.01), of_torch("RMSprop", lr=0.01)),
    OptimizerRow("RMSprop with momentum", fn.RMSprop(0.01, alpha=0.9, momentum=0.7, eps=1e-4),
        of_torch("RMSprop", lr=0.01, alpha=0.9, momentum=0.7, eps=1e-4)),
    OptimizerRow("RMSprop, centered", fn.RMSprop(0.01, alpha=0.9, centered=True, eps=1e-2),
        of_torch("RMSprop", lr=0.01, alpha=0.9, centered=True, eps=1e-2)),
    OptimizerRow("RMSprop with all", fn.RMSprop(0.01, alpha=0.9, centered=True, eps=1e-2, momentum=0.5),
        of_torch("RMSprop", lr=0.01, alpha=0.9, centered=True, eps=1e-2, momentum=0.5)),
    OptimizerRow("Adam", fn.Adam(0.01), of_torch("Adam", lr=0.01)),
    OptimizerRow("Adam with settings",
        fn.Adam(0.01, betas=(0.7, 0.9), eps=1e-4), of_torch("Adam", lr=0.01, betas=(0.7, 0.9), eps=1e-4)),
    OptimizerRow("Adam with decay", fn.WeightDecay(fn.Adam(0.01), weight_decay=0.3),
        of_torch("Adam", decay=0.3, lr=0.01, decoupled_weight_decay=True)),
    OptimizerRow("AMSGrad", fn.Adam(0.01, betas=(0.8, 0.7), amsgrad=True),
        of_torch("Adam", lr=0.01, betas=(0.8, 0.7), amsgrad=True)),
    OptimizerRow("Adam with coupled decay", fn.WeightDecay(fn.Adam(0.01), weight_decay=0.3, coupled=True),
        of_torch("Adam", decay=0.3, lr=0.01)),
    OptimizerRow("Momentum with coupled decay",
        fn.WeightDecay(fn.Accumulation(fn.Momentum(0.05), steps=5), weight_decay=0.3, coupled=True),
        of_torch("SGD", decay=0.3, lr=0.05, momentum=0.9), every=5),
    OptimizerRow("AdamW with AMSGrad", fn.AdamW(0.01, betas=(0.8, 0.7), weight_decay=0.5, amsgrad=True),
        of_torch("AdamW", decay=0.5, lr=0.01, betas=(0.8, 0.7), amsgrad=True)),
    OptimizerRow("NAdam", fn.NAdam(0.01), of_torch("NAdam", lr=0.01)),
    OptimizerRow("NAdam with settings", fn.NAdam(0.02, betas=(0.7, 0.9), eps=1e-4, momentum_decay=0.5),
        of_torch("NAdam", lr=0.02, betas=(0.7, 0.9), eps=1e-4, momentum_decay=0.5)),
    OptimizerRow("NAdam with decay", fn.WeightDecay(fn.NAdam(0.01), weight_decay=0.3),
        of_torch("NAdam", decay=0.3, lr=0.01, decoupled_weight_decay=True)),
    OptimizerRow("NAdam, clipped",
        fn.ClipByGlobalNorm(fn.NAdam(0.01), max_norm=0.4), of_torch("NAdam", lr=0.01),
        lambda parameters: clipping.clip_grad_norm_(parameters, 0.4)),
    OptimizerRow("AdamW", fn.AdamW(0.01), of_torch("AdamW", decay=0.01, lr=0.01)),
    OptimizerRow("AdamW with settings", fn.AdamW(0.02, betas=(0.8, 0.95), eps=1e-6, weight_decay=0.5),
        of_torch("AdamW", decay=0.5, lr=0.02, betas=(0.8, 0.95), eps=1e-6)),
    OptimizerRow("clipped by value", fn.ClipByValue(fn.Momentum(0.1), limit=0.05),
        of_torch("SGD", lr=0.1, momentum=0.9), lambda parameters: clipping.clip_grad_value_(parameters, 0.05)),
    OptimizerRow("clipped by norm", fn.ClipByGlobalNorm(fn.Adam(0.01), max_norm=0.4),
        of_torch("Adam", lr=0.01), lambda parameters: clipping.clip_grad_norm_(parameters, 0.4)),
    OptimizerRow("accumulated",
        fn.Accumulation(fn.AdamW(0.01), steps=5), of_torch("AdamW", decay=0.01, lr=0.01), every=5),
    OptimizerRow("scheduled", fn.AdamW(learning_rate=fn.cosine_decay(0.02, steps=40, final=0.001)),
        of_torch("AdamW", decay=0.01, lr=0.02),
        scheduler=lambda theirs: lr.SequentialLR(theirs,
        [lr.CosineAnnealingLR(theirs, 40, eta_min=0.001), lr.ConstantLR(theirs, factor=0.05, total_iters=100)], [41])),
)
# fmt: on


def trajectory(optimizer: Optimizer) -> list[list[fn.Array]]:
    """Return the parameters after each step."""
    run = fn.TrainState.create(NET, optimizer, key=KEY)
    found: list[list[fn.Array]] = []
    for x, y in zip(INPUTS, TARGETS, strict=True):
        run, _ = fn.train_step(fn.mean_squared_error)(run, fn.Batch(x, y))
        found.append([leaf.array for leaf in leaves(run.params)])
    return found


@pytest.fixture
def doubles() -> Iterator[None]:
    """PyTorch's default in float64, in which NAdam then keeps the product of its momenta."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@pytest.mark.slow
@pytest.mark.usefixtures("doubles")
@pytest.mark.parametrize("row", OPTIMIZERS, ids=lambda row: row.name)
def test_an_optimizer_goes_where_pytorch_goes(row: OptimizerRow) -> None:
    """Every parameter agrees after each of fifty steps of a network."""
    net = module()
    theirs = row.theirs(net)
    scheduler = row.scheduler(theirs) if row.scheduler else None
    for step, ours in enumerate(trajectory(row.optimizer)):
        prediction = net(torch.tensor(np.ascontiguousarray(INPUTS[step])))
        (functional.mse_loss(prediction, torch.tensor(np.ascontiguousarray(TARGETS[step]))) / row.every).backward()
        if (step + 1) % row.every == 0:
            row.clip(net.parameters())
            theirs.step()
            theirs.zero_grad()
            if scheduler:
                scheduler.step()
        for array, parameter in zip(ours, net.parameters(), strict=True):
            np.testing.assert_allclose(array, parameter.detach().numpy().T, rtol=1e-9, atol=1e-11)


def test_an_average_goes_where_pytorch_s_goes() -> None:
    """PyTorch's exponential average of a module agrees after every step."""
    net, optimizer = module(), fn.Averaging(fn.SGD(learning_rate=0.1), decay=0.9)
    theirs = optim.SGD(net.parameters(), lr=0.1)
    average = optim.swa_utils.AveragedModel(net, multi_avg_fn=optim.swa_utils.get_ema_multi_avg_fn(0.9))
    run = fn.TrainState.create(NET, optimizer, key=KEY)
    for x, y in zip(INPUTS, TARGETS, strict=True):
        run, _ = fn.train_step(fn.mean_squared_error)(run, fn.Batch(x, y))
        functional.mse_loss(net(torch.tensor(x)), torch.tensor(y)).backward()
        theirs.step()
        theirs.zero_grad()
        average.update_parameters(net)
        for ours, parameter in zip(trained_arrays(fn.averaged(run)), average.module.parameters(), strict=True):
            np.testing.assert_allclose(ours, parameter.detach().numpy().T, rtol=1e-9, atol=1e-12)


# ----------------------------------------------------------------------------------------------- schedules

# fmt: off
SCHEDULES: Final[dict[str, tuple[Schedule, Callable[[Any], Any]]]] = {
    "step": (fn.step_decay(0.3, step_size=7, gamma=0.4), lambda theirs: lr.StepLR(theirs, 7, gamma=0.4)),
    "exponential": (fn.exponential_decay(0.3, gamma=0.9), lambda theirs: lr.ExponentialLR(theirs, 0.9)),
    "cosine": (fn.cosine_decay(0.3, steps=60), lambda theirs: lr.CosineAnnealingLR(theirs, 60)),
    "restarts": (fn.cosine_restarts(0.3, period=6, multiplier=2, final=0.01),
        lambda theirs: lr.CosineAnnealingWarmRestarts(theirs, 6, 2, eta_min=0.01)),
    "restarts of one period":
        (fn.cosine_restarts(0.3, period=7), lambda theirs: lr.CosineAnnealingWarmRestarts(theirs, 7)),
    "one cycle": (fn.one_cycle(0.3, steps=51), lambda theirs: lr.OneCycleLR(theirs, 0.3, 51)),
    "one cycle with settings": (fn.one_cycle(0.3, steps=55, pct_start=0.6, div_factor=7.0, final_div_factor=9.0),
        lambda theirs: lr.OneCycleLR(theirs, 0.3, 55, pct_start=0.6, div_factor=7.0, final_div_factor=9.0)),
    "one cycle without a rise": (fn.one_cycle(0.3, steps=51, pct_start=0.01),
        lambda theirs: lr.OneCycleLR(theirs, 0.3, 51, pct_start=0.01)),
    "polynomial":
        (fn.polynomial_decay(0.3, steps=40, power=1.7), lambda theirs: lr.PolynomialLR(theirs, 40, power=1.7)),
    "piecewise": (fn.piecewise_constant([0.3, 0.03, 0.003], [5, 20]), lambda theirs: lr.MultiStepLR(theirs, [5, 20])),
    "warm-up": (fn.linear_warmup(0.3, steps=9, initial=0.03),
        lambda theirs: lr.LinearLR(theirs, start_factor=0.1, total_iters=9)),
    "joined":
        (fn.join_schedules([fn.linear_warmup(0.3, steps=5, initial=0.03), fn.exponential_decay(0.3, gamma=0.8)], [5]),
        lambda theirs: lr.SequentialLR(theirs,
        [lr.LinearLR(theirs, start_factor=0.1, total_iters=5), lr.ExponentialLR(theirs, 0.8)], [5])),
}
# fmt: on


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_goes_where_pytorch_goes(name: str) -> None:
    """The learning rates agree over fifty steps."""
    schedule, make = SCHEDULES[name]
    theirs = optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.3)
    scheduler = make(theirs)
    for rate in fn.learning_rates(fn.SGD(learning_rate=schedule), 50):
        assert rate == pytest.approx(theirs.param_groups[0]["lr"], rel=1e-9)
        theirs.step()
        scheduler.step()
