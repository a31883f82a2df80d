"""One connection, over real sockets, with a server in a thread."""

from __future__ import annotations

import asyncio
import errno
import gc
import json
import os
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import uvloop
from fastapi import FastAPI

from models import Model
from service.app import create_app
from service.live.hub import Event
from service.server import connection as module
from service.server import server
from service.server.server import Config, Server, listener
from service.settings import Settings
from service.web.problems import MEDIA_TYPE
from tests.support.certificates import self_signed

LIVE = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
LAST = b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


class Quiet(Config):
    def configure_logging(self) -> None:
        """Leave the logs as pytest has set them up."""

    def load_app(self) -> Callable[[], FastAPI]:
        """Load the bundle without a process of its own first, which takes half a second."""
        self.app_instance = create_app(self.settings, load=Model.load)
        return lambda: self.app_instance


@dataclass
class Served:
    """A server in a thread, and clients of it."""

    server: Server
    loop: asyncio.AbstractEventLoop
    address: tuple[str, int]

    def connect(self) -> socket.socket:
        return socket.create_connection(self.address, timeout=10)

    def talk(self, *parts: bytes) -> bytes:
        """Send, and receive until the server closes the connection."""
        with self.connect() as connection:
            for part in parts:
                connection.sendall(part)
            return everything(connection)

    def eventually_has_answered(self, *, requests: int) -> None:
        end, state = time.monotonic() + 10, self.server.server_state
        while state.total_requests < requests:
            assert time.monotonic() < end, f"{state.total_requests} requests"
            time.sleep(0.01)

    def eventually_has_no_handshake(self) -> None:
        end = time.monotonic() + 5
        while self.server._connecting:
            assert time.monotonic() < end, f"{len(self.server._connecting)} in their handshake"
            time.sleep(0.01)

    def eventually_has(self, *, connections: int, tasks: int = 0) -> None:
        end, state = time.monotonic() + 10, self.server.server_state
        while time.monotonic() < end:
            if (len(state.connections), len(state.tasks)) == (connections, tasks):
                return
            time.sleep(0.01)
        raise AssertionError(f"{len(state.connections)} connections, {len(state.tasks)} tasks")


Serve = Callable[..., Served]


@pytest.fixture
def served(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    """Start a server that looks at its connections ten times a second."""
    monkeypatch.setattr(server, "_TICKS", 1)
    monkeypatch.setattr(module, "_LINGER_SECONDS", 0.1)
    monkeypatch.setattr(module, "_FAREWELL_SECONDS", 0.5)
    ends = []

    def start(*, small: bool = False, **settings: Any) -> Served:
        bound = listener("127.0.0.1", 0)
        if small:
            # What the kernel takes for a client never comes back to the server.
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 14)
        # With an end: a test that fails must not wait for a client that it has left open.
        limits = {"grace_seconds": 1.0} | settings
        running = Server(Quiet(Settings(bundle=bundle, port=0, **limits)))
        loop = uvloop.new_event_loop()
        address = bound.getsockname()
        thread = threading.Thread(target=loop.run_until_complete, args=[running.serve([bound])])
        thread.start()

        def end() -> None:
            running.should_exit = True
            thread.join(10)
            loop.close()

        ends.append(end)
        while not (running.started and running.settled):
            time.sleep(0.01)
        return Served(running, loop, address)

    yield start
    for end in ends:
        end()


def everything(connection: socket.socket) -> bytes:
    """What comes until the server closes the connection."""
    received = b""
    try:
        while part := connection.recv(1 << 16):
            received += part
    except ConnectionResetError:
        pass
    return received


def sent_until_cut_off(connection: socket.socket, part: bytes, *, pause: float = 0.0) -> int:
    """How many bytes were sent before the server let no more in."""
    sent, end = 0, time.monotonic() + 10
    try:
        while time.monotonic() < end:
            connection.sendall(part)
            sent += len(part)
            time.sleep(pause)
    except ConnectionError:
        return sent
    raise AssertionError(f"{sent} bytes were let in")


def problem_of(answer: bytes) -> dict[str, Any]:
    """The one problem that is answered."""
    head, _, body = answer.partition(b"\r\n\r\n")
    lines = head.decode().lower().split("\r\n")
    assert f"content-type: {MEDIA_TYPE}" in lines
    assert "connection: close" in lines
    assert f"content-length: {len(body)}" in lines
    problem: dict[str, Any] = json.loads(body)
    assert lines[0].startswith(f"http/1.1 {problem['status']} ")
    assert f"x-request-id: {problem['request_id']}" in lines
    return problem


