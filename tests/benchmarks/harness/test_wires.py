from __future__ import annotations

import io
import json
import struct
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from benchmarks.harness import wires
from benchmarks.harness.client import Answer
from benchmarks.harness.records import Batch

BATCH = Batch(
    ("load", "loss-rate"), np.array([[0.25, 1e-7], [3.0, 0.1], [0.0, -5.5]]), ("x", "y", "x")
)
GAPS = replace(BATCH, values=np.array([[np.nan, 1.0]]))


def documents(wire: wires.Wire, batch: Batch = BATCH) -> Any:
    body, headers = wire.encode(batch)
    assert not headers
    return json.loads(body)


def test_rows_hold_every_number_under_its_name() -> None:
    rows = documents(wires.ROWS)["records"]
    assert rows == [dict(zip(BATCH.names, row, strict=True)) for row in BATCH.values.tolist()]
    assert documents(wires.INSTANCES) == {"instances": rows}


def test_a_missing_value_is_null_in_rows() -> None:
    assert documents(wires.ROWS, GAPS) == {"records": [{"load": None, "loss-rate": 1.0}]}


def test_the_tensor_is_flat_and_row_by_row() -> None:
    (tensor,) = documents(wires.TENSOR)["inputs"]
    assert (tensor["name"], tensor["datatype"], tensor["shape"]) == ("records", "FP32", [3, 2])
    assert np.reshape(tensor["data"], (3, 2)).tolist() == BATCH.values.tolist()


def test_named_columns_are_an_input_each() -> None:
    document = documents(wires.COLUMNS)
    assert document["parameters"] == {"content_type": "pd"}
    assert [each["name"] for each in document["inputs"]] == list(BATCH.names)
    assert document["inputs"][1]["data"] == BATCH.values[:, 1].tolist()


def test_the_binary_tensor_follows_a_header_of_the_length_that_is_told() -> None:
    body, headers = wires.TENSOR_BINARY.encode(BATCH)
    length = int(headers["Inference-Header-Content-Length"])
    head = json.loads(body[:length])
    (tensor,) = head["inputs"]
    values = np.frombuffer(body[length:], "<f4").reshape(tensor["shape"])
    assert tensor["parameters"]["binary_data_size"] == len(body) - length
    assert values.tolist() == BATCH.matrix.tolist()
    assert head["parameters"] == {"binary_data_output": True}


@pytest.mark.parametrize("document", [[{"label": "a"}, {"label": "b"}], {"n": 2, "results": []}])
def test_labels_of_rows_are_in_a_list_or_in_the_list_of_an_object(document: Any) -> None:
    if isinstance(document, dict):
        document["results"] = [{"label": "a"}, {"label": "b"}]
    answer = Answer({}, json.dumps(document).encode())
    assert wires.ROWS.labels(answer) == ["a", "b"]


def test_labels_of_tensors_are_read_from_json() -> None:
    outputs = [{"name": "good", "data": [True]}, {"name": "label", "data": ["a"]}]
    answer = Answer({}, json.dumps({"outputs": outputs}).encode())
    assert wires.TENSOR.labels(answer) == ["a"]
    with pytest.raises(KeyError):
        wires.TENSOR.labels(Answer({}, json.dumps({"outputs": outputs[:1]}).encode()))


def test_labels_of_tensors_are_read_from_bytes_behind_other_outputs() -> None:
    labels = b"".join(struct.pack("<I", len(text)) + text for text in (b"", b"port_flap"))
    outputs = [
        {"name": "distance", "parameters": {"binary_data_size": 8}},
        {"name": "label", "parameters": {"binary_data_size": len(labels)}},
        {"name": "good", "parameters": {"binary_data_size": 2}},
    ]
    head = json.dumps({"outputs": outputs}).encode()
    headers = {"inference-header-content-length": str(len(head))}
    answer = Answer(headers, head + bytes(8) + labels + bytes(2))
    assert wires.TENSOR_BINARY.labels(answer) == ["", "port_flap"]


def test_an_arrow_stream_has_a_named_column_for_each_field() -> None:
    pyarrow = pytest.importorskip("pyarrow")
    body, _ = wires.ARROW.encode(BATCH)
    with pyarrow.ipc.open_stream(body) as reader:
        table = reader.read_all()
    assert table.column_names == list(BATCH.names)
    assert table["loss-rate"].to_pylist() == BATCH.matrix[:, 1].tolist()


def test_labels_of_an_arrow_stream_may_be_a_dictionary() -> None:
    pyarrow = pytest.importorskip("pyarrow")
    labels = pyarrow.array(["a", "b", "a"]).dictionary_encode()
    table = pyarrow.table({"label": labels})
    sink = io.BytesIO()
    with pyarrow.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    assert wires.ARROW.labels(Answer({}, sink.getvalue())) == ["a", "b", "a"]
