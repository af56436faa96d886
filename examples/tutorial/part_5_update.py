# %% [markdown]
"""# Part 5. Why the update is separate.

In the post that funcnet grew from, `backward` does two things: it computes gradients, and it *changes the weights*.
The code is short, and it works for a simple training loop. This part shows three cases where it fails, and then the
same cases with gradients as values.

Run it with: `python examples/tutorial/part_5_update.py`
"""

# %%
import math
import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before NumPy is imported: more threads slow small networks down

from pathlib import Path
from typing import TypeAlias, cast

import numpy as np
from matplotlib import pyplot as plt
from numpy.typing import NDArray
from sklearn.datasets import load_digits

import funcnet as fn

FIGURES = Path("figures")
FIGURES.mkdir(exist_ok=True)

# %% [markdown]
"""## The post's layer

This class works like the post's layer: the last lines of `backward` are the update.
"""


# %%
class Coupled:
    """A layer whose ``backward`` changes its weight and bias, as in the post."""

    def __init__(self, weight: fn.Array, learning_rate: float) -> None:
        self.weight = weight
        self.bias: fn.Array = np.zeros(weight.shape[1])
        self.learning_rate = learning_rate

    def forward(self, x: fn.Array) -> fn.Array:
        """The outputs."""
        y: fn.Array = x @ self.weight + self.bias
        return y

    def backward(self, x: fn.Array, g: fn.Array) -> fn.Array:
        """Return the gradient with respect to the input, and take a step of gradient descent."""
        grad_x: fn.Array = g @ self.weight.T
        self.weight = self.weight - self.learning_rate * (x.T @ g)
        self.bias = self.bias - self.learning_rate * g.sum(axis=0)
        return grad_x


# %% [markdown]
"""## First failure: to compute a gradient is to train

Suppose that we need only the gradient with respect to the input, and compute it twice.
"""

# %%
x, g = np.array([[2.0, 3.0]]), np.array([[0.5]])
layer = Coupled(np.array([[0.5], [-1.0]]), learning_rate=0.25)
print("first answer ", layer.backward(x, g))
print("second answer", layer.backward(x, g))

# %% [markdown]
"""```text
first answer  [[ 0.25 -0.5 ]]
second answer [[ 0.125  -0.6875]]
```

The two calls give different results, because the first call changed the weight. For the same reason, the gradient
cannot be checked as in part 3: the check needs several computations on the same network. (The post sets the learning
rate to 0 to check the gradient with respect to the input. It reads the gradient with respect to the weight off the
changed weight.)

## Second failure: a layer that is used three times

A network may use one layer several times. Recurrent networks, which read a text word by word, do so. Take a layer
with the single weight 0.5, use it three times, and let the target be 1.0 for the input 1.0. With the loss
`(y - 1) * (y - 1) / 2`, the gradient with respect to the output is `y - 1`. The output is the cube of the weight, so
the derivative by hand is `(w * w * w - 1) * 3 * w * w`, which is -0.65625.

In the post's design, the weight has already changed when `backward` computes the second use, and again for the third.
The program reads the gradient off the changed weight, for two learning rates:
"""

# %%
w = 0.5
print("by hand", (w * w * w - 1) * 3 * w * w)
for rate in (1.0, 0.5):
    thrice = Coupled(np.array([[w]]), rate)
    inputs = [np.array([[1.0]])]
    for _ in range(3):
        inputs.append(thrice.forward(inputs[-1]))
    slope: fn.Array = inputs.pop() - 1.0
    for each in reversed(inputs):
        slope = thrice.backward(each, slope)
    print("with the rate", rate, "the post's way says", (w - thrice.weight[0, 0]) / rate)

# %% [markdown]
"""```text
by hand -0.65625
with the rate 1.0 the post's way says -0.751953125
with the rate 0.5 the post's way says -0.7041015625
```

Both results are wrong, and each learning rate gives its own "gradient". The program does not crash; the network
learns something, with slightly wrong gradients.

## Third failure: a measurement that trains

Back to the digits, with a small training set. After each epoch, the program computes the gradient on the validation
set, to monitor its size. This is a usual thing to plot, and it looks harmless.
"""


