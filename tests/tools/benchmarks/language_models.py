"""Character models in funcnet and in PyTorch: held-out bits after the same steps, and the time of a step, by turns.

Run: OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 PYTHONPATH=.:tests/tools python -m benchmarks.language_models
[--models gru,lstm,attention] [--size 64] [--steps 400] [--rounds 7]

Both train the same network from the same weights on the same windows of Python's documentation with Adam, one thread
each. The second bias of PyTorch's GRU and LSTM stays 0 where it is redundant. The text repeats some of its paragraphs,
so the bits compare the libraries and not models: ``examples/language_model.py`` has each paragraph once.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pydoc_data.topics import topics
from typing import Any, Final, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

import funcnet as fn
from benchmarks.choice import chosen_names
from benchmarks.machine import facts
from benchmarks.table import aligned
from benchmarks.timing import Task, measure

SYMBOLS: Final = 128
LENGTH: Final = 64
BATCH: Final = 32
RATE: Final = 0.003
HEADS: Final = 4
KEY: Final = fn.Key(20)
Ids: TypeAlias = NDArray[np.int64]
Net: TypeAlias = tuple[fn.Layer, ...]
nn: Final[Any] = torch.nn

# ------------------------------------------------------------------------------------------------- the models


def recurrent(make: Callable[..., fn.Layer], size: int) -> Net:
    """Return an embedding, a recurrent layer and the layer of the logits."""
    table = fn.embedding(KEY.child(0), SYMBOLS, size)
    return table, make(KEY.child(1), size, size), fn.dense(KEY.child(2), size, SYMBOLS)


def attention(size: int) -> Net:
    """Return an embedding, positions, two blocks, and the layer of the logits."""
    table = fn.embedding(KEY.child(0), SYMBOLS, size)
    blocks = [fn.transformer_block(KEY.child(3, block), size, HEADS) for block in range(2)]
    places = fn.learned_positions(KEY.child(1), LENGTH, size)
    layers = (layer for block in blocks for layer in block)
    return table, places, *layers, fn.layer_norm(size), fn.dense(KEY.child(2), size, SYMBOLS)


OURS: Final[Mapping[str, Callable[[int], Net]]] = {
    "gru": lambda size: recurrent(fn.gru, size),
    "lstm": lambda size: recurrent(fn.lstm, size),
    "attention": attention,
}


Twin: TypeAlias = tuple[Any, Callable[[Any], Any]]
"""PyTorch's modules, and the function from ids to logits that they make."""


def copied(target: Any, array: Any) -> None:
    """Copy an array into a parameter of PyTorch."""
    with torch.no_grad():
        target.copy_(torch.from_numpy(array.copy()))


def ends(table: Any, last: Any) -> tuple[Any, Any]:
    """Return PyTorch's embedding and its layer of the logits."""
    first, second = nn.Embedding(*table.weight.shape), nn.Linear(*last.weight.shape)
    copied(first.weight, table.weight)
    copied(second.weight, last.weight.T)
    copied(second.bias, last.bias)
    return first, second


def recurrent_twin(net: Net) -> Twin:
    """Return PyTorch's GRU or LSTM between an embedding and a linear layer."""
    table, last = ends(net[0], net[2])
    ours: Any = net[1]
    size = len(ours.recurrent)
    cell = (nn.GRU if isinstance(ours, fn.GRU) else nn.LSTM)(size, size, batch_first=True)
    copied(cell.weight_ih_l0, ours.weight.T)
    copied(cell.weight_hh_l0, ours.recurrent.T)
    copied(cell.bias_ih_l0, ours.bias)
    nn.init.zeros_(cell.bias_hh_l0)
    if isinstance(ours, fn.GRU):  # only the candidate's part is not redundant
        used = torch.arange(3 * size) >= 2 * size
        cell.bias_hh_l0.register_hook(lambda gradient: gradient * used)
    else:
        cell.bias_hh_l0.requires_grad_(requires_grad=False)
    return nn.ModuleList([table, cell, last]), lambda ids: last(cell(table(ids))[0])


def block_twin(first: Any, second: Any) -> Any:
    """Return PyTorch's encoder layer, which becomes a decoder by a causal mask."""
    size = len(first.net[1].weight)
    settings = {"activation": nn.GELU("tanh"), "dropout": 0.0, "batch_first": True, "norm_first": True}
    block = nn.TransformerEncoderLayer(size, HEADS, 4 * size, **settings)
    copied(block.self_attn.in_proj_weight, first.net[1].weight.T)
    copied(block.self_attn.in_proj_bias, first.net[1].bias)
    copied(block.self_attn.out_proj.weight, first.net[1].out_weight.T)
    copied(block.self_attn.out_proj.bias, first.net[1].out_bias)
    for linear, dense in ((block.linear1, second.net[1]), (block.linear2, second.net[3])):
        copied(linear.weight, dense.weight.T)
        copied(linear.bias, dense.bias)
    return block


