"""Images: the weights of a layer, and the examples that a network gets wrong."""

# matplotlib's keyword arguments have no types:
# pyright: reportUnknownMemberType=false

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import cast

import numpy as np
from matplotlib.figure import Figure, SubFigure
from numpy.typing import NDArray

import funcnet as fn
from funcnet.core.checks import check_array, check_count, check_labels, check_plain, check_rows
from funcnet.network.passes import check_shape
from funcnet.plots.figures import classified, grid_of, names_of, root_of


def weight_images(
    weights: fn.Layer | fn.Array,
    *,
    shape: tuple[int, int] | None = None,
    count: int = 24,
    columns: int = 8,
    figure: Figure | SubFigure | None = None,
) -> Figure:
    """Plot the weights of a layer as images: red is positive, blue is negative, white is 0.

    All images have one scale, which is symmetric around 0. The title of an image is the position of its unit or filter.
    A filter of an image with several channels has one image for each channel, because their mean would hide weights
    that cancel out. Images follow the order of the filters, then that of the channels.

    Args:
        weights: A ``Dense`` or ``Conv2D`` layer, or its weight, shape (I, O) or (KH, KW, C, O).
        shape: The shape of a unit's input, rows and columns, for a weight (I, O). None means a square.
        count: The most images.
        columns: The number of images in a row.
        figure: An empty figure, or a part of one, to draw on. None means a new figure.

    Raises:
        ConfigError: If a setting is invalid, or a unit's weights do not fill the shape.
        ShapeError, DTypeError: If weights are neither such a layer nor such an array.

    Example:
        >>> import funcnet as fn
        >>> figure = fn.plots.weight_images(fn.dense(fn.Key(0), 64, 3), shape=(8, 8))
        >>> [axes.get_title() for axes in figure.axes[:3]]
        ['0', '1', '2']
    """
    name = "weight_images"
    count = check_count(name, "count", count)
    weight = cast("fn.Array", getattr(weights, "weight", weights))
    if not isinstance(weight, np.ndarray):
        got = f"got {type(weights).__name__}; use a layer of a network, such as net[0]"
        raise fn.ConfigError(f"weights must be a Dense or Conv2D layer, or an array, {got}", subject=name)
    images, titles = _images(name, weight, shape)
    shown = images[:count]
    largest = float(np.abs(shown).max()) or 1.0
    figure, every = grid_of(name, figure, shown, columns, lines=1)
    for axes, image, title in zip(every, shown, titles, strict=False):
        axes.imshow(image, cmap="RdBu_r", vmin=-largest, vmax=largest)
        axes.set_title(title, fontsize=9)
    figure.colorbar(every[0].images[0], ax=every, label="weight", fraction=0.05)
    what = "units" if weight.ndim == 2 else "filters" if weight.shape[2] == 1 else "filters by channel"
    share = f"{len(shown)} of {len(images)}" if len(shown) < len(images) else f"{len(images)}"
    figure.suptitle(f"Weights of {share} {what}")
    return root_of(figure)


def _images(name: str, weight: fn.Array, shape: tuple[int, int] | None) -> tuple[fn.Array, list[str]]:
    """The images, shape (N, H, W), and their titles."""
    if weight.ndim == 4:
        if shape is not None:
            raise fn.ConfigError(f"shape is for a weight (I, O), got a weight {weight.shape}", subject=name)
        check_array(name, "weights", weight, ("KH", "KW", "C", "O"))
        height, width, channels, filters = weight.shape
        ids = [f"{o}" if channels == 1 else f"{o}, channel {c}" for o in range(filters) for c in range(channels)]
        return weight.transpose(3, 2, 0, 1).reshape(-1, height, width), ids
    check_array(name, "weights", weight, ("I", "O"))
    inputs, units = weight.shape
    side = int(np.sqrt(inputs))
    shape = (side, side) if shape is None else cast("tuple[int, int]", check_shape(shape))
    if len(shape) != 2 or prod(shape) != inputs:
        got = f"got {shape}" if side * side != prod(shape) or len(shape) != 2 else "which is not a square"
        wanted = f"(rows, columns) with {inputs} numbers"
        raise fn.ConfigError(f"shape must be {wanted} to match weights {weight.shape}, {got}", subject=name)
    return weight.T.reshape(units, *shape), [str(o) for o in range(units)]


