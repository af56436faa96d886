# %% [markdown]
"""# Part 6. The same bits.

Run a program twice, and you expect the same answer. With neural networks that is often not so: another computer,
another number of processor cores, another order, and the last digits differ; later on, the first ones do. This part
shows what breaks sameness, and what keeps it.

Run it with: `python examples/tutorial/part_6_bits.py`
"""

# %%
import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before NumPy is there: for small networks more threads are slower

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
"""## Where it begins: sums

On paper it makes no difference in which order numbers are added. In a computer it does: after every addition the
result is rounded to some sixteen digits.
"""

# %%
print((0.1 + 0.2) + 0.3)
print(0.1 + (0.2 + 0.3))

# %% [markdown]
"""```text
0.6000000000000001
0.6
```

A network is made of long sums. A program that uses two cores cuts them in two; a processor that adds eight numbers
at once cuts them in eight; another version of a library cuts them in another way. Each is as right as the others,
and each has other last digits.

## What becomes of the last digit

We train one network twice, on the same batches of the same digits. In the second run the images *within* each batch
come in the opposite order. On paper that is the same: the gradient of a batch is a sum over its images.

`fn.fingerprint` makes a short text of all the bits of a network: two networks have the same one only if they have
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

How far apart are they? The picture shows the largest difference between two weights, epoch by epoch. It begins with
the rounding of single numbers. Then it stays small, until a neuron in one run is just above 0, where `ReLU` lets it
through, and just below in the other. After some ten epochs the weights differ in their second, third or fourth
digit, depending on the computer.
"""


# %%
def apart(a: tuple[fn.Layer, ...], b: tuple[fn.Layer, ...]) -> float:
    """The largest difference between two networks' first weights."""
    first, second = a[0], b[0]
    assert isinstance(first, fn.Dense)
    assert isinstance(second, fn.Dense)
    return float(np.abs(first.weight - second.weight).max())


figure, axes = plt.subplots(figsize=(7, 4.2))
axes.semilogy(range(1, 41), [apart(a, b) for a, b in zip(one, other, strict=True)], marker=".")
axes.set(xlabel="epoch", ylabel="largest difference of a weight", title="Two runs that are the same on paper")
axes.grid(visible=True, alpha=0.4)
figure.tight_layout()
figure.savefig(FIGURES / "part_6_apart.png", dpi=120)

# %% [markdown]
"""## Arithmetic without rounding in sums

`fn.portable()` takes another way. Before numbers are multiplied and added, they are rounded to whole multiples of a
small step. Whole numbers add up without rounding, so their order makes no difference: as with cents instead of
dollars.
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

The next program trains a small network in portable arithmetic and prints the beginning of its fingerprint. We run it
with one core and with two, and with matrix products that are made for a processor of long ago. It will print the
same on your computer, too, if that has the usual kind of processor (x86-64).
"""

# %%
PROGRAM = """
import numpy as np
import funcnet as fn
key = fn.Key(6)
x = np.linspace(-1, 1, 256, dtype=np.float32).reshape(64, 4)
y = (x[:, 0] > 0).astype(int)
step = fn.sgd_step(fn.softmax_cross_entropy, learning_rate=0.1)
with fn.portable():
    net = fn.mlp(key, (4, 32, 2))
    for epoch in range(20):
        net, _ = fn.train_epoch(step, net, fn.minibatches(x, y, 16, key=key.child("shuffle", epoch)))
print(fn.fingerprint(net)[:16])
"""


def run(**settings: str) -> str:
    """What the program prints in a process with these settings."""
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

The second enemy is chance. Most programs draw from one hidden source. Then each draw depends on all draws before it:
add a line that draws one number, and everything after it changes.
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

In funcnet there is no source. A *key* names a draw: the same key gives the same numbers, whatever was drawn before,
today and in the next version.
"""

# %%
first = fn.dense(key.child("init", 0), 3, 1)
fn.dense(key.child("something else"), 100, 100)
print("with keys, the same weights:", fn.equal(first, fn.dense(key.child("init", 0), 3, 1)))

# %% [markdown]
"""```text
with keys, the same weights: True
```

## Stopping, and going on

The third enemy is what is forgotten when a run stops: the optimizer's memory, the place in the data, the source of
chance. In funcnet a run is one value, `TrainState`, and a value can be saved. Ten epochs at once, or four, a file,
and six more:
"""


# %%
def epochs(state: fn.TrainState[tuple[fn.Layer, ...]], numbers: range) -> fn.TrainState[tuple[fn.Layer, ...]]:
    """The run after these epochs."""
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

## Many hands

The fourth enemy is work that is shared: whoever is ready first is added first. funcnet cuts a batch into *shards* of
a fixed size and adds them in a fixed order, no matter how many workers there are, or which is fastest.
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

## In short

| what changes | usual arithmetic | `fn.portable()` |
|---|---|---|
| nothing: the same program, again | same bits | same bits |
| stopped, saved, resumed | same bits | same bits |
| number of workers, with shards | same bits | same bits |
| other draws before a draw | same bits | same bits |
| order of the images in a batch | other bits | same bits |
| number of cores for matrix products | may differ | same bits |
| processor, library, its version | may differ | same bits |
| size of the batches, rate, key, data | another run | another run |

The price of portable arithmetic is time: a step takes some two to four times as long. `python -m funcnet` checks all
of these promises on your computer.

Next, part 7: a layer of your own.
"""
