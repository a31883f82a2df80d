"""The recorded excerpt that ships, as the bodies that a collector would send."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from models.telemetry.mapping import Mapping
from service.offline.replay import Body, Recording

__all__ = ["DATA", "bodies_of_the_excerpt", "recording_of_the_excerpt"]

DATA = Path(__file__).parents[2] / "training/data/cisco-iosxr"


def recording_of_the_excerpt() -> Recording:
    return Recording(DATA / "excerpt.parquet", Mapping.read(DATA / "mapping.toml"))


def bodies_of_the_excerpt(once: Callable[[str, Callable[[], Any]], Any]) -> list[Body]:
    """All bodies; to write 700,000 points takes seconds, and so is done once for all processes."""
    bodies: list[Body] = once("bodies", lambda: [*recording_of_the_excerpt().bodies()])
    return bodies
