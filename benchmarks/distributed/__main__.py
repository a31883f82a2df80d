"""Rows a second of a fit in two processes over those in one, one thread each.

Prints a Markdown table; `python -m benchmarks.distributed`, from the root of the repository.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
from pathlib import Path

from benchmarks.harness.report import table

_HEAD = ("batch", "one process, rows/s", "two, rows/s", "two over one", "by processor time")
_TORCHRUN = str(Path(sys.executable).parent / "torchrun")


def main() -> None:
    """Measure each batch, in turn with one process and with two, so that both meet busy moments."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.distributed", description=__doc__)
    parser.add_argument("--batches", default="512,4096", help="records in a batch")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=10, help="steps of a measurement")
    options = parser.parse_args()
    rows = []
    for batch in options.batches.split(","):
        pairs = [
            (rows_per_second(1, batch, options.steps), rows_per_second(2, batch, options.steps))
            for _ in range(options.rounds)
        ]
        one, two = (
            f"{statistics.median(by_clock for by_clock, _ in speeds):,.0f}"
            for speeds in zip(*pairs, strict=True)
        )
        rows.append((batch, one, two, _ratio(pairs, 0), _ratio(pairs, 1)))
    sys.stdout.write("\n".join(table(_HEAD, rows, ">")) + "\n")


def _ratio(pairs: list[tuple[list[float], list[float]]], measure: int) -> str:
    ratios = [together[measure] / alone[measure] for alone, together in pairs]
    low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return f"{middle:.2f} ({low:.2f} to {high:.2f}; {len(ratios)} rounds)"


def rows_per_second(processes: int, batch: str, steps: int) -> list[float]:
    """Measure in fresh processes: by the clock, and by processor time of one of them."""
    command = [_TORCHRUN, "--standalone", "--nproc-per-node", str(processes)]
    command += ["-m", "benchmarks.distributed.steps", batch, str(steps)]
    done = subprocess.run(  # noqa: S603
        command,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(done.stderr)
    return [*map(float, done.stdout.split())]


if __name__ == "__main__":
    main()
