# %% [markdown]
"""# Part 11. A recurrent network by hand.

A text, a melody and a temperature curve are *sequences*: their order matters, and their lengths differ. A *recurrent
neural network* (RNN) reads a sequence step by step, and keeps a *hidden state*: the numbers that it remembers. This
part computes three *time steps* and their gradient by hand, then shows why long sequences are hard to learn, and how
gates help.

Run it with: `python examples/tutorial/part_11_recurrent.py`
"""

# %%
import math
import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before NumPy is imported: more threads slow small networks down

from pathlib import Path

import numpy as np
from attrs import evolve
from matplotlib import pyplot as plt
from tqdm import tqdm

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

Write the three steps below each other, and you have a network with three layers that share their weights: the network
is *unrolled* in time. Its gradient is therefore computed as before, from the last step to the first. Each step does two
things.

- It adds its share to the gradient of each weight: the gradient with respect to its state, times the number that the
  weight was multiplied by. That number is the input for `w`, and the state before for `u`.
- It passes the gradient to the state before, multiplied by `u`.

Both are multiplied by the derivative of the activation function, too. That of ReLU is 1 for positive numbers. This is
*backpropagation through time*. (Part 5 used a layer three times: there, too, the gradient of the shared weight was the
sum of the shares of its uses.)
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

The gradient with respect to an input is that with respect to its state, times `w`. An input that lies one step further
back counts half as much here, since `u` is 0.5.

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

Each step back multiplies the gradient by `u` once more. How much does the last state of a sequence depend on the first
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

The gradient after T steps is `u` to the power of T - 1. With `u` below 1 it *vanishes*: the network hardly learns that
an early input matters. With `u` above 1 it *explodes*, and one update destroys what the network has learned. With many
states, `u` is a matrix, and the absolute value of its largest *eigenvalue* takes the place of `u`.

Exploding gradients have a simple remedy, *gradient clipping*: make a gradient that is too long shorter, without
changing its direction. The optimizer `fn.ClipByGlobalNorm(optimizer, max_norm=1.0)` does so. Vanishing gradients have
no such remedy. In the sum over all steps, the share of an early input is lost among those of the later inputs, and a
longer sum does not change this. They need another network.

## Gates

A *gate* is a number between 0 and 1 that the network computes at each step. In the *GRU* (gated recurrent unit), the
*update gate* `z` decides how much of the state stays as it is:

`h = z * h_before + (1 - z) * candidate`

The candidate is computed as in a plain recurrent network. If `z` is 1, the state does not change, whatever the input
is. Along this path, the gradient is multiplied by `z` at each step instead of `u`. And the network *learns* `z`: it is
the sigmoid (part 2) of a weighted sum of inputs and states, a number between 0 and 1.
"""


# %%
def sigmoid(x: float) -> float:
    """The sigmoid, also called the logistic function."""
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

Three networks with 8 states are trained on it: a plain one, with tanh instead of ReLU; a GRU whose gates begin near one
half; and the same GRU with an initial bias of 3 for the update gate, which therefore begins near 0.953 and keeps most
of the state. Each state has its own gates. In funcnet, the bias of a GRU has 8 numbers for the *reset gate* (which
decides how much of the state the candidate sees), then 8 for the update gate, and 8 for the candidate.
"""


# %%
def signals(count: int, key: fn.Key) -> fn.Batch[np.ndarray]:
    """Sequences of -1 and 1, and the classes that their first numbers give. Shapes: x (N, 60, 1), y (N,)."""
    ones = (fn.random.uniform(key, (count, 60, 1)) < 0.5).astype(np.intp)
    return fn.Batch((2 * ones - 1).astype(np.float32), ones[:, 0, 0])


key = fn.Key(8)
data, others = signals(800, key.child("data")), signals(1000, key.child("others"))
gru = fn.gru(key.child(0), 1, 8, outputs="last")
layers: dict[str, fn.Layer] = {
    "plain": fn.rnn(key.child(0), 1, 8, outputs="last"),
    "GRU": gru,
    "GRU that keeps": evolve(gru, bias=np.repeat(np.array([0, 3, 0], np.float32), 8)),
}
last = fn.dense(key.child(1), 8, 2)
step = fn.train_step(fn.softmax_cross_entropy)
logs: dict[str, list[fn.EpochLog]] = {}
with fn.portable():
    for name, layer in layers.items():
        adam = fn.ClipByGlobalNorm(fn.Adam(learning_rate=0.02), max_norm=1.0)
        run = fn.TrainState.create((layer, last), adam, key=key)
        logs[name] = []
        for epoch in tqdm(range(6), desc=name):
            batches = fn.minibatches(data.x, data.y, 40, key=key.child("shuffle", epoch))
            run, log = fn.train_epoch(step, run, batches)
            logs[name].append(log)
        accuracy = fn.accuracy(fn.predict(run.params, others.x, fn.Multiclass()), others.y)
        print(f"{name}: test accuracy {accuracy:.3f}, fingerprint {fn.fingerprint(run.params)[:16]}")

