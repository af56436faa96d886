# %% [markdown]
"""# Part 8. A recurrent network by hand.

A text, a melody and a temperature curve are *sequences*: their order matters, and their lengths differ. A recurrent
network reads a sequence step by step, and keeps a *state*: the numbers that it remembers. This part computes three
steps and their gradient by hand, then shows why long sequences are hard to learn, and how gates help.

Run it with: `python examples/tutorial/part_8_recurrent.py`
"""

# %%
import math
import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before NumPy is imported: more threads slow small networks down

from pathlib import Path

import numpy as np
from attrs import evolve
from matplotlib import pyplot as plt
from numpy.typing import NDArray

import funcnet as fn

FIGURES = Path("figures")
FIGURES.mkdir(exist_ok=True)

# %% [markdown]
"""## Three steps

The smallest recurrent network has one input `x`, one state `h`, and two weights: `w` for the input and `u` for the
state of the step before. Before the first step, the state is 0. At each step,

`h = relu(w * x + u * h_before)`

The *same* two weights serve every step, so a network of two numbers can read a sequence of any length. ReLU leaves
positive numbers as they are; all numbers in this example are positive.
"""

# %%
w, u = 0.5, 0.5
x1, x2, x3 = 2.0, 1.0, 4.0
h1 = max(w * x1, 0)
h2 = max(w * x2 + u * h1, 0)
h3 = max(w * x3 + u * h2, 0)
print("h1 =", w, "*", x1, "=", h1)
print("h2 =", w, "*", x2, "+", u, "*", h1, "=", h2)
print("h3 =", w, "*", x3, "+", u, "*", h2, "=", h3)
target = 2.0
print("loss =", (h3 - target) * (h3 - target))

# %% [markdown]
"""```text
h1 = 0.5 * 2.0 = 1.0
h2 = 0.5 * 1.0 + 0.5 * 1.0 = 1.0
h3 = 0.5 * 4.0 + 0.5 * 1.0 = 2.5
loss = 0.25
```

The last state depends on all three inputs: on the last one directly, on the others through the earlier states. It is
the output of the network, whose target is 2.0.

## Backpropagation through time

Write the three steps below each other, and you have a network with three layers that share their weights. Its gradient
is therefore computed as before, from the last step to the first. Each step does two things.

- It adds its share to the gradient of each weight: the gradient with respect to its state, times the number that the
  weight was multiplied by. That number is the input for `w`, and the state before for `u`.
- It passes the gradient to the state before, multiplied by `u`.

This is *backpropagation through time*. (Part 5 used a layer three times: there, too, the gradient of the shared weight
was the sum of the shares of its uses.)
"""

# %%
g3 = 2 * (h3 - target)
g2 = g3 * u
g1 = g2 * u
print("gradients by h3, h2, h1:", g3, g2, g1)
print("by w:", g3, "*", x3, "+", g2, "*", x2, "+", g1, "*", x1, "=", g3 * x3 + g2 * x2 + g1 * x1)
print("by u:", g3, "*", h2, "+", g2, "*", h1, "+", g1, "* 0 =", g3 * h2 + g2 * h1)

# %% [markdown]
"""```text
gradients by h3, h2, h1: 1.0 0.5 0.25
by w: 1.0 * 4.0 + 0.5 * 1.0 + 0.25 * 2.0 = 5.0
by u: 1.0 * 1.0 + 0.5 * 1.0 + 0.25 * 0 = 1.5
```

Part 1 measured a slope by moving the weight in both directions. The loss is a parabola in `w`, so the measured slope
is exact:
"""


# %%
def loss_at(weight: float) -> float:
    """The loss as a function of the weight of the input."""
    h = 0.0
    for x in (x1, x2, x3):
        h = max(weight * x + u * h, 0)
    return (h - target) * (h - target)


lower, upper = loss_at(0.25), loss_at(0.75)
print("from", lower, "to", upper, "in a step of 0.5: the slope is", (upper - lower) / 0.5)

# %% [markdown]
"""```text
from 0.5625 to 3.0625 in a step of 0.5: the slope is 5.0
```

## The same in funcnet

`fn.RNN` is this network, for any number of inputs and states. Its input has the shape (B, T, I): B sequences of T
steps with I numbers each. With `outputs="last"`, the output is the last state of each sequence; otherwise it is the
state after every step.
"""


