# %% [markdown]
"""# Part 7. Overfitting.

A network can learn its training set by heart, and still be bad at everything else. This part makes that happen, shows
how to notice it, and tries four remedies: early stopping, weight decay, dropout, and more data. It also shows how to
compare remedies without deceiving yourself.

Run it with: `python examples/tutorial/part_07_overfitting.py`
"""

# %%
import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before NumPy is imported: more threads slow small networks down

import math
from pathlib import Path
from typing import TypeAlias

import numpy as np
from matplotlib import pyplot as plt
from numpy.typing import NDArray
from tqdm import tqdm

import funcnet as fn

FIGURES = Path("figures")
FIGURES.mkdir(exist_ok=True)

# %% [markdown]
"""## Three sets

The digits are divided into three parts. The network learns from the *training set*. You use the *validation set* to
make choices: when to stop, how strong a remedy should be. The *test set* answers one question, at the end: how good is
the chosen network on digits that had no influence on it at all?

Why is the validation set not enough? You choose what is best on it. Some of the many candidates are good on it by
chance, and you choose such a candidate rather than another. Its validation result is therefore a little too good. The
same happens to the test set if you look at it more than once and choose by it.

The sets must not share information. If they do, this is *data leakage*, and the results are too good. Two examples are
a column that is standardized with the mean of all rows, and two pictures of the same thing, one in each set.

With `stratify=True`, `fn.split` gives each set nearly the same share of every digit.
"""

# %%
digits = fn.datasets.load_digits()
key = fn.Key(7)
rest, test = fn.split(digits.x, digits.y, 500, key=key.child("test"), stratify=True)
pool, validation = fn.split(rest.x, rest.y, 500, key=key.child("validation"), stratify=True)
print(len(pool.y), "to learn from,", len(validation.y), "in the validation set,", len(test.y), "in the test set")

# %% [markdown]
"""```text
797 to learn from, 500 in the validation set, 500 in the test set
```

## Wrong labels

Labels are made by people, and people make mistakes. The program replaces a fifth of the training labels by a wrong
digit, to make overfitting visible. Without this, the digits are too easy. The labels of the other two sets stay right.
The training set has only 200 of the images. The rest of them is for later.
"""

# %%
Labels: TypeAlias = NDArray[np.integer]


def mislabeled(labels: Labels, share: float, key: fn.Key) -> Labels:
    """The labels, of which about the given share is replaced by another digit."""
    wrong = fn.random.uniform(key.child("which"), labels.shape) < share
    shift = 1 + np.floor(9 * fn.random.uniform(key.child("shift"), labels.shape)).astype(np.int64)
    return np.where(wrong, (labels + shift) % 10, labels)


noisy = mislabeled(pool.y, 0.2, key.child("wrong"))
large = fn.Batch(pool.x, noisy)
_, small = fn.split(pool.x, noisy, 200, key=key.child("small"), stratify=noisy)
_, correct = fn.split(pool.x, pool.y, 200, key=key.child("small"), stratify=noisy)
print(int((small.y != correct.y).sum()), "of", len(small.y), "training labels are wrong")

# %% [markdown]
"""```text
43 of 200 training labels are wrong
```

## A network that learns by heart

The network has 64 inputs, two hidden layers of 100 neurons, and 10 outputs: 17610 parameters for 200 images. It
trains for 30 epochs with Adam. `fn.fit` computes the validation loss after each epoch.
"""


# %%
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
    plain = trained(small, adam)
    print(fn.summary(plain.state.params, (64,)).trained, "parameters")
    for epoch in (1, 10, 30):
        print(f"epoch {epoch:2}: training loss {plain.losses[epoch - 1]:.3f}, validation {plain.values[epoch - 1]:.3f}")
    print(f"accuracy after epoch 30: training {right(plain.state, small):.3f}, ", end="")
    print(f"validation {right(plain.state, validation):.3f}")
    print("fingerprint", fn.fingerprint(plain.state.params)[:16])

