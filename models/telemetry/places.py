"""Where keys and series have their place: slots, ids, and which series belong to a key."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from models.telemetry.points import ELSEWHERE, REFUSED, UNMAPPED, Series
from models.telemetry.records import Counts
from models.telemetry.share import Share
from models.telemetry.snapshot import cut, ragged
from models.telemetry.views import Views

__all__ = ["Members", "Places", "series_of"]

_ID = (1 << 32) - 1
_SHAPES = 1000
"""Arrays that keys may share."""
_FRESH, _PART = 32, 16
"""So many fresh views of a key are moved into its arrays, or such a part of what these hold."""


@dataclass(slots=True)
class Members:
    """The series of a key.

    Attributes:
        first: the smallest id.
        order: ids less the smallest, in the order of the names of the series, which no order of
            arrival changes: int32 [n].
        views: each view of each series, ascending, and those of a view in the order of `series`:
            int16 [m].
        at: index in `series` of each of these: int32 [m].
        fresh: views of series that are not in these yet: view << 32 | id; None if there are none.
    """

    first: int
    order: NDArray[np.int32]
    views: NDArray[np.int16]
    at: NDArray[np.int32]
    fresh: array[int] | None = None

    @classmethod
    def of(cls, series: NDArray[np.int32], views: NDArray[np.int16], at: NDArray[np.int32]) -> Self:
        """Return the members that series are."""
        first = int(series.min()) if len(series) else 0
        return cls(first, series - np.int32(first), views, at)

    def __len__(self) -> int:
        return len(self.order)

    @property
    def series(self) -> NDArray[np.int32]:
        """Their ids, in the order of their names: int32 [n]."""
        return self.order + np.int32(self.first)


def series_of(members: Sequence[Members]) -> NDArray[np.intp]:
    """Return the series of keys, one key after the other."""
    series = np.concatenate([member.order for member in members], dtype=np.intp)
    series += np.repeat(
        np.array([member.first for member in members]), [len(member) for member in members]
    )
    return series


class Places:
    """Gives keys their slots and series their ids, up to limits.

    Attributes:
        keys: values of the key's tags, by slot.
        slots: slots by these.
        count: number of series.
        key: slot of each series' key: int32 [max_series].
        reading: number of its reading: int16 [max_series].
        view: number of its first view: int16 [max_series].
        delta: whether its values are increases: bool [max_series].
        deltas: whether any series' are.
        name: hash of its name: uint64 [max_series].
        unkeyed: a metric that lacked a tag of the key, with its tags; None if there was none.
    """

    def __init__(
        self, views: Views, counts: Counts, max_keys: int, max_series: int, share: Share
    ) -> None:
        self._views, self._counts, self._share_of_keys = views, counts, share
        self.max_keys, self.max_series = max_keys, max_series
        self.keys: list[tuple[str, ...]] = []
        self.slots: dict[tuple[str, ...], int] = {}
        self.count = 0
        self.key = np.empty(max_series, np.int32)
        self.reading = np.empty(max_series, np.int16)
        self.view = np.empty(max_series, np.int16)
        self.delta = np.empty(max_series, np.bool_)
        self.deltas = False
        self.name = np.empty(max_series, np.uint64)
        self.unkeyed: Series | None = None
        self._members: list[Members] = []
        self._shapes: dict[tuple[str, bytes], NDArray[Any]] = {}

    def place(self, series: Series) -> int:
        """Return the id of a series, which may have one already, or why it has none."""
        found = self._views.match(series)
        if found is None:
            return UNMAPPED
        key = self._key_of(series)
        if key is None:
            self.unkeyed = self.unkeyed or series
            return UNMAPPED
        if not self.owns(key):
            return ELSEWHERE
        slot = self.slots.get(key)
        if slot is None:
            if len(self.keys) >= self.max_keys:
                self._counts.refused_keys += 1
                return REFUSED
            slot = self.slots[key] = len(self.keys)
            self.keys.append(key)
            nothing = np.empty(0, np.int32)
            self._members.append(Members.of(nothing, nothing.astype(np.int16), nothing))
        members, name = self._members[slot], _name_of(series, self._views.mapping.key)
        known = self._known(members, name)
        if known is not None:
            return known
        if self.count >= self.max_series:
            self._counts.refused_series += 1
            return REFUSED
        placed = self.count
        reading, views = found
        self.key[placed], self.reading[placed] = slot, reading
        self.view[placed], self.delta[placed] = views[0], series.delta
        self.deltas |= series.delta
        self.name[placed] = name
        members.fresh = members.fresh or array("q")
        members.fresh.extend([view << 32 | placed for view in views])
        self.count += 1  # only now, so that a try that fails uses up no id
        if len(members.fresh) >= max(_FRESH, len(members) // _PART):
            self._members[slot] = self._settled(members, members.fresh)
        return placed

    def owns(self, key: tuple[str, ...]) -> bool:
        """Return whether the points of a key are taken here."""
        return self._share_of_keys.owns(key)

    def members(self, slot: int) -> Members:
        """Return the series of a key, all of them in the arrays."""
        members = self._members[slot]
        if members.fresh:
            members = self._members[slot] = self._settled(members, members.fresh)
        return members

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the state of all series, to read or to fill."""
        names = "key", "reading", "view", "delta", "name"
        return {f"series {name}": getattr(self, name)[: self.count] for name in names}

    def pack(self) -> tuple[dict[str, object], dict[str, NDArray[Any]]]:
        """Return the rest of the state: what fits into JSON, and arrays."""
        members = [self.members(slot) for slot in range(len(self.keys))]
        return {"keys": self.keys, "series": self.count, "deltas": self.deltas}, {
            **ragged("member series", (member.series for member in members), np.int32),
            **ragged("member views", (member.views for member in members), np.int16),
            **ragged("member at", (member.at for member in members), np.int32),
        }

    def unpack(self, meta: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take up what `pack` returned."""
        self.keys = [tuple(key) for key in meta["keys"]]
        self.slots = {key: slot for slot, key in enumerate(self.keys)}
        self.count, self.deltas = meta["series"], meta["deltas"]
        parts = [cut(f"member {name}", arrays) for name in ("series", "views", "at")]
        self._members = [self._alike(Members.of(*columns)) for columns in zip(*parts, strict=True)]

    def _key_of(self, series: Series) -> tuple[str, ...] | None:
        try:
            return tuple([series.tags[tag] for tag in self._views.mapping.key])
        except KeyError:
            return None

    def _known(self, members: Members, name: int) -> int | None:
        """Return the id of the series of a key that has this name, if there is one."""
        first, order = members.first, members.order
        at = bisect_left(order, name, key=lambda one: int(self.name[first + one]))
        if at < len(order) and self.name[first + order[at]] == name:
            return first + int(order[at])
        fresh = np.array(members.fresh or (), np.int64) & _ID
        same = fresh[self.name[fresh] == name]
        return int(same[0]) if len(same) else None

    def _settled(self, members: Members, views_of_ids: array[int]) -> Members:
        """Return the members of a key with what is fresh in the arrays."""
        fresh = np.array(views_of_ids, np.int64)
        views = np.concatenate([members.views, fresh >> 32])
        series = np.concatenate([members.series[members.at], fresh & _ID])
        joined = np.unique(series)
        joined = joined[np.argsort(self.name[joined])].astype(np.int32)
        at = np.searchsorted(self.name[joined], self.name[series])
        order = np.lexsort((at, views))
        return self._alike(
            Members.of(joined, views[order].astype(np.int16), at[order].astype(np.int32))
        )

    def _alike(self, members: Members) -> Members:
        """Let keys of like series have the same arrays, such as routers of one kind."""
        for name in "order", "views", "at":
            if len(self._shapes) >= _SHAPES:
                self._shapes.clear()
            own = getattr(members, name)
            shape = own.dtype.char, own.tobytes()
            setattr(members, name, self._shapes.setdefault(shape, own))
        return members


def _name_of(series: Series, key: tuple[str, ...]) -> int:
    """Return a number that tells a series from all others of its key, whoever sends it."""
    own = sorted([tag for tag in series.tags if tag not in key])
    tags = "\x01".join([f"{tag}\x02{series.tags[tag]}" for tag in own])
    text = f"{series.name}\x00{tags}\x00{series.delta:d}"
    return int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest())
