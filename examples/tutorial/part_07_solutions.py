# %% [markdown]
"""# Solutions of part 7.

Try the exercises in `part_07_overfitting.py` first. The first cell has what they need from the part.

Run it with: `python examples/tutorial/part_07_solutions.py`
"""

# %%
import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before NumPy is imported: more threads slow small networks down

import math
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

import funcnet as fn

digits = fn.datasets.load_digits()
key = fn.Key(7)
rest, test = fn.split(digits.x, digits.y, 500, key=key.child("test"), stratify=True)
pool, validation = fn.split(rest.x, rest.y, 500, key=key.child("validation"), stratify=True)

Labels: TypeAlias = NDArray[np.integer]


def mislabeled(labels: Labels, share: float, key: fn.Key) -> Labels:
    """The labels, of which about the given share is replaced by another digit."""
    wrong = fn.random.uniform(key.child("which"), labels.shape) < share
    shift = 1 + np.floor(9 * fn.random.uniform(key.child("shift"), labels.shape)).astype(np.int64)
    return np.where(wrong, (labels + shift) % 10, labels)


noisy = mislabeled(pool.y, 0.2, key.child("wrong"))
_, small = fn.split(pool.x, noisy, 200, key=key.child("small"), stratify=noisy)


def trained(
    train: fn.Batch[Labels],
    optimizer: fn.Optimizer,
    *,
    hidden: tuple[int, ...] = (100, 100),
    dropout: float = 0.0,
    patience: int | None = None,
    seed: int = 0,
) -> fn.Fit[fn.TrainState[tuple[fn.Layer, ...]]]:
    """A run of at most 30 epochs, with the validation loss after each epoch."""
    seeded = key.child("seed", seed)
    net: list[fn.Layer] = []
    for layer in fn.mlp(seeded.child("init"), (64, *hidden, 10)):
        net.append(layer)
        if dropout and isinstance(layer, fn.ReLU):
            net.append(fn.Dropout(dropout))
    *_, run = fn.fit(
        fn.train_step(fn.softmax_cross_entropy),
        fn.Fit.create(fn.TrainState.create(tuple(net), optimizer, key=seeded.child("run"))),
        lambda epoch: fn.minibatches(train.x, train.y, 20, key=seeded.child("shuffle", epoch)),
        lambda state: fn.evaluate(state.params, validation.x, validation.y, fn.softmax_cross_entropy),
        epochs=30,
        patience=patience,
    )
    return run


def right(state: fn.TrainState[tuple[fn.Layer, ...]], examples: fn.Batch[Labels]) -> float:
    """The accuracy of a state's network."""
    return fn.accuracy(fn.predict(state.params, examples.x, fn.Multiclass()), examples.y)


adam = fn.Adam(learning_rate=0.01)
with fn.portable():
    plain, early = trained(small, adam), trained(small, adam, patience=5)

# %% [markdown]
"""**Exercise 1.** From `2 * sqrt(p * (1 - p) / n) <= margin` follows `n >= 4 * p * (1 - p) / margin²`. Half the margin
needs four times as many examples.
"""


# %% Exercise 1
def examples_needed(p: float, margin: float) -> int:
    """The smallest number of examples for which two standard errors are at most the margin."""
    return math.ceil(4 * p * (1 - p) / margin**2)


# The check of exercise 1.
enough = True
for p, margin in ((0.9, 0.031), (0.98, 0.003), (0.5, 0.07)):
    n = max(examples_needed(p, margin), 2)
    smaller, larger = (2 * math.sqrt(p * (1 - p) / each) for each in (n, n - 1))
    enough = enough and smaller <= margin < larger
print("Exercise 1:", "solved" if enough else "not solved yet")

# %% [markdown]
"""**Exercise 2.** The epoch of the best loss so far is known after each epoch. Training stops when the current epoch is
`patience` epochs after it.
"""


# %% Exercise 2
def stopped(losses: tuple[float, ...], patience: int) -> tuple[int, int]:
    """The best epoch, and the epoch after which training stops."""
    best = 1
    for epoch, loss in enumerate(losses, 1):
        if loss < losses[best - 1]:
            best = epoch
        if epoch == best + patience:
            return best, epoch
    return best, len(losses)


# The check of exercise 2.
found = [stopped((3.0, 2.0, 2.0, 2.5, 1.0), 2), stopped((3.0, 4.0, 2.0), 5), stopped(plain.values, 5)]
expected = [(2, 4), (3, 3), (int(np.argmin(early.values)) + 1, early.epoch)]
print("Exercise 2:", "solved" if list(map(tuple, found)) == expected else "not solved yet")

# %% [markdown]
"""**Exercise 3.** The network learns random labels by heart, too, nearly as well as the real ones: it has enough
parameters to store them. On the validation set it is right for 79 of 500 images; guessing is right for about 50. A low
training loss therefore says nothing about what a network has understood. (Zhang et al. trained large networks on random
labels in 2017.)
"""

# %% Exercise 3
expected_training, expected_validation = 0.95, 0.1

# The check of exercise 3.
drawn = np.floor(10 * fn.random.uniform(key.child("random"), small.y.shape)).astype(np.int64)
meaningless = fn.Batch(small.x, drawn)
with fn.portable():
    state = trained(meaningless, adam).state
    misses = (right(state, meaningless) - expected_training, right(state, validation) - expected_validation)
judged = ["about right" if abs(miss) <= 0.1 else "too low" if miss > 0 else "too high" for miss in misses]
verdict = f"not solved yet (training: {judged[0]}, validation: {judged[1]})"
print("Exercise 3:", "solved" if judged == ["about right", "about right"] else verdict)
