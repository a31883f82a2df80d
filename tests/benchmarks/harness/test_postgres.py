from __future__ import annotations

import os
from pathlib import Path

import pytest

from benchmarks.harness import postgres
from benchmarks.harness.client import ServerError


def test_where_postgresql_is_missing_the_part_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(postgres, "_PROGRAMS", tmp_path)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ServerError, match="not installed"), postgres.Postgres.running():
        pass
    assert os.environ.get("FAULTCUBE_DATABASE_URL") is None
