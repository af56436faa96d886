# %% [markdown]
"""# Part 2. A layer and its gradient.

Several neurons with the same inputs form a *layer*. Several layers in sequence form a *network*. This part computes
the output of a network of two layers, and its whole gradient by backpropagation, number by number. All numbers are
exact decimals: you can repeat the computation with a pocket calculator, or on paper.

Run it with: `python examples/tutorial/part_02_layer.py`
"""

# %%
import numpy as np

import funcnet as fn

# %% [markdown]
"""## Three neurons at once

The matrix `x` is a batch: its two rows are two examples, with two features each. The weights of three neurons with two
inputs form a matrix with two rows and three columns, one column for each neuron. Each neuron also has a bias.
"""

# %%
x = np.array([[2.0, 2.0], [0.5, -1.0]])
first = fn.Dense(weight=np.array([[1.0, -0.5, -1.0], [-0.5, 0.5, 1.0]]), bias=np.array([0.0, 0.5, 0.5]))
print("x")
print(x)
print("weight")
print(first.weight)
print("bias")
print(first.bias)

# %% [markdown]
"""```text
x
[[ 2.   2. ]
 [ 0.5 -1. ]]
weight
[[ 1.  -0.5 -1. ]
 [-0.5  0.5  1. ]]
bias
[0.  0.5 0.5]
```

Each neuron computes the same formula as the neuron of part 1, for each example: the products, their sum, and the
bias. `fn.trained_arrays(layer)` returns the weight and the bias of a layer.
"""

# %%
weight, bias = fn.trained_arrays(first)
for row in x.tolist():
    for (w1, w2), b in zip(weight.T.tolist(), bias.tolist(), strict=True):
        print(f"{row[0]} * {w1} + {row[1]} * {w2} + {b} = {row[0] * w1 + row[1] * w2 + b}")

# %% [markdown]
"""```text
2.0 * 1.0 + 2.0 * -0.5 + 0.0 = 1.0
2.0 * -0.5 + 2.0 * 0.5 + 0.5 = 0.5
2.0 * -1.0 + 2.0 * 1.0 + 0.5 = 0.5
0.5 * 1.0 + -1.0 * -0.5 + 0.0 = 1.0
0.5 * -0.5 + -1.0 * 0.5 + 0.5 = -0.25
0.5 * -1.0 + -1.0 * 1.0 + 0.5 = -1.0
```

This way to multiply two matrices, rows by columns, is the *matrix product*. Python writes it `x @ weight`. A layer is
therefore `x @ weight + bias`, and funcnet computes exactly this:
"""

# %%
hidden = fn.forward(first, x)
print(hidden)

# %% [markdown]
"""```text
[[ 1.    0.5   0.5 ]
 [ 1.   -0.25 -1.  ]]
```

## An activation function, and a second layer

Two layers without anything between them can do no more than one: a linear function of a linear function is linear. A
network therefore needs a nonlinear function between its layers, an *activation function*. `ReLU` is the simplest one:
it replaces negative numbers by 0, and leaves the others unchanged. The numbers after it are the *activations* of the
neurons.

After it comes a second layer, with three inputs and two outputs. The first layer is a *hidden layer*, because its
outputs are neither inputs nor outputs of the network.
"""

# %%
relu = fn.ReLU()
second = fn.Dense(weight=np.array([[2.0, 2.0], [0.5, 1.0], [-1.0, -0.5]]), bias=np.array([-0.5, 0.5]))
bent = fn.forward(relu, hidden)
prediction = fn.forward(second, bent)
print("after ReLU")
print(bent)
print("weight of the second layer")
print(second.weight)
print("its bias")
print(second.bias)
print("prediction")
print(prediction)

# %% [markdown]
"""```text
after ReLU
[[1.  0.5 0.5]
 [1.  0.  0. ]]
weight of the second layer
[[ 2.   2. ]
 [ 0.5  1. ]
 [-1.  -0.5]]
its bias
[-0.5  0.5]
prediction
[[1.25 2.75]
 [1.5  2.5 ]]
```

One of the outputs by hand, the first output for the first example: `1.0 * 2.0 + 0.5 * 0.5 + 0.5 * -1.0 - 0.5` is
1.25.

## The loss

`wanted` holds the targets. The loss of one example is the sum of its squared errors, as in part 1. The loss of the
batch is the mean over its two examples. Its derivative with respect to one output is `2 * distance / 2`, which is
`distance`, the difference between output and target. The text below calls the matrix of these derivatives `g`.
"""

# %%
wanted = np.array([[1.75, 2.25], [2.0, 2.0]])


def squared(prediction: fn.Array, wanted: fn.Array) -> tuple[float, fn.Array]:
    """The mean over two examples of the sum of squared errors, and its gradient with respect to the prediction."""
    distance = prediction - wanted
    return float((distance * distance).sum()) / 2, distance


loss, g = squared(prediction, wanted)
print("loss", loss)
print("g")
print(g)

