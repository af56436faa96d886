# %% [markdown]
"""# Solutions of part 5.

Run it with: `python examples/tutorial/part_05_solutions.py`
"""

# %%
import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before NumPy is imported: more threads slow small networks down

import numpy as np

import funcnet as fn


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


digits = fn.datasets.load_digits()


def images(first: int, last: int) -> fn.datasets.Examples:
    """Some of the digits, in double precision."""
    return fn.datasets.Examples(digits.x[first:last].astype(np.float64), digits.y[first:last])


def plus(a: fn.Network, factor: float, b: fn.Network) -> fn.Network:
    """The network ``a + factor * b``, parameter by parameter."""
    return fn.map_parameters(lambda p, q: p + factor * q, a, b)


train, validation = images(0, 150), images(150, 300)
path = [fn.mlp(fn.Key(epoch), (64, 32, 10), dtype=np.float64) for epoch in range(3)]  # for the check
grad = fn.value_and_grad(path[2], train.x, train.y, fn.softmax_cross_entropy)[1]

# %% [markdown]
"""**Exercise 1.** Let `d` be `w * w * w - 1`. The last use has the input `w * w` and the gradient `d`: the new weight
is `w - rate * w * w * d`, and the use before gets the gradient `d * w`. Its input is `w`, so the change of the weight
is right; but it passes on `d * w` times the *new* weight, which is `d * w * w` minus `rate * w * w * w * d * d`. The
first use has the input 1, so exactly this term is added to the result. It grows with the learning rate, and it is 0
only if the loss is already 0.
"""


# %% Exercise 1
def error_of_the_coupled_gradient(w: float, rate: float) -> float:
    """The post's result for three uses of the weight w, minus the right derivative; input and target are 1."""
    d = w * w * w - 1
    return -rate * w * w * w * d * d


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
"""**Exercise 2.** Each gradient is a mean over its batch. Times the size of the batch, it is a sum over the examples.
The sums are added, and divided by the number of all examples. The plain mean of the three gradients would count each of
the ten images of the first batch ten times as much as an image of the last one.
"""


# %% Exercise 2
def accumulated(net: fn.Network, batches: list[fn.datasets.Examples]) -> fn.Network:
    """The gradient of softmax cross-entropy for all batches as one batch."""
    total = fn.map_parameters(np.zeros_like, net)
    count = sum(len(batch.x) for batch in batches)
    for batch in batches:
        gradient = fn.value_and_grad(net, batch.x, batch.y, fn.softmax_cross_entropy)[1]
        total = plus(total, len(batch.x) / count, gradient)
    return total


# The check of exercise 2.
found = accumulated(path[2], [images(0, 10), images(10, 50), images(50, 150)])
pairs = zip(fn.trained_arrays(found), fn.trained_arrays(grad), strict=True)
print("Exercise 2:", "solved" if all(np.allclose(p, q, atol=1e-12) for p, q in pairs) else "not solved yet")

# %% [markdown]
"""**Exercise 3.** The three trained networks have 133, 133 and 137 right answers of 150. Halfway from `net_a` to
`net_b`, there are 135; halfway from `net_a` to `net_c`, there are 106. From the same beginning, training goes into the
same valley, and the network halfway is in it, too. With other random weights, the hidden neurons have other tasks: the
third neuron of one network detects something else than the third neuron of the other. A mean of their weights does
neither task well.
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


def halfway(first: fn.Network, second: fn.Network) -> fn.Network:
    """The mean of two networks, parameter by parameter."""
    return fn.map_parameters(lambda p, q: (p + q) / 2, first, second)


net_a, net_b, net_c = trained(fn.Key(0), fn.Key(1)), trained(fn.Key(0), fn.Key(2)), trained(fn.Key(3), fn.Key(1))
counts = (right_answers(halfway(net_a, net_b)), right_answers(halfway(net_a, net_c)))

# The check of exercise 3.
answer = fn.fingerprint(tuple(int(count) for count in counts))
print("Exercise 3:", "solved" if answer.startswith("444c0d74") else "not solved yet")
