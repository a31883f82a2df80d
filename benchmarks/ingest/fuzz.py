"""Damaged bodies for every decoder, and what must be true of what they return.

`python -m benchmarks.ingest.fuzz`, from the root of the repository, in an environment with `dev`.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Annotated

import typer

from benchmarks.fuzz.mutation import mutate
from benchmarks.fuzz.request import Request
from benchmarks.harness.records import ROOT
from benchmarks.ingest.bodies import BODIES, points, snappy
from models.telemetry.points import Series, SeriesTable
from service.formats.errors import MalformedInputError
from service.ingest.receivers import RECEIVERS
from service.ingest.snappy import inflate

__all__ = ["SEEDS", "fault_of", "mutated"]

_RECORDED = ROOT / "tests/service/ingest/bodies"
_RECEIVERS = {"collectd": "collectd", "python": "otlp", "js": "otlp_json"}
_NOW = 1_795_000_000_000_000_000
_SECONDS = 2.0
"""Of CPU for a body of half a MiB at most; more would be a way to do harm."""
_MAX_BODY = 1 << 22


class _Slots:
    """Gives series ids in turn, and looks at what they are called."""

    def __init__(self) -> None:
        self._next = 0

    def place(self, series: Series) -> int:
        """Return the next id."""
        for text in (series.name, *series.tags, *series.tags.values()):
            text.encode()
        if not series.name or len(series.tags) > 130:
            raise AssertionError(series)
        self._next += 1
        return self._next - 1


def _seeds() -> dict[str, list[Request]]:
    table = points(series=12, rounds=2)
    seeds: dict[str, list[Request]] = {name: [] for name in [*RECEIVERS, "snappy"]}
    for name, encode in BODIES.items():
        body = encode(table)
        receiver = "telegraf" if name == "influx" else name
        seeds[receiver].append(Request(receiver, b"", (), body))
    seeds["telegraf"].append(
        Request("telegraf", b"", (), b'a,b\\ c=d x="a \\" b, c=\nd",y=1i,z=t 1700000000\n' * 3)
    )
    for path in sorted(_RECORDED.iterdir()):
        if path.suffix == ".snappy":
            body = inflate(path.read_bytes(), _MAX_BODY)
            seeds["remote_write"].append(Request("remote_write", b"", (), body))
            seeds["snappy"].append(Request("snappy", b"", (), path.read_bytes()))
        elif path.suffix != ".md":
            name = next(_RECEIVERS[word] for word in path.stem.split("-") if word in _RECEIVERS)
            seeds[name].append(Request(name, b"", (), path.read_bytes()))
    seeds["snappy"].append(Request("snappy", b"", (), snappy(bytes(100_000))))
    return seeds


SEEDS = _seeds()
"""Good bodies by the name of their receiver, and snappy blocks."""


def mutated(name: str, random: Random) -> bytes:
    """Return a damaged body."""
    return mutate(SEEDS[name], random).body


def fault_of(name: str, bodies: Sequence[bytes]) -> str | None:
    """Return what is wrong with what a decoder makes of bodies, one after the other."""
    table = SeriesTable(_Slots(), max_foreign=100)
    for body in bodies:
        start = time.process_time()
        fault = _fault(name, body, table)
        seconds = time.process_time() - start
        if fault is None and seconds > _SECONDS:
            fault = f"slow: {seconds:.1f} s of CPU"
        if fault is not None:
            return fault
    return None


def _fault(name: str, body: bytes, table: SeriesTable) -> str | None:
    try:
        if name == "snappy":
            return None if len(inflate(body, _MAX_BODY)) <= _MAX_BODY else "inflated too much"
        decoded = RECEIVERS[name].decode(body, table, _NOW)
    except MalformedInputError as error:
        text = str(error)
        return None if "\n" not in text and len(text) < 200 else f"message: {text[:300]}"
    except Exception as error:
        return f"raised: {type(error).__name__}: {error}"[:300]
    found = decoded.points
    if not len(found.series) == len(found.times) == len(found.values):
        return "columns of different lengths"
    if [str(c.dtype) for c in (found.series, found.times, found.values)] != [
        "int32",
        "int64",
        "float64",
    ]:
        return "columns of other types"
    if decoded.rejected < 0 or any(count <= 0 for count in decoded.reasons.values()):
        return "counts below one"
    if any("\n" in reason or len(reason) > 200 for reason in decoded.reasons):
        return "a long reason"
    if len(found) and (found.series < 0).any():
        return "points of no series"
    return None


def main(
    inputs: Annotated[int, typer.Option(min=1, help="How many bodies for each format.")] = 100_000,
    seed: Annotated[int, typer.Option(help="Other seeds, other bodies.")] = 0,
    findings: Annotated[Path, typer.Option(help="Folder for what fails.")] = ROOT / "build/ingest",
) -> None:
    """Decode damaged bodies, and print what was found."""
    faults = Counter[str]()
    start = time.monotonic()
    for name in SEEDS:
        for number in range(inputs):
            body = mutated(name, Random(f"{seed} {name} {number}"))
            fault = fault_of(name, [body, SEEDS[name][0].body, body])
            if fault is not None:
                faults[f"{name}: {fault}"] += 1
                findings.mkdir(parents=True, exist_ok=True)
                (findings / f"{name}-{seed}-{number}").write_bytes(body)
    sys.stdout.write(f"{inputs * len(SEEDS):,} bodies in {time.monotonic() - start:,.0f} s\n")
    for fault, count in faults.most_common():
        sys.stdout.write(f"{count} x {fault}\n")
    if faults:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
