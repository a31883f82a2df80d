"""What must be true of every answer."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pyarrow as pa

from benchmarks.fuzz.application import Application, Reply
from benchmarks.fuzz.chunks import small_chunks
from benchmarks.fuzz.request import Request

_REFUSAL_BYTES = 8_000
_SECONDS = 2.0
"""Of CPU for a request of half a MiB at most; more would be a way to do harm."""
_CLOSE = 1e-3
_GONE = 499
_REPORT = b"on_invalid=report"
_RECORDS = frozenset({"/classify", "/embed"})


async def ask_and_check(application: Application, request: Request) -> tuple[Reply, str | None]:
    """Send a request; return the answer, and what is wrong with it or with what it left behind."""
    reply = await application.ask(request)
    fault = fault_of(request, reply)
    if fault is None and application.held() != (0, 0):
        held, waiting = application.held()
        fault = f"left: {held} bytes held, {waiting} waiting"
    return reply, fault


async def check_variants(application: Application, request: Request, reply: Reply) -> str | None:
    """Send an answered request in other ways that must be answered alike; return what is wrong."""
    if request.method != "POST" or request.breaks_off:
        return None
    with small_chunks():
        other, fault = await ask_and_check(application, request)
    if fault is None and not _alike(reply, other):
        fault = "chunks: answered otherwise when it is worked on in small chunks"
    if fault is None and reply.status == 200 and request.path in _RECORDS:
        query = b"&".join(part for part in (request.query, _REPORT) if part)
        other, fault = await ask_and_check(application, replace(request, query=query))
        if fault is None and _REPORT not in request.query and _differs(reply, other):
            fault = "report: answered otherwise when bad records would be reported"
    return fault


def fault_of(request: Request, reply: Reply) -> str | None:
    """Return what is wrong with an answer; the first word names its kind."""
    if reply.error is not None:
        return f"raised: {type(reply.error).__name__}: {reply.error}"[:300]
    if reply.status is None:
        return "silent: no answer, or half of one"
    if reply.status >= 500:
        return f"status: {reply.status}"
    if reply.seconds > _SECONDS:
        return f"slow: {reply.seconds:.1f} s of CPU"
    if reply.status == _GONE and not request.breaks_off:
        return "status: the client is said to have gone"
    length = reply.headers.get(b"content-length")
    if request.method != "HEAD" and length is not None and int(length) != len(reply.body):
        return "length: not what the head says"
    if reply.status >= 400:
        return _fault_of_refusal(request, reply)
    return _fault_of_answer(request, reply) if request.method == "POST" else None


def _fault_of_refusal(request: Request, reply: Reply) -> str | None:
    if len(reply.body) >= _REFUSAL_BYTES:
        return f"long: {len(reply.body)} bytes to refuse"
    if reply.status == _GONE or request.method == "HEAD":
        return None
    document = _document(reply.body)
    if not isinstance(document, dict) or not document.keys() & {"reason", "error"}:
        return "form: a refusal that is no problem"
    return None


def _fault_of_answer(request: Request, reply: Reply) -> str | None:
    kind = reply.headers.get(b"content-type", b"")
    if b"arrow" in kind:
        try:
            with pa.ipc.open_stream(reply.body) as reader:
                reader.read_all().validate(full=True)
        except pa.ArrowException as error:
            return f"form: {error}"
        return None
    if request.path in _RECORDS:
        document = _document(reply.body)
        keys = {"bundle", "results" if request.path == "/classify" else "embeddings"}
        if not isinstance(document, dict) or document.keys() != keys:
            return "form: an answer that is not what is promised"
    return None


def _document(body: bytes) -> Any:
    try:
        return json.loads(body, parse_constant=_refuse)
    except ValueError:
        return None


def _refuse(constant: str) -> None:
    raise ValueError(constant)


def _alike(one: Reply, other: Reply) -> bool:
    """Whether both answered the same, or both refused."""
    if one.status == 200 or other.status == 200:
        return one.status == other.status and not _differs(one, other)
    return True


def _differs(one: Reply, other: Reply) -> bool:
    if one.status != other.status:
        return True
    if b"arrow" in one.headers.get(b"content-type", b""):
        return False  # a report has a column more
    return not _close(_document(one.body), _document(other.body))


def _close(one: Any, other: Any) -> bool:
    """Whether two documents are equal but for small differences of numbers, and texts of errors."""
    if isinstance(one, dict) and isinstance(other, dict):
        if one.keys() == other.keys() == {"error"}:
            return True  # the text for a long record says less
        return one.keys() == other.keys() and all(_close(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_close, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return abs(one - other) < _CLOSE
    return bool(one == other)
