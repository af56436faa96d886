"""Optimizers that wrap an optimizer: clipping, decoupled weight decay, accumulated gradients, averaged weights.

In ``ClipByGlobalNorm(Averaging(AdamW(learning_rate=1e-3)), max_norm=1.0)``, the outer optimizer gets the gradients
first. A wrapper with its own moment puts that moment first and adds ``inner.`` to the names of the inner optimizer's
moments. In this example, the names are ``average``, ``inner.mean`` and ``inner.square``.
"""

from __future__ import annotations

import math
from typing import Final

from attrs import evolve, field, frozen

from funcnet.core.checks import INFINITY, as_float, check_count, check_flag, check_number
from funcnet.core.errors import ConfigError
from funcnet.core.names import LATER, register_name
from funcnet.core.records import check_tree
from funcnet.core.trees import check_alike, map_decayed, map_parameters
from funcnet.network.layer import N
from funcnet.optimizers.gradients import clip_by_global_norm, clip_by_value
from funcnet.optimizers.moments import INNER, Moments
from funcnet.optimizers.protocol import (
    Optimizer,
    Wrapper,
    chain,
    check_moments,
    rate_of,
    rated,
    updated,
    zeros_like,
)

EQUAL: Final = 1.0
"""The total of each gradient in a window whose totals are not known: they count equally."""


@frozen
class ClipByValue(Wrapper):
    """An optimizer whose gradients are first clipped by ``clip_by_value``.

    Inside ``Accumulation``, it clips the mean of the parts; around it, the gradient of each part.

    Args:
        optimizer: The inner optimizer.
        limit: The largest absolute value of an element.

    Example:
        >>> import funcnet as fn
        >>> ClipByValue(fn.SGD(learning_rate=0.1), limit=1.0)
        ClipByValue(optimizer=SGD(learning_rate=0.1), limit=1.0)
    """

    limit: float

    def check(self) -> None:
        """Check that the limit is above 0."""
        check_number("ClipByValue", "limit", self.limit, low=0, high=INFINITY)

    def update(
        self, params: N, grads: N, moments: Moments[N], step: int, total: float = 1.0, /
    ) -> tuple[N, Moments[N]]:
        """Apply the inner update to the clipped gradients."""
        return updated(self.optimizer, params, clip_by_value(grads, self.limit), moments, step, total)


@frozen
class ClipByGlobalNorm(Wrapper):
    """An optimizer whose gradients are first clipped by ``clip_by_global_norm``.

    Inside ``Accumulation``, it clips the mean of the parts; around it, the gradient of each part.

    Args:
        optimizer: The inner optimizer.
        max_norm: The largest global norm.

    Example:
        >>> import funcnet as fn
        >>> ClipByGlobalNorm(fn.SGD(learning_rate=0.1), max_norm=1.0)
        ClipByGlobalNorm(optimizer=SGD(learning_rate=0.1), max_norm=1.0)
    """

    max_norm: float

    def check(self) -> None:
        """Check that the norm is above 0."""
        check_number("ClipByGlobalNorm", "max_norm", self.max_norm, low=0, high=INFINITY)

    def update(
        self, params: N, grads: N, moments: Moments[N], step: int, total: float = 1.0, /
    ) -> tuple[N, Moments[N]]:
        """Apply the inner update to the clipped gradients."""
        return updated(self.optimizer, params, clip_by_global_norm(grads, self.max_norm), moments, step, total)


@frozen
class WeightDecay(Wrapper):
    """An optimizer with decoupled weight decay: first ``p * (1 - rate * weight_decay)``, for fields of type ``Weight``.

    ``rate`` is the inner optimizer's learning rate. Around ``Adam``, this is ``AdamW``. With ``coupled=True``, the
    decay is instead part of the gradient: ``g + weight_decay * p``. This is the ``weight_decay`` of PyTorch's
    optimizers other than ``AdamW``, which also decay biases. For plain SGD, both forms are the same.

    Args:
        optimizer: The inner optimizer.
        weight_decay: A number that is 0 or more.
        coupled: Whether the decay is added to the gradient, as the gradient of ``weight_decay * p² / 2`` in the loss.

    Source: Loshchilov and Hutter, "Decoupled weight decay regularization", ICLR 2019, for both forms.

    Example:
        >>> import funcnet as fn
        >>> WeightDecay(fn.SGD(learning_rate=0.1), weight_decay=1e-4)
        WeightDecay(optimizer=SGD(learning_rate=0.1), weight_decay=0.0001, coupled=False)
    """

    weight_decay: float
    coupled: bool = field(default=False, kw_only=True, metadata=LATER)

    def check(self) -> None:
        """Check the settings. Decoupled decay also needs an inner optimizer with a rate that does not accumulate."""
        check_number("WeightDecay", "weight_decay", self.weight_decay, low=0, high=INFINITY, closed=True)
        if check_flag("WeightDecay", "coupled", self.coupled):
            return
        rated(self.optimizer, "WeightDecay")
        if any(isinstance(inner, Accumulation) for inner in chain(self.optimizer)):
            reason = "it would decay in steps without an update"
            raise ConfigError(f"put WeightDecay inside Accumulation; outside, {reason}", subject="WeightDecay")

    def update(
        self, params: N, grads: N, moments: Moments[N], step: int, total: float = 1.0, /
    ) -> tuple[N, Moments[N]]:
        """Decay the weights, or add the decay to the gradients, then apply the inner update."""
        check_tree("WeightDecay", params)
        if self.coupled:
            decay = as_float(self.weight_decay)
            check_alike(params, grads)
            grads = map_decayed(lambda g, w: g + w * decay, grads, params)
        else:
            kept = 1.0 - rate_of(self, step) * as_float(self.weight_decay)
            params = map_decayed(lambda w: w * kept, params)
        return updated(self.optimizer, params, grads, moments, step, total)


