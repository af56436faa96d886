# %% [markdown]
"""# Part 1. A neuron by hand.

This tutorial has twelve parts. It begins with one neuron, and ends with a network that writes text. You need a little
Python and NumPy, and school calculus: derivatives and the *chain rule*, which multiplies the derivatives of functions
that are applied one after the other. The output of each piece of code appears below the code.

Each part is a Python script, and it is also a notebook, in which you can change a line and run it again.

- Install what the parts need, in the folder of the project: `pip install ".[docs]"`
- Run this part as a script: `python examples/tutorial/part_01_neuron.py`. It prints the output that you see here. The
  pictures of all parts go to the folder `figures`.
- Write all parts as notebooks into a folder: `python examples/tutorial/notebooks.py FOLDER`

A part takes from half a second to about eight seconds of processor time, imports included, on one core of a server with
an AMD EPYC processor; the first five parts take at most four. The first run of all takes longer, because
matplotlib collects the fonts of your computer.

The terms of the field stand in *italics* where they first occur, and the [glossary](glossary.md) explains them. Each
part ends with three exercises. A program checks your solutions, and ours are in `part_01_solutions.py`, and so on.
"""

# %%
from pathlib import Path

import numpy as np
from matplotlib import pyplot as plt

import funcnet as fn

FIGURES = Path("figures")
FIGURES.mkdir(exist_ok=True)

# %% [markdown]
"""## What a neuron computes

A *neuron* multiplies each of its inputs by a *weight*, adds the products, and adds one more number, the *bias*:

`y = w1 * x1 + w2 * x2 + b`

The inputs are also called *features*: they are the numbers that describe one example. The weights and the bias are the
*parameters*: they are the numbers that the neuron learns. The computation from the inputs to the output is the *forward
pass*, and the output is the *prediction*.

All numbers in this part are halves, quarters, eighths and so on. The computer represents such numbers exactly, so you
can repeat every line on paper and get every digit.
"""

# %%
x1, x2 = 2.0, 3.0
w1, w2, b = 0.5, -1.0, 1.0
y = w1 * x1 + w2 * x2 + b
print("y =", w1, "*", x1, "+", w2, "*", x2, "+", b, "=", y)

# %% [markdown]
"""```text
y = 0.5 * 2.0 + -1.0 * 3.0 + 1.0 = -1.0
```

## How wrong the output is

The neuron should output `1.0` for this input, its *target*. It outputs `-1.0`. The *loss* measures the error with one
number. Here it is the squared error: the square of the difference between output and target. The square is never
negative, and it grows faster for large errors than for small ones.
"""

# %%
target = 1.0
loss = (y - target) * (y - target)
print("loss =", loss)

# %% [markdown]
"""```text
loss = 4.0
```

## The gradient

How does the loss change when `w1` changes a little? The chain rule answers in two steps. The loss is the square of
`y - target`, so its derivative with respect to `y` is `2 * (y - target)`. The output `y` contains the term `w1 * x1`,
so the derivative of `y` with respect to `w1` is `x1`. The product of the two is the derivative of the loss with
respect to `w1`. For `w2`, the second factor is `x2`. For the bias, it is 1.

These derivatives together are the *gradient*. The computation of a gradient by the chain rule, from the loss back to
the weights, is the *backward pass*, or *backpropagation*.
"""

# %%
g = 2 * (y - target)
slope_w1, slope_w2, slope_b = g * x1, g * x2, g
print("by y: ", g)
print("by w1:", slope_w1)
print("by w2:", slope_w2)
print("by b: ", slope_b)

# %% [markdown]
"""```text
by y:  -4.0
by w1: -8.0
by w2: -12.0
by b:  -4.0
```

Are these numbers right? A derivative is a slope, and a slope can be measured: move `w1` a little in both directions,
and divide the change of the loss by the length of the move. With steps of 0.25 in each direction:
"""


