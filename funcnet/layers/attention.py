"""MultiHeadAttention: the layer in which each step of a sequence attends to the other steps."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from attrs import frozen

from funcnet.arithmetic import exp, inner_each, matmul_each, matmul_last, maximum, sum_outer, sum_rows
from funcnet.core.arrays import Array, FloatDType, Mask, Weight, contiguous
from funcnet.core.checks import check_array, check_count, check_flag, check_row_shape
from funcnet.core.errors import ConfigError, ShapeError
from funcnet.core.records import evolve
from funcnet.core.trees import float_dtype
from funcnet.layers.channels import per_channel
from funcnet.layers.hidden_keys import hidden_keys
from funcnet.network.layer import Layer, Shape, register_layer
from funcnet.network.masks import check_mask, check_mask_field, check_steps
from funcnet.random.initializers import Initializer, check_initializer, first_bias, glorot_normal
from funcnet.random.keys import Key, check_key, keyed

_NAME: Final = "MultiHeadAttention"


@frozen(eq=False)
class MultiHeadAttention(Layer):
    """Self-attention: each step compares its query with the keys of all steps, which gives a weighted mean of values.

    ``q, k, v = x @ weight + bias``, ``y = softmax(q k.T / sqrt(D)) v @ out_weight + out_bias``. Each of H heads has D
    columns of q, k and v. The softmax over the keys gives its attention weights, and the mean of the values with these
    weights is its context. The contexts of the heads are side by side. Shapes: x, y (B, T, C), weight (C, 3 H D), bias
    (3 H D,), out_weight (H D, C), out_bias (C,). A bias that is None is 0.

    The columns of weight are those of all queries, then of all keys, then of all values, as in the transposed
    ``in_proj_weight`` of PyTorch's ``MultiheadAttention``.

    With ``causal``, a step attends to itself and to earlier steps. No step attends to a step whose element of the mask
    (B, T) is 0. The context of a step that can attend to no step is 0.

    Source: Vaswani et al., "Attention is all you need", NIPS 2017, section 3.2. The exponentials are divided by their
    sum after the product with the values, as in Dao et al., "FlashAttention", NeurIPS 2022.

    Example:
        >>> import funcnet as fn
        >>> layer = fn.MultiHeadAttention(np.array([[0.0, 0.0, 1.0]]), None, np.array([[1.0]]), None, heads=1)
        >>> x = np.array([[[2.0], [4.0], [9.0]]])
        >>> fn.forward(layer, x).ravel()  # all keys are equal: the context is the mean of the values
        array([5., 5., 5.])
        >>> from attrs import evolve
        >>> fn.forward(evolve(layer, causal=True), x).ravel()  # the means of 2; of 2 and 4; of 2, 4 and 9
        array([2., 3., 5.])
    """

    weight: Weight
    bias: Array | None
    out_weight: Weight
    out_bias: Array | None
    heads: int
    causal: bool = False
    mask: Mask | None = None

    def check(self) -> None:
        """Check that the arrays fit each other, and that the heads have equal sizes."""
        check_array(_NAME, "weight", self.weight, ("C", "3 * H * D"))
        size, columns = self.weight.shape
        check_count(_NAME, "weight's size", size)
        check_count(_NAME, "weight's number of columns", columns)
        check_count(_NAME, "heads", self.heads)
        if columns % (3 * self.heads):
            wanted = f"weight must have 3 * heads * D columns, with heads = {self.heads}"
            raise ShapeError(f"{wanted}, got {self.weight.shape}", subject=_NAME)
        check_array(_NAME, "out_weight", self.out_weight, (columns // 3, size), match=("weight", self.weight))
        if self.bias is not None:
            check_array(_NAME, "bias", self.bias, (columns,), match=("weight", self.weight))
        if self.out_bias is not None:
            check_array(_NAME, "out_bias", self.out_bias, (size,), match=("weight", self.weight))
        check_flag(_NAME, "causal", self.causal)
        check_mask_field(_NAME, self.mask)


class _Heads(NamedTuple):
    """The heads. Shapes: q, k, v and context (B, H, T, D), exps (B, H, T, T), total (B, H, T, 1)."""

    q: Array
    k: Array
    v: Array
    exps: Array
    total: Array
    context: Array


def _scale(params: MultiHeadAttention) -> float:
    """The factor of the queries, ``1 / sqrt(D)``. With it, scores of random queries and keys have the variance 1."""
    scale: float = 1 / np.sqrt(params.out_weight.shape[0] // params.heads).item()
    return scale


def _heads(params: MultiHeadAttention, x: Array) -> _Heads:
    """The context of each head: ``exps v / total``, where ``exps / total`` are the attention weights.

    The scores of hidden keys become -inf, whose exponentials are 0. The largest score of a step without visible keys
    counts as a finite number. All its exponentials are then 0, and so is its context. Portable arithmetic refuses -inf,
    so the exponents are at least the lowest finite number.
    """
    projected = matmul_last(x, params.weight)
    if params.bias is not None:
        projected = projected + params.bias
    sides = _apart(params, projected, 3)
    q, k, v = sides[0] * _scale(params), sides[1], sides[2]
    scores = inner_each(q, k)
    hidden = hidden_keys(x.shape[1], x.dtype, causal=params.causal, mask=params.mask)
    if hidden is not None:
        scores = scores + hidden
    lowest = np.finfo(x.dtype).min  # of the dtype: NumPy 1.26 would take a float of this size for a float64
    largest = np.maximum.reduce(scores, axis=-1, keepdims=True, initial=-np.inf if params.mask is None else lowest)
    exps = exp(maximum(scores - largest, lowest))
    total = maximum(_sums(exps), 1)
    return _Heads(q, k, v, exps, total, matmul_each(exps, v) / total)


def _sums(a: Array) -> Array:
    """The sums over the last axis, kept with size 1: products with ones, which are faster than reductions."""
    return matmul_each(a, np.ones((a.shape[-1], 1), a.dtype))


def _apart(params: MultiHeadAttention, a: Array, parts: int) -> Array:
    """The columns of each head of each part, without a copy. Shapes: (B, T, P H D) -> (P, B, H, T, D)."""
    size = a.shape[-1] // (parts * params.heads)
    return a.reshape(*a.shape[:2], parts, params.heads, size).transpose(2, 0, 3, 1, 4)


def _side_by_side(a: Array) -> Array:
    """The columns of all heads next to each other. Shapes: (B, H, T, D) -> (B, T, H D)."""
    batch, heads, steps, size = a.shape
    return contiguous(a.transpose(0, 2, 1, 3)).reshape(batch, steps, heads * size)


def attention_forward(params: MultiHeadAttention, x: Array) -> Array:
    """``y = softmax(q k.T / sqrt(D)) v @ out_weight + out_bias``, with the softmax over the keys."""
    weight = params.weight
    check_array(_NAME, "x", x, ("B", "T", len(weight)), dtype=weight.dtype, match=("weight", weight))
    check_steps(_NAME, x)
    check_mask(_NAME, params.mask, x)
    y = matmul_last(_side_by_side(_heads(params, x).context), params.out_weight)
    return y if params.out_bias is None else y + params.out_bias


def attention_backward(params: MultiHeadAttention, x: Array, g: Array) -> tuple[Array, MultiHeadAttention]:
    """The gradients of both projections are those of Dense layers, and each head has its own in between.

    A head computes the exponentials ``p = exp(s)`` of its scores, up to a factor, ``total = sum(p)`` and the context
    ``c = p v / total``. With ``h = g / total`` for the gradient g by c, ``grad_v = p.T h``, and ``dL/dp[i, j] = h[i] .
    v[j] - h[i] . c[i]``, where the second term comes from the total. Because ``dp/ds = p``, ``grad_s = p dL/dp``. The
    scores are products of q and k, so ``grad_q = grad_s k`` and ``grad_k = grad_s.T q``.
    """
    q, k, v, exps, total, context = _heads(params, x)
    contexts = _side_by_side(context)
    by_context = _apart(params, matmul_last(g, params.out_weight.T), 1)[0]
    by_sum = by_context / total
    by_score = exps * (inner_each(by_sum, v) - _sums(by_sum * context))
    grad_q = matmul_each(by_score, k) * _scale(params)
    grad_k = matmul_each(by_score.swapaxes(2, 3), q)
    grad_v = matmul_each(exps.swapaxes(2, 3), by_sum)
    by_projected = np.concatenate([_side_by_side(grad) for grad in (grad_q, grad_k, grad_v)], axis=-1)
    rows, out_rows = per_channel(by_projected), per_channel(g)
    return matmul_last(by_projected, params.weight.T), evolve(
        params,
        weight=sum_outer(per_channel(x), rows),
        bias=None if params.bias is None else sum_rows(rows),
        out_weight=sum_outer(per_channel(contexts), out_rows),
        out_bias=None if params.out_bias is None else sum_rows(out_rows),
    )


def attention_output_shape(params: MultiHeadAttention, shape: Shape) -> Shape:
    """The shape of y's rows, which is that of x's rows, (T, C)."""
    check_row_shape(_NAME, shape, ("T", len(params.weight)), ("weight", params.weight))
    return shape


register_layer(
    MultiHeadAttention,
    forward=attention_forward,
    backward=attention_backward,
    output_shape=attention_output_shape,
    name="funcnet.MultiHeadAttention",
)


@keyed
def multi_head_attention(
    key: Key,
    size: int,
    heads: int,
    *,
    causal: bool = False,
    bias: bool = True,
    init: Initializer = glorot_normal,
    dtype: FloatDType = np.float32,
) -> MultiHeadAttention:
    """Create a MultiHeadAttention layer with random weights and biases that are zero, or without biases.

    Args:
        key: The key of the draws.
        size: C, the size of the input and of the output. Each head has the size ``size // heads``.
        heads: The number of heads, which must divide the size.
        causal: Whether a step attends to itself and earlier steps only.
        bias: Whether both projections have a bias.
        init: The initializer of both weights.
        dtype: np.float32 or np.float64.

    Raises:
        ConfigError: If a size is not a positive int, heads does not divide size, the initializer is not a function, or
            the dtype is invalid.

    Example:
        >>> multi_head_attention(Key(0), 8, 2, causal=True, bias=False)  # doctest: +NORMALIZE_WHITESPACE
        MultiHeadAttention(weight=float32 (8, 24), bias=None, out_weight=float32 (8, 8), out_bias=None,
                           heads=2, causal=True, mask=None)
    """
    name = "multi_head_attention"
    check_key(name, key)
    size, heads = check_count(name, "size", size), check_count(name, "heads", heads)
    if size % heads:
        raise ConfigError(f"heads must divide size, got size {size} and heads {heads}", subject=name)
    check_initializer(name, "init", init)
    kind = float_dtype(dtype)
    inside, outside = key.child("in"), key.child("out")
    return MultiHeadAttention(
        weight=init(inside, (size, 3 * size), kind),
        bias=first_bias(name, inside, (size, 3 * size), kind, None, bias=bias),
        out_weight=init(outside, (size, size), kind),
        out_bias=first_bias(name, outside, (size, size), kind, None, bias=bias),
        heads=heads,
        causal=causal,
    )
