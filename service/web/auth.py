"""API keys, of which the service knows only the hashes.

A `read` key allows verdicts and reading, an `admin` key also changes. Without read keys everyone
may read; without admin keys nobody may change anything. A browser that has signed in sends its key
as a cookie (`service.web.session`).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from service.web import session
from service.web.middleware import RequestInfo
from service.web.problems import FORBIDDEN, UNAUTHORIZED, Problem

__all__ = ["PROBES", "Access", "AuthMiddleware", "Keys", "KeysError", "admin", "new_key"]

Access = Literal["read", "admin"]

PROBES = frozenset({"/livez", "/readyz", "/v2/health/live", "/v2/health/ready"})
"""Paths that need no key: probes have none."""
_PAGE = frozenset({"/", "/session"})
_PAGE_FILES = "/page/"
"""The page holds no data, and a person needs it to sign in."""
_LIVE = "/live/"

_DIGEST = re.compile(r"[0-9a-fA-F]{64}")
_NO_ADMIN_KEY = (
    "No admin key is configured, so nothing can be changed: make one with `faultcube key` and set "
    "FAULTCUBE_ADMIN_KEYS to its SHA-256."
)


class KeysError(ValueError):
    """Keys that cannot be used; the message is one line and repeats none of them."""


@dataclass(frozen=True, slots=True)
class Keys:
    """The SHA-256 of every key, by what it allows.

    Attributes:
        read: digests of keys that may read; empty when everyone may.
        admin: digests of keys that may change things; empty when nobody may.
    """

    read: tuple[bytes, ...] = field(default=(), repr=False)
    admin: tuple[bytes, ...] = field(default=(), repr=False)

    @classmethod
    def of(cls, *, read: str = "", admin: str = "", file: Path | None = None) -> Keys:
        """Read keys from settings and from a file.

        Args:
            read: SHA-256 of keys in hex, separated by commas or spaces.
            admin: likewise.
            file: lines of `read` or `admin` and a SHA-256; comments follow a #.

        Raises:
            KeysError: a hash is malformed, or the file cannot be read.
        """
        digests = {
            "read": _digests("FAULTCUBE_READ_KEYS", read),
            "admin": _digests("FAULTCUBE_ADMIN_KEYS", admin),
        }
        for number, line in enumerate(_lines(file), start=1):
            words = line.partition("#")[0].split()
            if not words:
                continue
            if len(words) != 2 or words[0] not in digests:
                raise KeysError(f"{file}, line {number}: expected `read` or `admin` and a SHA-256")
            digests[words[0]] += _digests(f"{file}, line {number}", words[1])
        return cls(tuple(digests["read"]), tuple(digests["admin"]))

    def check(self, kind: Access, headers: Mapping[bytes, bytes]) -> str | None:
        """Check the key of a request.

        Returns:
            The first eight hex digits of the key's hash, or None when no key is needed.

        Raises:
            Problem: `FORBIDDEN`, nobody may do this; `UNAUTHORIZED`, no key or not the right one.
        """
        if kind == "read" and not self.read:
            return None
        if kind == "admin" and not self.admin:
            raise Problem(FORBIDDEN, _NO_ADMIN_KEY)
        if (digest := self._digest(headers)) is None:
            raise Problem(UNAUTHORIZED, "This needs a key: send `Authorization: Bearer KEY`.")
        if not self.allows(kind, digest):
            raise Problem(UNAUTHORIZED, f"This key does not open what needs {kind!r}.")
        return digest.hex()[:8]

    def allows(self, kind: Access, digest: bytes) -> bool:
        """Return whether a key is one of those that there are for something.

        Args:
            kind: what it is to allow.
            digest: its SHA-256.
        """
        allowed = self.admin + (self.read if kind == "read" else ())
        # All are compared, so that the duration says nothing.
        return bool(sum(hmac.compare_digest(digest, other) for other in allowed))

    def _digest(self, headers: Mapping[bytes, bytes]) -> bytes | None:
        """Return the digest of the key that a request has, in its headers or in a cookie."""
        if (key := _key(headers)) is not None:
            return hashlib.sha256(key).digest()
        found = None
        for key in session.keys_of(headers):
            found = hashlib.sha256(key).digest()
            if self.allows("read", found):  # an old cookie may come first
                break
        return found


class AuthMiddleware:
    """Requires a read key; routes that change something require an admin key themselves.

    Args:
        app: the application inside.
        keys: to check against.
        on_problem: called with every refusal.
    """

    def __init__(self, app: ASGIApp, keys: Keys, on_problem: Callable[[Problem], None]) -> None:
        self.app, self.keys, self.on_problem = app, keys, on_problem

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle an HTTP request."""
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        if not (path in PROBES or path in _PAGE or path.startswith(_PAGE_FILES)):
            info = RequestInfo.of(scope)
            try:
                info.key = self.keys.check("read", info.headers)
            except Problem as problem:
                self.on_problem(problem)
                _leave_to_page(problem, path, info.headers)
                await problem.response(info.request_id)(scope, receive, send)
                return
        await self.app(scope, receive, send)


def admin(request: Request) -> None:
    """Require an admin key: the dependency of every route that changes something.

    Raises:
        Problem: `FORBIDDEN` or `UNAUTHORIZED`.
    """
    info, keys = RequestInfo.of(request.scope), request.app.state.faultcube.keys
    info.is_change = True
    try:
        info.key = keys.check("admin", info.headers)
    except Problem as problem:
        _leave_to_page(problem, request.url.path, info.headers)
        raise


def _leave_to_page(problem: Problem, path: str, headers: Mapping[bytes, bytes]) -> None:
    """Let the live page ask for the key: a browser's own question would stand before it.

    What is typed there would be sent for ever, and nobody could sign out.
    """
    if path.startswith(_LIVE) or headers.get(b"accept") == b"application/json":
        problem.challenges = problem.challenges[:1]


def new_key() -> tuple[str, str]:
    """Return a random key and its SHA-256 in hex."""
    key = secrets.token_urlsafe(32)
    return key, hashlib.sha256(key.encode()).hexdigest()


def _digests(where: str, text: str) -> list[bytes]:
    words = text.replace(",", " ").split()
    if not all(map(_DIGEST.fullmatch, words)):
        raise KeysError(f"{where}: expected the SHA-256 of a key, 64 hex digits (`faultcube key`)")
    return [bytes.fromhex(word) for word in words]


def _lines(file: Path | None) -> list[str]:
    if file is None:
        return []
    try:
        return file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        raise KeysError(f"FAULTCUBE_KEYS_FILE: {file} cannot be read: {why}") from error


def _key(headers: Mapping[bytes, bytes]) -> bytes | None:
    if (key := headers.get(b"x-api-key")) is not None:
        return key
    kind, _, value = headers.get(b"authorization", b"").strip().partition(b" ")
    match kind.lower():
        case b"bearer":
            return value.strip()
        case b"basic":  # browsers and collectors send this; the password is the key
            try:
                return base64.b64decode(value, validate=True).partition(b":")[2]
            except binascii.Error:
                return None
    return None
