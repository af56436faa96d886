# %% [markdown]
"""# Part 9. Your own layer.

The built-in layers of funcnet are not special: each one is a record of parameters and two functions. This part writes
a new activation function, one with a parameter that the network learns, in a layer that has a bug. It finds the bug,
fixes it, and trains the layer.

Run it with: `python examples/tutorial/part_09_own_layer.py`
"""

# %%
import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before NumPy is imported: more threads slow small networks down

import tempfile
from pathlib import Path

import numpy as np
from attrs import evolve, frozen
from matplotlib import pyplot as plt

import funcnet as fn
from funcnet.arithmetic import sum_rows

FIGURES = Path("figures")
FIGURES.mkdir(exist_ok=True)

# %% [markdown]
"""## A problem that a linear network cannot solve

The data are points of two classes. Points of class 0 lie around the center, points of class 1 in a ring around them.
No straight line separates the classes: they are not *linearly separable*. A network without an activation function is
linear, however many layers it has, so it cannot learn them.
"""


# %%
def ring(count: int, key: fn.Key) -> fn.Batch[np.ndarray]:
    """The given number of points, alternately from the center and from the ring."""
    kinds = np.arange(count) % 2
    directions = fn.random.normal(key.child("direction"), (count, 2))
    lengths = np.sqrt((directions * directions).sum(axis=1))
    distances = np.where(
        kinds == 0,
        0.9 * fn.random.uniform(key.child("near"), (count,)),
        1.2 + fn.random.uniform(key.child("far"), (count,)),
    )
    return fn.Batch((directions * (distances / lengths)[:, None]).astype(np.float32), kinds)


key = fn.Key(7)
points = ring(200, key)
straight = (fn.dense(key.child(0), 2, 4), fn.dense(key.child(1), 4, 2))
step = fn.sgd_step(fn.softmax_cross_entropy, learning_rate=0.1)
with fn.portable():
    for epoch in range(20):
        straight, _ = fn.train_epoch(step, straight, fn.minibatches(points.x, points.y, 20, key=key.child(epoch)))
    accuracy = fn.accuracy(fn.predict(straight, points.x, fn.Multiclass()), points.y)
print("training accuracy without an activation function:", round(accuracy, 2))

# %% [markdown]
"""```text
training accuracy without an activation function: 0.59
```

Guessing gives an accuracy of about one half. The network is hardly better.

## A layer with a learned curvature

The new layer adds a multiple of the square to each number, and learns the factor: `y = x + curve * x * x`, with one
`curve` for each column. Where `curve` is 0, the layer is linear.

Backpropagation needs two derivatives. The derivative of `y` with respect to `x` is `1 + 2 * curve * x`. The
derivative of `y` with respect to `curve` is `x * x`. By the chain rule, each is multiplied by `g`, the gradient of the
loss with respect to `y`. All examples share one `curve`, so their contributions are added.

As in part 3, a layer is a frozen record, a forward function and a backward function, and `register_layer` joins the
three. `evolve` makes the gradient record: a copy of the parameters with another `curve`. The first version of the
backward function has an easy mistake: the factor 2 is missing.
"""


# %%
@frozen(eq=False)
class Bend(fn.Layer):
    """``y = x + curve * x * x``. Shapes: x, y (B, I), curve (I,)."""

    curve: fn.Array


def forward(params: Bend, x: fn.Array) -> fn.Array:
    """The input plus a multiple of its square."""
    return x + params.curve * x * x


@frozen(eq=False)
class WrongBend(Bend):
    """The same record, for the wrong backward function."""


def wrong_backward(params: WrongBend, x: fn.Array, g: fn.Array) -> tuple[fn.Array, WrongBend]:
    """The gradients, without the factor 2."""
    return g * (1 + params.curve * x), evolve(params, curve=sum_rows(g * x * x))


fn.register_layer(WrongBend, forward=forward, backward=wrong_backward)

examples = np.array([[1.0, -2.0], [0.5, 3.0]])
try:
    fn.check_layer(WrongBend(curve=np.array([0.5, -0.25])), examples)
except fn.LawError as error:
    print(error)

# %% [markdown]
"""```text
check_layer: gradient: the gradient with respect to x[1, 1] must be 0.52338928, got -0.26169464
```

`check_layer` measures all derivatives, as in part 3, and found one that differs. The second version has the factor 2.
The report has one line for each law and each field; the program prints where the law was checked, and whether the
error is within the tolerance.
"""


# %%
def backward(params: Bend, x: fn.Array, g: fn.Array) -> tuple[fn.Array, Bend]:
    """The gradients: ``dy/dx`` is ``1 + 2 * curve * x``, and ``dy/dcurve`` is ``x * x``."""
    return g * (1 + 2 * params.curve * x), evolve(params, curve=sum_rows(g * x * x))


