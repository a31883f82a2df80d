"""Points become verdicts: the same ones as of a table, whatever happens to the process."""

from __future__ import annotations

import asyncio
import json
import resource
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models import Model
from models.telemetry.assembler import Assembler
from models.telemetry.mapping import Mapping
from service.classes.entities import AwayError
from service.formats.errors import MalformedInputError
from service.incidents.incident import Judged
from service.incidents.storage import Checkpoint
from service.ingest.receivers import RECEIVERS
from service.live.kept import Taken
from service.observability.counters import Counters
from service.offline.replay import Recording
from service.runtime.ingestion import Hooks, Ingestion
from service.runtime.journal import Entry, Journal
from service.runtime.judging import Columns, judge_assembled
from service.runtime.relay import Owner
from service.scoring.scored import Scored
from service.scoring.served_model import ServedModel
from service.web.problems import Problem
from tests.support.excerpt import DATA, bodies_of_the_excerpt, recording_of_the_excerpt
from training.assembly.points_table import PointsTable

ROOT = Path(__file__).parents[3]
TELEGRAF = RECEIVERS["telegraf"]
Verdicts = list[tuple[str, float, str, bool]]


@pytest.fixture(scope="module")
def served() -> ServedModel:
    return ServedModel(Model.load(ROOT / "models/iosxr"), max_records=10_000)


@pytest.fixture(scope="module")
def mapping() -> Mapping:
    return Mapping.read(DATA / "mapping.toml")


@pytest.fixture(scope="module")
def recording() -> Recording:
    return recording_of_the_excerpt()


def verdicts_of(judged: Judged) -> Verdicts:
    skipped = [False] * len(judged) if judged.skipped is None else judged.skipped.tolist()
    return [*zip(judged.keys, judged.times.tolist(), judged.labels, skipped, strict=True)]


@pytest.fixture(scope="module")
def expected(served: ServedModel, mapping: Mapping) -> Verdicts:
    """What the model says of the records that `faultcube assemble` makes of the same points."""
    assembler = Assembler(mapping)
    table = PointsTable.read(DATA / "excerpt.parquet", mapping, "time", "s")
    end = float(table.times[-1] / 1e9)
    made = [assembler.add(points, end) for points in table.points(assembler.series)]
    columns = Columns.between(mapping, served.model.schema)
    verdicts: Verdicts = []
    for records in [*made, assembler.finish()]:
        keys = [assembler.key(slot)[0] for slot in records.keys.tolist()]
        if keys:
            verdicts += verdicts_of(judge_assembled(served, columns, records, keys)[1])
    return sorted(verdicts)


@dataclass
class Process:
    """An ingestion with a clock that is moved, and what it hands on."""

    served: Callable[[], ServedModel]
    mapping: Mapping | None
    folder: Path | None
    now: float = 0.0
    judged: list[Judged] = field(default_factory=list)
    scored: list[Scored] = field(default_factory=list)
    shown: list[Taken] = field(default_factory=list)
    checkpoints: list[Checkpoint] = field(default_factory=list)
    restore: Callable[[str], Checkpoint | None] | None = None
    workers: int = 1
    keeps: bool = True
    set_back: list[float] = field(default_factory=list)
    expected: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        hooks = Hooks(
            self.served,
            self.judged.append,
            self._keep,
            self.restore or self._restore,
            lambda _, scored: self.scored.append(scored),
            Counters(),
            self.shown.append,
            self.set_back.append,
            self.expected.append,
        )
        self.ingestion = Ingestion(
            self.mapping, lambda: self.folder, hooks, lambda: self.now, self.workers
        )
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.ingestion.run, args=[self.stop], daemon=True)
        self.thread.start()

    def _keep(self, checkpoint: Checkpoint) -> bool:
        if self.keeps:
            self.checkpoints.append(checkpoint)
        return self.keeps

    def _restore(self, _name: str) -> Checkpoint | None:
        return self.checkpoints[-1] if self.checkpoints else None

    def wait(self, condition: Callable[[], object]) -> None:
        end = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < end
            time.sleep(0.01)

    def send(self, bodies: Sequence[bytes], seconds: float = 5.0) -> None:
        """Send bodies, one every so many seconds of the moved clock."""
        self.wait(lambda: self.ingestion.refused is None)

        async def send() -> None:
            for data in bodies:
                self.now += seconds
                await self.ingestion.take(TELEGRAF, data)

        asyncio.run(send())

    def settle(self) -> None:
        """Wait until all is judged whose time has come."""
        self.wait(lambda: self.ingestion.queued == 0)
        self.now += 100
        before = -1
        while before != len(self.judged):  # two ticks without news
            before = len(self.judged)
            time.sleep(0.25)

    def end(self) -> None:
        self.stop.set()
        self.thread.join(30)

    @property
    def verdicts(self) -> Verdicts:
        return sorted(verdict for judged in self.judged for verdict in verdicts_of(judged))


