# %% [markdown]
"""# Part 5. Why the update is separate.

In the post that funcnet grew from, `backward` does two things: it computes gradients, and it *changes the weights*.
The code is short, and it works for a simple training loop. This part shows three cases where it fails, and then the
same cases with gradients as values.

Run it with: `python examples/tutorial/part_05_update.py`
"""

# %%
import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before NumPy is imported: more threads slow small networks down

from pathlib import Path

import numpy as np
from matplotlib import pyplot as plt

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

The two calls give different results, because the first call changed the weight. For the same reason, a check as in part
3 is difficult: after the call, the weights to which the gradient belongs are gone. (The post sets the learning rate to
0 to check the gradient with respect to the input. It reads the gradient with respect to the weight off the changed
weight.)

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

Back to the digits, with a small training set of 150 images. After each epoch, the program computes the gradient on the
validation set, to monitor its size. This is a usual thing to plot, and it looks harmless.
"""


# %%
digits = fn.datasets.load_digits()


def images(first: int, last: int) -> fn.datasets.Examples:
    """Some of the digits, in double precision."""
    return fn.datasets.Examples(digits.x[first:last].astype(np.float64), digits.y[first:last])


train, validation = images(0, 150), images(150, 300)
weights = [
    fn.dense(fn.Key(5).child(0), 64, 32, dtype=np.float64).weight,
    fn.dense(fn.Key(5).child(1), 32, 10, dtype=np.float64).weight,
]


def coupled_gradient(first: Coupled, second: Coupled, batch: fn.datasets.Examples) -> fn.Array:
    """The gradient with respect to the images, computed as in the post."""
    hidden = first.forward(batch.x)
    bent = np.maximum(hidden, 0)
    _, g = fn.softmax_cross_entropy(second.forward(bent), batch.y)
    return first.backward(batch.x, second.backward(bent, g) * (hidden > 0))


def coupled_accuracy(*, watched: bool) -> float:
    """The validation accuracy after 40 epochs of training as in the post."""
    first, second = (Coupled(weight, learning_rate=0.2) for weight in weights)
    for _ in range(40):
        for start in range(0, 150, 10):
            coupled_gradient(first, second, images(start, start + 10))
        if watched:
            coupled_gradient(first, second, validation)  # for the plot
    answers = second.forward(np.maximum(first.forward(validation.x), 0)).argmax(axis=1)
    return fn.accuracy(answers, validation.y)


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
            fn.value_and_grad(net, validation.x, validation.y, fn.softmax_cross_entropy)  # for the plot
    return fn.accuracy(fn.predict(net, validation.x, fn.Multiclass()), validation.y)


print("not watched:", round(separate_accuracy(watched=False), 3))
print("watched:    ", round(separate_accuracy(watched=True), 3))

# %% [markdown]
"""```text
not watched: 0.927
watched:     0.927
```

Without the measurement, both designs give the same result. The coupling does no harm as long as each step has exactly
one forward and one backward pass, as in the post. Every other use of a gradient is then difficult, or wrong.

## A step of any length

With the gradient as a value, a program can compute the effect of a step of *any* length before it takes one. Here is a
network after two epochs, its gradient on the training set, and the loss after steps of a hundred lengths along this one
gradient. In the post's design, the program would have to save the weights and restore them for each of these steps.
"""

# %%
key = fn.Key(5)


def path_of(epochs: int) -> list[fn.Network]:
    """The initial network, and the network after each epoch."""
    start = fn.mlp(key, (64, 32, 10), dtype=np.float64)
    run = fn.train(
        fn.sgd_step(fn.softmax_cross_entropy, learning_rate=0.1),
        start,
        lambda epoch: fn.minibatches(train.x, train.y, 10, key=key.child("shuffle", epoch)),
        epochs=range(1, epochs + 1),
    )
    return [start, *(net for net, _ in run)]


def loss_of(net: fn.Network) -> float:
    """The loss on the training set."""
    return fn.evaluate(net, train.x, train.y, fn.softmax_cross_entropy)


path = path_of(20)
grad = fn.value_and_grad(path[2], train.x, train.y, fn.softmax_cross_entropy)[1]
lengths = np.linspace(0.05, 8, 100)
along = [loss_of(fn.sgd_update(path[2], grad, learning_rate=length)) for length in lengths.tolist()]
print(f"loss before the step: {loss_of(path[2]):.2f}")
print(f"lowest loss after a step: {min(along):.2f}, with the length {lengths[np.argmin(along)]:.1f}")

# %% [markdown]
"""```text
loss before the step: 1.64
lowest loss after a step: 1.38, with the length 1.7
```

