"""What a fleet needs: processes, cores, memory, network, journal and database."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from benchmarks.capacity.unit_costs import COSTS, LIMITS, Wire

__all__ = ["BUSY", "FIELDS", "INTERVAL", "Fleet", "Plan"]

FIELDS = 50
INTERVAL = 30.0
"""Seconds between two records of a device."""
BUSY = 0.5
"""Of a process' core, on average: a process that comes back works off its journal as fast as new
points come. A choice, not a measurement."""


@dataclass(frozen=True, slots=True)
class Fleet:
    """Devices that send.

    Attributes:
        devices: their number.
    """

    devices: int

    @property
    def series(self) -> int:
        """One for each field of a device."""
        return self.devices * FIELDS

    @property
    def points(self) -> float:
        """In a second."""
        return self.series / INTERVAL

    @property
    def records(self) -> float:
        """In a second."""
        return self.devices / INTERVAL


@dataclass(frozen=True, slots=True)
class Plan:
    """What ingesting a fleet takes, where each device's points go to one process.

    Attributes:
        fleet: that sends.
        wire: how it sends.
    """

    fleet: Fleet
    wire: Wire

    @property
    def cores(self) -> float:
        """That decode, assemble and judge."""
        judged = self.fleet.records / COSTS["scored"].value
        return self.fleet.points / self.wire.assembled.value + judged

    @property
    def cores_of_lone_bodies(self) -> float:
        """The same if each body holds one device only."""
        second = 1 / self.wire.decoded.value + 1 / COSTS["alone"].value
        return self.fleet.points * second + self.fleet.records / COSTS["scored"].value

    @property
    def wants(self) -> dict[str, int]:
        """Processes, by what asks for so many."""
        return {
            "series": ceil(self.fleet.series / LIMITS["series"]),
            "devices": ceil(self.fleet.devices / LIMITS["devices"]),
            "cores": ceil(self.cores / BUSY),
        }

    @property
    def processes(self) -> int:
        """That ingest: as many as the scarcest asks for."""
        return max(self.wants.values())

    @property
    def memory(self) -> float:
        """Bytes of all processes, while each makes a checkpoint."""
        shown = min(self.fleet.devices, self.processes * LIMITS["live"])
        series = COSTS["series"].value + COSTS["snapshot"].value
        return (
            self.processes * COSTS["process"].value * 2**20
            + self.fleet.series * series
            + shown * COSTS["live"].value * 1e3
        )

    @property
    def network(self) -> float:
        """Bytes a second that come in; the journals of uncompressed formats take as many."""
        return self.fleet.points * self.wire.size.value

    @property
    def checkpoint(self) -> float:
        """Bytes of the checkpoint of one process."""
        return self.fleet.series / self.processes * COSTS["snapshot"].value

    @property
    def pause(self) -> float:
        """Seconds between two checkpoints of a process, if its journal is as large as what came."""
        filled = LIMITS["checkpoint_bytes"] / (self.network / self.processes)
        return min(filled, LIMITS["checkpoint_seconds"])

    @property
    def database(self) -> float:
        """Bytes a second that checkpoints write."""
        return self.checkpoint * self.processes / self.pause

    @property
    def foreign(self) -> float:
        """Series of other processes that a process meets, if every process gets all points."""
        return self.fleet.series * (1 - 1 / self.processes)

    @property
    def cores_of_shares(self) -> float:
        """Cores of one process then: what it does not remember, it takes apart as a new one."""
        own = self.cores / self.processes
        forgets = self.foreign > LIMITS["foreign"]
        speed = self.wire.fresh.value if forgets else self.wire.decoded.value
        return own + self.fleet.points * (1 - 1 / self.processes) / speed
