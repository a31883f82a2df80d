"""The rounds: every contestant in turn, round after round, each with the machine to itself."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.harness import wrk
from benchmarks.harness.process import cpu_seconds, pss, settle
from benchmarks.harness.records import Batch
from benchmarks.harness.server import SERVER_CORE, Running, ServerError, post
from benchmarks.harness.wrk import LOAD_CORE, Load, WrkError
from benchmarks.serving.contestants import ECHO, ONNXRUNTIME, OURS, SERVERS, Contestant
from benchmarks.serving.environments import InstallError
from benchmarks.serving.peers.predictor import Predictor
from benchmarks.serving.samples import Measured, Sample, Scenario

_FEWEST_REQUESTS, _MOST_TIMES = 30, 4
"""A window is made longer, up to so many times, for as many requests of a slow contestant."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How long everything takes.

    Attributes:
        rounds: in which contestants take turns.
        seconds: of a measurement.
        warm_up: seconds before each.
    """

    rounds: int = 3
    seconds: float = 3.0
    warm_up: float = 1.0


def say(text: str) -> None:
    """Tell how far it is."""
    sys.stderr.write(f"{time.strftime('%H:%M:%S')}  {text}\n")
    sys.stderr.flush()


def window(rate: float, seconds: float) -> float:
    """How long to measure at this many requests a second, so that there are enough of them."""
    most = _MOST_TIMES * seconds
    return min(most, max(seconds, _FEWEST_REQUESTS / rate)) if rate > 0 else most


@dataclass(slots=True)
class Course:
    """Servers that run, paused while another one is measured, and what was measured of them."""

    contestants: Sequence[Contestant]
    batches: Mapping[int, Batch]
    pace: Pace
    scratch: Path
    with_onnxruntime: bool = True
    measured: Measured = field(default_factory=Measured)
    _running: dict[str, Running] = field(default_factory=dict)
    _broken: dict[str, str] = field(default_factory=dict)
    _bodies: dict[tuple[str, int], tuple[Path, Mapping[str, str]]] = field(default_factory=dict)
    _sizes: dict[int, int] = field(default_factory=dict)

    def run(self, scenarios: Sequence[Scenario], after_each: Callable[[], None]) -> None:
        """Measure every contestant in every scenario; servers run from first to last."""
        with ExitStack() as stack:
            self._start(stack)
            for i, scenario in enumerate(scenarios, 1):
                able = [each for each in self.contestants if self._is_right(each, scenario)]
                for number in range(self.pace.rounds):
                    for j, each in enumerate(able, 1):
                        place = f"scenario {i}/{len(scenarios)} {scenario}, "
                        place += f"round {number + 1}/{self.pace.rounds}, {j}/{len(able)}"
                        self._add(each, scenario, number, place)
                    if self.with_onnxruntime:
                        self.measured.samples.append(self._onnxruntime(scenario, number))
                after_each()

    def _start(self, stack: ExitStack) -> None:
        names = list(dict.fromkeys(each.server for each in self.contestants))
        for i, name in enumerate(names, 1):
            say(f"server {i}/{len(names)} {name}: installing if need be, and starting")
            folder = self.scratch / name
            folder.mkdir()
            try:
                running = stack.enter_context(Running.start(SERVERS[name], folder))
            except (InstallError, ServerError) as error:
                self._broken[name] = str(error)
                say(f"{name}: {error}")
                continue
            self._running[name] = running
            settle(running.process.pid)
            running.pause()

    def _is_right(self, contestant: Contestant, scenario: Scenario) -> bool:
        """Ask once; whoever does not give the right labels is not measured."""
        reason = self._broken.get(contestant.server)
        try:
            if reason is None:
                self._check(contestant, scenario.records)
        except (ServerError, ModuleNotFoundError) as error:
            reason = str(error)
        if reason is None:
            return True
        self.measured.failures[contestant.name, scenario] = reason
        say(f"{scenario} {contestant.name}: {reason}")
        return False

    def _check(self, contestant: Contestant, records: int) -> None:
        batch = self.batches[records]
        path, headers = self._body(contestant, records)
        running = self._running[contestant.server]
        running.resume()
        try:
            answer = post(running.port, self._path(contestant, records), path.read_bytes(), headers)
        finally:
            running.pause()
        try:
            labels = contestant.wire.labels(answer)
        except (ValueError, LookupError, TypeError, StopIteration) as error:
            raise ServerError(f"an answer that cannot be read ({error!r})") from error
        check_labels(labels, batch.labels[:1] if contestant.server == ECHO else batch.labels)
        if contestant.name == OURS:
            self._sizes[records] = len(answer.body)

    def _body(self, contestant: Contestant, records: int) -> tuple[Path, Mapping[str, str]]:
        """The file of a request's body, and the headers."""
        key = (contestant.name, records)
        if key not in self._bodies:
            body, headers = contestant.wire.encode(self.batches[records])
            path = self.scratch / f"{contestant.name.replace(' ', '-')}-{records}"
            path.write_bytes(body)
            self._bodies[key] = path, {**contestant.wire.headers, **headers}
        return self._bodies[key]

    def _path(self, contestant: Contestant, records: int) -> str:
        if records not in self._sizes:
            batch = self.batches[records]
            text = json.dumps(Predictor().verdicts(batch.matrix), separators=(",", ":"))
            self._sizes[records] = len(text)
        label = self.batches[records].labels[0]
        return contestant.path.format(size=self._sizes[records], label=label)

    def _add(self, contestant: Contestant, scenario: Scenario, number: int, place: str) -> None:
        running = self._running[contestant.server]
        running.resume()
        try:
            sample = self._measure(contestant, running, scenario, number)
        except WrkError as error:
            ended = running.process.poll() is not None
            reason = f"{error}{f'; it ended: {running.last_words()}' if ended else ''}"
            self.measured.failures[contestant.name, scenario] = reason
            say(f"{place} {contestant.name}: {reason}")
            return
        finally:
            running.pause()
        self.measured.samples.append(sample)
        marked = f", {sample.errors} ERRORS" if sample.errors else ""
        say(f"{place} {contestant.name}: {sample.rate:.4g} requests/s{marked}")

    def _measure(
        self, contestant: Contestant, running: Running, scenario: Scenario, number: int
    ) -> Sample:
        path, headers = self._body(contestant, scenario.records)
        url = f"http://127.0.0.1:{running.port}{self._path(contestant, scenario.records)}"

        def load(seconds: float) -> Load:
            return wrk.run(url, path, headers, connections=scenario.connections, seconds=seconds)

        warm = load(self.pace.warm_up)
        settle(running.process.pid)
        pids = running.pids
        before = cpu_seconds(pids)
        seen = load(window(warm.rate, self.pace.seconds))
        spent = cpu_seconds(pids) - before
        return Sample(
            contestant=contestant.name,
            scenario=scenario,
            round=number,
            rate=seen.rate,
            cpu=1e3 * spent / max(seen.requests, 1),
            p50=seen.p50,
            p99=seen.p99,
            memory=pss(running.pids),
            errors=seen.errors,
        )

    def _onnxruntime(self, scenario: Scenario, number: int) -> Sample:
        """The graph alone, in this process, on the servers' core."""
        predictor, matrix = Predictor(), self.batches[scenario.records].matrix
        os.sched_setaffinity(0, {SERVER_CORE})
        try:
            times = _times(lambda: predictor.measure(matrix), self.pace.seconds)
        finally:
            os.sched_setaffinity(0, {LOAD_CORE})
        times.sort()
        total, cpu = sum(times), 1e3 * sum(times) / len(times)
        return Sample(
            contestant=ONNXRUNTIME,
            scenario=scenario,
            round=number,
            rate=len(times) / total,
            cpu=cpu,
            p50=1e3 * times[len(times) // 2],
            p99=1e3 * times[len(times) * 99 // 100],
            memory=0,
            errors=0,
        )


def _times(call: Callable[[], object], seconds: float) -> list[float]:
    """Seconds that each call took."""
    found: list[float] = []
    end = time.perf_counter() + seconds
    while (begin := time.perf_counter()) < end:
        call()
        found.append(time.perf_counter() - begin)
    return found


def check_labels(found: Iterable[str], right: Sequence[str]) -> None:
    """See that an answer is right.

    The first label must be; of the others, one in a thousand may differ, for a record that lies
    right between two classes falls to either side with the order of a sum.

    Raises:
        ServerError: it is not.
    """
    labels = list(found)
    if len(labels) != len(right):
        raise ServerError(f"{len(labels)} verdicts for {len(right)} records")
    wrong = sum(a != b for a, b in zip(labels, right, strict=True))
    if labels[0] != right[0] or wrong > len(right) / 1000:
        raise ServerError(f"{wrong} of {len(right)} labels are wrong")
