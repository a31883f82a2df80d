"""The whole application in this process, called without a server."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.types import Message

from benchmarks.fuzz.request import Request
from models import Model
from service.app import create_app
from service.settings import Settings

_MAX_BODY_BYTES, _MAX_RECORDS = 1 << 20, 200


@dataclass(frozen=True, slots=True)
class Reply:
    """What the application answered, in seconds of CPU, or the error that it raised.

    The status is None when there was no answer, or half of one; names of headers are lower case.
    """

    status: int | None
    headers: dict[bytes, bytes]
    body: bytes
    seconds: float
    error: BaseException | None = None


class Application:
    """An application that serves the bundle of a folder."""

    def __init__(self, bundle: Path) -> None:
        settings = Settings(
            bundle=bundle,
            max_body_bytes=_MAX_BODY_BYTES,
            max_records=_MAX_RECORDS,
            log_requests="none",
            log_level="error",
        )
        self.app = create_app(settings)
        self.state = self.app.state.faultcube
        self.state.refresh()
        run = self.state.ingestion.run
        threading.Thread(target=run, args=[threading.Event()], daemon=True).start()
        while self.state.loaded and (problem := self.state.ingestion.refused):
            if problem.status < 500:
                break
            time.sleep(0.01)

    @property
    def model(self) -> Model:
        """The model that it serves."""
        model: Model = self.state.served.model
        return model

    async def ask(self, request: Request) -> Reply:
        """Send a request and wait for the answer."""
        messages: list[Message] = []
        incoming = _incoming(request)

        async def receive() -> Message:
            return next(incoming, {"type": "http.disconnect"})

        async def send(message: Message) -> None:
            messages.append(message)

        error, begin = None, time.thread_time()
        try:
            await self.app(_scope(request), receive, send)
        except Exception as raised:
            error = raised
        seconds = time.thread_time() - begin
        starts = [item for item in messages if item["type"] == "http.response.start"]
        body = b"".join(item.get("body", b"") for item in messages)
        if len(starts) != 1 or messages[-1].get("more_body"):
            return Reply(None, {}, body, seconds, error)
        return Reply(starts[0]["status"], dict(starts[0]["headers"]), body, seconds, error)

    def held(self) -> tuple[int, int]:
        """Return bytes held of bodies, and waiting requests: none once all are answered."""
        return self.state.budget.held, self.state.scheduler.waiting


def _incoming(request: Request) -> Iterator[Message]:
    *others, last = request.chunks
    for chunk in others:
        yield {"type": "http.request", "body": chunk, "more_body": True}
    if not request.breaks_off:
        yield {"type": "http.request", "body": last, "more_body": False}


def _scope(request: Request) -> dict[str, Any]:
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": "http",
        "path": request.path,
        "raw_path": request.path.encode("utf-8", "surrogateescape"),
        "query_string": request.query,
        "root_path": "",
        "headers": list(request.headers),
        "client": ("127.0.0.1", 50_000),
        "server": ("127.0.0.1", 8_000),
        "state": {},
    }
