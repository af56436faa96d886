"""Train a small network on scikit-learn's bundled digits, plot its accuracy, and show which digits it misreads.

Run: python examples/digits.py [--epochs 60] [--seed 0] [--figure digits.png]
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import cast

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from tqdm import tqdm

import funcnet as fn

HELD_OUT = 360


def load() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Load the 1,797 images of 8 by 8 pixels from 0 to 1, in a fixed random order, and their labels."""
    x, y = cast("tuple[NDArray[np.float64], NDArray[np.int64]]", load_digits(return_X_y=True))
    order = fn.random.permutation(fn.Key(1797), len(x))
    return (x[order] / 16).astype(np.float32), y[order]


def picture(path: Path, losses: list[float], held_out: list[float], wrong: list[tuple[fn.Array, int, int]]) -> None:
    """Plot the curves on the left and the misread digits on the right."""
    figure, axes = plt.subplot_mosaic(
        [["loss", *"01234"], ["accuracy", *"56789"]], figsize=(11, 4.5), width_ratios=[4, 1, 1, 1, 1, 1]
    )
    axes["loss"].plot(range(1, len(losses) + 1), losses)
    axes["loss"].set(ylabel="mean training loss", yscale="log")
    axes["accuracy"].plot(range(1, len(held_out) + 1), held_out)
    axes["accuracy"].set(xlabel="epoch", ylabel="held-out accuracy")
    for spot in "0123456789":
        axes[spot].set_axis_off()
    for spot, (image, seen, truth) in zip("0123456789", wrong, strict=False):
        axes[spot].imshow(image.reshape(8, 8), cmap="gray_r")
        axes[spot].set_title(f"read {seen},\nis {truth}", fontsize=9)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main() -> None:
    """Train, print the accuracies, and save the figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--figure", type=Path, default=Path("digits.png"))
    arguments = parser.parse_args()
    mpl.use("agg")

    x, y = load()
    x_train, y_train, x_test, y_test = x[:-HELD_OUT], y[:-HELD_OUT], x[-HELD_OUT:], y[-HELD_OUT:]
    key = fn.Key(arguments.seed)
    run = fn.train(
        fn.sgd_step(fn.softmax_cross_entropy, learning_rate=0.1),
        fn.mlp(key, (64, 64, 10)),
        lambda epoch: fn.minibatches(x_train, y_train, batch_size=16, key=key.child("shuffle", epoch)),
        epochs=range(arguments.epochs),
    )
    net: tuple[fn.Layer, ...] = ()
    losses: list[float] = []
    held_out: list[float] = []
    for net, log in tqdm(run, total=arguments.epochs, unit="epoch"):
        losses.append(log.mean_loss)
        held_out.append(fn.accuracy(fn.predict(net, x_test, fn.Multiclass()), y_test))

    seen = fn.predict(net, x_test, fn.Multiclass())
    wrong = np.flatnonzero(seen != y_test)
    picture(arguments.figure, losses, held_out, [(x_test[i], int(seen[i]), int(y_test[i])) for i in wrong])
    print(f"Training accuracy: {fn.accuracy(fn.predict(net, x_train, fn.Multiclass()), y_train):.4f}")
    print(f"Held-out accuracy: {held_out[-1]:.4f}, {len(wrong)} of {HELD_OUT} digits misread")
    print(f"Figure: {arguments.figure}")


if __name__ == "__main__":
    main()