# %% [markdown]
"""```text
17610 parameters
epoch  1: training loss 2.049, validation 1.380
epoch 10: training loss 0.445, validation 0.595
epoch 30: training loss 0.080, validation 1.126
accuracy after epoch 30: training 0.980, validation 0.776
fingerprint 08481a3b2f657e20
```

The network fits nearly all training labels, also the wrong ones: an accuracy of 0.980, although a fifth of the labels
are wrong. It has learned nearly every image by heart. On new images it is right for a share of 0.776 only.

In the picture, the two losses part. The validation loss falls until epoch 10, and then it rises while the training
loss still falls. This is *overfitting*: from there on, the network learns what is true of the training set only. The
opposite is *underfitting*: the network is too simple, or was trained too little, and both losses stay high.
"""

# %%
figure, axes = plt.subplots(figsize=(7, 4.2))
fn.plots.learning_curves(plain, scale="linear", axes=axes)
axes.set_title("Overfitting: the training loss falls, the validation loss rises")
axes.grid(visible=True, alpha=0.4)
figure.tight_layout()
figure.savefig(FIGURES / "part_07_overfitting.png", dpi=120)

# %% [markdown]
"""## First remedy: early stopping

The network after epoch 10 was better than the last one. *Early stopping* keeps it. `fn.fit` remembers the state with
the lowest validation loss: `run.best`. With `patience=5`, it also stops when the best state is 5 epochs old. This
saves time: it is the only one of the four remedies that makes training shorter.
"""

# %%
with fn.portable():
    early = trained(small, adam, patience=5)
    print("stopped after epoch", early.epoch, "and the best one was epoch", int(np.argmin(early.values)) + 1)
    print("the same network as in the long run:", fn.equal(early.best.params, plain.best.params))
    print(f"validation accuracy of the last network {right(early.state, validation):.3f}, ", end="")
    print(f"of the best one {right(early.best, validation):.3f}")

# %% [markdown]
"""```text
stopped after epoch 15 and the best one was epoch 10
the same network as in the long run: True
validation accuracy of the last network 0.798, of the best one 0.852
```

## Second remedy: weight decay

To fit single images, a network needs large weights. *Weight decay* makes every weight a little smaller in each step,
before the gradient is applied, so that only weights that many images agree on stay large. Methods that make a network
simpler in such a way are called *regularization*. `fn.AdamW` is Adam with weight decay; `fn.WeightDecay` adds it to
any optimizer. Biases do not decay.

How strong should it be? The strength is a hyperparameter, and the validation set decides. The program tries three
values. A loop over all values of one or more hyperparameters is called a *grid search*.
"""

# %%
runs = {"plain": plain}
with fn.portable():
    for decay in tqdm((0.3, 1.0, 3.0), desc="weight decay"):
        runs[f"weight decay {decay}"] = trained(small, fn.AdamW(learning_rate=0.01, weight_decay=decay))

# %% [markdown]
"""## Third remedy: dropout

*Dropout* sets each output of a hidden layer to 0 with a certain probability, here 0.5, with a new draw in each step. No
neuron can rely on another one, so the network stores what it learns in several places. The remaining outputs are
divided by the probability to remain, so that their sum stays the same on average.

Dropout acts in training only. In *inference*, when the network predicts, nothing is random and nothing is dropped. In
funcnet, the two modes are two values: `fn.training(net, key)` is the network in its training form, which has a key for
the draws. `fn.train_step` makes it for each step, and the state always has the plain network.
"""

# %%
layer, ones = fn.Dropout(0.5), np.ones((1, 8))
print("in training: ", fn.forward(fn.training(layer, key.child("first step")), ones))
print("next step:   ", fn.forward(fn.training(layer, key.child("next step")), ones))
print("in inference:", fn.forward(layer, ones))
with fn.portable():
    runs["dropout 0.5"] = trained(small, adam, dropout=0.5)