# %%
def loss_at(weight_1: float) -> float:
    """The loss as a function of the first weight alone."""
    distance = weight_1 * x1 + w2 * x2 + b - target
    return distance * distance


h = 0.25
measured = (loss_at(w1 + h) - loss_at(w1 - h)) / (2 * h)
print("with steps of", h, "the loss goes from", loss_at(w1 - h), "to", loss_at(w1 + h), "and the slope is", measured)

# %% [markdown]
"""```text
with steps of 0.25 the loss goes from 6.25 to 2.25 and the slope is -8.0
```

The measured slope agrees with the derivative. (For a parabola, the two agree exactly for any step. Part 3 shows what
happens for other curves.)

## One step of gradient descent

The derivative with respect to `w1` is negative: a larger `w1` makes the loss smaller. *Gradient descent* therefore
moves each weight *against* its derivative, by a small multiple of it. The factor is the *learning rate*. If the
learning rate is too small, learning is slow. If it is too large, the step overshoots the minimum. The learning rate is
a *hyperparameter*: you choose it, and the neuron does not learn it.
"""

# %%
rate = 0.03125  # 1/32
new_w1, new_w2, new_b = w1 - rate * slope_w1, w2 - rate * slope_w2, b - rate * slope_b
new_y = new_w1 * x1 + new_w2 * x2 + new_b
print("w1:", w1, "->", new_w1)
print("w2:", w2, "->", new_w2)
print("b: ", b, "->", new_b)
print("y: ", y, "->", new_y)
print("loss:", loss, "->", (new_y - target) * (new_y - target))

# %% [markdown]
"""```text
w1: 0.5 -> 0.75
w2: -1.0 -> -0.625
b:  1.0 -> 1.125
y:  -1.0 -> 0.75
loss: 4.0 -> 0.0625
```

One step reduced the loss from 4.0 to 0.0625. Training a network is a repetition of such steps. The rest of this
tutorial does it for many neurons, without mistakes, and fast.

The picture shows the loss as a function of `w1`, and its slope at the current weight.
"""

# %%
w = np.linspace(-0.75, 3.25, 81)
figure, axes = plt.subplots(figsize=(7, 4.5))
axes.plot(w, [loss_at(each) for each in w], label="loss, with the other weights fixed")
axes.plot([w1 - 0.5, w1 + 0.5], [loss + 4, loss - 4], linestyle="--", label="its slope at w1 = 0.5: -8")
axes.plot([w1], [loss], "o", color="black")
axes.set(xlabel="w1", ylabel="loss", title="The slope says which way is down")
axes.set_ylim(-0.5, 10)
axes.grid(visible=True, alpha=0.4)
axes.legend()
figure.tight_layout()
figure.savefig(FIGURES / "part_01_slope.png", dpi=120)

# %% [markdown]
"""## The same in funcnet

In funcnet, a neuron is a `Dense` layer with one output. It is a *record*, an object with named fields: here a weight
and a bias. `forward` computes `y`, `value_and_grad` computes the loss and its gradient, and `sgd_update` takes the
step. (SGD is *stochastic gradient descent*; part 4 explains the first word.) A loss is a function that returns two
things: its value, and its gradient with respect to the prediction. The loss of this part takes two lines.

A list of numbers, such as the inputs of one example, is called a *vector*. A table of numbers is called a *matrix*.
Inputs are matrices with a row for each example and a column for each feature. Here both matrices have one row. The
examples that are computed together are a *batch*.
"""


# %%
def squared(prediction: fn.Array, wanted: fn.Array) -> tuple[float, fn.Array]:
    """The squared error and its gradient with respect to the prediction, for a batch of one."""
    distance = prediction - wanted
    return float(distance[0, 0] * distance[0, 0]), 2 * distance


neuron = fn.Dense(weight=np.array([[0.5], [-1.0]]), bias=np.array([1.0]))
x, wanted = np.array([[2.0, 3.0]]), np.array([[1.0]])

