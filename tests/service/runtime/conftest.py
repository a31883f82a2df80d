"""What tests of changes need beside a state, which each module makes in its own way."""

from __future__ import annotations

import pytest

from service.classes.database import Store
from service.runtime.class_changes import ClassEditor
from service.runtime.state import State


@pytest.fixture
def store(state: State) -> Store:
    assert state.store is not None
    return state.store


@pytest.fixture
def editor(state: State) -> ClassEditor:
    return ClassEditor(state)
