from __future__ import annotations

from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from service.classes import postgres, sqlite
from service.classes.backend import TIMEOUT, Backend


@pytest.fixture(params=["sqlite", "postgresql"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Backend:
    """Backend of a database that is not there."""
    if request.param == "sqlite":
        return sqlite.backend(sa.make_url(f"sqlite:///{tmp_path / 'no' / 'classes.db'}"))
    url = "postgresql+psycopg://user:secret-word@nowhere.invalid/classes"
    return postgres.backend(sa.make_url(url))


def test_nothing_is_opened_before_it_is_needed(backend: Backend, tmp_path: Path) -> None:
    pool: Any = backend.writing.pool
    assert pool.checkedout() + pool.checkedin() == 0
    assert not list(tmp_path.iterdir())


def test_the_engines_share_a_pool_that_waits_no_longer_than_for_a_lock(backend: Backend) -> None:
    pool: Any = backend.writing.pool
    assert pool.timeout() == TIMEOUT
    assert backend.statement.pool is pool
    assert backend.snapshot.pool is pool


def test_its_name_and_its_engine_tell_no_password(backend: Backend) -> None:
    assert "classes" in backend.name
    assert "secret-word" not in backend.name + repr(backend)


def test_errors_hide_the_values_of_a_statement(backend: Backend) -> None:
    assert backend.writing.hide_parameters
    assert backend.statement.hide_parameters


def test_it_cannot_be_changed(backend: Backend) -> None:
    with pytest.raises(FrozenInstanceError):
        backend.name = "another"  # type: ignore[misc]
