# %% [markdown]
"""# Part 3. Checking a gradient.

A wrong gradient does not crash a program. The network learns a little worse, or not at all, and nobody knows why.
Gradients must therefore be checked. A derivative can be *measured* by *finite differences*, which need only the forward
pass.

Run it with: `python examples/tutorial/part_03_checking.py`
"""

# %%
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
from attrs import evolve, frozen
from matplotlib import pyplot as plt

import funcnet as fn

FIGURES = Path("figures")
FIGURES.mkdir(exist_ok=True)

# %% [markdown]
"""## Two ways to measure a slope

Take `f(x) = x * x * x` at `x = 1.5`. Its derivative is `3 * x * x`, which is 6.75. The first method takes a step `h`
to the right, and divides the change by `h`: the *forward difference*. The second method takes a step to both sides,
and divides by `2 * h`: the *central difference*. The curve bends in the same way on both sides, so most of the two
errors cancels.
"""


# %%
def f(x: float) -> float:
    """The cube."""
    return x * x * x


x = 1.5
exact = 3 * x * x
print("at", x, "the slope is", exact)
for h in (0.5, 0.25, 0.125):
    to_the_right = (f(x + h) - f(x)) / h
    both_sides = (f(x + h) - f(x - h)) / (2 * h)
    print("step", h, "right", to_the_right, "wrong by", to_the_right - exact)
    print("step", h, "both ", both_sides, "wrong by", both_sides - exact)

# %% [markdown]
"""```text
at 1.5 the slope is 6.75
step 0.5 right 9.25 wrong by 2.5
step 0.5 both  7.0 wrong by 0.25
step 0.25 right 7.9375 wrong by 1.1875
step 0.25 both  6.8125 wrong by 0.0625
step 0.125 right 7.328125 wrong by 0.578125
step 0.125 both  6.765625 wrong by 0.015625
```

When the step is halved, the error of the forward difference is nearly halved, but the error of the central difference
becomes a *quarter*. For the cube, it is exactly `h * h`: expand `(x + h) * (x + h) * (x + h)` to see why.

Does a tiny step give the best result? No. A floating-point number has some sixteen digits. For a tiny step,
`f(x + h)` and `f(x - h)` agree in nearly all of them. Their difference keeps only the last few digits, and the
division by `2 * h` magnifies the rounding error in them. This loss of digits is called *cancellation*.
"""

# %%
for h in (1e-2, 1e-5, 1e-8, 1e-11, 1e-14):
    both_sides = (f(x + h) - f(x - h)) / (2 * h)
    print(f"step {h:.0e}: wrong by {abs(both_sides - exact):.0e}")

# %% [markdown]
"""```text
step 1e-02: wrong by 1e-04
step 1e-05: wrong by 1e-10
step 1e-08: wrong by 4e-08
step 1e-11: wrong by 6e-07
step 1e-14: wrong by 2e-04
```

The error falls until the step 1e-05 and rises for smaller steps. For a smooth function of numbers that are neither very
large nor very small, the best step is near this one, and funcnet uses it. About ten digits are then right; central
differences cannot give all sixteen. The picture shows the error for many steps:
"""

# %%
steps = [10.0 ** (-k / 8) for k in range(8, 121)]
errors_right = [abs((f(x + h) - f(x)) / h - exact) for h in steps]
errors_both = [abs((f(x + h) - f(x - h)) / (2 * h) - exact) for h in steps]
figure, axes = plt.subplots(figsize=(7, 4.5))
axes.loglog(steps, errors_right, label="forward difference: (f(x + h) - f(x)) / h")
axes.loglog(steps, errors_both, label="central difference: (f(x + h) - f(x - h)) / 2h")
axes.axvline(1e-5, color="black", linestyle=":", label="the step that funcnet uses")
axes.set(xlabel="step h", ylabel="error of the slope", title="The step must be neither too large nor too small")
axes.grid(visible=True, alpha=0.4)
axes.legend()
figure.tight_layout()
figure.savefig(FIGURES / "part_03_steps.png", dpi=120)

