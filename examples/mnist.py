"""Repeat the post's run: 784-100-200-10 on MNIST, batches of 32, learning rate 0.1, 25 epochs.

Run: python examples/mnist.py [--data DIRECTORY] [--epochs 25] [--seed 0] [--batch-size 32] [--figure mnist.png]
"""

from __future__ import annotations

import argparse
from pathlib import Path

from tqdm import tqdm

import funcnet as fn


def picture(path: Path, train_log: list[float], validation_log: list[float]) -> None:
    """Plot both accuracies by epoch, as the post does."""
    figure = fn.plots.learning_curves({"training": train_log, "validation": validation_log}, scale="linear")
    figure.axes[0].set(ylabel="accuracy", title="784-100-200-10 on MNIST")
    figure.axes[0].grid(visible=True)
    figure.savefig(path, dpi=120)


def main() -> None:
    """Train, print both accuracies after each epoch, and save the curves."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, help="directory of the four MNIST files (default: search, then download)")
    parser.add_argument("--epochs", type=int, default=25)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--figure", type=Path, default=Path("mnist.png"))
    arguments = parser.parse_args()

    data = fn.datasets.load_mnist(arguments.data)
    key = fn.Key(arguments.seed)
    step = fn.sgd_step(fn.softmax_cross_entropy, learning_rate=0.1)
    net = fn.mlp(key, (784, 100, 200, 10))
    train_log: list[float] = []
    validation_log: list[float] = []
    for epoch in range(arguments.epochs):
        order = key.child("shuffle", epoch)
        batches = fn.minibatches(data.train.x, data.train.y, arguments.batch_size, key=order)
        net, _ = fn.train_epoch(step, net, tqdm(batches, desc=f"Epoch {epoch}", leave=False))
        train_log.append(fn.accuracy(fn.predict(net, data.train.x, fn.Multiclass()), data.train.y))
        validation_log.append(fn.accuracy(fn.predict(net, data.validation.x, fn.Multiclass()), data.validation.y))
        print(f"Epoch {epoch}\nTrain accuracy: {train_log[-1]}\nVal accuracy: {validation_log[-1]}", flush=True)
    print(f"Test accuracy: {fn.accuracy(fn.predict(net, data.test.x, fn.Multiclass()), data.test.y)}")
    picture(arguments.figure, train_log, validation_log)
    print(f"Figure: {arguments.figure}")


if __name__ == "__main__":
    main()
