"""The server as a process: clients that misbehave, workers that die, and its end under load."""

from __future__ import annotations

import http.client
import json
import os
import re
import resource
import shlex
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from urllib.parse import urlsplit

import httpx2
import pytest

from tests.support.running import Running, classify, environment, eventually, running

FAULTCUBE = Path(sys.executable).with_name("faultcube")
LIVE = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"

Address = tuple[str, int]
Start = Callable[..., tuple[Running, str]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    with ExitStack() as stack:

        def run(*options: object, port: int = 0, **settings: object) -> tuple[Running, str]:
            env = {f"FAULTCUBE_{name.upper()}": str(value) for name, value in settings.items()}
            command = shlex.join(map(str, [FAULTCUBE, "serve", "--port", port, *options]))
            service = running(command, cwd=tmp_path, env=environment(**env), seconds=60)
            return stack.enter_context(service)

        yield run


def address_of(url: str) -> Address:
    parts = urlsplit(url)
    assert parts.hostname
    assert parts.port
    return parts.hostname, parts.port


def everything(connection: socket.socket) -> bytes:
    """What comes until the other side closes the connection."""
    received = b""
    try:
        while part := connection.recv(1 << 16):
            received += part
    except ConnectionResetError:
        pass
    return received


def until(end: bytes, connection: socket.socket) -> bytes:
    received = b""
    while not received.endswith(end):
        part = connection.recv(1 << 16)
        assert part, received
        received += part
    return received


def metric(url: str, name: str) -> float:
    found = re.search(rf"^{name} (\S+)$", httpx2.get(f"{url}/metrics").text, re.MULTILINE)
    assert found, name
    return float(found.group(1))


@contextmanager
def crowd(address: Address, size: int, hello: bytes = b"") -> Iterator[list[socket.socket]]:
    """So many connections that have sent a few bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < size + 200:
        pytest.skip(f"this process may open no more than {hard} files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, size + 200), hard))
    with ExitStack() as stack:
        connections = []
        for _ in range(size):
            connections.append(stack.enter_context(socket.create_connection(address, timeout=30)))
            connections[-1].sendall(hello)
        yield connections


@contextmanager
def others(url: str, body: bytes) -> Iterator[list[float]]:
    """Somebody else's requests meanwhile, and how long each of them took."""
    seconds: list[float] = []
    stop = threading.Event()

    def ask() -> None:
        with httpx2.Client(timeout=30) as client:
            while not stop.is_set():
                begun = time.perf_counter()
                answer = client.post(f"{url}/classify", content=body)
                seconds.append(time.perf_counter() - begun if answer.is_success else 1000.0)
                stop.wait(0.01)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield seconds
    finally:
        stop.set()
        thread.join(40)


def assert_served(seconds: list[float]) -> None:
    assert len(seconds) >= 10
    assert median(seconds) < 0.5
    assert max(seconds) < 5


def test_headers_that_trickle_in_are_cut_off_while_others_are_served(
    start: Start, examples: bytes
) -> None:
    _, url = start(header_seconds=2)
    begun = time.monotonic()
    with (
        others(url, examples) as seconds,
        crowd(address_of(url), 50, LIVE[:-2]) as slow,
        httpx2.Client() as client,
    ):
        while time.monotonic() < begun + 1:
            for connection in slow:
                connection.sendall(b"X: y\r\n")
            time.sleep(0.25)
        answers = [everything(connection) for connection in slow]
        took = time.monotonic() - begun
        assert client.get(f"{url}/livez").is_success
    assert all(answer.startswith(b"HTTP/1.1 408 ") for answer in answers)
    assert all(b'"reason":"too_slow"' in answer for answer in answers)
    assert took < 10
    assert_served(seconds)


def test_a_thousand_idle_connections_disturb_nobody(start: Start, examples: bytes) -> None:
    _, url = start(header_seconds=4, idle_seconds=4)
    files, memory = metric(url, "process_open_fds"), metric(url, "process_resident_memory_bytes")
    with (
        others(url, examples) as seconds,
        crowd(address_of(url), 500) as silent,
        crowd(address_of(url), 500, LIVE) as idle,
    ):
        for connection in idle:
            assert until(b"}", connection).startswith(b"HTTP/1.1 200 ")
        assert metric(url, "process_open_fds") > files + 900
        assert all(everything(connection) == b"" for connection in [*silent, *idle])
    assert_served(seconds)
    assert metric(url, "process_open_fds") < files + 50
    assert metric(url, "process_resident_memory_bytes") < memory + (100 << 20)


def test_bodies_that_stop_half_way_are_answered_408_while_others_are_served(
    start: Start, examples: bytes
) -> None:
    _, url = start(body_seconds=2)
    head = b"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(examples)
    half = head + examples[: len(examples) // 2]
    begun = time.monotonic()
    with others(url, examples) as seconds, crowd(address_of(url), 50, half) as slow:
        answers = [everything(connection) for connection in slow]
    assert all(answer.startswith(b"HTTP/1.1 408 ") for answer in answers)
    assert time.monotonic() - begun < 12
    assert_served(seconds)


def test_a_header_without_end_is_refused_and_not_kept(start: Start) -> None:
    _, url = start()
    memory = metric(url, "process_resident_memory_bytes")
    sent = 0
    with socket.create_connection(address_of(url), timeout=30) as connection:
        connection.sendall(b"GET /livez HTTP/1.1\r\nX: ")
        try:
            while sent < 100 << 20:
                connection.sendall(b"a" * (1 << 20))
                sent += 1 << 20
        except ConnectionError:
            pass
        answer = everything(connection)
    assert sent == 100 << 20 or not answer or answer.startswith(b"HTTP/1.1 431 ")
    assert metric(url, "process_resident_memory_bytes") < memory + (20 << 20)
    assert metric(url, 'faultcube_rejected_requests_total{reason="head_too_large"}') == 1


def test_answers_that_nobody_takes_are_let_go(start: Start, examples: bytes) -> None:
    _, url = start(body_seconds=3)
    records = json.loads(examples)["records"]
    body = json.dumps({"records": (records * 2000)[:8000]}).encode()
    head = b"POST /classify?distances=true HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
    files, memory = metric(url, "process_open_fds"), metric(url, "process_resident_memory_bytes")
    for _ in range(5):
        with crowd(address_of(url), 4) as deaf:
            for connection in deaf:
                connection.sendall(head % len(body) + body)
            eventually(lambda: metric(url, "process_open_fds") < files + 4 or None, seconds=40)
    # A third of what was received and answered, and kept by nobody.
    assert metric(url, "process_resident_memory_bytes") < memory + (100 << 20)


@dataclass
class Client:
    """A client that asks without a pause until it can reach the service no more.

    A request that was sent before the end began has to be answered, and an answer that has begun
    has to be whole. What was sent later may find the connection closed: it is sent again.
    """

    address: Address
    body: bytes
    results: int
    keeps: bool
    answered: int = 0
    closes: int = 0
    faults: list[str] = field(default_factory=list)
    sent: float = 0.0
    lost: list[float] = field(default_factory=list)

    def run(self) -> None:
        connection: http.client.HTTPConnection | None = None
        while True:
            connection = connection or http.client.HTTPConnection(*self.address, timeout=30)
            fresh = connection.sock is None
            try:
                if fresh:
                    connection.connect()
            except OSError:
                return
            if self._ask(connection):
                continue
            connection.close()
            connection = None

    def _ask(self, connection: http.client.HTTPConnection) -> bool:
        """Ask once; gives whether the connection may be used again."""
        self.sent = time.monotonic()
        try:
            headers = {} if self.keeps else {"Connection": "close"}
            connection.request("POST", "/classify", self.body, headers)
            self.sent = time.monotonic()
            answer = connection.getresponse()
        except (http.client.RemoteDisconnected, ConnectionError):
            self.lost.append(self.sent)
            return False
        self._check(answer)
        return not answer.will_close

    def _check(self, answer: http.client.HTTPResponse) -> None:
        try:
            content = answer.read()
            whole = len(json.loads(content)["results"]) == self.results
        except (OSError, ValueError, KeyError, http.client.HTTPException) as error:
            self.faults.append(f"{answer.status}: {error!r}")
        else:
            self.answered += 1
            self.closes += answer.will_close
            if answer.status != 200 or not whole:
                self.faults.append(f"{answer.status}: {len(content)} bytes")


def load_on(url: str, examples: bytes) -> list[Client]:
    """Clients of four kinds: of small and large requests, on one connection and on many."""
    records = json.loads(examples)["records"]
    large = json.dumps({"records": (records * 200)[:500]}).encode()
    return [
        Client(address_of(url), body, results, keeps)
        for body, results in ((examples, len(records)), (large, 500))
        for keeps in (True, True, False)
    ]


@pytest.mark.parametrize("workers", [1, 2])
def test_the_end_under_load_loses_no_request(start: Start, examples: bytes, workers: int) -> None:
    service, url = start(workers=workers)
    clients = load_on(url, examples)
    threads = [threading.Thread(target=client.run) for client in clients]
    for thread in threads:
        thread.start()
    eventually(lambda: all(client.answered > 1 for client in clients) or None, seconds=30)
    time.sleep(0.5)
    told = time.monotonic()
    service.process.send_signal(signal.SIGTERM)
    assert service.process.wait(20) == 0
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    assert [client.faults for client in clients] == [[] for _ in clients]
    assert all(client.answered > 1 for client in clients)
    assert [sent for client in clients for sent in client.lost if sent < told] == []
    # Those that keep their connection were told that it ends, and did not find out.
    assert all(client.closes for client in clients if client.keeps)
    assert "Traceback" not in service.output


def test_a_request_on_its_way_is_waited_for_and_a_new_service_takes_over(
    start: Start, examples: bytes, labels: list[str]
) -> None:
    service, url = start()
    head = b"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(examples)
    with socket.create_connection(address_of(url), timeout=30) as connection:
        connection.sendall(head + examples[:100])
        time.sleep(0.5)
        service.process.send_signal(signal.SIGTERM)
        time.sleep(1.5)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address_of(url), timeout=30)
        connection.sendall(examples[100:])
        answer = everything(connection)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"connection: close" in answer.lower()
    assert service.process.wait(20) == 0
    _, again = start(port=address_of(url)[1])
    assert again == url
    assert classify(again, examples) == labels


def workers_of(service: Running) -> set[int]:
    """The processes that serve, as their log names them, that are still there."""
    began = re.findall(r"Started server process \[(\d+)\]", service.output)
    return {int(each) for each in began if Path(f"/proc/{each}/fd").exists()}


def test_a_worker_that_is_killed_comes_back_and_the_others_go_on(
    start: Start, examples: bytes, labels: list[str]
) -> None:
    service, url = start(workers=2)
    assert service.output.count("Faultcube serves ") == 1
    eventually(lambda: len(workers_of(service)) == 2 or None, seconds=30)
    before = workers_of(service)
    os.kill(min(before), signal.SIGKILL)
    for _ in range(50):
        assert classify(url, examples) == labels
        time.sleep(0.01)
    eventually(lambda: len(workers_of(service)) == 2 or None, seconds=30)
    assert len(workers_of(service) & before) == 1
    assert service.stop() == 0
    assert workers_of(service) == set()
    assert service.output.count("Faultcube serves ") == 1
    assert "Traceback" not in service.output


def test_workers_log_who_they_are_and_have_the_settings_of_their_parent(
    start: Start, bundle: Path, examples: bytes, labels: list[str]
) -> None:
    # An option overrides the environment here, and there too.
    service, url = start(bundle, workers=2, bundle="nowhere", log_requests="all")
    assert f"Faultcube serves {bundle} on " in service.output
    for _ in range(20):
        assert classify(url, examples) == labels
    assert service.stop() == 0
    logged = [json.loads(line) for line in service.lines if line.startswith("{")]
    loaded = {line["pid"] for line in logged if line["event"] == "bundle loaded"}
    assert len(loaded) == 2
    assert {line["pid"] for line in logged if line["event"] == "request"} <= loaded


def test_workers_end_when_their_parent_is_killed_and_free_the_port(
    start: Start, examples: bytes, labels: list[str]
) -> None:
    service, url = start(workers=2)
    eventually(lambda: len(workers_of(service)) == 2 or None, seconds=30)
    service.process.kill()
    service.process.wait(10)
    eventually(lambda: not workers_of(service) or None, seconds=20)
    _, again = start(port=address_of(url)[1], workers=2)
    assert classify(again, examples) == labels


def test_a_hang_up_replaces_the_workers_without_a_gap(start: Start, examples: bytes) -> None:
    service, url = start(workers=2)
    eventually(lambda: len(workers_of(service)) == 2 or None, seconds=30)
    before = workers_of(service)
    with others(url, examples) as seconds:
        service.process.send_signal(signal.SIGHUP)
        eventually(
            lambda: (len(workers_of(service)) == 2 and not workers_of(service) & before) or None,
            seconds=60,
        )
    assert max(seconds) < 10
    assert service.stop() == 0


def test_after_a_kill_the_service_is_soon_back(
    start: Start, examples: bytes, labels: list[str]
) -> None:
    service, url = start()
    os.killpg(service.process.pid, signal.SIGKILL)
    service.process.wait(10)
    begun = time.monotonic()
    _, again = start(port=address_of(url)[1])
    assert time.monotonic() - begun < 15
    assert classify(again, examples) == labels
