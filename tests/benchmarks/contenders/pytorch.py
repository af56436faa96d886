"""PyTorch, eager: its own tensors in memory, batches by index, and no value asked for before the epoch ends."""

from __future__ import annotations

import os

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.contenders import Predictor
from benchmarks.workloads import LEARNING_RATE, Floats, Problem


def network(problem: Problem) -> torch.nn.Sequential:
    """The problem's initial network."""
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    layers: list[torch.nn.Module] = []
    for weight in problem.weights:
        linear = torch.nn.Linear(weight.shape[0], weight.shape[1])
        layers += [linear, torch.nn.ReLU()]
    model = torch.nn.Sequential(*layers[:-1])
    load(model, problem)
    return model


def linears(model: torch.nn.Sequential) -> list[torch.nn.Linear]:
    """The layers with parameters."""
    return [layer for layer in model if isinstance(layer, torch.nn.Linear)]


def load(model: torch.nn.Sequential, problem: Problem) -> None:
    """Copy the problem's initial weights in, and zeros."""
    with torch.no_grad():
        for layer, weight in zip(linears(model), problem.weights, strict=True):
            layer.weight.copy_(torch.from_numpy(weight.T))
            layer.bias.zero_()


class Training:
    """The loop of PyTorch's tutorials."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.model = network(problem)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=LEARNING_RATE)
        self.x, self.y = torch.from_numpy(problem.x32), torch.from_numpy(problem.labels)

    def start(self) -> None:
        """Plain SGD has no state but the weights."""
        load(self.model, self.problem)

    def epoch(self) -> float:
        """Losses stay tensors until the end."""
        count = len(self.y)
        order = torch.randperm(count) if self.problem.shuffle else torch.arange(count)
        losses: list[torch.Tensor] = []
        for index in order.split(self.problem.batch_size):
            self.optimizer.zero_grad()
            logits = self.model(self.x.index_select(0, index))
            loss = torch.nn.functional.cross_entropy(logits, self.y.index_select(0, index))
            loss.backward()
            self.optimizer.step()
            losses.append(loss.detach())
        return float(torch.stack(losses).mean().item())

    def weights(self) -> list[Floats]:
        """PyTorch keeps them as (O, I)."""
        return [layer.weight.detach().numpy().T for layer in linears(self.model)]


def train(problem: Problem) -> Training:
    """The loop of PyTorch's tutorials."""
    return Training(problem)


def predict(problem: Problem) -> Predictor:
    """All rows at once, without gradients."""
    model, x = network(problem), torch.from_numpy(problem.x32)

    def run() -> NDArray[np.integer]:
        with torch.inference_mode():
            ids: NDArray[np.int64] = model(x).argmax(dim=1).numpy()
        return ids

    return run
