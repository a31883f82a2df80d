"""Shadow: a second bundle that classifies the same records silently. Could it take over?

Answers are offered to it; its thread decides on the records again and counts where the two bundles
agree. A request only pays for an entry in a queue, and never waits: what does not fit into the
queue is skipped, and a shadow that fails stops comparing until its files change.

The schemas may differ. Records are converted by the names of their fields, as the running bundle
has read them, so the text of a category that it does not know is lost. A record that the shadow
would reject gets the label `(unfit)`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from models import UNKNOWN, BundleError, Decisions, Model
from models.schema import UNSEEN, Field, Matrix, Schema
from service.bundles.repository import Fingerprint, fingerprint
from service.bundles.schema_mapping import SchemaMapping, SchemaMismatchError
from service.observability.counters import Tally

__all__ = ["UNFIT", "Compare", "Shadow"]

UNFIT = "(unfit)"
"""The shadow's label of a record that does not fit its schema."""

Compare = Callable[[Matrix, list[str], Decisions], None]
"""Takes what was answered: float32 [n, fields], the labels, and the decisions behind them."""

_MAX_WAITING = 20_000
"""Records in the queue."""
_CHUNK = 500
"""Records decided on together, about."""
_PAUSE_SECONDS = 0.002
"""Shortest pause after a chunk; it is never shorter than the chunk took: at most half a core."""
_IDLE_SECONDS = 0.05
_POLL_SECONDS = 2.0
"""Between two checks of the shadow's folder."""
_EXAMPLES = 20
_UNSEEN_TEXT = "(not seen in training)"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class _Served:
    """The bundle that answers."""

    name: str
    version: str
    schema: Schema


Versions = tuple[str, str]
"""Of the bundle that answers, and of the shadow."""

_Piece = tuple[_Served, Matrix, list[str], Decisions]
"""Answered records; a tuple, because one is made for every request."""


class _Loaded:
    """The shadow's model with its labels, `unknown` last."""

    def __init__(self, model: Model) -> None:
        self.model, self.version = model, model.manifest.version
        self.labels = np.array([*model.names, UNKNOWN], dtype=object)
        self._mapping: tuple[_Served, SchemaMapping] | None = None

    def mapping_from(self, served: _Served) -> SchemaMapping:
        """Return the mapping of a bundle's records; raise `SchemaMismatchError` without one."""
        if self._mapping is None or self._mapping[0] is not served:
            self._mapping = served, SchemaMapping(served.schema, self.model.schema)
        return self._mapping[1]


