"""Requests that carry records, from headers to the end of the answer.

These routes are plain ASGI: FastAPI documents them, but a request that takes a tenth of a
millisecond has no time for its machinery.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from service.api.docs import ARROW
from service.formats.chunk import PIECE_BYTES
from service.runtime.state import State
from service.scoring.scheduler import Steps, Turns
from service.scoring.served_model import Serving
from service.web.body import announced, read
from service.web.compression import Inflater, speaks
from service.web.problems import Broken, Problem, Unfit, Unspoken

__all__ = ["ARROW", "JSON", "Answer", "Ask", "Exchange"]

JSON = "application/json"

_MEDIA = {b"": JSON, JSON.encode(): JSON, b"text/plain": JSON, ARROW.encode(): ARROW}
_QUERY = {
    "on_invalid": ("strict", "report"),
    "distances": ("true", "false"),
    "explain": ("true", "false"),
}
_KNOWN = "on_invalid, distances and explain"
_SPOKEN = (
    "application/json or text/plain (charset utf-8), or application/vnd.apache.arrow.stream; "
    "as it is, or with the content encoding gzip or zstd"
)
_AT_ONCE = PIECE_BYTES // 4
"""Bytes of a body that is answered without a stop, at most, where they are no text."""
_SLICE = 1 << 18
"""Bytes of an answer that are handed over at a time: a client that reads slowly stops us there."""


@dataclass(slots=True)
class Ask:
    """What a client asks for.

    Attributes:
        serving: the model that answers, and no other.
        path: of the request.
        headers: of the request.
        body: as sent, but inflated.
        media: what the body is: `JSON` or `ARROW`, or another that an exchange knows.
        wanted: what the answer shall be.
        report: whether bad records are told of in their place, and the others are answered.
        distances: whether the distance to every class is wanted.
        explain: whether it is wanted what drove each verdict.
    """

    serving: Serving
    path: str
    headers: Mapping[bytes, bytes]
    body: bytes | bytearray
    media: str = JSON
    wanted: str = JSON
    report: bool = False
    distances: bool = False
    explain: bool = False


@dataclass(slots=True)
class Answer:
    """What a client gets.

    Attributes:
        content: in bytes.
        records: how many were answered.
        headers: the content type, and what else the content is known by.
    """

    content: bytes
    records: int
    headers: list[tuple[bytes, bytes]]

    @classmethod
    def of(cls, content: bytes, records: int, media: str) -> Answer:
        """An answer of a content type."""
        return cls(content, records, [(b"content-type", media.encode())])


class Exchange:
    """An ASGI application that reads records and answers them.

    Args:
        state: of the application.
        work: the steps from what is asked for to the answer.
    """

    media: Mapping[bytes, str] = _MEDIA
    """What bodies may be, by content type."""
    spoken = _SPOKEN
    """The same for people."""
    route: str | None = None
    """What metrics call it, where that is not its path."""

    def __init__(self, state: State, work: Callable[[Ask], Steps[Answer]]) -> None:
        self.state, self.work = state, work

    def refusal(self, problem: Problem, request_id: str) -> Response:
        """The answer to what is not answered."""
        return problem.response(request_id)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        state = scope["state"]
        state["route"] = self.route or scope["path"]
        try:
            serving = self.state.serving
            state["bundle"] = serving.bundle
            answer = await self._answer(serving, scope, receive)
        except Problem as problem:
            self.state.metrics.count_rejected(problem)
            await self.refusal(problem, state["request_id"])(scope, receive, send)
            return
        except Exception:
            await self.refusal(Broken(), state["request_id"])(scope, receive, send)
            raise  # the server logs it
        state["records"] = answer.records
        self.state.metrics.counters.records += answer.records
        await self._send(send, serving, answer)

    async def _answer(self, serving: Serving, scope: Scope, receive: Receive) -> Answer:
        settings, turns = self.state.settings, self.state.turns
        headers = scope["state"]["headers"]
        media, encoding = self._spoken(headers)
        report, distances, explain = _options(scope["query_string"])
        body = await read(
            receive,
            turns,
            announced=announced(headers),
            most=settings.max_body_bytes,
            seconds=settings.body_seconds,
        )
        try:
            if encoding:
                body = await turns.share(_inflated(body, encoding, settings.max_body_bytes, turns))
            wanted = _wanted(headers, media)
            ask = Ask(
                serving, scope["path"], headers, body, media, wanted, report, distances, explain
            )
            if len(body) > (PIECE_BYTES if media == JSON else _AT_ONCE):
                return await turns.share(self.work(ask))
            return await turns.join(self.work(ask))
        finally:
            turns.release(len(body))

    def _spoken(self, headers: Mapping[bytes, bytes]) -> tuple[str, str]:
        """What the body is, and how it is compressed: not at all is "".

        Raises:
            Unspoken: that is not known here.
        """
        content_type = headers.get(b"content-type", b"")
        media = self.media.get(content_type) or self.media.get(_bare(content_type))
        encoding = ""
        if b"content-encoding" in headers:
            encoding = headers[b"content-encoding"].decode("latin-1").strip().lower()
        if media is None or (encoding and not speaks(encoding)):
            raise Unspoken(f"Send {self.spoken}.")
        return media, "" if encoding == "identity" else encoding

    async def _send(self, send: Send, serving: Serving, answer: Answer) -> None:
        content = answer.content
        length = (b"content-length", b"%d" % len(content))
        head = [*answer.headers, length, *serving.headers]
        await send({"type": "http.response.start", "status": 200, "headers": head})
        if len(content) <= _SLICE:
            await send({"type": "http.response.body", "body": content})
            return
        # Each slice waits until the client has taken most of those before it; one that does not is
        # cut off by `service.server.connection`.
        for start in range(0, len(content), _SLICE):
            more = start + _SLICE < len(content)
            part = content[start : start + _SLICE]
            await send({"type": "http.response.body", "body": part, "more_body": more})


def _inflated(
    body: bytes | bytearray, encoding: str, most: int, turns: Turns
) -> Steps[bytes | bytearray]:
    """Inflate a body, and hold its bytes instead of those that were sent."""
    inflater, content = Inflater(encoding, most), bytearray()
    whole = False
    try:
        for part in inflater.feed(bytes(body)):
            turns.hold(len(part))
            content += part
            yield None
        inflater.finish()
        whole = True
    finally:
        turns.release(len(body) if whole else len(content))
    return content


def _bare(content_type: bytes) -> bytes:
    """A content type without its parameters, of which only the usual charset may be given."""
    media, *parameters = content_type.lower().split(b";")
    pairs = (parameter.partition(b"=") for parameter in parameters)
    charsets = {value.strip(b' "') for name, _, value in pairs if name.strip() == b"charset"}
    return b"unspoken" if charsets - {b"utf-8", b"utf8"} else media.strip()


def _wanted(headers: Mapping[bytes, bytes], media: str) -> str:
    accept = headers.get(b"accept")
    if accept is None or accept == b"*/*":
        return media
    accepted = accept.lower()
    if ARROW.encode() in accepted:
        return ARROW
    return JSON if b"json" in accepted else media


def _options(query: bytes) -> tuple[bool, bool, bool]:
    """Whether to report bad records in their place, to list every distance, and to explain."""
    if not query:
        return False, False, False
    faults = []
    chosen = {"on_invalid": "strict", "distances": "false", "explain": "false"}
    try:
        pairs = parse_qsl(query.decode("ascii"), keep_blank_values=True, max_num_fields=20)
    except ValueError:
        pairs = [("?", "")]
    for name, value in pairs:
        if name not in _QUERY:
            faults.append((None, name, f"only {_KNOWN}", "a parameter not known"))
        elif value not in _QUERY[name]:
            faults.append((None, name, " or ".join(_QUERY[name]), "something else"))
        else:
            chosen[name] = value
    if faults:
        raise Unfit(faults)
    report = chosen["on_invalid"] == "report"
    return report, chosen["distances"] == "true", chosen["explain"] == "true"
