from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from itertools import repeat

import pytest

from benchmarks.harness.load import Load, Stream
from benchmarks.harness.outcome import LOST
from benchmarks.harness.requests import http

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
BUSY = b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\nretry-after: 1\r\n\r\n"
LEAVES = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"
LARGE = b"HTTP/1.1 200 OK\r\ncontent-length: 3000000\r\n\r\n" + b"x" * 3_000_000
ANSWERS = {b"/ok": OK, b"/busy": BUSY, b"/leaves": LEAVES, b"/large": LARGE}


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer by path: /slow after a while, /rude by hanging up, /early before all has come."""
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            path = head.split()[1]
            if path == b"/rude":
                break
            length = int(
                (head.lower() + b"content-length: 0").split(b"content-length: ")[1].split()[0]
            )
            if path == b"/early":
                writer.write(BUSY)
                break
            await reader.readexactly(length)
            if path == b"/slow":
                await asyncio.sleep(0.2)
            writer.write(ANSWERS.get(path, OK))
            await writer.drain()
            if path == b"/leaves":
                break
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """A server in another thread."""
    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(asyncio.start_server(serve, "127.0.0.1", 0))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield server.sockets[0].getsockname()[1]
    loop.call_soon_threadsafe(server.close)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    for task in asyncio.all_tasks(loop):
        task.cancel()
    loop.run_until_complete(asyncio.sleep(0.05))
    loop.close()


def get(path: str) -> Iterator[bytes]:
    return repeat(http("GET", path))


def test_each_connection_asks_again_as_soon_as_it_is_answered(port: int) -> None:
    stream = Stream(get("/ok"), 3)
    Load(port, [stream]).run(0.3)
    assert len(stream.outcome) > 30
    assert stream.outcome.count(200) == len(stream.outcome)
    assert stream.outcome.largest == 2


def test_a_rate_is_kept_and_what_finds_no_connection_is_counted(port: int) -> None:
    steady, late = Stream(get("/ok"), 20, 100), Stream(get("/slow"), 2, 100, urgent=True)
    Load(port, [steady, late]).run(1.0)
    assert 95 <= len(steady.outcome) <= 101
    assert steady.outcome.unsent <= 2
    assert 95 <= late.outcome.unsent + len(late.outcome) <= 101
    assert len(late.outcome) <= 12
    assert 190 < late.outcome.p99() < 1000


def test_a_large_body_gets_through_and_a_large_answer_is_taken(port: int) -> None:
    stream = Stream(iter([http("POST", "/ok", b"x" * 5_000_000), http("GET", "/large")]))
    Load(port, [stream]).run(20, until=stream)
    assert list(stream.outcome.status) == [200, 200]
    assert stream.outcome.largest == 3_000_000
    assert stream.over


def test_a_refusal_counts_and_says_whether_to_come_back(port: int) -> None:
    stream = Stream(iter([http("GET", "/busy"), http("POST", "/early", b"x" * 50_000_000)]))
    Load(port, [stream]).run(20, until=stream)
    assert list(stream.outcome.status) == [503, 503]
    assert stream.outcome.retry == 2


def test_who_is_hung_up_on_has_lost_a_request_and_comes_back(port: int) -> None:
    requests = [http("GET", path) for path in ("/rude", "/ok", "/leaves", "/ok")]
    stream = Stream(iter(requests))
    Load(port, [stream]).run(20, until=stream)
    assert list(stream.outcome.status) == [LOST, 200, 200, 200]


def test_where_nobody_listens_everything_is_lost() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        stream = Stream(get("/ok"), 2)
        Load(bound.getsockname()[1], [stream]).run(0.3)
    assert 2 <= len(stream.outcome) == stream.outcome.count(LOST) <= 20, "it rests in between"


def test_connections_are_made_beforehand_and_something_is_done_on_the_way(port: int) -> None:
    stream, done = Stream(get("/ok"), 50, 10, check=lambda opening: opening[-2:].decode()), []
    load = Load(port, [stream])
    load.connect(http("GET", "/slow"))
    load.run(0.5, at=(0.2, lambda: done.append(len(stream.outcome))))
    assert 4 <= len(stream.outcome) <= 6, "the greeting does not count"
    assert len(done) == 1
    assert 1 <= done[0] <= 4
    assert stream.outcome.faults == {"ok": len(stream.outcome)}
