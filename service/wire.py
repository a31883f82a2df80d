"""Requests on the wire: headers, bytes and JSON become records to encode."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import anyio
from pydantic_core import from_json, to_json
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from models import Manifest, Model, RecordError
from models.schema import Matrix, describe
from service.problems import Disconnected, TooLarge, TooSlow, Unfit, Unreadable, Unspoken
from service.state import state_of

__all__ = ["Batch", "answer", "bundle_of", "encode", "parse", "read"]

_LINGER_SECONDS = 1.0
_SPOKEN = "application/json or text/plain, charset utf-8, without a content encoding"


@dataclass(frozen=True, slots=True)
class Batch:
    """A request's records, in order, and what it asks to be told of them."""

    records: list[object]
    distances: bool = False


async def answer(request: Request, work: Callable[[Model, bytearray], tuple[Any, int]]) -> Response:
    """Read a request and answer it with what `work` makes of its body.

    Args:
        request: a request whose body holds records.
        work: gives the answer and its number of records. It runs in a thread, so that probes are
            answered while it does.
    """
    state = state_of(request)
    model, settings = state.model, state.settings
    body = await read(request, most=settings.max_body_bytes, seconds=settings.body_seconds)

    def run() -> tuple[bytes, int]:
        content, records = work(model, body)
        return to_json(content, inf_nan_mode="null"), records

    content, records = await anyio.to_thread.run_sync(run)
    request.state.records = records
    state.metrics.records.inc(records)
    return Response(content, media_type="application/json")


async def read(request: Request, *, most: int, seconds: float) -> bytearray:
    """Read a body, no further than the limits.

    Raises:
        Problem: what is sent is too long, too slow, or in a language that is not spoken here.
    """
    _check(request.headers)
    body = bytearray()
    too_large = _announced(request.headers) > most
    try:
        # Most clients read no answer while they still send: what is too long is let in for a
        # moment, and not kept.
        with anyio.fail_after(_LINGER_SECONDS if too_large else seconds) as limit:
            async for chunk in request.stream():
                body += b"" if too_large else chunk
                if len(body) > most:
                    too_large = True
                    body.clear()
                    limit.deadline = min(limit.deadline, anyio.current_time() + _LINGER_SECONDS)
    except TimeoutError as error:
        if not too_large:
            raise TooSlow(f"The body did not arrive within {seconds:g} seconds.") from error
    except ClientDisconnect as error:
        raise Disconnected from error
    if too_large:
        raise TooLarge(f"The body is longer than {most} bytes, the most that is taken.")
    return body


def parse(body: bytearray, *, most: int, options: frozenset[str] = frozenset()) -> Batch:
    """Take a body apart.

    Args:
        body: JSON, `{"records": [...]}` and options.
        most: how many records it may hold.
        options: keys that may stand beside `records`, each with true or false.

    Raises:
        Unreadable: the body is not JSON.
        Unfit: it is, but not an object with records.
    """
    try:
        document = from_json(body)
    except ValueError as error:
        raise Unreadable(f"The body is not JSON: {error}.") from error
    if not isinstance(document, dict):
        wanted = 'an object like {"records": [...]}'
        raise Unfit([(None, None, wanted, describe(document))])
    records = document.pop("records", _ABSENT)
    faults = islice(_faults(records, document, most, options), 10)
    if found := [(None, *fault) for fault in faults]:
        raise Unfit(found)
    return Batch(records, **document)


def encode(model: Model, batch: Batch) -> Matrix:
    """Turn records into the encoder's input: float32 [n, fields], NaN where missing.

    Raises:
        Unfit: a record does not fit the schema.
    """
    try:
        return model.schema.encode(batch.records)
    except RecordError as error:
        raise Unfit.of(error.faults) from error


def bundle_of(manifest: Manifest) -> dict[str, str]:
    """Which bundle gave an answer."""
    return {"name": manifest.name, "version": manifest.version}


_ABSENT = object()


def _faults(
    records: object, others: dict[str, object], most: int, options: frozenset[str]
) -> Iterator[tuple[str, str, str]]:
    wanted = f"a list of 1 to {most} records"
    if records is _ABSENT:
        yield "records", wanted, "no such key"
    elif not isinstance(records, list):
        yield "records", wanted, describe(records)
    elif not 1 <= len(records) <= most:
        yield "records", wanted, f"{len(records)} records" if records else "an empty list"
    known = " and ".join(["records", *sorted(options)])
    for key, value in others.items():
        if key not in options:
            yield key, f"only {known} in the body", "a key that is not known"
        elif not isinstance(value, bool):
            yield key, "true or false", describe(value)


def _announced(headers: Headers) -> float:
    length = headers.get("content-length", "")
    return float(length) if length.isdecimal() else 0


def _check(headers: Headers) -> None:
    media, *parameters = headers.get("content-type", "").lower().split(";")
    pairs = (parameter.partition("=") for parameter in parameters)
    charsets = {value.strip(' "') for name, _, value in pairs if name.strip() == "charset"}
    encoding = headers.get("content-encoding", "").strip().lower()
    spoken = media.strip() in {"", "application/json", "text/plain"}
    if not spoken or charsets - {"utf-8", "utf8"} or encoding not in {"", "identity"}:
        raise Unspoken(f"Send {_SPOKEN}.")