@frozen
class Accumulation(Wrapper):
    """An optimizer that updates once every ``steps`` steps, with the mean of their gradients: a large batch in parts.

    Each gradient counts by its total: the number of rows of its batch, or of steps in sequences, or the sum of their
    weights. The update is therefore that of the whole batch, even if its parts differ in size, and a part whose total
    is 0 counts for nothing. The parameters do not change in the other steps. The inner optimizer and its schedule count
    only the updates.

    If the number of batches in an epoch is not a multiple of ``steps``, the last window continues in the next epoch. At
    the end of a run, ``flushed(state)`` applies the gradients that still wait for their update.

    Args:
        optimizer: The inner optimizer.
        steps: The number of gradients in an update.

    Example:
        >>> import funcnet as fn
        >>> Accumulation(fn.SGD(learning_rate=0.1), steps=4)
        Accumulation(optimizer=SGD(learning_rate=0.1), steps=4)
    """

    steps: int

    def check(self) -> None:
        """Check that steps is an int of at least 1, and that the inner optimizer does not accumulate."""
        check_count("Accumulation", "steps", self.steps)
        for inner in chain(self.optimizer):
            if isinstance(inner, Accumulation):
                fix = f"use one Accumulation with steps={self.steps * inner.steps}"
                raise ConfigError(f"the inner optimizer must not accumulate; {fix}", subject="Accumulation")

    def rate(self, step: int, /) -> float:
        """Return the inner optimizer's learning rate for the update that this step belongs to."""
        check_count("Accumulation", "step", step, low=0)
        return super().rate(step // self.steps)

    def init(self, params: N, /) -> Moments[N]:
        """Return a sum of zeros with a total of 0, and the inner moments."""
        return evolve(Moments.of(sum=zeros_like(params)).around(super().init(params)), total=0.0)

    def update(
        self, params: N, grads: N, moments: Moments[N], step: int, total: float = 1.0, /
    ) -> tuple[N, Moments[N]]:
        """Add the gradients, times their total, to the sum, and apply the inner update if the window is complete."""
        check_moments("Accumulation", moments, ("sum",), around=True)
        check_count("Accumulation", "step", step, low=0)
        inner, before = evolve(moments.inner(), total=None), moments.total
        part = EQUAL if before is None else total
        whole = part + (EQUAL * (step % self.steps) if before is None else before)
        grads = map_parameters(lambda s, g: s + g * part, moments["sum"], grads)
        if (step + 1) % self.steps:
            return params, evolve(Moments.of(sum=grads).around(inner), total=None if before is None else whole)
        if whole:
            mean = map_parameters(lambda s: s / whole, grads)
            params, inner = updated(self.optimizer, params, mean, inner, step // self.steps)
        return params, evolve(Moments.of(sum=zeros_like(grads)).around(inner), total=0.0)


@frozen
class Averaging(Wrapper):
    """An optimizer that also keeps a moving average of the parameters, which ``averaged(state)`` returns.

    The average is exponential, ``a' = a + (1 - decay) * (p' - a)``. After the first update, it is ``p'`` itself, as in
    PyTorch's ``AveragedModel`` with ``get_ema_multi_avg_fn``. It is one moment and does not affect the updates. Around
    ``Accumulation``, it counts updates, not steps.

    Args:
        optimizer: The inner optimizer.
        decay: The fraction of the average that each update keeps.

    Source: Polyak and Juditsky, "Acceleration of stochastic approximation by averaging", SIAM Journal on Control and
    Optimization 30 (1992), for averages of parameters.

    Example:
        >>> import funcnet as fn
        >>> Averaging(fn.SGD(learning_rate=0.1), decay=0.99)
        Averaging(optimizer=SGD(learning_rate=0.1), decay=0.99)
    """

    decay: float = 0.999

    def check(self) -> None:
        """Check that the decay is from 0 to below 1."""
        check_number("Averaging", "decay", self.decay, low=0, high=1, closed=True)

    def init(self, params: N, /) -> Moments[N]:
        """Return the parameters as the average, and the inner moments."""
        return Moments.of(average=params).around(super().init(params))

    def update(
        self, params: N, grads: N, moments: Moments[N], step: int, total: float = 1.0, /
    ) -> tuple[N, Moments[N]]:
        """Apply the inner step, and update the average if that was an update."""
        check_moments("Averaging", moments, ("average",), around=True)
        check_count("Averaging", "step", step, low=0)
        window = window_of(self)
        params, inner = updated(self.optimizer, params, grads, moments.inner(), step, total)
        average, fresh = moments["average"], as_float(1.0 - self.decay)
        if not (step + 1) % window:
            if step // window:
                average = map_parameters(lambda a, p: a + (p - a) * fresh, average, params)
            else:
                average = map_parameters(lambda _, p: p, average, params)
        return params, Moments.of(average=average).around(inner)


def window_of(optimizer: Optimizer) -> int:
    """Return the number of steps in an update: that of an ``Accumulation`` inside the optimizer, or 1."""
    return math.prod(int(each.steps) for each in chain(optimizer) if isinstance(each, Accumulation))


def average_in(optimizer: Optimizer, moments: Moments[N], subject: str) -> N | None:
    """Return the averaged network among an optimizer's moments, or None if the optimizer does not keep an average.

    Raises:
        StructureError: If the optimizer keeps an average but the moments do not contain it.
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
