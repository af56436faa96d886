"""Attention compared with PyTorch's own modules in float64: outputs and all gradients, to a relative error of 1e-9."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from networks import inputs

import funcnet as fn
from funcnet.core.trees import trained_arrays

torch: Any = pytest.importorskip("torch", exc_type=ImportError)
KEY = fn.Key(58)
STEPS, SIZE = 5, 12


def array(tensor: Any) -> fn.Array:
    """A tensor as an array of its own, transposed if it is a matrix: PyTorch stores (O, I)."""
    numbers: fn.Array = np.ascontiguousarray(tensor.detach().numpy().T).copy()
    return numbers


def attention_of(module: Any, *, causal: bool) -> fn.MultiHeadAttention:
    """The layer with the arrays of PyTorch's MultiheadAttention."""
    inside, outside = module.in_proj_bias, module.out_proj.bias
    biases = [None if bias is None else array(bias) for bias in (inside, outside)]
    weights = array(module.in_proj_weight), array(module.out_proj.weight)
    return fn.MultiHeadAttention(weights[0], biases[0], weights[1], biases[1], module.num_heads, causal)


def drawn(module: Any) -> Any:
    """The module in float64, with random numbers in each of its parameters."""
    module = module.double()
    with torch.no_grad():
        for number, parameter in enumerate(module.parameters()):
            parameter.copy_(torch.tensor(inputs(KEY.child("parameter", number), *parameter.shape)) / 2)
    return module


def check(net: fn.Network, x: fn.Array, theirs: Any, given: Any, parameters: list[Any]) -> None:
    """Compare the output and the gradients of a network with those of a tensor that PyTorch computed."""
    y, pull = fn.vjp(net, x)
    g = inputs(KEY.child("g"), *y.shape)
    theirs.backward(torch.tensor(g))
    grad_x, grads = pull(g)
    pairs = zip(trained_arrays(grads), (parameter.grad for parameter in parameters), strict=True)
    for ours, wanted in [
        (y, theirs.detach().numpy()),
        (grad_x, given.grad.numpy()),
        *((a, array(b)) for a, b in pairs),
    ]:
        np.testing.assert_allclose(ours, wanted, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("causal", "padded", "bias"), [*product([False, True], repeat=3)])
@pytest.mark.parametrize("heads", [1, 3])
def test_attention_is_pytorchs(heads: int, causal: bool, padded: bool, bias: bool) -> None:  # noqa: FBT001  # pytest parameters
    """The key padding mask and the causal mask are applied together. Each query has a key that it may read."""
    module = drawn(torch.nn.MultiheadAttention(SIZE, heads, bias=bias, batch_first=True))
    x, mask = inputs(KEY.child("x"), 3, STEPS, SIZE), np.ones((3, STEPS))
    mask[0, 3:], mask[1, 2] = 0, 0
    net = attention_of(module, causal=causal)
    given, later = torch.tensor(x, requires_grad=True), torch.ones(STEPS, STEPS, dtype=torch.bool).triu(1)
    settings = {"key_padding_mask": torch.tensor(mask == 0) if padded else None, "attn_mask": later if causal else None}
    theirs, _ = module(given, given, given, need_weights=False, **settings)
    arrays = [module.in_proj_weight, module.in_proj_bias, module.out_proj.weight, module.out_proj.bias]
    check(fn.masked(net, mask if padded else None), x, theirs, given, [each for each in arrays if each is not None])


@pytest.mark.parametrize("causal", [False, True])
def test_a_transformer_block_is_pytorchs_encoder_layer(causal: bool) -> None:  # noqa: FBT001  # pytest parameter
    """The constructor has the structure of TransformerEncoderLayer with the norms first."""
    module = drawn(
        torch.nn.TransformerEncoderLayer(
            SIZE, 3, 20, dropout=0.0, activation="gelu", batch_first=True, norm_first=True, bias=True
        )
    )
    attention, norms = module.self_attn, (module.norm1, module.norm2)
    block = fn.transformer_block(KEY, SIZE, 3, hidden=20, causal=causal, activation=fn.GELU(), dtype=np.float64)
    layers = [
        *(norms[0].weight, norms[0].bias, attention.in_proj_weight, attention.in_proj_bias),
        *(attention.out_proj.weight, attention.out_proj.bias, norms[1].weight, norms[1].bias),
        *(module.linear1.weight, module.linear1.bias, module.linear2.weight, module.linear2.bias),
    ]
    arrays = iter(map(array, layers))
    net = fn.map_parameters(lambda _: next(arrays), block)
    x = inputs(KEY.child("x"), 3, STEPS, SIZE)
    given, later = torch.tensor(x, requires_grad=True), torch.ones(STEPS, STEPS, dtype=torch.bool).triu(1)
    check(net, x, module(given, src_mask=later if causal else None), given, layers)
