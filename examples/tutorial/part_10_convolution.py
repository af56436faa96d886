# %% [markdown]
"""# Part 10. Convolution.

The network of part 4 has a separate weight for each pixel. A stroke that it knows in one place is new to it one pixel
further. A *convolutional layer* has a small *kernel* of weights, and applies the same kernel everywhere in the image.
This part computes a convolution and its gradient by hand, and then compares a convolutional network with a dense one on
digits that have moved.

Run it with: `python examples/tutorial/part_10_convolution.py`
"""

# %%
import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before NumPy is imported: more threads slow small networks down

from pathlib import Path

import numpy as np
from matplotlib import pyplot as plt
from tqdm import tqdm

import funcnet as fn

FIGURES = Path("figures")
FIGURES.mkdir(exist_ok=True)

# %% [markdown]
"""## A kernel slides over an image

The image has 3 rows and 4 columns, dark on the left and bright on the right. The kernel has 2 rows and 2 columns. At
each place of the image, the layer multiplies the four pixels under the kernel by the four weights, and adds the
products. The result is a new image, a *feature map*.
"""

# %%
image = np.array([[0.0, 0.0, 2.0, 2.0], [0.0, 1.0, 2.0, 2.0], [0.0, 0.0, 2.0, 2.0]])
kernel = np.array([[-0.5, 0.5], [-0.5, 0.5]])
for i in range(2):
    for j in range(3):
        patch = image[i : i + 2, j : j + 2]
        products = [f"{pixel} * {weight}" for pixel, weight in zip(patch.ravel(), kernel.ravel(), strict=True)]
        print(f"y[{i}, {j}] =", " + ".join(products), "=", (patch * kernel).sum())

# %% [markdown]
"""```text
y[0, 0] = 0.0 * -0.5 + 0.0 * 0.5 + 0.0 * -0.5 + 1.0 * 0.5 = 0.5
y[0, 1] = 0.0 * -0.5 + 2.0 * 0.5 + 1.0 * -0.5 + 2.0 * 0.5 = 1.5
y[0, 2] = 2.0 * -0.5 + 2.0 * 0.5 + 2.0 * -0.5 + 2.0 * 0.5 = 0.0
y[1, 0] = 0.0 * -0.5 + 1.0 * 0.5 + 0.0 * -0.5 + 0.0 * 0.5 = 0.5
y[1, 1] = 1.0 * -0.5 + 2.0 * 0.5 + 0.0 * -0.5 + 2.0 * 0.5 = 1.5
y[1, 2] = 2.0 * -0.5 + 2.0 * 0.5 + 2.0 * -0.5 + 2.0 * 0.5 = 0.0
```

The result is large where the image becomes brighter from left to right, and 0 where it does not change. This kernel
*detects vertical edges*. The kernel turned by a quarter would detect horizontal ones.

In funcnet, the layer is `Conv2D`. An image has a third axis for its *channels*, such as red, green and blue, and a
batch of images has four axes: images, rows, columns, channels. A weight has four, too: rows and columns of the kernel,
input channels and output channels. Here all images have one channel.
"""

# %%
layer = fn.Conv2D(weight=kernel.reshape(2, 2, 1, 1), bias=np.array([0.0]))
batch = image.reshape(1, 3, 4, 1)
feature_map = fn.forward(layer, batch)
print(feature_map.shape)
print(feature_map[0, :, :, 0])

# %% [markdown]
"""```text
(1, 2, 3, 1)
[[0.5 1.5 0. ]
 [0.5 1.5 0. ]]
```

A word about the name. Mathematicians call this operation *cross-correlation*. In their *convolution*, the kernel is
first turned by half a turn. For a kernel that is learned, this makes no difference: the network would learn the turned
kernel. The libraries for neural networks use cross-correlation, and call it convolution.

## The same weights everywhere

A convolution is a linear function of the pixels. It could be a dense layer with 12 inputs and 6 outputs. The program
finds the weights of that layer: it sends 12 images through the convolution, each with a single pixel that is 1.
"""