Start = Callable[..., Process]


@pytest.fixture
def start(served: ServedModel, mapping: Mapping) -> Iterator[Start]:
    processes: list[Process] = []

    def start(folder: Path | None = None, **options: object) -> Process:
        chosen: dict[str, object] = {"served": lambda: served, "mapping": mapping, **options}
        processes.append(Process(folder=folder, **chosen))  # type: ignore[arg-type]
        return processes[-1]

    yield start
    for process in processes:
        process.end()


@pytest.fixture(scope="module")
def bodies(once: Callable[..., Any]) -> list[bytes]:
    return [body.data for body in bodies_of_the_excerpt(once)]


def test_verdicts_are_those_of_the_assembled_table(
    start: Start, recording: Recording, bodies: list[bytes], expected: Verdicts
) -> None:
    process = start(now=float(recording.times[-1]))
    process.send(bodies, 0.1)
    process.settle()
    assert process.verdicts == expected
    assert process.expected == [5]  # seconds between two records
    assert len(expected) == 1754
    assert sum(skipped for *_, skipped in expected) == 440  # the learning periods
    assert {label for _, _, label, skipped in expected if not skipped} >= {"normal", "bgp_clear"}
    # The live page gets all of them, and knows which say nothing.
    shown = [
        row
        for taken in process.shown
        for row in zip(
            taken.keys,
            taken.times.tolist(),
            taken.model.labels(taken.decisions),
            (taken.states(taken.model.are_good(taken.decisions)) > 2).tolist(),
            strict=True,
        )
    ]
    assert sorted(shown) == expected


def test_a_kill_changes_nothing(
    start: Start,
    recording: Recording,
    bodies: list[bytes],
    expected: Verdicts,
    tmp_path: Path,
) -> None:
    """The process ends three times without a word: what it took comes again from the journal."""
    checkpoints: list[Checkpoint] = []
    now, all_verdicts = float(recording.times[-1]), set[tuple[str, float, str, bool]]()
    parts = np.array_split(np.arange(len(bodies)), 4)
    for number, part in enumerate(parts):
        process = start(tmp_path, now=now, checkpoints=checkpoints)
        process.send([bodies[i] for i in part], 0.1)
        if number == 1:  # a checkpoint in the middle
            with process.ingestion._lock:
                process.ingestion._marked = -1e9
            process.send([b'{"metrics": []}'], 0.1)
            process.wait(lambda: checkpoints)
        process.wait(lambda: process.ingestion.queued == 0)  # noqa: B023
        now = process.now
        if number < len(parts) - 1:
            _kill(process)
        else:
            process.settle()
        all_verdicts |= set(process.verdicts)
    assert sorted(all_verdicts) == expected


def _kill(process: Process) -> None:
    """End a process before it can write a checkpoint."""
    ingestion = process.ingestion
    ingestion._checkpoint_now = lambda: None  # type: ignore[method-assign]
    process.end()


def test_an_end_keeps_the_state_and_forgets_the_journal(
    start: Start, recording: Recording, bodies: list[bytes], tmp_path: Path
) -> None:
    process = start(tmp_path, now=float(recording.times[-1]))
    process.send(bodies[:40], 0.1)
    process.end()
    assert len(process.checkpoints) == 1
    [empty] = tmp_path.glob("*.journal")
    assert empty.stat().st_size == 0
    later = start(tmp_path, now=process.now, checkpoints=process.checkpoints)
    later.wait(lambda: later.ingestion.refused is None)
    assert later.judged == []
    assert later.ingestion.assembler is not None
    assert later.ingestion.assembler.counts.points > 0


