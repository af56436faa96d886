# %% [markdown]
"""# Part 1. A neuron by hand.

This is the first of seven parts. Each is a Python script that also opens as a notebook; run it from top to bottom.
Under every piece of code stands what it prints. All that you need is school calculus: what a slope is, and the chain
rule.

Run it with: `python examples/tutorial/part_1_neuron.py`
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

A neuron takes some numbers in, multiplies each by a *weight* of its own, adds the products and one more number, the
*bias*:

`y = w1 * x1 + w2 * x2 + b`

All numbers here are halves, quarters, eighths and so on. The computer holds such numbers exactly, so you can redo
every line on paper and get every digit.
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

## How wrong it is

We would like the neuron to answer `1.0` to this input. It answers `-1.0`. The *loss* says how bad that is with one
number: here, the square of the distance. The square has no sign, and it grows faster for large mistakes than for
small ones.
"""

# %%
target = 1.0
loss = (y - target) * (y - target)
print("loss =", loss)

# %% [markdown]
"""```text
loss = 4.0
```

## Which way to go

How does the loss change when we turn `w1` a little? The chain rule answers in two steps. The loss is `(y - target)`
squared, so its slope by `y` is `2 * (y - target)`. And `y` contains `w1 * x1`, so the slope of `y` by `w1` is `x1`.
The product of the two is the slope of the loss by `w1`. For `w2` it is the same with `x2`; the bias stands alone, so
its factor is 1.

These slopes together are the *gradient*.
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

Is that true? A slope can be measured: move `w1` a little to both sides, and see how much the loss changes for each
unit of the move. Measured with steps of 0.25 to each side:
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

It is. (For a parabola the two agree exactly for any step. Part 3 says what happens for other curves.)

## One step downhill

The slope by `w1` is negative: a larger `w1` makes the loss smaller. So we go *against* the slope, by a small share of
it, the *learning rate*. Too small a rate is slow; too large a rate overshoots.
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

One step took the loss from 4.0 to 0.0625. That is all of learning; the rest of this tutorial is about doing it for
many neurons, without mistakes, and fast.

Here is the picture: the loss over `w1`, and the slope where we stand.
"""

# %%
w = np.linspace(-0.75, 3.25, 81)
figure, axes = plt.subplots(figsize=(7, 4.5))
axes.plot(w, [loss_at(each) for each in w], label="loss, the other weights held still")
axes.plot([w1 - 0.5, w1 + 0.5], [loss + 4, loss - 4], linestyle="--", label="its slope at w1 = 0.5: -8")
axes.plot([w1], [loss], "o", color="black")
axes.set(xlabel="w1", ylabel="loss", title="The slope says which way is down")
axes.set_ylim(-0.5, 10)
axes.grid(visible=True, alpha=0.4)
axes.legend()
figure.tight_layout()
figure.savefig(FIGURES / "part_1_slope.png", dpi=120)

# %% [markdown]
"""## The same in funcnet

In funcnet a neuron is a `Dense` layer with one output: a record with a weight and a bias. `forward` computes `y`,
`value_and_grad` the loss and its gradient, `sgd_update` takes the step. (SGD: stochastic gradient descent.) A loss is
a function that returns two things, its value and its slope by the prediction; ours is two lines.

Inputs are tables: a row for each example, a column for each number. Here both have one row.
"""


# %%
def squared(prediction: fn.Array, wanted: fn.Array) -> tuple[float, fn.Array]:
    """The squared distance, and its slope by the prediction, for a batch of one."""
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

Every number is the one that we found by hand. Look at two things. The gradient is *itself a neuron*: it has a weight
and a bias of its own. And the old neuron has not changed: `sgd_update` returned a new one. Part 5 shows what that is
good for.

Next, part 2: many neurons side by side, and several examples at once.
"""
