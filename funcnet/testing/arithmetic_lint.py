"""Lint: find products, sums, transcendental functions and maxima that bypass ``funcnet.arithmetic``."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from types import MappingProxyType, ModuleType
from typing import Final

import numpy as np

DOOR: Final = "funcnet.arithmetic"
USUAL: Final = MappingProxyType(
    {name: name for name in ("numpy", "math", "cmath", "funcnet")}
    | {"np": "numpy", "fn": "funcnet", "arithmetic": DOOR}
)
"""What a name refers to where a source does not import it, as in a single expression."""
ALLOWED_MATH: Final = frozenset({"prod", "isfinite", "inf", "nan"})
# fmt: off
NUMPY_DOORS: Final = frozenset({
    "angle", "arccos", "arccosh", "arcsin", "arcsinh", "arctan", "arctan2", "arctanh", "average", "cbrt", "convolve",
    "corrcoef", "correlate", "cos", "cosh", "cov", "cumprod", "cumsum", "dot", "einsum", "exp", "exp2", "expm1", "fft",
    "float_power", "hypot", "i0", "inner", "linalg", "log", "log10", "log1p", "log2", "logaddexp", "logaddexp2",
    "matmul", "matvec", "mean", "nanmean", "nanprod", "nanstd", "nansum", "nanvar", "outer", "power", "prod", "random",
    "sin", "sinc", "sinh", "std", "sum", "tan", "tanh", "tensordot", "trace", "trapezoid", "var", "vdot", "vecdot",
})
METHOD_DOORS: Final = frozenset({
    "cumprod", "cumsum", "dot", "mean", "prod", "std", "sum", "trace", "var",
})
INTEGER_DRAWS: Final = frozenset({"numpy.random.Philox", "numpy.random.SeedSequence"})
EXACT_REDUCERS: Final = frozenset({"numpy.maximum", "numpy.minimum", "reducer"})  # a Reducer adds as a fixed tree
# fmt: on
POWERS: Final = frozenset({"**", "np.power", "np.float_power"})
ONE_OF_TWO_ZEROS: Final = frozenset({"np.maximum", "np.minimum", "np.fmax", "np.fmin", "np.clip", ".clip"})
ADVICE: Final = {
    POWERS: "write a power as a product, such as x * x, or as exp(n * log(x)) with those of funcnet.arithmetic",
    ONE_OF_TWO_ZEROS: "use maximum, minimum and clip of funcnet.arithmetic, whose zeros have the same sign everywhere",
}


def past_the_door(source: str, known: Mapping[str, object] = MappingProxyType({})) -> list[str]:
    """Find the operations in a source that must come from ``funcnet.arithmetic``: their bits depend on the method.

    The maximum of 0.0 and -0.0 is either of them, so the operations include ``np.maximum``. They do not include the
    reductions ``x.max()`` and ``np.maximum.reduce``: most of them compute a size, or the number that softmax subtracts,
    and its sign does not matter if it is 0. For a layer that returns it, there is ``funcnet.arithmetic.largest``.

    The imports in the source say which names are those of NumPy, ``math`` and ``funcnet.arithmetic``. The source of a
    function does not have the imports of its module: ``known`` has the values of its global names.

    Example:
        >>> past_the_door("y = np.maximum(x, 0) @ w + x.sum()")
        ['@', '.sum', 'np.maximum']
        >>> past_the_door("y = fn.arithmetic.maximum(x, 0) / x.max()")
        []
        >>> past_the_door("y = larger(x, 0)", {"larger": np.maximum})
        ['np.maximum']
    """
    tree = ast.parse(source)
    names = _names(tree, known)
    exempt = _read_fields(tree) | _reducers(tree, names)
    return [found for node in ast.walk(tree) if node not in exempt for found in _in_node(node, names)]


def advice(found: list[str]) -> str:
    """Say what to use instead of the operations that ``past_the_door`` has found.

    ``funcnet.arithmetic`` has no powers of arrays: their bits depend on the machine, and products do without them.

    Example:
        >>> advice(["**"])
        'write a power as a product, such as x * x, or as exp(n * log(x)) with those of funcnet.arithmetic'
        >>> advice([".sum"])
        'use funcnet.arithmetic'
        >>> advice(["np.maximum"])
        'use maximum, minimum and clip of funcnet.arithmetic, whose zeros have the same sign everywhere'
    """
    others = set(found).difference(*ADVICE)
    texts = ["use funcnet.arithmetic"] if others else []
    return ", and ".join(texts + [text for names, text in ADVICE.items() if not names.isdisjoint(found)])


def _names(tree: ast.AST, known: Mapping[str, object]) -> dict[str, str]:
    """Return what each name refers to, such as ``numpy.maximum``: by the imports, or else the known values.

    An argument or another variable of the source refers to nothing.
    """
    nodes = list(ast.walk(tree))
    read = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    written = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    written |= {node.arg for node in nodes if isinstance(node, ast.arg)}
    names = {**USUAL, **{name: _origin(known[name]) for name in read if name in known}, **dict.fromkeys(written, "")}
    for node in nodes:
        if isinstance(node, ast.Import):
            tops = {alias.name.split(".")[0] for alias in node.names if not alias.asname}
            names |= {top: top for top in tops} | {alias.asname: alias.name for alias in node.names if alias.asname}
        elif isinstance(node, ast.ImportFrom):
            names |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return names


def _origin(value: object) -> str:
    """Return the module and the name of a value, or nothing if it has none, such as a number."""
    if isinstance(value, ModuleType):
        return value.__name__
    module = "numpy" if isinstance(value, np.ufunc) else getattr(value, "__module__", None)
    name = getattr(value, "__name__", None)
    return f"{module}.{name}" if module and name else ""


def _path(node: ast.AST, names: Mapping[str, str]) -> str:
    """Return what a name or an attribute refers to, such as ``numpy.maximum``, or nothing for another expression."""
    if isinstance(node, ast.Name):
        return names.get(node.id, "")
    owner = _path(node.value, names) if isinstance(node, ast.Attribute) else ""
    return f"{owner}.{node.attr}" if owner and isinstance(node, ast.Attribute) else ""


def _read_fields(tree: ast.AST) -> set[ast.AST]:
    """Find reads of fields, such as BatchNorm's mean: attributes of ``params`` or ``self`` that are not called."""
    called = {node.func for node in ast.walk(tree) if isinstance(node, ast.Call)}
    read = {node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)}
    return {node for node in read - called if ast.unparse(node.value) in ("params", "self")}


