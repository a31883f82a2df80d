"""A folder for bundles, and bundles to put into it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.bundles import put_bundle

Put = Callable[..., str]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An empty shelf, alone in its folder."""
    folder = tmp_path / "home" / "bundles"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def put(bundle: Path, root: Path) -> Put:
    """Put a sound bundle on the shelf, of its own version, and tell that version."""
    return lambda folder, *, day=0: put_bundle(bundle, root / folder, day=day)
