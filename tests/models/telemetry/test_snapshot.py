"""Snapshots; that a restart changes no record is a part of test_assembler.py."""

from __future__ import annotations

from collections.abc import Hashable

import numpy as np
import pytest

from models.telemetry.assembler import Assembler
from models.telemetry.points import Series
from models.telemetry.snapshot import (
    SnapshotError,
    TransientToken,
    pack,
    pack_tokens,
    unpack,
    unpack_tokens,
)
from tests.support.feeds import GAUGE, Feed, feed_of, mapping_of

A = {"device": "a"}


def test_tokens_come_back_as_what_they_were() -> None:
    ids: dict[Hashable, int] = {
        b"\x00\xff": 0,
        b"": 1,
        "a\ud800": 2,
        ("x", 1, None, ("y", b"\xfe"), True): 3,
        "gone": -1,
    }
    back = unpack_tokens(pack_tokens(ids))
    assert back == {token: number for token, number in ids.items() if number >= 0}


def test_a_token_of_this_process_alone_is_found_by_its_bytes_and_not_kept() -> None:
    ids: dict[Hashable, int] = {b"plain": 0, TransientToken(b"own"): 1}
    assert ids.get(b"own") == 1
    assert unpack_tokens(pack_tokens(ids)) == {b"plain": 0}


def test_a_restored_assembler_goes_on_as_if_nothing_had_been() -> None:
    head = "lateness = 5\nwait = 0.5"
    feed = feed_of(f'{GAUGE}\nkind = "counter"', head)
    feed.add(("load", A, 0, 10.0), ("load", A, 5, 20.0), ("load", A, 10, 30.0), arrived=10)
    mapping = feed.assembler.mapping
    back = Feed(Assembler.restore(mapping, feed.assembler.snapshot()))
    assert back.assembler.counts == feed.assembler.counts
    assert back.assembler.series.ids == feed.assembler.series.ids
    assert back.assembler.place(Series("load", A)) == 0
    assert back.assembler.place(Series("load", {"device": "b"})) == 1
    back.advance(10.4)
    assert back.values() == []
    back.advance(10.5)
    assert back.values() == [2.0, 2.0]
    back.add(("load", A, 5, 1.0), arrived=11)
    assert back.assembler.counts.late == 1


def test_a_snapshot_of_a_version_that_kept_other_things_is_refused_in_one_line() -> None:
    feed = feed_of(GAUGE)
    feed.add(("load", A, 0, 1.0))
    mapping = feed.assembler.mapping
    for name, array in (("rises", np.zeros(9, np.int64)), ("last value", None)):
        meta, arrays = unpack(feed.assembler.snapshot(), mapping.fingerprint)
        arrays = {key: each for key, each in arrays.items() if key != name}
        if array is not None:
            arrays[name] = array
        with pytest.raises(SnapshotError, match="does not fit") as error:
            Assembler.restore(mapping, pack(meta, arrays))
        assert "\n" not in str(error.value)


def test_a_snapshot_that_does_not_fit_is_refused_in_one_line() -> None:
    feed = feed_of(GAUGE)
    feed.add(("load", A, 0, 1.0))
    data = feed.assembler.snapshot()
    mapping = feed.assembler.mapping
    for other, given, limit, words in (
        (mapping, data[:-100], 10, "damaged"),
        (mapping, b"", 10, "damaged"),
        (mapping, data[:500] + b"x" + data[501:], 10, "damaged"),
        (mapping_of(f"{GAUGE}\nfloor = 2"), data, 10, "with another mapping"),
        (mapping, data, 0, "holds 1 keys and 1 series, and the limits are 0 and 0"),
    ):
        with pytest.raises(SnapshotError) as error:
            Assembler.restore(other, given, max_keys=limit, max_series=limit)
        assert words in str(error.value)
        assert "\n" not in str(error.value)
