"""What tests say of problems and of records that do not fit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from models import RecordError
from service.web.problems import Kind, Problem, invalid_records


@contextmanager
def raises(kind: Kind, match: str | None = None) -> Iterator[pytest.ExceptionInfo[Problem]]:
    """Expect a problem of one kind."""
    with pytest.raises(Problem, match=match) as caught:
        yield caught
    assert caught.value.kind is kind


def errors_of(error: RecordError) -> list[dict[str, Any]]:
    """What a response would list of records that do not fit."""
    errors: list[dict[str, Any]] = invalid_records(error.faults).members["errors"]
    return errors
