"""Time, memory and exactness of the lossless loss, beside pytorch-metric-learning's losses.

Prints a Markdown table; `python -m benchmarks.losses`, from the root of the repository, on Linux.
"""

from __future__ import annotations

import importlib
import statistics
import sys

import torch

from benchmarks.harness.report import table
from benchmarks.losses.measure import (
    ENUMERATED,
    GROWTH,
    MAX_BYTES,
    PAIRS,
    SIZES,
    TRIPLETS,
    against,
    differences,
    extra_bytes,
    in_mib,
    interleaved,
    margin_differences,
)

_HEAD = (
    *("B", "ours, ms", "all triplets, times ours", "pairs, times ours", "ours, MiB"),
    *("all triplets, MiB", "pairs, MiB", "value off by", "gradient off by"),
)


def main() -> None:
    """Measure, and print as each size is done."""
    try:
        importlib.import_module("pytorch_metric_learning")
    except ImportError:
        sys.exit("pip install pytorch-metric-learning torch==2.13.0, and run this again")
    torch.set_num_threads(1)
    show("\n".join(table(_HEAD, [], ">")[:-1]))
    last: dict[str, float] = {}
    for size in SIZES:
        expected = {name: last.get(name, 0) * growth for name, growth in GROWTH.items()}
        fitting = [name for name in GROWTH if expected[name] <= MAX_BYTES]
        last = {**expected, **{name: extra_bytes(name, size) for name in fitting}}
        pairs = interleaved(PAIRS, size)
        ratio = against(interleaved(TRIPLETS, size)) if TRIPLETS in fitting else "skipped"
        ours = 1e3 * statistics.median(mine for mine, _ in pairs)
        cells = [str(size), f"{ours:.3g}", ratio, against(pairs)]
        cells += [in_mib(name, last[name], fitting) for name in GROWTH]
        cells += [f"{off:.0e}" for off in differences(size)] if size <= ENUMERATED else ["", ""]
        show(f"| {' | '.join(cells)} |")
    value, gradient = margin_differences(256)
    text = "TripletMarginLoss, ours and theirs with one formula, B = 256: value and gradient"
    show(f"\n{text} {value:.0e} and {gradient:.0e} apart.")


def show(text: str) -> None:
    """Print at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
