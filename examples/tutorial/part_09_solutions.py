# %% [markdown]
"""# Solutions of part 9.

Run them with: `python examples/tutorial/part_09_solutions.py`
"""

# %%
import numpy as np
from attrs import evolve, frozen

import funcnet as fn
from funcnet.arithmetic import sum_rows

key = fn.Key(7)
step = fn.sgd_step(fn.softmax_cross_entropy, learning_rate=0.1)
examples = np.array([[1.0, -2.0], [0.5, 3.0]])


@frozen(eq=False)
class Bend(fn.Layer):
    """``y = x + curve * x * x``. Shapes: x, y (B, I), curve (I,)."""

    curve: fn.Array


def forward(params: Bend, x: fn.Array) -> fn.Array:
    """The input plus a multiple of its square."""
    return x + params.curve * x * x


def backward(params: Bend, x: fn.Array, g: fn.Array) -> tuple[fn.Array, Bend]:
    """The gradients: ``dy/dx`` is ``1 + 2 * curve * x``, and ``dy/dcurve`` is ``x * x``."""
    return g * (1 + 2 * params.curve * x), evolve(params, curve=sum_rows(g * x * x))


fn.register_layer(Bend, forward=forward, backward=backward)

# %% [markdown]
"""Let `d` be the denominator. The derivative with respect to `x` is `(d - x * 2 * slope * x) / d**2`, which is
`(1 - slope * x * x) / d**2`: beyond `1 / sqrt(slope)`, the outputs fall. The derivative with respect to `slope` is
`-x * x * x / d**2`, added over the rows.
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
    d = 1 + params.slope * x * x
    return g * (1 - params.slope * x * x) / (d * d), evolve(params, slope=sum_rows(-g * x * x * x / (d * d)))


# The check of exercise 1.
fn.register_layer(Hump, forward=hump_forward, backward=hump_backward)
try:
    fn.check_layer(Hump(slope=np.array([0.5, 2.0])), examples)
    print("Exercise 1: solved")
except fn.FuncnetError as error:
    print(f"Exercise 1: not solved yet ({str(error).splitlines()[0]})")

# %% [markdown]
"""The masks say which column of a pair is the larger one. Where the two are equal, the first one gets the gradient: at
such a kink, any share between 0 and 1 would do.
"""


# %% Exercise 2
@frozen(eq=False)
class Maxout(fn.Layer):
    """The larger one of each pair of columns. Shapes: x (B, 2 * O), y (B, O)."""


def maxout_forward(params: Maxout, x: fn.Array) -> fn.Array:
    """The outputs."""
    return fn.arithmetic.maximum(x[:, ::2], x[:, 1::2])


def maxout_backward(params: Maxout, x: fn.Array, g: fn.Array) -> tuple[fn.Array, Maxout]:
    """The gradient with respect to the input, and the record without parameters."""
    first = x[:, ::2] >= x[:, 1::2]
    return np.stack([g * first, g * ~first], axis=2).reshape(x.shape), params


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
"""A parabola along one direction is curved in that direction only. With two columns, there is a direction in space
along which no column is curved, and along it, the decision boundary never closes. Three columns are enough: their
directions span the space.
"""

# %% Exercise 3
columns = 3


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