class Shadow:
    """Compares the verdicts of a second bundle with those that were answered.

    `against` is called by the thread that swaps bundles, its result by the event loop, `describe`
    by any thread; all else by the thread of `run`.

    Args:
        loader: returns the verified model of a folder, or raises `BundleError`.
        folder: of the second bundle; it is loaded again when its files change.
        clock: monotonic seconds.
        tally: counts the records.
        together: returns the counts of all workers; by default those of this one.
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
        # Each is written by one thread, so neither needs a lock.
        self._offered = self._taken = 0
        self._examples: deque[tuple[Versions, dict[str, Any]]] = deque(maxlen=_EXAMPLES)
        self._fingerprint: Fingerprint | None = ()
        self._polled_at = -np.inf
        self._checked: tuple[_Served, str] | None = None

    def run(self, stop: threading.Event) -> None:
        """Load the bundle and compare, until `stop` is set."""
        while not stop.is_set():
            try:
                self.step()
            except Exception as error:  # whatever it is, what is served goes on
                log.exception("shadow failed")
                self._refuse(f"unexpected {type(error).__name__}; the log says more")
            if not self._waiting:
                stop.wait(_IDLE_SECONDS)

    def against(self, model: Model) -> Compare:
        """Compare with this model from now on; counts of another bundle start anew.

        Returns:
            A function that takes the model's answers.
        """
        manifest, served = model.manifest, self._served
        if served is None or served.version != manifest.version:
            served = _Served(manifest.name, manifest.version, model.schema)
            self._served = served
        return partial(self.offer, served)

    def offer(
        self, served: _Served, matrix: Matrix, labels: list[str], decisions: Decisions
    ) -> None:
        """Queue answered records, or skip them; the arguments must not change afterwards."""
        if (loaded := self._loaded) is None:
            return
        records = len(labels)
        if self._offered - self._taken + records > _MAX_WAITING:
            self.tally.skip_shadow((served.version, loaded.version), records)
            return
        whole = matrix.base
        if isinstance(whole, np.ndarray) and whole.size > 2 * matrix.size:
            matrix = matrix.copy()  # or all of it would stay in memory
        self._offered += records
        self._waiting.append((served, matrix, labels, decisions))

    def step(self) -> None:
        """Check the folder if it is time, and compare some of the records that wait."""
        if self.clock() - self._polled_at >= _POLL_SECONDS:
            self._polled_at = self.clock()
            self._poll()
        if (served := self._served) is not None and (loaded := self._loaded) is not None:
            self._check(served, loaded)
        if self._waiting:
            self._compare_some()

    def describe(self, *, records: bool = False) -> dict[str, Any]:
        """Return the comparison as JSON values; takes milliseconds: not for the event loop.

        Args:
            records: whether to include the records that the two bundles label differently.
        """
        served, loaded, refused = self._served, self._loaded, self.refused
        report: dict[str, Any] = {}
        if loaded is not None:
            report["bundle"] = {"name": loaded.model.manifest.name, "version": loaded.version}
        if served is not None:
            report["against"] = {"name": served.name, "version": served.version}
        if refused is not None:
            report["refused"] = refused
        counts: dict[tuple[str, str], int] = {}
        skipped, examples = 0, list[dict[str, Any]]()
        if served is not None and loaded is not None:
            versions = served.version, loaded.version
            tally = self._together()
            counts = dict(tally.shadow.get(versions, {}))
            skipped = tally.shadow_skipped.get(versions, 0)
            examples = [shown for of, shown in list(self._examples) if of == versions]
            source, target = served.schema.names, loaded.model.schema.names
            report["missing"] = [name for name in target if name not in set(source)]
            report["unused"] = [name for name in source if name not in set(target)]
        total, agreed = sum(counts.values()), sum(n for (a, b), n in counts.items() if a == b)
        if not records:
            examples = [{k: v for k, v in shown.items() if k != "record"} for shown in examples]
        return report | {
            "records": total,
            "skipped": skipped,
            "agreement": agreed / total if total else None,
            "classes": _by_class(counts),
            "disagreements": examples[::-1],
        }

    def _poll(self) -> None:
        """Load the bundle if its files have changed."""
        current = fingerprint(self.folder)
        if current == self._fingerprint:
            return
        self._fingerprint = current
        try:
            loaded = _Loaded(self.loader(self.folder.resolve()))
        except BundleError as error:
            self._refuse(error.reason)
        except Exception as error:
            log.exception("shadow failed", extra={"bundle": str(self.folder)})
            self._refuse(f"unexpected {type(error).__name__}; the log says more")
        else:
            self.refused, self._checked, self._loaded = None, None, loaded
            extra = {"bundle": loaded.model.manifest.name, "version": loaded.version}
            log.info("shadow loaded", extra=extra)

    def _check(self, served: _Served, loaded: _Loaded) -> None:
        """Check whether the shadow understands the records of the bundle that answers now."""
        if self._checked == (served, loaded.version):
            return
        self._checked = served, loaded.version
        try:
            loaded.mapping_from(served)
        except SchemaMismatchError as error:
            if self.refused != str(error):
                self._log_refused(str(error))
            self.refused = str(error)
            return
        self.refused = None
        versions = served.version, loaded.version
        self.tally.count_shadow(versions, {(label, label): 0 for label in loaded.labels})

    def _refuse(self, reason: str) -> None:
        """Stop comparing until the files change."""
        self._log_refused(reason)
        self._loaded, self.refused = None, reason

    def _log_refused(self, reason: str) -> None:
        log.error("shadow refused", extra={"bundle": str(self.folder), "reason": reason})

    def _compare_some(self) -> None:
        pieces = [self._waiting.popleft()]
        served, _, labels, _ = pieces[0]
        records = len(labels)
        while records < _CHUNK and self._waiting and self._waiting[0][0] is served:
            pieces.append(self._waiting.popleft())
            records += len(pieces[-1][2])
        try:
            if (loaded := self._loaded) is not None:
                self._compare_all(loaded, pieces)
        except SchemaMismatchError:  # of the bundle that answered before this one
            pass
        finally:
            self._taken += records

    def _compare_all(self, loaded: _Loaded, pieces: list[_Piece]) -> None:
        served = pieces[0][0]
        matrix = np.concatenate([matrix for _, matrix, _, _ in pieces])
        labels = [label for _, _, labels, _ in pieces for label in labels]
        distance = np.concatenate([decisions.distance for *_, decisions in pieces])
        confidence = np.concatenate([decisions.confidence for *_, decisions in pieces])
        for first in range(0, len(labels), _CHUNK):
            start, rows = self.clock(), slice(first, first + _CHUNK)
            self._compare(
                loaded, served, matrix[rows], labels[rows], distance[rows], confidence[rows]
            )
            time.sleep(max(self.clock() - start, _PAUSE_SECONDS))

    def _compare(
        self,
        loaded: _Loaded,
        served: _Served,
        matrix: Matrix,
        labels: list[str],
        distance: Matrix,
        confidence: Matrix,
    ) -> None:
        converted, fits = loaded.mapping_from(served).convert(matrix)
        decisions = loaded.model.decide(converted)
        theirs = loaded.labels[np.where(decisions.accepted, decisions.nearest, -1)]
        theirs[~fits] = UNFIT
        versions = served.version, loaded.version
        self.tally.count_shadow(versions, Counter(zip(labels, theirs.tolist(), strict=True)))
        now = datetime.now(UTC)
        for row in np.flatnonzero(theirs != np.array(labels, dtype=object))[-_EXAMPLES:]:
            shown: dict[str, Any] = {
                "time": now,
                "label": labels[row],
                "distance": float(distance[row]),
                "confidence": float(confidence[row]),
                "shadow_label": theirs[row],
            }
            if fits[row]:
                shown["shadow_distance"] = float(decisions.distance[row])
                shown["shadow_confidence"] = float(decisions.confidence[row])
            pairs = zip(served.schema.fields, matrix[row], strict=True)
            shown["record"] = {field.name: _value(field, value) for field, value in pairs}
            self._examples.append((versions, shown))


def _by_class(counts: dict[tuple[str, str], int]) -> list[dict[str, Any]]:
    """Group the counts by the answered label, most records first."""
    classes: dict[str, dict[str, int]] = {}
    for (label, other), number in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        if number:
            classes.setdefault(label, {})[other] = number
    described = [
        {
            "label": label,
            "records": (total := sum(others.values())),
            "agreement": others.get(label, 0) / total,
            "shadow": others,
        }
        for label, others in classes.items()
    ]
    return sorted(described, key=lambda entry: (-entry["records"], entry["label"]))


def _value(found: Field, value: np.float32) -> object:
    if np.isnan(value):
        return None
    match found.kind:
        case "boolean":
            return bool(value)
        case "category":
            return _UNSEEN_TEXT if value == UNSEEN else found.categories[int(value)]
        case _:
            return float(str(value))  # 0.1, not 0.10000000149011612
