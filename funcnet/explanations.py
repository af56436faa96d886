"""Explanations: every number of a forward and backward pass, with its formula and shapes, to be redone on paper."""

from __future__ import annotations

import re
from typing import TypeVar

import numpy as np
from attrs import frozen

from funcnet.arrays import Array, lock
from funcnet.layer import Layer, Network, Pullback
from funcnet.network import Loss, layers_of, vjp
from funcnet.settings import check_callable
from funcnet.trees import leaves

T = TypeVar("T")


@frozen(eq=False)
class Term:
    """One array of a pass: its name, and its value as training uses it."""

    name: str
    value: Array

    def __str__(self) -> str:
        text = np.array2string(self.value, separator=", ", floatmode="unique", max_line_width=100)
        return f"{self.name} {self.value.shape} =\n{text}"


@frozen(eq=False)
class Stage:
    """What one layer, or the loss, does in one direction: its formula, what goes in, what comes out."""

    title: str
    formula: str
    terms: tuple[Term, ...]

    def __str__(self) -> str:
        lines = [f"{self.title}: {self.formula}" if self.formula else self.title]
        for term in self.terms:
            lines += [f"    {line}" for line in str(term).splitlines()]
        return "\n".join(lines)


@frozen(eq=False)
class Explanation:
    """A forward and a backward pass, a stage a layer and direction; prints as text, ``markdown`` is a table."""

    loss: float
    stages: tuple[Stage, ...]

    def __str__(self) -> str:
        return "\n\n".join(map(str, self.stages))

    @property
    def markdown(self) -> str:
        """A row an array."""
        rows = ["| stage | formula | array | shape | value |", "|---|---|---|---|---|"]
        for stage in self.stages:
            title, formula = stage.title, f"`{stage.formula}`" if stage.formula else ""
            for term in stage.terms:
                value = np.array2string(term.value, separator=", ", floatmode="unique", max_line_width=10_000)
                shown = value.replace("\n", "")
                rows.append(f"| {title} | {formula} | {term.name} | {term.value.shape} | {shown} |")
                title = formula = ""
        return "\n".join(rows)


def explain(params: Network, x: Array, y: T, loss: Loss[T]) -> Explanation:
    """Each array of the forward and the backward pass, as training computes it, bit for bit.

    For networks small enough to redo on paper. A combinator is one stage. A layer's formula is the first one in its
    docstring that begins with ``y =``.

    Shapes: x (B, ...), y as the loss wants it.

    Raises:
        FuncnetError: If something does not fit.

    Example:
        >>> import funcnet as fn
        >>> net = fn.Dense(weight=np.array([[2.0, 1.0]]), bias=np.array([0.0, 2.0]))
        >>> print(explain(net, np.array([[2.0]]), np.array([1]), fn.softmax_cross_entropy))
        forward, Dense: y = x @ weight + bias
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
            loss () =
            0.6931471805599453
            g (1, 2) =
            [[ 0.5, -0.5]]
        <BLANKLINE>
        backward, Dense
            gradient by weight (1, 2) =
            [[ 1., -1.]]
            gradient by bias (2,) =
            [ 0.5, -0.5]
            gradient by x (1, 1) =
            [[0.5]]
    """
    check_callable("explain", "loss", loss)
    stages: list[Stage] = []
    pulls: list[tuple[str, Pullback[Layer]]] = []
    for path, layer in layers_of(params):
        output, pull = vjp(layer, x)
        title = f"layer {path} {type(layer).__name__}" if path else type(layer).__name__
        terms = [Term("x", x), *(Term(leaf.path, leaf.array) for leaf in leaves(layer)), Term("y", output)]
        stages.append(Stage(f"forward, {title}", _formula(layer), tuple(terms)))
        pulls.append((title, pull))
        x = output
    value, g = loss(x, y)
    name = getattr(loss, "__name__", repr(loss))
    stages.append(Stage(f"loss, {name}", "", (Term("loss", lock(np.array(value))), Term("g", g))))
    for title, pull in reversed(pulls):
        g, grads = pull(g)
        by_field = (Term(f"gradient by {leaf.path}", leaf.array) for leaf in leaves(grads) if leaf.trained)
        stages.append(Stage(f"backward, {title}", "", (*by_field, Term("gradient by x", g))))
    return Explanation(value, tuple(stages))


def _formula(layer: Layer) -> str:
    found = re.search(r"``(y = [^`]*)``", type(layer).__doc__ or "")
    return found[1] if found else ""
