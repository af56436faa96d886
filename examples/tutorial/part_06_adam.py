# %% [markdown]
"""# Part 6. Adam.

So far, one learning rate served all weights. This part shows where that is slow, and three remedies: momentum, a step
size of its own for each weight, and a learning rate that changes during training. The first two together are *Adam*,
an *optimizer* that many programs use. An optimizer is the rule that turns a gradient into a step.

Run it with: `python examples/tutorial/part_06_adam.py`
"""

# %%
import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before NumPy is imported: more threads slow small networks down

from pathlib import Path

import numpy as np
from matplotlib import pyplot as plt
from tqdm import tqdm

import funcnet as fn

FIGURES = Path("figures")
FIGURES.mkdir(exist_ok=True)

# %% [markdown]
"""## A narrow valley

Take one neuron with two weights and no bias, and two examples. In the first example only the first input is not 0, in
the second only the second. Both targets are 0. With the mean squared error, the loss is

`(2 * w1)² / 2 + (0.5 * w2)² / 2`

Its derivatives are `4 * w1` and `0.25 * w2`. The lowest point is at `w1 = 0` and `w2 = 0`. The first input is four
times the second, so the loss is sixteen times as curved along `w1` as along `w2`. On a map, it is a narrow valley.
"""

# %%
x, wanted = np.array([[2.0, 0.0], [0.0, 0.5]]), np.array([[0.0], [0.0]])
start = fn.Dense(weight=np.array([[1.0], [4.0]]))


def gradient(neuron: fn.Dense) -> fn.Dense:
    """The gradient of the loss in the valley."""
    return fn.value_and_grad(neuron, x, wanted, fn.mean_squared_error)[1]


def show(neuron: fn.Dense) -> str:
    """The two weights of a neuron, with four decimals."""
    w1, w2 = neuron.weight.ravel().tolist()
    return f"w1 {w1:7.4f}, w2 {w2:7.4f}"


print("loss", fn.evaluate(start, x, wanted, fn.mean_squared_error))
print("gradient", gradient(start).weight.ravel())

# %% [markdown]
"""```text
loss 4.0
gradient [4. 1.]
```

The weight `w2` has the longer way to 0, but the smaller derivative.

## Gradient descent zigzags

Gradient descent with the learning rate 0.4375 multiplies `w1` by `1 - 0.4375 * 4`, which is -0.75, and `w2` by
`1 - 0.4375 * 0.25`, which is 0.890625:
"""

# %%
rate = 0.4375  # 7/16
print("rate", rate, "factors", 1 - rate * 4, "and", 1 - rate * 0.25)
neuron = start
for step in range(1, 6):
    neuron = fn.sgd_update(neuron, gradient(neuron), learning_rate=rate)
    print("after step", step, show(neuron))

# %% [markdown]
"""```text
rate 0.4375 factors -0.75 and 0.890625
after step 1 w1 -0.7500, w2  3.5625
after step 2 w1  0.5625, w2  3.1729
after step 3 w1 -0.4219, w2  2.8258
after step 4 w1  0.3164, w2  2.5167
after step 5 w1 -0.2373, w2  2.2415
```

`w1` jumps from one side of the valley to the other, and `w2` creeps along its floor. No learning rate helps much. With
a smaller one, `w2` is even slower. With one above 0.5, the factor of `w1` is below -1, and every jump is longer than
the one before: training *diverges*. The steepest direction limits the learning rate, and the flattest direction then
decides how many steps training takes.

## Momentum

The jumps across the valley have alternating signs, the steps along it have the same sign. *Momentum* uses this. It
keeps a *velocity*, a sum of the gradients in which older ones fade, and steps along the velocity:

`velocity = momentum * velocity + gradient`

In the sum, the jumps largely cancel each other, and the small steps add up. Two steps by hand, with the momentum 0.5,
and the same two by `fn.Momentum`:
"""

# %%
w, velocity = np.array([1.0, 4.0]), np.array([0.0, 0.0])
for _ in range(2):
    g = np.array([4.0, 0.25]) * w
    velocity = 0.5 * velocity + g
    w = w - rate * velocity
    print("gradient", g, "velocity", velocity, "weights", w)

momentum = fn.Momentum(learning_rate=rate, momentum=0.5)
neuron, moments = start, momentum.init(start)
for step in range(2):
    neuron, moments = momentum.update(neuron, gradient(neuron), moments, step)
print("the same as by hand:", np.array_equal(neuron.weight.ravel(), w))

