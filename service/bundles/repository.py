"""The shelf: a folder of bundles, which of them is to be served, and when that may have changed.

    bundles/              what FAULTCUBE_BUNDLE names; where it names one bundle, all is decided
      current             the pointer: one line, a sub-folder's name or a version; may be missing
      iosxr-2025-06/      a bundle
      iosxr -> /srv/b/7   followed wherever it leads: whoever may write here decides anyway
      .iosxr-x8d2/        hidden, a draft: passed over, as are files and names beyond one line

Without a pointer the newest bundle is served. Links are followed anew at every call, so they may
be swapped at any time. A `current` that is a folder, or a link to one, points to that.

RepositoryError               nothing can be served or chosen, and why
├── NotThereError        no bundle is called so
├── AmbiguousError       bundles of more than one version are called so
├── UnreadableError      the one that is called so has no manifest that can be read
├── OneBundleError       the path is itself a bundle
└── NotWritableError     the pointer cannot be written
"""

from __future__ import annotations

import os
import re
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal

import pydantic

from models import Manifest

__all__ = [
    "MANIFEST",
    "POINTER",
    "AmbiguousError",
    "BundleRepository",
    "Choice",
    "Entry",
    "NotThereError",
    "NotWritableError",
    "OneBundleError",
    "RepositoryError",
    "UnreadableError",
]

POINTER: Final = "current"
"""Name of the file that says which bundle is to be served."""

MANIFEST: Final = "manifest.json"
_VERSION = re.compile(r"[0-9a-f]{16}")
_BEGINNING = re.compile(r"[0-9a-f]{4,15}")
_LONGEST_POINTER = 1024


class RepositoryError(Exception):
    """Nothing can be served or chosen; the message is one line, names the path and says why."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path, self.reason = path, reason


class NotThereError(RepositoryError):
    """No bundle on the shelf is called so."""


class AmbiguousError(RepositoryError):
    """Bundles of more than one version are called so."""


class UnreadableError(RepositoryError):
    """The bundle that is called so has no manifest that can be read."""


class OneBundleError(RepositoryError):
    """The path is itself a bundle: there is nothing to choose."""


class NotWritableError(RepositoryError):
    """The pointer cannot be written."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A folder on the shelf, as its manifest has it; whether the rest is sound, a loader finds out.

    Attributes:
        folder: its name on the shelf.
        path: where it is, links not followed.
        name: of the model; None when the manifest cannot be read, as are the next two.
        version: hash of the content.
        created: when it was written; with a time zone, UTC when the manifest names none.
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
        """Larger for what is newer; of one instant, for the larger version."""
        return self.created or datetime.min.replace(tzinfo=UTC), self.version or "", self.folder


@dataclass(frozen=True, slots=True)
class Choice:
    """The bundle that is to be served.

    Attributes:
        entry: the folder on the shelf.
        folder: to load from: links are followed, so one swapped meanwhile does not mix two bundles.
        decided: what decided: the path, which is a bundle, the pointer, or that it is the newest.
    """

    entry: Entry
    folder: Path
    decided: Literal["path", "pointer", "newest"]


