"""Every variant answers all requests, and puts as many together as it says."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest

from benchmarks.batching.variants import VARIANTS
from models.schema import Matrix
from service.scoring.scheduler import Inference, Scheduler, Steps


@pytest.mark.parametrize("name", VARIANTS)
def test_all_requests_are_answered_together_or_alone(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Scheduler, "_run_batch", Scheduler._run_batch)  # put back afterwards
    VARIANTS[name]()
    sizes = list[int]()

    def double(matrix: Matrix) -> Matrix:
        sizes.append(len(matrix))
        return matrix * 2

    def steps(value: float) -> Steps[float]:
        result: Any = yield Inference(double, np.full((1, 1), value, np.float32))
        return float(result[0, 0])

    async def ask() -> list[float]:
        scheduler = Scheduler(10, lambda run, matrix: run(matrix))
        return await asyncio.gather(*(scheduler.run_batched(steps(value)) for value in range(5)))

    assert asyncio.run(ask()) == [0, 2, 4, 6, 8]
    assert sizes == ([1] * 5 if name == "each alone" else [5])
