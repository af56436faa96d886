# %% [markdown]
"""# Part 4. The post's network, on digits.

funcnet grew from a blog post, "Neural networks from scratch". Its network has layers of 100, 200 and 10 neurons, one
output for each digit, with `ReLU` between the layers, and learns to read handwritten digits. This part trains the
same network on a small set of images that comes with scikit-learn.

Run it with: `python examples/tutorial/part_04_digits.py`
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
"""## The data

Each image has 8 by 8 pixels with values from 0 to 1. The network must say which of ten *classes*, the digits, an image
belongs to. The right class is the *label* of the image. Such a task is called *classification*. (The neuron of part 1
had to output a given number: this is *regression*.)

A fifth of the images is *held out*: the network never learns from them. They are the *validation set*; the others are
the *training set*. The *accuracy* is the share of right answers. On the validation set, it measures how well the
network *generalizes* to new images. On the training set, it also counts what the network has merely memorized. If you
choose hyperparameters by their validation accuracy, the best one is partly luck. A third part of the data, the *test
set*, then measures the final network, once. This part chooses nothing, so it needs no test set.
"""

# %%
digits = fn.datasets.load_digits()
key = fn.Key(4)
train, validation = fn.split(digits.x, digits.y, 0.2, key=key.child("split"))
print(len(digits.x), "images of", digits.x.shape[1], "pixels, with the labels", *digits.y[:5], "and so on")
print(len(train.x), "to learn from,", len(validation.x), "held out, each a share of", round(1 / len(validation.x), 3))

# %% [markdown]
"""```text
1797 images of 64 pixels, with the labels 0 1 2 3 4 and so on
1438 to learn from, 359 held out, each a share of 0.003
```

## From outputs to probabilities: softmax

A network for ten classes has ten outputs, the *logits*. They may be any numbers, and the largest one belongs to the
predicted class. How certain is the prediction? The *softmax* function turns logits into probabilities. It takes the
exponential of each logit, which is positive, and divides it by the sum of all exponentials:

`p[k] = exp(z[k]) / (exp(z[0]) + exp(z[1]) + ...)`

Here are three classes. Their logits are the natural logarithms of 1, 2 and 5, so that you can repeat the computation
with a pocket calculator: the exponentials are 1, 2 and 5, and their sum is 8.
"""


# %%
def softmax(logits: fn.Array) -> fn.Array:
    """The probability of each class. Shapes: logits (1, O), result (1, O)."""
    powers = np.exp(logits)
    probabilities: fn.Array = powers / powers.sum()
    return probabilities


logits = np.log(np.array([[1.0, 2.0, 5.0]]))
p = softmax(logits)
for k in range(3):
    print(f"class {k}: logit {logits[0, k]:.4f}, exponential {np.exp(logits[0, k]):.1f}, probability {p[0, k]:.3f}")

# %% [markdown]
"""```text
class 0: logit 0.0000, exponential 1.0, probability 0.125
class 1: logit 0.6931, exponential 2.0, probability 0.250
class 2: logit 1.6094, exponential 5.0, probability 0.625
```

## The loss: cross-entropy

Which loss fits probabilities? The *cross-entropy* is minus the logarithm of the probability of the right class:

`loss = -log(p[label])`

It is 0 if the network gives the right class the probability 1. It is large if the network is certain, and wrong.
"""

# %%
for label in range(3):
    print(f"if the label is {label}, the loss is -log({p[0, label]:.3f}) = {-np.log(p[0, label]):.4f}")

# %% [markdown]
"""```text
if the label is 0, the loss is -log(0.125) = 2.0794
if the label is 1, the loss is -log(0.250) = 1.3863
if the label is 2, the loss is -log(0.625) = 0.4700
```

## The gradient: probability minus one-hot

Training needs the derivative of the loss with respect to each logit. It takes four steps.

1. Call the sum of the exponentials `s`. Then `p[label]` is `exp(z[label]) / s`. The logarithm of a quotient is a
   difference, and the logarithm of `exp(z[label])` is `z[label]`. So `log(p[label])` is `z[label] - log(s)`, and the
   loss, which has the opposite sign, is `log(s) - z[label]`.
2. Take `log(s)` first. By the chain rule, its derivative with respect to `z[k]` is `1 / s` times the derivative of `s`.
   Only one term of `s` contains `z[k]`: the term `exp(z[k])`, which is its own derivative. The product is
   `exp(z[k]) / s`, and this is `p[k]`.
