"""The reference run on real digits: 300 portable steps with dropout and momentum, and its golden fingerprint."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final, TypeAlias

import funcnet as fn
from funcnet.arithmetic import Name, using

KEY: Final = fn.Key(2026)
STEPS: Final = 300
REFERENCE: Final = "97d2ea52e58d81dadf0a002d8fd47b0e035adc53294962b6817ee0557024f238"
Net: TypeAlias = tuple[fn.Dense, fn.ReLU, fn.Dropout, fn.Dense, fn.ReLU, fn.Dense]


def directory() -> Path | None:
    """Return the directory of MNIST, if ``FUNCNET_DATA`` names it."""
    home = Path(os.environ.get("FUNCNET_DATA", "")) / "mnist"
    return home if "FUNCNET_DATA" in os.environ and home.is_dir() else None


def start() -> fn.TrainState[Net]:
    """Return the initial state of 784-100-200-10 with dropout and momentum, in the arithmetic in force."""
    init = KEY.child("init")
    net = (
        *(fn.dense(init.child(0), 784, 100), fn.ReLU(), fn.Dropout(0.2)),
        *(fn.dense(init.child(1), 100, 200), fn.ReLU(), fn.dense(init.child(2), 200, 10)),
    )
    return fn.TrainState.create(net, fn.Momentum(learning_rate=0.02), key=KEY.child("run"))


def mnist_run(home: Path, arithmetic: Name = "portable", *, steps: int = STEPS) -> tuple[str, float]:
    """Return the state's fingerprint after the given number of steps, and the accuracy on 2,000 unseen digits."""
    data = fn.datasets.load_mnist(home)
    batches = fn.minibatches(data.train.x, data.train.y, 32, key=KEY.child("shuffle", 0))
    with using(arithmetic):
        state, _ = fn.train_epoch(fn.train_step(fn.softmax_cross_entropy), start(), batches[:steps])
        accuracy = fn.accuracy(
            fn.predict(state.params, data.validation.x[:2000], fn.Multiclass()), data.validation.y[:2000]
        )
    return fn.fingerprint(state), accuracy
