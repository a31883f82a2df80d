"""Who may do what: API keys, of which only hashes are known here.

A key opens a scope: `read` asks for verdicts and looks, `admin` changes things and may also read.
Without a read key everyone may read; without an admin key nobody may change anything.
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

from service.web.middleware import RequestInfo
from service.web.problems import FORBIDDEN, UNAUTHORIZED, Problem

__all__ = ["PROBES", "AuthMiddleware", "Keys", "KeysError", "admin", "new_key"]

Access = Literal["read", "admin"]

PROBES = frozenset({"/livez", "/readyz", "/v2/health/live", "/v2/health/ready"})
"""Paths that are answered to everyone: whoever probes holds no key."""

_DIGEST = re.compile(r"[0-9a-fA-F]{64}")
_HOW = (
    "No admin key is configured, so nothing can be changed: make one with `faultcube key` and set "
    "FAULTCUBE_ADMIN_KEYS to its SHA-256."
)


class KeysError(ValueError):
    """Keys that cannot be used; the message is one line and repeats none of them."""


@dataclass(frozen=True, slots=True)
class Keys:
    """The SHA-256 of every key, by what it opens.

    Attributes:
        read: digests of keys that may read; empty when everyone may.
        admin: digests of keys that may change things; empty when nobody may.
    """

    read: tuple[bytes, ...] = field(default=(), repr=False)
    admin: tuple[bytes, ...] = field(default=(), repr=False)

    @classmethod
    def of(cls, *, read: str = "", admin: str = "", file: Path | None = None) -> Keys:
        """Take keys from settings and from a file.

        Args:
            read: SHA-256 of keys in hex, with commas or spaces between them.
            admin: likewise.
            file: lines of `read` or `admin` and a SHA-256; what follows a # is a remark.

        Raises:
            KeysError: a hash is none, or the file cannot be read.
        """
        found = {"read": _digests("FAULTCUBE_READ_KEYS", read)}
        found["admin"] = _digests("FAULTCUBE_ADMIN_KEYS", admin)
        for number, line in enumerate(_lines(file), start=1):
            words = line.partition("#")[0].split()
            if not words:
                continue
            if len(words) != 2 or words[0] not in found:
                raise KeysError(f"{file}, line {number}: expected `read` or `admin` and a SHA-256")
            found[words[0]] += _digests(f"{file}, line {number}", words[1])
        return cls(tuple(found["read"]), tuple(found["admin"]))

    def check(self, kind: Access, headers: Mapping[bytes, bytes]) -> str | None:
        """Let a request pass, or not.

        Returns:
            The first eight hex digits of the hash of its key, or None when it needs none.

        Raises:
            Forbidden: nobody may do this.
            Unauthorized: it has no key, or one that does not open this.
        """
        if kind == "read" and not self.read:
            return None
        if kind == "admin" and not self.admin:
            raise Problem(FORBIDDEN, _HOW)
        if (key := _key(headers)) is None:
            raise Problem(UNAUTHORIZED, "This needs a key: send `Authorization: Bearer KEY`.")
        digest = hashlib.sha256(key).digest()
        known = self.admin + (self.read if kind == "read" else ())
        # Every one is compared, to the end: time tells nothing.
        if not sum(hmac.compare_digest(digest, each) for each in known):
            raise Problem(UNAUTHORIZED, f"This key does not open what needs {kind!r}.")
        return digest.hex()[:8]


class AuthMiddleware:
    """Middleware that asks for a key that may read; routes that change something ask for more.

    Args:
        app: what is guarded.
        keys: that open it.
        refused: told of every refusal.
    """

    def __init__(self, app: ASGIApp, keys: Keys, refused: Callable[[Problem], None]) -> None:
        self.app, self.keys, self.refused = app, keys, refused

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["path"] not in PROBES:
            info = RequestInfo.of(scope)
            try:
                info.key = self.keys.check("read", info.headers)
            except Problem as problem:
                self.refused(problem)
                await problem.response(info.request_id)(scope, receive, send)
                return
        await self.app(scope, receive, send)


def admin(request: Request) -> None:
    """The dependency of every route that changes something: it asks for an admin key.

    Raises:
        Problem: there is none, or not this one.
    """
    info, keys = RequestInfo.of(request.scope), request.app.state.faultcube.keys
    info.is_change = True
    info.key = keys.check("admin", info.headers)


def new_key() -> tuple[str, str]:
    """A key that nobody can guess, and its SHA-256 in hex."""
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
        case b"basic":  # what browsers and collectors know; the password is the key
            try:
                return base64.b64decode(value, validate=True).partition(b":")[2]
            except binascii.Error:
                return None
    return None
