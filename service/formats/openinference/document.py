"""The JSON document of an inference request: which tensors it holds, and which it asks for."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Final

import msgspec

from models import RecordError
from service.formats.errors import MalformedInputError
from service.formats.json_text import check_unique, without_bom

__all__ = [
    "CHUNK",
    "OUTPUTS",
    "Document",
    "Input",
    "RequestedOutput",
    "decode",
    "outputs_of",
    "skip",
]

OUTPUTS: Final = {
    "label": "BYTES",
    "good": "BOOL",
    "distance": "FP32",
    "confidence": "FP32",
    "nearest": "BYTES",
    "embedding": "FP32",
    "distances": "FP32",
}
"""The tensors that a request may ask for, and their data types."""
CHUNK = 1 << 16
"""Bytes of numbers in JSON that are parsed at a time: half a millisecond of work."""
_MAX_CUTS = 1000
"""Arrays of numbers that are cut out of a document."""
_DATA = re.compile(rb'"data"\s*:\s*\[')
_WRONG = re.compile(r"Expected `(.*?)`, got `(.*?)`(?: - at `\$\.?(.*)`)?$")


class _InputParameters(msgspec.Struct):
    binary_data_size: int | None = None


class Input(msgspec.Struct):
    """A declared tensor; its data, too, unless that is binary."""

    name: str
    shape: msgspec.Raw
    datatype: str
    parameters: _InputParameters | None = None
    data: msgspec.Raw = msgspec.Raw(b"")


class _OutputParameters(msgspec.Struct):
    binary_data: bool | None = None
    classification: int = 0


class _Output(msgspec.Struct):
    name: str
    parameters: _OutputParameters | None = None


class _Parameters(msgspec.Struct):
    binary_data_output: bool = False


class Document(msgspec.Struct):
    """A request without its binary data."""

    inputs: list[Input]
    outputs: list[_Output] | None = None
    parameters: _Parameters | None = None
    id: Annotated[str, msgspec.Meta(max_length=1000)] | None = None


class _Outline(msgspec.Struct):
    inputs: list[msgspec.Raw] = []
    outputs: list[msgspec.Raw] | None = None


_outline = msgspec.json.Decoder(_Outline)
_document = msgspec.json.Decoder(Document)
_skipped = msgspec.json.Decoder(msgspec.Raw)


@dataclass(frozen=True, slots=True)
class RequestedOutput:
    """An output of the answer, and whether as binary data."""

    name: str
    binary: bool = False


_DEFAULTS = {
    binary: tuple(
        RequestedOutput(name, binary) for name in ("label", "good", "distance", "confidence")
    )
    for binary in (False, True)
}


def decode(header: bytes | bytearray, max_inputs: int) -> tuple[Document, dict[bytes, memoryview]]:
    """Decode a document.

    Args:
        header: JSON.
        max_inputs: inputs that it may have.

    Returns:
        The document, and the long data that was cut out of it, by its placeholder.

    Raises:
        MalformedInputError: it is not JSON.
        RecordError: it is, but not a request.
    """
    header = without_bom(header)
    header, cuts = _cut(header) if len(header) > CHUNK else (header, {})
    try:
        if len(header) > CHUNK:
            outline = _outline.decode(header)
            if len(outline.inputs) > max_inputs or len(outline.outputs or ()) > len(OUTPUTS):
                expected, got = f"at most {max_inputs} inputs", "more of them, or of outputs"
                raise RecordError.of_request("inputs", expected, got)
        document = _document.decode(header)
        check_unique(header, "inputs")
    except msgspec.ValidationError as error:
        match = _WRONG.match(str(error))
        expected, got, path = match.groups() if match else ("a request", "something else", "")
        expected = f"{expected}, as the Open Inference Protocol has it"
        raise RecordError.of_request(path or None, expected, got) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MalformedInputError(
            "The body is not JSON, or not as long as its header says."
        ) from error
    except RecursionError as error:
        raise MalformedInputError("The body is JSON that is nested too deeply.") from error
    return document, cuts


def _cut(document: bytes | bytearray) -> tuple[bytes, dict[bytes, memoryview]]:
    """Cut long arrays of numbers out of a document, so that the rest is parsed quickly.

    Returns:
        The document with placeholders, and the arrays by their placeholder.
    """
    kept: list[bytes | memoryview] = []
    cuts: dict[bytes, memoryview] = {}
    view, at = memoryview(document), 0
    position = 0
    for _ in range(_MAX_CUTS):
        match = _DATA.search(document, position)
        if match is None:
            break
        start = match.end() - 1
        # Before the next string, or before the end of the tensor, there are only numbers.
        stop = document.find(b'"', start) % (len(document) + 1)
        stop = document.find(b"}", start, stop) % (stop + 1)
        end = document.rfind(b"]", start, stop) + 1
        if end - start > CHUNK:
            placeholder = b'{"cut":%d}' % len(cuts)
            kept += [view[at:start], placeholder]
            cuts[placeholder] = view[start:end]
            at = end
        position = max(match.end(), end)
    return b"".join([*kept, view[at:]]), cuts


def skip(data: Iterable[memoryview]) -> None:
    """Skip data that belongs to no input, like everything that the protocol does not define.

    Raises:
        MalformedInputError: it is not JSON.
    """
    for array in data:
        try:
            _skipped.decode(array)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise MalformedInputError("The body is not JSON.") from error


def outputs_of(document: Document) -> tuple[RequestedOutput, ...]:
    """Return the outputs that a document asks for, in order.

    Raises:
        RecordError: one does not exist, or is requested twice.
    """
    all_binary = document.parameters is not None and document.parameters.binary_data_output
    if not document.outputs:
        return _DEFAULTS[all_binary]
    requested: dict[str, RequestedOutput] = {}
    for output in document.outputs:
        name, parameters = output.name, output.parameters or _OutputParameters()
        if name not in OUTPUTS or name in requested:
            expected = f"outputs among {', '.join(OUTPUTS)}, once each"
            raise RecordError.of_request(name, expected, "another")
        if parameters.classification:
            raise RecordError.of_request(name, "an output as it is", "a classification of it")
        binary = all_binary if parameters.binary_data is None else parameters.binary_data
        requested[name] = RequestedOutput(name, binary)
    return tuple(requested.values())
