"""Many small networks: one by one and together, in funcnet and in JAX; microseconds of a network's step, by turns.

Run: OPENBLAS_NUM_THREADS=1 NPROC=1 XLA_FLAGS=--xla_cpu_multi_thread_eigen=false PYTHONPATH=.:tests/tools
python -m benchmarks.together [--cases W4,W4-adam] [--networks 8,64,256] [--steps 200] [--rounds 7]

Every network has its own weights, learning rate, key and order of rows. Orders are drawn before, and each step gathers
its rows, in all contenders. One by one, funcnet runs ``train_epoch``, and JAX a compiled ``scan`` over the steps; one
network is timed, whose program exists, as in a run of many epochs. Together, funcnet runs ``train_together``, and JAX
``vmap`` of that scan. The last column counts the networks whose parameters have other bits together than alone.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from operator import itemgetter
from typing import Any, Final, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

import funcnet as fn
from benchmarks.choice import chosen_names
from benchmarks.machine import facts
from benchmarks.run import limit_processors
from benchmarks.table import aligned
from benchmarks.timing import Task, measure
from funcnet.arithmetic import Name, using

KEY: Final = fn.Key(0)
State: TypeAlias = fn.TrainState[Any]
STEP: Final = fn.train_step(fn.softmax_cross_entropy)


@dataclass(frozen=True)
class Case:
    """The networks of one table: their sizes, the batch, the optimizer, Dropout's rate and the arithmetic."""

    name: str
    sizes: tuple[int, ...]
    batch_size: int
    adam: bool = False
    dropout: float = 0.0
    arithmetic: Name = "native"

    @property
    def title(self) -> str:
        """The networks in words."""
        parts = ["-".join(map(str, self.sizes)), f"batch {self.batch_size}", "Adam" if self.adam else "SGD"]
        parts += [f"Dropout {self.dropout}"] if self.dropout else []
        return ", ".join([*parts, "portable"] if self.arithmetic == "portable" else parts)


CASES: Final = (
    Case("W4", (16, 32, 32, 10), 16),
    Case("W4-adam", (16, 32, 32, 10), 16, adam=True),
    Case("W4-dropout", (16, 32, 32, 10), 16, dropout=0.1),
    Case("W4-portable", (16, 32, 32, 10), 16, arithmetic="portable"),
    Case("784", (784, 32, 10), 32),
)


class Examples:
    """The rows of all networks, and each network's rate, key, and rows of each step: shape (steps, B)."""

    def __init__(self, case: Case, networks: int, steps: int) -> None:
        rng = np.random.default_rng(0)
        count = steps * case.batch_size
        self.x = rng.random((count, case.sizes[0]), np.float32)
        self.y = (self.x @ rng.standard_normal((case.sizes[0], case.sizes[-1]))).argmax(axis=1)
        rates = np.linspace(0.5, 1.5, networks) * (0.001 if case.adam else 0.1)
        self.rates = [float(rate) for rate in rates.astype(np.float32)]
        self.keys = [KEY.child("network", i) for i in range(networks)]
        self.batches = [fn.minibatches(self.x, self.y, case.batch_size, key=key) for key in self.keys]
        self.orders = [np.array(each.order).reshape(steps, case.batch_size) for each in self.batches]


# ---------------------------------------------------------------------------------------------------- funcnet


class Funcnet:
    """funcnet's networks."""

    def __init__(self, case: Case, examples: Examples) -> None:
        self.case, self.examples = case, examples
        self.states: list[State] = []
        with using(case.arithmetic):
            for rate, key in zip(examples.rates, examples.keys, strict=True):
                optimizer = fn.Adam(rate) if case.adam else fn.SGD(rate)
                self.states.append(fn.TrainState.create(network(case, key), optimizer, key=key))

    def one_by_one(self, networks: int) -> list[State]:
        """Return the states after an epoch of some networks."""
        with using(self.case.arithmetic):
            pairs = zip(self.states[:networks], self.examples.batches[:networks], strict=True)
            return [fn.train_epoch(STEP, state, batches)[0] for state, batches in pairs]

    def together(self) -> list[State]:
        """Return the states after an epoch of all networks."""
        with using(self.case.arithmetic):
            run = fn.train_together(STEP, self.states, lambda _, i: self.examples.batches[i], epochs=range(1))
            return [state for state, _ in next(run)]


