"""The structure of the source: floors, one door to arithmetic, short functions, few comments."""

from __future__ import annotations

import ast
import io
import tokenize
from pathlib import Path

import pytest

import funcnet as fn
from funcnet.sources import past_the_door

PACKAGE = Path(str(fn.__file__)).parent
FILES = sorted(PACKAGE.rglob("*.py"))
FLOORS = {
    1: ("errors", "settings", "files", "tracing", "arrays", "records", "keys", "sources"),
    2: ("arithmetic", "draws", "trees"),
    3: ("replay", "layer", "initializers", "network", "modes", "plans"),
    4: ("layers", "losses", "metrics", "schedules"),
    5: ("models", "optimizers", "data", "datasets", "preparation", "augmentation", "diagnosis"),
    6: ("shards", "training", "inference", "fitting"),
    7: (
        "contract",
        "__main__",
        "checking",
        "differences",
        "values",
        "fingerprints",
        "checkpoints",
        "explanations",
        "inspection",
        "laws",
        "monitoring",
        "runs",
        "audits",
    ),
}
FLOOR = {name: floor for floor, names in FLOORS.items() for name in names}
every_file = pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))


def room(path: Path) -> str:
    """The room that a file is in: ``layers/dense.py`` is in ``layers``."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(tree: ast.AST) -> set[str]:
    """The rooms that a file imports from."""
    modules = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    modules |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    return {module.split(".")[1] for module in modules if module.startswith("funcnet.")}


@every_file
def test_every_file_has_a_room(path: Path) -> None:
    """A new file takes its place in the table."""
    assert room(path) in {*FLOOR, "__init__"}


@every_file
def test_no_arrow_runs_upward(path: Path) -> None:
    """A room imports from its own floor and those below."""
    if room(path) != "__init__":
        upward = {name for name in imported(ast.parse(path.read_text())) if FLOOR[name] > FLOOR[room(path)]}
        assert not upward


def test_the_rooms_on_one_floor_have_an_order() -> None:
    """No two files import each other, directly or around a corner."""
    arrows = {room(path): set[str]() for path in FILES}
    for path in FILES:
        arrows[room(path)] |= imported(ast.parse(path.read_text())) - {room(path)}
    while arrows:
        free = [name for name, targets in arrows.items() if not targets & set(arrows)]
        assert free, f"a circle among {sorted(arrows)}"
        for name in free:
            del arrows[name]


@every_file
def test_arithmetic_is_the_only_door(path: Path) -> None:
    """No product, sum over a batch, exponential or power outside of arithmetic.py."""
    if room(path) not in ("arithmetic", "tracing"):  # which names what it records
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
    ],
)
def test_the_door_test_sees(source: str) -> None:
    """Each way past the door is found."""
    assert past_the_door(source)


def test_a_field_is_no_door() -> None:
    """Whatever its name."""
    assert not past_the_door("y = x - params.mean")


def functions(tree: ast.AST) -> list[ast.FunctionDef]:
    """Every function and method."""
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]


@every_file
def test_functions_fit_a_screen(path: Path) -> None:
    """At most 40 lines of code each, the docstring not counted."""
    for function in functions(ast.parse(path.read_text())):
        first = function.body[0]
        documented = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
        lines = (function.end_lineno or 0) - function.lineno + 1
        docstring = (first.end_lineno or 0) - first.lineno + 1 if documented else 0
        assert lines - docstring <= 40, function.name


@every_file
def test_comments_are_few(path: Path) -> None:
    """Under 5% of lines (headings and suppressions apart): names explain."""
    source = path.read_text()
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    comments = [t.string for t in tokens if t.type == tokenize.COMMENT and t.line.strip().startswith("#")]
    said = [comment for comment in comments if not comment.startswith("# ---")]
    assert len(said) <= max(1, 0.05 * len(source.splitlines()))


@every_file
def test_a_file_says_its_subject(path: Path) -> None:
    """The first docstring line does."""
    assert (ast.get_docstring(ast.parse(path.read_text())) or "").splitlines()[0].endswith((".", ":"))
