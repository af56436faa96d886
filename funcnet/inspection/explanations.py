"""Explanations: every number of a forward and a backward pass, with its formula and shapes, to recompute on paper."""

from __future__ import annotations

import re
import sys
from typing import Final, TypeVar, cast

import numpy as np
from attrs import frozen

from funcnet.core.arrays import AnyArray, Array, Input, contiguous, lock
from funcnet.core.checks import check_callable
from funcnet.core.html import as_printed, paragraphs, table
from funcnet.core.records import check_tree, fields_of
from funcnet.core.trees import leaves
from funcnet.inspection.hints import mode_hints
from funcnet.network.layer import Layer, Network, Pullback, rule_of
from funcnet.network.loss import Loss
from funcnet.network.passes import layers_of, vjp

T = TypeVar("T")

BAR: Final = "\\|"


@frozen(eq=False)
class Term:
    """One array of a pass: its name, and its value exactly as training uses it."""

    name: str
    value: AnyArray

    def __str__(self) -> str:
        return f"{self.name} {self.value.shape} =\n{_digits(self.value, 100)}"


def _digits(value: AnyArray, width: int, most: int = sys.maxsize) -> str:
    """Every number, with the fewest digits that identify its bits, whatever NumPy's print options are.

    Of an array with more than ``most`` numbers, only the first and the last ones of each axis.
    """
    with np.printoptions(suppress=False, sign="-", nanstr="nan", infstr="inf", formatter=None):
        return np.array2string(
            value, separator=", ", floatmode="unique", max_line_width=width, threshold=most, legacy=False
        )


@frozen(eq=False)
class Stage:
    """The work of one layer, or of the loss, in one direction: its formulas, its inputs and its outputs."""

    title: str
    formulas: tuple[str, ...]
    terms: tuple[Term, ...]

    def __str__(self) -> str:
        lines = [self.title, *(f"  {formula}" for formula in self.formulas)]
        for term in self.terms:
            lines += [f"    {line}" for line in str(term).splitlines()]
        return "\n".join(lines)


@frozen(eq=False)
class Explanation:
    """A forward and a backward pass, one stage per layer and direction; prints as text, ``markdown`` is a table.

    A notebook shows tables, in which arrays of more than 1,000 numbers are shortened. There is a hint if a layer with a
    training form, such as Dropout, is in its plain form.
    """

    loss: float
    stages: tuple[Stage, ...]
    hints: tuple[str, ...] = ()

    _repr_pretty_ = as_printed

    def __str__(self) -> str:
        return "\n\n".join([*map(str, self.stages), *(f"hint: {hint}" for hint in self.hints)])

    @property
    def markdown(self) -> str:
        """One row per array."""
        rows = ["| stage | formula | array | shape | value |", "|---|---|---|---|---|"]
        for stage in self.stages:
            title, formula = stage.title, "; ".join(f"`{formula}`" for formula in stage.formulas)
            for term in stage.terms:
                shown = " ".join(_digits(term.value, sys.maxsize).split())
                cells = (title, formula, term.name, str(term.value.shape), shown)
                rows.append(f"| {' | '.join(cell.replace('|', BAR) for cell in cells)} |")
                title = formula = ""
        return "\n".join(rows)

    def _repr_html_(self) -> str:
        made: list[str] = []
        for stage in self.stages:
            rows = [(term.name, term.value.shape, _digits(term.value, 100, 1000)) for term in stage.terms]
            made.append(paragraphs(["\n  ".join((stage.title, *stage.formulas))]))
            made.append(table(("array", "shape", "value"), rows, "llc"))
        return "".join(made) + paragraphs(f"hint: {hint}" for hint in self.hints)


