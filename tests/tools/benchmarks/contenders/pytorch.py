"""PyTorch, eager: tensors in memory, batches by index, and no value read before the end of the epoch."""

from __future__ import annotations

import math
import os
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.contenders import Predictor
from benchmarks.workloads import LEARNING_RATE, Floats, Problem

LAST: Final = (5, 5, 16)
"""The shape of the LeNet's images before they are flattened."""


def network(problem: Problem) -> torch.nn.Sequential:
    """Return the problem's initial network."""
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    layers: list[torch.nn.Module] = []
    for weight in problem.weights:
        linear = torch.nn.Linear(weight.shape[0], weight.shape[1])
        layers += [linear, torch.nn.ReLU()]
    model = torch.nn.Sequential(*layers[:-1])
    load(model, problem)
    return model


def lenet(problem: Problem) -> torch.nn.Sequential:
    """Return the LeNet with the problem's initial weights."""
    nn = torch.nn
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    first, second = nn.Conv2d(1, 6, 5, padding=2), nn.Conv2d(6, 16, 5)
    images = [first, nn.ReLU(), nn.MaxPool2d(2), second, nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()]
    model = nn.Sequential(*images, nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10))
    load(model, problem)
    return model


def trained(model: torch.nn.Sequential) -> list[torch.nn.Linear | torch.nn.Conv2d]:
    """Return the layers with parameters."""
    return [layer for layer in model if isinstance(layer, torch.nn.Linear | torch.nn.Conv2d)]


def theirs(weight: Floats) -> Floats:
    """Convert (I, O) to (O, I), and kernels (KH, KW, C, O) to (O, C, KH, KW). After images, channels come first."""
    if weight.ndim == 4:
        return weight.transpose(3, 2, 0, 1)
    if len(weight) == math.prod(LAST):
        weight = weight.reshape(*LAST, -1).transpose(2, 0, 1, 3).reshape(weight.shape)
    return weight.T


def ours(weight: Floats) -> Floats:
    """Invert ``theirs``."""
    if weight.ndim == 4:
        return weight.transpose(2, 3, 1, 0)
    if weight.shape[1] == math.prod(LAST):
        height, width, channels = LAST
        return weight.T.reshape(channels, height, width, -1).transpose(1, 2, 0, 3).reshape(weight.T.shape)
    return weight.T


def load(model: torch.nn.Sequential, problem: Problem) -> None:
    """Copy the problem's initial weights into the model, and set the biases to zero."""
    with torch.no_grad():
        for layer, weight in zip(trained(model), problem.weights, strict=True):
            layer.weight.copy_(torch.from_numpy(theirs(weight).copy()))
            assert layer.bias is not None
            layer.bias.zero_()


class Training:
    """The loop of PyTorch's tutorials."""

    def __init__(self, problem: Problem, model: torch.nn.Sequential) -> None:
        self.problem, self.model = problem, model
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=LEARNING_RATE)
        images = problem.x32.ndim == 4
        self.x = torch.from_numpy(problem.x32.transpose(0, 3, 1, 2).copy() if images else problem.x32)
        self.y = torch.from_numpy(problem.labels)

    def start(self) -> None:
        """Load the initial weights; plain SGD has no other state."""
        load(self.model, self.problem)

    def epoch(self) -> float:
        """Train one epoch; losses stay tensors until its end."""
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
        """Return the weights in funcnet's layout."""
        return [ours(layer.weight.detach().numpy()) for layer in trained(self.model)]


def train(problem: Problem) -> Training:
    """Train with the loop of PyTorch's tutorials."""
    return Training(problem, network(problem))


def train_images(problem: Problem) -> Training:
    """Train a LeNet with the same loop."""
    return Training(problem, lenet(problem))


def predict(problem: Problem) -> Predictor:
    """Predict all rows at once, without gradients."""
    model, x = network(problem), torch.from_numpy(problem.x32)

    def run() -> NDArray[np.integer]:
        with torch.inference_mode():
            ids: NDArray[np.int64] = model(x).argmax(dim=1).numpy()
        return ids

    return run
