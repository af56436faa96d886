"""The Python part of the page: lessons that train a few epochs at a time, and the programs whose output is compared.

A lesson is data: a network, its examples and its settings. A run of a lesson is a value, and ``advance`` returns
the next one. ``worker.js`` calls the functions of the last section, which take and return JSON. The cells of the
tutorial run in ``cells.py``.
"""

from __future__ import annotations

import contextlib
import io
import json
import platform
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Any, Final

import numpy as np
from attrs import evolve, frozen
from numpy.typing import NDArray
from strokes import image_of

import funcnet as fn
from funcnet.arithmetic import Name, sum_rows
from funcnet.runs.selftest import REFERENCE, reference_run

Labels = NDArray[np.integer[Any]]
Sizes = tuple[int, ...]


@frozen(eq=False)
class Lesson:
    """A network to train, and what the page shows of it.

    Attributes:
        data: The training set. Shapes: x (N, I), y (N,).
        network: Returns the network at the start, for the sizes of its hidden layers.
        shuffle: Returns the key of an epoch's order.
        arithmetic: The arithmetic that trains and predicts.
        picture: Returns an image of a network, with values from -1 to 1.
        report: Returns the lines that the page prints for a run after its last epoch.
        extent: The smallest and the largest coordinate of the picture of a plane; None if it shows no plane.
    """

    data: fn.Batch[Labels]
    network: Callable[[Sizes], fn.Network]
    shuffle: Callable[[int], fn.Key]
    arithmetic: Name
    picture: Callable[[fn.Network], fn.Array]
    report: Callable[[Run], tuple[str, ...]]
    hidden: Sizes
    learning_rate: float
    batch_size: int
    epochs: int
    extent: tuple[float, float] | None = None


@frozen(eq=False)
class Run:
    """A lesson between two epochs: the network, the mean loss of each epoch, and the lines printed."""

    lesson: Lesson
    learning_rate: float
    net: fn.Network
    losses: tuple[float, ...] = ()
    lines: tuple[str, ...] = ()

    @property
    def epoch(self) -> int:
        """The number of epochs that are done."""
        return len(self.losses)


def begin(lesson: Lesson, hidden: Sequence[int] | None = None, learning_rate: float | None = None) -> Run:
    """Return a run before its first epoch; the lesson has the settings that are None."""
    net = lesson.network(lesson.hidden if hidden is None else tuple(hidden))
    run = Run(lesson, lesson.learning_rate if learning_rate is None else learning_rate, net)
    with fn.arithmetic.using(lesson.arithmetic):
        return evolve(run, lines=lesson.report(run))


def advance(run: Run, epochs: int) -> Run:
    """Train for some epochs, but not beyond the lesson's last one."""
    lesson = run.lesson
    step = fn.sgd_step(fn.softmax_cross_entropy, learning_rate=run.learning_rate)
    with fn.arithmetic.using(lesson.arithmetic):
        for epoch in range(run.epoch, min(run.epoch + epochs, lesson.epochs)):
            key = lesson.shuffle(epoch)
            batches = fn.minibatches(lesson.data.x, lesson.data.y, lesson.batch_size, key=key)
            net, log = fn.train_epoch(step, run.net, batches)
            run = evolve(run, net=net, losses=(*run.losses, log.mean_loss))
            run = evolve(run, lines=lesson.report(run))
    return run


def right(net: fn.Network, data: fn.Batch[Labels]) -> float:
    """The accuracy on a batch."""
    return fn.accuracy(fn.predict(net, data.x, fn.Multiclass()), data.y)


def plane(net: fn.Network, low: float, high: float, side: int = 61) -> fn.Array:
    """The probability of class 1 minus that of class 0, on a grid whose first row is the top. Shape: (side, side)."""
    across = np.linspace(low, high, side, dtype=np.float32)
    grid = np.stack(np.meshgrid(across, across[::-1]), axis=-1).reshape(-1, 2)
    probabilities = fn.predict_proba(net, grid, fn.Multiclass())
    return (probabilities[:, 1] - probabilities[:, 0]).reshape(side, side)


# ---------------------------------------------------------------------------- the README's network: exclusive or


