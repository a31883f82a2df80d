from __future__ import annotations

from benchmarks.serving.contestants import ECHO, ONNXRUNTIME, OURS
from benchmarks.serving.samples import Measured, Sample, Scenario
from benchmarks.serving.words import in_words

ONE, MANY = Scenario(1, 8), Scenario(1000, 2)


def sample(contestant: str, scenario: Scenario, rate: float, cpu: float = 1.0) -> Sample:
    return Sample(contestant, scenario, 0, rate, cpu, 1.0, 2.0, 3 << 20, 0)


def test_it_is_said_beside_whom_the_service_is_ahead_and_with_what_it_is_behind() -> None:
    measured = Measured(
        [
            *(sample(OURS, scenario, 800) for scenario in (ONE, MANY)),
            *(sample("faultcube V2", scenario, 600) for scenario in (ONE, MANY)),
            sample("fastapi", ONE, 200),
            sample("fastapi", MANY, 100),
            sample("mlserver V2", ONE, 300),
            sample("mlserver V2", MANY, 1000),
            sample("kserve V1", MANY, 1600),
        ]
    )
    assert in_words(measured, [ONE, MANY]) == [
        "- ahead of `fastapi` in every load, 4 to 8 times",
        (
            "- ahead of `mlserver V2` in 1 of 2 loads, 2 times; **behind** it with "
            "1,000 records, 2 connections (0.6)"
        ),
        "- **behind** `kserve V1` in every load: 1,000 records, 2 connections (0.5)",
    ]


def test_it_is_said_what_the_graph_and_the_bytes_alone_take() -> None:
    measured = Measured(
        [
            sample(OURS, ONE, 800, cpu=0.2),
            sample(ONNXRUNTIME, ONE, 8000, cpu=0.05),
            sample(ECHO, ONE, 2000, cpu=0.1),
        ]
    )
    (line,) = in_words(measured, [ONE, MANY])
    assert "of 0.2 ms of CPU, the graph alone takes 0.05 (25%)" in line
    assert line.endswith("as many bytes 0.1 (50%)")
