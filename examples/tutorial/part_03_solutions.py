# %% [markdown]
"""# Solutions of part 3.

Run it with: `python examples/tutorial/part_03_solutions.py`
"""

# %%
import math
from collections.abc import Callable

import numpy as np
from attrs import evolve, frozen

import funcnet as fn


def f(x: float) -> float:
    """The cube."""
    return x * x * x


x = 1.5
exact = 3 * x * x
four_examples = np.array([[1.0, 2.0], [0.5, -1.0], [-0.5, 1.0], [2.0, 0.25]])

# %% [markdown]
"""**Exercise 1.** Let the central differences be `a` with the step `h` and `b` with the step `h / 2`. If the error of
`b` is `e`, that of `a` is `4 * e`, so `e` is `(a - b) / 3`, and the slope is `b - e`. For the cube this is exact. For
the sine, an error remains, which becomes a sixteenth when the step is halved.
"""


# %% Exercise 1
def central(function: Callable[[float], float], at: float, h: float) -> float:
    """The central difference."""
    return (function(at + h) - function(at - h)) / (2 * h)


def better(function: Callable[[float], float], at: float, h: float) -> float:
    """A combination of two central differences, whose error is much smaller."""
    a, b = central(function, at, h), central(function, at, h / 2)
    return b - (a - b) / 3


# The check of exercise 1.
errors = (abs(better(f, x, 0.5) - exact), abs(better(math.sin, 1.0, 0.125) - math.cos(1.0)))
print("Exercise 1:", "solved" if errors[0] < 1e-13 and errors[1] < 1e-6 else "not solved yet")

# %% [markdown]
"""**Exercise 2.** The input occurs twice in the formula, so its derivative has two terms, by the product rule. The
slope is shared by all examples, so its derivative is a sum over the rows.
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
    s = fn.arithmetic.sigmoid(params.slope * x)
    bend = s * (1 - s)
    grad_x = g * (s + x * bend * params.slope)
    return grad_x, evolve(params, slope=fn.arithmetic.sum_rows(g * x * bend * x))


# The check of exercise 2.
fn.register_layer(Swish, forward=swish, backward=swish_backward)
try:
    fn.check_layer(Swish(slope=np.array([1.0, -0.5])), four_examples)
    print("Exercise 2: solved")
except fn.FuncnetError as error:
    print(f"Exercise 2: not solved yet ({error})")

# %% [markdown]
"""**Exercise 3.** The rounding error is about a billion times as large, so cancellation begins at larger steps: the
best step is 0.01. In general, it is near the cube root of the relative rounding error, because the error of the central
difference grows with `h * h`, and the rounding error with `1 / h`.
"""

# %% Exercise 3
steps = [10.0**-k for k in range(1, 8)]
x32 = np.float32(x)


def error_in_single_precision(step: float) -> float:
    """The error of the central difference in single precision."""
    h = np.float32(step)
    right, left = x32 + h, x32 - h
    return abs(float((right * right * right - left * left * left) / (2 * h)) - exact)


best_step = min(steps, key=error_in_single_precision)

# The check of exercise 3.
answer = fn.fingerprint(round(float(best_step), 8))
print("Exercise 3:", "solved" if answer.startswith("e80f1a96") else "not solved yet")
