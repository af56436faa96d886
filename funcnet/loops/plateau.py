"""Plateaus: a learning rate that ``fit`` reduces when the watched value has stopped improving."""

from __future__ import annotations

from typing import Any, TypeVar, cast

from attrs import evolve, frozen

from funcnet.core.checks import check_count, check_number
from funcnet.core.errors import ConfigError
from funcnet.core.names import register_name
from funcnet.core.records import Settings
from funcnet.loops.steps import TrainState
from funcnet.optimizers.scaling import scaled

S = TypeVar("S")


@frozen
class ReduceOnPlateau(Settings):
    """A setting of ``fit``: multiply the learning rate by ``factor`` after ``patience`` epochs without a better value.

    The ``goal`` and ``min_delta`` of ``fit`` decide what is better. The rate is reduced each time that ``Fit.waited``,
    the number of epochs since the best one, is ``patience``, ``2 * patience`` and so on. ``Fit.multiplier`` is the
    product of the factors.

    This is Keras's ``ReduceLROnPlateau``. PyTorch's reduces one epoch later: its ``patience=p`` is ``patience=p + 1``
    here, its ``threshold`` in the mode ``"abs"`` is the ``min_delta`` of ``fit``, and its ``min_lr`` is the learning
    rate times ``lowest``.

    The rate of a schedule is multiplied at each step. Decoupled weight decay is reduced with the rate, of which it is a
    multiple. The optimizer in ``Fit.state`` keeps its own rate, which ``flushed`` and your own loops therefore use.
    Your own step must not change the optimizer: after an epoch with a reduced rate, ``fit`` restores the optimizer of
    the epoch's first state.

    Args:
        factor: A number between 0 and 1.
        patience: The number of epochs without a better value.
        lowest: The lowest multiplier, between 0 and 1.

    Example:
        >>> import numpy as np
        >>> import funcnet as fn
        >>> x, y = np.eye(2, dtype=np.float32), np.array([0, 1])
        >>> state = fn.TrainState.create(fn.mlp(fn.Key(0), (2, 2)), fn.SGD(learning_rate=0.5), key=fn.Key(0))
        >>> *_, last = fn.fit(
        ...     fn.train_step(fn.softmax_cross_entropy),
        ...     fn.Fit.create(state),
        ...     lambda epoch: fn.minibatches(x, y, 2),
        ...     lambda state: 1.0,  # never better than after the first epoch
        ...     epochs=6,
        ...     plateau=ReduceOnPlateau(factor=0.5, patience=2),
        ... )
        >>> last, last.history["multiplier"]
        (Fit(epoch=6, best_epoch=0, waited=5, multiplier=0.25), array([1.  , 1.  , 1.  , 0.5 , 0.5 , 0.25]))
    """

    factor: float = 0.1
    patience: int = 10
    lowest: float = 1e-6

    def check(self) -> None:
        """Check the settings."""
        check_number("ReduceOnPlateau", "factor", self.factor, low=0, high=1)
        check_count("ReduceOnPlateau", "patience", self.patience)
        check_number("ReduceOnPlateau", "lowest", self.lowest, low=0, high=1)

    def reduced(self, multiplier: float, waited: int) -> float:
        """Return the multiplier of the next epoch, ``waited`` epochs after the best one."""
        if not waited or waited % self.patience:
            return multiplier
        return min(multiplier, max(multiplier * self.factor, self.lowest))


def with_multiplier(state: S, multiplier: float) -> S:
    """Return the state with its optimizer's learning rate multiplied, for one epoch.

    Raises:
        ConfigError: If the state is not a ``TrainState``, or its optimizer does not have a learning rate to multiply.

    Example:
        >>> import funcnet as fn
        >>> state = fn.TrainState.create(fn.mlp(fn.Key(0), (2, 2)), fn.SGD(learning_rate=0.5), key=fn.Key(0))
        >>> with_multiplier(state, 0.5).optimizer
        SGD(learning_rate=0.25)
    """
    if not isinstance(state, TrainState):
        reason = "its optimizer has the learning rate that plateau reduces"
        fix = "use TrainState.create(net, optimizer, key=...) and train_step(loss)"
        raise ConfigError(f"the state must be a TrainState: {reason}, got {state!r:.80}; {fix}", subject="fit")
    run = cast("TrainState[Any]", state)
    return cast("S", evolve(run, optimizer=scaled("fit", run.optimizer, multiplier)))


def with_optimizer_of(state: S, start: S) -> S:
    """Return the state after an epoch with the optimizer of the state before it."""
    return cast("S", evolve(cast("TrainState[Any]", state), optimizer=cast("TrainState[Any]", start).optimizer))


register_name(ReduceOnPlateau, "funcnet.ReduceOnPlateau")