def test_headers_that_do_not_arrive_in_time_are_answered_408(served: Serve) -> None:
    running = served(header_seconds=0.4)
    begun = time.monotonic()
    answer = running.talk(LIVE[:-1])
    assert 0.3 < time.monotonic() - begun < 5
    problem = problem_of(answer)
    assert (problem["status"], problem["reason"]) == (408, "too_slow")
    assert "within 0.4 seconds" in problem["detail"]
    running.eventually_has(connections=0)


def test_a_trickle_of_headers_does_not_help(served: Serve) -> None:
    running = served(header_seconds=0.4)
    with running.connect() as connection:
        connection.sendall(b"GET /livez HTTP/1.1\r\n")
        assert sent_until_cut_off(connection, b"X-A: b\r\n", pause=0.05) < 1000


def test_who_says_nothing_is_left_without_a_word(served: Serve) -> None:
    running = served(header_seconds=0.4)
    assert running.talk() == b""


def test_empty_lines_are_nothing(served: Serve) -> None:
    running = served(header_seconds=0.4)
    assert running.talk(b"\r\n\r\n") == b""


def test_a_connection_is_kept_between_requests_but_not_for_ever(served: Serve) -> None:
    running = served(idle_seconds=0.5, header_seconds=0.2)
    with running.connect() as connection:
        for _ in range(3):
            connection.sendall(LIVE)
            assert connection.recv(1 << 16).startswith(b"HTTP/1.1 200 ")
            time.sleep(0.3)
        begun = time.monotonic()
        assert everything(connection) == b""
        assert time.monotonic() - begun < 5


def test_headers_that_hang_after_a_good_request_are_answered_408(served: Serve) -> None:
    running = served(idle_seconds=60, header_seconds=0.4)
    with running.connect() as connection:
        connection.sendall(LIVE)
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 200 ")
        connection.sendall(LIVE[:10])
        assert problem_of(everything(connection))["status"] == 408


