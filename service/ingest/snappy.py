"""The block format of snappy, which Prometheus' remote write uses as its content encoding."""

from __future__ import annotations

import cramjam

from service.formats.errors import MalformedInputError
from service.ingest.wire import varint

__all__ = ["inflate"]


def inflate(body: bytes, max_size: int) -> bytes:
    """Return the content of a block.

    Args:
        body: the block, which begins with the size of its content.
        max_size: bytes that it may inflate to; nothing is inflated of a block that says more.

    Raises:
        MalformedInputError: it is no such block, or it is larger.
    """
    size, _ = varint(body, 0, len(body))
    if size > max_size:
        raise MalformedInputError(f"The body inflates to more than {max_size} bytes.")
    try:
        return bytes(cramjam.snappy.decompress_raw(body))
    except cramjam.DecompressionError as error:
        raise MalformedInputError("The body is no snappy block.") from error
