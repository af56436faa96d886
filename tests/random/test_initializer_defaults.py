"""The table of defaults in ``initializers``, compared with PyTorch and scikit-learn if they are installed."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import funcnet as fn
from funcnet import initializers

I, O = 300, 200  # noqa: E741  # the letters of the table
GLOROT = math.sqrt(6 / (I + O))


def check_uniform(numbers: NDArray[Any], limit: float) -> None:
    """Check that numbers almost reach the limit and have a uniform variance, to four standard errors."""
    assert 1 - 10 / numbers.size < np.abs(numbers).max() / limit <= 1 + 1e-6
    assert numbers.var() == pytest.approx(limit**2 / 3, rel=4 * math.sqrt(0.8 / numbers.size))


def check_normal(numbers: NDArray[Any], variance: float) -> None:
    """Check the variance, and that the tails are longer than those of a uniform or truncated distribution."""
    assert numbers.var() == pytest.approx(variance, rel=4 * math.sqrt(2 / numbers.size))
    assert np.abs(numbers).max() > 3.5 * math.sqrt(variance)


def test_ours() -> None:
    """This is the first row of the table."""
    weight, bias = fn.trained_arrays(fn.dense(fn.Key(0), I, O))
    check_normal(weight, 2 / (I + O))
    assert not bias.any()


def test_pytorchs() -> None:
    """This is the second row. PyTorch's normal initializers have full tails."""
    torch: Any = pytest.importorskip("torch", exc_type=ImportError)
    torch.manual_seed(0)
    layer = torch.nn.Linear(I, O, dtype=torch.float64)
    check_uniform(layer.weight.detach().numpy(), 1 / math.sqrt(I))
    check_uniform(layer.bias.detach().numpy(), 1 / math.sqrt(I))
    check_uniform(initializers.pytorch_default(fn.Key(0), (I, O), np.dtype(np.float64)), 1 / math.sqrt(I))
    check_normal(torch.nn.init.xavier_normal_(torch.empty(I, O)).numpy(), 2 / (I + O))


def test_drawn_biases() -> None:
    """``bias_init`` gives the biases of the second and of the fourth row."""
    for init, limit in ((initializers.pytorch_default, 1 / math.sqrt(I)), (initializers.glorot_uniform, GLOROT)):
        check_uniform(fn.trained_arrays(fn.dense(fn.Key(0), I, O, init=init, bias_init=init))[1], limit)


@pytest.mark.parametrize(("activation", "factor"), [("relu", 6), ("tanh", 6), ("identity", 6), ("logistic", 2)])
def test_scikit_learns(activation: str, factor: int) -> None:
    """These are the fourth and fifth rows. A tiny step leaves the initial weights almost unchanged."""
    network: Any = pytest.importorskip("sklearn.neural_network", exc_type=ImportError)
    settings = {"solver": "sgd", "learning_rate_init": 1e-12, "random_state": 0}
    model = network.MLPClassifier((O,), activation=activation, **settings)
    model.partial_fit(np.zeros((4, I)), [0, 1, 2, 0], classes=range(3))
    check_uniform(model.coefs_[0], math.sqrt(factor / (I + O)))
    check_uniform(model.intercepts_[0], math.sqrt(factor / (I + O)))


def test_the_checks_see_another_distribution() -> None:
    """The checks detect a limit that is 5% off, a normal draw for a uniform draw, and the reverse."""
    uniform = initializers.glorot_uniform(fn.Key(0), (I, O), np.dtype(np.float64))
    normal = initializers.glorot_normal(fn.Key(0), (I, O), np.dtype(np.float64))
    limit = math.sqrt(6 / (I + O))
    check_uniform(uniform, limit)
    check_normal(normal, 2 / (I + O))
    for numbers, wrong in ((uniform, 1.05 * limit), (uniform, 0.95 * limit), (normal, limit)):
        with pytest.raises(AssertionError):
            check_uniform(numbers, wrong)
    for numbers in (uniform, np.clip(normal, -2 * normal.std(), 2 * normal.std()), 1.05 * normal):
        with pytest.raises(AssertionError):
            check_normal(numbers, 2 / (I + O))
