from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

import service.observability.multiprocess
from service.observability.counters import Counters, ProcessReport, ProcessStatus
from service.observability.metrics import Metrics
from service.observability.multiprocess import FOLDER, SharedReports, reports_folder

WORKER = """
import sys
from service.observability.counters import ProcessStatus
from service.observability.metrics import Metrics
from service.web.middleware import RequestInfo

metrics = Metrics()
scope = {}
RequestInfo({}, "1", route="/classify").attach(scope)
with metrics.shared():
    print("ready", flush=True)
    for line in sys.stdin:
        exec(line)
        print("done", flush=True)
"""

Samples = dict[tuple[str, tuple[str, ...]], float]


class Worker:
    """A process that does what it is told, a line of Python at a time."""

    def __init__(self, folder: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", WORKER],
            env=os.environ | {FOLDER: str(folder)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def read(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def do(self, line: str) -> str:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        answer = self.read()
        if answer != "done":
            assert self.read() == "done"
        return answer

    def scrape(self) -> Samples:
        text = bytes.fromhex(self.do("print(metrics.text().hex())")).decode()
        return {
            (sample.name, tuple(sample.labels.values())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def records(self) -> float:
        return self.scrape()["faultcube_records_total", ()]

    def leave(self) -> None:
        """End as a worker ends that is told to."""
        self.process.communicate(timeout=60)

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate(timeout=60)


Workers = Callable[[int], list[Worker]]


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[Workers]:
    """Start so many workers that share a folder."""
    started: list[Worker] = []

    def start(number: int) -> list[Worker]:
        new = [Worker(tmp_path) for _ in range(number)]
        started.extend(new)
        for worker in new:
            assert worker.read() == "ready"
        return new

    yield start
    for worker in started:
        with worker.process:  # closes its pipes, also where a test failed
            worker.process.kill()


def published(folder: Path) -> None:
    """Wait until every worker has published what it has counted up to now."""
    now = time.time()
    while min(path.stat().st_mtime for path in folder.glob("*.report")) <= now + 0.05:
        time.sleep(0.02)


def test_any_worker_tells_the_sum_over_all(workers: Workers, tmp_path: Path) -> None:
    several = workers(3)
    for number, worker in enumerate(several, start=1):
        worker.do(f"metrics.counters.records += {number}")
        worker.do(f"metrics.counters.distance.observe({number / 10})")
        worker.do("metrics.count_request(scope, 200, 0.002)")
        worker.do(f"metrics.status = lambda: ProcessStatus({number}, {100 * number})")
    published(tmp_path)
    for worker in several:
        samples = worker.scrape()
        assert samples["faultcube_records_total", ()] == 6
        assert samples["faultcube_requests_total", ("/classify", "200")] == 3
        assert samples["faultcube_request_seconds_count", ("/classify",)] == 3
        assert samples["faultcube_distance_bucket", ("0.1",)] == 1
        assert samples["faultcube_distance_bucket", ("0.2",)] == 2
        assert samples["faultcube_distance_bucket", ("+Inf",)] == 3
        assert samples["faultcube_distance_sum", ()] == pytest.approx(0.6)
        assert samples["faultcube_queue_requests", ()] == 6
        assert samples["faultcube_held_bytes", ()] == 600


def test_threads_that_decode_the_first_reports_at_once_do_not_crash() -> None:
    """msgspec ends the process by a fault of memory where two threads build the same type."""
    program = """
import sys
import threading
from service.observability.counters import ProcessReport

content = ProcessReport().encoded()
sys.setswitchinterval(1e-6)
start = threading.Barrier(32)
def decode():
    start.wait()
    ProcessReport.decoded(content)

threads = [threading.Thread(target=decode) for _ in range(32)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_processes_are_summed_up_and_the_newest_start_is_told(
    workers: Workers, tmp_path: Path
) -> None:
    first, *_ = workers(1)
    alone = first.scrape()
    workers(1)
    published(tmp_path)
    together = first.scrape()
    for name in ("process_resident_memory_bytes", "process_cpu_seconds_total", "process_open_fds"):
        assert together[name, ()] > 1.5 * alone[name, ()]
    start = "process_start_time_seconds"
    assert alone[start, ()] < together[start, ()] <= time.time()


def test_ready_is_told_when_all_are_and_every_bundle_that_is_served(
    workers: Workers, tmp_path: Path
) -> None:
    first, second = workers(2)
    first.do("metrics._bundle = ('toy', 'a' * 16)")
    published(tmp_path)
    assert second.scrape()["faultcube_ready", ()] == 0
    second.do("metrics._bundle = ('toy', 'b' * 16)")
    published(tmp_path)
    samples = first.scrape()
    assert samples["faultcube_ready", ()] == 1
    assert samples["faultcube_bundle_info", ("toy", "a" * 16)] == 1
    assert samples["faultcube_bundle_info", ("toy", "b" * 16)] == 1


def test_what_a_killed_worker_has_counted_stays_and_what_it_held_does_not(
    workers: Workers, tmp_path: Path
) -> None:
    first, second, third = workers(3)
    second.do("metrics.status = lambda: ProcessStatus(5); metrics.counters.records += 40")
    published(tmp_path)
    assert first.scrape()["faultcube_queue_requests", ()] == 5
    cpu = first.scrape()["process_cpu_seconds_total", ()]
    second.kill()
    for worker in (first, third, first):
        samples = worker.scrape()
        assert samples["faultcube_queue_requests", ()] == 0
        assert samples["faultcube_records_total", ()] == 40
        assert samples["process_cpu_seconds_total", ()] >= cpu
    (new,) = workers(1)
    assert new.records() == 40
    assert len(list(tmp_path.glob("*.alive"))) == len(list(tmp_path.glob("*.report"))) == 3


def test_a_worker_that_ends_leaves_what_it_has_counted_to_the_last(workers: Workers) -> None:
    first, second = workers(2)
    second.do("metrics.counters.records += 7")
    second.leave()
    assert first.records() == 7


def test_counters_never_fall_whichever_worker_tells_them_and_whichever_dies(
    workers: Workers,
) -> None:
    alive, told = workers(3), [0.0]
    for round_ in range(30):
        for worker in alive:
            worker.do("metrics.counters.records += 1")
        told.append(alive[round_ % len(alive)].records())
        if round_ % 10 == 9:
            alive[0].kill()
            alive = [*alive[1:], *workers(1)]
            told += [worker.records() for worker in alive]
    assert told == sorted(told)
    assert told[-1] > 60


def test_a_dead_worker_counts_once_even_if_whoever_added_it_was_stopped_half_way(
    tmp_path: Path,
) -> None:
    gone = SharedReports(tmp_path, lambda: ProcessReport(Counters(records=5)))
    gone.close()
    content = (tmp_path / f"{gone.name}.report").read_bytes()
    heir = SharedReports(tmp_path, lambda: ProcessReport(Counters(records=1)))
    assert heir.totals()[0].records == 6
    (tmp_path / f"{gone.name}.report").write_bytes(content)
    (tmp_path / f"{gone.name}.alive").touch()
    assert heir.totals()[0].records == 6
    assert heir.totals()[0].records == 6
    heir.close()


def test_a_full_disk_costs_the_others_their_news_and_no_one_an_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    gone = SharedReports(
        tmp_path, lambda: ProcessReport(Counters(records=5), ProcessStatus(queue=1))
    )
    gone.close()
    part = SharedReports(tmp_path, lambda: ProcessReport(Counters(records=1)))

    def fail(_path: Path, _content: bytes) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr(service.observability.multiprocess, "_write", fail)
        tally, moments = part.totals()
        assert (tally.records, [moment.queue for moment in moments]) == (6, [0])
        assert "No space left on device" in str([vars(line) for line in caplog.records])
    assert part.totals()[0].records == 6
    part.close()


def test_one_worker_alone_writes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(FOLDER, raising=False)
    metrics = Metrics()

    def fail(_path: Path, _content: bytes) -> None:
        raise AssertionError

    monkeypatch.setattr(service.observability.multiprocess, "_write", fail)
    with metrics.shared():
        metrics.counters.records = 3
        assert b"faultcube_records_total 3.0" in metrics.text()


def test_the_common_folder_is_there_for_processes_that_are_started_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(FOLDER, raising=False)
    with reports_folder():
        folder = Path(os.environ[FOLDER])
        assert folder.stat().st_mode & 0o777 == 0o700
        (folder / "1.report").touch()
    assert not folder.exists()
    assert FOLDER not in os.environ
