"""Whether a worker's memory grows with the records it has seen."""

from __future__ import annotations

import http.client
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness.process import rss
from benchmarks.harness.records import Batch
from benchmarks.harness.server import Running, ServerError
from benchmarks.harness.wires import ROWS
from benchmarks.serving.contestants import OURS, SERVERS
from benchmarks.serving.rounds import say

BATCH, FIRST = 1_000, 10_000


@dataclass(frozen=True, slots=True)
class Growth:
    """Resident memory of the largest process, in bytes.

    Attributes:
        first: after the first 10,000 records.
        last: after the last.
        records: how many that were.
    """

    first: int
    last: int
    records: int

    @property
    def ratio(self) -> float:
        """The last as a share of the first."""
        return self.last / self.first


def measure(batches: Mapping[int, Batch], records: int, scratch: Path) -> Growth:
    """Send records to a service of its own, in batches of 1,000, one after the other.

    Raises:
        ServerError: it cannot be started, or refuses a batch.
    """
    body, _ = ROWS.encode(batches[BATCH])
    first, total = FIRST // BATCH, max(records // BATCH, FIRST // BATCH)
    sizes: dict[int, int] = {}
    with Running.start(SERVERS[OURS], scratch) as running:
        connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=60)
        for i in range(1, total + 1):
            _post(connection, body)
            if i in (first, total):
                sizes[i] = max(map(rss, running.pids))
            if i % 100 == 0 or i == total:
                say(f"memory, {i * BATCH:,} of {total * BATCH:,} records")
        connection.close()
    return Growth(sizes[first], sizes[total], total * BATCH)


def _post(connection: http.client.HTTPConnection, body: bytes) -> None:
    try:
        connection.request("POST", "/classify", body, dict(ROWS.headers))
        response = connection.getresponse()
        response.read()
    except (OSError, http.client.HTTPException) as error:
        raise ServerError(f"no answer: {error or type(error).__name__}") from error
    if response.status != 200:
        raise ServerError(f"answers {response.status} {response.reason}")
