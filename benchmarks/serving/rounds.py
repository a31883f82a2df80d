"""The rounds: every contestant in turn, round after round, each with the machine to itself."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.harness import wrk
from benchmarks.harness.client import Client, ServerError
from benchmarks.harness.process import LOAD_CORE, SERVER_CORE
from benchmarks.harness.records import Batch
from benchmarks.harness.report import progress
from benchmarks.harness.server import Server
from benchmarks.harness.wrk import WrkError
from benchmarks.serving.contestants import ECHO, ONNXRUNTIME, OURS, SERVERS, Contestant
from benchmarks.serving.environments import InstallError
from benchmarks.serving.peers.predictor import Predictor
from benchmarks.serving.samples import Measured, Sample, Scenario
from benchmarks.serving.servers import running

_MIN_REQUESTS, _MAX_TIMES = 30, 4
"""A window is made longer, up to so many times, for as many requests of a slow contestant."""


@dataclass(frozen=True, slots=True)
class Pace:
    """Rounds in which contestants take turns, and seconds of each measurement and its warm-up."""

    rounds: int = 3
    seconds: float = 3.0
    warm_up: float = 1.0


def window(rate: float, seconds: float) -> float:
    """Return how long to measure at a rate of requests a second, so that there are enough."""
    longest = _MAX_TIMES * seconds
    return min(longest, max(seconds, _MIN_REQUESTS / rate)) if rate > 0 else longest


@dataclass(slots=True)
class Rounds:
    """Servers that run, paused while another one is measured, and what was measured of them."""

    contestants: Sequence[Contestant]
    batches: Mapping[int, Batch]
    pace: Pace
    folder: Path
    with_onnxruntime: bool = True
    measured: Measured = field(default_factory=Measured)
    _running: dict[str, Server] = field(default_factory=dict)
    _broken: dict[str, str] = field(default_factory=dict)
    _bodies: dict[tuple[str, int], tuple[Path, Mapping[str, str]]] = field(default_factory=dict)
    _sizes: dict[int, int] = field(default_factory=dict)

    def run(self, scenarios: Sequence[Scenario], after_each: Callable[[], None]) -> None:
        """Measure every contestant in every scenario; servers run from first to last."""
        with ExitStack() as stack:
            self._start(stack)
            for i, scenario in enumerate(scenarios, 1):
                able = [entry for entry in self.contestants if self._is_right(entry, scenario)]
                for number in range(self.pace.rounds):
                    for j, contestant in enumerate(able, 1):
                        where = f"scenario {i}/{len(scenarios)} {scenario}, "
                        where += f"round {number + 1}/{self.pace.rounds}, {j}/{len(able)}"
                        self._add(contestant, scenario, number, where)
                    if self.with_onnxruntime:
                        self.measured.samples.append(self._onnxruntime(scenario, number))
                after_each()

    def _start(self, stack: ExitStack) -> None:
        names = list(dict.fromkeys(contestant.server for contestant in self.contestants))
        for i, name in enumerate(names, 1):
            progress(f"server {i}/{len(names)} {name}: installing if need be, and starting")
            folder = self.folder / name
            folder.mkdir()
            try:
                server = stack.enter_context(running(SERVERS[name], folder))
            except (InstallError, ServerError) as error:
                self._broken[name] = str(error)
                progress(f"{name}: {error}")
                continue
            self._running[name] = server
            server.settle()
            server.pause()

    def _is_right(self, contestant: Contestant, scenario: Scenario) -> bool:
        """Ask once; a contestant that gives wrong labels is not measured."""
        reason = self._broken.get(contestant.server)
        try:
            if reason is None:
                self._check(contestant, scenario.records)
        except (ServerError, ModuleNotFoundError) as error:
            reason = str(error)
        if reason is None:
            return True
        self.measured.failures[contestant.name, scenario] = reason
        progress(f"{scenario} {contestant.name}: {reason}")
        return False

    def _check(self, contestant: Contestant, records: int) -> None:
        batch = self.batches[records]
        file, headers = self._body(contestant, records)
        server = self._running[contestant.server]
        server.resume()
        try:
            with Client(server.port) as client:
                path = self._path(contestant, records)
                answer = client.post(path, file.read_bytes(), headers)
        finally:
            server.pause()
        try:
            labels = contestant.wire.labels(answer)
        except (ValueError, LookupError, TypeError, StopIteration) as error:
            raise ServerError(f"an answer that cannot be read ({error!r})") from error
        check_labels(labels, batch.labels[:1] if contestant.server == ECHO else batch.labels)
        if contestant.name == OURS:
            self._sizes[records] = len(answer.body)

    def _body(self, contestant: Contestant, records: int) -> tuple[Path, Mapping[str, str]]:
        """Return the file of a request's body, and the headers."""
        key = (contestant.name, records)
        if key not in self._bodies:
            body, headers = contestant.wire.encode(self.batches[records])
            file = self.folder / f"{contestant.name.replace(' ', '-')}-{records}"
            file.write_bytes(body)
            self._bodies[key] = file, {**contestant.wire.headers, **headers}
        return self._bodies[key]

    def _path(self, contestant: Contestant, records: int) -> str:
        if records not in self._sizes:
            batch = self.batches[records]
            text = json.dumps(Predictor().verdicts(batch.matrix), separators=(",", ":"))
            self._sizes[records] = len(text)
        label = self.batches[records].labels[0]
        return contestant.path.format(size=self._sizes[records], label=label)

    def _add(self, contestant: Contestant, scenario: Scenario, number: int, where: str) -> None:
        server = self._running[contestant.server]
        try:
            sample = self._measure(contestant, server, scenario, number)
        except WrkError as error:
            ended = server.process.poll() is not None
            reason = f"{error}{f'; it ended: {server.last_line()}' if ended else ''}"
            self.measured.failures[contestant.name, scenario] = reason
            progress(f"{where} {contestant.name}: {reason}")
            return
        self.measured.samples.append(sample)
        marked = f", {sample.errors} ERRORS" if sample.errors else ""
        progress(f"{where} {contestant.name}: {sample.rate:.4g} requests/s{marked}")

    def _measure(
        self, contestant: Contestant, server: Server, scenario: Scenario, number: int
    ) -> Sample:
        file, headers = self._body(contestant, scenario.records)
        load, cpu, memory = wrk.measure(
            server,
            self._path(contestant, scenario.records),
            file,
            headers,
            connections=scenario.connections,
            warm_up=self.pace.warm_up,
            seconds=lambda rate: window(rate, self.pace.seconds),
        )
        return Sample(
            contestant=contestant.name,
            scenario=scenario,
            round=number,
            rate=load.rate,
            cpu=1e3 * cpu / max(load.requests, 1),
            p50=load.p50,
            p99=load.p99,
            memory=memory,
            errors=load.errors,
        )

    def _onnxruntime(self, scenario: Scenario, number: int) -> Sample:
        """Measure the graph alone, in this process, on the servers' core."""
        predictor, matrix = Predictor(), self.batches[scenario.records].matrix
        os.sched_setaffinity(0, {SERVER_CORE})
        try:
            times = _times(lambda: predictor.measure(matrix), self.pace.seconds)
        finally:
            os.sched_setaffinity(0, {LOAD_CORE})
        times.sort()
        return Sample(
            contestant=ONNXRUNTIME,
            scenario=scenario,
            round=number,
            rate=len(times) / sum(times),
            cpu=1e3 * sum(times) / len(times),
            p50=1e3 * times[len(times) // 2],
            p99=1e3 * times[len(times) * 99 // 100],
            memory=0,
            errors=0,
        )


def _times(call: Callable[[], object], seconds: float) -> list[float]:
    """Return the seconds that each call took."""
    times: list[float] = []
    end = time.perf_counter() + seconds
    while (begin := time.perf_counter()) < end:
        call()
        times.append(time.perf_counter() - begin)
    return times


def check_labels(labels: Sequence[str], right: Sequence[str]) -> None:
    """Check that an answer is right.

    The first label must be; of the others, one in a thousand may differ, for a record between two
    classes may fall to either side with the order of a sum.

    Raises:
        ServerError: it is not.
    """
    if len(labels) != len(right):
        raise ServerError(f"{len(labels)} verdicts for {len(right)} records")
    wrong = sum(a != b for a, b in zip(labels, right, strict=True))
    if labels[0] != right[0] or wrong > len(right) / 1000:
        raise ServerError(f"{wrong} of {len(right)} labels are wrong")
