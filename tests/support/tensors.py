"""Inference requests that tests make, and what is read from them."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from tritonclient.http import InferenceServerClient, InferInput

from models import Field, RecordError, Schema
from models.schema import UNSEEN
from service.formats.chunk import CHUNK_RECORDS
from service.formats.openinference.request import read
from tests.support.problems import errors_of

__all__ = [
    "COLUMNS",
    "INF",
    "NAN",
    "NUMBERS",
    "ROW",
    "SCHEMA",
    "binary",
    "body",
    "by_hand",
    "columns",
    "errors",
    "many",
    "matrix",
    "size_of",
    "tensor",
    "triton",
    "whole",
]

NAN, INF = float("nan"), float("inf")
SCHEMA = Schema(
    [
        Field(name="loss", kind="gauge", unit="%", required=False),
        Field(name="rx rate", kind="rate"),
        Field(name="up", kind="boolean"),
        Field(name="link", kind="category", categories=("fiber", "radio")),
        Field(name="vendor", kind="category", categories=("a", "b"), open=True, required=False),
    ]
)
ROW = [1.5, 2.5, 1, 1, UNSEEN]
NUMBERS = ["FP16", "FP32", "FP64", "INT8", "INT16", "INT32", "INT64"]
NUMBERS += ["UINT8", "UINT16", "UINT32", "UINT64"]


def tensor(name: str, shape: list[int], datatype: str, data: Any = None) -> dict[str, Any]:
    found = {"name": name, "shape": shape, "datatype": datatype}
    return found if data is None else found | {"data": data}


def body(*inputs: dict[str, Any], **more: Any) -> bytes:
    return json.dumps({"inputs": inputs, **more}).encode()


def whole(data: Any, records: int = 1, datatype: str = "FP32") -> bytes:
    return body(tensor("records", [records, 5], datatype, data))


COLUMNS: dict[str, Any] = {
    "loss": tensor("loss", [1], "FP32", [1.5]),
    "rx rate": tensor("rx rate", [1], "FP64", [2.5]),
    "up": tensor("up", [1], "BOOL", [True]),
    "link": tensor("link", [1], "BYTES", ["radio"]),
    "vendor": tensor("vendor", [1], "BYTES", ["c"]),
}


def columns(**changed: Any) -> bytes:
    """A tensor for each field, some of them changed; None leaves one out."""
    inputs = COLUMNS | {name.replace("_", " "): each for name, each in changed.items()}
    return body(*[each for each in inputs.values() if each is not None])


def matrix(sent: bytes, length: int | None = None, most: int = 20_000) -> Any:
    request = read(sent, length, SCHEMA, most)
    chunks = list(request.chunks)
    assert all(len(chunk) <= CHUNK_RECORDS and not chunk.faults for chunk in chunks)
    assert sum(map(len, chunks)) == request.records
    return np.concatenate([chunk.matrix for chunk in chunks])


def errors(sent: bytes, length: int | None = None, most: int = 20_000) -> list[dict[str, Any]]:
    with pytest.raises(RecordError) as refusal:
        matrix(sent, length, most)
    return errors_of(refusal.value)


def binary(*tensors: tuple[str, Any, str], **more: Any) -> tuple[bytes, int]:
    """A request as Triton's client makes it."""
    return triton(True, *tensors, **more)


def triton(as_binary: bool, *tensors: tuple[str, Any, str], **more: Any) -> tuple[bytes, int]:
    inputs = []
    for name, array, datatype in tensors:
        inputs.append(InferInput(name, list(array.shape), datatype))
        inputs[-1].set_data_from_numpy(array, binary_data=as_binary)
    made: tuple[bytes, int] = InferenceServerClient.generate_request_body(inputs, **more)
    return made


def by_hand(document: dict[str, Any], data: bytes) -> tuple[bytes, int]:
    header = json.dumps(document).encode()
    return header + data, len(header)


def size_of(size: int) -> dict[str, Any]:
    return {"parameters": {"binary_data_size": size}}


def many(records: int) -> Any:
    rows = np.random.default_rng(0).random((records, 5)).astype(np.float32)
    rows[:, 2:] = np.random.default_rng(1).integers(0, 2, (records, 3))
    return rows
