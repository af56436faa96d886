# %% [markdown]
"""# Solutions of part 10.

Try the exercises in `part_10_convolution.py` first. The first cell has what they need from the part.

Run it with: `python examples/tutorial/part_10_solutions.py`
"""

# %%
import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before NumPy is imported: more threads slow small networks down

import numpy as np

import funcnet as fn

image = np.array([[0.0, 0.0, 2.0, 2.0], [0.0, 1.0, 2.0, 2.0], [0.0, 0.0, 2.0, 2.0]])
kernel = np.array([[-0.5, 0.5], [-0.5, 0.5]])
g = np.array([[1.0, -0.5, 0.25], [0.0, 2.0, -1.0]])
layer = fn.Conv2D(weight=kernel.reshape(2, 2, 1, 1), bias=np.array([0.0]))
grad_x = fn.backward(layer, image.reshape(1, 3, 4, 1), g.reshape(1, 2, 3, 1))[0]

key = fn.Key(10)
digits = fn.datasets.load_digits()
framed = np.pad(digits.x.reshape(-1, 8, 8, 1), ((0, 0), (1, 1), (1, 1), (0, 0)))
train, validation = fn.split(framed, digits.y, 0.2, key=key.child("split"), stratify=True)
moves = [(down, right) for down in (-1, 0, 1) for right in (-1, 0, 1) if (down, right) != (0, 0)]


def accuracies(net: fn.Network) -> tuple[float, float]:
    """The accuracy on the validation set, and its mean over the eight moved validation sets."""
    images = (validation.x, *(np.roll(validation.x, move, axis=(1, 2)) for move in moves))
    middle, *moved = (fn.accuracy(fn.predict(net, each, fn.Multiclass()), validation.y) for each in images)
    return middle, sum(moved) / len(moved)


step = fn.train_step(fn.softmax_cross_entropy)

# %% [markdown]
"""**Exercise 1.** The kernel spans `dilation * (kernel - 1) + 1` pixels. Between its first place and its last one, it
can move by the padded size minus its span, and it moves in steps of `stride`. The first place counts, too.
"""


# %% Exercise 1
def places(size: int, kernel: int, padding: int, stride: int, dilation: int) -> int:
    """The size of the feature map along one axis."""
    return (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1


# The check of exercise 1.
cases = [(28, 3, 0, 1, 1), (28, 5, 2, 2, 1), (10, 5, 4, 1, 1), (28, 3, 1, 2, 2), (15, 4, 3, 3, 3), (9, 2, 0, 4, 5)]
agree = True
for size, width, padding, stride, dilation in cases:
    probe = fn.conv2d(key, 1, 1, width, padding=padding, stride=stride, dilation=dilation)
    agree = agree and fn.output_shape(probe, (size, size, 1))[0] == places(size, width, padding, stride, dilation)
print("Exercise 1:", "solved" if agree else "not solved yet")

# %% [markdown]
"""**Exercise 2.** At the place `[i, j]`, the pixel `[i + p, j + q]` gets the contribution `kernel[p, q] * g[i, j]`. The
four pixels under the kernel therefore get the whole kernel, times `g[i, j]`.
"""


# %% Exercise 2
def image_gradient(image: fn.Array, kernel: fn.Array, g: fn.Array) -> fn.Array:
    """The derivatives with respect to the pixels. Shapes: image (H, W), kernel (P, Q), g (H - P + 1, W - Q + 1)."""
    grad = np.zeros_like(image)
    rows, columns = kernel.shape
    for i in range(g.shape[0]):
        for j in range(g.shape[1]):
            grad[i : i + rows, j : j + columns] += kernel * g[i, j]
    return grad


# The check of exercise 2.
agree = np.array_equal(image_gradient(image, kernel, g), grad_x[0, :, :, 0])
for height, width in ((3, 2), (1, 4)):
    picture, weight = (fn.random.normal(key.child(width, n), shape) for n, shape in ((0, (5, 6)), (1, (height, width))))
    slopes = fn.random.normal(key.child(width, 2), (6 - height, 7 - width))
    tested = fn.Conv2D(weight=weight.reshape(height, width, 1, 1))
    right = fn.backward(tested, picture.reshape(1, 5, 6, 1), slopes.reshape(1, *slopes.shape, 1))[0]
    agree = agree and np.allclose(image_gradient(picture, weight, slopes), right[0, :, :, 0], atol=1e-5)
print("Exercise 2:", "solved" if agree else "not solved yet")

# %% [markdown]
"""**Exercise 3.** With random moves, the dense network learns every digit in many places, which needs more neurons and
more epochs. With 128 neurons and 15 epochs it reaches 0.956, with 14218 parameters: it has learned with twelve times as
many parameters what the convolutional network knows from the start, and still not as well. Augmentation works for any
change that keeps the label, also where no layer is invariant.
"""

# %% Exercise 3
my_hidden, my_epochs, my_augment = 128, 15, fn.RandomShift(1)

# The check of exercise 3.
with fn.portable():
    own = fn.TrainState.create(
        (fn.Flatten(), *fn.mlp(key.child("own"), (100, min(my_hidden, 128), 10))),
        fn.Adam(learning_rate=0.01),
        key=key.child("own run"),
    )
    for epoch in range(min(my_epochs, 15)):
        shuffled = fn.minibatches(train.x, train.y, 32, key=key.child("own", epoch), augment=my_augment)
        own, _ = fn.train_epoch(step, own, shuffled)
    reached = accuracies(own.params)[1]
print("Exercise 3:", "solved" if reached >= 0.93 else f"not solved yet (accuracy on moved digits {reached:.3f})")
