# %% [markdown]
"""# Solutions of part 11.

Run them with: `python examples/tutorial/part_11_solutions.py`
"""

# %%
import math
import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before NumPy is imported: more threads slow small networks down

import numpy as np
from attrs import evolve

import funcnet as fn


def sigmoid(x: float) -> float:
    """The sigmoid, also called the logistic function."""
    return 1 / (1 + math.exp(-x))


def squared(prediction: fn.Array, wanted: fn.Array) -> tuple[float, fn.Array]:
    """The squared error and its gradient with respect to the prediction, for one number."""
    distance = prediction - wanted
    return float(distance[0, 0] * distance[0, 0]), 2 * distance


def signals(count: int, key: fn.Key) -> fn.Batch[np.ndarray]:
    """Sequences of -1 and 1, and the classes that their first numbers give. Shapes: x (N, 60, 1), y (N,)."""
    ones = (fn.random.uniform(key, (count, 60, 1)) < 0.5).astype(np.intp)
    return fn.Batch((2 * ones - 1).astype(np.float32), ones[:, 0, 0])


key = fn.Key(8)
data, others = signals(800, key.child("data")), signals(1000, key.child("others"))
gru = fn.gru(key.child(0), 1, 8, outputs="last")
last = fn.dense(key.child(1), 8, 2)
step = fn.train_step(fn.softmax_cross_entropy)

# %% [markdown]
"""`z` is the 100th root of one half, about 0.9931. The inverse of the sigmoid is the *logit*, `log(z / (1 - z))`: about
4.97.
"""

# %% Exercise 1
z = 0.5 ** (1 / 100)
argument = math.log(z / (1 - z))

# The check of exercise 1.
print("Exercise 1:", "solved" if abs(sigmoid(argument) ** 100 - 0.5) < 0.002 else "not solved yet")

# %% [markdown]
"""The way back begins with the gradient with respect to the last state. At each step, `a` is the gradient with respect
to the argument of the tanh. It contributes to the gradients of `w` and of `u`, and gives the gradient with respect to
the state before.
"""


# %% Exercise 2
def through_time(w: float, u: float, xs: list[float], target: float) -> tuple[float, float]:
    """The gradients of the loss with respect to w and u."""
    states = [0.0]
    for x in xs:
        states.append(math.tanh(w * x + u * states[-1]))
    g, by_w, by_u = 2 * (states[-1] - target), 0.0, 0.0
    for x, before, h in zip(reversed(xs), states[-2::-1], reversed(states), strict=False):
        a = g * (1 - h * h)
        by_w += a * x
        by_u += a * before
        g = a * u
    return by_w, by_u


# The check of exercise 2.
series = [0.5, -1.0, 2.0, 0.25]
rnn = fn.RNN(weight=np.array([[0.75]]), recurrent=np.array([[-0.5]]), activation="tanh", outputs="last")
by_funcnet = fn.value_and_grad(rnn, np.array(series)[None, :, None], np.array([[1.0]]), squared)[1]
expected = [by_funcnet.weight[0, 0], by_funcnet.recurrent[0, 0]]
right = np.allclose(through_time(0.75, -0.5, series, 1.0), expected, rtol=1e-9, atol=0)
print("Exercise 2:", "solved" if right else "not solved yet")

# %% [markdown]
"""In reverse order, the number to remember comes last, so its gradient is the largest. With the bias -3, the gate keeps
less than 0.05 of the state at each step. With the bias 6, it keeps 0.998, so only 0.002 of the candidate enters the
state. The first number hardly changes the state, and 6 epochs are not enough to learn from that. A gate that keeps too
much learns slowly: after 16 epochs, the accuracy of this network is 1.
"""

# %% Exercise 3
guesses: dict[str, bool | None] = {
    "plain, with reverse=True: it reads from the last number to the first": True,
    "GRU, with an initial bias of -3 for the update gate": False,
    "GRU, with an initial bias of 6 for the update gate": False,
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
