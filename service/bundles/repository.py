"""Bundle repository: a folder of bundles, and which of them is to be served.

    bundles/              FAULTCUBE_BUNDLE; it may be a bundle itself, the only one then
      current             the pointer: one line, a sub-folder's name or a version; may be missing
      iosxr-2025-06/      a bundle
      iosxr -> /srv/b/7   links are followed anywhere: whoever may write here decides anyway
      .iosxr-x8d2/        hidden, a draft: skipped, as are files and names that are not printable

Without a pointer the newest bundle is served. Links are resolved at every call, so they may be
swapped at any time. A `current` that is a folder, or a link to one, points to that folder.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal

from models import BundleError, Manifest
from models.bundle import MANIFEST, read_manifest
from models.files import read_file

__all__ = [
    "MAX_POINTER_BYTES",
    "POINTER",
    "AmbiguousError",
    "BundleRepository",
    "Choice",
    "Entry",
    "Fingerprint",
    "NotThereError",
    "NotWritableError",
    "OneBundleError",
    "RepositoryError",
    "UnreadableError",
    "fingerprint",
    "write_atomically",
]

POINTER: Final = "current"
"""Name of the file that names the bundle to serve."""
MAX_POINTER_BYTES: Final = 1024

_VERSION = re.compile(r"[0-9a-f]{16}")
_VERSION_PREFIX = re.compile(r"[0-9a-f]{4,15}")
_MAX_KNOWN = 256
"""Manifests whose entries are kept."""

Fingerprint = tuple[object, ...]
"""Changes when the files do."""


class RepositoryError(Exception):
    """No bundle can be served or chosen; the message is one line with the path and the reason."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path, self.reason = path, reason


class NotThereError(RepositoryError):
    """No bundle has this folder name or version."""


class AmbiguousError(RepositoryError):
    """Bundles of different versions have this name."""


class UnreadableError(RepositoryError):
    """The manifest of the named bundle cannot be read."""


class OneBundleError(RepositoryError):
    """The path is itself a bundle: there is no choice."""


class NotWritableError(RepositoryError):
    """The pointer cannot be written."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A folder of the repository as its manifest describes it; its other files are not verified.

    Attributes:
        folder: its name.
        path: its path, links not followed.
        name: of the model; None, as are the next two, when the manifest cannot be read.
        version: hash of the content.
        created: with a time zone; UTC when the manifest names none.
        reason: why the manifest cannot be read, or None.
    """

    folder: str
    path: Path
    name: str | None = None
    version: str | None = None
    created: datetime | None = None
    reason: str | None = None

    @property
    def age(self) -> tuple[datetime, str, str]:
        """Sort key, larger for newer bundles; at equal times, for larger versions."""
        return self.created or datetime.min.replace(tzinfo=UTC), self.version or "", self.folder


@dataclass(frozen=True, slots=True)
class Choice:
    """The bundle to serve.

    Attributes:
        entry: its entry.
        folder: to load from, links resolved: one swapped meanwhile does not mix two bundles.
        decided: by what: the path is a bundle, the pointer names it, or it is the newest.
    """

    entry: Entry
    folder: Path
    decided: Literal["path", "pointer", "newest"]


