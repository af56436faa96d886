"""Lint: find products, sums and transcendental functions that bypass ``funcnet.arithmetic``."""

from __future__ import annotations

import ast
import re
from typing import Final

ALLOWED_MATH: Final = frozenset({"prod", "isfinite", "inf", "nan"})
# fmt: off
NUMPY_DOORS: Final = frozenset({
    "arctan", "arctanh", "average", "cbrt", "convolve", "cos", "cosh", "cumprod", "cumsum", "dot", "einsum",
    "exp", "exp2", "expm1", "fft", "float_power", "inner", "linalg", "log", "log10", "log1p", "log2",
    "logaddexp", "logaddexp2", "matmul", "matvec", "mean", "nanmean", "nansum", "outer", "power", "prod",
    "random", "sin", "sinh", "std", "sum", "tan", "tanh", "tensordot", "trapezoid", "var", "vdot", "vecdot",
})
METHOD_DOORS: Final = frozenset({
    "cumprod", "cumsum", "dot", "mean", "prod", "std", "sum", "var",
})
EXACT_REDUCERS: Final = frozenset({"np.maximum", "np.minimum", "reducer"})  # a Reducer adds as a fixed tree
# fmt: on


def past_the_door(source: str) -> list[str]:
    """Find the operations in a source that must come from ``funcnet.arithmetic``: their bits depend on the method.

    Example:
        >>> past_the_door("y = np.maximum(x, 0) @ w + x.sum()")
        ['@', '.sum']
    """
    tree = ast.parse(source)
    fields = _read_fields(tree)
    return [found for node in ast.walk(tree) if node not in fields for found in _in_node(node)]


def advice(found: list[str]) -> str:
    """Say what to use instead of the operations that ``past_the_door`` has found.

    ``funcnet.arithmetic`` has no powers of arrays: their bits depend on the machine, and products do without them.

    Example:
        >>> advice(["**"])
        'write a power as a product, such as x * x, or as exp(n * log(x)) with those of funcnet.arithmetic'
        >>> advice([".sum"])
        'use funcnet.arithmetic'
    """
    powers = {"**", "np.power", "np.float_power"}
    product = "write a power as a product, such as x * x, or as exp(n * log(x)) with those of funcnet.arithmetic"
    if powers.isdisjoint(found):
        return "use funcnet.arithmetic"
    return product if powers.issuperset(found) else f"use funcnet.arithmetic, and {product}"


def _read_fields(tree: ast.AST) -> set[ast.AST]:
    """Find reads of fields, such as BatchNorm's mean: attributes of ``params`` or ``self`` that are not called."""
    called = {node.func for node in ast.walk(tree) if isinstance(node, ast.Call)}
    read = {node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)}
    return {node for node in read - called if ast.unparse(node.value) in ("params", "self")}


def _in_node(node: ast.AST) -> list[str]:
    if isinstance(node, ast.BinOp | ast.AugAssign) and isinstance(node.op, ast.MatMult):
        return ["@"]
    if isinstance(node, ast.BinOp | ast.AugAssign) and isinstance(node.op, ast.Pow):
        return [] if _folded(node) else ["**"]
    if isinstance(node, ast.Attribute):
        return _in_attribute(node)
    if isinstance(node, ast.ImportFrom) and node.module in ("math", "cmath", "numpy.linalg"):
        return [f"from {node.module}"]
    return []


def _in_attribute(node: ast.Attribute) -> list[str]:
    owner = node.value.id if isinstance(node.value, ast.Name) else ""
    if owner == "math" and node.attr not in ALLOWED_MATH:
        return [f"math.{node.attr}"]
    if owner == "np" and node.attr in NUMPY_DOORS:
        return [f"np.{node.attr}"]
    if owner not in ("np", "math") and node.attr in METHOD_DOORS:
        return [f".{node.attr}"]
    if node.attr == "reduce" and ast.unparse(node.value) not in EXACT_REDUCERS:
        return ["reduce"]
    return []


def _folded(node: ast.AST) -> bool:
    """Whether a power has the form of a literal power of two, such as 2.0**-53, which is exact."""
    return isinstance(node, ast.BinOp) and re.fullmatch(r"2(\.0)? \*\* \(?-?\d+\)?", ast.unparse(node)) is not None
