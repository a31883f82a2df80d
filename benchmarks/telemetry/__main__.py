"""Print what assembling costs, and how near an assembled table is to the one that ships.

`python -m benchmarks.telemetry`, from the root of the repository, on Linux.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.harness.report import table
from benchmarks.telemetry.costs import measured
from benchmarks.telemetry.shipped import differences

_RAW = Path("../shared/data/cisco-iosxr/cisco_iosxr_raw.parquet")


def main() -> None:
    """Measure, and print a table of each."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.telemetry", description=__doc__)
    parser.add_argument("--series", type=int, default=1_000_000)
    parser.add_argument("--records", type=int, default=12, help="of each device")
    parser.add_argument("--devices", type=int, help="in a body; all if not given")
    parser.add_argument("--raw", type=Path, default=_RAW, help="raw points of the shipped table")
    options = parser.parse_args()
    figures = [*measured(options.series, options.records, options.devices)]
    _print(table(("what", "measured"), figures, "<>"))
    if options.raw.exists():
        rows = [(name, f"{largest:.2g}") for name, largest in differences(options.raw)]
        _print(table(("field", "largest difference"), rows, "<>"))


def _print(lines: list[str]) -> None:
    sys.stdout.write("\n".join([*lines, ""]) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
