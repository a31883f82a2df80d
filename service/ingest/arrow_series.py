"""Series of an Arrow stream's rows: each is looked up once in a batch, not once a row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from models.telemetry.points import SeriesTable
from service.formats.errors import MalformedInputError
from service.ingest.decoded import UnusableError
from service.ingest.naming import canonical, series_of

__all__ = ["MAX_TEXT", "RowSeries", "check_texts"]

MAX_TEXT = 1024
"""Bytes of a text of views: many views may show the same one."""
_MAX_DICTIONARY = 1 << 16
_Texts = list[str | None]
_Integers = NDArray[np.int64]


class RowSeries:
    """Finds the series of rows.

    Args:
        metric: the column with the names of the metrics.
        tags: the columns that are tags.
        table: of the series known so far.
        reasons: counts rows that cannot be used.
    """

    def __init__(
        self, metric: str, tags: Sequence[str], table: SeriesTable, reasons: Counter[str]
    ) -> None:
        self._names, self._table, self._reasons = [metric, *tags], table, reasons
        # Batches share dictionaries, and while one lives, nothing else has its address.
        self._dictionaries: dict[str, tuple[pa.Array, _Texts]] = {}

    def __call__(self, batch: pa.RecordBatch) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
        """Return the id of each row's series, and which rows have one.

        Raises:
            MalformedInputError: a dictionary is too large, or a text too long.
        """
        columns = [self._column(name, batch.column(name)) for name in self._names]
        rows = np.zeros(batch.num_rows, np.int64)
        for codes, texts in columns:  # numbered anew each time, so that they never overflow
            _, rows = np.unique(rows * len(texts) + codes, return_inverse=True)
        _, firsts, counts = np.unique(rows, return_index=True, return_counts=True)
        ids = np.zeros(len(firsts), np.int32)
        named = np.ones(len(firsts), np.bool_)
        for number, (row, count) in enumerate(zip(firsts.tolist(), counts.tolist(), strict=True)):
            try:
                ids[number] = self._identify(*(texts[codes[row]] for codes, texts in columns))
            except UnusableError as error:
                self._reasons[str(error)] += count
                named[number] = False
        return ids[rows], named[rows]

    def _identify(self, metric: str | None, *texts: str | None) -> int:
        pairs = zip(self._names[1:], texts, strict=True)
        tags = {name: text for name, text in pairs if text is not None}
        token = ("arrow", metric, canonical(tags))
        found = self._table.ids.get(token)
        return self._table.add(token, series_of(metric or "", tags)) if found is None else found

    def _column(self, name: str, column: pa.Array) -> tuple[_Integers, _Texts]:
        """Return a column as numbers of its texts, of which the last is None, for null."""
        if not pa.types.is_dictionary(column.type):
            check_texts(column)
            column = column.dictionary_encode()
        texts = self._texts(name, column.dictionary)
        codes = column.indices.cast(pa.int64()).fill_null(len(texts) - 1).to_numpy()
        if len(codes) and not 0 <= codes.min() <= codes.max() < len(texts):
            message = "The stream refers to texts that a dictionary does not have."
            raise MalformedInputError(message)
        return codes, texts

    def _texts(self, name: str, dictionary: pa.Array) -> _Texts:
        known = self._dictionaries.get(name)
        if known is not None and _address(known[0]) == _address(dictionary):
            return known[1]
        if len(dictionary) > _MAX_DICTIONARY:
            raise MalformedInputError(f"A dictionary has more than {_MAX_DICTIONARY} texts.")
        check_texts(dictionary)
        texts = [*dictionary.to_pylist(), None]
        self._dictionaries[name] = dictionary, texts
        return texts


def _address(array: pa.Array) -> tuple[object, ...]:
    buffers = [buffer and (buffer.address, buffer.size) for buffer in array.buffers()]
    return (len(array), array.offset, *buffers)


def check_texts(texts: pa.Array) -> None:
    """Validate a column of texts.

    Raises:
        MalformedInputError: of a view, a text is too long.
        ArrowInvalid: it is corrupt.
    """
    if texts.type == pa.string_view() and len(texts):
        sizes = np.frombuffer(texts.buffers()[1], np.int32, 4 * len(texts), 16 * texts.offset)
        if sizes[::4].max() > MAX_TEXT:
            raise MalformedInputError(f"A text is longer than {MAX_TEXT} bytes.")
    texts.validate(full=True)
