"""Milliseconds of the encoder that ships, as a Markdown table: `python -m benchmarks.encoder`.

All take turns on one core; what counts is the fastest, of processor time.
"""

from __future__ import annotations

import os

# Read when numpy is imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import sys
import time
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final

import numpy as np
import onnxruntime as ort
import torch
import typer

from benchmarks.encoder.evaluate import evaluator
from benchmarks.encoder.variants import variants
from benchmarks.harness.command_line import end_on_sigterm, pin_to_load_core
from benchmarks.harness.records import BUNDLE, real_records
from benchmarks.harness.report import busy, heading, machine, table, versions
from models import Model
from models.encoder import Encoder

SIZES: Final = (1, 100, 1_000, 10_000)
Embed = Callable[[Any], Any]
_SECONDS: Final = 0.05
"""Of one contestant with one size in one round."""
_TABLE: Final = 15_771
"""Records of the table that ships."""


def main(rounds: Annotated[int, typer.Option(min=1, help="In which all take turns.")] = 20) -> None:
    """Measure, and print the table."""
    end_on_sigterm()
    pin_to_load_core()
    torch.set_num_threads(1)
    was_busy = busy()
    whole = np.ascontiguousarray(real_records(_TABLE).matrix)
    contestants = _contestants((BUNDLE / "encoder.onnx").read_bytes(), whole)
    times: dict[tuple[str, int], list[float]] = {}
    for size in SIZES:
        records = np.ascontiguousarray(real_records(size).matrix)
        for _ in range(rounds):
            for name, embed in contestants.items():
                times.setdefault((name, size), []).append(_milliseconds(embed, records))
    differences = _differences(contestants, whole)
    rows = [
        [
            name,
            *(f"{min(times[name, size]):.3f}" for size in SIZES),
            *differences[name],
        ]
        for name in contestants
    ]
    lines = [
        "# Encoder",
        "",
        *heading("benchmarks.encoder"),
        f"- {machine()}; {versions('onnxruntime', 'numpy', 'torch')}",
        f"- {was_busy}",
        f"- milliseconds of a core for one inference, the fastest in {rounds} rounds",
        f"- off by: the largest difference of any coordinate of {_TABLE:,} records",
        "",
        *table(["records", *(f"{size:,}" for size in SIZES), "off by", "verdicts changed"], rows),
    ]
    sys.stdout.write("\n".join(lines))


def _contestants(graph: bytes, records: Any) -> Mapping[str, Embed]:
    by_torch = evaluator(graph, "torch")

    def in_torch(records: Any) -> Any:
        with torch.inference_mode():
            return by_torch(torch.from_numpy(records)).numpy()

    return {
        "onnxruntime, as the service has it": Encoder(graph).embed,
        "all records at once": _session(graph),
        "options anew in each run": _session(graph, kept=False),
        "without its arena": _session(graph, enable_cpu_mem_arena=False),
        "without patterns of memory": _session(graph, enable_mem_pattern=False),
        "without optimisation": _session(
            graph, graph_optimization_level=ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        ),
        "denormals as zero": _session(graph, {"session.set_denormal_as_zero": "1"}),
        "weights not packed before": _session(graph, {"session.disable_prepacking": "1"}),
        **{name: _session(other) for name, other in variants(graph, records).items()},
        "numpy": evaluator(graph, "numpy"),
        "torch": in_torch,
    }


def _session(
    graph: bytes, entries: Mapping[str, str] | None = None, *, kept: bool = True, **chosen: Any
) -> Embed:
    """Return what embeds all records at once, with run options that are kept or made each time."""
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
    run = ort.RunOptions() if kept else None
    return lambda records: session.run(outputs, {first.name: records, **unused}, run)[0]


def _differences(contestants: Mapping[str, Embed], records: Any) -> dict[str, list[str]]:
    """Return how far each contestant's embeddings are off the first's, and its other verdicts."""
    model, found = Model.load(BUNDLE), dict[str, list[str]]()
    points = next(iter(contestants.values()))(records)
    labels = np.array(model.labels(model.rule.decide(points)))
    for name, embed in contestants.items():
        others = embed(records)
        changed = labels != np.array(model.labels(model.rule.decide(others)))
        found[name] = [f"{np.abs(others - points).max():.0e}", f"{changed.sum():,}"]
    return found


def _milliseconds(embed: Embed, records: Any) -> float:
    """Return those of the fastest of some inferences."""
    end, times = time.perf_counter() + _SECONDS, list[float]()
    while not times or time.perf_counter() < end:
        begun = time.thread_time()
        embed(records)
        times.append(time.thread_time() - begun)
    return 1000 * min(times)


if __name__ == "__main__":
    typer.run(main)
