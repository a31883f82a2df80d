"""A second bundle that classifies the same records silently: could it take over?

What is answered is offered to it; a thread of its own decides on it again and counts where the two
agree. Traffic pays for an entry in a queue, and never waits: what does not fit into the queue is
skipped, and a shadow that fails compares no more until its files change.

The schemas may differ. Records are handed over by the names of their fields, as the running bundle
has read them, so of a category that it does not know the text is lost. What the shadow would not
take has the label `(unfit)`: after a switch it would be refused.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from models import UNKNOWN, BundleError, Decisions, Model
from models.schema import UNSEEN, Field, Matrix, Schema
from service.bundles.repository import MANIFEST
from service.observability.counters import Tally

__all__ = ["UNFIT", "Compare", "Shadow"]

UNFIT = "(unfit)"
"""Stands for the shadow's label of a record that does not fit its schema."""

Compare = Callable[[Matrix, list[str], Decisions], None]
"""Takes what was answered: float32 [n, fields], the labels, and the decisions behind them."""

_WAITING = 20_000
"""Records that wait, at most."""
_CHUNK = 500
"""Records that are decided on together, about."""
_REST_SECONDS = 0.002
"""After a chunk, at least; and never less than it took: half a core, and not in one go."""
_IDLE_SECONDS = 0.05
_LOOK_SECONDS = 2.0
"""Between two looks at the shadow's folder."""
_STOP_SECONDS = 2.0
"""How long the end waits for a bundle that is loading."""
_EXAMPLES = 20
_UNSEEN_TEXT = "(not seen in training)"

log = logging.getLogger(__name__)

Flags = npt.NDArray[np.bool_]
_Print = tuple[object, ...]


class _UnlikeError(ValueError):
    """Two schemas that have not enough in common; the message says why."""


@dataclass(frozen=True, slots=True, eq=False)
class _Served:
    """The bundle that answers."""

    name: str
    version: str
    schema: Schema


_Piece = tuple[_Served, Matrix, list[str], Decisions]
"""Records that were answered; a tuple, because one is made for every request."""


@dataclass(frozen=True, slots=True)
class _Example:
    """A record on which the two do not agree.

    Attributes:
        versions: of both bundles.
        said: what is told of it to everyone.
        schema: of the record.
        row: float32 [fields].
    """

    versions: tuple[str, str]
    said: dict[str, Any]
    schema: Schema
    row: Matrix


@dataclass(slots=True)
class _Loaded:
    """The shadow.

    Attributes:
        model: its model.
        words: its labels, `unknown` last.
        columns: from the records of a bundle to its own, for the bundle that was asked last.
    """

    model: Model
    words: npt.NDArray[np.object_] = field(init=False)
    columns: tuple[_Served, _Columns] | None = None

    def __post_init__(self) -> None:
        self.words = np.array([*self.model.names, UNKNOWN], dtype=object)

    @property
    def version(self) -> str:
        return self.model.manifest.version

    def columns_from(self, served: _Served) -> _Columns:
        """From the records of a bundle to its own.

        Raises:
            _UnlikeError: there is no way.
        """
        if self.columns is None or self.columns[0] is not served:
            self.columns = served, _Columns(served.schema, self.model.schema)
        return self.columns[1]