# %% [markdown]
"""```text
in training:  [[2. 0. 0. 2. 2. 0. 2. 0.]]
next step:    [[0. 2. 0. 0. 2. 0. 0. 2.]]
in inference: [[1. 1. 1. 1. 1. 1. 1. 1.]]
```

## Fourth remedy: more data

The training set had only 200 of the 797 images. Now the network gets all of them, and a fifth of their labels is
wrong, too. The program also trains a network that is too small: its hidden layer has 3 neurons. Then it prints the
validation loss and accuracy of all runs, after the last epoch and after the best one.
"""

# %%
with fn.portable():
    runs["797 images"] = trained(large, adam, patience=5)
    runs["3 hidden neurons"] = trained(small, adam, hidden=(3,))
    print("validation         last network     best network")
    for name, run in runs.items():
        print(f"{name:17}  {run.values[-1]:.3f} {right(run.state, validation):.3f}      ", end="")
        print(f"{min(run.values):.3f} {right(run.best, validation):.3f} (epoch {int(np.argmin(run.values)) + 1})")

# %% [markdown]
"""```text
validation         last network     best network
plain              1.126 0.776      0.595 0.852 (epoch 10)
weight decay 0.3   0.672 0.804      0.512 0.894 (epoch 10)
weight decay 1.0   0.704 0.830      0.561 0.866 (epoch 18)
weight decay 3.0   1.052 0.730      0.976 0.808 (epoch 13)
dropout 0.5        0.529 0.894      0.529 0.894 (epoch 30)
797 images         0.463 0.902      0.363 0.928 (epoch 5)
3 hidden neurons   1.248 0.612      1.248 0.612 (epoch 30)
```

- The *best* network of the plain run is better than the last one of most runs: early stopping matters.
- Weight decay of 3.0 is too strong, and the network underfits. So does the one with 3 hidden neurons.
- Weight decay of 0.3 with early stopping and dropout without it are equally good in these runs with 200 images.
- More data is the best remedy here, even with a fifth of wrong labels.

The picture has the validation loss of each run after each epoch. The run with 797 images has `patience=5`, so it stops
early, and its last network is that of epoch 10.
"""

# %%
figure, axes = plt.subplots(figsize=(7, 4.4))
fn.plots.learning_curves({name: run.values for name, run in runs.items()}, scale="linear", axes=axes)
axes.set(title="The validation loss with each remedy", ylabel="validation loss")
axes.grid(visible=True, alpha=0.4)
figure.tight_layout()
figure.savefig(FIGURES / "part_07_remedies.png", dpi=120)

# %% [markdown]
"""## How sure are we?

How much do such numbers mean? The validation set has 500 images, so one percent is 5 images. If a network is right
with the probability `p`, its accuracy on `n` images varies from one set of images to another. The standard deviation
is `sqrt(p * (1 - p) / n)`, the *standard error*. For a network that is right in nine of ten cases:
"""

# %%
error = math.sqrt(0.9 * 0.1 / 500)
print(f"standard error {error:.3f}; two of them are {2 * error * 500:.0f} images")
with fn.portable():
    for name, dropout in (("early stopping", 0.0), ("dropout 0.5", 0.5)):
        several = [trained(small, adam, dropout=dropout, patience=5, seed=seed) for seed in (1, 2, 3)]
        print(f"{name:14}", *(f"{right(run.best, validation):.3f}" for run in several))

# %% [markdown]
"""```text
standard error 0.013; two of them are 13 images
early stopping 0.864 0.856 0.880
dropout 0.5    0.886 0.862 0.890
```

A difference of less than two standard errors, here 13 images, may be chance. The order of the minibatches and the
initial weights are chance, too: they depend on the *random seed*. The two rows above are early stopping without and
with dropout, with three other seeds each. With the same seed, dropout is always a few images better, but the two ranges
overlap: a single run of each, with different seeds, could have said the opposite. A comparison of methods needs several
seeds, and its report says how many.

## One look at the test set

The validation accuracy chose the network with 797 images and early stopping. Now, and only now, the program looks at
the test set, for this one network:
"""