# %%
units = np.eye(12).reshape(12, 3, 4, 1)
dense = fn.Dense(weight=fn.forward(layer, units).reshape(12, 6), bias=np.zeros(6))
print(dense.weight.T)
print(dense.weight.size, "weights,", int((dense.weight == 0).sum()), "of them 0")
print("the same outputs:", np.array_equal(fn.forward(dense, batch.reshape(1, 12)), feature_map.reshape(1, 6)))

# %% [markdown]
"""```text
[[-0.5  0.5  0.   0.  -0.5  0.5  0.   0.   0.   0.   0.   0. ]
 [ 0.  -0.5  0.5  0.   0.  -0.5  0.5  0.   0.   0.   0.   0. ]
 [ 0.   0.  -0.5  0.5  0.   0.  -0.5  0.5  0.   0.   0.   0. ]
 [ 0.   0.   0.   0.  -0.5  0.5  0.   0.  -0.5  0.5  0.   0. ]
 [ 0.   0.   0.   0.   0.  -0.5  0.5  0.   0.  -0.5  0.5  0. ]
 [ 0.   0.   0.   0.   0.   0.  -0.5  0.5  0.   0.  -0.5  0.5]]
72 weights, 48 of them 0
the same outputs: True
```

Each row has the weights of one output. Of the 72 weights, 48 are 0, since an output sees only four pixels. The others
repeat the four numbers of the kernel. These are the two ideas of a convolutional layer: *local* connections and
*weight sharing*. It needs 4 weights where the dense layer has 72.

## The gradient of a shared weight

A weight that is used in several places has a contribution from each, and part 5 showed that the contributions are
added. For the kernel weight `[p, q]`, each place `[i, j]` contributes the pixel that the weight met there times the
derivative with respect to the output there:

`grad_kernel[p, q] = sum over i and j of image[i + p, j + q] * g[i, j]`

Take some numbers for `g`, the derivatives with respect to the feature map:
"""

# %%
g = np.array([[1.0, -0.5, 0.25], [0.0, 2.0, -1.0]])
for p in range(2):
    for q in range(2):
        met = image[p : p + 2, q : q + 3]
        products = [f"{pixel} * {slope}" for pixel, slope in zip(met.ravel(), g.ravel(), strict=True)]
        print(f"grad_kernel[{p}, {q}] =", " + ".join(products), "=", (met * g).sum())

grad_x, grad_layer = fn.backward(layer, batch, g.reshape(1, 2, 3, 1))
print("by fn.backward:", grad_layer.weight.ravel())
print("by the bias:", g.sum(), "and by fn.backward:", grad_layer.bias)

# %% [markdown]
"""```text
grad_kernel[0, 0] = 0.0 * 1.0 + 0.0 * -0.5 + 2.0 * 0.25 + 0.0 * 0.0 + 1.0 * 2.0 + 2.0 * -1.0 = 0.5
grad_kernel[0, 1] = 0.0 * 1.0 + 2.0 * -0.5 + 2.0 * 0.25 + 1.0 * 0.0 + 2.0 * 2.0 + 2.0 * -1.0 = 1.5
grad_kernel[1, 0] = 0.0 * 1.0 + 1.0 * -0.5 + 2.0 * 0.25 + 0.0 * 0.0 + 0.0 * 2.0 + 2.0 * -1.0 = -2.0
grad_kernel[1, 1] = 1.0 * 1.0 + 2.0 * -0.5 + 2.0 * 0.25 + 0.0 * 0.0 + 2.0 * 2.0 + 2.0 * -1.0 = 2.5
by fn.backward: [ 0.5  1.5 -2.   2.5]
by the bias: 1.75 and by fn.backward: [1.75]
```

The formula is a cross-correlation, too: of the image with `g`. The bias is added everywhere, so its derivative is the
sum of `g`. The layer before needs the derivatives with respect to the pixels. A pixel lies under several places of the
kernel, and again the contributions are added. They are the subject of exercise 2. `fn.check_gradients` confirms all
three:
"""