# %% [markdown]
"""## A whole network at once

`numerical_gradient` measures the derivative with respect to each element of an array. `check_gradients` does so for
the input and every parameter of a network. It compares the results with those of `backward`, in double precision
(sixteen digits), and raises an error if one differs. Here, `fn.dense` makes a layer whose weights are drawn at random,
and the *key* determines the draw: the same key gives the same weights. `key.child(0)` and `key.child(1)` are two other
keys, which are computed from it.
"""

# %%
key = fn.Key(3)
net = (fn.dense(key.child(0), 4, 5), fn.Tanh(), fn.dense(key.child(1), 5, 3))
examples = np.array([[0.5, -1.0, 0.25, 2.0], [1.5, 0.75, -0.5, -1.0]])
for check in fn.check_gradients(net, examples).checks:
    print(check.where, "has", check.elements, "numbers, right:", check.passed)

# %% [markdown]
"""```text
x has 8 numbers, right: True
0.weight has 20 numbers, right: True
0.bias has 5 numbers, right: True
2.weight has 15 numbers, right: True
2.bias has 3 numbers, right: True
```

## An error that is found and named

Here is a layer with a scale and an offset for each column: `y = x * scale + offset`. Its `backward` has a bug: the
gradient with respect to the input is right, but the gradient with respect to `offset` is the *mean* over the batch
where it must be the sum. A network with this bug still learns.

Four names in the program are new.

- `@frozen(eq=False)` comes from the library attrs. It makes the class a record: its fields are the arguments of its
  constructor, and nobody can assign to them afterwards. With `eq=False`, `==` compares identities, because arrays have
  no single answer to `==`; `fn.equal` compares two layers number by number.
- `evolve(params, offset=...)` also comes from attrs. It returns a copy of a record with some fields replaced, and
  leaves the record itself unchanged. So the gradient is a record of the layer's own class.
- `fn.arithmetic.sum_rows(a)` is the sum over the rows, `a.sum(axis=0)`. Layers take sums, products and exponentials
  from `fn.arithmetic`, so that part 8 can exchange the arithmetic of all layers at once.
- `fn.register_layer` tells funcnet which two functions belong to the class. After that, `fn.forward`, `fn.backward` and
  everything else treat the class like a layer of the library.
"""


# %%
@frozen(eq=False)
class Faulty(fn.Layer):
    """``y = x * scale + offset``, with a bug in its backward function."""

    scale: fn.Array
    offset: fn.Array


def forward(params: Faulty, x: fn.Array) -> fn.Array:
    """Multiply each column by its scale and add its offset."""
    return x * params.scale + params.offset


def backward(params: Faulty, x: fn.Array, g: fn.Array) -> tuple[fn.Array, Faulty]:
    """The gradients; that of the offset is wrong by a factor."""
    return g * params.scale, evolve(
        params, scale=fn.arithmetic.sum_rows(g * x), offset=fn.arithmetic.sum_rows(g) / max(len(x), 1)
    )


fn.register_layer(Faulty, forward=forward, backward=backward)
layer = Faulty(scale=np.array([1.0, 0.5]), offset=np.array([0.0, 0.25]))
four_examples = np.array([[1.0, 2.0], [0.5, -1.0], [-0.5, 1.0], [2.0, 0.25]])
try:
    fn.check_layer(layer, four_examples)
except fn.LawError as error:
    reason, guess = str(error).split("; ")
    print(reason)
    print(guess)

# %% [markdown]
"""```text
check_layer: gradient: the gradient with respect to offset[0] must be 1.7005511, got 0.42513777
scaled: it is 0.25 times the correct gradient, as if it were the mean over the batch, not the sum
```

The error says which derivative is wrong, and by how much. The wrong gradient is a multiple of the right one, and the
error says that, too. `check_layer` recognizes eight common errors: a gradient that is scaled, transposed, forgotten,
or swapped with that of another field; an input that is overwritten; an input that is cached from an earlier call; a
wrong broadcast; and a random draw.

## Kinks

`ReLU` has no derivative at 0: the slope is 0 to the left and 1 to the right. Such a point is a *kink*, or corner. The
central difference there is 0.5. This is not a bug: at a kink, every number between the two slopes is a *subgradient*,
and most libraries use 0.
"""

