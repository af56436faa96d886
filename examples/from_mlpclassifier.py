"""From scikit-learn's MLPClassifier to funcnet: one task in both, and three features that MLPClassifier lacks.

They are dropout, an activation for each layer, and the loss on a chosen validation set after every epoch. Each seed
splits the digits anew. The dropout rate and the number of epochs are the best of six settings on seeds 10 to 14.
Run: python examples/from_mlpclassifier.py [--seeds 0 1 2 3 4] [--figure figures/from_mlpclassifier.png]
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Final, TypeAlias, cast

import numpy as np
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier

import funcnet as fn

Net: TypeAlias = tuple[fn.Layer, ...]
RATE, BATCH, EPOCHS, HELD_OUT, DROP = 0.001, 32, 120, 360, fn.Dropout(0.05)
NAMES: Final = ("MLPClassifier", "funcnet, the same", "funcnet, with more")


def peer(rows: fn.Batch[Any], seed: int) -> Any:
    """Train scikit-learn's network for all epochs, with ReLU and Adam, its defaults."""
    settings: Any = {"alpha": 0.0, "batch_size": BATCH, "learning_rate_init": RATE, "random_state": seed}
    model: Any = MLPClassifier((64, 32), **settings)
    for _ in range(EPOCHS):
        model.partial_fit(rows.x, rows.y, classes=range(10))
    return model


def brought(model: Any) -> Net:
    """Convert a fitted MLPClassifier with ReLU to a network: its weights have the layout of Dense."""
    first, *others = (fn.Dense(weight=w, bias=b) for w, b in zip(model.coefs_, model.intercepts_, strict=True))
    return (first, *(layer for dense in others for layer in (fn.ReLU(), dense)))


def networks(key: fn.Key) -> tuple[Net, Net]:
    """Two networks: one with the same sizes and activation, and one with dropout, GELU and Tanh."""
    first, second, last = (fn.dense(key.child(i), *sizes) for i, sizes in enumerate([(64, 64), (64, 32), (32, 10)]))
    return (first, fn.ReLU(), second, fn.ReLU(), last), (DROP, first, fn.GELU(), DROP, second, fn.Tanh(), last)


def train(net: Net, rows: fn.Batch[Any], validation: fn.Batch[Any], key: fn.Key) -> fn.Fit[fn.TrainState[Net]]:
    """Train for all epochs; the result has the losses of every epoch, the last state and the best one."""
    *_, run = fn.fit(
        fn.train_step(fn.softmax_cross_entropy),
        fn.Fit.create(fn.TrainState.create(net, fn.Adam(learning_rate=RATE), key=key.child("run"))),
        lambda epoch: fn.minibatches(rows.x, rows.y, BATCH, key=key.child("shuffle", epoch)),
        lambda state: fn.evaluate(state.params, validation.x, validation.y, fn.softmax_cross_entropy),
        epochs=EPOCHS,
    )
    return run


def picture(path: Path, losses: list[float], runs: list[fn.Fit[fn.TrainState[Net]]]) -> None:
    """Plot the training loss of MLPClassifier, and the training and validation loss of the two funcnet runs."""
    axes = (figure := Figure(figsize=(11, 4), layout="constrained")).subplots(1, 3, sharey=True)
    axes[0].plot(losses)
    for spot, run in zip(axes[1:], runs, strict=True):
        for column in ("loss", "validation"):
            spot.plot("epoch", column, data=run.history)
        spot.axvline(run.best_epoch or 0, color="gray", linestyle=":", label="best epoch")
        spot.legend()
    for spot, name in zip(axes, NAMES, strict=True):
        spot.set(title=name, xlabel="epoch", yscale="log")
    axes[0].set_ylabel("cross-entropy")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def main() -> None:
    """Train the three on the split of each seed, print test accuracy and log loss, and save the curves."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--figure", type=Path, default=Path("figures/from_mlpclassifier.png"))
    arguments = parser.parse_args()
    x, y = cast("tuple[fn.Array, Any]", load_digits(return_X_y=True))
    table: list[list[tuple[float, float]]] = []
    print(f"{'test accuracy (log loss)':24}", *(f"{name:>20}" for name in NAMES))
    for seed in arguments.seeds:
        key = fn.Key(seed)
        rest, test = fn.split((x / 16).astype(np.float32), y, HELD_OUT, key=key.child("test"))
        rows, validation = fn.split(rest.x, rest.y, HELD_OUT, key=key.child("validation"))
        model = peer(rows, seed)
        runs = [train(net, rows, validation, key) for net in networks(key.child("init"))]
        found = [fn.predict_proba(net, test.x) for net in (brought(model), *(run.best.params for run in runs))]
        assert np.allclose(found[0], model.predict_proba(test.x), atol=1e-5)
        table.append([(fn.accuracy(p.argmax(axis=1), test.y), fn.metrics.log_loss(p, test.y)) for p in found])
        print(f"{f'seed {seed}':24}", *(f"{right:11.4f} ({loss:.4f})" for right, loss in table[-1]))
        picture(arguments.figure, model.loss_curve_, runs)
    print(f"{'mean':24}", *(f"{right:11.4f} ({loss:.4f})" for right, loss in np.mean(table, axis=0)))
    print(f"Figure: {arguments.figure}")


if __name__ == "__main__":
    main()
