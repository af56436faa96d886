# %% [markdown]
"""# Solutions of part 1.

Run it with: `python examples/tutorial/part_01_solutions.py`
"""

# %%
import numpy as np

import funcnet as fn


def squared(prediction: fn.Array, wanted: fn.Array) -> tuple[float, fn.Array]:
    """The squared error and its gradient with respect to the prediction, for a batch of one."""
    distance = prediction - wanted
    return float(distance[0, 0] * distance[0, 0]), 2 * distance


neuron = fn.Dense(weight=np.array([[0.5], [-1.0]]), bias=np.array([1.0]))
x, wanted = np.array([[2.0, 3.0]]), np.array([[1.0]])

# %% [markdown]
"""**Exercise 1.** Let `d` be the distance between output and target. The derivative with respect to a weight is
`2 * d * x`, so a step changes this weight by `-rate * 2 * d * x`, and the output by `-rate * 2 * d * x * x`. All
parameters together change the output by `-rate * 2 * d * (x1 * x1 + x2 * x2 + x3 * x3 + 1)`. The loss is 0 if this is
`-d`. The inputs are 1, -1 and 1, so the bracket is 4, and the rate is 1/8.
"""

# %% Exercise 1
example, goal = np.array([[1.0, -1.0, 1.0]]), np.array([[2.0]])
before = fn.Dense(weight=np.array([[0.5], [1.0], [-0.25]]), bias=np.array([0.5]))
rate_to_the_goal = 1 / 8

# The check of exercise 1.
_, slopes = fn.value_and_grad(before, example, goal, squared)
after = fn.sgd_update(before, slopes, learning_rate=rate_to_the_goal)
print("Exercise 1:", "solved" if fn.value_and_grad(after, example, goal, squared)[0] == 0 else "not solved yet")

# %% [markdown]
"""**Exercise 2.** The factor 3 belongs to the loss and to its derivative, and both change at the same place."""


# %% Exercise 2
def lopsided(prediction: fn.Array, wanted: fn.Array) -> tuple[float, fn.Array] | None:
    """The squared error, three times that if the prediction is too low, and its gradient, for a batch of one."""
    distance = prediction - wanted
    factor = np.where(distance < 0, 3.0, 1.0)
    return float((factor * distance * distance)[0, 0]), 2 * factor * distance


# The check of exercise 2.
def right_at(prediction: float) -> bool:
    """Whether value and gradient are right for a prediction and the target 1."""
    cost = (3 if prediction < 1 else 1) * (prediction - 1) * (prediction - 1)
    found = lopsided(np.array([[prediction]]), np.array([[1.0]]))
    return found is not None and found[0] == cost and found[1].tolist() == [[2 * cost / (prediction - 1)]]


print("Exercise 2:", "solved" if all(map(right_at, (-1.0, 0.5, 1.5, 3.0))) else "not solved yet")

# %% [markdown]
"""**Exercise 3.** The bracket of exercise 1 is 2 * 2 + 3 * 3 + 1, which is 14, so each step multiplies the distance by
`1 - 28 * rate`. With 1/8, the factor is -2.5: each step overshoots by more than the distance, and the loss grows. It
*diverges*. With 1/16, the factor is -0.75: the output jumps from one side of the target to the other, and approaches
it. With 1/32, the factor is 0.125, and the loss falls fastest.
"""


# %% Exercise 3
rates = (1 / 8, 1 / 16, 1 / 32)


def loss_after(steps: int, learning_rate: float) -> float | None:
    """The loss of ``neuron`` for ``x`` and ``wanted`` after some steps."""
    net = neuron
    for _ in range(steps):
        net = fn.sgd_update(net, fn.value_and_grad(net, x, wanted, squared)[1], learning_rate=learning_rate)
    return fn.value_and_grad(net, x, wanted, squared)[0]


# The check of exercise 3.
answer = fn.fingerprint(tuple(float(loss_after(3, each) or 0) for each in rates))
print("Exercise 3:", "solved" if answer.startswith("ed266562") else "not solved yet")