# %%
at_the_corner = np.array([[0.0]])
measured = fn.numerical_gradient(lambda z: float(fn.forward(fn.ReLU(), z)[0, 0]), at_the_corner)
by_funcnet, _ = fn.backward(fn.ReLU(), at_the_corner, np.array([[1.0]]))
print("measured", measured[0, 0], "and by backward", by_funcnet[0, 0])
report = fn.check_layer(fn.ReLU(), np.array([[0.0, 1.0, -1.0]]))
for found in report.checks:
    if found.law == "gradient":
        print("gradient by", found.where, "right:", found.error <= found.tolerance, "corners:", found.kinks)

# %% [markdown]
"""```text
measured 0.5 and by backward 0.0
gradient by x right: True corners: 1
```

`check_layer` distinguishes a kink from a wrong gradient. It measures the slopes on both sides, and repeats the
measurement with a smaller step. At a kink, the two slopes stay apart. On a smooth curve, they approach each other.

## Exercises

Each cell below has a gap. Fill it and run the cell: its last line says whether your solution is right. Solutions are in
`part_03_solutions.py`.

**Exercise 1.** When the step is halved, the error of the central difference becomes a quarter, nearly exactly. So two
central differences, with the steps `h` and `h / 2`, tell how large their errors are. Combine the two so that the errors
cancel. This idea is called *Richardson extrapolation*.
"""


# %% Exercise 1
def central(function: Callable[[float], float], at: float, h: float) -> float:
    """The central difference."""
    return (function(at + h) - function(at - h)) / (2 * h)


def better(function: Callable[[float], float], at: float, h: float) -> float:
    """A combination of two central differences, whose error is much smaller."""
    return central(function, at, h)  # your lines here


# The check of exercise 1.
errors = (abs(better(f, x, 0.5) - exact), abs(better(math.sin, 1.0, 0.125) - math.cos(1.0)))
print("Exercise 1:", "solved" if errors[0] < 1e-13 and errors[1] < 1e-6 else "not solved yet")

# %% [markdown]
"""**Exercise 2.** The activation function *swish* is `y = x * sigmoid(slope * x)`. Here each column has its own
`slope`, which is learned. Write the backward function. The derivative of `s = sigmoid(z)` is `s * (1 - s)`. Sums come
from `fn.arithmetic`, as in the layer of this part.
"""


# %% Exercise 2
@frozen(eq=False)
class Swish(fn.Layer):
    """``y = x * sigmoid(slope * x)``. Shapes: x, y (B, I), slope (I,)."""

    slope: fn.Array


def swish(params: Swish, x: fn.Array) -> fn.Array:
    """The input times the sigmoid of a multiple of it."""
    return x * fn.arithmetic.sigmoid(params.slope * x)


def swish_backward(params: Swish, x: fn.Array, g: fn.Array) -> tuple[fn.Array, Swish]:
    """The gradients."""
    return g, params  # your lines here


# The check of exercise 2.
fn.register_layer(Swish, forward=swish, backward=swish_backward)
try:
    fn.check_layer(Swish(slope=np.array([1.0, -0.5])), four_examples)
    print("Exercise 2: solved")
except fn.FuncnetError as error:
    print(f"Exercise 2: not solved yet ({error})")

# %% [markdown]
"""**Exercise 3.** Numbers in *single precision*, `np.float32`, have some seven digits instead of sixteen. Guess first:
is the best step for them larger or smaller? Then measure the derivative of `f` at `x` by central differences, with `x`,
all steps and all results in single precision. For which power of ten is the error the smallest?
"""

# %% Exercise 3
best_step = 1e-5  # your lines here

# The check of exercise 3.
answer = fn.fingerprint(round(float(best_step), 8))
print("Exercise 3:", "solved" if answer.startswith("e80f1a96") else "not solved yet")

# %% [markdown]
"""Next, part 4: a network that reads digits.
"""