class Shadow:
    """Compares what a second bundle says with what was answered.

    `against` is for the thread that swaps bundles, what it gives for the event loop, and `describe`
    for any; all else happens in the thread that `start` starts.

    Args:
        loader: gives the verified model of a folder, or raises `BundleError`.
        folder: of the second bundle; it is looked at again when its files change.
        clock: seconds that only go forward.
        tally: where records are counted.
        together: gives the counts of all workers; those of this one unless given.
    """

    def __init__(
        self,
        loader: Callable[[Path], Model],
        folder: Path,
        clock: Callable[[], float],
        tally: Tally,
        together: Callable[[], Tally] | None = None,
    ) -> None:
        self.loader, self.folder, self.clock, self.tally = loader, folder, clock, tally
        self.refused: str | None = None
        self._together = together or (lambda: tally)
        self._served: _Served | None = None
        self._loaded: _Loaded | None = None
        self._waiting: deque[_Piece] = deque()
        # Each has one thread that writes it, so neither needs a lock.
        self._offered = self._taken = 0
        self._examples: deque[_Example] = deque(maxlen=_EXAMPLES)
        self._seen: _Print | None = None
        self._looked = -np.inf
        self._checked: tuple[_Served, str] | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Load the bundle and compare, in a thread of its own; a daemon, so it delays no end."""
        self._thread = threading.Thread(target=self._run, name="shadow", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End that."""
        self._stop.set()
        if self._thread is not None:
            # onnxruntime aborts the process when that ends while it reads a graph.
            self._thread.join(_STOP_SECONDS)

    def against(self, model: Model) -> Compare:
        """Compare with this model from now on; counts of another bundle start anew.

        Args:
            model: that answers.

        Returns:
            What to offer its answers to.
        """
        manifest, served = model.manifest, self._served
        if served is None or served.version != manifest.version:
            served = _Served(manifest.name, manifest.version, model.schema)
            self._served = served
        return partial(self.offer, served)

    def offer(
        self, served: _Served, matrix: Matrix, labels: list[str], decisions: Decisions
    ) -> None:
        """Put what was answered into the queue, or skip it; none of it may change any more."""
        if (loaded := self._loaded) is None:
            return
        records = len(labels)
        if self._offered - self._taken + records > _WAITING:
            self.tally.skip_shadow((served.version, loaded.version), records)
            return
        whole = matrix.base
        if isinstance(whole, np.ndarray) and whole.size > 2 * matrix.size:
            matrix = matrix.copy()  # or all of it would stay
        self._offered += records
        self._waiting.append((served, matrix, labels, decisions))

    def step(self) -> None:
        """Look at the folder if it is time, and compare some of what waits."""
        if self.clock() - self._looked >= _LOOK_SECONDS:
            self._looked = self.clock()
            self._look()
        if (served := self._served) is not None and (loaded := self._loaded) is not None:
            self._check(served, loaded)
        if self._waiting:
            self._compare_some()

    def describe(self, *, records: bool = False) -> dict[str, Any]:
        """How the two compare; takes milliseconds: not for the event loop.

        Args:
            records: whether to show the records on which they do not agree.
        """
        served, loaded, refused = self._served, self._loaded, self.refused
        told: dict[str, Any] = {}
        if loaded is not None:
            manifest = loaded.model.manifest
            told["bundle"] = {"name": manifest.name, "version": manifest.version}
        if served is not None:
            told["against"] = {"name": served.name, "version": served.version}
        if refused is not None:
            told["refused"] = refused
        counts: dict[tuple[str, str], int] = {}
        skipped, examples = 0, list[_Example]()
        if served is not None and loaded is not None:
            versions = served.version, loaded.version
            tally = self._together()
            counts = dict(tally.shadow.get(versions, {}))
            skipped = tally.shadow_skipped.get(versions, 0)
            examples = [each for each in list(self._examples) if each.versions == versions]
            told |= _fields(served.schema, loaded.model.schema)
        total, agreed = sum(counts.values()), sum(n for (a, b), n in counts.items() if a == b)
        return told | {
            "records": total,
            "skipped": skipped,
            "agreement": agreed / total if total else None,
            "classes": _by_class(counts),
            "disagreements": [_told(each, records=records) for each in reversed(examples)],
        }

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self.step()
            except Exception as error:  # whatever it is, what is served goes on
                log.exception("shadow failed")
                self._refuse(f"unexpected {type(error).__name__}; the log says more")
            if not self._waiting:
                self._stop.wait(_IDLE_SECONDS)

    def _look(self) -> None:
        """Load the bundle if it is not the one that was seen last."""
        seen = _print(self.folder)
        if seen == self._seen:
            return
        self._seen = seen
        try:
            loaded = _Loaded(self.loader(self.folder.resolve()))
        except BundleError as error:
            self._refuse(error.reason)
        except Exception as error:
            log.exception("shadow failed", extra={"bundle": str(self.folder)})
            self._refuse(f"unexpected {type(error).__name__}; the log says more")
        else:
            self.refused, self._checked, self._loaded = None, None, loaded
            manifest = loaded.model.manifest
            extra = {"bundle": manifest.name, "version": manifest.version}
            log.info("shadow loaded", extra=extra)

    def _check(self, served: _Served, loaded: _Loaded) -> None:
        """See whether the shadow understands the records of the bundle that answers now."""
        if self._checked == (served, loaded.version):
            return
        self._checked = served, loaded.version
        try:
            loaded.columns_from(served)
        except _UnlikeError as error:
            if self.refused != str(error):
                log.error("shadow refused", extra=self._extra(str(error)))  # noqa: TRY400 - no trace
            self.refused = str(error)
            return
        self.refused = None
        labels = {*loaded.model.names, UNKNOWN}
        versions = served.version, loaded.version
        self.tally.count_shadow(versions, {(label, label): 0 for label in labels})

    def _refuse(self, reason: str) -> None:
        """Compare no more, until the files change."""
        log.error("shadow refused", extra=self._extra(reason))
        self._loaded, self.refused = None, reason

    def _extra(self, reason: str) -> dict[str, str]:
        return {"bundle": str(self.folder), "reason": reason}

    def _compare_some(self) -> None:
        chunks = [self._waiting.popleft()]
        served, _, labels, _ = chunks[0]
        records = len(labels)
        while records < _CHUNK and self._waiting and self._waiting[0][0] is served:
            chunks.append(self._waiting.popleft())
            records += len(chunks[-1][2])
        try:
            if (loaded := self._loaded) is not None:
                for some in _chunks(chunks):
                    start = self.clock()
                    self._compare(loaded, served, some)
                    self._stop.wait(max(self.clock() - start, _REST_SECONDS))
        except _UnlikeError:  # of the bundle that answered before this one
            pass
        finally:
            self._taken += records

    def _compare(self, loaded: _Loaded, served: _Served, some: _Chunk) -> None:
        matrix, fits = loaded.columns_from(served).take(some.matrix)
        theirs = loaded.model.decide(matrix)
        words = loaded.words[np.where(theirs.accepted, theirs.nearest, len(loaded.words) - 1)]
        words[~fits] = UNFIT
        said = words.tolist()
        versions = served.version, loaded.version
        self.tally.count_shadow(versions, Counter(zip(some.labels, said, strict=True)))
        places = [at for at, label in enumerate(said) if label != some.labels[at]][-_EXAMPLES:]
        now = datetime.now(UTC)
        for at in places:
            shown: dict[str, Any] = {
                "time": now,
                "label": some.labels[at],
                "distance": float(some.distance[at]),
                "confidence": float(some.confidence[at]),
                "shadow_label": said[at],
            }
            if fits[at]:
                shown["shadow_distance"] = float(theirs.distance[at])
                shown["shadow_confidence"] = float(theirs.confidence[at])
            row = some.matrix[at].copy()
            self._examples.append(_Example(versions, shown, served.schema, row))


