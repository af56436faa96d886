# %% [markdown]
"""# Part 4. The post's network, on digits.

funcnet grew from a blog post, "Neural networks from scratch". Its network has layers of 100, 200 and 10 neurons, one
output for each digit, with `ReLU` between the layers, and learns to read handwritten digits. This part trains the
same network on a small set of images that comes with scikit-learn.

Run it with: `python examples/tutorial/part_4_digits.py`
"""

# %%
import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before NumPy is imported: more threads slow small networks down

from pathlib import Path
from typing import cast

import numpy as np
from matplotlib import pyplot as plt
from numpy.typing import NDArray
from sklearn.datasets import load_digits

import funcnet as fn

FIGURES = Path("figures")
FIGURES.mkdir(exist_ok=True)

# %% [markdown]
"""## The data

Each image has 8 by 8 pixels with values from 0 to 16. The program divides them by 16, so that every value is between
0 and 1. A fifth of the images is *held out*: the network never learns from them. They are the *validation set*; the
others are the *training set*. The accuracy on the validation set measures how well the network *generalizes*. The
accuracy on the training set also counts what the network has merely memorized.
"""

# %%
pixels, digits = cast("tuple[NDArray[np.float64], NDArray[np.int64]]", load_digits(return_X_y=True))
x = (pixels / 16).astype(np.float32)
key = fn.Key(4)
train, held_out = fn.split(x, digits, 0.2, key=key.child("split"))
print(len(x), "images of", x.shape[1], "pixels")
print(len(train.x), "to learn from,", len(held_out.x), "held out, each a share of", round(1 / len(held_out.x), 3))

# %% [markdown]
"""```text
1797 images of 64 pixels
1438 to learn from, 359 held out, each a share of 0.003
```

## The network

The network has 64 inputs, one for each pixel, and 10 outputs, one for each digit. The outputs are called *logits*.
The prediction is the digit with the largest logit. The loss is the *cross-entropy*. It uses the *softmax* function,
which turns the logits into probabilities that add up to 1. The loss is minus the logarithm of the probability of the
right digit: 0 if the probability is 1, and larger the smaller the probability is. A network does not know what its
outputs mean. `fn.Multiclass()` tells `fn.predict` that they are the logits of classes, and that the answer is the class
with the largest one.

How large is the loss of an untrained network? It gives each digit a probability near a tenth, and minus the logarithm
of a tenth is 2.30.
"""

# %%
net = fn.mlp(key.child("init"), (64, 100, 200, 10))
for layer in net:
    print(layer)
with fn.portable():
    loss = fn.evaluate(net, train.x, train.y, fn.softmax_cross_entropy)
    right = fn.accuracy(fn.predict(net, held_out.x, fn.Multiclass()), held_out.y)
print(f"minus the logarithm of a tenth: {-np.log(0.1):.2f}")
print(f"loss before learning: {loss:.2f}, share of right answers: {right:.3f}")

# %% [markdown]
"""```text
Dense(weight=float32 (64, 100), bias=float32 (100,))
ReLU()
Dense(weight=float32 (100, 200), bias=float32 (200,))
ReLU()
Dense(weight=float32 (200, 10), bias=float32 (10,))
minus the logarithm of a tenth: 2.30
loss before learning: 2.30, share of right answers: 0.092
```

## Training

A training step takes a *minibatch* of 32 images, computes the mean loss and its gradient, and does one step of
gradient descent with the learning rate 0.1. An *epoch* is a sequence of such steps that uses each image once, in a
new random order. The post trains for 25 epochs, and so does this part.

In funcnet, a step is a value, and an epoch is a *fold*: it starts with the network, applies the step to one minibatch
after the other, and returns the trained network. `fn.portable()` selects an arithmetic that gives the same digits on
every computer with the usual kind of processor (see part 6). The numbers below are therefore the numbers that you
get.
"""

# %%
step = fn.sgd_step(fn.softmax_cross_entropy, learning_rate=0.1)
print("learning rate", step.learning_rate)
losses: list[float] = []
train_accuracy: list[float] = []
held_out_accuracy: list[float] = []
with fn.portable():
    for epoch in range(25):
        batches = fn.minibatches(train.x, train.y, batch_size=32, key=key.child("shuffle", epoch))
        net, log = fn.train_epoch(step, net, batches)
        losses.append(log.mean_loss)
        train_accuracy.append(fn.accuracy(fn.predict(net, train.x, fn.Multiclass()), train.y))
        held_out_accuracy.append(fn.accuracy(fn.predict(net, held_out.x, fn.Multiclass()), held_out.y))
        if epoch % 6 == 0:
            print(f"epoch {epoch:2}: loss {losses[-1]:.3f}, right {train_accuracy[-1]:.3f}, ", end="")
            print(f"held out {held_out_accuracy[-1]:.3f}")

