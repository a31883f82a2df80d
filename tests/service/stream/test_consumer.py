"""Consumers that share the partitions of a log, in threads of this process."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

import msgspec
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from benchmarks.stream.points import Sent
from service.classes.database import Store
from service.incidents.storage import Note
from service.observability.counters import Counters
from service.runtime.incidents import Incidents
from service.settings import Settings
from service.stream.consumer import FORMAT, StreamConsumer
from service.stream.judged import Batch
from service.stream.log import Log, StreamError, Topics
from service.stream.merging import Merger
from service.stream.outlet import Outlet
from service.stream.partition import Output, Partition
from service.stream.rules import Rules
from service.stream.work import Options
from tests.service.stream.conftest import waiting
from tests.support.consuming import Stream, incidents_of, take
from tests.support.running import eventually


def test_every_record_gets_a_verdict_and_faults_become_incidents(
    stream: Stream, sent: list[Sent], outputs: list[Output]
) -> None:
    stream.send(sent)
    with stream.consumer() as consumer:
        eventually(lambda: consumer.totals.records == len(sent) or None, seconds=60)
        eventually(lambda: "closed" in str(stream.incidents()) or None, seconds=30)

    verdicts = stream.verdicts()
    known = {each.id: each.label for output in outputs for each in output.verdicts}
    assert len(verdicts) == len(sent)
    assert (
        known.items()
        <= {key: json.loads(each[0])["label"] for key, each in verdicts.items()}.items()
    )
    assert {event for _, event in stream.incidents()} >= {"opened", "closed"}


def test_one_that_comes_and_one_that_goes_change_nothing(stream: Stream, sent: list[Sent]) -> None:
    stream.send(sent[:200])
    with stream.consumer(idle=30) as first:
        eventually(lambda: first.totals.messages >= 150 or None, seconds=60)
        with stream.consumer(idle=30) as second:
            # Or the first one is through with them before the group has shared the partitions out.
            eventually(
                lambda: any(place.startswith(stream.points) for place in second.places()) or None,
                seconds=60,
            )
            stream.send(sent[200:400])
            eventually(lambda: second.totals.messages or None, seconds=60)
        stream.send(sent[400:])
        eventually(
            lambda: first.totals.messages + second.totals.messages >= len(sent) or None, seconds=60
        )
    shared = stream.verdicts()

    alone = Stream(stream.brokers, stream.settings, stream.rules, Path(stream.url[10:]).parent)
    alone.send(sent)
    with alone.consumer(idle=30) as only:
        eventually(lambda: only.totals.messages == len(sent) or None, seconds=60)

    assert {key: set(values) for key, values in shared.items()} == {
        key: set(values) for key, values in alone.verdicts().items()
    }


def test_messages_that_cannot_be_decoded_are_told_of_and_passed_over(
    stream: Stream, sent: list[Sent], caplog: pytest.LogCaptureFixture
) -> None:
    stream.put(b'{"metrics": [', "leaf1", sent[0].time)
    stream.put(sent[0].value, "leaf1", sent[0].time, {FORMAT: "xml"})
    stream.put(sent[0].value, "leaf1", sent[0].time)
    stream.producer.flush()
    with caplog.at_level(logging.WARNING), stream.consumer() as consumer:
        eventually(lambda: consumer.totals.messages == 3 or None, seconds=60)

    assert consumer.totals.refused == 2
    assert consumer.totals.points == sent[0].points
    told = [record.__dict__ for record in caplog.records if record.message == "message refused"]
    places = [(each["topic"], each["partition"], each["offset"]) for each in told]
    assert places == [(stream.points, 0, 0), (stream.points, 0, 1)]
    assert told[1]["reason"] == "There is no format 'xml'."


def test_a_header_tells_the_format_of_a_message(stream: Stream) -> None:
    sink = pa.BufferOutputStream()
    table = pa.table(
        {
            "metric": ["paths-count", "routes-counts"],
            "value": [1.0, 2.0],
            "device": ["leaf1", "leaf1"],
        }
    )
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    stream.put(sink.getvalue().to_pybytes(), "leaf1", time.time(), {FORMAT: "arrow"})
    stream.producer.flush()
    with stream.consumer() as consumer:
        eventually(lambda: consumer.totals.messages or None, seconds=60)

    assert (consumer.totals.points, consumer.totals.refused) == (2, 0)


def test_records_come_on_the_same_topic_as_json_and_as_arrow(stream: Stream, rules: Rules) -> None:
    examples = rules.served.model.examples
    rows = [{"device": "leaf1", "time": float(at), **row} for at, row in enumerate(examples, 1000)]
    table = pa.Table.from_pylist(rows)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    bodies = [sink.getvalue().to_pybytes(), json.dumps({"records": rows}).encode()]
    for body in bodies:
        stream.put(body, "leaf1", time.time(), {FORMAT: "records"})
    stream.producer.flush()
    with stream.consumer() as consumer:
        eventually(lambda: consumer.totals.records == 2 * len(rows) or None, seconds=60)

    verdicts = list(stream.verdicts().values())
    assert [json.loads(arrow)["label"] for arrow, _ in verdicts] == rules.served.model.names
    assert all(arrow == text for arrow, text in verdicts)


@dataclass
class Again:
    """A message with an offset that was read before; the broker of tests makes none."""

    source: str

    def error(self) -> None:
        return None

    def topic(self) -> str:
        return self.source

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return 3


def test_offsets_that_begin_anew_are_refused(
    stream: Stream, settings: Settings, rules: Rules
) -> None:
    stop = threading.Event()
    log, options = Log({"bootstrap.servers": "x"}, "g", stop), Options(stream.topics, "g")
    with closing(Store(stream.url)) as store:
        store.prepare()
        consumer = StreamConsumer(log, store, rules, settings, options, stop)
        consumer._take_up(f"{stream.points}/0")
        consumer._owned[f"{stream.points}/0"].next = 4

        with pytest.raises(StreamError, match="was made anew since this group read it"):
            consumer._take(Again(stream.points))  # type: ignore[arg-type]


class Kept:
    """A log that keeps what is written to it, and is told how far a group is."""

    def __init__(self) -> None:
        self.written: list[tuple[str, bytes]] = []
        self.is_cut = False

    def write(self, topic: str, _key: str, value: bytes, *_: object, **__: object) -> None:
        if not self.is_cut:
            self.written.append((topic, value))

    def flush(self) -> bool:
        return True

    def commit(self, **_: object) -> None:
        pass

    def of(self, topic: str) -> list[bytes]:
        return [value for name, value in self.written if name == topic]


@dataclass
class Clock:
    """The time of day."""

    now: float

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    url = f"sqlite:///{tmp_path_factory.mktemp('consumer')}/a.sqlite"
    with closing(Store(url)) as store:
        store.prepare()
        yield store


def alone(store: Store, rules: Rules, group: str, kept: Kept, clock: Clock) -> StreamConsumer:
    """A consumer without a broker."""
    stop, topics = threading.Event(), Topics(("points",), "out")
    log, options = Log({"bootstrap.servers": "x"}, group, stop), Options(topics, group)
    consumer = StreamConsumer(log, store, rules, Settings(), options, stop, clock)
    consumer._writer = kept  # type: ignore[assignment]
    consumer._outlet = Outlet(consumer._writer, topics, 1)
    consumer._sources = ["points/0"]
    return consumer


@dataclass(repr=False)
class Nine:
    """A checkpoint of a partition with nine records that wait, when they are due, and which."""

    state: tuple[bytes, bytes]
    due: float
    rows: set[tuple[str, float]]


@pytest.fixture(scope="module")
def nine(slow: Rules, sent: list[Sent]) -> Nine:
    partition, due = waiting(slow, sent)
    state = partition.snapshot()
    rows = {(each.key, each.time) for each in partition.tick(due + 9, 300).verdicts}
    assert len(rows) == 9
    return Nine(state, due, rows)


_groups = count()


@hypothesis_settings(max_examples=25, deadline=None)
@given(
    ahead=st.floats(0, 4),
    ticks=st.lists(
        st.tuples(st.floats(0.5, 1.5), st.sampled_from(["", "", "kept", "killed", "cut off"])),
        max_size=8,
    ),
)
def test_records_that_take_several_ticks_become_incidents_whoever_is_killed(
    store: Store,
    settings: Settings,
    slow: Rules,
    nine: Nine,
    ahead: float,
    ticks: list[tuple[float, str]],
) -> None:
    kept, group, clock = Kept(), f"g{next(_groups)}", Clock(nine.due - ahead)
    consumer = alone(store, slow, group, kept, clock)
    consumer._checkpoints.keep("points/0", 300, *nine.state)
    consumer._take_up("points/0")
    for passed, end in [*ticks, *[(1.0, "")] * 10]:
        owned, clock.now = consumer._owned["points/0"], clock.now + passed
        owned.is_at_end, owned.seen = True, -1e9
        kept.is_cut = end == "cut off"
        consumer._look_after(owned, 0.0)
        kept.is_cut = False
        if end == "kept":
            consumer._keep_partition(owned)
        elif end:
            consumer = alone(store, slow, group, kept, clock)
            consumer._take_up("points/0")

    merger = Merger(incidents_of(settings, slow), slow, ["points/0"])
    for body in kept.of("out.judged"):
        merger.take(Batch.read(body))
    rows = merger._table().to_pylist()
    assert sorted((row["key"], row["time"]) for row in rows) == sorted(nine.rows)
    verdicts = {msgspec.json.decode(body)["time"]: body for body in kept.of("out.verdicts")}
    assert set(kept.of("out.verdicts")) == set(verdicts.values())
    assert set(verdicts) == {time for _, time in nine.rows}


def test_records_without_points_make_no_checkpoint_in_each_silence(
    store: Store, rules: Rules
) -> None:
    consumer = alone(store, rules, "nothing waits", Kept(), Clock(1e9))
    consumer._take_up("points/0")
    owned = consumer._owned["points/0"]
    owned.is_at_end, owned.seen = True, -1e9
    consumer._look_after(owned, 0.0)

    assert consumer._checkpoints.find("points/0") is None
    assert owned.told == 1e9 - rules.delay


def test_what_a_person_closed_is_written_before_the_partition_is_given_back(
    store: Store, settings: Settings, rules: Rules, sent: list[Sent]
) -> None:
    kept = Kept()
    consumer = alone(store, rules, "a person closes", kept, Clock(1e9))
    consumer._take_up_judged("out.judged/0")
    assert consumer._judging is not None
    partition = Partition("points/0", rules)
    for at, message in enumerate(sent):
        for batch in take(partition, message, at).batches:
            consumer._judging.merger.take(batch)
        consumer._release()
        if kept.of("out.incidents"):
            break
    told = msgspec.json.decode(kept.of("out.incidents")[-1])["incident"]
    elsewhere = Incidents(settings, Counters())
    elsewhere.open(store)
    elsewhere.note(Note(told["id"], "closed", datetime.now(UTC), None))

    consumer._keep(kept)  # type: ignore[arg-type]
    consumer._revoked(kept, [])  # type: ignore[arg-type]

    last = msgspec.json.decode(kept.of("out.incidents")[-1])
    assert (last["event"], last["incident"]["id"]) == ("closed", told["id"])
    assert last["incident"]["status"] == "closed"
