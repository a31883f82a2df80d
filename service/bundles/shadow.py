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
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from models import UNKNOWN, BundleError, Decisions, Manifest, Model
from models.schema import UNSEEN, Field, Matrix
from service.bundles.repository import Fingerprint, fingerprint
from service.bundles.schema_mapping import SchemaMapping, SchemaMismatchError
from service.observability.counters import Counters

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


Versions = tuple[str, str]
"""Of the bundle that answers, and of the shadow."""

_Piece = tuple[Manifest, Matrix, list[str], Decisions]
"""Answered records; a tuple, because one is made for every request."""


class Shadow:
    """Compares the verdicts of a second bundle with those that were answered.

    `against` is called by the thread that swaps bundles, its result by the event loop, `describe`
    by any thread; all else by the thread of `run`.

    Args:
        loader: returns the verified model of a folder, or raises `BundleError`.
        folder: of the second bundle; it is loaded again when its files change.
        clock: monotonic seconds.
        counters: count the records.
        totals: returns the counts of all workers; by default those of this one.
    """

    def __init__(
        self,
        loader: Callable[[Path], Model],
        folder: Path,
        clock: Callable[[], float],
        counters: Counters,
        totals: Callable[[], Counters] | None = None,
    ) -> None:
        self.loader, self.folder, self.clock, self.counters = loader, folder, clock, counters
        self.refused: str | None = None
        self._totals = totals or (lambda: counters)
        self._served: Manifest | None = None
        self._base: Model | None = None  # as it is in its folder
        self._loaded: Model | None = None  # with the classes that were enrolled since
        self._enrol: Callable[[Model], Model] = _as_it_is
        self._enrolled_by: Callable[[Model], Model] = _as_it_is
        self._waiting: deque[_Piece] = deque()
        # Each is written by one thread, so neither needs a lock.
        self._offered = self._taken = 0
        self._examples: deque[tuple[Versions, dict[str, Any]]] = deque(maxlen=_EXAMPLES)
        self._fingerprint: Fingerprint | None = ()
        self._polled_at = -np.inf
        self._checked: Versions | None = None
        self._mapped: Versions | None = None

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

    def against(self, model: Model, enrol: Callable[[Model], Model] | None = None) -> Compare:
        """Compare with this model from now on; counts of another bundle start anew.

        Args:
            model: that answers.
            enrol: returns the shadow's model with the classes that were enrolled in this one.

        Returns:
            A function that takes the model's answers.
        """
        self._served, self._enrol = model.manifest, enrol or _as_it_is
        return partial(self.offer, model.manifest)

    def offer(
        self, served: Manifest, matrix: Matrix, labels: list[str], decisions: Decisions
    ) -> None:
        """Queue answered records, or skip them."""
        if (loaded := self._loaded) is None:
            return
        records = len(labels)
        if self._offered - self._taken + records > _MAX_WAITING:
            self.counters.skip_shadow((served.version, loaded.manifest.version), records)
            return
        self._offered += records
        for start in range(0, records, _CHUNK):
            rows = slice(start, start + _CHUNK)
            # A copy, or all of the request's matrix would stay in memory.
            self._waiting.append((served, matrix[rows].copy(), labels[rows], decisions[rows]))

    def step(self) -> None:
        """Check the folder if it is time, and compare some of the records that wait."""
        if self.clock() - self._polled_at >= _POLL_SECONDS:
            self._polled_at = self.clock()
            self._poll()
        if self._base is not None and self._enrolled_by is not (enrol := self._enrol):
            self._loaded, self._checked = enrol(self._base), None
            self._enrolled_by = enrol
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
            report["bundle"] = _name(loaded.manifest)
        if served is not None:
            report["against"] = _name(served)
        if refused is not None:
            report["refused"] = refused
        counts: dict[tuple[str, str], int] = {}
        skipped, examples = 0, list[dict[str, Any]]()
        if served is not None and loaded is not None:
            versions = served.version, loaded.manifest.version
            counters = self._totals()
            counts = dict(counters.shadow.get(versions, {}))
            skipped = counters.shadow_skipped.get(versions, 0)
            examples = [shown for of, shown in list(self._examples) if of == versions]
            source, target = ([f.name for f in m.fields] for m in (served, loaded.manifest))
            report["missing"] = [name for name in target if name not in source]
            report["unused"] = [name for name in source if name not in target]
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
            loaded = self.loader(self.folder.resolve())
        except BundleError as error:
            self._refuse(error.reason)
        except Exception as error:
            log.exception("shadow failed", extra={"bundle": str(self.folder)})
            self._refuse(f"unexpected {type(error).__name__}; the log says more")
        else:
            self.refused, self._checked, self._base = None, None, loaded
            self._loaded, self._enrolled_by = loaded, _as_it_is
            manifest = loaded.manifest
            extra = {"bundle": manifest.name, "version": manifest.version}
            log.info("shadow loaded", extra=extra)

    def _check(self, served: Manifest, loaded: Model) -> None:
        """Check whether the shadow understands the records of the bundle that answers now."""
        versions = served.version, loaded.manifest.version
        if self._checked == versions:
            return
        self._checked = versions
        try:
            self._map(served, loaded.manifest)
        except SchemaMismatchError as error:
            if self.refused != str(error):
                self._log_refused(str(error))
            self.refused = str(error)
            return
        self.refused = None
        self.counters.count_shadow(versions, {(x, x): 0 for x in (*loaded.names, UNKNOWN)})

    def _map(self, served: Manifest, loaded: Manifest) -> SchemaMapping:
        """Return the mapping between two bundles; the last one is kept."""
        versions = served.version, loaded.version
        if self._mapped != versions:
            if served.adapted != loaded.adapted:
                raise SchemaMismatchError(
                    "one of the two bundles was trained on records at the levels of their sites, "
                    "and the other was not"
                )
            self._mapping = SchemaMapping(served.fields, loaded.fields)
            self._mapped = versions
        return self._mapping

    def _refuse(self, reason: str) -> None:
        """Stop comparing until the files change."""
        self._log_refused(reason)
        self._base = self._loaded = None
        self.refused = reason

    def _log_refused(self, reason: str) -> None:
        log.error("shadow refused", extra={"bundle": str(self.folder), "reason": reason})

    def _compare_some(self) -> None:
        pieces = [self._waiting.popleft()]
        version, records = pieces[0][0].version, len(pieces[0][2])
        while records < _CHUNK and self._waiting and self._waiting[0][0].version == version:
            pieces.append(self._waiting.popleft())
            records += len(pieces[-1][2])
        start = self.clock()
        try:
            if (loaded := self._loaded) is not None:
                self._compare(loaded, pieces)
                time.sleep(max(self.clock() - start, _PAUSE_SECONDS))
        except SchemaMismatchError:  # of the bundle that answered before this one
            pass
        finally:
            self._taken += records

    def _compare(self, loaded: Model, pieces: list[_Piece]) -> None:
        served = pieces[0][0]
        matrix = np.concatenate([matrix for _, matrix, _, _ in pieces])
        labels = [label for _, _, labels, _ in pieces for label in labels]
        distance = np.concatenate([decisions.distance for *_, decisions in pieces])
        confidence = np.concatenate([decisions.confidence for *_, decisions in pieces])
        converted, fits = self._map(served, loaded.manifest).convert(matrix)
        decisions = loaded.decide(converted)
        names = np.array([*loaded.names, UNKNOWN], dtype=object)
        theirs = names[np.where(decisions.accepted, decisions.nearest, -1)]
        theirs[~fits] = UNFIT
        versions = served.version, loaded.manifest.version
        self.counters.count_shadow(versions, Counter(zip(labels, theirs.tolist(), strict=True)))
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
            pairs = zip(served.fields, matrix[row], strict=True)
            shown["record"] = {field.name: _value(field, value) for field, value in pairs}
            self._examples.append((versions, shown))


def _as_it_is(model: Model) -> Model:
    return model


def _name(manifest: Manifest) -> dict[str, str]:
    return {"name": manifest.name, "version": manifest.version}


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


def _value(field: Field, value: np.float32) -> object:
    unseen = field.kind == "category" and value == UNSEEN
    return _UNSEEN_TEXT if unseen else field.value_of(value)
