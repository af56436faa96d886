"""Plots: what is drawn, compared with values computed independently; pure functions; clear errors."""

# matplotlib's keyword arguments have no types:
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from statistics import fmean
from typing import Any, cast

import numpy as np
import pytest
from networks import inputs

import funcnet as fn

mpl: Any = pytest.importorskip("matplotlib", reason="matplotlib is not installed")

from matplotlib.axes import Axes  # noqa: E402  # it needs matplotlib
from matplotlib.figure import Figure  # noqa: E402

KEY = fn.Key(0)
x = inputs(fn.Key(1), 60, 2, dtype=np.float32)
ids = (x[:, 0] > 0.2).astype(np.int64) + (x[:, 1] > 0.5)
binary = (x[:, 0] > 0.2).astype(np.float32)
two = fn.mlp(KEY, (2, 8, 2))
three = fn.mlp(KEY, (2, 8, 3), activation=fn.ReLU())
images = inputs(fn.Key(2), 12, 4, dtype=np.float32)
guess, truth = np.array([0, 2, 2, 1, 0]), np.array([0, 1, 2, 1, 2])
scores, flags = np.array([0.1, 0.4, 0.35, 0.8]), np.array([0, 0, 1, 1])


def fitted(seed: int, epochs: int) -> fn.Fit[Any]:
    """A run with validation."""
    key = fn.Key(seed)
    *_, run = fn.fit(
        fn.sgd_step(fn.softmax_cross_entropy, learning_rate=1.0),
        fn.Fit.create(fn.mlp(key, (2, 4, 3))),
        lambda epoch: fn.minibatches(x, ids, 10, key=key.child("shuffle", epoch)),
        lambda net: fn.evaluate(net, x[:20], ids[:20], fn.softmax_cross_entropy),
        epochs=epochs,
    )
    return run


run = fitted(0, 4)
AXES: dict[str, Callable[..., Figure]] = {
    "learning_curves": partial(fn.plots.learning_curves, {"a": run, "b": [[1.0, 0.5], [2.0]]}),
    "learning_rates": partial(fn.plots.learning_rates, fn.step_decay(0.8, step_size=2, gamma=0.5), 5),
    "confusion_matrix": partial(fn.plots.confusion_matrix, guess, truth),
    "roc_curve": partial(fn.plots.roc_curve, scores, flags),
    "decision_boundary": partial(fn.plots.decision_boundary, three, x, ids),
    "network_diagram": partial(fn.plots.network_diagram, three, (2,)),
}
PANELS: dict[str, Callable[..., Figure]] = {
    "weight_images": partial(fn.plots.weight_images, fn.dense(KEY, 4, 3)),
    "misclassified": partial(fn.plots.misclassified, fn.dense(KEY, 4, 3), images, np.arange(12) % 3),
}
PLOTS: dict[str, Callable[..., Figure]] = {
    **AXES,
    **PANELS,
    "layer_statistics": partial(fn.plots.layer_statistics, three, x, ids, fn.softmax_cross_entropy),
}
every_plot = pytest.mark.parametrize("name", PLOTS)


def first(figure: Figure) -> Any:
    """The first axes of a figure."""
    return figure.axes[0]


def texts(figure: Figure) -> list[str]:
    """The texts of the first axes."""
    return [text.get_text() for text in first(figure).texts]


def png(figure: Figure) -> bytes:
    """The picture that a notebook shows."""
    return cast("bytes", cast("Any", figure)._repr_png_())  # what IPython calls


# ------------------------------------------------------------------------------------------------- every plot


def test_every_plot_is_tested() -> None:
    """The table has each public function, and the module shows these alone."""
    assert sorted(PLOTS) == fn.plots.__all__ == dir(fn.plots)
    assert all("Example:" in (getattr(fn.plots, name).__doc__ or "") for name in PLOTS)