# %% [markdown]
"""```text
gradient [4. 1.] velocity [4. 1.] weights [-0.75    3.5625]
gradient [-3.        0.890625] velocity [-1.        1.390625] weights [-0.3125      2.95410156]
the same as by hand: True
```

An optimizer in funcnet is a record with two pure functions. `init` returns what the optimizer remembers at the
beginning, its *moments*: here a velocity of 0 for each weight. `update` takes a network, its gradient, the moments and
the number of earlier steps, and returns the new network and the new moments. Nothing is hidden in the optimizer.

## Adam: two moving averages

Adam keeps two numbers for each weight. The first is a moving average of its derivative, `mean`. Like the velocity, it
smooths the zigzag. The second is a moving average of the *square* of its derivative, `square`. Its root says how
large the derivatives of this weight usually are. Adam divides by it:

`w = w - learning_rate * mean / sqrt(square)`

The quotient is near 1 or -1 for a weight whose derivatives agree, whether they are large or small. Each weight
therefore has a step size of its own. Three details:

- *Decay.* The numbers `betas` say how much of the old averages remains in each step. The default is 0.9 and 0.999.
  Here they are 0.5 and 0.75, so that you can follow on paper.
- *Bias correction.* Both averages start at 0, so they are too small at first. After step `t`, the average of a
  constant derivative is too small by the factor `1 - beta ** t`. Adam divides by this factor.
- *Epsilon.* A tiny number in the denominator, `eps`, prevents a division by 0.
"""

# %%
print("betas by default", fn.Adam(learning_rate=0.5).betas)
a, b = 0.5, 0.75
print("betas here", (a, b))
adam_rate, eps = 0.5, 1e-8
w, mean, square = np.array([1.0, 4.0]), np.array([0.0, 0.0]), np.array([0.0, 0.0])
for t in range(1, 4):
    g = np.array([4.0, 0.25]) * w
    mean = a * mean + (1 - a) * g
    square = b * square + (1 - b) * g * g
    fair_mean, fair_square = mean / (1 - a**t), square / (1 - b**t)
    w = w - adam_rate * fair_mean / (np.sqrt(fair_square) + eps)
    print(f"step {t}: gradient {g.round(4)}, mean {mean.round(4)}, square {square.round(4)}")
    print(f"        corrected mean {fair_mean.round(4)}, square {fair_square.round(4)}; weights {w.round(4)}")

# %% [markdown]
"""```text
betas by default (0.9, 0.999)
betas here (0.5, 0.75)
step 1: gradient [4. 1.], mean [2.  0.5], square [4.   0.25]
        corrected mean [4. 1.], square [16.  1.]; weights [0.5 3.5]
step 2: gradient [2.    0.875], mean [2.     0.6875], square [4.     0.3789]
        corrected mean [2.6667 0.9167], square [9.1429 0.8661]; weights [0.059  3.0075]
step 3: gradient [0.2362 0.7519], mean [1.1181 0.7197], square [3.0139 0.4255]
        corrected mean [1.2778 0.8225], square [5.2133 0.736 ]; weights [-0.2208  2.5281]
```

In step 1, the correction makes the averages equal to the derivative and to its square. The quotient is then exactly 1
for both weights (but for `eps`), and both move by the learning rate, 0.5, although one derivative is four times the
other. In step 3, the derivative of `w1` is small compared with the earlier ones. Its quotient is well below 1, and its
step is shorter.

`fn.Adam` computes the same. It multiplies and divides in another order, so the last of the sixteen digits may differ.
A training step, `fn.train_step`, combines everything: a gradient and an update. Its state, a `TrainState`, holds the
network, the optimizer, the moments and the number of steps.
"""

# %%
adam = fn.Adam(learning_rate=0.5, betas=(0.5, 0.75))
neuron, moments = start, adam.init(start)
for step in range(3):
    neuron, moments = adam.update(neuron, gradient(neuron), moments, step)
print("adam.update:  ", show(neuron), "the same as by hand:", np.allclose(neuron.weight.ravel(), w, rtol=1e-14, atol=0))

train_step = fn.train_step(fn.mean_squared_error)
state = fn.TrainState.create(start, adam, key=fn.Key(6))
for _ in range(3):
    state, loss = train_step(state, fn.Batch(x, wanted))
print("fn.train_step:", show(state.params), "the same as update:", fn.equal(state.params, neuron))
print("mean", state.moments["mean"].weight.ravel().round(4), "square", state.moments["square"].weight.ravel().round(4))