def explain(params: Network, x: Input, y: T, loss: Loss[T]) -> Explanation:
    """Show each array of the forward and the backward pass, as training computes it, bit for bit.

    This function is for networks small enough to recompute on paper. A combinator is one stage. The formulas come from
    docstrings: a layer's formula is the first that begins with ``y =``; its backward formulas, in its class or its
    backward function, begin with ``grad_``, and a loss's with ``loss =`` or ``g =``. They omit an array that is None.
    In the backward pass, the ``grad_x`` of a stage is the ``g`` of the next one.

    Shapes: x (B, ...), y as the loss expects it.

    Raises:
        FuncnetError: If the network, x, y and the loss do not fit each other.

    Example:
        >>> import funcnet as fn
        >>> net = fn.Dense(weight=np.array([[2.0, 1.0]]), bias=np.array([0.0, 2.0]))
        >>> print(explain(net, np.array([[2.0]]), np.array([1]), fn.softmax_cross_entropy))
        forward, Dense
          y = x @ weight + bias
            x (1, 1) =
            [[2.]]
            weight (1, 2) =
            [[2., 1.]]
            bias (2,) =
            [0., 2.]
            y (1, 2) =
            [[4., 4.]]
        <BLANKLINE>
        loss, softmax_cross_entropy
          loss = mean(log(sum(exp(logits))) - logits[label])
          g = (softmax(logits) - onehot(label)) / (number of labels)
            target (1,) =
            [1]
            loss () =
            0.6931471805599453
            g (1, 2) =
            [[ 0.5, -0.5]]
        <BLANKLINE>
        backward, Dense
          grad_weight = x.T @ g
          grad_bias = g.sum(axis=0)
          grad_x = g @ weight.T
            g (1, 2) =
            [[ 0.5, -0.5]]
            grad_weight (1, 2) =
            [[ 1., -1.]]
            grad_bias (2,) =
            [ 0.5, -0.5]
            grad_x (1, 1) =
            [[0.5]]
    """
    check_tree("explain", params)
    check_callable("explain", "loss", loss)
    stages: list[Stage] = []
    pulls: list[tuple[Layer, str, Pullback[Layer]]] = []
    before = contiguous(x)
    for path, layer in layers_of(params):
        output, pull = vjp(layer, before)
        title = f"layer {path} {type(layer).__name__}" if path else type(layer).__name__
        terms = [Term("x", before), *(Term(leaf.path, leaf.array) for leaf in leaves(layer)), Term("y", output)]
        formulas = _of_the_layer("y", layer, type(layer), rule_of(layer).forward)[:1]
        stages.append(Stage(f"forward, {title}", formulas, tuple(terms)))
        pulls.append((layer, title, pull))
        before = output
    value, g = loss(before, y)
    stages.append(_of_the_loss(loss, y, value, g))
    for layer, title, pull in reversed(pulls):
        above, (g, grads) = g, pull(g)
        by_field = (Term(f"grad_{leaf.path}", leaf.array) for leaf in leaves(grads) if leaf.trained)
        formulas = _of_the_layer("grad_[a-z_]+", layer, type(layer), rule_of(layer).backward)
        formulas = tuple(sorted(formulas, key=_last))
        stages.append(Stage(f"backward, {title}", formulas, (Term("g", above), *by_field, Term("grad_x", g))))
    return Explanation(value, tuple(stages), tuple(mode_hints(params)))


def _last(formula: str) -> bool:
    """Whether a formula comes last: ``grad_x``, which a stage hands to the next one, as in its list of arrays."""
    return formula.startswith("grad_x =")


def _of_the_loss(loss: Loss[T], y: T, value: float, g: Array) -> Stage:
    target: tuple[Term, ...] = (Term("target", cast("AnyArray", y)),) if isinstance(y, np.ndarray) else ()
    formulas = _formulas("(?:loss|g)", loss) or _formulas("(?:loss|g)", type(loss))
    name = getattr(loss, "__name__", repr(loss))
    return Stage(f"loss, {name}", formulas, (*target, Term("loss", lock(np.array(value))), Term("g", g)))


def _of_the_layer(left: str, layer: Layer, *documented: object) -> tuple[str, ...]:
    """The formulas of a layer, without the arrays that are None in this layer: ``y = x @ weight`` without a bias."""
    formulas = _formulas(left, *documented)
    for name in fields_of(type(layer)).trained:
        if getattr(layer, name) is None:
            kept = [formula for formula in formulas if not formula.startswith(f"grad_{name} =")]
            formulas = tuple(re.sub(rf" [+*] {name}\b", "", formula) for formula in kept)
    return formulas


def _formulas(left: str, *documented: object) -> tuple[str, ...]:
    """The formulas with this left side, a regular expression, in the first docstring that has any."""
    for each in documented:
        found: list[str] = re.findall(rf"``({left} = [^`]*)``", getattr(each, "__doc__", None) or "")
        if found:
            return tuple(" ".join(formula.split()) for formula in found)
    return ()
