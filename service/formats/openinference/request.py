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
from service.formats.openinference.document import Wanted, decode, outputs_of, skip
from service.formats.openinference.records import plan_of
from service.formats.openinference.tensor import Tensor

__all__ = ["Request", "read"]


@dataclass(frozen=True, slots=True)
class Request:
    """A request that is about to be read.

    Attributes:
        id: to be given back.
        records: how many there are.
        outputs: what is asked for, in order.
        chunks: the records, read as they are asked for; a chunk may be empty.
    """

    id: str | None
    records: int
    outputs: tuple[Wanted, ...]
    chunks: Iterator[Chunk]


def read(body: bytes | bytearray, header_length: int | None, schema: Schema, most: int) -> Request:
    """Read a request; asking for its chunks may raise what this raises.

    Args:
        body: JSON, which binary data may follow.
        header_length: bytes of the JSON, as `Inference-Header-Content-Length` says; None when it
            says nothing, and all is JSON.
        schema: what a record holds.
        most: how many records a request may hold.

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
    for each in document.inputs:
        tensor = Tensor(each, cuts, body, end)
        end += tensor.size
        if end > len(body):
            raise MalformedInputError("The body is shorter than its tensors' binary_data_size.")
        tensors.append(tensor)
    if end < len(body):
        raise MalformedInputError("The body is longer than its tensors' binary_data_size.")
    skip(cuts.values())
    records, chunks = plan_of(schema).read(tensors, most)
    return Request(document.id, records, outputs, chunks)
