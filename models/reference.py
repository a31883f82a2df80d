"""Calibration records that a bundle may hold, to compare later records with.

They are stored in `reference.npz`, which numpy reads, too. Numpy's own reader would allocate
whatever size a file declares, so this one checks sizes first; nothing is unpickled.
"""

from __future__ import annotations

import io
import math
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from models.schema import Matrix

__all__ = ["MOST", "REFERENCE", "Reference"]

REFERENCE: Final = "reference.npz"
"""The file's name in a bundle."""
MOST: Final = 2000
"""Records of a reference, at most."""

_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_HEADER = re.compile(
    rb"\x93NUMPY\x01\x00(?s:..)\{'descr': '([^'\n]{1,9})', 'fortran_order': (True|False), "
    rb"'shape': \((\d{1,9})(?:, (\d{1,9}))?,?\), \} *\n"
)
_LONGEST_HEADER = 1024
_ZIP_ERRORS = (  # all that zipfile raises for a file that is no archive, or was cut off
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    NotImplementedError,
    OSError,
    OverflowError,
    RuntimeError,
    ValueError,
)


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """Records on which a model was calibrated, and their classes.

    Attributes:
        records: float32 [m, fields], the encoder's input, NaN where missing; 1 <= m <= `MOST`.
        labels: int16 [m], index of each record's class in the manifest.
    """

    records: Matrix
    labels: npt.NDArray[np.int16]

    def to_bytes(self) -> bytes:
        """Return the file's bytes, which depend on nothing but the records and labels."""
        target = io.BytesIO()
        with zipfile.ZipFile(target, "w") as archive:
            _add(archive, "records.npy", self.records.astype("<f4", order="C"))
            _add(archive, "labels.npy", self.labels.astype("<i2", order="C"))
        return target.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes, *, fields: int, classes: int) -> Reference:
        """Parse the file's bytes.

        Args:
            data: the bytes.
            fields: width of a record.
            classes: number of classes.

        Raises:
            ValueError: the file is malformed; the message names it and says why.
        """
        files = _unzipped(data, largest=_LONGEST_HEADER + 4 * MOST * fields)
        records = _array(files["records.npy"], "records", "<f4")
        labels = _array(files["labels.npy"], "labels", "<i2")
        if records.ndim != 2 or records.shape[1] != fields:
            raise _refusal(f"its records have the shape {records.shape}, not (m, {fields})")
        if not 1 <= len(records) <= MOST:
            raise _refusal(f"it holds {len(records)} records, not 1 to {MOST}")
        if labels.shape != (len(records),):
            raise _refusal(f"its labels have the shape {labels.shape}, not ({len(records)},)")
        if np.isinf(records).any():
            raise _refusal("a record holds an infinite number")
        if labels.min() < 0 or labels.max() >= classes:
            raise _refusal(f"a label is beyond the {classes} classes")
        return cls(records, labels)


def _add(archive: zipfile.ZipFile, name: str, array: npt.NDArray[Any]) -> None:
    data = io.BytesIO()
    np.lib.format.write_array(data, array, version=(1, 0), allow_pickle=False)
    entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
    entry.compress_type, entry.create_system = zipfile.ZIP_DEFLATED, 3
    archive.writestr(entry, data.getvalue())


def _unzipped(data: bytes, largest: int) -> dict[str, bytes]:
    """Inflate the archive's two files, neither of which may declare more bytes than `largest`."""
    with _checked(), zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = archive.infolist()
    if sorted(entry.filename for entry in entries) != ["labels.npy", "records.npy"]:
        raise _refusal("it must hold records and labels, and nothing else")
    if any(entry.file_size > largest for entry in entries):
        raise _refusal(f"it announces more than {MOST} records")
    if any(entry.compress_type not in _METHODS for entry in entries):
        raise _refusal("it is compressed in another way than deflate")
    with _checked(), zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {entry.filename: _inflated(archive, entry) for entry in entries}


@contextmanager
def _checked() -> Iterator[None]:
    try:
        yield
    except _ZIP_ERRORS as error:
        raise _refusal("it is no zip archive, or was cut off") from error


def _inflated(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    with archive.open(entry) as file:
        return file.read(entry.file_size + 1)  # without a number, it inflates all that there is


def _array(data: bytes, name: str, dtype: str) -> npt.NDArray[Any]:
    """Parse one file of the archive, which must be as long as its header declares."""
    header = _HEADER.match(data)
    if header is None or header.end() != 10 + int.from_bytes(data[8:10], "little"):
        raise _refusal(f"its {name} are no array of numbers (.npy, version 1.0)")
    if (header[1], header[2]) != (dtype.encode(), b"False"):
        raise _refusal(f"its {name} are not {np.dtype(dtype)}, row by row")
    shape = [int(size) for size in header.groups()[2:] if size is not None]
    if len(data) - header.end() != math.prod(shape) * np.dtype(dtype).itemsize:
        raise _refusal(f"its {name} are not as many as it says")
    return np.frombuffer(data, dtype, offset=header.end()).reshape(shape)


def _refusal(reason: str) -> ValueError:
    return ValueError(f"{REFERENCE}: {reason}")
