"""Recurrent layers compared with PyTorch's own modules in float64: both directions, packed sequences, all gradients."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from attrs import evolve
from networks import inputs

import funcnet as fn
from funcnet.core.trees import trained_arrays

torch: Any = pytest.importorskip("torch", exc_type=ImportError)
KEY = fn.Key(59)
INPUTS, SIZE, LENGTHS = 3, 4, (6, 1, 4, 6, 2)
FORMS: dict[str, Any] = {"tanh": fn.RNN, "relu": fn.RNN, "GRU": fn.GRU, "LSTM": fn.LSTM}


def module_of(form: str, *, bias: bool) -> Any:
    """PyTorch's module with both directions and random parameters."""
    settings: dict[str, Any] = {"batch_first": True, "bidirectional": True, "bias": bias, "dtype": torch.float64}
    name, more = (form, {}) if form in ("GRU", "LSTM") else ("RNN", {"nonlinearity": form})
    module = getattr(torch.nn, name)(INPUTS, SIZE, **settings, **more)
    with torch.no_grad():
        for number, parameter in enumerate(module.parameters()):
            parameter.copy_(torch.tensor(inputs(KEY.child("parameter", number), *parameter.shape)) / 2)
    return module


def fields(form: str, tensors: list[Any], states: list[Any], *, gradients: bool = False) -> dict[str, Any]:
    """The fields of a record from the tensors of one direction; the gradients of two biases are those of their sum."""
    first, second, *biases = [tensor.grad if gradients else tensor for tensor in tensors]
    found = {"weight": first.T, "recurrent": second.T}
    if biases:
        found["bias"] = biases[0] if gradients else biases[0] + biases[1]
    if biases and form == "GRU":
        inner = slice(2 * SIZE, None)
        found["bias"] = torch.cat([found["bias"][: 2 * SIZE], biases[0][inner]])
        found["recurrent_bias"] = biases[1][inner]
    names = ("initial", "initial_cell")[: len(states)]
    found |= dict(zip(names, [state.grad if gradients else state for state in states], strict=True))
    return {name: np.ascontiguousarray(tensor.detach().numpy()) for name, tensor in found.items()}


def run(module: Any, x: Any, mask: Any, states: list[list[Any]]) -> tuple[Any, Any]:
    """PyTorch's outputs (B, T, 2 * H) and last states (B, 2 * H); with a mask, of packed sequences."""
    hidden = [torch.stack(pair)[:, None].expand(2, len(x), SIZE).contiguous() for pair in zip(*states, strict=True)]
    given = x
    if mask is not None:
        lengths = torch.tensor(LENGTHS)
        given = torch.nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    y, last = module(given, hidden[0] if len(hidden) == 1 else tuple(hidden))
    if mask is not None:
        y, _ = torch.nn.utils.rnn.pad_packed_sequence(y, batch_first=True)
    return y, (last if len(hidden) == 1 else last[0]).swapaxes(0, 1).flatten(1)


@pytest.mark.parametrize(("packed", "bias"), [*product([False, True], repeat=2)])
@pytest.mark.parametrize("form", FORMS)
def test_both_directions_are_pytorchs(form: str, packed: bool, bias: bool) -> None:  # noqa: FBT001  # pytest parameters
    """Outputs, last states, and the gradients by x, every parameter and the initial states agree to 1e-9."""
    module, kind, count = module_of(form, bias=bias), FORMS[form], 2 if form == "LSTM" else 1
    mask = np.arange(max(LENGTHS)) < np.array(LENGTHS)[:, None] if packed else None
    x = inputs(KEY.child("x"), len(LENGTHS), max(LENGTHS), INPUTS)
    x = x if mask is None else x * mask[:, :, None]
    given = torch.tensor(x, requires_grad=True)
    numbers = [[inputs(KEY.child("state", way, k), SIZE) for k in range(count)] for way in (0, 1)]
    states = [[torch.tensor(each, requires_grad=True) for each in way] for way in numbers]
    theirs = run(module, given, mask, states)
    slopes = [inputs(KEY.child("g", k), *y.shape) for k, y in enumerate(theirs)]
    torch.autograd.backward(theirs, [torch.tensor(g) for g in slopes])

    parameters = list(module.parameters())
    more: dict[str, Any] = {"activation": form} if kind is fn.RNN else {}
    ways = [(parameters[: len(parameters) // 2], states[0]), (parameters[len(parameters) // 2 :], states[1])]
    first, second = (kind(**fields(form, *way), **more) for way in ways)
    net = fn.masked(fn.bidirectional(first, second), None if mask is None else mask.astype(np.float64))
    nets = net, evolve(net, nets=tuple(evolve(layer, outputs="last") for layer in net.nets))
    ours = [fn.forward(each, x) for each in nets]
    (by_x, grads), (also_by_x, also) = (fn.backward(each, x, g) for each, g in zip(nets, slopes, strict=True))
    for y, wanted in zip((*ours, by_x + also_by_x), (*theirs, given.grad), strict=True):
        np.testing.assert_allclose(y, wanted.detach().numpy(), rtol=1e-9, atol=1e-12)
    for one, other, way in zip(grads.nets, also.nets, ways, strict=True):
        wanted = fields(form, *way, gradients=True)
        assert len(trained_arrays(one)) == len(wanted)
        for name, array in wanted.items():
            np.testing.assert_allclose(getattr(one, name) + getattr(other, name), array, rtol=1e-9, atol=1e-12)