class BundleRepository:
    """The bundles that a service may serve.

    Args:
        path: a folder of bundles, or one bundle.
        settle_seconds: how long a bundle must be at rest before the watcher tells of it.
        sweep_seconds: how often the watcher looks where the operating system reports nothing:
            network file systems, links further up the path.
    """

    def __init__(
        self, path: str | Path, *, settle_seconds: float = 1.0, sweep_seconds: float = 5.0
    ) -> None:
        self.path = Path(path).absolute()
        self.settle_seconds, self.sweep_seconds = settle_seconds, sweep_seconds

    @property
    def is_bundle(self) -> bool:
        """Whether the path is itself a bundle."""
        return _is_there(self.path / MANIFEST)

    def folders(self) -> list[Path]:
        """Where bundles may be, by name: the path itself when it is one, or its sub-folders.

        Raises:
            RepositoryError: the folder is not there or cannot be read.
        """
        if self.is_bundle:
            return [self.path]
        try:
            with os.scandir(self.path) as found:
                return sorted(self.path / item.name for item in found if _may_be_bundle(item))
        except OSError as error:
            reason = f"the folder cannot be read ({error.strerror})"
            raise RepositoryError(self.path, reason) from error

    def entries(self) -> list[Entry]:
        """What each of the folders holds.

        Raises:
            RepositoryError: the folder is not there or cannot be read.
        """
        return [_entry(folder) for folder in self.folders()]

    def find(self, wanted: str) -> Entry:
        """The bundle of a folder's name, a version, or 4 or more digits that begin one version.

        Raises:
            NotThereError, AmbiguousError, UnreadableError: there is no such bundle, or not one.
            RepositoryError: the folder cannot be read.
        """
        entries = self.entries()
        if _BEGINNING.fullmatch(wanted) and not _called(entries, wanted):
            versions = {entry.version or "" for entry in entries}
            begun = sorted(version for version in versions if version.startswith(wanted))
            if len(begun) > 1:
                reason = f"{len(begun)} versions begin with {wanted!r}: {', '.join(begun[:4])}"
                raise AmbiguousError(self.path, reason)
            wanted = begun[0] if begun else wanted
        return self._only(entries, wanted)

    def choice(self) -> Choice:
        """The bundle that is to be served now.

        Raises:
            NotThereError, AmbiguousError, UnreadableError: the pointer names no bundle, or not one.
            RepositoryError: the pointer or the folder cannot be read, or holds no bundle.
        """
        if self.is_bundle:
            return Choice(_entry(self.path), self.path.resolve(), "path")
        # The pointer first: a bundle that is added before it is pointed to is always found.
        pointer = self._pointer()
        entries = self.entries()
        if pointer is None:
            newest = self._newest(entries)
            return Choice(newest, newest.path.resolve(), "newest")
        try:
            named = self._only(entries, pointer)
        except RepositoryError as error:
            raise type(error)(self.path, f"the pointer {POINTER!r}: {error.reason}") from error
        return Choice(named, named.path.resolve(), "pointer")

    def activate(self, wanted: str) -> str | None:
        """Point to a bundle: by its folder when that is what is given, by its version otherwise.

        Returns:
            The version that was to be served before; None when none was.

        Raises:
            OneBundleError: the path is itself a bundle.
            NotThereError, AmbiguousError, UnreadableError: as `find`.
            NotWritableError: the folder is read-only or full.
            RepositoryError: the folder cannot be read.
        """
        if self.is_bundle:
            raise OneBundleError(self.path, "it is one bundle; there is no other to choose")
        entry, previous = self.find(wanted), self._version()
        line = entry.folder if wanted == entry.folder == wanted.strip() else entry.version or ""
        try:
            _write_whole(self.path / POINTER, os.fsencode(f"{line}\n"))
        except OSError as error:
            reason = (
                f"the pointer {POINTER!r} cannot be written ({error.strerror}): "
                f"mount the folder writable, or write {line} into that file by hand"
            )
            raise NotWritableError(self.path, reason) from error
        return previous

    def _pointer(self) -> str | None:
        """What the pointer says, or None without one."""
        pointer = self.path / POINTER
        try:
            with pointer.open("rb") as file:
                line = os.fsdecode(file.read(_LONGEST_POINTER)).strip()
        except IsADirectoryError:
            return POINTER
        except FileNotFoundError:
            return POINTER if pointer.is_symlink() else None
        except OSError as error:
            reason = f"the pointer {POINTER!r} cannot be read ({error.strerror})"
            raise RepositoryError(self.path, reason) from error
        return line

    def _only(self, entries: list[Entry], wanted: str) -> Entry:
        """The entry that is called so; of several folders of one version any is as good."""
        found = _called(entries, wanted)
        if not found:
            raise NotThereError(self.path, f"no folder or version is called {wanted[:80]!r}")
        if len({entry.version for entry in found}) > 1:
            folders = " and ".join(entry.folder for entry in found[:4])
            reason = f"{wanted!r} means folders of different versions: {folders}"
            raise AmbiguousError(self.path, reason)
        if found[0].reason is not None:
            raise UnreadableError(self.path, f"{found[0].folder}: {found[0].reason}")
        return found[0]

    def _newest(self, entries: list[Entry]) -> Entry:
        readable = [entry for entry in entries if entry.reason is None]
        if not readable:
            why = f"{entries[0].folder}: {entries[0].reason}" if entries else "no folder is in it"
            raise RepositoryError(self.path, f"it holds no bundle ({why})")
        return max(readable, key=lambda entry: entry.age)

    def _version(self) -> str | None:
        try:
            return self.choice().entry.version
        except RepositoryError:
            return None


def _is_there(path: Path) -> bool:
    try:
        path.stat()
    except OSError:
        return False
    return True


def _may_be_bundle(item: os.DirEntry[str]) -> bool:
    """Whether it is a folder or a link to one; a link that leads nowhere is told of, not hidden."""
    if item.name.startswith(".") or not item.name.isprintable():
        return False
    try:
        return item.is_dir() or (item.is_symlink() and not item.is_file())
    except OSError:
        return True


def _called(entries: list[Entry], wanted: str) -> list[Entry]:
    return [entry for entry in entries if wanted in {entry.folder, entry.version}]


def _entry(folder: Path) -> Entry:
    try:
        manifest = Manifest.model_validate_json((folder / MANIFEST).read_bytes())
    except OSError as error:
        return Entry(folder.name, folder, reason=f"{MANIFEST} cannot be read ({error.strerror})")
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"])) or "document"
        return Entry(folder.name, folder, reason=f"{MANIFEST}: {place}: {first['msg']}")
    if not _VERSION.fullmatch(manifest.version):
        return Entry(folder.name, folder, reason=f"{MANIFEST}: version: not 16 hex digits")
    created = manifest.created if manifest.created.tzinfo else manifest.created.replace(tzinfo=UTC)
    return Entry(folder.name, folder, manifest.name, manifest.version, created)


def _write_whole(target: Path, data: bytes) -> None:
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
