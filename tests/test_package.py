"""The package as a product: its public page, its weight, its documentation."""

from __future__ import annotations

import doctest
import inspect
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from surroundings import TESTS

import funcnet as fn

PACKAGE = Path(str(fn.__file__)).parent
PUBLIC = {name: getattr(fn, name) for name in fn.__all__}
ALIASES = {
    "Array",
    "Weight",
    "Statistic",
    "Network",
    "Step",
    "Schedule",
    "FloatDType",
    "arithmetic",
    "datasets",
    "initializers",
    "metrics",
    "random",
}


def test_all_is_what_the_page_exports() -> None:
    """Complete, each name once, nothing else."""
    source = (PACKAGE / "__init__.py").read_text()
    exported = set(re.findall(r"import (\w+) as \1\b", source)) | {"portable"}
    assert len(fn.__all__) == len(PUBLIC)
    assert set(fn.__all__) == exported


def test_the_public_names_are_what_the_page_shows() -> None:
    """To ``dir`` and ``help`` too, those that are loaded late among them; a name that is none is an error."""
    assert dir(fn) == sorted(fn.__all__)
    assert {"save", "summary", "datasets"} <= set(dir(fn))
    assert not hasattr(fn, "sofmax_cross_entropy")


def test_the_public_types_are_there() -> None:
    """For the signatures of a program's own functions."""
    state = fn.TrainState.create(fn.ReLU(), fn.SGD(learning_rate=0.1), key=fn.Key(0))
    loss: fn.Loss[fn.Array] = fn.mean_squared_error
    rate: fn.Schedule = fn.constant(0.1)
    optimizer: fn.Optimizer = fn.SGD(learning_rate=rate)
    moments: fn.Moments[fn.ReLU] = optimizer.init(state.params)
    assert (loss, moments.names) == (fn.mean_squared_error, ())
    assert issubclass(fn.Minibatches, Sequence)


def test_every_public_name_is_documented() -> None:
    """A first line that ends, and an example, a source or shapes for whatever computes."""
    for name, value in PUBLIC.items():
        if name not in ALIASES:
            doc = inspect.getdoc(value) or ""
            assert doc.split("\n")[0].endswith((".", ":")), name
            assert inspect.isclass(value) or "Example:" in doc, name


def test_every_public_name_is_tested() -> None:
    """Each is used in the tests or by an example in a docstring."""
    sources = "".join(path.read_text() for path in TESTS.rglob("*.py"))
    used = set(re.findall(r"\bfn\.(\w+)\b", sources))
    assert set(fn.__all__) <= used


def test_docstring_examples_are_examples() -> None:
    """Where a docstring says Example, there is one that doctest finds, or a file that exists."""
    for name, value in PUBLIC.items():
        doc = inspect.getdoc(value) or ""
        if name not in ALIASES and "Example:" in doc:
            files = re.findall(r"``(examples/\w+\.py)``", doc)
            assert files or doctest.DocTestParser().get_examples(doc), name


def test_the_package_is_small() -> None:
    """Under 1 MB of files."""
    assert sum(path.stat().st_size for path in PACKAGE.rglob("*.py")) < 1_000_000


def test_the_import_loads_little() -> None:
    """Nothing beyond what NumPy and attrs have loaded already: no hashlib, no random, no pathlib."""
    program = (
        "import sys, numpy, attrs; before = set(sys.modules); import funcnet\n"
        "print(*(name for name in set(sys.modules) - before if not name.startswith('funcnet')))"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert set(result.stdout.split()) <= {"numpy.typing", "numpy._typing._add_docstring"}


def test_every_error_is_a_value_error_of_funcnet() -> None:
    """One root, and children that say what is wrong."""
    kinds = (fn.CheckpointError, fn.ConfigError, fn.DatasetFormatError, fn.DTypeError, fn.GradientError, fn.LabelError)
    for kind in (*kinds, fn.NonFiniteError, fn.ShapeError, fn.StructureError):
        assert kind.__bases__ == (fn.FuncnetError,)
    assert fn.FuncnetError.__bases__ == (ValueError,)


def test_lazy_modules_load() -> None:
    """The datasets are there when asked for, and nothing else is made up."""
    assert fn.datasets.load_mnist.__name__ == "load_mnist"
    assert not hasattr(fn, "no_such_name")
