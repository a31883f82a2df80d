"""The service's database of classes, read and written without the service."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from benchmarks.enrolment.client import Record, records
from service.classes.database import Store
from service.classes.entities import StoredClass, SupportRecord


@contextmanager
def _store(url: str) -> Iterator[Store]:
    store = Store(url)
    try:
        store.prepare()
        yield store
    finally:
        store.close()


def fill(url: str, number: int) -> None:
    """Write classes of one record each in one revision."""
    classes = {
        f"class-{i}": StoredClass(
            f"class-{i}", records=(SupportRecord(1, dict(record)),), next_id=2
        )
        for i, record in enumerate(records(number) if number else [])
    }
    with _store(url) as store:
        if classes:
            store.commit(0, classes, action="enrol", who=None, request_id="benchmark")


def records_by_class(url: str) -> Mapping[str, Sequence[Record]]:
    """Read the records of each enrolled class."""
    with _store(url) as store:
        classes = store.read().classes
    return {
        name: [support.record for support in stored.records] for name, stored in classes.items()
    }