# %%
for check in fn.check_gradients(layer, batch).checks:
    print(check.where, "has", check.elements, "numbers, right:", check.passed)

# %% [markdown]
"""```text
x has 12 numbers, right: True
weight has 4 numbers, right: True
bias has 1 numbers, right: True
```

## Padding, stride, pooling

The feature map is smaller than the image, because the kernel must fit in. *Padding* puts zeros around the image first;
with `"same"`, the feature map has the size of the image. With a *stride* of 2, the kernel moves two pixels at a time.
*Pooling* has no weights: `MaxPool2D` keeps the largest number of each window.
"""

# %%
key = fn.Key(10)
for each in (
    fn.conv2d(key, 1, 1, 3),
    fn.conv2d(key, 1, 1, 3, padding=2),
    fn.conv2d(key, 1, 1, 3, padding="same"),
    fn.conv2d(key, 1, 1, 3, padding="same", stride=2),
):
    rows, columns = fn.output_shape(each, (28, 28, 1))[:2]
    print(f"kernel 3 by 3, padding {each.padding}, stride {each.stride}: from 28 by 28 to {rows} by {columns}")
print("pooling", image[:2].tolist(), "->", fn.forward(fn.MaxPool2D(2), batch[:, :2]).ravel())

# %% [markdown]
"""```text
kernel 3 by 3, padding valid, stride 1: from 28 by 28 to 26 by 26
kernel 3 by 3, padding 2, stride 1: from 28 by 28 to 30 by 30
kernel 3 by 3, padding same, stride 1: from 28 by 28 to 28 by 28
kernel 3 by 3, padding same, stride 2: from 28 by 28 to 14 by 14
pooling [[0.0, 0.0, 2.0, 2.0], [0.0, 1.0, 2.0, 2.0]] -> [1. 2.]
```

## What is moved in the image moves in the feature map

If the image moves by one pixel, its feature map moves by one pixel, and its numbers stay the same. This property is
*equivariance* to translation, and it follows from the shared weights. If a pooling layer then takes the largest number
of the *whole* feature map, `GlobalMaxPool2D`, the result does not change at all: it is *invariant*. A dense layer has
neither property. The program moves the image, with zeros around it, one pixel to the right:
"""

# %%
wide = np.pad(batch, ((0, 0), (2, 2), (2, 2), (0, 0)))
before, after = fn.forward(layer, wide), fn.forward(layer, np.roll(wide, 1, axis=2))
print("the feature map has moved, too:", np.array_equal(np.roll(before, 1, axis=2), after))
print("largest numbers", before.max(), after.max())

# %% [markdown]
"""```text
the feature map has moved, too: True
largest numbers 1.5 1.5
```

## Digits that move

The data are the digits, with a frame of zeros one pixel wide: 10 by 10 pixels. Each digit can then move by one pixel in
eight directions without losing ink. The networks train on digits in the middle only, and are then tested on digits of
the validation set in the middle, and on the same digits moved in all eight directions.

The dense network has one hidden layer of 32 neurons. The convolutional one has 32 kernels of 5 by 5 pixels, each with
its own feature map. `padding=4` makes the feature map so large that every kernel meets every digit completely, wherever
it is. After `ReLU` and `GlobalMaxPool2D`, 32 numbers remain: how strongly does each kernel occur, no matter where? A
dense layer turns them into ten logits. (`Flatten` makes one row of 100 numbers of each image. `he_normal` draws first
weights of a size that suits a layer before `ReLU`.)
"""

# %%
digits = fn.datasets.load_digits()
framed = np.pad(digits.x.reshape(-1, 8, 8, 1), ((0, 0), (1, 1), (1, 1), (0, 0)))
train, validation = fn.split(framed, digits.y, 0.2, key=key.child("split"), stratify=True)
moves = [(down, right) for down in (-1, 0, 1) for right in (-1, 0, 1) if (down, right) != (0, 0)]


