"""What the law tests run over: one row a layer, and random networks of them, nested and empty ones included."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from attrs import frozen
from hypothesis import strategies as st

import funcnet as fn
from funcnet.draws import normal
from funcnet.layers.windows import Padding, Pair


@frozen
class Case:
    """A layer under test: how to make it for rows of a shape, the shape, and whether it keeps it.

    ``rowwise``: a row's output depends on no other row, nor on its place.
    """

    name: str
    make: Callable[[fn.Key, tuple[int, ...]], fn.Layer]
    shape: tuple[int, ...] = (4,)
    keeps_shape: bool = True
    rowwise: bool = True

    def layer(self) -> fn.Layer:
        """The layer, in float64."""
        return self.make(KEY, self.shape)

    def x(self, batch: int, dtype: fn.FloatDType = np.float64) -> fn.Array:
        """A batch that it takes."""
        return inputs(KEY.child("x"), batch, *self.shape, dtype=dtype)


def layer_norm(key: fn.Key, shape: tuple[int, ...], epsilon: float) -> fn.LayerNorm:
    """With any scale and offset."""
    size = shape[-1]
    return fn.LayerNorm(inputs(key.child("scale"), size), inputs(key.child("offset"), size), epsilon)


def rms_norm(key: fn.Key, shape: tuple[int, ...], epsilon: float) -> fn.RMSNorm:
    """With any scale."""
    return fn.RMSNorm(inputs(key.child("scale"), shape[-1]), epsilon)


def batch_norm(key: fn.Key, shape: tuple[int, ...], epsilon: float, *, training: bool = False) -> fn.BatchNorm:
    """With any scale, offset and statistics."""
    scale, offset, mean, variance = (inputs(key.child(part), shape[-1]) for part in range(4))
    return fn.BatchNorm(scale, offset, mean, np.abs(variance), epsilon, training)


def standardize(key: fn.Key, shape: tuple[int, ...]) -> fn.Standardize:
    """With any statistics."""
    return fn.Standardize(mean=inputs(key.child("mean"), *shape), scale=np.abs(inputs(key.child("scale"), *shape)))


def conv2d(
    shape: tuple[int, ...],
    kernel: tuple[int, int],
    *,
    stride: Pair = 1,
    padding: Padding = "valid",
    dilation: Pair = 1,
    outputs: int = 3,
) -> Case:
    """Convolution of images of a shape, with any weight and bias."""

    def make(key: fn.Key, shape: tuple[int, ...]) -> fn.Conv2D:
        weight = inputs(key.child("weight"), *kernel, shape[-1], outputs)
        return fn.Conv2D(weight, inputs(key.child("bias"), outputs), stride, padding, dilation)

    settings = f"kernel {kernel}, stride {stride}, padding {padding}, dilation {dilation}"
    return Case(f"Conv2D of {shape}, {settings}", make, shape, keeps_shape=False)


def pool(
    layer: type[fn.MaxPool2D | fn.AvgPool2D],
    shape: tuple[int, ...],
    window: Pair,
    stride: Pair | None = None,
    padding: Padding = "valid",
) -> Case:
    """Pooling of images of a shape."""
    name = f"{layer.__name__} of {shape}, window {window}, stride {stride}, padding {padding}"
    return Case(name, lambda _, __: layer(window, stride, padding), shape, keeps_shape=False)


MILD = 0.1  # an epsilon with which random networks stay smooth enough for differences where a feature is constant
KEY = fn.Key(20)
CASES = (
    Case("Dense", lambda key, shape: fn.dense(key, shape[0], 3, dtype=np.float64), keeps_shape=False),
    Case("Identity", lambda _, __: fn.Identity()),
    Case("ReLU", lambda _, __: fn.ReLU()),
    Case("Sigmoid", lambda _, __: fn.Sigmoid()),
    Case("Tanh", lambda _, __: fn.Tanh()),
    Case("LeakyReLU", lambda _, __: fn.LeakyReLU()),
    Case("LeakyReLU of slope 0.3", lambda _, __: fn.LeakyReLU(0.3)),
    Case("ELU", lambda _, __: fn.ELU()),
    Case("ELU of alpha 0.5", lambda _, __: fn.ELU(0.5)),
    Case("Softplus", lambda _, __: fn.Softplus()),
    Case("SiLU", lambda _, __: fn.SiLU()),
    Case("GELU", lambda _, __: fn.GELU()),
    Case("GELUTanh", lambda _, __: fn.GELUTanh()),
    Case("Dropout", lambda _, __: fn.Dropout(0.4)),
    Case("Dropout in training", lambda key, _: fn.Dropout(0.4, key=key.child("mask")), rowwise=False),
    Case("Residual", lambda key, shape: fn.Residual((fn.Tanh(), fn.dense(key, shape[0], shape[0], dtype=np.float64)))),
    Case("Residual of nothing", lambda _, __: fn.Residual(())),
    Case("Flatten", lambda _, __: fn.Flatten(), (2, 3, 2), keeps_shape=False),
    Case("LayerNorm", lambda key, shape: layer_norm(key, shape, MILD)),
    Case("LayerNorm of images", lambda key, shape: layer_norm(key, shape, 1e-5), (3, 2, 4)),
    Case("RMSNorm", lambda key, shape: rms_norm(key, shape, MILD)),
    Case("RMSNorm of images", lambda key, shape: rms_norm(key, shape, 1e-5), (3, 2, 4)),
    Case("BatchNorm", lambda key, shape: batch_norm(key, shape, MILD)),
    Case("BatchNorm of images", lambda key, shape: batch_norm(key, shape, 1e-5), (3, 2, 4)),
    Case("BatchNorm in training", lambda key, shape: batch_norm(key, shape, MILD, training=True), rowwise=False),
    Case(
        "BatchNorm of images in training",
        lambda key, shape: batch_norm(key, shape, 1e-5, training=True),
        (3, 2, 4),
        rowwise=False,
    ),
    Case("Standardize", standardize),
    Case("Standardize of images", standardize, (3, 2, 4)),
    Case("Reshape", lambda _, __: fn.Reshape((3, 2)), (6,), keeps_shape=False),
    conv2d((5, 4, 2), (3, 3)),
    conv2d((5, 4, 2), (3, 3), padding="same"),
    conv2d((6, 5, 1), (3, 2), padding="same", stride=2),
    conv2d((4, 5, 2), (2, 4), padding=((1, 0), (0, 2))),
    conv2d((7, 6, 1), (2, 3), stride=(3, 2), padding=1, dilation=(2, 1)),
    conv2d((5, 7, 2), (2, 2), dilation=(1, 3), padding=(0, 1)),
    conv2d((3, 4, 3), (1, 1), outputs=2),
    conv2d((5, 3, 2), (1, 1), stride=2),
    conv2d((3, 2, 2), (3, 2)),
    conv2d((2, 3, 1), (1, 2), stride=(1, 4), padding="same", outputs=1),
    pool(fn.MaxPool2D, (4, 6, 2), 2),
    pool(fn.MaxPool2D, (5, 5, 2), 3, 2),
    pool(fn.MaxPool2D, (5, 4, 1), (2, 3), (3, 1), "same"),
    pool(fn.MaxPool2D, (3, 5, 2), (2, 1), 4, ((1, 0), (0, 0))),
    pool(fn.AvgPool2D, (4, 6, 2), 2),
    pool(fn.AvgPool2D, (5, 5, 2), 3, 2, "same"),
    pool(fn.AvgPool2D, (5, 4, 1), (2, 3), (3, 1), 1),
    Case("GlobalAvgPool2D", lambda _, __: fn.GlobalAvgPool2D(), (3, 5, 2), keeps_shape=False),
)
VECTOR_CASES = tuple(case for case in CASES if case.keeps_shape and len(case.shape) == 1)


def inputs(key: fn.Key, *shape: int, dtype: fn.FloatDType = np.float64) -> fn.Array:
    """Normal numbers that keep a distance of 0.01 from 0, where some layers have a kink; locked."""
    z = normal(key, shape)
    x: fn.Array = np.where(z < 0, z - 0.01, z + 0.01).astype(dtype)
    x.flags.writeable = False
    return x


@st.composite
def networks(draw: st.DrawFn, size: int = 4, depth: int = 2) -> tuple[fn.Network, ...]:
    """A random network for (B, size) inputs: tuples in tuples, Residuals of networks, empty tuples."""
    layers: list[fn.Network] = []
    for position in range(draw(st.integers(0, 3))):
        key = fn.Key(draw(st.integers(0, 2**16))).child(position)
        kind = draw(st.sampled_from(["layer", "dense", "tuple", "residual"] if depth else ["layer", "dense"]))
        if kind == "dense":
            out_size = draw(st.integers(1, 5))
            layers.append(fn.dense(key, size, out_size, dtype=np.float64))
            size = out_size
        elif kind == "tuple":
            inner = draw(networks(size, depth - 1))
            layers.append(inner)
            size = width(inner, size)
        elif kind == "residual":
            inner = draw(networks(size, depth - 1))
            back = width(inner, size)
            layers.append(fn.Residual((inner, fn.dense(key, back, size, dtype=np.float64))))
        else:
            layers.append(draw(st.sampled_from(VECTOR_CASES)).make(key, (size,)))
    return tuple(layers)


def width(net: fn.Network, size: int) -> int:
    """The number of features that come out when ``size`` go in."""
    return int(fn.forward(net, np.ones((1, size))).shape[1])
