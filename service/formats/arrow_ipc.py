"""The Arrow stream format: batches, each checked before it is built.

No declared size is trusted, and nothing may cost more than the bytes that were sent: buffers that
are compressed inside the stream are rejected (the whole stream may have a content encoding), and
so are dictionaries that grow.

The format: https://arrow.apache.org/docs/format/Columnar.html#serialization-and-interprocess-communication-ipc
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import pyarrow as pa

from models import RecordError
from service.formats.errors import MalformedInputError

__all__ = ["Stream", "reading"]

_MAX_SCHEMA = 1 << 20
"""Bytes of the columns' description."""
_MAX_BUFFERS = 256
"""Buffers of a column, on average: views of strings may have many."""
_DICTIONARY: Final = 2
"""The type of a message that holds one."""
_V5: Final = 4
"""Since this version of the format, a batch itself declares its compression."""
_READ_ERRORS = (pa.ArrowException, OSError, ValueError, MemoryError, StopIteration)


class Stream:
    """Reads the batches of a stream.

    Args:
        body: the stream.

    Attributes:
        schema: the columns.
    """

    def __init__(self, body: bytes | bytearray) -> None:
        self._source = pa.BufferReader(body)
        self._messages = pa.ipc.MessageReader.open_stream(self._source)
        first = self._messages.read_next_message()
        if first.type != "schema" or first.metadata.size > _MAX_SCHEMA:
            raise MalformedInputError(
                "The stream does not begin with a schema, or with too large a one."
            )
        options = pa.ipc.IpcReadOptions(use_threads=False)
        self._reader = pa.ipc.open_stream(pa.py_buffer(body), options=options)
        self.schema = self._reader.schema

    def next(self) -> pa.RecordBatch | None:
        """Return the next batch, or None at the end.

        Raises:
            MalformedInputError: the stream is corrupt, or uses a feature that is not supported.
        """
        with reading():
            for number, message in enumerate(self._messages):
                if number > len(self.schema):
                    raise MalformedInputError("The stream has more dictionaries than columns.")
                _check(message.metadata, max_buffers=_MAX_BUFFERS * (len(self.schema) + 1))
                if message.type == "record batch":
                    batch = self._reader.read_next_batch()
                    batch.validate()
                    if batch.num_rows < 0:
                        raise MalformedInputError("The stream has a batch of less than no records.")
                    return batch
            if self._source.tell() < self._source.size():
                raise MalformedInputError("Something follows the stream's end.")
            return None


@contextmanager
def reading() -> Iterator[None]:
    """Replace the library's errors, whose messages may quote the stream."""
    try:
        yield
    except RecordError:
        raise
    except (*_READ_ERRORS, struct.error) as error:
        message = "The body is not an Arrow stream, or it is corrupt or breaks off."
        raise MalformedInputError(message) from error


def _check(metadata: pa.Buffer, *, max_buffers: int) -> None:
    """Reject a message that could cost more than its bytes.

    Args:
        metadata: of a message: a flatbuffer, which the library has verified.
        max_buffers: buffers that a batch may have.
    """
    data = memoryview(metadata)
    message = _inner(data, 0)
    version, header, custom = (_slot(data, message, number) for number in (0, 2, 4))
    if header is None:
        raise MalformedInputError("The stream has an empty message.")
    kind = _slot(data, message, 1)
    batch = _inner(data, header)
    if kind is not None and data[kind] == _DICTIONARY:
        grows, held = _slot(data, batch, 2), _slot(data, batch, 1)
        if grows is not None and data[grows]:
            raise MalformedInputError(
                "The stream has a dictionary that grows; send it anew instead."
            )
        batch = batch if held is None else _inner(data, held)
    old = version is None or struct.unpack_from("<h", data, version)[0] < _V5
    if _slot(data, batch, 3) is not None or (old and custom is not None):
        raise MalformedInputError(
            "The stream has compressed buffers; compress the whole of it instead."
        )
    at = _slot(data, batch, 2)
    if at is not None and struct.unpack_from("<I", data, _inner(data, at))[0] > max_buffers:
        raise MalformedInputError(f"The stream has a batch of more than {max_buffers} buffers.")


def _slot(data: memoryview, table: int, number: int) -> int | None:
    """Return the position of a field of a flatbuffer's table; None if it is absent."""
    layout = table - struct.unpack_from("<i", data, table)[0]
    entry = 4 + 2 * number
    if entry >= struct.unpack_from("<H", data, layout)[0]:
        return None
    offset: int = struct.unpack_from("<H", data, layout + entry)[0]
    return table + offset if offset else None


def _inner(data: memoryview, at: int) -> int:
    """Follow the reference at a position of a flatbuffer."""
    offset: int = struct.unpack_from("<I", data, at)[0]
    return at + offset