def test_a_process_that_took_nothing_leaves_no_checkpoint(start: Start, tmp_path: Path) -> None:
    process = start(tmp_path)
    process.wait(lambda: process.ingestion.refused is None)
    process.end()
    assert process.checkpoints == []


def test_a_body_that_cannot_be_decoded_leaves_no_trace(start: Start, tmp_path: Path) -> None:
    process = start(tmp_path)
    with pytest.raises(MalformedInputError):
        process.send([b"{"])
    assert process.ingestion.counts["telegraf"].bodies == 0
    [journal] = tmp_path.glob("*.journal")
    assert journal.stat().st_size == 0


def test_nothing_is_taken_without_a_mapping(start: Start) -> None:
    process = start(mapping=None, served=_without_mapping)
    process.wait(lambda: "no mapping" in str(process.ingestion.refused))
    with pytest.raises(Problem, match="FAULTCUBE_MAPPING"):
        asyncio.run(process.ingestion.take(TELEGRAF, b""))


def _without_mapping() -> ServedModel:
    model = Model.load(ROOT / "models/iosxr")
    model.mapping = None
    return ServedModel(model, max_records=10)


def test_a_mapping_that_does_not_fit_the_model_says_what_to_change(
    start: Start, mapping: Mapping
) -> None:
    fields = (mapping.fields[0].model_copy(update={"name": "rel_no-such"}), *mapping.fields[1:])
    process = start(mapping=mapping.model_copy(update={"fields": fields}))
    process.wait(lambda: "has no field 'rel_no-such'" in str(process.ingestion.refused))


def test_one_process_ingests_with_a_journal(start: Start, tmp_path: Path) -> None:
    first = start(tmp_path)
    first.wait(lambda: first.ingestion.refused is None)
    second = start(tmp_path)
    second.wait(lambda: "another process ingests" in str(second.ingestion.refused))
    # Behind a load balancer, the next try may reach the first.
    assert second.ingestion.refused is not None
    assert second.ingestion.refused.status == 503
    assert second.ingestion.refused.headers["Retry-After"] == "1"


def test_workers_pass_on_what_they_get_and_one_takes_over_from_one_that_ended(
    start: Start,
    recording: Recording,
    bodies: list[bytes],
    expected: Verdicts,
    tmp_path: Path,
) -> None:
    options = {"checkpoints": [], "now": float(recording.times[-1]), "workers": 2}
    folder = tmp_path / ("long" * 50)  # longer than the address of a socket may be
    first = start(folder, **options)
    first.wait(lambda: first.ingestion.refused is None)
    second = start(folder, **options)
    half = len(bodies) // 2
    for at, body in enumerate(bodies[:half]):
        first.now = second.now = first.now + 0.1
        (first, second)[at % 2].send([body], 0.0)
    assert second.ingestion.assembler is None

    def status(process: Process) -> dict[str, Any]:
        return asyncio.run(process.ingestion.status())

    first.wait(lambda: status(second) == status(first))  # once what is queued is judged
    assert status(first)["receivers"]["telegraf"]["bodies"] == half
    with pytest.raises(Problem) as caught:
        second.send([b"{"], 0.0)
    assert caught.value.reason == "unreadable"
    first.end()
    second.wait(lambda: second.ingestion.assembler is not None)
    second.send(bodies[half:], 0.1)
    second.settle()
    assert sorted({*first.verdicts, *second.verdicts}) == expected


def test_the_owner_shows_what_came_through_other_workers_alone(
    start: Start, recording: Recording, bodies: list[bytes], tmp_path: Path
) -> None:
    options = {"checkpoints": [], "now": float(recording.times[-1]), "workers": 2}
    first = start(tmp_path, **options)
    first.wait(lambda: first.ingestion.refused is None)
    second = start(tmp_path, **options)

    async def send() -> None:
        first.ingestion.loop = asyncio.get_running_loop()  # as the service gives it at its start
        second.wait(lambda: second.ingestion.refused is None)
        for body in bodies:
            first.now = second.now = first.now + 0.1
            await second.ingestion.take(TELEGRAF, body)
        while first.ingestion.queued or not first.scored:
            await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(send(), 60))
    assert sum(len(scored.matrix) for scored in first.scored) > 1000