# %%
def squared(prediction: fn.Array, wanted: fn.Array) -> tuple[float, fn.Array]:
    """The squared error and its gradient with respect to the prediction, for one number."""
    distance = prediction - wanted
    return float(distance[0, 0] * distance[0, 0]), 2 * distance


net = fn.RNN(weight=np.array([[w]]), recurrent=np.array([[u]]), activation="relu", outputs="last")
x, wanted = np.array([[[x1], [x2], [x3]]]), np.array([[target]])
loss, gradient = fn.value_and_grad(net, x, wanted, squared)
print("loss", loss, "gradient by w", gradient.weight, "and by u", gradient.recurrent)
print("the states", fn.forward(evolve(net, outputs="all"), x).ravel())
print("the gradient by x1, x2, x3", fn.backward(net, x, np.array([[g3]]))[0].ravel())

# %% [markdown]
"""```text
loss 0.25 gradient by w [[5.]] and by u [[1.5]]
the states [1.  1.  2.5]
the gradient by x1, x2, x3 [0.125 0.25  0.5  ]
```

The gradient by an input is that by its state, times `w`. An input that lies one step further back counts half as much
here, since `u` is 0.5.

A state is all that the network knows of the past, so a program may read a sequence in pieces, as it arrives.
`fn.unroll` takes the state before the piece, and returns the outputs and the state after it:
"""

# %%
outputs, state = fn.unroll(net, x[:, :2])
print("after two steps", state)
outputs, state = fn.unroll(net, x[:, 2:], state)
print("after the third", state)

# %% [markdown]
"""```text
after two steps [[1.]]
after the third [[2.5]]
```

## How far back does a gradient reach?

Each step back multiplies the gradient by `u` once more. What does the last state of a sequence learn about the first
input? The next program sets `w` to 1, and prints the gradient of the last state with respect to the first input.
"""


# %%
def reach(recurrent: float, steps: int) -> float:
    """The gradient of the last state with respect to the first input, for a sequence of ones."""
    layer = evolve(net, weight=np.array([[1.0]]), recurrent=np.array([[recurrent]]))
    return float(fn.backward(layer, np.ones((1, steps, 1)), np.ones((1, 1)))[0][0, 0, 0])


for each in (0.5, 1.0, 2.0):
    print("u =", each, "after 2, 5, 11 steps:", *(reach(each, steps) for steps in (2, 5, 11)))

# %% [markdown]
"""```text
u = 0.5 after 2, 5, 11 steps: 0.5 0.0625 0.0009765625
u = 1.0 after 2, 5, 11 steps: 1.0 1.0 1.0
u = 2.0 after 2, 5, 11 steps: 2.0 16.0 1024.0
```

The gradient after T steps is `u` to the power of T - 1. With `u` below 1 it *vanishes*: the network cannot learn that
an early input matters. With `u` above 1 it *explodes*, and one update destroys what the network has learned. With many
states, `u` is a matrix, and its largest factor takes the place of `u`.

Exploding gradients have a simple remedy: make a gradient that is too long shorter, without changing its direction. The
optimizer `fn.ClipByGlobalNorm(optimizer, max_norm=1.0)` does so. Vanishing gradients have no such remedy: what has
become 0 cannot be made longer. They need another network.

## Gates

A *gate* is a number between 0 and 1 that the network computes at each step. In the GRU (gated recurrent unit), the
*update gate* `z` decides how much of the state stays as it is:

`h = z * h_before + (1 - z) * candidate`

The candidate is computed as in a plain recurrent network. If `z` is 1, the state does not change, whatever the input
is. Along this path, the gradient is multiplied by `z` at each step instead of `u`. And the network *learns* `z`: a
sigmoid of a sum of weighted inputs and states, like every neuron's output.
"""


# %%
def sigmoid(x: float) -> float:
    """The function that turns any number into one between 0 and 1."""
    return 1 / (1 + math.exp(-x))


for total in (0, 3, 6):
    z = sigmoid(total)
    print(f"z = sigmoid({total}) = {z:.3f} keeps {z**10:.4f} after 10 steps, and {z**60:.4f} after 60")

