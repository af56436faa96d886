"""Settings for every test: floating-point traps are errors, property tests are the same each time."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

# ``pytest --hypothesis-profile=random`` tries other examples each time, and ten times as many.
settings.register_profile("same", derandomize=True, deadline=None, database=None, max_examples=40)
settings.register_profile("brief", settings.get_profile("same"), max_examples=10)
settings.register_profile("random", deadline=None, max_examples=400, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("same")


@pytest.fixture(autouse=True)
def _traps() -> Iterator[None]:
    """An overflow, an invalid operation or a division by zero that funcnet does not expect is an error."""
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        yield