# %%
with fn.portable():
    print(f"test accuracy {right(runs['797 images'].best, test):.3f}")

# %% [markdown]
"""```text
test accuracy 0.942
```

The test accuracy, 0.942, is even better than the validation accuracy, 0.928. The difference is about one standard
error: luck. If it were bad luck, we would have to report it all the same. Another network, chosen because of *this*
number, would need a new test set.

One more doubt: the same people wrote digits of all three sets. For people whose handwriting the network has not seen,
the accuracy may be lower. A test set answers only the question that it was made for.

## Exercises

Each cell below has a gap, and a check that says whether your solution is right. Replace the line with the comment
`# your lines here`, and run the cell again. Solutions are in `part_07_solutions.py`.

**Exercise 1.** You expect an accuracy `p`, and want to measure it so exactly that two standard errors are at most
`margin`. How many examples must the test set have at least? (Solve the formula of the standard error for `n`, and round
up.)
"""


# %% Exercise 1
def examples_needed(p: float, margin: float) -> int:
    """The smallest number of examples for which two standard errors are at most the margin."""
    return round(p / margin)  # your lines here


# The check of exercise 1.
enough = True
for p, margin in ((0.9, 0.031), (0.98, 0.003), (0.5, 0.07)):
    n = max(examples_needed(p, margin), 2)
    smaller, larger = (2 * math.sqrt(p * (1 - p) / each) for each in (n, n - 1))
    enough = enough and smaller <= margin < larger
print("Exercise 1:", "solved" if enough else "not solved yet")

# %% [markdown]
"""**Exercise 2.** Program early stopping. Given the validation losses of a long run and a patience, return the best
epoch and the epoch after which training stops, both counted from 1. A loss that only equals the best one is not better.
If the run ends before the patience does, it stops after its last epoch. The check compares with `fn.fit`.
"""


# %% Exercise 2
def stopped(losses: tuple[float, ...], patience: int) -> tuple[int, int]:
    """The best epoch, and the epoch after which training stops."""
    return min(patience, len(losses)), len(losses)  # your lines here


# The check of exercise 2.
found = [stopped((3.0, 2.0, 2.0, 2.5, 1.0), 2), stopped((3.0, 4.0, 2.0), 5), stopped(plain.values, 5)]
expected = [(2, 4), (3, 3), (int(np.argmin(early.values)) + 1, early.epoch)]
print("Exercise 2:", "solved" if list(map(tuple, found)) == expected else "not solved yet")

# %% [markdown]
"""**Exercise 3.** An experiment. Replace *all* 200 training labels by random digits. Nothing can be learned from them.
Train the plain network for 30 epochs: what is its accuracy on these labels, and on the validation set? Write what you
expect before you run the cell. The check trains the network, and allows an error of 0.1.
"""

# %% Exercise 3
expected_training, expected_validation = 0.5, 0.5  # your lines here

# The check of exercise 3.
drawn = np.floor(10 * fn.random.uniform(key.child("random"), small.y.shape)).astype(np.int64)
meaningless = fn.Batch(small.x, drawn)
with fn.portable():
    state = trained(meaningless, adam).state
    misses = (right(state, meaningless) - expected_training, right(state, validation) - expected_validation)
judged = ["about right" if abs(miss) <= 0.1 else "too low" if miss > 0 else "too high" for miss in misses]
verdict = f"not solved yet (training: {judged[0]}, validation: {judged[1]})"
print("Exercise 3:", "solved" if judged == ["about right", "about right"] else verdict)

# %% [markdown]
"""Next, part 8: how a program gets the same bits on every computer.
"""