# %% [markdown]
"""```text
adam.update:   w1 -0.2208, w2  2.5281 the same as by hand: True
fn.train_step: w1 -0.2208, w2  2.5281 the same as update: True
mean [1.1181 0.7197] square [3.0139 0.4255]
```

## Three paths

The picture shows the path of each optimizer on the map of the loss. Each curve on the map connects points of equal
loss. Adam now has its default `betas`. The program also counts the steps until the loss stays below a hundredth
of its first value. It does so once more in a valley that is narrower still: there the second input is a quarter of what
it was.
"""


# %%
def path(optimizer: fn.Optimizer, examples: fn.Array, count: int) -> tuple[fn.Array, fn.Array]:
    """The weights before and after each step, and their losses."""
    neuron, moments = start, optimizer.init(start)
    weights: list[fn.Array] = []
    losses: list[float] = []
    for step in range(count):
        loss, grad = fn.value_and_grad(neuron, examples, wanted, fn.mean_squared_error)
        weights.append(neuron.weight.ravel())
        losses.append(loss)
        neuron, moments = optimizer.update(neuron, grad, moments, step)
    return np.array(weights), np.array(losses)


optimizers: dict[str, fn.Optimizer] = {
    "SGD": fn.SGD(learning_rate=0.4375),
    "Momentum": fn.Momentum(learning_rate=0.4375, momentum=0.5),
    "Adam": fn.Adam(learning_rate=0.25),
}
narrower = np.array([[2.0, 0.0], [0.0, 0.125]])
for name, optimizer in optimizers.items():
    counts: list[int] = []
    for examples in (x, narrower):
        losses = path(optimizer, examples, 500)[1]
        counts.append(int(np.flatnonzero(losses >= losses[0] / 100)[-1]) + 1)
    print(f"{name:8} {counts[0]:3} steps, in the narrower valley {counts[1]:3}")

across, along = np.linspace(-1.3, 1.3, 101), np.linspace(-1.5, 4.5, 101)
floor = 2 * across**2 + along[:, None] ** 2 / 8
figure, panels = plt.subplots(1, 3, figsize=(9, 4.6), sharey=True)
for axes, (name, optimizer) in zip(panels, optimizers.items(), strict=True):
    weights = path(optimizer, x, 40)[0]
    axes.contour(across, along, floor, levels=[0.01, 0.1, 0.3, 0.7, 1.3, 2.2, 3.3, 4.6], colors="0.7", linewidths=0.8)
    axes.plot(weights[:, 0], weights[:, 1], ".-", color="C0", linewidth=1)
    axes.plot([0], [0], "+", color="black", markersize=10)
    axes.set(title=name, xlabel="w1")
panels[0].set_ylabel("w2")
figure.suptitle("40 steps of each optimizer toward the lowest point (+)")
figure.tight_layout()
figure.savefig(FIGURES / "part_06_paths.png", dpi=120)

# %% [markdown]
"""```text
SGD       17 steps, in the narrower valley 130
Momentum   8 steps, in the narrower valley  65
Adam      36 steps, in the narrower valley  35
```

With these settings, Momentum is the fastest in the first valley, and Adam the slowest. Adam's mean remembers old
derivatives for a long time, so Adam overshoots like a heavy ball. In the narrower valley, the derivative of `w2` is
sixteen times smaller, and SGD and Momentum need about eight times as many steps as before. Adam needs 35 instead of 36:
it divides by the size of the derivatives, so their size hardly matters.

## On digits

Now a real training: the digits of part 4, a network with one hidden layer of 32 neurons, and 8 epochs, with three
learning rates for SGD and three for Adam. The learning rate is a hyperparameter (part 1), and the loss on the
validation set decides between its values.

The program trains each network on two versions of the data. The first has pixels from 0 to 1. In the second, the
columns have mixed units: each pixel is multiplied by one of five factors, from a sixteenth to 16. Tables often look
like this, with an age in years next to an income in dollars. `fn.fit` trains for several epochs and computes the
validation loss after each. It yields a record of the run after each epoch, and `*_, run` keeps the last one.
"""

# %%
digits = fn.datasets.load_digits()
key = fn.Key(6)
factors = (4.0 ** (np.arange(64) % 5 - 2)).astype(np.float32)
print("factors", *factors[:5])


def trained(
    optimizer: fn.Optimizer, pixels: fn.Array, *, standardized: bool = False
) -> fn.Fit[fn.TrainState[tuple[fn.Layer, ...]]]:
    """A run of 8 epochs, with the validation loss after each epoch."""
    train, validation = fn.split(pixels, digits.y, 0.2, key=key.child("split"))
    net = fn.mlp(key.child("init"), (64, 32, 10))
    if standardized:
        net = (fn.standardize(train.x), *net)
    *_, run = fn.fit(
        fn.train_step(fn.softmax_cross_entropy),
        fn.Fit.create(fn.TrainState.create(net, optimizer, key=key.child("run"))),
        lambda epoch: fn.minibatches(train.x, train.y, 32, key=key.child("shuffle", epoch)),
        lambda state: fn.evaluate(state.params, validation.x, validation.y, fn.softmax_cross_entropy),
        epochs=8,
    )
    return run


