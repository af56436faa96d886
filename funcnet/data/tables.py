"""Tables: inputs and class ids from a data frame, a dict of columns or an array, with the names of both.

A data frame is anything with ``columns`` and columns that convert to arrays: pandas and polars are not imported.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, Protocol, TypeAlias, cast

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from funcnet.core.arrays import AnyArray, Array, lock
from funcnet.core.checks import check_iterable
from funcnet.core.errors import ConfigError, DTypeError, LabelError, NonFiniteError, ShapeError


class HasColumns(Protocol):
    """A data frame: its columns by name."""

    @property
    def columns(self) -> Iterable[object]:
        """The names of the columns."""
        ...

    def __getitem__(self, name: str, /) -> object:
        """The column with this name."""
        ...


Frame: TypeAlias = "HasColumns | Mapping[str, object] | AnyArray"
"""A data frame, a dict of columns, or an array of shape (N, I)."""

ClassName: TypeAlias = str | int
"""The name of a class: text, an int or a bool."""


@frozen(eq=False)
class Table:
    """Numbers and class ids from a table of rows, and the names of its columns and classes. See ``table``.

    Shapes: x (N, I), y (N,). ``features`` has I names, and class id k is the class ``classes[k]``.
    """

    x: Array
    y: NDArray[np.int64]
    features: tuple[str, ...]
    classes: tuple[ClassName, ...]

    def inputs(self, frame: Frame) -> Array:
        """Return the inputs of new rows, which must have the same columns, in any order. Shape: (N, I).

        The columns of an array have no names; they must have the order of ``features``.

        Raises:
            ConfigError: If a column is missing or unexpected.
            DTypeError, NonFiniteError, ShapeError: If a column is invalid; the message names it.

        Example:
            >>> table({"width": [1.0, 2.0], "height": [3, 4]}, ["cat", "dog"]).inputs({"height": [5], "width": [6]})
            array([[6., 5.]], dtype=float32)
        """
        columns = _columns("Table.inputs", frame, self.features)
        missing = [name for name in self.features if name not in columns]
        extra = [name for name in columns if name not in self.features]
        if missing or extra:
            got = "; ".join(
                f"{what}: {_listed(names)}" for what, names in (("missing", missing), ("extra", extra)) if names
            )
            fix = (
                "use frame[list(table.features)]" if not missing else "the names of the columns must be table.features"
            )
            raise ConfigError(f"the columns must be those of the table, {got}; {fix}", subject="Table.inputs")
        return _inputs("Table.inputs", {name: columns[name] for name in self.features})

    def targets(self, labels: Iterable[object]) -> NDArray[np.int64]:
        """Return the class ids of new labels. Shape: (N,).

        Raises:
            LabelError: If a label is missing or is not one of ``classes``.
            DTypeError: If a label is neither text nor an int nor a bool.

        Example:
            >>> table({"width": [1.0, 2.0]}, ["cat", "dog"]).targets(["dog", "dog", "cat"]).tolist()
            [1, 1, 0]
        """
        return _ids("Table.targets", _names("Table.targets", labels), self.classes)

    def __repr__(self) -> str:
        arrays = f"x={self.x.dtype} {self.x.shape}, y={self.y.dtype} {self.y.shape}"
        return f"Table({arrays}, features={_listed(self.features)}, classes={_listed(self.classes)})"


def table(frame: Frame, labels: Iterable[object]) -> Table:
    """Make float32 inputs and class ids from the columns of a data frame and a label for each row.

    Args:
        frame: A data frame of pandas or polars, a dict of columns, or an array of shape (N, I), whose columns get the
            names "0", "1" and so on. The columns hold ints, floats or bools.
        labels: Text, ints or bools. The classes are the different labels in sorted order; those of a pandas Categorical
            are its categories, in their order.

    Returns:
        A ``Table``: ``x`` and ``y`` for ``split`` and ``minibatches``, and the names. Its methods ``inputs`` and
        ``targets`` convert new rows in the same way.

    Raises:
        DTypeError: If a column does not hold numbers, or the labels are not all text, all ints or all bools.
        NonFiniteError, LabelError: If a number or a label is missing, infinite or beyond float32.
        ShapeError: If the columns and the labels differ in length, or there are no rows or no columns.
        ConfigError: If two columns have one name, or the labels are the name of a column.

    Example:
        >>> animals = table({"width": [1.0, 2.0, 3.0], "tame": [True, True, False]}, ["dog", "cat", "dog"])
        >>> animals
        Table(x=float32 (3, 2), y=int64 (3,), features=('width', 'tame'), classes=('cat', 'dog'))
        >>> animals.x
        array([[1., 1.],
               [2., 1.],
               [3., 0.]], dtype=float32)
        >>> animals.y.tolist()
        [1, 0, 1]
    """
    if isinstance(labels, str):
        fix = f"pass frame[{labels!r:.80}], and the frame without it"
        raise ConfigError(f"labels must be a label for each row, got {labels!r:.80}; {fix}", subject="table")
    columns = _columns("table", frame)
    x, names = _inputs("table", columns), _names("table", labels)
    if len(names) != len(x):
        raise ShapeError(f"the columns have {len(x)} rows, but there are {len(names)} labels", subject="table")
    categories: object = getattr(getattr(labels, "cat", labels), "categories", None)
    classes = sorted(set(names)) if categories is None else _names("table", cast("Iterable[object]", categories))
    return Table(x, _ids("table", names, classes), tuple(columns), tuple(classes))


def _listed(names: Iterable[object], most: int = 8) -> str:
    """Return the names as a tuple in text; of many, the first."""
    shown = tuple(names)
    return repr(shown) if len(shown) <= most else f"{repr(shown[:most])[:-1]}, ... {len(shown) - most} more)"


# ------------------------------------------------------------------------------------------------- columns


def _columns(subject: str, frame: object, features: tuple[str, ...] | None = None) -> dict[str, object]:
    """Return the columns by name. ``features`` are the names of the columns of an array."""
    if isinstance(frame, Mapping):
        pairs = list(cast("Mapping[object, object]", frame).items())
    elif hasattr(frame, "columns") and hasattr(frame, "__getitem__"):
        of = cast("Any", frame)
        names = list(of.columns)
        if len(set(map(str, names))) == len(names):
            pairs = [(name, of[name]) for name in names]
        else:
            pairs = [(name, None) for name in names]
    else:
        rows = _as_array(subject, "frame", frame)
        if rows.ndim != 2 or (features is not None and rows.shape[1] != len(features)):
            wanted = "I" if features is None else len(features)
            raise ShapeError(f"frame must have shape (N, {wanted}), got {rows.shape}", subject=subject)
        pairs = list(zip(features or map(str, range(rows.shape[1])), rows.T, strict=True))
    columns = {str(name): values for name, values in pairs}
    if len(columns) < len(pairs):
        names = [str(name) for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ConfigError(f"the columns must have different names, got {twice!r:.80} twice", subject=subject)
    return columns


def _inputs(subject: str, columns: Mapping[str, object]) -> Array:
    numbers = [_numbers(subject, f"column {name!r:.80}", values) for name, values in columns.items()]
    if not numbers or not len(numbers[0]):
        got = f"got {len(numbers)} columns of {len(numbers[0]) if numbers else 0} rows"
        raise ShapeError(f"the frame must have at least one column and one row, {got}", subject=subject)
    for name, column in zip(columns, numbers, strict=True):
        if len(column) != len(numbers[0]):
            got = f"got {len(column)} in {name!r:.80} and {len(numbers[0])} in {next(iter(columns))!r:.80}"
            raise ShapeError(f"all columns must have the same number of rows, {got}", subject=subject)
    return lock(np.stack(numbers, axis=1))


def _as_array(subject: str, what: str, values: object) -> NDArray[Any]:
    if hasattr(values, "filled"):
        raise DTypeError(f"{what} must not be a masked array; use .filled(...)", subject=subject)
    convert = getattr(values, "to_numpy", None)
    try:
        return np.asarray(convert() if callable(convert) else values)
    except ValueError:  # rows of different lengths
        raise ShapeError(f"{what} must hold one value per row, got {values!r:.80}", subject=subject) from None


def _numbers(subject: str, what: str, values: object) -> NDArray[np.float32]:
    array = _as_array(subject, what, values)
    if array.ndim != 1:
        raise ShapeError(f"{what} must have shape (N,), got {array.shape}", subject=subject)
    if array.dtype.kind not in "biuf":
        raise DTypeError(f"{what} must hold numbers, got {array.dtype}{_fix(array)}", subject=subject)
    with np.errstate(over="ignore"):
        numbers = array.astype(np.float32)
    if not np.isfinite(numbers).all():
        row = int(np.isfinite(numbers).argmin())
        fix = "scale the column" if np.isfinite(array[row]) else "fill the value or drop the row"
        raise NonFiniteError(f"{what} must be finite in float32, got {array[row]} in row {row}; {fix}", subject=subject)
    return numbers


def _fix(column: NDArray[Any]) -> str:
    """Describe the first value of a column that is not a number, and what to do."""
    for row, value in enumerate(column.tolist() if column.dtype.kind in "OU" else ()):
        if not isinstance(value, int | float):
            got = f": {value!r:.80} in row {row}"
            if isinstance(value, str):
                return f"{got}; make numbers of the text, such as a column of 0 and 1 for each different text"
            return f"{got}; fill the value or drop the row" if _is_missing(value) else got
    return "; use .astype('float32')" if column.dtype.kind == "O" else ""


# -------------------------------------------------------------------------------------------------- labels


def _names(subject: str, labels: Iterable[object]) -> list[ClassName]:
    """Return labels, or the names of classes, as Python values of one kind."""
    check_iterable(subject, "labels", labels)
    if getattr(getattr(labels, "dtype", None), "kind", "") in {"M", "m"}:  # tolist() makes ints of them
        raise DTypeError(f"labels must be text, ints or bools, got {cast('AnyArray', labels).dtype}", subject=subject)
    convert = getattr(labels, "tolist", None)
    values: object = convert() if callable(convert) else list(labels)
    if not isinstance(values, list):
        raise ShapeError(f"labels must have shape (N,), got {values!r:.80}", subject=subject)
    names = [_name(subject, place, value) for place, value in enumerate(cast("list[object]", values))]
    for place, name in enumerate(names):
        if type(name) is not type(names[0]):
            got = f"got labels[0] = {names[0]!r:.80} and labels[{place}] = {name!r:.80}"
            raise DTypeError(f"labels must be all text, all ints or all bools, {got}", subject=subject)
    return names


def _name(subject: str, place: int, value: object) -> ClassName:
    value = cast("object", value.item()) if isinstance(value, np.generic) else value
    if isinstance(value, str | int):
        return str(value) if isinstance(value, str) else value
    got = f"got labels[{place}] = {value!r:.80}"
    if _is_missing(value):
        raise LabelError(f"labels must not be missing, {got}; drop the row", subject=subject)
    if isinstance(value, list):
        raise ShapeError(f"labels must have shape (N,), {got}", subject=subject)
    fix = "; for classes, use .astype(int)" if isinstance(value, float) and value.is_integer() else ""
    raise DTypeError(f"labels must be text, ints or bools, {got}{fix}", subject=subject)


def _is_missing(value: object) -> bool:
    """Whether a value is None, NaN, or the missing value of pandas."""
    return bool(np.isnan(value)) if isinstance(value, float) else type(value).__name__ in _MISSING


_MISSING: Final = ("NoneType", "NAType", "NaTType")


def _ids(subject: str, names: list[ClassName], classes: Iterable[ClassName]) -> NDArray[np.int64]:
    """Return the position of each name among the classes. True is not 1."""
    positions = {(type(name), name): position for position, name in enumerate(classes)}
    for place, name in enumerate(names):
        if (type(name), name) not in positions:
            wanted = f"one of the classes {_listed(classes)}"
            raise LabelError(f"a label must be {wanted}, got labels[{place}] = {name!r:.80}", subject=subject)
    ids = np.array([positions[type(name), name] for name in names], np.int64)
    ids.flags.writeable = False
    return ids
