"""Requests with good answers in every format: what mutations start from."""

from __future__ import annotations

import gzip
import io
import json
import math
import struct
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any

import pyarrow as pa
import zstandard

from benchmarks.fuzz.request import Request
from benchmarks.ingest.bodies import BODIES, points, snappy
from models import Model
from models.telemetry.mapping import Mapping
from service.ingest.receivers import ANY, RECEIVERS

Record = dict[str, Any]

_STREAM = b"application/vnd.apache.arrow.stream"
_ARROW = ((b"content-type", _STREAM),)
_JSON = ((b"content-type", b"application/json"),)
_START = 1_795_000_000


def seeds(model: Model) -> list[Request]:
    """Return requests with the examples of a model's bundle."""
    records: list[Record] = [dict(record) for record in model.examples]
    plain = [*_json(records), *_arrow(model, records), *_tensors(model, records)]
    if model.reference is not None:
        plain += _explained(records)
    ingested = [] if model.mapping is None else _points(model.mapping)
    return [*plain, *_compressed(plain), *ingested]


def _points(mapping: Mapping) -> Iterator[Request]:
    """Yield bodies of metric points, in every wire format."""
    sent = points(series=12, rounds=2)
    bodies = [(name, encode(sent)) for name, encode in BODIES.items()]
    bodies += [("telegraf", body) for body in _mapped(mapping)]
    for name, body in bodies:
        receiver = RECEIVERS["telegraf" if name == "influx" else name]
        kind = receiver.content_types[0]
        headers = () if kind == ANY else ((b"content-type", kind.encode()),)
        if "snappy" in receiver.encodings:
            packed = (*headers, (b"content-encoding", b"snappy"))
            yield Request(receiver.path, b"", packed, snappy(body))
        else:
            yield Request(receiver.path, b"", headers, body)


def _mapped(mapping: Mapping) -> Iterator[bytes]:
    """Yield points that records are made of."""
    for number in range(3):
        metrics = [
            {
                "name": field.metric,
                "tags": dict.fromkeys(mapping.key, "one") | {"interface": "HundredGigE0/0/0/1"},
                "fields": {"value": number * 7 + 1},
                "timestamp": _START + 5 * number,
            }
            for field in mapping.fields
        ]
        yield json.dumps({"metrics": metrics}).encode()


def _json(records: Sequence[Record]) -> Iterator[Request]:
    def request(path: str, document: object, query: bytes = b"") -> Request:
        return Request(path, query, _JSON, json.dumps(document).encode())

    one, few, many = records[:1], records, [*records] * 8
    yield request("/classify", {"records": one})
    yield request("/embed", {"records": one})
    yield request("/classify", {"records": few})
    yield request("/classify", {"records": few, "distances": True}, b"on_invalid=strict")
    yield request("/classify", {"records": many}, b"on_invalid=report&distances=true")
    yield request("/embed", {"records": [*few, {}, 5]}, b"on_invalid=report")


def _explained(records: Sequence[Record]) -> Iterator[Request]:
    few = json.dumps({"records": records, "explain": True}).encode()
    yield Request("/classify", b"", _JSON, few)
    damaged = json.dumps({"records": [*records, {}, 5] * 3}).encode()
    yield Request("/classify", b"explain=true&on_invalid=report", _JSON, damaged)


def _arrow(model: Model, records: Sequence[Record]) -> Iterator[Request]:
    names = [field.name for field in model.schema.fields]
    table = pa.table({name: [record.get(name) for record in records] for name in names})
    for query in (b"", b"on_invalid=report"):
        yield Request("/classify", query, _ARROW, _stream(table))
    yield Request("/embed", b"", _ARROW, _stream(table))
    as_json = (*_ARROW, (b"accept", b"application/json"))
    yield Request("/classify", b"distances=true", as_json, _stream(table, 3))
    for types in (
        {pa.string(): pa.large_string(), pa.float64(): pa.float32()},
        {pa.string(): pa.string_view(), pa.float64(): pa.float16()},
        {pa.string(): pa.dictionary(pa.int8(), pa.string()), pa.float64(): pa.decimal128(20, 4)},
    ):
        yield Request("/classify", b"", _ARROW, _stream(_cast(table, types)))