def test_several_workers_ingest_only_with_a_journal(start: Start) -> None:
    process = start(workers=2)
    process.wait(lambda: "FAULTCUBE_DATABASE_URL" in str(process.ingestion.refused))


def test_a_worker_without_an_owner_has_its_senders_try_again(tmp_path: Path) -> None:
    with pytest.raises(Problem) as caught:
        Owner(tmp_path).take("telegraf", b"{}")
    assert caught.value.status == 503


def test_overload_is_told_before_anything_is_decoded(start: Start) -> None:
    process = start()
    process.wait(lambda: process.ingestion.refused is None)
    process.ingestion.queued = 10**9
    with pytest.raises(Problem) as caught:
        asyncio.run(process.ingestion.take(TELEGRAF, b"{"))
    assert caught.value.status == 503
    process.ingestion.queued = 0


def test_what_was_taken_after_a_start_with_another_mapping_is_taken_again(
    start: Start, mapping: Mapping, recording: Recording, bodies: list[bytes], tmp_path: Path
) -> None:
    first = start(tmp_path, now=float(recording.times[-1]))
    first.send(bodies[:10], 0.1)
    first.end()
    options = {
        "mapping": mapping.model_copy(update={"wait": 0.75}),
        "checkpoints": first.checkpoints,
        "now": first.now,
    }
    second = start(tmp_path, **options)
    second.send(bodies[10:30], 0.1)
    second.wait(lambda: second.ingestion.queued == 0)
    _kill(second)
    third = start(tmp_path, **options)
    third.wait(lambda: third.ingestion.refused is None)
    assert second.ingestion.assembler is not None
    assert third.ingestion.assembler is not None
    points = second.ingestion.assembler.counts.points
    assert third.ingestion.assembler.counts.points == points > 0


def test_a_database_that_is_away_at_the_start_is_waited_for(
    start: Start, tmp_path: Path, bodies: list[bytes], recording: Recording
) -> None:
    away = [AwayError("away")] * 2

    def restore(_name: str) -> Checkpoint | None:
        if away:
            raise away.pop()
        return None

    process = start(tmp_path, restore=restore, now=float(recording.times[-1]))
    process.wait(lambda: "The database is away: away" in str(process.ingestion.refused))
    process.send(bodies[:2], 0.1)
    assert not away
    process.wait(lambda: process.ingestion.queued == 0)
    assert process.ingestion.counts["telegraf"].bodies == 2


