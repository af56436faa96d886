"""Normalization compared with PyTorch in float64: output, ``grad_x`` and parameter gradients, to 1e-9 relative."""

from __future__ import annotations

from typing import Any

import pytest
from networks import batch_norm, inputs, layer_norm, rms_norm

torch: Any = pytest.importorskip("torch", exc_type=ImportError)

import numpy as np  # noqa: E402  # after the check for PyTorch
from test_torch_layers import Row, Twin, check_row, parameter  # noqa: E402

import funcnet as fn  # noqa: E402

KEY = fn.Key(33)
IMAGE = (3, 2, 6)


def affine(module: Any, layer: fn.LayerNorm | fn.BatchNorm) -> Twin:
    """The parameters and their gradients; PyTorch calls scale and offset weight and bias."""
    module.weight, module.bias = parameter(layer.scale), parameter(layer.offset)
    return Twin(module, lambda: [module.weight.grad, module.bias.grad])


def torch_layer_norm(layer: fn.LayerNorm) -> Twin:
    """PyTorch's LayerNorm over the last axis."""
    return affine(torch.nn.LayerNorm(layer.scale.size, layer.epsilon, dtype=torch.float64), layer)


def torch_rms_norm(layer: fn.RMSNorm) -> Twin:
    """PyTorch's RMSNorm over the last axis."""
    module = torch.nn.RMSNorm(layer.scale.size, layer.epsilon, dtype=torch.float64)
    module.weight = parameter(layer.scale)
    return Twin(module, lambda: [module.weight.grad])


def torch_batch_norm(layer: fn.BatchNorm, kind: str = "BatchNorm1d") -> Twin:
    """PyTorch's BatchNorm with the layer's mode and with the layer's statistics as the running ones."""
    module = getattr(torch.nn, kind)(layer.scale.size, layer.epsilon, dtype=torch.float64)
    module.running_mean, module.running_var = torch.tensor(layer.mean), torch.tensor(layer.variance)
    return affine(module.train(layer.training), layer)


def torch_image_norm(layer: fn.BatchNorm) -> Twin:
    """PyTorch's BatchNorm for images."""
    return torch_batch_norm(layer, "BatchNorm2d")


def channels_first(x: Any) -> Any:
    """The images in PyTorch's layout."""
    return x.permute(0, 3, 1, 2)


def channels_last(y: Any) -> Any:
    """The images in funcnet's layout."""
    return y.permute(0, 2, 3, 1)


def batch_norm_rows(mode: str, *, training: bool) -> tuple[Row, Row]:
    """The rows of BatchNorm for vectors and images."""
    vectors, images = (batch_norm(KEY, shape, 1e-5, training=training) for shape in ((7,), IMAGE))
    return (
        Row(f"BatchNorm in {mode}", vectors, torch_batch_norm),
        Row(f"BatchNorm of images in {mode}", images, torch_image_norm, IMAGE, channels_first, channels_last),
    )


ROWS = (
    Row("LayerNorm", layer_norm(KEY, (7,), 1e-5), torch_layer_norm),
    Row("LayerNorm of images", layer_norm(KEY, IMAGE, 0.01), torch_layer_norm, IMAGE),
    Row("RMSNorm", rms_norm(KEY, (7,), 1e-5), torch_rms_norm),
    Row("RMSNorm of images", rms_norm(KEY, IMAGE, 0.01), torch_rms_norm, IMAGE),
    *batch_norm_rows("evaluation", training=False),
    *batch_norm_rows("training", training=True),
)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_normalisation_computes_what_pytorch_does(row: Row) -> None:
    """Output, ``grad_x`` and parameter gradients agree."""
    check_row(row)


def test_calibration_is_the_mean_of_pytorchs_batches() -> None:
    """The reference is one batch of all rows with momentum 1; its running variance is converted to the biased one."""
    x = inputs(KEY.child("x"), 20, 7)
    module = torch.nn.BatchNorm1d(7, momentum=1.0, dtype=torch.float64)
    module(torch.tensor(x))
    layer = fn.calibrate(fn.batch_norm(7, dtype=np.float64), x)
    assert layer.mean is not None
    assert layer.variance is not None
    np.testing.assert_allclose(layer.mean, module.running_mean.numpy(), rtol=1e-9)
    np.testing.assert_allclose(layer.variance * 20 / 19, module.running_var.numpy(), rtol=1e-9)
