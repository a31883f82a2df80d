"""Wire formats: how a batch becomes a request's body, and where an answer has its labels.

JSON has numbers as the table has them; binary tensors and Arrow have them in float32.
"""

from __future__ import annotations

import importlib
import io
import json
import math
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.harness.client import Answer
from benchmarks.harness.records import Batch

_HEADER_LENGTH = "Inference-Header-Content-Length"
_ARROW_STREAM = "application/vnd.apache.arrow.stream"
_JSON: Mapping[str, str] = {"Content-Type": "application/json"}


Encoded = tuple[bytes, Mapping[str, str]]
"""A body, and headers that depend on it."""


@dataclass(frozen=True, slots=True)
class Wire:
    """A wire format: encodes a batch, reads an answer's labels, has headers for every request."""

    encode: Callable[[Batch], Encoded]
    labels: Callable[[Answer], list[str]]
    headers: Mapping[str, str] = field(default_factory=lambda: _JSON)


def _json(document: object) -> bytes:
    return json.dumps(document, separators=(",", ":"), allow_nan=False).encode()


def _objects(batch: Batch) -> list[dict[str, float | None]]:
    """Return records with null where a value is missing."""
    return [
        {
            name: None if math.isnan(value) else value
            for name, value in zip(batch.names, row, strict=True)
        }
        for row in batch.values.tolist()
    ]


def _rows_as(key: str) -> Callable[[Batch], Encoded]:
    def encode(batch: Batch) -> Encoded:
        return _json({key: _objects(batch)}), {}

    return encode


def _labels_of_rows(answer: Answer) -> list[str]:
    """Read a list of verdicts, or an object that holds one list."""
    document: Any = json.loads(answer.body)
    if isinstance(document, dict):
        document = next(value for value in document.values() if isinstance(value, list))
    return [verdict["label"] for verdict in document]


def _tensor(batch: Batch) -> Encoded:
    """Encode for Open Inference Protocol V2, one unnamed tensor; NaN as most parsers take it."""
    shape, data = list(batch.values.shape), batch.values.ravel().tolist()
    tensor = {"name": "records", "shape": shape, "datatype": "FP32", "data": data}
    return json.dumps({"inputs": [tensor]}, separators=(",", ":")).encode(), {}


def _columns(batch: Batch) -> Encoded:
    """Encode for Open Inference Protocol V2, an input for each field (MLServer's pandas codec)."""
    shape = [len(batch), 1]
    inputs = [
        {"name": name, "shape": shape, "datatype": "FP64", "data": values}
        for name, values in zip(batch.names, batch.values.T.tolist(), strict=True)
    ]
    return _json({"parameters": {"content_type": "pd"}, "inputs": inputs}), {}


def _tensor_binary(batch: Batch) -> Encoded:
    """Encode the same tensor by the binary extension, which the answer is to use as well."""
    values = np.ascontiguousarray(batch.matrix, dtype="<f4").tobytes()
    tensor = {
        "name": "records",
        "shape": list(batch.values.shape),
        "datatype": "FP32",
        "parameters": {"binary_data_size": len(values)},
    }
    head = _json({"parameters": {"binary_data_output": True}, "inputs": [tensor]})
    return head + values, {_HEADER_LENGTH: str(len(head))}


def _labels_of_tensors(answer: Answer) -> list[str]:
    """Read the output `label`, in JSON or binary."""
    size = int(answer.headers.get(_HEADER_LENGTH.lower(), len(answer.body)))
    start = size
    for output in json.loads(answer.body[:size])["outputs"]:
        length = (output.get("parameters") or {}).get("binary_data_size", 0)
        if output["name"] == "label" and "data" in output:
            return list(output["data"])
        if output["name"] == "label":
            return _strings(answer.body[start : start + length])
        start += length
    raise KeyError("label")


def _strings(data: bytes) -> list[str]:
    """Read a BYTES tensor: each element after its length."""
    texts, start = [], 0
    while start < len(data):
        (length,) = struct.unpack_from("<I", data, start)
        texts.append(data[start + 4 : start + 4 + length].decode())
        start += 4 + length
    return texts


def _arrow(batch: Batch) -> Encoded:
    """Encode as one stream with a float32 column for each field."""
    pyarrow: Any = importlib.import_module("pyarrow")
    columns = [np.ascontiguousarray(column) for column in batch.matrix.T]
    table = pyarrow.RecordBatch.from_arrays(list(map(pyarrow.array, columns)), list(batch.names))
    sink = io.BytesIO()
    with pyarrow.ipc.new_stream(sink, table.schema) as writer:
        writer.write_batch(table)
    return sink.getvalue(), {}


def _labels_of_arrow(answer: Answer) -> list[str]:
    pyarrow: Any = importlib.import_module("pyarrow")
    with pyarrow.ipc.open_stream(answer.body) as reader:
        return list(reader.read_all()["label"].to_pylist())


ROWS = Wire(_rows_as("records"), _labels_of_rows)
INSTANCES = Wire(_rows_as("instances"), _labels_of_rows)
TENSOR = Wire(_tensor, _labels_of_tensors)
COLUMNS = Wire(_columns, _labels_of_tensors)
TENSOR_BINARY = Wire(
    _tensor_binary, _labels_of_tensors, {"Content-Type": "application/octet-stream"}
)
ARROW = Wire(_arrow, _labels_of_arrow, {"Content-Type": _ARROW_STREAM, "Accept": _ARROW_STREAM})
