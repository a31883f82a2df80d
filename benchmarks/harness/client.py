"""A client with one connection that is kept open."""

from __future__ import annotations

import contextlib
import http.client
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

_SECONDS = 60


class ServerError(RuntimeError):
    """A server does not start or does not answer as it must; the message says why."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Headers, with names in lower case, body and status of a response."""

    headers: Mapping[str, str]
    body: bytes
    status: int = 200

    @property
    def content(self) -> Any:
        """The JSON document of the body; None when it is empty."""
        return json.loads(self.body) if self.body else None

    @property
    def revision(self) -> int:
        """The revision of the enrolled classes that answered; -1 when there is none."""
        return int(self.headers.get("faultcube-revision") or -1)

    def expect(self, status: int = 200) -> Self:
        """Return the answer itself; raise ServerError if it has another status."""
        if self.status != status:
            text = self.body.decode(errors="replace").strip()
            with contextlib.suppress(ValueError, LookupError, TypeError):
                text = str(json.loads(text)["detail"])
            raise ServerError(f"answers {self.status}, not {status}: {text[:200]}")
        return self


class Client:
    """A client of a port on loopback that sends some headers always; a context that closes it."""

    def __init__(self, port: int, headers: Mapping[str, str] | None = None) -> None:
        self._headers = dict(headers or {})
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_SECONDS)

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send a request and read its answer; a body is JSON unless a header says otherwise.

        Raises:
            OSError, http.client.HTTPException: there is no answer.
        """
        named = {**self._headers, **(headers or {})}
        if body is not None:
            named.setdefault("Content-Type", "application/json")
        self._connection.request(method, path, body, named)
        response = self._connection.getresponse()
        fields = {name.lower(): text for name, text in response.getheaders()}
        return Answer(fields, response.read(), response.status)

    def post(self, path: str, body: bytes, headers: Mapping[str, str] | None = None) -> Answer:
        """Post a body; raise ServerError if the answer does not come or is not 200."""
        try:
            return self.ask("POST", path, body, headers).expect()
        except (OSError, http.client.HTTPException) as error:
            raise ServerError(f"no answer: {error or type(error).__name__}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()
