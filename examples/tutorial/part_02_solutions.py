# %% [markdown]
"""# Solutions of part 2.

Run it with: `python examples/tutorial/part_02_solutions.py`
"""

# %%
import numpy as np

import funcnet as fn

x = np.array([[2.0, 2.0], [0.5, -1.0]])
wanted = np.array([[1.75, 2.25], [2.0, 2.0]])
first = fn.Dense(weight=np.array([[1.0, -0.5, -1.0], [-0.5, 0.5, 1.0]]), bias=np.array([0.0, 0.5, 0.5]))
second = fn.Dense(weight=np.array([[2.0, 2.0], [0.5, 1.0], [-1.0, -0.5]]), bias=np.array([-0.5, 0.5]))
net = (first, fn.ReLU(), second)


def squared(prediction: fn.Array, wanted: fn.Array) -> tuple[float, fn.Array]:
    """The mean over two examples of the sum of squared errors, and its gradient with respect to the prediction."""
    distance = prediction - wanted
    return float((distance * distance).sum()) / 2, distance


# %% [markdown]
"""**Exercise 1.** The product is `x @ (weight1 @ weight2) + (bias1 @ weight2 + bias2)`. The bias of the first layer
passes through the second layer, too.
"""


# %% Exercise 1
def merged(layer1: fn.Dense, layer2: fn.Dense) -> fn.Dense:
    """One layer with the outputs of two layers in sequence."""
    (weight1, bias1), (weight2, bias2) = fn.trained_arrays(layer1), fn.trained_arrays(layer2)
    return fn.Dense(weight=weight1 @ weight2, bias=bias1 @ weight2 + bias2)


# The check of exercise 1.
same = np.array_equal(fn.forward(merged(first, second), x), fn.forward((first, second), x))
print("Exercise 1:", "solved" if same else "not solved yet")

# %% [markdown]
"""**Exercise 2.** The input reaches the output along two paths, so its gradient is the sum over both: `g` along the
connection, and the usual backward pass through the layers. The places where `ReLU` had a negative input pass nothing.
"""


# %% Exercise 2
def residual_backward(x: fn.Array, g: fn.Array) -> fn.Array:
    """The gradient with respect to the input of ``net`` with a residual connection."""
    g_hidden = (g @ second.weight.T) * (fn.forward(first, x) > 0)
    return g + g_hidden @ first.weight.T


# The check of exercise 2.
other_x = np.array([[-1.0, 2.0], [0.5, 0.25], [3.0, -2.0]])
other_g = np.array([[0.5, 1.0], [-1.0, 0.25], [2.0, 0.5]])
same = np.array_equal(residual_backward(other_x, other_g), fn.backward(fn.Residual(net), other_x, other_g)[0])
print("Exercise 2:", "solved" if same else "not solved yet")

# %% [markdown]
"""**Exercise 3.** With this bias, the neuron's output is negative for both examples: it is a dead neuron. Its two
weights and its bias have the gradient 0. Its activation is 0, so the two weights that leave it have the gradient 0,
too. No step changes these five numbers, and gradient descent cannot revive the neuron. The twelve others change.
"""

# %% Exercise 3
step = 1 / 16
learner = (fn.Dense(weight=first.weight, bias=np.array([0.0, -1.0, 0.5])), fn.ReLU(), second)
arrays_before = fn.trained_arrays(learner)
for _ in range(20):
    learner = fn.sgd_update(learner, fn.value_and_grad(learner, x, wanted, squared)[1], learning_rate=step)
changed = sum(int((a != b).sum()) for a, b in zip(arrays_before, fn.trained_arrays(learner), strict=True))

# The check of exercise 3.
print("Exercise 3:", "solved" if fn.fingerprint(int(changed)).startswith("e780ddc9") else "not solved yet")
