# %% [markdown]
"""# Part 8. The same bits.

If you run a program twice, you expect the same result. With neural networks, the result often differs: with another
computer, another number of processor cores or another order of additions, the last digits change, and later the first
ones. Such training is called *nondeterministic*. This part shows what breaks *reproducibility*, and what preserves it.

Run it with: `python examples/tutorial/part_08_bits.py`
"""

# %%
import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before NumPy is imported: more threads slow small networks down

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from matplotlib import pyplot as plt

import funcnet as fn

FIGURES = Path("figures")
FIGURES.mkdir(exist_ok=True)

# %% [markdown]
"""## The cause: sums

On paper, it makes no difference which additions come first: addition is *associative*. In a computer it is not, because
*floating-point* arithmetic rounds the result of every addition: a number of Python to some sixteen digits, and a
float32 number, such as a weight of the networks below, to some seven. The difference is a *rounding error*.
"""

# %%
print((0.1 + 0.2) + 0.3)
print(0.1 + (0.2 + 0.3))

# %% [markdown]
"""```text
0.6000000000000001
0.6
```

A network computes many long sums. A processor that adds eight numbers at once splits a sum into eight parts. A program
that uses two cores may split it into two. Another version of a library splits it in another way. Each result is about
as accurate as the others, but the last digits differ.

## How a difference in the last digit grows

The next program trains a network twice, on the same minibatches of the same 320 digits. In the second run, the images
*within* each minibatch are in the opposite order. On paper the two runs are the same: the gradient of a minibatch is
a mean over its images.

`fn.fingerprint` computes a hash of all bits of a network. Two networks have the same fingerprint only if they have
the same bits.
"""


# %%
def backwards(batch: fn.Batch[np.ndarray]) -> fn.Batch[np.ndarray]:
    """The same images in the opposite order."""
    return fn.Batch(batch.x[::-1].copy(), batch.y[::-1].copy())


digits = fn.datasets.load_digits()
x, y = digits.x[:320], digits.y[:320]
key = fn.Key(6)
step = fn.sgd_step(fn.softmax_cross_entropy, learning_rate=0.6)


def trained(epochs: int, *, opposite: bool = False) -> list[fn.Network]:
    """The network after each epoch."""
    net = fn.mlp(key.child("init"), (64, 32, 32, 10))
    nets: list[fn.Network] = []
    for epoch in range(epochs):
        order = key.child("shuffle", epoch)
        transform = backwards if opposite else None
        net, _ = fn.train_epoch(step, net, fn.minibatches(x, y, 32, key=order, transform=transform))
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
below 0 in the other. After some ten epochs, some weights differ in their second, third or fourth decimal, depending on
the computer.
"""


# %%
def apart(a: fn.Network, b: fn.Network) -> float:
    """The largest difference between the first-layer weights of two networks."""
    return float(np.abs(fn.trained_arrays(a)[0] - fn.trained_arrays(b)[0]).max())


figure, axes = plt.subplots(figsize=(7, 4.2))
axes.semilogy(range(1, 41), [apart(a, b) for a, b in zip(one, other, strict=True)], marker=".")
axes.set(xlabel="epoch", ylabel="largest difference of a weight", title="Two runs that are equal on paper")
axes.grid(visible=True, alpha=0.4)
figure.tight_layout()
figure.savefig(FIGURES / "part_08_apart.png", dpi=120)

# %% [markdown]
"""## Arithmetic without rounding in sums

`fn.portable()` uses a different method. It rounds numbers to whole multiples of a small step before it multiplies and
adds them. Sums of whole numbers have no rounding error, so the order of additions makes no difference. Accounting
does the same when it counts cents instead of dollars; computer science calls it *fixed-point* arithmetic.
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
with one core, with two cores, and with matrix products for a processor of an old generation. (The last setting names an
x86-64 processor. Others ignore it, or use their most general matrix products.) Your computer prints the same
fingerprint, whatever its processor: x86-64, ARM, POWER, RISC-V or s390x. A web browser does, too, where Python runs in
WebAssembly. (This was tried under Linux, and for other processors than x86-64 by emulation; not yet under macOS and
Windows.)
"""

# %% tags=["processes"]
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

The second cause of differences is random numbers. Most programs draw them from a *generator* with a hidden state,
which begins at a *seed*. Each draw then depends on all draws before it: if you add a line that draws one number, all
later draws change, although the seed is the same.
"""

# %%
generator = np.random.default_rng(0)
weights = generator.normal(size=3)
generator = np.random.default_rng(0)
generator.normal()  # a line that somebody added
print("with a hidden state, the same weights:", np.array_equal(weights, generator.normal(size=3)))

# %% [markdown]
"""```text
with a hidden state, the same weights: False
```

funcnet has no generator with a hidden state. A *key* identifies a draw: the same key gives the same numbers,
regardless of earlier draws, today and in later versions. `fn.Key(6)` is the counterpart of the seed 6, and
`key.child("init", 0)` is a further key that its name identifies.
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

The third cause is state that is lost when a run stops: the moments of the optimizer (the momentum of part 6), the
position in the data, the state of the random number generator. In funcnet, a run is one value, a `TrainState`, and a
program can save a value: the file is a *checkpoint*. `fn.load` reads it. Its argument `like` is a state with the same
layers and the same optimizer, which the file must match. `fn.train` yields the state after each epoch. The next program
trains ten epochs without a break, and then four epochs, a checkpoint, and six more:
"""


# %%
def batches(epoch: int) -> fn.Minibatches[np.ndarray]:
    """The minibatches of an epoch."""
    return fn.minibatches(x, y, 32, key=key.child("shuffle", epoch))


