"""Windows over images: the geometry that convolution and pooling share, and views of the pixels in the windows."""

from __future__ import annotations

from typing import Literal, TypeAlias, cast

import numpy as np
from attrs import frozen

from funcnet.core.arrays import Array
from funcnet.core.checks import MOST_PIXELS, to_python
from funcnet.core.errors import ConfigError, ShapeError

Pair: TypeAlias = int | tuple[int, int]
"""A number for rows and a number for columns; an int means both."""

Sides: TypeAlias = int | tuple[int, int] | tuple[tuple[int, int], tuple[int, int]]
"""The number of pixels that are added to the sides of an image."""

Padding: TypeAlias = Literal["same", "valid"] | Sides
"""The padding around an image: ``"valid"`` adds nothing; an int is the number for every side; a pair (rows, columns)
has a number for top and bottom and one for left and right; ``((top, bottom), (left, right))`` has one for each side.
``"same"`` adds as many pixels as are needed for one window per ``stride`` pixels."""


@frozen(eq=False)
class Axis:
    """The layout of windows along an image's rows or columns: ``count`` windows of ``size`` pixels each.

    The pixels of a window are ``dilation`` apart, and the windows begin ``stride`` pixels apart. The axis has
    ``length`` pixels, with ``before`` and ``after`` pixels of padding. With ``ceil_mode``, the last window may extend
    past the padding by ``beyond`` pixels.
    """

    size: int
    stride: int
    dilation: int
    length: int
    before: int
    after: int
    count: int
    beyond: int = 0

    @property
    def reach(self) -> int:
        """The number of pixels that a window spans."""
        return (self.size - 1) * self.dilation + 1

    @property
    def padded(self) -> int:
        """The length of the axis with padding and the pixels beyond it."""
        return self.before + self.length + self.after + self.beyond

    @property
    def inside(self) -> slice:
        """The slice of the image's own pixels in the padded axis."""
        return slice(self.before, self.before + self.length)

    def at(self, position: int) -> slice:
        """The slice of the padded axis that has each window's pixel at this position."""
        first = position * self.dilation
        return slice(first, first + self.stride * (self.count - 1) + 1, self.stride)

    def counts(self, *, padding: bool = False) -> list[int]:
        """The number of the image's own pixels in each window, or with ``padding``, of those and the padding's."""
        first, last = (-self.before, self.length + self.after) if padding else (0, self.length)
        starts = (window * self.stride - self.before for window in range(self.count))
        offsets = range(0, self.reach, self.dilation)
        return [sum(first <= start + offset < last for offset in offsets) for start in starts]


Axes: TypeAlias = tuple[Axis, Axis]
"""The layouts along rows and along columns."""


def axes_of(
    subject: str,
    shape: tuple[int, ...],
    size: Pair,
    *,
    stride: Pair = 1,
    padding: Padding = "valid",
    dilation: Pair = 1,
    ceil_mode: bool = False,
) -> Axes:
    """The layout of windows of the given size over images of the given shape, (H, W, ...).

    Raises:
        ShapeError: If there is no room for a window.

    Example:
        >>> rows, columns = axes_of("Conv2D", (28, 14), 5, stride=(1, 2), padding="same")
        >>> rows.count, rows.before, rows.after, columns.count, columns.before, columns.after
        (28, 2, 2, 7, 1, 2)
    """
    sides = (padding, padding) if isinstance(padding, str) else _sides(padding)
    settings = zip(pair(size), pair(stride), sides, pair(dilation), strict=True)
    rows, columns = (
        axis_of(subject, name, shape[i], pixels, stride=step, padding=side, dilation=apart, ceil_mode=ceil_mode)
        for i, (name, (pixels, step, side, apart)) in enumerate(zip("HW", settings, strict=True))
    )
    return rows, columns


