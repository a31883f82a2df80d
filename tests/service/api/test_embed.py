from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from models import Model


def test_each_record_becomes_a_point_of_the_cube_in_order(
    shared: TestClient, bundle: Path, good: dict[str, Any], overload: dict[str, Any]
) -> None:
    answer = shared.post("/embed", json={"records": [overload, good]}).json()
    model = Model.load(bundle)
    expected = model.embed([overload, good]).tolist()
    assert answer["embeddings"] == [pytest.approx(point) for point in expected]
    assert all(0 < number < 1 for point in answer["embeddings"] for number in point)
    assert answer["bundle"] == {"name": "toy", "version": model.manifest.version}
    assert set(answer) == {"bundle", "embeddings"}
