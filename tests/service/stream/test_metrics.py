"""Metrics of a consumer, scraped while it works."""

from __future__ import annotations

import re
import socket
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.stream.points import Sent
from models import UNKNOWN
from service.classes.database import Store
from service.settings import Settings
from service.stream.consumer import StreamConsumer
from service.stream.log import Log, StreamError, Topics
from service.stream.metrics import exposed
from service.stream.rules import Rules
from service.stream.work import Options
from tests.service.stream.conftest import ROOT
from tests.support.consuming import Stream
from tests.support.running import eventually

Samples = dict[tuple[str, tuple[str, ...]], float]


def scrape(port: int | None) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
        text: str = answer.read().decode()
    return text


def samples_of(port: int | None) -> Samples:
    return {
        (
            sample.name.removeprefix("faultcube_consumer_"),
            tuple(sample.labels.values()),
        ): sample.value
        for family in text_string_to_metric_families(scrape(port))
        for sample in family.samples
    }


def test_what_a_consumer_has_done_and_has_to_do_is_told(
    stream: Stream, sent: list[Sent], rules: Rules
) -> None:
    stream.send(sent)
    stream.put(b"{", "leaf1", sent[0].time)
    stream.producer.flush()
    with stream.consumer() as consumer, exposed(consumer, "127.0.0.1:0") as port:
        eventually(lambda: consumer.totals.records == len(sent) or None, seconds=60)
        lags = {("lag_messages", (number, stream.points)): 0.0 for number in ("0", "1")}
        eventually(lambda: lags.items() <= samples_of(port).items() or None, seconds=30)
        eventually(lambda: ("incidents_open", ()) in samples_of(port) or None, seconds=30)
        samples = samples_of(port)

    assert samples["messages_total", ()] == len(sent) + 1
    assert samples["messages_refused_total", ()] == 1
    assert samples["points_total", ()] == consumer.totals.points > len(sent)
    verdicts = {labels: value for (name, labels), value in samples.items() if "verdicts" in name}
    assert verdicts.keys() == {(name,) for name in (*rules.served.model.names, UNKNOWN)}
    assert sum(verdicts.values()) == len(sent)
    assert 0 <= samples["checkpoint_age_seconds", ()] < 60
    assert samples["process_resident_memory_bytes", ()] > 0


def test_a_partition_without_messages_has_no_lag(stream: Stream) -> None:
    with stream.consumer() as consumer:
        eventually(lambda: len(consumer.places()) == 3 or None, seconds=60)
        eventually(
            lambda: all(not place.waiting for place in consumer.places().values()) or None,
            seconds=30,
        )


def test_the_manual_lists_every_metric(stream: Stream, sent: list[Sent]) -> None:
    stream.send(sent[:1])
    with stream.consumer() as consumer, exposed(consumer, "127.0.0.1:0") as port:
        names = set(re.findall(r"^# HELP (faultcube_\w+)", scrape(port), flags=re.MULTILINE))
    page = (ROOT / "docs/streams.md").read_text()

    assert names == set(re.findall(r"`(faultcube_consumer_\w+)`", page))


@pytest.fixture
def unused(tmp_path: Path, settings: Settings, rules: Rules) -> Iterator[StreamConsumer]:
    """A consumer that does not run."""
    stop, options = threading.Event(), Options(Topics(("points",), "x"), "g")
    with closing(Store(f"sqlite:///{tmp_path}/a.sqlite")) as store:
        yield StreamConsumer(Log({}, "g", stop), store, rules, settings, options, stop)


def test_a_consumer_that_has_no_partition_yet_has_no_gauges(unused: StreamConsumer) -> None:
    with exposed(unused, "127.0.0.1:0") as port:
        samples = samples_of(port)

    assert samples["messages_total", ()] == 0
    assert not {"lag_messages", "checkpoint_age_seconds", "incidents_open"} & {
        name for name, _ in samples
    }


@pytest.mark.parametrize(
    "address", ["9100", ":9100", "127.0.0.1:", "127.0.0.1:http", "127.0.0.1:65536"]
)
def test_an_address_that_is_none_is_refused(unused: StreamConsumer, address: str) -> None:
    with (
        pytest.raises(StreamError, match="--metrics takes HOST:PORT"),
        exposed(unused, address),
    ):
        pass


def test_a_port_that_is_taken_is_told(unused: StreamConsumer) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with (
            pytest.raises(StreamError, match=f"--metrics: cannot listen on {address}: "),
            exposed(unused, address),
        ):
            pass