def network(case: Case, key: fn.Key) -> tuple[fn.Layer, ...]:
    """Return a network with a ReLU and, if the case has it, a Dropout behind each hidden layer."""
    between = (fn.ReLU(), fn.Dropout(case.dropout)) if case.dropout else (fn.ReLU(),)
    layers = [fn.dense(key.child("init", i), *pair) for i, pair in enumerate(pairwise(case.sizes))]
    return (*(each for layer in layers[:-1] for each in (layer, *between)), layers[-1])


# -------------------------------------------------------------------------------------------------------- JAX


class Jax:
    """JAX's networks, from the same weights, with the same rates and orders; Dropout draws JAX's own masks."""

    def __init__(self, case: Case, examples: Examples, states: Sequence[State]) -> None:
        self.case = case
        nets = [[layer for layer in state.params if isinstance(layer, fn.Dense)] for state in states]
        params = [[(jnp.array(layer.weight), jnp.array(layer.bias)) for layer in net] for net in nets]
        self.x, self.y = jnp.array(examples.x), jnp.array(examples.y, jnp.int32)
        keys = jax.random.split(jax.random.key(0), len(states))
        columns = params, examples.rates, keys, [jnp.array(order, jnp.int32) for order in examples.orders]
        self.networks = [(each, jnp.float32(rate), key, order) for each, rate, key, order in zip(*columns, strict=True)]
        self.stacked: Any = jax.tree.map(lambda *leaves: jnp.stack(leaves), *self.networks)
        self.alone = jax.jit(self.epoch)
        self.all = jax.jit(jax.vmap(self.epoch))

    def epoch(self, params: Any, rate: Any, key: Any, order: Any) -> tuple[Any, Any]:
        """Return the parameters after a step for each row of the order, and the losses."""
        zeros = jax.tree.map(jnp.zeros_like, params)
        start = params, (zeros, zeros) if self.case.adam else (), jnp.int32(0)
        (params, *_), losses = jax.lax.scan(partial(self.step, rate, key), start, order)
        return params, losses

    def step(self, rate: Any, key: Any, state: Any, rows: Any) -> tuple[Any, Any]:
        """Return the state after one step, and the loss."""
        params, moments, count = state
        loss, grads = jax.value_and_grad(self.loss)(params, self.x[rows], self.y[rows], jax.random.fold_in(key, count))
        if not self.case.adam:
            return (jax.tree.map(lambda p, g: p - rate * g, params, grads), moments, count + 1), loss
        mean = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, moments[0], grads)
        square = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, moments[1], grads)
        low, high = 1 - 0.9 ** (count + 1), 1 - 0.999 ** (count + 1)
        made = jax.tree.map(lambda p, m, v: p - rate * (m / low) / (jnp.sqrt(v / high) + 1e-8), params, mean, square)
        return (made, (mean, square), count + 1), loss

    def loss(self, params: Any, x: Any, y: Any, key: Any) -> Any:
        """Return the mean cross-entropy of a batch."""
        for position, (weight, bias) in enumerate(params[:-1]):
            x = jnp.maximum(x @ weight + bias, 0)
            if self.case.dropout:
                kept = jax.random.bernoulli(jax.random.fold_in(key, position), 1 - self.case.dropout, x.shape)
                x = jnp.where(kept, x / (1 - self.case.dropout), 0)
        logits = x @ params[-1][0] + params[-1][1]
        return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(logits), y[:, None], axis=1))

    def one_by_one(self, networks: int) -> list[Any]:
        """Return the parameters after an epoch of some networks."""
        params: list[Any] = jax.block_until_ready([self.alone(*each)[0] for each in self.networks[:networks]])
        return params

    def vmapped(self) -> Any:
        """Return the parameters after an epoch of all networks, stacked."""
        return jax.block_until_ready(self.all(*self.stacked)[0])

    def together(self) -> list[Any]:
        """Return the parameters of each network after an epoch of all networks."""
        params = self.vmapped()
        return [jax.tree.map(itemgetter(i), params) for i in range(len(self.networks))]