def accuracies(net: fn.Network) -> tuple[float, float]:
    """The accuracy on the validation set, and its mean over the eight moved validation sets."""
    images = (validation.x, *(np.roll(validation.x, move, axis=(1, 2)) for move in moves))
    middle, *moved = (fn.accuracy(fn.predict(net, each, fn.Multiclass()), validation.y) for each in images)
    return middle, sum(moved) / len(moved)


networks: dict[str, tuple[fn.Layer, ...]] = {
    "dense": (fn.Flatten(), *fn.mlp(key.child("dense"), (100, 32, 10))),
    "convolutional": (
        fn.conv2d(key.child(0), 1, 32, 5, padding=4, init=fn.initializers.he_normal),
        fn.ReLU(),
        fn.GlobalMaxPool2D(),
        fn.dense(key.child(1), 32, 10),
    ),
}
print(len(train.y), "to learn from,", len(validation.y), "in the validation set")
step = fn.train_step(fn.softmax_cross_entropy)
trained: dict[str, tuple[fn.Layer, ...]] = {}
with fn.portable():
    for name, net in networks.items():
        state = fn.TrainState.create(net, fn.Adam(learning_rate=0.02), key=key.child("run"))
        for epoch in tqdm(range(5), desc=name):
            batches = fn.minibatches(train.x, train.y, 32, key=key.child("shuffle", epoch))
            state, _ = fn.train_epoch(step, state, batches)
        trained[name] = state.params
        middle, moved = accuracies(state.params)
        parameters = fn.summary(net, (10, 10, 1)).trained
        print(f"{name:13}: {parameters} parameters, accuracy in the middle {middle:.3f}, moved {moved:.3f}")
    print("fingerprint", fn.fingerprint(trained["convolutional"])[:16])
    same = [
        np.array_equal(
            fn.outputs(trained["convolutional"], validation.x),
            fn.outputs(trained["convolutional"], np.roll(validation.x, move, axis=(1, 2))),
        )
        for move in moves
    ]
    print("the same logits, in every bit, for", sum(same), "of", len(moves), "moves")

# %% [markdown]
"""```text
1438 to learn from, 359 in the validation set
dense        : 3562 parameters, accuracy in the middle 0.961, moved 0.312
convolutional: 1162 parameters, accuracy in the middle 0.969, moved 0.969
fingerprint af69b6036d2114b9
the same logits, in every bit, for 8 of 8 moves
```

In the middle, the two networks are equally good: they differ by 3 of 359 images. On the moved digits, the dense network
is right for a share of 0.312 only, although people read them as easily as before. It has learned each stroke in one
place. The convolutional network computes the same logits as in the middle, in every bit, so its accuracy is the same.
It has a third of the parameters. This is the point of convolution: what is known about the data, that a moved digit is
still the same digit, is built into the network, and need not be learned.

Invariance has a price. `GlobalMaxPool2D` forgets *where* a stroke is. On larger images, networks therefore have several
convolutional layers with a small pooling layer after each, and forget a little at a time. `examples/mnist_conv.py` is
such a network.

## What the kernels detect
"""

# %%
figure = plt.figure(figsize=(8, 4.2))
fn.plots.weight_images(trained["convolutional"][0], count=32, columns=8, figure=figure)
figure.suptitle("The 32 learned kernels")
figure.savefig(FIGURES / "part_10_kernels.png", dpi=120)

# %% [markdown]
"""Nobody chose these kernels; the network learned them. Some detect edges, such as kernel 10, which is positive above
and negative below. Of many others it is hard to say what they detect.

The next picture shows the feature maps that react most to a digit, and those to the same digit one pixel further right.
`fn.activations` returns the output of every layer; the second one is that of `ReLU`. The maps move with the digit, and
their largest numbers, which is what `GlobalMaxPool2D` keeps, stay the same.
"""

# %%
with fn.portable():
    digit = validation.x[:1]
    maps = [fn.activations(trained["convolutional"], each)[1][0] for each in (digit, np.roll(digit, 1, axis=2))]