3. The derivative of `z[label]` with respect to `z[k]` is 1 if `k` is the label, and 0 if it is not. As a vector, these
   numbers are 0 everywhere except for a 1 at the label. This vector is called *one-hot*.
4. The derivative of the loss is the difference of the two: `p[k] - onehot[k]`.

The gradient is what the network says minus what it should say. Here are the numbers for the label 2. The last column
measures the slope by central differences, as in part 3, with funcnet's own loss:
"""

# %%
labels = np.array([2])
onehot = fn.one_hot(labels, 3, dtype=np.float64)
measured = fn.numerical_gradient(lambda z: fn.softmax_cross_entropy(z, labels)[0], logits)
print("class  probability  one-hot  difference  measured slope")
for k in range(3):
    difference = p[0, k] - onehot[0, k]
    print(f"{k:5}  {p[0, k]:11.3f}  {onehot[0, k]:7.0f}  {difference:10.3f}  {measured[0, k]:14.6f}")
loss, gradient = fn.softmax_cross_entropy(logits, labels)
print(f"fn.softmax_cross_entropy: loss {loss:.4f}, gradient {gradient.round(6).tolist()}")

# %% [markdown]
"""```text
class  probability  one-hot  difference  measured slope
    0        0.125        0       0.125        0.125000
    1        0.250        0       0.250        0.250000
    2        0.625        1      -0.375       -0.375000
fn.softmax_cross_entropy: loss 0.4700, gradient [[0.125, 0.25, -0.375]]
```

The three differences add up to 0: gradient descent raises the logit of the right class, and lowers the others, those
with a large probability most. The loss of a batch is the *mean* over its examples, so with two examples, each gets half
of its gradient. The second example below has the logits of 1, 1 and 2, and the label 0:
"""

# %%
two = np.log(np.array([[1.0, 2.0, 5.0], [1.0, 1.0, 2.0]]))
loss, gradient = fn.softmax_cross_entropy(two, np.array([2, 0]))
print(f"mean of {-np.log(5 / 8):.4f} and {-np.log(1 / 4):.4f}: {loss:.4f}")
print("first example, halved: ", gradient[0].round(6).tolist())
print("second example, halved:", gradient[1].round(6).tolist())

# %% [markdown]
"""```text
mean of 0.4700 and 1.3863: 0.9281
first example, halved:  [0.0625, 0.125, -0.1875]
second example, halved: [-0.375, 0.125, 0.25]
```

## The network

The network has 64 inputs, one for each pixel, and 10 logits, one for each digit. `fn.mlp` makes such a *multilayer
perceptron*. Its *initialization* draws the weights at random, because equal neurons would stay equal, and sets the
biases to 0. A network does not know what its outputs mean. `fn.Multiclass()` tells `fn.predict` that they are the
logits of classes, and that the answer is the class with the largest one.

How large is the loss of an untrained network? It gives each digit a probability near a tenth, and minus the logarithm
of a tenth is 2.30.
"""

# %%
start = fn.mlp(key.child("init"), (64, 100, 200, 10))
for layer in start:
    print(layer)
with fn.portable():
    loss = fn.evaluate(start, train.x, train.y, fn.softmax_cross_entropy)
    accuracy = fn.accuracy(fn.predict(start, validation.x, fn.Multiclass()), validation.y)
print(f"minus the logarithm of a tenth: {-np.log(0.1):.2f}")
print(f"loss before learning: {loss:.2f}, validation accuracy: {accuracy:.3f}")

# %% [markdown]
"""```text
Dense(weight=float32 (64, 100), bias=float32 (100,))
ReLU()
Dense(weight=float32 (100, 200), bias=float32 (200,))
ReLU()
Dense(weight=float32 (200, 10), bias=float32 (10,))
minus the logarithm of a tenth: 2.30
loss before learning: 2.30, validation accuracy: 0.092
```

## Training

A training step takes a *minibatch* of 32 images, computes the mean loss and its gradient, and does one step of
gradient descent with the learning rate 0.1. An *epoch* is a sequence of such steps that uses each image once, in a
new random order. Each minibatch is a random sample, so its gradient is a random estimate of the gradient for all
images. Therefore the method is called *stochastic* gradient descent. The post trains for 25 epochs, and so does this
part.