@every_plot
def test_a_plot_is_a_function_of_its_arguments(name: str) -> None:
    """Two calls draw the same pixels in different figures, 800 pixels wide, and change no setting of matplotlib."""
    before = dict(mpl.rcParams)
    one, other = PLOTS[name](), PLOTS[name]()
    assert one is not other
    assert png(one) == png(other)
    assert png(one)[:4] == b"\x89PNG"
    assert one.get_size_inches()[0] * one.dpi == 800
    assert dict(mpl.rcParams) == before


@every_plot
def test_a_plot_has_a_title_and_labels(name: str) -> None:
    """Axes that are shown have a label for each direction, or names at their rows."""
    figure = PLOTS[name]()
    shown = [axes for axes in figure.axes if axes.axison and axes.get_label() != "<colorbar>"]
    assert all(axes.get_title() for axes in shown)
    assert all(axes.get_xlabel() for axes in shown)
    assert all(axes.get_ylabel() or "layer" in name for axes in shown)
    assert cast("Any", figure).get_suptitle() if name in PANELS else first(figure).get_title()


@every_plot
def test_a_plot_draws_on_what_is_given(name: str) -> None:
    """It returns the figure that has the axes, also those of a part of it, and changes nothing else."""
    figure = Figure()
    left, right = cast("Any", figure.subfigures(1, 2))
    others = right.subplots(3, 1)
    before = png_of(figure, others)
    if name in PANELS:
        given = PLOTS[name](figure=left)
    else:
        axes = left.subplots(1, 2 if name == "layer_statistics" else 1)
        given = PLOTS[name](axes=axes)
        assert figure.axes == [*others, *np.atleast_1d(axes)]
        assert all(each.has_data() or each.texts for each in np.atleast_1d(axes))
    assert given is figure
    assert left.axes
    assert png_of(figure, others) == before


def png_of(figure: Figure, axes: Any) -> list[object]:
    """Where the axes are and what they show."""
    figure.canvas.draw()
    return [(each.get_position().bounds, len(each.get_children()), each.get_xlim(), each.get_title()) for each in axes]


