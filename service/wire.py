"""Requests on the wire: headers and bytes, their limits, and the answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
from pydantic_core import to_json
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from models import Manifest, Model
from service.decode import Batch, decoder_for
from service.problems import Disconnected, TooLarge, TooSlow, Unspoken
from service.state import state_of

__all__ = ["answer", "bundle_of", "read"]

_LINGER_SECONDS = 1.0
_SPOKEN = "application/json or text/plain, charset utf-8, without a content encoding"


async def answer(
    request: Request, work: Callable[[Model, Batch], Any], options: frozenset[str] = frozenset()
) -> Response:
    """Read a request and answer it with what `work` makes of its records.

    Args:
        request: a request whose body holds records.
        work: gives the answer. It runs in a thread, so that probes are answered meanwhile.
        options: keys that may stand beside the records, each with true or false.
    """
    state = state_of(request)
    model, settings = state.model, state.settings
    body = await read(request, most=settings.max_body_bytes, seconds=settings.body_seconds)
    decoder = decoder_for(model.schema, settings.max_records, options)

    def run() -> tuple[bytes, int]:
        batch = decoder.decode(body)
        return to_json(work(model, batch), inf_nan_mode="null"), len(batch.matrix)

    content, records = await anyio.to_thread.run_sync(run, limiter=state.limiter)
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


def bundle_of(manifest: Manifest) -> dict[str, str]:
    """Which bundle gave an answer."""
    return {"name": manifest.name, "version": manifest.version}


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
