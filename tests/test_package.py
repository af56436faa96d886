"""The package as a product: its public page, its size and its documentation."""

from __future__ import annotations

import doctest
import inspect
import pydoc
import re
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import pytest
from surroundings import ROOT, TESTS

import funcnet as fn

PACKAGE = Path(str(fn.__file__)).parent
OPTIONAL = {
    "MPIReducer": "mpi4py",
    "OnnxGraph": "onnx",
    "estimators": "sklearn",
    "from_sklearn": "sklearn",
    "plots": "matplotlib",
    "register_onnx": "onnx",
    "scipy_minimize": "scipy",
    "to_onnx": "onnx",
}
"""The names that need a library that may be absent."""

LIBRARIES = {
    "matplotlib": "matplotlib>=3.8",
    "mpi4py": "mpi4py>=4",
    "onnx": "onnx>=1.15",
    "scipy": "scipy>=1.11",
    "sklearn": "scikit-learn>=1.6",
}
INSTALLED = {name for name, library in OPTIONAL.items() if find_spec(library)}
PUBLIC = {name: getattr(fn, name) for name in dir(fn)}
ALIASES = {
    "Array",
    "Weight",
    "Statistic",
    "Mask",
    "Network",
    "Step",
    "Schedule",
    "FloatDType",
    "arithmetic",
    "datasets",
    "estimators",
    "initializers",
    "metrics",
    "plots",
    "random",
}


def test_all_is_what_the_page_exports() -> None:
    """The list is complete, has each name once, and has no other names."""
    source = (PACKAGE / "__init__.py").read_text()
    exported = set(re.findall(r"import (\w+) as \1\b", source)) | {"estimators", "portable"}
    assert len(fn.__all__) == len(set(fn.__all__))
    assert set(fn.__all__) == exported - set(OPTIONAL)


def test_the_public_names_are_what_the_page_shows() -> None:
    """``dir`` and ``help`` show them too, including the names that are loaded lazily. An unknown name is an error."""
    assert dir(fn) == sorted({*fn.__all__, *INSTALLED})
    assert {"save", "summary", "datasets"} <= set(dir(fn))
    assert not hasattr(fn, "sofmax_cross_entropy")


@pytest.mark.parametrize("name", ["arithmetic", "datasets", "initializers", "metrics", "random"])
def test_a_public_module_shows_its_public_names(name: str) -> None:
    """``dir``, ``help`` and ``import *`` show the documented names, and neither imported modules nor other names."""
    module = getattr(fn, name)
    assert dir(module) == sorted(set(module.__all__))
    star: dict[str, object] = {}
    exec(f"from {module.__name__} import *", star)  # noqa: S102  # the statement is what is tested
    assert star.keys() - {"__builtins__"} == {*module.__all__}
    shown = pydoc.plain(pydoc.render_doc(module))
    for each in module.__all__:
        assert re.search(rf"^    (?:class )?{each}\b", shown, re.MULTILINE), each
        alias = re.search(rf'^{each}: .+(?:\n[ )].*)*\n"""\w', inspect.getsource(module), re.MULTILINE)
        assert alias or inspect.getdoc(getattr(module, each)), each
        assert not inspect.ismodule(getattr(module, each)), each


def test_the_public_types_are_there() -> None:
    """A program can use them in the signatures of its functions."""
    state = fn.TrainState.create(fn.ReLU(), fn.SGD(learning_rate=0.1), key=fn.Key(0))
    loss: fn.Loss[fn.Array] = fn.mean_squared_error
    rate: fn.Schedule = fn.constant(0.1)
    optimizer: fn.Optimizer = fn.SGD(learning_rate=rate)
    moments: fn.Moments[fn.ReLU] = optimizer.init(state.params)
    assert (loss, moments.names) == (fn.mean_squared_error, ())
    assert issubclass(fn.Minibatches, Sequence)


