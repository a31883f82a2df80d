"""The live page's files: `/` and `/page/...`. They hold no data, so they need no key."""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

import service
from service.web.problems import NO_SUCH_PATH, Problem

__all__ = ["POLICY", "router"]

router = APIRouter(include_in_schema=False)

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; font-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; require-trusted-types-for 'script'"
)
"""What the page may load and run: this service's files, and nothing else."""

_FOLDER = Path(service.__file__).parent / "page"
_HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
    "Vary": "Accept-Encoding",
}
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/x-icon",
    ".woff2": "font/woff2",
}
_OTHER_TYPE = "text/plain; charset=utf-8"
"""Of licences and the like."""
_LEAST_COMPRESSED = 500
"""Bytes from which compressing is worth its header."""


@dataclass(frozen=True, slots=True)
class _File:
    """A file as it is sent, and compressed unless that is no shorter."""

    content: bytes
    compressed: bytes | None
    tag: str
    media_type: str


@router.head("/")
@router.get("/")
def index(request: Request) -> Response:
    """The page itself; its addresses are relative, so that it works behind a proxy's prefix."""
    return _sent(request, "index.html")


@router.head("/page/{path:path}")
@router.get("/page/{path:path}")
def file(request: Request, path: str) -> Response:
    """Its programs, style sheets and libraries."""
    return _sent(request, path)


def _sent(request: Request, path: str) -> Response:
    found = _found(path)
    given = request.headers
    headers = _HEADERS | {"ETag": found.tag}
    if found.tag in given.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    content = found.content
    if found.compressed is not None and "gzip" in given.get("accept-encoding", ""):
        content, headers["Content-Encoding"] = found.compressed, "gzip"
    response = Response(content, headers=headers, media_type=found.media_type)
    if request.method == "HEAD":
        response.body = b""
    return response


def _found(path: str) -> _File:
    """Return a file of the page.

    Raises:
        Problem: `NO_SUCH_PATH`.
    """
    try:
        file = (_FOLDER / path).resolve(strict=True)
        if file.is_relative_to(_FOLDER.resolve()) and file.is_file():
            return _read(file, file.stat().st_mtime_ns)
    except (OSError, ValueError):  # such as a name that is too long, or has a zero in it
        pass
    raise Problem(NO_SUCH_PATH, "There is no such file of the page.")


@lru_cache(maxsize=256)
def _read(file: Path, _changed: int) -> _File:
    content = file.read_bytes()
    compressed = gzip.compress(content, mtime=0) if len(content) >= _LEAST_COMPRESSED else content
    shorter = compressed if len(compressed) < len(content) else None
    tag = f'W/"{hashlib.sha256(content).hexdigest()[:24]}"'
    return _File(content, shorter, tag, _TYPES.get(file.suffix, _OTHER_TYPE))
