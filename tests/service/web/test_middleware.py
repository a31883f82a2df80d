from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import count

import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.web.middleware import RequestInfo, RequestMiddleware, RequestObserver

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE}-b7ad6b7169203331-01"
Headers = list[tuple[bytes, bytes]]


async def answer(_scope: Scope, _receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 201, "headers": [(b"a", b"b")]})
    await send({"type": "http.response.body", "body": b"whole"})


async def fail(_scope: Scope, _receive: Receive, _send: Send) -> None:
    raise LookupError("a defect")


def wrapped(app: ASGIApp, observers: Sequence[RequestObserver] = ()) -> RequestMiddleware:
    """The middleware around an application; its clock goes on by a second when it is read."""
    seconds = count(100)
    return RequestMiddleware(app, observers=observers, clock=lambda: float(next(seconds)))


def call(app: RequestMiddleware, headers: Headers) -> tuple[RequestInfo, list[Message]]:
    scope, sent = {"type": "http", "headers": headers}, list[Message]()

    async def receive() -> Message:
        raise AssertionError("nobody asked for the body")

    async def send(message: Message) -> None:
        sent.append(message)

    asyncio.run(app(scope, receive, send))
    return RequestInfo.of(scope), sent


def request_id(headers: Headers) -> str:
    return call(wrapped(answer), headers)[0].request_id


@pytest.mark.parametrize("given", ["a", "7", "poller-7:42", "A.b_c", "x" * 128])
def test_a_request_keeps_the_name_that_it_brings(given: str) -> None:
    assert request_id([(b"traceparent", PARENT.encode()), (b"x-request-id", given.encode())]) == (
        given
    )


@pytest.mark.parametrize(
    "given", [b"", b"-a", b"a b", b"a\n", b"a\r\nSet-Cookie: b", b"x" * 129, "é".encode()]
)
def test_a_name_that_could_confuse_a_log_is_replaced(given: bytes) -> None:
    app = wrapped(answer)
    names = [call(app, [(b"x-request-id", given)])[0].request_id for _ in range(2)]
    assert [name.rpartition("-")[2] for name in names] == ["1", "2"]
    assert given.decode() not in names


def test_without_a_name_the_trace_is_the_name() -> None:
    bad = [(b"x-request-id", b"bad name"), (b"traceparent", PARENT.encode())]
    assert request_id(bad) == TRACE


@pytest.mark.parametrize(
    "parent",
    [
        PARENT.replace(TRACE, "0" * 32),
        PARENT.upper(),
        PARENT[:-1],
        PARENT + "-more",
        PARENT.replace(TRACE, TRACE[1:]),
    ],
)
def test_a_trace_that_is_none_names_nothing(parent: str) -> None:
    assert request_id([(b"traceparent", parent.encode())]).endswith("-1")


def test_two_services_never_give_the_same_name() -> None:
    assert request_id([]) != request_id([])


def test_an_answer_keeps_its_headers_and_gets_the_requests_name() -> None:
    info, (start, content) = call(wrapped(answer), [(b"x-request-id", b"mine")])
    assert start["headers"] == [
        (b"a", b"b"),
        (b"x-request-id", b"mine"),
        (b"x-content-type-options", b"nosniff"),
    ]
    assert content == {"type": "http.response.body", "body": b"whole"}
    assert (info.request_id, info.headers) == ("mine", {b"x-request-id": b"mine"})


def test_of_a_repeated_header_the_last_counts() -> None:
    assert request_id([(b"x-request-id", b"first"), (b"x-request-id", b"last")]) == "last"


def test_observers_are_told_in_order_also_of_a_defect() -> None:
    seen: list[tuple[str, str, int, float]] = []

    def observer(name: str) -> RequestObserver:
        return lambda scope, status, seconds: seen.append(
            (name, RequestInfo.of(scope).request_id, status, seconds)
        )

    observers = [observer("first"), observer("second")]
    call(wrapped(answer, observers), [(b"x-request-id", b"fine")])
    with pytest.raises(LookupError):
        call(wrapped(fail, observers), [(b"x-request-id", b"broken")])
    assert seen == [
        ("first", "fine", 201, 1.0),
        ("second", "fine", 201, 1.0),
        ("first", "broken", 500, 1.0),
        ("second", "broken", 500, 1.0),
    ]
