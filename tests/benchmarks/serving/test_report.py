from __future__ import annotations

from benchmarks.serving.contestants import CONTESTANTS, ONNXRUNTIME, OURS
from benchmarks.serving.latency import Waits
from benchmarks.serving.memory import Growth
from benchmarks.serving.report import Results, report, shown
from benchmarks.serving.samples import Measured, Ratio, Sample, Scenario
from benchmarks.serving.targets import TARGETS, Target, reached, verdict

ONE = Scenario(1, 8)


def sample(contestant: str, rate: float, *, cpu: float = 1.0, errors: int = 0) -> Sample:
    return Sample(contestant, ONE, 0, rate, cpu, 1.0, 2.0, 3 << 20, errors)


def rows(text: str, name: str) -> list[list[str]]:
    lines = [line for line in text.splitlines() if line.startswith(f"| {name} |")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_a_ratio_shows_its_spread_and_nothing_is_a_dash() -> None:
    assert shown(Ratio(3.456, 3, 4.5, 3)) == "3.46 (3 to 4.5)"
    assert shown(None) == "-"


def test_a_target_is_reached_at_its_number_and_not_below() -> None:
    assert verdict(reached(3.5, 3.5)) == "reached"
    assert verdict(reached(3.49, 3.5)) == "**not reached**"
    assert verdict(None) == "not measured"


def test_more_requests_or_less_cpu_of_ours_make_a_ratio_larger() -> None:
    measured = Measured([sample(OURS, 800, cpu=0.5), sample("fastapi", 200, cpu=2.5)])
    target = Target(OURS, "fastapi", ONE, 3.5)
    by_rate, by_cpu = target.by_rate(measured), target.by_cpu(measured)
    assert by_rate is not None
    assert by_cpu is not None
    assert (by_rate.median, by_cpu.median) == (4, 5)


def test_every_target_is_of_contestants_that_there_are() -> None:
    names = {each.name for each in CONTESTANTS} | {ONNXRUNTIME}
    assert {each.ours for each in TARGETS} | {each.theirs for each in TARGETS} <= names
    assert len({(each.ours, each.theirs, each.scenario) for each in TARGETS}) == len(TARGETS)


def test_each_target_says_whether_it_is_reached() -> None:
    measured = Measured([sample(OURS, 800), sample("fastapi", 200), sample("bentoml", 50)])
    text = report(Results(measured), [ONE], ["how"])
    assert "| `faultcube` to `fastapi`, requests/s | 1 record, 8 connections | ≥ 4.5 | 4 (" in text
    verdicts = [line.split("|")[-2].strip() for line in text.splitlines() if "≥" in line]
    assert verdicts[:3] == ["**not reached**", "reached", "not measured"]


def test_a_row_with_errors_is_marked_and_gets_no_ratio() -> None:
    measured = Measured([sample(OURS, 800), sample("fastapi", 200, errors=7)])
    ((*_, errors, ratio, _same, _cpu),) = rows(report(Results(measured), [ONE], []), "fastapi")
    assert (errors, ratio) == ("**7**", "-")


def test_who_could_not_run_is_a_row_with_the_reason() -> None:
    measured = Measured([sample(OURS, 800)], {("pytriton V2 binary", ONE): "not installed: why"})
    ((_, reason, *rest),) = rows(report(Results(measured), [ONE], []), "pytriton V2 binary")
    assert reason == "*not installed: why*"
    assert not any(rest)


def test_ratios_are_to_our_json_rows_and_to_ours_of_the_same_body() -> None:
    binary = "faultcube V2 binary"
    measured = Measured([sample(OURS, 800), sample(binary, 1600), sample("kserve V2 binary", 400)])
    text = report(Results(measured), [ONE], [])
    ((*_, to_rows, to_same, _cpu),) = rows(text, "kserve V2 binary")
    assert (to_rows, to_same) == ("2 (2 to 2)", "4 (4 to 4)")
    assert rows(text, binary)[0][-2] == ""


def test_latency_and_memory_are_judged_too() -> None:
    waits = [Waits("GET /livez", [1, 2, 3], [10, 60, 40], batches=[7, 8, 9])]
    results = Results(waits=waits, growth=Growth(100 << 20, 111 << 20, 1_000_000))
    text = report(results, [], [])
    assert "| `GET /livez` | 2 (1 to 3) | 40 (10 to 60) | 0 | 8 | 0 |" in text
    assert "| < 50 ms | 40 ms |  | reached |" in text
    assert "| ≤ 1.1 | 1.110 |  | **not reached** |" in text
    assert "111.0 MiB after 1,000,000" in text


def test_a_wait_beside_batches_that_were_refused_is_not_judged() -> None:
    waits = [Waits("GET /livez", [1], [2], batches=[50], refused=3)]
    text = report(Results(waits=waits), [], [])
    assert "| `GET /livez` | 1 (1 to 1) | 2 (2 to 2) | 0 | 50 | **3** |" in text
    assert "| < 50 ms | - |  | not measured |" in text


def test_what_is_missing_is_said_at_the_top() -> None:
    text = report(Results(notes=["no answer"]), [], ["- how"])
    assert text.index("- how") < text.index("- **missing**: no answer") < text.index("## Targets")