def misclassified(
    net: fn.Network,
    x: NDArray[np.floating],
    y: NDArray[np.integer],
    *,
    shape: tuple[int, ...] | None = None,
    names: Sequence[str] | None = None,
    count: int = 10,
    columns: int = 5,
    figure: Figure | SubFigure | None = None,
) -> Figure:
    """Plot the first images that a network predicts incorrectly, in their order, with the predicted and the true class.

    Args:
        net: The network in its plain form, with one logit for two classes, or a logit for each class.
        x: The images, shape (N, H, W), (N, H, W, C), or flat, (N, I). C is 1, for gray, or 3, for red, green and blue.
        y: Their class ids, shape (N,).
        shape: The shape of an image, (H, W) or (H, W, C). None means that of a row of x, or a square for flat images.
        names: The name of each class. None means the ids.
        count: The most images.
        columns: The number of images in a row.
        figure: An empty figure, or a part of one, to draw on. None means a new figure.

    Raises:
        ConfigError: If a setting is invalid, or a layer is in its training form.
        FuncnetError: If net, x and y do not fit each other.

    Example:
        >>> import funcnet as fn
        >>> x = np.array([[[2.0, 1.0]], [[0.0, 3.0]]])
        >>> figure = fn.plots.misclassified(fn.Flatten(), x, np.array([0, 0]), names=["left", "right"])
        >>> print(figure.axes[0].get_title())
        predicted right,
        is left
    """
    name = "misclassified"
    count = check_count(name, "count", count)
    check_rows(name, "x", x)
    check_count(name, "the number of rows of x", len(x))
    shape = _row_shape(name, x.shape[1:], shape)
    outputs, task = classified(name, net, x)
    classes = max(outputs.shape[1], 2)
    check_plain(name, "y", y, " of class ids")
    ids = check_labels(name, "y", y.view(np.uint8) if y.dtype == np.bool_ else y, len(x), classes)
    shown = names_of(name, names, classes)
    predicted = task.predictions(outputs).astype(np.intp)
    wrong = np.flatnonzero(predicted != ids)
    images = x[wrong[:count]].reshape(-1, *shape)
    low, high = (float(images.min()), float(images.max())) if len(images) else (0.0, 1.0)
    figure, every = grid_of(name, figure, images, columns, lines=2)
    for axes, image, i in zip(every, images, wrong.tolist(), strict=False):
        if image.ndim == 3 and image.shape[-1] == 3:
            axes.imshow((image - low) / ((high - low) or 1.0))
        else:
            axes.imshow(image.reshape(shape[:2]), cmap="gray_r", vmin=low, vmax=high)
        axes.set_title(f"predicted {shown[predicted[i]]},\nis {shown[ids[i]]}", fontsize=9)
    few = f", the first {len(images)}" if len(images) < len(wrong) else ""
    figure.suptitle(f"{len(wrong)} of {len(x)} misclassified{few}")
    return root_of(figure)


def _row_shape(name: str, row: tuple[int, ...], shape: tuple[int, ...] | None) -> tuple[int, ...]:
    """The shape of an image, (H, W), (H, W, 1) or (H, W, 3)."""
    if shape is None:
        side = int(np.sqrt(prod(row)))
        shape = (side, side) if len(row) == 1 else row
    shape = check_shape(shape)
    if prod(shape) != prod(row) or len(shape) not in (2, 3) or (len(shape) == 3 and shape[2] not in (1, 3)):
        wanted = f"(H, W), (H, W, 1) or (H, W, 3) with {prod(row)} numbers"
        raise fn.ConfigError(f"shape must be {wanted} to match a row of x {row}, got {shape}", subject=name)
    return shape