# %% [markdown]
"""```text
loss 0.5
g
[[-0.5  0.5]
 [-0.5  0.5]]
```

Each of the four squares is 0.25, their sum is 1.0, and half of the sum is 0.5.

## Backward through the second layer

How does the loss change with one weight of the second layer? The weight from input `i` to output `o` is multiplied by
`bent[i]` for each example, and `g[o]` is the derivative of the loss with respect to that output. The chain rule
multiplies the two. Both examples use the same weight, so their contributions are added.
"""

# %%
for i in range(3):
    for o in range(2):
        a, b = bent[:, i].tolist(), g[:, o].tolist()
        print(f"weight[{i}, {o}]: {a[0]} * {b[0]} + {a[1]} * {b[1]} = {a[0] * b[0] + a[1] * b[1]}")
for o in range(2):
    b = g[:, o].tolist()
    print(f"bias[{o}]: {b[0]} + {b[1]} = {b[0] + b[1]}")

# %% [markdown]
"""```text
weight[0, 0]: 1.0 * -0.5 + 1.0 * -0.5 = -1.0
weight[0, 1]: 1.0 * 0.5 + 1.0 * 0.5 = 1.0
weight[1, 0]: 0.5 * -0.5 + 0.0 * -0.5 = -0.25
weight[1, 1]: 0.5 * 0.5 + 0.0 * 0.5 = 0.25
weight[2, 0]: 0.5 * -0.5 + 0.0 * -0.5 = -0.25
weight[2, 1]: 0.5 * 0.5 + 0.0 * 0.5 = 0.25
bias[0]: -0.5 + -0.5 = -1.0
bias[1]: 0.5 + 0.5 = 1.0
```

The *input* of the layer has a gradient, too, and the layer before needs it. Input `i` of an example contributes to
both outputs, each time through a weight. Its derivative is the sum over both paths.
"""

# %%
for (g1, g2), name in zip(g.tolist(), ("first", "second"), strict=True):
    for w1, w2 in second.weight.tolist():
        print(f"{name} example: {g1} * {w1} + {g2} * {w2} = {g1 * w1 + g2 * w2}")

# %% [markdown]
"""```text
first example: -0.5 * 2.0 + 0.5 * 2.0 = 0.0
first example: -0.5 * 0.5 + 0.5 * 1.0 = 0.25
first example: -0.5 * -1.0 + 0.5 * -0.5 = 0.25
second example: -0.5 * 2.0 + 0.5 * 2.0 = 0.0
second example: -0.5 * 0.5 + 0.5 * 1.0 = 0.25
second example: -0.5 * -1.0 + 0.5 * -0.5 = 0.25
```

`backward` does all of this at once. In matrix notation, the gradient with respect to the weight is `bent.T @ g`, the
gradient with respect to the bias is the sum of `g` over the examples, and the gradient with respect to the input is
`g @ weight.T`. Here `.T` is the transpose, which swaps rows and columns.
"""

# %%
g_bent, grad_second = fn.backward(second, bent, g)
print("gradient by weight")
print(grad_second.weight)
print("by bias")
print(grad_second.bias)
print("by input")
print(g_bent)

# %% [markdown]
"""```text
gradient by weight
[[-1.    1.  ]
 [-0.25  0.25]
 [-0.25  0.25]]
by bias
[-1.  1.]
by input
[[0.   0.25 0.25]
 [0.   0.25 0.25]]
```

## Backward through ReLU, and through the first layer

The derivative of `ReLU` is 1 where its input was positive, and 0 where its input was negative: there the gradient
becomes 0. The second example has two such places. The first layer follows, by the same rules as the second.
"""

# %%
g_hidden = fn.backward(relu, hidden, g_bent)[0]
grad_first = fn.backward(first, x, g_hidden)[1]
print("before ReLU")
print(g_hidden)
print("gradient by weight")
print(grad_first.weight)
print("by bias")
print(grad_first.bias)

# %% [markdown]
"""```text
before ReLU
[[0.   0.25 0.25]
 [0.   0.   0.  ]]
gradient by weight
[[0.  0.5 0.5]
 [0.  0.5 0.5]]
by bias
[0.   0.25 0.25]
```

For example, `weight[0, 1]` has the derivative `2.0 * 0.25 + 0.5 * 0.0`, which is 0.5.

A neuron whose input of `ReLU` is negative for *every* example is a *dead neuron*: its whole gradient is 0. Other
activation functions have a similar weakness. `Tanh` computes the hyperbolic tangent, and `Sigmoid` computes
`1 / (1 + exp(-x))`. Both curves are nearly flat far from 0. A neuron that works there is *saturated*: its derivative is
nearly 0, and it learns slowly.

## The network as one value

In funcnet, a network is a tuple of layers, and its gradient is a tuple of the same layers. One call therefore does
all of the above:
"""

# %%
net = (first, relu, second)
loss, grad = fn.value_and_grad(net, x, wanted, squared)
print(grad)
print("the same as by hand:", fn.equal(grad, (grad_first, relu, grad_second)))

