# %% [markdown]
"""# Part 6. The same bits.

If you run a program twice, you expect the same result. With neural networks, the result often differs: with another
computer, another number of processor cores or another order of additions, the last digits change, and later the first
ones. This part shows what breaks reproducibility, and what preserves it.

Run it with: `python examples/tutorial/part_6_bits.py`
"""

# %%
import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before NumPy is imported: more threads slow small networks down

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import cast

import numpy as np
from matplotlib import pyplot as plt
from numpy.typing import NDArray
from sklearn.datasets import load_digits

import funcnet as fn

FIGURES = Path("figures")
FIGURES.mkdir(exist_ok=True)
Labels = NDArray[np.int64]

# %% [markdown]
"""## The cause: sums

On paper, the order of additions makes no difference. In a computer it does, because floating-point arithmetic rounds
the result of every addition to some sixteen digits.
"""

# %%
print((0.1 + 0.2) + 0.3)
print(0.1 + (0.2 + 0.3))

# %% [markdown]
"""```text
0.6000000000000001
0.6
```

A network computes many long sums. A program that uses two cores splits each sum into two parts. A processor that adds
eight numbers at once splits it into eight. Another version of a library splits it in another way. Each result is as
accurate as the others, and each has different last digits.

## How a difference in the last digit grows

The next program trains a network twice, on the same minibatches of the same digits. In the second run, the images
*within* each minibatch are in the opposite order. On paper the two runs are the same: the gradient of a minibatch is
a mean over its images.

`fn.fingerprint` computes a hash of all bits of a network. Two networks have the same fingerprint only if they have
the same bits.
"""


# %%
def digits() -> fn.Batch[Labels]:
    """The first 320 digits."""
    pixels, labels = cast("tuple[NDArray[np.float64], Labels]", load_digits(return_X_y=True))
    return fn.Batch((pixels[:320] / 16).astype(np.float32), labels[:320])


def backwards(batch: fn.Batch[Labels]) -> fn.Batch[Labels]:
    """The same images in the opposite order."""
    return fn.Batch(batch.x[::-1].copy(), batch.y[::-1].copy())


data = digits()
key = fn.Key(6)
step = fn.sgd_step(fn.softmax_cross_entropy, learning_rate=0.6)


def trained(epochs: int, *, opposite: bool = False) -> list[tuple[fn.Layer, ...]]:
    """The network after each epoch."""
    net = fn.mlp(key.child("init"), (64, 32, 32, 10))
    nets: list[tuple[fn.Layer, ...]] = []
    for epoch in range(epochs):
        order = key.child("shuffle", epoch)
        transform = backwards if opposite else None
        net, _ = fn.train_epoch(step, net, fn.minibatches(data.x, data.y, 32, key=order, transform=transform))
        nets.append(net)
    return nets


one, other = trained(40), trained(40, opposite=True)
print("the same bits after an epoch:", fn.fingerprint(one[0]) == fn.fingerprint(other[0]))
print("the same bits after 40 epochs:", fn.fingerprint(one[-1]) == fn.fingerprint(other[-1]))

# %% [markdown]
"""```text
the same bits after an epoch: False
the same bits after 40 epochs: False
```

How large is the difference? The picture shows the largest difference between two weights after each epoch. It begins
at the size of one rounding error. It stays small until an input of a `ReLU` is just above 0 in one run, and just
below 0 in the other. After some ten epochs, the weights differ in their second, third or fourth digit, depending on
the computer.
"""


# %%
def apart(a: tuple[fn.Layer, ...], b: tuple[fn.Layer, ...]) -> float:
    """The largest difference between the first-layer weights of two networks."""
    first, second = a[0], b[0]
    assert isinstance(first, fn.Dense)
    assert isinstance(second, fn.Dense)
    return float(np.abs(first.weight - second.weight).max())


figure, axes = plt.subplots(figsize=(7, 4.2))
axes.semilogy(range(1, 41), [apart(a, b) for a, b in zip(one, other, strict=True)], marker=".")
axes.set(xlabel="epoch", ylabel="largest difference of a weight", title="Two runs that are equal on paper")
axes.grid(visible=True, alpha=0.4)
figure.tight_layout()
figure.savefig(FIGURES / "part_6_apart.png", dpi=120)

# %% [markdown]
"""## Arithmetic without rounding in sums

`fn.portable()` uses a different method. It rounds numbers to whole multiples of a small step before it multiplies and
adds them. Sums of whole numbers have no rounding error, so the order of additions makes no difference. Accounting
does the same when it counts cents instead of dollars.
"""

# %%
with fn.portable():
    one, other = trained(40), trained(40, opposite=True)
print("the same bits after 40 epochs:", fn.fingerprint(one[-1]) == fn.fingerprint(other[-1]))

# %% [markdown]
"""```text
the same bits after 40 epochs: True
```

## Other cores, other processors

The next program trains a small network in portable arithmetic and prints the beginning of its fingerprint. It runs
with one core, with two cores, and with matrix products for a processor of an old generation. The program prints the
same fingerprint on your computer, too, whatever its processor.
"""

