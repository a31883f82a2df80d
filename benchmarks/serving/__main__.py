"""The service beside other model servers that serve the same graph, as a Markdown report.

`python -m benchmarks.serving`, from the root of the repository, on Linux with two cores and wrk.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.harness.records import batches
from benchmarks.harness.server import SERVER_CORE, ServerError
from benchmarks.harness.wrk import LOAD_CORE, WrkError
from benchmarks.serving import latency, memory
from benchmarks.serving.contestants import ONNXRUNTIME, SERVERS, Contestant, choose
from benchmarks.serving.environments import pinned
from benchmarks.serving.report import Results, report
from benchmarks.serving.rounds import Course, Pace, say
from benchmarks.serving.samples import Scenario

PARTS = ("rates", "latency", "memory")
SCENARIOS = "1x1,1x8,1x64,100x1,100x8,100x64,1000x1,1000x2,1000x8,10000x1,10000x2"
_PACKAGES = ("onnxruntime", "numpy", "msgspec", "pydantic-core", "uvicorn", "uvloop", "pyarrow")


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
    parts, chosen, wanted = _parts(only), _contestants(peers), _scenarios(scenarios)
    # SIGTERM ends this as Ctrl-C does: servers are ended too, the paused ones among them.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    _pin()
    pace = Pace(rounds=rounds, seconds=seconds)
    heading, results = _heading(pace), Results()

    def write() -> None:
        if out is not None:
            out.write_text(report(results, wanted, heading) + "\n", encoding="utf-8")

    sizes = sorted({each.records for each in wanted} | {1, memory.BATCH, latency.BATCH})
    say(f"{len(sizes)} batches of real records")
    data = batches(sizes)
    with tempfile.TemporaryDirectory(prefix="serving-", ignore_cleanup_errors=True) as folder:
        scratch = Path(folder)
        if "rates" in parts:
            floor = not peers or ONNXRUNTIME in _names(peers)
            Course(chosen, data, pace, scratch, floor, results.measured).run(wanted, write)
        try:
            if "latency" in parts:
                results.waits = latency.measure(data, pace, _folder(scratch, "latency"))
                write()
            if "memory" in parts:
                results.growth = memory.measure(data, records, _folder(scratch, "memory"))
        except (ServerError, WrkError) as error:
            results.notes.append(str(error))
    write()
    sys.stdout.write(report(results, wanted, heading) + "\n")


def _folder(scratch: Path, name: str) -> Path:
    folder = scratch / name
    folder.mkdir()
    return folder


def _parts(text: str) -> list[str]:
    parts = _names(text)
    if unknown := set(parts) - set(PARTS):
        raise typer.BadParameter(f"no part is called {min(unknown)!r}; {', '.join(PARTS)}")
    return parts


def _contestants(text: str) -> list[Contestant]:
    try:
        return choose(_names(text))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _scenarios(text: str) -> list[Scenario]:
    try:
        return sorted({Scenario.parse(each) for each in _names(text or SCENARIOS)})
    except ValueError as error:
        raise typer.BadParameter(f"not RECORDSxCONNECTIONS by commas: {error}") from error


def _pin() -> None:
    """Keep to the load's core: the other one is the servers'."""
    if not {SERVER_CORE, LOAD_CORE} <= os.sched_getaffinity(0):
        raise typer.BadParameter(f"this needs cores {SERVER_CORE} and {LOAD_CORE}")
    os.sched_setaffinity(0, {LOAD_CORE})


def _heading(pace: Pace) -> Sequence[str]:
    # It knows training's libraries, which are slow to load.
    from benchmarks.detection.report import asked, machine, versions  # noqa: PLC0415

    own = [", ".join(pinned(name)) for name, server in SERVERS.items() if server.own]
    turns = f"{pace.rounds} rounds, contestants in turn, {pace.seconds:g} s each (up to 4 times "
    turns += f"that where requests are few) after {pace.warm_up:g} s of warm-up"
    return [
        *asked("benchmarks.serving"),
        f"- {machine()}; servers on core {SERVER_CORE}, load on core {LOAD_CORE}",
        f"- {turns}",
        f"- ours: {versions(*_PACKAGES)}",
        f"- peers: {'; '.join(own)}",
        "- ours runs with its defaults, but for bodies of up to 64 MiB (FAULTCUBE_MAX_BODY_BYTES)",
    ]


if __name__ == "__main__":
    typer.run(main)
