"""Journal of ingestion: the bodies taken since the last checkpoint, to be taken again after a kill.

A folder of numbered files. A body is written to the newest one before it is acknowledged; a
checkpoint begins a new file, and those before it go once it is stored. What was written survives
the end of the process however it ends; that of the machine may cost the last moments.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import struct
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Entry", "Journal"]

_HEAD = struct.Struct("<BdII")
"""Bytes of the receiver's name, time of arrival, bytes of the body, checksum of all of it."""
_SUFFIX = ".journal"


@dataclass(frozen=True, slots=True)
class Entry:
    """A body that was taken.

    Attributes:
        receiver: name of its wire format.
        arrived: seconds since the Unix epoch.
        body: as it was decoded, inflated.
    """

    receiver: str
    arrived: float
    body: bytes


class Journal:
    """Bodies on disk, in the order in which they were taken.

    Args:
        folder: made if it is not there; no other process may use it.

    Attributes:
        name: of its own, the same whenever the folder is used: its checkpoints go by it, because
            several services may share a database.
        position: number of the file that is written to.
        size: bytes written to it.

    Raises:
        BlockingIOError: another process uses the folder.
        OSError: it cannot be used.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._claim = os.open(folder / "lock", os.O_CREAT | os.O_WRONLY, 0o600)
        try:
            fcntl.flock(self._claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._claim)
            raise
        try:
            own = folder / "name"
            if not own.exists() or not own.stat().st_size:
                own.write_text(secrets.token_hex(8), encoding="ascii")
            self.name = own.read_text(encoding="ascii")
            # A file that was cut off in the middle is never continued.
            self.position = max(self._numbers(), default=0) + 1
            self.size = 0
            self._file = self._open(self.position)
        except BaseException:
            os.close(self._claim)  # or the next attempt would find the folder in use
            raise

    def append(self, entry: Entry) -> None:
        """Write an entry; it survives the process from here on.

        Raises:
            OSError: there is no room; nothing of it is left.
        """
        name = entry.receiver.encode()
        rest = name + entry.body
        checksum = zlib.crc32(rest, zlib.crc32(struct.pack("<d", entry.arrived)))
        data = _HEAD.pack(len(name), entry.arrived, len(entry.body), checksum) + rest
        written = 0
        try:
            while written < len(data):
                written += os.write(self._file, data[written:])
        except OSError:
            # What follows half an entry would be taken for damaged, too.
            os.ftruncate(self._file, self.size)
            raise
        self.size += len(data)

    def rotate(self) -> int:
        """Begin a new file, and return its number: the position of a checkpoint made now.

        Raises:
            OSError: there is no room; the old file goes on.
        """
        before, self._file = self._file, self._open(self.position + 1)
        self.position += 1
        self.size = 0
        os.close(before)
        return self.position

    def forget(self, position: int) -> None:
        """Delete the files before a position."""
        for number in self._numbers():
            if number < position:
                self._path(number).unlink(missing_ok=True)

    def entries(self, position: int) -> Iterator[Entry]:
        """Yield the entries from a position on that earlier processes wrote, in order.

        An entry that was cut off or altered ends its file: it was never acknowledged.

        Raises:
            OSError: a file cannot be read.
        """
        numbers = [n for n in sorted(self._numbers()) if position <= n < self.position]
        with ExitStack() as stack:
            # Before any of them is taken: who begins again takes none twice.
            files = [stack.enter_context(self._path(number).open("rb")) for number in numbers]
            for file in files:
                yield from _entries(file.read())

    def close(self) -> None:
        """Close the file, and leave the folder to others."""
        os.close(self._file)
        os.close(self._claim)

    def _open(self, number: int) -> int:
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND
        return os.open(self._path(number), flags, 0o600)

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:012}{_SUFFIX}"

    def _numbers(self) -> list[int]:
        return [int(path.stem) for path in self.folder.glob(f"*{_SUFFIX}") if path.stem.isdigit()]


def _entries(data: bytes) -> Iterator[Entry]:
    at = 0
    while at + _HEAD.size <= len(data):
        name_size, arrived, size, checksum = _HEAD.unpack_from(data, at)
        at += _HEAD.size
        rest = data[at : at + name_size + size]
        at += name_size + size
        if zlib.crc32(rest, zlib.crc32(struct.pack("<d", arrived))) != checksum:
            return
        yield Entry(rest[:name_size].decode(), arrived, rest[name_size:])
