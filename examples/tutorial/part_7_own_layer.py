# %% [markdown]
"""# Part 7. Your own layer.

The built-in layers of funcnet are not special: each one is a record of parameters and two functions. This part writes
a new layer with a bug, finds the bug, fixes it, and trains the layer.

Run it with: `python examples/tutorial/part_7_own_layer.py`
"""

# %%
import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before NumPy is imported: more threads slow small networks down

import tempfile
from pathlib import Path

import numpy as np
from attrs import evolve, frozen
from matplotlib import pyplot as plt
from numpy.typing import NDArray

import funcnet as fn
from funcnet.arithmetic import sum_rows

FIGURES = Path("figures")
FIGURES.mkdir(exist_ok=True)

# %% [markdown]
"""## A problem that a linear network cannot solve

The data are points of two classes. Points of class 0 lie around the center, points of class 1 in a ring around them.
No straight line separates the classes, so a network without an activation function cannot learn them.
"""


# %%
def ring(count: int, key: fn.Key) -> fn.Batch[NDArray[np.intp]]:
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
    print("without a bend:", round(fn.accuracy(fn.predict(straight, points.x, fn.Multiclass()), points.y), 2))

# %% [markdown]
"""```text
without a bend: 0.59
```

An accuracy of one half, or a little more, is what guessing gives.

## A layer with a learned curvature

The new layer adds a multiple of the square to each number, and learns the factor: `y = x + curve * x * x`, with one
`curve` for each column. Where `curve` is 0, the layer is linear.

Backpropagation needs two derivatives. The derivative of `y` with respect to `x` is `1 + 2 * curve * x`. The
derivative of `y` with respect to `curve` is `x * x`. All examples share one `curve`, so their contributions are
added.

A layer in funcnet is a record, a forward function and a backward function. The first version has an easy mistake: the
factor 2 is missing.
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

(In a notebook: a layer is registered once, under the name that files use for it. To run such a cell again, restart
the notebook.)

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
        print("epoch", epoch, "right:", f"{fn.accuracy(fn.predict(each, points.x, fn.Multiclass()), points.y):.3f}")
    others = ring(1000, key.child("others"))
    print("of 1000 other points, right:", f"{fn.accuracy(fn.predict(net, others.x, fn.Multiclass()), others.y):.3f}")
print("curves", net[1].curve.round(2))

# %% [markdown]
"""```text
epoch 0 right: 0.450
epoch 2 right: 0.835
epoch 4 right: 0.860
epoch 8 right: 0.880
epoch 16 right: 1.000
epoch 32 right: 1.000
of 1000 other points, right: 1.000
curves [-0.08 -0.7  -1.05 -0.24]
```

Each neuron has learned a different curvature; that of the third is the strongest. The picture shows the decision
boundary in black: the points to which the network gives both classes the same probability. At first the boundary is a
straight line, because the network is still linear. Then it becomes two lines, a parabola, and finally a closed curve
around the center.
"""

# %%
across = np.linspace(-2.4, 2.4, 161, dtype=np.float32)
plane = np.stack(np.meshgrid(across, across), axis=-1).reshape(-1, 2)
figure, grid = plt.subplots(2, 3, figsize=(8, 5.8), sharex=True, sharey=True)
for axes, (epoch, each) in zip(grid.ravel(), seen.items(), strict=True):
    share = fn.predict_proba(each, plane, fn.Multiclass())[:, 1].reshape(len(across), len(across))
    axes.contourf(across, across, share, levels=np.linspace(0, 1, 11), cmap="RdBu_r", alpha=0.8)
    axes.contour(across, across, share, levels=[0.5], colors="black")
    for kind, mark in ((0, "o"), (1, "^")):
        chosen = points.x[points.y == kind]
        axes.plot(chosen[:, 0], chosen[:, 1], mark, color="navy" if kind == 0 else "darkred", markersize=3)
    axes.set(title=f"epoch {epoch}", aspect="equal")
for axes in grid[1]:
    axes.set_xlabel("x1")
for axes in grid[:, 0]:
    axes.set_ylabel("x2")
figure.suptitle("The decision boundary during training")
figure.tight_layout(rect=(0, 0, 0.9, 1))
figure.colorbar(
    grid[0, 0].collections[0], cax=figure.add_axes((0.91, 0.12, 0.02, 0.7)), label="probability of class 1 (triangles)"
)
figure.savefig(FIGURES / "part_7_border.png", dpi=120)

# %% [markdown]
"""## The layer works like a built-in one

A program can save and load the network, the network has a fingerprint, and the gradient of the layer is a record of
the layer's own type. None of this needs more code.
"""

# %%
with tempfile.TemporaryDirectory() as directory:
    fn.save(f"{directory}/net.safetensors", net)
    loaded = fn.load(f"{directory}/net.safetensors", like=net)
print("saved and loaded, the same bits:", fn.equal(net, loaded))
print(fn.value_and_grad(net, points.x, points.y, fn.softmax_cross_entropy)[1][1])

# %% [markdown]
"""```text
saved and loaded, the same bits: True
Bend(curve=float32 (4,))
```

`examples/own_layer.py` contains another layer, in twenty lines; `funcnet/layers` contains all built-in layers, each
with its formulas.

Next, part 8: a recurrent network by hand.
"""