fn.register_layer(Bend, forward=forward, backward=backward)

for check in fn.check_layer(Bend(curve=np.array([0.5, -0.25])), examples).checks:
    print(f"{check.law:12} {check.where:24} {'holds' if check.error <= check.tolerance else 'broken'}")

# %% [markdown]
"""```text
shapes       batches of 2, 4, 0       holds
purity       x, g, parameters         holds
determinism  twice, and after another holds
linearity    grad_x                   holds
linearity    curve                    holds
gradient     x                        holds
gradient     curve                    holds
adjoint      x and parameters         holds
arithmetic   source                   holds
```

In a test file, this is one line: `fn.check_layer(Bend(...), examples)`. `purity` means that no input is overwritten.
`determinism` means that the same call gives the same result, regardless of earlier calls. `linearity` and `adjoint`
are laws that every backward function must obey. `arithmetic` means that funcnet computes all sums and products over
examples, so that `fn.portable()` works for this layer, too. For this reason, `backward` calls `sum_rows(...)`, not
`....sum(axis=0)`.

(In a notebook, the two cells above can run again: the new definition of a class replaces the old one. Networks that
were created with the old class must be created again, and an error says so.)

## Training

The new layer works between two other layers like any built-in layer. `curve` starts at 0 everywhere. The program
keeps the network after some of the epochs, to show how the *decision boundary* between the two classes forms.
"""

# %%
net = (fn.dense(key.child(2), 2, 4), Bend(curve=np.zeros(4, np.float32)), fn.dense(key.child(3), 4, 2))
seen = {0: net}
with fn.portable():
    for epoch in range(1, 33):
        net, log = fn.train_epoch(step, net, fn.minibatches(points.x, points.y, 20, key=key.child("shuffle", epoch)))
        if epoch in (2, 4, 8, 16, 32):
            seen[epoch] = net
    for epoch, each in seen.items():
        accuracy = fn.accuracy(fn.predict(each, points.x, fn.Multiclass()), points.y)
        print(f"epoch {epoch}: training accuracy {accuracy:.3f}")
    test = ring(1000, key.child("others"))
    print(f"test accuracy on 1000 points: {fn.accuracy(fn.predict(net, test.x, fn.Multiclass()), test.y):.3f}")
print("curves", net[1].curve.round(2))

# %% [markdown]
"""```text
epoch 0: training accuracy 0.450
epoch 2: training accuracy 0.835
epoch 4: training accuracy 0.860
epoch 8: training accuracy 0.880
epoch 16: training accuracy 1.000
epoch 32: training accuracy 1.000
test accuracy on 1000 points: 1.000
curves [-0.08 -0.7  -1.05 -0.24]
```

Each column has learned a different curvature; that of the third has the largest absolute value. The picture shows the
decision boundary in black: the points to which the network gives both classes the same probability. At first the
boundary is a straight line, because the network is still linear. Then it becomes two lines, a narrow arc, and finally a
closed curve around the center.
"""

# %%
figure, grid = plt.subplots(2, 3, figsize=(10, 6.4), sharex=True, sharey=True, layout="constrained")
for axes, (epoch, each) in zip(grid.ravel(), seen.items(), strict=True):
    fn.plots.decision_boundary(each, points.x, points.y, extent=(-2.4, 2.4, -2.4, 2.4), bar=False, axes=axes)
    axes.set(title=f"epoch {epoch}", aspect="equal")
    axes.legend(loc="lower left").set_visible(epoch == 0)
    axes.label_outer()
figure.colorbar(grid[0, 0].images[0], ax=grid, label="probability of class 1", shrink=0.7)
figure.suptitle("The decision boundary during training")
figure.savefig(FIGURES / "part_09_border.png", dpi=120)

# %% [markdown]
"""## The layer works like a built-in one

A program can save and load the network. The network has a fingerprint, which is the same on every computer, because
the training was in portable arithmetic (part 8). The gradient of the layer is a record of the layer's own type. None of
this needs more code.
"""

# %%
with tempfile.TemporaryDirectory() as directory:
    fn.save(f"{directory}/net.safetensors", net)
    loaded = fn.load(f"{directory}/net.safetensors", like=net)
print("saved and loaded, the same bits:", fn.equal(net, loaded))
print("fingerprint:", fn.fingerprint(net)[:16])
print(fn.value_and_grad(net, points.x, points.y, fn.softmax_cross_entropy)[1][1])

