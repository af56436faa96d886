"""The structure of the source: the order of the folders, one entry to arithmetic, short functions, few comments."""

from __future__ import annotations

import ast
import io
import tokenize
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import funcnet as fn
from funcnet.testing.arithmetic_lint import past_the_door

PACKAGE = Path(str(fn.__file__)).parent
FILES = sorted(PACKAGE.rglob("*.py"))
FOLDERS = (
    "core",
    "tracing",
    "arithmetic",
    "random",
    "network",
    "data",
    "layers",
    "losses",
    "optimizers",
    "testing",
    "inspection",
    "loops",
    "runs",
    "plots",
    "interop",
)
"""The folders in order: a folder imports only from earlier folders. The top-level modules import from any folder."""

TOP = {"__init__", "__main__", "models", "metrics"}
MOST_ARROWS = 70
every_file = pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))


def folder_of(path: Path) -> str:
    """The folder or top-level module that a file belongs to: ``layers/dense.py`` belongs to ``layers``."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    """The modules of the package that a file imports, as dotted names without the package."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    modules = {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}
    modules |= {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    modules |= {
        f"funcnet.{alias.name}"
        for node in nodes
        if isinstance(node, ast.ImportFrom) and node.module == "funcnet"
        for alias in node.names
    }
    return {module.removeprefix("funcnet.") for module in modules if module.startswith("funcnet.")}


def arrows() -> set[tuple[str, str]]:
    """Every pair of folders in which the first imports from the second."""
    found = {(folder_of(path), module.split(".")[0]) for path in FILES for module in imported(path)}
    return {(here, there) for here, there in found if here != there and here in FOLDERS}


@every_file
def test_every_file_has_a_place(path: Path) -> None:
    """Each file is in one of the folders or is one of the few top-level modules."""
    assert folder_of(path) in {*FOLDERS, *TOP}


def test_no_folder_imports_from_a_later_one() -> None:
    """The order has no exception, so there is no cycle; a run with ``-s`` prints the imports between folders."""
    print(*sorted(f"{here} -> {there}" for here, there in arrows()), f"{len(arrows())} in all", sep="\n")  # noqa: T201
    assert not {(here, there) for here, there in arrows() if FOLDERS.index(here) < FOLDERS.index(there)}
    assert len(arrows()) <= MOST_ARROWS


@pytest.mark.parametrize("folder", [*FOLDERS, "metrics"])
def test_no_two_files_of_a_folder_import_each_other(folder: str) -> None:
    """There is no cycle of imports, directly or through a third file."""
    files = {
        str(path.relative_to(PACKAGE).with_suffix("")).replace("/", ".").removesuffix(".__init__"): imported(path)
        for path in FILES
        if folder_of(path) == folder and path.name != "__init__.py"
    }
    while files:
        free = [name for name, targets in files.items() if not targets & set(files)]
        assert free, f"a circle among {sorted(files)}"
        for name in free:
            del files[name]


@every_file
def test_a_module_is_never_hidden_by_a_function(path: Path) -> None:
    """``import funcnet.X as m`` binds the module."""
    parts = ("funcnet", *path.relative_to(PACKAGE).with_suffix("").parts)
    if parts[-1] not in ("__init__", "__main__"):
        library = parts[-1].split("_")[0]
        library = "mpi4py" if library == "mpi" else library
        library = "matplotlib" if parts[1] == "plots" else library
        if parts[1] in ("interop", "plots") and library in ("matplotlib", "mpi4py", "onnx", "scipy", "sklearn"):
            pytest.importorskip(library, reason=f"{library} is not installed")
        import_module(".".join(parts))
        place: object = fn
        for part in parts[1:]:
            place = getattr(place, part)
        assert isinstance(place, ModuleType)


@every_file
def test_arithmetic_is_the_only_door(path: Path) -> None:
    """No product, sum over a batch, exponential or power is computed outside of ``funcnet.arithmetic``.

    Tracing names the operations that it records, and ``interop`` those of other libraries.
    """
    if folder_of(path) not in ("arithmetic", "tracing", "interop"):
        assert not past_the_door(path.read_text())


@pytest.mark.parametrize(
    "source",
    [
        "y = x @ w",
        "x @= w",
        "y = np.exp(x)",
        "y = np.add.reduce(x)",
        "y = x.sum(axis=0)",
        "y = params.mean()",
        "f = x.mean",
        "y = (x * x).mean()",
        "y = x ** 2",
        "y = 0.999 ** t",
        "y = math.exp(x)",
        "from math import exp",
        "y = np.dot(x, w)",
        "y = np.einsum('i,i', x, x)",
        "f = np.log",
        "y = np.maximum(x, 0)",
        "y = np.fmin(x, 0)",
        "y = np.clip(x, 0, 6)",
        "y = x.clip(0, 6)",
        "f = np.minimum",
        "from numpy import maximum",
        "from numpy import *",
        "from numpy.linalg import norm",
        "from cmath import exp",
        "import numpy\ny = numpy.exp(x)",
        "import numpy as N\ny = N.maximum(x, 0)",
        "import numpy.linalg as la\ny = la.norm(x)",
        "import math as m\ny = m.exp(x)",
        "from here import arithmetic\ny = arithmetic.mean(x)",
        "arithmetic = x\ny = arithmetic.mean()",
        "def f(arithmetic): return arithmetic.clip(0, 1)",
        "y = np.fmax.reduce(x)",
        "y = np.ndarray.sum(x)",
    ],
)
def test_the_door_test_sees(source: str) -> None:
    """The lint finds each expression that bypasses ``funcnet.arithmetic``."""
    assert past_the_door(source)


def test_what_is_no_door() -> None:
    """A field may be named mean, ``funcnet.arithmetic`` may be written out, and a maximum may be a size."""
    for source in ("y = x - params.mean", "y = fn.arithmetic.mean(arithmetic.clip(x, 0, 1))", "y = x / x.max()"):
        assert not past_the_door(source)
    assert not past_the_door("y = x - np.maximum.reduce(x, axis=-1, keepdims=True)")


@pytest.mark.parametrize(
    "source",
    [
        "import funcnet.arithmetic as fa\ny = fa.clip(x, 0, 1)",
        "import funcnet.arithmetic\ny = funcnet.arithmetic.mean(x)",
        "import funcnet as F\ny = F.arithmetic.clip(x, 0, 1)",
        "from funcnet import arithmetic as ar\ny = ar.mean(x)",
        "from funcnet.arithmetic import maximum\ny = maximum(x, 0)",
        "from math import isfinite, prod\ny = prod(x.shape)",
        "from numpy import add, where\ny = add(x, where(x > 0, x, 0))",
        "import numpy as N\ny = x - N.maximum.reduce(x, axis=-1)",
        "def f(maximum, x): return maximum(x)",
    ],
)
def test_the_door_has_any_name(source: str) -> None:
    """The imports say what a name refers to; functions with exact results are no door."""
    assert not past_the_door(source)


def test_the_global_names_of_a_function_are_known() -> None:
    """They decide as imports do; an argument or a name that the source imports is another one."""
    names = {"larger": np.maximum, "N": np, "ar": fn.arithmetic, "mean": fn.arithmetic.mean, "dot": np.dot, "np": 1}
    sources = ("larger(x, 0)", "N.exp(x)", "dot(x, x)", "ar.clip(x, 0, 1) + mean(x)", "np.exp", "lambda larger: larger")
    assert [past_the_door(each, names) for each in sources] == [["np.maximum"], ["np.exp"], ["np.dot"], [], [], []]
    assert past_the_door("from math import exp as mean\nmean(x)", names) == ["math.exp", "math.exp"]


@every_file
def test_functions_fit_a_screen(path: Path) -> None:
    """Each function has at most 40 lines of code, excluding its docstring."""
    for function in ast.walk(ast.parse(path.read_text())):
        if isinstance(function, ast.FunctionDef):
            first = function.body[0]
            documented = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
            lines = (function.end_lineno or 0) - function.lineno + 1
            docstring = (first.end_lineno or 0) - first.lineno + 1 if documented else 0
            assert lines - docstring <= 40, function.name


@every_file
def test_comments_are_few(path: Path) -> None:
    """Comments are fewer than 5% of the lines, excluding headings and suppressions, because names explain the code."""
    source = path.read_text()
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    comments = [t.string for t in tokens if t.type == tokenize.COMMENT and t.line.strip().startswith("#")]
    said = [comment for comment in comments if not comment.startswith("# ---")]
    assert len(said) <= max(1, 0.05 * len(source.splitlines()))


@pytest.mark.slow
@every_file
def test_a_file_names_its_subject(path: Path) -> None:
    """The first line of the module's docstring is a sentence or a heading."""
    assert (ast.get_docstring(ast.parse(path.read_text())) or "").splitlines()[0].endswith((".", ":"))