In funcnet, a step is a value, and an epoch is a *fold*: it starts with the network, applies the step to one minibatch
after the other, and returns the trained network. `fn.portable()` selects an arithmetic that gives the same digits on
every computer (see part 8). The numbers below are therefore the numbers that you get. While the program runs, `tqdm`
shows a bar with the progress, the loss and the validation accuracy. (The printed loss is the mean over the minibatches
of an epoch, and the two accuracies are measured after it.)
"""

# %%
step = fn.sgd_step(fn.softmax_cross_entropy, learning_rate=0.1)
print("learning rate", step.learning_rate)
net = start
logs: list[fn.EpochLog] = []
train_accuracy: list[float] = []
validation_accuracy: list[float] = []
with fn.portable():
    progress = tqdm(range(1, 26), unit="epoch")
    for epoch in progress:
        batches = fn.minibatches(train.x, train.y, batch_size=32, key=key.child("shuffle", epoch))
        net, log = fn.train_epoch(step, net, batches)
        logs.append(log)
        train_accuracy.append(fn.accuracy(fn.predict(net, train.x, fn.Multiclass()), train.y))
        validation_accuracy.append(fn.accuracy(fn.predict(net, validation.x, fn.Multiclass()), validation.y))
        progress.set_postfix(loss=log.mean_loss, validation=validation_accuracy[-1])
for epoch in range(1, 26, 6):
    print(f"epoch {epoch:2}: loss {logs[epoch - 1].mean_loss:.3f}, accuracy {train_accuracy[epoch - 1]:.3f}", end=", ")
    print(f"validation {validation_accuracy[epoch - 1]:.3f}")

# %% [markdown]
"""```text
learning rate 0.1
epoch  1: loss 1.783, accuracy 0.836, validation 0.844
epoch  7: loss 0.150, accuracy 0.961, validation 0.958
epoch 13: loss 0.081, accuracy 0.987, validation 0.967
epoch 19: loss 0.054, accuracy 0.994, validation 0.972
epoch 25: loss 0.038, accuracy 0.999, validation 0.972
```

After the last epoch, nearly all images of the training set are classified correctly, and a share of 0.972 of the
validation set. The gap between the two comes from *overfitting*: the network has memorized details of the training
images that do not help with new ones. Part 7 shows what helps against it. The validation accuracy fluctuates from epoch
to epoch: one image more or less changes it by 0.003.
"""

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.6))
fn.plots.learning_curves(logs, axes=left)
left.set_title("Loss")
fn.plots.learning_curves(
    {"training set": train_accuracy, "validation set": validation_accuracy}, scale="linear", axes=right
)
right.set(ylabel="accuracy", title="Accuracy", ylim=(0.8, 1.01))
figure.tight_layout()
figure.savefig(FIGURES / "part_04_curves.png", dpi=120)

# %% [markdown]
"""## What the first layer has learned

Each of the 100 neurons of the first layer has 64 weights, one for each pixel, so its weights form an image, too. The
weights themselves look like noise. They began as random numbers, and training changed them less than that:
"""

# %%
before, after = fn.trained_arrays(start)[0], fn.trained_arrays(net)[0]
change = after - before
print(f"the first weights have a typical size of {np.sqrt((before * before).mean()):.3f}", end=", ")
print(f"and their changes one of {np.sqrt((change * change).mean()):.3f}")

# %% [markdown]
"""```text
the first weights have a typical size of 0.110, and their changes one of 0.059
```

The *changes* show what the neurons have learned. The picture has the 24 neurons with the largest ones. Ink where the
image is red increases the neuron's output more than before, and ink where it is blue decreases it. Some images show a
piece of a stroke, with the opposite color beside it. Many others have no shape that has a name. At the left and right
edges, pixels rarely have ink, so their weights have hardly changed. The outputs of the hidden neurons are features,
too: the network has made them from the pixels, and the next layer computes with them.
"""

# %%
strongest = np.argsort(np.abs(change).max(axis=0))[::-1][:24]
figure = plt.figure(figsize=(8, 3.7))
fn.plots.weight_images(change[:, strongest], shape=(8, 8), figure=figure)
figure.axes[-1].set_ylabel("change of the weight")
figure.suptitle("How training changed the weights of 24 neurons of the first layer")
figure.savefig(FIGURES / "part_04_weights.png", dpi=120)

# %% [markdown]
"""## What the network misreads

