"""Whether a worker's memory grows with the records it has seen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness.client import Client
from benchmarks.harness.process import rss
from benchmarks.harness.records import Batch
from benchmarks.harness.report import progress
from benchmarks.harness.server import LARGE_BODIES, running_service
from benchmarks.harness.wires import ROWS

BATCH, FIRST = 1_000, 10_000


@dataclass(frozen=True, slots=True)
class Growth:
    """Resident bytes of the largest process after the first 10,000 records and after the last."""

    first: int
    last: int
    records: int

    @property
    def ratio(self) -> float:
        """The last as a share of the first."""
        return self.last / self.first


def measure(batches: Mapping[int, Batch], records: int, folder: Path) -> Growth:
    """Send records to a service of its own, in batches of 1,000, one after the other."""
    body, _ = ROWS.encode(batches[BATCH])
    first, total = FIRST // BATCH, max(records // BATCH, FIRST // BATCH)
    sizes: dict[int, int] = {}
    with running_service(folder, LARGE_BODIES) as server, Client(server.port) as client:
        for i in range(1, total + 1):
            client.post("/classify", body, ROWS.headers)
            if i in (first, total):
                sizes[i] = max(map(rss, server.pids))
            if i % 100 == 0 or i == total:
                progress(f"memory, {i * BATCH:,} of {total * BATCH:,} records")
    return Growth(sizes[first], sizes[total], total * BATCH)