# %% [markdown]
"""```text
z = sigmoid(0) = 0.500 keeps 0.0010 after 10 steps, and 0.0000 after 60
z = sigmoid(3) = 0.953 keeps 0.6152 after 10 steps, and 0.0542 after 60
z = sigmoid(6) = 0.998 keeps 0.9755 after 10 steps, and 0.8620 after 60
```

## Remembering one number

The following data need memory. A sequence consists of 60 numbers, each -1 or 1. The class of the sequence is 1 if its
*first* number is 1. Everything after it is noise.

Three networks of 16 states learn it: a plain one, with tanh instead of ReLU; a GRU whose gates begin near one half;
and the same GRU with an initial bias of 3 for the update gate, which therefore begins near 0.953 and keeps most of the
state. In funcnet, the columns of a GRU are those of the *reset gate* (which decides how much of the state the candidate
sees), of the update gate, and of the candidate.
"""


# %%
def signals(count: int, key: fn.Key) -> fn.Batch[NDArray[np.intp]]:
    """Sequences of -1 and 1, and the classes that their first numbers give. Shapes: x (N, 60, 1), y (N,)."""
    ones = (fn.random.uniform(key, (count, 60, 1)) < 0.5).astype(np.intp)
    return fn.Batch((2 * ones - 1).astype(np.float32), ones[:, 0, 0])


key = fn.Key(8)
data, others = signals(1000, key.child("data")), signals(1000, key.child("others"))
gru = fn.gru(key.child(0), 1, 16, outputs="last")
layers: dict[str, fn.Layer] = {
    "plain": fn.rnn(key.child(0), 1, 16, outputs="last"),
    "GRU": gru,
    "GRU that keeps": evolve(gru, bias=np.repeat(np.array([0, 3, 0], np.float32), 16)),
}
last = fn.dense(key.child(1), 16, 2)
step = fn.train_step(fn.softmax_cross_entropy)
losses: dict[str, list[float]] = {}
with fn.portable():
    for name, layer in layers.items():
        adam = fn.ClipByGlobalNorm(fn.Adam(learning_rate=0.005), max_norm=1.0)
        run = fn.TrainState.create((layer, last), adam, key=key)
        losses[name] = []
        for epoch in range(8):
            batches = fn.minibatches(data.x, data.y, 20, key=key.child("shuffle", epoch))
            run, log = fn.train_epoch(step, run, batches)
            losses[name].append(log.mean_loss)
        right = fn.accuracy(fn.predict(run.params, others.x, fn.Multiclass()), others.y)
        print(f"{name}: of 1000 other sequences, right: {right:.3f}")

# %% [markdown]
"""```text
plain: of 1000 other sequences, right: 0.507
GRU: of 1000 other sequences, right: 0.525
GRU that keeps: of 1000 other sequences, right: 0.998
```

Only the network that keeps its state from the beginning learned the task; the other two guess. The left plot shows why:
it is the size of the gradient with respect to the input, by the distance from the end, before training. It vanishes in
the plain network, and even faster in the GRU whose gates begin near one half. The right plot shows the loss.
"""

# %%
figure, (left, right_plot) = plt.subplots(1, 2, figsize=(9, 4))
for name, layer in layers.items():
    slopes, _ = fn.backward(layer, data.x[:100], fn.random.normal(key, (100, 16)).astype(np.float32))
    sizes = np.abs(slopes[:, ::-1, 0]).mean(axis=0)
    left.semilogy(range(60), sizes / sizes[0], label=name)
    right_plot.plot(range(1, 9), losses[name], label=name)
left.set(xlabel="steps before the last one", ylabel="size of the gradient", title="How far back a gradient reaches")
right_plot.axhline(np.log(2), color="gray", linestyle=":", label="ln 2, the loss of a guess")
right_plot.set(xlabel="epoch", ylabel="loss", title="Remembering the first of 60 numbers")
for axes in (left, right_plot):
    axes.grid(visible=True, alpha=0.4)
    axes.legend()
figure.tight_layout()
figure.savefig(FIGURES / "part_8_reach.png", dpi=120)

# %% [markdown]
"""`fn.LSTM` is the older network with gates. It has a second state, the *cell*. A *forget gate* decides how much of the
cell stays, an *input gate* how much of the candidate is added, and an *output gate* how much of the cell is the output.
`fn.bidirectional` reads a sequence in both directions. `examples/names.py` and `examples/language_model.py` train
recurrent networks on text.

Next, part 9: attention, which reaches every step at once.
"""
