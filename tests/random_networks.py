"""Random networks, including nested and empty ones: hypothesis strategies over the table of layers."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from networks import VECTOR_CASES

import funcnet as fn

PLAIN_CASES = tuple(case for case in VECTOR_CASES if "in training" not in case.name)
KINDS = ("layer", "dense", "tuple", "residual", "frozen", "parallel", "repeat")


@st.composite
def networks(draw: st.DrawFn, size: int = 4, depth: int = 2, *, plain: bool = False) -> tuple[fn.Network, ...]:
    """A random network for (B, size) inputs, with nested tuples, nested combinators and empty tuples.

    ``plain``: no layer is in its training form.
    """
    layers: list[fn.Network] = []
    for position in range(draw(st.integers(0, 3))):
        key = fn.Key(draw(st.integers(0, 2**16))).child(position)
        kind = draw(st.sampled_from(KINDS if depth else KINDS[:2]))
        if kind == "dense":
            layers.append(fn.dense(key, size, draw(st.integers(1, 5)), dtype=np.float64))
        elif kind == "layer":
            layers.append(draw(st.sampled_from(PLAIN_CASES if plain else VECTOR_CASES)).make(key, (size,)))
        else:
            layers.append(draw(combinators(kind, key, size, depth, plain=plain)))
        size = width(layers[-1], size)
    return tuple(layers)


@st.composite
def combinators(draw: st.DrawFn, kind: str, key: fn.Key, size: int, depth: int, *, plain: bool) -> fn.Network:
    """A combinator, or a tuple, of random networks."""
    inner = networks(size, depth - 1, plain=plain or kind == "frozen")
    if kind == "parallel":
        nets = draw(st.lists(inner, min_size=1, max_size=3))
        if draw(st.booleans()):
            return fn.Parallel(tuple(nets), "concat")
        return fn.Parallel(tuple(returning(key.child(i), net, size, 3) for i, net in enumerate(nets)))
    net = draw(inner)
    if kind == "residual":
        return fn.Residual(returning(key, net, size, size))
    if kind == "repeat":
        return fn.Repeat((returning(key, net, size, size), fn.Tanh()), draw(st.integers(1, 2)))
    return fn.Frozen(net) if kind == "frozen" else net


def returning(key: fn.Key, net: fn.Network, size: int, out_size: int) -> tuple[fn.Network, fn.Dense]:
    """The network followed by a Dense layer with the given output size."""
    return net, fn.dense(key, width(net, size), out_size, dtype=np.float64)


def width(net: fn.Network, size: int) -> int:
    """The number of output features for ``size`` input features."""
    return int(fn.forward(net, np.ones((1, size))).shape[1])
