"""Time, memory and exactness of the lossless loss, beside pytorch-metric-learning's losses.

Prints a Markdown table; `python -m benchmarks.losses`, from the root of the repository, on Linux.
"""

from __future__ import annotations

import importlib
import statistics
import sys

import torch

from benchmarks.losses.measure import (
    ENUMERATED,
    GROWTH,
    MOST_BYTES,
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


def main() -> None:
    """Measure, and print as each size is done."""
    try:
        importlib.import_module("pytorch_metric_learning")
    except ImportError:
        sys.exit("pip install pytorch-metric-learning torch==2.13.0, and run this again")
    torch.set_num_threads(1)
    say("| B | ours, ms | all triplets, times ours | pairs, times ours ", end="")
    say("| ours, MiB | all triplets, MiB | pairs, MiB | value off by | gradient off by |")
    say("|--:|--:|--:|--:|--:|--:|--:|--:|--:|")
    last: dict[str, float] = {}
    for size in SIZES:
        expected = {name: last.get(name, 0) * growth for name, growth in GROWTH.items()}
        fitting = [name for name in GROWTH if expected[name] <= MOST_BYTES]
        last = {**expected, **{name: extra_bytes(name, size) for name in fitting}}
        pairs = interleaved(PAIRS, size)
        ratio = against(interleaved(TRIPLETS, size)) if TRIPLETS in fitting else "skipped"
        ours = 1e3 * statistics.median(mine for mine, _ in pairs)
        cells = [str(size), f"{ours:.3g}", ratio, against(pairs)]
        cells += [in_mib(name, last[name], fitting) for name in GROWTH]
        cells += [f"{off:.0e}" for off in differences(size)] if size <= ENUMERATED else ["", ""]
        say(f"| {' | '.join(cells)} |")
    value, gradient = margin_differences(256)
    say(
        "\nTripletMarginLoss, ours and theirs with one formula, B = 256: value and gradient ",
        end="",
    )
    say(f"{value:.0e} and {gradient:.0e} apart.")


def say(text: str, end: str = "\n") -> None:
    """Print now, whatever stdout is."""
    sys.stdout.write(text + end)
    sys.stdout.flush()


if __name__ == "__main__":
    main()