# %% [markdown]
"""```text
plain: test accuracy 0.513, fingerprint a6a542b335316eb3
GRU: test accuracy 0.494, fingerprint 70425e84ae135cf5
GRU that keeps: test accuracy 1.000, fingerprint 80623da2b36f3348
```

The test set has 1000 other sequences. Only the network that kept most of its state from the first epoch on learned the
task; the other two guess. The left plot shows why: it is the size of the gradient with respect to the input, by the
distance from the end, before training. It vanishes in the plain network, and about as fast in the GRU whose gates
begin near one half. The right plot shows the loss.
"""

# %%
figure, (left, right_plot) = plt.subplots(1, 2, figsize=(10, 4.2), layout="constrained")
fn.plots.learning_curves(logs, scale="linear", axes=right_plot)
for (name, layer), line in zip(layers.items(), right_plot.lines, strict=True):
    slopes, _ = fn.backward(layer, data.x[:100], fn.random.normal(key, (100, 8)).astype(np.float32))
    sizes = np.abs(slopes[:, ::-1, 0]).mean(axis=0)
    left.semilogy(
        range(60), sizes / sizes[0], color=line.get_color(), marker=line.get_marker(), markevery=8, label=name
    )
left.set(xlabel="steps before the last one", ylabel="size of the gradient", title="How far back a gradient reaches")
right_plot.axhline(np.log(2), color="gray", linestyle=":", label="ln 2, the loss of a guess")
right_plot.set(title="Remembering the first of 60 numbers")
for axes in (left, right_plot):
    axes.grid(visible=True, alpha=0.4)
    axes.legend()
figure.savefig(FIGURES / "part_11_reach.png", dpi=120)

# %% [markdown]
"""`fn.LSTM` (*long short-term memory*) is the older network with gates. It has a second state, the *cell*. A *forget
gate* decides how much of the cell stays, an *input gate* how much of the candidate is added, and an *output gate* how
much of the cell is the output. `fn.bidirectional` reads a sequence in both directions. `examples/names.py` and
`examples/language_model.py` train recurrent networks on text.

## Exercises

Each cell below has a gap. Fill it and run the cell: its last line says whether your solution is right. Solutions are in
`part_11_solutions.py`.

**Exercise 1.** A gate keeps `z` of the state at each step. What must the argument of the sigmoid be, so that half of
the state is left after 100 steps? Find `z` first, and then solve `z = sigmoid(argument)`. Two decimals are enough.
"""

# %% Exercise 1
argument = 0.0  # your number here

# The check of exercise 1.
print("Exercise 1:", "solved" if abs(sigmoid(argument) ** 100 - 0.5) < 0.002 else "not solved yet")

# %% [markdown]
"""**Exercise 2.** Write backpropagation through time for the network with one state and tanh:
`h = tanh(w * x + u * h_before)`, where the loss is `(h - target) * (h - target)` after the last step. The derivative of
`tanh(a)` is `1 - h * h` if `h` is `tanh(a)`. Keep the states of the forward pass: the way back needs them.
"""


# %% Exercise 2
def through_time(w: float, u: float, xs: list[float], target: float) -> tuple[float, float]:
    """The gradients of the loss with respect to w and u."""
    return 0.0, 0.0  # your lines here


# The check of exercise 2.
series = [0.5, -1.0, 2.0, 0.25]
rnn = fn.RNN(weight=np.array([[0.75]]), recurrent=np.array([[-0.5]]), activation="tanh", outputs="last")
by_funcnet = fn.value_and_grad(rnn, np.array(series)[None, :, None], np.array([[1.0]]), squared)[1]
expected = [by_funcnet.weight[0, 0], by_funcnet.recurrent[0, 0]]
right = np.allclose(through_time(0.75, -0.5, series, 1.0), expected, rtol=1e-9, atol=0)
print("Exercise 2:", "solved" if right else "not solved yet")

# %% [markdown]
"""**Exercise 3.** Which of these three networks learns to remember the first of the 60 numbers in 6 epochs, so that its
test accuracy is above 0.9? Write `True` or `False` for each one before you run the check, which trains them.
"""

# %% Exercise 3
guesses: dict[str, bool | None] = {
    "plain, with reverse=True: it reads from the last number to the first": None,
    "GRU, with an initial bias of -3 for the update gate": None,
    "GRU, with an initial bias of 6 for the update gate": None,
}


# The check of exercise 3.
def learns(layer: fn.Layer) -> bool:
    """Whether the test accuracy is above 0.9 after 6 epochs."""
    adam = fn.ClipByGlobalNorm(fn.Adam(learning_rate=0.02), max_norm=1.0)
    with fn.portable():
        run = fn.TrainState.create((layer, last), adam, key=key)
        for epoch in range(6):
            run, _ = fn.train_epoch(step, run, fn.minibatches(data.x, data.y, 40, key=key.child("shuffle", epoch)))
        return fn.accuracy(fn.predict(run.params, others.x, fn.Multiclass()), others.y) > 0.9


right = False
if None not in guesses.values():
    tried = [evolve(gru, bias=np.repeat(np.array([0, each, 0], np.float32), 8)) for each in (-3, 6)]
    backward_rnn = fn.rnn(key.child(0), 1, 8, outputs="last", reverse=True)
    right = list(guesses.values()) == [learns(layer) for layer in (backward_rnn, *tried)]
print("Exercise 3:", "solved" if right else "not solved yet")

# %% [markdown]
"""Next, part 12: attention, which reaches every step at once.
"""