def exclusive_or() -> Lesson:
    """The network of the README's first program."""
    key = fn.Key(42)
    x = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32)
    extent = (-0.5, 1.5)

    def report(run: Run) -> tuple[str, ...]:
        answers = fn.predict(run.net, x, fn.Multiclass())
        return (f"{answers} {round(run.losses[-1], 3)}" if run.losses else f"{answers}",)

    return Lesson(
        data=fn.Batch(x, np.array([0, 1, 1, 0])),
        network=lambda hidden: fn.mlp(key, (2, *hidden, 2)),
        shuffle=key.child,
        arithmetic="native",
        picture=lambda net: plane(net, *extent),
        report=report,
        hidden=(16,),
        learning_rate=0.5,
        batch_size=2,
        epochs=100,
        extent=extent,
    )


# --------------------------------------------------------------------- part 9 of the tutorial: a ring around a center


@frozen(eq=False)
class Bend(fn.Layer):
    """The tutorial's own layer: ``y = x + curve * x * x``. Shapes: x, y (B, I), curve (I,)."""

    curve: fn.Array


def bend_forward(params: Bend, x: fn.Array) -> fn.Array:
    """The input plus a multiple of its square."""
    return x + params.curve * x * x


def bend_backward(params: Bend, x: fn.Array, g: fn.Array) -> tuple[fn.Array, Bend]:
    """The gradients: ``dy/dx`` is ``1 + 2 * curve * x``, and ``dy/dcurve`` is ``x * x``."""
    return g * (1 + 2 * params.curve * x), evolve(params, curve=sum_rows(g * x * x))


fn.register_layer(Bend, forward=bend_forward, backward=bend_backward)


def points(count: int, key: fn.Key) -> fn.Batch[Labels]:
    """Points alternately from the center and from the ring around it."""
    kinds = np.arange(count) % 2
    directions = fn.random.normal(key.child("direction"), (count, 2))
    lengths = np.sqrt((directions * directions).sum(axis=1))
    near, far = fn.random.uniform(key.child("near"), (count,)), fn.random.uniform(key.child("far"), (count,))
    distances = np.where(kinds == 0, 0.9 * near, 1.2 + far)
    return fn.Batch((directions * (distances / lengths)[:, None]).astype(np.float32), kinds)


def ring() -> Lesson:
    """The network of part 9, with a layer that learns a curvature."""
    key = fn.Key(7)
    data, others = points(200, key), points(1000, key.child("others"))
    extent = (-2.4, 2.4)

    def network(hidden: Sizes) -> fn.Network:
        (size,) = hidden
        bend = Bend(curve=np.zeros(size, np.float32))
        return (fn.dense(key.child(2), 2, size), bend, fn.dense(key.child(3), size, 2))

    def report(run: Run) -> tuple[str, ...]:
        lines = run.lines
        if run.epoch in (0, 2, 4, 8, 16, 32):
            lines += (f"epoch {run.epoch}: training accuracy {right(run.net, data):.3f}",)
        if run.epoch == 32:
            curve = fn.trained_arrays(run.net)[2]
            lines += (f"test accuracy on 1000 points: {right(run.net, others):.3f}", f"curves {curve.round(2)}")
        return lines

    return Lesson(
        data=data,
        network=network,
        shuffle=lambda epoch: key.child("shuffle", epoch + 1),
        arithmetic="portable",
        picture=lambda net: plane(net, *extent),
        report=report,
        hidden=(4,),
        learning_rate=0.1,
        batch_size=20,
        epochs=32,
        extent=extent,
    )


# ----------------------------------------------------------------------------- part 4 of the tutorial: the digits