value, gradient = fn.value_and_grad(neuron, x, wanted, squared)
print("loss", value)
print("gradient by weight", gradient.weight.ravel(), "and by bias", gradient.bias)

learned = fn.sgd_update(neuron, gradient, learning_rate=rate)
print("weight", learned.weight.ravel(), "and bias", learned.bias)
print("loss", fn.value_and_grad(learned, x, wanted, squared)[0])
print("the old neuron still has the weight", neuron.weight.ravel())

# %% [markdown]
"""```text
loss 4.0
gradient by weight [ -8. -12.] and by bias [-4.]
weight [ 0.75  -0.625] and bias [1.125]
loss 0.0625
the old neuron still has the weight [ 0.5 -1. ]
```

Every number equals the number that we computed by hand. Note two things. The gradient is *itself a neuron*: it has a
weight and a bias. And the old neuron has not changed: `sgd_update` returned a new one. Part 5 shows the advantage.

## Exercises

Each cell below has a gap. Fill it and run the cell: its last line says whether your solution is right. Solutions are in
`part_01_solutions.py`.

**Exercise 1.** A neuron with three inputs takes one step of gradient descent, and its loss becomes exactly 0. Which
learning rate did it use? Write down, with letters, how much the step changes the output; then insert the numbers.
"""

# %% Exercise 1
example, goal = np.array([[1.0, -1.0, 1.0]]), np.array([[2.0]])
before = fn.Dense(weight=np.array([[0.5], [1.0], [-0.25]]), bias=np.array([0.5]))
rate_to_the_goal = 1.0  # your answer here

# The check of exercise 1.
_, slopes = fn.value_and_grad(before, example, goal, squared)
after = fn.sgd_update(before, slopes, learning_rate=rate_to_the_goal)
print("Exercise 1:", "solved" if fn.value_and_grad(after, example, goal, squared)[0] == 0 else "not solved yet")

# %% [markdown]
"""**Exercise 2.** A baker predicts how many loaves to bake. Too few loaves are worse than too many: a prediction below
the target costs three times the squared error, and a prediction above it costs the squared error. Write this loss and
its gradient. `np.where(condition, a, b)` helps.
"""


# %% Exercise 2
def lopsided(prediction: fn.Array, wanted: fn.Array) -> tuple[float, fn.Array] | None:
    """The squared error, three times that if the prediction is too low, and its gradient, for a batch of one."""
    return None  # your lines here


# The check of exercise 2.
def right_at(prediction: float) -> bool:
    """Whether value and gradient are right for a prediction and the target 1."""
    cost = (3 if prediction < 1 else 1) * (prediction - 1) * (prediction - 1)
    found = lopsided(np.array([[prediction]]), np.array([[1.0]]))
    return found is not None and found[0] == cost and found[1].tolist() == [[2 * cost / (prediction - 1)]]


print("Exercise 2:", "solved" if all(map(right_at, (-1.0, 0.5, 1.5, 3.0))) else "not solved yet")

# %% [markdown]
"""**Exercise 3.** Take the neuron of this part, and repeat the step of gradient descent. Do it with the learning rates
1/8, 1/16 and 1/32. Guess first: for which of them does the loss fall? Then write the function, print the loss after
each step, and compare. By which factor does each step multiply the distance between output and target?
"""


# %% Exercise 3
rates = (1 / 8, 1 / 16, 1 / 32)


def loss_after(steps: int, learning_rate: float) -> float | None:
    """The loss of ``neuron`` for ``x`` and ``wanted`` after some steps."""
    return None  # your lines here


# The check of exercise 3.
answer = fn.fingerprint(tuple(float(loss_after(3, each) or 0) for each in rates))
print("Exercise 3:", "solved" if answer.startswith("ed266562") else "not solved yet")

# %% [markdown]
"""Next, part 2: several neurons in a layer, and several examples at once.
"""
