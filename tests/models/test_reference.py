from __future__ import annotations

import io
import time
import tracemalloc
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from models.bundle import Bundle, BundleError
from models.model import Model
from models.reference import MOST, REFERENCE, Reference

MakeBundle = Callable[..., Bundle]
RECORDS = np.array([[1, np.nan, 0], [-3e38, 2.5, -0.0]], dtype=np.float32)
LABELS = np.array([1, 0], dtype=np.int16)
FLOATS = st.floats(width=32, allow_infinity=False)


def packed(files: Mapping[str, bytes], how: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip archive of these .npy files."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", how) as archive:
        for name, data in files.items():
            archive.writestr(f"{name}.npy", data)
    return target.getvalue()


def npy(array: object, *, allow_pickle: bool = False) -> bytes:
    target = io.BytesIO()
    np.save(target, np.asarray(array), allow_pickle=allow_pickle)
    return target.getvalue()


def saved(**files: Any) -> bytes:
    """What numpy itself saves."""
    target = io.BytesIO()
    np.savez_compressed(target, **files)
    return target.getvalue()


def read(data: bytes, fields: int = 3, classes: int = 2) -> Reference:
    return Reference.from_bytes(data, fields=fields, classes=classes)


@settings(deadline=None)
@given(st.data(), st.integers(1, 12), st.integers(1, 5), st.integers(1, 300))
def test_what_is_written_is_read_again(
    data: st.DataObject, count: int, fields: int, classes: int
) -> None:
    records = data.draw(arrays.arrays(np.float32, (count, fields), elements=FLOATS))
    labels = data.draw(arrays.arrays(np.int16, (count,), elements=st.integers(0, classes - 1)))
    written = Reference(records, labels).to_bytes()
    again = Reference.from_bytes(written, fields=fields, classes=classes)
    np.testing.assert_array_equal(again.records, records)
    np.testing.assert_array_equal(again.labels, labels)
    assert again.records.dtype == np.dtype(np.float32)
    assert again.labels.dtype == np.dtype(np.int16)
    assert again.to_bytes() == written


def test_numpy_reads_the_file_and_writes_one_that_is_read() -> None:
    with np.load(io.BytesIO(Reference(RECORDS, LABELS).to_bytes()), allow_pickle=False) as file:
        assert sorted(file) == ["labels", "records"]
        np.testing.assert_array_equal(file["records"], RECORDS)
        np.testing.assert_array_equal(file["labels"], LABELS)
    again = read(saved(labels=LABELS, records=RECORDS))
    np.testing.assert_array_equal(again.records, RECORDS)
    np.testing.assert_array_equal(again.labels, LABELS)


def test_the_bytes_know_nothing_of_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    written = Reference(RECORDS, LABELS).to_bytes()
    monkeypatch.setattr(time, "time", lambda: 2e9)
    monkeypatch.setattr(time, "localtime", lambda *_: (2033, 5, 18, 3, 33, 20, 2, 138, 0))
    assert Reference(np.asfortranarray(RECORDS), LABELS).to_bytes() == written


def test_what_was_read_cannot_be_changed() -> None:
    reference = read(Reference(RECORDS, LABELS).to_bytes())
    with pytest.raises(ValueError, match="read-only"):
        reference.records[0] = 0
    with pytest.raises(AttributeError):
        reference.labels = LABELS  # type: ignore[misc]


def test_as_many_records_as_are_allowed_are_read() -> None:
    records, labels = np.zeros((MOST, 3), np.float32), np.zeros(MOST, np.int16)
    assert len(read(Reference(records, labels).to_bytes()).records) == MOST
    one_more = Reference(np.zeros((MOST + 1, 3), np.float32), np.zeros(MOST + 1, np.int16))
    with pytest.raises(ValueError, match="2001 records, not 1 to 2000"):
        read(one_more.to_bytes())