# %% [markdown]
"""```text
(Dense(weight=float64 (2, 3), bias=float64 (3,)), ReLU(), Dense(weight=float64 (3, 2), bias=float64 (2,)))
the same as by hand: True
```

One step of gradient descent with the learning rate 0.25 subtracts a quarter of the gradient from every weight:
"""

# %%
better = fn.sgd_update(net, grad, learning_rate=0.25)
first_weight, first_bias, second_weight, second_bias = fn.trained_arrays(better)
print("second weight", second_weight.tolist())
print("second bias", second_bias.tolist())
print("first weight", first_weight.tolist())
print("first bias", first_bias.tolist())
print("prediction", fn.forward(better, x).tolist())
print("loss", loss, "->", fn.value_and_grad(better, x, wanted, squared)[0])

# %% [markdown]
"""```text
second weight [[2.25, 1.75], [0.5625, 0.9375], [-0.9375, -0.5625]]
second bias [-0.25, 0.25]
first weight [[1.0, -0.625, -1.125], [-0.5, 0.375, 0.875]]
first bias [0.0, 0.4375, 0.4375]
prediction [[2.0, 2.0], [2.0, 2.0]]
loss 0.5 -> 0.0625
```

The prediction for the second example is now exactly right. The prediction for the first example is wrong by 0.25 in
both outputs: `(0.0625 + 0.0625) / 2` is 0.0625.

## Every intermediate number of your network

`fn.explain` lists a whole forward and backward pass like the one above, for your own network and data: each formula,
its inputs and its outputs, with all digits that training uses. It has one stage for each layer and direction, and one
for the loss. `print(told)` prints all stages, and `told.markdown` is the same as a table. The last stage is the
backward pass of the first layer:
"""

# %%
told = fn.explain(net, x, wanted, squared)
print(told.stages[-1])

# %% [markdown]
"""```text
backward, layer 0 Dense
  grad_weight = x.T @ g
  grad_bias = g.sum(axis=0)
  grad_x = g @ weight.T
    g (2, 3) =
    [[0.  , 0.25, 0.25],
     [0.  , 0.  , 0.  ]]
    grad_weight (2, 3) =
    [[0. , 0.5, 0.5],
     [0. , 0.5, 0.5]]
    grad_bias (3,) =
    [0.  , 0.25, 0.25]
    grad_x (2, 2) =
    [[-0.375,  0.375],
     [ 0.   ,  0.   ]]
```

Two more numbers to verify: `grad_x` of the first example is `0.25 * -0.5 + 0.25 * -1.0`, which is -0.375, and
`0.25 * 0.5 + 0.25 * 1.0`, which is 0.375.

## Exercises

Each cell below has a gap. Fill it and run the cell: its last line says whether your solution is right. Solutions are in
`part_02_solutions.py`.

**Exercise 1.** Without `ReLU`, the two layers together compute a linear function, so one layer can replace them. Which
one? Multiply out `(x @ weight1 + bias1) @ weight2 + bias2`, and compute the one weight and the one bias.
"""


# %% Exercise 1
def merged(layer1: fn.Dense, layer2: fn.Dense) -> fn.Dense:
    """One layer with the outputs of two layers in sequence."""
    return layer1  # your lines here


# The check of exercise 1.
same = np.array_equal(fn.forward(merged(first, second), x), fn.forward((first, second), x))
print("Exercise 1:", "solved" if same else "not solved yet")

# %% [markdown]
"""**Exercise 2.** Let the network add its input to its output: `y = forward(net, x) + x`. This is a *residual
connection*, and it makes deep networks easier to train. Compute the gradient with respect to `x` for a given `g`,
without `fn.backward`. Call `fn.forward(first, x)` to see where `ReLU` had a positive input.
"""


# %% Exercise 2
def residual_backward(x: fn.Array, g: fn.Array) -> fn.Array:
    """The gradient with respect to the input of ``net`` with a residual connection."""
    return g  # your lines here


# The check of exercise 2.
other_x = np.array([[-1.0, 2.0], [0.5, 0.25], [3.0, -2.0]])
other_g = np.array([[0.5, 1.0], [-1.0, 0.25], [2.0, 0.5]])
same = np.array_equal(residual_backward(other_x, other_g), fn.backward(fn.Residual(net), other_x, other_g)[0])
print("Exercise 2:", "solved" if same else "not solved yet")

# %% [markdown]
"""**Exercise 3.** Change the bias of the second neuron of the first layer from 0.5 to -1.0, and leave everything else
as it is at the beginning of this part. Take 20 steps of gradient descent with the learning rate `step`. Guess first:
how many of the network's 17 numbers change? Then write the program, and count.
"""

# %% Exercise 3
step = 1 / 16
changed = 17  # after 20 steps; your lines here

# The check of exercise 3.
print("Exercise 3:", "solved" if fn.fingerprint(int(changed)).startswith("e780ddc9") else "not solved yet")

# %% [markdown]
"""Next, part 3: how to check a gradient that has too many numbers for a computation by hand.
"""
