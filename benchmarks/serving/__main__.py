"""The service beside other model servers that serve the same graph, as a Markdown report.

`python -m benchmarks.serving`, from the root of the repository, on Linux with two cores and wrk.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.harness.client import ServerError
from benchmarks.harness.command_line import choose, end_on_sigterm, names_in, pin_to_load_core
from benchmarks.harness.process import LOAD_CORE, SERVER_CORE
from benchmarks.harness.report import RUNTIME, heading, machine, progress, versions
from benchmarks.serving import contestants, latency, memory
from benchmarks.serving.contestants import ONNXRUNTIME, SERVERS, Contestant
from benchmarks.serving.environments import pinned
from benchmarks.serving.records import batches
from benchmarks.serving.report import Results, report
from benchmarks.serving.rounds import Pace, Rounds
from benchmarks.serving.samples import Scenario

PARTS = ("rates", "latency", "memory")
SCENARIOS = "1x1,1x8,1x64,100x1,100x8,100x64,1000x1,1000x2,1000x8,10000x1,10000x2"


def main(
    peers: Annotated[str, typer.Option(help="Servers beside ours, by commas; all if empty.")] = "",
    scenarios: Annotated[
        str, typer.Option(help="RECORDSxCONNECTIONS, by commas; empty for all.")
    ] = SCENARIOS,
    only: Annotated[str, typer.Option(help="Parts, by commas.")] = ",".join(PARTS),
    rounds: Annotated[int, typer.Option(min=1, help="In which contestants take turns.")] = 3,
    seconds: Annotated[float, typer.Option(min=1, help="Of each measurement.")] = 3.0,
    records: Annotated[
        int, typer.Option(min=memory.FIRST, help="Sent to see whether memory grows.")
    ] = 1_000_000,
    out: Annotated[Path | None, typer.Option(help="File to write, anew as it goes on.")] = None,
) -> None:
    """Measure, and print the report."""
    parts, chosen = choose(only, PARTS, "part"), _contestants(peers)
    planned = _scenarios(scenarios)
    end_on_sigterm()
    pin_to_load_core()
    pace = Pace(rounds=rounds, seconds=seconds)
    lines, results = _heading(pace), Results()

    def write() -> None:
        if out is not None:
            out.write_text(report(results, planned, lines) + "\n", encoding="utf-8")

    sizes = sorted({scenario.records for scenario in planned} | {1, memory.BATCH, latency.BATCH})
    progress(f"{len(sizes)} batches of real records")
    data = batches(sizes)
    with tempfile.TemporaryDirectory(prefix="serving-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        if "rates" in parts:
            floor = not peers or ONNXRUNTIME in names_in(peers)
            Rounds(chosen, data, pace, folder, floor, results.measured).run(planned, write)
        try:
            if "latency" in parts:
                results.waits = latency.measure(data, pace, _made(folder / "latency"))
                write()
            if "memory" in parts:
                results.growth = memory.measure(data, records, _made(folder / "memory"))
        except ServerError as error:
            results.notes.append(str(error))
    write()
    sys.stdout.write(report(results, planned, lines) + "\n")


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _contestants(text: str) -> list[Contestant]:
    try:
        return contestants.choose(names_in(text))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def _scenarios(text: str) -> list[Scenario]:
    try:
        return sorted({Scenario.parse(name) for name in names_in(text or SCENARIOS)})
    except ValueError as error:
        raise typer.BadParameter(f"not RECORDSxCONNECTIONS by commas: {error}") from error


def _heading(pace: Pace) -> Sequence[str]:
    pins = [", ".join(pinned(name)) for name, server in SERVERS.items() if server.isolated]
    turns = f"{pace.rounds} rounds, contestants in turn, {pace.seconds:g} s each (up to 4 times "
    turns += f"that where requests are few) after {pace.warm_up:g} s of warm-up"
    return [
        *heading("benchmarks.serving"),
        f"- {machine()}; servers on core {SERVER_CORE}, load on core {LOAD_CORE}",
        f"- {turns}",
        f"- ours: {versions(*RUNTIME)}",
        f"- peers: {'; '.join(pins)}",
        "- ours runs with its defaults, but for bodies of up to 64 MiB (FAULTCUBE_MAX_BODY_BYTES)",
    ]


if __name__ == "__main__":
    typer.run(main)