# %%
def images() -> tuple[fn.Batch[NDArray[np.int64]], fn.Batch[NDArray[np.int64]]]:
    """A training set and a validation set of 150 digits each."""
    pixels, digits = cast("tuple[NDArray[np.float64], NDArray[np.int64]]", load_digits(return_X_y=True))
    x = pixels / 16
    return fn.Batch(x[:150], digits[:150]), fn.Batch(x[150:300], digits[150:300])


train, held_out = images()
weights: list[fn.Array] = [
    fn.dense(fn.Key(5).child(i), 64 if i == 0 else 32, 10 if i else 32, dtype=np.float64).weight for i in range(2)
]


def coupled_accuracy(*, watched: bool) -> float:
    """The validation accuracy after 40 epochs of training as in the post."""
    first, second = (Coupled(weight, learning_rate=0.2) for weight in weights)

    def gradient(x: fn.Array, y: NDArray[np.int64]) -> fn.Array:
        hidden = first.forward(x)
        bent = np.maximum(hidden, 0)
        _, g = fn.softmax_cross_entropy(second.forward(bent), y)
        return first.backward(x, second.backward(bent, g) * (hidden > 0))

    for _ in range(40):
        for start in range(0, 150, 10):
            gradient(train.x[start : start + 10], train.y[start : start + 10])
        if watched:
            gradient(held_out.x, held_out.y)  # for the plot
    answers = second.forward(np.maximum(first.forward(held_out.x), 0)).argmax(axis=1)
    return fn.accuracy(answers, held_out.y)


print("not watched:", round(coupled_accuracy(watched=False), 3))
print("watched:    ", round(coupled_accuracy(watched=True), 3))

# %% [markdown]
"""```text
not watched: 0.927
watched:     0.987
```

The network has trained on the validation set, 40 times, because the program measured a gradient on it. The better
accuracy is worthless: it no longer measures generalization. This error is called *data leakage*, and nothing in the
program looks wrong.

## The fix: a gradient is a value

In funcnet, `backward` returns the gradient and changes nothing. Here are the same three cases again.
"""

# %%
layer_now = fn.Dense(weight=np.array([[0.5], [-1.0]]), bias=np.array([0.0]))
print("first answer ", fn.backward(layer_now, x, g)[0])
print("second answer", fn.backward(layer_now, x, g)[0])

# %% [markdown]
"""```text
first answer  [[ 0.25 -0.5 ]]
second answer [[ 0.25 -0.5 ]]
```

A layer that is used three times is a tuple that contains the same layer three times. Its gradient is a tuple of three
gradients, one for each use, and the derivative with respect to the shared weight is their sum. This needs no special
feature of the library: gradients are values, so a program can add them.
"""

# %%
one = fn.Dense(weight=np.array([[w]]), bias=np.array([0.0]))


def half_square(prediction: fn.Array, wanted: fn.Array) -> tuple[float, fn.Array]:
    """Half the squared error and its gradient, for one number."""
    distance = prediction - wanted
    return float(distance[0, 0] * distance[0, 0]) / 2, distance


by_use = fn.value_and_grad((one, one, one), np.array([[1.0]]), np.array([[1.0]]), half_square)[1]
shares = [each.weight[0, 0] for each in by_use]
print("a share for each use:", *shares)
print("their sum:", shares[0] + shares[1] + shares[2])

# %% [markdown]
"""```text
a share for each use: -0.21875 -0.21875 -0.21875
their sum: -0.65625
```

This equals the derivative by hand. And a gradient on the validation set does not train:
"""


# %%
def separate_accuracy(*, watched: bool) -> float:
    """The validation accuracy after the same training in funcnet."""
    net = (fn.Dense(weights[0], bias=np.zeros(32)), fn.ReLU(), fn.Dense(weights[1], bias=np.zeros(10)))
    for _ in range(40):
        for batch in fn.minibatches(train.x, train.y, 10):
            _, grad = fn.value_and_grad(net, batch.x, batch.y, fn.softmax_cross_entropy)
            net = fn.sgd_update(net, grad, learning_rate=0.2)
        if watched:
            fn.value_and_grad(net, held_out.x, held_out.y, fn.softmax_cross_entropy)  # for the plot
    return fn.accuracy(fn.predict(net, held_out.x, fn.Multiclass()), held_out.y)


