"""The bundles of an object store's folder, copied into a folder here, which is then watched.

    bundles/                       what `service.bundles.repository` reads
      iosxr-2026-11 -> .copies/3f  a link, which is exchanged in one step
      current                      the pointer, if the store's folder has one
      .copies/3f/                  a copy, by the SHA-256 of its manifest and signature
      .copies/.state               what was found at the last look

A bundle is linked once it is here as a whole and verified, so one that is uploaded in part is none.
While the store is away, all stays as it is. Of several workers, whoever looks first does it for
all; they lock `.copies/.lock`.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import logging
import os
import shutil
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec
import pyarrow as pa
import pyarrow.fs

from models import Bundle, BundleError
from models.bundle import MANIFEST, MOST_SIGNATURE_BYTES, SIGNATURE, Trust
from service.bundles.addresses import AddressError, files_of, shown, why
from service.bundles.repository import MAX_POINTER_BYTES, POINTER, write_atomically
from service.observability.counters import Counters

__all__ = ["Mirror", "Mirrored"]

_COPIES: Final = ".copies"
_RETRY_SECONDS: Final = 30.0
"""Until a refused bundle is read again, though the store's list of its files is the same."""
_YOUNG_SECONDS: Final = 10.0
"""A bundle with a file that is younger is read at each look: the list tells times in seconds, and
would be the same after another file of the same size in that second."""
_SILENT_SECONDS: Final = 20.0
"""A look may take longer than usual by this: the library tries again for a minute and a half."""
_MOST_NAME_BYTES: Final = 255

log = logging.getLogger(__name__)


class _AwayError(Exception):
    """The store does not give what it has; the message is one line without keys."""


class Mirrored(msgspec.Struct):
    """What a look at the store has found.

    Attributes:
        looked: when, in seconds since 1970.
        fault: why the store's bundles cannot be followed; None while they can.
        refused: why bundles are refused, by folder.
        seen: the state of each folder whose bundle was copied or refused.
    """

    looked: float = 0.0
    fault: str | None = None
    refused: dict[str, str] = msgspec.field(default_factory=dict)
    seen: dict[str, str] = msgspec.field(default_factory=dict)


_mirrored = msgspec.json.Decoder(Mirrored)


