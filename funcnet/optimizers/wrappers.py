"""Optimizers around an optimizer: clipping, decoupled weight decay, accumulated gradients, averaged weights.

In ``ClipByGlobalNorm(Averaging(AdamW(learning_rate=1e-3)), max_norm=1.0)`` the outer one sees the gradients first. A
wrapper that keeps a moment of its own puts it first, and ``inner.`` before the names of the inner optimizer's: here
they are ``average``, ``inner.mean`` and ``inner.square``.
"""

from __future__ import annotations

from collections.abc import Iterator

from attrs import frozen

from funcnet.core.checks import INFINITY, check_count, check_number
from funcnet.core.errors import ConfigError
from funcnet.core.names import register_name
from funcnet.core.records import check_tree
from funcnet.core.trees import map_decayed, map_parameters
from funcnet.network.layer import N
from funcnet.optimizers.gradients import clip_by_global_norm, clip_by_value
from funcnet.optimizers.moments import INNER, Moments
from funcnet.optimizers.protocol import (
    Optimizer,
    check_moments,
    check_optimizer,
    initial,
    rate_of,
    rated,
    updated,
    zeros_like,
)


@frozen
class Wrapper:
    """The base of optimizers around an optimizer, which is their field ``optimizer``."""

    optimizer: Optimizer

    def __attrs_post_init__(self) -> None:
        check_optimizer(type(self).__name__, self.optimizer)
        self.check()

    def check(self) -> None:
        """Raise if a setting is invalid."""

    def rate(self, step: int, /) -> float:
        """The inner optimizer's learning rate after so many updates."""
        return rated(self.optimizer, type(self).__name__).rate(step)

    def init(self, params: N, /) -> Moments[N]:
        """The inner optimizer's moments."""
        return initial(self.optimizer, params)


@frozen
class ClipByValue(Wrapper):
    """An optimizer that gets its gradients through ``clip_by_value``.

    Args:
        optimizer: What updates.
        limit: The largest size of an element.

    Example:
        >>> import funcnet as fn
        >>> ClipByValue(fn.SGD(learning_rate=0.1), limit=1.0)
        ClipByValue(optimizer=SGD(learning_rate=0.1), limit=1.0)
    """

    limit: float

    def check(self) -> None:
        """The limit is above 0."""
        check_number("ClipByValue", "limit", self.limit, low=0, high=INFINITY)

    def update(self, params: N, grads: N, moments: Moments[N], step: int, /) -> tuple[N, Moments[N]]:
        """The inner update with clipped gradients."""
        return updated(self.optimizer, params, clip_by_value(grads, self.limit), moments, step)


@frozen
class ClipByGlobalNorm(Wrapper):
    """An optimizer that gets its gradients through ``clip_by_global_norm``.

    Args:
        optimizer: What updates.
        max_norm: The largest global norm.

    Example:
        >>> import funcnet as fn
        >>> ClipByGlobalNorm(fn.SGD(learning_rate=0.1), max_norm=1.0)
        ClipByGlobalNorm(optimizer=SGD(learning_rate=0.1), max_norm=1.0)
    """

    max_norm: float

    def check(self) -> None:
        """The norm is above 0."""
        check_number("ClipByGlobalNorm", "max_norm", self.max_norm, low=0, high=INFINITY)

    def update(self, params: N, grads: N, moments: Moments[N], step: int, /) -> tuple[N, Moments[N]]:
        """The inner update with clipped gradients."""
        return updated(self.optimizer, params, clip_by_global_norm(grads, self.max_norm), moments, step)


@frozen
class WeightDecay(Wrapper):
    """An optimizer with decoupled weight decay: first ``p * (1 - rate * weight_decay)``, for fields of type ``Weight``.

    ``rate`` is the inner optimizer's. Around ``Adam`` it is ``AdamW``. PyTorch's other optimizers add ``weight_decay *
    p`` to the gradient of every parameter instead: for plain SGD, and if all is decayed, that is the same.

    Args:
        optimizer: What updates.
        weight_decay: 0 or more.

    Source: Loshchilov and Hutter, "Decoupled weight decay regularization", ICLR 2019.

    Example:
        >>> import funcnet as fn
        >>> WeightDecay(fn.SGD(learning_rate=0.1), weight_decay=1e-4)
        WeightDecay(optimizer=SGD(learning_rate=0.1), weight_decay=0.0001)
    """

    weight_decay: float

    def check(self) -> None:
        """The decay is 0 or more, and the inner optimizer says its rate."""
        check_number("WeightDecay", "weight_decay", self.weight_decay, low=0, high=INFINITY, closed=True)
        rated(self.optimizer, "WeightDecay")
        if any(isinstance(inner, Accumulation) for inner in chain(self.optimizer)):
            reason = "it would decay in steps without an update"
            raise ConfigError(f"put WeightDecay inside of Accumulation; outside, {reason}", subject="WeightDecay")

    def update(self, params: N, grads: N, moments: Moments[N], step: int, /) -> tuple[N, Moments[N]]:
        """The inner update of smaller weights."""
        kept = 1.0 - rate_of(self, step) * float(self.weight_decay)
        check_tree("WeightDecay", params)
        return updated(self.optimizer, map_decayed(lambda w: w * kept, params), grads, moments, step)


