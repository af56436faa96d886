"""Train a small network on scikit-learn's bundled digits, plot its accuracy, and show which digits it misreads.

Run: python examples/digits.py [--epochs 60] [--seed 0] [--figure digits.png]
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from tqdm import tqdm

import funcnet as fn

HELD_OUT = 360


def picture(path: Path, logs: list[fn.EpochLog], held_out: list[float], net: fn.Network, test: fn.Batch[Any]) -> None:
    """Plot the curves on the left and the misread digits on the right."""
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    (left, right), *_ = figure.subfigures(1, 2, squeeze=False, width_ratios=[4, 5])
    top, bottom = left.subplots(2, 1)
    fn.plots.learning_curves(logs, axes=top)
    fn.plots.learning_curves({"held out": held_out}, scale="linear", axes=bottom)
    bottom.set(title="", ylabel="accuracy")
    fn.plots.misclassified(net, test.x, test.y, figure=right)
    figure.savefig(path, dpi=120)


def main() -> None:
    """Train, print the accuracies, and save the figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--figure", type=Path, default=Path("digits.png"))
    arguments = parser.parse_args()

    digits = fn.datasets.load_digits()
    order = fn.random.permutation(fn.Key(1797), len(digits.x))
    x, y = digits.x[order], digits.y[order]
    train, test = fn.Batch(x[:-HELD_OUT], y[:-HELD_OUT]), fn.Batch(x[-HELD_OUT:], y[-HELD_OUT:])
    key = fn.Key(arguments.seed)
    run = fn.train(
        fn.sgd_step(fn.softmax_cross_entropy, learning_rate=0.1),
        fn.mlp(key, (64, 64, 10)),
        lambda epoch: fn.minibatches(train.x, train.y, batch_size=16, key=key.child("shuffle", epoch)),
        epochs=range(arguments.epochs),
    )
    net: tuple[fn.Layer, ...] = ()
    logs: list[fn.EpochLog] = []
    held_out: list[float] = []
    for net, log in tqdm(run, total=arguments.epochs, unit="epoch"):
        logs.append(log)
        held_out.append(fn.accuracy(fn.predict(net, test.x, fn.Multiclass()), test.y))

    picture(arguments.figure, logs, held_out, net, test)
    wrong = int((fn.predict(net, test.x, fn.Multiclass()) != test.y).sum())
    print(f"Training accuracy: {fn.accuracy(fn.predict(net, train.x, fn.Multiclass()), train.y):.4f}")
    print(f"Held-out accuracy: {held_out[-1]:.4f}, {wrong} of {HELD_OUT} digits misread")
    print(f"Figure: {arguments.figure}")


if __name__ == "__main__":
    main()