class BundleRepository:
    """The bundles that a service may serve.

    Args:
        path: a folder of bundles, or one bundle.
        settle_seconds: how long a bundle's files must be unchanged before the watcher reports it.
        sweep_seconds: interval of the watcher's polls where the operating system reports nothing:
            network file systems, links further up the path.
    """

    def __init__(
        self, path: str | Path, *, settle_seconds: float = 1.0, sweep_seconds: float = 5.0
    ) -> None:
        self.path = Path(path).absolute()
        self.settle_seconds, self.sweep_seconds = settle_seconds, sweep_seconds
        self._known: dict[bytes, Entry] = {}

    @property
    def is_bundle(self) -> bool:
        """Whether the path is itself a bundle."""
        return os.access(self.path / MANIFEST, os.F_OK)

    def folders(self) -> list[Path]:
        """Return the folders that may be bundles, by name; the path itself when it is one.

        Raises:
            RepositoryError: the folder is missing or cannot be read.
        """
        if self.is_bundle:
            return [self.path]
        try:
            with os.scandir(self.path) as items:
                return sorted(self.path / item.name for item in items if _may_be_bundle(item))
        except OSError as error:
            reason = f"the folder cannot be read ({error.strerror})"
            raise RepositoryError(self.path, reason) from error

    def entries(self) -> list[Entry]:
        """Read the manifest of each folder.

        Raises:
            RepositoryError: the folder is missing or cannot be read.
        """
        return [self._entry(folder) for folder in self.folders()]

    def find(self, name: str) -> Entry:
        """Return the bundle of a folder name, a version, or a version's first 4 or more digits.

        Raises:
            NotThereError, AmbiguousError, UnreadableError: no bundle, or not one, can be meant.
            RepositoryError: the folder cannot be read.
        """
        entries = self.entries()
        if _VERSION_PREFIX.fullmatch(name) and not _matches(entries, name):
            versions = {entry.version or "" for entry in entries}
            matches = sorted(version for version in versions if version.startswith(name))
            if len(matches) > 1:
                reason = f"{len(matches)} versions begin with {name!r}: {', '.join(matches[:4])}"
                raise AmbiguousError(self.path, reason)
            name = matches[0] if matches else name
        return self._only(entries, name)

    def choice(self) -> Choice:
        """Return the bundle to serve now.

        Raises:
            NotThereError, AmbiguousError, UnreadableError: the pointer names no bundle, or not one.
            RepositoryError: the pointer or the folder cannot be read, or holds no bundle.
        """
        if self.is_bundle:
            return Choice(self._entry(self.path), self.path.resolve(), "path")
        # The pointer first: a bundle that is added before it is pointed to is always found.
        pointer = self.pointer()
        entries = self.entries()
        if pointer is None:
            newest = self._newest(entries)
            return Choice(newest, newest.path.resolve(), "newest")
        try:
            entry = self._only(entries, pointer)
        except RepositoryError as error:
            raise type(error)(self.path, f"the pointer {POINTER!r}: {error.reason}") from error
        return Choice(entry, entry.path.resolve(), "pointer")

    def activate(self, name: str) -> str | None:
        """Point to a bundle: by its folder when that is given, by its version otherwise.

        Returns:
            The version that was to be served before; None when there was none.

        Raises:
            OneBundleError: the path is itself a bundle.
            NotThereError, AmbiguousError, UnreadableError: as `find`.
            NotWritableError: the folder is read-only or full.
            RepositoryError: the folder cannot be read.
        """
        if self.is_bundle:
            raise OneBundleError(self.path, "it is one bundle; there is no other to choose")
        entry, previous = self.find(name), None
        with suppress(RepositoryError):
            previous = self.choice().entry.version
        self.point(entry.folder if name == entry.folder == name.strip() else entry.version or "")
        return previous

    def point(self, line: str | None) -> None:
        """Write the pointer's line, or remove the pointer.

        Raises:
            NotWritableError: the folder is read-only or full.
        """
        try:
            if line is None:
                (self.path / POINTER).unlink(missing_ok=True)
            else:
                write_atomically(self.path / POINTER, os.fsencode(f"{line}\n"))
        except OSError as error:
            by_hand = "remove that file" if line is None else f"write {line} into that file"
            reason = (
                f"the pointer {POINTER!r} cannot be written ({error.strerror}): "
                f"mount the folder writable, or {by_hand} by hand"
            )
            raise NotWritableError(self.path, reason) from error

    def _entry(self, folder: Path) -> Entry:
        """Describe a folder; the same manifests are read at every look, and parsed once."""
        try:
            text = read_manifest(folder)
        except BundleError as error:
            return Entry(folder.name, folder, reason=error.reason)
        digest = hashlib.sha256(text).digest()
        if (known := self._known.get(digest)) is None:
            if len(self._known) >= _MAX_KNOWN:
                self._known.clear()
            known = self._known[digest] = _described(text, folder)
        return replace(known, folder=folder.name, path=folder)

    def pointer(self) -> str | None:
        """Return the pointer's line, or None without a pointer.

        Raises:
            RepositoryError: the file cannot be read.
        """
        pointer = self.path / POINTER
        try:
            return os.fsdecode(read_file(pointer, MAX_POINTER_BYTES)).strip()
        except IsADirectoryError:
            return POINTER
        except FileNotFoundError:
            return POINTER if pointer.is_symlink() else None
        except OSError as error:
            reason = f"the pointer {POINTER!r} cannot be read ({error.strerror})"
            raise RepositoryError(self.path, reason) from error

    def _only(self, entries: list[Entry], name: str) -> Entry:
        """Return the entry of a folder name or version; of copies of one version, the first."""
        matches = _matches(entries, name)
        if not matches:
            raise NotThereError(self.path, f"no folder or version is called {name[:80]!r}")
        if len({entry.version for entry in matches}) > 1:
            folders = " and ".join(entry.folder for entry in matches[:4])
            reason = f"{name!r} means folders of different versions: {folders}"
            raise AmbiguousError(self.path, reason)
        if matches[0].reason is not None:
            raise UnreadableError(self.path, f"{matches[0].folder}: {matches[0].reason}")
        return matches[0]

    def _newest(self, entries: list[Entry]) -> Entry:
        readable = [entry for entry in entries if entry.reason is None]
        if not readable:
            why = f"{entries[0].folder}: {entries[0].reason}" if entries else "no folder is in it"
            raise RepositoryError(self.path, f"it holds no bundle ({why})")
        return max(readable, key=lambda entry: entry.age)


