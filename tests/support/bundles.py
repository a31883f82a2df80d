"""Bundles to put into a folder of bundles."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from models import Bundle

DAY = datetime(2025, 6, 1, tzinfo=UTC)


def put_bundle(original: Path, folder: Path, *, day: int = 0, **changes: object) -> str:
    """Write another version of a bundle into a folder, and give the version."""
    read = Bundle.read(original)
    content = read.manifest.model_dump(exclude={"version", "files"})
    own = {"about": folder.name, "created": DAY + timedelta(days=day)}
    made = Bundle.make(read.files, **(content | own | changes))
    made.write(folder)
    return made.manifest.version