largest = float(maps[0].max())
busiest = np.argsort(maps[0].max(axis=(0, 1)))[::-1][:5].tolist()
figure, grid = plt.subplots(2, 6, figsize=(8, 3.6))
for row, picture, each in zip(grid, (digit, np.roll(digit, 1, axis=2)), maps, strict=True):
    row[0].imshow(picture[0, :, :, 0], cmap="gray_r")
    for axes, channel in zip(row[1:], busiest, strict=True):
        axes.imshow(each[:, :, channel], cmap="viridis", vmin=0, vmax=largest)
        axes.set_title(f"kernel {channel}: {each[:, :, channel].max():.2f}", fontsize=8)
    for axes in row:
        axes.set(xticks=[], yticks=[])
grid[0, 0].set_title("digit", fontsize=8)
grid[1, 0].set_title("moved to the right", fontsize=8)
figure.suptitle("The five strongest feature maps of a digit, with their largest numbers")
figure.tight_layout()
figure.savefig(FIGURES / "part_10_maps.png", dpi=120)

# %% [markdown]
"""## Exercises

Each cell below has a gap, and a check that says whether your solution is right. Replace the line with the comment
`# your lines here`, and run the cell again. Solutions are in `part_10_solutions.py`.

**Exercise 1.** How many places does a kernel have? Write the formula for one axis of the image: its size, the size of
the kernel, the padding on each side, the stride, and the *dilation*, the distance between neighboring pixels under the
kernel. With the dilation 2, a kernel of size 3 spans 5 pixels. A place where the kernel does not fit completely does
not count. The check compares with `fn.output_shape`.
"""


# %% Exercise 1
def places(size: int, kernel: int, padding: int, stride: int, dilation: int) -> int:
    """The size of the feature map along one axis."""
    return (size - kernel + 2 * padding) // (stride * dilation)  # your lines here


# The check of exercise 1.
cases = [(28, 3, 0, 1, 1), (28, 5, 2, 2, 1), (10, 5, 4, 1, 1), (28, 3, 1, 2, 2), (15, 4, 3, 3, 3), (9, 2, 0, 4, 5)]
agree = True
for size, width, padding, stride, dilation in cases:
    probe = fn.conv2d(key, 1, 1, width, padding=padding, stride=stride, dilation=dilation)
    agree = agree and fn.output_shape(probe, (size, size, 1))[0] == places(size, width, padding, stride, dilation)
print("Exercise 1:", "solved" if agree else "not solved yet")

# %% [markdown]
"""**Exercise 2.** Program the gradient with respect to the image, for one image and one kernel as at the beginning. At
the place `[i, j]`, the pixel `[i + p, j + q]` is multiplied by the kernel's weight `[p, q]`. Which contribution does
its derivative get from this place? Two loops over the places are enough. The check compares with `fn.backward`.
"""


# %% Exercise 2
def image_gradient(image: fn.Array, kernel: fn.Array, g: fn.Array) -> fn.Array:
    """The derivatives with respect to the pixels. Shapes: image (H, W), kernel (P, Q), g (H - P + 1, W - Q + 1)."""
    return np.full_like(image, kernel.sum() * g.sum())  # your lines here


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
"""**Exercise 3.** An experiment. A dense network can also learn moved digits, if it sees some in training:
`minibatches` takes an `augment`, such as `fn.RandomShift(1)`, which moves each image by up to one pixel, with a new
draw in each epoch. This is called *data augmentation*. Choose an augmentation, a number of hidden neurons (at most 128)
and a number of epochs (at most 15) with which the dense network is right for a share of at least 0.93 of the moved
digits. Before you run it: will it need more or fewer parameters than the convolutional network?
"""

# %% Exercise 3
my_hidden, my_epochs, my_augment = 32, 5, fn.RandomShift(0)  # your lines here

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

# %% [markdown]
"""Next, part 11: a recurrent network by hand.
"""