def fingerprint(folder: Path) -> Fingerprint | None:
    """Return the manifest's real path and the state of all files, two levels deep.

    None where there is no manifest.
    """
    try:
        return (folder / MANIFEST).resolve(strict=True), *sorted(_stats(folder, levels=2))
    except (OSError, RuntimeError):  # RuntimeError: a link to itself
        return None


def _stats(folder: Path, *, levels: int) -> Iterator[tuple[str, int, int, int]]:
    with os.scandir(folder) as items:
        for item in items:
            with suppress(OSError):
                if not item.is_dir():
                    # No inode: some network file systems make one up at each call.
                    stat = item.stat()
                    yield item.path, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns
                elif levels > 1:
                    yield from _stats(Path(item.path), levels=levels - 1)


def _may_be_bundle(item: os.DirEntry[str]) -> bool:
    """Whether it is a folder or a link to one; a broken link is listed with its reason."""
    if item.name.startswith(".") or not item.name.isprintable():
        return False
    try:
        return item.is_dir() or (item.is_symlink() and not item.is_file())
    except OSError:
        return True


def _matches(entries: list[Entry], name: str) -> list[Entry]:
    return [entry for entry in entries if name in {entry.folder, entry.version}]


def _described(text: bytes, folder: Path) -> Entry:
    """Return the entry of a manifest."""
    try:
        manifest = Manifest.parse(text, folder)
    except BundleError as error:
        return Entry(folder.name, folder, reason=error.reason)
    if not _VERSION.fullmatch(manifest.version):
        return Entry(folder.name, folder, reason=f"{MANIFEST}: version: not 16 hex digits")
    created = manifest.created if manifest.created.tzinfo else manifest.created.replace(tzinfo=UTC)
    return Entry(folder.name, folder, manifest.name, manifest.version, created)


def write_atomically(target: Path, data: bytes) -> None:
    """Write a file so that no reader, second writer or crash ever meets a part of it."""
    handle, name = tempfile.mkstemp(prefix=f".{target.name}-", dir=target.parent)
    draft = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fchmod(handle, 0o644)
            os.fsync(handle)
        draft.replace(target)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    with suppress(OSError):  # the rename is done; not every file system makes it last at once
        _sync_folder(target.parent)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