print("not watched:", round(separate_accuracy(watched=False), 3))
print("watched:    ", round(separate_accuracy(watched=True), 3))

# %% [markdown]
"""```text
not watched: 0.927
watched:     0.927
```

Without the measurement, both designs give the same result. The coupling does no harm as long as each step has exactly
one forward and one backward pass, as in the post. It makes everything else impossible, or wrong.

## More uses of gradients and networks as values

With the gradient as a value, a program can compute the effect of a step of *any* length before it takes one. The left
plot shows the loss for a hundred step lengths, all from one gradient. In the post's design, each of them would need a
separate training run.

Networks are values, too: they can be added and scaled like vectors. The right plot is a slice through the *loss
surface*. Its plane contains three networks from one training run: the initial network, the one after epoch 5, and the
last one. Each point of the plane is a network, and its color is the loss. The dots are the networks after each epoch,
projected onto the plane.
"""

# %%
key = fn.Key(5)
start = fn.mlp(key, (64, 32, 10), dtype=np.float64)
run = fn.train(
    fn.sgd_step(fn.softmax_cross_entropy, learning_rate=0.1),
    start,
    lambda epoch: fn.minibatches(train.x, train.y, 10, key=key.child("shuffle", epoch)),
    epochs=range(20),
)
path = [start, *(net for net, _ in run)]
grad = fn.value_and_grad(path[2], train.x, train.y, fn.softmax_cross_entropy)[1]
lengths = np.linspace(0.05, 8, 100)
along = [
    fn.evaluate(fn.sgd_update(path[2], grad, learning_rate=t), train.x, train.y, fn.softmax_cross_entropy)
    for t in lengths.tolist()
]


Net: TypeAlias = tuple[fn.Layer, ...]


def plus(a: Net, share: float, b: Net) -> Net:
    """The network ``a + share * b``, parameter by parameter."""
    return fn.map_parameters(lambda p, q: p + share * q, a, b)


def dot(a: Net, b: Net) -> float:
    """The dot product of two networks as vectors; the length of a vector is the square root of its own."""
    pairs = zip(fn.trained_arrays(a), fn.trained_arrays(b), strict=True)
    return sum(float((p * q).sum()) for p, q in pairs)


first, middle, last = path[0], path[5], path[-1]
across = plus(last, -1, first)
upward = plus(middle, -1, first)
upward = plus(upward, -dot(upward, across) / dot(across, across), across)  # the rest is at a right angle to ``across``
width, height = math.sqrt(dot(across, across)), math.sqrt(dot(upward, upward))
dots = [(dot(plus(net, -1, first), across) / width, dot(plus(net, -1, first), upward) / height) for net in path]
a, b = np.linspace(-0.4 * width, 1.5 * width, 40), np.linspace(-3 * height, 4 * height, 40)
surface = [
    [
        fn.evaluate(
            plus(plus(first, u / width, across), v / height, upward), train.x, train.y, fn.softmax_cross_entropy
        )
        for u in a.tolist()
    ]
    for v in b.tolist()
]

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 4), width_ratios=(4, 5))
left.plot(lengths, along)
left.axvline(0.1, color="black", linestyle=":", label="the learning rate of the run")
left.set(xlabel="length of the step (learning rate)", ylabel="loss", title="Loss along one gradient")
left.grid(visible=True, alpha=0.4)
left.legend()
colored = right.contourf(a, b, np.log10(surface), levels=20, cmap="viridis")
right.plot(*zip(*dots, strict=True), ".-", color="white")
right.annotate("start", dots[0], xytext=(4, -15), textcoords="offset points", color="white", fontsize=11)
right.annotate("end", dots[-1], xytext=(4, -15), textcoords="offset points", color="white", fontsize=11)
right.set(
    xlabel="direction from the initial to the last network",
    ylabel="direction to the network after epoch 5",
    title="A slice of the loss surface",
)
figure.colorbar(colored, ax=right, label="log10 of the loss")
figure.tight_layout()
figure.savefig(FIGURES / "part_5_surface.png", dpi=120)

# %% [markdown]
"""A separate update has another advantage, which no plot shows. Because `backward` is a pure function, a program can
call it twice, in parallel, in another process, or on one half of the data after the other, and compare the results.
Part 6 depends on this.

Next, part 6: the same digits on every computer.
"""
