"""Points a second that each decoder takes in, as a Markdown table.

`python -m benchmarks.ingest`, from the root of the repository, in an environment with `dev`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Annotated

import typer

from benchmarks.harness.report import heading, machine, progress, table, versions
from benchmarks.ingest.bodies import BODIES, points, snappy
from models.telemetry.assembler import Assembler
from models.telemetry.mapping import Mapping
from models.telemetry.points import Points, Series, SeriesTable
from service.ingest.decoded import Decoder
from service.ingest.receivers import RECEIVERS
from service.ingest.snappy import inflate

_TARGETS = {
    "telegraf": 300_000,
    "influx": 300_000,
    "collectd": 300_000,
    "otlp": 200_000,
    "remote_write": 500_000,
    "remote_write_v2": 500_000,
}
_PACKAGES = ("numpy", "msgspec", "protobuf", "cramjam", "pyarrow")
_HEAD = ("body", "bytes a point", "decoded/s", "and assembled/s", "at least", "new series/s")
_MAX_BODY = 1 << 26


_MAPPING = """
name = "all"
key = ["{key}"]
interval = 10
align = "interval"
lateness = 10
[[fields]]
name = "octets"
metric = "*octets*"
kind = "counter"
aggregate = "sum"
[[fields]]
name = "others"
metric = "*"
aggregate = "sum"
"""


class _Slots:
    """Gives series ids in turn, and remembers which tag names the router."""

    def __init__(self) -> None:
        self._next = 0
        self.key = ""

    def place(self, series: Series) -> int:
        """Return the next id."""
        if not self.key:
            self.key = next(k for k, value in series.tags.items() if value.startswith("router"))
        self._next += 1
        return self._next - 1


def main(
    series: Annotated[int, typer.Option(min=1, help="In each body.")] = 1000,
    rounds: Annotated[int, typer.Option(min=1, help="Points of each series in a body.")] = 10,
    repeats: Annotated[int, typer.Option(min=1, help="Runs, of which the best counts.")] = 20,
    only: Annotated[str, typer.Option(help="The name of one body.")] = "",
) -> None:
    """Measure, and print the table."""
    sent = points(series, rounds)
    rows = []
    for name, encode in BODIES.items():
        if only in {"", name}:
            progress(name)
            rows.append(_row(name, encode(sent), len(sent), series, repeats))
    report = [*heading("benchmarks.ingest"), f"- {machine()}; {versions(*_PACKAGES)}", ""]
    sys.stdout.write("\n".join([*report, *table(_HEAD, rows, "<>>>>>")]) + "\n")


def _row(name: str, body: bytes, sent: int, series: int, repeats: int) -> tuple[str, ...]:
    decode = RECEIVERS["telegraf" if name == "influx" else name].decode
    compressed = name.startswith("remote_write")
    wire = snappy(body) if compressed else body

    def run(known: SeriesTable) -> None:
        content = inflate(wire, _MAX_BODY) if compressed else wire
        taken = len(decode(content, known, 0).points)
        if taken != sent:
            sys.exit(f"{name}: {taken} of {sent} points")

    slots = _Slots()
    known = SeriesTable(slots)
    run(known)
    assembled = min(_assembled(decode, body, slots.key, sent) for _ in range(min(repeats, 5)))
    first = min(_seconds(lambda: run(SeriesTable(_Slots()))) for _ in range(min(repeats, 5)))
    later = min(_seconds(lambda: run(known)) for _ in range(repeats))
    target = _TARGETS.get(name)
    return (
        name,
        f"{len(wire) / sent:.0f}",
        f"{sent / later:,.0f}",
        f"{sent / (later + assembled):,.0f}",
        f"{target:,}" if target else "",
        # Noise alone may make the first body the quicker one.
        f"{series / (first - later):,.0f}" if first > later else "-",
    )


def _assembled(decode: Decoder, body: bytes, key: str, sent: int) -> float:
    """Return the seconds of CPU that the assembler takes for the points of a body.

    It takes the body twice, a few intervals later the second time: its series are known then.
    """
    assembler = Assembler(Mapping.parse(_MAPPING.replace("{key}", key)))
    points = decode(body, assembler.series, 0).points
    now = float(points.times.max()) / 1e9
    assembler.add(points, now)
    shift = int(points.times.max() - points.times.min()) + 10_000_000_000
    later = Points(points.series, points.times + shift, points.values)
    seconds = _seconds(lambda: assembler.add(later, now + shift / 1e9))
    if assembler.counts.points != 2 * sent or assembler.counts.unmapped:
        sys.exit(f"{assembler.counts}")
    return seconds


def _seconds(run: Callable[[], object]) -> float:
    """Return the seconds of CPU that a run takes."""
    start = time.process_time()
    run()
    return time.process_time() - start


if __name__ == "__main__":
    typer.run(main)