@pytest.mark.slow
def test_pyplot_is_never_imported() -> None:
    """Neither by ``import funcnet``, which leaves matplotlib alone, nor by a plot or the picture of a notebook."""
    program = (
        "import sys, funcnet as fn\n"
        "assert 'matplotlib' not in sys.modules\n"
        "fn.plots.learning_curves([1.0, 0.5])._repr_png_()\n"
        "fn.plots.weight_images(fn.dense(fn.Key(0), 4, 3))._repr_png_()\n"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


# ---------------------------------------------------------------------------------------------------- curves


def test_a_fit_shows_its_losses_its_validation_and_its_best_epoch() -> None:
    """Epochs count from 1; the best one is marked on the curve that decided it."""
    training, validation, best = first(fn.plots.learning_curves(run)).lines
    np.testing.assert_array_equal(training.get_xydata(), [[1 + i, loss] for i, loss in enumerate(run.losses)])
    np.testing.assert_array_equal(validation.get_xydata(), [[1 + i, value] for i, value in enumerate(run.values)])
    assert run.best_epoch is not None
    assert best.get_xydata().tolist() == [[run.best_epoch + 1, min(run.values)]]
    assert best.get_label() == f"best epoch: {run.best_epoch + 1}"
    assert training.get_linestyle() != validation.get_linestyle()
    alone = fn.Fit(state=0, best=0, best_epoch=1, losses=(2.0, 1.0, 3.0))
    assert first(fn.plots.learning_curves(alone)).lines[1].get_xydata().tolist() == [[2, 1.0]]


def test_the_logs_of_train_are_a_run() -> None:
    """The curve has the mean loss of each log."""
    logs = [fn.EpochLog(np.array([3.0, 1.0])), fn.EpochLog(np.array([1.0, 2.0]), np.array([3.0, 1.0]))]
    axes = first(fn.plots.learning_curves({"plain": logs}, scale="linear"))
    assert axes.lines[0].get_ydata().tolist() == [2.0, 1.25]
    assert (axes.get_yscale(), axes.lines[0].get_label()) == ("linear", "plain")


def test_several_runs_are_a_mean_and_a_band() -> None:
    """At each epoch, both are those of the runs that reached it."""
    several = [fitted(1, 3), fitted(2, 5), fitted(3, 3)]
    axes = first(fn.plots.learning_curves({"three": several, "one": [0.5, 0.25]}))
    reached = [[each.losses[i] for each in several if i < each.epoch] for i in range(5)]
    np.testing.assert_allclose(axes.lines[0].get_ydata(), [fmean(losses) for losses in reached], rtol=1e-12)
    outline = axes.collections[0].get_paths()[0].vertices
    for i, losses in enumerate(reached):
        heights = outline[outline[:, 0] == i + 1, 1]
        assert {*heights} == {min(losses), max(losses)}
    assert axes.lines[0].get_label() == "three, training, mean and range of 3 runs"
    assert axes.lines[2].get_label() == "one"
    assert axes.get_xlim() == (0.5, 5.5)
    assert axes.lines[0].get_marker() != axes.lines[2].get_marker()
    for each, losses in zip(shared := Figure().subplots(1, 2, sharex=True), ([1.0] * 9, [1.0]), strict=True):
        fn.plots.learning_curves(losses, axes=each)
    assert shared[0].get_xlim() == (0.5, 9.5)


def test_a_learning_rate_is_that_of_each_update() -> None:
    """The same for a schedule and for an optimizer with it."""
    rate = fn.cosine_decay(0.5, steps=8)
    for each in (rate, fn.WeightDecay(fn.Momentum(learning_rate=rate), 0.1)):
        drawn = first(fn.plots.learning_rates(each, 10)).lines[0].get_xydata()
        assert drawn.tolist() == [[step, rate(step)] for step in range(10)]


# --------------------------------------------------------------------------------------------- classification


def test_a_confusion_matrix_counts_the_pairs() -> None:
    """A row per true class; a share divides by the row, and a row without labels stays 0."""
    pairs = list(zip(truth.tolist(), guess.tolist(), strict=True))
    counts = [[pairs.count((row, column)) for column in range(4)] for row in range(4)]
    axes = first(fn.plots.confusion_matrix(guess, truth, names=["a", "b", "c", "none"]))
    assert axes.images[0].get_array().tolist() == counts
    assert [text.get_text() for text in axes.texts] == [str(count) for row in counts for count in row]
    assert axes.texts[4].get_position() == (0, 1)
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b", "c", "none"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted class", "true class")
    assert "accuracy 0.6000" in axes.get_title()
    shares = first(fn.plots.confusion_matrix(guess, truth, normalize=True)).images[0].get_array()
    assert shares.tolist() == [[1, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5]]
    assert texts(fn.plots.confusion_matrix(guess > 0, truth > 0)) == ["1", "0", "1", "3"]
    assert not texts(fn.plots.confusion_matrix(np.arange(31), np.arange(31)))


def test_a_roc_curve_has_its_area() -> None:
    """The label has the area under the drawn line."""
    axes = first(fn.plots.roc_curve({"good": scores, "bad": -scores}, flags))
    _, good, bad = axes.lines
    assert [line.get_label() for line in (good, bad)] == ["good, area 0.750", "bad, area 0.250"]
    points = good.get_xydata().tolist()
    assert sum((b[0] - a[0]) * (a[1] + b[1]) / 2 for a, b in pairwise(points)) == 0.75
    assert points[1:3] == [[0.0, 0.5], [0.5, 0.5]]


# ------------------------------------------------------------------------------------------------- boundaries


