# %% [markdown]
"""# Solutions of part 6.

Try the exercises in `part_06_adam.py` first. The first cell has what they need from the part.

Run it with: `python examples/tutorial/part_06_solutions.py`
"""

# %%
import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before NumPy is imported: more threads slow small networks down

import numpy as np

import funcnet as fn

x, wanted = np.array([[2.0, 0.0], [0.0, 0.5]]), np.array([[0.0], [0.0]])
start = fn.Dense(weight=np.array([[1.0], [4.0]]))
digits = fn.datasets.load_digits()
key = fn.Key(6)


def gradient(neuron: fn.Dense) -> fn.Dense:
    """The gradient of the loss in the valley."""
    return fn.value_and_grad(neuron, x, wanted, fn.mean_squared_error)[1]


def trained(optimizer: fn.Optimizer, pixels: fn.Array) -> fn.Fit[fn.TrainState[tuple[fn.Layer, ...]]]:
    """A run of 8 epochs, with the validation loss after each epoch."""
    train, validation = fn.split(pixels, digits.y, 0.2, key=key.child("split"))
    net = fn.mlp(key.child("init"), (64, 32, 10))
    *_, run = fn.fit(
        fn.train_step(fn.softmax_cross_entropy),
        fn.Fit.create(fn.TrainState.create(net, optimizer, key=key.child("run"))),
        lambda epoch: fn.minibatches(train.x, train.y, 32, key=key.child("shuffle", epoch)),
        lambda state: fn.evaluate(state.params, validation.x, validation.y, fn.softmax_cross_entropy),
        epochs=8,
    )
    return run


# %% [markdown]
"""**Exercise 1.** For a small rate, the flat direction is the slow one, and its factor `1 - rate * flat` falls as the
rate grows. For a large rate, the steep direction overshoots, and `rate * steep - 1` grows. The larger of the two is the
lowest where they are equal: `1 - rate * flat = rate * steep - 1`.
"""


# %% Exercise 1
def best_rate(steep: float, flat: float) -> float:
    """The best constant learning rate for two curvatures."""
    return 2 / (steep + flat)


# The check of exercise 1.
def worst_factor(rate: float, steep: float, flat: float) -> float:
    """The larger absolute value of the two factors."""
    return max(abs(1 - rate * steep), abs(1 - rate * flat))


best = True
for steep, flat in ((4.0, 0.25), (4.0, 0.015625), (10.0, 9.0)):
    found = best_rate(steep, flat)
    lowest = min(worst_factor(found * share, steep, flat) for share in (0.9, 0.99, 0.999, 1.001, 1.01, 1.1))
    best = best and worst_factor(found, steep, flat) < lowest
print("Exercise 1:", "solved" if best else "not solved yet")

# %% [markdown]
"""**Exercise 2.** With the betas 0, the mean is the derivative `g`, the square is `g * g`, and there is nothing to
correct. The quotient `g / sqrt(g * g)` is the sign of `g`: 1 or -1. Each weight moves by the learning rate,
against the sign of its derivative. This method is called *sign descent*.
"""


# %% Exercise 2
def without_memory(neuron: fn.Dense, grad: fn.Dense, rate: float) -> fn.Dense:
    """The neuron after one step of Adam with the betas 0."""
    return fn.map_parameters(lambda p, g: p - rate * np.sign(g), neuron, grad)


# The check of exercise 2.
memoryless = fn.Adam(learning_rate=0.375, betas=(0.0, 0.0))
mine, theirs, moments = start, start, memoryless.init(start)
for step in range(3):
    theirs, moments = memoryless.update(theirs, gradient(theirs), moments, step)
    mine = without_memory(mine, gradient(mine), 0.375)
print("Exercise 2:", "solved" if np.allclose(mine.weight, theirs.weight, atol=1e-6) else "not solved yet")

# %% [markdown]
"""**Exercise 3.** In the first layer, the same effect needs a change that is 16 times as small, and the derivatives are
16 times as large. Its rate must be 256 times as small. With this rate, the second layer hardly learns: the validation
loss is 0.360. With 0.1, the first layer breaks. The rate must be between the two, and is right for neither layer: this
is a narrow valley again. Adam with the rate 0.01 gets 0.124, and nobody had to search.
"""

# %% Exercise 3
my_rate = 0.03

# The check of exercise 3.
with fn.portable():
    reached = trained(fn.SGD(learning_rate=my_rate), digits.x * 16).values[-1]
print("Exercise 3:", "solved" if reached < 0.25 else f"not solved yet (validation loss {reached:.3f})")
