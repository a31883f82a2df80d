"""Enrolled classes for verdicts without a server: the same that a service of the database gives."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing

from models import Model
from service.classes.enrolment import Enrolment
from service.classes.entities import NoSuchRevisionError, Snapshot, StoreError
from service.offline.tables import TableError

__all__ = ["read_classes", "with_classes"]


def read_classes(url: str, revision: int | None) -> Snapshot:
    """Return the classes of a database.

    Args:
        url: of the database.
        revision: None for the newest.

    Raises:
        TableError: there is no such database, or no such revision.
    """
    from service.classes.database import Store  # noqa: PLC0415 - loads SQLAlchemy

    try:
        with closing(Store(url)) as store:
            store.prepare(migrate=False)
            return store.read() if revision is None else store.at(revision)
    except (StoreError, NoSuchRevisionError) as error:
        raise TableError(f"--classes: {error}") from error


def with_classes(
    model: Model, snapshot: Snapshot | None, tell: Callable[[str], None] = lambda _: None
) -> Model:
    """Return a bundle's model with enrolled classes; without any, as it is.

    Args:
        model: of the bundle.
        snapshot: the classes.
        tell: told in a line of each class that the bundle cannot use.
    """
    if snapshot is None:
        return model
    enrolment = Enrolment.of(model, snapshot)
    for name, reason in enrolment.parked.items():
        tell(f"class {name!r} decides nothing: {reason}")
    return enrolment.model