class Mirror:
    """Keeps a folder in step with one of an object store.

    Args:
        address: of the store's folder, as pyarrow's file systems know it.
        folder: for the copies; bundles that others put there stay, and take part.
        trusted: who must have signed a bundle; anybody may have made it unless given.
        counters: counts refused bundles.
        seconds: between two looks.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        address: str,
        folder: Path,
        trusted: Trust | None,
        counters: Counters,
        *,
        seconds: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.address, self.folder, self.trusted = address, folder, trusted
        self.counters, self.seconds, self.clock = counters, seconds, clock
        self.shown = shown(address)
        self._copies = folder / _COPIES
        self._unused: set[Path] = set()
        self._local_fault: str | None = None
        self._began = clock()

    def __str__(self) -> str:
        return self.shown

    @property
    def has_copies(self) -> bool:
        """Whether there is a bundle here."""
        return self.folder.is_dir() and bool(self._links())

    def run(self, stop: threading.Event) -> None:
        """Look again and again, until `stop` is set."""
        while not stop.is_set():
            self.look()
            stop.wait(self.seconds)

    def look(self) -> None:
        """Take over what has changed, unless another worker has just looked; never raise."""
        try:
            self._copies.mkdir(parents=True, exist_ok=True)
            with (self._copies / ".lock").open("wb") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                found = self.found()
                if abs(self.clock() - found.looked) < self.seconds / 2:
                    return
                self._look(found)
                found.looked = self.clock()
                write_atomically(self._copies / ".state", msgspec.json.encode(found))
            self._local_fault = None
        except OSError as error:
            self._local_fault = f"the copies in {self.folder} cannot be changed ({error.strerror})"
            log.warning("bundles cannot be copied", extra={"reason": self._local_fault})
        except Exception as error:  # whatever it is, what is served goes on
            self._local_fault = f"unexpected {type(error).__name__}; the log says more"
            log.exception("bundles cannot be copied")

    def found(self) -> Mirrored:
        """Return what the last look has found, whoever has looked."""
        try:
            found = _mirrored.decode((self._copies / ".state").read_bytes())
        except (OSError, msgspec.DecodeError):
            found = Mirrored()
        silent = self.clock() - max(found.looked, self._began)
        if silent > self.seconds + _SILENT_SECONDS:
            found.fault = f"it has not answered for {silent:.0f} s"
        if self._local_fault is not None:
            found.fault = self._local_fault
        return found

    def _look(self, found: Mirrored) -> None:
        before, found.fault = found.fault, None
        self._sweep()
        try:
            files, path = files_of(self.address)
            bundles, pointed = self._listed(files, path)
            found.refused = {k: why for k, why in found.refused.items() if k in bundles}
            found.seen = {k: state for k, state in found.seen.items() if k in bundles}
            for name, state in sorted(bundles.items()):
                try:
                    self._follow(files, path, name, state, found)
                except _AwayError as error:
                    found.fault = str(error)
            self._unlink(bundles)
            self._point(files, path if pointed else None)
        except (AddressError, _AwayError) as error:
            found.fault = str(error)
        if found.fault not in {None, before}:
            log.warning("bundles cannot be followed", extra={"reason": found.fault})
        if before is not None and found.fault is None:
            log.info("bundles are followed again", extra={"address": self.shown})

    def _listed(self, files: pa.fs.FileSystem, path: str) -> tuple[dict[str, str], bool]:
        """Return the state of each bundle by its folder, and whether there is a pointer."""
        try:
            infos = files.get_file_info(pa.fs.FileSelector(path, recursive=True))
        except (OSError, pa.ArrowException) as error:
            raise _AwayError(f"it cannot be listed: {why(error, self.address)}") from error
        folders = defaultdict[str, list[tuple[str, int, int]]](list)
        for info in infos:
            if info.is_file:
                inner = info.path.removeprefix(path.rstrip("/") + "/")
                name, _, rest = inner.partition("/")
                folders[name].append((rest, info.size, info.mtime_ns or 0))
        bundles = {
            name: self._state(inside)
            for name, inside in folders.items()
            if _may_be_bundle(name) and MANIFEST in {rest for rest, _, _ in inside}
        }
        if not bundles:  # more likely a wrong address than the wish to serve nothing
            raise _AwayError(f"no folder in it holds a bundle with its {MANIFEST}")
        return bundles, any(rest == "" for rest, _, _ in folders.get(POINTER, ()))

    def _state(self, files: list[tuple[str, int, int]]) -> str:
        """Return what differs when files, each with size and nanoseconds, may be others."""
        state = hashlib.sha256(repr(sorted(files)).encode()).hexdigest()
        age = self.clock() - max(changed for _, _, changed in files) / 1e9
        return f"{state} {self.clock()}" if abs(age) < _YOUNG_SECONDS else state

    def _follow(
        self, files: pa.fs.FileSystem, path: str, name: str, state: str, found: Mirrored
    ) -> None:
        """Copy a bundle if its state is a new one, or refuse it."""
        link = self.folder / name
        is_known = name in found.refused or link.exists()
        if is_known and found.seen.get(name) == self._mark(name, state, found):
            return
        try:
            copy = self._copied(files, f"{path}/{name}", name)
            self._link(link, copy)
        except BundleError as error:
            self._refuse(name, error.reason, found)
        else:
            found.refused.pop(name, None)
        found.seen[name] = self._mark(name, state, found)

    def _mark(self, name: str, state: str, found: Mirrored) -> str:
        """Return a state; that of a refused bundle differs after a time, so it is read again.

        A store's list may be the same for two files of one size that came in the same second.
        """
        refused = name in found.refused
        return f"{state} {self.clock() // _RETRY_SECONDS}" if refused else state

    def _copied(self, files: pa.fs.FileSystem, path: str, name: str) -> Path:
        """Return a verified copy of a bundle.

        Raises:
            BundleError: it is refused.
            _AwayError: it cannot be read.
        """
        kept: dict[str, bytes] = {}

        def read(file: str, most: int) -> bytes:
            if file not in kept:
                kept[file] = self._content(files, f"{path}/{file}", most)
            return kept[file]

        Bundle.of(read, Path(name), trusted=self.trusted)
        with suppress(OSError):  # for whoever trusts keys later
            read(SIGNATURE, MOST_SIGNATURE_BYTES)
        signed = kept[MANIFEST] + b"\n" + kept.get(SIGNATURE, b"")
        copy = self._copies / hashlib.sha256(signed).hexdigest()
        if not copy.exists():
            draft = Path(tempfile.mkdtemp(prefix="draft-", dir=self._copies))
            for file, content in kept.items():
                (draft / file).parent.mkdir(exist_ok=True)
                _write(draft / file, content)
            draft.chmod(0o755)
            draft.rename(copy)
        return copy

    def _content(self, files: pa.fs.FileSystem, path: str, most: int) -> bytes:
        try:
            with files.open_input_file(path) as file:
                if (size := file.size()) <= most:
                    content: bytes = file.read(size)
                    return content
        except FileNotFoundError as error:
            raise FileNotFoundError(errno.ENOENT, "it is not in the store") from error
        except (OSError, pa.ArrowException) as error:
            raise _AwayError(f"a file cannot be read: {why(error, self.address)}") from error
        raise OSError(errno.EFBIG, f"it has {size} bytes, where {most} are allowed")

    def _refuse(self, name: str, reason: str, found: Mirrored) -> None:
        if found.refused.get(name) != reason:
            self.counters.refused += 1
            extra = {"bundle": f"{self.shown}/{name}", "reason": reason}
            log.error("bundle refused", extra=extra)
        found.refused[name] = reason

    def _link(self, link: Path, copy: Path) -> None:
        if link.is_dir() and not link.is_symlink():
            raise BundleError(link, "a folder of this name is here already, and was no copy")
        draft = self._copies / "draft-link"
        draft.unlink(missing_ok=True)
        draft.symlink_to(Path(_COPIES) / copy.name)
        draft.replace(link)

    def _links(self) -> dict[Path, Path]:
        """Return the copy that each of our links leads to."""
        links = [path for path in self.folder.iterdir() if path.is_symlink()]
        targets = {link: link.readlink() for link in links}
        return {
            link: self.folder / target
            for link, target in targets.items()
            if target.parent == Path(_COPIES)
        }

    def _unlink(self, bundles: dict[str, str]) -> None:
        """Remove the bundles that the store has no more."""
        for link in self._links():
            if link.name not in bundles:
                link.unlink()

    def _sweep(self) -> None:
        """Remove copies that are linked no more, unless somebody may be loading one still."""
        unused = set(self._copies.glob("[!.]*")) - set(self._links().values())
        for path in unused & self._unused:
            shutil.rmtree(path, ignore_errors=True)
        self._unused = unused

    def _point(self, files: pa.fs.FileSystem, path: str | None) -> None:
        """Take the store's pointer over; its folder has none without a path."""
        pointer = self.folder / POINTER
        if path is None:
            pointer.unlink(missing_ok=True)
            return
        try:
            content = self._content(files, f"{path}/{POINTER}", MAX_POINTER_BYTES)
        except OSError as error:
            raise _AwayError(f"its pointer {POINTER!r} cannot be read: {error.strerror}") from error
        if not pointer.is_file() or pointer.read_bytes() != content:
            write_atomically(pointer, content)


def _may_be_bundle(name: str) -> bool:
    """Whether a folder here may have this name."""
    return (
        name.isprintable()
        and not name.startswith(".")
        and name != POINTER
        and len(name.encode(errors="replace")) <= _MOST_NAME_BYTES
    )


def _write(path: Path, content: bytes) -> None:
    """Write a file so that it outlives a crash of the machine."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