# ------------------------------------------------------------------------------------------------- comparison


def other_bits(ours: Sequence[Any], others: Sequence[Any]) -> int:
    """Return the number of networks of which a parameter has other bits."""
    pairs = [zip(arrays(a), arrays(b), strict=True) for a, b in zip(ours, others, strict=True)]
    return sum(any(a.tobytes() != b.tobytes() for a, b in pair) for pair in pairs)


def arrays(net: Any) -> list[Any]:
    """Return the parameters of a network of either library."""
    leaves = fn.trained_arrays(net.params) if isinstance(net, fn.TrainState) else jax.tree.leaves(net)
    return [np.asarray(leaf) for leaf in leaves]


def check_agreement(case: Case) -> None:
    """Raise if funcnet and JAX train to other parameters; Dropout draws other masks, so it is left out."""
    examples = Examples(case, 2, 3)
    ours = Funcnet(case, examples)
    theirs = Jax(case, examples, ours.states)
    for mine, peer in zip(ours.one_by_one(2), theirs.one_by_one(2), strict=True):
        for a, b in zip(arrays(mine), arrays(peer), strict=True):
            assert case.dropout or np.allclose(a, b, rtol=1e-3, atol=1e-5), f"{case.title}: JAX computes another weight"


def compared(case: Case, networks: int, steps: int, rounds: int) -> tuple[str, ...]:
    """Return one line of the table."""
    examples = Examples(case, networks, steps)
    ours = Funcnet(case, examples)
    alone = ours.one_by_one(networks)
    assert not other_bits(alone, ours.together()), f"{case.title}: together has other bits than alone"
    fn.keep_programs()
    contenders: list[tuple[Callable[[], object], int]] = [(partial(ours.one_by_one, 1), 1), (ours.together, networks)]
    bits = ""
    if case.arithmetic == "native":
        theirs = Jax(case, examples, ours.states)
        contenders += [(partial(theirs.one_by_one, 1), 1), (theirs.vmapped, networks)]
        bits = f"{other_bits(theirs.one_by_one(networks), theirs.together())} of {networks}"
    timings = measure([Task(lambda: None, run) for run, _ in contenders], rounds, seconds=0.0)
    scales = [1e6 / count / steps for _, count in contenders]
    medians = [timing.median * scale for timing, scale in zip(timings, scales, strict=True)]
    best = [min(timing.rounds) * scale for timing, scale in zip(timings, scales, strict=True)]
    cells = [f"{median:.1f} ({low:.1f})" for median, low in zip(medians, best, strict=True)]
    return case.title, str(networks), *cells[:2], f"{medians[0] / medians[1]:.2f}", *(cells[2:] or ("", "")), bits


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(prog="benchmarks.together", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cases", default=",".join(case.name for case in CASES), help="such as W4,784 (default all)")
    parser.add_argument("--networks", default="8,64,256", help="numbers of networks (default 8,64,256)")
    parser.add_argument("--steps", type=int, default=200, help="steps in an epoch (default 200)")
    parser.add_argument("--rounds", type=int, default=7, help="timed rounds, of which the median is shown (default 7)")
    options = parser.parse_args()
    limit_processors(1)
    known = {case.name: case for case in CASES}
    names = chosen_names(parser, options.cases, known, kind="case")
    chosen = {name: case for name, case in known.items() if name in names}
    print("\n".join(f"{name}: {value}" for name, value in facts(threads=1).items()), end="\n\n")
    head = "networks", "number", "one by one", "together", "gain", "JAX scan", "JAX vmap(scan)", "other bits of vmap"
    lines: list[Sequence[str]] = [head]
    for case in chosen.values():
        check_agreement(case)
        lines += [compared(case, int(count), options.steps, options.rounds) for count in options.networks.split(",")]
    print("Microseconds of a network's step: the median (the best) of the rounds", aligned(lines), sep="\n\n")


if __name__ == "__main__":
    main()