candidates: dict[str, fn.Optimizer] = {
    **{f"SGD, rate {each}": fn.SGD(learning_rate=each) for each in (0.01, 0.1, 1.0)},
    **{f"Adam, rate {each}": fn.Adam(learning_rate=each) for each in (0.001, 0.01, 0.1)},
}
with fn.portable():
    plain_runs = {name: trained(each, digits.x) for name, each in tqdm(candidates.items(), desc="plain")}
    mixed_runs = {name: trained(each, digits.x * factors) for name, each in tqdm(candidates.items(), desc="mixed")}
for name, run in plain_runs.items():
    print(f"{name:16} validation loss {run.values[-1]:.3f}, with mixed units {mixed_runs[name].values[-1]:.3f}")

# %% [markdown]
"""```text
factors 0.0625 0.25 1.0 4.0 16.0
SGD, rate 0.01   validation loss 1.689, with mixed units 0.681
SGD, rate 0.1    validation loss 0.266, with mixed units 0.725
SGD, rate 1.0    validation loss 0.141, with mixed units 2.309
Adam, rate 0.001 validation loss 0.531, with mixed units 0.556
Adam, rate 0.01  validation loss 0.133, with mixed units 0.207
Adam, rate 0.1   validation loss 0.442, with mixed units 1.775
```

Without the factors, the best of the three rates gives SGD 0.141 and Adam 0.133. So small a difference can be chance, as
part 7 shows. What differs is how much the rate matters: the worst of the three rates gives SGD 1.689 and Adam 0.531.
The best rate of Adam here, 0.01, is a usual choice. The best one of SGD is 1.0, a hundred times as large, and you do
not know it in advance.

With mixed units, none of the three rates is right for SGD. With 1.0, the first steps are so long that the network
breaks: its loss stays at 2.309, which is about what guessing gives. The smaller rates are too small for the columns
with small numbers. The best validation loss is 0.681. Adam with the rate 0.01 gets 0.207.

The picture shows the training loss of all twelve runs.
"""

# %%
figure, panels = plt.subplots(1, 2, figsize=(9, 4.2), sharey=True)
for axes, runs, title in zip(panels, (plain_runs, mixed_runs), ("Pixels from 0 to 1", "Mixed units"), strict=True):
    fn.plots.learning_curves({name: run.losses for name, run in runs.items()}, axes=axes)
    axes.set_title(title)
    axes.grid(visible=True, alpha=0.4)
figure.tight_layout()
figure.savefig(FIGURES / "part_06_rates.png", dpi=120)

# %% [markdown]
"""## The better remedy

Mixed units make a narrow valley, as the two inputs at the beginning of this part did. The better remedy is to remove
the cause: *standardize* the columns, so that each has the mean 0 and the standard deviation 1. `fn.standardize` makes a
layer that does so, with the means and deviations of the training set.
"""

# %%
candidates["SGD, rate 0.5"] = fn.SGD(learning_rate=0.5)
with fn.portable():
    for name in ("SGD, rate 0.1", "SGD, rate 0.5", "Adam, rate 0.01"):
        run = trained(candidates[name], digits.x * factors, standardized=True)
        print(f"{name:16} validation loss {run.values[-1]:.3f}, standardized from mixed units")
print("fingerprint", fn.fingerprint(run.state.params)[:16])

# %% [markdown]
"""```text
SGD, rate 0.1    validation loss 0.132, standardized from mixed units
SGD, rate 0.5    validation loss 0.074, standardized from mixed units
Adam, rate 0.01  validation loss 0.072, standardized from mixed units
fingerprint c1c0e5b0f6ff0d0e
```

Standardized inputs help SGD more than Adam did, and they help Adam, too. With a rate between those above, 0.5, SGD is
as good as Adam. So standardize first, then choose the optimizer.

## When SGD is enough

Does Adam pay at all? For a small network with standardized inputs, SGD with a rate that you have tried out is as good,
or nearly. It is easier to check by hand, and it needs no memory for moments: Adam stores two more numbers for each
weight. Large networks for images are often trained with momentum. Adam pays where the derivatives of the weights
differ much in size and standardized inputs cannot change this: with rare words, in deep or recurrent networks, with
attention. It is also a good first choice if you have no time to try out many rates.

## A learning rate that falls

With a large learning rate, a network learns fast, but then it jumps around the lowest point. A *learning-rate schedule*
uses a large rate at first and a small one at the end. `fn.cosine_decay` falls to 0 along half a cosine wave. A schedule
is a function of the number of completed steps, and takes the place of the number in the optimizer.
"""