def _cast(table: pa.Table, types: dict[pa.DataType, pa.DataType]) -> pa.Table:
    for i, field in enumerate(table.schema):
        column, kind = table.column(i), types.get(field.type, field.type)
        if pa.types.is_decimal(kind):
            values = [None if v is None else Decimal(f"{v:.4f}") for v in column.to_pylist()]
            column = pa.chunked_array([pa.array(values, kind)])
        elif pa.types.is_dictionary(kind):
            column = column.dictionary_encode().cast(kind)
        elif pa.types.is_float16(kind):
            column = column.cast(pa.float32()).cast(kind, safe=False)
        else:
            column = column.cast(kind, safe=False)
        table = table.set_column(i, field.name, column)
    return table


def _stream(table: pa.Table, batch_records: int = 1000) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=batch_records)
    return sink.getvalue()


def _tensors(model: Model, records: Sequence[Record]) -> Iterator[Request]:
    """Yield requests of the Open Inference Protocol."""
    path = f"/v2/models/{model.manifest.name}/infer"
    matrix = model.schema.encode(records)
    shape = list(matrix.shape)
    whole = {"name": "records", "shape": shape, "datatype": "FP32"}
    data = [None if math.isnan(value) else value for value in matrix.ravel().tolist()]
    outputs = [{"name": "label"}, {"name": "embedding", "parameters": {"binary_data": True}}]
    rows = [data[at : at + shape[1]] for at in range(0, len(data), shape[1])]
    yield Request(path, b"", _JSON, _document([whole | {"data": data}]))
    yield Request(path, b"", _JSON, _document([whole | {"data": rows}], outputs=outputs))
    yield Request(path, b"", _JSON, _document([whole | {"data": data}], id="7", outputs=outputs))
    columns: list[dict[str, Any]] = [
        {
            "name": field.name,
            "shape": [len(records), 1],
            "datatype": {"boolean": "BOOL", "category": "BYTES"}.get(field.kind, "FP64"),
            "data": [record.get(field.name) for record in records],
        }
        for field in model.schema.fields
    ]
    nested = [tensor | {"data": [[value] for value in tensor["data"]]} for tensor in columns]
    yield Request(path, b"", _JSON, _document(columns))
    yield Request(path, b"", _JSON, _document(nested))
    yield _binary(path, [(whole, matrix.tobytes())])
    yield _binary(path, [(tensor, _packed(tensor)) for tensor in columns])


def _document(inputs: list[dict[str, Any]], **more: object) -> bytes:
    return json.dumps({"inputs": inputs, **more}).encode()


def _packed(tensor: dict[str, Any]) -> bytes:
    data, kind = tensor.pop("data"), tensor["datatype"]
    if kind == "BYTES":
        texts = [(value or "").encode() for value in data]
        return b"".join(struct.pack("<I", len(text)) + text for text in texts)
    values = [float("nan") if value is None else value for value in data]
    return struct.pack(f"<{len(data)}{'?' if kind == 'BOOL' else 'd'}", *values)


def _binary(path: str, tensors: list[tuple[dict[str, Any], bytes]]) -> Request:
    inputs = [tensor | {"parameters": {"binary_data_size": len(data)}} for tensor, data in tensors]
    head = _document(inputs, parameters={"binary_data_output": True})
    headers = (
        (b"content-type", b"application/octet-stream"),
        (b"inference-header-content-length", b"%d" % len(head)),
    )
    return Request(path, b"", headers, b"".join([head, *(data for _, data in tensors)]))


def _compressed(plain: Sequence[Request]) -> Iterator[Request]:
    packers = {b"gzip": gzip.compress, b"zstd": zstandard.ZstdCompressor().compress}
    for i, request in enumerate(plain):
        name = (b"gzip", b"zstd")[i % 2]
        headers = (*request.headers, (b"content-encoding", name))
        yield Request(request.path, request.query, headers, packers[name](request.body))
