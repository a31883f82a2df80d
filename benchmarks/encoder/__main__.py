"""Milliseconds of the encoder that ships, as a Markdown table: `python -m benchmarks.encoder`.

All take turns on one core; what counts is the median.
"""

from __future__ import annotations

import os

# Read when numpy is imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import statistics
import sys
import time
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final

import numpy as np
import onnxruntime as ort
import torch
import typer

from benchmarks.encoder.evaluate import evaluator
from benchmarks.harness.command_line import end_on_sigterm, pin_to_load_core
from benchmarks.harness.records import BUNDLE
from benchmarks.harness.report import busy, heading, machine, table, versions
from benchmarks.serving.records import batches

SIZES: Final = (1, 100, 1_000, 10_000)
Embed = Callable[[Any], Any]
_SECONDS: Final = 0.2
"""Of one contestant with one size in one round."""
_NEAR: Final = 1e-4


def main(rounds: Annotated[int, typer.Option(min=1, help="In which all take turns.")] = 7) -> None:
    """Measure, and print the table."""
    end_on_sigterm()
    pin_to_load_core()
    torch.set_num_threads(1)
    was_busy = busy()
    contestants, data = _contestants((BUNDLE / "encoder.onnx").read_bytes()), batches(SIZES)
    times: dict[tuple[str, int], list[float]] = {}
    for size in SIZES:
        records = np.ascontiguousarray(data[size].matrix)
        _agree(contestants, records)
        for _ in range(rounds):
            for name, embed in contestants.items():
                times.setdefault((name, size), []).append(_milliseconds(embed, records))
    rows = [
        [name, *(f"{statistics.median(times[name, size]):.3f}" for size in SIZES)]
        for name in contestants
    ]
    lines = [
        "# Encoder",
        "",
        *heading("benchmarks.encoder"),
        f"- {machine()}; {versions('onnxruntime', 'numpy', 'torch')}",
        f"- {was_busy}",
        f"- milliseconds of one inference on one core, median of {rounds} rounds",
        "",
        *table(["records", *(f"{size:,}" for size in SIZES)], rows),
    ]
    sys.stdout.write("\n".join(lines))


def _contestants(graph: bytes) -> Mapping[str, Embed]:
    by_torch = evaluator(graph, "torch")

    def in_torch(records: Any) -> Any:
        with torch.inference_mode():
            return by_torch(torch.from_numpy(records)).numpy()

    return {
        "onnxruntime, as the service has it": _session(graph),
        "without its arena": _session(graph, enable_cpu_mem_arena=False),
        "without patterns of memory": _session(graph, enable_mem_pattern=False),
        "without optimisation": _session(
            graph, graph_optimization_level=ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        ),
        "denormals as zero": _session(graph, {"session.set_denormal_as_zero": "1"}),
        "weights not packed before": _session(graph, {"session.disable_prepacking": "1"}),
        "numpy": evaluator(graph, "numpy"),
        "torch": in_torch,
    }


def _session(graph: bytes, entries: Mapping[str, str] | None = None, **chosen: Any) -> Embed:
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    for name, value in chosen.items():
        setattr(options, name, value)
    for name, value in (entries or {}).items():
        options.add_session_config_entry(name, value)
    session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    first, *others = session.get_inputs()
    unused = {one.name: np.zeros((1, one.shape[1]), np.float32) for one in others}
    outputs = [session.get_outputs()[0].name]
    return lambda records: session.run(outputs, {first.name: records, **unused})[0]


def _agree(contestants: Mapping[str, Embed], records: Any) -> None:
    first, *others = [embed(records) for embed in contestants.values()]
    for other in others:
        np.testing.assert_allclose(other, first, atol=_NEAR)


def _milliseconds(embed: Embed, records: Any) -> float:
    """Return the median over some inferences."""
    end, times = time.perf_counter() + _SECONDS, list[float]()
    while not times or time.perf_counter() < end:
        begun = time.perf_counter()
        embed(records)
        times.append(time.perf_counter() - begun)
    return 1000 * statistics.median(times)


if __name__ == "__main__":
    typer.run(main)
