"""Services with a database of classes, and a client that enrols."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.harness.client import Answer, Client
from benchmarks.harness.requests import LARGE, real_body
from benchmarks.harness.server import Server, running_service

Record = Mapping[str, Any]

_KEY = "the key of the benchmark"


class AdminClient(Client):
    """A client with an admin key and one connection; a context that closes it."""

    def __init__(self, port: int) -> None:
        super().__init__(port, {"X-API-Key": _KEY})

    def enrol(self, name: str, record: Record, *, force: bool = False) -> Answer:
        """Enrol a class from one record."""
        path = "/classes?force=true" if force else "/classes"
        return self.ask("POST", path, json.dumps({"name": name, "records": [record]}).encode())

    def classes(self) -> Answer:
        """Return all classes and their revision."""
        return self.ask("GET", "/classes").expect()


@contextmanager
def enrolling_service(
    folder: Path, url: str, bundle: Path | None = None, settings: Mapping[str, str] | None = None
) -> Iterator[Server]:
    """Run a service with a database of classes, ready, until the context ends."""
    folder.mkdir(parents=True, exist_ok=True)
    key = hashlib.sha256(_KEY.encode()).hexdigest()
    chosen = {"admin_keys": key, "database_url": url, **(settings or {})}
    with running_service(folder, chosen, bundle) as server:
        yield server


@cache
def records(number: int) -> Sequence[Record]:
    """Return real records, spread over the whole table that ships."""
    rows: list[Record] = json.loads(real_body(LARGE))["records"]
    return [rows[i * len(rows) // number] for i in range(number)]
