"""The floor under every HTTP server here: read the whole body, answer bytes of the asked size."""

from __future__ import annotations

import json
import sys
from collections.abc import Awaitable, Callable
from functools import lru_cache
from typing import Any

import uvicorn

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer `POST /<bytes>/<label>` with JSON of that many bytes."""
    if scope["type"] != "http":
        return
    body, more = bytearray(), True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    content, headers = _answer(scope["path"])
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": content})


@lru_cache(maxsize=16)
def _answer(path: str) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    size, _, label = path.strip("/").partition("/")
    results = json.dumps([{"label": label}]).encode()
    content = results[:-1].ljust(int(size or 0) - 1) + b"]"
    length = str(len(content)).encode()
    return content, [(b"content-type", b"application/json"), (b"content-length", length)]


if __name__ == "__main__":
    uvicorn.run(
        app,
        host="127.0.0.1",
        port=int(sys.argv[1]),
        loop="uvloop",
        http="httptools",
        log_level="warning",
        access_log=False,
        lifespan="off",
    )
