from __future__ import annotations

import numpy as np
import pytest

from models.telemetry.counters import increases

FULL = 2.0**32


@pytest.mark.parametrize(
    ("before", "now", "bits", "expected"),
    [
        (10, 30, 0, 20),
        (10, 10, 32, 0),
        (0.91 * FULL, 5, 32, 0.09 * FULL + 5),
        (0.89 * FULL, 5, 32, np.nan),
        (0.91 * FULL, 5, 0, np.nan),
        (0.95 * FULL, 0.93 * FULL, 32, 0.98 * FULL),
        (2.0**64 - 2048, 2048, 64, 4096),
        (0.95 * FULL, 5, 64, np.nan),
        (2 * FULL, 5, 32, np.nan),  # it was never one of 32 bits
    ],
)
def test_a_fall_is_a_wrap_only_if_that_is_declared_and_near(
    before: float, now: float, bits: int, expected: float
) -> None:
    old = np.array([before])
    grown, resets, wraps = increases(old, np.array([now]) - old, np.array([bits]))
    assert grown == pytest.approx([expected], nan_ok=True)
    assert resets == np.isnan(expected)
    assert wraps == (now < before and not np.isnan(expected))