# %%
PROGRAM = """
import numpy as np
import funcnet as fn
key = fn.Key(6)
x = np.linspace(-1, 1, 256, dtype=np.float32).reshape(64, 4)
y = (x[:, 0] > 0).astype(np.int64)
step = fn.sgd_step(fn.softmax_cross_entropy, learning_rate=0.1)
with fn.portable():
    net = fn.mlp(key, (4, 32, 2))
    for epoch in range(20):
        net, _ = fn.train_epoch(step, net, fn.minibatches(x, y, 16, key=key.child("shuffle", epoch)))
print(fn.fingerprint(net)[:16])
"""


def run(**settings: str) -> str:
    """The output of the program in a process with these environment variables."""
    command = [sys.executable, "-c", PROGRAM]
    result = subprocess.run(command, env=os.environ | settings, capture_output=True, text=True, check=True)  # noqa: S603
    return result.stdout.strip()


print("one core:      ", run(OPENBLAS_NUM_THREADS="1"))
print("two cores:     ", run(OPENBLAS_NUM_THREADS="2"))
print("old processor: ", run(OPENBLAS_CORETYPE="Prescott"))

# %% [markdown]
"""```text
one core:       6d9ed4b08fdffe25
two cores:      6d9ed4b08fdffe25
old processor:  6d9ed4b08fdffe25
```

## Random numbers

The second cause of differences is random numbers. Most programs draw them from a generator with a hidden state. Each
draw then depends on all draws before it: if you add a line that draws one number, all later draws change.
"""

# %%
source = np.random.default_rng(0)
weights = source.normal(size=3)
source = np.random.default_rng(0)
source.normal()  # a line that somebody added
print("with a hidden source, the same weights:", np.array_equal(weights, source.normal(size=3)))

# %% [markdown]
"""```text
with a hidden source, the same weights: False
```

funcnet has no generator with a hidden state. A *key* identifies a draw: the same key gives the same numbers,
regardless of earlier draws, today and in later versions.
"""

# %%
first = fn.dense(key.child("init", 0), 3, 1)
fn.dense(key.child("something else"), 100, 100)
print("with keys, the same weights:", fn.equal(first, fn.dense(key.child("init", 0), 3, 1)))

# %% [markdown]
"""```text
with keys, the same weights: True
```

## Stop and resume

The third cause is state that is lost when a run stops: the moments of the optimizer, the position in the data, the
state of the random number generator. In funcnet, a run is one value, `TrainState`, and a program can save a value.
The next program trains ten epochs without a break, and then four epochs, a saved file, and six more:
"""


# %%
def epochs(state: fn.TrainState[tuple[fn.Layer, ...]], numbers: range) -> fn.TrainState[tuple[fn.Layer, ...]]:
    """The state of the run after these epochs."""
    step = fn.train_step(fn.softmax_cross_entropy)
    for epoch in numbers:
        state, _ = fn.train_epoch(step, state, fn.minibatches(data.x, data.y, 32, key=key.child("shuffle", epoch)))
    return state


start = fn.TrainState.create(fn.mlp(key, (64, 32, 10)), fn.Momentum(learning_rate=0.05), key=key)
at_once = epochs(start, range(10))
file = Path("part_6_run.safetensors")
fn.save(file, epochs(start, range(4)))
resumed = epochs(fn.load(file, like=start), range(4, 10))
file.unlink()
print("stopped and resumed, the same bits:", fn.fingerprint(at_once) == fn.fingerprint(resumed))

# %% [markdown]
"""```text
stopped and resumed, the same bits: True
```

## Parallel workers

The fourth cause is parallel work. If the results of the workers are added in the order in which they arrive, the sum
depends on which worker is fastest. funcnet splits a batch into *shards* of a fixed size and adds their gradients in a
fixed order. The result depends neither on the number of workers nor on their speed.
"""

# %%
alone = fn.sgd_step(fn.softmax_cross_entropy, learning_rate=0.1, shard_size=8)
net = fn.mlp(key, (64, 32, 10))
batches = fn.minibatches(data.x, data.y, 32)
with ThreadPoolExecutor(3) as workers:
    together = fn.sgd_step(fn.softmax_cross_entropy, learning_rate=0.1, shard_size=8, executor=workers)
    by_three, _ = fn.train_epoch(together, net, batches)
by_one, _ = fn.train_epoch(alone, net, batches)
print("three workers or one, the same bits:", fn.fingerprint(by_three) == fn.fingerprint(by_one))

# %% [markdown]
"""```text
three workers or one, the same bits: True
```

## Summary

| what changes | native arithmetic | `fn.portable()` |
|---|---|---|
| nothing: the same program runs again | same bits | same bits |
| the run is stopped, saved and resumed | same bits | same bits |
| number of workers, with shards | same bits | same bits |
| other random draws before a draw | same bits | same bits |
| order of the images in a minibatch | different bits | same bits |
| number of cores for matrix products | may differ | same bits |
| processor, library or its version | may differ | same bits |
| batch size, learning rate, key or data | a different run | a different run |

Portable arithmetic costs time: a step takes some two to four times as long. `python -m funcnet` checks all of these
promises on your computer.

Next, part 7: your own layer.
"""