GOOD = {"records": npy(RECORDS), "labels": npy(LABELS)}
WHOLE = packed(GOOD)
BAD = {
    "nothing": (b"", "no zip"),
    "no archive": (b"records" * 50, "no zip"),
    "an array alone": (npy(RECORDS), "no zip"),
    "an archive cut off": (WHOLE[:-30], "no zip"),
    "an archive without its beginning": (WHOLE[60:], "no zip"),
    "an empty archive": (packed({}), "records and labels, and nothing else"),
    "no labels": (packed({"records": GOOD["records"]}), "nothing else"),
    "a file too many": (packed(GOOD | {"more": b""}), "nothing else"),
    "bzip2": (packed(GOOD, zipfile.ZIP_BZIP2), "another way than deflate"),
    "lzma": (packed(GOOD, zipfile.ZIP_LZMA), "another way than deflate"),
    "records that are no array": (packed(GOOD | {"records": b"1,2,3"}), "records are no array"),
    "records that are empty": (packed(GOOD | {"records": b""}), "records are no array"),
    "records cut off": (packed(GOOD | {"records": GOOD["records"][:-4]}), "not as many"),
    "records too many": (packed(GOOD | {"records": GOOD["records"] + b"abcd"}), "not as many"),
    "a header of another length": (
        packed(GOOD | {"records": GOOD["records"].replace(b"\x76\x00", b"\x75\x00", 1)}),
        "records are no array",
    ),
    "a header that is a program": (
        packed(GOOD | {"records": b"\x93NUMPY\x01\x00\x10\x00__import__('os')"}),
        "records are no array",
    ),
    "objects": (
        packed(GOOD | {"records": npy(np.array([[{}]], dtype=object), allow_pickle=True)}),
        "records are not float32",
    ),
    "records of float64": (saved(records=RECORDS.astype(float), labels=LABELS), "not float32"),
    "records of another machine": (
        saved(records=RECORDS.astype(">f4"), labels=LABELS),
        "not float32",
    ),
    "records column by column": (
        saved(records=np.asfortranarray(RECORDS), labels=LABELS),
        "not float32, row by row",
    ),
    "records of names": (
        saved(records=np.zeros(2, dtype=[("a", "<f4")]), labels=LABELS),
        "records are no array",
    ),
    "labels of int64": (saved(records=RECORDS, labels=LABELS.astype(int)), "not int16"),
    "labels of floats": (saved(records=RECORDS, labels=LABELS.astype(np.float32)), "not int16"),
    "a field too many": (saved(records=np.zeros((2, 4), np.float32), labels=LABELS), r"\(m, 3\)"),
    "one dimension": (saved(records=np.zeros(6, np.float32), labels=LABELS), r"\(m, 3\)"),
    "three dimensions": (
        saved(records=np.zeros((2, 3, 1), np.float32), labels=LABELS),
        "records are no array",
    ),
    "no dimension": (saved(records=np.float32(1), labels=LABELS), "records are no array"),
    "no record": (
        saved(records=np.zeros((0, 3), np.float32), labels=LABELS[:0]),
        "0 records, not 1 to 2000",
    ),
    "a label too few": (saved(records=RECORDS, labels=LABELS[:1]), r"shape \(1,\), not \(2,\)"),
    "labels in rows": (saved(records=RECORDS, labels=LABELS[None]), r"shape \(1, 2\), not \(2,\)"),
    "a negative label": (saved(records=RECORDS, labels=LABELS - 1), "beyond the 2 classes"),
    "a label beyond": (saved(records=RECORDS, labels=LABELS + 1), "beyond the 2 classes"),
    "infinity": (
        saved(records=np.where(RECORDS == 1, np.inf, RECORDS).astype(np.float32), labels=LABELS),
        "an infinite number",
    ),
}


@pytest.mark.parametrize("what", BAD)
def test_a_file_that_is_none_is_refused_by_name_and_reason(what: str) -> None:
    data, reason = BAD[what]
    with pytest.raises(ValueError, match=rf"^reference\.npz: .*{reason}"):
        read(data)


def test_an_encrypted_file_is_refused() -> None:
    data = bytearray(WHOLE)
    for signature, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = -1
        while (start := data.find(signature, start + 1)) >= 0:
            data[start + place] |= 1
    with pytest.raises(ValueError, match="no zip archive"):
        read(bytes(data))


def test_two_files_of_one_name_are_refused() -> None:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr("records.npy", GOOD["records"])
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("records.npy", GOOD["records"])
        archive.writestr("labels.npy", GOOD["labels"])
    with pytest.raises(ValueError, match="nothing else"):
        read(target.getvalue())


def header(shape: str) -> bytes:
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


@pytest.mark.parametrize(
    "records",
    [
        header("(2, 3)") + bytes(50_000_000),
        header("(999999999, 3)"),
        header("(999999999, 999999999)"),
        header("(99999999999999999999, 3)"),
        npy(np.zeros((4_000_000, 3), np.float32)),
    ],
)
def test_a_bomb_is_refused_before_it_goes_off(records: bytes) -> None:
    announced = packed(GOOD | {"records": records})
    silent = announced.replace(len(records).to_bytes(4, "little"), (152).to_bytes(4, "little"))
    tracemalloc.start()
    try:
        for bomb in (announced, silent):
            with pytest.raises(ValueError, match=r"^reference\.npz: "):
                read(bomb)
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()


@settings(deadline=None, max_examples=500)
@given(st.integers(0, len(WHOLE) - 1), st.integers(0, 255), st.booleans())
def test_a_spoiled_file_is_read_or_refused(place: int, byte: int, cut: bool) -> None:
    data = bytearray(WHOLE)
    data[place] = byte
    try:
        reference = read(bytes(data[:place] if cut else data))
    except ValueError as error:
        assert str(error).startswith("reference.npz: ")  # noqa: PT017
    else:
        assert reference.records.shape == (2, 3)


def test_a_model_has_the_reference_that_its_bundle_holds(
    make_bundle: MakeBundle, model: Model, tmp_path: Path
) -> None:
    assert model.reference is None
    records = model.schema.encode(model.examples)
    reference = Reference(records, np.arange(3, dtype=np.int16))
    bundle = make_bundle({REFERENCE: reference.to_bytes()})
    bundle.write(tmp_path / "small")
    loaded = Model.load(tmp_path / "small").reference
    assert loaded is not None
    np.testing.assert_array_equal(loaded.records, records)
    np.testing.assert_array_equal(loaded.labels, [0, 1, 2])


@pytest.mark.parametrize("what", [*BAD, "records of another schema", "a class too many"])
def test_a_bundle_with_a_reference_that_is_none_is_refused(
    make_bundle: MakeBundle, tmp_path: Path, what: str
) -> None:
    more = {
        "records of another schema": Reference(RECORDS, LABELS).to_bytes(),
        "a class too many": saved(
            records=np.zeros((1, 5), np.float32), labels=np.array([3], np.int16)
        ),
    }
    data = more[what] if what in more else BAD[what][0]
    make_bundle({REFERENCE: data}).write(tmp_path / "small")
    with pytest.raises(BundleError) as caught:
        Model.load(tmp_path / "small")
    assert caught.value.path == tmp_path / "small"
    assert caught.value.reason.startswith("reference.npz: ")
