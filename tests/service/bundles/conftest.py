"""A folder for bundles, and bundles to put into it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from models import Bundle

DAY = datetime(2025, 6, 1, tzinfo=UTC)
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
    original = Bundle.read(bundle)
    content = original.manifest.model_dump(exclude={"version", "files"})

    def write(folder: str | Path, *, day: int = 0) -> str:
        own = {"about": str(folder), "created": DAY + timedelta(days=day)}
        made = Bundle.make(original.files, **(content | own))
        made.write(root / folder)
        return made.manifest.version

    return write