## A map of the loss

Networks are values, too: a program can add and scale them like vectors. So it can draw a map of the loss. Each place on
the map is a network: the initial one, plus `u` times the way to the last network, plus `v` times a second direction.
The second direction goes to the network after 5 epochs. What it shares with the first direction is subtracted, so that
the two are at a right angle. For each network after an epoch, `share` computes the nearest place on the map.
"""


# %%
def plus(a: fn.Network, factor: float, b: fn.Network) -> fn.Network:
    """The network ``a + factor * b``, parameter by parameter."""
    return fn.map_parameters(lambda p, q: p + factor * q, a, b)


def dot(a: fn.Network, b: fn.Network) -> float:
    """The dot product of two networks, taken as vectors."""
    return sum(float((p * q).sum()) for p, q in zip(fn.trained_arrays(a), fn.trained_arrays(b), strict=True))


def share(way: fn.Network, direction: fn.Network) -> float:
    """How many times the direction a way contains."""
    return dot(way, direction) / dot(direction, direction)


ways = [plus(net, -1, path[0]) for net in path]
ahead = ways[-1]
sideways = plus(ways[5], -share(ways[5], ahead), ahead)
places = np.array([(share(way, ahead), share(way, sideways)) for way in ways])
us, vs = np.linspace(-0.4, 1.6, 40), np.linspace(-3, 4, 40)
surface = [[loss_of(plus(plus(path[0], u, ahead), v, sideways)) for u in us.tolist()] for v in vs.tolist()]
print(f"loss at the beginning {loss_of(path[0]):.2f}, at the end {loss_of(path[-1]):.3f}")
print(f"lowest loss on the map {np.min(surface):.3f}")
for epochs in (40, 80, 160):
    print(f"loss after {epochs} epochs {loss_of(path_of(epochs)[-1]):.3f}")

# %% [markdown]
"""```text
loss at the beginning 2.39, at the end 0.087
lowest loss on the map 0.010
loss after 40 epochs 0.031
loss after 80 epochs 0.012
loss after 160 epochs 0.005
```
"""

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 4), width_ratios=(4, 5))
left.plot(lengths, along)
left.axvline(0.1, color="black", linestyle=":", label="the learning rate of the run")
left.set(xlabel="length of the step (learning rate)", ylabel="loss", title="Loss along one gradient")
left.grid(visible=True, alpha=0.4)
left.legend()
colored = right.contourf(us, vs, np.log10(surface), levels=20, cmap="viridis")
right.plot(places[:, 0], places[:, 1], ".-", color="white")
for name, place in (("start", places[0]), ("end", places[-1])):
    right.annotate(name, place, xytext=(4, -15), textcoords="offset points", color="white", fontsize=11)
right.set(xlabel="u: from the initial to the last network", ylabel="v: sideways", title="A map of the loss")
figure.colorbar(colored, ax=right, label="log10 of the loss")
figure.tight_layout()
figure.savefig(FIGURES / "part_05_surface.png", dpi=120)

# %% [markdown]
"""The left plot has its lowest point at a step about seventeen times as long as the steps of the run. Longer
steps overshoot, as in part 1.

The map on the right shows the path of training, with a dot for the network after each epoch. The path begins on a
plateau, turns into a valley, and follows it. Its end is *not* the lowest point of the map, for two reasons.

- Training stopped early. At the beginning, the dots are far apart. In the valley they come closer and closer, because a
  step is the learning rate times the gradient, and the gradient is small there. The path leads in a good direction, but
  its steps are too short. After 160 epochs, the loss is lower than anywhere on this map.
- The map shows only two directions, and the network has one for each of its parameters. Only the first network, the
  last one and the one after 5 epochs lie on the map. The other dots are the shadows of networks beside it. Gradient
  descent goes down in all directions together, and does not search this map.

