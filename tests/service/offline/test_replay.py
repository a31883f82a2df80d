"""Recordings of metric points: what can be replayed, and what is refused in a line."""

from __future__ import annotations

import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import polars as pl
import pytest

from models.telemetry.mapping import Mapping
from service.offline.replay import Body, Recording, ReplayError, Sender

MAPPING = Mapping.parse(
    """
name = "replay"
key = ["device"]
interval = 5
[[fields]]
name = "load"
metric = "load"
"""
)
START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def recording(folder: Path, name: str = "points.csv", **columns: list[object]) -> Recording:
    table = pl.DataFrame({"device": "a", "load": 1.5} | columns)
    if name.endswith("parquet"):
        table.write_parquet(folder / name)
    else:
        table.write_csv(folder / name)
    return Recording(folder / name, MAPPING)


@pytest.mark.parametrize("name", ["points.csv", "points.parquet"])
def test_times_are_seconds_or_timestamps(tmp_path: Path, name: str) -> None:
    moments = [START + timedelta(seconds=5.5 * at) for at in range(3)]
    seconds = [moment.timestamp() for moment in moments]
    for times in ([*seconds], [*moments], [moment.replace(tzinfo=None) for moment in moments]):
        assert recording(tmp_path, name, time=[*times]).times.tolist() == seconds


@pytest.mark.parametrize(
    ("times", "words"),
    [
        ([], "has no rows"),
        ([1.0, None, 3.0], "1 rows have no time"),
        (["noon", "night"], "its times are neither numbers nor timestamps"),
    ],
)
def test_a_table_without_times_is_refused_in_a_line(
    tmp_path: Path, times: list[object], words: str
) -> None:
    with pytest.raises(ReplayError, match=words):
        recording(tmp_path, time=times)


@pytest.mark.parametrize("name", ["none.csv", "none.parquet"])
def test_a_table_that_is_not_there_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(ReplayError, match=f"^there is no table .*/{name}$"):
        Recording(tmp_path / name, MAPPING)


def test_a_sender_keeps_the_path_of_its_address_and_connects_again_after_a_silence() -> None:
    paths: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version, timeout = "HTTP/1.1", 0.05  # idle connections are closed

        def do_POST(self) -> None:
            paths.append(self.path)
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(202)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, args=[0.05], daemon=True).start()
        with closing(Sender(f"http://127.0.0.1:{server.server_port}/faultcube/")) as sender:
            for _ in range(2):
                sender.send(Body(0.0, 1, b"{}"))
                time.sleep(0.5)
        server.shutdown()
        with pytest.raises(ReplayError, match="nobody answers"):
            Sender("http://127.0.0.1:9").send(Body(0.0, 1, b"{}"))
    assert paths == ["/faultcube/ingest/telegraf"] * 2
