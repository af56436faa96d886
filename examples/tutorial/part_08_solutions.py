# %% [markdown]
"""# Solutions of part 8.

Run them with: `python examples/tutorial/part_08_solutions.py`
"""

# %%
import numpy as np

import funcnet as fn

digits = fn.datasets.load_digits()
x, y = digits.x[:320], digits.y[:320]
key = fn.Key(6)


def backwards(batch: fn.Batch[np.ndarray]) -> fn.Batch[np.ndarray]:
    """The same images in the opposite order."""
    return fn.Batch(batch.x[::-1].copy(), batch.y[::-1].copy())


# %% [markdown]
"""`2**24 + 3` lies halfway between `2**24 + 2` and `2**24 + 4`. The second one is the multiple of 4, so the sum is
rounded up by 1. The last 1 must come after the large numbers, where it is added without rounding.
"""

# %% Exercise 1
six = [2.0**24, 1.0, 1.0, 1.0, 1.0, -(2.0**24)]
order: list[float] = [1.0, 1.0, 1.0, 2.0**24, -(2.0**24), 1.0]

# The check of exercise 1.
total = np.float32(0)
for each in order:
    total += np.float32(each)
print("Exercise 1:", "solved" if sorted(order) == sorted(six) and total == 5 else f"not solved yet (sum {total})")

# %% [markdown]
"""`np.rint` finds the nearest multiples, and the sum of 64-bit integers is exact as long as it is below `2**63`. A sum
of the multiples as floats would be exact up to `2**53` only: it loses the 1 beside `2**60`.
"""


# %% Exercise 2
def exact_sum(numbers: fn.Array, unit: float) -> float:
    """The sum of the numbers, each rounded to a multiple of the unit."""
    return int(np.rint(numbers / unit).astype(np.int64).sum()) * unit


# The check of exercise 2.
drawn = fn.random.normal(fn.Key(2), (1000,))
sums = {exact_sum(drawn[fn.random.permutation(fn.Key(each), 1000)], 2.0**-20) for each in range(20)}
hard = exact_sum(np.array([2.0**60, 1.0, -(2.0**60)]), 1.0)
coarse = exact_sum(np.array([0.5, 0.75, -2.0]), 0.25), exact_sum(np.array([0.6, 0.6, -2.4]), 1.0)
right = len(sums) == 1 and abs(sums.pop() - drawn.sum()) <= 1000 * 2.0**-21 and hard == 1 and coarse == (-0.75, 0.0)
print("Exercise 2:", "solved" if right else "not solved yet")

# %% [markdown]
"""Each shard's gradient is rounded to float32 before it is added, so other shards give other bits, even in portable
arithmetic. A shard of 32 images is the whole minibatch, so nothing is added. In native arithmetic, the sum within a
shard of 8 images depends on their order. A shard of one image has no such sum, and in reverse order, the binary tree is
its mirror image, whose sums are `b + a` instead of `a + b`.
"""

# %% Exercise 3
guesses: dict[str, bool | None] = {
    "portable: shards of 8, and no shards": False,
    "portable: shards of 32, and no shards": True,
    "native: shards of 8, and the same reversed": False,
    "native: shards of 1, and the same reversed": True,
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