# %%
count = 8 * 45  # 8 epochs of 45 minibatches
falling = fn.cosine_decay(0.03, steps=count)
with fn.portable():
    constant_run = trained(fn.Adam(learning_rate=0.03), digits.x)
    falling_run = trained(fn.Adam(learning_rate=falling), digits.x)
for name, run in {"constant": constant_run, "falling": falling_run}.items():
    print(f"{name:8} validation loss after each epoch", *(f"{value:.3f}" for value in run.values))

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.8))
fn.plots.learning_rates(falling, count, axes=left)
left.set_title("A learning rate that falls by cosine_decay")
fn.plots.learning_curves({"constant": constant_run, "falling": falling_run}, axes=right)
right.set(title="The loss with both", ylim=(0.03, 5))
for axes in (left, right):
    axes.grid(visible=True, alpha=0.4)
figure.tight_layout()
figure.savefig(FIGURES / "part_06_schedule.png", dpi=120)

# %% [markdown]
"""```text
constant validation loss after each epoch 0.326 0.199 0.131 0.235 0.144 0.201 0.100 0.167
falling  validation loss after each epoch 0.322 0.189 0.131 0.137 0.135 0.113 0.111 0.110
```

With the constant rate, the validation loss jumps up and down: after the last epoch it is 0.167, after the epoch
before it was 0.100. With the falling rate, it settles. The last network is then also a good one, and you need not be
lucky with the epoch in which you stop.

## Exercises

Each cell below has a gap, and a check that says whether your solution is right. Replace the line with the comment
`# your lines here`, and run the cell again. Solutions are in `part_06_solutions.py`.

**Exercise 1.** In a valley with the two curvatures `steep` and `flat`, a step of gradient descent multiplies one weight
by `1 - rate * steep` and the other by `1 - rate * flat`. The factor with the larger absolute value decides how long
training takes. Find the learning rate for which this larger absolute value is as small as possible. (Draw both
absolute values as functions of the rate. Where is the larger one the lowest?)
"""


# %% Exercise 1
def best_rate(steep: float, flat: float) -> float:
    """The best constant learning rate for two curvatures."""
    return 1 / steep + 1 / flat  # your lines here


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
"""**Exercise 2.** What remains of Adam without memory, with `betas=(0.0, 0.0)`? Write down the formula for one step,
simplify it (leave out `eps`), and program the update without `fn.Adam`. `fn.map_parameters(f, net, grad)` returns the
network with `f(p, g)` for each parameter `p` and its derivative `g`. The check takes three steps in the valley.
"""


# %% Exercise 2
def without_memory(neuron: fn.Dense, grad: fn.Dense, rate: float) -> fn.Dense:
    """The neuron after one step of Adam with the betas 0."""
    return fn.sgd_update(neuron, grad, learning_rate=rate)  # your lines here


# The check of exercise 2.
memoryless = fn.Adam(learning_rate=0.375, betas=(0.0, 0.0))
mine, theirs, moments = start, start, memoryless.init(start)
for step in range(3):
    theirs, moments = memoryless.update(theirs, gradient(theirs), moments, step)
    mine = without_memory(mine, gradient(mine), 0.375)
print("Exercise 2:", "solved" if np.allclose(mine.weight, theirs.weight, atol=1e-6) else "not solved yet")

# %% [markdown]
"""**Exercise 3.** An experiment. The file has pixels from 0 to 16, and `load_digits` divides them by 16. Suppose that
nobody did. A weight of the first layer then has a derivative that is 16 times as large, and each change of the weight
has an effect that is 16 times as large, too. For the second layer, nothing changes. Which learning rate does each of
the two layers need, if 1.0 was right before? SGD has only one rate for both. Find one with which the validation loss is
below 0.25 on pixels from 0 to 16, which are `digits.x * 16`. Then train on them with `candidates["Adam, rate 0.01"]`,
and compare.
"""

# %% Exercise 3
my_rate = 1.0  # your lines here

# The check of exercise 3.
with fn.portable():
    reached = trained(fn.SGD(learning_rate=my_rate), digits.x * 16).values[-1]
print("Exercise 3:", "solved" if reached < 0.25 else f"not solved yet (validation loss {reached:.3f})")

# %% [markdown]
"""Next, part 7: a network that learns its training set by heart.
"""
