"""Responses of the Open Inference Protocol: tensors and metadata."""

from __future__ import annotations

from functools import lru_cache
from importlib.metadata import version
from typing import Any, cast

import msgspec
import numpy as np
import numpy.typing as npt

from models import UNKNOWN, Decisions, Model
from models.schema import Matrix
from service.formats.openinference.document import OUTPUTS
from service.formats.openinference.records import RECORDS, datatype_of
from service.formats.openinference.request import Request
from service.formats.openinference.tensor import LENGTH

__all__ = ["metadata", "server_metadata", "write"]

_encode = msgspec.json.Encoder().encode


def write(
    request: Request, decisions: Decisions, model: Model, embeddings: Matrix | None = None
) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """Write the response to a request.

    Args:
        request: names the outputs.
        decisions: of its records.
        model: that decided.
        embeddings: float32 [n, N], if they are wanted.

    Returns:
        Headers, except Content-Length, and the body.
    """
    words = (*model.names, UNKNOWN)
    tensors, blobs = [], []
    for output in request.outputs:
        array = _array(output.name, decisions, model, embeddings)
        is_text = OUTPUTS[output.name] == "BYTES"
        tensor: dict[str, Any] = {
            "name": output.name,
            "datatype": OUTPUTS[output.name],
            "shape": array.shape,
        }
        if output.binary:
            blobs.append(_strings(array, words) if is_text else _numbers(array))
            tensor["parameters"] = {"binary_data_size": len(blobs[-1])}
        else:
            values = array.ravel().tolist()
            tensor["data"] = [words[index] for index in values] if is_text else values
        tensors.append(tensor)
    manifest = model.manifest
    document: dict[str, Any] = {
        "model_name": manifest.name,
        "model_version": manifest.version,
        "outputs": tensors,
    }
    if request.id is not None:
        document["id"] = request.id
    header = _encode(document)
    if not blobs:
        return [(b"content-type", b"application/json")], header
    length = (b"inference-header-content-length", b"%d" % len(header))
    return [(b"content-type", b"application/octet-stream"), length], b"".join([header, *blobs])


def _array(
    name: str, decisions: Decisions, model: Model, embeddings: Matrix | None
) -> npt.NDArray[Any]:
    """Return an output tensor; of text the indices among all class names and `unknown`."""
    match name:
        case "label":
            return np.where(decisions.accepted, decisions.nearest, len(model.names))
        case "good":
            return model.are_good(decisions)
        case "embedding":
            return cast("Matrix", embeddings)
    array: npt.NDArray[Any] = getattr(decisions, name)
    return array


def _numbers(array: npt.NDArray[Any]) -> bytes:
    return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()


def _strings(indices: npt.NDArray[Any], words: tuple[str, ...]) -> bytes:
    packed = _packed(words)
    return b"".join([packed[index] for index in indices.tolist()])


@lru_cache(maxsize=16)
def _packed(words: tuple[str, ...]) -> list[bytes]:
    return [LENGTH.pack(len(word)) + word for word in (word.encode() for word in words)]


def metadata(model: Model) -> dict[str, Any]:
    """Return the response of `GET /v2/models/{name}`.

    It names one way to send records, the tensor of all fields, and in its parameters the columns.
    """
    manifest, names = model.manifest, model.schema.names
    inputs = [
        {
            "name": RECORDS,
            "datatype": "FP32",
            "shape": [-1, len(names)],
            "parameters": {"columns": list(names)},
        }
    ]
    if RECORDS in names:
        inputs = [
            {"name": each.name, "datatype": datatype_of(each), "shape": [-1]}
            for each in model.schema.fields
        ]
    wide = {"embedding": [manifest.dimensions], "distances": [len(model.names)]}
    outputs = [
        {"name": name, "datatype": datatype, "shape": [-1, *wide.get(name, [])]}
        for name, datatype in OUTPUTS.items()
    ]
    return {
        "name": manifest.name,
        "versions": [manifest.version],
        "platform": "faultcube_onnx",
        "inputs": inputs,
        "outputs": outputs,
    }


def server_metadata() -> dict[str, Any]:
    """Return the response of `GET /v2`."""
    return {
        "name": "faultcube",
        "version": version("faultcube"),
        "extensions": ["binary_tensor_data"],
    }