The map shows the loss on the training set. Whether a lower place is also better for other images is a separate
question, and part 7 asks it.

A separate update has another advantage, which no plot shows. Because `backward` is a pure function, a program can
call it twice, in parallel, in another process, or on one half of the data after the other, and compare the results.
Part 8 depends on this.

## Exercises

Each cell below has a gap, and a check that says whether your solution is right. Replace the line with the comment
`# your lines here`, and run the cell again. Solutions are in `part_05_solutions.py`.

**Exercise 1.** The second failure gave a wrong "gradient" for a layer that is used three times. How large is the error?
Follow the three calls of `backward` on paper, with the weight `w` and the learning rate `rate`, and write down each new
weight. The result is the right derivative plus one term, which is your answer.
"""


# %% Exercise 1
def error_of_the_coupled_gradient(w: float, rate: float) -> float:
    """The post's result for three uses of the weight w, minus the right derivative; input and target are 1."""
    return 0.0  # your lines here


# The check of exercise 1.
def coupled_error(w: float, rate: float) -> float:
    """The same by the program above."""
    thrice = Coupled(np.array([[w]]), rate)
    inputs = [np.array([[1.0]])]
    for _ in range(3):
        inputs.append(thrice.forward(inputs[-1]))
    slope: fn.Array = inputs.pop() - 1.0
    for each in reversed(inputs):
        slope = thrice.backward(each, slope)
    return float((w - thrice.weight[0, 0]) / rate - (w * w * w - 1) * 3 * w * w)


settings = [(0.5, 1.0), (0.5, 0.5), (0.75, 0.25), (-1.5, 0.125)]
agreeing = [np.isclose(error_of_the_coupled_gradient(*each), coupled_error(*each)) for each in settings]
print("Exercise 1:", "solved" if all(agreeing) else "not solved yet")

# %% [markdown]
"""**Exercise 2.** The gradient of a large batch needs much memory. Compute it from smaller batches, one after the
other, and combine their gradients with `plus`. This is called *gradient accumulation*. Take care: the loss
is a mean over a batch, and the small batches have different sizes.
"""


# %% Exercise 2
def accumulated(net: fn.Network, batches: list[fn.datasets.Examples]) -> fn.Network:
    """The gradient of softmax cross-entropy for all batches as one batch."""
    return net  # your lines here


# The check of exercise 2.
found = accumulated(path[2], [images(0, 10), images(10, 50), images(50, 150)])
pairs = zip(fn.trained_arrays(found), fn.trained_arrays(grad), strict=True)
print("Exercise 2:", "solved" if all(np.allclose(p, q, atol=1e-12) for p, q in pairs) else "not solved yet")

# %% [markdown]
"""**Exercise 3.** What lies halfway between two trained networks? Take the mean of their parameters. Do it for `net_a`
and `net_b`, which began as the same network and had their minibatches in different orders. Do it for `net_a` and
`net_c`, too, which began with different random weights. Guess first: are the two networks halfway as good as the
others? Then count the right answers of all five on the validation set.
"""


# %% Exercise 3
def trained(start: fn.Key, order: fn.Key) -> fn.Network:
    """A network after 20 epochs."""
    net: fn.Network = fn.mlp(start, (64, 32, 10), dtype=np.float64)
    step = fn.sgd_step(fn.softmax_cross_entropy, learning_rate=0.1)
    for epoch in range(1, 21):
        net, _ = fn.train_epoch(step, net, fn.minibatches(train.x, train.y, 10, key=order.child(epoch)))
    return net


def right_answers(net: fn.Network) -> int:
    """How many images of the validation set a network classifies correctly."""
    return int((fn.predict(net, validation.x, fn.Multiclass()) == validation.y).sum())


net_a, net_b, net_c = trained(fn.Key(0), fn.Key(1)), trained(fn.Key(0), fn.Key(2)), trained(fn.Key(3), fn.Key(1))
counts = (150, 150)  # halfway from net_a to net_b, and from net_a to net_c; your lines here

# The check of exercise 3.
answer = fn.fingerprint(tuple(int(count) for count in counts))
print("Exercise 3:", "solved" if answer.startswith("444c0d74") else "not solved yet")

# %% [markdown]
"""Next, part 6: Adam, an optimizer with a step size of its own for each weight.
"""