def _reducers(tree: ast.AST, names: Mapping[str, str]) -> set[ast.AST]:
    """Find the ufuncs of exact reductions, such as ``np.maximum`` in ``np.maximum.reduce``."""
    reductions = (node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node.attr == "reduce")
    return {node.value for node in reductions if _is_exact(node.value, names)}


def _is_exact(reducer: ast.AST, names: Mapping[str, str]) -> bool:
    return (_path(reducer, names) or ast.unparse(reducer)) in EXACT_REDUCERS


def _in_node(node: ast.AST, names: Mapping[str, str]) -> list[str]:
    if isinstance(node, ast.BinOp | ast.AugAssign) and isinstance(node.op, ast.MatMult):
        return ["@"]
    if isinstance(node, ast.BinOp | ast.AugAssign) and isinstance(node.op, ast.Pow):
        return [] if _folded(node) else ["**"]
    if isinstance(node, ast.ImportFrom):
        return [found for alias in node.names for found in _in_library(f"{node.module}.{alias.name}")]
    if isinstance(node, ast.Attribute):
        return _in_attribute(node, names)
    return _in_library(_path(node, names))


def _in_attribute(node: ast.Attribute, names: Mapping[str, str]) -> list[str]:
    owner = _path(node.value, names)
    if node.attr == "reduce":
        return [] if _is_exact(node.value, names) else ["reduce"]
    if owner in (DOOR, "numpy", "math", "cmath"):
        return _in_library(f"{owner}.{node.attr}")
    if node.attr in METHOD_DOORS or f".{node.attr}" in ONE_OF_TWO_ZEROS:
        return [f".{node.attr}"]
    return _in_library(f"{owner}.{node.attr}")


def _in_library(path: str) -> list[str]:
    """Find a function of NumPy or ``math`` by its path, such as ``numpy.maximum`` or ``numpy.linalg.norm``."""
    library, name, *_ = *path.split("."), ""
    if path in INTEGER_DRAWS:
        return []
    if library == "numpy" and (name in NUMPY_DOORS or name == "*" or f"np.{name}" in ONE_OF_TWO_ZEROS):
        return [f"np.{name}"]
    if library in ("math", "cmath") and name and name not in ALLOWED_MATH:
        return [f"{library}.{name}"]
    return []


def _folded(node: ast.AST) -> bool:
    """Whether a power has the form of a literal power of two, such as 2.0**-53, which is exact."""
    return isinstance(node, ast.BinOp) and re.fullmatch(r"2(\.0)? \*\* \(?-?\d+\)?", ast.unparse(node)) is not None