# %% [markdown]
"""```text
learning rate 0.1
epoch  0: loss 1.788, right 0.828, held out 0.822
epoch  6: loss 0.155, right 0.971, held out 0.964
epoch 12: loss 0.081, right 0.978, held out 0.967
epoch 18: loss 0.053, right 0.994, held out 0.975
epoch 24: loss 0.036, right 0.999, held out 0.972
```

After the last epoch, nearly all images of the training set are classified correctly, and a share of 0.972 of the
validation set. The gap between the two comes from *overfitting*: the network has memorized details of the training
images that do not help with new ones. The validation accuracy fluctuates from epoch to epoch, because one image more
or less changes it by 0.003.
"""

# %%
epochs = range(1, len(losses) + 1)
figure, (left, right_half) = plt.subplots(1, 2, figsize=(8, 3.6))
left.plot(epochs, losses)
left.set(xlabel="epoch", ylabel="mean loss, log scale", yscale="log", title="Loss")
right_half.plot(epochs, train_accuracy, label="training set")
right_half.plot(epochs, held_out_accuracy, label="validation set")
right_half.set(xlabel="epoch", ylabel="accuracy", title="Accuracy", ylim=(0.8, 1.01))
right_half.legend(loc="lower right")
for axes in (left, right_half):
    axes.grid(visible=True, alpha=0.4)
figure.tight_layout()
figure.savefig(FIGURES / "part_4_curves.png", dpi=120)

# %% [markdown]
"""## What the first layer detects

Each of the 100 neurons of the first layer has 64 weights, one for each pixel, so its weights form an image, too. Ink
where the image is red increases the neuron's output, and ink where it is blue decreases it. The picture shows the 24
neurons with the largest weights. They detect strokes and gaps, in places that distinguish one digit from another. The
network learned these *features* from the data alone.
"""

# %%
first = net[0]
assert isinstance(first, fn.Dense)
strength = np.abs(first.weight).max(axis=0)
strongest = np.argsort(strength)[::-1][:24]
largest = float(strength.max())
figure, grid = plt.subplots(3, 8, figsize=(8, 3.9))
for axes, neuron in zip(grid.ravel(), strongest.tolist(), strict=True):
    axes.imshow(first.weight[:, neuron].reshape(8, 8), cmap="RdBu_r", vmin=-largest, vmax=largest)
    axes.set_title(f"neuron {neuron}", fontsize=9)
    axes.set_axis_off()
figure.suptitle("First-layer weights as images: the 24 neurons with the largest weights")
figure.subplots_adjust(left=0.02, right=0.86, top=0.84, bottom=0.03, hspace=0.35)
figure.colorbar(grid[0, 0].images[0], cax=figure.add_axes((0.88, 0.1, 0.02, 0.7)), label="weight")
figure.savefig(FIGURES / "part_4_weights.png", dpi=120)

# %% [markdown]
"""## What the network misreads

The next program lists the digits of the validation set that the network classifies incorrectly. `predict_proba`
returns the probability of each digit, which shows how confident the network is.
"""

# %%
with fn.portable():
    shares = fn.predict_proba(net, held_out.x, fn.Multiclass())
answers = shares.argmax(axis=1)
wrong = np.flatnonzero(answers != held_out.y)
print(len(wrong), "of", len(answers), "misread")
for i in wrong[:3].tolist():
    truth, answer = held_out.y[i], answers[i]
    print(f"a {truth} read as {answer}: the {answer} got a share of {shares[i, answer]:.2f}, the {truth}", end=" ")
    print(f"{shares[i, truth]:.2f}")

# %% [markdown]
"""```text
10 of 359 misread
a 2 read as 1: the 1 got a share of 0.97, the 2 0.03
a 1 read as 8: the 8 got a share of 0.59, the 1 0.34
a 9 read as 8: the 8 got a share of 0.67, the 9 0.32
```
"""

# %%
figure, grid = plt.subplots(2, 5, figsize=(8, 4.4))
for axes, i in zip(grid.ravel(), wrong.tolist(), strict=False):
    axes.imshow(held_out.x[i].reshape(8, 8), cmap="gray_r")
    axes.set(xticks=[], yticks=[])
    axes.set_title(f"is {held_out.y[i]}, read as {answers[i]}\n(probability {shares[i, answers[i]]:.2f})", fontsize=9)
figure.suptitle("Digits of the validation set that the network misreads")
figure.tight_layout()
figure.savefig(FIGURES / "part_4_misread.png", dpi=120)

# %% [markdown]
"""Some of these digits are hard for people, too. Where the probability is near one half, the network is not confident.
For the 2 that it reads as a 1, it is confident and wrong.

Next, part 5: why the computation of a gradient and the update of a network are separate.
"""
