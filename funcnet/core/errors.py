"""What funcnet says when something is wrong with its input: one root error and its few children.

Wrong *content* raises one of these. The system's own errors (a missing file, a full disk, no network) pass unchanged.
"""

from __future__ import annotations

from collections.abc import Callable


class FuncnetError(ValueError):
    """The root of funcnet's errors; a ``ValueError``.

    A layer does not know where it stands in a network. It names itself as the ``subject``; every fold that the error
    passes through puts its own position in front of ``path``.

    Args:
        message: What was expected, what was got, and what to do about it.
        subject: Who complains: a layer's or a function's name; empty if the message says it.

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

    def enter(self, position: int) -> FuncnetError:
        """Put the position in a surrounding tuple in front of the path, and return this same error."""
        self.path = (position, *self.path)
        return self

    def at_step(self, step: int) -> FuncnetError:
        """Say at which step of a fold this happened, and return this same error."""
        self.step = step
        return self

    def __str__(self) -> str:
        where = f"layer {'.'.join(map(str, self.path))}" if self.path else ""
        subject = f"{self.subject} ({where})" if self.subject and where else self.subject or where
        step = "" if self.step is None else f"step {self.step}: "
        return f"{step}{subject}: {self.message}" if subject else f"{step}{self.message}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"

    def __reduce__(self) -> tuple[Callable[..., FuncnetError], tuple[object, ...]]:
        return _rebuild, (type(self), self.message, self.subject, self.path, self.step)


def _rebuild(
    kind: type[FuncnetError], message: str, subject: str, path: tuple[int, ...], step: int | None
) -> FuncnetError:
    error = kind(message, subject=subject)
    error.path, error.step = path, step
    return error


class ShapeError(FuncnetError):
    """An array's rank or shape does not fit."""


class DTypeError(FuncnetError):
    """A value is no NumPy array of the right element type."""


class NonFiniteError(FuncnetError):
    """A number is NaN or infinite where it must not be."""


class LabelError(FuncnetError):
    """A class id is outside the classes."""


class ConfigError(FuncnetError):
    """A setting is out of range, or a call does not make sense."""


class StructureError(FuncnetError):
    """Two networks that should walk together have different structures, or a value is no network at all."""


class GradientError(FuncnetError):
    """A backward function disagrees with the central differences of its forward function."""


class LawError(FuncnetError):
    """A layer breaks a law."""


class CheckpointError(FuncnetError):
    """A checkpoint file is not what it says it is."""


class DatasetFormatError(FuncnetError):
    """A dataset file is not what it says it is."""


class ReplayWarning(RuntimeWarning):
    """Steps are computed plainly, and slower, because something in them is not pure."""


for _error in (*FuncnetError.__subclasses__(), FuncnetError, ReplayWarning):
    _error.__module__ = "funcnet"  # tracebacks and pickles name an error as its users do
