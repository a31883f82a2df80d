"""The endpoint of every route that carries records, from headers to the last byte of the response.

These endpoints are plain ASGI: FastAPI documents them, but a request that takes a tenth of a
millisecond has no time for its machinery.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, NoReturn
from urllib.parse import parse_qsl

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from models import FieldError, RecordError
from models.names import composed
from service.api.docs import ARROW
from service.formats import arrow_reader
from service.formats.chunk import CHUNK_BYTES, CHUNK_RECORDS, Chunk
from service.runtime.state import State
from service.scoring.scheduler import Steps
from service.scoring.served_model import ServedModel
from service.scoring.site import Site
from service.web import body
from service.web.body import ByteBudget
from service.web.compression import Decompressor, is_supported
from service.web.middleware import RequestInfo
from service.web.problems import (
    INPUT_ERRORS,
    INTERNAL_ERROR,
    METHOD_NOT_ALLOWED,
    NO_SUCH_PROFILE,
    PROFILE_NEEDED,
    UNSUPPORTED_MEDIA_TYPE,
    Problem,
    problem_of,
)

__all__ = [
    "ARROW",
    "JSON",
    "Content",
    "Options",
    "RecordEndpoint",
    "RecordRequest",
    "decompressed",
    "refuse_method",
]

JSON: Final = "application/json"

_MEDIA_TYPES = {b"": JSON, JSON.encode(): JSON, b"text/plain": JSON, ARROW.encode(): ARROW}
_SUPPORTED = (
    "application/json or text/plain (charset utf-8), or application/vnd.apache.arrow.stream; "
    "as it is, or with the content encoding gzip or zstd"
)
_MAX_BATCHED_BYTES = CHUNK_BYTES // 4
"""Of a body that is no text; a longer one is worked on in time slices."""
_SEND_BYTES = 1 << 18
"""Of a response that are sent at a time: a client that reads slowly stops us there."""


class Options(NamedTuple):
    """The query parameters of a request.

    Attributes:
        report: whether bad records are reported in their position, and the others answered.
        distances: whether to list the distance to every class.
        explain: whether to list what drove each verdict.
        ignore_extra: whether fields that the schema does not have are ignored.
        site: that the records are from, empty for the training network.
    """

    report: bool = False
    distances: bool = False
    explain: bool = False
    ignore_extra: bool = False
    site: str = ""


_DEFAULTS = Options()
_VALUES = {
    "on_invalid": ("strict", "report"),
    "distances": ("false", "true"),
    "explain": ("false", "true"),
    "extra": ("strict", "ignore"),
}
"""Of query parameters, in the order of `Options`: the default, and the other value."""
_KNOWN = "on_invalid, distances, explain, extra and site"


@dataclass(slots=True)
class RecordRequest:
    """A request that carries records.

    Attributes:
        served: the model that answers it, and no other.
        path_params: of the route.
        headers: of the request.
        body: as sent, but decompressed.
        media_type: of the body.
        accepted: the media type of the response.
        options: the query parameters.
        site: that the records are from; None for the training network.
    """

    served: ServedModel
    path_params: Mapping[str, str]
    headers: Mapping[bytes, bytes]
    body: bytes | bytearray
    media_type: str
    accepted: str
    options: Options
    site: Site | None = None

    def adapted(self, chunks: Iterator[Chunk]) -> Iterator[Chunk]:
        """Bring records to the levels of the training network, if they are from another site."""
        return chunks if self.site is None else self.site.read(chunks)

    def arrow_chunks(self) -> Iterator[Chunk]:
        """Read the body as an Arrow stream."""
        schema, max_records = self.served.model.schema, self.served.max_records
        report, ignore_extra = self.options.report, self.options.ignore_extra
        return arrow_reader.read(
            self.body, schema, max_records, report=report, ignore_extra=ignore_extra
        )


@dataclass(slots=True)
class Content:
    """The content of a response.

    Attributes:
        parts: in bytes, one after the other.
        records: how many were answered.
        headers: the content type, and what else describes the content.
    """

    parts: Sequence[bytes]
    records: int
    headers: list[tuple[bytes, bytes]]

    @classmethod
    def of(cls, parts: Sequence[bytes], records: int, media_type: str) -> Content:
        """Return content of a media type."""
        return cls(parts, records, [(b"content-type", media_type.encode())])


class RecordEndpoint:
    """An ASGI application that reads records and answers them.

    Args:
        state: of the application.
        handle: the steps from a request to its content.
        route: as metrics call it.
    """

    media_types: Mapping[bytes, str] = _MEDIA_TYPES
    """What a body may be, by content type."""
    supported = _SUPPORTED
    """The same for people."""

    def __init__(
        self, state: State, handle: Callable[[RecordRequest], Steps[Content]], route: str
    ) -> None:
        self.state, self.handle, self.route = state, handle, route

    def error_response(self, problem: Problem, request_id: str) -> Response:
        """Return the response to a request that is refused."""
        return problem.response(request_id)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        info = RequestInfo.of(scope)
        info.route = self.route
        try:
            if scope["method"] != "POST":
                refuse_method()
            served = self.state.served
            info.bundle = served.bundle
            content = await self._answer(served, scope, info.headers, receive)
        except (Problem, *INPUT_ERRORS) as error:
            # The traceback's frames hold the body, and this one the problem: a circle, else.
            problem = problem_of(error).with_traceback(None)
            self.state.metrics.count_rejected(problem)
            await self.error_response(problem, info.request_id)(scope, receive, send)
            return
        except Exception:
            problem = Problem(INTERNAL_ERROR)
            await self.error_response(problem, info.request_id)(scope, receive, send)
            raise  # the server logs it
        info.records = content.records
        self.state.metrics.counters.records += content.records
        await self._send(send, served, content)

    async def _answer(
        self, served: ServedModel, scope: Scope, headers: Mapping[bytes, bytes], receive: Receive
    ) -> Content:
        settings, scheduler, budget = self.state.settings, self.state.scheduler, self.state.budget
        media_type, encoding = self._media_type(headers)
        query = scope["query_string"]
        options = _options(query) if query else _DEFAULTS
        site = _site(served, options.site)
        limit = settings.max_body_bytes
        data = await body.read(receive, headers, budget, limit=limit, seconds=settings.body_seconds)
        try:
            if encoding:
                data = await scheduler.run_sliced(decompressed(data, encoding, limit, budget))
            accepted = _accepted(headers, media_type)
            request = RecordRequest(
                served, scope["path_params"], headers, data, media_type, accepted, options, site
            )
            run = scheduler.run_sliced if _is_large(data, media_type) else scheduler.run_batched
            content = await run(self.handle(request))
        finally:
            budget.release(len(data))
        if site is not None:
            content.headers.append(site.header)
        return content

    def _media_type(self, headers: Mapping[bytes, bytes]) -> tuple[str, str]:
        """Return the body's media type and its encoding, "" for none.

        Raises:
            Problem: `UNSUPPORTED_MEDIA_TYPE`.
        """
        content_type = headers.get(b"content-type", b"")
        media_type = self.media_types.get(content_type) or self.media_types.get(
            _without_charset(content_type)
        )
        encoding = ""
        if b"content-encoding" in headers:
            encoding = headers[b"content-encoding"].decode("latin-1").strip().lower()
        if media_type is None or (encoding and not is_supported(encoding)):
            raise Problem(UNSUPPORTED_MEDIA_TYPE, f"Send {self.supported}.")
        return media_type, "" if encoding == "identity" else encoding

    async def _send(self, send: Send, served: ServedModel, content: Content) -> None:
        size = sum(map(len, content.parts))
        headers = [*content.headers, (b"content-length", b"%d" % size), *served.headers]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        if size <= _SEND_BYTES:
            await send({"type": "http.response.body", "body": b"".join(content.parts)})
            return
        # Each part waits until the client has taken most of those before it; the connection is
        # closed on a client that does not.
        for part in _slices(content.parts):
            await send({"type": "http.response.body", "body": part, "more_body": True})
            await asyncio.sleep(0)
        await send({"type": "http.response.body"})


def _slices(parts: Sequence[bytes]) -> Iterator[bytes]:
    """Yield the same bytes in parts of about `_SEND_BYTES`."""
    held, size = list[bytes](), 0
    for part in parts:
        for start in range(0, len(part), _SEND_BYTES):
            held.append(part[start : start + _SEND_BYTES])
            size += len(held[-1])
            if size >= _SEND_BYTES:
                yield b"".join(held)
                held, size = [], 0
    if held:
        yield b"".join(held)


def _is_large(data: bytes | bytearray, media_type: str) -> bool:
    """Return whether a request is worked on in time slices."""
    if media_type != JSON:
        return len(data) > _MAX_BATCHED_BYTES
    return len(data) > CHUNK_BYTES or data.count(b"{") > CHUNK_RECORDS


def _site(served: ServedModel, name: str) -> Site | None:
    """Return a site, None for no name, or raise why the records cannot be read."""
    if not name:
        if served.model.manifest.adapted:
            raise Problem(PROFILE_NEEDED)
        return None
    site = served.sites.get(name)
    if site is None:
        why = "There is no profile of this site; POST /profiles/{site} learns one."
        raise Problem(NO_SUCH_PROFILE, why)
    return site


def refuse_method() -> NoReturn:
    """Raise the problem of a method other than POST."""
    raise Problem(METHOD_NOT_ALLOWED, "This path takes POST.", headers={"Allow": "POST"})


def decompressed(
    data: bytes | bytearray, encoding: str, limit: int, budget: ByteBudget
) -> Steps[bytes | bytearray]:
    """Decompress a body, and hold its bytes instead of those that were sent."""
    decompressor, content = Decompressor(encoding, limit), bytearray()
    is_whole = False
    try:
        for part in decompressor.feed(bytes(data)):
            budget.hold(len(part))
            content += part
            yield None
        decompressor.finish()
        is_whole = True
    finally:
        budget.release(len(data) if is_whole else len(content))
    return content


def _without_charset(content_type: bytes) -> bytes:
    """Return a content type without its parameters; a charset other than UTF-8 is no match."""
    media_type, *parameters = content_type.lower().split(b";")
    pairs = (parameter.partition(b"=") for parameter in parameters)
    charsets = {value.strip(b' "') for name, _, value in pairs if name.strip() == b"charset"}
    return b"unsupported" if charsets - {b"utf-8", b"utf8"} else media_type.strip()


def _accepted(headers: Mapping[bytes, bytes], media_type: str) -> str:
    accept = headers.get(b"accept")
    if accept is None or accept == b"*/*":
        return media_type
    accept = accept.lower()
    if ARROW.encode() in accept:
        return ARROW
    return JSON if b"json" in accept else media_type


def _options(query: bytes) -> Options:
    """Parse a query string.

    Raises:
        RecordError: a parameter or its value is not known.
    """
    faults, chosen, site = [], dict.fromkeys(_VALUES, False), ""
    try:
        pairs = parse_qsl(query.decode("ascii"), keep_blank_values=True, max_num_fields=20)
    except ValueError:
        pairs = [("?", "")]
    for name, value in pairs:
        if name == "site":
            site = composed(value)
            if not site:
                faults.append(FieldError(None, name, "the name of a site", "nothing"))
            continue
        values = _VALUES.get(name)
        if values is None:
            faults.append(FieldError(None, name, f"only {_KNOWN}", "a parameter not known"))
        elif value not in values:
            expected = " or ".join(sorted(values, reverse=True))
            faults.append(FieldError(None, name, expected, "something else"))
        else:
            chosen[name] = value == values[1]
    if faults:
        raise RecordError(faults)
    report, distances, explain, ignore_extra = chosen.values()
    return Options(report, distances, explain, ignore_extra, site)
