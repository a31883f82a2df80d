"""What the Open Inference Protocol replies: tensors, metadata, an error."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from importlib.metadata import version
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from models import UNKNOWN, Model
from models.schema import Matrix, Numbers
from service.formats.openinference.document import OUTPUTS
from service.formats.openinference.records import RECORDS, datatype_of
from service.formats.openinference.request import Request
from service.formats.openinference.tensor import LENGTH
from service.web.problems import Problem

__all__ = ["failure", "metadata", "server_metadata", "write"]

_encode = msgspec.json.Encoder().encode


def write(
    request: Request,
    bundle: tuple[str, str],
    *,
    nearest: npt.NDArray[np.intp],
    accepted: npt.NDArray[np.bool_],
    distance: Matrix,
    confidence: Matrix,
    names: Sequence[str],
    good: Sequence[bool],
    embedding: Matrix | None = None,
    distances: Matrix | None = None,
) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """Write the answer to a request.

    Args:
        request: says which outputs are wanted.
        bundle: name and version of the bundle.
        nearest: [n], index of the class that fits best.
        accepted: [n], whether it accepts the record.
        distance: float32 [n], to that class.
        confidence: float32 [n], that it is that class.
        names: [k], of the classes.
        good: [k], which of them are good traffic.
        embedding: float32 [n, N], if that is wanted.
        distances: float32 [n, k], to every class, if that is wanted.

    Returns:
        Headers, but for the content's length, and the body.
    """
    labels = (*names, UNKNOWN)
    arrays = {
        "distance": distance,
        "confidence": confidence,
        "embedding": embedding,
        "distances": distances,
    }
    outputs, blobs = [], []
    for wanted in request.outputs:
        array: Any = arrays.get(wanted.name)
        match wanted.name:
            case "label":
                array = np.where(accepted, nearest, len(names))
            case "nearest":
                array = nearest
            case "good":
                array = accepted & np.array(good)[nearest]
        output = {"name": wanted.name, "datatype": OUTPUTS[wanted.name], "shape": array.shape}
        words = labels if OUTPUTS[wanted.name] == "BYTES" else None
        if wanted.binary:
            blobs.append(_binary(array, words))
            output["parameters"] = {"binary_data_size": len(blobs[-1])}
        else:
            values = array.ravel().tolist()
            output["data"] = values if words is None else [words[place] for place in values]
        outputs.append(output)
    answer = {"model_name": bundle[0], "model_version": bundle[1], "outputs": outputs}
    if request.id is not None:
        answer["id"] = request.id
    header = _encode(answer)
    if not blobs:
        return [(b"content-type", b"application/json")], header
    length = (b"inference-header-content-length", b"%d" % len(header))
    return [(b"content-type", b"application/octet-stream"), length], b"".join([header, *blobs])


def _binary(array: Numbers, words: tuple[str, ...] | None) -> bytes:
    if words is not None:
        packed = _packed(words)
        return b"".join([packed[place] for place in array.tolist()])
    return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()


@lru_cache(maxsize=16)
def _packed(words: tuple[str, ...]) -> list[bytes]:
    return [LENGTH.pack(len(word)) + word for word in (word.encode() for word in words)]


def metadata(model: Model) -> dict[str, Any]:
    """What `GET /v2/models/{name}` answers.

    It names one way to send records, the tensor of all fields, and in its parameters what the
    columns are.
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
    """What `GET /v2` answers."""
    return {
        "name": "faultcube",
        "version": version("faultcube"),
        "extensions": ["binary_tensor_data"],
    }


def failure(problem: Problem) -> bytes:
    """A problem in the protocol's words, to be sent with its status."""
    return _encode({"error": str(problem)})
