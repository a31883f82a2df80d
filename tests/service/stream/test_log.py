"""The log: settings, topics, and one that is away."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

import pytest

from benchmarks.stream.points import make_topic
from service.stream.log import Log, StoppedError, StreamError, Topics, read_properties


def test_settings_are_read_from_lines_and_comments_are_left_out(tmp_path: Path) -> None:
    file = tmp_path / "client.properties"
    file.write_text("# of the cluster\nsasl.username = me\n\nsasl.password=a=b\n")

    assert read_properties(file) == {"sasl.username": "me", "sasl.password": "a=b"}


def test_a_line_that_is_no_setting_is_named(tmp_path: Path) -> None:
    file = tmp_path / "client.properties"
    file.write_text("a=1\nnonsense\n")

    with pytest.raises(StreamError, match=r"client.properties, line 2: expected name=value$"):
        read_properties(file)
    with pytest.raises(StreamError, match="cannot be read"):
        read_properties(tmp_path / "none")


def test_a_setting_that_there_is_not_is_named() -> None:
    log = Log({"bootstrap.servers": "127.0.0.1:1", "no.such": "1"}, "g", threading.Event())

    with pytest.raises(StreamError, match=r"a setting of the log is wrong: .*no\.such"):
        log.consumer()


def test_a_log_that_is_away_is_told_of_once_and_waited_for(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.stream.log._ANSWER_SECONDS", 1.0)
    stop = threading.Event()
    log = Log({"bootstrap.servers": "127.0.0.1:1"}, "g", stop)
    threading.Timer(2.5, stop.set).start()  # while it is asked for the second time

    with caplog.at_level(logging.INFO), pytest.raises(StoppedError):
        log.prepare(Topics(("points",), "out"))

    assert [record.message for record in caplog.records] == ["the log is away, and is tried again"]


def test_topics_that_are_written_are_made_and_those_that_are_read_must_be_there(
    brokers: str,
) -> None:
    log = Log({"bootstrap.servers": brokers}, "g", threading.Event())
    with pytest.raises(StreamError, match=r"there is no topic 'made\.points': make it"):
        log.prepare(Topics(("made.points",), "made"))

    make_topic(brokers, "made.points", 3)
    topics = Topics(("made.points",), "made")
    known = log.prepare(topics)

    names = "made.points", topics.verdicts, topics.judged, topics.incidents
    assert [known[name] for name in names] == [3, 3, 1, 1]
    assert {name: log.prepare(topics)[name] for name in names} == {
        name: known[name] for name in names
    }


def test_a_message_that_no_log_takes_is_left_out_and_told(
    brokers: str, caplog: pytest.LogCaptureFixture
) -> None:
    make_topic(brokers, "large", 1)
    writer = Log({"bootstrap.servers": brokers}, "g", threading.Event()).writer()
    writer.write("large", "one", bytes(2_000_000))
    writer.write("large", "two", b"small")
    writer.serve()

    assert writer.flush()
    [said] = [record for record in caplog.records if record.levelname == "ERROR"]
    assert (said.message, said.__dict__["bytes"]) == (
        *("a message is too large for the log, and left out", 2_000_000),
    )