# %% [markdown]
"""```text
saved and loaded, the same bits: True
fingerprint: 47520546e4a9631a
Bend(curve=float32 (4,))
```

`examples/own_layer.py` contains another layer, in twenty lines; `funcnet/layers` contains all built-in layers, each
with its formulas.

## Exercises

Each cell below has a gap. Fill it and run the cell: its last line says whether your solution is right. Solutions are in
`part_09_solutions.py`.

**Exercise 1.** The layer `y = x / (1 + slope * x * x)` has one `slope` for each column. Large inputs become small
outputs. Derive both derivatives by the rule for quotients, and write the backward function. Write powers as products,
such as `x * x`: `check_layer` refuses `**`, because its last digits depend on the computer.
"""


# %% Exercise 1
@frozen(eq=False)
class Hump(fn.Layer):
    """``y = x / (1 + slope * x * x)``. Shapes: x, y (B, I), slope (I,)."""

    slope: fn.Array


def hump_forward(params: Hump, x: fn.Array) -> fn.Array:
    """The outputs."""
    return x / (1 + params.slope * x * x)


def hump_backward(params: Hump, x: fn.Array, g: fn.Array) -> tuple[fn.Array, Hump]:
    """The gradients with respect to the input and to the slope."""
    return g, params  # your lines here


# The check of exercise 1.
fn.register_layer(Hump, forward=hump_forward, backward=hump_backward)
try:
    fn.check_layer(Hump(slope=np.array([0.5, 2.0])), examples)
    print("Exercise 1: solved")
except fn.FuncnetError as error:
    print(f"Exercise 1: not solved yet ({str(error).splitlines()[0]})")

# %% [markdown]
"""**Exercise 2.** The layer *maxout* has no parameters and halves the number of columns: column `j` of its output is
the larger one of the columns `2 * j` and `2 * j + 1` of its input. Write both functions. `fn.arithmetic.maximum`
computes the larger elements of two arrays. In a pair, only the larger column gets the gradient.
"""


# %% Exercise 2
@frozen(eq=False)
class Maxout(fn.Layer):
    """The larger one of each pair of columns. Shapes: x (B, 2 * O), y (B, O)."""


def maxout_forward(params: Maxout, x: fn.Array) -> fn.Array:
    """The outputs."""
    return x  # your lines here


def maxout_backward(params: Maxout, x: fn.Array, g: fn.Array) -> tuple[fn.Array, Maxout]:
    """The gradient with respect to the input, and the record without parameters."""
    return g, params  # your lines here


# The check of exercise 2.
fn.register_layer(Maxout, forward=maxout_forward, backward=maxout_backward)
pairs = np.array([[1.0, -2.0, 0.5, 3.0], [-1.0, 2.0, 4.0, -0.5]])
try:
    fn.check_layer(Maxout(), pairs)
    right = np.array_equal(fn.forward(Maxout(), pairs), [[1.0, 3.0], [2.0, 4.0]])
    print("Exercise 2:", "solved" if right else "not solved yet (the outputs are not the maxima)")
except fn.FuncnetError as error:
    print(f"Exercise 2: not solved yet ({str(error).splitlines()[0]})")

# %% [markdown]
"""**Exercise 3.** Now the points lie in space: those of class 0 on a sphere around the center, those of class 1 on a
larger sphere. The logits are weighted sums of the columns of `Bend`, and each column is a parabola along one direction.
What is the smallest number of columns with which the network can separate the classes? Think first. The check trains
two networks: with your number of columns, and with one less.
"""

# %% Exercise 3
columns = 0  # your number here


# The check of exercise 3.
def accuracy_in_space(count: int) -> float:
    """The accuracy on 200 points in space, after 60 epochs, with this number of columns."""
    directions = fn.random.normal(key.child("space"), (200, 3))
    distances = np.where(np.arange(200) % 2 == 0, 0.6, 1.7) / np.sqrt((directions * directions).sum(axis=1))
    spheres = fn.Batch((directions * distances[:, None]).astype(np.float32), np.arange(200) % 2)
    bend = Bend(curve=np.zeros(count, np.float32))
    net = (fn.dense(key.child(2), 3, count), bend, fn.dense(key.child(3), count, 2))
    with fn.portable():
        for epoch in range(60):
            net, _ = fn.train_epoch(step, net, fn.minibatches(spheres.x, spheres.y, 20, key=key.child(epoch)))
        return fn.accuracy(fn.predict(net, spheres.x, fn.Multiclass()), spheres.y)


right = columns > 1 and accuracy_in_space(columns) == 1 > accuracy_in_space(columns - 1)
print("Exercise 3:", "solved" if right else "not solved yet")

# %% [markdown]
"""Next, part 10: convolution.
"""