def attention_twin(net: Net) -> Twin:
    """Return an embedding, positions and PyTorch's encoder layers with a causal mask."""
    table, last = ends(net[0], net[-1])
    rows: Any = net[1]
    length, size = rows.weight.shape
    places, norm = nn.Embedding(length, size), nn.LayerNorm(size)
    copied(places.weight, rows.weight)
    blocks = [block_twin(*pair) for pair in zip(net[2:-2:2], net[3:-2:2], strict=True)]
    mask = nn.Transformer.generate_square_subsequent_mask(length)

    def logits(ids: Any) -> Any:
        hidden = table(ids) + places.weight
        for block in blocks:
            hidden = block(hidden, src_mask=mask, is_causal=True)
        return last(norm(hidden))

    return nn.ModuleList([table, places, *blocks, norm, last]), logits


# ----------------------------------------------------------------------------------------------- the training


def text() -> tuple[Ids, Ids]:
    """Return the ids of the training text and of the held-out tenth."""
    raw = "\n\n".join(topics[name] for name in sorted(topics)).encode("ascii", "replace")
    ids = np.frombuffer(raw, np.uint8).astype(np.int64)
    cut = len(ids) * 9 // 10
    return ids[:cut], ids[cut:]


def batches(ids: Ids, steps: int) -> list[tuple[Ids, Ids]]:
    """Return the windows of this number of steps, in the order of as many epochs as they take."""
    found: list[tuple[Ids, Ids]] = []
    while len(found) < steps:
        whole = len(ids) // LENGTH // BATCH - 1
        epoch = fn.windows(ids, LENGTH, BATCH, key=KEY.child("windows", len(found)))[:whole]
        found += [(np.ascontiguousarray(batch.x), np.ascontiguousarray(batch.y)) for batch in epoch]
    return found[:steps]


class Funcnet:
    """funcnet's training of one model."""

    def __init__(self, net: Net) -> None:
        self.step = fn.train_step(fn.softmax_cross_entropy)
        self.state = fn.TrainState.create(net, fn.Adam(learning_rate=RATE), key=KEY)

    def train(self, examples: Sequence[tuple[Ids, Ids]]) -> None:
        """Take a step with each batch."""
        self.state, _ = fn.train_epoch(self.step, self.state, [fn.Batch(x, y) for x, y in examples])

    def bits(self, x: Ids, y: Ids) -> float:
        """Return the bits per character."""
        return fn.evaluate(self.state.params, x, y, fn.softmax_cross_entropy) / math.log(2)


class PyTorch:
    """PyTorch's training of the same model, eager."""

    def __init__(self, net: Net) -> None:
        self.modules, self.logits = (recurrent_twin if len(net) == 3 else attention_twin)(net)
        self.optimizer = torch.optim.Adam(self.modules.parameters(), lr=RATE)

    def train(self, examples: Sequence[tuple[Ids, Ids]]) -> None:
        """Take a step with each batch."""
        self.modules.train()
        for x, y in examples:
            self.optimizer.zero_grad()
            logits = self.logits(torch.from_numpy(x))
            torch.nn.functional.cross_entropy(logits.flatten(0, 1), torch.from_numpy(y).flatten()).backward()
            self.optimizer.step()

    def bits(self, x: Ids, y: Ids) -> float:
        """Return the bits per character."""
        self.modules.eval()
        with torch.inference_mode():
            logits = self.logits(torch.from_numpy(x))
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), torch.from_numpy(y).flatten())
        return float(loss) / math.log(2)


def compared(name: str, size: int, steps: int, rounds: int) -> tuple[str, ...]:
    """Return one line: the bits of both libraries after all steps, and the time of a step of both."""
    train, test = text()
    examples = batches(train, steps)
    x, y = (test[start : start + len(test[1:]) // LENGTH * LENGTH].reshape(-1, LENGTH) for start in (0, 1))
    net = OURS[name](size)
    ours, theirs = Funcnet(net), PyTorch(net)
    bits: list[float] = []
    for each in (ours, theirs):
        each.train(examples)
        bits.append(each.bits(x, y))
    timed = examples[: min(steps, 50)]
    tasks = [Task(lambda: None, partial(each.train, timed)) for each in (ours, theirs)]
    times = [timing.median / len(timed) * 1e3 for timing in measure(tasks, rounds, seconds=0.0)]
    numbers = f"{bits[0]:.4f}", f"{bits[1]:.4f}", f"{bits[0] - bits[1]:+.4f}"
    return name, *numbers, f"{times[0]:.2f}", f"{times[1]:.2f}", f"{times[0] / times[1]:.2f}"


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(prog="benchmarks.language_models", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", default=",".join(OURS), help=f"such as gru,lstm (default {','.join(OURS)})")
    parser.add_argument("--size", type=int, default=64, help="units or channels (default 64)")
    parser.add_argument("--steps", type=int, default=400, help="training steps (default 400)")
    parser.add_argument("--rounds", type=int, default=7, help="timed rounds, of which the median is shown (default 7)")
    options = parser.parse_args()
    chosen = chosen_names(parser, options.models, OURS, kind="model")
    torch.set_num_threads(1)
    print("\n".join(f"{name}: {value}" for name, value in facts(threads=1).items()), end="\n\n")
    head = ("model", "funcnet bits", "PyTorch bits", "difference", "funcnet ms", "PyTorch ms", "ratio")
    lines = [compared(name, options.size, options.steps, options.rounds) for name in chosen]
    print(aligned([head, *lines]))


if __name__ == "__main__":
    main()
