"""Tables: columns and labels of data frames, dicts and arrays become numbers and class ids with names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import funcnet as fn


class Column:
    """A column of a data frame: values that convert to an array."""

    def __init__(self, values: Any) -> None:
        self.values = values

    def to_numpy(self) -> Any:
        """Return the values."""
        return self.values


class Frame:
    """A data frame with the least that a table needs."""

    def __init__(self, **columns: Any) -> None:
        self.data = columns
        self.columns = list(columns)

    def __getitem__(self, name: str, /) -> Column:
        return Column(np.asarray(self.data[name]))


class Categorical(list[object]):
    """Labels with categories in an order of their own."""

    def __init__(self, values: list[object], categories: list[object]) -> None:
        super().__init__(values)
        self.categories = np.array(categories, object)


COLUMNS: dict[str, Any] = {"age": [30, 41, 25], "height": np.array([1.5, 1.75, 2.0]), "member": [True, False, True]}
LABELS = ["no", "yes", "no"]
X = np.array([[30, 1.5, 1], [41, 1.75, 0], [25, 2, 1]], np.float32)
FRAMES: dict[str, Callable[..., Any]] = {"frame": Frame, "dict": dict}


@pytest.mark.parametrize("make", FRAMES.values(), ids=FRAMES)
def test_columns_are_float32_inputs_with_names(make: Callable[..., Any]) -> None:
    """Ints, floats and bools become one locked float32 array in the order of the columns."""
    found: fn.Table = fn.table(make(**COLUMNS), LABELS)
    np.testing.assert_array_equal(found.x, X)
    assert found.y.tolist() == [0, 1, 0]
    assert (found.x.dtype.name, found.y.dtype) == ("float32", np.dtype(np.intp))
    assert found.x.flags.c_contiguous
    assert not found.x.flags.writeable
    assert not found.y.flags.writeable
    assert (found.features, found.classes) == (("age", "height", "member"), ("no", "yes"))
    order = {name: COLUMNS[name] for name in ("member", "age", "height")}
    np.testing.assert_array_equal(found.inputs(make(**order)), X)
    np.testing.assert_array_equal(found.inputs(X.astype(np.float64)), X)


def test_an_array_has_numbered_columns() -> None:
    """Arrays convert by position, and their memory order does not matter."""
    found = fn.table(np.asfortranarray(X), LABELS)
    assert found.features == ("0", "1", "2")
    np.testing.assert_array_equal(found.x, X)
    np.testing.assert_array_equal(found.inputs({"2": X[:, 2], "0": X[:, 0], "1": X[:, 1]}), X)


@pytest.mark.parametrize(
    ("labels", "classes", "ids"),
    [
        (["b", "a", "b"], ("a", "b"), [1, 0, 1]),
        (np.array(["b", "a", "b"]), ("a", "b"), [1, 0, 1]),
        (np.array(["b", "a", "b"], object), ("a", "b"), [1, 0, 1]),
        (np.array([7, -1, 7], np.int8), (-1, 7), [1, 0, 1]),
        ([np.uint64(2**64 - 1), 0, 5], (0, 5, 2**64 - 1), [2, 0, 1]),
        (np.array([True, False, True]), (False, True), [1, 0, 1]),
        (iter(["x", "x", "x"]), ("x",), [0, 0, 0]),
        (Categorical(["low", "high", "low"], ["low", "middle", "high"]), ("low", "middle", "high"), [0, 2, 0]),
    ],
)
def test_labels_are_class_ids(labels: Any, classes: tuple[Any, ...], ids: list[int]) -> None:
    """Classes are sorted, or have the order of the categories; they are Python values."""
    found = fn.table(COLUMNS, labels)
    assert (found.classes, found.y.tolist()) == (classes, ids)
    assert [type(name) for name in found.classes] == [type(name) for name in classes]
    assert found.targets(found.classes).tolist() == list(range(len(classes)))


def test_a_table_trains_a_network() -> None:
    """The parts fit ``split``, ``minibatches`` and the losses, and new rows are predicted by name."""
    x = np.linspace(-1, 1, 40)
    found = fn.table({"x": x, "square": x * x}, np.where(x > 0, "right", "left"))
    train, held_out = fn.split(found.x, found.y, 0.25, key=fn.Key(0), stratify=True)
    step, net = fn.sgd_step(fn.softmax_cross_entropy, learning_rate=1.0), fn.mlp(fn.Key(1), (2, 2))
    for epoch in range(20):
        net, _ = fn.train_epoch(step, net, fn.minibatches(train.x, train.y, 10, key=fn.Key(epoch)))
    assert fn.accuracy(fn.predict(net, held_out.x, fn.Multiclass()), held_out.y) > 0.8
    ids = fn.predict(net, found.inputs({"square": [0.25], "x": [0.5]}), fn.Multiclass())
    assert [found.classes[k] for k in ids] == ["right"]


def test_the_repr_is_short() -> None:
    """Arrays are shown by their shape, and of many names the first."""
    shown = repr(fn.table(np.zeros((2, 300)), [0, 1]))
    assert shown.startswith("Table(x=float32 (2, 300), y=")
    assert "'7', ... 292 more), classes=(0, 1))" in shown


OTHER = "Table.inputs: the columns must be those of the table"
U1 = np.dtype("U1")
MISSING, TEXT = "fill the value or drop the row", "make numbers of the text, such as a column of 0 and 1"
BAD_FRAMES: list[tuple[Any, type[fn.FuncnetError], str]] = [
    (COLUMNS | {"age": [1.0, float("nan"), 3.0]}, fn.NonFiniteError,
     f"column 'age' must be finite in float32, got nan in row 1; {MISSING}"),
    (COLUMNS | {"age": [1.0, 2.0, -1e300]}, fn.NonFiniteError,
     "column 'age' must be finite in float32, got -1e+300 in row 2; scale the column"),
    (COLUMNS | {"city": ["Rome", "Oslo", "Rome"]}, fn.DTypeError,
     f"column 'city' must hold numbers, got {np.dtype('U4')}: 'Rome' in row 0; {TEXT} for each different text"),
    (COLUMNS | {"age": np.array([1, None, 3], object)}, fn.DTypeError,
     f"column 'age' must hold numbers, got object: None in row 1; {MISSING}"),
    (COLUMNS | {"age": np.array([1, 2, 3], object)}, fn.DTypeError,
     "column 'age' must hold numbers, got object; use .astype('float32')"),
    (COLUMNS | {"day": np.array(["2026-01-01"] * 3, "M8[D]")}, fn.DTypeError,
     "column 'day' must hold numbers, got datetime64[D]"),
    (COLUMNS | {"age": np.ones((3, 2))}, fn.ShapeError, "column 'age' must have shape (N,), got (3, 2)"),
    (COLUMNS | {"age": [[1], [1, 2]]}, fn.ShapeError, "column 'age' must hold one value per row, got [[1], [1, 2]]"),
    (COLUMNS | {"age": np.ma.masked_array([1, 2, 3], [False, True, False])}, fn.DTypeError,
     "column 'age' must not be a masked array; use .filled(...)"),
    (COLUMNS | {"member": [True]}, fn.ShapeError,
     "all columns must have the same number of rows, got 1 in 'member' and 3 in 'age'"),
    ({}, fn.ShapeError, "the frame must have at least one column and one row, got 0 columns of 0 rows"),
    ({"age": []}, fn.ShapeError, "the frame must have at least one column and one row, got 1 columns of 0 rows"),
    (np.zeros(3), fn.ShapeError, "frame must have shape (N, I), got (3,)"),
    ({"1": [1, 2, 3], 1: [1, 2, 3]}, fn.ConfigError, "the columns must have different names, got '1' twice"),
]  # fmt: skip


@pytest.mark.parametrize(("frame", "kind", "message"), BAD_FRAMES)
def test_a_bad_column_is_named(frame: Any, kind: type[fn.FuncnetError], message: str) -> None:
    """The test compares the whole message."""
    with pytest.raises(kind) as caught:
        fn.table(frame, LABELS)
    assert str(caught.value) == f"table: {message}"


BAD_LABELS: list[tuple[Any, type[fn.FuncnetError], str]] = [
    (["no", "yes"], fn.ShapeError, "the columns have 3 rows, but there are 2 labels"),
    ("age", fn.ConfigError,
     "labels must be a label for each row, got 'age'; pass frame['age'], and the frame without it"),
    (["no", 1, "yes"], fn.DTypeError,
     "labels must be all text, all ints or all bools, got labels[0] = 'no' and labels[1] = 1"),
    ([1, True, 0], fn.DTypeError,
     "labels must be all text, all ints or all bools, got labels[0] = 1 and labels[1] = True"),
    (np.array([0.0, 1.0, 2.0]), fn.DTypeError,
     "labels must be text, ints or bools, got labels[0] = 0.0; for classes, use .astype(int)"),
    (["no", None, "yes"], fn.LabelError, "labels must not be missing, got labels[1] = None; drop the row"),
    (np.array(["no", float("nan"), "yes"], object), fn.LabelError,
     "labels must not be missing, got labels[1] = nan; drop the row"),
    (3, fn.ConfigError, "labels must be a sequence or an iterator, got 3"),
    (np.zeros(3, "M8[ns]"), fn.DTypeError, "labels must be text, ints or bools, got datetime64[ns]"),
    (np.eye(3), fn.ShapeError, "labels must have shape (N,), got labels[0] = [1.0, 0.0, 0.0]"),
    (Categorical(["a", "b", "c"], ["a", "b"]), fn.LabelError,
     "a label must be one of the classes ('a', 'b'), got labels[2] = 'c'"),
]  # fmt: skip


@pytest.mark.parametrize(("labels", "kind", "message"), BAD_LABELS)
def test_a_bad_label_is_named(labels: Any, kind: type[fn.FuncnetError], message: str) -> None:
    """The test compares the whole message."""
    with pytest.raises(kind) as caught:
        fn.table(COLUMNS, labels)
    assert str(caught.value) == f"table: {message}"


@pytest.mark.parametrize(
    ("method", "rows", "kind", "message"),
    [
        ("inputs", {"age": [1], "sex": [0]}, fn.ConfigError,
         f"{OTHER}, missing: ('height', 'member'); extra: ('sex',); the names of the columns must be table.features"),
        ("inputs", COLUMNS | {"sex": [0, 1, 0]}, fn.ConfigError,
         f"{OTHER}, extra: ('sex',); use frame[list(table.features)]"),
        ("inputs", X[:, :2], fn.ShapeError, "Table.inputs: frame must have shape (N, 3), got (3, 2)"),
        ("inputs", COLUMNS | {"age": ["a", "b", "c"]}, fn.DTypeError,
         f"Table.inputs: column 'age' must hold numbers, got {U1}: 'a' in row 0; {TEXT} for each different text"),
        ("targets", ["yes", "maybe"], fn.LabelError,
         "Table.targets: a label must be one of the classes ('no', 'yes'), got labels[1] = 'maybe'"),
        ("targets", [True], fn.LabelError,
         "Table.targets: a label must be one of the classes ('no', 'yes'), got labels[0] = True"),
    ],
)  # fmt: skip
def test_new_rows_must_fit_the_table(method: str, rows: Any, kind: type[fn.FuncnetError], message: str) -> None:
    """The test compares the whole message."""
    with pytest.raises(kind) as caught:
        getattr(fn.table(COLUMNS, LABELS), method)(rows)
    assert str(caught.value) == message


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_a_real_data_frame_is_a_table(library: str) -> None:
    """Frames of pandas and polars give the same table as a dict of their columns; missing values are named."""
    frames: Any = pytest.importorskip(library)
    frame = frames.DataFrame(COLUMNS | {"label": LABELS})
    columns = list(COLUMNS)
    found = fn.table(frame[columns], frame["label"])
    np.testing.assert_array_equal(found.x, X)
    assert (found.features, found.classes, found.y.tolist()) == (tuple(COLUMNS), ("no", "yes"), [0, 1, 0])
    np.testing.assert_array_equal(found.inputs(frame[columns[::-1]]), X)
    missing = frames.DataFrame({"age": [1, None, 3]})
    with pytest.raises(fn.FuncnetError, match=r"column 'age' must .* in row 1; fill the value or drop the row"):
        fn.table(missing, LABELS)


def test_categories_of_pandas_keep_their_order() -> None:
    """Both a Series and a Categorical have the classes of their categories, and nullable integers are numbers."""
    pandas: Any = pytest.importorskip("pandas")
    labels = pandas.Categorical(["low", "high", "low"], categories=["low", "middle", "high"])
    for each in (labels, pandas.Series(labels, index=[5, 6, 7])):
        found = fn.table(pandas.DataFrame({"n": pandas.array([1, 2, 3], "Int64")}), each)
        assert (found.classes, found.y.tolist()) == (("low", "middle", "high"), [0, 2, 0])
    with pytest.raises(fn.LabelError, match="labels must not be missing"):
        fn.table({"n": [1, 2]}, pandas.Series(["a", None], dtype="category"))
    with pytest.raises(fn.ConfigError, match="different names, got 'n' twice"):
        fn.table(pandas.DataFrame([[1, 2]], columns=["n", "n"]), ["a"])
