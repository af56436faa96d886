"""The errors that funcnet raises for invalid input: one root class and its subclasses.

Invalid *content* raises one of these. System errors (a missing file, a full disk, no network) pass unchanged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

QUOTED: Final = 80
"""The most characters of a value that an error message quotes."""

LISTED: Final = 6
"""The most names that an error message lists."""


class FuncnetError(ValueError):
    """The base class of funcnet's errors. It is a ``ValueError``.

    A layer does not know its position in a network. It names itself as the ``subject``, and every enclosing fold that
    the error passes through prepends the position to ``path``.

    Args:
        message: The expected value, the value received, and the fix.
        subject: The name of the layer or function that raises; empty if the message contains it.

    Example:
        >>> error = ShapeError("x must have shape (B, 100), got (32, 784)", subject="Dense")
        >>> error.enter(0).enter(2)
        ShapeError('Dense (layer 2.0): x must have shape (B, 100), got (32, 784)')
    """

    def __init__(self, message: str, *, subject: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.subject = subject
        self.path: tuple[int, ...] = ()
        self.step: int | None = None
        self.place = ""

    def enter(self, position: int) -> FuncnetError:
        """Prepend the position in the enclosing tuple to the path, and return this error."""
        self.path = (position, *self.path)
        return self

    def at_step(self, step: int) -> FuncnetError:
        """Record the step of the fold at which the error occurred, and return this error."""
        self.step = step
        return self

    def within(self, place: str) -> FuncnetError:
        """Record the run of several in which the error occurred, such as ``"state 3, epoch 0"``; return this error."""
        self.place = place
        return self

    def __str__(self) -> str:
        where = f"layer {'.'.join(map(str, self.path))}" if self.path else ""
        subject = f"{self.subject} ({where})" if self.subject and where else self.subject or where
        step = (f"{self.place}: " if self.place else "") + ("" if self.step is None else f"step {self.step}: ")
        return f"{step}{subject}: {self.message}" if subject else f"{step}{self.message}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"

    def __reduce__(self) -> tuple[Callable[..., FuncnetError], tuple[object, ...]]:
        return _rebuild, (type(self), self.message, self.subject, self.path, self.step, self.place)


def _rebuild(  # noqa: PLR0917  # the attributes of an error
    kind: type[FuncnetError], message: str, subject: str, path: tuple[int, ...], step: int | None, place: str
) -> FuncnetError:
    error = kind(message, subject=subject)
    error.path, error.step, error.place = path, step, place
    return error


class ShapeError(FuncnetError):
    """An array has the wrong rank or shape."""


class DTypeError(FuncnetError):
    """A value is not a NumPy array of the required dtype."""


class NonFiniteError(FuncnetError):
    """A number is NaN or infinite where it must not be."""


class LabelError(FuncnetError):
    """A class id is outside the range of the classes."""


class ConfigError(FuncnetError):
    """A setting is invalid, or a call is not allowed in its context."""


class StructureError(FuncnetError):
    """Two networks that must have the same structure differ, or a value is not a network."""


class GradientError(FuncnetError):
    """A backward function disagrees with the central differences of its forward function."""


class LawError(FuncnetError):
    """A layer violates a law."""


class CheckpointError(FuncnetError):
    """A checkpoint file is not a valid checkpoint."""


class DatasetFormatError(FuncnetError):
    """A dataset file is not in its declared format."""


class ReplayWarning(RuntimeWarning):
    """Steps run without a recorded program, and so more slowly, because a replay gave different numbers.

    The usual reason is a function that is not pure.
    """


def printable(value: object, most: int = QUOTED) -> str:
    r"""Return the text of a value from a file, safe to print: escaped, and cut to ``most`` characters.

    Control characters, which a terminal obeys, and lone surrogates, which cannot be encoded, are escaped.

    Example:
        >>> printable("a\x1b[31m\nb")
        'a\\x1b[31m\\nb'
        >>> printable("ab" * 1000, 8)
        'ababa...'
    """
    return _printable(str, value, most)


def quoted(value: object, most: int = QUOTED) -> str:
    r"""Return the repr of a value from a file, safe to print: escaped, and cut to ``most`` characters.

    Example:
        >>> quoted({"a\x1b": "\ud800"})
        "{'a\\x1b': '\\ud800'}"
    """
    return _printable(repr, value, most)


def plural(count: int, noun: str) -> str:
    """Return a count with its noun.

    Example:
        >>> plural(1, "layer"), plural(2, "layer")
        ('1 layer', '2 layers')
    """
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def listed(texts: Iterable[str]) -> str:
    """Return the first ``LISTED`` texts, and the number of the others.

    Example:
        >>> listed("ab"), listed("abcdefgh")
        ('a, b', 'a, b, c, d, e, f and 2 more')
    """
    given = list(texts)
    shown = ", ".join(given[:LISTED])
    return shown if len(given) <= LISTED else f"{shown} and {len(given) - LISTED} more"


def _printable(convert: Callable[[object], str], value: object, most: int) -> str:
    try:
        text = convert(value)
    except Exception:  # noqa: BLE001  # a record from a file can hold values that its own repr does not expect
        text = f"a {type(value).__name__}"
    text = "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text[: most + 1])
    return text if len(text) <= most else f"{text[: most - 3]}..."


for _error in (*FuncnetError.__subclasses__(), FuncnetError, ReplayWarning):
    _error.__module__ = "funcnet"  # tracebacks and pickles use the public name