def axis_of(
    subject: str,
    name: str,
    length: int,
    size: int,
    *,
    stride: int = 1,
    padding: Literal["same", "valid"] | tuple[int, int] = "valid",
    dilation: int = 1,
    ceil_mode: bool = False,
) -> Axis:
    """The layout of windows along one axis. With ``ceil_mode``, the last window may extend past the padding.

    As in PyTorch, such a window must begin inside the image or in the padding before it.

    Raises:
        ShapeError: If the axis is empty or has no room for a window; the message calls its length by this name.

    Example:
        >>> [axis_of("MaxPool2D", "H", 6, 3, stride=2, ceil_mode=mode).count for mode in (False, True)]
        [2, 3]
    """
    if length < 1:
        raise ShapeError(f"x must not be empty, got {name} = {length}", subject=subject)
    reach = (size - 1) * dilation + 1
    if padding == "same":
        added = max((-(-length // stride) - 1) * stride + reach - length, 0)
        padding = added // 2, added - added // 2
    before, after = (0, 0) if padding == "valid" else padding
    room = before + length + after - reach
    last = room // stride
    if ceil_mode and -(-room // stride) * stride < before + length:
        last = -(-room // stride)
    if last < 0:
        raise _too_small(subject, f"{name} = {length}", before + after, reach)
    return Axis(size, stride, dilation, length, before, after, last + 1, beyond=max(0, last * stride - room))


def _too_small(subject: str, given: str, added: int, reach: int) -> ShapeError:
    padding = f" and {added} of padding" if added else ""
    fix = "use a smaller window, or padding='same'"
    message = f"x must have room for a window that spans {reach}, got {given}{padding}; {fix}"
    return ShapeError(message, subject=subject)


def pair(value: Pair) -> tuple[int, int]:
    """The number for rows and the number for columns."""
    value = to_python(value)  # NumPy's small int types would overflow.
    return value if isinstance(value, tuple) else (value, value)


def _sides(padding: Sides) -> tuple[tuple[int, int], tuple[int, int]]:
    """The padding of the rows and the padding of the columns."""
    rows, columns = padding if isinstance(padding, tuple) else (padding, padding)
    return pair(rows), pair(columns)


# ------------------------------------------------------------------------------------------------- settings


def check_pair(subject: str, name: str, value: object) -> None:
    """Check that a setting is an int of at least 1 or a pair of such ints.

    Raises:
        ConfigError: If the setting is invalid, or if a number is above MOST_PIXELS.

    Example:
        >>> check_pair("MaxPool2D", "window", 0)
        Traceback (most recent call last):
        funcnet.ConfigError: MaxPool2D: window must be an int of at least 1 or a pair of them, got 0
    """
    if not (_is_count(value, 1) or _is_pair(value, 1)):
        raise ConfigError(f"{name} must be an int of at least 1 or a pair of them, got {value!r}", subject=subject)
    _check_size(subject, name, value)


def check_padding(subject: str, padding: object, *, below: Pair | None = None) -> None:
    """Check that a padding has a valid form and, if ``below`` is given, that its numbers are smaller than that pair's.

    Raises:
        ConfigError: If the padding is invalid or not below the pair, or if a number is above MOST_PIXELS.

    Example:
        >>> check_padding("MaxPool2D", 2, below=2)
        Traceback (most recent call last):
        funcnet.ConfigError: MaxPool2D: padding must be smaller than the window, got 2
    """
    if isinstance(padding, str) and padding in ("same", "valid"):
        return
    parts = cast("tuple[object, ...]", padding) if isinstance(padding, tuple) else (padding, padding)
    if len(parts) != 2 or not (all(_is_count(part, 0) for part in parts) or all(_is_pair(part, 0) for part in parts)):
        forms = "'same', 'valid', an int of at least 0, a pair (rows, columns) or ((top, bottom), (left, right))"
        raise ConfigError(f"padding must be {forms}, got {padding!r}", subject=subject)
    for part in parts:
        _check_size(subject, "padding", part)
    if below is not None:
        (rows, columns), (height, width) = _sides(cast("Sides", padding)), pair(below)
        if max(rows) >= height or max(columns) >= width:
            raise ConfigError(f"padding must be smaller than the window, got {padding!r}", subject=subject)


def _check_size(subject: str, name: str, value: object) -> None:
    """Check that the number, or each number of the pair, is at most MOST_PIXELS."""
    numbers = cast("tuple[int, ...]", value if isinstance(value, tuple) else (value,))
    if max(numbers) > MOST_PIXELS:
        raise ConfigError(f"{name} must be at most {MOST_PIXELS}, got {value!r}", subject=subject)


def _is_pair(value: object, low: int) -> bool:
    parts = cast("tuple[object, ...]", value) if isinstance(value, tuple) else ()
    return len(parts) == 2 and all(_is_count(part, low) for part in parts)


def _is_count(value: object, low: int) -> bool:
    number = to_python(value)
    return isinstance(number, int) and not isinstance(number, bool) and number >= low


# ---------------------------------------------------------------------------------------------------- views


def is_padded(axes: Axes) -> bool:
    """Whether the images have any padding or pixels beyond it."""
    return any(axis.padded > axis.length for axis in axes)


def padded(x: Array, axes: Axes, fill: float = 0.0) -> Array:
    """The images with their padding; x itself if there is no padding. Shapes: x (B, H, W, C)."""
    if not is_padded(axes):
        return x
    image = np.full_like(x, fill, shape=(len(x), axes[0].padded, axes[1].padded, x.shape[3]))
    inside(image, axes)[...] = x
    return image


def inside(image: Array, axes: Axes) -> Array:
    """The images' own pixels. Shapes: image (M, H, W, N) with padding, result (M, H, W, N) without padding."""
    return image[:, axes[0].inside, axes[1].inside]


def in_windows(image: Array, axes: Axes) -> list[Array]:
    """For each position in a window, in row order, a view of all windows' pixels at that position.

    Shapes: image (M, H, W, N), each result (M, OH, OW, N).
    """
    rows, columns = axes
    return [image[:, rows.at(i), columns.at(j)] for i in range(rows.size) for j in range(columns.size)]
