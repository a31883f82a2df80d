"""Consumers that share the partitions of a log, in threads of this process."""

from __future__ import annotations

import json
import logging
import threading
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pytest

from benchmarks.stream.points import Sent
from service.classes.database import Store
from service.settings import Settings
from service.stream.consumer import FORMAT, StreamConsumer
from service.stream.log import Log, StreamError
from service.stream.partition import Output
from service.stream.rules import Rules
from service.stream.work import Options
from tests.support.consuming import Stream
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