def test_the_new_normal_is_learned_also_right_after_a_restart(
    start: Start, recording: Recording, bodies: list[bytes], tmp_path: Path
) -> None:
    process = start(tmp_path, now=float(recording.times[-1]))
    process.send(bodies[:90], 0.1)
    process.end()
    later = start(tmp_path, now=process.now, checkpoints=process.checkpoints)
    later.wait(lambda: later.ingestion.refused is None)
    assembler = later.ingestion.assembler
    assert assembler is not None
    slots = [assembler.keys.index((key,)) for key in ("leaf1", "leaf2")]
    assert slots[0] != slots[1]
    known = assembler._waves.baselines.known
    assert known[slots].tolist() == [True, True]

    def renew() -> None:
        with later.ingestion._lock:  # as while the records of a mapping before are judged
            later.ingestion.renew(["leaf1", "no such key"])

    thread = threading.Thread(target=renew, daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()
    assert known[slots].tolist() == [False, True]


def test_a_swap_to_another_mapping_judges_what_waits_and_begins_anew(
    start: Start, mapping: Mapping, recording: Recording, bodies: list[bytes], tmp_path: Path
) -> None:
    restored: list[str] = []

    def restore(name: str) -> None:
        restored.append(name)

    models = [Model.load(ROOT / "models/iosxr") for _ in range(2)]
    models[1].mapping = mapping.model_copy(update={"wait": 0.75})
    models[1].manifest = models[1].manifest.model_copy(update={"version": "another"})
    served = [ServedModel(model, max_records=10) for model in models]
    process = start(
        tmp_path,
        mapping=None,
        served=lambda: served[0],
        restore=restore,
        now=float(recording.times[-1]),
    )
    process.send(bodies[:60], 0.0)
    served.pop(0)
    process.wait(lambda: process.ingestion.assembler.mapping.wait == 0.75)  # type: ignore[union-attr]
    process.wait(lambda: process.ingestion.refused is None)
    assert process.ingestion.queued == 0
    assert len(restored) == 1  # what is known of incidents stays as it is
    [checkpoint] = process.checkpoints
    Assembler.restore(models[1].mapping, checkpoint.document)
    judged = sum(len(judged) for judged in process.judged)
    assert judged > 0
    assembled = process.ingestion._hooks.counters.assembled["records"]
    assert assembled >= judged
    process.send(bodies[60:100], 0.1)
    process.settle()
    more = sum(len(judged) for judged in process.judged)
    assert more > judged
    # A counter never falls.
    assert process.ingestion._hooks.counters.assembled["records"] == assembled + more - judged


def test_what_was_taken_after_a_swap_while_the_database_was_away_is_taken_again(
    start: Start, mapping: Mapping, recording: Recording, bodies: list[bytes], tmp_path: Path
) -> None:
    first = start(tmp_path, now=float(recording.times[-1]))
    first.send(bodies[:10], 0.1)
    first.end()
    models = [Model.load(ROOT / "models/iosxr") for _ in range(2)]
    models[0].mapping = mapping
    models[1].mapping = mapping.model_copy(update={"wait": 0.75})
    models[1].manifest = models[1].manifest.model_copy(update={"version": "another"})
    served = [ServedModel(model, max_records=10) for model in models]
    options = {"mapping": None, "checkpoints": first.checkpoints, "now": first.now}
    second = start(tmp_path, served=lambda: served[0], keeps=False, **options)
    second.send(bodies[10:20], 0.1)
    served.pop(0)
    second.wait(lambda: second.ingestion.assembler.mapping.wait == 0.75)  # type: ignore[union-attr]
    second.send(bodies[20:30], 0.1)
    second.wait(lambda: second.ingestion.queued == 0)
    _kill(second)
    third = start(tmp_path, served=lambda: served[0], **options)
    third.wait(lambda: third.ingestion.refused is None)
    assert second.ingestion.assembler is not None
    assert third.ingestion.assembler is not None
    since = third.ingestion.assembler.counts.points
    assert since > second.ingestion.assembler.counts.points > 0  # those before the swap, too


def test_records_are_judged_by_the_model_whose_columns_are_known(
    served: ServedModel, mapping: Mapping, recording: Recording, bodies: list[bytes]
) -> None:
    """A swap may come between a look at what is served and the next body."""
    there, judged, now = [served], list[Judged](), [float(recording.times[-1])]
    hooks = Hooks(
        lambda: there[0], judged.append, lambda _: True, lambda _: None, lambda *_: None, Counters()
    )
    ingestion = Ingestion(mapping, lambda: None, hooks, lambda: now[0])
    assert ingestion._is_ready()
    for body in bodies[:20]:
        asyncio.run(ingestion.take(TELEGRAF, body))
    there.clear()
    while ingestion.queued:
        ingestion._step()
    assert ingestion.assembler is not None
    ingestion._judge(ingestion.assembler.finish())
    assert judged


def test_a_body_of_the_journal_that_cannot_be_repeated_costs_only_itself(
    start: Start, recording: Recording, bodies: list[bytes], tmp_path: Path
) -> None:
    now = float(recording.times[-1])
    journal = Journal(tmp_path)
    journal.append(Entry("no such receiver", now, b"?"))
    for body in bodies[:40]:
        journal.append(Entry("telegraf", now, body))
    journal.close()
    process = start(tmp_path, now=now)
    process.wait(lambda: process.ingestion.refused is None)
    assert process.ingestion.assembler is not None
    assert process.ingestion.assembler.counts.points > 0
    process.settle()
    assert process.judged


def test_a_clock_that_is_set_back_stops_nothing(
    start: Start, recording: Recording, bodies: list[bytes], expected: Verdicts
) -> None:
    process = start(now=float(recording.times[-1]) + 7200)
    half = len(bodies) // 2
    process.send(bodies[:half], 0.1)
    process.wait(lambda: process.ingestion.queued == 0)
    process.now -= 7200
    process.send(bodies[half:], 0.1)
    process.settle()
    assert process.verdicts == expected
    assert process.set_back == []  # the points have their own times


def test_points_that_were_ahead_with_the_clock_are_not_waited_for(
    start: Start, recording: Recording, bodies: list[bytes]
) -> None:
    now = float(recording.times[-1])
    process = start(now=now)
    day = 86_400
    ahead = b'{"metrics": [{"name": "x", "tags": {}, "fields": {"value": 1}, "timestamp": 1}]}'
    process.send([ahead])
    process.wait(lambda: process.ingestion.queued == 0)
    process.now += day
    moved = [_moved(body, day) for body in bodies[:60]]
    process.send(moved, 0.1)
    process.wait(lambda: process.ingestion.queued == 0 and process.judged)
    process.now = now
    process.send(bodies[60:], 0.1)
    process.settle()
    assert process.set_back[0] == pytest.approx(now + 300, abs=10)
    judged = [time for each in process.judged for time in each.times.tolist()]
    assert sum(time <= now for time in judged) > 1000


def _moved(body: bytes, seconds: float) -> bytes:
    document = json.loads(body)
    for metric in document["metrics"]:
        metric["timestamp"] += seconds * 1000
    return json.dumps(document).encode()


def test_a_journal_that_cannot_be_read_at_once_is_taken_later(
    start: Start,
    bodies: list[bytes],
    recording: Recording,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = start(tmp_path, now=float(recording.times[-1]))
    first.send(bodies[:60], 0.1)
    first.wait(lambda: first.ingestion.queued == 0)
    points = first.ingestion.assembler.counts.points  # type: ignore[union-attr]
    _kill(first)
    opens = Path.open
    fails = threading.Event()

    def open_(path: Path, *arguments: Any, **options: Any) -> Any:
        if path.suffix == ".journal" and not fails.is_set():
            raise OSError(24, "Too many open files")
        return opens(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", open_)
    second = start(tmp_path, now=first.now)
    second.wait(lambda: "Too many open files" in str(second.ingestion.refused))
    fails.set()
    second.wait(lambda: second.ingestion.refused is None)
    assert second.ingestion.assembler.counts.points == points  # type: ignore[union-attr]


def test_a_key_of_parts_that_hold_what_is_between_them_is_learned_again(
    start: Start, bodies: list[bytes], recording: Recording
) -> None:
    process = start(now=float(recording.times[-1]))
    process.send([bodies[0].replace(b'"leaf1"', b'"leaf / 1"')], 0.1)
    process.wait(lambda: process.ingestion.queued == 0)
    assembler = process.ingestion.assembler
    assert assembler is not None
    slot = assembler.keys.index(("leaf / 1",))
    known = assembler._waves.baselines.known
    known[slot] = True
    process.ingestion.renew(["leaf / 1"])
    assert not known[slot]


def test_incidents_go_back_with_a_clock_that_gives_records_their_times(
    start: Start, mapping: Mapping, recording: Recording, bodies: list[bytes]
) -> None:
    by_arrival = mapping.model_copy(update={"clock": "arrival"})
    process = start(mapping=by_arrival, now=float(recording.times[-1]))
    process.send(bodies[:60], 5.0)
    process.wait(lambda: process.judged and process.ingestion.queued == 0)
    before = max(judged.times.max() for judged in process.judged)
    process.now -= 7200
    process.send(bodies[60:61])
    process.wait(lambda: process.set_back)
    assert process.set_back[0] < before - 7000


def test_a_journal_without_room_is_overload(
    start: Start, bodies: list[bytes], tmp_path: Path
) -> None:
    process = start(tmp_path)
    process.wait(lambda: process.ingestion.refused is None)
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, limit[1]))
    try:
        with pytest.raises(Problem) as caught:
            asyncio.run(process.ingestion.take(TELEGRAF, bodies[0]))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert caught.value.status == 503
    assert process.ingestion.queued == 0