@dataclass(frozen=True, slots=True)
class _Chunk:
    """Records that were answered, and what."""

    matrix: Matrix
    labels: list[str]
    distance: Matrix
    confidence: Matrix


def _chunks(chunks: list[_Piece]) -> Iterator[_Chunk]:
    matrix = _joined([matrix for _, matrix, _, _ in chunks])
    labels = [label for _, _, said, _ in chunks for label in said]
    distance = _joined([decisions.distance for _, _, _, decisions in chunks])
    confidence = _joined([decisions.confidence for _, _, _, decisions in chunks])
    for start in range(0, len(labels), _CHUNK):
        some = slice(start, start + _CHUNK)
        yield _Chunk(matrix[some], labels[some], distance[some], confidence[some])


def _joined(parts: list[Matrix]) -> Matrix:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


class _Columns:
    """From the records of one schema to those of another.

    Args:
        source: of the records.
        target: what they are to become.

    Raises:
        _UnlikeError: a field that is required is not there, or is another kind of thing.
    """

    def __init__(self, source: Schema, target: Schema) -> None:
        self.is_same = source.fields == target.fields
        self.places: list[tuple[int, int]] = []
        self.codes: dict[int, Matrix] = {}
        self.width = len(target)
        self.required = np.array([each.required for each in target.fields])
        places = {name: at for at, name in enumerate(source.names)}
        for at, wanted in enumerate(target.fields):
            place = places.get(wanted.name)
            if place is None:
                if wanted.required:
                    raise _UnlikeError(
                        f"it needs the field {wanted.name!r}, which the bundle that answers has not"
                    )
                continue
            there = source.fields[place]
            if _sort(there) != _sort(wanted):
                raise _UnlikeError(
                    f"the field {wanted.name!r} is a {wanted.kind} to it, and a {there.kind} to "
                    "the bundle that answers"
                )
            self.places.append((at, place))
            if wanted.kind == "category":
                self.codes[at] = _codes(there, wanted)

    def take(self, matrix: Matrix) -> tuple[Matrix, Flags]:
        """The records as the other schema has them: float32 [n, fields], and which of them fit."""
        if self.is_same:
            return matrix, np.ones(len(matrix), np.bool_)
        taken = np.full((len(matrix), self.width), np.nan, np.float32)
        fits = np.ones(len(matrix), np.bool_)
        for at, place in self.places:
            column = matrix[:, place]
            missing = np.isnan(column)
            if (codes := self.codes.get(at)) is not None:
                # The last code is that of what the source has not seen, -1.
                column = codes[np.where(missing, UNSEEN, column).astype(np.intp)]
                fits &= missing | ~np.isnan(column)
            taken[:, at] = np.where(missing, np.nan, column)
        fits &= ~(np.isnan(taken) & self.required).any(axis=1)
        return taken, fits


