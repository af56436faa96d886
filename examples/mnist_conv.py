"""A small LeNet on MNIST: two convolutions and three dense layers, 61,706 numbers, batches of 32, momentum, 10 epochs.

Run: python examples/mnist_conv.py [--data DIRECTORY] [--epochs 10] [--seed 0] [--rows 50000] [--figure mnist_conv.png]

The settings were chosen by validation accuracy. The test accuracy is that of the last epoch's network, looked at once.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.ticker import MaxNLocator
from tqdm import tqdm

import funcnet as fn
from funcnet.initializers import he_normal


def lenet(key: fn.Key) -> tuple[fn.Conv2D, *tuple[fn.Layer, ...]]:
    """LeNet-5 as it is built today: ReLU, the largest of four, and every channel connected to every other."""
    keys = [key.child("init", layer) for layer in range(5)]
    return (
        *(fn.conv2d(keys[0], 1, 6, 5, padding="same", init=he_normal), fn.ReLU(), fn.MaxPool2D(2)),
        *(fn.conv2d(keys[1], 6, 16, 5, init=he_normal), fn.ReLU(), fn.MaxPool2D(2), fn.Flatten()),
        *(fn.dense(keys[2], 400, 120, init=he_normal), fn.ReLU()),
        *(fn.dense(keys[3], 120, 84, init=he_normal), fn.ReLU(), fn.dense(keys[4], 84, 10)),
    )


def picture(path: Path, train_log: list[float], validation_log: list[float], kernels: fn.Array) -> None:
    """Both accuracies by epoch, and the six kernels that the first layer has learned."""
    figure, axes = plt.subplot_mosaic([["curve", *"012"], ["curve", *"345"]], figsize=(9, 4), width_ratios=[4, 1, 1, 1])
    epochs = range(1, len(train_log) + 1)
    axes["curve"].plot(epochs, train_log, marker=".", label="train accuracy")
    axes["curve"].plot(epochs, validation_log, marker=".", label="validation accuracy")
    axes["curve"].set(xlabel="epoch", ylabel="accuracy", title="LeNet on MNIST")
    axes["curve"].xaxis.set_major_locator(MaxNLocator(integer=True))
    axes["curve"].legend(loc="best")
    axes["curve"].grid(visible=True)
    largest = float(np.abs(kernels).max())
    for position in range(6):
        axes[str(position)].imshow(kernels[:, :, 0, position], cmap="RdBu", vmin=-largest, vmax=largest)
        axes[str(position)].set_axis_off()
        axes[str(position)].set_title(f"kernel {position}", fontsize=9)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main() -> None:
    """Train, print both accuracies an epoch, save the curve and the kernels."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, help="where the four MNIST files are (default: look, then download)")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rows", type=int, default=50_000, help="how many training images, for a quick try")
    parser.add_argument("--figure", type=Path, default=Path("mnist_conv.png"))
    arguments = parser.parse_args()
    mpl.use("agg")

    data = fn.datasets.load_mnist(arguments.data, flatten=False)
    x, y = data.train.x[: arguments.rows], data.train.y[: arguments.rows]
    key = fn.Key(arguments.seed)
    run = fn.train(
        fn.train_step(fn.softmax_cross_entropy),
        fn.TrainState.create(lenet(key), fn.Momentum(learning_rate=0.01), key=key.child("run")),
        lambda epoch: tqdm(fn.minibatches(x, y, 32, key=key.child("shuffle", epoch)), f"Epoch {epoch}", leave=False),
        epochs=range(arguments.epochs),
    )
    net = lenet(key)
    train_log: list[float] = []
    validation_log: list[float] = []
    for epoch, (state, _) in enumerate(run):
        net = state.params
        train_log.append(fn.accuracy(fn.predict(net, x), y))
        validation_log.append(fn.accuracy(fn.predict(net, data.validation.x), data.validation.y))
        print(f"Epoch {epoch}: train accuracy {train_log[-1]:.4f}, validation {validation_log[-1]:.4f}", flush=True)
    print(f"Test accuracy: {fn.accuracy(fn.predict(net, data.test.x), data.test.y):.4f}")
    picture(arguments.figure, train_log, validation_log, net[0].weight)
    print(f"Figure: {arguments.figure}")


if __name__ == "__main__":
    main()
