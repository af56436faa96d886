"""scikit-learn's own checks of estimators: the classifier and the regressor pass them in both arithmetics."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import funcnet as fn

checks: Any = pytest.importorskip("sklearn.utils.estimator_checks", reason="scikit-learn is not installed")
Classifier: Any = fn.estimators.Classifier
Regressor: Any = fn.estimators.Regressor

WEIGHTS = "check_sample_weight_equivalence_on_dense_data"
FEW_STEPS: dict[str, Any] = {"hidden_layer_sizes": (16,), "max_iter": 20, "learning_rate": 0.01}
EXACT: dict[str, Any] = {"dtype": np.float64, "shuffle": False, "batch_size": 100}
"""Full batches in float64: the order of the rows changes nothing but the last digits."""

ARITHMETICS = [pytest.param(False, id="native"), pytest.param(True, id="portable", marks=pytest.mark.slow)]


def name_of(check: Any) -> str:
    """The check's name and its options, such as ``check_estimators_pickle-readonly_memmap``."""
    return "-".join([check.func.__name__, *(f"{key}={value}" for key, value in check.keywords.items())])


def every_check() -> list[Any]:
    """Each check of each estimator in each arithmetic, apart from the one that is too exact for float32."""
    return [
        pytest.param(estimator, check, id=f"{make.__name__}-{arithmetic.id}-{name_of(check)}", marks=arithmetic.marks)
        for make in (Classifier, Regressor)
        for arithmetic in ARITHMETICS
        for estimator, check in checks.estimator_checks_generator(make(portable=arithmetic.values[0], **FEW_STEPS))
        if name_of(check) != WEIGHTS
    ]


@pytest.mark.parametrize(("estimator", "check"), every_check())
def test_every_check_passes(estimator: Any, check: Callable[[Any], None]) -> None:
    """Each check passes with floating-point traps and with warnings as errors."""
    check(estimator)


@pytest.mark.parametrize("make", [Classifier, Regressor])
def test_a_weight_is_a_number_of_copies(make: Any) -> None:
    """A weight of 3 is three equal rows, a weight of 0 is no row, to the check's relative tolerance of 1e-7."""
    getattr(checks, WEIGHTS)(make.__name__, make(**FEW_STEPS, **EXACT))


@pytest.mark.slow
@pytest.mark.parametrize("make", [Classifier, Regressor])
def test_a_single_call_accepts_the_estimator(make: Any) -> None:
    """With all settings but the number of epochs at their defaults, only two checks may fail, by float32's rounding.

    In native arithmetic, some kernels of BLAS round a row differently in another batch.
    """
    rounding = dict.fromkeys((WEIGHTS, "check_methods_subset_invariance"), "its tolerance of 1e-7 is for float64")
    found = checks.check_estimator(make(max_iter=30), expected_failed_checks=rounding, on_skip=None)
    assert len(found) >= 50
    assert {result["check_name"] for result in found if result["status"] == "xfail"} <= set(rounding)
    assert {result["status"] for result in found} <= {"passed", "skipped", "xfail"}
