"""A request as the application gets it, and as a file that can be sent again."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True, slots=True)
class Request:
    """One request.

    Attributes:
        path: decoded.
        headers: names in lower case, and values.
        cuts: where in the body one chunk ends and the next begins.
        breaks_off: whether the client goes away before the last chunk.
    """

    path: str
    query: bytes = b""
    headers: tuple[tuple[bytes, bytes], ...] = ()
    body: bytes = b""
    method: str = "POST"
    cuts: tuple[int, ...] = ()
    breaks_off: bool = False

    @property
    def chunks(self) -> list[bytes]:
        """The body as it arrives."""
        bounds = [0, *sorted(min(cut, len(self.body)) for cut in self.cuts), len(self.body)]
        return [self.body[a:b] for a, b in pairwise(bounds)]

    def written(self) -> bytes:
        """Return the request as HTTP; how it is cut into chunks is lost."""
        target = self.path.encode("utf-8", "surrogateescape") + (self.query and b"?" + self.query)
        lines = [self.method.encode() + b" " + target + b" HTTP/1.1"]
        lines += [name + b": " + value for name, value in self.headers]
        return b"\r\n".join([*lines, b"", self.body])

    @classmethod
    def read(cls, written: bytes) -> Request:
        """Parse what `written` returned."""
        lines: list[bytes] = []
        while (cut := written.partition(b"\r\n"))[0] or not lines:
            lines.append(cut[0])
            written = cut[2]
        method, _, target = lines[0].removesuffix(b" HTTP/1.1").partition(b" ")
        path, _, query = target.partition(b"?")
        headers = tuple(tuple(line.split(b": ", 1)) for line in lines[1:])
        text = path.decode("utf-8", "surrogateescape")
        return cls(text, query, headers, cut[2], method.decode())  # type: ignore[arg-type]