@frozen
class Accumulation(Wrapper):
    """An optimizer that updates once in ``steps`` steps, with the mean of their gradients: a large batch in parts.

    In the steps between, the parameters stay. It keeps one moment, the sum so far. To the inner optimizer and its
    schedule only updates count.

    Args:
        optimizer: What updates.
        steps: How many gradients make an update.

    Example:
        >>> import funcnet as fn
        >>> Accumulation(fn.SGD(learning_rate=0.1), steps=4)
        Accumulation(optimizer=SGD(learning_rate=0.1), steps=4)
    """

    steps: int

    def check(self) -> None:
        """Steps are counted."""
        check_count("Accumulation", "steps", self.steps)

    def rate(self, step: int, /) -> float:
        """The inner optimizer's learning rate."""
        check_count("Accumulation", "step", step, low=0)
        return super().rate(step // self.steps)

    def init(self, params: N, /) -> Moments[N]:
        """A sum of zero, and the inner moments."""
        return Moments.of(sum=zeros_like(params)).around(super().init(params))

    def update(self, params: N, grads: N, moments: Moments[N], step: int, /) -> tuple[N, Moments[N]]:
        """A longer sum, or the inner update."""
        check_moments("Accumulation", moments, ("sum",), around=True)
        check_count("Accumulation", "step", step, low=0)
        inner, count = moments.inner(), float(self.steps)
        total = map_parameters(lambda s, g: s + g, moments["sum"], grads)
        if not (step + 1) % self.steps:
            mean = map_parameters(lambda s: s / count, total)
            params, inner = updated(self.optimizer, params, mean, inner, step // self.steps)
            total = zeros_like(total)
        return params, Moments.of(sum=total).around(inner)


@frozen
class Averaging(Wrapper):
    """An optimizer that also keeps a moving average of the parameters: ``averaged(state)`` is that network.

    The average is exponential, ``a' = a + (1 - decay) * (p' - a)``, and after the first update ``p'`` itself, as in
    PyTorch's ``AveragedModel`` with ``get_ema_multi_avg_fn``. It is one moment, and changes no update.

    Args:
        optimizer: What updates.
        decay: What stays of the average in a step.

    Source: Polyak and Juditsky, "Acceleration of stochastic approximation by averaging", SIAM Journal on Control and
    Optimization 30 (1992), for averages of parameters.

    Example:
        >>> import funcnet as fn
        >>> Averaging(fn.SGD(learning_rate=0.1), decay=0.99)
        Averaging(optimizer=SGD(learning_rate=0.1), decay=0.99)
    """

    decay: float = 0.999

    def check(self) -> None:
        """The decay is a share."""
        check_number("Averaging", "decay", self.decay, low=0, high=1, closed=True)

    def init(self, params: N, /) -> Moments[N]:
        """The parameters, and the inner moments."""
        return Moments.of(average=params).around(super().init(params))

    def update(self, params: N, grads: N, moments: Moments[N], step: int, /) -> tuple[N, Moments[N]]:
        """The inner update, and the average after it."""
        check_moments("Averaging", moments, ("average",), around=True)
        check_count("Averaging", "step", step, low=0)
        fresh = float(1.0 - self.decay)
        params, inner = updated(self.optimizer, params, grads, moments.inner(), step)
        if step:
            average = map_parameters(lambda a, p: a + (p - a) * fresh, moments["average"], params)
        else:
            average = map_parameters(lambda _, p: p, moments["average"], params)
        return params, Moments.of(average=average).around(inner)


def chain(optimizer: Optimizer) -> Iterator[Optimizer]:
    """An optimizer and all inside of it, from the outer to the inner."""
    yield optimizer
    while isinstance(optimizer, Wrapper):
        optimizer = optimizer.optimizer
        yield optimizer


def average_in(optimizer: Optimizer, moments: Moments[N], subject: str) -> N | None:
    """The averaged network among an optimizer's moments; None if none is kept.

    Raises:
        StructureError: If it should be there and is not.
    """
    prefix = ""
    for each in chain(optimizer):
        if isinstance(each, Averaging):
            name = f"{prefix}average"
            if not isinstance(moments, Moments) or name not in moments.names:
                check_moments(subject, moments, (name,), around=True)
            return moments[name]
        if isinstance(each, Accumulation):
            prefix += INNER
    return None


for _wrapper in (ClipByValue, ClipByGlobalNorm, WeightDecay, Accumulation, Averaging):
    register_name(_wrapper, f"funcnet.{_wrapper.__name__}")
