# %% [markdown]
"""# Solutions of part 4.

Run it with: `python examples/tutorial/part_04_solutions.py`
"""

# %%
import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before NumPy is imported: more threads slow small networks down

import numpy as np

import funcnet as fn

digits = fn.datasets.load_digits()
key = fn.Key(4)
train, validation = fn.split(digits.x, digits.y, 0.2, key=key.child("split"))
start = fn.mlp(key.child("init"), (64, 100, 200, 10))
step = fn.sgd_step(fn.softmax_cross_entropy, learning_rate=0.1)
logits = np.log(np.array([[1.0, 2.0, 5.0]]))


def softmax(logits: fn.Array) -> fn.Array:
    """The probability of each class. Shapes: logits (1, O), result (1, O)."""
    powers = np.exp(logits)
    probabilities: fn.Array = powers / powers.sum()
    return probabilities


# %% [markdown]
"""**Exercise 1.** A number that is subtracted from all logits changes neither the probabilities nor the loss: `exp(z -
c)` is `exp(z) / exp(c)`, and the common factor cancels in the quotient. If `c` is the largest logit, the largest
exponential is 1. The loss is computed as `log(s) - z[label]`, because a tiny probability may have been rounded to 0,
and 0 has no logarithm.
"""


# %% Exercise 1
def cross_entropy(logits: fn.Array, onehot: fn.Array) -> tuple[float, fn.Array] | None:
    """The mean loss and its gradient. Shapes: logits (B, O), onehot (B, O), gradient (B, O)."""
    z = logits - logits.max(axis=1, keepdims=True)
    powers = np.exp(z)
    sums = powers.sum(axis=1, keepdims=True)
    losses = np.log(sums[:, 0]) - (onehot * z).sum(axis=1)
    return float(losses.mean()), (powers / sums - onehot) / len(logits)


# The check of exercise 1.
def agrees_for(logits: fn.Array) -> bool:
    """Whether the loss and its gradient are those of funcnet."""
    labels = np.arange(len(logits)) % logits.shape[1]
    found = cross_entropy(logits, fn.one_hot(labels, logits.shape[1], dtype=np.float64))
    loss, gradient = fn.softmax_cross_entropy(logits, labels)
    return found is not None and np.allclose(found[0], loss) and np.allclose(found[1], gradient)


draws = fn.random.normal(fn.Key(0), (5, 3))
with np.errstate(all="ignore"):
    small, large = agrees_for(draws), agrees_for(1000 * draws)
print("Exercise 1:", "solved" if small and large else f"not solved yet (small logits: {small}, large: {large})")

# %% [markdown]
"""**Exercise 2.** The loss is the sum of `target[k] * (log(s) - z[k])`. The shares add up to 1, so this is `log(s)`
minus the sum of `target[k] * z[k]`. The derivative of the first term is `p[k]`, as before, and that of the second is
`target[k]`. The gradient is `p - target`. One-hot labels are the case in which one share is 1.
"""

# %% Exercise 2
target = np.array([[0.25, 0.25, 0.5]])
answer_2 = (0.125 - 0.25, 0.25 - 0.25, 0.625 - 0.5)

# The check of exercise 2.
slopes = fn.numerical_gradient(lambda z: -float((target * np.log(softmax(z))).sum()), logits)
print("Exercise 2:", "solved" if np.allclose(answer_2, slopes[0], atol=1e-6) else "not solved yet")

# %% [markdown]
"""**Exercise 3.** All activations of the hidden layers are 0, so the weights of the last layer have the gradient 0. Its
weights are 0, so it passes the gradient 0 to the layers before it. Only its ten biases change: the network learns how
frequent each digit is, and nothing else. If all weights were equal, but not 0, all neurons of a layer would get equal
gradients, and stay equal. Random first weights make the neurons different.
"""

# %% Exercise 3
net = fn.map_parameters(np.zeros_like, start)
for epoch in (1, 2):
    net, _ = fn.train_epoch(step, net, fn.minibatches(train.x, train.y, batch_size=32, key=key.child("shuffle", epoch)))
changed = sum(int(np.count_nonzero(array)) for array in fn.trained_arrays(net))

# The check of exercise 3.
print("Exercise 3:", "solved" if fn.fingerprint(int(changed)).startswith("608dad6e") else "not solved yet")