def test_every_public_name_is_documented() -> None:
    """Each has a first line that ends with a period or a colon, and each function has an example."""
    for name, value in PUBLIC.items():
        if name not in ALIASES:
            doc = inspect.getdoc(value) or ""
            assert doc.split("\n")[0].endswith((".", ":")), name
            assert inspect.isclass(value) or "Example:" in doc, name


def test_every_public_name_is_tested() -> None:
    """Each name is used in the tests."""
    sources = "".join(path.read_text() for path in TESTS.rglob("*.py"))
    used = set(re.findall(r"\bfn\.(\w+)\b", sources))
    assert set(dir(fn)) <= used


def test_docstring_examples_are_examples() -> None:
    """A docstring with an Example section has an example that doctest finds, or names a file."""
    for name, value in PUBLIC.items():
        doc = inspect.getdoc(value) or ""
        if name not in ALIASES and "Example:" in doc:
            files = re.findall(r"``(examples/\w+\.py)``", doc)
            assert files or doctest.DocTestParser().get_examples(doc), name


def test_the_package_is_small() -> None:
    """Its files have less than 1.6 MB in total."""
    assert sum(path.stat().st_size for path in PACKAGE.rglob("*.py")) < 1_600_000


def test_the_import_loads_little() -> None:
    """It loads no module, such as hashlib, random or pathlib, that NumPy and attrs have not loaded already.

    With native replay it loads those that check and open the interpreter.
    """
    program = (
        "import os; os.environ['FUNCNET_NATIVE'] = '0'\n"
        "import sys, numpy, attrs; before = set(sys.modules); import funcnet\n"
        "print(*(name for name in set(sys.modules) - before if not name.startswith('funcnet')))"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert set(result.stdout.split()) <= {"numpy.typing", "numpy._typing._add_docstring"}


def test_a_missing_library_is_named() -> None:
    """A name that needs a library that is absent says how to install it; ``help`` and the rest work without it."""
    program = (
        "import sys\n"
        "absent = 'sklearn', 'onnx', 'scipy', 'mpi4py', 'torch', 'keras', 'pandas', 'matplotlib'\n"
        "sys.modules.update(dict.fromkeys(absent))\n"
        "import funcnet as fn\n"
        "from funcnet import *\n"
        "import inspect, pydoc\n"
        "assert dir(fn) == sorted(fn.__all__)\n"
        "assert inspect.getmembers(fn) and 'to_torch' in pydoc.render_doc(fn)\n"
        f"for name in {sorted(OPTIONAL)}:\n"
        "    try: getattr(fn, name)\n"
        "    except ImportError as error: print(error)"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    for name, message in zip(sorted(OPTIONAL), result.stdout.splitlines(), strict=True):
        assert f"pip install '{LIBRARIES[OPTIONAL[name]]}'" in message


def test_every_error_is_a_value_error_of_funcnet() -> None:
    """All of them are direct subclasses of one base class."""
    kinds = (fn.CheckpointError, fn.ConfigError, fn.DatasetFormatError, fn.DTypeError, fn.GradientError, fn.LabelError)
    for kind in (*kinds, fn.NonFiniteError, fn.ShapeError, fn.StructureError):
        assert kind.__bases__ == (fn.FuncnetError,)
    assert fn.FuncnetError.__bases__ == (ValueError,)


def test_lazy_modules_load() -> None:
    """The datasets load on first use. An unknown name is an error."""
    assert fn.datasets.load_mnist.__name__ == "load_mnist"
    assert not hasattr(fn, "no_such_name")


def test_the_dependency_groups_are_the_extras() -> None:
    """A group lists what its extra lists."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras, groups = settings["project"]["optional-dependencies"], settings["dependency-groups"]
    for name, group in groups.items():
        own = [each for each in group if isinstance(each, str)]
        included = [each for part in group if not isinstance(part, str) for each in groups[part["include-group"]]]
        listed = [each for each in extras[name] if not each.startswith("funcnet[")]
        assert own == listed, name
        assert bool(included) == (len(listed) < len(extras[name]))