def _sort(found: Field) -> str:
    return found.kind if found.is_coded else "number"


def _codes(there: Field, wanted: Field) -> Matrix:
    """The code of each category of one field in the other, NaN where that does not take it."""
    codes, other = wanted.codes(), UNSEEN if wanted.open else np.nan
    return np.array([*(codes.get(name, other) for name in there.categories), other], np.float32)


def _fields(source: Schema, target: Schema) -> dict[str, list[str]]:
    """Which fields only one of them has."""
    here, there = set(source.names), set(target.names)
    return {
        "missing": [name for name in target.names if name not in here],
        "unused": [name for name in source.names if name not in there],
    }


def _by_class(counts: dict[tuple[str, str], int]) -> list[dict[str, Any]]:
    """The counts by the label that was answered, those of most records first."""
    classes: dict[str, dict[str, int]] = {}
    for (label, other), number in sorted(counts.items(), key=lambda each: (-each[1], each[0])):
        if number:
            classes.setdefault(label, {})[other] = number
    described = [
        {
            "label": label,
            "records": (total := sum(found.values())),
            "agreement": found.get(label, 0) / total,
            "shadow": found,
        }
        for label, found in classes.items()
    ]
    return sorted(described, key=lambda each: (-each["records"], each["label"]))


def _told(example: _Example, *, records: bool) -> dict[str, Any]:
    if not records:
        return example.said
    fields = example.schema.fields
    pairs = zip(fields, example.row, strict=True)
    return example.said | {"record": {each.name: _value(each, value) for each, value in pairs}}


def _value(found: Field, value: np.float32) -> object:
    unseen = found.kind == "category" and value == UNSEEN
    return _UNSEEN_TEXT if unseen else found.value_of(value)


def _print(folder: Path) -> _Print:
    """Differs when a bundle's files have changed; a manifest may come before the other files."""
    try:
        found = [(path.name, path.stat()) for path in folder.iterdir()]
        real: object = (folder / MANIFEST).resolve()
    except (OSError, RuntimeError) as error:  # RuntimeError: a link to itself
        return (repr(error),)
    return real, *sorted((n, s.st_size, s.st_mtime_ns, s.st_ctime_ns) for n, s in found)
