"""Statements of the database of classes and profiles that several of its methods need."""

from __future__ import annotations

from collections.abc import Mapping

import sqlalchemy as sa

from service.classes.entities import StoredClass, StoredProfile
from service.classes.tables import PlacedClass, classes, profiles, revisions

__all__ = [
    "ClassChanges",
    "ProfileChanges",
    "answered",
    "newest_revision",
    "read_profiles",
    "replace_classes",
    "replace_profiles",
]

ClassChanges = dict[str, PlacedClass | None]
ProfileChanges = dict[str, StoredProfile | None]


def newest_revision(connection: sa.Connection) -> int:
    """Return the newest revision; 0 before the first change."""
    query = sa.select(sa.func.coalesce(sa.func.max(revisions.c.revision), 0))
    return int(connection.execute(query).scalar_one())


def answered(connection: sa.Connection, key: str) -> tuple[str, bytes] | None:
    """Return digest and answer of the change with an idempotency key, or None."""
    query = sa.select(revisions.c.idempotency_digest, revisions.c.answer)
    row = connection.execute(query.where(revisions.c.idempotency_key == key)).one_or_none()
    return None if row is None else (row.idempotency_digest, bytes(row.answer))


def replace_classes(
    connection: sa.Connection, after: Mapping[str, StoredClass | None]
) -> tuple[ClassChanges, ClassChanges]:
    """Write classes, new ones behind all others; return their states before and after."""
    before: ClassChanges = {}
    now: ClassChanges = {}
    highest = sa.select(sa.func.coalesce(sa.func.max(classes.c.place), 0))
    last: int = connection.execute(highest).scalar_one()
    for name, stored in after.items():
        here = classes.c.name == name
        query = sa.select(classes.c.place, classes.c.document).where(here)
        row = connection.execute(query).one_or_none()
        before[name] = None if row is None else PlacedClass(*row)
        if stored is None:
            now[name] = None
            connection.execute(sa.delete(classes).where(here))
        else:
            place = (last := last + 1) if row is None else row.place
            now[name] = PlacedClass(place, stored)
            change = sa.insert(classes) if row is None else sa.update(classes).where(here)
            connection.execute(change, {"name": name, "place": place, "document": stored})
    return before, now


def read_profiles(connection: sa.Connection) -> dict[str, StoredProfile]:
    """Return what is kept of each site, in the order of their names."""
    stored = connection.execute(sa.select(profiles.c.document).order_by(profiles.c.site)).scalars()
    return {entry.site: entry for entry in stored}


def replace_profiles(
    connection: sa.Connection, after: Mapping[str, StoredProfile | None]
) -> ProfileChanges:
    """Write profiles; return their states before."""
    before: ProfileChanges = {}
    for site, stored in after.items():
        here = profiles.c.site == site
        query = sa.select(profiles.c.document).where(here)
        before[site] = connection.execute(query).scalar_one_or_none()
        connection.execute(sa.delete(profiles).where(here))
        if stored is not None:
            connection.execute(sa.insert(profiles), {"site": site, "document": stored})
    return before