The next program lists the digits of the validation set that the network classifies incorrectly. `predict_proba`
returns the probability of each digit, which shows how confident the network is.
"""

# %%
with fn.portable():
    probabilities = fn.predict_proba(net, validation.x, fn.Multiclass())
answers = probabilities.argmax(axis=1)
wrong = np.flatnonzero(answers != validation.y)
print(len(wrong), "of", len(answers), "misread")
for i in wrong[:3].tolist():
    truth, answer = validation.y[i], answers[i]
    print(f"a {truth} read as {answer}: the {answer} has the probability {probabilities[i, answer]:.2f}", end=", ")
    print(f"the {truth} {probabilities[i, truth]:.2f}")

# %% [markdown]
"""```text
10 of 359 misread
a 2 read as 1: the 1 has the probability 0.92, the 2 0.08
a 1 read as 8: the 8 has the probability 0.68, the 1 0.19
a 9 read as 8: the 8 has the probability 0.75, the 9 0.23
```
"""

# %%
figure = plt.figure(figsize=(8, 4))
fn.plots.misclassified(net, validation.x, validation.y, figure=figure)
figure.suptitle("Digits of the validation set that the network misreads")
figure.savefig(FIGURES / "part_04_misread.png", dpi=120)

# %% [markdown]
"""Some of these digits are hard for people, too. With a probability of 0.68, the network is not sure of its answer.
With 0.92, for the 2 that it reads as a 1, it is confident and wrong.

## The fingerprint

A *fingerprint* is a hash: 64 hexadecimal digits that are computed from every bit of a network. Two networks with the
same fingerprint are equal, and a change of a single bit gives another fingerprint.
"""

# %%
print("fingerprint", fn.fingerprint(net))

# %% [markdown]
"""```text
fingerprint a1f0bd8988a744be3e95bd7342ddfbc0b6739a2d5372958095bc8de23c91c4c0
```

This is the same on every machine: after 25 epochs, all parameters agree with yours in every bit. The page in the
[browser](../browser) trains the network of this part and compares your fingerprint with this one.

## Exercises

Each cell below has a gap. Fill it and run the cell: its last line says whether your solution is right. Solutions are in
`part_04_solutions.py`.

**Exercise 1.** Write softmax cross-entropy for a batch: the mean loss, and its gradient with respect to the logits. The
labels are one-hot rows. Your function must also work for logits such as 1000, whose exponential is too large for a
floating-point number. What happens to `log(s) - z[label]` if you subtract the same number from all logits?
"""


# %% Exercise 1
def cross_entropy(logits: fn.Array, onehot: fn.Array) -> tuple[float, fn.Array] | None:
    """The mean loss and its gradient. Shapes: logits (B, O), onehot (B, O), gradient (B, O)."""
    return None  # your lines here


# The check of exercise 1.
def agrees_for(logits: fn.Array) -> bool:
    """Whether the loss and its gradient are those of funcnet."""
    labels = np.arange(len(logits)) % logits.shape[1]
    found = cross_entropy(logits, fn.one_hot(labels, logits.shape[1], dtype=np.float64))
    loss, gradient = fn.softmax_cross_entropy(logits, labels)
    return found is not None and np.allclose(found[0], loss) and np.allclose(found[1], gradient)


draws = fn.random.normal(fn.Key(0), (5, 3))
with np.errstate(all="ignore"):
    small, large = agrees_for(draws), agrees_for(1000 * draws)
print("Exercise 1:", "solved" if small and large else f"not solved yet (small logits: {small}, large: {large})")

# %% [markdown]
"""**Exercise 2.** Sometimes people do not agree on a label. Let `target` be the share of people who chose each class.
The loss is then the sum of `-target[k] * log(p[k])` over the classes. Change the four steps above: what is the gradient
for the logits of this part and the target below? Do it on paper.
"""

# %% Exercise 2
target = np.array([[0.25, 0.25, 0.5]])
answer_2 = (0.0, 0.0, 0.0)  # your answer here

# The check of exercise 2.
slopes = fn.numerical_gradient(lambda z: -float((target * np.log(softmax(z))).sum()), logits)
print("Exercise 2:", "solved" if np.allclose(answer_2, slopes[0], atol=1e-6) else "not solved yet")

# %% [markdown]
"""**Exercise 3.** Why are the first weights random? `fn.map_parameters(np.zeros_like, start)` returns the same network
with all parameters 0. Train it for two epochs, with the step and the minibatches of this part. Guess first: how many of
the 28710 parameters change? Then count.
"""

# %% Exercise 3
changed = 28710  # your lines here

# The check of exercise 3.
print("Exercise 3:", "solved" if fn.fingerprint(int(changed)).startswith("608dad6e") else "not solved yet")

# %% [markdown]
"""Next, part 5: why the computation of a gradient and the update of a network are separate.
"""
