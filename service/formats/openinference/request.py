"""The Open Inference Protocol (V2, as of KServe, Triton and MLServer): tensors in, tensors out.

A request holds its records in one of two ways: as the tensor `records`, [n, fields], with the
fields in the schema's order, booleans as 0 and 1 and a category as its index (-1 when an open field
was not trained on it); or as one tensor for each field, by its name, [n] or [n, 1], BOOL for a
boolean and BYTES for a category. What is missing is null in JSON, and in binary data NaN, or an
empty string where that is no category; the tensor of a field that is not required may be absent.

The protocol:
https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_rest.md
and, for binary data,
https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from models import Schema
from service.formats.chunk import Chunk
from service.formats.errors import MalformedInputError
from service.formats.openinference.document import RequestedOutput, decode, outputs_of, skip
from service.formats.openinference.records import record_tensors
from service.formats.openinference.tensor import Tensor

__all__ = ["Request", "read"]


@dataclass(frozen=True, slots=True)
class Request:
    """A request that is about to be read.

    Attributes:
        id: to be returned with the answer.
        records: how many there are.
        outputs: of the answer, in order.
        chunks: the records, read on demand; a chunk may be empty.
    """

    id: str | None
    records: int
    outputs: tuple[RequestedOutput, ...]
    chunks: Iterator[Chunk]


def read(
    body: bytes | bytearray, header_length: int | None, schema: Schema, max_records: int
) -> Request:
    """Read a request; reading its chunks may raise the same errors.

    Args:
        body: JSON, which binary data may follow.
        header_length: bytes of the JSON, from `Inference-Header-Content-Length`; None if all of
            the body is JSON.
        schema: of a record.
        max_records: records that a request may hold.

    Raises:
        MalformedInputError: it is not JSON, or the binary data is not as long as it says.
        RecordError: it is, but not tensors of this schema.
    """
    end = len(body) if header_length is None else header_length
    if not 0 < end <= len(body):
        raise MalformedInputError("The body is shorter than its Inference-Header-Content-Length.")
    document, cuts = decode(body if end == len(body) else body[:end], len(schema))
    outputs = outputs_of(document)
    tensors = []
    for declared in document.inputs:
        tensor = Tensor(declared, cuts, body, end)
        end += tensor.size
        if end > len(body):
            raise MalformedInputError("The body is shorter than its tensors' binary_data_size.")
        tensors.append(tensor)
    if end < len(body):
        raise MalformedInputError("The body is longer than its tensors' binary_data_size.")
    skip(cuts.values())
    records, chunks = record_tensors(schema).read(tensors, max_records)
    return Request(document.id, records, outputs, chunks)
