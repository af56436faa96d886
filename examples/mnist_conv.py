"""Train a small LeNet on MNIST: two convolutions, three dense layers, 61,706 parameters, 10 epochs, random shifts.

Run: python examples/mnist_conv.py [--data DIRECTORY] [--epochs 10] [--seed 0] [--rows 50000] [--figure mnist_conv.png]

The run uses batches of 32, momentum 0.9 and a learning rate of 0.02, and of 0.002 in the last three tenths of the
epochs. These hyperparameters were chosen by validation accuracy. The test accuracy is that of the last network.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from matplotlib.figure import Figure
from tqdm import tqdm

import funcnet as fn


def lenet(key: fn.Key) -> tuple[fn.Conv2D, *tuple[fn.Layer, ...]]:
    """LeNet-5 in its modern form: ReLU, max pooling, and connections between all channels."""
    keys = [key.child("init", layer) for layer in range(5)]
    return (
        *(fn.conv2d(keys[0], 1, 6, 5, padding="same", init=fn.initializers.he_normal), fn.ReLU(), fn.MaxPool2D(2)),
        *(fn.conv2d(keys[1], 6, 16, 5, init=fn.initializers.he_normal), fn.ReLU(), fn.MaxPool2D(2), fn.Flatten()),
        *(fn.dense(keys[2], 400, 120, init=fn.initializers.he_normal), fn.ReLU()),
        *(fn.dense(keys[3], 120, 84, init=fn.initializers.he_normal), fn.ReLU(), fn.dense(keys[4], 84, 10)),
    )


def picture(path: Path, train_log: list[float], validation_log: list[float], layer: fn.Conv2D) -> None:
    """Plot both accuracies by epoch, and the six learned kernels of the first layer."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    (left, right), *_ = figure.subfigures(1, 2, squeeze=False)
    axes = left.subplots()
    fn.plots.learning_curves({"training": train_log, "validation": validation_log}, scale="linear", axes=axes)
    axes.set(ylabel="accuracy", title="LeNet on MNIST")
    axes.grid(visible=True)
    fn.plots.weight_images(layer, columns=3, figure=right)
    figure.savefig(path, dpi=120)


def main() -> None:
    """Train, print both accuracies after each epoch, and save the curves and the kernels."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, help="directory of the four MNIST files (default: search, then download)")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rows", type=int, default=50_000, help="number of training images; fewer for a quick run")
    parser.add_argument("--figure", type=Path, default=Path("mnist_conv.png"))
    arguments = parser.parse_args()

    data = fn.datasets.load_mnist(arguments.data, flatten=False)
    x, y = data.train.x[: arguments.rows], data.train.y[: arguments.rows]
    key = fn.Key(arguments.seed)
    steps = -(-len(x) // 32) * -(-7 * arguments.epochs // 10)
    rate = fn.step_decay(0.02, step_size=steps, gamma=0.1)
    step = fn.train_step(fn.softmax_cross_entropy)
    state = fn.TrainState.create(lenet(key), fn.Momentum(learning_rate=rate), key=key.child("run"))
    train_log: list[float] = []
    validation_log: list[float] = []
    for epoch in range(arguments.epochs):
        batches = fn.minibatches(x, y, 32, key=key.child("shuffle", epoch), augment=fn.RandomShift(1))
        state, _ = fn.train_epoch(step, state, tqdm(batches, desc=f"Epoch {epoch}", leave=False))
        train_log.append(fn.accuracy(fn.predict(state.params, x, fn.Multiclass()), y))
        validation_log.append(
            fn.accuracy(fn.predict(state.params, data.validation.x, fn.Multiclass()), data.validation.y)
        )
        print(f"Epoch {epoch}: train accuracy {train_log[-1]:.4f}, validation {validation_log[-1]:.4f}", flush=True)
    print(f"Test accuracy: {fn.accuracy(fn.predict(state.params, data.test.x, fn.Multiclass()), data.test.y):.4f}")
    picture(arguments.figure, train_log, validation_log, state.params[0])
    print(f"Figure: {arguments.figure}")


if __name__ == "__main__":
    main()