def weight_images(net: fn.Network) -> fn.Array:
    """The weights of the 24 strongest neurons of the first layer as images of 8 by 8 pixels, in 3 rows of 8."""
    weight = fn.trained_arrays(net)[0]
    strength = np.abs(weight).max(axis=0)
    picture = np.zeros((3 * 9 + 1, 8 * 9 + 1), np.float32)
    for place, neuron in enumerate(np.argsort(strength)[::-1][:24].tolist()):
        top, left = 9 * (place // 8) + 1, 9 * (place % 8) + 1
        picture[top : top + 8, left : left + 8] = weight[:, neuron].reshape(8, 8) / strength.max()
    return picture


def digits() -> Lesson:
    """The network of part 4, which reads handwritten digits."""
    images = fn.datasets.load_digits()
    key = fn.Key(4)
    train, held_out = fn.split(images.x, images.y, 0.2, key=key.child("split"))

    def report(run: Run) -> tuple[str, ...]:
        if run.epoch == 0:
            return (f"learning rate {run.learning_rate}",)
        if run.epoch % 6 != 1:
            return run.lines
        shares = f"accuracy {right(run.net, train):.3f}, validation {right(run.net, held_out):.3f}"
        lines = (*run.lines, f"epoch {run.epoch:2}: loss {run.losses[-1]:.3f}, {shares}")
        return (*lines, f"fingerprint {fn.fingerprint(run.net)}") if run.epoch == 25 else lines

    return Lesson(
        data=train,
        network=lambda hidden: fn.mlp(key.child("init"), (64, *hidden, 10)),
        shuffle=lambda epoch: key.child("shuffle", epoch + 1),
        arithmetic="portable",
        picture=weight_images,
        report=report,
        hidden=(100, 200),
        learning_rate=0.1,
        batch_size=32,
        epochs=25,
    )


LESSONS: Final = {"xor": exclusive_or, "ring": ring, "digits": digits}
"""The lessons by name. To add one, add its function here and its section to ``page.html``."""

# ----------------------------------------------------------------------------------------- what worker.js calls


def start(name: str, settings: str) -> Run:
    """Return a run of a lesson before its first epoch; the settings are JSON, with ``hidden`` and ``learning_rate``."""
    return begin(LESSONS[name](), **json.loads(settings))


def describe(run: Run) -> str:
    """What stays the same in a run: the lesson's settings, and its points if they lie in a plane."""
    lesson = run.lesson
    points: list[list[float]] = []
    if lesson.extent is not None:
        points = np.column_stack([lesson.data.x, lesson.data.y]).tolist()
    settings = {"hidden": lesson.hidden, "learning_rate": lesson.learning_rate}
    return json.dumps({"settings": settings, "epochs": lesson.epochs, "extent": lesson.extent, "points": points})


def drawing(run: Run) -> str:
    """What changes in a run: the losses, the picture in thousandths, and the printed lines."""
    picture = np.rint(1000 * run.lesson.picture(run.net)).astype(np.int64).tolist()
    return json.dumps({"losses": run.losses, "picture": picture, "printed": "\n".join(run.lines)})


def read(run: Run, given: str) -> str:
    """Return the image of some strokes, which are JSON, and the probability of each digit; in thousandths."""
    image = image_of(json.loads(given))
    with fn.arithmetic.using(run.lesson.arithmetic):
        probabilities = fn.predict_proba(run.net, image, fn.Multiclass())[0]
    picture = np.rint(1000 * image.reshape(8, 8)).astype(np.int64).tolist()
    return json.dumps({"picture": picture, "probabilities": np.rint(1000 * probabilities).astype(np.int64).tolist()})


def printed(program: str) -> str:
    """Run a program of the documentation, and return what it prints."""
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        code = compile(program, "program", "exec", dont_inherit=True)
        exec(code, {"__name__": "__main__"})  # noqa: S102  # a text of this project
    return output.getvalue()


def reference(arithmetic: Name) -> str:
    """Train the reference run of 300 steps; say its fingerprint, the committed one, and the seconds that it took."""
    reference_run(arithmetic, epochs=1)  # draws the data, which is kept
    begin = time.perf_counter()
    fingerprint = reference_run(arithmetic)
    return json.dumps(
        {"fingerprint": fingerprint, "expected": REFERENCE, "seconds": time.perf_counter() - begin},
    )


def versions() -> str:
    """The versions of everything in Python that computes."""
    found: dict[str, Any] = {name: version(name) for name in ("numpy", "funcnet")}
    return json.dumps({"python": platform.python_version(), "machine": platform.machine(), **found})
