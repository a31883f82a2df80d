"""What every part stands on: services with a database of classes, and a client of theirs."""

from __future__ import annotations

import hashlib
import http.client
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

from benchmarks.harness.requests import real_body
from benchmarks.harness.server import Running, ServerError
from benchmarks.resilience.service import serve, wait_until_ready
from tests.support.databases import Postgres, running

Record = Mapping[str, Any]

_KEY = "the key of the benchmark"


@dataclass(frozen=True, slots=True)
class Plan:
    """How much to measure.

    Attributes:
        folder: for databases and logs, empty.
        data: of the public data sets.
        draws: of support records.
        times: that an enrolment is waited for on another replica.
        kills: of the service, for each database.
        rounds: of the throughput.
        seconds: of one measurement of it.
    """

    folder: Path
    data: Path
    draws: int = 30
    times: int = 50
    kills: int = 100
    rounds: int = 7
    seconds: float = 3.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What the service said."""

    status: int
    revision: int
    content: Any


class Desk:
    """A client with an admin key and one connection; a context that closes it.

    Args:
        port: of the service.
    """

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def ask(self, method: str, path: str, body: bytes | None = None) -> Answer:
        """Ask once.

        Raises:
            OSError, http.client.HTTPException: there is no answer.
        """
        headers = {"X-API-Key": _KEY}
        if body is not None:
            headers["Content-Type"] = "application/json"
        self._connection.request(method, path, body, headers)
        response = self._connection.getresponse()
        content = response.read()
        revision = int(response.headers.get("Faultcube-Revision") or -1)
        return Answer(response.status, revision, json.loads(content) if content else None)

    def enrol(self, name: str, record: Record, *, force: bool = False) -> Answer:
        """Enrol a class from one record."""
        path = "/classes?force=true" if force else "/classes"
        return self.ask("POST", path, json.dumps({"name": name, "records": [record]}).encode())

    def classes(self) -> Answer:
        """All classes, by name, with their revision.

        Raises:
            ServerError: they are not told.
        """
        answer = self.ask("GET", "/classes")
        if answer.status != 200:
            raise ServerError(f"GET /classes answers {answer.status}: {answer.content}")
        return answer

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._connection.close()


@contextmanager
def serving(
    folder: Path, url: str, bundle: Path | None = None, settings: Mapping[str, str] | None = None
) -> Iterator[Running]:
    """A service that is ready.

    Args:
        folder: for its log.
        url: of its database.
        bundle: to serve; the one that ships if None.
        settings: others, by name.
    """
    folder.mkdir(parents=True, exist_ok=True)
    key = hashlib.sha256(_KEY.encode()).hexdigest()
    chosen = {"admin_keys": key, "database_url": url, **(settings or {})}
    with serve(folder, chosen, bundle=bundle) as service:
        wait_until_ready(service)
        yield service


@contextmanager
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL server of our own.

    Raises:
        ServerError: it is not installed.
    """
    try:
        with running() as server:
            yield server
    except pytest.skip.Exception as error:
        raise ServerError(str(error)) from error


@cache
def records(number: int) -> Sequence[Record]:
    """Real records, spread over the whole table that ships."""
    every: list[Record] = json.loads(real_body(10_000))["records"]
    return [every[place * len(every) // number] for place in range(number)]