@pytest.mark.parametrize(
    "request_",
    [
        b"GARBAGE\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"GET http:// HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nA B: c\r\n\r\n",
        b"CONNECT example.org:443 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Length: a\r\n\r\n",
        b"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST /classify HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
def test_what_is_no_http_is_answered_in_the_form_of_all_our_errors(
    served: Serve, request_: bytes
) -> None:
    running = served()
    problem = problem_of(running.talk(request_))
    assert (problem["status"], problem["reason"]) == (400, "malformed")
    metrics = running.talk(LAST.replace(b"/livez", b"/metrics"))
    assert b'faultcube_rejected_requests_total{reason="malformed"} 1.0' in metrics
    running.eventually_has(connections=0)


def test_what_is_no_http_does_not_take_the_answer_of_the_request_before_it(served: Serve) -> None:
    answer = served().talk(LIVE + b"GARBAGE\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.count(b"HTTP/1.1 ") == 1
    assert b"connection: close" in answer.lower()


@pytest.mark.parametrize("end", [b"", b"\r\n\r\n"])
@pytest.mark.parametrize(
    "head",
    [
        b"GET /" + b"a" * 70_000,
        b"GET /livez HTTP/1.1\r\nX: " + b"a" * 70_000,
        b"GET /livez HTTP/1.1\r\n" + b"a: b\r\n" * 12_000,
    ],
    ids=["target", "value", "many"],
)
def test_headers_over_the_limit_are_answered_431(served: Serve, head: bytes, end: bytes) -> None:
    running, whole = served(), head + end
    for parts in (
        [whole],
        [whole[:60_000], whole[60_000:]],
        [whole[:60_000], whole[60_000:-4], whole[-4:]],
    ):
        problem = problem_of(running.talk(*parts))
        assert (problem["status"], problem["reason"]) == (431, "head_too_large")


def test_headers_under_the_limit_are_read_however_they_arrive(served: Serve) -> None:
    head = LAST[:-2] + b"X: " + b"a" * 60_000 + b"\r\n\r\n"
    running = served()
    assert running.talk(head).startswith(b"HTTP/1.1 200 ")
    assert running.talk(head[:1000], head[1000:50_000], head[50_000:]).startswith(b"HTTP/1.1 200 ")


def test_headers_without_end_are_let_in_for_a_moment_and_not_kept(served: Serve) -> None:
    running = served()
    with running.connect() as connection:
        connection.sendall(b"GET /livez HTTP/1.1\r\nX: ")
        sent_until_cut_off(connection, b"a" * 100_000)
        assert problem_of(everything(connection))["status"] == 431
    running.eventually_has(connections=0)


@pytest.mark.parametrize("endless", [b"a" * 1000, b"y\r\nX: " * 200], ids=["long", "many"])
def test_trailers_without_end_are_cut_off(served: Serve, endless: bytes) -> None:
    running = served(max_body_bytes=1 << 16)
    head = b"POST /classify HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"
    with running.connect() as connection:
        connection.sendall(head + b"X: ")
        assert sent_until_cut_off(connection, endless) < 10 << 20
    running.eventually_has(connections=0)


def test_requests_may_be_sent_ahead_of_their_answers(served: Serve) -> None:
    answer = served().talk(LIVE * 49 + LAST)
    assert answer.count(b"HTTP/1.1 200 ") == 50


def test_too_many_requests_ahead_of_their_answers_are_dropped_with_their_connection(
    served: Serve,
) -> None:
    running = served()
    assert running.talk(LIVE * 2000).count(b"HTTP/1.1 ") < 2000
    running.eventually_has(connections=0)
    assert running.talk(LAST).startswith(b"HTTP/1.1 200 ")


def test_an_offer_of_http_2_is_not_taken_and_its_body_is_read(
    served: Serve, good: dict[str, Any]
) -> None:
    # What Java's HttpClient sends to an http address unless it is told not to.
    body = json.dumps({"records": [good]}).encode()
    head = b"\r\n".join(
        [
            b"POST /classify HTTP/1.1",
            b"Connection: Upgrade, HTTP2-Settings",
            b"Content-Length: %d" % len(body),
            b"Host: x",
            b"HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA",
            b"Upgrade: h2c",
            b"\r\n",
        ]
    )
    running = served()
    for parts in ([head + body + LAST], [head, body[:10], body[10:], LAST]):
        answer = running.talk(*parts)
        assert answer.count(b"HTTP/1.1 200 ") == 2
        assert b'"label":"normal"' in answer


def test_who_has_sent_all_it_wants_to_send_still_gets_its_answer(served: Serve) -> None:
    running = served()
    with running.connect() as connection:
        connection.sendall(LIVE)
        connection.shutdown(socket.SHUT_WR)
        assert everything(connection).startswith(b"HTTP/1.1 200 ")


def test_who_goes_away_in_the_middle_is_forgotten(served: Serve) -> None:
    running = served()
    with running.connect() as connection:
        connection.sendall(b"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{")
        connection.shutdown(socket.SHUT_WR)
        assert everything(connection) == b""
    running.eventually_has(connections=0)


def test_a_body_that_nobody_reads_ends_too(served: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BODY_MARGIN", 0.0)
    running = served(body_seconds=0.5)
    with running.connect() as connection:
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        begun = time.monotonic()
        assert everything(connection).startswith(b"HTTP/1.1 200 ")
        assert time.monotonic() - begun < 5


@pytest.mark.parametrize("ahead", [b"", LIVE], ids=["one", "ahead"])
@pytest.mark.parametrize("small", [True, False], ids=["in the server", "in the kernel"])
def test_who_does_not_take_its_answer_is_dropped_and_nothing_is_kept(
    served: Serve, good: dict[str, Any], small: bool, ahead: bytes
) -> None:
    running = served(small=small, body_seconds=2.0)
    body = json.dumps({"records": [good] * 5000}).encode()
    head = b"POST /classify?distances=true HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 12)
        connection.settimeout(10)
        connection.connect(running.address)
        connection.sendall(head % len(body) + body + ahead)
        if small:
            running.eventually_has(connections=1, tasks=1)
        else:  # the kernel takes all of it, perhaps before anybody looks
            running.eventually_has_answered(requests=1)
        running.eventually_has(connections=0)
        received = everything(connection)
    assert received.startswith(b"HTTP/1.1 200 ")
    assert len(received) < 1 << 20


def test_who_takes_its_answer_a_byte_at_a_time_is_dropped(
    served: Serve, good: dict[str, Any]
) -> None:
    running = served(small=True, body_seconds=2.0)
    body = json.dumps({"records": [good] * 3000}).encode()
    head = b"POST /classify?distances=true HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 12)
        connection.settimeout(10)
        connection.connect(running.address)
        connection.sendall(head % len(body) + body)
        end = time.monotonic() + 10
        while running.server.server_state.connections and time.monotonic() < end:
            connection.recv(1)
            time.sleep(0.05)
    running.eventually_has(connections=0)


def test_who_takes_its_answer_slowly_gets_all_of_it(served: Serve, good: dict[str, Any]) -> None:
    running = served(small=True, body_seconds=4.0)
    body = json.dumps({"records": [good] * 3000}).encode()
    head = b"POST /classify?distances=true HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 14)
        connection.settimeout(10)
        connection.connect(running.address)
        connection.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        received = b""
        while part := connection.recv(1 << 14):
            received += part
            time.sleep(0.01)
    answer = json.loads(received.partition(b"\r\n\r\n")[2])
    assert len(answer["results"]) == 3000


def test_connections_beyond_the_most_are_refused_and_the_others_stay(served: Serve) -> None:
    running = served()
    running.server.server_state.max_connections = 2
    with running.connect() as first, running.connect() as second:
        for connection in (first, second):
            connection.sendall(LIVE)
            assert connection.recv(1 << 16).startswith(b"HTTP/1.1 200 ")
        problem = problem_of(running.talk())
        assert (problem["status"], problem["reason"]) == (503, "overloaded")
        first.sendall(LIVE)
        assert first.recv(1 << 16).startswith(b"HTTP/1.1 200 ")


def test_clients_that_leave_their_handshake_open_count_as_connections(
    served: Serve, tmp_path: Path
) -> None:
    cert, key = self_signed(tmp_path)
    running = served(tls_cert=cert, tls_key=key, header_seconds=1.0)
    running.server.server_state.max_connections = 3
    context = ssl.create_default_context(cafile=cert)
    with ExitStack() as stack:
        silent = [stack.enter_context(running.connect()) for _ in range(8)]
        for connection in silent[3:]:
            assert everything(connection) == b""
        assert len(running.server._connecting) == 3
        assert running.server.state.metrics.counters.rejected == {"overloaded": 5}
        for connection in silent[:3]:
            assert everything(connection) == b""
        running.eventually_has_no_handshake()
        established = []
        for _ in range(3):
            connection = stack.enter_context(
                context.wrap_socket(running.connect(), server_hostname="localhost")
            )
            connection.sendall(LIVE)
            assert connection.recv(1 << 16).startswith(b"HTTP/1.1 200 ")
            established.append(connection)
        running.eventually_has_no_handshake()
        assert running.talk() == b""
        established[0].sendall(LIVE)
        assert established[0].recv(1 << 16).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("reset", [False, True])
def test_a_client_that_leaves_in_its_handshake_is_not_counted_any_more(
    served: Serve, tmp_path: Path, reset: bool
) -> None:
    cert, key = self_signed(tmp_path)
    running = served(tls_cert=cert, tls_key=key)
    with running.connect() as connection:
        end = time.monotonic() + 10
        while not running.server._connecting and time.monotonic() < end:
            time.sleep(0.01)
        if reset:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    running.eventually_has_no_handshake()


class Files:
    """The files that the process may open: while there are none left, no client is accepted."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.error, self.refused = 0, 0
        original = socket.socket.accept

        def accept(listening: socket.socket) -> tuple[socket.socket, Any]:
            if self.error:
                self.refused += 1
                raise OSError(self.error, os.strerror(self.error))
            return original(listening)

        monkeypatch.setattr(socket.socket, "accept", accept)

    def eventually_refuse(self) -> None:
        end = time.monotonic() + 10
        while not self.refused:
            assert time.monotonic() < end, "nobody was refused"
            time.sleep(0.01)


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM])
def test_without_a_file_for_it_a_client_waits_and_the_log_says_so(
    served: Serve, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, code: int
) -> None:
    files, running = Files(monkeypatch), served()
    files.error = code
    with running.connect() as connection:
        connection.sendall(LAST)
        files.eventually_refuse()
        time.sleep(0.2)
        assert files.refused < 5  # the loop is not kept busy
        files.error = 0
        assert everything(connection).startswith(b"HTTP/1.1 200 ")
    logged = [each for each in caplog.records if each.name == server.__name__]
    assert len(logged) == files.refused
    assert (logged[0].levelname, logged[0].getMessage()) == ("WARNING", "connections wait")
    assert vars(logged[0])["reason"] == os.strerror(code)
    assert running.talk(LAST).startswith(b"HTTP/1.1 200 ")


def test_at_the_end_a_client_that_waits_for_a_file_is_not_waited_for(
    served: Serve, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(server, "_EXHAUSTED_SECONDS", 0.1)
    files, running = Files(monkeypatch), served(grace_seconds=0.5)
    with running.connect() as busy:
        busy.sendall(b"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{")
        running.eventually_has(connections=1, tasks=1)
        files.error = errno.EMFILE
        with running.connect():
            files.eventually_refuse()
            running.server.should_exit = True
            assert everything(busy) == b""  # by then the client would have been tried again
    assert "connections cut off" in caplog.text
    assert "Traceback" not in caplog.text


def test_at_the_end_a_request_on_an_idle_connection_is_answered_and_told_to_close(
    served: Serve,
) -> None:
    running = served(grace_seconds=5.0)
    with running.connect() as connection:
        connection.sendall(LIVE)
        assert b"connection: close" not in connection.recv(1 << 16).lower()
        running.server.should_exit = True
        time.sleep(0.3)
        connection.sendall(LIVE)
        answer = everything(connection)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"connection: close" in answer.lower()


@pytest.mark.parametrize("path", [b"/readyz", b"/v2/health/ready"])
def test_at_the_end_the_service_is_not_ready(served: Serve, path: bytes) -> None:
    running = served(grace_seconds=5.0)
    with running.connect() as connection:
        connection.sendall(LIVE)
        connection.recv(1 << 16)
        running.server.should_exit = True
        time.sleep(0.3)
        connection.sendall(LIVE.replace(b"/livez", path))
        answer = problem_of(everything(connection))
    assert (answer["status"], answer["reason"]) == (503, "not_ready")


def test_at_the_end_a_body_that_is_on_its_way_is_waited_for(
    served: Serve, good: dict[str, Any]
) -> None:
    running = served(grace_seconds=5.0)
    body = json.dumps({"records": [good]}).encode()
    with running.connect() as connection:
        head = b"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
        connection.sendall(head + body[:20])
        time.sleep(0.1)
        running.server.should_exit = True
        time.sleep(1.0)
        connection.sendall(body[20:])
        answer = everything(connection)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"connection: close" in answer.lower()


def test_after_the_grace_period_what_is_left_is_cut_off(
    served: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    running = served(grace_seconds=0.5)
    with running.connect() as connection:
        connection.sendall(b"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{")
        time.sleep(0.2)
        running.server.should_exit = True
        begun = time.monotonic()
        assert everything(connection) == b""
        assert time.monotonic() - begun < 3
    running.eventually_has(connections=0)
    assert "connections cut off" in caplog.text
    assert "Traceback" not in caplog.text


def test_who_connected_before_the_end_is_answered(served: Serve) -> None:
    running = served(grace_seconds=5.0)
    busy = threading.Event()

    def hold_up() -> None:
        busy.set()
        time.sleep(0.6)
        running.server.should_exit = True

    running.loop.call_soon_threadsafe(hold_up)
    busy.wait(5)
    connections = [running.connect() for _ in range(50)]
    for connection in connections:
        connection.sendall(LIVE)
    answers = [everything(connection) for connection in connections]
    for connection in connections:
        connection.close()
    assert all(answer.startswith(b"HTTP/1.1 200 ") for answer in answers)
    assert all(b"connection: close" in answer.lower() for answer in answers)


@pytest.mark.parametrize(
    ("proxies", "seen"),
    [
        ("", ("127.0.0.1", "http")),
        ("10.0.0.0/8", ("127.0.0.1", "http")),
        ("10.0.0.0/8, 127.0.0.1", ("203.0.113.9", "https")),
    ],
)
def test_what_a_proxy_says_of_its_client_is_believed_if_the_proxy_is_named(
    served: Serve, proxies: str, seen: tuple[str, str]
) -> None:
    running = served(trusted_proxies=proxies)
    clients: list[tuple[str, str]] = []
    app = running.server.config.app_instance
    app.state.observers.append(
        lambda scope, _status, _seconds: clients.append((scope["client"][0], scope["scheme"]))
    )
    forged = b"X-Forwarded-For: 198.51.100.1, 203.0.113.9, 10.1.1.1\r\nX-Forwarded-Proto: https"
    answer = running.talk(LAST.replace(b"Host: x", b"Host: x\r\n" + forged))
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert clients == [seen]


@pytest.mark.parametrize(
    ("head", "named"),
    [
        (b"GET /livez HTTP/1.1", "Host"),
        (b"GET /livez HTTP/1.1\r\nHost: a\r\nHost: a", "Host"),
        (b"GET /livez HTTP/1.0\r\nHost: a\r\nHost: b", "Host"),
        (b"GET /livez HTTP/1.1\r\nHost: a/b", "Host"),
        (b"POST /classify HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked", "chunked"),
        (
            b"PUT /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\nTransfer-Encoding: chunked",
            "chunked",
        ),
        (b"POST /classify HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, chunked", "no HTTP"),
    ],
)
def test_headers_that_leave_a_request_ambiguous_are_refused(
    served: Serve, head: bytes, named: str
) -> None:
    problem = problem_of(served().talk(head + b"\r\n\r\n0\r\n\r\n"))
    assert problem["status"] == 400
    assert problem["reason"] == "malformed"
    assert named in problem["detail"]


@pytest.mark.parametrize(
    "head",
    [
        b"GET /livez HTTP/1.0",
        b"GET /livez HTTP/1.1\r\nHost:\r\nConnection: close",
        b"GET /livez HTTP/1.1\r\nHost: [::1]:8000\r\nConnection: close",
        b"GET http://x/livez HTTP/1.1\r\nHost: x:8000\r\nConnection: close",
        b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: Chunked",
    ],
)
def test_every_form_of_host_and_of_chunked_is_taken(served: Serve, head: bytes) -> None:
    answer = served().talk(head + b"\r\n\r\n0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 ")


def test_behind_another_request_an_ambiguous_one_is_not_answered(served: Serve) -> None:
    answer = served().talk(LIVE + b"GET /readyz HTTP/1.1\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.count(b"HTTP/1.1 ") == 1


def test_what_lives_as_long_as_the_process_is_kept_from_the_garbage_collector_once(
    served: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    frozen: list[int] = []
    monkeypatch.setattr(gc, "freeze", lambda: frozen.append(1))
    ticks: list[int] = []
    running = served().server
    monkeypatch.setattr(type(running), "_check_timeouts", lambda *_: ticks.append(1))
    end = time.monotonic() + 10
    while len(ticks) < 3 and time.monotonic() < end:
        time.sleep(0.01)
    assert frozen == [1]


EVENTS = b"GET /live/events HTTP/1.1\r\nHost: x\r\n\r\n"


def test_streams_of_events_end_at_once_at_the_end(served: Serve) -> None:
    running = served(grace_seconds=30.0)
    with running.connect() as connection, running.connect() as other:
        for each in (connection, other):
            each.sendall(EVENTS)
            assert each.recv(1 << 16).startswith(b"HTTP/1.1 200 ")
        running.eventually_has(connections=2, tasks=2)
        running.server.should_exit = True
        begun = time.monotonic()
        for each in (connection, other):
            assert everything(each).endswith(b"0\r\n\r\n")  # not cut off: a proxy knows the end
        assert time.monotonic() - begun < 5
    running.eventually_has(connections=0)


def test_a_viewer_that_reads_nothing_is_let_go_and_then_cut_off(served: Serve) -> None:
    running = served(small=True, body_seconds=1.0)
    live = running.server.state.live
    assert live is not None
    with running.connect() as connection, running.connect() as other:
        connection.sendall(EVENTS)
        end = time.monotonic() + 20
        while not live.hub.viewers and time.monotonic() < end:
            time.sleep(0.01)
        while live.hub.viewers and time.monotonic() < end:
            live.hub.publish([Event("records", "x" * 200_000)])
            time.sleep(0.01)
        assert live.hub.viewers == 0
        other.sendall(LAST)  # nobody else waits
        assert everything(other).startswith(b"HTTP/1.1 200 ")
        running.eventually_has(connections=0)