def test_the_shade_is_the_probability_and_the_line_is_the_boundary() -> None:
    """For a line that is known: the logit is 4 (x0 - 0.5), as one logit or as two."""
    one = fn.Dense(weight=np.array([[4.0], [0.0]]), bias=np.array([-2.0]))
    pair = fn.Dense(weight=np.array([[0.0, 4.0], [0.0, 0.0]]), bias=np.array([0.0, -2.0]))
    points = np.array([[0.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    for net, y in ((one, np.array([[0.0], [1.0], [0.0]])), (one, np.array([False, True, False])), (pair, flags[1:])):
        axes = first(fn.plots.decision_boundary(net, points, y, extent=(-1, 1, 0, 2)))
        image = axes.images[0]
        across = -1 + (np.arange(200) + 0.5) / 100
        wanted = [1 / (1 + np.exp(2 - 4 * place)) for place in across]
        np.testing.assert_allclose(image.get_array(), np.tile(wanted, (200, 1)), rtol=1e-12)
        assert image.get_extent() == [-1, 1, 0, 2] or tuple(image.get_extent()) == (-1, 1, 0, 2)
        boundary = axes.collections[0].get_paths()[0].vertices
        np.testing.assert_allclose(boundary[:, 0], 0.5)
        assert np.ptp(boundary[:, 1]) > 1.98
        assert axes.get_xlim() == (-1, 1)
        assert len(axes.child_axes) == 1
        assert not first(fn.plots.decision_boundary(net, points, y, bar=False)).child_axes


def test_more_classes_are_regions_with_a_mark_each() -> None:
    """The color is that of the most probable class, and each point is drawn once, with the mark of its class."""
    axes = first(fn.plots.decision_boundary(three, x, ids))
    left, right, bottom, top = axes.images[0].get_extent()
    across, up = (low + (np.arange(200) + 0.5) / 200 * (high - low) for low, high in ((left, right), (bottom, top)))
    grid = np.array([[a, b] for b in up for a in across], np.float32)
    predicted = fn.predict(three, grid, fn.Multiclass()).reshape(200, 200)
    colors = axes.images[0].get_array()
    strongest = {0: 2, 1: 0, 2: 1}  # blue, orange and green have most of one part of red, green and blue
    assert set(np.unique(predicted)) > {0}
    for k in np.unique(predicted).tolist():
        assert (colors[predicted == k].argmax(axis=-1) == strongest[k]).all()
    assert len(axes.collections) == len(np.unique(predicted))
    for k, points in enumerate(axes.lines):
        np.testing.assert_array_equal(points.get_xydata(), x[ids == k])
        assert points.get_label() == f"class {k}"
    assert len({points.get_marker() for points in axes.lines}) == 3
    assert left < x[:, 0].min()
    assert x[:, 1].max() < top


# ----------------------------------------------------------------------------------------------------- images


def test_weights_are_images_on_one_scale_around_zero() -> None:
    """A unit of Dense is a column of the weight; a filter of Conv2D has an image for each channel."""
    layer = fn.dense(KEY, 6, 5)
    figure = fn.plots.weight_images(layer, shape=(2, 3), count=4)
    shown = [axes.images[0] for axes in figure.axes[:4]]
    largest = np.abs(layer.weight[:, :4]).max()
    for o, image in enumerate(shown):
        np.testing.assert_array_equal(image.get_array(), layer.weight[:, o].reshape(2, 3))
        assert image.get_clim() == (-largest, largest)
    assert cast("Any", figure).get_suptitle() == "Weights of 4 of 5 units"
    kernels = fn.conv2d(KEY, 2, 3, (4, 5))
    axes = fn.plots.weight_images(kernels.weight).axes
    assert [each.get_title() for each in axes[:3]] == ["0, channel 0", "0, channel 1", "1, channel 0"]
    for position in range(6):
        wanted = kernels.weight[:, :, position % 2, position // 2]
        np.testing.assert_array_equal(cast("Any", axes[position].images[0]).get_array(), wanted)
    assert fn.plots.weight_images(np.zeros((4, 1))).axes[0].images[0].get_clim() == (-1, 1)


def test_the_misclassified_rows_are_shown_in_their_order() -> None:
    """With both classes, under the count of all of them."""
    net, labels = fn.dense(KEY, 4, 3), np.arange(12) % 3
    predicted = fn.predict(net, images, fn.Multiclass())
    wrong = [i for i in range(12) if predicted[i] != labels[i]]
    figure = fn.plots.misclassified(net, images, labels, names=["a", "b", "c"], count=2)
    for axes, i in zip(figure.axes, wrong, strict=False):
        np.testing.assert_array_equal(cast("Any", axes.images[0]).get_array(), images[i].reshape(2, 2))
        assert axes.get_title() == f"predicted {'abc'[predicted[i]]},\nis {'abc'[labels[i]]}"
    assert len(figure.axes) == 2
    assert cast("Any", figure).get_suptitle() == f"{len(wrong)} of 12 misclassified, the first 2"
    assert cast("Any", fn.plots.misclassified(net, images, predicted)).get_suptitle() == "0 of 12 misclassified"
    colors = inputs(KEY, 4, 2, 2, 3, dtype=np.float32)
    judge = (fn.Flatten(), fn.dense(KEY, 12, 1))
    opposite = ~fn.predict(judge, colors, fn.Binary())
    shown = cast("Any", fn.plots.misclassified(judge, colors, opposite.astype(np.uint8)).axes[3].images[0]).get_array()
    low, high = colors.min(), colors.max()
    np.testing.assert_allclose(shown, (colors[3] - low) / (high - low), rtol=1e-5)


# ----------------------------------------------------------------------------------------------------- layers


def test_the_statistics_of_layers_are_those_of_the_pass() -> None:
    """Quantiles of the outputs, the share of units that are 0 in every row, and the norms of the gradients."""
    weight = np.array([[1.0, -1.0], [1.0, -1.0]])
    net = (fn.Dense(weight=weight, bias=np.zeros(2)), fn.ReLU(), fn.Dense(weight=np.eye(2), bias=None))
    rows = np.abs(x[:20]).astype(np.float64)
    left, right = cast("Any", fn.plots.layer_statistics(net, rows, ids[:20] // 2, fn.softmax_cross_entropy).axes)
    thin, thick = (np.array(lines.get_segments()) for lines in left.collections)
    for position, output in enumerate(fn.activations(net, rows)):
        np.testing.assert_allclose(thin[position, :, 0], np.quantile(output, [0.05, 0.95]))
        np.testing.assert_allclose(thick[position, :, 0], np.quantile(output, [0.25, 0.75]))
        assert left.lines[0].get_xydata()[position].tolist() == [np.median(output), position]
    assert [text.get_text() for text in left.texts] == ["0%", "50%", "50%", "dead\nunits"]
    _, grads = fn.value_and_grad(net, rows, ids[:20] // 2, fn.softmax_cross_entropy)
    arrays = cast("list[fn.Array]", [grads[0].weight, grads[0].bias, grads[2].weight])
    norms = [np.linalg.norm(each) for each in arrays]
    np.testing.assert_allclose([bar.get_width() for bar in right.patches], norms)
    assert right.get_xscale() == "log"
    assert [label.get_text() for label in right.get_yticklabels()] == ["0.weight", "0.bias", "2.weight"]
    low, high = right.get_xlim()
    assert low <= min(norms) < 10 * low
    assert high / 10 <= max(norms) < high


# --------------------------------------------------------------------------------------------------- diagrams


def test_a_diagram_has_a_box_for_each_layer_with_its_shape_and_size() -> None:
    """From the top to the bottom, joined by arrows, with the layers of a combinator inside its box."""
    inner = fn.dense(KEY, 4, 4), fn.Tanh()
    net = (
        fn.Residual(inner),
        fn.Parallel((fn.dense(KEY, 4, 3), fn.Identity()), "concat"),
        fn.Repeat(fn.dense(KEY, 7, 7), 3),
    )
    axes = first(fn.plots.network_diagram(net, (4,)))
    wanted = ["input\n(4,)", "0 Residual\n(4,)", "0.net.0 Dense\n(4,), 20 parameters", "0.net.1 Tanh\n(4,)"]
    wanted += ["1 Parallel (combine=concat)\n(7,)", "1.nets.0 Dense\n(3,), 15 parameters", "1.nets.1 Identity\n(4,)"]
    wanted += ["2 Repeat (times=3)\n(7,)", "2.net Dense\n(7,), 56 parameters"]
    assert [text.get_text() for text in axes.texts if len(text.get_text()) > 3] == wanted
    assert axes.get_title() == f"Network: {fn.summary(net, (4,)).trained} parameters"
    boxes = [patch.get_bbox() for patch in axes.patches]
    residual, dense, tanh, parallel, one, other = boxes[1:7]
    assert residual.x0 < dense.x0 < dense.x1 < residual.x1
    assert residual.y0 < tanh.y0 < tanh.y1 < dense.y0 < dense.y1 < residual.y1
    assert parallel.y1 < residual.y0
    assert one.y1 == other.y1
    assert parallel.x0 < one.x0 < one.x1 < other.x0 < other.x1 < parallel.x1
    ends = [(text.xy[1], text.get_position()[1]) for text in axes.texts if not text.get_text()]
    assert all(end < start for end, start in ends)
    assert len(ends) == 3 + (3 + 1) + 4 + 2  # between boxes; in Residual, and around it; in Parallel; in Repeat
    assert texts(fn.plots.network_diagram((), (4,))) == ["input\n(4,)"]


# ----------------------------------------------------------------------------------------------------- errors

training = (fn.Dropout(0.5), *two)
in_training = fn.training(training, KEY)
BAD: list[tuple[Callable[[], object], str]] = [
    (lambda: fn.plots.learning_curves(cast("Any", 3)), "learning_curves: a run must be a Fit, .* got int 3; use"),
    (lambda: fn.plots.learning_curves(cast("Any", [run, run])), r"several runs, \{'name': runs\}"),
    (lambda: fn.plots.learning_curves({}), "at least one run, got an empty mapping"),
    (lambda: fn.plots.learning_curves(fn.Fit.create(0)), "the number of epochs must be an int of at least 1, got 0"),
    (lambda: fn.plots.learning_curves({"a": [1.0, 0.0]}), "numbers above 0, got 0 in 'a'; use scale='linear'"),
    (lambda: fn.plots.learning_curves([1.0, float("nan")]), r"a run must be finite, got a run\[1\] = nan"),
    (lambda: fn.plots.learning_curves(run, scale=cast("Any", "logit")), "scale must be 'log' or 'linear', got 'logit'"),
    (lambda: fn.plots.learning_curves(run, axes=cast("Any", [1, 2])), "axes must be the Axes .* got list; use one"),
    (lambda: fn.plots.learning_rates(fn.constant(0.1), 0), "learning_rates: steps must be an int of at least 1, got 0"),
    (lambda: fn.plots.learning_rates(cast("Any", fn.Adam), 3), "must have a learning rate, got <class"),
    (lambda: fn.plots.confusion_matrix(guess, truth[:3]), r"confusion_matrix: predicted must have shape \(3,\)"),
    (lambda: fn.plots.confusion_matrix(guess, truth, names=["a", "b"]), r"labels must be in 0..1, got labels\[2\] = 2"),
    (lambda: fn.plots.confusion_matrix(guess, truth, names="abc"), "names must have one name for each of 3 classes"),
    (lambda: fn.plots.confusion_matrix(guess, truth, normalize=cast("Any", 1)), "normalize must be True or False"),
    (lambda: fn.plots.roc_curve({}, flags), "roc_curve: scores must have at least one array"),
    (lambda: fn.plots.roc_curve(scores, flags * 0), "zeros and ones"),
    (lambda: fn.plots.decision_boundary(in_training, x, ids), "decision_boundary needs the layer in its plain form"),
    (lambda: fn.plots.decision_boundary(two, images, ids), r"decision_boundary: x must have shape \(N, 2\), got"),
    (lambda: fn.plots.decision_boundary(two, x, ids), r"y must be in 0..1, got y\["),
    (
        lambda: fn.plots.decision_boundary(fn.dense(KEY, 2, 1), x, binary + 0.5),
        "y must be zeros and ones for one logit",
    ),
    (
        lambda: fn.plots.decision_boundary(three, x, ids, extent=(0, 1, 2, 1)),
        r"top must be a number in \(2, inf\), got 1",
    ),
    (lambda: fn.plots.decision_boundary(three, x, ids, extent=cast("Any", 3)), r"extent must be \(left, right, bottom"),
    (
        lambda: fn.plots.weight_images(cast("Any", two)),
        r"weights must be a Dense or Conv2D .*, got tuple; use .*net\[0\]",
    ),
    (lambda: fn.plots.weight_images(fn.dense(KEY, 6, 2)), r"shape must be \(rows, columns\) with 6 numbers to match"),
    (lambda: fn.plots.weight_images(fn.conv1d(KEY, 2, 3, 2)), r"weight_images: weights must have shape \(I, O\), got"),
    (lambda: fn.plots.weight_images(two[0], shape=(1, 2), count=0), "count must be an int of at least 1, got 0"),
    (
        lambda: fn.plots.weight_images(two[0], shape=(1, 2), figure=cast("Any", 1)),
        "must be a matplotlib Figure .* got int",
    ),
    (lambda: fn.plots.misclassified(fn.Flatten(), x[:, :, None], ids), "y must be in 0..1, got y"),
    (
        lambda: fn.plots.misclassified(fn.Identity(), x[:, None], ids),
        r"output must have shape \(N, O\), got \(60, 1, 2\)",
    ),
    (
        lambda: fn.plots.misclassified(in_training, x, ids, shape=(1, 2)),
        "misclassified needs the layer in its plain form",
    ),
    (lambda: fn.plots.misclassified(three, x, ids), r"shape must be .* with 2 numbers to match a row of x \(2,\)"),
    (lambda: fn.plots.misclassified(three, x, ids[:5], shape=(1, 2)), r"misclassified: y must have shape \(60,\)"),
    (lambda: fn.plots.layer_statistics(three, x, ids[:5], fn.softmax_cross_entropy), "labels"),
    (
        lambda: fn.plots.layer_statistics(
            three, x, ids, fn.softmax_cross_entropy, axes=cast("Any", Figure().subplots())
        ),
        "axes must be a pair of Axes",
    ),
    (lambda: fn.plots.network_diagram(two, (3,)), r"Dense \(layer 0\): x must have shape \(B, ..., 2\)"),
]


@pytest.mark.parametrize(("call", "message"), BAD, ids=[message[:40] for _, message in BAD])
def test_bad_arguments_have_clear_errors(call: Callable[[], object], message: str) -> None:
    """The error names the function or the layer, what it got, and a fix."""
    with pytest.raises(fn.FuncnetError, match=message):
        call()


@pytest.mark.parametrize("name", AXES)
def test_an_error_draws_nothing(name: str) -> None:
    """Arguments are checked before anything is drawn."""
    axes: Axes = Figure().subplots()
    bad: tuple[Any, ...] = {
        "learning_curves": ({"a": run, "b": [0.0]},),
        "learning_rates": (fn.constant(0.1), 0),
        "confusion_matrix": (guess, truth[:2]),
        "roc_curve": ({"good": scores, "bad": guess * 1.0}, flags),
        "decision_boundary": (three, x, ids + 1),
        "network_diagram": (three, (3,)),
    }[name]
    before = len(axes.get_children())
    with pytest.raises(fn.FuncnetError):
        getattr(fn.plots, name)(*bad, axes=axes)
    assert len(axes.get_children()) == before
    assert not axes.has_data()