step_with_momentum = fn.train_step(fn.softmax_cross_entropy)
start = fn.TrainState.create(fn.mlp(key, (64, 32, 10)), fn.Momentum(learning_rate=0.05), key=key)
at_once, _ = list(fn.train(step_with_momentum, start, batches, epochs=range(10)))[-1]
stopped, _ = list(fn.train(step_with_momentum, start, batches, epochs=range(4)))[-1]
file = Path("part_08_run.safetensors")
fn.save(file, stopped)
resumed, _ = list(fn.train(step_with_momentum, fn.load(file, like=start), batches, epochs=range(4, 10)))[-1]
file.unlink()
print("stopped and resumed, the same bits:", fn.fingerprint(at_once) == fn.fingerprint(resumed))

# %% [markdown]
"""```text
stopped and resumed, the same bits: True
```

## Parallel workers

The fourth cause is parallel work. In *data-parallel* training, each worker computes the gradient of a part of the
batch. If their results are added in the order in which they arrive, the sum depends on which worker is fastest. funcnet
splits a batch into *shards*, parts of a fixed size, and adds their gradients in a fixed order. The result depends
neither on the number of workers nor on their speed.
"""

# %% tags=["processes"]
alone = fn.sgd_step(fn.softmax_cross_entropy, learning_rate=0.1, shard_size=8)
net = fn.mlp(key, (64, 32, 10))
with ThreadPoolExecutor(3) as workers:
    together = fn.sgd_step(fn.softmax_cross_entropy, learning_rate=0.1, shard_size=8, executor=workers)
    by_three, _ = fn.train_epoch(together, net, batches(0))
by_one, _ = fn.train_epoch(alone, net, batches(0))
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

The last column holds for networks in float32, as long as all numbers are finite. Portable arithmetic costs time: a
step takes some two to five times as long. `python -m funcnet` checks all of these promises on your computer. The guide
on reproducibility (`examples/guides/reproducibility.md`) has their exact conditions.

## Exercises

Each cell below has a gap. Fill it and run the cell: its last line says whether your solution is right. Solutions are in
`part_08_solutions.py`.

**Exercise 1.** A float32 number has 24 binary digits. Above `2.0**24`, neighboring numbers are therefore 2 apart, and a
result halfway between two of them is rounded to the one that is a multiple of 4. In the order of the list below, the
sum of the six numbers is 0. On paper it is 4. Find an order in which it is 5.
"""

# %% Exercise 1
six = [2.0**24, 1.0, 1.0, 1.0, 1.0, -(2.0**24)]
order: list[float] = []  # the same six numbers in your order

# The check of exercise 1.
total = np.float32(0)
for each in order:
    total += np.float32(each)
print("Exercise 1:", "solved" if sorted(order) == sorted(six) and total == 5 else f"not solved yet (sum {total})")

# %% [markdown]
"""**Exercise 2.** Write the idea of portable arithmetic yourself: round each number to the nearest whole multiple of
`unit`, add the multiples as integers, and return the sum as a float. The check demands the same result for every order,
an error of at most half a unit for each number, and a sum that floating-point additions do not find. (64-bit integers
are large enough for it.)
"""


# %% Exercise 2
def exact_sum(numbers: fn.Array, unit: float) -> float:
    """The sum of the numbers, each rounded to a multiple of the unit."""
    return float(numbers.sum())  # your lines here


# The check of exercise 2.
drawn = fn.random.normal(fn.Key(2), (1000,))
sums = {exact_sum(drawn[fn.random.permutation(fn.Key(each), 1000)], 2.0**-20) for each in range(20)}
hard = exact_sum(np.array([2.0**60, 1.0, -(2.0**60)]), 1.0)
coarse = exact_sum(np.array([0.5, 0.75, -2.0]), 0.25), exact_sum(np.array([0.6, 0.6, -2.4]), 1.0)
right = len(sums) == 1 and abs(sums.pop() - drawn.sum()) <= 1000 * 2.0**-21 and hard == 1 and coarse == (-0.75, 0.0)
print("Exercise 2:", "solved" if right else "not solved yet")

# %% [markdown]
"""**Exercise 3.** Which pairs of runs have the same bits? Each run is one epoch with minibatches of 32 images. Shards
are added as a binary tree: neighbors in pairs, then the sums of the pairs in pairs, and so on. "Reversed" means that
one of the two runs has the images of each minibatch in the opposite order. Write `True` or `False` for each pair before
you run the check. A hint: `a + b` is `b + a` in every arithmetic.
"""

# %% Exercise 3
guesses: dict[str, bool | None] = {
    "portable: shards of 8, and no shards": None,
    "portable: shards of 32, and no shards": None,
    "native: shards of 8, and the same reversed": None,
    "native: shards of 1, and the same reversed": None,
}


# The check of exercise 3.
def after_an_epoch(shard_size: int | None, *, reverse: bool = False) -> str:
    """The fingerprint of a network after an epoch."""
    sharded = fn.sgd_step(fn.softmax_cross_entropy, learning_rate=0.1, shard_size=shard_size)
    minibatches = fn.minibatches(x, y, 32, transform=backwards if reverse else None)
    return fn.fingerprint(fn.train_epoch(sharded, fn.mlp(key, (64, 32, 10)), minibatches)[0])


with fn.portable():
    same = [after_an_epoch(size) == after_an_epoch(None) for size in (8, 32)]
same += [after_an_epoch(size) == after_an_epoch(size, reverse=True) for size in (8, 1)]
print("Exercise 3:", "solved" if list(guesses.values()) == same else "not solved yet")

# %% [markdown]
"""Next, part 9: your own layer.
"""
